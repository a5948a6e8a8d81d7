//! Streams: connecting, order, contiguity, large messages, backpressure, adoption.

use std::time::Duration;

use ringway_driver::{Address, Close, Driver, Incoming, ListenOptions, OpenError, SocketOptions};
use ringway_sim::{Chance, NetConfig, SimNet};

use crate::host::{Cause, Event, Pair, Reading, host, parse, pattern, pools_of, settle};

const ECONNREFUSED: i32 = 111;

#[test]
fn bytes_arrive_in_order_and_are_reported_as_sent() {
    for slot_recv in [Chance::NEVER, Chance::percent(50), Chance::ALWAYS] {
        let mut config = NetConfig::perfect();
        config.habits.slot_recv = slot_recv;
        let mut pair = Pair::new(&config, 1);
        let bytes = pattern(700_000);
        for part in bytes.chunks(100_000) {
            pair.client.send(pair.near, part);
        }
        pair.server.send(pair.far, &bytes[..1000]);
        pair.settle();
        assert!(
            pair.server.log.bytes(pair.far) == bytes,
            "what arrives is what was sent"
        );
        assert_eq!(pair.client.log.bytes(pair.near), &bytes[..1000]);
        assert_eq!(pair.client.log.sent(pair.near), bytes.len());
        assert_eq!(pair.server.log.sent(pair.far), 1000);
    }
}

#[test]
fn both_sides_know_each_other() {
    let pair = Pair::new(&NetConfig::perfect(), 1);
    let client = &pair.client.driver;
    let server = &pair.server.driver;
    assert_eq!(
        client.peer_address(pair.near),
        server.local_address(pair.listener)
    );
    assert_eq!(
        client.peer_address(pair.near),
        server.local_address(pair.far)
    );
    assert_eq!(
        client.local_address(pair.near),
        server.peer_address(pair.far)
    );
    assert_eq!(pair.client.log.count(&Event::Connected(pair.near)), 1);
    let Some(Event::Accepted(_, _, peer)) = pair.server.log.events.first() else {
        panic!("accepted comes first");
    };
    assert_eq!(*peer, client.local_address(pair.near));
}

#[test]
fn unconsumed_bytes_are_shown_again_contiguously() {
    for slot_recv in [Chance::NEVER, Chance::percent(50), Chance::ALWAYS] {
        for piece in [3, 1000, 16_000, 50_000] {
            let mut config = NetConfig::perfect();
            config.habits.slot_recv = slot_recv;
            config.faults.stream.partial_read = Chance::percent(70);
            config.faults.stream.chunk_bytes_max = 9000;
            let mut pair = Pair::new(&config, 2);
            pair.server.log.reading = Reading::Pieces(piece);
            let bytes = pattern(300_000);
            pair.client.send(pair.near, &bytes);
            pair.settle();
            let whole = bytes.len() / piece * piece;
            assert!(pair.server.log.bytes(pair.far) == &bytes[..whole]);
        }
    }
}

#[test]
fn large_messages_land_in_their_final_place() {
    for slot_recv in [Chance::NEVER, Chance::percent(50), Chance::ALWAYS] {
        let mut config = NetConfig::perfect();
        config.habits.slot_recv = slot_recv;
        let mut pair = Pair::new(&config, 3);
        let size = 1_000_000;
        pair.server.log.reading = Reading::Large(size);
        let bytes = pattern(2 * (size + 1));
        pair.client.send(pair.near, &bytes);
        pair.settle();
        let first = Event::Large(pair.far, bytes[1..=size].to_vec());
        let second = Event::Large(pair.far, bytes[size + 2..].to_vec());
        assert_eq!(pair.server.log.count(&first), 1);
        assert_eq!(pair.server.log.count(&second), 1);
    }
}

#[test]
fn switching_off_closes_the_senders_window() {
    let mut config = NetConfig::perfect();
    config.stream.buffer_bytes = 50_000;
    let mut pair = Pair::new(&config, 4);
    pair.server.driver.read(pair.far, false);
    let bytes = pattern(200_000);
    pair.client.send(pair.near, &bytes);
    pair.settle();
    assert_eq!(pair.client.log.sent(pair.near), 50_000);
    assert_eq!(pair.server.log.bytes(pair.far), b"");
    pair.server.driver.read(pair.far, true);
    pair.settle();
    assert_eq!(pair.client.log.sent(pair.near), bytes.len());
    assert!(pair.server.log.bytes(pair.far) == bytes);
}

#[test]
fn a_sink_that_wants_nothing_is_left_alone_until_read_is_switched_on() {
    for slot_recv in [Chance::NEVER, Chance::ALWAYS] {
        let mut config = NetConfig::perfect();
        config.habits.slot_recv = slot_recv;
        let mut pair = Pair::new(&config, 5);
        pair.server.log.reading = Reading::Pauses(1000);
        let bytes = pattern(10_000);
        pair.client.send(pair.near, &bytes);
        pair.client.driver.close(pair.near, Close::Graceful);
        for round in 1..=10 {
            pair.settle();
            assert_eq!(pair.server.log.bytes(pair.far), &bytes[..round * 1000]);
            pair.server.driver.read(pair.far, true);
        }
        pair.settle();
        assert_eq!(pair.server.log.count(&Event::Ended(pair.far)), 1);
    }
}

#[test]
fn connecting_to_nobody_is_refused() {
    let net = SimNet::new(NetConfig::perfect(), 6);
    let mut client = host(&net, "client");
    for address in ["tcp://127.0.0.1:9", "unix:///run/nobody", "unix://@nobody"] {
        let socket = client.connect(&parse(address));
        settle(&net, &mut [&mut client]);
        assert_eq!(
            client.log.closed(socket),
            Some(Cause::ConnectFailed(ECONNREFUSED))
        );
    }
    assert_eq!(net.pending(), ringway_sim::Pending::default());
}

#[test]
fn a_connect_that_is_never_answered_ends_by_abort_only() {
    let mut config = NetConfig::perfect();
    config.faults.stream.connect_silent = Chance::ALWAYS;
    let net = SimNet::new(config, 7);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.listen("tcp://127.0.0.1:0");
    let socket = client.connect(&address);
    settle(&net, &mut [&mut server, &mut client]);
    net.advance_by(Duration::from_secs(3600));
    settle(&net, &mut [&mut server, &mut client]);
    assert!(client.log.events.is_empty() && server.log.events.is_empty());
    client.driver.close(socket, Close::Abort);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.events, [Event::Closed(socket, Cause::Requested)]);
}

#[test]
fn what_is_queued_before_the_connection_stands_is_sent_then() {
    let net = SimNet::new(NetConfig::perfect(), 8);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.listen("unix://@early");
    let near = client.connect(&address);
    client.send(near, b"early");
    settle(&net, &mut [&mut server, &mut client]);
    let far = server.adopt_last();
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(server.log.bytes(far), b"early");
}

#[test]
fn a_listener_that_is_off_lets_connections_wait() {
    let net = SimNet::new(NetConfig::perfect(), 9);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (listener, address) = server.listen("tcp://0.0.0.0:0");
    let port = address.socket_addr().expect("tcp").port();
    let target = parse(&format!("tcp://127.0.0.1:{port}"));
    server.driver.read(listener, false);
    let near = client.connect(&target);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.events, [Event::Connected(near)]);
    assert!(server.log.accepted().is_empty());
    server.driver.read(listener, true);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(server.log.accepted().len(), 1);
}

#[test]
fn a_full_accept_queue_makes_clients_wait_and_then_fail() {
    const ETIMEDOUT: i32 = 110;
    let net = SimNet::new(NetConfig::perfect(), 10);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let options = ListenOptions {
        backlog: 2,
        ..ListenOptions::default()
    };
    let address = parse("unix:///run/full");
    let listener = server
        .driver
        .listen(&address, &options)
        .expect("a listener");
    server.driver.read(listener, false);
    let sockets = [(); 3].map(|()| client.connect(&address));
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(
        client.log.closed(sockets[2]),
        Some(Cause::ConnectFailed(ETIMEDOUT))
    );
    assert_eq!(client.log.count(&Event::Connected(sockets[1])), 1);
    // One that comes back in time gets in.
    let late = client.connect(&address);
    net.advance_by(Duration::from_millis(1500));
    server.driver.read(listener, true);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.count(&Event::Connected(late)), 1);
    assert_eq!(server.log.accepted().len(), 3);
}

#[test]
fn names_are_exclusive_unless_shared() {
    let net = SimNet::new(NetConfig::perfect(), 11);
    let (mut one, mut two) = (host(&net, "one"), host(&net, "two"));
    let (listener, address) = one.listen("tcp://127.0.0.1:0");
    let shared = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    for options in [ListenOptions::default(), shared.clone()] {
        let Err(OpenError::System { error, .. }) = two.driver.listen(&address, &options) else {
            panic!("the name is taken");
        };
        assert_eq!(error.raw_os_error(), Some(98));
    }
    one.driver.close(listener, Close::Graceful);
    settle(&net, &mut [&mut one, &mut two]);
    one.driver
        .listen(&address, &shared)
        .expect("the name is free again");
    two.driver.listen(&address, &shared).expect("both share");
    let mut client = host(&net, "client");
    for _ in 0..64 {
        client.connect(&address);
    }
    settle(&net, &mut [&mut one, &mut two, &mut client]);
    let counts = [one.log.accepted().len(), two.log.accepted().len()];
    assert_eq!(counts.iter().sum::<usize>(), 64);
    assert!(
        counts.iter().all(|count| *count > 10),
        "both get a share: {counts:?}"
    );
}

#[test]
fn a_connection_may_be_adopted_by_another_host_and_only_once() {
    let net = SimNet::new(NetConfig::perfect(), 12);
    let (mut acceptor, mut worker) = (host(&net, "acceptor"), host(&net, "worker"));
    let mut client = host(&net, "client");
    let (_, address) = acceptor.listen("unix:///run/handover");
    let near = client.connect(&address);
    client.send(near, b"before");
    settle(&net, &mut [&mut acceptor, &mut worker, &mut client]);
    let bits = acceptor.log.accepted()[0];
    let far = worker.adopt(bits);
    client.send(near, b" and after");
    settle(&net, &mut [&mut acceptor, &mut worker, &mut client]);
    assert_eq!(worker.log.bytes(far), b"before and after");
    let again = acceptor
        .driver
        .adopt(Incoming::Virtual(bits), &SocketOptions::default());
    assert!(matches!(
        again,
        Err(OpenError::System { call: "adopt", .. })
    ));
    let file = std::fs::File::open("/dev/null").expect("a file");
    let foreign = acceptor
        .driver
        .adopt(Incoming::Fd(file.into()), &SocketOptions::default());
    assert!(matches!(foreign, Err(OpenError::Unsupported { .. })));
}

#[test]
fn an_adopted_socket_starts_switched_off() {
    let net = SimNet::new(NetConfig::perfect(), 13);
    let mut both = host(&net, "both");
    let pair = net.pair().expect("a pair");
    let sockets = pair.map(|end| {
        both.driver
            .adopt(end, &SocketOptions::default())
            .expect("adopted")
    });
    both.send(sockets[0], b"hello");
    settle(&net, &mut [&mut both]);
    assert_eq!(both.log.bytes(sockets[1]), b"");
    both.driver.read(sockets[1], true);
    settle(&net, &mut [&mut both]);
    assert_eq!(both.log.bytes(sockets[1]), b"hello");
}

#[test]
fn nothing_is_lost_when_memory_runs_out() {
    for slot_recv in [Chance::NEVER, Chance::ALWAYS] {
        let mut config = NetConfig::perfect();
        config.habits.slot_recv = slot_recv;
        let net = SimNet::new(config, 14);
        let mut client = host(&net, "client");
        let small = pools_of(64 * 1024);
        let driver = net.node("server", std::rc::Rc::clone(&small));
        let mut server = crate::host::Host::new(driver, std::rc::Rc::clone(&small));
        let (_, address) = server.listen("tcp://127.0.0.1:0");
        let near = client.connect(&address);
        settle(&net, &mut [&mut server, &mut client]);
        let far = server.adopt_last();
        let hoard: Vec<_> = (0..4)
            .map(|_| small.lease(16 * 1024).expect("memory"))
            .collect();
        assert!(small.lease(1).is_none(), "all memory is taken");
        client.send(near, b"patience");
        settle(&net, &mut [&mut server, &mut client]);
        assert_eq!(server.log.bytes(far), b"");
        assert!(server.driver.stats().starved > 0);
        drop(hoard);
        settle(&net, &mut [&mut server, &mut client]);
        assert_eq!(server.log.bytes(far), b"patience");
    }
}

#[test]
fn datagram_and_stream_commands_do_not_mix() {
    let net = SimNet::new(NetConfig::perfect(), 15);
    let mut host = host(&net, "host");
    let udp = Address::Udp(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let options = ListenOptions::default();
    assert!(matches!(
        host.driver.listen(&udp, &options),
        Err(OpenError::Unsupported { .. })
    ));
    let tcp = parse("tcp://127.0.0.1:0");
    assert!(matches!(
        host.driver.bind(&tcp, &options),
        Err(OpenError::Unsupported { .. })
    ));
}
