//! Rules of a connection that its peer broke; the connection is closed for it.

use core::fmt;

/// What the peer did. Close with [`CloseCode::Malformed`] or, for floods, its own code.
///
/// [`CloseCode::Malformed`]: https://docs.rs/ringway-proto
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A frame came before SETTINGS.
    NoSettings,
    /// SETTINGS came twice, is too short, or has a limit of 0.
    BadSettings,
    /// BIND or BOUND does not continue where the last one ended, or exceeds `methods_max`.
    BadBind,
    /// A slot beyond `calls_max`.
    SlotRange,
    /// OPEN on a slot whose call is still open.
    SlotBusy,
    /// A frame of this kind has no business in this direction, or lacks its fields.
    BadFrame,
    /// Too many frames that do no work.
    Flood,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSettings => "a frame came before the settings",
            Self::BadSettings => "the settings came twice, too short, or with a limit of 0",
            Self::BadBind => "methods were bound out of order or beyond methods_max",
            Self::SlotRange => "a call's slot is beyond calls_max",
            Self::SlotBusy => "a call was opened on a slot whose call is still open",
            Self::BadFrame => "a frame lacks its fields or goes the wrong way",
            Self::Flood => "too many frames that do no work",
        })
    }
}

impl core::error::Error for Violation {}
