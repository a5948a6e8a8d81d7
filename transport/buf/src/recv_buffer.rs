//! A buffer that is filled at its tail while its front is parsed, consumed and shared.

use core::ops::Range;

use crate::slot::Slot;
use crate::{Lease, SLOT_ALIGN, Slice, copy_counted};

/// `[consumed | content | spare]`: a driver writes the spare room, a protocol consumes the content.
///
/// Bytes below the end of the content never change again while a [`Slice`] of them lives: writing happens in
/// the spare room only, and [`rewind`](Self::rewind) starts over only when nothing is shared.
#[derive(Debug)]
pub struct RecvBuffer {
    slot: Slot,
    start: u32,
    end: u32,
}

impl RecvBuffer {
    #[inline]
    pub(crate) fn new(slot: Slot, start: u32, end: u32) -> Self {
        Self { slot, start, end }
    }

    /// The content: received and not yet consumed.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: only `spare_mut` and `bytes_mut` write, and both borrow `self` mutably.
        unsafe { self.slot.bytes(self.start, self.end) }
    }

    /// The content, writable, if no slice of this slot exists; a stream filter decrypts in place here.
    #[inline]
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.slot.is_unique() {
            return None;
        }
        // SAFETY: no other handle exists and `&mut self` keeps this one from making one.
        Some(unsafe { self.slot.bytes_mut(self.start, self.end) })
    }

    /// Bytes of content.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// True when there is no content.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Size of the whole slot in bytes.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slot.capacity()
    }

    /// Room behind the content, in bytes.
    #[must_use]
    #[inline]
    pub fn spare(&self) -> usize {
        self.capacity() - self.end as usize
    }

    /// The room behind the content, writable. Follow it with [`filled`](Self::filled).
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a slot's capacity fits 32 bits"
        )]
        let capacity = self.slot.capacity() as u32;
        // SAFETY: slices cover bytes below `end` only, so `end..capacity` is this handle's alone.
        unsafe { self.slot.bytes_mut(self.end, capacity) }
    }

    /// Counts the first `len` bytes of the spare room as content.
    ///
    /// # Panics
    /// When `len` exceeds the spare room: the driver claims to have received more than it had room for.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the 32-bit room"
    )]
    #[inline]
    pub fn filled(&mut self, len: usize) {
        assert!(
            len <= self.spare(),
            "filled {len} bytes of {} spare",
            self.spare()
        );
        self.end += len as u32;
    }

    /// Drops the first `len` bytes of content (all of it, if shorter).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit length"
    )]
    #[inline]
    pub fn consume(&mut self, len: usize) {
        self.start += len.min(self.len()) as u32;
    }

    /// A shared handle on `range` of the content; `None` when it does not lie inside. No copy.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit length"
    )]
    #[inline]
    pub fn share(&self, range: Range<usize>) -> Option<Slice> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let (from, to) = (
            self.start + range.start as u32,
            self.start + range.end as u32,
        );
        Some(Slice::new(self.slot.clone(), from, to))
    }

    /// True when no slice of this slot exists.
    #[must_use]
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.slot.is_unique()
    }

    /// Empties the buffer and starts again at `phase % 64`, if nothing of it is shared.
    ///
    /// `phase` is the stream's offset, so that a byte's address and its place in the stream agree modulo 64.
    /// Returns whether it did.
    #[inline]
    pub fn rewind(&mut self, phase: u64) -> bool {
        let unique = self.slot.is_unique();
        if unique {
            self.start = Self::offset_of(phase, self.capacity());
            self.end = self.start;
        }
        unique
    }

    /// Like [`rewind`](Self::rewind) when nothing is shared; otherwise goes on behind what is shared, if at
    /// least `spare_min` bytes of room are left there. Returns whether the buffer is empty and usable now.
    pub fn restart(&mut self, phase: u64, spare_min: usize) -> bool {
        if self.rewind(phase) {
            return true;
        }
        let aligned = (self.end as usize).next_multiple_of(SLOT_ALIGN)
            + Self::offset_of(phase, self.capacity()) as usize;
        if aligned + spare_min > self.capacity() {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the 32-bit capacity")]
        let aligned = aligned as u32;
        self.start = aligned;
        self.end = aligned;
        true
    }

    /// Moves the content to the front of `target`, which is rewound first; counts the copy.
    ///
    /// `target` must be unique and have room; a driver calls this when a message straddles two buffers.
    ///
    /// # Panics
    /// When `target` is shared or too small: the caller chose the wrong buffer.
    pub fn move_to(&mut self, target: &mut Self, phase: u64) {
        assert!(target.rewind(phase), "the target of a move is unique");
        assert!(
            self.len() <= target.spare(),
            "the target of a move has room"
        );
        if !self.is_empty() {
            let copied = copy_counted(target.spare_mut(), self.bytes());
            target.filled(copied);
            self.start = self.end;
        }
    }

    /// Becomes a lease again if nothing of it is shared, else comes back unchanged.
    ///
    /// # Errors
    /// The buffer itself, when slices of it exist.
    #[inline]
    pub fn try_into_lease(self) -> Result<Lease, Self> {
        if self.slot.is_unique() {
            Ok(Lease::from_parts(self.slot, self.start, self.end))
        } else {
            Err(self)
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "below SLOT_ALIGN")]
    #[inline]
    fn offset_of(phase: u64, capacity: usize) -> u32 {
        let offset = (phase % SLOT_ALIGN as u64) as u32;
        if capacity > 2 * SLOT_ALIGN { offset } else { 0 }
    }
}
