//! A queue of segments: what a connection sends next.

use std::collections::VecDeque;

use crate::{Lease, Slice};

/// One piece of a [`Chain`]: unique memory, or a shared slice.
#[derive(Debug)]
pub enum Segment {
    /// Memory that only this chain holds.
    Lease(Lease),
    /// Memory that others may hold too: retransmission, fan-out.
    Slice(Slice),
}

impl Segment {
    /// The bytes still to send.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease.bytes(),
            Self::Slice(slice) => slice.bytes(),
        }
    }

    #[inline]
    fn advance(&mut self, len: usize) {
        match self {
            Self::Lease(lease) => lease.advance(len),
            Self::Slice(slice) => slice.advance(len),
        }
    }
}

/// Segments in sending order. Keeps its allocation when emptied, so a steady flow never allocates.
#[derive(Debug, Default)]
pub struct Chain {
    segments: VecDeque<Segment>,
    bytes: usize,
}

impl Chain {
    /// An empty chain; allocates nothing.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self {
            segments: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Bytes in all segments.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of segments.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// True when nothing is queued.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Queues a segment at the end. An empty one is dropped at once.
    #[inline]
    pub fn push(&mut self, segment: Segment) {
        let len = segment.bytes().len();
        if len > 0 {
            self.bytes += len;
            self.segments.push_back(segment);
        }
    }

    /// Queues a lease at the end.
    #[inline]
    pub fn push_lease(&mut self, lease: Lease) {
        self.push(Segment::Lease(lease));
    }

    /// Queues a slice at the end.
    #[inline]
    pub fn push_slice(&mut self, slice: Slice) {
        self.push(Segment::Slice(slice));
    }

    /// Moves all segments of `other` to the end of this chain.
    #[inline]
    pub fn append(&mut self, other: &mut Self) {
        self.bytes += core::mem::take(&mut other.bytes);
        // One segment is the usual case, and moving it is much cheaper than the general way.
        if other.segments.len() == 1 {
            self.segments.extend(other.segments.pop_front());
        } else {
            self.segments.append(&mut other.segments);
        }
    }

    /// The segments, front first.
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Takes the first segment out.
    #[inline]
    pub fn pop(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        self.bytes -= segment.bytes().len();
        Some(segment)
    }

    /// Drops the first `len` bytes, handing every lease that is thereby used up to `done`.
    #[inline]
    pub fn advance(&mut self, len: usize, mut done: impl FnMut(Lease)) {
        let mut left = len.min(self.bytes);
        self.bytes -= left;
        while let Some(front) = self.segments.front_mut() {
            let size = front.bytes().len();
            if size > left {
                front.advance(left);
                return;
            }
            left -= size;
            if let Some(Segment::Lease(lease)) = self.segments.pop_front() {
                done(lease);
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }
}
