//! What a peer did wrong, what ran out of time, and how a stream ended.

use core::fmt;

use crate::wire::{CloseCode, HELLO_BYTES_MAX, VERSION_MAX, VERSION_MIN};

/// A rule of the wire that the peer broke. The connection can't go on; nothing else is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The first bytes are those of another protocol.
    BadMagic {
        /// Which of the first eight bytes differs.
        at: usize,
        /// What stands there.
        found: u8,
    },
    /// The ranges of versions do not overlap.
    UnsupportedVersion {
        /// Oldest version of the peer.
        peer_min: u16,
        /// Newest version of the peer.
        peer_max: u16,
    },
    /// The peer plays the same role as this end; a client that reached itself looks so.
    WrongRole {
        /// The `role` of its preface.
        role: u8,
    },
    /// The length of the hello is not possible.
    HelloLength {
        /// Announced bytes.
        hello_bytes: u16,
    },
    /// The peer lacks features that this end requires.
    PeerLacksFeatures {
        /// Their bits.
        missing: u64,
    },
    /// The peer requires features that this end (or the peer itself) does not offer.
    PeerRequiresFeatures {
        /// Their bits.
        missing: u64,
    },
    /// A frame announces a longer body than this end receives.
    MessageTooLong {
        /// Announced bytes.
        length: u32,
        /// Allowed bytes.
        max: u32,
    },
    /// A transport frame of unknown kind, without the flag that lets it be skipped.
    UnknownFrame {
        /// The kind.
        kind: u8,
    },
    /// A control frame that takes no body has one.
    ControlLength {
        /// The kind.
        kind: u8,
        /// Announced bytes.
        length: u32,
    },
    /// A message came although the peer had announced its last one.
    MessageAfterFinal {
        /// The kind.
        kind: u8,
    },
    /// Bytes came behind the peer's CLOSE or end of stream.
    AfterClose,
    /// Too many frames that carry no message.
    Flood {
        /// The kind of the one that was too many.
        kind: u8,
    },
}

impl Violation {
    /// What the CLOSE says that answers it.
    ///
    /// `None`: nothing is sent, because the peer speaks another protocol (a stranger gets no bytes) or has
    /// said that it reads no more.
    #[must_use]
    pub const fn code(&self) -> Option<CloseCode> {
        match self {
            Self::BadMagic { .. } | Self::AfterClose => None,
            Self::UnsupportedVersion { .. } => Some(CloseCode::UnsupportedVersion),
            Self::PeerLacksFeatures { .. } | Self::PeerRequiresFeatures { .. } => {
                Some(CloseCode::FeatureRequired)
            }
            Self::MessageTooLong { .. } => Some(CloseCode::MessageTooLong),
            Self::UnknownFrame { .. } => Some(CloseCode::UnknownFrame),
            Self::WrongRole { .. }
            | Self::HelloLength { .. }
            | Self::ControlLength { .. }
            | Self::MessageAfterFinal { .. } => Some(CloseCode::Malformed),
            Self::Flood { .. } => Some(CloseCode::Flood),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic { at, found } => write!(
                f,
                "the peer speaks another protocol (byte {at} is {found:#04x}); check address and port"
            ),
            Self::UnsupportedVersion { peer_min, peer_max } => write!(
                f,
                "the peer speaks versions {peer_min} to {peer_max}, this end {VERSION_MIN} to \
                 {VERSION_MAX}; update the older one"
            ),
            Self::WrongRole { role } => write!(
                f,
                "the peer's role is {role}, the same as this end's or unknown; one end must listen \
                 and the other connect (a client may have reached itself)"
            ),
            Self::HelloLength { hello_bytes } => write!(
                f,
                "the peer's hello of {hello_bytes} bytes is shorter than its version's, longer than \
                 {HELLO_BYTES_MAX}, or no multiple of 16"
            ),
            Self::PeerLacksFeatures { missing } => write!(
                f,
                "the peer lacks required features {missing:#x}; switch them on there or don't require them"
            ),
            Self::PeerRequiresFeatures { missing } => write!(
                f,
                "the peer requires features {missing:#x} that are not offered here; offer them or \
                 switch them off there"
            ),
            Self::MessageTooLong { length, max } => write!(
                f,
                "the peer announced {length} bytes, message_bytes_max is {max}; raise it or send less"
            ),
            Self::UnknownFrame { kind } => {
                write!(f, "transport frame of unknown kind {kind}; update this end")
            }
            Self::ControlLength { kind, length } => {
                write!(
                    f,
                    "control frame of kind {kind} has a body of {length} bytes"
                )
            }
            Self::MessageAfterFinal { kind } => {
                write!(f, "a message of kind {kind} came after the peer's last one")
            }
            Self::AfterClose => f.write_str("bytes came after the peer had closed"),
            Self::Flood { kind } => write!(
                f,
                "too many frames of kind {kind} without a message; see keepalive_interval_min and \
                 control_rate"
            ),
        }
    }
}

impl core::error::Error for Violation {}

/// What ran out of time. The machine has closed itself: send what is pending, then close the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The peer's hello did not come.
    Handshake,
    /// Nothing was heard after a ping.
    Keepalive,
    /// No message passed for the idle timeout.
    Idle,
    /// Draining took too long.
    Drain,
}

impl Timeout {
    /// What the CLOSE says that follows.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Handshake => CloseCode::HandshakeTimeout,
            Self::Keepalive => CloseCode::KeepaliveTimeout,
            Self::Idle => CloseCode::IdleTimeout,
            Self::Drain => CloseCode::DrainTimeout,
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.code(), f)
    }
}

impl core::error::Error for Timeout {}

/// How the peer's side of the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer had said that nothing follows (or this end had closed): no message is missing.
    Clean,
    /// The stream ended between frames, unannounced: the peer died or was cut off.
    Abrupt,
    /// The stream ended inside a frame.
    Truncated {
        /// Received bytes of that frame that were not yet handled.
        leftover: usize,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("the peer ended the stream as announced"),
            Self::Abrupt => {
                f.write_str("the peer ended the stream unannounced; it died or was cut off")
            }
            Self::Truncated { leftover } => {
                write!(
                    f,
                    "the stream ended inside a frame, {leftover} bytes of it were left"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn only_strangers_and_the_deaf_get_no_answer() {
        assert_eq!(Violation::BadMagic { at: 0, found: b'G' }.code(), None);
        assert_eq!(Violation::AfterClose.code(), None);
        let flood = Violation::Flood { kind: 1 };
        assert_eq!(flood.code(), Some(CloseCode::Flood));
    }

    #[test]
    fn texts_name_cause_and_fix() {
        let text = Violation::BadMagic { at: 0, found: b'G' }.to_string();
        assert_eq!(
            text,
            "the peer speaks another protocol (byte 0 is 0x47); check address and port"
        );
        assert!(Timeout::Keepalive.to_string().contains("keepalive_timeout"));
    }
}
