//! Two or more endpoints and a simulated network between them: virtual time, a seed, and faults on request.
#![allow(
    dead_code,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness of tests, of which each file uses its part"
)]

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Instant, Lease, Mode, Pools, PoolsConfig};
use ringway_proto::Header;
use ringway_proto::packet::{
    Body, Delivery, Outgoing, PacketEndpoint, PacketEvent, PacketMeta, SendRefusal, SessionEnd,
    SessionId, TransmitSink,
};
use ringway_quic::{Identity, QuicConfig, QuicEndpoint, Roots, TlsBuilder, TlsConfig};
use ringway_sim::{DatagramNet, PathConfig, Span, Wire};

/// The date of every run: 2026-01-15, inside of the validity of the test certificates.
pub(crate) const TODAY: Duration = Duration::from_secs(1_768_435_200);

/// A certificate of Ed25519, whose signatures all have one length.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A self-signed certificate for `name`, valid from 2025 to `last_year`.
pub(crate) fn authority(name: &str, last_year: i32) -> Authority {
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a good name");
    parameters.not_before = rcgen::date_time_ymd(2025, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(last_year, 12, 31);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    Authority {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

impl Authority {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).expect("good PEM")
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(self.certificate.as_bytes()).expect("good PEM")
    }
}

pub(crate) fn tls() -> TlsBuilder {
    TlsConfig::builder()
        .clock(|| TODAY)
        .server_name("server.test")
}

/// Settings of a server and of a client that trust each other as far as usual.
pub(crate) fn configs() -> (QuicConfig, QuicConfig) {
    let server = authority("server.test", 2027);
    let config = |tls: TlsBuilder| QuicConfig {
        initial_rtt: Duration::from_millis(10),
        ..QuicConfig::new(tls.build().expect("good settings"))
    };
    (
        config(tls().identity(server.identity())),
        config(tls().roots(server.roots())),
    )
}

/// ECN bits of what the hosts send: they react to marks.
const ECN_CAPABLE: u8 = 2;
/// When a run begins.
const BEGAN: Instant = Instant::from_nanos(1_000_000_000);

/// A network without faults, 100 us one way.
pub(crate) fn near() -> PathConfig {
    let mut path = PathConfig::default();
    path.link.delay = Span::micros(100, 100);
    path
}

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    pub(crate) fn hits(&mut self, per_thousand: u64) -> bool {
        per_thousand > 0 && self.below(1_000) < per_thousand
    }
}

/// A message as a test looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

/// What an endpoint has said, in order.
#[derive(Debug)]
pub(crate) enum Said {
    Accepted(SessionId),
    Opened(SessionId),
    Message(SessionId, Got),
    Sent(SessionId, usize),
    Draining(SessionId),
    Drained(SessionId),
    Closed(SessionId, SessionEnd, u64),
}

/// Takes datagrams apart and keeps them until the network has looked at them.
#[derive(Default)]
struct Sink {
    lent: Vec<u8>,
    peer: Option<SocketAddr>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Datagrams that are still taken.
    room: usize,
}

impl TransmitSink for Sink {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        let count = count.min(self.room).min(7);
        if count == 0 {
            return None;
        }
        self.peer = Some(peer);
        self.lent = vec![0xEE; segment_bytes * count];
        Some(&mut self.lent)
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let peer = self.peer.take().expect("lent before");
        for datagram in self.lent[..bytes].chunks(segment_bytes) {
            self.room -= 1;
            self.out.push_back((peer, datagram.to_vec()));
        }
    }
}

pub(crate) struct Host {
    pub(crate) endpoint: QuicEndpoint,
    pub(crate) address: SocketAddr,
    pub(crate) pools: Rc<Pools>,
    pub(crate) said: Vec<Said>,
    config: QuicConfig,
    /// Everything that was sent, before the network looked at it.
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    sink: Sink,
}

/// The network and the hosts on it.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) net: DatagramNet,
    /// Fingerprint of everything that went over the network: times, addresses and lengths.
    pub(crate) trace: u64,
    /// Gone hosts and cut lines: nothing is delivered there.
    pub(crate) cut: Vec<SocketAddr>,
    /// When the test wants to look.
    alarm: Option<Instant>,
    /// Datagrams per turn and host that the sink takes.
    pub(crate) sink_room: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: BEGAN,
            hosts: Vec::new(),
            net: DatagramNet::new(near(), seed, BEGAN),
            trace: 0,
            cut: Vec::new(),
            alarm: None,
            sink_room: usize::MAX,
        }
    }

    /// A server at host 0 and a client at host 1.
    pub(crate) fn pair(seed: u64) -> Self {
        let (server, client) = configs();
        Self::with(seed, server, client)
    }

    pub(crate) fn with(seed: u64, server: QuicConfig, client: QuicConfig) -> Self {
        let mut world = Self::new(seed);
        world.add(server, seed);
        world.add(client, seed + 1);
        world
    }

    pub(crate) fn add(&mut self, config: QuicConfig, seed: u64) -> usize {
        let pools = PoolsConfig {
            budget_bytes: 256 << 20,
            mode: Mode::default(),
        };
        self.add_with(config, seed, pools)
    }

    pub(crate) fn add_with(&mut self, config: QuicConfig, seed: u64, pools: PoolsConfig) -> usize {
        let index = self.hosts.len();
        let pools = Rc::new(Pools::new(pools));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let endpoint = QuicEndpoint::with_seed(config.clone(), Rc::clone(&pools), bytes)
            .expect("good settings");
        let last = u8::try_from(index + 1).expect("few hosts");
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        self.hosts.push(Host {
            endpoint,
            address: SocketAddr::new(ip, 7_000),
            pools,
            said: Vec::new(),
            config,
            sent: 0,
            sent_bytes: 0,
            sink: Sink::default(),
        });
        index
    }

    /// The process of a host dies and starts anew, with nothing but its address and its memory.
    pub(crate) fn restart(&mut self, host: usize, seed: u64) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let host = &mut self.hosts[host];
        let (config, pools) = (host.config.clone(), Rc::clone(&host.pools));
        host.endpoint = QuicEndpoint::with_seed(config, pools, bytes).expect("good settings");
        host.said.clear();
        host.sink = Sink::default();
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize) -> SessionId {
        let peer = self.hosts[to].address;
        let now = self.now;
        let session = self.hosts[from].endpoint.connect(peer, now);
        session.expect("there is room")
    }

    pub(crate) fn outgoing(
        &self,
        host: usize,
        header: Header,
        body: &[u8],
        how: Delivery,
    ) -> Outgoing {
        let mut lease: Lease = self.hosts[host].pools.lease(body.len()).expect("memory");
        lease.reset(0);
        lease
            .append(body.len())
            .expect("room")
            .copy_from_slice(body);
        Outgoing {
            header,
            body: lease.freeze(),
            delivery: how,
        }
    }

    pub(crate) fn send(
        &mut self,
        host: usize,
        session: SessionId,
        tag: u16,
        body: &[u8],
        how: Delivery,
    ) {
        self.try_send(host, session, tag, body, how).expect("taken");
    }

    pub(crate) fn try_send(
        &mut self,
        host: usize,
        session: SessionId,
        tag: u16,
        body: &[u8],
        how: Delivery,
    ) -> Result<(), SendRefusal> {
        let header = Header::message(0, tag, 0);
        let message = self.outgoing(host, header, body, how);
        let now = self.now;
        let taken = self.hosts[host].endpoint.send(session, message, now);
        taken.map_err(|(_, refusal)| refusal)
    }

    /// Bytes of a stranger, to be delivered now.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        let to = self.hosts[to].address;
        self.net.inject(self.now, from, to, bytes);
    }

    /// One turn of every host; then time goes on to whatever comes next. False when nothing does.
    pub(crate) fn step(&mut self) -> bool {
        for index in 0..self.hosts.len() {
            self.turn(index);
        }
        let flight = self.net.next();
        let timer = self
            .hosts
            .iter()
            .filter_map(|host| host.endpoint.poll_timeout())
            .min();
        let Some(next) = [flight, timer, self.alarm].into_iter().flatten().min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(wire) = self.net.recv(self.now) {
            self.deliver(&wire);
            self.net.keep(wire.bytes);
        }
        for index in 0..self.hosts.len() {
            let due = self.hosts[index].endpoint.poll_timeout();
            if due.is_some_and(|at| at <= self.now) {
                let now = self.now;
                self.hosts[index].endpoint.handle_timeout(now);
                self.listen(index);
            }
        }
        true
    }

    /// Until `done`, or the end of `limit`. Returns whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        for _ in 0..5_000_000_u32 {
            if done(self) {
                return true;
            }
            if self.now >= end || !self.step() {
                return done(self);
            }
        }
        panic!("five million steps: something goes round in circles");
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.alarm = Some(end);
        self.run(time, |world| world.now >= end);
        self.alarm = None;
    }

    fn deliver(&mut self, wire: &Wire) {
        let found = self.hosts.iter().position(|host| host.address == wire.to);
        let Some(index) = found else { return };
        if self.cut.contains(&self.hosts[index].address) {
            return;
        }
        let meta = PacketMeta {
            peer: wire.from,
            segment_bytes: wire.bytes.len(),
            ecn: wire.ecn,
            local: None,
        };
        let now = self.now;
        self.hosts[index]
            .endpoint
            .handle_datagrams(&meta, &wire.bytes, now);
        self.listen(index);
    }

    /// Takes all events of a host.
    pub(crate) fn listen(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        while let Some(event) = host.endpoint.poll_event() {
            host.said.push(match event {
                PacketEvent::Accepted { session, .. } => Said::Accepted(session),
                PacketEvent::Opened { session, .. } => Said::Opened(session),
                PacketEvent::Message {
                    session,
                    header,
                    body,
                } => {
                    let Body::Owned(body) = body else {
                        panic!("what was encrypted lies in memory of its own");
                    };
                    let body = body.bytes().to_vec();
                    Said::Message(session, Got { header, body })
                }
                PacketEvent::Sent { session, bytes } => Said::Sent(session, bytes),
                PacketEvent::Draining { session } => Said::Draining(session),
                PacketEvent::Drained { session } => Said::Drained(session),
                PacketEvent::Closed {
                    session,
                    end,
                    unsent_bytes,
                } => Said::Closed(session, end, unsent_bytes),
            });
        }
    }

    fn turn(&mut self, index: usize) {
        self.listen(index);
        let now = self.now;
        let host = &mut self.hosts[index];
        host.sink.room = self.sink_room;
        while host.endpoint.wants_transmit() && host.endpoint.poll_transmit(&mut host.sink, now) {}
        self.listen(index);
        let host = &mut self.hosts[index];
        let from = host.address;
        let mut out = std::mem::take(&mut host.sink.out);
        for (to, bytes) in out.drain(..) {
            let host = &mut self.hosts[index];
            host.sent += 1;
            host.sent_bytes += bytes.len() as u64;
            self.launch(from, to, &bytes);
        }
        self.hosts[index].sink.out = out;
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        for number in [
            self.now.as_nanos(),
            bytes.len() as u64,
            u64::from(to.port()),
        ] {
            self.trace = (self.trace ^ number)
                .wrapping_mul(0x0100_0000_01B3)
                .rotate_left(5);
        }
        self.net.send(self.now, from, to, ECN_CAPABLE, bytes);
    }

    /// The session that `host` has accepted or opened last.
    pub(crate) fn opened(&self, host: usize) -> Option<SessionId> {
        self.hosts[host]
            .said
            .iter()
            .rev()
            .find_map(|said| match said {
                Said::Opened(session) => Some(*session),
                _ => None,
            })
    }

    /// Both ends of a fresh session, the server's first.
    pub(crate) fn open(&mut self) -> (SessionId, SessionId) {
        let client = self.connect(1, 0);
        let opened = self.run(Duration::from_secs(20), |world| {
            world.opened(0).is_some() && world.opened(1).is_some()
        });
        assert!(
            opened,
            "no session: {:?} {:?}",
            self.hosts[0].said, self.hosts[1].said
        );
        (self.opened(0).expect("opened"), client)
    }

    pub(crate) fn messages(&self, host: usize) -> Vec<&Got> {
        let said = self.hosts[host].said.iter();
        said.filter_map(|said| match said {
            Said::Message(_, got) => Some(got),
            _ => None,
        })
        .collect()
    }

    /// The same with their sessions.
    pub(crate) fn messages_by_session(&self, host: usize) -> Vec<(SessionId, &Got)> {
        let said = self.hosts[host].said.iter();
        said.filter_map(|said| match said {
            Said::Message(session, got) => Some((*session, got)),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn has_opened(&self, host: usize, session: SessionId) -> bool {
        let opened = |said: &Said| matches!(said, Said::Opened(it) if *it == session);
        self.hosts[host].said.iter().any(opened)
    }

    pub(crate) fn has_ended(&self, host: usize, session: SessionId) -> bool {
        let ended = |said: &Said| matches!(said, Said::Closed(it, _, _) if *it == session);
        self.hosts[host].said.iter().any(ended)
    }

    /// Messages of a host that were promised to come, by their tags.
    pub(crate) fn reliable(&self, host: usize) -> usize {
        let messages = self.messages(host);
        messages.iter().filter(|got| got.header.tag < 2_000).count()
    }

    /// Nobody accuses a peer that keeps the rules.
    pub(crate) fn assert_honest(&self, host: usize) {
        let accuses = |said: &Said| matches!(said, Said::Closed(_, SessionEnd::Violation(_), _));
        assert!(!self.hosts[host].said.iter().any(accuses));
    }

    /// Bytes of bodies of which a host was told that the peer has them.
    pub(crate) fn sent_bytes(&self, host: usize) -> usize {
        let said = self.hosts[host].said.iter();
        said.map(|said| match said {
            Said::Sent(_, bytes) => *bytes,
            _ => 0,
        })
        .sum()
    }

    /// How a host's sessions ended, by session. A second end of one session is an error.
    pub(crate) fn ends(&self, host: usize) -> HashMap<u64, SessionEnd> {
        let mut ends = HashMap::new();
        for said in &self.hosts[host].said {
            if let Said::Closed(session, end, _) = said {
                let before = ends.insert(session.0.to_bits(), *end);
                assert!(before.is_none(), "{session:?} closed twice");
            }
        }
        ends
    }

    /// The end of a host's only session, if it has ended.
    pub(crate) fn end(&self, host: usize) -> Option<SessionEnd> {
        let ends = self.ends(host);
        assert!(ends.len() <= 1, "{ends:?}");
        ends.into_values().next()
    }

    pub(crate) fn run_to_ends(&mut self) {
        let over = self.run(Duration::from_secs(120), |world| {
            world.end(0).is_some() && world.end(1).is_some()
        });
        assert!(over, "{:?} {:?}", self.ends(0), self.ends(1));
    }

    /// After all is over nothing is left: no timer, no memory.
    pub(crate) fn assert_silent(&mut self) {
        while self.step() {
            assert!(self.now < Instant::from_nanos(u64::MAX / 4));
        }
        for host in &self.hosts {
            assert_eq!(host.endpoint.sessions(), 0);
            assert_eq!(host.endpoint.half_open(), 0);
            let stash = host.pools.stashed_bytes();
            assert_eq!(host.pools.budget().used() - stash, 0, "memory came back");
        }
    }
}

/// Takes all datagrams and keeps them from the network.
#[derive(Default)]
struct Tap {
    lent: Vec<u8>,
    peer: Option<SocketAddr>,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
}

impl TransmitSink for Tap {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        self.peer = Some(peer);
        self.lent = vec![0; segment_bytes * count];
        Some(&mut self.lent)
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let peer = self.peer.take().expect("lent before");
        for datagram in self.lent[..bytes].chunks(segment_bytes) {
            self.datagrams.push((peer, datagram.to_vec()));
        }
    }
}

/// What a host has to send now.
pub(crate) fn tapped(host: &mut Host, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut tap = Tap::default();
    while host.endpoint.wants_transmit() && host.endpoint.poll_transmit(&mut tap, now) {}
    tap.datagrams
}

/// A datagram comes to a host from there, now.
pub(crate) fn hand(world: &mut World, host: usize, from: SocketAddr, bytes: &[u8]) {
    let meta = PacketMeta {
        peer: from,
        segment_bytes: bytes.len(),
        ecn: 2,
        local: None,
    };
    let now = world.now;
    world.hosts[host]
        .endpoint
        .handle_datagrams(&meta, bytes, now);
    world.listen(host);
}

/// Bytes that tell where they come from.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.bits().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
