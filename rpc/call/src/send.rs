//! The way down, the same for both ends: a message becomes one frame, or an announcement and pieces.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use ringway_buf::{Pools, Slice};

use crate::bulk::{Bulks, QUEUE_BYTES_MAX};
use crate::flood::Idle;
use crate::lane::{Bulk, Ending, Lane};
use crate::owed::{self, Debts, Owed};
use crate::wire::{PIECE_BYTES_MAX, Settings};
use crate::{
    Blocked, Body, CallConfig, CallId, Compressors, Head, Outlet, Refused, Way, flag, kind,
};

/// What both machines share about their connection.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) config: CallConfig,
    pub(crate) pools: Rc<Pools>,
    pub(crate) compressors: Compressors,
    /// The peer's limits, when they have come.
    pub(crate) peer: Option<Settings>,
    pub(crate) debts: Debts,
    pub(crate) bulks: Bulks,
    /// Streams that were refused a message.
    pub(crate) waiting: Vec<CallId>,
    pub(crate) idle: Idle,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It is in the connection's queue, or will be.
    Whole,
    /// It is announced, and waits for the peer's grant.
    Announced(Slice),
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front<'a> {
    pub(crate) fields: &'a [u8],
    pub(crate) metadata: &'a [u8],
    /// How the frame goes, if the message comes in one.
    pub(crate) way: Way,
}

impl Front<'_> {
    /// Nothing, in front of a message of a stream.
    pub(crate) const fn of_stream(last: bool) -> Front<'static> {
        Front {
            fields: &[],
            metadata: &[],
            way: Way::Lane { last },
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.fields.len() + self.metadata.len()
    }

    /// Writes it and returns the room for the payload.
    #[inline]
    fn write<'r>(&self, room: &'r mut [u8]) -> &'r mut [u8] {
        let Some((fields, room)) = room.split_at_mut_checked(self.fields.len()) else {
            return &mut [];
        };
        fields.copy_from_slice(self.fields);
        let Some((metadata, room)) = room.split_at_mut_checked(self.metadata.len()) else {
            return &mut [];
        };
        metadata.copy_from_slice(self.metadata);
        room
    }

    fn to_bytes(self) -> Box<[u8]> {
        [self.fields, self.metadata].concat().into()
    }
}

impl Base {
    pub(crate) fn new(config: CallConfig, pools: Rc<Pools>, compressors: Compressors) -> Self {
        Self {
            config,
            pools,
            compressors,
            peer: None,
            debts: Debts::default(),
            bulks: Bulks::default(),
            waiting: Vec::new(),
            idle: Idle::default(),
        }
    }

    /// Says this side's limits.
    pub(crate) fn start(&mut self, out: &mut impl Outlet) {
        let settings = self.config.settings(self.compressors.bits()).to_bytes();
        let head = Head::of_connection(kind::SETTINGS, 0);
        self.small(out, Way::InOrder, head, &settings, None);
    }

    /// Sends a small frame now or, if there is no room, before everything that follows.
    pub(crate) fn small(
        &mut self,
        out: &mut impl Outlet,
        way: Way,
        head: Head,
        body: &[u8],
        frees: Option<CallId>,
    ) -> bool {
        if self.debts.is_empty() {
            match owed::send(out, way, head, body, None) {
                // Of a connection that is gone nothing is owed.
                Ok(()) | Err(Blocked::Closed) => return true,
                Err(Blocked::Full) => {}
            }
        }
        self.debts.push(Owed {
            way,
            head,
            front: body.into(),
            slice: None,
            frees,
        });
        false
    }

    /// Sends a frame of a call without a body.
    #[inline]
    pub(crate) fn control(&mut self, out: &mut impl Outlet, head: Head) {
        self.small(out, Way::InOrder, head, &[], None);
    }

    /// Gives up what a call has said on its lane.
    #[cold]
    pub(crate) fn drop_lane(&mut self, out: &mut impl Outlet, call: CallId) {
        self.debts.leave_lane(call);
        out.drop_lane(call);
    }

    /// Whether the lengths are within the peer's limits; the length from which on messages come in pieces.
    #[inline]
    fn fit<B: Body>(&self, body: B, metadata: &[u8]) -> Result<(B, usize), Refused<B>> {
        let Some(peer) = &self.peer else {
            return Err(Refused::NotReady(body));
        };
        let (bytes_max, metadata_max) = (
            peer.message_bytes_max as usize,
            peer.metadata_bytes_max as usize,
        );
        if body.len() > bytes_max {
            return Err(Refused::TooLong { body, bytes_max });
        }
        if metadata.len() > metadata_max {
            return Err(Refused::MetadataTooLong {
                body,
                bytes_max: metadata_max,
            });
        }
        Ok((body, peer.inline_bytes_max as usize))
    }

    /// Sends a message with `head`, to which the flags of its form are added. `announcement` makes the head and the
    /// fields of the frame that announces a message of so many bytes in all.
    #[inline]
    pub(crate) fn message<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        head: Head,
        front: Front<'_>,
        body: B,
        compress: bool,
        announce: impl FnOnce(u32) -> (Head, Option<[u8; 16]>),
    ) -> Result<Sent, Refused<B>> {
        let (body, inline_max) = self.fit(body, front.metadata)?;
        if !self.debts.is_empty() {
            return Err(Refused::Full(body));
        }
        let len = body.len();
        let wants = compress || self.config.compress;
        if wants && len >= self.config.compress_bytes_min as usize {
            return self.compressed(out, head, front, body, inline_max, announce);
        }
        if len > inline_max {
            return self.announced(out, front, body, announce);
        }
        let body = if front.len() == 0 {
            match body.share() {
                Ok(slice) => return self.shared(out, front.way, head, slice),
                Err(body) => body,
            }
        } else {
            body
        };
        let mut body = Some(body);
        let fill = |room: &mut [u8]| {
            let room = front.write(room);
            if let Some(body) = body.take() {
                body.write(room);
            }
        };
        let sent = out.frame(front.way, head, front.len() + len, fill);
        match (sent, body) {
            (Err(blocked), Some(body)) => Err(Refused::blocked(blocked, body)),
            _ => Ok(Sent::Whole),
        }
    }

    /// A slice as one frame. A full queue takes it all the same: it waits in front of everything else.
    fn shared<B>(
        &mut self,
        out: &mut impl Outlet,
        way: Way,
        head: Head,
        slice: Slice,
    ) -> Result<Sent, Refused<B>> {
        let sent = out.slice(way, head, slice);
        if let Err((slice, Blocked::Full)) = sent {
            self.debts.push(Owed {
                way,
                head,
                front: Box::default(),
                slice: Some(slice),
                frees: None,
            });
        }
        Ok(Sent::Whole)
    }

    #[cold]
    fn compressed<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        head: Head,
        front: Front<'_>,
        body: B,
        inline_max: usize,
        announce: impl FnOnce(u32) -> (Head, Option<[u8; 16]>),
    ) -> Result<Sent, Refused<B>> {
        if body.len() > inline_max && !self.leaves_memory(body.len()) {
            return Err(Refused::NoMemory(body));
        }
        let plain = body
            .into_slice(&self.pools)
            .map_err(|body| Refused::NoMemory(body))?;
        let peer = self.peer.map_or(0, |peer| peer.compressors);
        let packed = self.compressors.pack(&plain, peer, &self.pools);
        let (slice, flags) = match packed {
            Some(packed) => (packed, flag::COMPRESSED),
            None => (plain, 0),
        };
        // From here on the message is taken: what finds no room waits in front of everything else.
        if slice.len() > inline_max {
            let (mut head, fields) = announce(total(slice.len()));
            head.flags |= flags;
            let front = announcement(&head, front, fields.as_ref());
            self.small(out, front.way, head, &front.to_bytes(), None);
            return Ok(Sent::Announced(slice));
        }
        let head = Head {
            flags: head.flags | flags,
            ..head
        };
        let way = front.way;
        let front = front.to_bytes();
        if owed::send(out, way, head, &front, Some(&slice)) == Err(Blocked::Full) {
            self.debts.push(Owed {
                way,
                head,
                front,
                slice: Some(slice),
                frees: None,
            });
        }
        Ok(Sent::Whole)
    }

    /// Announces a message; the announcement waits behind everything else if there is no room.
    #[cold]
    pub(crate) fn announced<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        front: Front<'_>,
        body: B,
        announce: impl FnOnce(u32) -> (Head, Option<[u8; 16]>),
    ) -> Result<Sent, Refused<B>> {
        if !self.leaves_memory(body.len()) {
            return Err(Refused::NoMemory(body));
        }
        let slice = body
            .into_slice(&self.pools)
            .map_err(|body| Refused::NoMemory(body))?;
        let (head, fields) = announce(total(slice.len()));
        let front = announcement(&head, front, fields.as_ref());
        self.small(out, front.way, head, &front.to_bytes(), None);
        Ok(Sent::Announced(slice))
    }

    /// Whether a quarter of the budget is free when so many bytes are taken. Large messages on their way leave that
    /// much: who holds all of it for them can't receive the frames that would let them go on.
    pub(crate) fn leaves_memory(&self, bytes: usize) -> bool {
        let reserve = self.pools.budget().limit() / 4;
        self.pools.leaves(reserve, bytes.next_power_of_two())
    }

    /// The peer has reserved memory for the announced message of a call.
    /// False: nobody waits for that.
    fn granted(&mut self, lane: &mut Lane, call: CallId) -> bool {
        let Some(bulk) = lane.bulk.as_mut().filter(|bulk| !bulk.granted) else {
            return false;
        };
        bulk.granted = true;
        self.bulks.push(lane.priority, call);
        true
    }

    /// A CREDIT of an open call; false: it does no work.
    pub(crate) fn credited(&mut self, lane: &mut Lane, head: &Head) -> bool {
        if head.has(flag::MORE) {
            return self.granted(lane, head.call());
        }
        lane.credit = lane.credit.saturating_add(i64::from(head.arg()));
        head.arg() > 0
    }

    /// A call ends at this side.
    #[inline]
    pub(crate) fn over(&mut self, lane: Option<&Lane>) {
        self.idle.over(lane, self.config.inline_bytes_max);
    }

    /// Sends the next piece of a call's large message. `Ok(true)`: the message is complete.
    pub(crate) fn piece(
        &self,
        out: &mut impl Outlet,
        bulk: &mut Bulk,
        call: CallId,
    ) -> Result<bool, Blocked> {
        let left = bulk.slice.len() - bulk.sent;
        let len = left.min(PIECE_BYTES_MAX);
        let is_last = len == left;
        let flags = if is_last { bulk.flags } else { flag::MORE };
        let head = Head::new(kind::DATA, flag::MESSAGE | flags, call, 0);
        let Some(piece) = bulk.slice.subslice(bulk.sent..bulk.sent + len) else {
            return Ok(true);
        };
        let last = is_last && bulk.flags & flag::END != 0;
        out.slice(Way::Lane { last }, head, piece)
            .map_err(|(_piece, blocked)| blocked)?;
        bulk.sent += len;
        Ok(is_last)
    }

    /// Whether more bulk may join the connection's queue.
    pub(crate) fn has_room_for_bulk(out: &impl Outlet) -> bool {
        out.queued_bytes() < QUEUE_BYTES_MAX
    }

    /// Puts a stream on the list of those that wait for room.
    pub(crate) fn wait(&mut self, lane: &mut Lane, call: CallId) {
        if !lane.wants_writable {
            lane.wants_writable = true;
            self.waiting.push(call);
        }
    }

    /// Sends the END that waited behind a large message.
    pub(crate) fn ending(&mut self, out: &mut impl Outlet, ending: &Ending, call: CallId) -> bool {
        let way = Way::Lane { last: true };
        self.small(out, way, ending.head, &ending.metadata, Some(call))
    }
}

/// What stands in an announcement: the metadata only if its head says so (that of an answer comes with its END).
fn announcement<'a>(head: &Head, front: Front<'a>, fields: Option<&'a [u8; 16]>) -> Front<'a> {
    Front {
        fields: fields.map_or(front.fields, <[u8; 16]>::as_slice),
        metadata: if head.tag == 0 { &[] } else { front.metadata },
        // The pieces of a request come on a lane that begins behind its OPEN.
        way: match head.kind {
            kind::DATA => Way::Lane { last: false },
            _ => Way::InOrder,
        },
    }
}

/// A length as the wire has it; messages are shorter than 4 GiB.
pub(crate) fn total(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
