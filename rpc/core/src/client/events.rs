//! What the engine tells: connections come and go, frames come in, timers fire. Called by the node for connections
//! that were not accepted.

use std::rc::Rc;
use std::sync::Arc;

use ringway_buf::{Id, RecvBuffer, Slice};
use ringway_call::{Caller, CallerEvent, Code, Frame, Status, feature};
use ringway_engine::{CloseCode, Closed, ConnectionId, Context, Header, Message, Peer, TimerId};

use super::answer::Answer;
use super::endpoint::State;
use super::remote;
use super::session::{CallKey, Session, Waiter};
use super::{BULK_LOW_BYTES, Clients, Happening, TOO_MANY_METHODS, Target, rearm};
use crate::outlet::{Kept, Line, head};

// The engine's side: called by the node for connections that are not accepted ones.
impl Clients {
    /// Whether a connection is one of these.
    #[inline]
    pub(crate) fn owns(&self, connection: ConnectionId) -> bool {
        self.sessions.contains(connection)
    }

    /// A connection is being made.
    pub(super) fn begin(&mut self, cx: &Context<'_>, endpoint: Id, connection: ConnectionId) {
        let caller = Caller::new(self.config, Rc::clone(cx.pools()), self.compressors.clone());
        self.sessions
            .insert(Session::new(connection, endpoint, caller));
    }

    pub(crate) fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        if peer.features & feature::RPC == 0 {
            if let Some(endpoint) = self.endpoints.get_mut(session.endpoint) {
                endpoint.trouble = Some("the server speaks messages, not calls".to_owned());
            }
            return cx.close(connection, CloseCode::FeatureRequired);
        }
        let mut out = Line::new(cx.reborrow(), connection);
        session.caller.start(&mut out);
    }

    #[inline]
    pub(crate) fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) {
        let connection = message.connection();
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        let head = head(&message.header());
        if let Some(call) = session.caller.handle_answer(head, message.body().len()) {
            // The usual case: looked up once, and nothing is left to do for it.
            let waiter = session.take_waiter(call);
            let is_settled = session.caller.is_settled() && !session.draining && !self.waits;
            let key = CallKey { connection, call };
            let message = message.retain();
            if matches!(waiter, Waiter::Owner) {
                self.inbox.push_back((key, Happening::Answered(message)));
                if is_settled {
                    return;
                }
            } else {
                self.ended(cx, key, waiter, Answer::plain(message));
            }
            return self.settle(cx, connection);
        }
        let now = cx.now();
        let keep = Kept(message);
        let frame = Frame {
            head,
            body: message.body(),
            keep: &keep,
        };
        let mut out = Line::new(cx.reborrow(), connection);
        let came = session.caller.handle_frame(&mut out, frame, now);
        match came {
            Ok(None) => {}
            Ok(Some(event)) => self.event(cx, connection, event),
            Err(violation) => {
                tracing::warn!(%connection, %violation, "closed");
                return cx.close(connection, CloseCode::Malformed);
            }
        }
        self.settle(cx, connection);
    }

    pub(crate) fn place(
        &mut self,
        connection: ConnectionId,
        header: &Header,
    ) -> Option<RecvBuffer> {
        self.sessions.find(connection)?.caller.place(&head(header))
    }

    pub(crate) fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        let now = cx.now();
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        let mut out = Line::new(cx.reborrow(), connection);
        let came = session
            .caller
            .handle_placed(&mut out, head(&header), buffer, now);
        match came {
            Ok(None) => {}
            Ok(Some(event)) => self.event(cx, connection, event),
            Err(violation) => {
                tracing::warn!(%connection, %violation, "closed");
                return cx.close(connection, CloseCode::Malformed);
            }
        }
        self.settle(cx, connection);
    }

    pub(crate) fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        let endpoint = session.endpoint;
        let mut out = Line::new(cx.reborrow(), connection);
        session.caller.flush(&mut out);
        self.settle(cx, connection);
        self.go_on(cx, Target(endpoint));
    }

    pub(crate) fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        tracing::debug!(%connection, "the server drains");
        session.draining = true;
        session.caller.handle_drain();
        let (id, busy) = (session.endpoint, session.caller.open_calls() > 0);
        cx.hold(connection, busy);
        let now = cx.now();
        let Some(endpoint) = self.endpoints.get_mut(id) else {
            return;
        };
        if !endpoint.is_current(connection) || endpoint.closing {
            return;
        }
        if endpoint.has_worked(now) {
            self.attempt(cx, id);
        } else {
            self.failed(cx, id, "the server drains its connections".to_owned());
        }
    }

    pub(crate) fn closed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        closed: &Closed,
    ) {
        let Some(mut session) = self.sessions.remove(connection) else {
            return;
        };
        tracing::debug!(%connection, %closed, "closed");
        if let Some((timer, _)) = session.timer.take() {
            cx.cancel_timer(timer);
        }
        let why = closed.to_string();
        for (call, not_started) in session.caller.handle_closed() {
            let mut status = Status::new(Code::Unavailable, &why);
            status.not_started = not_started;
            let waiter = session.take_waiter(call);
            self.ended(cx, CallKey { connection, call }, waiter, Answer::of(status));
        }
        let (id, now) = (session.endpoint, cx.now());
        let Some(endpoint) = self.endpoints.get_mut(id) else {
            return;
        };
        if !endpoint.is_current(connection) {
            return;
        }
        if endpoint.closing {
            self.endpoints.remove(id);
            return;
        }
        if endpoint.ready().is_some() && endpoint.has_worked(now) {
            endpoint.trouble = Some(why);
            self.attempt(cx, id);
        } else {
            let why = endpoint.trouble.take().unwrap_or(why);
            self.failed(cx, id, why);
        }
    }

    /// Connects to a server once more.
    pub(super) fn attempt(&mut self, cx: &mut Context<'_>, id: Id) {
        let Some(endpoint) = self.endpoints.get_mut(id) else {
            return;
        };
        match cx.connect(&endpoint.address) {
            Ok(connection) => {
                endpoint.state = State::Connecting(connection);
                self.begin(cx, id, connection);
            }
            Err(error) => self.failed(cx, id, error.to_string()),
        }
    }

    /// An attempt failed: those who do not wait are told, the next one comes by timer.
    fn failed(&mut self, cx: &mut Context<'_>, id: Id, why: String) {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(cx.now().as_nanos() | 1);
        let random = self.seed >> 33;
        let Some(endpoint) = self.endpoints.get_mut(id) else {
            return;
        };
        let wait = endpoint.failed(why, random);
        tracing::debug!(address = %endpoint.address, ?wait, "connecting failed");
        let status = endpoint.unavailable();
        let (stay, leave) = core::mem::take(&mut endpoint.waiting)
            .into_iter()
            .partition(|pending| pending.request.waits());
        endpoint.waiting = stay;
        for pending in Vec::from(leave) {
            pending.end(cx, status.clone());
        }
        match cx.set_timer(wait) {
            Some(timer) => self.retries.push((timer, id)),
            // The next call tries.
            None => tracing::error!("no timer for another attempt; raise timers_max"),
        }
    }

    pub(crate) fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        if let Some(at) = self.retries.iter().position(|(it, _)| *it == timer) {
            let (_, id) = self.retries.swap_remove(at);
            return self.attempt(cx, id);
        }
        if self.expiry.is_some_and(|(it, _)| it == timer) {
            return self.expire_waiting(cx);
        }
        let Some(connection) = self.sessions.of_timer(timer) else {
            return;
        };
        if let Some(session) = self.sessions.find(connection) {
            session.timer = None;
            let now = cx.now();
            let mut out = Line::new(cx.reborrow(), connection);
            session.caller.handle_timeout(&mut out, now);
            rearm(cx, session);
        }
        self.settle(cx, connection);
    }

    pub(crate) fn notified(&mut self, cx: &mut Context<'_>) {
        if let Some(inlet) = self.inlet.clone() {
            remote::take(self, cx, &inlet);
        }
    }

    /// After something happened on a connection: what came of it besides, and what may go on.
    #[inline]
    fn settle(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        while let Some(session) = self.sessions.find(connection) {
            let Some(event) = session.caller.poll_event() else {
                if session.caller.wants_flush() {
                    push_bulk(cx, connection, session);
                }
                if session.draining && session.caller.open_calls() == 0 {
                    cx.hold(connection, false);
                }
                break;
            };
            self.event(cx, connection, event);
        }
        if self.waits
            && let Some(session) = self.sessions.find(connection)
        {
            // A slot may be free, be it of a call that nobody waits for.
            let endpoint = session.endpoint;
            self.go_on(cx, Target(endpoint));
        }
    }

    #[inline]
    fn event(&mut self, cx: &mut Context<'_>, connection: ConnectionId, event: CallerEvent<'_>) {
        match event {
            CallerEvent::Ended {
                call,
                status,
                metadata,
                message,
            } => {
                let Some(session) = self.sessions.find(connection) else {
                    return;
                };
                let (key, waiter) = (CallKey { connection, call }, session.take_waiter(call));
                let status = if status.is_ok() {
                    Status::OK
                } else {
                    status.to_status()
                };
                let answer = Answer {
                    status,
                    metadata: metadata.bytes().into(),
                    message: message.map(ringway_call::Payload::into_slice),
                };
                self.ended(cx, key, waiter, answer);
            }
            CallerEvent::Message {
                call,
                message,
                cost,
            } => self.message_came(cx, CallKey { connection, call }, message.into_slice(), cost),
            CallerEvent::Writable { call } => {
                let key = CallKey { connection, call };
                let Some(session) = self.sessions.find(connection) else {
                    return;
                };
                match session.waiter(call) {
                    Waiter::Owner => self.inbox.push_back((key, Happening::Writable)),
                    Waiter::Remote(request) => {
                        let request = Arc::clone(request);
                        remote::pump(self, cx, key, &request);
                    }
                    Waiter::Then(_) | Waiter::Nobody => {}
                }
            }
            CallerEvent::Ready => self.ready(cx, connection),
            CallerEvent::Bound { first, count } => self.bound_came(connection, first, count),
        }
    }

    /// A call is over: tells whoever waits for it.
    fn ended(&mut self, cx: &mut Context<'_>, key: CallKey, waiter: Waiter, answer: Answer) {
        match waiter {
            Waiter::Owner => {
                let happening = Happening::Ended(Box::new(answer));
                self.inbox.push_back((key, happening));
            }
            Waiter::Then(then) => then.run(cx, answer),
            Waiter::Remote(request) => request.end(answer),
            Waiter::Nobody => {}
        }
    }

    fn message_came(&mut self, cx: &mut Context<'_>, key: CallKey, message: Slice, cost: u32) {
        let Some(session) = self.sessions.find(key.connection) else {
            return;
        };
        match session.waiter(key.call) {
            Waiter::Owner => {
                let happening = Happening::Message(message, cost);
                self.inbox.push_back((key, happening));
            }
            Waiter::Remote(request) => request.message(message, cost),
            Waiter::Then(_) | Waiter::Nobody => {
                // Nobody looks at it: its credit goes back at once.
                self.with(cx, key, |caller, out, call| caller.grant(out, call, cost));
            }
        }
    }

    /// The server's settings have come.
    #[cold]
    fn ready(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        let id = session.endpoint;
        let Some(endpoint) = self.endpoints.get_mut(id) else {
            return;
        };
        endpoint.bound.fill(None);
        let mut out = Line::new(cx.reborrow(), connection);
        if session.caller.bind(&mut out, &endpoint.methods).is_err() {
            tracing::error!(address = %endpoint.address, TOO_MANY_METHODS);
            endpoint.trouble = Some(TOO_MANY_METHODS.to_owned());
            return cx.close(connection, CloseCode::ResourceExhausted);
        }
        tracing::debug!(address = %endpoint.address, %connection, "connected");
        endpoint.succeeded(connection, cx.now());
        self.go_on(cx, Target(id));
    }

    #[cold]
    fn bound_came(&mut self, connection: ConnectionId, first: u32, count: u32) {
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(session.endpoint) else {
            return;
        };
        for method in first..first.saturating_add(count) {
            let word = session.caller.bound(method);
            if let Some(entry) = endpoint.bound.get_mut(method as usize) {
                *entry = word;
            }
            if let Some(status) = endpoint.refusal(method) {
                tracing::warn!(address = %endpoint.address, method, %status, "not bound");
            }
        }
    }
}

/// Large messages wait for a short queue: asks the engine to tell, or goes on at once.
#[cold]
pub(super) fn push_bulk(cx: &mut Context<'_>, connection: ConnectionId, session: &mut Session) {
    let mut queued = None;
    while session.caller.wants_flush() && !cx.writable_below(connection, BULK_LOW_BYTES) {
        let now = cx.queued_bytes(connection);
        if queued == Some(now) {
            // It waits for memory, not for the queue; the engine tells.
            return;
        }
        queued = Some(now);
        let mut out = Line::new(cx.reborrow(), connection);
        session.caller.flush(&mut out);
    }
}
