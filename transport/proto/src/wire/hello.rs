//! The first bytes of either side: preface and hello.
//!
//! The first 16 bytes (the [`Preface`]) keep their places in every version for ever, so that any two versions
//! can tell each other their ranges. The rest is the hello of version 1. A longer hello of a newer peer is
//! read up to what this version knows and otherwise skipped.

use bytemuck::{Pod, Zeroable};

/// The first eight bytes of a connection.
///
/// The first byte is neither ASCII nor the start of an UTF-8 sequence nor a TLS record type, so one port can
/// tell this protocol from HTTP, TLS and SSH by a single byte; the line end and the end-of-file mark behind
/// the name catch transports that translate text, as PNG's signature does.
pub const MAGIC: [u8; 8] = [0x9D, b'R', b'N', b'G', b'W', 0x0D, 0x0A, 0x1A];

/// Oldest version that this code speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest version that this code speaks.
pub const VERSION_MAX: u16 = 1;

/// Size of the part that never changes, [`Preface`].
pub const PREFACE_BYTES: usize = 16;
/// Size of the whole [`Hello`] of version 1. A multiple of 64, so that the frames behind it keep the
/// alignment of the stream's start.
pub const HELLO_BYTES: usize = 64;
/// Longest hello that is accepted from a newer peer.
pub const HELLO_BYTES_MAX: usize = 1024;

/// The part of a hello that every version shares, `docs/wire/stream.md#preface`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Preface {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Oldest version that the sender speaks.
    pub version_min: u16,
    /// Newest version that the sender speaks.
    pub version_max: u16,
    /// Bytes of the whole hello, this part included; a multiple of 16.
    pub hello_bytes: u16,
    /// 1: the sender opened the connection; 2: the sender accepted it.
    pub role: u8,
    /// Zero when sent, ignored when received.
    pub reserved: u8,
}

/// What both ends say first, `docs/wire/stream.md#hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Hello {
    /// Magic, versions and length.
    pub preface: Preface,
    /// Features that the sender can use, one bit each.
    pub features_offered: u64,
    /// Features without which the sender closes the connection.
    pub features_required: u64,
    /// Longest message body in bytes that the sender receives.
    pub message_bytes_max: u32,
    /// The sender of this hello wants no pings more often than this.
    pub keepalive_interval_min_ms: u32,
    /// The sender closes a connection without messages after this time; 0: never.
    pub idle_timeout_ms: u32,
    /// Zero when sent, ignored when received.
    pub reserved: u32,
    /// Random number of this connection's end.
    pub epoch: u64,
    /// Zero when sent, ignored when received.
    pub reserved_tail: u64,
}

const _: () = assert!(size_of::<Preface>() == PREFACE_BYTES);
const _: () = assert!(size_of::<Hello>() == HELLO_BYTES);
const _: () = assert!(HELLO_BYTES.is_multiple_of(super::FRAME_ALIGN));
const _: () = assert!(HELLO_BYTES_MAX.is_multiple_of(super::FRAME_ALIGN));
const _: () = assert!(MAGIC[0] >= 0x80 && MAGIC[0] < 0xC0);

impl Preface {
    /// Reads the preface at the front of `bytes`; `None` if they are too few.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let wire = bytes.first_chunk::<PREFACE_BYTES>()?;
        Some(bytemuck::cast::<[u8; PREFACE_BYTES], Self>(*wire).swapped_on_big_endian())
    }

    fn swapped_on_big_endian(self) -> Self {
        Self {
            version_min: u16::from_le(self.version_min),
            version_max: u16::from_le(self.version_max),
            hello_bytes: u16::from_le(self.hello_bytes),
            ..self
        }
    }
}

impl Hello {
    /// Reads the hello at the front of `bytes`; `None` if they are too few.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let wire = bytes.first_chunk::<HELLO_BYTES>()?;
        Some(bytemuck::cast::<[u8; HELLO_BYTES], Self>(*wire).swapped_on_big_endian())
    }

    /// Writes the hello to the front of `out`; returns false and writes nothing if there is no room.
    #[must_use = "false means that nothing was written"]
    pub fn write(&self, out: &mut [u8]) -> bool {
        let Some(target) = out.first_chunk_mut::<HELLO_BYTES>() else {
            return false;
        };
        *target = bytemuck::cast(self.swapped_on_big_endian());
        true
    }

    fn swapped_on_big_endian(self) -> Self {
        Self {
            preface: self.preface.swapped_on_big_endian(),
            features_offered: u64::from_le(self.features_offered),
            features_required: u64::from_le(self.features_required),
            message_bytes_max: u32::from_le(self.message_bytes_max),
            keepalive_interval_min_ms: u32::from_le(self.keepalive_interval_min_ms),
            idle_timeout_ms: u32::from_le(self.idle_timeout_ms),
            epoch: u64::from_le(self.epoch),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs/wire/stream.md#hello
    #[test]
    fn hello_has_the_bytes_of_the_document() {
        let hello = Hello {
            preface: Preface {
                magic: MAGIC,
                version_min: 1,
                version_max: 1,
                hello_bytes: 64,
                role: 1,
                reserved: 0,
            },
            features_offered: 3,
            features_required: 1,
            message_bytes_max: 64 << 20,
            keepalive_interval_min_ms: 5_000,
            idle_timeout_ms: 0,
            reserved: 0,
            epoch: 0x1122_3344_5566_7788,
            reserved_tail: 0,
        };
        #[rustfmt::skip]
        let golden: [u8; 64] = [
            0x9D, 0x52, 0x4E, 0x47, 0x57, 0x0D, 0x0A, 0x1A,
            0x01, 0x00, 0x01, 0x00, 0x40, 0x00, 0x01, 0x00,
            0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x04, 0x88, 0x13, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        ];
        let mut bytes = [0xFF; HELLO_BYTES];
        assert!(hello.write(&mut bytes));
        assert_eq!(bytes, golden);
        assert_eq!(Hello::read(&golden), Some(hello));
        assert_eq!(Preface::read(&golden), Some(hello.preface));
    }

    // docs/wire/stream.md#preface
    #[test]
    fn magic_is_no_prefix_of_other_protocols() {
        let others: [&[u8]; 6] = [
            b"GET ",
            b"PRI * HTTP/2.0",
            b"SSH-2.0",
            &[0x16, 3, 1],
            &[0x80, 0x2E, 1],
            b"\0\0\0",
        ];
        for other in others {
            assert_ne!(other[0], MAGIC[0]);
        }
        assert!(std::string::String::from_utf8(MAGIC.to_vec()).is_err());
    }
}
