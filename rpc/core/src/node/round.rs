//! The life of calls that outlive their callback: messages for their streams, polls, answers, cancellation.
//!
//! Beside [`dispatch`](super::dispatch). Everything that futures, deferred replies and workers want ends up here, and
//! is done before the node leaves its callback, up to [`POLLS_MAX`] polls; what is left is done in the next turn.

use core::mem;
use core::panic::AssertUnwindSafe;
use core::task::Context;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use ringway_buf::{Id, Instant};
use ringway_call::{Body, CallId, CancelReason, Code, Payload, Refused, Status};
use ringway_engine::ConnectionId;

use crate::answer::{Answer, Site};
use crate::executor::Task;
use crate::live::{Live, Runtime, Work};
use crate::node::dispatch::{Dispatch, panicked};
use crate::node::session::Session;
use crate::outlet::Wire;
use crate::owed::Finish;
use crate::reply::NO_METADATA;
use crate::stage::{COPY_BYTES_MAX, Content, RemoteAnswer, Wish};
use crate::stream::Streams;
use crate::unsent::Front;

/// Polls of one round; more are left to the next turn, so that frames come in between.
const POLLS_MAX: u32 = 256;

/// A live call's place for its answer.
fn site<'a>(
    runtime: &'a mut Runtime,
    session: &'a mut Session,
    wire: &'a mut Wire<'_>,
    id: Id,
    now: Instant,
) -> Option<Site<'a>> {
    let live = runtime.live.get(id)?;
    let (call, method, route) = (live.call, live.method, live.route);
    let (began, one_way) = (live.began, live.one_way);
    Some(Site {
        out: wire.line(session.id),
        runtime,
        session,
        call,
        method,
        route,
        now,
        deadline: None,
        began,
        one_way,
    })
}

impl Dispatch {
    /// Polls what was woken, sends what was written, until nothing is left or the round is long enough.
    pub(crate) fn round(&mut self, wire: &mut Wire<'_>, now: Instant) {
        let local = Rc::clone(&self.runtime.local);
        let _inside = local.bell.enter();
        local.attend(true);
        let mut polls = 0;
        if let Some(fresh) = self.runtime.fresh.take() {
            self.poll(wire, fresh, now);
            polls += 1;
        }
        loop {
            if !local.is_empty() {
                self.wishes(wire, now);
            }
            if polls >= POLLS_MAX {
                break;
            }
            let Some(index) = self.runtime.wakes.pop() else {
                if local.is_empty() {
                    break;
                }
                continue;
            };
            let woken = self.runtime.live.next_from(index);
            if let Some(id) = woken.filter(|id| id.index() == index) {
                self.poll(wire, id, now);
                polls += 1;
            }
        }
        local.attend(false);
        drop(_inside);
        if !self.runtime.wakes.is_empty() || !local.is_empty() {
            local.bell.ring();
        }
    }

    /// Polls one future, and answers its call if it is ready.
    fn poll(&mut self, wire: &mut Wire<'_>, id: Id, now: Instant) {
        let Some(live) = self.runtime.live.get_mut(id) else {
            return;
        };
        let Work::Task(task) = &mut live.work else {
            return;
        };
        let Some(mut task) = task.take() else { return };
        let waker = self.runtime.wakes.waker(id.index());
        let mut cx = Context::from_waker(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.poll(&mut cx)));
        if !self.runtime.local.is_empty() {
            // Messages go out in front of the end of their stream.
            self.wishes(wire, now);
        }
        match polled {
            Ok(false) => match self.runtime.live.get_mut(id) {
                Some(live) => live.work = Work::Task(Some(task)),
                None => discard(task),
            },
            Ok(true) => self.deliver(wire, id, task, now),
            Err(_panic) => {
                if let Some(live) = self.runtime.live.get(id) {
                    panicked(live.route.name);
                }
                self.fail(wire, id, &crate::worker::panicked(), now);
                discard(task);
            }
        }
    }

    /// A future is ready: its output is the call's answer.
    fn deliver(&mut self, wire: &mut Wire<'_>, id: Id, mut task: Box<dyn Task>, now: Instant) {
        let Some(live) = self.runtime.live.get(id) else {
            return discard(task);
        };
        let (session, method) = (live.session, live.method);
        let streams = live.streams.clone();
        let mut finishing = false;
        if let Some(session) = self.sessions.find(session)
            && let Some(site) = site(&mut self.runtime, session, wire, id, now)
        {
            let answer = Answer {
                site,
                streams,
                finishing: &mut finishing,
            };
            // Encoding runs code of the message's type.
            if catch_unwind(AssertUnwindSafe(|| task.answer(answer))).is_err() {
                self.fail(wire, id, &crate::worker::panicked(), now);
                return discard(task);
            }
        }
        if finishing && let Some(live) = self.runtime.live.get_mut(id) {
            live.finishing = Some(Finish::default());
            live.work = Work::Deferred;
        } else {
            self.over(wire, id);
        }
        if clear(&mut task) {
            self.runtime.cells.keep(method, task);
        }
    }

    /// Ends a live call with a status.
    fn fail(&mut self, wire: &mut Wire<'_>, id: Id, status: &Status, now: Instant) {
        self.fail_with(wire, id, status, NO_METADATA, now);
    }

    /// Ends a live call with a status and metadata.
    pub(crate) fn fail_with(
        &mut self,
        wire: &mut Wire<'_>,
        id: Id,
        status: &Status,
        metadata: &[u8],
        now: Instant,
    ) {
        let Some(live) = self.runtime.live.get(id) else {
            return;
        };
        if let Some(session) = self.sessions.find(live.session)
            && let Some(mut site) = site(&mut self.runtime, session, wire, id, now)
        {
            site.fail_with(status, metadata);
        }
        self.over(wire, id);
    }

    /// A live call was answered: nothing of it stays.
    fn over(&mut self, wire: &mut Wire<'_>, id: Id) {
        let Some(live) = self.runtime.remove(id) else {
            return;
        };
        if let Some(session) = self.sessions.find(live.session) {
            if !live.one_way {
                session.set_live(live.call, None);
            }
            if session.is_held && session.callee.open_calls() == 0 {
                session.is_held = false;
                if let Some(mut cx) = wire.engine() {
                    cx.hold(live.session, false);
                }
            }
        }
        end(live);
    }

    /// The connection of a live call is gone: nobody can be answered.
    pub(crate) fn abandon(&mut self, id: Id, _gone: &Status) {
        if let Some(live) = self.runtime.remove(id) {
            if let Some(stats) = &mut self.runtime.stats {
                stats.ended(live.method, live.began, Code::Unavailable);
            }
            if let Some(interceptor) = &mut self.runtime.interceptor {
                interceptor.ended(live.route, Code::Unavailable);
            }
            end(live);
        }
    }

    /// A message of a stream came.
    pub(crate) fn message(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        call: CallId,
        message: Payload<'_>,
        cost: u32,
        end: bool,
    ) {
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        let live = session.live(call);
        let streams = live
            .and_then(|live| self.runtime.live.get(live))
            .and_then(|live| live.streams.as_ref());
        let Some(streams) = streams else {
            // Nobody reads it: its bytes go back at once.
            return session.callee.grant(&mut wire.line(id), call, cost);
        };
        let local = &self.runtime.local;
        let _inside = local.bell.enter();
        streams.push(message.into_slice(), cost);
        if end {
            streams.end();
        }
    }

    /// The client has said its last.
    pub(crate) fn ended(&mut self, id: ConnectionId, call: CallId) {
        let live = self.sessions.find(id).and_then(|it| it.live(call));
        let live = live.and_then(|live| self.runtime.live.get(live));
        if let Some(streams) = live.and_then(|live| live.streams.as_ref()) {
            let _inside = self.runtime.local.bell.enter();
            streams.end();
        }
    }

    /// The client gave a call up, or its deadline has passed.
    #[cold]
    pub(crate) fn cancelled(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        call: CallId,
        reason: CancelReason,
        now: Instant,
    ) {
        let status = match reason {
            CancelReason::Deadline => Status::of(Code::DeadlineExceeded, "the deadline has passed"),
            _ => Status::of(Code::Cancelled, "cancelled by the client"),
        };
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        let Some(live) = session.live(call) else {
            return session.callee.fail(&mut wire.line(id), call, &status, now);
        };
        if let Some(Live {
            work: Work::Job(job),
            cancelled,
            ..
        }) = self.runtime.live.get_mut(live)
        {
            // Its worker is still busy with it: the slot stays taken until it returns.
            job.cancel();
            *cancelled = Some(status);
            return;
        }
        self.fail(wire, live, &status, now);
    }

    /// Does what handlers' ends have asked for.
    fn wishes(&mut self, wire: &mut Wire<'_>, now: Instant) {
        let local = Rc::clone(&self.runtime.local);
        let mut staged = local.take();
        for (id, wish) in staged.wishes.drain(..) {
            let Some(live) = self.runtime.live.get(id) else {
                continue;
            };
            match wish {
                Wish::Fail(status) => self.fail(wire, id, &status, now),
                Wish::Reply(content) => {
                    let gathered = &staged.gathered;
                    match content {
                        Content::Gathered(range) => {
                            let bytes = gathered.get(range).unwrap_or_default();
                            self.reply(wire, id, bytes, NO_METADATA, now);
                        }
                        Content::Shared(slice) => {
                            self.reply(wire, id, slice, NO_METADATA, now);
                        }
                    }
                }
                Wish::Send(content) => {
                    if let Some(streams) = live.streams.clone() {
                        self.stream(wire, id, &streams, content, &staged.gathered, now);
                    }
                }
                Wish::Call(pending) => {
                    if let Some(inlet) = local.inlet()
                        && let Some(live) = self.runtime.live.get_mut(id)
                    {
                        let request = Arc::clone(&pending.request);
                        live.work = Work::Calling(request, Arc::clone(inlet));
                        local.nest(*pending);
                    }
                }
                Wish::Grant(bytes) => {
                    self.grant(wire, id, bytes);
                }
            }
        }
        local.give_back(staged);
    }

    /// Answers a live call with one message.
    pub(crate) fn reply<B: Body>(
        &mut self,
        wire: &mut Wire<'_>,
        id: Id,
        body: B,
        metadata: &[u8],
        now: Instant,
    ) {
        let Some(live) = self.runtime.live.get(id) else {
            return;
        };
        if let Some(session) = self.sessions.find(live.session)
            && let Some(mut site) = site(&mut self.runtime, session, wire, id, now)
            && let Err(status) = site.reply(body, metadata)
        {
            site.fail(&status);
        }
        self.over(wire, id);
    }

    /// Sends one message of a stream, or keeps it until there is credit.
    fn stream(
        &mut self,
        wire: &mut Wire<'_>,
        id: Id,
        streams: &Streams,
        content: Content,
        gathered: &[u8],
        now: Instant,
    ) {
        let is_first = streams.unsent.borrow().is_empty();
        match content {
            Content::Gathered(range) => {
                let bytes = gathered.get(range).unwrap_or_default();
                if is_first && matches!(self.send(wire, id, bytes, now), Sent::Gone) {
                    return streams.sent(bytes.len());
                }
                streams.unsent.borrow_mut().push_copy(bytes);
            }
            Content::Shared(slice) => {
                let len = slice.len();
                let slice = if is_first {
                    match self.send(wire, id, slice, now) {
                        Sent::Gone => return streams.sent(len),
                        Sent::Blocked(slice) => slice,
                    }
                } else {
                    slice
                };
                streams.unsent.borrow_mut().push_slice(slice);
            }
        }
    }

    /// Gives credit for a message that was taken back.
    pub(crate) fn grant(&mut self, wire: &mut Wire<'_>, id: Id, bytes: u32) {
        let Some(live) = self.runtime.live.get(id) else {
            return;
        };
        let (session, call) = (live.session, live.call);
        if let Some(session) = self.sessions.find(session) {
            let mut out = wire.line(session.id);
            session.callee.grant(&mut out, call, bytes);
        }
    }

    /// Sends one message of a stream, or keeps it in memory of its own until there is credit.
    pub(crate) fn send_or_keep<B: Body>(
        &mut self,
        wire: &mut Wire<'_>,
        id: Id,
        streams: &Streams,
        body: B,
        now: Instant,
    ) -> Result<(), Status> {
        let len = body.len();
        let body = if streams.unsent.borrow().is_empty() {
            match self.send(wire, id, body, now) {
                Sent::Gone => return Ok(()),
                Sent::Blocked(body) => body,
            }
        } else {
            body
        };
        if len > COPY_BYTES_MAX {
            let lacks = || Status::of(Code::ResourceExhausted, "no memory for the message");
            let pools = self.runtime.local.pools().ok_or_else(lacks)?;
            let slice = match body.share() {
                Ok(slice) => slice,
                Err(body) => body.into_slice(&pools).map_err(|_body| lacks())?,
            };
            streams.unsent.borrow_mut().push_slice(slice);
        } else {
            let mut unsent = streams.unsent.borrow_mut();
            unsent.push_written(len, |room| body.write(room));
        }
        streams.wait_for_credit(len);
        Ok(())
    }

    fn send<B: Body>(&mut self, wire: &mut Wire<'_>, id: Id, body: B, now: Instant) -> Sent<B> {
        let Some(live) = self.runtime.live.get(id) else {
            return Sent::Gone;
        };
        let (session, call) = (live.session, live.call);
        let Some(session) = self.sessions.find(session) else {
            return Sent::Gone;
        };
        let mut out = wire.line(session.id);
        match session.callee.send(&mut out, call, body, now) {
            Ok(()) => Sent::Gone,
            Err(Refused::Full(body)) => Sent::Blocked(body),
            Err(Refused::TooLong { bytes_max, .. }) => {
                let text =
                    format!("the message is longer than the client takes ({bytes_max} bytes)");
                self.fail(wire, id, &Status::new(Code::ResourceExhausted, &text), now);
                Sent::Gone
            }
            Err(Refused::NoMemory(_)) => {
                let status = Status::of(Code::ResourceExhausted, "no memory for the message");
                self.fail(wire, id, &status, now);
                Sent::Gone
            }
            // The call is over; its end is on the way to whoever holds the sender.
            Err(_) => Sent::Gone,
        }
    }

    /// A stream has credit again.
    pub(crate) fn resume(
        &mut self,
        wire: &mut Wire<'_>,
        id: ConnectionId,
        call: CallId,
        now: Instant,
    ) {
        let live = self.sessions.find(id).and_then(|it| it.live(call));
        let Some(id) = live else { return };
        let streams = self.runtime.live.get(id).and_then(|it| it.streams.clone());
        let Some(streams) = streams else { return };
        let local = Rc::clone(&self.runtime.local);
        let _inside = local.bell.enter();
        // Taken out meanwhile: a failed send ends the call, and with it code of others.
        let mut unsent = streams.unsent.take();
        while let Some(front) = unsent.front() {
            let (len, blocked) = match front {
                Front::Copied(bytes) => {
                    let sent = self.send(wire, id, bytes, now);
                    (bytes.len(), matches!(sent, Sent::Blocked(_)))
                }
                Front::Shared(slice) => {
                    let sent = self.send(wire, id, slice.clone(), now);
                    (slice.len(), matches!(sent, Sent::Blocked(_)))
                }
            };
            if blocked {
                streams.unsent.replace(unsent);
                return;
            }
            unsent.pop();
            streams.sent(len);
        }
        streams.unsent.replace(unsent);
        let live = self.runtime.live.get_mut(id);
        if let Some(finish) = live.and_then(|live| live.finishing.take()) {
            self.finish(wire, id, finish, now);
        }
    }

    /// Ends a stream well, as soon as what it sent has left.
    pub(crate) fn finish(&mut self, wire: &mut Wire<'_>, id: Id, finish: Finish, now: Instant) {
        let Some(live) = self.runtime.live.get_mut(id) else {
            return;
        };
        let streams = live.streams.as_ref();
        if streams.is_some_and(|streams| !streams.unsent.borrow().is_empty()) {
            live.finishing = Some(finish);
            return;
        }
        if let Some(session) = self.sessions.find(live.session)
            && let Some(mut site) = site(&mut self.runtime, session, wire, id, now)
        {
            site.finish(&finish);
        }
        self.over(wire, id);
    }

    /// Another thread rang: answers of workers, wakes, readers of statistics.
    pub(crate) fn notified(&mut self, wire: &mut Wire<'_>, now: Instant) {
        if let Some(stats) = &mut self.runtime.stats {
            stats.answer_reader();
        }
        let remote = {
            let mut all = self.runtime.local.remote.lock();
            let all = all.as_deref_mut().map_err(PoisonError::get_mut);
            match all {
                Ok(all) => mem::take(all),
                Err(all) => mem::take(&mut **all),
            }
        };
        for (id, waited, answer) in remote {
            if let Some(live) = self.runtime.live.get_mut(id) {
                live.began = live.began.later(waited);
            }
            self.remote(wire, id, answer, now);
        }
        self.round(wire, now);
    }

    fn remote(&mut self, wire: &mut Wire<'_>, id: Id, answer: RemoteAnswer, now: Instant) {
        let Some(live) = self.runtime.live.get_mut(id) else {
            return;
        };
        if let Some(status) = live.cancelled.take() {
            return self.fail(wire, id, &status, now);
        }
        match answer {
            Ok(bytes) => self.reply(wire, id, &bytes, NO_METADATA, now),
            Err(status) => self.fail(wire, id, &status, now),
        }
    }
}

/// What became of a stream's message.
enum Sent<B> {
    /// It is sent, or there is nobody to send it to.
    Gone,
    /// It has to wait.
    Blocked(B),
}

/// Ends what a call left running.
fn end(live: Live) {
    match live.work {
        Work::Task(Some(task)) => discard(task),
        Work::Job(job) => job.cancel(),
        Work::Calling(request, inlet) => request.cancel(&inlet),
        Work::Task(None) | Work::Deferred => {}
    }
}

/// Drops a future; its destructors are code of others.
fn discard(mut task: Box<dyn Task>) {
    if clear(&mut task) {
        drop(task);
    }
}

/// Empties a cell; false if a destructor panicked, so that the cell is not used again.
fn clear(task: &mut Box<dyn Task>) -> bool {
    catch_unwind(AssertUnwindSafe(|| task.clear())).is_ok()
}
