//! How a type is written, without its codec's name: what replies and senders carry.

use core::fmt;

use crate::{Codec, DecodeError};

/// The writing half of a codec for one type.
pub(crate) struct Coder<T: ?Sized> {
    pub(crate) len: fn(&T) -> usize,
    pub(crate) write: fn(&T, &mut [u8]),
}

impl<T: ?Sized> Coder<T> {
    #[inline]
    pub(crate) fn of<C: Codec<T>>() -> Self {
        Self {
            len: C::encoded_len,
            write: C::encode,
        }
    }
}

impl<T: ?Sized> Clone for Coder<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Coder<T> {}

impl<T: ?Sized> fmt::Debug for Coder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coder").finish_non_exhaustive()
    }
}

/// The reading half of a codec for one type.
pub(crate) type Decoder<T> = fn(&[u8]) -> Result<T, DecodeError>;
