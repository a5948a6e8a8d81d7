//! Plain structs: what is in memory is what is on the wire.

use core::fmt;
use core::ops::Deref;

use bytemuck::Pod as Plain;

use super::{Codec, DecodeError};

/// Messages that are plain structs (`bytemuck::Pod`): nothing is encoded, nothing decoded.
///
/// The bytes are those of the machine; both ends have to be little-endian, as every platform that ringway runs on is.
/// A struct that differs between the ends is found when they connect, by the fingerprint of its [`Layout`].
#[derive(Clone, Copy, Debug)]
pub enum Pod {}

/// Describes a plain struct, so that a layout that differs between two ends is refused when they connect.
///
/// `#[ringway::message]` implements it, and [`pod_layout!`](crate::pod_layout) for structs that come from elsewhere.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message of plain bytes",
    note = "put `#[ringway::message]` on it, or describe it by `pod_layout!`"
)]
pub trait Layout {
    /// [`layout_hash`] of the fields.
    const HASH: u32;
}

/// No message at all: no bytes.
impl Layout for () {
    const HASH: u32 = layout_hash("()", 0, &[]);
}

/// Fingerprint of a layout: FNV-1a over name, size, and each field's name, type and offset; never 0. Spaces do not
/// count: compilers write types with more of them or fewer.
#[must_use]
pub const fn layout_hash(name: &str, size: usize, fields: &[(&str, &str, usize)]) -> u32 {
    let mut hash = text(0x811C_9DC5, name);
    hash = number(hash, size);
    let mut at = 0;
    while at < fields.len() {
        let (field, kind, offset) = fields[at];
        hash = number(text(text(hash, field), kind), offset);
        at += 1;
    }
    if hash == 0 { 1 } else { hash }
}

const fn text(mut hash: u32, text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b' ' {
            hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        }
        at += 1;
    }
    (hash ^ 0xFF).wrapping_mul(0x0100_0193)
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is meant")]
const fn low_byte(number: usize) -> u32 {
    number as u8 as u32
}

const fn number(hash: u32, number: usize) -> u32 {
    let mut hash = hash;
    let mut left = number;
    while left > 0 {
        hash = (hash ^ low_byte(left)).wrapping_mul(0x0100_0193);
        left >>= 8;
    }
    (hash ^ 0xFE).wrapping_mul(0x0100_0193)
}

/// Gives a plain struct its [`Layout`]: list its fields as they stand in it.
///
/// ```
/// use ringway_rpc::pod_layout;
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Tick {
///     price: u64,
///     size: u32,
///     side: u32,
/// }
/// pod_layout!(Tick { price: u64, size: u32, side: u32 });
/// ```
#[macro_export]
macro_rules! pod_layout {
    ($name:ident { $($field:ident : $kind:ty),* $(,)? }) => {
        impl $crate::Layout for $name {
            const HASH: u32 = {
                // The listed types are those of the fields, and none is missing.
                let _ = |it: $name| -> ($($kind,)*) {
                    let $name { $($field),* } = it;
                    ($($field,)*)
                };
                $crate::layout_hash(
                    stringify!($name),
                    size_of::<$name>(),
                    &[$((
                        stringify!($field),
                        stringify!($kind),
                        core::mem::offset_of!($name, $field),
                    )),*],
                )
            };
        }
    };
}

/// A plain struct in received bytes: in place if they are aligned, else a copy.
pub struct PodRef<'a, T: Plain>(Place<'a, T>);

enum Place<'a, T> {
    InPlace(&'a T),
    Copied(T),
}

impl<T: Plain> Deref for PodRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Place::InPlace(value) => value,
            Place::Copied(value) => value,
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for PodRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Plain + Layout> Codec<T> for Pod {
    const ID: u8 = 2;
    type View<'a> = PodRef<'a, T>;

    fn schema() -> u32 {
        T::HASH
    }

    #[inline]
    fn encoded_len(_value: &T) -> usize {
        size_of::<T>()
    }

    #[inline]
    fn encode(value: &T, out: &mut [u8]) {
        out.copy_from_slice(bytemuck::bytes_of(value));
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<PodRef<'_, T>, DecodeError> {
        if let Ok(value) = bytemuck::try_from_bytes(bytes) {
            return Ok(PodRef(Place::InPlace(value)));
        }
        Self::decode_owned(bytes).map(|value| PodRef(Place::Copied(value)))
    }

    fn decode_owned(bytes: &[u8]) -> Result<T, DecodeError> {
        bytemuck::try_pod_read_unaligned(bytes).map_err(|_size| DecodeError::Size {
            found: bytes.len(),
            wanted: size_of::<T>(),
        })
    }
}
