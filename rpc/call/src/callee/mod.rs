//! The server's machine: it takes calls and gives each exactly one END.
//!
//! ```text
//!        OPEN                    reply, finish, fail
//! Free ────────► Open ──────────────────────────────► Free
//!  │              ▲    \                                ▲
//!  │ OPEN + MORE  │     └── no room, or a large answer ─┤
//!  └──► Opening ──┘                 Ending ─────────────┘ END has left
//! ```
//! A cancelled call stays open until its handler is done with it.

mod recv;
mod slots;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;

use ringway_buf::{Instant, Pools, RecvBuffer};

use crate::caller::{bulk_of, stream_message, tag};
use crate::lane::{Ending, Lane};
use crate::metadata::Key;
use crate::owed::Owed;
use crate::send::{Base, Front, Sent};
use crate::{
    Blocked, Body, Bound, CallConfig, CallId, Code, Compressors, Head, Kind, Metadata, MetadataBuf,
    MethodTable, Outlet, Payload, Refused, Status, Way, flag, kind,
};
use slots::{Slots, State};

pub use slots::State as CalleeState;

/// A call that came.
#[derive(Debug)]
pub struct Opened<'a> {
    /// Its id; [`CallId::ONE_WAY`] if nobody waits for an answer.
    pub call: CallId,
    /// The method's index in the server's own table.
    pub method: u32,
    /// Which sides stream.
    pub kind: Kind,
    /// When its first frame came.
    pub first: Instant,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// 0 most urgent, 7 least.
    pub priority: u8,
    /// How many times the client has tried before.
    pub attempt: u8,
    /// Doing it twice does what doing it once does.
    pub idempotent: bool,
    /// Nobody waits for an answer.
    pub one_way: bool,
    /// What came beside the message.
    pub metadata: Metadata<'a>,
    /// The request, or the first message of a stream.
    pub message: Option<Payload<'a>>,
    /// The client has said its last.
    pub end: bool,
}

/// Why a call is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// The client gave it up.
    ByPeer,
    /// Its deadline has passed.
    Deadline,
    /// The client broke a rule or a limit; the machine has ended the call already.
    Broken,
}

/// What happened.
#[derive(Debug)]
pub enum CalleeEvent<'a> {
    /// A call came. It is owed one [`reply`](Callee::reply), [`finish`](Callee::finish) or
    /// [`fail`](Callee::fail).
    Opened(Opened<'a>),
    /// A message of a client's stream. Give `cost` back with [`Callee::grant`] when it is taken.
    Message {
        /// Of which call.
        call: CallId,
        /// The message.
        message: Payload<'a>,
        /// What it costs of the stream's credit.
        cost: u32,
        /// It is the last one.
        end: bool,
    },
    /// The client's stream is over.
    Ended {
        /// Of which call.
        call: CallId,
    },
    /// The call is of no use any more. It still is owed its end, when its handler is done.
    Cancelled {
        /// Which call.
        call: CallId,
        /// Why.
        reason: CancelReason,
    },
    /// After `Full`: a stream takes messages again.
    Writable {
        /// Of which call.
        call: CallId,
    },
}

/// The machine of one connection at the server's end.
#[derive(Debug)]
pub struct Callee {
    base: Base,
    slots: Slots,
    table: Rc<MethodTable>,
    bound: Vec<Result<(u32, Kind), Bound>>,
    /// One-way calls that run.
    one_way: u32,
    dropped: u64,
    next_check: Instant,
    events: VecDeque<CalleeEvent<'static>>,
}

impl Callee {
    /// A machine for a new connection that serves the methods of `table`.
    #[must_use]
    pub fn new(
        config: CallConfig,
        table: Rc<MethodTable>,
        pools: Rc<Pools>,
        compressors: Compressors,
    ) -> Self {
        Self {
            base: Base::new(config, pools, compressors),
            slots: Slots::default(),
            table,
            bound: Vec::new(),
            one_way: 0,
            dropped: 0,
            next_check: Instant::MAX,
            events: VecDeque::new(),
        }
    }

    /// Says this side's settings: the first thing on a new connection.
    pub fn start(&mut self, out: &mut impl Outlet) {
        self.base.start(out);
    }

    /// Calls that are open.
    #[must_use]
    #[inline]
    pub fn open_calls(&self) -> usize {
        self.slots.busy()
    }

    /// One-way calls that were dropped because `one_way_max` ran.
    #[must_use]
    pub fn dropped_one_way(&self) -> u64 {
        self.dropped
    }

    /// Whether a call is open: neither ended nor unknown.
    #[must_use]
    #[inline]
    pub fn is_open(&self, call: CallId) -> bool {
        self.slots.is_open(call)
    }

    /// All calls that are not over, in order of their slots. For tests and reports: it looks at every slot.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, CalleeState)> + '_ {
        let all = self.slots.all();
        all.filter(|(_, state)| *state != CalleeState::Free)
    }

    /// Answers a call with its one message: status OK.
    ///
    /// If the queue is full the answer waits in its slot and leaves with [`flush`](Self::flush): it is never
    /// refused for that. A call that was cancelled is ended without the message.
    ///
    /// # Errors
    /// Hands the message back: the call is over ([`Refused::Ended`]), the answer is too long, or memory lacks. In the
    /// latter cases the call is still open.
    #[inline]
    pub fn reply<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        call: CallId,
        metadata: &[u8],
        body: B,
        now: Instant,
    ) -> Result<(), Refused<B>> {
        if call == CallId::ONE_WAY {
            self.one_way = self.one_way.saturating_sub(1);
            return Ok(());
        }
        let way = match self.slots.open_mut(call) {
            None => return Err(Refused::Ended(body)),
            Some(slot) if slot.cancelled => {
                // Nobody would grant a large one.
                self.finish(out, call, &Status::of(Code::Cancelled, ""), &[], now);
                return Ok(());
            }
            // Without a lane nothing else was said.
            Some(slot) if slot.lane.is_none() => Way::Apart,
            Some(slot) => ending_way(slot.lane.as_deref()),
        };
        let flags = flag::END | flag::MESSAGE;
        let head = Head {
            tag: tag(metadata),
            ..Head::new(kind::END, flags, call, 0)
        };
        let front = Front {
            fields: &[],
            metadata,
            way,
        };
        let announce = |total| {
            let flags = flag::MESSAGE | flag::MORE;
            (Head::new(kind::DATA, flags, call, total), None)
        };
        match self.base.message(out, head, front, body, false, announce) {
            Ok(Sent::Whole) if self.base.debts.is_empty() => {
                self.over(call);
                self.slots.free(call);
                Ok(())
            }
            Ok(sent) => {
                self.answered_later(call, metadata, sent);
                Ok(())
            }
            Err(Refused::Full(body)) if body.len() > self.inline_bytes_max() => {
                let sent = self.base.announced(out, front, body, announce)?;
                self.answered_later(call, metadata, sent);
                Ok(())
            }
            Err(Refused::Full(body)) => self.owe(call, (way, head), metadata, body),
            Err(Refused::Closed(_)) => {
                self.slots.free(call);
                Ok(())
            }
            Err(refused) => Err(refused),
        }
    }

    /// Longest message that the client takes in one frame.
    fn inline_bytes_max(&self) -> usize {
        self.base
            .peer
            .map_or(0, |peer| peer.inline_bytes_max as usize)
    }

    /// The answer waits: for room, or for the client's grant.
    #[cold]
    fn answered_later(&mut self, call: CallId, metadata: &[u8], sent: Sent) {
        self.over(call);
        let Some(slot) = self.slots.slot_mut(call) else {
            return;
        };
        slot.state = State::Ending;
        match bulk_of(sent, 0, false) {
            None => self.base.debts.last_frees(call),
            Some(mut bulk) => {
                let head = Head {
                    tag: tag(metadata),
                    ..Head::new(kind::END, flag::END, call, 0)
                };
                bulk.then = Some(alloc::boxed::Box::new(Ending {
                    head,
                    metadata: metadata.into(),
                }));
                let priority = slot.priority;
                let lane = slot.lane.get_or_insert_default();
                lane.priority = priority;
                lane.spoke = true;
                lane.bulk = Some(bulk);
            }
        }
    }

    /// The queue is full: keeps the answer in front of everything else.
    #[cold]
    fn owe<B: Body>(
        &mut self,
        call: CallId,
        (way, head): (Way, Head),
        metadata: &[u8],
        body: B,
    ) -> Result<(), Refused<B>> {
        let slice = if body.is_empty() {
            None
        } else {
            let kept = body.into_slice(&self.base.pools);
            Some(kept.map_err(|body| Refused::NoMemory(body))?)
        };
        self.base.debts.push(Owed {
            way,
            head,
            front: metadata.into(),
            slice,
            frees: Some(call),
        });
        self.over(call);
        if let Some(slot) = self.slots.slot_mut(call) {
            slot.state = State::Ending;
        }
        Ok(())
    }

    /// A call is ended here: what its client may still say is of no use, and no flood either.
    #[inline]
    fn over(&mut self, call: CallId) {
        if let Some(slot) = self.slots.slot_mut(call) {
            let lane = slot.lane.as_deref_mut();
            self.base.over(lane.as_deref());
            if let Some(lane) = lane {
                lane.place = None;
            }
        }
    }

    /// Ends a call with a status and metadata: after a stream, or for a call without an answer. What the stream has
    /// taken before leaves before it.
    pub fn finish(
        &mut self,
        out: &mut impl Outlet,
        call: CallId,
        status: &Status,
        metadata: &[u8],
        _now: Instant,
    ) {
        if call == CallId::ONE_WAY {
            self.one_way = self.one_way.saturating_sub(1);
            return;
        }
        if !self.slots.is_open(call) {
            return;
        }
        self.over(call);
        let Some(slot) = self.slots.open_mut(call) else {
            return;
        };
        let metadata_max = self.base.peer.map_or(0, |peer| peer.metadata_bytes_max) as usize;
        let text = with_text(status, metadata, metadata_max);
        let metadata = text.as_ref().map_or(metadata, MetadataBuf::bytes);
        let metadata = if metadata.len() > metadata_max {
            &[][..]
        } else {
            metadata
        };
        let not_started = if status.not_started {
            flag::NOT_STARTED
        } else {
            0
        };
        let head = Head {
            tag: tag(metadata),
            ..Head::new(kind::END, flag::END | not_started, call, status.arg())
        };
        slot.state = State::Ending;
        if let Some(lane) = &mut slot.lane
            && let Some(bulk) = &mut lane.bulk
        {
            bulk.then = Some(alloc::boxed::Box::new(Ending {
                head,
                metadata: metadata.into(),
            }));
            return;
        }
        let way = ending_way(slot.lane.as_deref().filter(|_| !slot.cancelled));
        if slot.cancelled && slot.lane.as_ref().is_some_and(|lane| lane.spoke) {
            self.base.drop_lane(out, call);
        }
        if self.base.small(out, way, head, metadata, Some(call)) {
            self.slots.free(call);
        }
    }

    /// Ends a call with an error; what its stream has not sent is dropped.
    pub fn fail(&mut self, out: &mut impl Outlet, call: CallId, status: &Status, now: Instant) {
        self.fail_with(out, call, status, &[], now);
    }

    /// Like [`fail`](Self::fail), with metadata.
    pub fn fail_with(
        &mut self,
        out: &mut impl Outlet,
        call: CallId,
        status: &Status,
        metadata: &[u8],
        now: Instant,
    ) {
        if let Some(lane) = self
            .slots
            .open_mut(call)
            .and_then(|slot| slot.lane.as_mut())
        {
            lane.bulk = None;
        }
        self.finish(out, call, status, metadata, now);
    }

    /// Sends a message of an answering stream.
    ///
    /// # Errors
    /// Hands the message back. After [`Refused::Full`] a [`CalleeEvent::Writable`] follows. A call that was cancelled
    /// takes no more messages ([`Refused::Ended`]): its client gives no more credit.
    pub fn send<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        call: CallId,
        body: B,
        _now: Instant,
    ) -> Result<(), Refused<B>> {
        let slot = self.slots.open_mut(call);
        let wanted = slot.filter(|slot| slot.kind.server_streams() && !slot.cancelled);
        let Some(slot) = wanted else {
            return Err(Refused::Ended(body));
        };
        let Some(lane) = slot.lane.as_deref_mut() else {
            return Err(Refused::Ended(body));
        };
        if !lane.may_start() {
            self.base.wait(lane, call);
            return Err(Refused::Full(body));
        }
        stream_message(&mut self.base, out, lane, call, body, false, false)
    }

    /// The application has taken a message of a client's stream.
    pub fn grant(&mut self, out: &mut impl Outlet, call: CallId, cost: u32) {
        if let Some(slot) = self.slots.open_mut(call)
            && let Some(lane) = &mut slot.lane
        {
            self.base.grant(out, lane, call, cost);
        }
    }

    /// The connection is gone: every call that was open, once. None of them is owed an end any more.
    pub fn handle_closed(&mut self) -> Vec<CallId> {
        self.base.bulks.clear();
        self.base.waiting.clear();
        self.slots.drain()
    }

    /// There is room in the connection's queue: what waits goes on.
    pub fn flush(&mut self, out: &mut impl Outlet) {
        while let Some(paid) = self.base.debts.pay(out) {
            match paid {
                Ok(Some(call)) => self.slots.free(call),
                Ok(None) => {}
                Err(Blocked::Full | Blocked::Closed) => return,
            }
        }
        self.flush_bulk(out);
        if self.base.waiting.is_empty() {
            return;
        }
        for call in core::mem::take(&mut self.base.waiting) {
            let Some(lane) = self.slots.lane_mut(call) else {
                continue;
            };
            if lane.may_start() {
                lane.wants_writable = false;
                self.events.push_back(CalleeEvent::Writable { call });
            } else {
                self.base.waiting.push(call);
            }
        }
    }

    fn flush_bulk(&mut self, out: &mut impl Outlet) {
        self.base.bulks.unblock();
        while !self.base.bulks.is_empty() && Base::has_room_for_bulk(out) {
            let Some((priority, call)) = self.base.bulks.take() else {
                return;
            };
            let Some(lane) = self.slots.lane_mut(call) else {
                continue;
            };
            let Some(bulk) = &mut lane.bulk else { continue };
            match self.base.piece(out, bulk, call) {
                Ok(false) => self.base.bulks.push(priority, call),
                Err(_blocked) => return self.base.bulks.put_back(priority, call),
                Ok(true) => {
                    let then = lane.bulk.take().and_then(|bulk| bulk.then);
                    if let Some(ending) = then
                        && self.base.ending(out, &ending, call)
                    {
                        self.slots.free(call);
                    }
                }
            }
        }
    }

    /// Whether [`flush`](Self::flush) is wanted when the connection's queue is short: large messages wait. False
    /// after the queue has refused one, since then the queue says when it has room.
    #[must_use]
    #[inline]
    pub fn wants_flush(&self) -> bool {
        self.base.debts.is_empty() && self.base.bulks.is_ready()
    }

    /// Whether anything waits for room in the connection's queue.
    #[must_use]
    #[inline]
    pub fn is_blocked(&self) -> bool {
        !self.base.debts.is_empty() || !self.base.bulks.is_empty()
    }

    /// The next event that came from no frame.
    #[inline]
    pub fn poll_event(&mut self) -> Option<CalleeEvent<'static>> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.next_check != Instant::MAX).then_some(self.next_check)
    }

    /// Finds the calls whose deadline has passed.
    pub fn handle_timeout(&mut self, out: &mut impl Outlet, now: Instant) {
        if now < self.next_check {
            return;
        }
        let (expired, next) = self.slots.expired(now);
        self.next_check = next;
        for call in expired {
            if self.slots.is_opening(call) {
                let status = Status::of(Code::DeadlineExceeded, "the deadline has passed");
                self.refuse(out, call, &status.not_started());
                continue;
            }
            let reason = CancelReason::Deadline;
            self.events
                .push_back(CalleeEvent::Cancelled { call, reason });
        }
    }

    /// Ends a call that the application has never seen.
    #[cold]
    fn refuse(&mut self, out: &mut impl Outlet, call: CallId, status: &Status) {
        if let Some(slot) = self.slots.slot_mut(call) {
            slot.state = State::Open;
            slot.opening = None;
        }
        self.fail(out, call, status, Instant::ZERO);
    }

    /// Where the body of a large frame goes; `None`: into memory of the engine's.
    #[must_use]
    pub fn place(&mut self, head: &Head) -> Option<RecvBuffer> {
        if head.kind != kind::DATA || head.tag != 0 {
            return None;
        }
        self.slots
            .lane_mut(head.call())?
            .place
            .as_mut()?
            .buffer
            .take()
    }
}

/// The metadata with the status's text and details, if it has any and they fit.
#[cold]
fn with_text(status: &Status, metadata: &[u8], bytes_max: usize) -> Option<MetadataBuf> {
    if !status.has_text() {
        return None;
    }
    let given = Metadata::parse(metadata).ok()?;
    let mut buf = MetadataBuf::new();
    for entry in given.iter() {
        let added = match entry.key {
            Some(key) => buf.set(key, entry.value),
            None => buf.add(entry.name, entry.value),
        };
        added.ok()?;
    }
    let without = buf.clone();
    // The text gives way to the details, and both to what the peer takes.
    let message = status.message.as_bytes();
    let text = message.get(..message.len().min(1024)).unwrap_or_default();
    let details = status.details.as_deref().unwrap_or_default();
    for (key, value) in [(Key::STATUS_DETAILS, details), (Key::STATUS_MESSAGE, text)] {
        let before = buf.clone();
        let fits = value.is_empty() || buf.set(key, value).is_ok();
        if !fits || buf.bytes().len() > bytes_max {
            buf = before;
        }
    }
    (buf != without).then_some(buf)
}

/// How an END goes: behind all that the call has said.
fn ending_way(lane: Option<&Lane>) -> Way {
    match lane {
        Some(lane) if lane.spoke => Way::Lane { last: true },
        _ => Way::InOrder,
    }
}

/// A lane for a call that streams.
fn lane_of(
    method_kind: Kind,
    priority: u8,
    credit: u32,
    window: u32,
) -> Option<alloc::boxed::Box<Lane>> {
    (method_kind != Kind::Unary).then(|| {
        alloc::boxed::Box::new(Lane {
            priority,
            credit: i64::from(credit),
            allowed: i64::from(window),
            window,
            ..Lane::default()
        })
    })
}
