//! The way up at the client's end: from the server's frames to events.

use ringway_buf::{Instant, RecvBuffer};

use super::slots::State;
use super::{Caller, CallerEvent};
use crate::lane::Lane;
use crate::recv::Broken;
use crate::send::total;
use crate::wire::Settings;
use crate::{
    Bound, CallId, Code, Frame, Head, Metadata, Outlet, Payload, StatusView, Violation, flag, kind,
};

impl Caller {
    /// A frame came. At most one event comes of it at once; others by [`poll_event`](Self::poll_event).
    ///
    /// # Errors
    /// The server broke a rule of the connection: close it.
    #[inline]
    pub fn handle_frame<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: Frame<'a>,
        now: Instant,
    ) -> Result<Option<CallerEvent<'a>>, Violation> {
        let head = frame.head;
        if self.base.peer.is_none() && head.kind != kind::SETTINGS {
            return Err(Violation::NoSettings);
        }
        match head.kind {
            kind::END => self.end_came(out, &frame, now),
            kind::DATA => self.data_came(out, &frame, now),
            kind::CREDIT => self.credit_came(out, head, now),
            kind::SETTINGS => self.settings_came(frame.body),
            kind::BOUND if frame.body.is_empty() => self.idle(now),
            kind::BOUND => self.bound_came(&frame),
            kind::NAK => self.idle(now),
            kind::BIND | kind::OPEN | kind::CANCEL => Err(Violation::BadFrame),
            unknown => {
                let seen = self.idle(now)?;
                if unknown & kind::IGNORABLE == 0 && !self.is_blocked() {
                    let echo = Head {
                        kind: kind::NAK,
                        ..Head::of_connection(kind::NAK, u32::from(unknown))
                    };
                    self.base.control(out, echo);
                }
                Ok(seen)
            }
        }
    }

    /// The usual frame at less cost: the answer of a unary call that went well, whose message is the frame's
    /// whole `bytes` long body. `None`: another frame, for [`handle_frame`](Self::handle_frame); nothing was done.
    #[inline]
    pub fn handle_answer(&mut self, head: Head, bytes: usize) -> Option<CallId> {
        let is_plain = head.kind == kind::END
            && head.flags == flag::END | flag::MESSAGE
            && head.tag == 0
            && head.arg() == 0
            && bytes <= self.base.config.inline_bytes_max as usize;
        if !is_plain || !self.base.waiting.is_empty() {
            return None;
        }
        let call = head.call();
        self.slots.free_plain(call).then_some(call)
    }

    /// A frame that does no work.
    fn idle(&mut self, now: Instant) -> Result<Option<CallerEvent<'static>>, Violation> {
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
    ) -> Result<Option<CallerEvent<'static>>, Violation> {
        if self.base.idle.late(bytes, now) {
            Ok(None)
        } else {
            Err(Violation::Flood)
        }
    }

    #[cold]
    fn settings_came(&mut self, body: &[u8]) -> Result<Option<CallerEvent<'static>>, Violation> {
        let settings = Settings::read(body).ok_or(Violation::BadSettings)?;
        let usable = settings.calls_max > 0 && settings.inline_bytes_max > 0;
        if self.base.peer.is_some() || !usable {
            return Err(Violation::BadSettings);
        }
        self.base.peer = Some(settings);
        Ok(Some(CallerEvent::Ready))
    }

    #[cold]
    fn bound_came(&mut self, frame: &Frame<'_>) -> Result<Option<CallerEvent<'static>>, Violation> {
        let first = frame.head.arg();
        let range = first as usize..(first as usize).saturating_add(frame.body.len());
        let entries = self.methods.get_mut(range).ok_or(Violation::BadBind)?;
        for (entry, word) in entries.iter_mut().zip(frame.body) {
            if entry.2.is_some() {
                return Err(Violation::BadBind);
            }
            entry.2 = Some(Bound::from_wire(*word));
        }
        let count = total(frame.body.len());
        Ok(Some(CallerEvent::Bound { first, count }))
    }

    #[inline]
    fn end_came<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'a>,
        now: Instant,
    ) -> Result<Option<CallerEvent<'a>>, Violation> {
        let (head, call) = (frame.head, frame.head.call());
        let Some(slot) = self.slots.slot_mut(call) else {
            return self.idle(now);
        };
        let given_up = slot.state == State::Cancelled;
        let lane = slot.lane.as_deref_mut();
        let within_message = lane.as_ref().is_some_and(|lane| lane.place.is_some());
        if let Some(lane) = &lane {
            self.base.idle.trails();
            if lane.spoke && (!lane.ended || lane.bulk.is_some()) {
                // What is still on its way would be skipped.
                self.base.drop_lane(out, call);
            }
        }
        let whole = lane.and_then(|lane| lane.whole.take());
        self.slots.free(call);
        if given_up {
            return Ok(None);
        }
        let answer = self.answer(frame, whole.map(Payload::owned));
        let (status, metadata, message) = match answer {
            Ok((status, ..)) if status.is_ok() && within_message => {
                let text = "the call ended within a message";
                let status = crate::status::local(Code::Internal, text, false);
                (status, Metadata::EMPTY, None)
            }
            Ok(answer) => answer,
            Err(broken) => {
                let status = crate::status::local(broken.code, broken.text, false);
                (status, Metadata::EMPTY, None)
            }
        };
        if self.base.debts.is_empty() && !self.base.waiting.is_empty() {
            self.flush(out);
        }
        debug_assert_eq!(head.kind, kind::END);
        Ok(Some(CallerEvent::Ended {
            call,
            status,
            metadata,
            message,
        }))
    }

    /// What an END says.
    #[inline]
    fn answer<'a>(
        &self,
        frame: &Frame<'a>,
        whole: Option<Payload<'a>>,
    ) -> Result<(StatusView<'a>, Metadata<'a>, Option<Payload<'a>>), Broken> {
        let (head, body) = (frame.head, frame.body);
        let split = body.split_at_checked(head.metadata_bytes());
        let (metadata, payload) =
            split.ok_or(Broken::rule("an answer is shorter than its metadata"))?;
        if metadata.len() > self.base.config.metadata_bytes_max as usize {
            return Err(Broken::limit(
                "the answer's metadata is longer than metadata_bytes_max",
            ));
        }
        let metadata = Metadata::parse(metadata)
            .map_err(|_malformed| Broken::rule("the answer's metadata is malformed"))?;
        let message = if head.has(flag::MESSAGE) {
            Some(self.base.whole(frame, payload)?)
        } else {
            whole
        };
        let [c0, c1, a0, a1] = head.arg().to_le_bytes();
        let status = StatusView {
            code: Code::from_wire(u16::from_le_bytes([c0, c1])),
            app_code: u16::from_le_bytes([a0, a1]),
            not_started: head.has(flag::NOT_STARTED),
            text: "",
            metadata: metadata.clone(),
        };
        Ok((status, metadata, message))
    }

    fn data_came<'a>(
        &mut self,
        out: &mut impl Outlet,
        frame: &Frame<'a>,
        now: Instant,
    ) -> Result<Option<CallerEvent<'a>>, Violation> {
        let call = frame.head.call();
        let Some(slot) = self.slots.open_mut(call) else {
            return self.late(frame.body.len(), now);
        };
        let streams = slot.kind.server_streams();
        if !streams && slot.lane.is_none() {
            // The only DATA of a unary answer are the pieces of a large one.
            slot.lane = Some(alloc::boxed::Box::new(Lane {
                ended: true,
                ..Lane::default()
            }));
        }
        let Some(lane) = &mut slot.lane else {
            return Ok(None);
        };
        let came = self.base.data(out, lane, call, frame, streams);
        match came {
            Ok(None) if frame.head.flags & (flag::MORE | flag::MESSAGE) == 0 => self.idle(now),
            Ok(None) => Ok(None),
            Ok(Some(message)) if streams => Ok(Some(CallerEvent::Message {
                call,
                message: message.payload,
                cost: message.cost,
            })),
            Ok(Some(message)) => {
                lane.whole = Some(message.payload.into_slice());
                Ok(None)
            }
            Err(broken) => {
                self.fail(out, call, broken.code, broken.text);
                Ok(self.poll_event())
            }
        }
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
    ) -> Result<Option<CallerEvent<'static>>, Violation> {
        let call = head.call();
        let Some(slot) = self.slots.open_mut(call) else {
            return Ok(None);
        };
        let streams = slot.kind.server_streams();
        let Some(lane) = &mut slot.lane else {
            return Ok(None);
        };
        let Some(place) = &mut lane.place else {
            return Ok(None);
        };
        place.buffer = Some(buffer);
        match self.base.settle(lane, head, streams) {
            Ok(None) => Ok(None),
            Ok(Some(message)) if streams => Ok(Some(CallerEvent::Message {
                call,
                message: message.payload,
                cost: message.cost,
            })),
            Ok(Some(message)) => {
                lane.whole = Some(message.payload.into_slice());
                Ok(None)
            }
            Err(broken) => {
                self.fail(out, call, broken.code, broken.text);
                Ok(self.poll_event())
            }
        }
    }

    fn credit_came(
        &mut self,
        out: &mut impl Outlet,
        head: Head,
        now: Instant,
    ) -> Result<Option<CallerEvent<'static>>, Violation> {
        let call: CallId = head.call();
        let Some(lane) = self.slots.lane_mut(call) else {
            return self.late(0, now);
        };
        if !self.base.credited(lane, &head) {
            return self.idle(now);
        }
        self.flush(out);
        Ok(self.poll_event())
    }
}
