//! Too few slots, too little memory, too small a queue: everything goes on, in order and fairly.

#![cfg(feature = "uring")]

mod uring_support;

use ringway_buf::Mode;
use ringway_driver::uring::UringConfig;
use ringway_driver::{Close, Driver, Park, SocketId};
use uring_support::{Node, TURNS_MAX, Taste, pair, pattern, run};

fn small(slots_max: u16, taste: Taste, budget_bytes: usize) -> Node {
    let config = UringConfig {
        slots_max,
        ..UringConfig::default()
    };
    Node::with(taste, config, Mode::Poison, budget_bytes)
}

fn pairs(a: &mut Node, b: &mut Node, count: usize) -> Vec<(SocketId, SocketId)> {
    (0..count)
        .map(|_| pair(a, b, "tcp://127.0.0.1:0"))
        .collect()
}

#[test]
fn two_slots_serve_many_connections_fairly() {
    const CONNECTIONS: usize = 200;
    const BYTES: usize = 400_000;
    let (mut a, mut b) = (Node::new(Taste::Copies), small(2, Taste::Copies, 1 << 28));
    let pairs = pairs(&mut a, &mut b, CONNECTIONS);
    let bytes = pattern(BYTES, 9);
    for (near, _) in &pairs {
        a.send(*near, &bytes);
    }
    a.flush();
    let mut lowest_at_first_end = None;
    run(&mut a, &mut b, |_, b| {
        let (mut low, mut high) = (usize::MAX, 0);
        for (_, far) in &pairs {
            let len = b.received(*far).len();
            (low, high) = (low.min(len), high.max(len));
        }
        if high == BYTES {
            lowest_at_first_end.get_or_insert(low);
        }
        low == BYTES
    });
    assert!(pairs.iter().all(|(_, far)| b.received(*far) == bytes));
    assert!(
        b.driver.stats().starved > 0,
        "two slots are too few, that is the point"
    );
    // Up to four are hot and read directly; nobody else gets a second slot before all had one.
    let low = lowest_at_first_end.unwrap();
    assert!(
        low > 0,
        "somebody had nothing yet when the first had everything"
    );
}

#[test]
fn one_slot_and_idle_connections_do_not_block_each_other() {
    let (mut a, mut b) = (Node::new(Taste::Copies), small(1, Taste::Copies, 1 << 28));
    let pairs = pairs(&mut a, &mut b, 50);
    // Each of them alone has something to say, again and again, while 49 sit there armed.
    for round in 0..3 {
        for (near, far) in &pairs {
            a.send(*near, &[round; 100]);
            a.flush();
            while b.received(*far).len() < 100 * (usize::from(round) + 1) {
                b.driver.poll(Park::Until(None), &mut b.sink);
            }
            a.poll();
        }
    }
    assert!(pairs.iter().all(|(_, far)| b.received(*far).len() == 300));
}

#[test]
fn a_consumer_that_keeps_every_slice_costs_memory_not_slots() {
    // 8 slots, but room for 64 MiB: what is kept is swapped for fresh memory under the same ids.
    let (mut a, mut b) = (
        Node::new(Taste::Copies),
        small(8, Taste::KeepsSlices, 1 << 26),
    );
    let pairs = pairs(&mut a, &mut b, 16);
    let bytes = pattern(1_000_000, 5);
    for (near, _) in &pairs {
        a.send(*near, &bytes);
    }
    run(&mut a, &mut b, |_, b| {
        pairs
            .iter()
            .all(|(_, far)| b.received(*far).len() == bytes.len())
    });
    assert!(pairs.iter().all(|(_, far)| b.received(*far) == bytes));
    assert!(b.sink.slices.iter().map(|slice| slice.len()).sum::<usize>() == 16_000_000);
}

#[test]
fn at_the_cap_the_driver_waits_and_goes_on_when_slices_are_dropped() {
    let (mut a, mut b) = (
        Node::new(Taste::Copies),
        small(8, Taste::KeepsSlices, 1 << 20),
    );
    let pairs = pairs(&mut a, &mut b, 8);
    let bytes = pattern(1_000_000, 6);
    for (near, _) in &pairs {
        a.send(*near, &bytes);
    }
    // The budget is used up: no progress, but no harm.
    let mut still = 0;
    let mut before = 0;
    while still < 2000 {
        a.flush();
        a.poll();
        b.poll();
        let now = pairs.iter().map(|(_, far)| b.received(*far).len()).sum();
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    assert!(before < 8_000_000, "a cap is a cap");
    assert!(b.pools.budget().used() <= 1 << 20);
    // A park does not sleep for ever, though nobody tells when memory comes back.
    b.driver.poll(Park::Until(None), &mut b.sink);
    for _ in 0..TURNS_MAX {
        b.sink.slices.clear();
        a.flush();
        a.poll();
        b.driver.poll(Park::Until(None), &mut b.sink);
        if pairs
            .iter()
            .all(|(_, far)| b.received(*far).len() == bytes.len())
        {
            break;
        }
    }
    assert!(pairs.iter().all(|(_, far)| b.received(*far) == bytes));
}

#[test]
fn a_minimal_completion_queue_loses_nothing() {
    for (submissions, completions) in [(1, 2), (2, 2), (4, 8)] {
        let config = UringConfig {
            submissions,
            completions,
            ..UringConfig::default()
        };
        let mut a = Node::with(Taste::Copies, config, Mode::Poison, 1 << 28);
        let mut b = Node::with(Taste::Copies, config, Mode::Poison, 1 << 28);
        let pairs = pairs(&mut a, &mut b, 60);
        let bytes = pattern(50_000, 7);
        for (near, far) in &pairs {
            a.send(*near, &bytes);
            b.send(*far, &bytes);
        }
        run(&mut a, &mut b, |a, b| {
            pairs.iter().all(|(near, far)| {
                b.received(*far).len() == bytes.len() && a.received(*near).len() == bytes.len()
            })
        });
        for (near, far) in &pairs {
            assert!(b.received(*far) == bytes && a.received(*near) == bytes);
            a.close(*near, Close::Graceful);
            b.close(*far, Close::Graceful);
        }
        assert!(
            b.driver.stats().overflows > 0,
            "the queue was too small, that is the point"
        );
        run(&mut a, &mut b, |a, b| {
            pairs
                .iter()
                .all(|(near, far)| a.sink.closed(*near) && b.sink.closed(*far))
        });
        assert_eq!((a.driver.stats().stale, b.driver.stats().stale), (0, 0));
    }
}
