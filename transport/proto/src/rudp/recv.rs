//! The way up: from message frames to whole messages, each once.
//!
//! Below stands a packet that was found intact and new, above the session's owner. A message that lies whole in
//! one packet is handed up where it is; pieces are copied once, into the place where the message becomes whole.
//! What a peer can make this side hold is bounded by the credit it was given: bodies together by the credit
//! and one message beyond it, messages by their number.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "counters below 2^62 and offsets that were checked against a total"
    )
)]

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Range;

use ringway_buf::{Pools, RecvBuffer, copy_counted};

use super::number::{expand, wide};
use super::ranges::Ranges;
use super::send::WINDOW;
use super::wire::{Lane, MessageHead, header_of, length, span, units};
use crate::packet::Fault;
use crate::wire::Header;

/// Unreliable messages that may be incomplete at once; the oldest gives way.
const UNRELIABLE_MAX: usize = 8;

/// A message that is not whole yet.
#[derive(Debug)]
struct Partial {
    header: Header,
    place: RecvBuffer,
    arrived: Ranges,
}

/// Bounds that do not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) message_bytes_max: u32,
    pub(crate) credit_bytes: u64,
    pub(crate) credit_messages: u64,
}

/// What became of a message frame.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Nothing to hand up: a piece, a duplicate, or held back for an earlier one.
    Kept,
    /// It is whole, where it was received.
    Whole(Header),
    /// It became whole here.
    Assembled(Header, RecvBuffer),
    /// Memory lacks: the packet counts as lost.
    NoMemory,
}

#[derive(Debug)]
pub(crate) struct Inbound {
    bounds: Bounds,
    /// Next message of the ordered lane.
    ordered: u64,
    /// Ordered messages that came early.
    held: BTreeMap<u64, (Header, RecvBuffer)>,
    /// Unordered messages that were handed up.
    unordered: Ranges,
    /// All below it were.
    unordered_floor: u64,
    /// Next message of the unreliable lane, to find whole numbers.
    unreliable: u64,
    partial: BTreeMap<(Lane, u64), Partial>,
    /// Whole messages that wait because the session is paused.
    ready: VecDeque<(Header, RecvBuffer)>,
    pub(crate) is_paused: bool,
    started_bytes: u64,
    started_messages: u64,
    taken_bytes: u64,
    taken_messages: u64,
    /// The grant that the peer was told last.
    told_bytes: u64,
    told_messages: u64,
    /// Numbers of messages that the peer says are all.
    totals: Option<(u64, u64)>,
    /// Numbers of messages that the peer had sent when it began to drain.
    drained_at: Option<(u64, u64)>,
}

impl Inbound {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ordered: 0,
            held: BTreeMap::new(),
            unordered: Ranges::new(),
            unordered_floor: 0,
            unreliable: 0,
            partial: BTreeMap::new(),
            ready: VecDeque::new(),
            is_paused: false,
            started_bytes: 0,
            started_messages: 0,
            taken_bytes: 0,
            taken_messages: 0,
            told_bytes: bounds.credit_bytes,
            told_messages: bounds.credit_messages,
            totals: None,
            drained_at: None,
        }
    }

    /// Takes a message frame.
    pub(crate) fn on_message(
        &mut self,
        head: &MessageHead,
        body: &[u8],
        pools: &Pools,
    ) -> Result<Taken, Fault> {
        let total = head.total();
        if total > self.bounds.message_bytes_max {
            return Err(Fault::MessageTooLong {
                length: u64::from(total),
                max: self.bounds.message_bytes_max,
            });
        }
        let next = match head.lane {
            Lane::Ordered => self.ordered,
            Lane::Unordered => self.unordered_floor,
            Lane::Unreliable => self.unreliable,
        };
        let id = expand(next, head.id);
        if head.lane == Lane::Unreliable {
            self.unreliable = self.unreliable.max(id + 1);
            return Ok(self.unreliable(id, head, body, pools));
        }
        if id >= next + WINDOW {
            return Err(Fault::BeyondCredit);
        }
        let is_past = self
            .totals
            .is_some_and(|(ordered, unordered)| match head.lane {
                Lane::Ordered => id >= ordered,
                _ => id >= unordered,
            });
        if is_past {
            return Err(Fault::AfterFinal);
        }
        if self.is_done(head.lane, id) {
            return Ok(Taken::Kept);
        }
        let is_whole = head.piece.is_none() || u32::from(head.len) == total;
        if self.partial.contains_key(&(head.lane, id)) {
            return self.piece(id, head, body);
        }
        let started_bytes = self.started_bytes + u64::from(total);
        let bytes_max = self.told_bytes + u64::from(self.bounds.message_bytes_max);
        if started_bytes > bytes_max || self.started_messages >= self.told_messages {
            return Err(Fault::BeyondCredit);
        }
        let taken = if is_whole {
            self.whole(id, head, body, pools)
        } else {
            let Some(place) = room(pools, length(total)) else {
                return Ok(Taken::NoMemory);
            };
            let partial = Partial {
                header: header_of(head),
                place,
                arrived: Ranges::new(),
            };
            self.partial.insert((head.lane, id), partial);
            self.piece(id, head, body)?
        };
        if !matches!(taken, Taken::NoMemory) {
            self.started_bytes = started_bytes;
            self.started_messages += 1;
        }
        Ok(taken)
    }

    /// The message was whole before.
    fn is_done(&self, lane: Lane, id: u64) -> bool {
        match lane {
            Lane::Ordered => id < self.ordered || self.held.contains_key(&id),
            Lane::Unordered => id < self.unordered_floor || self.unordered.contains(id),
            Lane::Unreliable => false,
        }
    }

    /// A message that lies whole in its packet.
    fn whole(&mut self, id: u64, head: &MessageHead, body: &[u8], pools: &Pools) -> Taken {
        let is_next = head.lane == Lane::Unordered || id == self.ordered;
        if is_next && !self.is_waiting() {
            self.done(head.lane, id);
            return Taken::Whole(header_of(head));
        }
        let Some(copy) = copied(pools, body) else {
            return Taken::NoMemory;
        };
        self.complete(head.lane, id, header_of(head), copy)
    }

    /// A piece of a message that has its place.
    fn piece(&mut self, id: u64, head: &MessageHead, body: &[u8]) -> Result<Taken, Fault> {
        let key = (head.lane, id);
        let Some(partial) = self.partial.get_mut(&key) else {
            return Ok(Taken::Kept);
        };
        if partial.header != header_of(head) {
            return Err(Fault::Contradiction);
        }
        let total = head.total();
        place_piece(partial, head, body);
        if !partial.arrived.is_whole(units(total)) {
            return Ok(Taken::Kept);
        }
        let Some(partial) = self.partial.remove(&key) else {
            return Ok(Taken::Kept);
        };
        let Some(place) = filled(partial.place, length(total)) else {
            return Ok(Taken::Kept);
        };
        Ok(self.complete(head.lane, id, partial.header, place))
    }

    /// A message is whole, in memory of its own.
    fn complete(&mut self, lane: Lane, id: u64, header: Header, place: RecvBuffer) -> Taken {
        if lane == Lane::Ordered && id != self.ordered {
            self.held.insert(id, (header, place));
            return Taken::Kept;
        }
        self.done(lane, id);
        Taken::Assembled(header, place)
    }

    fn done(&mut self, lane: Lane, id: u64) {
        if lane == Lane::Ordered {
            self.ordered = self.ordered.max(id + 1);
            return;
        }
        self.unordered.insert(id..id + 1);
        let first = self.unordered.iter().next().cloned();
        if let Some(first) = first.filter(|first| first.start <= self.unordered_floor) {
            self.unordered_floor = first.end;
            self.unordered.forget_below(first.end);
        }
    }

    fn unreliable(&mut self, id: u64, head: &MessageHead, body: &[u8], pools: &Pools) -> Taken {
        let total = head.total();
        if head.piece.is_none() || u32::from(head.len) == total {
            if !self.is_waiting() {
                return Taken::Whole(header_of(head));
            }
            return self.unreliable_waits(header_of(head), || copied(pools, body));
        }
        let key = (Lane::Unreliable, id);
        if !self.partial.contains_key(&key) {
            let range = (Lane::Unreliable, 0)..=(Lane::Unreliable, u64::MAX);
            if self.partial.range(range.clone()).count() >= UNRELIABLE_MAX
                && let Some(oldest) = self.partial.range(range).next().map(|(key, _)| *key)
            {
                self.partial.remove(&oldest);
            }
            let Some(place) = room(pools, length(total)) else {
                return Taken::Kept;
            };
            let partial = Partial {
                header: header_of(head),
                place,
                arrived: Ranges::new(),
            };
            self.partial.insert(key, partial);
        }
        let Some(partial) = self.partial.get_mut(&key) else {
            return Taken::Kept;
        };
        if partial.header != header_of(head) {
            return Taken::Kept;
        }
        place_piece(partial, head, body);
        if !partial.arrived.is_whole(units(total)) {
            return Taken::Kept;
        }
        let whole = self.partial.remove(&key);
        let Some((header, place)) =
            whole.and_then(|partial| Some((partial.header, filled(partial.place, length(total))?)))
        else {
            return Taken::Kept;
        };
        if self.is_waiting() {
            return self.unreliable_waits(header, || Some(place));
        }
        Taken::Assembled(header, place)
    }

    /// What nobody promised to keep waits only while there is little of it.
    fn unreliable_waits(
        &mut self,
        header: Header,
        make: impl FnOnce() -> Option<RecvBuffer>,
    ) -> Taken {
        if self.ready.len() < UNRELIABLE_MAX
            && let Some(place) = make()
        {
            self.ready.push_back((header, place));
        }
        Taken::Kept
    }

    /// The next ordered message that came early, if it is its turn.
    pub(crate) fn next_held(&mut self) -> Option<(Header, RecvBuffer)> {
        let next = self.held.remove(&self.ordered)?;
        self.ordered += 1;
        Some(next)
    }

    /// Messages cannot be handed up now, or others wait before them.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_paused || !self.ready.is_empty()
    }

    /// Keeps a whole message until the session goes on.
    pub(crate) fn wait(&mut self, header: Header, place: RecvBuffer) {
        self.ready.push_back((header, place));
    }

    /// The next message that waited, unless the session is paused.
    pub(crate) fn next_ready(&mut self) -> Option<(Header, RecvBuffer)> {
        if self.is_paused {
            return None;
        }
        self.ready.pop_front()
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The owner has taken a message: the peer may send more.
    pub(crate) fn on_taken(&mut self, header: &Header) {
        self.taken_bytes += u64::from(header.length);
        self.taken_messages += 1;
    }

    /// The owner gave a message back.
    pub(crate) fn on_returned(&mut self, header: &Header) {
        self.taken_bytes = self.taken_bytes.saturating_sub(u64::from(header.length));
        self.taken_messages = self.taken_messages.saturating_sub(1);
    }

    fn grant(&self) -> (u64, u64) {
        (
            self.taken_bytes + self.bounds.credit_bytes,
            self.taken_messages + self.bounds.credit_messages,
        )
    }

    /// So much of the credit has become free since the peer was told that it is worth a packet of its own.
    pub(crate) fn wants_credit(&self) -> bool {
        self.has_freed(2)
    }

    /// Enough has become free to tell it with whatever else is said.
    pub(crate) fn may_tell_credit(&self) -> bool {
        self.has_freed(8)
    }

    /// At least one part in `share` of the credit is free that the peer does not know of.
    fn has_freed(&self, share: u64) -> bool {
        let (bytes, messages) = self.grant();
        let part = |whole: u64| whole.checked_div(share).unwrap_or(whole);
        bytes >= self.told_bytes + part(self.bounds.credit_bytes)
            || messages >= self.told_messages + part(self.bounds.credit_messages)
    }

    /// The grant to be told now.
    pub(crate) fn tell_credit(&mut self) -> (u64, u64) {
        let (bytes, messages) = self.grant();
        self.told_bytes = self.told_bytes.max(bytes);
        self.told_messages = self.told_messages.max(messages);
        (self.told_bytes, self.told_messages)
    }

    /// The peer drains, and had sent so many messages before it said so.
    pub(crate) fn on_goaway(&mut self, ordered: u64, unordered: u64) {
        self.drained_at.get_or_insert((ordered, unordered));
    }

    /// The peer drains, and everything that it sent before was handed up.
    pub(crate) fn is_draining(&self) -> bool {
        self.ready.is_empty()
            && self.drained_at.is_some_and(|(ordered, unordered)| {
                self.ordered >= ordered && self.unordered_floor >= unordered
            })
    }

    /// The peer says how many messages there are in all.
    pub(crate) fn on_final(&mut self, ordered: u64, unordered: u64) -> Result<(), Fault> {
        let known = (ordered, unordered);
        if self.totals.is_some_and(|totals| totals != known)
            || self.ordered > ordered
            || self.unordered_floor > unordered
        {
            return Err(Fault::AfterFinal);
        }
        self.totals = Some(known);
        Ok(())
    }

    /// Every message of the peer was handed up.
    pub(crate) fn is_final(&self) -> bool {
        self.ready.is_empty()
            && self
                .totals
                .is_some_and(|totals| totals == (self.ordered, self.unordered_floor))
    }
}

/// An empty place for a message.
fn room(pools: &Pools, len: usize) -> Option<RecvBuffer> {
    let mut lease = pools.lease(len)?;
    lease.reset(0);
    let mut place = lease.into_recv();
    place.rewind(0);
    Some(place)
}

fn copied(pools: &Pools, body: &[u8]) -> Option<RecvBuffer> {
    let mut place = room(pools, body.len())?;
    let target = place.spare_mut().get_mut(..body.len())?;
    let len = copy_counted(target, body);
    place.filled(len);
    Some(place)
}

fn filled(mut place: RecvBuffer, len: usize) -> Option<RecvBuffer> {
    if place.spare() < len {
        return None;
    }
    place.filled(len);
    Some(place)
}

/// Copies the parts of a piece that were not there before: what came first stays.
fn place_piece(partial: &mut Partial, head: &MessageHead, body: &[u8]) {
    let part = span(head.offset(), body.len(), head.total());
    let mut from = part.start;
    while let Some(missing) = partial.arrived.missing_in(from..part.end) {
        let offset = wide(length(head.offset()));
        let source = narrow_range(missing.start - offset..missing.end - offset);
        let target = narrow_range(missing.clone());
        if let (Some(source), Some(target)) =
            (body.get(source), partial.place.spare_mut().get_mut(target))
        {
            copy_counted(target, source);
        }
        from = missing.end;
        partial.arrived.insert(missing);
    }
}

fn narrow_range(range: Range<u64>) -> Range<usize> {
    super::number::narrow(range.start)..super::number::narrow(range.end)
}
