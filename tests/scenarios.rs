//! What users rely on, the same on every driver: both ends are stepped on one thread.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod world;

use std::time::Duration;

use ringway::{CloseCode, Counter, Limits, OpenError, SendError, kind};
use world::{App, Pair, World, config, config_with, pattern};

on_every_driver![
    messages_arrive_in_order_with_their_labels,
    every_size_arrives_intact,
    many_small_messages_share_a_turn,
    unix_sockets_carry_messages,
    a_full_queue_hands_back_and_writable_follows,
    a_peer_that_does_not_read_costs_bounded_memory,
    pausing_stops_delivery_and_resuming_loses_nothing,
    closing_delivers_what_was_queued_and_both_sides_learn_why,
    draining_finishes_both_directions_before_the_end,
    a_held_connection_outlives_the_peers_drain,
    a_drained_engine_ends_its_run,
    a_panicking_handler_costs_only_its_connection,
    connecting_to_nobody_fails_with_the_reason,
    a_connection_closed_before_it_began_is_never_made,
    an_aborted_claim_leaves_no_trace,
    a_shorter_commit_sends_only_that_much,
    one_slice_goes_to_many_without_copies,
    a_lease_is_sent_in_place,
    retained_messages_outlive_the_engine,
    a_stale_connection_is_refused,
    a_message_beyond_the_peers_limit_is_refused_here,
    timers_fire_once_and_can_be_cancelled,
    more_connections_than_the_limit_are_refused,
    more_listeners_than_the_limit_are_refused,
    a_refused_accept_closes_the_peer,
    large_messages_wait_for_memory_and_then_arrive,
    an_idle_connection_is_closed_after_its_time,
    dropping_an_engine_ends_its_peers_connections,
];

over_quic![
    messages_arrive_in_order_with_their_labels,
    every_size_arrives_intact,
    many_small_messages_share_a_turn,
    a_full_queue_hands_back_and_writable_follows,
    a_peer_that_does_not_read_costs_bounded_memory,
    pausing_stops_delivery_and_resuming_loses_nothing,
    closing_delivers_what_was_queued_and_both_sides_learn_why,
    draining_finishes_both_directions_before_the_end,
    a_held_connection_outlives_the_peers_drain,
    a_drained_engine_ends_its_run,
    a_panicking_handler_costs_only_its_connection,
    a_connection_closed_before_it_began_is_never_made,
    an_aborted_claim_leaves_no_trace,
    a_shorter_commit_sends_only_that_much,
    one_slice_goes_to_many_without_copies,
    a_lease_is_sent_in_place,
    retained_messages_outlive_the_engine,
    a_stale_connection_is_refused,
    a_message_beyond_the_peers_limit_is_refused_here,
    more_connections_than_the_limit_are_refused,
    a_refused_accept_closes_the_peer,
    large_messages_wait_for_memory_and_then_arrive,
    an_idle_connection_is_closed_after_its_time,
    dropping_an_engine_ends_its_peers_connections,
];

over_reliable_udp![
    messages_arrive_in_order_with_their_labels,
    every_size_arrives_intact,
    many_small_messages_share_a_turn,
    a_full_queue_hands_back_and_writable_follows,
    a_peer_that_does_not_read_costs_bounded_memory,
    pausing_stops_delivery_and_resuming_loses_nothing,
    closing_delivers_what_was_queued_and_both_sides_learn_why,
    draining_finishes_both_directions_before_the_end,
    a_held_connection_outlives_the_peers_drain,
    a_drained_engine_ends_its_run,
    a_panicking_handler_costs_only_its_connection,
    a_connection_closed_before_it_began_is_never_made,
    an_aborted_claim_leaves_no_trace,
    a_shorter_commit_sends_only_that_much,
    one_slice_goes_to_many_without_copies,
    a_lease_is_sent_in_place,
    retained_messages_outlive_the_engine,
    a_stale_connection_is_refused,
    a_message_beyond_the_peers_limit_is_refused_here,
    more_connections_than_the_limit_are_refused,
    a_refused_accept_closes_the_peer,
    large_messages_wait_for_memory_and_then_arrive,
    an_idle_connection_is_closed_after_its_time,
    dropping_an_engine_ends_its_peers_connections,
];

fn messages_arrive_in_order_with_their_labels(world: World) {
    let mut pair = Pair::new(world);
    let (client, server) = pair.connected("tcp");
    for number in 0..100_u16 {
        let mut cx = pair.client.engine.context();
        let mut claim = cx
            .claim(client, 2)
            .unwrap()
            .tag(number)
            .word(u64::from(number) << 40);
        claim.copy_from_slice(&number.to_le_bytes());
        claim.commit();
    }
    pair.until("all arrived", |pair| pair.server.app.got.len() == 100);
    for (number, got) in (0..100_u16).zip(&pair.server.app.got) {
        assert_eq!(got.body, number.to_le_bytes());
        assert_eq!((got.tag, got.word), (number, u64::from(number) << 40));
        assert_eq!((got.kind, got.connection), (kind::MESSAGE, server));
    }
}

fn every_size_arrives_intact(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let (client, _) = pair.connected("tcp");
    let edges = [
        0,
        16,
        4 << 10,
        16 << 10,
        32 << 10,
        60 << 10,
        64 << 10,
        128 << 10,
        1 << 20,
    ];
    let sizes: Vec<usize> = edges
        .into_iter()
        .flat_map(|edge: usize| {
            [
                edge.saturating_sub(17),
                edge.saturating_sub(1),
                edge,
                edge + 1,
            ]
        })
        .chain([5 << 20])
        .collect();
    pair.assert_echoed(client, &sizes);
}

fn many_small_messages_share_a_turn(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    for round in 0..20_u64 {
        for number in 0..500_u64 {
            pair.client
                .send(
                    client,
                    &pattern(usize::try_from(number % 70).unwrap(), round * 500 + number),
                )
                .unwrap();
        }
        let arrived = usize::try_from(round + 1).unwrap() * 500;
        pair.until("a round arrived", |pair| {
            pair.server.app.got.len() == arrived
        });
    }
    for (number, got) in pair.server.app.got.iter().enumerate() {
        assert_eq!(got.body, pattern(number % 500 % 70, number as u64));
    }
}

fn unix_sockets_carry_messages(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let (client, _) = pair.connected("unix");
    for size in [0, 64, 5000, 70_000, 300_000] {
        pair.client.send(client, &pattern(size, 3)).unwrap();
    }
    pair.until("all came back", |pair| pair.client.app.got.len() == 5);
    assert_eq!(pair.client.app.got[4].body, pattern(300_000, 3));
}

fn a_full_queue_hands_back_and_writable_follows(world: World) {
    let limits = Limits {
        queue_bytes_max: 64 << 10,
        ..Limits::default()
    };
    let mut pair = Pair::with(world, config().limits(limits), config());
    let (client, server) = pair.connected("tcp");
    pair.server.engine.context().pause(server, true);
    let body = pattern(8 << 10, 1);
    let mut accepted = 0;
    pair.until("full", |pair| match pair.client.send(client, &body) {
        Ok(()) => {
            accepted += 1;
            false
        }
        Err(error) => {
            assert_eq!(error, SendError::Full);
            true
        }
    });
    let slice = {
        let mut lease = pair.client.engine.context().lease(8 << 10).unwrap();
        lease.append(8 << 10).unwrap().fill(9);
        lease.freeze()
    };
    let back = pair
        .client
        .engine
        .context()
        .send_slice(client, slice.clone())
        .unwrap_err();
    assert_eq!(back.error, SendError::Full);
    assert_eq!(
        back.message.bytes(),
        slice.bytes(),
        "the message comes back untouched"
    );
    assert_eq!(pair.client.app.writable, 0);
    pair.server.engine.context().pause(server, false);
    pair.until("writable", |pair| pair.client.app.writable > 0);
    pair.client.send(client, b"last").unwrap();
    pair.until("all arrived", |pair| {
        pair.server.app.got.len() == accepted + 1
    });
    assert!(
        pair.server.app.got[..accepted]
            .iter()
            .all(|got| got.body == body)
    );
    assert_eq!(pair.client.app.writable, 1, "once for each Full");
}

fn a_peer_that_does_not_read_costs_bounded_memory(world: World) {
    let limits = Limits {
        queue_bytes_max: 256 << 10,
        ..Limits::default()
    };
    let mut pair = Pair::with(world, config().limits(limits), config());
    let (client, server) = pair.connected("tcp");
    let before = pair.client.engine.budget().used();
    pair.server.engine.context().pause(server, true);
    let body = pattern(1000, 1);
    let mut refused = 0;
    pair.until("refused often", |pair| {
        refused += u32::from(pair.client.send(client, &body).is_err());
        refused == 1000
    });
    let held = pair.client.engine.budget().used() - before;
    // A datagram socket's receive buffers are the driver's, not the peer's.
    let receiving = if world::is_over("rudp") { 512 << 10 } else { 0 };
    assert!(
        held <= (256 << 10) + (256 << 10) + receiving,
        "{held} bytes for one peer that never reads"
    );
}

fn pausing_stops_delivery_and_resuming_loses_nothing(world: World) {
    let mut pair = Pair::new(world);
    let (client, server) = pair.connected("tcp");
    for round in 0..10_u64 {
        pair.server.engine.context().pause(server, true);
        let before = pair.server.app.got.len();
        for number in 0..50 {
            pair.client
                .send(client, &pattern(300, round * 50 + number))
                .unwrap();
        }
        pair.steps(20);
        assert_eq!(pair.server.app.got.len(), before, "paused");
        pair.server.engine.context().pause(server, false);
        pair.until("resumed", |pair| pair.server.app.got.len() == before + 50);
    }
    for (number, got) in pair.server.app.got.iter().enumerate() {
        assert_eq!(got.body, pattern(300, number as u64));
    }
}

fn closing_delivers_what_was_queued_and_both_sides_learn_why(world: World) {
    let mut pair = Pair::new(world);
    let (client, server) = pair.connected("tcp");
    for number in 0..200 {
        pair.client.send(client, &pattern(1000, number)).unwrap();
    }
    pair.client
        .engine
        .context()
        .close(client, CloseCode::Normal);
    assert_eq!(pair.client.send(client, b"late"), Err(SendError::Closed));
    pair.until("both closed", |pair| {
        pair.client.app.closed.len() == 1 && pair.server.app.closed.len() == 1
    });
    assert_eq!(pair.server.app.got.len(), 200);
    assert_eq!(pair.client.app.reason(client).unwrap(), "Local(Normal)");
    assert_eq!(pair.server.app.reason(server).unwrap(), "Peer(Normal)");
    assert_eq!(pair.client.app.closed[0].unsent_bytes, 0);
}

fn draining_finishes_both_directions_before_the_end(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App::echo();
    let (client, server) = pair.connected("tcp");
    for number in 0..100 {
        pair.client.send(client, &pattern(500, number)).unwrap();
    }
    pair.client.engine.context().drain(client);
    pair.until("both closed", |pair| {
        pair.client.app.closed.len() == 1 && pair.server.app.closed.len() == 1
    });
    assert_eq!(
        pair.server.app.got.len(),
        100,
        "what was sent before the drain arrives"
    );
    assert_eq!(pair.server.app.draining, [server]);
    assert_eq!(pair.client.app.reason(client).unwrap(), "Drained");
    assert_eq!(pair.server.app.reason(server).unwrap(), "Drained");
}

fn a_held_connection_outlives_the_peers_drain(world: World) {
    let mut pair = Pair::new(world);
    let (client, server) = pair.connected("tcp");
    pair.server.engine.context().hold(server, true);
    pair.client.engine.context().drain(client);
    pair.until("the server knows", |pair| {
        !pair.server.app.draining.is_empty()
    });
    for number in 0..5 {
        pair.server.send(server, &pattern(10, number)).unwrap();
        let count = usize::try_from(number).unwrap() + 1;
        pair.until("still delivered", |pair| pair.client.app.got.len() == count);
    }
    assert!(pair.client.app.closed.is_empty());
    pair.server.engine.context().hold(server, false);
    pair.until("closed", |pair| !pair.client.app.closed.is_empty());
    assert_eq!(pair.client.app.reason(client).unwrap(), "Drained");
}

fn a_drained_engine_ends_its_run(world: World) {
    let mut pair = Pair::new(world);
    let (first, _) = pair.connected("tcp");
    pair.connected("tcp");
    pair.client.send(first, b"hello").unwrap();
    pair.until("arrived", |pair| pair.server.app.got.len() == 1);
    pair.server.engine.drain();
    assert!(
        pair.server.engine.listen("tcp://127.0.0.1:0").is_err(),
        "nothing new"
    );
    pair.until("all closed", |pair| pair.server.app.closed.len() == 2);
    pair.server.engine.run(&mut pair.server.app);
    assert_eq!(pair.server.engine.stats().connections, 0);
}

fn a_panicking_handler_costs_only_its_connection(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app = App {
        panic_on: Some(b"boom".to_vec()),
        ..App::echo()
    };
    let (bad, bad_server) = pair.connected("tcp");
    let (good, _) = pair.connected("tcp");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    pair.client.send(bad, b"boom").unwrap();
    pair.client.send(good, b"fine").unwrap();
    pair.until("one closed, one served", |pair| {
        pair.client.app.closed.len() == 1 && pair.client.app.got.len() == 1
    });
    std::panic::set_hook(hook);
    assert_eq!(pair.client.app.reason(bad).unwrap(), "Peer(Internal)");
    pair.until("server closed it", |pair| {
        !pair.server.app.closed.is_empty()
    });
    assert_eq!(
        pair.server.app.reason(bad_server).unwrap(),
        "HandlerPanicked"
    );
    pair.client.send(good, b"again").unwrap();
    pair.until("the engine lives", |pair| pair.client.app.got.len() == 2);
}

fn connecting_to_nobody_fails_with_the_reason(world: World) {
    let mut pair = Pair::new(world);
    // A port that was just free.
    let (listener, address) = pair.listening("tcp://127.0.0.1:0");
    pair.server.engine.unlisten(listener);
    pair.steps(5);
    let connection = pair.client.engine.connect(&address).unwrap();
    assert_eq!(
        pair.client.send(connection, b"early"),
        Err(SendError::NotOpen)
    );
    pair.until("refused", |pair| pair.client.app.closed.len() == 1);
    let reason = pair.client.app.closed[0].text.clone();
    assert!(reason.contains("is the server running"), "{reason}");
    let missing = pair
        .client
        .engine
        .connect("unix:///nonexistent/ringway.sock")
        .unwrap();
    pair.until("refused", |pair| pair.client.app.reason(missing).is_some());
}

fn an_aborted_claim_leaves_no_trace(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    let mut cx = pair.client.engine.context();
    cx.send(client, b"one").unwrap();
    drop(cx.claim(client, 100).unwrap());
    drop(cx.claim(client, 1 << 20).unwrap());
    cx.send(client, b"two").unwrap();
    drop(cx.claim(client, 0).unwrap());
    pair.until("arrived", |pair| pair.server.app.got.len() == 2);
    pair.steps(5);
    let bodies: Vec<_> = pair
        .server
        .app
        .got
        .iter()
        .map(|got| got.body.clone())
        .collect();
    assert_eq!(bodies, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(pair.client.engine.context().queued_bytes(client), Some(0));
}

fn a_shorter_commit_sends_only_that_much(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    for (room, len) in [
        (100, 0),
        (100, 1),
        (100, 84),
        (100, 100),
        (1 << 20, 3),
        (64, 64),
    ] {
        let mut cx = pair.client.engine.context();
        let mut claim = cx.claim(client, room).unwrap();
        claim.fill(7);
        claim.commit_len(len);
    }
    pair.until("arrived", |pair| pair.server.app.got.len() == 6);
    let lens: Vec<_> = pair
        .server
        .app
        .got
        .iter()
        .map(|got| got.body.len())
        .collect();
    assert_eq!(lens, [0, 1, 84, 100, 3, 64]);
    assert!(
        pair.server
            .app
            .got
            .iter()
            .all(|got| got.body.iter().all(|byte| *byte == 7))
    );
}

fn one_slice_goes_to_many_without_copies(world: World) {
    let mut pair = Pair::new(world);
    let ends: Vec<_> = (0..4).map(|_| pair.connected("tcp").0).collect();
    let mut lease = pair.client.engine.context().lease(100_003).unwrap();
    lease
        .append(100_003)
        .unwrap()
        .copy_from_slice(&pattern(100_003, 5));
    let slice = lease.freeze();
    let before = ringway::copies();
    for end in &ends {
        let mut cx = pair.client.engine.context();
        cx.send_slice(*end, slice.clone()).unwrap();
        cx.send_slice(*end, slice.subslice(5..22).unwrap()).unwrap();
        cx.send(*end, b"behind").unwrap();
    }
    assert_eq!(ringway::copies(), before, "fan-out copies nothing");
    pair.until("arrived", |pair| pair.server.app.got.len() == 12);
    for end in 0..4 {
        let of: Vec<_> = pair
            .server
            .app
            .got
            .iter()
            .filter(|got| got.connection == pair.server.app.opened[end].0)
            .collect();
        assert!(of[0].body == pattern(100_003, 5));
        assert_eq!(of[1].body, pattern(100_003, 5)[5..22]);
        assert_eq!(of[2].body, b"behind");
    }
}

fn a_lease_is_sent_in_place(world: World) {
    let mut pair = Pair::new(world);
    let (client, _) = pair.connected("tcp");
    for len in [0, 1, 16, 4000, 200_000] {
        let mut cx = pair.client.engine.context();
        let mut lease = cx.lease(len).unwrap();
        assert!(
            lease.headroom() >= 16,
            "lower layers write their headers in front"
        );
        lease.append(len).unwrap().copy_from_slice(&pattern(len, 8));
        cx.send_lease(client, lease).unwrap();
    }
    pair.until("arrived", |pair| pair.server.app.got.len() == 5);
    assert!(pair.server.app.got[4].body == pattern(200_000, 8));
}

fn retained_messages_outlive_the_engine(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app.retain = true;
    let (client, _) = pair.connected("tcp");
    for number in 0..2000 {
        pair.until("room", |pair| {
            pair.client.send(client, &pattern(700, number)).is_ok()
        });
    }
    pair.client.send(client, &pattern(300_000, 1)).unwrap();
    pair.until("arrived", |pair| pair.server.app.retained.len() == 2001);
    let slices = std::mem::take(&mut pair.server.app.retained);
    drop(pair);
    let moved = std::thread::spawn(move || {
        for (number, slice) in slices[..2000].iter().enumerate() {
            assert_eq!(slice.bytes(), pattern(700, number as u64));
        }
        assert!(slices[2000].bytes() == pattern(300_000, 1));
    });
    moved.join().unwrap();
}

fn a_stale_connection_is_refused(world: World) {
    let mut pair = Pair::new(world);
    let (old, _) = pair.connected("tcp");
    pair.client.engine.context().close(old, CloseCode::Normal);
    pair.until("closed", |pair| pair.client.app.closed.len() == 1);
    let (fresh, _) = pair.connected("tcp");
    assert_ne!(old, fresh);
    assert_eq!(pair.client.send(old, b"x"), Err(SendError::Closed));
    pair.client.engine.context().close(old, CloseCode::Normal);
    pair.client.engine.context().pause(old, true);
    pair.client.send(fresh, b"y").unwrap();
    pair.until("the new one works", |pair| pair.server.app.got.len() == 1);
    let made_up = ringway::ConnectionId::from_bits(u64::MAX);
    assert_eq!(pair.client.send(made_up, b"x"), Err(SendError::Closed));
}

fn a_message_beyond_the_peers_limit_is_refused_here(world: World) {
    let small = config_with(|stream| stream.message_bytes_max = 1000);
    let mut pair = Pair::with(world, config(), small);
    let (client, server) = pair.connected("tcp");
    let error = pair.client.send(client, &[0; 1001]).unwrap_err();
    assert_eq!(
        error,
        SendError::TooLong {
            bytes: 1001,
            bytes_max: 1000
        }
    );
    assert_eq!(
        pair.client.engine.context().message_bytes_max(client),
        Some(1000)
    );
    pair.client.send(client, &[0; 1000]).unwrap();
    pair.server.send(server, &[0; 100_000]).unwrap();
    pair.until("both arrive", |pair| {
        pair.client.app.got.len() == 1 && pair.server.app.got.len() == 1
    });
}

fn timers_fire_once_and_can_be_cancelled(world: World) {
    let mut pair = Pair::new(world);
    let mut cx = pair.client.engine.context();
    let late = cx.set_timer(Duration::from_millis(20)).unwrap();
    let never = cx.set_timer(Duration::from_millis(10)).unwrap();
    let early = cx.set_timer(Duration::from_millis(1)).unwrap();
    assert!(cx.cancel_timer(never));
    pair.until("fired", |pair| pair.client.app.timers.len() == 2);
    assert_eq!(pair.client.app.timers, [early, late]);
    assert!(!pair.client.engine.context().cancel_timer(early));
}

fn more_connections_than_the_limit_are_refused(world: World) {
    let limits = Limits {
        connections_max: 3,
        ..Limits::default()
    };
    let mut pair = Pair::with(world, config(), config().limits(limits));
    let address = pair.world.address("tcp");
    let (_, address) = pair.listening(&address);
    let kept: Vec<_> = (0..3).map(|_| pair.connect_to(&address).0).collect();
    let extra = pair.client.engine.connect(&address).unwrap();
    pair.until("refused", |pair| pair.client.app.reason(extra).is_some());
    for connection in kept {
        pair.client.send(connection, b"still here").unwrap();
    }
    pair.until("the others live", |pair| pair.server.app.got.len() == 3);
    let first = pair.client.app.opened[0].0;
    pair.client.engine.context().close(first, CloseCode::Normal);
    pair.until("room again", |pair| pair.server.app.closed.len() == 1);
    pair.connect_to(&address);
}

fn more_listeners_than_the_limit_are_refused(world: World) {
    let limits = Limits {
        listeners_max: 2,
        ..Limits::default()
    };
    let mut pair = Pair::with(world, config(), config().limits(limits));
    let addresses: Vec<_> = (0..3).map(|_| pair.world.address("tcp")).collect();
    let server = &mut pair.server.engine;
    let first = server.listen(&addresses[0]).unwrap();
    server.listen(&addresses[1]).unwrap();
    let refused = server.listen(&addresses[2]).unwrap_err();
    assert!(
        matches!(refused, OpenError::TooMany { max: 2 }),
        "{refused}"
    );
    server.unlisten(first);
    let third = server.listen(&addresses[2]).unwrap();
    let address = server.local_address(third).unwrap().to_string();
    pair.connect_to(&address);
}

fn a_connection_closed_before_it_began_is_never_made(world: World) {
    let mut pair = Pair::new(world);
    let address = pair.world.address("tcp");
    let listener = pair.server.engine.listen(&address).unwrap();
    let address = pair.server.engine.local_address(listener).unwrap();
    let address = address.to_string();
    let given_up = pair.client.engine.connect(&address).unwrap();
    let context = &mut pair.client.engine.context();
    context.close(given_up, CloseCode::Normal);
    let kept = pair.client.engine.connect(&address).unwrap();
    pair.until("one open, one closed", |pair| {
        pair.client.app.opened.len() == 1 && pair.client.app.closed.len() == 1
    });
    pair.steps(100);
    assert_eq!(pair.client.app.opened[0].0, kept);
    assert_eq!(pair.client.app.reason(given_up).unwrap(), "Local(Normal)");
    let accepted = pair.server.engine.handle().counters();
    assert_eq!(accepted.value(Counter::Accepted), 1);
    assert_eq!(pair.server.engine.stats().connections, 1);
}

fn a_refused_accept_closes_the_peer(world: World) {
    let mut pair = Pair::new(world);
    pair.server.app.refuse = true;
    let address = pair.world.address("tcp");
    let (_, address) = pair.listening(&address);
    let connection = pair.client.engine.connect(&address).unwrap();
    pair.until("closed", |pair| {
        pair.client.app.reason(connection).is_some()
    });
    assert!(pair.server.app.opened.is_empty() && pair.server.app.closed.is_empty());
}

fn large_messages_wait_for_memory_and_then_arrive(world: World) {
    // Memory for about three of the messages at once, and eight connections that send one each.
    let limits = Limits {
        budget_bytes: 16 << 20,
        ..Limits::default()
    };
    let server = config_with(|stream| stream.message_bytes_max = 4 << 20).limits(limits);
    let mut pair = Pair::with(world, config(), server);
    pair.server.app.count_only = true;
    let address = pair.world.address("tcp");
    let (_, address) = pair.listening(&address);
    let ends: Vec<_> = (0..8).map(|_| pair.connect_to(&address).0).collect();
    for (seed, end) in ends.into_iter().enumerate() {
        pair.client
            .send(end, &pattern(3 << 20, seed as u64))
            .unwrap();
    }
    pair.until("all arrived", |pair| pair.server.app.count == 8);
    let budget = pair.server.engine.budget();
    assert!(
        budget.peak() <= budget.limit(),
        "{} of {}",
        budget.peak(),
        budget.limit()
    );
    assert!(budget.refused() > 0, "the test reached the limit");
}

fn an_idle_connection_is_closed_after_its_time(world: World) {
    let idle = config_with(|stream| {
        stream.keepalive_interval = None;
        stream.idle_timeout = Some(Duration::from_millis(1500));
    });
    let mut pair = Pair::with(world, config(), idle);
    let (client, server) = pair.connected("tcp");
    pair.until("closed", |pair| pair.client.app.closed.len() == 1);
    assert_eq!(pair.client.app.reason(client).unwrap(), "Peer(IdleTimeout)");
    pair.until("closed", |pair| pair.server.app.closed.len() == 1);
    assert_eq!(pair.server.app.reason(server).unwrap(), "IdleTimeout");
}

fn dropping_an_engine_ends_its_peers_connections(world: World) {
    let mut pair = Pair::new(world);
    let ends: Vec<_> = (0..10).map(|_| pair.connected("tcp").0).collect();
    for end in &ends {
        // Something is in flight in both directions.
        pair.client.send(*end, &pattern(200_000, 1)).unwrap();
    }
    pair.step();
    let fresh = world::Host::new(&pair.world, config(), "fresh");
    drop(std::mem::replace(&mut pair.server, fresh));
    pair.until("all closed", |pair| pair.client.app.closed.len() == 10);
}
