//! Where the call machines put their frames: a connection of an engine, or memory.
//!
//! Above stand the machines of `ringway-call`, below the engine's open batch. On the way down a frame is claimed
//! in that batch and filled in place; a slice goes without a copy.

use core::fmt;
use core::ops::Range;

use ringway_buf::Slice;
use ringway_call::{Blocked, CallId, Head, Keep, Outlet, Way};
use ringway_engine::{ConnectionId, Context, Delivery, Header, Message, SendError, Ways};

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

impl Outlet for Line<'_> {
    #[inline]
    fn frame(
        &mut self,
        way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        match &mut self.wire {
            Wire::Engine(cx) => {
                let mut claim = cx.claim(self.connection, len).map_err(blocked)?;
                fill(&mut claim);
                if way != Way::InOrder
                    && let Some(ways) = claim.ways()
                {
                    claim = claim.delivery(delivery(way, head, len, ways));
                }
                claim
                    .kind(head.kind)
                    .flags(head.flags)
                    .tag(head.tag)
                    .word(head.word)
                    .commit();
                Ok(())
            }
            Wire::Memory(pipe) => pipe.frame(way, head, len, fill),
        }
    }

    fn slice(&mut self, way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        match &mut self.wire {
            Wire::Engine(cx) => {
                let header = Header {
                    length: 0,
                    kind: head.kind,
                    flags: head.flags,
                    tag: head.tag,
                    word: head.word,
                };
                let ways = cx.ways(self.connection).unwrap_or_default();
                let delivery = delivery(way, head, slice.len(), ways);
                cx.send_slice_with(self.connection, header, slice, delivery)
                    .map_err(|full| (full.message, blocked(full.error)))
            }
            Wire::Memory(pipe) => pipe.slice(way, head, slice),
        }
    }

    fn drop_lane(&mut self, call: CallId) {
        if let Wire::Engine(cx) = &mut self.wire {
            cx.drop_lane(self.connection, call.to_wire());
        }
    }

    #[inline]
    fn queued_bytes(&self) -> usize {
        match &self.wire {
            Wire::Engine(cx) => cx.queued_bytes(self.connection).unwrap_or(0),
            Wire::Memory(pipe) => pipe.queued_bytes(),
        }
    }
}

/// How a frame with a body of so many bytes travels on a connection that has these ways. A call's lane is named by its id.
fn delivery(way: Way, head: Head, len: usize, ways: Ways) -> Delivery {
    match way {
        Way::Lane { last } if ways.lanes => Delivery::Lane {
            lane: head.call().to_wire(),
            last,
        },
        Way::Loose { deadline } if len <= ways.unreliable_bytes_max as usize => {
            Delivery::Unreliable { deadline }
        }
        Way::Apart | Way::Loose { .. } if len >= ways.unordered_bytes_min as usize => {
            Delivery::Unordered
        }
        _ => Delivery::Ordered,
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
