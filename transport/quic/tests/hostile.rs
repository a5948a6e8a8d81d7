//! Floods, forgeries, lost peers and limits: what strangers and bad luck can do, and what they can't.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use ringway_buf::{Instant, PoolsConfig};
use ringway_proto::packet::{ConnectRefusal, Delivery, Fault, PacketEndpoint, SessionEnd};
use ringway_proto::{CloseCode, Timeout};
use ringway_quic::{AddressProof, QuicConfig};

use world::{Rng, World, configs, near, pattern};

fn stranger(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 9, 8, 7], 20_000 + number))
}

#[test]
fn a_retry_proves_the_address_and_costs_one_round_trip() {
    let (server, client) = configs();
    let elapsed = |proof| {
        let server = QuicConfig {
            address_proof: proof,
            ..server.clone()
        };
        let mut world = World::with(1, server, client.clone());
        let begin = world.now;
        world.open();
        world.now - begin
    };
    let without = elapsed(AddressProof::Never);
    let with = elapsed(AddressProof::Always);
    let round_trip = 2 * near().link.delay.max;
    assert!(with >= without + round_trip, "{without:?} {with:?}");
}

/// A first packet in a version that nobody speaks.
fn foreign() -> Vec<u8> {
    let mut packet = vec![0; 1_200];
    packet[0] = 0xC0;
    packet[1..5].copy_from_slice(&0x5A5A_5A5A_u32.to_be_bytes());
    packet[5] = 8;
    packet[14] = 8;
    packet
}

#[test]
fn a_foreign_version_is_answered_with_ours() {
    let mut world = World::pair(2);
    let packet = foreign();
    world.inject(stranger(0), 0, &packet);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.hosts[0].sent, 1);
    assert!(world.hosts[0].sent_bytes < 200, "no amplification");
    // A short one would make the answer longer than the question.
    world.inject(stranger(0), 0, &packet[..60]);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.hosts[0].sent, 1);
}

/// First packets of many clients, as they come over the network.
fn initials(count: u64, client: &QuicConfig) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for seed in 0..count {
        let mut world = World::new(seed);
        world.add(client.clone(), seed * 3 + 1_000);
        let target = stranger(1);
        let now = world.now;
        let begun = world.hosts[0].endpoint.connect(target, now);
        assert!(begun.is_ok());
        let mut sink = First::default();
        world.hosts[0].endpoint.poll_transmit(&mut sink, now);
        packets.push(sink.bytes);
    }
    packets
}

#[derive(Default)]
struct First {
    lent: Vec<u8>,
    bytes: Vec<u8>,
}

impl ringway_proto::packet::TransmitSink for First {
    fn lend(&mut self, _: SocketAddr, segment_bytes: usize, _: usize) -> Option<&mut [u8]> {
        self.lent = vec![0; segment_bytes];
        Some(&mut self.lent)
    }

    fn commit(&mut self, bytes: usize, _: usize) {
        if self.bytes.is_empty() {
            self.bytes = self.lent[..bytes].to_vec();
        }
    }
}

#[test]
fn a_flood_of_first_packets_holds_bounded_memory_and_honest_peers_get_in() {
    let (server, client) = configs();
    let server = QuicConfig {
        handshakes_max: 16,
        address_proof: AddressProof::Above(8),
        ..server
    };
    let mut world = World::with(3, server, client.clone());
    let window = client.window_bytes as usize;
    let packets = initials(60, &client);
    for (number, packet) in (0..).zip(&packets) {
        world.inject(stranger(number), 0, packet);
    }
    world.pass(Duration::from_millis(1));
    let half_open = world.hosts[0].endpoint.half_open();
    assert_eq!(half_open, 8, "above that, addresses are proven first");
    let used = world.hosts[0].pools.budget().used();
    assert!(used <= 9 * window, "{used}");
    // At most three times what came in is sent to addresses that nobody has proven.
    assert!(world.hosts[0].sent_bytes <= 3 * 60 * 1_200);
    world.open();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.hosts[0].endpoint.half_open(), 0, "they time out");
}

#[test]
fn half_open_handshakes_beyond_the_limit_are_not_answered() {
    let (server, client) = configs();
    let server = QuicConfig {
        handshakes_max: 4,
        address_proof: AddressProof::Never,
        ..server
    };
    let mut world = World::with(4, server, client.clone());
    for (number, packet) in (0..).zip(&initials(20, &client)) {
        world.inject(stranger(number), 0, packet);
    }
    world.pass(Duration::from_millis(1));
    assert_eq!(world.hosts[0].endpoint.half_open(), 4);
    // Whoever asks again when they have timed out gets in.
    world.pass(Duration::from_secs(11));
    assert_eq!(world.hosts[0].endpoint.half_open(), 0);
    world.open();
}

#[test]
fn sessions_beyond_the_limit_are_refused_with_a_reason() {
    let (server, client) = configs();
    let server = QuicConfig {
        sessions_max: 1,
        ..server
    };
    let mut world = World::with(5, server, client.clone());
    world.open();
    let second = world.add(client, 77);
    world.connect(second, 0);
    assert!(world.run(Duration::from_secs(5), |world| world.end(second).is_some()));
    let refused = SessionEnd::Refused(CloseCode::ResourceExhausted);
    assert_eq!(world.end(second), Some(refused));
}

#[test]
fn a_client_has_limits_of_its_own() {
    let (server, client) = configs();
    let client = QuicConfig {
        sessions_max: 1,
        ..client
    };
    let mut world = World::with(6, server, client.clone());
    world.connect(1, 0);
    let (peer, now) = (world.hosts[0].address, world.now);
    let refused = world.hosts[1].endpoint.connect(peer, now);
    assert_eq!(refused, Err(ConnectRefusal::TooMany { max: 1 }));
    let poor = PoolsConfig {
        budget_bytes: 1 << 16,
        ..PoolsConfig::default()
    };
    let poor = world.add_with(client, 9, poor);
    let refused = world.hosts[poor].endpoint.connect(peer, now);
    assert_eq!(refused, Err(ConnectRefusal::NoMemory));
}

#[test]
fn an_endpoint_that_drains_refuses_newcomers() {
    let mut world = World::pair(7);
    world.hosts[0].endpoint.refuse_new(true);
    world.connect(1, 0);
    assert!(world.run(Duration::from_secs(5), |world| world.end(1).is_some()));
    let refused = SessionEnd::Refused(CloseCode::ResourceExhausted);
    assert_eq!(world.end(1), Some(refused));
}

#[test]
fn garbage_and_truncated_packets_change_nothing() {
    let mut world = World::pair(8);
    let (_, client) = world.open();
    let mut rng = Rng::new(8);
    let initial = initials(1, &configs().1).remove(0);
    for number in 0..2_000 {
        let len = usize::try_from(rng.below(1_500)).expect("small");
        let mut bytes = if rng.hits(500) {
            pattern(rng.bits(), len)
        } else {
            initial[..len.min(initial.len())].to_vec()
        };
        if let Some(first) = bytes.first_mut()
            && rng.hits(500)
        {
            *first |= 0x40;
        }
        let from = if rng.hits(500) {
            stranger(number)
        } else {
            world.hosts[1].address
        };
        world.inject(from, 0, &bytes);
        world.inject(world.hosts[0].address, 1, &bytes);
    }
    world.pass(Duration::from_secs(1));
    world.send(1, client, 1, b"undisturbed", Delivery::Ordered);
    assert!(world.run(Duration::from_secs(1), |world| world.messages(0).len() == 1));
    assert!(world.ends(0).is_empty() && world.ends(1).is_empty());
    assert_eq!(world.hosts[0].endpoint.sessions(), 1);
}

#[test]
fn a_session_follows_a_client_behind_a_rebinding_nat() {
    let mut world = World::pair(9);
    let (server, client) = world.open();
    for round in 1..=3_u16 {
        let address = SocketAddr::from(([192, 0, 2, 1], 40_000 + round));
        let inner = world.hosts[1].address;
        world.net.rebind(inner, address);
        world.send(1, client, round, &pattern(1, 50_000), Delivery::Ordered);
        world.send(0, server, round, &pattern(1, 50_000), Delivery::Ordered);
        let all = usize::from(round);
        assert!(world.run(Duration::from_secs(20), |world| {
            world.messages(0).len() == all && world.messages(1).len() == all
        }));
        assert_eq!(world.hosts[0].endpoint.peer_address(server), Some(address));
    }
}

#[test]
fn who_forbids_migration_hears_nothing_from_elsewhere() {
    let (server, client) = configs();
    let server = QuicConfig {
        migration: false,
        ..server
    };
    let mut world = World::with(10, server, client);
    let (_, client) = world.open();
    let inner = world.hosts[1].address;
    world.net.rebind(inner, stranger(1));
    world.send(1, client, 1, b"from elsewhere", Delivery::Ordered);
    world.pass(Duration::from_secs(5));
    assert!(world.messages(0).is_empty());
}

#[test]
fn a_vanished_peer_is_noticed_by_keepalive_and_an_idle_one_is_kept() {
    let (mut server, mut client) = configs();
    for config in [&mut server, &mut client] {
        config.stream.keepalive_interval = Some(Duration::from_secs(5));
        config.stream.keepalive_timeout = Duration::from_secs(3);
    }
    let mut world = World::with(11, server, client);
    world.open();
    world.pass(Duration::from_secs(60));
    assert!(world.ends(0).is_empty(), "both are there, only quiet");
    let cut = world.hosts[1].address;
    world.cut.push(cut);
    assert!(world.run(Duration::from_secs(20), |world| world.end(0).is_some()));
    assert_eq!(world.end(0), Some(SessionEnd::Expired(Timeout::Keepalive)));
}

#[test]
fn idleness_ends_a_session_only_if_a_limit_was_set() {
    let (mut server, client) = configs();
    server.stream.idle_timeout = Some(Duration::from_secs(7));
    let mut world = World::with(12, server, client);
    let (_, client) = world.open();
    let how = [Delivery::Ordered, Delivery::Unordered];
    for round in 0..4 {
        world.pass(Duration::from_secs(5));
        world.send(1, client, 1, b"awake", how[round % 2]);
    }
    world.run_to_ends();
    assert_eq!(world.messages(0).len(), 4);
    assert_eq!(world.end(0), Some(SessionEnd::Expired(Timeout::Idle)));
    assert_eq!(world.end(1), Some(SessionEnd::Peer(CloseCode::IdleTimeout)));
    world.assert_silent();
}

#[test]
fn nobody_there_is_a_handshake_timeout() {
    let mut world = World::pair(13);
    let cut = world.hosts[0].address;
    world.cut.push(cut);
    world.connect(1, 0);
    assert!(world.run(Duration::from_secs(60), |world| world.end(1).is_some()));
    assert_eq!(world.end(1), Some(SessionEnd::Expired(Timeout::Handshake)));
    world.assert_silent();
}

#[test]
fn a_restarted_server_is_noticed_by_a_reset() {
    let (server, client) = configs();
    let mut world = World::with(14, server.clone(), client);
    let (_, client) = world.open();
    // The same secrets, as a server with a fixed seed has after a restart.
    let fresh = world.add(server, 14);
    let old = world.hosts[0].address;
    world.hosts[0].address = stranger(9);
    world.hosts[fresh].address = old;
    world.send(1, client, 1, &pattern(1, 3_000), Delivery::Ordered);
    assert!(world.run(Duration::from_secs(30), |world| world.end(1).is_some()));
    assert_eq!(world.end(1), Some(SessionEnd::Reset));
}

#[test]
fn a_peer_that_stops_reading_cannot_hold_up_the_end_for_ever() {
    let mut world = World::pair(15);
    let (server, client) = world.open();
    let now = world.now;
    world.hosts[0].endpoint.pause(server, true, now);
    world.send(1, client, 1, &pattern(1, 8 << 20), Delivery::Ordered);
    world.hosts[1]
        .endpoint
        .close(client, CloseCode::Normal, now);
    assert!(world.run(Duration::from_secs(60), |world| world.end(1).is_some()));
    assert_eq!(world.end(1), Some(SessionEnd::Expired(Timeout::Drain)));
    let now = world.now;
    world.hosts[0].endpoint.pause(server, false, now);
    assert!(world.run(Duration::from_secs(60), |world| world.end(0).is_some()));
    world.assert_silent();
}

#[test]
fn both_ends_must_offer_what_one_requires() {
    let (server, mut client) = configs();
    client.stream.features_offered = 2;
    client.stream.features_required = 2;
    let mut world = World::with(16, server, client);
    world.connect(1, 0);
    assert!(world.run(Duration::from_secs(20), |world| world.end(1).is_some()));
    let end = world.end(1).expect("ended");
    let refused = SessionEnd::Refused(CloseCode::FeatureRequired);
    let stream = matches!(end, SessionEnd::Violation(Fault::Stream(_)));
    assert!(end == refused || stream, "{end}");
}

#[test]
fn a_path_that_gets_narrow_is_found_out() {
    let mut world = World::pair(17);
    let (_, client) = world.open();
    world.send(1, client, 1, &pattern(1, 200_000), Delivery::Ordered);
    assert!(
        world.run(Duration::from_secs(10), |world| world.messages(0).len()
            == 1)
    );
    let wide = world.hosts[1].endpoint.path(client).expect("open");
    assert!(wide.payload_bytes_max > 1_400, "{wide:?}");
    world.net.config.faults.black_hole_bytes = 1_250;
    world.send(1, client, 2, &pattern(1, 200_000), Delivery::Ordered);
    assert!(
        world.run(Duration::from_secs(60), |world| world.messages(0).len()
            == 2)
    );
    let narrow = world.hosts[1].endpoint.path(client).expect("open");
    assert!(narrow.payload_bytes_max <= 1_250, "{narrow:?}");
}

#[test]
fn a_peer_that_lives_and_does_not_acknowledge_costs_little_and_ends_with_the_drain() {
    let (mut server, mut client) = configs();
    for config in [&mut server, &mut client] {
        // No silence is too long here, so that nothing but the end that is asked for ends the session.
        config.stream.keepalive_interval = None;
    }
    let drain_timeout = client.stream.drain_timeout;
    let mut world = World::with(18, server, client);
    let (server, client) = world.open();
    let before = world.hosts[1].sent_bytes;
    // Nothing reaches the server any more; it goes on speaking all the same.
    let deaf = world.hosts[0].address;
    world.cut.push(deaf);
    for tag in 0..4 {
        world.send(1, client, tag, &pattern(1, 1 << 20), Delivery::Ordered);
    }
    let deadline = Instant::MAX;
    for tag in 0..600 {
        let how = Delivery::Unreliable { deadline };
        world.send(0, server, tag, b"here I am", how);
        world.pass(Duration::from_secs(1));
    }
    // Not each one is sent: nothing is acknowledged to the server either.
    assert!(world.messages(1).len() > 100, "it was heard all the time");
    assert!(world.ends(1).is_empty(), "nobody asked for an end");
    let sent = world.hosts[1].sent_bytes - before;
    assert!(sent < 256 << 10, "{sent} bytes for nobody in ten minutes");
    let now = world.now;
    world.hosts[1]
        .endpoint
        .close(client, CloseCode::Normal, now);
    assert!(world.run(2 * drain_timeout, |world| world.end(1).is_some()));
    assert_eq!(world.end(1), Some(SessionEnd::Expired(Timeout::Drain)));
    assert!(world.now - now >= drain_timeout);
}

#[test]
fn answers_to_strangers_beyond_what_waits_are_dropped() {
    let mut world = World::pair(19);
    let packet = foreign();
    // The socket takes nothing for a while.
    world.sink_room = 0;
    for number in 0..200 {
        world.inject(stranger(number), 0, &packet);
    }
    world.pass(Duration::from_millis(1));
    assert_eq!(world.hosts[0].sent, 0);
    world.sink_room = usize::MAX;
    world.pass(Duration::from_millis(1));
    assert_eq!(world.hosts[0].sent, 64);
}
