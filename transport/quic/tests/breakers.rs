//! A peer whose QUIC is right and whose messages are not: what it says of them breaks the rules, one at a time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    StreamId, VarInt,
};
use ringway_buf::Instant;
use ringway_proto::packet::{Fault, SessionEnd};
use ringway_proto::{HEADER_BYTES, Header, Input, Role, Stream, StreamConfig, TRANSMIT_BYTES_MAX};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use world::{TODAY, World, authority, hand, tapped, tls};

/// Kinds of frames, for faults.
const RESET_STREAM: Fault = Fault::Malformed { frame: 4 };
const STOP_SENDING: Fault = Fault::Malformed { frame: 5 };
const STREAM: Fault = Fault::Malformed { frame: 8 };
const DATAGRAM: Fault = Fault::Malformed { frame: 0x30 };
/// Kind of the frame that begins a lane.
const LANE: u8 = 5;
/// When the client's stream begins to live.
const BEGAN: Instant = Instant::from_nanos(1);
/// Code by which a lane is dropped.
const DROPPED: u32 = 1;

/// A client that is nothing but quinn-proto, and a server of ours.
struct Breaker {
    world: World,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    conn: Connection,
    address: SocketAddr,
    base: std::time::Instant,
    /// The ordered stream, and who speaks on it.
    main: StreamId,
    machine: Stream,
}

#[derive(Debug)]
struct Today;

impl TimeProvider for Today {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(TODAY))
    }
}

impl Breaker {
    /// With an open session, unless `greets` is false: then its hello is still to come.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make a value of that type; what it says is never looked at"
    )]
    fn new(greets: bool) -> Self {
        let server = authority("server.test", 2027);
        let settings = tls().identity(server.identity()).build().unwrap();
        let mut world = World::new(1);
        world.add(ringway_quic::QuicConfig::new(settings), 1);
        let mut roots = rustls::RootCertStore::empty();
        let pem = server.certificate.as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_details(provider, Arc::new(Today))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"ringway/1".to_vec()];
        let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let base = std::time::Instant::now();
        let to = world.hosts[0].address;
        let (handle, conn) = endpoint
            .connect(base, ClientConfig::new(crypto), to, "server.test")
            .unwrap();
        let mut breaker = Self {
            world,
            endpoint,
            handle,
            conn,
            address: SocketAddr::from(([10, 0, 0, 2], 7_000)),
            base,
            main: StreamId::from(VarInt::from_u32(0)),
            machine: Stream::new(&StreamConfig::default(), Role::Client, 7, BEGAN),
        };
        breaker.pass();
        breaker.main = breaker.conn.streams().open(Dir::Bi).unwrap();
        if greets {
            breaker.greet();
            assert!(breaker.world.opened(0).is_some(), "{:?}", breaker.end());
        }
        breaker
    }

    /// Sends what the machine of the ordered stream has to say: at first its hello.
    fn greet(&mut self) {
        let mut room = [0; TRANSMIT_BYTES_MAX];
        let count = self.machine.poll_transmit(&mut room);
        self.write(self.main, &room[..count]);
        self.pass();
    }

    /// Gives that machine what the server has said.
    fn hear(&mut self) {
        let mut stream = self.conn.recv_stream(self.main);
        let mut chunks = stream.read(true).unwrap();
        let mut said = chunks.next(usize::MAX).unwrap().unwrap().bytes;
        let _window = chunks.finalize();
        while !said.is_empty() {
            let config = StreamConfig::default();
            match self.machine.handle_bytes(&config, &said, BEGAN) {
                Ok(Input::Consumed(count)) => drop(said.split_to(count)),
                other => unreachable!("{other:?}"),
            }
        }
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let written = self.conn.send_stream(stream).write(bytes).unwrap();
        assert_eq!(written, bytes.len());
    }

    /// A unidirectional stream that carries this, and its end if `ends`.
    fn stream(&mut self, bytes: &[u8], ends: bool) -> StreamId {
        let stream = self.conn.streams().open(Dir::Uni).unwrap();
        self.write(stream, bytes);
        if ends {
            self.conn.send_stream(stream).finish().unwrap();
        }
        self.pass();
        stream
    }

    fn reset(&mut self, stream: StreamId, code: u32) {
        let code = VarInt::from_u32(code);
        self.conn.send_stream(stream).reset(code).unwrap();
        self.pass();
    }

    fn datagram(&mut self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.conn.datagrams().send(bytes, false).unwrap();
        self.pass();
    }

    /// A while, in which all arrives that was sent.
    fn pass(&mut self) {
        for _ in 0..40 {
            self.world.now = self.world.now + Duration::from_millis(1);
            let now = self.world.now;
            let foreign = self.base + Duration::from_nanos(now.as_nanos());
            if self.conn.poll_timeout().is_some_and(|at| at <= foreign) {
                self.conn.handle_timeout(foreign);
            }
            let mut out = Vec::new();
            while let Some(leaving) = self.conn.poll_transmit(foreign, 1, &mut out) {
                hand(&mut self.world, 0, self.address, &out[..leaving.size]);
                out.clear();
            }
            ringway_proto::packet::PacketEndpoint::handle_timeout(
                &mut self.world.hosts[0].endpoint,
                now,
            );
            for (_, bytes) in tapped(&mut self.world.hosts[0], now) {
                let from = self.world.hosts[0].address;
                let data = BytesMut::from(&bytes[..]);
                let told = self
                    .endpoint
                    .handle(foreign, from, None, None, data, &mut out);
                if let Some(DatagramEvent::ConnectionEvent(_, event)) = told {
                    self.conn.handle_event(event);
                }
                out.clear();
            }
            while let Some(event) = self.conn.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                    self.conn.handle_event(event);
                }
            }
            while self.conn.poll().is_some() {}
            self.world.listen(0);
        }
    }

    /// How the session ended at the server.
    fn end(&self) -> Option<SessionEnd> {
        self.world.end(0)
    }

    fn tags(&self) -> Vec<u16> {
        let messages = self.world.messages(0);
        messages.iter().map(|got| got.header.tag).collect()
    }
}

fn header(kind: u8, length: u32, tag: u16, word: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let header = Header {
        length,
        kind,
        tag,
        word,
        ..Header::default()
    };
    assert!(header.write(&mut bytes));
    bytes
}

/// A message of `length` bytes, of which so many follow.
fn message(length: u32, tag: u16, follow: usize) -> Vec<u8> {
    let mut bytes = header(ringway_proto::kind::MESSAGE, length, tag, 0);
    bytes.resize(HEADER_BYTES + follow, 7);
    bytes
}

/// The beginning of a lane behind so many ordered messages, and what it carries.
fn lane(after: u64, cargo: &[u8]) -> Vec<u8> {
    [&header(LANE, 0, 0, after), cargo].concat()
}

/// What the server says of a client that does this.
#[track_caller]
fn breaks<R>(fault: Fault, act: impl FnOnce(&mut Breaker) -> R) {
    let mut breaker = Breaker::new(true);
    act(&mut breaker);
    assert_eq!(breaker.end(), Some(SessionEnd::Violation(fault)));
}

/// So that it is for the rule that it breaks, and not for anything else, that a breaker is cut.
#[test]
fn a_foreign_client_that_keeps_the_rules_is_heard() {
    let mut breaker = Breaker::new(true);
    let padded = [&message(4, 1, 4)[..], &[0; 12]].concat();
    breaker.write(breaker.main, &padded);
    breaker.pass();
    breaker.stream(&message(300, 2, 300), true);
    breaker.stream(&message(0, 3, 0), true);
    breaker.stream(
        &lane(1, &[message(5, 4, 5), message(0, 5, 0)].concat()),
        true,
    );
    breaker.stream(&lane(0, &[]), true);
    breaker.datagram(&message(9, 6, 9));
    assert_eq!(breaker.tags(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(breaker.end(), None);
}

// docs/wire/quic.md#unordered-messages
#[test]
fn a_stream_of_one_message_has_its_length_and_nothing_else() {
    breaks(Fault::Contradiction, |it| it.stream(&[], true));
    let whole = message(8, 1, 8);
    for cut in [1, HEADER_BYTES - 1, HEADER_BYTES, whole.len() - 1] {
        breaks(Fault::Contradiction, |it| it.stream(&whole[..cut], true));
    }
    for ends in [true, false] {
        breaks(Fault::Contradiction, |it| {
            it.stream(&message(8, 1, 9), ends)
        });
        breaks(Fault::Contradiction, |it| {
            it.stream(&message(0, 1, 1), ends)
        });
    }
    let max = StreamConfig::default().message_bytes_max;
    let length = u64::from(max) + 1;
    breaks(Fault::MessageTooLong { length, max }, |it| {
        it.stream(&message(max + 1, 1, 0), false);
    });
    for kind in [0, 1, LANE + 1, ringway_proto::kind::MESSAGE - 1] {
        breaks(STREAM, |it| it.stream(&header(kind, 0, 0, 0), true));
    }
}

// docs/wire/quic.md#lanes
#[test]
fn a_lane_begins_once_and_ends_with_a_whole_message() {
    breaks(STREAM, |it| it.stream(&header(LANE, 1, 0, 0), false));
    let twice = lane(0, &lane(0, &[]));
    breaks(STREAM, |it| it.stream(&twice, false));
    let late = lane(0, &[message(0, 1, 0), lane(0, &[])].concat());
    breaks(STREAM, |it| it.stream(&late, false));
    for cut in 1..message(8, 1, 8).len() {
        let part = lane(0, &message(8, 1, 8)[..cut]);
        breaks(Fault::Contradiction, |it| it.stream(&part, true));
    }
}

// docs/wire/quic.md#lanes
#[test]
fn only_lanes_are_taken_back_and_only_by_their_code() {
    for part in [
        vec![],
        vec![1],
        message(8, 1, 3),
        lane(0, &message(8, 1, 3)),
    ] {
        breaks(RESET_STREAM, |it| {
            let stream = it.stream(&part, false);
            it.reset(stream, 0);
        });
    }
    // A message is no lane, whatever the code says.
    for part in [message(8, 1, 3), message(8, 1, 8)] {
        breaks(RESET_STREAM, |it| {
            let stream = it.stream(&part, false);
            it.reset(stream, DROPPED);
        });
    }
    let mut breaker = Breaker::new(true);
    let parts = [vec![], lane(0, &message(8, 1, 3)), lane(9, &[])];
    for part in parts {
        let stream = breaker.stream(&part, false);
        breaker.reset(stream, DROPPED);
    }
    assert_eq!((breaker.end(), breaker.tags()), (None, vec![]));
}

/// Who promises what never comes waits for ever, and nobody else does.
#[test]
fn a_lane_behind_messages_that_never_come_holds_up_nobody() {
    let mut breaker = Breaker::new(true);
    breaker.stream(&lane(u64::MAX, &message(0, 1, 0)), true);
    breaker.stream(&lane(1, &message(0, 2, 0)), true);
    breaker.stream(&message(0, 3, 0), true);
    assert_eq!(breaker.tags(), [3]);
    breaker.write(breaker.main, &message(0, 4, 0));
    breaker.pass();
    assert_eq!(breaker.tags(), [3, 4, 2]);
    assert_eq!(breaker.end(), None);
}

// docs/wire/quic.md#ordered-messages
#[test]
fn the_ordered_stream_is_neither_ended_nor_refused() {
    breaks(STREAM, |it| {
        it.conn.send_stream(it.main).finish().unwrap();
        it.pass();
    });
    breaks(STREAM, |it| it.reset(it.main, DROPPED));
    breaks(STOP_SENDING, |it| {
        it.conn
            .recv_stream(it.main)
            .stop(VarInt::from_u32(0))
            .unwrap();
        it.pass();
    });
}

// docs/wire/quic.md#unreliable-messages
#[test]
fn a_datagram_is_one_whole_message() {
    let good = message(8, 1, 8);
    for cut in [0, 1, HEADER_BYTES - 1] {
        breaks(STREAM, |it| it.datagram(&good[..cut]));
    }
    breaks(DATAGRAM, |it| it.datagram(&good[..HEADER_BYTES]));
    breaks(DATAGRAM, |it| it.datagram(&message(8, 1, 9)));
    breaks(STREAM, |it| it.datagram(&header(LANE, 0, 0, 0)));
}

// docs/wire/quic.md#unordered-messages
#[test]
fn nothing_overtakes_the_hello() {
    let mut breaker = Breaker::new(false);
    breaker.stream(&message(0, 1, 0), true);
    breaker.stream(&lane(0, &message(0, 2, 0)), true);
    breaker.datagram(&message(0, 3, 0));
    assert!(breaker.tags().is_empty());
    breaker.greet();
    let mut tags = breaker.tags();
    tags.sort_unstable();
    assert_eq!((tags, breaker.end()), (vec![1, 2, 3], None));
}

// docs/wire/quic.md#unordered-messages
#[test]
fn nothing_follows_the_last_announcement() {
    for cargo in [message(0, 1, 0), lane(0, &message(0, 1, 0))] {
        breaks(Fault::AfterFinal, |it| {
            it.hear();
            it.machine.drain(BEGAN);
            it.machine.finish();
            it.greet();
            assert_eq!(it.end(), None);
            it.stream(&cargo, true);
        });
    }
}
