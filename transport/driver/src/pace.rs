//! Half a burst at a time, for a peer that waits.
//!
//! A client with many requests in flight and its server fall into step: one works through the whole window
//! while the other waits for it, and two cores do the work of one. Whoever takes half of the window first,
//! and has the answers sent before it takes the rest, lets both work at once. That costs a receive and a send
//! more per window, so it is done only by a driver that was looking in vain for a while (then its time is
//! free, and the peer is the one who works), on a connection that answers what it receives, and never for
//! little: such a driver's engine is not short of time, and a busy one takes all that there is.

use core::num::NonZeroUsize;

/// Looks in a row that found nothing, about 8 us: the peer needs longer for its window than the further system
/// calls cost. Fewer gain nothing for cheap messages, of which 64 take less time than that.
const QUIET_LOOKS_MIN: u32 = 32;
/// Bytes of a portion at least: some 20 small calls. Half of that was slower.
const PORTION_BYTES_MIN: u32 = 2048;
/// Above this it is no window of small requests.
const BURST_BYTES_MAX: u32 = 64 * 1024;

/// How the bytes of one connection come: what came since the driver last waited, and whether it is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    burst: u32,
    answered: bool,
}

impl Pace {
    /// The most to receive next, where that is less than all. `quiet`: the driver's vain looks in a row.
    #[inline]
    pub(crate) fn portion(self, quiet: u32) -> Option<NonZeroUsize> {
        let splits = quiet >= QUIET_LOOKS_MIN
            && self.answered
            && (2 * PORTION_BYTES_MIN..=BURST_BYTES_MAX).contains(&self.burst);
        if !splits {
            return None;
        }
        NonZeroUsize::new(self.burst as usize / 2)
    }

    /// `len` bytes were received, after `quiet` vain looks.
    #[inline]
    pub(crate) fn took(&mut self, len: usize, quiet: u32) {
        if quiet > 0 {
            self.burst = 0;
        }
        self.answered = false;
        // Beyond the maximum it only has to stay beyond.
        let beyond = BURST_BYTES_MAX + 1;
        let len = u32::try_from(len).map_or(beyond, |len| len.min(beyond));
        self.burst = (self.burst + len).min(beyond);
    }

    /// Something was sent.
    #[inline]
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITED: u32 = QUIET_LOOKS_MIN;

    /// A connection that received a burst and answered it.
    fn after(burst: usize) -> Pace {
        let mut pace = Pace::default();
        pace.took(burst, WAITED);
        pace.answered();
        pace
    }

    fn portion(pace: Pace, quiet: u32) -> Option<usize> {
        pace.portion(quiet).map(NonZeroUsize::get)
    }

    #[test]
    fn a_driver_that_waited_takes_half_of_the_burst_before() {
        assert_eq!(portion(after(6000), WAITED), Some(3000));
        assert_eq!(portion(after(6000), WAITED - 1), None, "it had to do");
    }

    #[test]
    fn little_and_bulk_are_taken_whole() {
        assert_eq!(portion(after(4095), WAITED), None);
        assert_eq!(portion(after(64 * 1024), WAITED), Some(32 * 1024));
        assert_eq!(portion(after(64 * 1024 + 1), WAITED), None);
        assert_eq!(portion(after(usize::MAX), WAITED), None);
    }

    #[test]
    fn what_is_not_answered_is_taken_whole() {
        let mut pace = after(6000);
        pace.took(6000, WAITED);
        assert_eq!(portion(pace, WAITED), None);
    }

    #[test]
    fn a_burst_is_what_came_without_a_wait_between() {
        let mut pace = after(3000);
        pace.took(3000, 0);
        pace.answered();
        assert_eq!(portion(pace, WAITED), Some(3000));
        pace.took(5000, 1);
        pace.answered();
        assert_eq!(portion(pace, WAITED), Some(2500));
    }
}
