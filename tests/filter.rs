//! A stream filter between driver and framing, as TLS will be one, on every driver.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test's helper fails the test, and its numbers are small"
)]

mod world;

use std::time::Duration;

use ringway::{
    CloseCode, Config, Filter, FilterError, FilterOpened, FilterRoom, Instant, Limits, Role,
};
use world::{App, Pair, World, config, config_with, pattern};

on_every_driver![
    every_size_arrives_through_a_filter,
    many_small_messages_share_records,
    pausing_in_mid_stream_loses_nothing,
    a_full_queue_is_sealed_piece_by_piece,
    a_drain_finishes_through_a_filter,
    closing_delivers_what_was_queued,
    a_refused_record_closes_with_its_reason,
    a_different_key_is_refused_by_both_sides,
    a_peer_without_the_filter_is_refused,
    sealing_waits_for_memory,
    a_directed_filter_leaves_received_bytes_alone,
];

const HEAD: usize = 2;
const TAIL: usize = 1;
const PLAIN_MAX: usize = 4000;

/// Records of `[length u16 | plaintext ^ key | sum]` after one byte of handshake each way. No cipher, but it
/// has what a cipher has that matters here: room at both ends, records, a handshake, failure.
struct Xor {
    key: u8,
    hello_sent: bool,
    hello_seen: bool,
    sealed: u64,
    opened: u8,
    /// The record that this side spoils.
    spoils: Option<u64>,
    dead: bool,
}

impl Xor {
    fn new(key: u8) -> Self {
        let (hello_sent, hello_seen) = (false, false);
        Self {
            key,
            hello_sent,
            hello_seen,
            sealed: 0,
            opened: 0,
            spoils: None,
            dead: false,
        }
    }

    fn sum(plain: &[u8], sequence: u8) -> u8 {
        plain.iter().fold(sequence, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(*byte)
        })
    }

    fn fail<T>(&mut self, error: FilterError) -> Result<T, FilterError> {
        self.dead = true;
        Err(error)
    }
}

fn wait(need: usize) -> Result<FilterOpened, FilterError> {
    Ok(FilterOpened {
        consumed: 0,
        plain: 0..0,
        need,
    })
}

impl Filter for Xor {
    fn directed_recv(&self) -> bool {
        false
    }

    fn room(&self) -> FilterRoom {
        FilterRoom {
            head: HEAD,
            tail: TAIL,
            plain_max: PLAIN_MAX,
        }
    }

    fn open(&mut self, bytes: &mut [u8], _now: Instant) -> Result<FilterOpened, FilterError> {
        if self.dead {
            return Err(FilterError::Dead);
        }
        if !self.hello_seen {
            return match bytes.first() {
                None => wait(1),
                Some(b'X') => {
                    self.hello_seen = true;
                    Ok(FilterOpened {
                        consumed: 1,
                        plain: 0..0,
                        need: 0,
                    })
                }
                Some(_) => self.fail(FilterError::Malformed),
            };
        }
        let [low, high, ..] = *bytes else {
            return wait(HEAD);
        };
        let len = usize::from(u16::from_le_bytes([low, high]));
        if len == 0 || len > PLAIN_MAX {
            return self.fail(FilterError::RecordTooLong {
                len,
                max: PLAIN_MAX,
            });
        }
        let consumed = HEAD + len + TAIL;
        if bytes.len() < consumed {
            return wait(consumed);
        }
        let plain = HEAD..HEAD + len;
        bytes[plain.clone()]
            .iter_mut()
            .for_each(|byte| *byte ^= self.key);
        if Self::sum(&bytes[plain.clone()], self.opened) != bytes[HEAD + len] {
            return self.fail(FilterError::Authentication);
        }
        self.opened = self.opened.wrapping_add(1);
        Ok(FilterOpened {
            consumed,
            plain,
            need: 0,
        })
    }

    fn seal(&mut self, record: &mut [u8]) -> Result<(), FilterError> {
        if self.dead {
            return Err(FilterError::Dead);
        }
        if !self.is_ready() {
            return Err(FilterError::NotReady);
        }
        let len = record.len() - HEAD - TAIL;
        assert!((1..=PLAIN_MAX).contains(&len), "a record of {len} bytes");
        let plain = HEAD..HEAD + len;
        let spoilt = u8::from(self.spoils == Some(self.sealed));
        record[HEAD + len] = Self::sum(&record[plain.clone()], self.sealed as u8) ^ spoilt;
        self.sealed += 1;
        record[plain].iter_mut().for_each(|byte| *byte ^= self.key);
        record[..HEAD].copy_from_slice(&u16::try_from(len).unwrap().to_le_bytes());
        Ok(())
    }

    fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        if std::mem::replace(&mut self.hello_sent, true) {
            return 0;
        }
        out[0] = b'X';
        1
    }

    fn is_ready(&self) -> bool {
        self.hello_sent && self.hello_seen
    }
}

/// Changes nothing, and must never be asked to open: as if the kernel decrypted.
struct Directed;

impl Filter for Directed {
    fn directed_recv(&self) -> bool {
        true
    }

    fn room(&self) -> FilterRoom {
        FilterRoom {
            head: 0,
            tail: 0,
            plain_max: 16 << 10,
        }
    }

    fn open(&mut self, _bytes: &mut [u8], _now: Instant) -> Result<FilterOpened, FilterError> {
        unreachable!("received bytes are left alone")
    }

    fn seal(&mut self, _record: &mut [u8]) -> Result<(), FilterError> {
        Ok(())
    }

    fn poll_transmit(&mut self, _out: &mut [u8]) -> usize {
        0
    }

    fn is_ready(&self) -> bool {
        true
    }
}

fn keyed(config: Config, key: u8) -> Config {
    config.filter(move |_| Box::new(Xor::new(key)))
}

fn filtered(world: World) -> Pair {
    Pair::with(world, keyed(config(), 0x5A), keyed(config(), 0x5A))
}

fn every_size_arrives_through_a_filter(world: World) {
    echoes_every_size(filtered(world));
}

fn echoes_every_size(mut pair: Pair) {
    pair.server.app = App::echo();
    let (client, _) = pair.connected("tcp");
    let edges = [
        PLAIN_MAX,
        16 << 10,
        32 << 10,
        60 << 10,
        64 << 10,
        128 << 10,
        1 << 20,
    ];
    let sizes: Vec<usize> = edges
        .into_iter()
        .flat_map(|edge: usize| [edge - 17, edge - 1, edge, edge + 1])
        .chain([0, 1, 15, 16, 17, 3 << 20])
        .collect();
    pair.assert_echoed(client, &sizes);
}

fn many_small_messages_share_records(world: World) {
    let mut pair = filtered(world);
    let (client, _) = pair.connected("tcp");
    for number in 0..2000_u64 {
        let body = pattern(number as usize % 70, number);
        pair.until("room", |pair| pair.client.send(client, &body).is_ok());
    }
    pair.until("all arrived", |pair| pair.server.app.got.len() == 2000);
    for (number, got) in pair.server.app.got.iter().enumerate() {
        assert_eq!(got.body, pattern(number % 70, number as u64));
    }
}

fn pausing_in_mid_stream_loses_nothing(world: World) {
    let mut pair = filtered(world);
    let (client, server) = pair.connected("tcp");
    let mut sent = 0_u64;
    for round in 0..40_u64 {
        for _ in 0..25 {
            // Some small, some that are received in pieces.
            let body = pattern([90, 5000, 70_000][(sent % 3) as usize], sent);
            if pair.client.send(client, &body).is_ok() {
                sent += 1;
            }
        }
        pair.server.engine.context().pause(server, true);
        pair.steps(3);
        let paused_at = pair.server.app.got.len();
        pair.steps(3);
        assert_eq!(
            pair.server.app.got.len(),
            paused_at,
            "round {round}: nothing while paused"
        );
        pair.server.engine.context().pause(server, false);
        pair.steps(2);
    }
    pair.until("all arrived", |pair| {
        pair.server.app.got.len() as u64 == sent
    });
    for (number, got) in pair.server.app.got.iter().enumerate() {
        assert!(
            got.body == pattern([90, 5000, 70_000][number % 3], number as u64),
            "{number}"
        );
    }
}

fn a_full_queue_is_sealed_piece_by_piece(world: World) {
    let limits = Limits {
        queue_bytes_max: 256 << 10,
        ..Limits::default()
    };
    let client = keyed(config().limits(limits), 1);
    let mut pair = Pair::with(world, client, keyed(config(), 1));
    let (client, server) = pair.connected("tcp");
    pair.server.engine.context().pause(server, true);
    let mut sent = 0;
    let mut refused = 0;
    while refused < 50 {
        if pair.client.send(client, &pattern(30_000, sent)).is_ok() {
            sent += 1;
            refused = 0;
        } else {
            refused += 1;
            pair.step();
        }
    }
    pair.server.engine.context().pause(server, false);
    pair.until("all arrived", |pair| {
        pair.server.app.got.len() as u64 == sent
    });
    assert!(pair.client.app.writable > 0, "room was announced");
    assert_eq!(pair.client.engine.context().queued_bytes(client), Some(0));
}

fn a_drain_finishes_through_a_filter(world: World) {
    let mut pair = filtered(world);
    let (client, server) = pair.connected("tcp");
    for number in 0..100 {
        pair.client.send(client, &pattern(3000, number)).unwrap();
        pair.server.send(server, &pattern(200, number)).unwrap();
    }
    pair.client.engine.context().drain(client);
    pair.until("both closed", |pair| {
        pair.client.app.closed.len() == 1 && pair.server.app.closed.len() == 1
    });
    assert_eq!(
        (pair.server.app.got.len(), pair.client.app.got.len()),
        (100, 100)
    );
    assert_eq!(pair.client.app.reason(client).unwrap(), "Drained");
    assert_eq!(pair.server.app.reason(server).unwrap(), "Drained");
}

fn closing_delivers_what_was_queued(world: World) {
    let mut pair = filtered(world);
    let (client, server) = pair.connected("tcp");
    for number in 0..50 {
        pair.client.send(client, &pattern(20_000, number)).unwrap();
    }
    pair.client
        .engine
        .context()
        .close(client, CloseCode::Normal);
    pair.until("both closed", |pair| {
        pair.client.app.closed.len() == 1 && pair.server.app.closed.len() == 1
    });
    assert_eq!(pair.server.app.got.len(), 50);
    assert_eq!(pair.server.app.reason(server).unwrap(), "Peer(Normal)");
    assert_eq!(pair.client.app.closed[0].unsent_bytes, 0);
}

fn a_refused_record_closes_with_its_reason(world: World) {
    let spoiling = config().filter(|_| {
        Box::new(Xor {
            spoils: Some(30),
            ..Xor::new(9)
        })
    });
    let mut pair = Pair::with(world, spoiling, keyed(config(), 9));
    let (client, server) = pair.connected("tcp");
    let mut sent = 0;
    while pair.server.app.closed.is_empty() {
        if pair.client.send(client, &pattern(100, sent)).is_ok() {
            sent += 1;
        }
        pair.step();
    }
    assert_eq!(
        pair.server.app.reason(server).unwrap(),
        "Filter(Authentication)"
    );
    assert!(pair.server.app.closed[0].text.contains("stream filter"));
    pair.until("the peer sees the end", |pair| {
        !pair.client.app.closed.is_empty()
    });
    assert!(
        pair.server.app.got.len() > 10,
        "what came before was delivered"
    );
    for (number, got) in pair.server.app.got.iter().enumerate() {
        assert_eq!(got.body, pattern(100, number as u64));
    }
    // The engine goes on.
    pair.steps(3);
    assert_eq!(pair.server.engine.stats().connections, 0);
}

fn a_different_key_is_refused_by_both_sides(world: World) {
    let mut pair = Pair::with(world, keyed(config(), 1), keyed(config(), 2));
    let connection = connect(&mut pair);
    pair.until("the client closed", |pair| {
        pair.client.app.reason(connection).is_some()
    });
    assert!(pair.client.app.opened.is_empty() && pair.server.app.opened.is_empty());
    pair.until("the server closed", |pair| {
        pair.server.engine.stats().connections == 0
    });
}

fn a_peer_without_the_filter_is_refused(world: World) {
    let short = config_with(|stream| stream.handshake_timeout = Duration::from_millis(50));
    let mut pair = Pair::with(world, short, keyed(config(), 2));
    let connection = connect(&mut pair);
    pair.until("the client closed", |pair| {
        pair.client.app.reason(connection).is_some()
    });
    assert!(pair.client.app.opened.is_empty() && pair.server.app.opened.is_empty());
    pair.until("the server closed", |pair| {
        pair.server.engine.stats().connections == 0
    });
}

/// Starts a connection that is not expected to open.
fn connect(pair: &mut Pair) -> ringway::ConnectionId {
    let address = pair.world.address("tcp");
    let (_, address) = pair.listening(&address);
    pair.client.engine.connect(&address).unwrap()
}

fn sealing_waits_for_memory(world: World) {
    // The queue may hold more than all memory: claims run into the budget, and records need some too.
    let limits = Limits {
        budget_bytes: 2 << 20,
        queue_bytes_max: 8 << 20,
        ..Limits::default()
    };
    let small = config_with(|stream| stream.message_bytes_max = 256 << 10).limits(limits);
    let server = keyed(
        config_with(|stream| stream.message_bytes_max = 256 << 10),
        3,
    );
    let mut pair = Pair::with(world, keyed(small, 3), server);
    let (client, server) = pair.connected("tcp");
    pair.server.engine.context().pause(server, true);
    let (mut sent, mut refused) = (0, 0);
    while refused < 50 {
        if pair.client.send(client, &pattern(50_000, sent)).is_ok() {
            sent += 1;
            refused = 0;
        } else {
            refused += 1;
            pair.step();
        }
    }
    pair.server.engine.context().pause(server, false);
    pair.until("all arrived", |pair| {
        pair.server.app.got.len() as u64 == sent
    });
    assert!(
        pair.client.engine.budget().refused() > 0,
        "the test reached the limit"
    );
}

fn a_directed_filter_leaves_received_bytes_alone(world: World) {
    let directed = |config: Config| config.filter(|_: Role| Box::new(Directed));
    echoes_every_size(Pair::with(world, directed(config()), directed(config())));
}
