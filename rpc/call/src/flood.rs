//! A token bucket for frames that do no work: a rate and a burst, so that no honest connection is ever cut for
//! living long. Kept as one number, the time at which the bucket would be full again.

use ringway_buf::Instant;

/// Idle frames per second that are always fine.
const RATE: u64 = 50_000;
/// And so many at once.
const BURST: u64 = 16_384;
const INTERVAL_NS: u64 = 1_000_000_000 / RATE;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes one token; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let now_ns = now.as_nanos();
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(INTERVAL_NS);
        let granted = full_at_ns.saturating_sub(now_ns) <= INTERVAL_NS * BURST;
        if granted {
            self.full_at_ns = full_at_ns;
        }
        granted
    }

    /// Puts tokens back for frames that this side has caused itself.
    pub(crate) fn earn(&mut self, count: u64) {
        let earned = INTERVAL_NS.saturating_mul(count);
        self.full_at_ns = self.full_at_ns.saturating_sub(earned);
    }
}
