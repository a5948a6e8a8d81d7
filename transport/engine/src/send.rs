//! The way down: from a claimed room to bytes that a driver sends.
//!
//! Above stands the user's [`Claim`](crate::Claim); below is the driver's queue. Messages of one turn are laid
//! one behind the other into the connection's open batch, so that many small ones leave in one system call.
//! A claim is the spare room behind the batch, borrowed together with the whole engine: nobody else can write
//! there meanwhile, only committing makes it part of the batch, and so there is nothing to take back.

use ringway_buf::{Chain, Slice};
use ringway_driver::{Burst, Driver};
use ringway_proto::packet::{Delivery, Ways};
use ringway_proto::{
    CloseCode, HEADER_BYTES, Header, StreamEvent, TRANSMIT_BYTES_MAX, kind, padded,
};

use crate::connection::{Carrier, Connection, Outbox, Phase};
use crate::counters::{Cells, Counter};
use crate::datagram::{DatagramRoom, Way};
use crate::event::Event;
use crate::hub::Hub;
use crate::packet_batch::Deliveries;
use crate::{Claim, CloseReason, ConnectionId, Lease, SendError};

/// Smallest and largest size of a batch's lease in bytes; the middle one is a receive slot's size. A batch
/// grows to the size that recent ones had.
const BATCH_BYTES: [usize; 3] = [4 * 1024, 16 * 1024, 64 * 1024];

/// Memory in bytes that is left to records while messages wait to be sealed: two large batches.
const SEAL_RESERVE_BYTES: usize = 128 * 1024;

/// Room for one message, found once: filling and committing it need no further look-up.
#[derive(Debug)]
pub(crate) enum Room<'a> {
    /// Behind the messages of a stream's open batch.
    Frame(Frame<'a>),
    /// A datagram in a burst.
    Datagram(DatagramRoom<'a>),
}

/// The spare room of a stream's open batch, large enough for the claimed message.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    batch: &'a mut Lease,
    queued_bytes: &'a mut usize,
    /// Where a session of a packet transport notes how its messages travel; a stream has one way only.
    deliveries: Option<&'a mut Deliveries>,
}

impl Frame<'_> {
    pub(crate) fn body(&self, len: usize) -> Option<&[u8]> {
        let room = self.batch.spare().get(HEADER_BYTES..)?;
        room.get(..len)
    }

    /// The first `len` bytes of the body.
    #[inline]
    pub(crate) fn body_mut(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.batch.spare_mut().get_mut(HEADER_BYTES..)?;
        room.get_mut(..len)
    }

    /// Which ways lose nothing, where there are several.
    #[inline]
    pub(crate) fn ways(&self) -> Option<Ways> {
        self.deliveries.as_ref().map(|deliveries| deliveries.ways)
    }

    /// Makes the first `len` bytes a message at the end of the batch.
    #[inline]
    pub(crate) fn commit(self, len: usize, label: Label) {
        let frame = HEADER_BYTES + padded(len);
        let Some(bytes) = self.batch.append(frame) else {
            debug_assert!(false, "a claim has room for its frame");
            return;
        };
        put(label.header(len), bytes);
        if HEADER_BYTES + len < frame {
            bytes[HEADER_BYTES + len..].fill(0);
        }
        *self.queued_bytes += frame;
        if let Some(deliveries) = self.deliveries {
            deliveries.push(label.delivery);
        }
    }
}

/// What a message's sender chooses: fields of its header, and how it travels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) tag: u16,
    pub(crate) word: u64,
    pub(crate) delivery: Delivery,
}

impl Default for Label {
    fn default() -> Self {
        Self {
            kind: kind::MESSAGE,
            flags: 0,
            tag: 0,
            word: 0,
            delivery: Delivery::Ordered,
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
            delivery: Delivery::Ordered,
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
            delivery: _,
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
    /// Claims room for a message of `len` bytes, with the cells that count it.
    ///
    /// One look-up and no call where all goes well on a stream; what seldom happens stands in functions of its
    /// own, so that this one melts into its callers.
    #[inline(always)]
    pub(crate) fn claim(
        &mut self,
        id: ConnectionId,
        way: Option<Way>,
        len: usize,
    ) -> Result<(Room<'_>, &mut Cells), SendError> {
        let queue_bytes_max = self.settings.limits.queue_bytes_max;
        let sealable = self.filter.is_none() || self.leaves_room_to_seal(len);
        let Some(connection) = self.connections.get_mut(id.0) else {
            return Err(SendError::Closed);
        };
        if !connection.is_live() {
            return Err(connection.refusal());
        }
        let Connection {
            carrier,
            outbox,
            dirty,
            shaking,
            ..
        } = connection;
        let room = match carrier {
            Carrier::Stream(stream) => {
                let bytes_max = stream.peer_message_bytes_max() as usize;
                if !stream.may_send() || len > bytes_max {
                    return Err(unsendable(*shaking, stream.may_send(), len, bytes_max));
                }
                let frame = HEADER_BYTES + padded(len);
                let fits = sealable && outbox.reserve(frame, queue_bytes_max, &self.pools);
                outbox.full |= !fits;
                match &mut outbox.open {
                    Some(batch) if fits => Some(Room::Frame(Frame {
                        batch,
                        queued_bytes: &mut outbox.queued_bytes,
                        deliveries: None,
                    })),
                    _ => None,
                }
            }
            // The same frames as on a stream; at the end of the turn the machine takes them apart.
            Carrier::Packet(end) => {
                let bytes_max = end.bytes_max as usize;
                if !end.sends || len > bytes_max {
                    return Err(unsendable(*shaking, end.sends, len, bytes_max));
                }
                let frame = HEADER_BYTES + padded(len);
                let fits = outbox.reserve(frame, queue_bytes_max, &self.pools);
                outbox.full |= !fits;
                match &mut outbox.open {
                    Some(batch) if fits => Some(Room::Frame(Frame {
                        batch,
                        queued_bytes: &mut outbox.queued_bytes,
                        deliveries: Some(&mut end.deliveries),
                    })),
                    _ => None,
                }
            }
            Carrier::Datagram(datagrams) => {
                let room = datagrams.room(way, len, outbox, queue_bytes_max, &self.pools)?;
                room.map(Room::Datagram)
            }
        };
        let Some(room) = room else {
            return Err(self.events.full(&mut self.cells, self.now, id));
        };
        if !*dirty {
            *dirty = true;
            self.dirty.push(id);
        }
        Ok((room, &mut self.cells))
    }

    /// Whether memory for `bytes` may be taken: a filter needs some for its records, and what waits to be
    /// sealed gives none back before. Always true without a filter.
    #[cold]
    pub(crate) fn leaves_room_to_seal(&self, bytes: usize) -> bool {
        self.filter.is_none() || {
            let reserve = SEAL_RESERVE_BYTES.min(self.pools.budget().limit() / 8);
            self.pools.leaves(reserve, bytes)
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
        let (sends, bytes_max) = match &connection.carrier {
            Carrier::Stream(stream) => {
                (stream.may_send(), stream.peer_message_bytes_max() as usize)
            }
            Carrier::Packet(end) => (end.sends, end.bytes_max as usize),
            Carrier::Datagram(_) => return self.send_copied(id, slice, label),
        };
        if !connection.is_live() || !sends {
            let error = connection.refusal();
            return refuse(error)(slice);
        }
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
        // The padding shares a lease with whatever is claimed next.
        let next = if pad > 0 {
            self.pools
                .lease(outbox.batch_hint.clamp(BATCH_BYTES[0], BATCH_BYTES[2]))
        } else {
            None
        };
        let can_pad = pad == 0 || next.is_some();
        if !fits || !can_pad || !outbox.append_header(label.header(len), &self.pools) {
            outbox.full = true;
            self.emit(&Event::Full { connection: id });
            return refuse(SendError::Full)(slice);
        }
        outbox.seal();
        outbox.ready.push_slice(slice);
        if let Some(mut next) = next {
            next.reset(0);
            if let Some(zeros) = next.append(pad) {
                zeros.fill(0);
            }
            outbox.open = Some(next);
        }
        outbox.queued_bytes += body;
        if let Carrier::Packet(end) = &mut connection.carrier {
            end.deliveries.push(label.delivery);
        }
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
        match Claim::make(self, id, None, slice.len(), label) {
            Err(error) => Err((slice, error)),
            Ok(mut claim) => {
                ringway_buf::copy_counted(&mut claim, &slice);
                claim.commit();
                Ok(())
            }
        }
    }

    /// Sends an empty PAD frame.
    pub(crate) fn pad(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        if connection.outbox.append_header(Header::pad(0), &self.pools) {
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
        if !outbox.reserve(TRANSMIT_BYTES_MAX, usize::MAX, &self.pools) {
            return;
        }
        if let Some(open) = &mut outbox.open
            && let Some(room) = open.spare_mut().get_mut(..TRANSMIT_BYTES_MAX)
        {
            let written = stream.poll_transmit(room);
            let appended = open.append(written).is_some();
            debug_assert!(appended, "it was reserved");
            outbox.queued_bytes += written;
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
                self.feed(id);
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
            if connection.is_packet() {
                return self.finish_packets(id);
            }
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

/// Why a live stream takes no message, or not this one.
#[cold]
fn unsendable(shaking: bool, open: bool, bytes: usize, bytes_max: usize) -> SendError {
    match (open, shaking) {
        (true, _) => SendError::TooLong { bytes, bytes_max },
        (false, true) => SendError::NotOpen,
        (false, false) => SendError::Closed,
    }
}

impl Connection {
    #[cold]
    fn refusal(&self) -> SendError {
        match self.phase {
            Phase::Connecting(_) => SendError::NotOpen,
            Phase::Live if self.shaking => SendError::NotOpen,
            Phase::Live => SendError::Closed,
            Phase::Closing(_) => SendError::Closed,
        }
    }
}

impl Outbox {
    /// Makes room for `bytes` in the open batch, or in a fresh one if it is full. False: queue or memory is
    /// full.
    #[inline]
    fn reserve(
        &mut self,
        bytes: usize,
        queue_bytes_max: usize,
        pools: &ringway_buf::Pools,
    ) -> bool {
        if self.queued_bytes > 0 && self.queued_bytes.saturating_add(bytes) > queue_bytes_max {
            return false;
        }
        let fits = self
            .open
            .as_ref()
            .is_some_and(|open| open.tailroom() >= bytes);
        fits || self.reopen(bytes, pools).is_some()
    }

    /// Appends a header without a body, past the queue's limit. False: memory is full.
    fn append_header(&mut self, header: Header, pools: &ringway_buf::Pools) -> bool {
        if !self.reserve(HEADER_BYTES, usize::MAX, pools) {
            return false;
        }
        let room = self
            .open
            .as_mut()
            .and_then(|open| open.append(HEADER_BYTES));
        let Some(room) = room else { return false };
        put(header, room);
        self.queued_bytes += HEADER_BYTES;
        true
    }

    /// Starts a new batch with room for `bytes`, of the size that recent batches suggest.
    #[cold]
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
}
