//! The 16 bytes in front of every frame.
//!
//! Transport fields first (`length`, `kind`, `flags`, `tag`), then eight bytes (`word`) that belong to the
//! layer above, so that one frame carries a whole unary request or response without a second header.

use bytemuck::{Pod, Zeroable};

use super::index_of;

/// Size of a [`Header`] in bytes.
pub const HEADER_BYTES: usize = 16;

/// Frames start at multiples of this many bytes from the start of the stream.
pub const FRAME_ALIGN: usize = 16;

/// Kinds of frames. Below [`MESSAGE_MIN`](kind::MESSAGE_MIN) they belong to the transport.
pub mod kind {
    /// Filler: header and body are skipped. Room that was reserved in vain may become one.
    pub const PAD: u8 = 0;
    /// Asks for a [`PONG`] with the same `word`.
    pub const PING: u8 = 1;
    /// Answers a [`PING`].
    pub const PONG: u8 = 2;
    /// Announces the end of messages; with [`FINAL`](super::flag::FINAL) it is the end.
    pub const GOAWAY: u8 = 3;
    /// The sender's last frame; `tag` holds the [`CloseCode`](crate::CloseCode).
    pub const CLOSE: u8 = 4;
    /// A message without further meaning: what a raw message connection sends.
    pub const MESSAGE: u8 = 0x40;
    /// From here on kinds belong to the layers above; the transport delivers them and never looks inside.
    pub const MESSAGE_MIN: u8 = 0x40;
}

/// Flags of transport frames. Flags of messages belong to the layers above.
pub mod flag {
    /// Who doesn't know the kind of this transport frame skips it instead of closing the connection.
    pub const IGNORABLE: u8 = 0x01;
    /// On [`GOAWAY`](super::kind::GOAWAY): no message follows this frame.
    pub const FINAL: u8 = 0x02;
}

/// A frame header, `docs/wire/stream.md#header`.
///
/// The values are in the byte order of the machine; [`read`](Self::read) and [`write`](Self::write) convert,
/// which costs nothing on little-endian ones.
///
/// ```
/// use ringway_proto::{HEADER_BYTES, Header};
///
/// let header = Header::message(5, 7, 0x0102);
/// let mut bytes = [0; HEADER_BYTES];
/// assert!(header.write(&mut bytes));
/// assert_eq!(bytes, [5, 0, 0, 0, 0x40, 0, 7, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
/// assert_eq!(Header::read(&bytes), Some(header));
/// assert_eq!(header.frame_bytes(), 32);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// Bytes of the body, without header and padding.
    pub length: u32,
    /// What the frame is; see [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Opaque to the transport, save for CLOSE, where it is the code.
    pub tag: u16,
    /// Opaque to the transport, save for PING and PONG, where it is a token: the layer above puts its call
    /// fields here.
    pub word: u64,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(HEADER_BYTES.is_multiple_of(FRAME_ALIGN));

impl Header {
    /// The header of a plain message.
    #[must_use]
    pub const fn message(length: u32, tag: u16, word: u64) -> Self {
        Self {
            length,
            kind: kind::MESSAGE,
            flags: 0,
            tag,
            word,
        }
    }

    /// The header of a filler with a body of `length` bytes.
    #[must_use]
    pub const fn pad(length: u32) -> Self {
        Self {
            length,
            kind: kind::PAD,
            flags: 0,
            tag: 0,
            word: 0,
        }
    }

    /// Reads the header at the front of `bytes`; `None` if they are fewer than 16.
    #[inline]
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let wire = bytes.first_chunk::<HEADER_BYTES>()?;
        Some(bytemuck::cast::<[u8; HEADER_BYTES], Self>(*wire).swapped_on_big_endian())
    }

    /// Writes the header to the front of `out`; returns false and writes nothing if that has no 16 bytes.
    #[inline]
    #[must_use = "false means that nothing was written"]
    pub fn write(&self, out: &mut [u8]) -> bool {
        let Some(target) = out.first_chunk_mut::<HEADER_BYTES>() else {
            return false;
        };
        *target = bytemuck::cast(self.swapped_on_big_endian());
        true
    }

    /// Bytes of the whole frame: header, body and padding.
    #[inline]
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(padded(index_of(self.length)))
    }

    /// True when the frame belongs to the layers above.
    #[inline]
    #[must_use]
    pub const fn is_message(&self) -> bool {
        self.kind >= kind::MESSAGE_MIN
    }

    /// Its own inverse; the identity on little-endian machines.
    #[inline]
    fn swapped_on_big_endian(self) -> Self {
        Self {
            length: u32::from_le(self.length),
            tag: u16::from_le(self.tag),
            word: u64::from_le(self.word),
            ..self
        }
    }
}

/// Bytes that a body of `len` bytes takes in a frame: rounded up to [`FRAME_ALIGN`].
///
/// Saturates just below `usize::MAX`, so that a length that no memory can hold compares as too long.
#[inline]
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.saturating_add(FRAME_ALIGN.saturating_sub(1)) & !FRAME_ALIGN.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs/wire/stream.md#header
    #[test]
    fn header_has_the_bytes_of_the_document() {
        let header = Header {
            length: 0x0403_0201,
            kind: 0x40,
            flags: 0x80,
            tag: 0x0605,
            word: 0x0E0D_0C0B_0A09_0807,
        };
        let golden = [1, 2, 3, 4, 0x40, 0x80, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        let mut bytes = [0; HEADER_BYTES];
        assert!(header.write(&mut bytes));
        assert_eq!(bytes, golden);
        assert_eq!(Header::read(&golden), Some(header));
    }

    #[test]
    fn short_slices_give_nothing_and_stay_untouched() {
        let mut short = [7; HEADER_BYTES - 1];
        assert_eq!(Header::read(&short), None);
        assert!(!Header::message(1, 2, 3).write(&mut short));
        assert_eq!(short, [7; HEADER_BYTES - 1]);
    }

    // docs/wire/stream.md#padding
    #[test]
    fn bodies_are_padded_to_sixteen() {
        let table = [
            (0, 0),
            (1, 16),
            (15, 16),
            (16, 16),
            (17, 32),
            (32, 32),
            (33, 48),
        ];
        for (len, expected) in table {
            assert_eq!(padded(len), expected, "body of {len}");
        }
        assert_eq!(padded(usize::MAX), usize::MAX & !15);
        assert_eq!(padded(usize::MAX - 15), usize::MAX - 15);
        assert_eq!(
            Header::message(u32::MAX, 0, 0).frame_bytes(),
            (1 << 32) + 16
        );
    }
}
