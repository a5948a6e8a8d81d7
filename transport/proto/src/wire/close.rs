//! Why an end closed the connection, as said in the `tag` of a CLOSE frame.

use core::fmt;

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a connection was closed, `docs/wire/stream.md#close`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know.
            Unknown(u16),
        }

        impl CloseCode {
            /// Every code that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code of this number.
            #[must_use]
            pub const fn from_wire(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }

            /// The number of this code.
            #[must_use]
            pub const fn to_wire(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(number) => number,
                }
            }
        }

        impl fmt::Display for CloseCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Unknown(number) => {
                        write!(f, "closed with code {number}, which this version does not know")
                    }
                }
            }
        }
    };
}

close_codes! {
    /// The sender has no further use for the connection.
    Normal = 0, "closed: no further use for the connection";
    /// Both ends have announced their last message.
    Drained = 1, "closed after draining: both ends had sent their last message";
    /// No valid hello came in time.
    HandshakeTimeout = 2,
        "no valid hello came in time; check that the peer speaks ringway and raise handshake_timeout on slow paths";
    /// Nothing was heard after a ping.
    KeepaliveTimeout = 3,
        "the peer answered no ping in time; it or the path is gone, or raise keepalive_timeout";
    /// No message for the whole idle timeout.
    IdleTimeout = 4, "no message passed for idle_timeout; connect again when needed";
    /// The peer did not finish draining in time.
    DrainTimeout = 5, "draining took longer than drain_timeout";
    /// The version ranges do not overlap.
    UnsupportedVersion = 6, "the two ends share no protocol version; update the older one";
    /// One end lacks a feature that the other requires.
    FeatureRequired = 7,
        "one end lacks a feature that the other requires; compare features_required with features_offered";
    /// A message is longer than the receiver's limit.
    MessageTooLong = 8,
        "a message was longer than the receiver's message_bytes_max; raise it or send less at once";
    /// A transport frame of unknown kind without the ignorable flag.
    UnknownFrame = 9, "a transport frame of unknown kind came; update the older end";
    /// Bytes that break a rule of the wire format.
    Malformed = 10, "the bytes broke a rule of the wire format";
    /// Too many frames that carry no message.
    Flood = 11, "too many control frames; ping less often than keepalive_interval_min";
    /// A fault of the sender of this code.
    Internal = 12, "internal fault of the end that closed";
    /// The sender of this code has no room for the connection.
    ResourceExhausted = 13, "the end that closed has no room left; try again later or elsewhere";
}

impl core::error::Error for CloseCode {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    // docs/wire/stream.md#close
    #[test]
    fn every_number_survives_the_wire() {
        for number in 0..=u16::MAX {
            assert_eq!(CloseCode::from_wire(number).to_wire(), number);
        }
        let numbers: BTreeSet<u16> = CloseCode::ALL.iter().map(|code| code.to_wire()).collect();
        assert_eq!(numbers, (0..14).collect());
        assert_eq!(CloseCode::from_wire(14), CloseCode::Unknown(14));
    }
}
