//! Storms of switching, cancelling, closing and dropping, with guard pages behind every freed slot: an
//! operation that touched freed memory would complete with `EFAULT` and be counted.

#![cfg(feature = "uring")]

mod uring_support;

use std::rc::Rc;
use std::time::Duration;

use ringway_buf::Mode;
use ringway_driver::uring::UringConfig;
use ringway_driver::{Close, Driver, Park, SocketId, SocketOptions};
use uring_support::{LARGE_BYTES, Node, Random, Taste, frame, pair, pair_with, pattern, run};

fn guarded(taste: Taste) -> Node {
    Node::with(taste, UringConfig::default(), Mode::Guard, 1 << 28)
}

fn assert_clean(node: &Node) {
    assert_eq!(
        node.driver.stats().faults,
        0,
        "an operation touched freed memory"
    );
    assert_eq!(node.driver.stats().stale, 0);
}

#[test]
fn a_storm_of_switching_keeps_every_byte() {
    let (mut a, mut b) = (guarded(Taste::Frames), guarded(Taste::Frames));
    let pairs: Vec<_> = (0..8)
        .map(|_| pair(&mut a, &mut b, "tcp://127.0.0.1:0"))
        .collect();
    let mut random = Random::new(11);
    let mut expected = vec![Vec::new(); pairs.len()];
    for _ in 0..3000 {
        let which = random.below(pairs.len());
        let (near, far) = pairs[which];
        let large = random.one_in(20);
        let len = if large {
            LARGE_BYTES + random.below(200_000)
        } else {
            random.below(4000)
        };
        if a.driver.stats().send_direct < 100_000 && expected[which].len() < 4_000_000 {
            let body = pattern(len, random.next());
            expected[which].extend_from_slice(&body);
            a.send(near, &frame(&body));
        }
        a.flush();
        a.poll();
        b.driver.read(far, random.one_in(2));
        b.poll();
    }
    for (_, far) in &pairs {
        b.driver.read(*far, true);
    }
    run(&mut a, &mut b, |_, b| {
        pairs
            .iter()
            .zip(&expected)
            .all(|((_, far), all)| b.received(*far).len() == all.len())
    });
    for ((_, far), all) in pairs.iter().zip(&expected) {
        assert!(b.received(*far) == all);
    }
    assert_clean(&a);
    assert_clean(&b);
}

#[test]
fn a_storm_of_closing_ends_every_socket_once() {
    let (mut a, mut b) = (guarded(Taste::Copies), guarded(Taste::Copies));
    let (_, address) = b.listen("tcp://127.0.0.1:0");
    let mut random = Random::new(12);
    let mut opened: Vec<SocketId> = Vec::new();
    let mut adopted: Vec<SocketId> = Vec::new();
    for _ in 0..1500 {
        let near = a.connect(&address);
        a.driver.read(near, true);
        opened.push(near);
        a.send(near, &pattern(random.below(100_000), 1));
        for _ in 0..random.below(4) {
            a.flush();
            a.poll();
            b.poll();
            b.flush();
        }
        adopted.extend(b.adopt_all());
        if let Some(far) = adopted.last() {
            b.send(*far, &pattern(random.below(100_000), 2));
        }
        let how = |random: &mut Random| {
            if random.one_in(2) {
                Close::Abort
            } else {
                Close::Graceful
            }
        };
        let victim = opened[opened.len() - 1 - random.below(opened.len().min(4))];
        a.close(victim, how(&mut random));
        if !adopted.is_empty() {
            let victim = adopted[adopted.len() - 1 - random.below(adopted.len().min(4))];
            b.close(victim, how(&mut random));
        }
    }
    for id in &opened {
        a.close(*id, Close::Abort);
    }
    let mut waited = 0;
    run(&mut a, &mut b, |a, b| {
        // Connections may still wait in the listener's queue.
        adopted.extend(b.adopt_all());
        for id in &adopted {
            b.close(*id, Close::Abort);
        }
        waited += 1;
        let over = |node: &Node, ids: &[SocketId]| ids.iter().all(|id| node.sink.closed(*id));
        waited > 50 && over(a, &opened) && over(b, &adopted)
    });
    assert_clean(&a);
    assert_clean(&b);
}

#[test]
fn a_driver_dropped_with_thousands_of_operations_in_flight_frees_all_it_held() {
    for mode in [Mode::Guard, Mode::Poison] {
        let config = UringConfig::default();
        let mut a = Node::with(Taste::Copies, config, mode, 1 << 29);
        let mut b = Node::with(Taste::Copies, config, mode, 1 << 29);
        // Small buffers in the kernel, so that little is enough to block.
        let options = SocketOptions {
            send_buffer_bytes: Some(8192),
            ..SocketOptions::default()
        };
        let pairs: Vec<_> = (0..1500)
            .map(|_| pair_with(&mut a, &mut b, "unix://@ringway-storm", &options))
            .collect();
        // Nobody reads at `b`: the sends of `a` stay in flight, beside a receive each.
        for (_, far) in &pairs {
            b.driver.read(*far, false);
        }
        for _ in 0..10 {
            b.poll();
        }
        for (near, _) in &pairs {
            let mut chain = a.chain(&[5; 60_000]);
            a.driver.send(*near, &mut chain);
        }
        for _ in 0..20 {
            a.flush();
            a.poll();
        }
        assert!(
            pairs
                .iter()
                .filter(|(near, _)| a.sink.of(*near).sent < 60_000)
                .count()
                > 1000
        );
        assert_clean(&a);
        let pools = Rc::clone(&a.pools);
        drop(a);
        assert_eq!(
            pools.budget().used(),
            pools.stashed_bytes(),
            "everything came home"
        );
        assert!(b.driver.shutdown(Duration::from_secs(10)));
        let pools = Rc::clone(&b.pools);
        drop(b);
        assert_eq!(pools.budget().used(), pools.stashed_bytes());
    }
}

#[test]
fn a_driver_that_was_shut_down_stays_down() {
    let mut a = guarded(Taste::Copies);
    let (listener, _) = a.listen("tcp://127.0.0.1:0");
    assert!(a.driver.shutdown(Duration::from_secs(1)));
    assert_eq!(a.driver.poll(Park::Until(None), &mut a.sink), 0);
    a.close(listener, Close::Abort);
    a.flush();
    assert!(a.driver.shutdown(Duration::from_secs(1)));
}
