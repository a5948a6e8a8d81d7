//! The part of a call's state that only streams and large messages have. A unary call of small messages never
//! allocates one.

use alloc::boxed::Box;

use ringway_buf::{RecvBuffer, Slice};

use crate::wire::Head;

/// State of one stream, both ways.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// 0 most urgent.
    pub(crate) priority: u8,
    /// Way down: bytes of messages that may still be started; below 0 after a long one.
    pub(crate) credit: i64,
    /// Way down: something of the call went on its [lane](crate::Way::Lane).
    pub(crate) spoke: bool,
    /// Way down: this side has sent its last message.
    pub(crate) ended: bool,
    /// Way down: a message was refused for lack of credit or room.
    pub(crate) wants_writable: bool,
    /// Way down: a large message that is announced, or on its way.
    pub(crate) bulk: Option<Bulk>,
    /// Way up: credit that the peer has left.
    pub(crate) allowed: i64,
    /// Way up: first credit, a measure for when to grant more.
    pub(crate) window: u32,
    /// Way up: bytes that the application has taken and the peer has not got back.
    pub(crate) released: u32,
    /// Way up: where the pieces of a large message go.
    pub(crate) place: Option<Place>,
    /// Caller: a large unary answer that waits for its END.
    pub(crate) whole: Option<Slice>,
}

impl Lane {
    /// Whether one more stream message may be started.
    pub(crate) fn may_start(&self) -> bool {
        self.credit > 0 && self.bulk.is_none()
    }
}

/// A large message on its way down.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) slice: Slice,
    pub(crate) sent: usize,
    /// The peer has reserved memory for it.
    pub(crate) granted: bool,
    /// The OPEN of a call: until it is complete, the call has surely not started.
    pub(crate) opens: bool,
    /// Flags of the last piece.
    pub(crate) flags: u8,
    /// What follows it: the END of its call.
    pub(crate) then: Option<Box<Ending>>,
}

/// A frame that waits behind a large message: the end of its call.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) head: Head,
    pub(crate) metadata: Box<[u8]>,
}

/// A large message on its way up.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` while the engine receives into it.
    pub(crate) buffer: Option<RecvBuffer>,
    pub(crate) total: usize,
    /// Flags of the frame that announced it.
    pub(crate) flags: u8,
}
