//! Shared, immutable bytes.

use core::ops::{Deref, Range};

use core::ptr::NonNull;
use std::sync::Arc;

use crate::Lease;
use crate::slot::{Owner, Slot};

/// A shared, immutable range of a slot. Cloning counts a reference; no bytes move.
///
/// `Send + Sync`; may outlive the engine and the pool it came from. While a slice lives, its slot stays
/// leased and counts against the budget.
#[derive(Clone, Debug)]
pub struct Slice {
    slot: Slot,
    from: u32,
    to: u32,
}

impl Slice {
    #[inline]
    pub(crate) fn new(slot: Slot, from: u32, to: u32) -> Self {
        Self { slot, from, to }
    }

    /// Memory of somebody else, shared without copying it. `owner` is told with `token` when the last handle is gone.
    /// It counts against no budget. Allocates its count.
    ///
    /// # Safety
    /// `len` readable bytes at `data`, which nobody writes and nobody frees until `owner` is told.
    #[must_use]
    pub unsafe fn lent(data: NonNull<u8>, len: u32, owner: Arc<dyn Owner>, token: u64) -> Self {
        // SAFETY: the caller's promise.
        let slot = unsafe { Slot::lend(data, len, owner, token) };
        Self::new(slot, 0, len)
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a frozen lease has no writer left, and a `RecvBuffer` never writes below its shared end.
        unsafe { self.slot.bytes(self.from, self.to) }
    }

    /// Length in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// True when there are no bytes.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Another handle on `range` of these bytes; `None` when it does not lie inside.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit length"
    )]
    #[inline]
    pub fn subslice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let (from, to) = (self.from + range.start as u32, self.from + range.end as u32);
        Some(Self {
            slot: self.slot.clone(),
            from,
            to,
        })
    }

    /// Drops the first `len` bytes from view (all of them, if shorter).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit length"
    )]
    #[inline]
    pub fn advance(&mut self, len: usize) {
        self.from += len.min(self.len()) as u32;
    }

    /// Becomes a writable lease again if no other handle of the slot exists and it is a pool's, else comes back unchanged.
    ///
    /// # Errors
    /// The slice itself, when its slot is shared.
    #[inline]
    pub fn try_unfreeze(self) -> Result<Lease, Self> {
        if self.slot.is_unique() && !self.slot.is_foreign() {
            Ok(Lease::from_parts(self.slot, self.from, self.to))
        } else {
            Err(self)
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl AsRef<[u8]> for Slice {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
