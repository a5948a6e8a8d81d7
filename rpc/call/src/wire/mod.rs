//! Layouts of the call layer, `docs/wire/rpc.md`. Field names here and there are equal.

mod open;
mod settings;
mod timeout;

pub use open::{OPEN_FIELDS_BYTES, OpenFields};
pub use settings::{SETTINGS_BYTES, Settings};
pub use timeout::{timeout_from_wire, timeout_to_wire};

use crate::CallId;

/// Feature bits of the transport's hello that belong to calls.
pub mod feature {
    /// This end speaks calls.
    pub const RPC: u64 = 1;
}

/// Kinds of frames.
pub mod kind {
    /// First frame of each side: its limits.
    pub const SETTINGS: u8 = 0x41;
    /// The client names methods that it will call.
    pub const BIND: u8 = 0x42;
    /// The server's answer to [`BIND`].
    pub const BOUND: u8 = 0x43;
    /// A call begins.
    pub const OPEN: u8 = 0x44;
    /// A message of a stream, or a piece of a large message.
    pub const DATA: u8 = 0x45;
    /// The server's last frame of a call: its status, and for unary answers the message.
    pub const END: u8 = 0x46;
    /// The client gives a call up.
    pub const CANCEL: u8 = 0x47;
    /// Room for more: credit of a stream, or with [`MORE`](super::flag::MORE) the grant of an announced message.
    pub const CREDIT: u8 = 0x48;
    /// Echo of a frame whose kind is unknown.
    pub const NAK: u8 = 0x49;
    /// Who does not know a kind with this bit skips it.
    pub const IGNORABLE: u8 = 0x80;
}

/// Flags of frames.
pub mod flag {
    /// Last message of this direction.
    pub const END: u8 = 0x01;
    /// The message goes on in DATA frames; on CREDIT: the grant of an announced message.
    pub const MORE: u8 = 0x02;
    /// The payload is its plain length (u32), then compressed bytes.
    pub const COMPRESSED: u8 = 0x04;
    /// On OPEN: nobody waits for an answer.
    pub const ONE_WAY: u8 = 0x08;
    /// On OPEN: doing it twice does what doing it once does.
    pub const IDEMPOTENT: u8 = 0x10;
    /// On END: the call was surely not executed.
    pub const NOT_STARTED: u8 = 0x20;
    /// There is a message, if only an empty one.
    pub const MESSAGE: u8 = 0x40;
}

/// Reasons of CANCEL.
pub mod cancel {
    /// The caller has no use for the answer any more.
    pub const UNWANTED: u32 = 0;
    /// The deadline has passed.
    pub const DEADLINE: u32 = 1;
    /// The answer broke a rule or a limit.
    pub const REFUSED: u32 = 2;
}

/// Slot of one-way calls, which need none.
pub const SLOT_ONE_WAY: u32 = 0xF_FFFF;
/// The least urgent priority; higher numbers count as this one.
pub const PRIORITY_MAX: u8 = 7;
/// Most slots of a connection.
pub const SLOTS_MAX: u32 = SLOT_ONE_WAY;
/// Longest piece of a large message in bytes; a multiple of 16, as all pieces but the last are.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;

/// The fields of a message header that belong to calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Head {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Size of the metadata in units of 16 bytes.
    pub tag: u16,
    /// Stream in the lower, `arg` in the upper half.
    pub word: u64,
}

impl Head {
    /// A frame of a call.
    #[must_use]
    #[inline]
    pub const fn new(kind: u8, flags: u8, call: CallId, arg: u32) -> Self {
        Self {
            kind,
            flags,
            tag: 0,
            word: call.to_wire() as u64 | (arg as u64) << 32,
        }
    }

    /// A frame of the connection.
    #[must_use]
    pub const fn of_connection(kind: u8, arg: u32) -> Self {
        Self::new(kind, 0, CallId::from_wire(0), arg)
    }

    /// The call that it belongs to.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub const fn call(&self) -> CallId {
        CallId::from_wire(self.word as u32)
    }

    /// The argument of its kind.
    #[must_use]
    #[inline]
    pub const fn arg(&self) -> u32 {
        (self.word >> 32) as u32
    }

    /// Whether it has all bits of `flags`.
    #[must_use]
    #[inline]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Bytes of metadata in its body.
    #[must_use]
    #[inline]
    pub const fn metadata_bytes(&self) -> usize {
        self.tag as usize * 16
    }
}

/// What a stream message of `bytes` costs of the stream's credit: its frame, header included.
#[must_use]
#[inline]
pub const fn cost(bytes: usize) -> u32 {
    let frame = bytes.next_multiple_of(16).saturating_add(16);
    if frame > i32::MAX as usize {
        i32::MAX as u32
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "just compared")]
        {
            frame as u32
        }
    }
}
