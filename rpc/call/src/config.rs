//! Limits of one side of a connection.

use core::fmt;

use crate::wire::{SLOTS_MAX, Settings};

/// What this side allows its peer, told in SETTINGS. `Default` is safe; every limit is per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallConfig {
    /// Calls that a peer may have open at once. Default 1,024, at least 1, at most 65,536.
    pub calls_max: u32,
    /// Longest message that comes in one frame, without a grant, in bytes. Default 64 KiB, at least 1 KiB, at most
    /// 1 MiB.
    pub inline_bytes_max: u32,
    /// Longest metadata of one frame in bytes. Default 16 KiB, at least 256, at most 1 MiB less 16.
    pub metadata_bytes_max: u32,
    /// Longest message in bytes, compressed or not. Default 64 MiB, at least `inline_bytes_max`, at most 1 GiB.
    pub message_bytes_max: u32,
    /// First credit of each stream towards this side, in bytes: what a stream's sender may have on its way before
    /// the application has taken it. Default 256 KiB, at least 1 KiB, at most 1 GiB.
    pub stream_credit: u32,
    /// Methods that a client may bind. Default 4,096, at least 1, at most 65,536.
    pub methods_max: u32,
    /// One-way calls that run at once; more are dropped and counted. Default 1,024.
    pub one_way_max: u32,
    /// Messages shorter than this are not compressed. Default 1,024 bytes.
    pub compress_bytes_min: u32,
    /// Compress the messages that this side sends, if the peer can unpack them. Default no; a call can ask for it.
    pub compress: bool,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            calls_max: 1024,
            inline_bytes_max: 64 * 1024,
            metadata_bytes_max: 16 * 1024,
            message_bytes_max: 64 * 1024 * 1024,
            stream_credit: 256 * 1024,
            methods_max: 4096,
            one_way_max: 1024,
            compress_bytes_min: 1024,
            compress: false,
        }
    }
}

/// A limit out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which field.
    pub field: &'static str,
    /// Its least value.
    pub min: u32,
    /// Its greatest value.
    pub max: u32,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, min, max } = self;
        write!(
            f,
            "`{field}` is out of its range; choose from {min} to {max}"
        )
    }
}

impl core::error::Error for ConfigError {}

impl CallConfig {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        const GIB: u32 = 1 << 30;
        let ranges = [
            ("calls_max", self.calls_max, 1, 65_536.min(SLOTS_MAX)),
            ("inline_bytes_max", self.inline_bytes_max, 1024, 1 << 20),
            (
                "metadata_bytes_max",
                self.metadata_bytes_max,
                256,
                (1 << 20) - 16,
            ),
            (
                "message_bytes_max",
                self.message_bytes_max,
                self.inline_bytes_max,
                GIB,
            ),
            ("stream_credit", self.stream_credit, 1024, GIB),
            ("methods_max", self.methods_max, 1, 65_536),
        ];
        for (field, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(ConfigError { field, min, max });
            }
        }
        Ok(())
    }

    pub(crate) fn settings(&self, compressors: u32) -> Settings {
        Settings {
            calls_max: self.calls_max,
            inline_bytes_max: self.inline_bytes_max,
            metadata_bytes_max: self.metadata_bytes_max,
            message_bytes_max: self.message_bytes_max,
            stream_credit: self.stream_credit,
            methods_max: self.methods_max,
            compressors,
            reserved: 0,
        }
    }
}
