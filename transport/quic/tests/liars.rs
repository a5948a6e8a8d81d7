//! Peers and strangers that lie: deaf ones, copied packets, foreign addresses, handshakes that never end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use ringway_buf::Instant;
use ringway_proto::Timeout;
use ringway_proto::packet::{Delivery, PacketEndpoint, SessionEnd};
use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{Keys, Version};
use world::{World, hand, pattern, tapped};

fn stranger(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 9, 8, 7], 20_000 + number))
}

/// A server that speaks once a second and never looks at what it gets: how the client's session ends, and when.
fn deaf(client_waits: bool) -> Option<(SessionEnd, Duration)> {
    let (mut server, mut client) = world::configs();
    // The server's own patience is endless.
    server.stream.keepalive_interval = None;
    client.stream.keepalive_interval = client_waits.then_some(Duration::from_secs(5));
    client.stream.keepalive_timeout = Duration::from_secs(5);
    let mut world = World::with(1, server, client);
    let (server, client) = world.open();
    world.pass(Duration::from_secs(1));
    // Outside of the world nobody hands it anything, not even the time.
    let mut deaf = world.hosts.remove(0);
    world.send(0, client, 1, &pattern(1, 100_000), Delivery::Ordered);
    let begun = world.now;
    for _ in 0..100 {
        let header = ringway_proto::Header::message(0, 9, 0);
        let deadline = Instant::MAX;
        let how = Delivery::Unreliable { deadline };
        let word = world.outgoing(0, header, b"here I am", how);
        let now = world.now;
        assert!(deaf.endpoint.send(server, word, now).is_ok());
        for (to, bytes) in tapped(&mut deaf, now) {
            world.net.inject(now, deaf.address, to, &bytes);
        }
        world.pass(Duration::from_secs(1));
        if let Some(end) = world.end(0) {
            return Some((end, world.now - begun));
        }
    }
    assert!(world.messages(0).len() > 90, "it was heard all the time");
    None
}

// docs/wire/quic.md#connection
#[test]
fn a_peer_that_speaks_and_never_acknowledges_is_cut() {
    let (end, after) = deaf(true).unwrap();
    assert_eq!(end, SessionEnd::Expired(Timeout::Keepalive));
    let patience = Duration::from_secs(5 + 5);
    let look = Duration::from_secs(5);
    assert!(
        (patience - look..=patience + look).contains(&after),
        "{after:?}"
    );
    assert_eq!(deaf(false), None, "without keepalive nobody is given up");
}

/// Who only listens, or only speaks, is no liar: what wants an acknowledgement is sent when none was due.
#[test]
fn whoever_acknowledges_lives_whatever_else_it_does() {
    let (mut server, mut client) = world::configs();
    for config in [&mut server, &mut client] {
        config.stream.keepalive_interval = Some(Duration::from_secs(2));
        config.stream.keepalive_timeout = Duration::from_secs(1);
    }
    let mut world = World::with(2, server, client);
    let (server, client) = world.open();
    let deadline = Instant::MAX;
    // One side speaks all the time, which keeps the other one's pings away.
    for _ in 0..300 {
        world.send(1, client, 1, b"tick", Delivery::Unreliable { deadline });
        world.pass(Duration::from_millis(100));
    }
    assert!(world.messages(0).len() > 290);
    let now = world.now;
    // Nothing is read, so that nothing of the sender's stream gets on.
    world.hosts[0].endpoint.pause(server, true, now);
    world.send(1, client, 2, &pattern(1, 3 << 20), Delivery::Ordered);
    world.pass(Duration::from_secs(60));
    assert!(world.ends(0).is_empty() && world.ends(1).is_empty());
}

#[test]
fn copied_packets_do_nothing_wherever_they_come_from() {
    let mut world = World::pair(3);
    let (server, client) = world.open();
    world.pass(Duration::from_secs(1));
    let home = world.hosts[1].address;
    let mut copies = Vec::new();
    for tag in 0..20 {
        world.send(1, client, tag, &pattern(1, 500), Delivery::Ordered);
        let deadline = Instant::MAX;
        world.send(1, client, tag, b"loose", Delivery::Unreliable { deadline });
        let now = world.now;
        for (_, bytes) in tapped(&mut world.hosts[1], now) {
            hand(&mut world, 0, home, &bytes);
            copies.push(bytes);
        }
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(world.messages(0).len(), 40);
    let before = world.hosts[0].sent_bytes;
    for (number, bytes) in (0..).zip(&copies) {
        hand(&mut world, 0, home, bytes);
        hand(&mut world, 0, stranger(number), bytes);
        let now = world.now;
        let answers = tapped(&mut world.hosts[0], now);
        let foreign = answers.iter().filter(|(to, _)| *to != home).count();
        assert_eq!(foreign, 0, "nothing goes to the stranger");
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.messages(0).len(), 40, "nothing comes twice");
    assert_eq!(world.hosts[0].endpoint.peer_address(server), Some(home));
    assert!(world.hosts[0].sent_bytes - before < 1_000);
    world.send(0, server, 1, b"still here", Delivery::Ordered);
    assert!(world.run(Duration::from_secs(1), |world| world.messages(1).len() == 1));
}

/// A stranger on the way sends the client's packets on from its own address before they arrive. The server can't know
/// that it is not the client who moved; it sends little there, and finds home.
#[test]
fn packets_that_are_sent_on_from_elsewhere_draw_little_there_and_cut_nobody() {
    let mut world = World::pair(4);
    let (server, client) = world.open();
    world.pass(Duration::from_secs(1));
    let home = world.hosts[1].address;
    // The server has much to send.
    for tag in 0..4 {
        world.send(0, server, tag, &pattern(1, 1 << 20), Delivery::Ordered);
    }
    world.send(1, client, 1, b"stolen", Delivery::Ordered);
    let now = world.now;
    let mut came = 0;
    for (_, bytes) in tapped(&mut world.hosts[1], now) {
        came += bytes.len();
        hand(&mut world, 0, stranger(1), &bytes);
    }
    assert_eq!(world.messages(0).len(), 1, "it is genuine");
    let mut drawn = 0;
    for _ in 0..200 {
        let now = world.now;
        for (to, bytes) in tapped(&mut world.hosts[0], now) {
            if to == stranger(1) {
                drawn += bytes.len();
            } else {
                world.net.inject(now, world.hosts[0].address, to, &bytes);
            }
        }
        world.now = world.now + Duration::from_millis(1);
        let now = world.now;
        world.hosts[0].endpoint.handle_timeout(now);
    }
    assert!(drawn > 0, "the address is tested");
    // quinn-proto pads two datagrams, whatever came; then it waits.
    let most = 3 * came + 2 * 1_452;
    assert!(drawn <= most, "{drawn} for {came}");
    // The client goes on, and all arrives where it belongs.
    world.send(1, client, 2, b"from home", Delivery::Ordered);
    let all = |world: &World| world.messages(1).len() == 4 && world.messages(0).len() == 2;
    assert!(world.run(Duration::from_secs(60), all));
    assert_eq!(world.hosts[0].endpoint.peer_address(server), Some(home));
    assert!(world.ends(0).is_empty() && world.ends(1).is_empty());
}

/// An Initial packet of a client whose handshake bytes begin at `offset`, as RFC 9001 (5 and appendix A) has it.
fn initial(number: u8, offset: u16, bytes: &[u8]) -> Vec<u8> {
    let id = *b"first id";
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let quic = suite.quic.unwrap();
    let keys = Keys::initial(Version::V1, suite, quic, &id, Side::Client);
    // CRYPTO: kind, offset and length as variable-length integers of four and two bytes.
    let mut payload = vec![6];
    payload.extend((0x8000_0000 | u32::from(offset)).to_be_bytes());
    payload.extend((0x4000 | u16::try_from(bytes.len()).unwrap()).to_be_bytes());
    payload.extend(bytes);
    let tag_bytes = 16;
    let head_bytes = 1 + 4 + 1 + 8 + 1 + 8 + 1 + 2 + 1;
    payload.resize(1_200 - head_bytes - tag_bytes, 0);
    let mut head = vec![0xC0, 0, 0, 0, 1, 8];
    head.extend(id);
    head.push(8);
    head.extend(*b"their id");
    head.push(0);
    let length = u16::try_from(1 + payload.len() + tag_bytes).unwrap();
    head.extend((0x4000 | length).to_be_bytes());
    head.push(number);
    let sealed = keys
        .local
        .packet
        .encrypt_in_place(number.into(), &head, &mut payload);
    payload.extend(sealed.unwrap().as_ref());
    let (first, rest) = head.split_at_mut(1);
    let at = rest.len() - 1;
    let sample = &payload[3..3 + keys.local.header.sample_len()];
    let protect = keys
        .local
        .header
        .encrypt_in_place(sample, &mut first[0], &mut rest[at..]);
    protect.unwrap();
    head.extend(payload);
    head
}

#[test]
fn handshake_bytes_out_of_order_are_held_up_to_their_limit_and_no_further() {
    let mut world = World::pair(5);
    let from = stranger(1);
    let bytes = [1; 1_000];
    // All but the first byte of 16 KiB.
    for part in 0..16 {
        let offset = 1 + 1_000 * u16::from(part);
        hand(&mut world, 0, from, &initial(part, offset, &bytes));
        assert_eq!(world.hosts[0].endpoint.half_open(), 1, "{offset}");
    }
    let now = world.now;
    tapped(&mut world.hosts[0], now);
    hand(&mut world, 0, from, &initial(20, 16 * 1_024 - 999, &bytes));
    let now = world.now;
    let answer = tapped(&mut world.hosts[0], now);
    assert!(!answer.is_empty(), "it is told");
    assert_eq!(world.hosts[0].endpoint.half_open(), 0, "it is over at once");
    assert!(
        world.hosts[0].said.is_empty(),
        "the engine hears nothing of it"
    );
    world.pass(Duration::from_secs(60));
    assert_eq!(world.hosts[0].endpoint.lingering(), 0);
}

#[test]
fn ended_sessions_linger_up_to_their_limit_and_the_oldest_give_way() {
    const MANY: usize = 1_100;
    const LINGERING_MAX: usize = 1_024;
    let mut world = World::pair(6);
    let now = world.now;
    let mut most = 0;
    for round in 0..MANY {
        let session = world.connect(1, 0);
        tapped(&mut world.hosts[1], now);
        world.hosts[1].endpoint.abort(session, now);
        tapped(&mut world.hosts[1], now);
        world.listen(1);
        let lingering = world.hosts[1].endpoint.lingering();
        assert!(lingering <= LINGERING_MAX, "{round}");
        most = most.max(lingering);
    }
    assert_eq!(most, LINGERING_MAX);
    assert_eq!(world.ends(1).len(), MANY);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.hosts[1].endpoint.lingering(), 0);
    world.assert_silent();
}
