//! ringway: an inline handler, called by the inline channel or by the channel for other threads.

use std::collections::VecDeque;
use std::time::Instant;

use hdrhistogram::Histogram;
use ringway::rpc::{
    Answer, Call, CallOptions, Channel, Clients, IncomingCall, InlineChannel, Kind, Method, Node,
    Raw, Server, Service, ServiceInfo, rpc_config,
};
use ringway::{Config, Identity, Idle, QuicConfig, Roots, Slice, TlsConfig};

use super::certificate::{Certificate, parted};
use crate::Outcome;
use crate::contestant::{Client, Setting, Workload, check, record};
use crate::server::say;

static METHODS: &[Method] = &[
    Method::new("peers.Echo/Echo", Kind::Unary, 0, 0),
    Method::new("peers.Echo/Take", Kind::Unary, 0, 0),
];

static INFO: ServiceInfo = ServiceInfo {
    name: "peers.Echo",
    methods: METHODS,
    descriptors: &[],
};

struct Echo;

impl Service for Echo {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request)),
            1 => call.inline::<Raw, [u8], [u8]>(|_call, _request, reply| reply.send(&[])),
            _ => call.unimplemented(),
        }
    }
}

/// The default engine sleeps when it has spun for about one wake-up; the best one never does.
fn config(setting: Setting) -> Config {
    match setting {
        Setting::Default => rpc_config(),
        Setting::Best => rpc_config().idle(Idle::Spin),
    }
}

pub(crate) fn serve(setting: Setting) -> Outcome<()> {
    let mut server = Server::builder()
        .service(|| Echo)
        .engine(move || config(setting))
        .bind(&["tcp://127.0.0.1:0"])?;
    say(&server.addresses()[0]);
    server.run();
    Ok(())
}

fn quic(tls: TlsConfig, payload: u16) -> QuicConfig {
    QuicConfig {
        payload_bytes_max: payload,
        ..QuicConfig::new(tls)
    }
}

pub(crate) fn serve_quic(setting: Setting, payload: u16) -> Outcome<()> {
    let made = Certificate::new()?;
    let identity = Identity::from_pem(made.certificate.as_bytes(), made.key.as_bytes())?;
    let tls = TlsConfig::builder().identity(identity).build()?;
    let mut server = Server::builder()
        .service(|| Echo)
        .engine(move || config(setting).quic(quic(tls.clone(), payload)))
        .bind(&["quic://127.0.0.1:0"])?;
    say(made.beside(&server.addresses()[0]));
    server.run();
    Ok(())
}

/// The inline channel.
pub(crate) struct Inline {
    channel: InlineChannel,
    first: u32,
    large: Slice,
}

impl Inline {
    pub(crate) fn connect(address: &str, setting: Setting) -> Outcome<Self> {
        Self::with(config(setting), address)
    }

    pub(crate) fn connect_quic(address: &str, setting: Setting, payload: u16) -> Outcome<Self> {
        let (address, certificate) = parted(address)?;
        let roots = Roots::from_pem(certificate.as_bytes())?;
        let tls = TlsConfig::builder().roots(roots).build()?;
        Self::with(config(setting).quic(quic(tls, payload)), address)
    }

    fn with(config: Config, address: &str) -> Outcome<Self> {
        let mut engine = config.build()?;
        let size = Workload::Bandwidth.size();
        let mut large = engine.context().lease(size).ok_or("no memory")?;
        large.append(size).ok_or("no memory")?.fill(7);
        let node = Node::clients_only(Clients::default());
        let mut channel = InlineChannel::with_engine(engine, node, address)?;
        let first = channel.bind(METHODS)?;
        Ok(Self {
            channel,
            first,
            large: large.freeze(),
        })
    }

    fn method(&self, workload: Workload) -> u32 {
        self.first + u32::from(!workload.is_whole())
    }

    fn one_by_one(&mut self, ops: usize, latencies: &mut Histogram<u64>) -> Outcome<()> {
        let (body, options) = (vec![7; Workload::Rtt.size()], CallOptions::default());
        let method = self.method(Workload::Rtt);
        for _ in 0..ops {
            let started = Instant::now();
            let answer = self
                .channel
                .call::<Raw, [u8], [u8]>(method, &body, &options)?;
            check(Workload::Rtt, answer.bytes().len())?;
            record(latencies, started);
        }
        Ok(())
    }

    fn in_flight(&mut self, workload: Workload, ops: usize) -> Outcome<()> {
        let (method, options) = (self.method(workload), CallOptions::default());
        let body = vec![7; Workload::Rate.size()];
        let (mut issued, mut answered) = (0, 0);
        while answered < ops {
            while issued < ops && issued - answered < workload.outstanding() {
                let target = self.channel.target();
                if workload == Workload::Bandwidth {
                    self.channel
                        .start_with(target, method, self.large.clone(), &options)?;
                } else {
                    self.channel
                        .start_with(target, method, &body[..], &options)?;
                }
                issued += 1;
            }
            self.channel.turn(None);
            while let Some((_, answer)) = self.channel.next_answer() {
                check(workload, length(&answer)?)?;
                answered += 1;
            }
        }
        Ok(())
    }
}

fn length(answer: &Answer) -> Outcome<usize> {
    if !answer.status.is_ok() {
        return Err(answer.status.to_string().into());
    }
    Ok(answer.message.as_ref().map_or(0, |message| message.len()))
}

impl Client for Inline {
    fn run(
        &mut self,
        workload: Workload,
        ops: usize,
        latencies: &mut Histogram<u64>,
    ) -> Outcome<()> {
        match workload {
            Workload::Rtt => self.one_by_one(ops, latencies),
            _ => self.in_flight(workload, ops),
        }
    }
}

/// The channel for other threads, blocking; its engine has a thread of its own.
pub(crate) struct Blocking {
    channel: Channel,
}

impl Blocking {
    pub(crate) fn connect(address: &str) -> Outcome<Self> {
        let channel = Channel::connect(address)?;
        Ok(Self { channel })
    }

    fn start(&self, workload: Workload, body: &[u8]) -> Call<Raw, [u8]> {
        let index = u32::from(!workload.is_whole());
        let options = CallOptions::default();
        self.channel
            .call::<Raw, [u8], [u8]>(METHODS, index, body, &options)
    }
}

impl Client for Blocking {
    fn run(
        &mut self,
        workload: Workload,
        ops: usize,
        latencies: &mut Histogram<u64>,
    ) -> Outcome<()> {
        let body = vec![7; workload.size()];
        let mut calls = VecDeque::new();
        for _ in 0..ops {
            let started = Instant::now();
            calls.push_back(self.start(workload, &body));
            if calls.len() < workload.outstanding() {
                continue;
            }
            if let Some(call) = calls.pop_front() {
                check(workload, call.wait()?.bytes().len())?;
            }
            if workload == Workload::Rtt {
                record(latencies, started);
            }
        }
        for call in calls {
            check(workload, call.wait()?.bytes().len())?;
        }
        Ok(())
    }
}
