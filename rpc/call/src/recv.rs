//! The way up, the same for both ends: from DATA frames to messages.

use ringway_buf::{RecvBuffer, Slice, copy_counted};

use crate::compress::Unpack;
use crate::lane::{Lane, Place};
use crate::send::Base;
use crate::wire::cost;
use crate::{CallId, Code, Frame, Head, Outlet, Payload, flag, kind};

/// Room for the padding behind the last piece.
const PAD_BYTES: usize = 16;

/// A message that is complete.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) payload: Payload<'a>,
    /// What it costs of the stream's credit.
    pub(crate) cost: u32,
    /// The last one of its direction.
    pub(crate) end: bool,
}

/// Why a call can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) code: Code,
    pub(crate) text: &'static str,
}

impl Broken {
    pub(crate) const fn rule(text: &'static str) -> Self {
        Self {
            code: Code::Internal,
            text,
        }
    }

    pub(crate) const fn limit(text: &'static str) -> Self {
        Self {
            code: Code::ResourceExhausted,
            text,
        }
    }
}

const NO_MEMORY: Broken = Broken::limit("no memory for the message; raise budget_bytes");
const TOO_LONG: Broken = Broken::limit("the message is longer than message_bytes_max");
const OVERRUN: Broken = Broken::limit("a message was sent without credit");

impl Base {
    /// A DATA frame of a call that is open. `streams`: its messages cost credit.
    pub(crate) fn data<'a>(
        &mut self,
        out: &mut impl Outlet,
        lane: &mut Lane,
        call: CallId,
        frame: &Frame<'a>,
        streams: bool,
    ) -> Result<Option<Message<'a>>, Broken> {
        let body = frame.body.get(frame.head.metadata_bytes()..);
        let body = body.ok_or(Broken::rule("a frame is shorter than its metadata"))?;
        if lane.place.is_some() {
            return self.piece_came(lane, frame.head, body, streams);
        }
        if frame.head.has(flag::MORE) {
            self.reserve(out, lane, call, frame.head.arg(), frame.head.flags, streams)?;
            return Ok(None);
        }
        if !frame.head.has(flag::MESSAGE) {
            // Only the end of this direction.
            return Ok(None);
        }
        if !streams {
            return Err(Broken::rule("a message came that is not due"));
        }
        if lane.allowed <= 0 {
            return Err(OVERRUN);
        }
        let payload = self.whole(frame, body)?;
        let cost = spend(lane, payload.len());
        Ok(Some(Message {
            payload,
            cost,
            end: frame.head.has(flag::END),
        }))
    }

    /// The message of a frame that carries it whole.
    #[inline]
    pub(crate) fn whole<'a>(
        &self,
        frame: &Frame<'a>,
        body: &'a [u8],
    ) -> Result<Payload<'a>, Broken> {
        if body.len() > self.config.inline_bytes_max as usize {
            return Err(Broken::limit(
                "a message came in one frame and is longer than inline_bytes_max",
            ));
        }
        if frame.head.has(flag::COMPRESSED) {
            return self.unpack(body).map(Payload::owned);
        }
        Ok(Payload::borrowed(frame, body))
    }

    #[cold]
    fn unpack(&self, packed: &[u8]) -> Result<Slice, Broken> {
        let peer = self.peer.map_or(0, |peer| peer.compressors);
        let bytes_max = self.config.message_bytes_max as usize;
        self.compressors
            .unpack(packed, peer, bytes_max, &self.pools)
            .map_err(|why| match why {
                Unpack::Corrupt => Broken::rule("a compressed message is corrupt"),
                Unpack::TooLong => TOO_LONG,
                Unpack::NoMemory => NO_MEMORY,
            })
    }

    /// Reserves the place of an announced message and grants it.
    pub(crate) fn reserve(
        &mut self,
        out: &mut impl Outlet,
        lane: &mut Lane,
        call: CallId,
        total: u32,
        flags: u8,
        streams: bool,
    ) -> Result<(), Broken> {
        let bytes = total as usize;
        if streams && lane.allowed <= 0 {
            return Err(OVERRUN);
        }
        if !streams && lane.whole.is_some() {
            return Err(Broken::rule("a second answer came"));
        }
        if total <= self.config.inline_bytes_max {
            // Else grants that wait for room could outnumber what credit bounds.
            return Err(Broken::rule("a message was announced that fits one frame"));
        }
        if total > self.config.message_bytes_max {
            return Err(TOO_LONG);
        }
        let mut lease = self.pools.lease(bytes + PAD_BYTES).ok_or(NO_MEMORY)?;
        if !self.leaves_memory(0) {
            return Err(NO_MEMORY);
        }
        lease.reset(0);
        let mut buffer = lease.into_recv();
        buffer.rewind(0);
        lane.place = Some(Place {
            buffer: Some(buffer),
            total: bytes,
            flags,
        });
        let grant = Head::new(kind::CREDIT, flag::MORE, call, total);
        self.control(out, grant);
        Ok(())
    }

    /// A piece that came as an ordinary frame: copied to its place.
    fn piece_came<'a>(
        &self,
        lane: &mut Lane,
        head: Head,
        body: &[u8],
        streams: bool,
    ) -> Result<Option<Message<'a>>, Broken> {
        let place = lane.place.as_mut();
        let Some((total, buffer)) = place.and_then(|it| Some((it.total, it.buffer.as_mut()?)))
        else {
            return Err(Broken::rule("pieces of a message overlap"));
        };
        if body.len() > total.saturating_sub(buffer.len()) {
            return Err(Broken::rule("a message is longer than announced"));
        }
        if body.is_empty() {
            return Err(Broken::rule("a piece of a message is empty"));
        }
        if let Some(room) = buffer.spare_mut().get_mut(..body.len()) {
            let copied = copy_counted(room, body);
            buffer.filled(copied);
        }
        self.settle(lane, head, streams)
    }

    /// After a piece: completes the message if it was the last one.
    pub(crate) fn settle<'a>(
        &self,
        lane: &mut Lane,
        head: Head,
        streams: bool,
    ) -> Result<Option<Message<'a>>, Broken> {
        let Some(place) = &lane.place else {
            return Ok(None);
        };
        let filled = place.buffer.as_ref().map_or(0, RecvBuffer::len);
        if head.has(flag::MORE) {
            // The next one continues at this very byte: only the last may end within a block.
            return if filled.is_multiple_of(PAD_BYTES) && filled < place.total {
                Ok(None)
            } else {
                Err(Broken::rule("a piece of a message has an odd length"))
            };
        }
        let Some(Place {
            buffer: Some(buffer),
            total,
            flags,
        }) = lane.place.take()
        else {
            return Ok(None);
        };
        // The engine receives the padding of the last piece as well.
        if buffer.len() < total || buffer.len() >= total + PAD_BYTES {
            return Err(Broken::rule("a message is not as long as announced"));
        }
        let slice = buffer
            .share(0..total)
            .ok_or(Broken::rule("a message is not as long as announced"))?;
        let slice = if flags & flag::COMPRESSED != 0 {
            self.unpack(&slice)?
        } else {
            slice
        };
        let cost = if streams { spend(lane, slice.len()) } else { 0 };
        Ok(Some(Message {
            payload: Payload::owned(slice),
            cost,
            end: head.has(flag::END),
        }))
    }

    /// The application has taken a stream's message: grants its bytes anew, many at once.
    pub(crate) fn grant(
        &mut self,
        out: &mut impl Outlet,
        lane: &mut Lane,
        call: CallId,
        bytes: u32,
    ) {
        lane.released = lane.released.saturating_add(bytes);
        if lane.released >= lane.window / 2 {
            let credit = core::mem::take(&mut lane.released);
            lane.allowed += i64::from(credit);
            self.control(out, Head::new(kind::CREDIT, 0, call, credit));
        }
    }
}

/// Takes a message's cost from the credit that the peer has left: that of its plain length, because that is what
/// it holds here.
fn spend(lane: &mut Lane, bytes: usize) -> u32 {
    let cost = cost(bytes);
    lane.allowed -= i64::from(cost);
    cost
}
