//! A unique, writable piece of pool memory with head- and tailroom.

use crate::pool::Shared;
use crate::slot::Slot;
use crate::{RecvBuffer, Slice};

/// Unique, writable memory: `[headroom | content | tailroom]`.
///
/// A layer below writes its header in front of the content ([`prepend`](Self::prepend)) and its trailer
/// behind it ([`append`](Self::append)) without moving it. Dropping a lease returns its slot to the pool, on
/// any thread, without blocking or allocating. Memory is always initialised; fresh room may hold old bytes of
/// this process.
#[derive(Debug)]
pub struct Lease {
    slot: Slot,
    head: u32,
    tail: u32,
}

impl Lease {
    #[inline]
    pub(crate) fn new(slot: Slot) -> Self {
        debug_assert!(slot.is_unique());
        Self {
            slot,
            head: 0,
            tail: 0,
        }
    }

    /// Empties the lease and leaves `headroom` bytes in front (at most its capacity).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit capacity"
    )]
    #[inline]
    pub fn reset(&mut self, headroom: usize) {
        self.head = headroom.min(self.capacity()) as u32;
        self.tail = self.head;
    }

    /// Size of the whole slot in bytes.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slot.capacity()
    }

    /// Bytes of content.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// True when there is no content.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Room in front of the content, in bytes.
    #[must_use]
    #[inline]
    pub fn headroom(&self) -> usize {
        self.head as usize
    }

    /// Room behind the content, in bytes.
    #[must_use]
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.capacity() - self.tail as usize
    }

    /// The content.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a lease is the only handle of its slot (constructor), so `&self` excludes writers.
        unsafe { self.slot.bytes(self.head, self.tail) }
    }

    /// The content, writable.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a lease is the only handle of its slot, and `&mut self` is the only borrow of it.
        unsafe { self.slot.bytes_mut(self.head, self.tail) }
    }

    /// Grows the content by `len` bytes at its end and returns them; `None` without that much tailroom.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit capacity"
    )]
    #[inline]
    pub fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.tailroom() {
            return None;
        }
        let from = self.tail;
        self.tail += len as u32;
        // SAFETY: as in `bytes_mut`; `from..tail` was just checked to lie inside the slot.
        Some(unsafe { self.slot.bytes_mut(from, self.tail) })
    }

    /// The room behind the content: old bytes of this process, or what was just written there.
    #[must_use]
    #[inline]
    pub fn spare(&self) -> &[u8] {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a slot's capacity fits 32 bits"
        )]
        let capacity = self.slot.capacity() as u32;
        // SAFETY: as in `bytes`; `tail` never exceeds the capacity.
        unsafe { self.slot.bytes(self.tail, capacity) }
    }

    /// The room behind the content, writable: to be filled first and made content by [`append`](Self::append),
    /// or left alone.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a slot's capacity fits 32 bits"
        )]
        let capacity = self.slot.capacity() as u32;
        // SAFETY: as in `bytes_mut`; `tail` never exceeds the capacity.
        unsafe { self.slot.bytes_mut(self.tail, capacity) }
    }

    /// Grows the content by `len` bytes at its front and returns them; `None` without that much headroom.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit capacity"
    )]
    #[inline]
    pub fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.headroom() {
            return None;
        }
        let to = self.head;
        self.head -= len as u32;
        // SAFETY: as in `bytes_mut`; `head..to` was just checked to lie inside the slot.
        Some(unsafe { self.slot.bytes_mut(self.head, to) })
    }

    /// Cuts the content to its first `len` bytes; longer than the content changes nothing.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit capacity"
    )]
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.tail = self.head + len.min(self.len()) as u32;
    }

    /// Drops the first `len` bytes of content (all of it, if shorter); they become headroom.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the 32-bit capacity"
    )]
    #[inline]
    pub fn advance(&mut self, len: usize) {
        self.head += len.min(self.len()) as u32;
    }

    /// Freezes the content: shared, immutable, `Send`. No copy.
    #[must_use]
    #[inline]
    pub fn freeze(self) -> Slice {
        Slice::new(self.slot, self.head, self.tail)
    }

    /// Turns the lease into a buffer that a driver fills at its tail.
    #[must_use]
    #[inline]
    pub fn into_recv(self) -> RecvBuffer {
        RecvBuffer::new(self.slot, self.head, self.tail)
    }

    #[inline]
    pub(crate) fn home(&self) -> *const Shared {
        self.slot.home()
    }

    #[inline]
    pub(crate) fn from_parts(slot: Slot, head: u32, tail: u32) -> Self {
        debug_assert!(slot.is_unique());
        Self { slot, head, tail }
    }
}
