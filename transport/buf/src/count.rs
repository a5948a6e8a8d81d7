//! How many handles of a slot exist.
//!
//! Below `Slot`, which owns one count per handle. Apart from it so that `tests/loom.rs` can check it.

use crate::sync::{AtomicU32, Ordering};

/// Handles of one slot; zero while the slot is free.
#[derive(Debug)]
pub struct Count(AtomicU32);

impl Count {
    /// Nobody holds the slot.
    #[must_use]
    #[cfg_attr(
        loom,
        expect(clippy::new_without_default, reason = "shown to loom tests only")
    )]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Counts the first handle of a free slot.
    ///
    /// # Panics
    /// When the slot is not free.
    #[inline]
    pub fn issue(&self) {
        // Relaxed: whoever issues found the slot in the free list, whose Acquire ordered its past.
        let before = self.0.swap(1, Ordering::Relaxed);
        assert_eq!(before, 0, "only a free slot is issued");
    }

    /// Counts one more handle; the caller holds one.
    ///
    /// # Panics
    /// At 2^31 handles, long before the count could wrap.
    #[inline]
    pub fn add(&self) {
        // Relaxed: a new handle is made from a living one, as in `Arc`.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "too many slices of one slot");
    }

    /// Gives one handle up. Returns true when it was the last: the slot is the caller's to recycle.
    #[inline]
    #[must_use]
    pub fn release(&self) -> bool {
        // Release pairs with the Acquire below in whoever comes last, and with `is_unique`.
        if self.0.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // Acquire: all uses through other handles happened before the recycling. A load and not a fence, as
        // the standard library does for the sanitizers' sake.
        let _ = self.0.load(Ordering::Acquire);
        true
    }

    /// True when the caller's handle is the only one; nobody else can then make another.
    #[inline]
    #[must_use]
    pub fn is_unique(&self) -> bool {
        // Acquire pairs with the Release in `release`: reads through other handles happened before.
        self.0.load(Ordering::Acquire) == 1
    }
}
