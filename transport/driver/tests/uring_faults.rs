//! The driver on a ring that misbehaves by a seeded script: nothing is lost, doubled or stuck.
//!
//! `RINGWAY_SEED=<number>` replays one run.

#![cfg(feature = "uring")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod uring_support;

use std::rc::Rc;
use std::time::Duration;

use ringway_buf::Mode;
use ringway_driver::uring::{RingShape, Uring, UringConfig};
use ringway_driver::{Close, Driver, Park, SocketId, SocketOptions};
use uring_support::faulty::{Faulty, Script};
use uring_support::{LARGE_BYTES, Node, Random, Taste, frame, pattern, pools, run};

/// How often a run's totals may be looked at before it counts as stuck.
const TURNS_MAX: usize = 400_000;

fn faulty(script: Script, seed: u64, completions: u32) -> Node<Faulty> {
    let shape = RingShape {
        submissions: 256,
        completions,
        no_sqarray: true,
    };
    let pools = pools(Mode::Poison, 1 << 28);
    let ring = Faulty::new(shape, script, seed);
    let config = UringConfig {
        completions,
        slots_max: 64,
        ..UringConfig::default()
    };
    let driver = Uring::with_ring(ring, config, Rc::clone(&pools)).unwrap();
    Node::of(driver, pools, Taste::Frames)
}

/// Connections through one listener, in the order in which both sides named them.
fn connect(a: &mut Node<Faulty>, b: &mut Node<Faulty>, count: usize) -> Vec<(SocketId, SocketId)> {
    let (listener, address) = b.listen("tcp://127.0.0.1:0");
    // Small buffers in the kernel: sends find no room more often.
    let options = SocketOptions {
        send_buffer_bytes: Some(16 * 1024),
        ..SocketOptions::default()
    };
    let mut pairs = Vec::new();
    while pairs.len() < count {
        let near = a.driver.connect(&address, &options).unwrap();
        a.driver.read(near, true);
        let mut far = None;
        run(a, b, |_, b| {
            far = far.or_else(|| b.adopt_all().pop());
            far.is_some()
        });
        pairs.push((near, far.unwrap()));
    }
    b.close(listener, Close::Graceful);
    run(a, b, |_, b| b.sink.closed(listener));
    pairs
}

/// Random frames both ways over a few connections, random parks, then graceful closes.
fn run_script(script: Script, seed: u64, completions: u32) -> u64 {
    let mut random = Random::new(seed);
    let mut a = faulty(script, seed, completions);
    let mut b = faulty(script, seed ^ 0x5555, completions);
    let count = 1 + random.below(6);
    let pairs = connect(&mut a, &mut b, count);
    let mut expected = vec![(Vec::new(), Vec::new()); count];
    let mut left = 200;
    for turn in 0.. {
        assert!(
            turn < TURNS_MAX,
            "seed {seed} is stuck: {:#?} {:#?}",
            a.driver.stats(),
            b.driver.stats()
        );
        let messages = if random.one_in(3) { random.below(6) } else { 0 };
        for _ in 0..messages.min(left) {
            left -= 1;
            let which = random.below(count);
            let len = match random.below(16) {
                0 => LARGE_BYTES + random.below(300_000),
                1..=4 => random.below(30_000),
                _ => random.below(300),
            };
            let body = pattern(len, random.next());
            let (near, far) = pairs[which];
            if random.one_in(2) {
                expected[which].0.extend_from_slice(&body);
                a.send(near, &frame(&body));
            } else {
                expected[which].1.extend_from_slice(&body);
                b.send(far, &frame(&body));
            }
        }
        for node in [&mut a, &mut b] {
            node.flush();
            let park = if random.one_in(8) {
                Park::Until(Some(node.driver.now() + Duration::from_micros(50)))
            } else {
                Park::No
            };
            node.driver.poll(park, &mut node.sink);
        }
        let done = pairs
            .iter()
            .zip(&expected)
            .all(|((near, far), (up, down))| {
                b.received(*far).len() == up.len() && a.received(*near).len() == down.len()
            });
        if left == 0 && done {
            break;
        }
    }
    for ((near, far), (up, down)) in pairs.iter().zip(&expected) {
        assert!(
            b.received(*far) == up && a.received(*near) == down,
            "seed {seed}"
        );
        a.close(*near, Close::Graceful);
        b.close(
            *far,
            if random.one_in(3) {
                Close::Abort
            } else {
                Close::Graceful
            },
        );
    }
    for turn in 0.. {
        assert!(turn < TURNS_MAX, "seed {seed} does not close");
        a.poll();
        b.poll();
        if pairs
            .iter()
            .all(|(near, far)| a.sink.closed(*near) && b.sink.closed(*far))
        {
            break;
        }
    }
    let mut strangers = 0;
    for node in [&mut a, &mut b] {
        assert_eq!(node.driver.stats().faults, 0, "seed {seed}");
        strangers += node.driver.stats().stale;
        assert!(node.driver.shutdown(Duration::from_secs(5)), "seed {seed}");
    }
    strangers
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("RINGWAY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=count).collect(),
    }
}

#[test]
fn an_honest_ring_has_no_stale_completion() {
    for seed in seeds(10) {
        assert_eq!(run_script(Script::default(), seed, 1024), 0);
    }
}

#[test]
fn every_fault_together_loses_nothing() {
    for seed in seeds(24) {
        run_script(Script::all(6), seed, 1024);
    }
}

#[test]
fn each_fault_alone_loses_nothing() {
    let none = Script::default;
    let scripts = [
        Script {
            refused: 3,
            ..none()
        },
        Script {
            single: 2,
            ..none()
        },
        Script { short: 2, ..none() },
        Script { late: 2, ..none() },
        Script { twice: 2, ..none() },
        Script { stale: 2, ..none() },
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        for seed in seeds(6) {
            let stale = run_script(script, seed, 1024);
            assert_eq!(
                stale > 0,
                script.twice > 0 || script.stale > 0,
                "script {index}"
            );
        }
    }
}

#[test]
fn completions_that_overflow_are_not_lost() {
    for seed in seeds(10) {
        run_script(Script::default(), seed, 256);
        run_script(Script::all(8), seed, 256);
    }
}
