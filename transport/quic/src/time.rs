//! Our nanoseconds as the instants that quinn-proto computes with.

use std::time::Duration;

use ringway_buf::Instant;

/// An arbitrary point in the standard library's time, to which ours is added.
///
/// quinn-proto only ever subtracts and compares instants, so any base gives the same run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base(std::time::Instant);

impl Base {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make a value of that type; what it says is never looked at"
    )]
    pub(crate) fn new() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn foreign(self, now: Instant) -> std::time::Instant {
        // `None` would be 292 years from now: the type holds every instant of ours.
        self.0
            .checked_add(Duration::from_nanos(now.as_nanos()))
            .unwrap_or(self.0)
    }

    pub(crate) fn ours(self, foreign: std::time::Instant) -> Instant {
        Instant::ZERO + foreign.saturating_duration_since(self.0)
    }
}
