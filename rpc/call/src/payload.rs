//! The way up: frames as they come, and the messages in them.

use core::fmt;
use core::ops::{Deref, Range};

use ringway_buf::Slice;

use crate::Head;

/// Keeps received bytes beyond the callback, without a copy.
pub trait Keep {
    /// A slice of this range of the frame's body.
    fn retain(&self, range: Range<usize>) -> Slice;
}

/// A frame as it came.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Its fields.
    pub head: Head,
    /// Its body.
    pub body: &'a [u8],
    /// Keeps parts of the body.
    pub keep: &'a dyn Keep,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("head", &self.head)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A received message: borrowed from its frame, or in memory of its own. Dereferences to its bytes.
#[derive(Clone)]
pub struct Payload<'a>(Place<'a>);

#[derive(Clone)]
enum Place<'a> {
    Borrowed {
        bytes: &'a [u8],
        /// Where they start in the body.
        from: usize,
        keep: &'a dyn Keep,
    },
    Owned(Slice),
}

impl<'a> Payload<'a> {
    #[inline]
    pub(crate) fn borrowed(frame: &Frame<'a>, bytes: &'a [u8]) -> Self {
        // A payload is always the rest of its frame.
        let from = frame.body.len() - bytes.len().min(frame.body.len());
        Self(Place::Borrowed {
            bytes,
            from,
            keep: frame.keep,
        })
    }

    /// A message in memory of its own.
    #[must_use]
    pub fn owned(slice: Slice) -> Self {
        Self(Place::Owned(slice))
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Borrowed { bytes, .. } => bytes,
            Place::Owned(slice) => slice.bytes(),
        }
    }

    /// Keeps the message beyond the callback, on any thread, without a copy.
    #[must_use]
    pub fn into_slice(self) -> Slice {
        match self.0 {
            Place::Borrowed { bytes, from, keep } => keep.retain(from..from + bytes.len()),
            Place::Owned(slice) => slice,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.bytes().len())
    }
}
