//! Where the call machines put their frames: a connection of an engine, or memory.
//!
//! Above stand the machines of `ringway-call`, below the engine's open batch. On the way down a frame is claimed
//! in that batch and filled in place; a slice goes without a copy.

use core::fmt;
use core::ops::Range;

use ringway_buf::Slice;
use ringway_call::{Blocked, Head, Keep, Outlet};
use ringway_engine::{ConnectionId, Context, Delivery, Header, Message, SendError};

use crate::local::Pipe;

/// The sending side of one engine or of a pipe in memory; [`Wire::line`] picks the connection.
#[derive(Debug)]
pub(crate) enum Wire<'a> {
    Engine(Context<'a>),
    Memory(&'a mut Pipe),
}

impl Wire<'_> {
    /// The same wire for a shorter time.
    #[inline]
    pub(crate) fn reborrow(&mut self) -> Wire<'_> {
        match self {
            Self::Engine(cx) => Wire::Engine(cx.reborrow()),
            Self::Memory(pipe) => Wire::Memory(pipe),
        }
    }

    /// The outlet of one connection.
    #[inline]
    pub(crate) fn line(&mut self, connection: ConnectionId) -> Line<'_> {
        Line {
            wire: self.reborrow(),
            connection,
        }
    }

    /// The engine's context, if there is an engine.
    #[inline]
    pub(crate) fn engine(&mut self) -> Option<Context<'_>> {
        match self {
            Self::Engine(cx) => Some(cx.reborrow()),
            Self::Memory(_) => None,
        }
    }
}

/// One connection's outlet.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) wire: Wire<'a>,
    connection: ConnectionId,
}

impl<'a> Line<'a> {
    /// The outlet of a connection of an engine.
    #[inline]
    pub(crate) fn new(cx: Context<'a>, connection: ConnectionId) -> Self {
        Self {
            wire: Wire::Engine(cx),
            connection,
        }
    }

    /// The same outlet for a shorter time.
    #[inline]
    pub(crate) fn reborrow(&mut self) -> Line<'_> {
        Line {
            wire: self.wire.reborrow(),
            connection: self.connection,
        }
    }
}

impl Line<'_> {
    #[inline]
    fn put(
        &mut self,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
        apart: bool,
    ) -> Result<(), Blocked> {
        match &mut self.wire {
            Wire::Engine(cx) => {
                let mut claim = cx.claim(self.connection, len).map_err(blocked)?;
                fill(&mut claim);
                if apart && claim.overtakes() {
                    claim = claim.delivery(Delivery::Unordered);
                }
                claim
                    .kind(head.kind)
                    .flags(head.flags)
                    .tag(head.tag)
                    .word(head.word)
                    .commit();
                Ok(())
            }
            Wire::Memory(pipe) => pipe.frame(head, len, fill),
        }
    }

    fn put_slice(&mut self, head: Head, slice: Slice, apart: bool) -> Result<(), (Slice, Blocked)> {
        match &mut self.wire {
            Wire::Engine(cx) => {
                let header = Header {
                    length: 0,
                    kind: head.kind,
                    flags: head.flags,
                    tag: head.tag,
                    word: head.word,
                };
                let delivery = if apart && cx.overtakes(self.connection) {
                    Delivery::Unordered
                } else {
                    Delivery::Ordered
                };
                cx.send_slice_with(self.connection, header, slice, delivery)
                    .map_err(|full| (full.message, blocked(full.error)))
            }
            Wire::Memory(pipe) => pipe.slice(head, slice),
        }
    }
}

impl Outlet for Line<'_> {
    #[inline]
    fn frame(
        &mut self,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        self.put(head, len, fill, false)
    }

    fn slice(&mut self, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        self.put_slice(head, slice, false)
    }

    #[inline]
    fn frame_apart(
        &mut self,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        self.put(head, len, fill, true)
    }

    fn slice_apart(&mut self, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        self.put_slice(head, slice, true)
    }

    #[inline]
    fn queued_bytes(&self) -> usize {
        match &self.wire {
            Wire::Engine(cx) => cx.queued_bytes(self.connection).unwrap_or(0),
            Wire::Memory(pipe) => pipe.queued_bytes(),
        }
    }
}

/// What a refusal of the engine means to a machine.
fn blocked(error: SendError) -> Blocked {
    match error {
        SendError::Full => Blocked::Full,
        // The machine keeps to the peer's limits, so a frame that is too long is a connection that is gone.
        _ => Blocked::Closed,
    }
}

/// A message of the engine, as something whose bytes can be kept.
pub(crate) struct Kept<'a, 'm>(pub(crate) &'a Message<'m>);

impl fmt::Debug for Kept<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").finish_non_exhaustive()
    }
}

impl Keep for Kept<'_, '_> {
    fn retain(&self, range: Range<usize>) -> Slice {
        let whole = self.0.retain();
        match whole.subslice(range) {
            Some(part) => part,
            // The machine made the range from this body.
            None => whole,
        }
    }
}

/// The head of an engine's header.
#[inline]
pub(crate) fn head(header: &Header) -> Head {
    Head {
        kind: header.kind,
        flags: header.flags,
        tag: header.tag,
        word: header.word,
    }
}
