//! How messages travel: in order, as soon as they are there, or not at all when their time is over.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway::{ConnectionId, Counter, Delivery, Header, Instant, SendError};
use ringway_engine::sim::{Chance, NetConfig, SimNet};
use world::relay::Relay;
use world::{App, Pair, World, pattern};

on_every_driver![
    on_a_stream_everything_keeps_its_order,
    datagrams_are_messages,
    a_datagram_needs_a_peer_and_a_size_that_fits,
];

over_reliable_udp![
    unordered_messages_overtake_what_was_lost,
    ordered_messages_wait_for_what_was_lost,
    what_is_late_is_dropped_and_counted,
    unreliable_messages_may_be_lost_and_are_not_repeated,
    slices_choose_as_claims_do,
];

over_quic![
    what_is_late_is_dropped_and_counted,
    an_unreliable_message_beyond_the_path_is_dropped_and_counted,
    unordered_messages_all_arrive,
    slices_choose_as_claims_do,
];

const COUNT: u16 = 300;

/// Two engines over a network that loses a part of what the client sends, and what carries it.
struct Lossy {
    pair: Pair,
    relay: Option<Relay>,
    loses: Arc<AtomicBool>,
    client: ConnectionId,
}

impl Lossy {
    fn new(world: World) -> Self {
        let loses = Arc::new(AtomicBool::new(false));
        if world.is_sim() {
            let mut net = NetConfig::perfect();
            net.faults.datagram.loss = Chance::percent(5);
            let mut pair = Pair::new(World::Sim(SimNet::new(net, 3)));
            let (client, _) = pair.connected("tcp");
            return Self {
                pair,
                relay: None,
                loses,
                client,
            };
        }
        let mut pair = Pair::new(world);
        let address = pair.world.address("tcp");
        let listener = pair.server.engine.listen(&address).unwrap();
        let real = pair.server.engine.local_address(listener).unwrap();
        let mut relay = Relay::to(real.socket_addr().unwrap());
        let (flag, mut number) = (Arc::clone(&loses), 0);
        relay.drops = Box::new(move |_| {
            number += 1;
            flag.load(Ordering::Relaxed) && number % 20 == 7
        });
        let through = format!("rudp://{}", relay.address);
        let client = pair.client.engine.connect(&through).unwrap();
        let mut lossy = Self {
            pair,
            relay: Some(relay),
            loses,
            client,
        };
        lossy.until("opened", |pair| !pair.client.app.opened.is_empty());
        lossy.loses.store(true, Ordering::Relaxed);
        lossy
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Pair) -> bool) {
        let relay = &mut self.relay;
        self.pair.until(what, |pair| {
            if let Some(relay) = relay {
                relay.carry();
            }
            done(pair)
        });
    }

    /// Sends numbered messages, each in a packet of its own.
    fn send_all(&mut self, delivery: Delivery) {
        for number in 0..COUNT {
            send(&mut self.pair, self.client, delivery, number);
            self.pair.client.turn();
            if let Some(relay) = &mut self.relay {
                relay.carry();
            }
        }
    }

    fn got(&mut self, count: usize) -> Vec<u16> {
        self.until("all came", |pair| pair.server.app.got.len() == count);
        self.pair.server.app.got.iter().map(|got| got.tag).collect()
    }
}

fn send(pair: &mut Pair, client: ConnectionId, delivery: Delivery, number: u16) {
    let mut cx = pair.client.engine.context();
    let mut claim = cx
        .claim(client, 100)
        .unwrap()
        .tag(number)
        .delivery(delivery);
    claim.fill(number.to_le_bytes()[0]);
    claim.commit();
}

fn unordered_messages_overtake_what_was_lost(world: World) {
    let mut lossy = Lossy::new(world);
    lossy.send_all(Delivery::Unordered);
    let mut got = lossy.got(COUNT.into());
    assert!(!got.is_sorted(), "nobody waited for what was lost");
    got.sort_unstable();
    assert!(got.into_iter().eq(0..COUNT), "each exactly once");
}

fn ordered_messages_wait_for_what_was_lost(world: World) {
    let mut lossy = Lossy::new(world);
    lossy.send_all(Delivery::Ordered);
    assert!(lossy.got(COUNT.into()).into_iter().eq(0..COUNT));
}

fn unreliable_messages_may_be_lost_and_are_not_repeated(world: World) {
    let mut lossy = Lossy::new(world);
    let deadline = Instant::MAX;
    lossy.send_all(Delivery::Unreliable { deadline });
    // A reliable one behind them: what has not come when it is there will not come.
    send(&mut lossy.pair, lossy.client, Delivery::Ordered, COUNT);
    lossy.until("the last", |pair| {
        pair.server.app.got.iter().any(|got| got.tag == COUNT)
    });
    for _ in 0..100 {
        lossy.pair.step();
    }
    let count = lossy.pair.server.app.got.len();
    assert!(count < usize::from(COUNT), "{count}: some were lost");
    assert!(count > usize::from(COUNT) / 2, "{count}: and not more");
    let queued = lossy
        .pair
        .client
        .engine
        .context()
        .queued_bytes(lossy.client);
    assert_eq!(queued, Some(0), "nothing is kept of what was lost");
}

fn what_is_late_is_dropped_and_counted(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    for number in 0..10 {
        let deadline = if number % 2 == 0 {
            Instant::ZERO
        } else {
            Instant::MAX
        };
        send(&mut pair, client, Delivery::Unreliable { deadline }, number);
    }
    pair.until("those in time", |pair| pair.server.app.got.len() == 5);
    assert!(pair.server.app.got.iter().all(|got| got.tag % 2 == 1));
    pair.until("the late ones are counted", |pair| {
        pair.client
            .engine
            .handle()
            .counters()
            .value(Counter::Expired)
            == 5
    });
    pair.until("nothing is kept", |pair| {
        pair.client.engine.context().queued_bytes(client) == Some(0)
    });
}

fn an_unreliable_message_beyond_the_path_is_dropped_and_counted(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    let deadline = Instant::MAX;
    let delivery = Delivery::Unreliable { deadline };
    let mut cx = pair.client.engine.context();
    cx.claim(client, 100_000)
        .unwrap()
        .delivery(delivery)
        .commit();
    send(&mut pair, client, delivery, 1);
    pair.until("the one that fits", |pair| pair.server.app.got.len() == 1);
    assert_eq!(pair.server.app.got[0].tag, 1);
    pair.until("the other is counted and freed", |pair| {
        let counters = pair.client.engine.handle().counters();
        let queued = pair.client.engine.context().queued_bytes(client);
        counters.value(Counter::Expired) == 1 && queued == Some(0)
    });
}

fn unordered_messages_all_arrive(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    for number in 0..50 {
        send(&mut pair, client, Delivery::Unordered, number);
    }
    pair.until("all", |pair| pair.server.app.got.len() == 50);
    let mut got: Vec<u16> = pair.server.app.got.iter().map(|got| got.tag).collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..50));
}

fn on_a_stream_everything_keeps_its_order(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    let deadline = Instant::ZERO;
    let ways = [
        Delivery::Unordered,
        Delivery::Ordered,
        Delivery::Unreliable { deadline },
    ];
    for (number, delivery) in (0..30).zip(ways.into_iter().cycle()) {
        send(&mut pair, client, delivery, number);
    }
    pair.until("all", |pair| pair.server.app.got.len() == 30);
    assert!((0..30).eq(pair.server.app.got.iter().map(|got| got.tag)));
}

fn slices_choose_as_claims_do(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    let slice = {
        let cx = pair.client.engine.context();
        let mut lease = cx.lease(5000).unwrap();
        lease.append(5000).unwrap().fill(9);
        lease.freeze()
    };
    let late = Delivery::Unreliable {
        deadline: Instant::ZERO,
    };
    let header = Header::message(0, 7, 0);
    for delivery in [Delivery::Ordered, late, Delivery::Unordered] {
        let mut cx = pair.client.engine.context();
        // Longer than a path's datagram is no matter where it is late anyway.
        let part = match delivery {
            Delivery::Unreliable { .. } => slice.subslice(0..500).unwrap(),
            _ => slice.clone(),
        };
        cx.send_slice_with(client, header, part, delivery).unwrap();
    }
    pair.until("two of three", |pair| pair.server.app.got.len() == 2);
    for got in &pair.server.app.got {
        assert_eq!((got.tag, got.body.len()), (7, 5000));
    }
    pair.until("the third is counted", |pair| {
        pair.client
            .engine
            .handle()
            .counters()
            .value(Counter::Expired)
            == 1
    });
}

fn datagrams_are_messages(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let (_, address) = pair.listening("udp://127.0.0.1:0");
    let client = pair.client.engine.connect(&address).unwrap();
    pair.until("usable", |pair| !pair.client.app.opened.is_empty());
    let sizes = [0, 1, 64, 64, 64, 1200, 1200, 700, 64];
    for (seed, size) in sizes.into_iter().enumerate() {
        pair.client
            .send(client, &pattern(size, seed as u64))
            .unwrap();
    }
    pair.until("all came back", |pair| {
        pair.client.app.got.len() == sizes.len()
    });
    let mut bodies: Vec<_> = pair
        .client
        .app
        .got
        .iter()
        .map(|got| got.body.clone())
        .collect();
    let mut sent: Vec<_> = sizes
        .into_iter()
        .enumerate()
        .map(|(seed, size)| pattern(size, seed as u64))
        .collect();
    bodies.sort();
    sent.sort();
    assert_eq!(bodies, sent);
}

fn a_datagram_needs_a_peer_and_a_size_that_fits(world: World) {
    let mut pair = Pair::new(world);
    let listener = pair.server.engine.listen("udp://127.0.0.1:0").unwrap();
    let socket = listener.datagram_socket().unwrap();
    assert_eq!(
        pair.server.send(socket, b"to whom?"),
        Err(SendError::NoPeer)
    );
    let address = pair.server.engine.local_address(listener).unwrap();
    let client = pair.client.engine.connect(&address.to_string()).unwrap();
    pair.until("usable", |pair| !pair.client.app.opened.is_empty());
    let error = pair.client.send(client, &[0; 65_536]).unwrap_err();
    assert!(
        matches!(error, SendError::TooLong { bytes: 65_536, .. }),
        "{error}"
    );
    pair.client.send(client, &[0; 1000]).unwrap();
    pair.until("a fitting one arrives", |pair| {
        pair.server.app.got.len() == 1
    });
}
