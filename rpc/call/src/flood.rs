//! Frames that do no work cost tokens: a rate and a burst, so that no honest connection is ever cut for living
//! long. Frames that were on their way when their call ended cost none: their sender could not know.

use ringway_buf::Instant;

use crate::lane::Lane;
use crate::wire::cost;

/// Idle frames per second that are always fine.
const RATE: u64 = 50_000;
/// And so many at once.
const BURST: u64 = 16_384;
const INTERVAL_NS: u64 = 1_000_000_000 / RATE;
/// Most bytes that count as on their way: more than queues and socket buffers of one connection hold.
const DEBRIS_BYTES_MAX: u64 = 16 << 20;
/// Frames without a message that a call may have on its way: END, CANCEL, CREDIT.
const SMALL_FRAMES: u64 = 8;

/// The account of one connection. The bucket is one number, the time at which it would be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle {
    full_at_ns: u64,
    debris_bytes: u64,
}

impl Idle {
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

    /// A frame with so many bytes came for a call that is over: debris, or else a token.
    pub(crate) fn late(&mut self, bytes: usize, now: Instant) -> bool {
        let cost = u64::from(cost(bytes));
        match self.debris_bytes.checked_sub(cost) {
            Some(left) => {
                self.debris_bytes = left;
                true
            }
            None => self.take(now),
        }
    }

    /// A call ends at this side: its peer may have said something already.
    #[inline]
    pub(crate) fn over(&mut self, lane: Option<&Lane>, inline_bytes_max: u32) {
        match lane {
            // One CANCEL, which the token of its OPEN pays for.
            None => self.full_at_ns = self.full_at_ns.saturating_sub(INTERVAL_NS),
            Some(lane) => self.leaves(lane, inline_bytes_max),
        }
    }

    /// The peer has ended a call that had a lane: what it said in order before may still come.
    #[cold]
    pub(crate) fn trails(&mut self) {
        let bytes = self.debris_bytes.saturating_add(SMALL_FRAMES * 16);
        self.debris_bytes = bytes.min(DEBRIS_BYTES_MAX);
    }

    #[cold]
    fn leaves(&mut self, lane: &Lane, inline_bytes_max: u32) {
        // All that its credit allows, the message that may exceed it, and what a granted one has left.
        let allowed = u64::try_from(lane.allowed).unwrap_or(0);
        let placed = lane.place.as_ref().map_or(0, |place| place.total as u64);
        let inline = u64::from(inline_bytes_max).saturating_add(32);
        let small = SMALL_FRAMES * 16;
        let bytes = self.debris_bytes.saturating_add(allowed + placed);
        self.debris_bytes = bytes.saturating_add(inline + small).min(DEBRIS_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs/wire/rpc.md#floods
    #[test]
    fn a_burst_passes_once_and_the_rate_for_ever() {
        let mut idle = Idle::default();
        let mut now = Instant::from_nanos(1);
        assert!((0..BURST).all(|_| idle.take(now)));
        assert!(!idle.take(now));
        for _ in 0..3 * BURST {
            now = now + core::time::Duration::from_nanos(INTERVAL_NS);
            assert!(idle.take(now));
            assert!(!idle.take(now));
        }
    }

    // docs/wire/rpc.md#floods
    #[test]
    fn what_an_ended_stream_was_allowed_is_no_flood_and_nothing_beyond_is() {
        let mut idle = Idle::default();
        let now = Instant::from_nanos(1);
        while idle.take(now) {}
        let lane = Lane {
            allowed: 1600,
            ..Lane::default()
        };
        idle.over(Some(&lane), 1024);
        let frames = (1600 + 1024 + 32) / 16 + SMALL_FRAMES;
        assert!((0..frames).all(|_| idle.late(0, now)));
        assert!(!idle.late(0, now));
    }
}
