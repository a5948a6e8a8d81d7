//! The way home of free slots: any thread pushes, the pool's owner takes all at once.
//!
//! A stack linked through the slots' control blocks: it needs no memory of its own, can't be full, and since
//! nobody pops single entries there is no ABA problem. (A ring with a cell for each slot there may ever be
//! would cost an engine 5 MiB before its first message.) Checked by `tests/loom.rs`.

use crate::sync::{AtomicU32, Ordering};

/// "No slot": a pool has at most 2^32 - 1, so the last index is never used.
const NONE: u32 = u32::MAX;

/// Slots on their way home, newest first.
#[derive(Debug)]
pub struct Returns {
    newest: AtomicU32,
}

/// A slot's place in the list.
#[derive(Debug)]
pub struct Link(AtomicU32);

impl Returns {
    /// An empty list.
    #[must_use]
    #[cfg_attr(
        loom,
        expect(clippy::new_without_default, reason = "shown to loom tests only")
    )]
    pub fn new() -> Self {
        Self {
            newest: AtomicU32::new(NONE),
        }
    }

    /// Puts the slot `index`, whose link is `link`, into the list. It must not be in it.
    #[inline]
    pub fn push(&self, index: u32, link: &Link) {
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange below.
            link.0.store(newest, Ordering::Relaxed);
            // Release pairs with the Acquire of `take`: the link, and every use of the slot, come before.
            // Later pushes are exchanges too, so they carry this one's release on.
            match self.newest.compare_exchange_weak(
                newest,
                index,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(other) => newest = other,
            }
        }
    }

    /// Takes the whole list; follow it by [`Link::next`]. Only the pool's owner calls this.
    #[inline]
    #[must_use]
    pub fn take(&self) -> Option<u32> {
        // A plain look first: the list is empty most of the time, and an exchange owns the cache line.
        if self.newest.load(Ordering::Relaxed) == NONE {
            return None;
        }
        let newest = self.newest.swap(NONE, Ordering::Acquire);
        (newest != NONE).then_some(newest)
    }
}

impl Link {
    /// The link of a slot that is in no list.
    #[must_use]
    #[cfg_attr(
        loom,
        expect(clippy::new_without_default, reason = "shown to loom tests only")
    )]
    pub fn new() -> Self {
        Self(AtomicU32::new(NONE))
    }

    /// The slot behind this one in a list that was taken.
    #[inline]
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        // Relaxed: `take` ordered the links of everything it took.
        let next = self.0.load(Ordering::Relaxed);
        (next != NONE).then_some(next)
    }
}
