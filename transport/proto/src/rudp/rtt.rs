//! How long a round trip takes, in nanoseconds, after RFC 9002 section 5.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "sums of nanoseconds below 2^62: samples are capped when they enter"
    )
)]

use core::time::Duration;

use crate::stream::nanos;

/// No sample counts for more: a peer cannot push the timers beyond what 64 bits hold.
const SAMPLE_NS_MAX: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    pub(crate) latest_ns: u64,
    pub(crate) smoothed_ns: u64,
    variation_ns: u64,
    pub(crate) least_ns: u64,
    sampled: bool,
}

impl Rtt {
    pub(crate) fn new(initial: Duration) -> Self {
        let initial = nanos(initial).min(SAMPLE_NS_MAX);
        Self {
            latest_ns: initial,
            smoothed_ns: initial,
            variation_ns: initial / 2,
            least_ns: initial,
            sampled: false,
        }
    }

    pub(crate) const fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The largest acknowledged packet took `sample_ns`, of which the peer held it for `delay_ns`.
    pub(crate) fn on_sample(&mut self, sample_ns: u64, delay_ns: u64) {
        let sample = sample_ns.clamp(1, SAMPLE_NS_MAX);
        let delay_ns = delay_ns.min(SAMPLE_NS_MAX);
        self.latest_ns = sample;
        if !self.sampled {
            self.sampled = true;
            self.least_ns = sample;
            self.smoothed_ns = sample;
            self.variation_ns = sample / 2;
            return;
        }
        self.least_ns = self.least_ns.min(sample);
        let adjusted = if sample >= self.least_ns + delay_ns {
            sample - delay_ns
        } else {
            sample
        };
        let off = self.smoothed_ns.abs_diff(adjusted);
        self.variation_ns = (3 * self.variation_ns + off) / 4;
        self.smoothed_ns = (7 * self.smoothed_ns + adjusted) / 8;
    }

    /// How long a packet may be overdue before a later one's acknowledgement makes it lost.
    pub(crate) fn loss_delay_ns(&self, granularity_ns: u64) -> u64 {
        let longest = self.smoothed_ns.max(self.latest_ns);
        (longest + longest / 8).max(granularity_ns)
    }

    /// How long to wait for any acknowledgement, without backing off.
    pub(crate) fn probe_ns(&self, granularity_ns: u64, peer_delay_ns: u64) -> u64 {
        self.smoothed_ns + (4 * self.variation_ns).max(granularity_ns) + peer_delay_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_counts_whole_and_later_ones_an_eighth() {
        let mut rtt = Rtt::new(Duration::from_millis(2));
        rtt.on_sample(20_000, 5_000);
        assert_eq!((rtt.smoothed_ns, rtt.variation_ns), (20_000, 10_000));
        assert_eq!(rtt.probe_ns(5_000, 25_000), 85_000);
        rtt.on_sample(36_000, 8_000);
        assert_eq!((rtt.smoothed_ns, rtt.variation_ns), (21_000, 9_500));
        assert_eq!(rtt.loss_delay_ns(1_000), 40_500);
    }

    #[test]
    fn a_delay_never_pushes_a_sample_below_the_least_round_trip() {
        let mut rtt = Rtt::new(Duration::from_millis(2));
        rtt.on_sample(20_000, 0);
        rtt.on_sample(24_000, 20_000);
        assert_eq!(rtt.smoothed_ns, 20_500, "the delay is not believed");
        rtt.on_sample(u64::MAX, u64::MAX);
        assert!(rtt.smoothed_ns <= SAMPLE_NS_MAX);
    }
}
