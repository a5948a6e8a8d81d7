//! Virtual time: who moves it, and how far.

use std::time::Duration;

use ringway_driver::{Driver, DriverKind, Park};
use ringway_sim::{NetConfig, SimNet};

use crate::host::{Pair, host};

#[test]
fn time_moves_to_the_earliest_deadline() {
    let net = SimNet::new(NetConfig::perfect(), 1);
    let (mut one, mut two) = (host(&net, "one"), host(&net, "two"));
    let start = net.now();
    let (soon, later) = (
        start + Duration::from_millis(3),
        start + Duration::from_millis(9),
    );
    assert_eq!(one.driver.poll(Park::Until(Some(later)), &mut one.log), 0);
    assert_eq!(two.driver.poll(Park::Until(Some(soon)), &mut two.log), 0);
    assert_eq!(one.driver.now(), start, "polling takes no time");
    assert!(net.advance());
    assert_eq!(net.now(), soon);
    assert!(net.advance());
    assert_eq!(net.now(), later);
    assert!(!net.advance(), "each deadline counts once");
}

#[test]
fn events_come_before_later_deadlines() {
    let mut pair = Pair::new(&NetConfig::perfect(), 2);
    let deadline = pair.net.now() + Duration::from_secs(1);
    pair.client.send(pair.near, b"x");
    pair.client.driver.flush(&mut pair.client.log);
    assert_eq!(
        pair.server
            .driver
            .poll(Park::Until(Some(deadline)), &mut pair.server.log),
        0
    );
    assert!(pair.net.advance());
    assert!(pair.net.now() < deadline);
    assert!(pair.server.driver.poll(Park::No, &mut pair.server.log) > 0);
    assert_eq!(pair.server.log.bytes(pair.far), b"x");
}

#[test]
fn a_quiet_network_says_so() {
    let net = SimNet::new(NetConfig::perfect(), 3);
    let mut host = host(&net, "host");
    assert_eq!(host.driver.poll(Park::Until(None), &mut host.log), 0);
    assert!(!net.advance());
    net.advance_by(Duration::from_secs(1));
    assert!(!net.advance());
}

#[test]
fn a_poll_that_may_not_sleep_leaves_no_deadline() {
    let net = SimNet::new(NetConfig::perfect(), 4);
    let mut host = host(&net, "host");
    let deadline = Some(net.now() + Duration::from_secs(1));
    assert_eq!(host.driver.poll(Park::Until(deadline), &mut host.log), 0);
    assert_eq!(host.driver.poll(Park::No, &mut host.log), 0);
    assert!(!net.advance());
}

#[test]
fn a_wake_from_another_thread_ends_the_sleep_without_moving_time() {
    let net = SimNet::new(NetConfig::perfect(), 5);
    let mut host = host(&net, "host");
    let start = net.now();
    let deadline = Some(start + Duration::from_secs(1));
    assert_eq!(host.driver.poll(Park::Until(deadline), &mut host.log), 0);
    let waker = host.driver.waker();
    std::thread::spawn(move || waker.wake())
        .join()
        .expect("woken");
    assert!(net.advance());
    assert_eq!(net.now(), start);
    assert_eq!(host.driver.poll(Park::Until(deadline), &mut host.log), 1);
    assert_eq!(
        host.driver.poll(Park::Until(deadline), &mut host.log),
        0,
        "one wake, one event"
    );
    assert!(net.advance());
    assert_eq!(Some(net.now()), deadline);
}

#[test]
fn a_wake_before_the_sleep_is_not_lost() {
    let net = SimNet::new(NetConfig::perfect(), 6);
    let mut host = host(&net, "host");
    host.driver.waker().wake_by_ref();
    assert_eq!(host.driver.poll(Park::Until(None), &mut host.log), 1);
}

#[test]
fn time_moved_by_hand_fires_everything_on_its_way() {
    let mut pair = Pair::new(&NetConfig::perfect(), 7);
    pair.client.send(pair.near, b"x");
    pair.client.driver.flush(&mut pair.client.log);
    let before = pair.net.now();
    pair.net.advance_by(Duration::from_secs(5));
    assert_eq!(pair.net.now(), before + Duration::from_secs(5));
    assert!(pair.server.turn() > 0);
    assert_eq!(pair.server.log.bytes(pair.far), b"x");
}

#[test]
fn a_driver_says_what_it_is() {
    let net = SimNet::new(NetConfig::perfect(), 99);
    let host = host(&net, "host");
    let capabilities = host.driver.capabilities();
    assert_eq!(capabilities.kind, DriverKind::Sim);
    assert!(
        capabilities
            .facts
            .iter()
            .any(|fact| fact.why.contains("99")),
        "the seed is printed"
    );
}
