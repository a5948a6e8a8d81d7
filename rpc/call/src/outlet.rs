//! The way down: where frames go, and what a message to send is.

use alloc::vec::Vec;
use core::fmt;

use ringway_buf::{Instant, Pools, Slice};

use crate::{CallId, Head};

/// From here on a shared slice is worth a segment of its own; shorter ones are copied into the batch.
const SHARE_BYTES_MIN: usize = 4096;

/// Why a frame could not be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The connection's queue is full; the machine is flushed when it has room.
    Full,
    /// The connection is gone.
    Closed,
}

/// How a frame stands to the others of its connection. What a transport can't do better goes in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// After all earlier frames that went this way.
    #[default]
    InOrder,
    /// It may overtake all others and be overtaken by them: it is all that its call says in this direction, but for a
    /// CANCEL that is skipped when it comes first.
    Apart,
    /// After all earlier frames of its call that went this way, and after those in order that were sent before the
    /// first of them.
    Lane {
        /// None of them follows.
        last: bool,
    },
    /// It may overtake all others, and get lost: nobody waits for it.
    Loose {
        /// When it is of no use any more.
        deadline: Instant,
    },
}

/// Where the frames of one connection go. Nothing is queued here: a frame is taken whole or not at all.
pub trait Outlet {
    /// Sends one frame whose `len` bytes `fill` writes in place, all of them.
    ///
    /// # Errors
    /// Nothing was sent and `fill` was not called.
    fn frame(
        &mut self,
        way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked>;

    /// Sends one frame whose body is `slice`, without copying it.
    ///
    /// # Errors
    /// Hands the slice back.
    fn slice(&mut self, way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)>;

    /// Nobody wants what a call has said on its [lane](Way::Lane): what has not arrived need not.
    fn drop_lane(&mut self, _call: CallId) {}

    /// Bytes that wait for sending: large messages keep them few, so that urgent frames pass soon.
    fn queued_bytes(&self) -> usize;
}

impl<O: Outlet + ?Sized> Outlet for &mut O {
    #[inline]
    fn frame(
        &mut self,
        way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        (**self).frame(way, head, len, fill)
    }

    fn slice(&mut self, way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        (**self).slice(way, head, slice)
    }

    fn drop_lane(&mut self, call: CallId) {
        (**self).drop_lane(call);
    }

    fn queued_bytes(&self) -> usize {
        (**self).queued_bytes()
    }
}

/// A message to send: its length first, then its bytes, written straight into their place.
pub trait Body: Sized {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// True when there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all bytes; `out` is [`len`](Self::len) bytes long.
    fn write(self, out: &mut [u8]);

    /// The message as a slice, if it is one that is better shared than copied.
    ///
    /// # Errors
    /// Hands the body back.
    fn share(self) -> Result<Slice, Self> {
        Err(self)
    }

    /// The message in memory of its own: for messages that have to wait.
    ///
    /// # Errors
    /// Hands the body back: the budget is used up.
    fn into_slice(self, pools: &Pools) -> Result<Slice, Self> {
        let len = self.len();
        let Some(mut lease) = pools.lease(len) else {
            return Err(self);
        };
        lease.reset(0);
        match lease.append(len) {
            Some(room) => self.write(room),
            None => return Err(self),
        }
        Ok(lease.freeze())
    }
}

impl Body for &[u8] {
    #[inline]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    #[inline]
    fn write(self, out: &mut [u8]) {
        out.copy_from_slice(self);
    }
}

impl Body for &Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn write(self, out: &mut [u8]) {
        out.copy_from_slice(self);
    }
}

impl Body for Slice {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn write(self, out: &mut [u8]) {
        ringway_buf::copy_counted(out, self.bytes());
    }

    fn share(self) -> Result<Slice, Self> {
        if Self::len(&self) >= SHARE_BYTES_MIN {
            Ok(self)
        } else {
            Err(self)
        }
    }

    fn into_slice(self, _pools: &Pools) -> Result<Slice, Self> {
        Ok(self)
    }
}

/// Why a message was not taken. It is handed back: nothing was sent.
#[derive(Debug)]
pub enum Refused<B> {
    /// No room now: in the connection's queue, in the stream's credit, or no free slot. A `Writable` follows for
    /// streams; for [`open`](crate::Caller::open) the end of any call makes room.
    Full(B),
    /// The call is over, or this side has ended its direction.
    Ended(B),
    /// Longer than the peer takes.
    TooLong {
        /// The message.
        body: B,
        /// Longest that the peer takes, in bytes.
        bytes_max: usize,
    },
    /// The metadata is longer than the peer takes.
    MetadataTooLong {
        /// The message.
        body: B,
        /// Longest that the peer takes, in bytes.
        bytes_max: usize,
    },
    /// The peer's settings have not come, or the method is not bound.
    NotReady(B),
    /// The peer drains: calls go over another connection.
    Draining(B),
    /// The deadline has passed.
    Expired(B),
    /// The memory budget is used up.
    NoMemory(B),
    /// The connection is gone.
    Closed(B),
}

impl<B> Refused<B> {
    /// The message that was handed back.
    pub fn into_body(self) -> B {
        match self {
            Self::Full(body)
            | Self::Ended(body)
            | Self::TooLong { body, .. }
            | Self::MetadataTooLong { body, .. }
            | Self::NotReady(body)
            | Self::Draining(body)
            | Self::Expired(body)
            | Self::NoMemory(body)
            | Self::Closed(body) => body,
        }
    }

    /// The same reason with another body.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Refused<C> {
        match self {
            Self::Full(body) => Refused::Full(change(body)),
            Self::Ended(body) => Refused::Ended(change(body)),
            Self::TooLong { body, bytes_max } => Refused::TooLong {
                body: change(body),
                bytes_max,
            },
            Self::MetadataTooLong { body, bytes_max } => Refused::MetadataTooLong {
                body: change(body),
                bytes_max,
            },
            Self::NotReady(body) => Refused::NotReady(change(body)),
            Self::Draining(body) => Refused::Draining(change(body)),
            Self::Expired(body) => Refused::Expired(change(body)),
            Self::NoMemory(body) => Refused::NoMemory(change(body)),
            Self::Closed(body) => Refused::Closed(change(body)),
        }
    }

    pub(crate) fn blocked(blocked: Blocked, body: B) -> Self {
        match blocked {
            Blocked::Full => Self::Full(body),
            Blocked::Closed => Self::Closed(body),
        }
    }
}

impl<B> fmt::Display for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("no room now; go on when it is writable again"),
            Self::Ended(_) => f.write_str("the call, or this direction of it, is over"),
            Self::TooLong { bytes_max, .. } => {
                write!(f, "the message is longer than the peer's {bytes_max} bytes")
            }
            Self::MetadataTooLong { bytes_max, .. } => {
                write!(
                    f,
                    "the metadata is longer than the peer's {bytes_max} bytes"
                )
            }
            Self::NotReady(_) => f.write_str("the connection is not ready for this method"),
            Self::Draining(_) => f.write_str("the peer drains; use another connection"),
            Self::Expired(_) => f.write_str("the deadline has passed"),
            Self::NoMemory(_) => f.write_str("the memory budget is used up"),
            Self::Closed(_) => f.write_str("the connection is gone"),
        }
    }
}
