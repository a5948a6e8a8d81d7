//! The way down: messages that wait, are on the way, or have to go once more.
//!
//! Above stands the session's owner, below the packet that is being written. A body is shared memory and is
//! copied only into the packet. What was lost is noted as a range of a message, never as a packet, so that it
//! fits whatever size packets have by then.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "offsets inside of one message, and sums that queue limits and credits bound"
    )
)]

use alloc::collections::VecDeque;

use ringway_buf::{Instant, Slice};

use super::number::{low, narrow, short, wide};
use super::ranges::Ranges;
use super::sent::{Carried, Piece, Sent};
use super::wire::{
    Lane, MESSAGE_HEAD_BYTES, MessageHead, PIECE_HEAD_BYTES, Writer, length, piece_room, span,
    units,
};
use crate::packet::{Delivery, Outgoing};
use crate::wire::Header;

/// Messages of a lane between the oldest that the peer lacks and the newest that it was sent.
pub(crate) const WINDOW: u64 = 4096;
/// A piece smaller than this is not worth its head; the next packet takes it.
const PIECE_BYTES_MIN: u32 = 64;
/// What is kept of a message beside its body, in bytes, rounded up: without it empty messages would cost nothing.
pub(crate) const HELD_BYTES: usize = 128;
const _: () = assert!(size_of::<Item>() <= HELD_BYTES);

/// How far the peer has a message.
#[derive(Debug)]
enum Progress {
    Nothing,
    Some(Ranges),
    All,
}

#[derive(Debug)]
struct Item {
    header: Header,
    body: Option<Slice>,
    /// Bytes that were sent for the first time.
    sent: u32,
    is_started: bool,
    progress: Progress,
    deadline: Instant,
}

#[derive(Debug, Default)]
struct Line {
    items: VecDeque<Item>,
    /// Number of the first item.
    base: u64,
    /// Number of the first item that was not wholly sent once.
    fresh: u64,
}

impl Line {
    fn end(&self) -> u64 {
        self.base + wide(self.items.len())
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Item> {
        let index = id.checked_sub(self.base)?;
        self.items.get_mut(narrow(index))
    }

    fn drop_settled(&mut self) {
        while let Some(Item {
            progress: Progress::All,
            ..
        }) = self.items.front()
        {
            self.items.pop_front();
            self.base += 1;
        }
        self.fresh = self.fresh.max(self.base);
    }
}

/// What came of filling a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filled {
    /// Bytes of bodies sent for the first time, and once more.
    pub(crate) fresh: usize,
    pub(crate) again: usize,
    /// More was there than fitted.
    pub(crate) overflows: bool,
    /// Messages that were dropped because their time was over.
    pub(crate) expired: u64,
}

#[derive(Debug)]
pub(crate) struct Outbound {
    lines: [Line; 3],
    /// Which lane goes first in the next packet.
    turn: usize,
    lost: VecDeque<Piece>,
    started_bytes: u64,
    started_messages: u64,
    credit_bytes: u64,
    credit_messages: u64,
    /// Bytes of messages, with [`HELD_BYTES`] for each, that were accepted and are not settled.
    pub(crate) queued_bytes: usize,
    /// The same of those that were settled and not yet reported.
    freed_bytes: usize,
    settled: bool,
    /// About how many bytes of packets the messages need that were not sent yet.
    unsent_bytes: usize,
}

impl Outbound {
    pub(crate) fn new() -> Self {
        Self {
            lines: [Line::default(), Line::default(), Line::default()],
            turn: 0,
            lost: VecDeque::new(),
            started_bytes: 0,
            started_messages: 0,
            credit_bytes: 0,
            credit_messages: 0,
            queued_bytes: 0,
            freed_bytes: 0,
            settled: false,
            unsent_bytes: 0,
        }
    }

    fn line(&mut self, lane: Lane) -> &mut Line {
        let [ordered, unordered, unreliable] = &mut self.lines;
        match lane {
            Lane::Ordered => ordered,
            Lane::Unordered => unordered,
            Lane::Unreliable => unreliable,
        }
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, message: Outgoing) {
        let Outgoing {
            mut header,
            body,
            delivery,
        } = message;
        let (lane, deadline) = match delivery {
            Delivery::Ordered | Delivery::Lane { .. } => (Lane::Ordered, Instant::MAX),
            Delivery::Unordered => (Lane::Unordered, Instant::MAX),
            Delivery::Unreliable { deadline } => (Lane::Unreliable, deadline),
        };
        header.length = short(body.len());
        self.queued_bytes += body.len() + HELD_BYTES;
        self.unsent_bytes += body.len() + PIECE_HEAD_BYTES;
        self.line(lane).items.push_back(Item {
            header,
            body: Some(body),
            sent: 0,
            is_started: false,
            progress: Progress::Nothing,
            deadline,
        });
    }

    /// The peer grants more; less than before is an old grant that came late.
    pub(crate) fn on_credit(&mut self, bytes: u64, messages: u64) {
        self.credit_bytes = self.credit_bytes.max(bytes);
        self.credit_messages = self.credit_messages.max(messages);
    }

    /// The peer has a piece.
    pub(crate) fn on_arrived(&mut self, piece: Piece) {
        let line = self.line(piece.lane);
        let Some(item) = line.get_mut(piece.id) else {
            return;
        };
        let total = item.header.length;
        let part = span(piece.offset, length(piece.len), total);
        let is_whole = match &mut item.progress {
            Progress::All => return,
            Progress::Nothing if part == (0..units(total)) => true,
            Progress::Nothing => {
                let mut ranges = Ranges::new();
                ranges.insert(part);
                item.progress = Progress::Some(ranges);
                false
            }
            Progress::Some(ranges) => {
                ranges.insert(part);
                ranges.is_whole(units(total))
            }
        };
        if is_whole {
            self.settle(piece.lane, piece.id);
        }
    }

    /// The message needs no further care; its memory is free.
    fn settle(&mut self, lane: Lane, id: u64) {
        let line = self.line(lane);
        let Some(item) = line.get_mut(id) else {
            return;
        };
        item.progress = Progress::All;
        let bytes = item.body.take().map_or(0, |body| body.len() + HELD_BYTES);
        line.drop_settled();
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.freed_bytes += bytes;
        self.settled = true;
    }

    /// A piece was lost, or goes once more to probe.
    pub(crate) fn on_lost(&mut self, piece: Piece) {
        if piece.lane != Lane::Unreliable {
            self.lost.push_back(piece);
        }
    }

    /// A piece goes once more, before all others.
    pub(crate) fn probe_with(&mut self, piece: Piece) {
        if piece.lane != Lane::Unreliable {
            self.lost.push_front(piece);
        }
    }

    /// Bytes of bodies that were settled since the last time, if any message was.
    pub(crate) fn take_freed(&mut self) -> Option<usize> {
        core::mem::take(&mut self.settled).then(|| core::mem::take(&mut self.freed_bytes))
    }

    /// Something was lost and waits.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Every reliable message has arrived, and no other waits.
    pub(crate) fn is_settled(&self) -> bool {
        self.lines.iter().all(|line| line.items.is_empty())
    }

    /// Numbers of the reliable messages so far, per lane.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let [ordered, unordered, _] = &self.lines;
        (ordered.end(), unordered.end())
    }

    /// Whether a new message could go out now, but for congestion.
    pub(crate) fn has_fresh(&self) -> bool {
        let [ordered, unordered, unreliable] = &self.lines;
        let waits = |line: &Line| {
            let index = line.fresh - line.base;
            line.items
                .get(narrow(index))
                .is_some_and(|item| item.is_started || (index < WINDOW && self.has_credit()))
        };
        unreliable.fresh < unreliable.end() || waits(ordered) || waits(unordered)
    }

    fn has_credit(&self) -> bool {
        self.started_bytes < self.credit_bytes && self.started_messages < self.credit_messages
    }

    /// About how many bytes of packets what waits would take; an estimate for the size of a lease.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let lost = self.lost.iter().take(64);
        let again: usize = lost.map(|piece| length(piece.len) + PIECE_HEAD_BYTES).sum();
        again + self.unsent_bytes
    }

    /// Fills a packet: first what was lost, if `again_max` bytes allow it, then what is new. A message of up to
    /// `capacity` bytes, head included, is not cut: it waits for a packet that has the room.
    pub(crate) fn fill(
        &mut self,
        writer: &mut Writer<'_>,
        sent: &mut Sent,
        again_max: usize,
        capacity: usize,
        now: Instant,
    ) -> Filled {
        let mut filled = Filled::default();
        self.fill_lost(writer, sent, again_max, &mut filled);
        if !filled.overflows {
            self.fill_fresh(writer, sent, capacity, now, &mut filled);
        }
        filled
    }

    fn fill_lost(
        &mut self,
        writer: &mut Writer<'_>,
        sent: &mut Sent,
        again_max: usize,
        filled: &mut Filled,
    ) {
        while let Some(piece) = self.lost.pop_front() {
            let room = writer.room();
            let line = self.line(piece.lane);
            let Some(item) = line.get_mut(piece.id) else {
                continue;
            };
            let total = item.header.length;
            let part = span(piece.offset, length(piece.len), total);
            let missing = match &item.progress {
                Progress::All => None,
                Progress::Nothing => Some(part.clone()),
                Progress::Some(ranges) => ranges.missing_in(part.clone()),
            };
            let (Some(missing), Some(body)) = (missing, &item.body) else {
                continue;
            };
            if again_max.saturating_sub(filled.again) == 0 {
                self.lost.push_front(piece);
                return;
            }
            // An empty message is one unit and no byte.
            let bytes = if total == 0 { 0..0 } else { missing.clone() };
            let start = u32::try_from(bytes.start).unwrap_or(u32::MAX);
            let want = u32::try_from(bytes.end - bytes.start).unwrap_or(u32::MAX);
            let is_whole = start == 0 && want == total;
            let fits_whole = is_whole
                && want <= u32::from(u16::MAX)
                && MESSAGE_HEAD_BYTES + length(want) <= room;
            let len = if fits_whole {
                want
            } else {
                want.min(piece_room(room))
            };
            let is_poor = !fits_whole && len < want && len < PIECE_BYTES_MIN;
            let from = length(start);
            let content = body.bytes().get(from..from + length(len));
            let head = head_of(&item.header, piece.lane, piece.id, len, {
                (!fits_whole).then_some((total, start))
            });
            let Some(content) = content.filter(|_| !is_poor) else {
                self.lost.push_front(piece);
                filled.overflows = true;
                return;
            };
            if !head.write(content, writer) {
                self.lost.push_front(piece);
                filled.overflows = true;
                return;
            }
            sent.carry(Carried::Piece(Piece {
                offset: start,
                len,
                ..piece
            }));
            filled.again += MESSAGE_HEAD_BYTES + length(len);
            let done = missing.start + u64::from(len.max(u32::from(total == 0)));
            if done < part.end {
                self.lost.push_front(Piece {
                    offset: u32::try_from(done).unwrap_or(u32::MAX),
                    len: u32::try_from(part.end - done).unwrap_or(u32::MAX),
                    ..piece
                });
            }
        }
    }

    fn fill_fresh(
        &mut self,
        writer: &mut Writer<'_>,
        sent: &mut Sent,
        capacity: usize,
        now: Instant,
        filled: &mut Filled,
    ) {
        let mut written = 0_usize;
        for step in 0..Lane::ALL.len() {
            let index = (self.turn + step) % Lane::ALL.len();
            let Some(lane) = Lane::ALL.get(index).copied() else {
                continue;
            };
            loop {
                match self.one_fresh(lane, writer, sent, capacity, now) {
                    Fresh::Nothing => break,
                    Fresh::Dropped => filled.expired += 1,
                    Fresh::Full => {
                        filled.overflows = true;
                        filled.fresh += written;
                        self.turn = (index + 1) % Lane::ALL.len();
                        return;
                    }
                    Fresh::Wrote(bytes) => written += bytes,
                }
            }
        }
        filled.fresh += written;
    }

    fn one_fresh(
        &mut self,
        lane: Lane,
        writer: &mut Writer<'_>,
        sent: &mut Sent,
        capacity: usize,
        now: Instant,
    ) -> Fresh {
        let has_credit = self.has_credit();
        let is_reliable = lane != Lane::Unreliable;
        let line = self.line(lane);
        let id = line.fresh;
        let index = id - line.base;
        let Some(item) = line.items.get_mut(narrow(index)) else {
            return Fresh::Nothing;
        };
        if !item.is_started {
            if is_reliable && (!has_credit || index >= WINDOW) {
                return Fresh::Nothing;
            }
            if now > item.deadline {
                line.fresh += 1;
                let estimate = length(item.header.length) + PIECE_HEAD_BYTES;
                self.unsent_bytes = self.unsent_bytes.saturating_sub(estimate);
                self.settle(lane, id);
                return Fresh::Dropped;
            }
        }
        let total = item.header.length;
        let room = writer.room();
        let rest = total - item.sent;
        let fits_whole = item.sent == 0
            && total <= u32::from(u16::MAX)
            && MESSAGE_HEAD_BYTES + length(total) <= room;
        let len = if fits_whole {
            total
        } else {
            rest.min(piece_room(room))
        };
        // A message that fits a packet of its own is not cut: whole ones are delivered without a copy.
        let waits = !fits_whole && item.sent == 0 && length(total) + MESSAGE_HEAD_BYTES <= capacity;
        if waits || (!fits_whole && len < rest.min(PIECE_BYTES_MIN)) || room < PIECE_HEAD_BYTES {
            return Fresh::Full;
        }
        let from = length(item.sent);
        let Some(content) = item
            .body
            .as_ref()
            .and_then(|body| body.bytes().get(from..from + length(len)))
        else {
            line.fresh += 1;
            return Fresh::Dropped;
        };
        let offset = item.sent;
        let piece = (!fits_whole).then_some((total, offset));
        let head = head_of(&item.header, lane, id, len, piece);
        if !head.write(content, writer) {
            return Fresh::Full;
        }
        let starts = !item.is_started;
        item.is_started = true;
        item.sent += len;
        let is_sent = item.sent == total;
        let mut estimate = length(len);
        if is_sent {
            line.fresh += 1;
            estimate += PIECE_HEAD_BYTES;
        }
        self.unsent_bytes = self.unsent_bytes.saturating_sub(estimate);
        if is_reliable {
            sent.carry(Carried::Piece(Piece {
                lane,
                id,
                offset,
                len,
            }));
            if starts {
                self.started_bytes += u64::from(total);
                self.started_messages += 1;
            }
        } else if is_sent {
            self.settle(lane, id);
        }
        Fresh::Wrote(MESSAGE_HEAD_BYTES + length(len))
    }
}

/// What came of the front of a lane.
enum Fresh {
    Nothing,
    Dropped,
    Full,
    Wrote(usize),
}

fn head_of(
    header: &Header,
    lane: Lane,
    id: u64,
    len: u32,
    piece: Option<(u32, u32)>,
) -> MessageHead {
    MessageHead {
        lane,
        kind: header.kind,
        flags: header.flags,
        id: low(id),
        word: header.word,
        tag: header.tag,
        len: u16::try_from(len).unwrap_or(u16::MAX),
        piece,
    }
}
