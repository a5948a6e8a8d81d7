//! The sixteen bytes that OPEN adds to a header.

use bytemuck::{Pod, Zeroable};

/// Size of [`OpenFields`] in bytes.
pub const OPEN_FIELDS_BYTES: usize = 16;

/// `docs/wire/rpc.md#open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct OpenFields {
    /// Time that is left, as [`timeout_to_wire`](super::timeout_to_wire) packs it; 0: no deadline.
    pub timeout: u32,
    /// Bytes of the whole message if it comes in pieces, else 0.
    pub total_bytes: u32,
    /// First credit of the answering stream in bytes.
    pub credit: u32,
    /// 0 most urgent, 7 least.
    pub priority: u8,
    /// How many times the caller has tried before.
    pub attempt: u8,
    /// The codec of the method, as bound.
    pub codec: u8,
    /// Zero when sent, ignored when received.
    pub reserved: u8,
}

const _: () = assert!(size_of::<OpenFields>() == OPEN_FIELDS_BYTES);

impl OpenFields {
    /// Reads the fields; `None` if there are too few bytes.
    #[must_use]
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..OPEN_FIELDS_BYTES)?;
        let raw: Self = bytemuck::pod_read_unaligned(bytes);
        Some(raw.swapped())
    }

    /// Their bytes.
    #[must_use]
    #[inline]
    pub fn to_bytes(self) -> [u8; OPEN_FIELDS_BYTES] {
        bytemuck::cast(self.swapped())
    }

    /// Between the machine's byte order and little endian; nothing on little-endian machines.
    #[inline]
    fn swapped(self) -> Self {
        Self {
            timeout: self.timeout.to_le(),
            total_bytes: self.total_bytes.to_le(),
            credit: self.credit.to_le(),
            ..self
        }
    }
}
