//! The way up at the server's end: from the client's frames to calls.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ringway_buf::{Instant, RecvBuffer};

use super::slots::{Opening, State, Taken};
use super::{Callee, CalleeEvent, CancelReason, Opened, lane_of};
use crate::lane::Lane;
use crate::method::{Asked, BINDING_BYTES};
use crate::recv::{Broken, Message};
use crate::wire::{OPEN_FIELDS_BYTES, OpenFields, PRIORITY_MAX, Settings, timeout_from_wire};
use crate::{
    Bound, CallId, Code, Frame, Head, Kind, Metadata, Outlet, Status, Violation, Way, flag, kind,
};

/// An OPEN, read.
struct Request<'a> {
    method: u32,
    kind: Kind,
    fields: OpenFields,
    first: Instant,
    deadline: Instant,
    metadata: Metadata<'a>,
    payload: &'a [u8],
}

impl Callee {
    /// A frame came. At most one event comes of it at once; others by [`poll_event`](Self::poll_event).
    ///
    /// # Errors
    /// The client broke a rule of the connection: close it.
    #[inline]
    pub fn handle_frame<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: Frame<'a>,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'a>>, Violation> {
        let head = frame.head;
        if self.base.peer.is_none() && head.kind != kind::SETTINGS {
            return Err(Violation::NoSettings);
        }
        match head.kind {
            kind::OPEN => self.open_came(out, &frame, now),
            kind::DATA => self.data_came(out, &frame, now),
            kind::CREDIT => self.credit_came(out, head, now),
            kind::CANCEL => self.cancel_came(out, head, now),
            kind::SETTINGS => self.settings_came(frame.body),
            kind::BIND => self.bind_came(out, &frame),
            kind::NAK => self.idle(now),
            kind::BOUND | kind::END => Err(Violation::BadFrame),
            unknown => {
                let seen = self.idle(now)?;
                if unknown & kind::IGNORABLE == 0 && !self.is_blocked() {
                    let echo = Head::of_connection(kind::NAK, u32::from(unknown));
                    self.base.control(out, echo);
                }
                Ok(seen)
            }
        }
    }

    /// A frame that does no work.
    fn idle(&mut self, now: Instant) -> Result<Option<CalleeEvent<'static>>, Violation> {
        if self.base.idle.take(now) {
            Ok(None)
        } else {
            Err(Violation::Flood)
        }
    }

    /// A frame of a call that is over.
    fn late(
        &mut self,
        bytes: usize,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'static>>, Violation> {
        if self.base.idle.late(bytes, now) {
            Ok(None)
        } else {
            Err(Violation::Flood)
        }
    }

    #[cold]
    fn settings_came(&mut self, body: &[u8]) -> Result<Option<CalleeEvent<'static>>, Violation> {
        let settings = Settings::read(body).ok_or(Violation::BadSettings)?;
        if self.base.peer.is_some() || settings.inline_bytes_max == 0 {
            return Err(Violation::BadSettings);
        }
        self.base.peer = Some(settings);
        Ok(None)
    }

    #[cold]
    fn bind_came(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'_>,
    ) -> Result<Option<CalleeEvent<'static>>, Violation> {
        let count = frame.body.len() / BINDING_BYTES;
        let all = self.bound.len().saturating_add(count);
        let in_order = frame.head.arg() as usize == self.bound.len();
        let whole = count > 0 && frame.body.len().is_multiple_of(BINDING_BYTES);
        if !in_order || !whole || all > self.base.config.methods_max as usize {
            return Err(Violation::BadBind);
        }
        let mut words = Vec::with_capacity(count);
        for bytes in frame.body.chunks_exact(BINDING_BYTES) {
            let asked = Asked::read(bytes).ok_or(Violation::BadBind)?;
            let agreed = self.table.agree(&asked);
            words.push(agreed.err().unwrap_or(Bound::Ok).to_wire());
            self.bound.push(agreed);
        }
        let answer = Head::of_connection(kind::BOUND, frame.head.arg());
        self.base.small(out, Way::InOrder, answer, &words, None);
        Ok(None)
    }

    #[inline]
    fn open_came<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'a>,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'a>>, Violation> {
        let (head, call) = (frame.head, frame.head.call());
        let one_way = head.has(flag::ONE_WAY);
        let Some(fields) = OpenFields::read(frame.body) else {
            return Err(Violation::BadFrame);
        };
        let deadline = match timeout_from_wire(fields.timeout) {
            Some(time) => now + time,
            None => Instant::MAX,
        };
        if one_way {
            return self.one_way_came(frame, fields, deadline, now);
        }
        match self.slots.take(call, self.base.config.calls_max, deadline) {
            Ok(slot) => {
                slot.priority = fields.priority.min(PRIORITY_MAX);
                slot.client_ended = head.has(flag::END);
            }
            Err(Taken::Range) => return Err(Violation::SlotRange),
            Err(Taken::Busy) => return Err(Violation::SlotBusy),
        }
        self.next_check = self.next_check.min(deadline);
        match self.request(frame, fields, deadline, now) {
            Ok(request) if request.kind == Kind::Unary && !head.has(flag::MORE) => {
                self.whole_request(out, frame, request)
            }
            Ok(request) => self.stream_opens(out, frame, request),
            Err(status) => {
                // An honest client makes few such calls: it knows what is bound. Two tokens, one of which the END
                // has just earned.
                self.refuse(out, call, &status);
                self.idle(now)?;
                self.idle(now)
            }
        }
    }

    /// Reads an OPEN, or says why the call can't start.
    #[inline]
    fn request<'a>(
        &self,
        frame: &Frame<'a>,
        fields: OpenFields,
        deadline: Instant,
        now: Instant,
    ) -> Result<Request<'a>, Status> {
        let (method, kind) = match self.bound.get(frame.head.arg() as usize) {
            Some(Ok(bound)) => *bound,
            Some(Err(bound)) => return Err(unbound(*bound)),
            None => return Err(unbound(Bound::Unknown)),
        };
        let rest = frame.body.get(OPEN_FIELDS_BYTES..).unwrap_or_default();
        let Some((metadata, payload)) = rest.split_at_checked(frame.head.metadata_bytes()) else {
            return Err(malformed("the request is shorter than its metadata"));
        };
        if metadata.len() > self.base.config.metadata_bytes_max as usize {
            return Err(Status::of(
                Code::ResourceExhausted,
                "the metadata is longer than metadata_bytes_max",
            )
            .not_started());
        }
        let Ok(metadata) = Metadata::parse(metadata) else {
            return Err(malformed("the metadata is malformed"));
        };
        Ok(Request {
            method,
            kind,
            fields,
            first: now,
            deadline,
            metadata,
            payload,
        })
    }

    /// A request that is here whole.
    #[inline]
    fn whole_request<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'a>,
        request: Request<'a>,
    ) -> Result<Option<CalleeEvent<'a>>, Violation> {
        let head = frame.head;
        let message = if head.has(flag::MESSAGE) {
            match self.base.whole(frame, request.payload) {
                Ok(message) => Some(message),
                Err(broken) => {
                    self.refuse(out, head.call(), &broken.status().not_started());
                    return Ok(None);
                }
            }
        } else {
            None
        };
        let streams = request.kind.client_streams();
        Ok(Some(CalleeEvent::Opened(Opened {
            call: head.call(),
            method: request.method,
            kind: request.kind,
            first: request.first,
            deadline: (request.deadline != Instant::MAX).then_some(request.deadline),
            priority: request.fields.priority.min(PRIORITY_MAX),
            attempt: request.fields.attempt,
            idempotent: head.has(flag::IDEMPOTENT),
            one_way: head.has(flag::ONE_WAY),
            metadata: request.metadata,
            message,
            end: !streams || head.has(flag::END),
        })))
    }

    /// A stream begins, or a large request.
    #[cold]
    fn stream_opens<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'a>,
        request: Request<'a>,
    ) -> Result<Option<CalleeEvent<'a>>, Violation> {
        let (head, call, fields) = (frame.head, frame.head.call(), request.fields);
        let window = self.base.config.stream_credit;
        let priority = fields.priority.min(PRIORITY_MAX);
        let mut lane = lane_of(request.kind, priority, fields.credit, window);
        if !head.has(flag::MORE) {
            if let Some(slot) = self.slots.slot_mut(call) {
                slot.kind = request.kind;
                slot.lane = lane;
                slot.client_ended |= !request.kind.client_streams();
            }
            return self.whole_request(out, frame, request);
        }
        let large = lane.get_or_insert_default();
        let total = fields.total_bytes;
        let reserved = self
            .base
            .reserve(out, large, call, total, head.flags, false);
        let Some(slot) = self.slots.slot_mut(call) else {
            return Ok(None);
        };
        slot.kind = request.kind;
        slot.lane = lane;
        slot.opening = Some(Box::new(Opening {
            method: request.method,
            since: request.first,
            attempt: fields.attempt,
            flags: head.flags,
            metadata: request.metadata.bytes().into(),
        }));
        slot.state = State::Opening;
        if let Err(broken) = reserved {
            self.refuse(out, call, &broken.status().not_started());
        }
        Ok(None)
    }

    fn one_way_came<'a>(
        &mut self,
        frame: &Frame<'a>,
        fields: OpenFields,
        deadline: Instant,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'a>>, Violation> {
        if frame.head.call() != CallId::ONE_WAY || frame.head.has(flag::MORE) {
            return Err(Violation::BadFrame);
        }
        if self.one_way >= self.base.config.one_way_max {
            // Its sender can't know how busy this side is: no flood.
            self.dropped += 1;
            return Ok(None);
        }
        let Ok(request) = self.request(frame, fields, deadline, now) else {
            self.dropped += 1;
            return self.idle(now);
        };
        let message = if frame.head.has(flag::MESSAGE) {
            match self.base.whole(frame, request.payload) {
                Ok(message) => Some(message),
                Err(_) => {
                    self.dropped += 1;
                    return self.idle(now);
                }
            }
        } else {
            None
        };
        if request.kind != Kind::Unary {
            self.dropped += 1;
            return self.idle(now);
        }
        self.one_way += 1;
        Ok(Some(CalleeEvent::Opened(Opened {
            call: CallId::ONE_WAY,
            method: request.method,
            kind: request.kind,
            first: now,
            deadline: (deadline != Instant::MAX).then_some(deadline),
            priority: fields.priority.min(PRIORITY_MAX),
            attempt: fields.attempt,
            idempotent: frame.head.has(flag::IDEMPOTENT),
            one_way: true,
            metadata: request.metadata,
            message,
            end: true,
        })))
    }

    fn data_came<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'a>,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'a>>, Violation> {
        let (head, call, bytes) = (frame.head, frame.head.call(), frame.body.len());
        let Some(slot) = self.slots.slot_mut(call) else {
            return self.late(bytes, now);
        };
        let is_opening = slot.state == State::Opening;
        if slot.state == State::Ending || (slot.client_ended && !is_opening) {
            return self.late(bytes, now);
        }
        let streams = slot.kind.client_streams() && !is_opening;
        let Some(lane) = &mut slot.lane else {
            return self.late(bytes, now);
        };
        match self.base.data(out, lane, call, frame, streams) {
            Ok(Some(message)) => Ok(self.complete(call, message)),
            Ok(None) => {
                if head.flags & (flag::MORE | flag::MESSAGE) != 0 {
                    return Ok(None);
                }
                if head.has(flag::END)
                    && let Some(slot) = self.slots.slot_mut(call)
                {
                    slot.client_ended = true;
                    return Ok(Some(CalleeEvent::Ended { call }));
                }
                self.idle(now)
            }
            Err(broken) => Ok(self.break_off(out, call, broken)),
        }
    }

    /// A message is complete: of a stream, or the large request of a call.
    fn complete<'a>(&mut self, call: CallId, message: Message<'a>) -> Option<CalleeEvent<'a>> {
        let slot = self.slots.slot_mut(call)?;
        let Some(opening) = slot.opening.take() else {
            slot.client_ended |= message.end;
            return Some(CalleeEvent::Message {
                call,
                message: message.payload,
                cost: message.cost,
                end: message.end,
            });
        };
        slot.state = State::Open;
        if slot.kind == Kind::Unary {
            slot.lane = None;
        }
        // The client may have said its last after it had announced the message.
        let end = message.end || opening.flags & flag::END != 0 || !slot.kind.client_streams();
        slot.client_ended = end;
        let (method_kind, priority) = (slot.kind, slot.priority);
        let deadline = self.slots.deadline(call);
        let metadata = match Metadata::parse(&opening.metadata) {
            Ok(metadata) => metadata.into_owned(),
            Err(_) => Metadata::EMPTY,
        };
        Some(CalleeEvent::Opened(Opened {
            call,
            method: opening.method,
            kind: method_kind,
            first: opening.since,
            deadline,
            priority,
            attempt: opening.attempt,
            idempotent: opening.flags & flag::IDEMPOTENT != 0,
            one_way: false,
            metadata,
            message: Some(message.payload),
            end,
        }))
    }

    /// The client broke a rule of this call: the call ends, nothing else.
    #[cold]
    fn break_off(
        &mut self,
        out: &mut impl Outlet,
        call: CallId,
        broken: Broken,
    ) -> Option<CalleeEvent<'static>> {
        if self.slots.is_opening(call) {
            self.refuse(out, call, &broken.status().not_started());
            return None;
        }
        let known = self.slots.is_open(call);
        self.fail(out, call, &broken.status(), Instant::ZERO);
        let reason = CancelReason::Broken;
        known.then_some(CalleeEvent::Cancelled { call, reason })
    }

    /// A piece of a large message was received into its [`place`](Self::place).
    ///
    /// # Errors
    /// As [`handle_frame`](Self::handle_frame).
    pub fn handle_placed(
        &mut self,
        out: &mut impl Outlet,
        head: Head,
        buffer: RecvBuffer,
        _now: Instant,
    ) -> Result<Option<CalleeEvent<'static>>, Violation> {
        let call = head.call();
        let slot = self.slots.slot_mut(call);
        let Some(slot) = slot.filter(|slot| slot.state != State::Ending) else {
            return Ok(None);
        };
        let streams = slot.kind.client_streams() && slot.state != State::Opening;
        let Some(lane) = &mut slot.lane else {
            return Ok(None);
        };
        let Some(place) = &mut lane.place else {
            return Ok(None);
        };
        place.buffer = Some(buffer);
        match self.base.settle(lane, head, streams) {
            Ok(Some(message)) => Ok(self.complete(call, message)),
            Ok(None) => Ok(None),
            Err(broken) => Ok(self.break_off(out, call, broken)),
        }
    }

    fn credit_came(
        &mut self,
        out: &mut impl Outlet,
        head: Head,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'static>>, Violation> {
        let Some(lane) = self.slots.lane_mut(head.call()) else {
            return self.late(0, now);
        };
        if !self.base.credited(lane, &head) {
            return self.idle(now);
        }
        self.flush(out);
        Ok(self.poll_event())
    }

    fn cancel_came(
        &mut self,
        out: &mut impl Outlet,
        head: Head,
        now: Instant,
    ) -> Result<Option<CalleeEvent<'static>>, Violation> {
        let call = head.call();
        let Some(slot) = self.slots.slot_mut(call) else {
            // Its END was on its way already.
            return self.late(0, now);
        };
        match slot.state {
            State::Opening => {
                let status = Status::of(Code::Cancelled, "").not_started();
                self.refuse(out, call, &status);
                // Memory was reserved for nothing.
                self.idle(now)
            }
            State::Open if slot.cancelled => self.idle(now),
            State::Open => {
                slot.cancel();
                let reason = CancelReason::ByPeer;
                Ok(Some(CalleeEvent::Cancelled { call, reason }))
            }
            State::Ending if slot.lane.as_ref().is_some_and(|it| it.bulk.is_some()) => {
                // A large answer that nobody wants any more.
                slot.state = State::Open;
                slot.cancel();
                self.fail(out, call, &Status::of(Code::Cancelled, ""), now);
                Ok(None)
            }
            State::Ending | State::Free => self.idle(now),
        }
    }
}

impl Broken {
    fn status(self) -> Status {
        Status::of(self.code, self.text)
    }
}

#[cold]
fn unbound(bound: Bound) -> Status {
    let code = match bound {
        Bound::Unknown => Code::Unimplemented,
        _ => Code::FailedPrecondition,
    };
    Status::of(code, bound.text()).not_started()
}

#[cold]
fn malformed(text: &'static str) -> Status {
    Status::of(Code::Internal, text).not_started()
}

/// Keeps the lane's size in check: it is allocated per stream.
const _: () = assert!(size_of::<Lane>() <= 192);
