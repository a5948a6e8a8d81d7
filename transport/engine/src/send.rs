//! The way down: from a claimed room to bytes that a driver sends.
//!
//! Above stands the user's [`Claim`](crate::Claim); below is the driver's queue. Messages of one turn are laid
//! one behind the other into the connection's open batch, so that many small ones leave in one system call.
//! A room is born as a PAD frame: what is never committed is skipped by the peer, so no bookkeeping of open
//! claims is needed and a claim can't outlive its turn.

use std::net::SocketAddr;

use ringway_buf::{Chain, Segment, Slice};
use ringway_driver::{Burst, Driver};
use ringway_proto::{
    CloseCode, FRAME_ALIGN, HEADER_BYTES, Header, StreamEvent, TRANSMIT_BYTES_MAX, kind, padded,
};

use crate::connection::{Carrier, Connection, Outbox};
use crate::counters::{Cells, Counter};
use crate::event::Event;
use crate::hub::Hub;
use crate::{CloseReason, ConnectionId, Lease, SendError};

/// Smallest and largest size of a batch's lease in bytes; the middle one is a receive slot's size. A batch
/// grows to the size that recent ones had.
const BATCH_BYTES: [usize; 3] = [4 * 1024, 16 * 1024, 64 * 1024];

/// Memory in bytes that is left to records while messages wait to be sealed: two large batches.
const SEAL_RESERVE_BYTES: usize = 128 * 1024;

/// A claimed room: where its frame lies. Valid during its turn only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) connection: ConnectionId,
    pub(crate) turn: u64,
    /// Which batch: the open one if equal to the number of ready segments, else a ready segment.
    pub(crate) ordinal: usize,
    /// Start of the frame in its batch (for datagrams: of the payload).
    pub(crate) offset: usize,
    /// Length of the body.
    pub(crate) len: usize,
    /// A frame on a stream, not a datagram.
    pub(crate) framed: bool,
}

/// A claimed frame in its batch, found once: filling and committing it need no further look-up.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    batch: &'a mut Lease,
    queued_bytes: &'a mut usize,
    offset: usize,
    claimed: usize,
}

impl<'a> Frame<'a> {
    #[inline]
    pub(crate) fn body(&self) -> Option<&[u8]> {
        let start = self.offset + HEADER_BYTES;
        self.batch.bytes().get(start..start + self.claimed)
    }

    #[inline]
    pub(crate) fn body_mut(&mut self) -> Option<&mut [u8]> {
        let start = self.offset + HEADER_BYTES;
        self.batch.bytes_mut().get_mut(start..start + self.claimed)
    }

    fn into_body(self) -> Option<&'a mut [u8]> {
        let start = self.offset + HEADER_BYTES;
        self.batch.bytes_mut().get_mut(start..start + self.claimed)
    }

    /// Makes it a message of its first `len` bytes; what is left is cut off, or becomes padding.
    #[inline]
    pub(crate) fn commit(&mut self, len: usize, label: Label) -> bool {
        let (offset, len) = (self.offset, len.min(self.claimed));
        let frame = HEADER_BYTES + padded(len);
        let whole = HEADER_BYTES + padded(self.claimed);
        let is_last = offset + whole == self.batch.len();
        let Some(bytes) = self.batch.bytes_mut().get_mut(offset..offset + whole) else {
            return false;
        };
        put(label.header(len), bytes);
        if HEADER_BYTES + len < frame {
            bytes[HEADER_BYTES + len..frame].fill(0);
        }
        if frame == whole {
            return true;
        }
        if is_last {
            self.batch.truncate(offset + frame);
            *self.queued_bytes -= whole - frame;
        } else {
            // Frames are multiples of 16 bytes, so what is left always holds a header.
            #[expect(clippy::cast_possible_truncation, reason = "a frame is below 4 GiB")]
            let length = (whole - frame - HEADER_BYTES) as u32;
            put(Header::pad(length), &mut bytes[frame..]);
        }
        true
    }

    pub(crate) fn abort(&mut self) {
        let whole = HEADER_BYTES + padded(self.claimed);
        if self.offset + whole == self.batch.len() {
            self.batch.truncate(self.offset);
            *self.queued_bytes -= whole;
        }
    }
}

/// The fields of a message's header that its sender chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) tag: u16,
    pub(crate) word: u64,
}

impl Default for Label {
    fn default() -> Self {
        Self {
            kind: kind::MESSAGE,
            flags: 0,
            tag: 0,
            word: 0,
        }
    }
}

impl From<Header> for Label {
    /// Kinds below the messages' belong to the transport and are raised to it.
    fn from(header: Header) -> Self {
        Self {
            kind: header.kind.max(kind::MESSAGE_MIN),
            flags: header.flags,
            tag: header.tag,
            word: header.word,
        }
    }
}

impl Label {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the 32-bit maximum"
    )]
    fn header(self, len: usize) -> Header {
        let Self {
            kind,
            flags,
            tag,
            word,
        } = self;
        Header {
            length: len as u32,
            kind,
            flags,
            tag,
            word,
        }
    }
}

/// Counts a message of `len` bytes that was accepted for sending.
#[inline]
pub(crate) fn count(cells: &mut Cells, len: usize) {
    cells.add(Counter::MessagesOut, 1);
    cells.add(Counter::BytesOut, (HEADER_BYTES + padded(len)) as u64);
}

/// Writes a frame's header where room for it was made.
#[inline]
fn put(header: Header, out: &mut [u8]) {
    let written = header.write(out);
    debug_assert!(written, "a frame has room for its header");
}

impl Hub {
    /// Claims room for a message of `len` bytes.
    #[inline]
    pub(crate) fn claim(
        &mut self,
        id: ConnectionId,
        peer: Option<SocketAddr>,
        len: usize,
    ) -> Result<Room, SendError> {
        let queue_bytes_max = self.settings.limits.queue_bytes_max;
        let leaves_room = self.leaves_room_to_seal(len);
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Err(SendError::Closed);
        };
        if !connection.is_live() {
            return Err(connection.refusal());
        }
        let place = match &mut connection.carrier {
            Carrier::Stream(stream) => {
                if !stream.may_send() {
                    return Err(connection.refusal());
                }
                let bytes_max = stream.peer_message_bytes_max() as usize;
                if len > bytes_max {
                    return Err(SendError::TooLong {
                        bytes: len,
                        bytes_max,
                    });
                }
                let frame = HEADER_BYTES + padded(len);
                let room = || connection.outbox.room(frame, queue_bytes_max, &self.pools);
                leaves_room.then(room).flatten()
            }
            Carrier::Datagram(datagrams) => {
                let outbox = &mut connection.outbox;
                datagrams.room(peer, len, outbox, queue_bytes_max, &self.pools)?
            }
        };
        let framed = connection.stream().is_some();
        let Some((ordinal, offset)) = place else {
            connection.outbox.full = true;
            self.emit(&Event::Full { connection: id });
            return Err(SendError::Full);
        };
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        Ok(Room {
            connection: id,
            turn: self.turn,
            ordinal,
            offset,
            len,
            framed,
        })
    }

    /// Whether memory for `bytes` may be taken: a filter needs some for its records, and what waits to be
    /// sealed gives none back before. Always true without a filter.
    #[inline]
    pub(crate) fn leaves_room_to_seal(&self, bytes: usize) -> bool {
        self.filter.is_none() || {
            let budget = self.pools.budget();
            let used = budget.used().saturating_sub(self.pools.stashed_bytes());
            let reserve = SEAL_RESERVE_BYTES.min(budget.limit() / 8);
            used.saturating_add(bytes).saturating_add(reserve) <= budget.limit()
        }
    }

    /// The frame of a room that was just claimed on a stream, with the cells that count it.
    #[inline]
    pub(crate) fn frame(&mut self, room: &Room) -> Option<(Frame<'_>, &mut Cells)> {
        let connection = self.connections.get_mut(room.connection.0)?;
        Some((connection.outbox.frame(room)?, &mut self.cells))
    }

    /// The body of a claimed room, writable. `None` when the claim is stale.
    #[inline]
    pub(crate) fn body_mut(&mut self, room: &Room) -> Option<&mut [u8]> {
        if room.turn != self.turn {
            return None;
        }
        let connection = self.connections.get_mut(room.connection.0)?;
        match &mut connection.carrier {
            Carrier::Stream(_) => connection.outbox.frame(room)?.into_body(),
            Carrier::Datagram(datagrams) => datagrams.body_mut(room),
        }
    }

    /// The body of a claimed room.
    pub(crate) fn body(&self, room: &Room) -> Option<&[u8]> {
        if room.turn != self.turn {
            return None;
        }
        let connection = self.connections.get(room.connection.0)?;
        match &connection.carrier {
            Carrier::Stream(_) => {
                let batch = connection.outbox.batch(room.ordinal)?;
                let start = room.offset + HEADER_BYTES;
                batch.get(start..start + room.len)
            }
            Carrier::Datagram(datagrams) => datagrams.body(room),
        }
    }

    /// Turns a claimed room into a message of its first `len` bytes. False when the claim is stale.
    #[inline]
    pub(crate) fn commit(&mut self, room: &Room, len: usize, label: Label) -> bool {
        if room.turn != self.turn {
            return false;
        }
        let Some(connection) = self.connections.get_mut(room.connection.0) else {
            return false;
        };
        let done = match &mut connection.carrier {
            Carrier::Stream(_) => match connection.outbox.frame(room) {
                Some(mut frame) => frame.commit(len, label),
                None => false,
            },
            Carrier::Datagram(datagrams) => {
                datagrams.commit(room, len, &mut connection.outbox.queued_bytes)
            }
        };
        if done {
            count(&mut self.cells, len);
        }
        done
    }

    /// Gives a claimed room back: cut off if it is the last one, else left behind as padding.
    pub(crate) fn abort(&mut self, room: &Room) {
        if room.turn != self.turn {
            return;
        }
        let Some(connection) = self.connections.get_mut(room.connection.0) else {
            return;
        };
        match &mut connection.carrier {
            Carrier::Stream(_) => {
                if let Some(mut frame) = connection.outbox.frame(room) {
                    frame.abort();
                }
            }
            Carrier::Datagram(datagrams) => {
                datagrams.abort(room, &mut connection.outbox.queued_bytes);
            }
        }
    }

    /// Queues a shared slice as one message: its header in the open batch, the slice itself behind it.
    pub(crate) fn send_slice(
        &mut self,
        id: ConnectionId,
        slice: Slice,
        label: Label,
    ) -> Result<(), (Slice, SendError)> {
        let len = slice.len();
        let refuse = |error| move |slice| Err((slice, error));
        let queue_bytes_max = self.settings.limits.queue_bytes_max;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return refuse(SendError::Closed)(slice);
        };
        let Carrier::Stream(stream) = &connection.carrier else {
            return self.send_copied(id, slice, label);
        };
        if !connection.is_live() || !stream.may_send() {
            let error = connection.refusal();
            return refuse(error)(slice);
        }
        let bytes_max = stream.peer_message_bytes_max() as usize;
        if len > bytes_max {
            return refuse(SendError::TooLong {
                bytes: len,
                bytes_max,
            })(slice);
        }
        let (body, pad) = (padded(len), padded(len) - len);
        let outbox = &mut connection.outbox;
        let queued = outbox.queued_bytes;
        let fits = queued == 0 || queued + HEADER_BYTES + body <= queue_bytes_max;
        // The header and the padding share one small lease with whatever is claimed next.
        if !fits || outbox.room(HEADER_BYTES, usize::MAX, &self.pools).is_none() {
            outbox.full = true;
            self.emit(&Event::Full { connection: id });
            return refuse(SendError::Full)(slice);
        }
        if let Some(open) = &mut outbox.open {
            let at = open.len() - HEADER_BYTES;
            put(label.header(len), &mut open.bytes_mut()[at..]);
        }
        if pad > 0 && !outbox.starts_with_zeros(pad, slice.clone(), &self.pools) {
            outbox.open_truncate(HEADER_BYTES);
            outbox.full = true;
            return refuse(SendError::Full)(slice);
        }
        if pad == 0 {
            outbox.seal();
            outbox.ready.push_slice(slice);
        }
        outbox.queued_bytes += body;
        self.cells.add(Counter::MessagesOut, 1);
        self.cells
            .add(Counter::BytesOut, (HEADER_BYTES + body) as u64);
        self.mark_dirty(id);
        Ok(())
    }

    /// A datagram socket has no gathering: the slice is copied into a burst.
    fn send_copied(
        &mut self,
        id: ConnectionId,
        slice: Slice,
        label: Label,
    ) -> Result<(), (Slice, SendError)> {
        match self.claim(id, None, slice.len()) {
            Err(error) => Err((slice, error)),
            Ok(room) => {
                if let Some(body) = self.body_mut(&room) {
                    ringway_buf::copy_counted(body, &slice);
                }
                self.commit(&room, slice.len(), label);
                Ok(())
            }
        }
    }

    /// Sends an empty PAD frame: a room that nobody commits.
    pub(crate) fn pad(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        if connection
            .outbox
            .room(HEADER_BYTES, usize::MAX, &self.pools)
            .is_some()
        {
            self.mark_dirty(id);
        }
    }

    /// Adds the framing machine's control frames to the open batch.
    pub(crate) fn transmit(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        let Carrier::Stream(stream) = &mut connection.carrier else {
            return;
        };
        if !stream.wants_transmit() {
            return;
        }
        let outbox = &mut connection.outbox;
        // Control frames always proceed: they pass the queue's limit, which their number can't grow.
        if outbox
            .room(TRANSMIT_BYTES_MAX, usize::MAX, &self.pools)
            .is_none()
        {
            return;
        }
        if let Some(open) = &mut outbox.open {
            let at = open.len() - TRANSMIT_BYTES_MAX;
            let written = stream.poll_transmit(&mut open.bytes_mut()[at..]);
            open.truncate(at + written);
            outbox.queued_bytes -= TRANSMIT_BYTES_MAX - written;
        }
    }

    /// Gives everything that was accepted in this turn to the driver.
    pub(crate) fn flush<D: Driver>(&mut self, driver: &mut D) {
        for index in 0..self.dirty.len() {
            let id = self.dirty[index];
            self.part(id);
            self.transmit(id);
            let Some(connection) = self.connections.get_mut(id.0) else {
                continue;
            };
            connection.dirty = false;
            let Some(socket) = connection.socket else {
                continue;
            };
            let live = connection.is_live();
            let outbox = &mut connection.outbox;
            if outbox.in_driver > 0 && live {
                // The kernel takes no more now: go on filling this batch instead of queueing a small one.
                outbox.deferred = true;
                continue;
            }
            if let Carrier::Datagram(datagrams) = &mut connection.carrier {
                let send = |burst: Burst| {
                    outbox.in_driver += burst.lease.len();
                    driver.send_to(socket, burst);
                };
                datagrams.flush(send, &self.pools);
                continue;
            }
            let batch = outbox.open.as_ref().map_or(0, Lease::len) + outbox.ready.bytes();
            outbox.batch_hint = batch.max(outbox.batch_hint / 2);
            outbox.seal();
            let Some(filtered) = &mut connection.filter else {
                if !outbox.ready.is_empty() {
                    if let Carrier::Stream(stream) = &mut connection.carrier {
                        stream.sent(self.now);
                    }
                    outbox.in_driver += outbox.ready.bytes();
                    driver.send(socket, &mut outbox.ready);
                }
                continue;
            };
            let mut sealed = Chain::new();
            let plain = outbox.ready.bytes();
            let failed = filtered
                .stage
                .seal(&mut outbox.ready, &mut sealed, &self.pools)
                .err();
            outbox.queued_bytes -= plain - outbox.ready.bytes();
            outbox.queued_bytes += sealed.bytes();
            outbox.in_driver += sealed.bytes();
            let unsealed = !outbox.ready.is_empty() && filtered.stage.is_ready();
            // Memory lacked: what is on its way gives some back, else the connection waits for it.
            outbox.deferred |= unsealed && outbox.in_driver > 0;
            let starved = unsealed && outbox.in_driver == 0;
            driver.send(socket, &mut sealed);
            if let Some(error) = failed {
                self.close(id, None, CloseReason::Filter(error));
            } else if starved {
                self.starve(id);
            }
        }
        self.dirty.clear();
    }

    /// While the peer drains: says the final word as soon as nothing holds the connection.
    fn part(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        // What a link has queued was accepted from its owner before the end.
        let owed = connection
            .link
            .as_ref()
            .is_some_and(|link| link.has_outgoing());
        if connection.parting && !connection.held && !owed && connection.is_live() {
            connection.parting = false;
            let Carrier::Stream(stream) = &mut connection.carrier else {
                return;
            };
            stream.finish();
            // If the peer's final was there already, this one was the last word.
            let mut drained = false;
            while let Some(event) = stream.poll_event() {
                drained |= event == StreamEvent::Drained;
            }
            if drained {
                self.close(id, Some(CloseCode::Drained), CloseReason::Drained);
            }
        }
    }

    /// The driver reports bytes that left. Returns whether `writable` is due now.
    #[inline]
    pub(crate) fn sent(&mut self, id: ConnectionId, bytes: usize) -> bool {
        let low_bytes = self.settings.limits.queue_bytes_max / 2;
        let Some(connection) = self.connections.get_mut(id.0) else {
            return false;
        };
        let outbox = &mut connection.outbox;
        debug_assert!(
            bytes <= outbox.in_driver,
            "the driver sent what it was given"
        );
        outbox.in_driver = outbox.in_driver.saturating_sub(bytes);
        outbox.queued_bytes = outbox.queued_bytes.saturating_sub(bytes);
        if outbox.in_driver == 0 && std::mem::take(&mut outbox.deferred) && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        let outbox = &mut connection.outbox;
        let has_room = outbox.full && outbox.queued_bytes <= low_bytes;
        let is_low = outbox
            .writable_at
            .is_some_and(|at| outbox.queued_bytes <= at);
        if (has_room || is_low) && connection.is_live() {
            connection.outbox.full &= !has_room;
            if is_low {
                connection.outbox.writable_at = None;
            }
            return true;
        }
        false
    }
}

impl Connection {
    fn refusal(&self) -> SendError {
        match self.phase {
            crate::connection::Phase::Connecting(_) => SendError::NotOpen,
            crate::connection::Phase::Live if self.shaking => SendError::NotOpen,
            _ => SendError::Closed,
        }
    }
}

impl Outbox {
    /// Appends `bytes` to the open batch (a fresh one if it is full) as one PAD frame. `None`: queue or
    /// memory is full.
    #[inline]
    fn room(
        &mut self,
        bytes: usize,
        queue_bytes_max: usize,
        pools: &ringway_buf::Pools,
    ) -> Option<(usize, usize)> {
        if self.queued_bytes > 0 && self.queued_bytes.saturating_add(bytes) > queue_bytes_max {
            return None;
        }
        let fits = self
            .open
            .as_ref()
            .is_some_and(|open| open.tailroom() >= bytes);
        if !fits {
            self.reopen(bytes, pools)?;
        }
        let open = self.open.as_mut()?;
        let offset = open.len();
        let frame = open.append(bytes)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a frame is shorter than 4 GiB"
        )]
        let padding = bytes.saturating_sub(HEADER_BYTES) as u32;
        put(Header::pad(padding), frame);
        self.queued_bytes += bytes;
        Some((self.ready.len(), offset))
    }

    /// Starts a new batch with room for `bytes`, of the size that recent batches suggest.
    fn reopen(&mut self, bytes: usize, pools: &ringway_buf::Pools) -> Option<()> {
        let grown = self.open.as_ref().map_or(0, |open| 2 * open.capacity());
        let wish = bytes.max(self.batch_hint).max(grown);
        let size = BATCH_BYTES
            .into_iter()
            .find(|size| *size >= wish)
            .unwrap_or(BATCH_BYTES[2]);
        let mut lease = pools
            .lease(size.max(bytes))
            .or_else(|| pools.lease(bytes))?;
        lease.reset(0);
        self.seal();
        self.open = Some(lease);
        Some(())
    }

    fn batch(&self, ordinal: usize) -> Option<&[u8]> {
        if ordinal == self.ready.len() {
            return self.open.as_ref().map(Lease::bytes);
        }
        self.ready.segments().nth(ordinal).map(Segment::bytes)
    }

    /// The frame of a claimed room. `None` when its batch is gone.
    #[inline]
    fn frame(&mut self, room: &Room) -> Option<Frame<'_>> {
        let batch = if room.ordinal == self.ready.len() {
            self.open.as_mut()
        } else {
            self.ready.lease_mut(room.ordinal)
        };
        Some(Frame {
            batch: batch?,
            queued_bytes: &mut self.queued_bytes,
            offset: room.offset,
            claimed: room.len,
        })
    }

    /// Seals the open batch, queues `slice`, and starts the next batch with `pad` zero bytes.
    fn starts_with_zeros(&mut self, pad: usize, slice: Slice, pools: &ringway_buf::Pools) -> bool {
        debug_assert!(pad < FRAME_ALIGN);
        let Some(mut next) = pools.lease(self.batch_hint.clamp(BATCH_BYTES[0], BATCH_BYTES[2]))
        else {
            return false;
        };
        next.reset(0);
        if let Some(zeros) = next.append(pad) {
            zeros.fill(0);
        }
        self.seal();
        self.ready.push_slice(slice);
        self.open = Some(next);
        true
    }

    fn open_truncate(&mut self, bytes: usize) {
        if let Some(open) = &mut self.open {
            open.truncate(open.len() - bytes);
            self.queued_bytes -= bytes;
        }
    }
}
