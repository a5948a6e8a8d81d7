//! The ways of the io_uring driver, one at a time: pooled, direct, directed, parked; and what they cost.

mod uring_support;

use std::time::Duration;

use ringway_driver::{Close, CloseCause, Driver, Park};
use uring_support::{Node, Taste, pair, pattern, run};

fn nodes() -> (Node, Node) {
    (Node::new(Taste::Copies), Node::new(Taste::Copies))
}

#[test]
fn bytes_arrive_and_both_ends_close() {
    for address in [
        "tcp://127.0.0.1:0",
        "unix://@ringway-uring-turns-1",
        "tcp://[::1]:0",
    ] {
        let (mut a, mut b) = nodes();
        let (near, far) = pair(&mut a, &mut b, address);
        let (up, down) = (pattern(300_000, 1), pattern(70_000, 2));
        a.send(near, &up);
        b.send(far, &down);
        run(&mut a, &mut b, |a, b| {
            b.received(far).len() == up.len() && a.received(near).len() == down.len()
        });
        assert!(b.received(far) == up && a.received(near) == down);
        a.close(near, Close::Graceful);
        run(&mut a, &mut b, |_, b| b.sink.of(far).ended == 1);
        b.close(far, Close::Graceful);
        run(&mut a, &mut b, |a, b| {
            a.sink.closed(near) && b.sink.closed(far)
        });
        assert!(matches!(
            a.sink.of(near).closed,
            Some(CloseCause::Requested)
        ));
        for node in [&mut a, &mut b] {
            assert_eq!(node.driver.stats().stale, 0);
            assert_eq!(node.driver.stats().faults, 0);
            assert!(node.driver.shutdown(Duration::from_secs(2)));
        }
        assert_eq!(a.sink.of(near).sent, up.len());
    }
}

#[test]
fn a_parked_driver_is_woken_by_data_deadline_and_waker() {
    let (mut a, mut b) = nodes();
    let (near, far) = pair(&mut a, &mut b, "tcp://127.0.0.1:0");
    a.send(near, b"x");
    a.flush();
    while b.received(far).is_empty() {
        b.driver.poll(Park::Until(None), &mut b.sink);
    }
    let deadline = b.driver.now() + Duration::from_millis(2);
    while b.driver.now() < deadline {
        b.driver.poll(Park::Until(Some(deadline)), &mut b.sink);
    }
    b.driver.waker().wake();
    b.driver.poll(Park::Until(None), &mut b.sink);
    let waker = b.driver.waker();
    let other = std::thread::spawn(move || waker.wake());
    b.driver.poll(Park::Until(None), &mut b.sink);
    other.join().unwrap();
    // It came while nobody was parked, and was seen by a turn that did not park.
    b.driver.waker().wake();
    b.poll();
    b.driver.poll(Park::Until(None), &mut b.sink);
}
