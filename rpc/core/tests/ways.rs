//! Calls over a transport that has several ways: what gets lost delays nobody else, and one-way calls are not repeated.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod net;
mod world;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use net::{CLIENT, Net};
use ringway_engine::Counter;
use ringway_engine::sim::{Chance, DatagramFaults, Fault, Faults, NetConfig, SimNet};
use ringway_rpc::{
    CallOptions, IncomingCall, Kind, Method, Raw, Server, Service, ServiceInfo, Target,
};
use world::World;

static INFO: ServiceInfo = ServiceInfo {
    name: "test.Ways",
    methods: &[
        Method::new("test.Ways/Echo", Kind::Unary, 0, 0),
        Method::new("test.Ways/Large", Kind::Unary, 0, 0),
    ],
    descriptors: &[],
};
const SERVER: usize = 1;
const ECHO: u32 = 0;
/// Answers with so many bytes as the request says.
const LARGE: u32 = 1;

#[derive(Clone, Default)]
struct Ways {
    echoed: Rc<Cell<u32>>,
}

impl Service for Ways {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match u32::try_from(call.method()).unwrap() {
            ECHO => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                self.echoed.set(self.echoed.get() + 1);
                reply.send(request)
            }),
            LARGE => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                let len = u32::from_le_bytes(request.try_into().unwrap());
                reply.send(&vec![5; len as usize])
            }),
            _ => call.unimplemented(),
        }
    }
}

struct Lossy {
    net: Net,
    sim: SimNet,
    target: Target,
    service: Ways,
}

impl Lossy {
    /// A client and a server that know their path.
    fn new() -> Self {
        let sim = SimNet::new(NetConfig::perfect(), 1);
        let (mut net, service) = (Net::new(World::Sim(sim.clone())), Ways::default());
        let builder = Server::builder().service_here(service.clone());
        let (server, address) = net.serve(builder);
        assert_eq!(server, SERVER);
        let target = net.connect(&address, INFO.methods);
        let mut lossy = Self {
            net,
            sim,
            target,
            service,
        };
        for _ in 0..10 {
            lossy.small();
        }
        lossy
    }

    /// How long a small call takes.
    fn small(&mut self) -> Duration {
        let begun = self.sim.now();
        assert!(self.net.call(self.target, ECHO, b"small").status.is_ok());
        self.sim.now() - begun
    }

    /// Of what a host sends so many percent get lost, in the next turn in which something does.
    fn lose(&mut self, host: usize, percent: u32) {
        let faults = Faults {
            datagram: DatagramFaults {
                loss: Chance::percent(percent),
                ..Faults::none().datagram
            },
            ..Faults::none()
        };
        let lost = |sim: &SimNet| sim.fault_counts().of(Fault::Loss);
        let (sim, before) = (self.sim.clone(), lost(&self.sim));
        self.net.until("a loss", |net| {
            sim.set_faults(faults);
            let host = net.host(host);
            host.engine.turn(&mut host.node);
            sim.heal();
            lost(&sim) > before
        });
    }

    fn start(&mut self, method: u32, body: &[u8]) -> u32 {
        let options = CallOptions::default();
        let started = self.net.start(self.target, method, body, &options);
        started.unwrap().0
    }

    fn one_way(&mut self, body: &[u8]) {
        let target = self.target;
        self.net.client(|clients, cx| {
            let options = CallOptions::default();
            clients.one_way(cx, target, ECHO, &options, body).unwrap();
        });
    }
}

/// A large message that is on its way loses a part of it; small calls take as long as they do alone.
fn small_calls_do_not_wait_for_a_large_message(method: u32, body: &[u8], loser: usize) {
    let mut lossy = Lossy::new();
    let alone = lossy.small();
    let said = |net: &mut Net| {
        net.host(loser)
            .engine
            .handle()
            .counters()
            .value(Counter::BytesOut)
    };
    let before = said(&mut lossy.net);
    let large = lossy.start(method, body);
    lossy
        .net
        .until("its pieces", |net| said(net) > before + 100_000);
    lossy.lose(loser, 10);
    let took = lossy.small();
    // The congestion window may hold it up for a round trip; repair takes several.
    assert!(took <= 2 * alone, "{took:?}, and {alone:?} alone");
    let answers = lossy.net.answers.borrow();
    assert!(!answers.contains_key(&large), "it is not repaired yet");
    drop(answers);
    let answer = lossy.net.end(large);
    assert!(answer.status.is_ok(), "{}", answer.status);
}

// docs/wire/quic.md#lanes
#[test]
fn over_quic_small_calls_do_not_wait_for_what_a_large_one_lost() {
    world::over("quic", || {
        small_calls_do_not_wait_for_a_large_message(ECHO, &[3; 400_000], CLIENT);
        let answer = 400_000_u32.to_le_bytes();
        small_calls_do_not_wait_for_a_large_message(LARGE, &answer, SERVER);
    });
}

/// Two one-way calls of which the first one gets lost: which of them are executed.
fn executed(len: usize) -> u32 {
    let mut lossy = Lossy::new();
    let before = lossy.service.echoed.get();
    lossy.one_way(&vec![1; len]);
    lossy.lose(CLIENT, 100);
    lossy.one_way(b"second");
    for _ in 0..20 {
        lossy.small();
    }
    // Longer than any repair takes.
    let (sim, until) = (lossy.sim.clone(), lossy.sim.now() + Duration::from_secs(5));
    lossy.net.until("later", |_| sim.now() > until);
    lossy.service.echoed.get() - before - 20
}

// docs/wire/rpc.md#one-way
#[test]
fn a_one_way_call_that_fits_a_datagram_is_not_repeated() {
    world::over("quic", || {
        assert_eq!(executed(500), 1);
        assert_eq!(executed(5_000), 2, "it fits none, so it is repeated");
    });
    world::over("rudp", || assert_eq!(executed(500), 2));
}
