//! The client's machine: it opens calls and follows them to their end.
//!
//! ```text
//!            open                 END
//! Free ─────────────► Open ─────────────────────► Free
//!                      │ cancel, deadline, fault    ▲
//!                      └──────► Cancelled ──────────┘ END
//! ```
//! A slot is free again only after the server's END: calls that were given up count against the server's limit
//! as long as they run there.

mod recv;
mod slots;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;

use ringway_buf::{Instant, Pools, RecvBuffer};

use crate::lane::{Bulk, Lane};
use crate::method::BINDING_BYTES;
use crate::send::{Base, Front, Sent};
use crate::status::local;
use crate::wire::{OpenFields, PRIORITY_MAX, cancel, cost, timeout_to_wire};
use crate::{
    Binding, Body, Bound, CallConfig, CallId, Code, Compressors, Head, Kind, Metadata, Outlet,
    Payload, Refused, StatusView, Way, flag, kind,
};
use slots::{Slots, State};

pub use slots::State as CallerState;

/// A call to open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open<'a> {
    /// Index of its method, from [`Caller::bind`].
    pub method: u32,
    /// When it is of no use any more.
    pub deadline: Option<Instant>,
    /// 0 most urgent, 7 least; 4 is ordinary.
    pub priority: u8,
    /// How many times it was tried before.
    pub attempt: u8,
    /// Doing it twice does what doing it once does.
    pub idempotent: bool,
    /// Nobody waits for an answer.
    pub one_way: bool,
    /// Compress its message.
    pub compress: bool,
    /// A block made by [`MetadataBuf`](crate::MetadataBuf).
    pub metadata: &'a [u8],
    /// The message is the last one (always so unless the client streams).
    pub end: bool,
}

/// What happened to a connection or a call.
#[derive(Debug)]
pub enum CallerEvent<'a> {
    /// The server's settings have come: calls can be opened.
    Ready,
    /// The server's word about methods; ask with [`Caller::bound`].
    Bound {
        /// Index of the first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// A message of an answering stream. Give `cost` back with [`Caller::grant`] when it is taken.
    Message {
        /// Of which call.
        call: CallId,
        /// The message.
        message: Payload<'a>,
        /// What it costs of the stream's credit.
        cost: u32,
    },
    /// A call is over; its id is free for another one.
    Ended {
        /// Which call.
        call: CallId,
        /// How it ended.
        status: StatusView<'a>,
        /// The answer's metadata.
        metadata: Metadata<'a>,
        /// The answer, if it is unary.
        message: Option<Payload<'a>>,
    },
    /// After `Full`: a stream takes messages again.
    Writable {
        /// Of which call.
        call: CallId,
    },
}

/// The machine of one connection at the client's end.
#[derive(Debug)]
pub struct Caller {
    base: Base,
    slots: Slots,
    methods: Vec<(Kind, u8, Option<Bound>)>,
    draining: bool,
    closed: bool,
    /// Earliest deadline, or a time before it.
    next_check: Instant,
    events: VecDeque<CallerEvent<'static>>,
}

impl Caller {
    /// A machine for a new connection.
    #[must_use]
    pub fn new(config: CallConfig, pools: Rc<Pools>, compressors: Compressors) -> Self {
        Self {
            base: Base::new(config, pools, compressors),
            slots: Slots::default(),
            methods: Vec::new(),
            draining: false,
            closed: false,
            next_check: Instant::MAX,
            events: VecDeque::new(),
        }
    }

    /// Says this side's settings: the first thing on a new connection.
    pub fn start(&mut self, out: &mut impl Outlet) {
        self.base.start(out);
    }

    /// Names methods that will be called; the index of the first. They can be called at once.
    ///
    /// # Errors
    /// The server's `methods_max` would be exceeded; nothing was bound.
    pub fn bind(&mut self, out: &mut impl Outlet, methods: &[Binding]) -> Result<u32, Refused<()>> {
        let Some(peer) = &self.base.peer else {
            return Err(Refused::NotReady(()));
        };
        let bytes_max = peer.methods_max as usize;
        if self.methods.len() + methods.len() > bytes_max {
            return Err(Refused::TooLong {
                body: (),
                bytes_max,
            });
        }
        let first = crate::send::total(self.methods.len());
        let mut at = first;
        for part in methods.chunks(1024) {
            let mut body = Vec::with_capacity(part.len() * BINDING_BYTES);
            for binding in part {
                body.extend_from_slice(&binding.to_bytes());
                self.methods.push((binding.kind, binding.codec, None));
            }
            let head = Head::of_connection(kind::BIND, at);
            self.base.small(out, Way::InOrder, head, &body, None);
            at += crate::send::total(part.len());
        }
        Ok(first)
    }

    /// The server's word about a method; `None` while it is outstanding.
    #[must_use]
    #[inline]
    pub fn bound(&self, method: u32) -> Option<Bound> {
        self.methods.get(method as usize)?.2
    }

    /// Whether the server's settings have come.
    #[must_use]
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.base.peer.is_some() && !self.draining && !self.closed
    }

    /// Calls that are open or given up and not ended by the server.
    #[must_use]
    #[inline]
    pub fn open_calls(&self) -> usize {
        self.slots.busy()
    }

    /// All calls that are not over, in order of their slots. For tests and reports: it looks at every slot.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, CallerState)> + '_ {
        let all = self.slots.all();
        all.filter(|(_, state)| *state != CallerState::Free)
    }

    /// Whether the server takes one more call.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        let calls_max = self.base.peer.map_or(0, |peer| peer.calls_max);
        self.slots.peek(calls_max).is_some()
    }

    /// Opens a call, with its first message if there is one.
    ///
    /// # Errors
    /// Hands the message back; nothing was sent.
    #[inline]
    pub fn open<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        open: &Open<'_>,
        body: Option<B>,
        now: Instant,
    ) -> Result<CallId, Refused<Option<B>>> {
        let Some(peer) = &self.base.peer else {
            return Err(Refused::NotReady(body));
        };
        let (calls_max, credit) = (peer.calls_max, peer.stream_credit);
        let Some((method_kind, codec, bound)) = self.methods.get(open.method as usize).copied()
        else {
            return Err(Refused::NotReady(body));
        };
        if bound.is_some_and(|it| it != Bound::Ok) {
            return Err(Refused::NotReady(body));
        }
        if self.draining {
            return Err(Refused::Draining(body));
        }
        let call = if open.one_way {
            CallId::ONE_WAY
        } else {
            match self.slots.peek(calls_max) {
                Some(call) => call,
                None => return Err(Refused::Full(body)),
            }
        };
        let timeout = match open.deadline {
            Some(deadline) if deadline <= now => return Err(Refused::Expired(body)),
            Some(deadline) => timeout_to_wire(deadline - now),
            None => 0,
        };
        let end = open.end || !method_kind.client_streams();
        let fields = OpenFields {
            timeout,
            total_bytes: 0,
            credit: if method_kind.server_streams() {
                self.base.config.stream_credit
            } else {
                0
            },
            priority: open.priority.min(PRIORITY_MAX),
            attempt: open.attempt,
            codec,
            reserved: 0,
        };
        let mut flags = if end { flag::END } else { 0 };
        if open.idempotent {
            flags |= flag::IDEMPOTENT;
        }
        if open.one_way {
            flags |= flag::ONE_WAY;
        }
        // An unbound method's BIND must come first; of a unary call nothing else does.
        let way = if method_kind != Kind::Unary || bound != Some(Bound::Ok) {
            Way::InOrder
        } else if open.one_way {
            let deadline = open.deadline.unwrap_or(Instant::MAX);
            Way::Loose { deadline }
        } else {
            Way::Apart
        };
        let sent = self.say_open(out, open, call, (fields, flags, way), body)?;
        if open.one_way {
            return Ok(call);
        }
        let deadline = open.deadline.unwrap_or(Instant::MAX);
        self.next_check = self.next_check.min(deadline);
        self.slots.take(call, method_kind, deadline);
        if method_kind != Kind::Unary || !matches!(sent, Sent::Whole) {
            self.add_lane(call, open, credit, end, sent);
        }
        Ok(call)
    }

    /// What a call has that streams, or whose request is large.
    #[cold]
    fn add_lane(&mut self, call: CallId, open: &Open<'_>, credit: u32, end: bool, sent: Sent) {
        let window = self.base.config.stream_credit;
        let lane = Lane {
            priority: open.priority.min(PRIORITY_MAX),
            credit: i64::from(credit),
            ended: end,
            allowed: i64::from(window),
            window,
            bulk: bulk_of(sent, if end { flag::END } else { 0 }, true),
            ..Lane::default()
        };
        if let Some(slot) = self.slots.open_mut(call) {
            slot.lane = Some(alloc::boxed::Box::new(lane));
        }
    }

    #[inline]
    fn say_open<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        open: &Open<'_>,
        call: CallId,
        (fields, flags, way): (OpenFields, u8, Way),
        body: Option<B>,
    ) -> Result<Sent, Refused<Option<B>>> {
        let head = Head {
            tag: tag(open.metadata),
            ..Head::new(kind::OPEN, flags, call, open.method)
        };
        let bytes = fields.to_bytes();
        let front = Front {
            fields: &bytes,
            metadata: open.metadata,
            way,
        };
        let Some(body) = body else {
            return match self
                .base
                .message(out, head, front, &[][..], false, |_| (head, None))
            {
                Ok(sent) => Ok(sent),
                Err(refused) => Err(refused.map(|_empty| None)),
            };
        };
        if open.one_way
            && let Some(peer) = &self.base.peer
            && body.len() > peer.inline_bytes_max as usize
        {
            let bytes_max = peer.inline_bytes_max as usize;
            return Err(Refused::TooLong {
                body: Some(body),
                bytes_max,
            });
        }
        let with = |more| Head {
            flags: flags | flag::MESSAGE | more,
            ..head
        };
        let announce = |total_bytes| {
            let fields = OpenFields {
                total_bytes,
                ..fields
            };
            (with(flag::MORE), Some(fields.to_bytes()))
        };
        self.base
            .message(out, with(0), front, body, open.compress, announce)
            .map_err(|refused| refused.map(Some))
    }

    /// Sends a message of a client's stream; with `end` it is the last one.
    ///
    /// # Errors
    /// Hands the message back. After [`Refused::Full`] a [`CallerEvent::Writable`] follows.
    pub fn send<B: Body>(
        &mut self,
        out: &mut impl Outlet,
        call: CallId,
        body: B,
        end: bool,
        compress: bool,
    ) -> Result<(), Refused<B>> {
        let Some(slot) = self.slots.open_mut(call) else {
            return Err(Refused::Ended(body));
        };
        let Some(lane) = slot.lane.as_deref_mut().filter(|lane| !lane.ended) else {
            return Err(Refused::Ended(body));
        };
        if !lane.may_start() {
            self.base.wait(lane, call);
            return Err(Refused::Full(body));
        }
        stream_message(&mut self.base, out, lane, call, body, end, compress)
    }

    /// Ends the client's stream without a further message. False if it, or the call, is over already.
    pub fn end(&mut self, out: &mut impl Outlet, call: CallId) -> bool {
        let slot = self.slots.open_mut(call);
        let lane = slot.and_then(|slot| slot.lane.as_mut());
        let Some(lane) = lane.filter(|lane| !lane.ended) else {
            return false;
        };
        lane.ended = true;
        if let Some(bulk) = &mut lane.bulk {
            bulk.flags |= flag::END;
        } else {
            let head = Head::new(kind::DATA, flag::END, call, 0);
            let way = Way::Lane { last: true };
            self.base.small(out, way, head, &[], None);
        }
        true
    }

    /// Gives a call up: no further event comes for it. False if it is over already.
    pub fn cancel(&mut self, out: &mut impl Outlet, call: CallId) -> bool {
        if self.slots.open_mut(call).is_none() {
            return false;
        }
        self.give_up(out, call, cancel::UNWANTED);
        true
    }

    /// Says CANCEL and forgets what the call holds; the slot waits for the server's END.
    fn give_up(&mut self, out: &mut impl Outlet, call: CallId, reason: u32) {
        if let Some(slot) = self.slots.open_mut(call) {
            slot.state = State::Cancelled;
            let lane = slot.lane.take();
            if lane.as_ref().is_some_and(|lane| lane.spoke) {
                self.base.drop_lane(out, call);
            }
            self.base.over(lane.as_deref());
            let head = Head::new(kind::CANCEL, 0, call, reason);
            self.base.control(out, head);
        }
    }

    /// Ends a call on this side and tells the application.
    fn fail(&mut self, out: &mut impl Outlet, call: CallId, code: Code, text: &'static str) {
        let reason = if code == Code::DeadlineExceeded {
            cancel::DEADLINE
        } else {
            cancel::REFUSED
        };
        let not_started = self.is_unsent(call);
        self.give_up(out, call, reason);
        self.events.push_back(CallerEvent::Ended {
            call,
            status: local(code, text, not_started),
            metadata: Metadata::EMPTY,
            message: None,
        });
    }

    /// Whether the request has surely not arrived whole.
    fn is_unsent(&mut self, call: CallId) -> bool {
        let lane = self
            .slots
            .open_mut(call)
            .and_then(|slot| slot.lane.as_ref());
        lane.and_then(|lane| lane.bulk.as_ref())
            .is_some_and(|bulk| bulk.opens)
    }

    /// The application has taken a message of an answering stream.
    pub fn grant(&mut self, out: &mut impl Outlet, call: CallId, cost: u32) {
        if let Some(slot) = self.slots.open_mut(call)
            && let Some(lane) = &mut slot.lane
        {
            self.base.grant(out, lane, call, cost);
        }
    }

    /// The server drains: what is open goes on, nothing new is opened.
    pub fn handle_drain(&mut self) {
        self.draining = true;
    }

    /// The connection is gone. Every call that was open, once, and whether it has surely not started.
    pub fn handle_closed(&mut self) -> Vec<(CallId, bool)> {
        self.closed = true;
        self.base.bulks.clear();
        self.base.waiting.clear();
        // An OPEN that still waits for room has surely not left.
        let debts = &self.base.debts;
        let open = self.slots.drain().into_iter();
        open.map(|(call, unsent)| (call, unsent || debts.opens(call)))
            .collect()
    }

    /// There is room in the connection's queue: what waits goes on.
    pub fn flush(&mut self, out: &mut impl Outlet) {
        while let Some(paid) = self.base.debts.pay(out) {
            if paid.is_err() {
                return;
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
                self.events.push_back(CallerEvent::Writable { call });
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
                Ok(true) => {
                    lane.bulk = None;
                    lane.spoke = true;
                }
                Ok(false) => {
                    lane.spoke = true;
                    self.base.bulks.push(priority, call);
                }
                Err(_blocked) => return self.base.bulks.put_back(priority, call),
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

    /// Whether nothing is left to do besides frames: no event to poll, nothing to flush.
    #[must_use]
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.events.is_empty() && self.base.bulks.is_empty()
    }

    /// Whether anything waits for room in the connection's queue.
    #[must_use]
    #[inline]
    pub fn is_blocked(&self) -> bool {
        !self.base.debts.is_empty() || !self.base.bulks.is_empty()
    }

    /// The next event that came from no frame.
    #[inline]
    pub fn poll_event(&mut self) -> Option<CallerEvent<'static>> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.next_check != Instant::MAX).then_some(self.next_check)
    }

    /// Ends the calls whose deadline has passed.
    pub fn handle_timeout(&mut self, out: &mut impl Outlet, now: Instant) {
        if now < self.next_check {
            return;
        }
        let (expired, next) = self.slots.expired(now);
        self.next_check = next;
        for call in expired {
            self.fail(out, call, Code::DeadlineExceeded, "the deadline has passed");
        }
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

/// A stream's message on its way down; the lane may start one.
pub(crate) fn stream_message<B: Body>(
    base: &mut Base,
    out: &mut impl Outlet,
    lane: &mut Lane,
    call: CallId,
    body: B,
    end: bool,
    compress: bool,
) -> Result<(), Refused<B>> {
    let end_flag = if end { flag::END } else { 0 };
    let head = Head::new(kind::DATA, flag::MESSAGE | end_flag, call, 0);
    let announce = |total| {
        let flags = flag::MESSAGE | flag::MORE | end_flag;
        (Head::new(kind::DATA, flags, call, total), None)
    };
    let cost = cost(body.len());
    match base.message(out, head, Front::of_stream(end), body, compress, announce) {
        Ok(sent) => {
            lane.spoke = true;
            lane.credit -= i64::from(cost);
            lane.bulk = bulk_of(sent, end_flag, false);
            lane.ended |= end;
            Ok(())
        }
        Err(Refused::Full(body)) => {
            base.wait(lane, call);
            Err(Refused::Full(body))
        }
        Err(refused) => Err(refused),
    }
}

pub(crate) fn bulk_of(sent: Sent, flags: u8, opens: bool) -> Option<Bulk> {
    match sent {
        Sent::Whole => None,
        Sent::Announced(slice) => Some(Bulk {
            slice,
            sent: 0,
            granted: false,
            opens,
            flags,
            then: None,
        }),
    }
}

/// Metadata's size as the header has it; its length is checked against the peer's limit, below 1 MiB.
#[inline]
pub(crate) fn tag(metadata: &[u8]) -> u16 {
    u16::try_from(metadata.len() / 16).unwrap_or(u16::MAX)
}
