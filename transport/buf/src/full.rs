//! The answer of a bounded queue that has no room: the message comes back.

use core::fmt;

/// A queue had no room; holds the message that was not taken.
///
/// Returned by [`spsc::Sender::push`](crate::spsc::Sender::push) and
/// [`mpsc::Sender::push`](crate::mpsc::Sender::push). Nothing was consumed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> Full<T> {
    /// The message that was refused.
    #[must_use]
    #[inline]
    pub fn into_inner(self) -> T {
        self.0
    }
}

// By hand: a message need not be `Debug` for its error to be printable.
impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the queue is full: send the message again after its reader caught up, or make the queue larger",
        )
    }
}

impl<T> std::error::Error for Full<T> {}
