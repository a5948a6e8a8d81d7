//! Direct reads of armed sockets: right when no completion waits, wrong otherwise.
//!
//! The stress mixes both ways on one connection, with few slots, and checks the order of every byte. The same
//! stress on a ring that hides completions, so that the driver reads past bytes that it was not shown, must fail:
//! otherwise the test could not see the failure that it is there for.

#![cfg(feature = "uring")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod uring_support;

use std::rc::Rc;
use std::time::Duration;

use ringway_buf::Mode;
use ringway_driver::uring::{RingShape, Uring, UringConfig};
use ringway_driver::{Driver, Park};
use uring_support::faulty::{Faulty, Script};
use uring_support::{Node, Random, TURNS_MAX, Taste, pair, pattern, pools};

const BYTES: usize = 6_000_000;

struct Outcome {
    in_order: bool,
    direct: u64,
    ring: u64,
    starved: u64,
}

fn node(script: Script, seed: u64) -> Node<Faulty> {
    let shape = RingShape {
        submissions: 64,
        completions: 256,
        no_sqarray: true,
    };
    let pools = pools(Mode::Poison, 1 << 26);
    let config = UringConfig {
        completions: 256,
        slots_max: 2,
        ..UringConfig::default()
    };
    let driver = Uring::with_ring(Faulty::new(shape, script, seed), config, Rc::clone(&pools));
    Node::of(driver.unwrap(), pools, Taste::Copies)
}

/// One direction at full load in messages of random size; the receiver parks now and then, so that the socket
/// stays armed while it is read directly.
fn stress(script: Script, seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let mut a = node(Script::default(), seed);
    let mut b = node(script, seed);
    let (near, far) = pair(&mut a, &mut b, "tcp://127.0.0.1:0");
    let bytes = pattern(BYTES, seed);
    // Three more connections on which the receiver sends: a batch, whose `enter` brings completions that wait
    // for the next turn.
    let sides: Vec<_> = (0..3)
        .map(|_| pair(&mut a, &mut b, "tcp://127.0.0.1:0").1)
        .collect();
    let mut queued = 0;
    for turn in 0.. {
        if b.received(far).len() >= BYTES {
            break;
        }
        assert!(turn < TURNS_MAX, "stuck: {:#?} {:#?}", a.driver, b.driver);
        if queued < BYTES && a.sink.of(near).sent + 200_000 > queued {
            let len = 1 + if random.one_in(4) {
                random.below(60_000)
            } else {
                random.below(600)
            };
            let len = len.min(BYTES - queued);
            a.send(near, &bytes[queued..queued + len]);
            queued += len;
        }
        a.flush();
        a.poll();
        for _ in 0..random.below(3) {
            if random.one_in(2) {
                for side in &sides {
                    b.send(*side, &[0; 8]);
                }
                b.flush();
            }
            b.poll();
        }
        if random.one_in(2) {
            let soon = b.driver.now() + Duration::from_micros(20);
            b.driver.poll(Park::Until(Some(soon)), &mut b.sink);
        }
    }
    let stats = b.driver.stats();
    Outcome {
        in_order: b.received(far) == bytes,
        direct: stats.recv_direct,
        ring: stats.recv_ring,
        starved: stats.starved,
    }
}

#[test]
fn direct_reads_beside_an_armed_receive_keep_the_order() {
    for seed in 1..=4 {
        let outcome = stress(Script::default(), seed);
        assert!(outcome.in_order, "seed {seed}");
        // Else the stress proves nothing: both ways, and starvation, must have had their share.
        let Outcome {
            direct,
            ring,
            starved,
            ..
        } = outcome;
        assert!(
            direct > 100 && ring > 100,
            "seed {seed}: {direct} direct, {ring} by the ring"
        );
        assert!(starved > 0, "seed {seed}: never starved");
    }
}

#[test]
fn the_stress_sees_bytes_that_are_read_past_a_waiting_completion() {
    let hides = Script {
        hides_bytes: 3,
        ..Script::default()
    };
    let wrong = (1..=4)
        .filter(|seed| !stress(hides, *seed).in_order)
        .count();
    assert!(wrong > 0, "the negative control went unnoticed");
}
