//! Token buckets for frames that carry no message, `docs/wire/stream.md#flood`.
//!
//! A fixed count would in the end cut every honest connection that lives long enough; a bucket has a rate and a
//! burst. It is kept as one number, the time at which it would be full again (the generic cell rate
//! algorithm): a token moves that time on by one interval, and the bucket is empty when it lies further than a
//! whole burst ahead.

use core::time::Duration;

use ringway_buf::Instant;

/// One bucket; full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes one token; false when there is none.
    #[must_use]
    pub(crate) fn take(&mut self, interval_ns: u64, burst: u32, now: Instant) -> bool {
        let now_ns = now.as_nanos();
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(interval_ns);
        let allowed_ns = interval_ns.saturating_mul(u64::from(burst));
        let granted = full_at_ns.saturating_sub(now_ns) <= allowed_ns;
        if granted {
            self.full_at_ns = full_at_ns;
        }
        granted
    }

    /// Puts `count` tokens back; more than the bucket holds are lost.
    pub(crate) fn earn(&mut self, interval_ns: u64, count: u32) {
        let earned_ns = interval_ns.saturating_mul(u64::from(count));
        self.full_at_ns = self.full_at_ns.saturating_sub(earned_ns);
    }
}

/// Nanoseconds between tokens at `rate` per second; a rate of 0 counts as 1.
pub(crate) fn interval_ns_of_rate(rate: u32) -> u64 {
    1_000_000_000_u64
        .checked_div(u64::from(rate))
        .unwrap_or(1_000_000_000)
}

/// Nanoseconds of a duration, saturating.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn burst_is_granted_then_the_rate() {
        let mut bucket = Bucket::default();
        let now = Instant::from_nanos(1_000);
        for _ in 0..8 {
            assert!(bucket.take(100, 8, now));
        }
        assert!(!bucket.take(100, 8, now));
        assert!(!bucket.take(100, 8, Instant::from_nanos(1_099)));
        assert!(bucket.take(100, 8, Instant::from_nanos(1_100)));
        assert!(!bucket.take(100, 8, Instant::from_nanos(1_100)));
    }

    #[test]
    fn earned_tokens_can_be_taken_and_do_not_pile_up() {
        let mut bucket = Bucket::default();
        let now = Instant::from_nanos(1_000_000);
        bucket.earn(100, u32::MAX);
        for _ in 0..4 {
            assert!(bucket.take(100, 4, now));
        }
        assert!(!bucket.take(100, 4, now));
        bucket.earn(100, 1);
        assert!(bucket.take(100, 4, now));
        assert!(!bucket.take(100, 4, now));
    }

    #[test]
    fn extremes_neither_overflow_nor_lock_for_ever() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(u64::MAX, u32::MAX, Instant::MAX));
        assert_eq!(interval_ns_of_rate(0), interval_ns_of_rate(1));
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    proptest! {
        // Oracle: never more than burst + elapsed / interval grants in any run from the start.
        #[test]
        fn grants_never_exceed_burst_and_rate(
            steps in prop::collection::vec(0u64..300, 1..200), burst in 1u32..20,
        ) {
            let mut bucket = Bucket::default();
            let mut now = 0;
            let mut granted = 0;
            for step in steps {
                now += step;
                if bucket.take(100, burst, Instant::from_nanos(now)) {
                    granted += 1;
                }
                prop_assert!(granted <= u64::from(burst) + now / 100);
            }
        }
    }
}
