//! Many seeds of a simulated run, two at a time, each replayable; and the randomness that a seed stands for.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "fails by panicking, prints what replays a seed, and counts in small numbers"
)]

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn hits(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Runs of one suite.
pub struct Seeds<T> {
    /// The package and its test binary, for the line that replays a run.
    pub package: &'static str,
    pub test: &'static str,
    /// How many seeds run when `RINGWAY_SEEDS` says nothing.
    pub count: u64,
    /// Plays a seed, and prints its events if asked to.
    pub play: fn(u64, bool) -> T,
}

impl<T: PartialEq + std::fmt::Debug> Seeds<T> {
    /// Plays every seed; how many there were. `None`: `RINGWAY_SEED` asked for one, and that one held.
    pub fn run(&self) -> Option<u64> {
        if let Ok(seed) = std::env::var("RINGWAY_SEED") {
            let seed = seed.parse().expect("RINGWAY_SEED is a number");
            assert!(self.played(seed, true).is_some());
            return None;
        }
        let last = std::env::var("RINGWAY_SEEDS").map_or(self.count, |count| {
            count.parse().expect("RINGWAY_SEEDS is a number")
        });
        let next = AtomicU64::new(0);
        let some = || {
            let mut failed = Vec::new();
            while failed.len() < 3 {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= last {
                    break;
                }
                if self.played(seed, false).is_none() {
                    failed.push(seed);
                }
            }
            failed
        };
        let failed: Vec<u64> = std::thread::scope(|scope| {
            let workers = [(); 2].map(|()| scope.spawn(some));
            workers
                .into_iter()
                .flat_map(|worker| worker.join().expect("a run's panic was caught"))
                .collect()
        });
        assert!(failed.is_empty(), "seeds {failed:?} broke the rules");
        Some(last)
    }

    /// The same seed is the same run, and another seed is another one.
    pub fn are_deterministic(&self, seeds: std::ops::Range<u64>) {
        let mut different = Vec::new();
        for seed in seeds.clone() {
            let (first, second) = (self.played(seed, false), self.played(seed, false));
            assert!(first.is_some());
            assert_eq!(first, second, "seed {seed} ran differently the second time");
            if !different.contains(&first) {
                different.push(first);
            }
        }
        assert_eq!(different.len() as u64, seeds.end - seeds.start);
    }

    /// Plays one seed; a panic prints the line that replays it.
    fn played(&self, seed: u64, print: bool) -> Option<T> {
        let outcome = std::panic::catch_unwind(|| (self.play)(seed, print));
        if outcome.is_err() {
            eprintln!(
                "replay with: RINGWAY_SEED={seed} cargo test --release -p {} --test {} -- --nocapture",
                self.package, self.test
            );
        }
        outcome.ok()
    }
}
