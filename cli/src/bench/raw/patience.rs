//! When to give up: a baseline that waits for what never comes must end, and must not pay for a clock.

use std::time::Instant;

use super::super::STALL;
use crate::failure::Failure;

/// Empty calls between two looks at the clock: about a millisecond of spinning.
const MISSES_PER_CLOCK: u32 = 4096;

/// Counts empty calls since the last useful one.
#[derive(Debug)]
pub(crate) struct Patience {
    what: &'static str,
    /// On a blocking socket one empty call means that the stall limit has passed.
    blocking: bool,
    misses: u32,
    since: Instant,
}

impl Patience {
    pub(crate) fn new(what: &'static str, blocking: bool) -> Self {
        Self {
            what,
            blocking,
            misses: 0,
            since: Instant::now(),
        }
    }

    /// A call was useful.
    #[inline]
    pub(crate) fn hit(&mut self) {
        self.misses = 0;
    }

    /// A call found nothing.
    ///
    /// # Errors
    /// [`Failure::Stalled`] after the stall limit.
    #[inline]
    pub(crate) fn miss(&mut self) -> Result<(), Failure> {
        self.misses += 1;
        if self.blocking {
            return Err(self.stalled());
        }
        if self.misses.is_multiple_of(MISSES_PER_CLOCK) {
            return self.look();
        }
        std::hint::spin_loop();
        Ok(())
    }

    #[cold]
    fn look(&mut self) -> Result<(), Failure> {
        if self.misses == MISSES_PER_CLOCK {
            self.since = Instant::now();
        }
        if self.since.elapsed() > STALL {
            Err(self.stalled())
        } else {
            Ok(())
        }
    }

    fn stalled(&self) -> Failure {
        Failure::Stalled { what: self.what }
    }
}
