//! The ways of the io_uring driver, one at a time: pooled, direct, directed, parked; and what they cost.

#![cfg(feature = "uring")]

mod uring_support;

use std::time::Duration;

use ringway_driver::{Close, CloseCause, Driver, Park, SocketId};
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

#[test]
fn far_deadlines_share_one_alarm_and_near_ones_are_kept() {
    let (mut a, mut b) = nodes();
    let (near, far) = pair(&mut a, &mut b, "tcp://127.0.0.1:0");
    // Sets the alarm, by a sleep that ends at once.
    let start = b.driver.now();
    let alarm = start + Duration::from_millis(150);
    b.driver.waker().wake();
    b.driver.poll(Park::Until(Some(alarm)), &mut b.sink);
    // A nearer deadline is met in spite of it, and a later one too, although the alarm comes first.
    let sleep_until = |b: &mut Node, deadline| {
        while b.driver.now() < deadline {
            b.driver.poll(Park::Until(Some(deadline)), &mut b.sink);
        }
    };
    sleep_until(&mut b, start + Duration::from_millis(10));
    sleep_until(&mut b, start + Duration::from_millis(300));
    // Messages still end a sleep whose deadline is hours away.
    for round in 1..=20 {
        a.send(near, b"x");
        a.flush();
        while b.received(far).len() < round {
            let hours = b.driver.now() + Duration::from_secs(7200);
            b.driver.poll(Park::Until(Some(hours)), &mut b.sink);
        }
    }
    assert_eq!(b.driver.stats().stale, 0);
    assert!(b.driver.shutdown(Duration::from_secs(2)), "alarm and all");
}

/// Sends `bytes` from one socket and turns both until the other has them.
fn pass(from: &mut Node, source: SocketId, to: &mut Node, target: SocketId, bytes: &[u8]) {
    let before = to.sink.of(target).count;
    from.send(source, bytes);
    run(from, to, |_, to| {
        to.sink.of(target).count == before + bytes.len()
    });
}

/// Two nodes that count only, with a connection that has become hot on both.
fn hot_pair(address: &str) -> (Node, SocketId, Node, SocketId) {
    let (mut a, mut b) = (Node::new(Taste::Counts), Node::new(Taste::Counts));
    let (near, far) = pair(&mut a, &mut b, address);
    a.sink.log(near);
    b.sink.log(far);
    for _ in 0..100 {
        pass(&mut a, near, &mut b, far, &[1; 64]);
        pass(&mut b, far, &mut a, near, &[2; 64]);
    }
    (a, near, b, far)
}

#[test]
fn a_spinning_ping_pong_is_one_receive_and_one_send_per_message() {
    for address in ["tcp://127.0.0.1:0", "unix://@ringway-uring-turns-2"] {
        let (mut a, near, mut b, far) = hot_pair(address);
        let before = [*a.driver.stats(), *b.driver.stats()];
        for _ in 0..1000 {
            pass(&mut a, near, &mut b, far, &[1; 64]);
            pass(&mut b, far, &mut a, near, &[2; 64]);
        }
        for (node, before) in [&a, &b].into_iter().zip(before) {
            let after = *node.driver.stats();
            assert_eq!(after.working_syscalls() - before.working_syscalls(), 2000);
            assert_eq!(after.recv_direct - before.recv_direct, 1000);
            assert_eq!(after.send_direct - before.send_direct, 1000);
            assert_eq!(after.armed, before.armed);
            assert_eq!(after.recv_ring, before.recv_ring);
        }
    }
}

#[test]
fn an_empty_spinning_turn_with_one_hot_socket_is_one_receive() {
    let (mut a, _, _b, _) = hot_pair("tcp://127.0.0.1:0");
    // Whatever is left of the warm-up.
    for _ in 0..10 {
        a.poll();
    }
    let before = *a.driver.stats();
    for _ in 0..1000 {
        assert_eq!(a.poll(), 0);
    }
    let after = *a.driver.stats();
    assert_eq!(after.syscalls - before.syscalls, 1000);
    assert_eq!(after.empty_polls - before.empty_polls, 1000);
}

#[test]
fn coalesced_messages_cost_a_sixteenth_of_a_system_call_each() {
    let (mut a, near, mut b, far) = hot_pair("tcp://127.0.0.1:0");
    let (before_a, before_b) = (*a.driver.stats(), *b.driver.stats());
    for _ in 0..100 {
        for _ in 0..64 {
            a.send(near, &[7; 64]);
        }
        let before = b.sink.of(far).count;
        run(&mut a, &mut b, |_, b| {
            b.sink.of(far).count == before + 64 * 64
        });
    }
    let calls = a.driver.stats().working_syscalls() - before_a.working_syscalls()
        + b.driver.stats().working_syscalls()
        - before_b.working_syscalls();
    assert!(calls * 16 <= 6400, "{calls} system calls for 6400 messages");
}

#[test]
fn a_ping_pong_that_parks_neither_arms_nor_disarms_per_message() {
    let (mut a, near, mut b, far) = hot_pair("tcp://127.0.0.1:0");
    // An engine that sleeps between messages, woken by its deadline or by the next message.
    let nap = |node: &mut Node| {
        let parks = node.driver.stats().parks;
        while node.driver.stats().parks == parks {
            let deadline = node.driver.now() + Duration::from_micros(20);
            node.driver
                .poll(Park::Until(Some(deadline)), &mut node.sink);
        }
    };
    let before = [*a.driver.stats(), *b.driver.stats()];
    for _ in 0..200 {
        pass(&mut a, near, &mut b, far, &[1; 64]);
        nap(&mut a);
        pass(&mut b, far, &mut a, near, &[2; 64]);
        nap(&mut b);
    }
    for (node, before) in [&a, &b].into_iter().zip(before) {
        let after = node.driver.stats();
        assert!(
            after.armed - before.armed <= 200 / 16 + 1,
            "{before:?} {after:?}"
        );
    }
}

#[test]
fn many_pending_sends_leave_as_one_batch() {
    let (mut a, mut b) = (Node::new(Taste::Counts), Node::new(Taste::Counts));
    let pairs: Vec<_> = (0..16)
        .map(|_| pair(&mut a, &mut b, "tcp://127.0.0.1:0"))
        .collect();
    for (near, far) in &pairs {
        a.sink.log(*near);
        b.sink.log(*far);
    }
    // Quiet down first: arms and cancels of the set-up.
    for _ in 0..100 {
        a.poll();
        b.poll();
    }
    let before = *a.driver.stats();
    for (near, _) in &pairs {
        a.send(*near, &[3; 64]);
    }
    a.flush();
    let after = *a.driver.stats();
    assert_eq!(after.syscalls - before.syscalls, 1);
    assert_eq!(after.send_ring - before.send_ring, 16);
    run(&mut a, &mut b, |a, b| {
        pairs
            .iter()
            .all(|(near, far)| b.sink.of(*far).count == 64 && a.sink.of(*near).sent == 64)
    });
}

#[test]
fn switched_off_bytes_wait_in_order_and_are_shown_later() {
    let (mut a, mut b) = nodes();
    let (near, far) = pair(&mut a, &mut b, "tcp://127.0.0.1:0");
    let bytes = pattern(100_000, 3);
    a.send(near, &bytes[..1000]);
    run(&mut a, &mut b, |_, b| b.received(far).len() == 1000);
    b.driver.read(far, false);
    a.send(near, &bytes[1000..]);
    for _ in 0..1000 {
        a.poll();
        a.flush();
        b.poll();
    }
    assert_eq!(b.received(far).len(), 1000);
    a.close(near, Close::Graceful);
    for _ in 0..1000 {
        a.poll();
        b.poll();
    }
    assert_eq!(b.sink.of(far).ended, 0, "the end comes behind the bytes");
    b.driver.read(far, true);
    run(&mut a, &mut b, |_, b| b.sink.of(far).ended == 1);
    assert!(b.received(far) == bytes);
}

#[test]
fn a_sink_that_refuses_sees_the_bytes_again() {
    let (mut a, mut b) = nodes();
    let (near, far) = pair(&mut a, &mut b, "tcp://127.0.0.1:0");
    let bytes = pattern(200_000, 4);
    b.sink.refuses = true;
    a.send(near, &bytes);
    for _ in 0..1000 {
        a.poll();
        a.flush();
        b.poll();
    }
    assert!(b.received(far).is_empty());
    b.sink.refuses = false;
    b.driver.read(far, true);
    run(&mut a, &mut b, |_, b| b.received(far).len() == bytes.len());
    assert!(b.received(far) == bytes);
}
