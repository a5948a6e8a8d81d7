//! How messages become bytes: the only place where a message library shows.
//!
//! A codec is a type without values that speaks for message types: [`Raw`] for bytes, [`Pod`] for plain structs,
//! `Protobuf` and `Prost` for generated messages. Both passes of an encoding, length and bytes, go straight into
//! the room that the transport has claimed.

mod pod;
#[cfg(feature = "prost")]
mod prost;
#[cfg(feature = "protobuf")]
mod protobuf;
mod raw;

use core::fmt;

pub use pod::{Layout, Pod, PodRef, layout_hash};
#[cfg(feature = "prost")]
pub use prost::Prost;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;
pub use raw::Raw;

/// Bytes that are no message of the wanted type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A struct has another size.
    Size {
        /// Bytes that came.
        found: usize,
        /// Bytes of the struct.
        wanted: usize,
    },
    /// The bytes break the rules of the message format.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found, wanted } => {
                write!(f, "{found} bytes where the struct has {wanted}")
            }
            Self::Malformed => f.write_str("the bytes are malformed"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Turns values of `T` into bytes and back. No value of the codec itself ever exists.
pub trait Codec<T: ?Sized> {
    /// Its number on the wire: both ends have to agree on it.
    const ID: u8;

    /// What reading gives without copying: a reference, a borrowed view, or the value itself.
    type View<'a>
    where
        T: 'a;

    /// Fingerprint of the layout of `T`; 0 if the format takes care of differences itself.
    #[must_use]
    fn schema() -> u32 {
        0
    }

    /// Bytes of the encoding.
    fn encoded_len(value: &T) -> usize;

    /// Writes the encoding; `out` is [`encoded_len`](Self::encoded_len) bytes long.
    fn encode(value: &T, out: &mut [u8]);

    /// Reads in place.
    ///
    /// # Errors
    /// The bytes are no `T`.
    fn decode(bytes: &[u8]) -> Result<Self::View<'_>, DecodeError>;

    /// Reads into a value of its own. Every codec of a type with a size has its own; only those without, which
    /// nobody can call this for, leave it out.
    ///
    /// # Errors
    /// The bytes are no `T`.
    fn decode_owned(bytes: &[u8]) -> Result<T, DecodeError>
    where
        T: Sized,
    {
        let _ = bytes;
        Err(DecodeError::Malformed)
    }
}
