//! Datagrams: bursts, coalescing, names, ECN, what is too long.

use std::time::Duration;

use ringway_driver::{Address, Close, Driver, ListenOptions, SocketOptions};
use ringway_sim::{Chance, Fault, NetConfig, Pending, SimNet, Span};

use crate::host::{Arrived, Cause, Event, host, pattern, settle};

/// The single datagrams in what arrived.
fn split(arrived: &[Arrived]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for one in arrived {
        if one.bytes.is_empty() {
            parts.push(Vec::new());
        }
        parts.extend(
            one.bytes
                .chunks(one.segment_bytes.max(1))
                .map(<[u8]>::to_vec),
        );
    }
    parts
}

#[test]
fn bursts_arrive_whole_and_in_order() {
    for coalesce in [Chance::NEVER, Chance::percent(50), Chance::ALWAYS] {
        let mut config = NetConfig::perfect();
        config.habits.coalesce = coalesce;
        let net = SimNet::new(config, 1);
        let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
        let (_, address) = server.bind("udp://127.0.0.1:0");
        let (socket, local) = client.bind("udp://127.0.0.1:0");
        let parts: Vec<Vec<u8>> = (0..20).map(|index| vec![index; 100]).collect();
        let mut burst: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        burst.push(b"short");
        client.send_to(socket, Some(address), &burst);
        settle(&net, &mut [&mut server, &mut client]);
        let expected: Vec<Vec<u8>> = burst.iter().map(|part| part.to_vec()).collect();
        assert_eq!(split(&server.log.arrived), expected);
        assert_eq!(client.log.sent(socket), 2005);
        let calls = server.log.arrived.len();
        match coalesce {
            Chance::NEVER => assert_eq!(calls, 21),
            Chance::ALWAYS => assert_eq!(calls, 1),
            _ => assert!(calls > 1 && calls < 21, "{calls}"),
        }
        assert!(
            server
                .log
                .arrived
                .iter()
                .all(|one| one.peer == local && !one.truncated)
        );
        assert_eq!(server.driver.stats().datagrams_in, 21);
        assert_eq!(client.driver.stats().datagrams_out, 21);
    }
}

#[test]
fn an_empty_datagram_is_one() {
    let net = SimNet::new(NetConfig::perfect(), 2);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.bind("udp://127.0.0.1:0");
    let (socket, _) = client.bind("udp://127.0.0.1:0");
    client.send_to(socket, Some(address), &[b""]);
    client.send_to(socket, Some(address), &[b""]);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(server.log.arrived.len(), 2);
    assert!(
        server
            .log
            .arrived
            .iter()
            .all(|one| one.bytes.is_empty() && one.segment_bytes == 0)
    );
}

#[test]
fn what_is_too_long_is_reported_and_not_sent() {
    let net = SimNet::new(NetConfig::perfect(), 3);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.bind("udp://127.0.0.1:0");
    let socket = client.connect(&Address::Udp(address));
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.events, [Event::Connected(socket)]);
    assert_eq!(client.driver.datagram_bytes_max(socket), Some(1452));
    let long = pattern(1453);
    client.send_to(socket, None, &[&long]);
    client.send_to(socket, None, &[&long[..1452]]);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.count(&Event::TooLong(socket, 1453, 1452)), 1);
    assert_eq!(split(&server.log.arrived), [long[..1452].to_vec()]);
    assert_eq!(
        client.log.sent(socket),
        1453 + 1452,
        "the queue is accounted for whole"
    );
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_takes_precedence() {
    let net = SimNet::new(NetConfig::perfect(), 4);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (open, address) = server.bind("udp://127.0.0.1:0");
    let (known, known_address) = client.bind("udp://127.0.0.1:0");
    let (stranger, _) = client.bind("udp://127.0.0.1:0");
    let options = SocketOptions {
        local: Some(address),
        ..SocketOptions::default()
    };
    let peer = Address::Udp(known_address);
    let hot = server
        .driver
        .connect(&peer, &options)
        .expect("shares the port");
    server.driver.read(hot, true);
    client.send_to(known, Some(address), &[b"known"]);
    client.send_to(stranger, Some(address), &[b"stranger"]);
    server.send_to(hot, None, &[b"answer"]);
    settle(&net, &mut [&mut server, &mut client]);
    let of = |socket| {
        let arrived = server
            .log
            .arrived
            .iter()
            .filter(move |one| one.socket == socket);
        arrived.map(|one| one.bytes.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(hot), [b"known".to_vec()]);
    assert_eq!(of(open), [b"stranger".to_vec()]);
    assert_eq!(
        client.log.arrived[0].peer, address,
        "both sockets speak from one address"
    );
    assert_eq!(server.driver.peer_address(hot), Some(peer));
}

#[test]
fn a_bound_name_is_exclusive_unless_shared() {
    let net = SimNet::new(NetConfig::perfect(), 5);
    let mut host = host(&net, "host");
    let (_, address) = host.bind("udp://127.0.0.1:0");
    let options = ListenOptions::default();
    assert!(host.driver.bind(&Address::Udp(address), &options).is_err());
    let shared = ListenOptions {
        reuse_port: true,
        ..options
    };
    assert!(host.driver.bind(&Address::Udp(address), &shared).is_err());
    let wildcard = Address::Udp(([0, 0, 0, 0], 7777).into());
    host.driver.bind(&wildcard, &shared).expect("free");
    host.driver.bind(&wildcard, &shared).expect("shared");
}

#[test]
fn a_wildcard_socket_answers_from_the_loopback() {
    for wildcard in ["udp://0.0.0.0:0", "udp://[::]:0"] {
        let net = SimNet::new(NetConfig::perfect(), 6);
        let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
        let (socket, bound) = server.bind(wildcard);
        let target = std::net::SocketAddr::from(([127, 0, 0, 1], bound.port()));
        let near = client.connect(&Address::Udp(target));
        client.driver.read(near, true);
        client.send_to(near, None, &[b"question"]);
        settle(&net, &mut [&mut server, &mut client]);
        let peer = server.log.arrived[0].peer;
        server.send_to(socket, Some(peer), &[b"answer"]);
        settle(&net, &mut [&mut server, &mut client]);
        assert_eq!(client.log.arrived[0].bytes, b"answer");
    }
}

#[test]
fn ecn_marks_come_from_a_filling_queue() {
    let mut config = NetConfig::perfect();
    config.datagram.bandwidth_bytes_per_s = 1_000_000;
    config.datagram.ecn_threshold_bytes = 5_000;
    let net = SimNet::new(config, 7);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.bind("udp://127.0.0.1:0");
    let (socket, _) = client.bind("udp://127.0.0.1:0");
    for _ in 0..10 {
        client.send_to(socket, Some(address), &[&pattern(1000)]);
    }
    settle(&net, &mut [&mut server, &mut client]);
    let ecn: Vec<u8> = server.log.arrived.iter().map(|one| one.ecn).collect();
    assert_eq!(ecn, [2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
    assert_eq!(net.fault_counts().of(Fault::EcnMark), 5);
}

#[test]
fn queues_of_datagrams_are_bounded() {
    let mut config = NetConfig::perfect();
    config.datagram.queue_bytes = 10_000;
    let net = SimNet::new(config, 8);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (far, address) = server.bind("udp://127.0.0.1:0");
    let (socket, _) = client.bind("udp://127.0.0.1:0");
    server.driver.read(far, false);
    for _ in 0..100 {
        client.send_to(socket, Some(address), &[&pattern(972)]);
    }
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(net.fault_counts().of(Fault::Overflow), 90);
    server.driver.read(far, true);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(split(&server.log.arrived).len(), 10);
    // With a slow link the queue is the sender's, and the sender's statistics say so.
    let mut config = NetConfig::perfect();
    config.datagram.queue_bytes = 10_000;
    config.datagram.bandwidth_bytes_per_s = 1000;
    let net = SimNet::new(config, 8);
    let mut client = host(&net, "client");
    let (socket, local) = client.bind("udp://127.0.0.1:0");
    for _ in 0..100 {
        client.send_to(socket, Some(local), &[&pattern(1000)]);
    }
    settle(&net, &mut [&mut client]);
    assert_eq!(client.driver.stats().datagrams_dropped, 90);
    assert_eq!(
        client.log.sent(socket),
        100_000,
        "what was dropped was sent, as far as one knows"
    );
}

#[test]
fn closing_a_datagram_socket_sends_what_is_queued() {
    let mut config = NetConfig::perfect();
    config.faults.driver.late = Chance::percent(50);
    config.faults.driver.late_time = Span::micros(1, 1000);
    for seed in 0..20 {
        let net = SimNet::new(config, seed);
        let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
        let (far, address) = server.bind("udp://127.0.0.1:0");
        let (socket, _) = client.bind("udp://127.0.0.1:0");
        client.send_to(socket, Some(address), &[b"last words"]);
        client.driver.close(socket, Close::Graceful);
        settle(&net, &mut [&mut server, &mut client]);
        assert_eq!(server.log.arrived.len(), 1);
        assert_eq!(client.log.sent(socket), 10);
        assert_eq!(client.log.closed(socket), Some(Cause::Requested));
        server.driver.close(far, Close::Abort);
        settle(&net, &mut [&mut server, &mut client]);
        assert_eq!(net.pending(), Pending::default());
    }
}

#[test]
fn long_datagrams_do_not_depend_on_what_the_scratch_buffer_has_left() {
    let mut config = NetConfig::perfect();
    config.datagram.mtu_bytes = 65_507;
    config.datagram.queue_bytes = 16 * 1024 * 1024;
    let net = SimNet::new(config, 9);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.bind("udp://127.0.0.1:0");
    let (socket, _) = client.bind("udp://127.0.0.1:0");
    server.log.holds = true;
    let long = pattern(65_000);
    for _ in 0..3 {
        client.send_to(socket, Some(address), &[&long[..1000]]);
        client.send_to(socket, Some(address), &[&long]);
        settle(&net, &mut [&mut server, &mut client]);
    }
    let lens: Vec<usize> = split(&server.log.arrived).iter().map(Vec::len).collect();
    assert_eq!(lens, [1000, 65_000].repeat(3));
    assert!(
        server
            .log
            .arrived
            .iter()
            .all(|one| long.starts_with(&one.bytes))
    );
    assert!(server.log.arrived.iter().all(|one| !one.truncated));
    let held: Vec<&[u8]> = server.log.held.iter().map(|slice| slice.bytes()).collect();
    let arrived: Vec<&[u8]> = server
        .log
        .arrived
        .iter()
        .map(|one| &one.bytes[..])
        .collect();
    assert_eq!(held, arrived, "what is held does not change");
}

#[test]
fn a_rebinding_changes_the_face_of_connected_sockets_only() {
    let mut config = NetConfig::perfect();
    config.faults.datagram.rebind_every = Duration::from_millis(10);
    let net = SimNet::new(config, 10);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (far, address) = server.bind("udp://127.0.0.1:0");
    let near = client.connect(&Address::Udp(address));
    client.driver.read(near, true);
    let mut ask = |number: usize| {
        client.send_to(near, None, &[b"question"]);
        settle(&net, &mut [&mut server, &mut client]);
        let peer = server.log.arrived.last().map(|one| one.peer);
        server.send_to(far, peer, &[b"answer"]);
        settle(&net, &mut [&mut server, &mut client]);
        assert_eq!(client.log.arrived.len(), number);
        assert!(client.log.arrived.iter().all(|one| one.peer == address));
        peer
    };
    let first = ask(1);
    assert_eq!(ask(2), first);
    net.advance_by(Duration::from_millis(10));
    let second = ask(3);
    assert_ne!(second, first);
    // Whom nobody has told of the new face reaches nobody.
    server.send_to(far, first, &[b"late"]);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.arrived.len(), 3);
    net.heal();
    client.send_to(near, None, &[b"again"]);
    settle(&net, &mut [&mut server, &mut client]);
    let last = server.log.arrived.last().map(|one| one.peer);
    assert_eq!(last, second, "what is translated stays translated");
    assert_eq!(net.fault_counts().of(Fault::Rebind), 1);
    client.driver.close(near, Close::Graceful);
    server.driver.close(far, Close::Abort);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(net.pending(), Pending::default());
}
