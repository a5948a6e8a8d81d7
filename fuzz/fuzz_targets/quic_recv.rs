//! Arbitrary datagrams, and changed copies of honest ones, into a QUIC server and the client that talks to it.
//!
//! Checked: no panic; sessions, handshakes and memory stay within their limits; after `handle_timeout` the next
//! deadline lies ahead; every known session closes at most once; strangers get at most three times what they sent,
//! whoever they are.

#![no_main]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_buf::{Instant, Pools, PoolsConfig};
use ringway_proto::packet::{PacketEndpoint, PacketEvent, PacketMeta, TransmitSink};
use ringway_quic::{Identity, QuicConfig, QuicEndpoint, Roots, TlsConfig};

const BUDGET_BYTES: usize = 32 << 20;
const SESSIONS_MAX: usize = 4;
const HANDSHAKES_MAX: usize = 4;

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    /// Bytes of a stranger.
    Bytes { port: u8, segment: u16, bytes: &'a [u8] },
    /// Lets the honest ends exchange what they have, with one bit of the first datagram changed.
    Exchange { flip: Option<u16>, cut: Option<u16> },
    /// An earlier datagram of the client, again or from elsewhere.
    Replay { which: u8, port: u8 },
    Advance { us: u32 },
    Connect,
}

static PEM: LazyLock<(String, String)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["fuzz.test".to_owned()]).expect("made");
    (made.cert.pem(), made.signing_key.serialize_pem())
});

struct Side {
    endpoint: QuicEndpoint,
    pools: Rc<Pools>,
    address: SocketAddr,
    closed: BTreeSet<u64>,
}

#[derive(Default)]
struct Sink {
    lent: Vec<u8>,
    peer: Option<SocketAddr>,
    out: Vec<(SocketAddr, Vec<u8>)>,
}

impl TransmitSink for Sink {
    fn lend(&mut self, peer: SocketAddr, segment_bytes: usize, count: usize) -> Option<&mut [u8]> {
        self.peer = Some(peer);
        self.lent = vec![0; segment_bytes * count];
        Some(&mut self.lent)
    }

    fn commit(&mut self, bytes: usize, segment_bytes: usize) {
        let peer = self.peer.take().expect("lent before");
        for datagram in self.lent[..bytes].chunks(segment_bytes) {
            self.out.push((peer, datagram.to_vec()));
        }
    }
}

impl Side {
    fn new(tls: TlsConfig, seed: u8, port: u16) -> Self {
        let mut config = QuicConfig::new(tls);
        config.sessions_max = SESSIONS_MAX;
        config.handshakes_max = HANDSHAKES_MAX;
        config.stream.message_bytes_max = 1 << 20;
        let pools = Rc::new(Pools::new(PoolsConfig {
            budget_bytes: BUDGET_BYTES,
            ..PoolsConfig::default()
        }));
        Self {
            endpoint: QuicEndpoint::with_seed(config, Rc::clone(&pools), [seed; 32]).expect("good"),
            pools,
            address: SocketAddr::from(([10, 0, 0, seed], port)),
            closed: BTreeSet::new(),
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            if let PacketEvent::Closed { session, end, .. } = event {
                assert!(self.closed.insert(session.0.to_bits()), "closed twice");
                assert!(!end.to_string().is_empty());
            }
        }
        assert!(self.endpoint.sessions() <= SESSIONS_MAX);
        assert!(self.endpoint.half_open() <= HANDSHAKES_MAX);
        assert!(self.pools.budget().used() <= BUDGET_BYTES);
    }

    fn take(&mut self, peer: SocketAddr, segment_bytes: usize, bytes: &[u8], now: Instant) {
        let meta = PacketMeta { peer, segment_bytes, ecn: 0, local: None };
        self.endpoint.handle_datagrams(&meta, bytes, now);
        self.listen();
    }

    fn give(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sink = Sink::default();
        for _ in 0..64 {
            if !self.endpoint.wants_transmit() || !self.endpoint.poll_transmit(&mut sink, now) {
                break;
            }
        }
        self.listen();
        sink.out
    }

    fn advance(&mut self, now: Instant) {
        for _ in 0..64 {
            if !self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
                return;
            }
            self.endpoint.handle_timeout(now);
            self.listen();
        }
    }
}

fuzz_target!(|operations: Vec<Operation<'_>>| {
    let (certificate, key) = &*PEM;
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect("PEM");
    let roots = Roots::from_pem(certificate.as_bytes()).expect("PEM");
    let server = TlsConfig::builder().identity(identity).build().expect("good");
    let client = TlsConfig::builder().roots(roots).server_name("fuzz.test");
    let mut server = Side::new(server, 1, 7_000);
    let mut client = Side::new(client.build().expect("good"), 2, 7_001);
    let mut now = Instant::from_nanos(1);
    let mut history: Vec<Vec<u8>> = Vec::new();
    let (mut heard, mut answered) = (0, 0);
    let stranger = |port: u8| SocketAddr::from(([192, 0, 2, 1], 1 + u16::from(port)));
    for operation in &operations {
        match operation {
            Operation::Bytes { port, segment, bytes } => {
                heard += bytes.len();
                server.take(stranger(*port), usize::from(*segment), bytes, now);
            }
            Operation::Exchange { flip, cut } => {
                let mut first = true;
                for (to, mut bytes) in client.give(now) {
                    if history.len() < 64 {
                        history.push(bytes.clone());
                    }
                    if std::mem::take(&mut first) {
                        if let Some(flip) = flip {
                            let bit = usize::from(*flip) % (bytes.len() * 8);
                            bytes[bit / 8] ^= 1 << (bit % 8);
                        }
                        if let Some(cut) = cut {
                            bytes.truncate(usize::from(*cut));
                        }
                    }
                    if to == server.address && !bytes.is_empty() {
                        server.take(client.address, bytes.len(), &bytes, now);
                    }
                }
                for (to, bytes) in server.give(now) {
                    if to == client.address {
                        client.take(server.address, bytes.len(), &bytes, now);
                    } else {
                        answered += bytes.len();
                    }
                }
            }
            Operation::Replay { which, port } => {
                if let Some(bytes) = history.get(usize::from(*which)) {
                    heard += bytes.len();
                    server.take(stranger(*port), bytes.len(), bytes, now);
                }
            }
            Operation::Advance { us } => {
                now = now + Duration::from_micros(u64::from(*us));
                server.advance(now);
                client.advance(now);
            }
            Operation::Connect => {
                if let Err(refused) = client.endpoint.connect(server.address, now) {
                    assert!(!refused.to_string().is_empty());
                }
            }
        }
        assert!(answered <= 3 * heard, "{answered} bytes for {heard}");
    }
});
