//! What each side tells the other before anything else.

use bytemuck::{Pod, Zeroable};

/// Size of [`Settings`] in bytes; a later version may append fields, which are skipped.
pub const SETTINGS_BYTES: usize = 32;

/// Limits of the sender of SETTINGS, `docs/wire/rpc.md#settings`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// Calls that may be open at once.
    pub calls_max: u32,
    /// Longest message that comes in one frame; longer ones are announced and wait for a grant.
    pub inline_bytes_max: u32,
    /// Longest metadata of one frame.
    pub metadata_bytes_max: u32,
    /// Longest message.
    pub message_bytes_max: u32,
    /// First credit of each stream towards the sender of this frame.
    pub stream_credit: u32,
    /// Methods that may be bound.
    pub methods_max: u32,
    /// Bit n: this side can unpack algorithm n.
    pub compressors: u32,
    /// Zero when sent, ignored when received.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Settings>() == SETTINGS_BYTES);

impl Settings {
    /// Reads settings; `None` if there are too few bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let raw: Self = bytemuck::pod_read_unaligned(bytes.get(..SETTINGS_BYTES)?);
        Some(raw.swapped())
    }

    /// Their bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SETTINGS_BYTES] {
        bytemuck::cast(self.swapped())
    }

    fn swapped(self) -> Self {
        Self {
            calls_max: self.calls_max.to_le(),
            inline_bytes_max: self.inline_bytes_max.to_le(),
            metadata_bytes_max: self.metadata_bytes_max.to_le(),
            message_bytes_max: self.message_bytes_max.to_le(),
            stream_credit: self.stream_credit.to_le(),
            methods_max: self.methods_max.to_le(),
            compressors: self.compressors.to_le(),
            reserved: self.reserved.to_le(),
        }
    }
}
