//! Ends: graceful and abrupt, exactly once, and nothing left behind.

use ringway_buf::Chain;
use ringway_driver::{Close, Driver};
use ringway_sim::{Chance, NetConfig, Pending, SimNet, Span};

use crate::host::{Cause, Event, Pair, host, pattern, settle};

const ECONNRESET: i32 = 104;

#[test]
fn a_graceful_close_delivers_everything_first() {
    let mut config = NetConfig::perfect();
    config.stream.buffer_bytes = 10_000;
    let mut pair = Pair::new(&config, 1);
    let bytes = pattern(200_000);
    pair.client.send(pair.near, &bytes);
    pair.client.driver.close(pair.near, Close::Graceful);
    pair.settle();
    assert!(pair.server.log.bytes(pair.far) == bytes);
    assert_eq!(pair.server.log.count(&Event::Ended(pair.far)), 1);
    assert_eq!(
        pair.client.log.closed(pair.near),
        None,
        "it waits for the peer's end"
    );
    pair.server.send(pair.far, b"discarded");
    pair.server.driver.close(pair.far, Close::Graceful);
    pair.settle();
    assert_eq!(pair.client.log.closed(pair.near), Some(Cause::Requested));
    assert_eq!(pair.server.log.closed(pair.far), Some(Cause::Requested));
    assert_eq!(
        pair.client.log.bytes(pair.near),
        b"",
        "what comes after close is discarded"
    );
    assert_eq!(pair.client.log.sent(pair.near), bytes.len());
    let pending = Pending {
        listeners: 1,
        ..Pending::default()
    };
    assert_eq!(pair.net.pending(), pending);
}

#[test]
fn a_lingering_close_discards_more_than_the_window() {
    let mut config = NetConfig::perfect();
    config.stream.buffer_bytes = 10_000;
    let mut pair = Pair::new(&config, 2);
    pair.client.driver.close(pair.near, Close::Graceful);
    pair.server.send(pair.far, &pattern(300_000));
    pair.server.driver.close(pair.far, Close::Graceful);
    pair.settle();
    assert_eq!(pair.client.log.closed(pair.near), Some(Cause::Requested));
    assert_eq!(pair.server.log.closed(pair.far), Some(Cause::Requested));
}

#[test]
fn the_end_of_a_stream_is_reported_once() {
    let mut pair = Pair::new(&NetConfig::perfect(), 12);
    pair.client.driver.close(pair.near, Close::Graceful);
    for on in [true, false, true] {
        pair.settle();
        pair.server.driver.read(pair.far, on);
    }
    pair.settle();
    assert_eq!(pair.server.log.count(&Event::Ended(pair.far)), 1);
}

#[test]
fn an_abort_resets_the_peer() {
    let mut pair = Pair::new(&NetConfig::perfect(), 3);
    pair.client.driver.close(pair.near, Close::Abort);
    pair.settle();
    assert_eq!(pair.client.log.closed(pair.near), Some(Cause::Requested));
    assert_eq!(
        pair.server.log.closed(pair.far),
        Some(Cause::Broken(ECONNRESET))
    );
}

#[test]
fn an_abort_ends_a_graceful_close_that_does_not_end() {
    let mut pair = Pair::new(&NetConfig::perfect(), 4);
    pair.client.driver.close(pair.near, Close::Graceful);
    pair.settle();
    assert_eq!(pair.client.log.closed(pair.near), None);
    pair.client.driver.close(pair.near, Close::Abort);
    pair.settle();
    assert_eq!(pair.client.log.closed(pair.near), Some(Cause::Requested));
    assert_eq!(
        pair.server.log.closed(pair.far),
        Some(Cause::Broken(ECONNRESET))
    );
}

#[test]
fn a_reset_is_seen_even_while_switched_off() {
    let mut pair = Pair::new(&NetConfig::perfect(), 5);
    pair.server.driver.read(pair.far, false);
    pair.client.send(pair.near, b"unread");
    pair.settle();
    pair.client.driver.close(pair.near, Close::Abort);
    pair.settle();
    assert_eq!(
        pair.server.log.closed(pair.far),
        Some(Cause::Broken(ECONNRESET))
    );
}

#[test]
fn writing_to_a_peer_that_is_gone_breaks_the_connection() {
    let mut config = NetConfig::perfect();
    config.stream.delay = Span::micros(1000, 1000);
    let mut pair = Pair::new(&config, 6);
    pair.client.driver.close(pair.near, Close::Abort);
    // The reset is under way when the server writes.
    pair.server.turn();
    pair.client.turn();
    pair.server.send(pair.far, b"too late");
    pair.settle();
    assert_eq!(
        pair.server.log.closed(pair.far),
        Some(Cause::Broken(ECONNRESET))
    );
}

#[test]
fn closing_twice_reports_once() {
    let mut pair = Pair::new(&NetConfig::perfect(), 7);
    for how in [Close::Graceful, Close::Abort, Close::Graceful, Close::Abort] {
        pair.client.driver.close(pair.near, how);
        pair.server.driver.close(pair.listener, how);
    }
    pair.settle();
    let closed = Event::Closed(pair.near, Cause::Requested);
    assert_eq!(pair.client.log.count(&closed), 1);
    let closed = Event::Closed(pair.listener, Cause::Requested);
    assert_eq!(pair.server.log.count(&closed), 1);
}

#[test]
fn stale_ids_do_nothing() {
    let mut pair = Pair::new(&NetConfig::perfect(), 8);
    let stale = pair.near;
    pair.client.driver.close(stale, Close::Abort);
    pair.settle();
    let (_, address) = pair.server.listen("unix://@fresh");
    let fresh = pair.client.connect(&address);
    assert_eq!(fresh.0.index(), stale.0.index(), "the place is used again");
    pair.settle();
    let far = pair.server.adopt_last();
    let mut lease = pair.client.pools.lease(4).expect("memory");
    lease.append(4).expect("room").copy_from_slice(b"ding");
    let mut chain = Chain::new();
    chain.push_lease(lease);
    pair.client.driver.send(stale, &mut chain);
    pair.client.driver.read(stale, true);
    pair.client.driver.close(stale, Close::Abort);
    pair.client.send_to(stale, None, &[b"dong"]);
    pair.settle();
    assert_eq!(pair.client.log.closed(fresh), None);
    assert_eq!(pair.server.log.bytes(far), b"");
    assert_eq!(pair.client.driver.local_address(stale), None);
    assert_eq!(pair.client.driver.datagram_bytes_max(stale), None);
}

#[test]
fn closing_a_listener_resets_who_waits() {
    let net = SimNet::new(NetConfig::perfect(), 9);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (listener, address) = server.listen("tcp://127.0.0.1:0");
    server.driver.read(listener, false);
    let near = client.connect(&address);
    settle(&net, &mut [&mut server, &mut client]);
    server.driver.close(listener, Close::Graceful);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.closed(near), Some(Cause::Broken(ECONNRESET)));
    assert_eq!(
        server.log.events,
        [Event::Closed(listener, Cause::Requested)]
    );
    assert_eq!(net.pending(), Pending::default());
}

#[test]
fn a_discarded_arrival_resets_its_peer() {
    let net = SimNet::new(NetConfig::perfect(), 10);
    let (mut server, mut client) = (host(&net, "server"), host(&net, "client"));
    let (_, address) = server.listen("tcp://127.0.0.1:0");
    let near = client.connect(&address);
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(net.pending().unadopted_ends, 1);
    net.discard(&ringway_driver::Incoming::Virtual(server.log.accepted()[0]));
    settle(&net, &mut [&mut server, &mut client]);
    assert_eq!(client.log.closed(near), Some(Cause::Broken(ECONNRESET)));
    assert_eq!(net.pending().stream_ends, 0);
}

#[test]
fn shutting_down_resets_peers_frees_names_and_reports_nothing() {
    let mut pair = Pair::new(&NetConfig::perfect(), 11);
    pair.server.bind("udp://127.0.0.1:0");
    pair.server.send(pair.far, &pattern(1_000_000));
    pair.server.turn();
    let before = pair.server.log.events.clone();
    assert!(pair.server.driver.shutdown(std::time::Duration::ZERO));
    pair.settle();
    assert_eq!(pair.server.log.events, before);
    assert_eq!(
        pair.client.log.closed(pair.near),
        Some(Cause::Broken(ECONNRESET))
    );
    assert_eq!(pair.net.pending(), Pending::default());
    let pools = &pair.server.pools;
    assert_eq!(pools.budget().used(), pools.stashed_bytes());
}

#[test]
fn late_completions_keep_their_order() {
    let mut config = NetConfig::perfect();
    config.faults.driver.late = Chance::percent(60);
    config.faults.driver.late_time = Span::micros(1, 10_000);
    for seed in 0..50 {
        // The log itself asserts that nothing follows `closed`.
        let mut pair = Pair::new(&config, seed);
        let bytes = pattern(400_000);
        for part in bytes.chunks(40_000) {
            pair.client.send(pair.near, part);
        }
        pair.client.driver.close(pair.near, Close::Graceful);
        pair.settle();
        pair.server.driver.close(pair.far, Close::Graceful);
        pair.settle();
        assert!(pair.server.log.bytes(pair.far) == bytes);
        assert_eq!(pair.client.log.sent(pair.near), bytes.len());
        assert_eq!(pair.client.log.closed(pair.near), Some(Cause::Requested));
    }
}
