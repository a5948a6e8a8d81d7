//! When the next burst may leave: a bucket of bytes, filled a little faster than a window per round trip.
//!
//! Whole bursts leave at once, because one segmented send costs as much as one packet; so the bucket holds what
//! fits one burst, or a millisecond's worth if that is less. While less than half of the window is on the way
//! nothing is counted at all: that path is not the bottleneck.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "bytes below 2^40 and nanoseconds below 2^62, multiplied in 128 bits"
    )
)]

use core::time::Duration;

use ringway_buf::Instant;

/// Most bytes of one burst: what one segmented send carries.
const BURST_BYTES_MAX: u64 = 65_507;
/// As many bytes as the bucket holds, whatever its depth turns out to be.
const FULL: u64 = u64::MAX;
/// Most time that one burst stands for.
const BURST_NS_MAX: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacer {
    tokens: u64,
    filled_at: Instant,
}

impl Pacer {
    /// Bytes a second, times 1.25 so that the window stays the limit (RFC 9002, section 7.7).
    fn rate(window: u64, rtt_ns: u64) -> u64 {
        let rate = u128::from(window) * 1_250_000_000 / u128::from(rtt_ns.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX).max(1)
    }

    fn depth(rate: u64, packet_bytes: u64) -> u64 {
        let worth = u128::from(rate) * u128::from(BURST_NS_MAX) / 1_000_000_000;
        u64::try_from(worth)
            .unwrap_or(u64::MAX)
            .min(BURST_BYTES_MAX)
            .max(2 * packet_bytes)
    }

    /// How many bytes may leave now.
    pub(crate) fn allowance(
        &mut self,
        window: u64,
        in_flight: u64,
        rtt_ns: u64,
        packet_bytes: u64,
        now: Instant,
    ) -> u64 {
        // Most packets take this way: it has no division.
        if in_flight + BURST_BYTES_MAX.min(window / 2) <= window / 2 {
            self.tokens = FULL;
            self.filled_at = now;
            return u64::MAX;
        }
        let rate = Self::rate(window, rtt_ns);
        let depth = Self::depth(rate, packet_bytes);
        self.tokens = self.tokens.min(depth);
        let elapsed = now.saturating_since(self.filled_at).as_nanos();
        let filled = u128::from(rate) * elapsed / 1_000_000_000;
        // Time that filled nothing yet goes on counting.
        if filled > 0 {
            self.tokens =
                depth.min(self.tokens + u64::try_from(filled).unwrap_or(depth).min(depth));
            self.filled_at = now;
        }
        self.tokens
    }

    pub(crate) fn on_sent(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(bytes);
    }

    /// When `bytes` may leave.
    pub(crate) fn ready_at(&self, window: u64, rtt_ns: u64, bytes: u64) -> Instant {
        let rate = Self::rate(window, rtt_ns);
        let lacking = bytes.saturating_sub(self.tokens);
        let wait = (u128::from(lacking) * 1_000_000_000).div_ceil(u128::from(rate));
        self.filled_at + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncongested_path_is_not_paced() {
        let mut pacer = Pacer::default();
        let now = Instant::from_nanos(1);
        assert_eq!(pacer.allowance(1 << 20, 0, 20_000, 1400, now), u64::MAX);
    }

    #[test]
    fn a_full_path_gets_a_window_and_a_quarter_per_round_trip() {
        let mut pacer = Pacer::default();
        let (window, rtt_ns) = (1_000_000, 10_000_000);
        let (mut sent, mut now) = (0, Instant::ZERO);
        while now < Instant::from_nanos(10 * rtt_ns) {
            let allowed = pacer.allowance(window, window, rtt_ns, 1400, now);
            assert!(allowed <= BURST_BYTES_MAX, "bursts are bounded");
            if allowed < 2 * 1400 {
                let at = pacer.ready_at(window, rtt_ns, 2 * 1400);
                assert!(at > now, "waiting leads forward");
                now = at;
                continue;
            }
            pacer.on_sent(allowed);
            sent += allowed;
        }
        assert!((12_000_000..13_000_000).contains(&sent), "{sent}");
    }
}
