//! CUBIC (RFC 9438) with HyStart++ (RFC 9406).
//!
//! Windows are bytes, times nanoseconds. The cubic itself is computed in floating point, which gives the same
//! numbers on every machine: only basic operations of IEEE 754 are used, and a cube root by Newton's method.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "windows are clamped between two bounds when they turn back to whole bytes"
)]
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "windows below 2^40 bytes and times below 2^62 ns"
    )
)]

use ringway_buf::Instant;

use super::{Acked, Controller};

/// Factor of the reduction (RFC 9438, section 4.6).
const BETA: f64 = 0.7;
/// Scale of the cubic in segments per second cubed (RFC 9438, section 5).
const C: f64 = 0.4;
/// Bytes of the segment in which the cubic counts.
const SEGMENT: u64 = 1400;
/// Never less than this.
const WINDOW_MIN: u64 = 4 * SEGMENT;
/// Never more than this.
const WINDOW_MAX: u64 = 1 << 30;
/// Samples of a round before HyStart++ judges (RFC 9406, section 4.3).
const SAMPLES_MIN: u32 = 8;
/// Rounds of conservative slow start (RFC 9406, section 4.3).
const CONSERVATIVE_ROUNDS: u32 = 5;
/// Bounds of the rise that ends slow start. RFC 9406 has 4 and 16 ms, for the internet; where a round trip takes
/// microseconds a queue shows at a tenth of that.
const RISE_NS_MIN: u64 = 20_000;
const RISE_NS_MAX: u64 = 16_000_000;

/// The state of slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Fast,
    Conservative { rounds: u32, baseline_ns: u64 },
    Over,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cubic {
    window: u64,
    threshold: u64,
    start: Start,
    /// The window before the last reduction, in bytes.
    before: f64,
    /// Time from the reduction until the window is what it was, in seconds.
    back: f64,
    epoch: Option<Instant>,
    /// The window that Reno would have, in bytes.
    reno: f64,
    round_end: u64,
    round_least_ns: u64,
    last_least_ns: u64,
    samples: u32,
}

impl Cubic {
    pub(crate) fn new(initial: u64) -> Self {
        Self {
            window: initial.clamp(WINDOW_MIN, WINDOW_MAX),
            threshold: u64::MAX,
            start: Start::Fast,
            before: 0.0,
            back: 0.0,
            epoch: None,
            reno: 0.0,
            round_end: 0,
            round_least_ns: u64::MAX,
            last_least_ns: u64::MAX,
            samples: 0,
        }
    }

    /// Slow start ends when round trips grow, before a queue overflows.
    fn hystart(&mut self, acked: &Acked) {
        self.round_least_ns = self.round_least_ns.min(acked.rtt_ns);
        self.samples += 1;
        let is_judged = self.samples >= SAMPLES_MIN && self.last_least_ns != u64::MAX;
        if is_judged {
            let rise = (self.last_least_ns / 8).clamp(RISE_NS_MIN, RISE_NS_MAX);
            let has_risen = self.round_least_ns >= self.last_least_ns.saturating_add(rise);
            match self.start {
                Start::Fast if has_risen => {
                    self.start = Start::Conservative {
                        rounds: 0,
                        baseline_ns: self.round_least_ns,
                    };
                }
                Start::Conservative { baseline_ns, .. } if self.round_least_ns < baseline_ns => {
                    self.start = Start::Fast;
                }
                _ => {}
            }
        }
        if acked.largest >= self.round_end {
            self.round_end = acked.next;
            self.last_least_ns = self.round_least_ns;
            self.round_least_ns = u64::MAX;
            self.samples = 0;
            if let Start::Conservative { rounds, .. } = &mut self.start {
                *rounds += 1;
                if *rounds >= CONSERVATIVE_ROUNDS {
                    self.threshold = self.window;
                    self.start = Start::Over;
                }
            }
        }
    }

    fn grow(&mut self, acked: &Acked) {
        let segment = SEGMENT as f64;
        let window = self.window as f64;
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.epoch = Some(acked.now);
                if self.before < window {
                    self.before = window;
                    self.back = 0.0;
                } else {
                    self.back = cube_root((self.before - window) / segment / C);
                }
                self.reno = window;
                acked.now
            }
        };
        let elapsed = acked.now.saturating_since(epoch).as_nanos() as f64 / 1e9;
        let ahead = elapsed + acked.smoothed_ns as f64 / 1e9 - self.back;
        let target =
            (self.before + C * segment * ahead * ahead * ahead).clamp(window, 1.5 * window);
        let acked_bytes = acked.bytes as f64;
        let alpha = 3.0 * (1.0 - BETA) / (1.0 + BETA);
        self.reno += alpha * acked_bytes * segment / window;
        let cubic = window + (target - window) * acked_bytes / window;
        let grown = cubic.max(self.reno.min(1.5 * window));
        self.window = (grown as u64).clamp(WINDOW_MIN, WINDOW_MAX);
    }
}

impl Controller for Cubic {
    fn on_ack(&mut self, acked: &Acked) {
        if self.start != Start::Over && self.window < self.threshold {
            self.hystart(acked);
            if acked.is_limited {
                let share = match self.start {
                    Start::Conservative { .. } => acked.bytes / 4,
                    Start::Fast | Start::Over => acked.bytes,
                };
                self.window = (self.window + share).min(WINDOW_MAX);
            }
            return;
        }
        self.start = Start::Over;
        if acked.is_limited {
            self.grow(acked);
        } else {
            // Time without use is no time of growth.
            self.epoch = None;
        }
    }

    fn on_loss(&mut self, _now: Instant, is_mark: bool) {
        // A mark says that a queue builds up, not that it has overflowed (RFC 8511).
        let beta = if is_mark { 0.85 } else { BETA };
        let window = self.window as f64;
        // Fast convergence: who loses again below the last peak makes room for others.
        self.before = if window < self.before {
            window * (1.0 + beta) / 2.0
        } else {
            window
        };
        self.window = ((window * beta) as u64).max(WINDOW_MIN);
        self.threshold = self.window;
        self.start = Start::Over;
        self.epoch = None;
    }

    fn on_collapse(&mut self) {
        self.threshold = (self.window / 2).max(WINDOW_MIN);
        self.window = WINDOW_MIN;
        self.start = Start::Fast;
        self.epoch = None;
        self.last_least_ns = u64::MAX;
    }

    fn window(&self) -> u64 {
        self.window
    }
}

/// The cube root of a number that is not negative.
fn cube_root(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    // From above Newton's method falls to the root; 100 steps suffice for 2^80.
    let mut root = value.max(1.0);
    for _ in 0..100 {
        let next = (2.0 * root + value / (root * root)) / 3.0;
        if next >= root {
            break;
        }
        root = next;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(now_ns: u64, bytes: u64, rtt_ns: u64, largest: u64) -> Acked {
        Acked {
            now: Instant::from_nanos(now_ns),
            bytes,
            rtt_ns,
            smoothed_ns: rtt_ns,
            is_limited: true,
            largest,
            next: largest + 100,
        }
    }

    #[test]
    fn slow_start_doubles_per_round_and_a_loss_takes_three_tenths() {
        let mut cubic = Cubic::new(64 << 10);
        cubic.on_ack(&acked(1, 64 << 10, 20_000, 1));
        assert_eq!(cubic.window(), 128 << 10);
        cubic.on_loss(Instant::from_nanos(2), false);
        assert_eq!(cubic.window(), (128 << 10) * 7 / 10);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut cubic = Cubic::new(64 << 10);
        let idle = Acked {
            is_limited: false,
            ..acked(1, 64 << 10, 20_000, 1)
        };
        cubic.on_ack(&idle);
        assert_eq!(cubic.window(), 64 << 10);
    }

    #[test]
    fn after_a_loss_it_comes_back_to_where_it_was_and_beyond() {
        let mut cubic = Cubic::new(1 << 20);
        cubic.on_loss(Instant::ZERO, false);
        let low = cubic.window();
        let (mut now, rtt_ns, mut peak_at) = (0, 1_000_000, None);
        for round in 0..20_000_u64 {
            now += rtt_ns;
            let window = cubic.window();
            cubic.on_ack(&acked(now, window, rtt_ns, round * 100));
            if window >= 1 << 20 && peak_at.is_none() {
                peak_at = Some(now);
            }
        }
        assert!(low < 1 << 20 && peak_at.is_some() && cubic.window() > 1 << 20);
    }

    #[test]
    fn growing_round_trips_end_slow_start_before_a_loss() {
        let mut cubic = Cubic::new(64 << 10);
        let mut largest = 0;
        for round in 0..30_u64 {
            let rtt_ns = 20_000 + round * 30_000;
            for _ in 0..16 {
                largest += 10;
                cubic.on_ack(&Acked {
                    next: largest + 160,
                    ..acked(largest, 4096, rtt_ns, largest)
                });
            }
        }
        assert_eq!(cubic.start, Start::Over);
    }

    #[test]
    fn cube_roots_are_right() {
        for root in [0.0, 0.5, 1.0, 3.0, 1000.0] {
            let found = cube_root(root * root * root);
            assert!(
                (found - root).abs() < 1e-6 * (1.0 + root),
                "{root}: {found}"
            );
        }
    }
}
