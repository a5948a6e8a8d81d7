//! Messages between two endpoints, over a network that is kind or is not.

#[expect(
    clippy::disallowed_methods,
    reason = "how many seeds, on how many threads, is for whoever runs the tests to say"
)]
#[path = "../../../tests/seeds/mod.rs"]
mod seeds;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway_buf::Instant;
use ringway_proto::CloseCode;
use ringway_proto::packet::{Delivery, PacketEndpoint, SendRefusal, SessionEnd, SessionId};
use ringway_quic::QuicConfig;

use ringway_sim::{Chance, Fault, PathConfig, Span};
use seeds::Seeds;
use world::{Rng, Said, World, pattern};

const UNRELIABLE: Delivery = Delivery::Unreliable {
    deadline: Instant::MAX,
};

#[test]
fn a_session_opens_carries_messages_and_closes_once() {
    let mut world = World::pair(1);
    let (server, client) = world.open();
    assert!(matches!(world.hosts[0].said[..], [Said::Accepted(a), Said::Opened(b)] if a == b));
    world.send(1, client, 7, b"hello", Delivery::Ordered);
    assert!(world.run(Duration::from_secs(1), |world| {
        !world.messages(0).is_empty()
    }));
    let got = world.messages(0)[0].clone();
    assert_eq!((got.header.tag, &got.body[..]), (7, &b"hello"[..]));
    world.send(0, server, 8, b"hello yourself", Delivery::Ordered);
    assert!(world.run(Duration::from_secs(1), |world| {
        !world.messages(1).is_empty()
    }));
    assert_eq!(world.messages(1)[0].body, b"hello yourself");
    let now = world.now;
    world.hosts[1]
        .endpoint
        .close(client, CloseCode::Normal, now);
    world.run_to_ends();
    assert_eq!(world.end(1), Some(SessionEnd::Local(CloseCode::Normal)));
    assert_eq!(world.end(0), Some(SessionEnd::Peer(CloseCode::Normal)));
    world.assert_silent();
}

#[test]
fn every_length_arrives_intact_both_ways() {
    let mut world = World::pair(2);
    let (server, client) = world.open();
    let lengths = [
        0,
        1,
        15,
        16,
        17,
        1_007,
        1_008,
        1_009,
        1_024,
        1_436,
        2_047,
        2_048,
        2_049,
        65_535,
        65_536,
        65_537,
        1 << 20,
        8 << 20,
    ];
    for (index, len) in lengths.into_iter().enumerate() {
        for how in [Delivery::Ordered, Delivery::Unordered] {
            let body = pattern(len as u64, len);
            let tag = u16::try_from(index).expect("few");
            world.send(1, client, tag, &body, how);
            world.send(0, server, tag, &body, how);
        }
    }
    let all = 2 * lengths.len();
    assert!(world.run(Duration::from_secs(60), |world| {
        world.messages(0).len() == all && world.messages(1).len() == all
    }));
    for host in [0, 1] {
        let mut seen = vec![0; lengths.len()];
        for got in world.messages(host) {
            let len = lengths[usize::from(got.header.tag)];
            assert_eq!(got.header.length as usize, len);
            assert!(got.body == pattern(len as u64, len), "{len} bytes");
            seen[usize::from(got.header.tag)] += 1;
        }
        assert!(seen.iter().all(|count| *count == 2), "{seen:?}");
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    trace: u64,
    /// Reliable messages, unreliable ones, rebindings, partitions' victims, sessions that ended as asked, crashes.
    figures: [u64; 6],
}

/// A session with every fault of the model, until the network heals: all reliable messages come exactly once, intact,
/// ordered ones in order; and if the session was cut short, both sides say so and nothing comes twice.
fn hostile_run(seed: u64) -> Outcome {
    let (server, client) = world::configs();
    let patient = |mut config: QuicConfig| {
        config.stream.handshake_timeout = Duration::from_secs(60);
        config.stream.keepalive_timeout = Duration::from_secs(60);
        config
    };
    let mut world = World::with(seed, patient(server), patient(client));
    let mut rng = Rng::new(seed);
    world.net.config = PathConfig::swarm(seed);
    world.sink_room = if rng.hits(300) { 3 } else { usize::MAX };
    let client = world.connect(1, 0);
    let opened = |world: &World| world.opened(0).is_some() && world.opened(1).is_some();
    let over = |world: &World| world.end(1).is_some();
    world.run(Duration::from_secs(120), |world| {
        opened(world) || over(world)
    });
    let mut sent = Sent::default();
    let crashes = rng.hits(200);
    if let (Some(server), true) = (world.opened(0), world.opened(1).is_some()) {
        // Before the handshake is done, nobody may move (RFC 9000, section 9).
        let address = world.hosts[1].address;
        world.net.translate(address);
        sent = chatter(&mut world, &mut rng, [server, client]);
        if crashes {
            return crash(world, &mut rng, &sent, [server, client]);
        }
        let mut healed = PathConfig::default();
        healed.link.delay = world.net.config.link.delay;
        world.net.config = healed;
        let done = world.run(Duration::from_secs(300), |world| {
            over(world)
                || [0, 1]
                    .iter()
                    .all(|host| world.reliable(*host) >= sent.reliable(1 - host))
        });
        assert!(done, "seed {seed}: {:?}", PathConfig::swarm(seed));
        let now = world.now;
        if !over(&world) {
            world.hosts[1]
                .endpoint
                .close(client, CloseCode::Normal, now);
        }
    }
    let ended = world.run(Duration::from_secs(300), |world| {
        over(world) && (world.end(0).is_some() || world.opened(0).is_none())
    });
    assert!(
        ended,
        "seed {seed}: {:?} {:?}",
        world.ends(0),
        world.ends(1)
    );
    let clean = world.end(1) == Some(SessionEnd::Local(CloseCode::Normal))
        && world.end(0) == Some(SessionEnd::Peer(CloseCode::Normal));
    let mut figures = [0, 0, 0, 0, u64::from(clean), 0];
    for host in [0, 1] {
        world.assert_honest(host);
        check_received(&world, host, &sent, clean);
        let reliable = world.reliable(host);
        figures[0] += reliable as u64;
        figures[1] += (world.messages(host).len() - reliable) as u64;
    }
    figures[2] = world.net.fault_counts().of(Fault::Rebind);
    figures[3] = world.net.fault_counts().of(Fault::Partition);
    world.assert_silent();
    Outcome {
        trace: world.trace,
        figures,
    }
}

/// One process dies in the middle of it. The other one learns of it, hears nothing more from that session, and nothing twice
/// before; and the new process is as good as any.
fn crash(mut world: World, rng: &mut Rng, sent: &Sent, sessions: [SessionId; 2]) -> Outcome {
    let dead = usize::from(rng.hits(500));
    let alive = 1 - dead;
    check_received(&world, dead, sent, false);
    world.restart(dead, rng.bits());
    let mut healed = PathConfig::default();
    healed.link.delay = world.net.config.link.delay;
    world.net.config = healed;
    let again = world.connect(1, 0);
    let count = |world: &World, host: usize, session: SessionId| {
        let said = world.hosts[host].said.iter();
        said.filter(|said| matches!(said, Said::Message(of, _) if *of == session))
            .count()
    };
    let opened = world.run(Duration::from_secs(60), |world| {
        world.has_opened(1, again)
            && world
                .opened(0)
                .is_some_and(|it| it != sessions[0] || dead == 0)
    });
    assert!(opened, "nobody is shut out by what was before");
    let Some(server) = world.opened(0) else {
        unreachable!("it opened");
    };
    let news = [server, again];
    for tag in 0..5 {
        for host in [0, 1] {
            world.send(host, news[host], tag, b"anew", Delivery::Ordered);
        }
    }
    let done = world.run(Duration::from_secs(60), |world| {
        [0, 1]
            .iter()
            .all(|host| count(world, *host, news[*host]) == 5)
    });
    assert!(done, "the new session carries messages");
    let ended = world.run(Duration::from_secs(300), |world| {
        world.has_ended(alive, sessions[alive])
    });
    assert!(ended, "the survivor learns that the other one is gone");
    // What was on its way when the process died may still come, in its order.
    check_received_of(&world, alive, sent, Some(sessions[alive]), false);
    world.assert_honest(alive);
    let now = world.now;
    world.hosts[1].endpoint.close(again, CloseCode::Normal, now);
    let over = world.run(Duration::from_secs(60), |world| {
        world.has_ended(0, server) && world.has_ended(1, again)
    });
    assert!(over);
    let figures = [10, 0, world.net.fault_counts().of(Fault::Rebind), 0, 0, 1];
    world.assert_silent();
    Outcome {
        trace: world.trace,
        figures,
    }
}

/// How many messages each host sent: ordered, unordered, unreliable.
#[derive(Default)]
struct Sent([[u16; 3]; 2]);

impl Sent {
    fn reliable(&self, host: usize) -> usize {
        usize::from(self.0[host][0] + self.0[host][1])
    }
}

/// Messages of all kinds and lengths in both directions, while faults come and go.
fn chatter(world: &mut World, rng: &mut Rng, sessions: [SessionId; 2]) -> Sent {
    let mut sent = Sent::default();
    for _ in 0..60 {
        let host = usize::from(rng.hits(500));
        let len = match rng.below(10) {
            0 => 0,
            1..=6 => rng.below(600),
            7 | 8 => rng.below(5_000),
            _ => rng.below(200_000),
        };
        let lane = usize::try_from(rng.below(3)).unwrap_or(0);
        let how = [Delivery::Ordered, Delivery::Unordered, UNRELIABLE][lane];
        let len = usize::try_from(len).unwrap_or(0);
        let len = if how == UNRELIABLE { len.min(900) } else { len };
        let tag = LANE * u16::try_from(lane).unwrap_or(0) + sent.0[host][lane];
        let body = pattern(u64::from(tag), len);
        match world.try_send(host, sessions[host], tag, &body, how) {
            Ok(()) => sent.0[host][lane] += 1,
            Err(refusal) => assert_eq!(refusal, SendRefusal::Closed),
        }
        if rng.hits(400) {
            world.pass(Duration::from_micros(rng.below(3_000)));
        }
    }
    sent
}

/// Tags of one kind of messages.
const LANE: u16 = 1_000;

fn check_received(world: &World, host: usize, sent: &Sent, clean: bool) {
    check_received_of(world, host, sent, None, clean);
}

/// The same for one session of several.
fn check_received_of(
    world: &World,
    host: usize,
    sent: &Sent,
    session: Option<SessionId>,
    clean: bool,
) {
    let mut next = 0;
    let mut seen = std::collections::BTreeSet::new();
    for (of, got) in world.messages_by_session(host) {
        if session.is_some_and(|session| session != of) {
            continue;
        }
        let tag = got.header.tag;
        let lane = usize::from(tag / LANE);
        assert!(tag % LANE < sent.0[1 - host][lane], "{tag} was never sent");
        assert!(seen.insert(tag), "{tag} came twice");
        let whole = got.body == pattern(u64::from(tag), got.body.len());
        assert!(whole, "{tag} was changed");
        if lane == 0 {
            assert_eq!(tag, next, "in order");
            next += 1;
        }
    }
    if clean {
        assert_eq!(
            world.reliable(host),
            sent.reliable(1 - host),
            "nothing is missing"
        );
        let unacknowledged = |said: &Said| matches!(said, Said::Closed(_, _, bytes) if *bytes > 0);
        assert!(host == 0 || !world.hosts[host].said.iter().any(unacknowledged));
    }
}

const SEEDS: Seeds<Outcome> = Seeds {
    package: "ringway-quic",
    test: "messages",
    count: 80,
    play: |seed, _print| {
        let outcome = hostile_run(seed);
        for (total, figure) in TOTALS.iter().zip(outcome.figures) {
            total.fetch_add(figure, Ordering::Relaxed);
        }
        outcome
    },
};

/// So that runs that do nothing can't pass for good ones.
static TOTALS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

#[test]
fn reliable_messages_survive_every_fault_of_the_network() {
    if SEEDS.run().is_none() {
        return;
    }
    let totals = TOTALS.each_ref().map(|total| total.load(Ordering::Relaxed));
    println!("[reliable, unreliable, rebinds, partitioned, clean, crashes] = {totals:?}");
    assert!(totals.iter().all(|total| *total > 10), "{totals:?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    SEEDS.are_deterministic(4_711..4_714);
}

#[test]
fn sent_counts_every_byte_when_the_peer_has_it() {
    let mut world = World::pair(3);
    let (_, client) = world.open();
    for (len, how) in [
        (100, Delivery::Ordered),
        (100_000, Delivery::Ordered),
        (30_000, Delivery::Unordered),
        (500, UNRELIABLE),
        (0, Delivery::Ordered),
    ] {
        world.send(1, client, 0, &pattern(1, len), how);
    }
    assert_eq!(world.sent_bytes(1), 0);
    assert!(world.run(Duration::from_secs(5), |world| {
        world.sent_bytes(1) == 130_600
    }));
}

#[test]
fn an_unordered_message_overtakes_a_large_ordered_one() {
    let mut world = World::pair(4);
    let (_, client) = world.open();
    world.send(1, client, 1, &pattern(1, 8 << 20), Delivery::Ordered);
    world.send(1, client, 2, b"quick", Delivery::Unordered);
    assert!(
        world.run(Duration::from_secs(30), |world| world.messages(0).len()
            == 2)
    );
    assert_eq!(world.messages(0)[0].header.tag, 2);
}

#[test]
fn an_unreliable_message_is_never_repeated_and_not_sent_too_late() {
    let mut world = World::pair(5);
    let (_, client) = world.open();
    world.net.config.faults.loss = Chance::ALWAYS;
    world.send(1, client, 1, b"lost", UNRELIABLE);
    world.pass(Duration::from_millis(500));
    world.net.config.faults.loss = Chance::NEVER;
    let deadline = Instant::from_nanos(1);
    world.send(1, client, 2, b"too late", Delivery::Unreliable { deadline });
    world.send(1, client, 3, b"arrives", UNRELIABLE);
    world.pass(Duration::from_secs(5));
    let tags: Vec<u16> = world.messages(0).iter().map(|got| got.header.tag).collect();
    assert_eq!(tags, [3]);
}

#[test]
fn messages_beyond_the_peers_limit_are_handed_back() {
    let (mut server, client) = world::configs();
    server.stream.message_bytes_max = 1_000;
    let mut world = World::with(6, server, client);
    let early = world.connect(1, 0);
    let message = world.outgoing(1, ringway_proto::Header::default(), b"x", Delivery::Ordered);
    let now = world.now;
    let refused = world.hosts[1].endpoint.send(early, message, now);
    assert!(matches!(refused, Err((_, SendRefusal::NotOpen))));
    assert!(world.run(Duration::from_secs(1), |world| world.opened(1).is_some()));
    for how in [Delivery::Ordered, Delivery::Unordered] {
        let message = world.outgoing(1, ringway_proto::Header::default(), &[1; 1_001], how);
        let refused = world.hosts[1].endpoint.send(early, message, now);
        let Err((message, refusal)) = refused else {
            panic!("taken");
        };
        assert_eq!(refusal, SendRefusal::TooLong { bytes_max: 1_000 });
        assert_eq!(message.body.len(), 1_001);
    }
    let body = pattern(1, 1_300);
    let message = world.outgoing(1, ringway_proto::Header::default(), &body, UNRELIABLE);
    let refused = world.hosts[1].endpoint.send(early, message, now);
    assert!(matches!(refused, Err((_, SendRefusal::TooLong { .. }))));
}

#[test]
fn a_paused_session_delivers_nothing_and_holds_no_more_than_its_window() {
    let mut world = World::pair(7);
    let (server, client) = world.open();
    let now = world.now;
    world.hosts[0].endpoint.pause(server, true, now);
    for tag in 0..8 {
        world.send(1, client, tag, &pattern(1, 1 << 20), Delivery::Ordered);
    }
    world.pass(Duration::from_secs(10));
    assert!(world.messages(0).is_empty());
    let sent = world.hosts[1].sent_bytes;
    assert!(sent < 2 << 20, "{sent} bytes for a window of 1 MiB");
    let now = world.now;
    world.hosts[0].endpoint.pause(server, false, now);
    assert!(
        world.run(Duration::from_secs(60), |world| world.messages(0).len()
            == 8)
    );
}

#[test]
fn no_more_unordered_messages_are_under_way_than_the_peer_allows() {
    let (mut server, client) = world::configs();
    server.parallel_max = 3;
    let mut world = World::with(17, server, client);
    let (server, client) = world.open();
    let now = world.now;
    world.hosts[0].endpoint.pause(server, true, now);
    for tag in 0..10 {
        world.send(1, client, tag, &pattern(1, 1_000), Delivery::Unordered);
    }
    world.pass(Duration::from_secs(5));
    let under_way = world.sent_bytes(1) / 1_000;
    assert_eq!(under_way, 3, "the others wait here");
    let now = world.now;
    world.hosts[0].endpoint.pause(server, false, now);
    assert!(
        world.run(Duration::from_secs(5), |world| world.messages(0).len()
            == 10)
    );
}

#[test]
fn no_more_bytes_are_under_way_than_the_send_window() {
    let (mut server, mut client) = world::configs();
    server.window_bytes = 16 << 20;
    client.send_window_bytes = 64 << 10;
    let mut world = World::with(18, server, client);
    let (_, client) = world.open();
    world.net.config.link.delay = Span::micros(20_000, 20_000);
    let began = world.now;
    let windows = 32_u32;
    world.send(
        1,
        client,
        1,
        &pattern(1, (windows as usize) * (64 << 10)),
        Delivery::Ordered,
    );
    assert!(world.run(Duration::from_secs(60), |world| {
        !world.messages(0).is_empty()
    }));
    let round_trip = 2 * world.net.config.link.delay.max;
    let took = world.now - began;
    assert!(took >= (windows - 1) * round_trip, "{took:?}");
}

#[test]
fn unreliable_messages_that_nobody_takes_give_way_to_newer_ones() {
    let (mut server, client) = world::configs();
    server.unreliable_bytes_max = 2 << 10;
    let mut world = World::with(19, server, client);
    let (server, client) = world.open();
    let now = world.now;
    world.hosts[0].endpoint.pause(server, true, now);
    for tag in 0..20 {
        world.send(1, client, tag, &pattern(1, 900), UNRELIABLE);
        world.pass(Duration::from_millis(10));
    }
    let now = world.now;
    world.hosts[0].endpoint.pause(server, false, now);
    world.pass(Duration::from_secs(1));
    let tags: Vec<u16> = world.messages(0).iter().map(|it| it.header.tag).collect();
    assert_eq!(tags, [18, 19], "two fit into 2 KiB");
}

#[test]
fn a_message_that_is_put_back_comes_again_first() {
    let mut world = World::pair(7);
    let (server, client) = world.open();
    world.send(1, client, 1, b"first", Delivery::Ordered);
    assert!(
        world.run(Duration::from_secs(10), |world| world.messages(0).len()
            == 1)
    );
    let now = world.now;
    world.hosts[0].endpoint.pause(server, true, now);
    let pools = ringway_buf::Pools::new(ringway_buf::PoolsConfig::default());
    let mut lease = pools.lease(64).unwrap();
    lease.reset(0);
    lease.append(6).unwrap().copy_from_slice(b"earlie");
    let header = ringway_proto::Header {
        length: 6,
        tag: 9,
        ..ringway_proto::Header::default()
    };
    world.hosts[0]
        .endpoint
        .put_back(server, header, lease.into_recv());
    world.send(1, client, 2, b"second", Delivery::Ordered);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.messages(0).len(), 1, "paused");
    let now = world.now;
    world.hosts[0].endpoint.pause(server, false, now);
    assert!(
        world.run(Duration::from_secs(10), |world| world.messages(0).len()
            == 3)
    );
    let tags: Vec<u16> = world.messages(0).iter().map(|it| it.header.tag).collect();
    assert_eq!(tags, [1, 9, 2]);
}

#[test]
fn both_sides_drain_without_losing_a_message() {
    let mut world = World::pair(8);
    world.net.config.faults.loss = Chance::percent(10);
    let (server, client) = world.open();
    for tag in 0..20 {
        let how = if tag % 2 == 0 {
            Delivery::Ordered
        } else {
            Delivery::Unordered
        };
        world.send(1, client, tag, &pattern(1, 3_000), how);
    }
    let now = world.now;
    world.hosts[1].endpoint.drain(client, now);
    world.hosts[1].endpoint.finish(client, now);
    let message = world.outgoing(1, ringway_proto::Header::default(), b"x", Delivery::Ordered);
    let refused = world.hosts[1].endpoint.send(client, message, now);
    assert_eq!(refused.unwrap_err().1, SendRefusal::Closed);
    let heard = |world: &World, host: usize, what: fn(&Said) -> bool| {
        world.hosts[host].said.iter().any(what)
    };
    assert!(world.run(Duration::from_secs(30), |world| {
        heard(world, 0, |said| matches!(said, Said::Draining(_)))
    }));
    let now = world.now;
    world.hosts[0].endpoint.finish(server, now);
    assert!(world.run(Duration::from_secs(30), |world| {
        heard(world, 0, |said| matches!(said, Said::Drained(_)))
            && heard(world, 1, |said| matches!(said, Said::Drained(_)))
    }));
    assert_eq!(world.messages(0).len(), 20);
    let now = world.now;
    world.hosts[0]
        .endpoint
        .close(server, CloseCode::Drained, now);
    world.hosts[1]
        .endpoint
        .close(client, CloseCode::Drained, now);
    world.run_to_ends();
    for host in [0, 1] {
        let end = world.end(host);
        let drained = matches!(
            end,
            Some(SessionEnd::Local(CloseCode::Drained) | SessionEnd::Peer(CloseCode::Drained))
        );
        assert!(drained, "{end:?}");
    }
    world.assert_silent();
}

#[test]
fn what_was_accepted_before_close_still_arrives() {
    let mut world = World::pair(9);
    world.net.config.faults.loss = Chance::percent(10);
    let (_, client) = world.open();
    world.send(1, client, 1, &pattern(1, 300_000), Delivery::Ordered);
    world.send(1, client, 2, &pattern(2, 300_000), Delivery::Unordered);
    let now = world.now;
    world.hosts[1]
        .endpoint
        .close(client, CloseCode::Normal, now);
    world.run_to_ends();
    assert_eq!(world.messages(0).len(), 2);
    let last = world.hosts[0].said.last();
    assert!(matches!(last, Some(Said::Closed(..))), "the end comes last");
    world.assert_silent();
}

#[test]
fn an_abort_is_told_and_counts_what_was_not_sent() {
    let mut world = World::pair(10);
    let (_, client) = world.open();
    world.send(1, client, 1, &pattern(1, 5_000_000), Delivery::Ordered);
    world.pass(Duration::from_millis(1));
    let now = world.now;
    world.hosts[1].endpoint.abort(client, now);
    world.run_to_ends();
    assert_eq!(world.end(0), Some(SessionEnd::Reset));
    let unsent = world.hosts[1].said.iter().find_map(|said| match said {
        Said::Closed(_, _, unsent) => Some(*unsent),
        _ => None,
    });
    assert!(unsent.is_some_and(|unsent| unsent > 0));
    world.assert_silent();
}

#[test]
fn a_receiver_without_memory_waits_and_goes_on() {
    let (server, client) = world::configs();
    let mut world = World::new(11);
    let pools = ringway_buf::PoolsConfig {
        budget_bytes: (1 << 20) + 300_000,
        ..ringway_buf::PoolsConfig::default()
    };
    world.add_with(server, 11, pools);
    world.add(client, 12);
    let (_, client) = world.open();
    let pools = std::rc::Rc::clone(&world.hosts[0].pools);
    let hog: Vec<_> = std::iter::from_fn(|| pools.lease(4_096)).collect();
    assert!(!hog.is_empty());
    world.send(1, client, 1, b"waits", Delivery::Ordered);
    world.pass(Duration::from_millis(50));
    assert!(world.messages(0).is_empty() && world.ends(0).is_empty());
    drop(hog);
    assert!(world.run(Duration::from_secs(1), |world| world.messages(0).len() == 1));
}
