//! Frames that the transport itself sends and receives, apart from hello and messages.

use super::{CloseCode, Header, flag, kind};

/// A transport frame behind the hello, as read from a header whose kind is below
/// [`kind::MESSAGE_MIN`]. `docs/wire/stream.md#control`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Skip `length` bytes of body.
    Pad,
    Ping {
        token: u64,
    },
    Pong {
        token: u64,
    },
    Goaway {
        last: bool,
    },
    Close(CloseCode),
    /// Unknown, but its sender says that it may be skipped.
    Ignorable,
}

/// Why a transport frame can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlFault {
    /// A kind that takes no body has one.
    Length,
    /// A kind that this version does not know and may not skip.
    Unknown,
}

impl Control {
    pub(crate) fn read(header: &Header) -> Result<Self, ControlFault> {
        let control = match header.kind {
            kind::PAD => return Ok(Self::Pad),
            kind::PING => Self::Ping { token: header.word },
            kind::PONG => Self::Pong { token: header.word },
            kind::GOAWAY => Self::Goaway {
                last: header.flags & flag::FINAL != 0,
            },
            kind::CLOSE => Self::Close(CloseCode::from_wire(header.tag)),
            _ if header.flags & flag::IGNORABLE != 0 => return Ok(Self::Ignorable),
            _ => return Err(ControlFault::Unknown),
        };
        if header.length == 0 {
            Ok(control)
        } else {
            Err(ControlFault::Length)
        }
    }

    /// The header of this frame; a pad or ignorable frame comes out without a body.
    pub(crate) fn header(self) -> Header {
        let blank = Header::default();
        match self {
            Self::Pad | Self::Ignorable => Header::pad(0),
            Self::Ping { token } => Header {
                kind: kind::PING,
                word: token,
                ..blank
            },
            Self::Pong { token } => Header {
                kind: kind::PONG,
                word: token,
                ..blank
            },
            Self::Goaway { last } => {
                let flags = if last { flag::FINAL } else { 0 };
                Header {
                    kind: kind::GOAWAY,
                    flags,
                    ..blank
                }
            }
            Self::Close(code) => Header {
                kind: kind::CLOSE,
                tag: code.to_wire(),
                ..blank
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HEADER_BYTES;

    fn bytes(control: Control) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        assert!(control.header().write(&mut out));
        out
    }

    // docs/wire/stream.md#control
    #[test]
    fn control_frames_have_the_bytes_of_the_document() {
        let table = [
            (
                Control::Pad,
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                Control::Ping { token: 9 },
                [0, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                Control::Pong { token: 9 },
                [0, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                Control::Goaway { last: false },
                [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                Control::Goaway { last: true },
                [0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                Control::Close(CloseCode::Flood),
                [0, 0, 0, 0, 4, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ];
        for (control, golden) in table {
            assert_eq!(bytes(control), golden, "{control:?}");
            let header = Header::read(&golden).unwrap();
            assert_eq!(Control::read(&header), Ok(control));
        }
    }

    // docs/wire/stream.md#control
    #[test]
    fn unknown_kinds_are_skipped_only_with_the_flag() {
        for kind in 5..kind::MESSAGE_MIN {
            let plain = Header {
                kind,
                ..Header::default()
            };
            assert_eq!(Control::read(&plain), Err(ControlFault::Unknown));
            let ignorable = Header {
                kind,
                flags: flag::IGNORABLE,
                length: 77,
                ..plain
            };
            assert_eq!(Control::read(&ignorable), Ok(Control::Ignorable));
        }
    }

    #[test]
    fn only_pads_have_bodies() {
        for kind in [kind::PING, kind::PONG, kind::GOAWAY, kind::CLOSE] {
            let header = Header {
                kind,
                length: 1,
                ..Header::default()
            };
            assert_eq!(Control::read(&header), Err(ControlFault::Length));
        }
        assert_eq!(Control::read(&Header::pad(9)), Ok(Control::Pad));
    }
}
