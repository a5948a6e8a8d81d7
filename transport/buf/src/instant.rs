//! A point in time as plain nanoseconds, so that sans-IO code needs no clock.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Nanoseconds since an arbitrary start: `CLOCK_MONOTONIC` in a real driver, virtual time in the simulator.
///
/// Arithmetic saturates; an instant never wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The earliest instant.
    pub const ZERO: Self = Self(0);
    /// The latest instant: "never".
    pub const MAX: Self = Self(u64::MAX);

    /// Makes an instant from nanoseconds.
    #[must_use]
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start of this clock.
    #[must_use]
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Reads `CLOCK_MONOTONIC`. About 25 ns; only drivers and benchmarks call it, once per turn.
    #[must_use]
    #[expect(
        clippy::cast_sign_loss,
        reason = "CLOCK_MONOTONIC is never negative on Linux"
    )]
    pub fn monotonic() -> Self {
        use nix::time::{ClockId, clock_gettime};
        // The call fails only for an unknown clock id or a bad pointer; neither can happen here.
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Self::ZERO, |time| {
            Self(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
        })
    }

    /// Time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}
