//! Lanes: messages that keep their order among each other and wait for nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod world;

use std::time::Duration;

use ringway_proto::packet::{Delivery, PacketEndpoint, SessionEnd, SessionId, Ways};
use ringway_proto::{CloseCode, Header};
use ringway_sim::{Chance, PathConfig, Span};
use world::{Rng, World, pattern};

const fn lane(lane: u32) -> Delivery {
    Delivery::Lane { lane, last: false }
}

const fn last(lane: u32) -> Delivery {
    Delivery::Lane { lane, last: true }
}

fn tags(world: &World, host: usize) -> Vec<u16> {
    let messages = world.messages(host);
    messages.iter().map(|got| got.header.tag).collect()
}

/// Lets the client send now, and the network lose all of it.
fn lose(world: &mut World) {
    world.net.config.faults.loss = Chance::ALWAYS;
    world.pass(Duration::from_nanos(1));
    world.net.config.faults.loss = Chance::NEVER;
}

/// Whether a message of `late`, sent when one of `early` was lost, is there before it. The path is measured before, so
/// that repair takes its time and no more.
fn overtakes(early: Delivery, late: Delivery, len: usize) -> bool {
    let mut world = World::pair(1);
    let (_, client) = world.open();
    world.pass(Duration::from_secs(1));
    world.send(1, client, 1, &pattern(1, len), early);
    lose(&mut world);
    let begun = world.now;
    world.send(1, client, 2, b"quick", late);
    let limit = Duration::from_secs(20);
    assert!(world.run(limit, |world| !world.messages(0).is_empty()));
    let first = tags(&world, 0);
    let took = world.now - begun;
    assert!(world.run(limit, |world| world.messages(0).len() == 2));
    let one_way = world.net.config.link.delay.max;
    assert_eq!(first == [2], took <= one_way, "{took:?}");
    first == [2]
}

// docs/wire/quic.md#lanes
#[test]
fn what_a_lane_loses_delays_no_other_message() {
    for len in [100, 5_000] {
        assert!(overtakes(lane(1), Delivery::Ordered, len));
        assert!(overtakes(lane(1), lane(2), len));
        let own = len > 4_096;
        let why = "a short lane of one message is not worth a stream";
        assert_eq!(overtakes(last(1), Delivery::Ordered, len), own, "{why}");
        assert!(!overtakes(lane(1), lane(1), len), "it keeps its order");
    }
}

// docs/wire/quic.md#lanes
#[test]
fn a_lane_begins_behind_what_was_ordered_before_it_and_then_waits_no_more() {
    assert!(!overtakes(Delivery::Ordered, lane(1), 100));
    let mut world = World::pair(2);
    let (_, client) = world.open();
    world.pass(Duration::from_secs(1));
    world.send(1, client, 1, b"begins", lane(1));
    assert!(world.run(Duration::from_secs(1), |world| world.messages(0).len() == 1));
    world.send(1, client, 2, b"lost", Delivery::Ordered);
    lose(&mut world);
    world.send(1, client, 3, b"goes on", lane(1));
    assert!(world.run(Duration::from_secs(9), |world| world.messages(0).len() == 3));
    assert_eq!(tags(&world, 0), [1, 3, 2]);
}

/// Lanes have all under way that they may, on a path that is long and wide, and other messages find room in the window
/// all the same: they need no more than the way takes.
#[test]
fn full_lanes_leave_room_in_the_window() {
    let mut world = World::pair(3);
    world.net.config.link.delay = Span::micros(10_000, 10_000);
    let (_, client) = world.open();
    for tag in 0..90 {
        let name = u32::from(tag % 5);
        world.send(1, client, tag, &pattern(1, 200_000), lane(name));
    }
    // Until the window is what holds them up.
    world.pass(Duration::from_millis(300));
    for tag in 100..110 {
        let begun = world.now;
        world.send(1, client, tag, b"quick", Delivery::Ordered);
        let came = |world: &World| tags(world, 0).contains(&tag);
        assert!(world.run(Duration::from_secs(1), came));
        let one_way = world.net.config.link.delay.max;
        assert_eq!(world.now - begun, one_way, "{tag}");
    }
    assert!(world.messages(0).len() < 100, "they were full till now");
}

#[test]
fn lanes_that_live_long_leave_a_stream_for_unordered_messages() {
    for parallel_max in 1..5 {
        let (mut server, client) = world::configs();
        server.parallel_max = parallel_max;
        let mut world = World::with(4, server, client);
        let (_, client) = world.open();
        for tag in 0..40 {
            world.send(1, client, tag, b"lives", lane(tag.into()));
        }
        for tag in 100..110 {
            world.send(1, client, tag, b"alone", Delivery::Unordered);
        }
        assert!(
            world.run(Duration::from_secs(9), |world| world.messages(0).len()
                == 50)
        );
    }
}

/// More lanes than there are streams: those that find none go in order, and move when there is one.
#[test]
fn lanes_beyond_the_streams_arrive_all_the_same_and_in_order() {
    for (parallel_max, seed) in [(64, 0), (3, 1), (2, 2), (1, 3)] {
        let (mut server, client) = world::configs();
        server.parallel_max = parallel_max;
        let mut world = World::with(10 + seed, server, client);
        let (_, client) = world.open();
        world.net.config.faults.loss = Chance::percent(5);
        world.net.config.link.jitter = Duration::from_micros(300);
        for round in 0..10 {
            for name in 0..100_u16 {
                let how = if round == 9 {
                    last(name.into())
                } else {
                    lane(name.into())
                };
                let len = usize::from(name) * 30;
                world.send(
                    1,
                    client,
                    name * 10 + round,
                    &pattern(round.into(), len),
                    how,
                );
            }
            world.send(1, client, 9_000 + round, b"alone", Delivery::Unordered);
            world.pass(Duration::from_millis(2));
        }
        assert!(
            world.run(Duration::from_secs(60), |world| world.messages(0).len()
                == 1_010)
        );
        let mut next = [0; 100];
        for got in world
            .messages(0)
            .iter()
            .filter(|got| got.header.tag < 9_000)
        {
            let (name, round) = (got.header.tag / 10, got.header.tag % 10);
            let next = &mut next[usize::from(name)];
            assert_eq!(*next, round, "lane {name}");
            assert_eq!(got.body, pattern(round.into(), usize::from(name) * 30));
            *next += 1;
        }
        // Streams of lanes that ended are free again, for the end of the session too.
        world.net.config.faults.loss = Chance::NEVER;
        drained(&mut world, client);
    }
}

/// Takes a session to its end in two steps, from the client's side.
fn drained(world: &mut World, client: SessionId) {
    let now = world.now;
    let server = world.opened(0).unwrap();
    for (host, session) in [(0, server), (1, client)] {
        world.hosts[host].endpoint.drain(session, now);
        world.hosts[host].endpoint.finish(session, now);
    }
    let said = |world: &World, host: usize| {
        let said = &world.hosts[host].said;
        said.iter()
            .any(|said| matches!(said, world::Said::Drained(_)))
    };
    assert!(world.run(Duration::from_secs(9), |world| said(world, 0)
        && said(world, 1)));
    let now = world.now;
    for (host, session) in [(0, server), (1, client)] {
        world.hosts[host]
            .endpoint
            .close(session, CloseCode::Drained, now);
    }
    world.run_to_ends();
    assert_eq!(world.end(1), Some(SessionEnd::Local(CloseCode::Drained)));
    world.assert_silent();
}

// docs/wire/quic.md#lanes
#[test]
fn a_lane_that_nobody_ended_ends_with_the_session() {
    let mut world = World::pair(5);
    let (server, client) = world.open();
    world.send(1, client, 1, &pattern(1, 50_000), lane(1));
    world.send(0, server, 2, b"back", lane(1));
    drained(&mut world, client);
    let mut world = World::pair(6);
    let (_, client) = world.open();
    world.send(1, client, 1, &pattern(1, 50_000), lane(1));
    let now = world.now;
    world.hosts[1]
        .endpoint
        .close(client, CloseCode::Normal, now);
    world.run_to_ends();
    assert_eq!(tags(&world, 0), [1]);
    assert_eq!(world.end(0), Some(SessionEnd::Peer(CloseCode::Normal)));
    world.assert_silent();
}

/// The end of a session waits for messages that lack memory at the other end.
#[test]
fn an_announced_end_does_not_cut_messages_that_lack_memory() {
    let mut world = World::pair(13);
    let (server, client) = world.open();
    let pools = std::rc::Rc::clone(&world.hosts[0].pools);
    let hoard: Vec<_> = std::iter::from_fn(|| pools.lease(1 << 20)).collect();
    for tag in 1..4 {
        world.send(1, client, tag, &pattern(tag.into(), 150_000), lane(1));
    }
    let now = world.now;
    for (host, session) in [(0, server), (1, client)] {
        world.hosts[host].endpoint.drain(session, now);
        world.hosts[host].endpoint.finish(session, now);
    }
    world.pass(Duration::from_secs(1));
    assert!(tags(&world, 0).is_empty(), "there is no memory for any");
    drop(hoard);
    let all = |world: &World| tags(world, 0) == [1, 2, 3];
    assert!(world.run(Duration::from_secs(1), all), "{:?}", world.end(0));
    drained(&mut world, client);
}

// docs/wire/quic.md#lanes
#[test]
fn a_dropped_lane_is_given_back_at_both_ends_and_harms_no_other() {
    let mut world = World::pair(7);
    let (server, client) = world.open();
    let now = world.now;
    // Nothing is read there, so that the lane fills all it may.
    world.hosts[0].endpoint.pause(server, true, now);
    for tag in 0..20 {
        world.send(1, client, tag, &pattern(1, 100_000), lane(1));
    }
    world.send(1, client, 50, b"short", lane(1));
    world.pass(Duration::from_secs(1));
    let before = world.sent_bytes(1);
    assert!(before < 1 << 20, "{before} bytes for a window of 1 MiB");
    let now = world.now;
    world.hosts[1].endpoint.drop_lane(client, 1, now);
    world.hosts[1].endpoint.drop_lane(client, 99, now);
    world.send(1, client, 100, &pattern(2, 900_000), Delivery::Ordered);
    world.send(1, client, 101, b"again", last(1));
    world.pass(Duration::from_secs(1));
    let all = 20 * 100_000 + 5;
    assert!(world.sent_bytes(1) >= all, "its memory came back");
    let now = world.now;
    world.hosts[0].endpoint.pause(server, false, now);
    let came = |world: &World| tags(world, 0).contains(&101);
    assert!(world.run(Duration::from_secs(9), came));
    assert_eq!(tags(&world, 0), [100, 101], "nothing of the dropped lane");
    assert_eq!(world.sent_bytes(1), all + 900_005);
    drained(&mut world, client);
}

/// Behind its last message a lane's name is free, even if the lane itself is still on its way.
#[test]
fn a_name_that_is_free_again_names_another_lane() {
    let mut world = World::pair(12);
    let (_, client) = world.open();
    world.pass(Duration::from_secs(1));
    world.send(1, client, 1, &pattern(1, 5_000), last(1));
    world.send(1, client, 2, b"another", lane(1));
    lose(&mut world);
    world.send(1, client, 3, b"behind it", lane(1));
    world.send(1, client, 4, b"its last", last(1));
    assert!(world.run(Duration::from_secs(9), |world| world.messages(0).len() == 4));
    let mut order = tags(&world, 0);
    order.retain(|tag| *tag > 1);
    assert_eq!(order, [2, 3, 4]);
    // Who drops a name drops all lanes that have it.
    let now = world.now;
    for tag in 10..13 {
        world.send(1, client, tag, &pattern(1, 5_000), last(2));
    }
    world.hosts[1].endpoint.drop_lane(client, 2, now);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.messages(0).len(), 4);
    drained(&mut world, client);
}

#[test]
fn lanes_come_and_go_for_ever() {
    let mut world = World::pair(8);
    let (_, client) = world.open();
    for round in 0..300_u16 {
        let name = u32::from(round);
        world.send(1, client, round, &pattern(1, 3_000), lane(name));
        world.send(1, client, round, b"last", last(name));
        if round % 3 == 0 {
            let now = world.now;
            world.send(1, client, 1_000, &pattern(1, 9_000), lane(7_777));
            // One whose bytes are still being gathered, too.
            world.send(1, client, 1_000, b"short", lane(7_777));
            world.hosts[1].endpoint.drop_lane(client, 7_777, now);
        }
        world.pass(Duration::from_millis(1));
    }
    let all = 300 * 3_004 + 100 * 9_005;
    assert!(world.run(Duration::from_secs(9), |world| {
        world.messages(0).len() == 600 && world.sent_bytes(1) == all
    }));
    drained(&mut world, client);
}

#[test]
fn a_session_tells_which_ways_it_has() {
    let mut world = World::pair(9);
    let (_, client) = world.open();
    let ways = world.hosts[1].endpoint.ways(client);
    assert!(ways.lanes && ways.unordered_bytes_min > 0);
    let most = ways.unreliable_bytes_max as usize;
    assert!((1_000..1_452).contains(&most), "{most}");
    let body = pattern(1, most);
    let message = world.outgoing(
        1,
        Header::message(0, 1, 0),
        &body,
        Delivery::Unreliable {
            deadline: ringway_buf::Instant::MAX,
        },
    );
    let now = world.now;
    assert!(world.hosts[1].endpoint.send(client, message, now).is_ok());
    let unknown = SessionId(ringway_buf::Id::from_parts(77, 3));
    assert_eq!(world.hosts[1].endpoint.ways(unknown), Ways::ONE);
}

/// Lanes over a network with every fault of the model: each message exactly once and each lane in its order. Of those
/// that were dropped nothing comes twice, and what comes is in order.
fn swarm(seed: u64) {
    const NAMES: usize = 8 * 81;
    let patient = |mut config: ringway_quic::QuicConfig| {
        config.stream.handshake_timeout = Duration::from_secs(60);
        config.stream.keepalive_timeout = Duration::from_secs(60);
        config.parallel_max = [2, 8, 64][usize::try_from(seed % 3).unwrap()];
        config
    };
    let (server, client) = world::configs();
    let mut world = World::with(seed, patient(server), patient(client));
    let mut rng = Rng::new(seed);
    let (server, client) = world.open();
    world.net.config = PathConfig::swarm(seed);
    // By name: how many were sent. Of eight at a time, the last two are dropped now and then.
    let mut sent = [[0_u64; NAMES]; 2];
    let mut lives = [[0; 8]; 2];
    for _ in 0..80 {
        let host = usize::from(rng.hits(500));
        let session = [server, client][host];
        let line = usize::try_from(rng.below(8)).unwrap();
        let name = line + 8 * lives[host][line];
        let len = usize::try_from(rng.below(100) * rng.below(100) * rng.below(10)).unwrap();
        let tag = u16::try_from(name).unwrap();
        let last = rng.hits(200);
        // After its end a name means another lane, which may overtake.
        lives[host][line] += usize::from(last);
        let lane = tag.into();
        let how = Delivery::Lane { lane, last };
        let number = sent[host][name];
        let header = Header::message(0, tag, number);
        let message = world.outgoing(host, header, &pattern(number, len), how);
        let now = world.now;
        if world.hosts[host]
            .endpoint
            .send(session, message, now)
            .is_err()
        {
            break;
        }
        sent[host][name] += 1;
        if line > 5 && rng.hits(300) {
            world.hosts[host]
                .endpoint
                .drop_lane(session, tag.into(), now);
        }
        if rng.hits(600) {
            world.pass(Duration::from_micros(rng.below(20_000)));
        }
    }
    let mut healed = PathConfig::default();
    healed.link.delay = world.net.config.link.delay;
    world.net.config = healed;
    let kept = |world: &World, host: usize| {
        let messages = world.messages(host);
        messages.iter().filter(|got| got.header.tag % 8 < 6).count() as u64
    };
    let wanted = |host: usize| {
        (0..NAMES)
            .filter(|name| name % 8 < 6)
            .map(|name| sent[1 - host][name])
            .sum::<u64>()
    };
    let done = world.run(Duration::from_secs(300), |world| {
        world.end(1).is_some() || (0..2).all(|host| kept(world, host) == wanted(host))
    });
    assert!(done, "seed {seed}: {:?}", PathConfig::swarm(seed));
    for host in 0..2 {
        let mut next = [0; NAMES];
        for got in world.messages(host) {
            let (name, number) = (usize::from(got.header.tag), got.header.word);
            assert!(
                number >= next[name],
                "seed {seed}: {name} in order and once"
            );
            assert!(
                name % 8 > 5 || number == next[name],
                "seed {seed}: {name} lacks one"
            );
            assert_eq!(got.body, pattern(number, got.body.len()), "seed {seed}");
            next[name] = number + 1;
        }
    }
    if world.end(1).is_none() {
        drained(&mut world, client);
    }
}

#[test]
fn lanes_survive_what_networks_do() {
    for seed in 0..60 {
        swarm(seed);
    }
}
