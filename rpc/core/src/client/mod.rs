//! Calling: all outgoing connections of one engine, and the faces in front of them.
//!
//! [`Clients`] lives on the engine's thread inside its [`Node`](crate::Node). Three faces stand in front of it:
//! [`InlineChannel`] owns engine and node and turns them while it waits; [`Channel`] hands calls over from other
//! threads, blocking or `async`; a handler calls with a continuation ([`Clients::call`]).

pub(crate) mod answer;
pub(crate) mod channel;
mod endpoint;
pub(crate) mod inline;
mod nested;
mod remote;
mod session;
mod stream;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use ringway_buf::{Id, Instant, RecvBuffer, Slice, Table};
use ringway_call::{
    Binding, Body, CallConfig, CallId, Caller, CallerEvent, Code, Compressors, Frame, Open,
    Refused, Status, feature,
};
use ringway_engine::{
    CloseCode, Closed, ConnectionId, Context, Header, Message, OpenError, Peer, TimerId,
};

pub use answer::{Answer, CallOptions, Response};
pub use channel::{Call, Channel, ClientEngine, Incoming, Outgoing};
pub use inline::InlineChannel;
pub use session::CallKey;
pub use stream::InlineStream;

use crate::outlet::{Kept, Line, head};
use crate::service::Method;
use endpoint::{Endpoint, State};
use nested::Continuation;
use remote::{Inlet, Request};
use session::{Session, Sessions, Waiter};

/// Servers that one engine's clients may name.
const ENDPOINTS_MAX: usize = 1024;

/// A server that is called: made by [`Clients::connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(Id);

/// Something for the owner of the engine.
#[derive(Debug)]
pub(crate) enum Happening {
    Message(Slice, u32),
    Writable,
    Ended(Answer),
}

/// All outgoing connections of one engine.
#[derive(Debug)]
pub struct Clients {
    endpoints: Table<Endpoint>,
    sessions: Sessions,
    /// What happened to calls of the engine's owner, oldest first. Bounded by the calls that it has open and by
    /// their streams' credit.
    inbox: VecDeque<(CallKey, Happening)>,
    /// Endpoints that wait for another attempt.
    retries: Vec<(TimerId, Id)>,
    /// Timers for the deadlines of calls that wait for a connection.
    expiries: Vec<TimerId>,
    inlet: Option<Arc<Inlet>>,
    config: CallConfig,
    compressors: Compressors,
    seed: u64,
}

impl Default for Clients {
    fn default() -> Self {
        Self::new(CallConfig::default(), Compressors::default())
    }
}

impl Clients {
    /// Clients with these limits and algorithms.
    #[must_use]
    pub fn new(config: CallConfig, compressors: Compressors) -> Self {
        Self {
            endpoints: Table::new(ENDPOINTS_MAX),
            sessions: Sessions::default(),
            inbox: VecDeque::new(),
            retries: Vec::new(),
            expiries: Vec::new(),
            inlet: None,
            config,
            compressors,
            seed: 0,
        }
    }

    /// Where other threads put their calls.
    pub(crate) fn with_inlet(mut self, inlet: Arc<Inlet>) -> Self {
        self.inlet = Some(inlet);
        self
    }

    /// Names a server and starts connecting to it. The connection is kept and made anew when it breaks.
    ///
    /// # Errors
    /// The address can't be read, or too many servers are named.
    pub fn connect(&mut self, cx: &mut Context<'_>, address: &str) -> Result<Target, OpenError> {
        let full = OpenError::TooMany { max: ENDPOINTS_MAX };
        let connection = cx.connect(address)?;
        let endpoint = Endpoint::new(address, Some(connection));
        let Ok(id) = self.endpoints.insert(endpoint) else {
            cx.close(connection, CloseCode::Normal);
            return Err(full);
        };
        self.begin(cx, id, connection);
        Ok(Target(id))
    }

    /// Forgets a server: its connection is drained, calls that wait for one end.
    pub fn disconnect(&mut self, cx: &mut Context<'_>, target: Target) {
        let Some(endpoint) = self.endpoints.get_mut(target.0) else {
            return;
        };
        endpoint.closing = true;
        let (state, waiting) = (endpoint.state, core::mem::take(&mut endpoint.waiting));
        for request in waiting {
            request.end(Answer::of(gone()));
        }
        match state {
            State::Ready(connection) => cx.drain(connection),
            State::Connecting(connection) => cx.close(connection, CloseCode::Normal),
            State::Failing => {
                self.retries
                    .retain(|(timer, id)| *id != target.0 || !cx.cancel_timer(*timer));
                self.endpoints.remove(target.0);
            }
        }
    }

    /// Registers methods of a server; the index of the first. The same methods get the same indices.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: the server allows fewer methods; NOT_FOUND: no such target.
    pub fn bind(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        methods: &[Method],
    ) -> Result<u32, Status> {
        let unknown = || Status::of(Code::NotFound, "no such target");
        let endpoint = self.endpoints.get_mut(target.0).ok_or_else(unknown)?;
        let wanted: Vec<Binding> = methods.iter().map(Method::binding).collect();
        let known = endpoint
            .methods
            .windows(wanted.len().max(1))
            .position(|window| window == wanted);
        if let Some(first) = known {
            return Ok(index_of(first));
        }
        let first = index_of(endpoint.methods.len());
        endpoint.methods.extend_from_slice(&wanted);
        endpoint.bound.resize(endpoint.methods.len(), None);
        if let Some(connection) = endpoint.ready()
            && let Some(session) = self.sessions.find(connection)
        {
            let mut out = Line::new(cx.reborrow(), connection);
            session
                .caller
                .bind(&mut out, &wanted)
                .map_err(|_full| Status::of(Code::FailedPrecondition, TOO_MANY_METHODS))?;
        }
        Ok(first)
    }

    /// Whether calls can go to a server now.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, target: Target) -> bool {
        self.endpoints
            .get(target.0)
            .is_some_and(|it| it.ready().is_some())
    }

    /// The server's word about a method; `None` while it is outstanding.
    #[must_use]
    pub fn bound(&self, target: Target, method: u32) -> Option<Result<(), Status>> {
        let endpoint = self.endpoints.get(target.0)?;
        endpoint.bound.get(method as usize).copied().flatten()?;
        Some(endpoint.refusal(method).map_or(Ok(()), Err))
    }

    /// Why a server can't be reached, if the last attempt failed.
    pub(crate) fn trouble(&self, target: Target) -> Option<Status> {
        let endpoint = self.endpoints.get(target.0)?;
        (endpoint.state == State::Failing).then(|| endpoint.unavailable())
    }

    /// Calls a method from inside a handler, or anywhere on this thread: `then` gets the answer. A deadline of the
    /// call being served is inherited by passing its remaining time as the timeout.
    ///
    /// # Errors
    /// Why the call could not be made; `then` is dropped.
    pub fn call<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        method: u32,
        options: &CallOptions<'_>,
        request: B,
        then: impl FnOnce(&mut Context<'_>, Answer) + 'static,
    ) -> Result<CallKey, Status> {
        let then = Waiter::Then(Continuation::new(then));
        self.open(cx, target, method, options, Some(request), true, then)
            .map_err(|refused| self.status_of(target, method, &refused))
    }

    /// Opens a call on a ready connection.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "all of them make one call")]
    pub(crate) fn open<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        method: u32,
        options: &CallOptions<'_>,
        request: Option<B>,
        end: bool,
        waiter: Waiter,
    ) -> Result<CallKey, Refused<Option<B>>> {
        let endpoint = self.endpoints.get(target.0);
        let Some(connection) = endpoint.and_then(Endpoint::ready) else {
            return Err(Refused::NotReady(request));
        };
        let Some(session) = self.sessions.find(connection) else {
            return Err(Refused::NotReady(request));
        };
        let now = cx.now();
        let open = Open {
            method,
            deadline: options.timeout.map(|timeout| now + timeout),
            priority: options.priority,
            attempt: 0,
            idempotent: options.idempotent,
            one_way: false,
            compress: options.compress,
            metadata: options.metadata,
            end,
        };
        let mut out = Line::new(cx.reborrow(), connection);
        let call = session.caller.open(&mut out, &open, request, now)?;
        session.set_waiter(call, waiter);
        if open.deadline.is_some() {
            rearm(cx, session);
        }
        Ok(CallKey { connection, call })
    }

    /// What a refusal to open means to whoever called.
    #[cold]
    pub(crate) fn status_of<B>(&self, target: Target, method: u32, refused: &Refused<B>) -> Status {
        let endpoint = self.endpoints.get(target.0);
        let status = match refused {
            Refused::NotReady(_) => {
                let Some(endpoint) = endpoint else {
                    return gone();
                };
                let refusal = endpoint.refusal(method);
                refusal.unwrap_or_else(|| endpoint.unavailable())
            }
            Refused::Draining(_) | Refused::Closed(_) | Refused::Ended(_) => gone(),
            Refused::Full(_) => Status::of(
                Code::ResourceExhausted,
                "the connection's queue or all of the server's calls_max are in use",
            ),
            Refused::NoMemory(_) => Status::of(
                Code::ResourceExhausted,
                "no memory for the request; raise budget_bytes",
            ),
            Refused::Expired(_) => Status::of(Code::DeadlineExceeded, "the deadline has passed"),
            Refused::TooLong { .. } | Refused::MetadataTooLong { .. } => {
                let text = refused.to_string();
                Status::new(Code::ResourceExhausted, &text)
            }
        };
        status.not_started()
    }

    /// Runs `work` on a call's machine.
    #[inline]
    pub(crate) fn with<T>(
        &mut self,
        cx: &mut Context<'_>,
        key: CallKey,
        work: impl FnOnce(&mut Caller, &mut Line<'_>, CallId) -> T,
    ) -> Option<T> {
        let session = self.sessions.find(key.connection)?;
        let mut out = Line::new(cx.reborrow(), key.connection);
        let done = work(&mut session.caller, &mut out, key.call);
        if session.caller.wants_flush() {
            cx.writable_below(key.connection, BULK_LOW_BYTES);
        }
        Some(done)
    }

    /// Gives a call up.
    pub(crate) fn cancel(&mut self, cx: &mut Context<'_>, key: CallKey) {
        self.with(cx, key, |caller, out, call| caller.cancel(out, call));
        if let Some(session) = self.sessions.find(key.connection) {
            session.set_waiter(key.call, Waiter::Nobody);
        }
        self.inbox.retain(|(other, _)| *other != key);
    }

    /// The next thing that happened to a call of the engine's owner.
    #[inline]
    pub(crate) fn take(&mut self, key: CallKey) -> Option<Happening> {
        // The usual case: the only one there.
        if self.inbox.front()?.0 == key {
            return self.inbox.pop_front().map(|(_, happening)| happening);
        }
        let at = self.inbox.iter().position(|(other, _)| *other == key)?;
        self.inbox.remove(at).map(|(_, happening)| happening)
    }

    /// The next call of the engine's owner that something happened to.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(CallKey, Happening)> {
        self.inbox.pop_front()
    }
}

const TOO_MANY_METHODS: &str = "the server allows fewer methods; raise its methods_max";
/// Large messages go on when no more than this waits in the connection's queue.
const BULK_LOW_BYTES: usize = 256 * 1024;

#[cold]
fn gone() -> Status {
    Status::of(Code::Unavailable, "the connection is gone").not_started()
}

fn index_of(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Keeps the engine's timer at the connection's earliest deadline.
#[inline]
fn rearm(cx: &mut Context<'_>, session: &mut Session) {
    let Some(next) = session.caller.poll_timeout() else {
        return;
    };
    if session.timer.is_none_or(|(_, at)| next < at) {
        if let Some((timer, _)) = session.timer.take() {
            cx.cancel_timer(timer);
        }
        let now = cx.now();
        session.timer = cx.set_timer(next - now).map(|timer| (timer, next));
    }
}

// The engine's side: called by the node for connections that are not accepted ones.
impl Clients {
    /// Whether a connection is one of these.
    #[inline]
    pub(crate) fn owns(&self, connection: ConnectionId) -> bool {
        self.sessions.contains(connection)
    }

    /// A connection is being made.
    fn begin(&mut self, cx: &Context<'_>, endpoint: Id, connection: ConnectionId) {
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
    pub(crate) fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let connection = message.connection();
        let Some(session) = self.sessions.find(connection) else {
            return;
        };
        let now = cx.now();
        let keep = Kept(&message);
        let frame = Frame {
            head: head(&message.header()),
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
        self.go_on(cx, endpoint);
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
        let current = self
            .endpoints
            .get(id)
            .is_some_and(|it| it.is_current(connection));
        if current {
            self.attempt(cx, id);
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
        let id = session.endpoint;
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
        if endpoint.ready().is_some() {
            // It had worked: try again at once.
            endpoint.trouble = Some(why);
            self.attempt(cx, id);
        } else {
            let why = endpoint.trouble.take().unwrap_or(why);
            self.failed(cx, id, why);
        }
    }

    /// Connects to a server once more.
    fn attempt(&mut self, cx: &mut Context<'_>, id: Id) {
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
            .partition(|request| request.waits());
        endpoint.waiting = stay;
        for request in Vec::from(leave) {
            request.end(Answer::of(status.clone()));
        }
        match cx.set_timer(wait) {
            Some(timer) => self.retries.push((timer, id)),
            // No timers left: nothing else would ever try again.
            None => tracing::error!("no timer for another attempt; raise timers_max"),
        }
    }

    pub(crate) fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        if let Some(at) = self.retries.iter().position(|(it, _)| *it == timer) {
            let (_, id) = self.retries.swap_remove(at);
            return self.attempt(cx, id);
        }
        if let Some(at) = self.expiries.iter().position(|it| *it == timer) {
            self.expiries.swap_remove(at);
            return self.expire_waiting(cx.now());
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
                    cx.writable_below(connection, BULK_LOW_BYTES);
                }
                if session.draining && session.caller.open_calls() == 0 {
                    cx.hold(connection, false);
                }
                return;
            };
            self.event(cx, connection, event);
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
                let Some(session) = self.sessions.find(connection) else {
                    return;
                };
                let waiter = session.take_waiter(call);
                self.ended(cx, CallKey { connection, call }, waiter, answer);
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
    #[inline]
    fn ended(&mut self, cx: &mut Context<'_>, key: CallKey, waiter: Waiter, answer: Answer) {
        match waiter {
            Waiter::Owner => self.inbox.push_back((key, Happening::Ended(answer))),
            Waiter::Then(then) => then.run(cx, answer),
            Waiter::Remote(request) => {
                request.end(answer);
                if let Some(session) = self.sessions.find(key.connection) {
                    let endpoint = session.endpoint;
                    self.go_on(cx, endpoint);
                }
            }
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
            return cx.close(connection, CloseCode::ResourceExhausted);
        }
        endpoint.succeeded(connection);
        self.go_on(cx, id);
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

    /// Opens the calls of other threads that wait for this server.
    fn go_on(&mut self, cx: &mut Context<'_>, id: Id) {
        while let Some(endpoint) = self.endpoints.get_mut(id) {
            if endpoint.ready().is_none() {
                return;
            }
            let Some(request) = endpoint.waiting.pop_front() else {
                return;
            };
            if let Some(request) = remote::open(self, cx, Target(id), request) {
                if let Some(endpoint) = self.endpoints.get_mut(id) {
                    endpoint.waiting.push_front(request);
                }
                return;
            }
        }
    }

    /// Keeps a call of another thread until there is a connection with room.
    fn wait_for_room(&mut self, cx: &mut Context<'_>, target: Target, request: Arc<Request>) {
        if let Some(deadline) = request.deadline() {
            let now = cx.now();
            self.expiries.extend(cx.set_timer(deadline - now));
        }
        match self.endpoints.get_mut(target.0) {
            Some(endpoint) if endpoint.waiting.len() < endpoint::WAITING_MAX => {
                if endpoint.state == State::Failing && !request.waits() {
                    return request.end(Answer::of(endpoint.unavailable()));
                }
                endpoint.waiting.push_back(request);
            }
            Some(_) => request.end(Answer::of(
                Status::of(
                    Code::ResourceExhausted,
                    "too many calls wait for the connection",
                )
                .not_started(),
            )),
            None => request.end(Answer::of(gone())),
        }
    }

    /// Ends the calls whose deadline passed while they waited for a connection.
    fn expire_waiting(&mut self, now: Instant) {
        for id in self.endpoints.ids() {
            let Some(endpoint) = self.endpoints.get_mut(id) else {
                continue;
            };
            let (late, stay): (VecDeque<_>, VecDeque<_>) = core::mem::take(&mut endpoint.waiting)
                .into_iter()
                .partition(|request| request.deadline().is_some_and(|at| at <= now));
            endpoint.waiting = stay;
            for request in late {
                let status = Status::of(Code::DeadlineExceeded, "the deadline has passed");
                request.end(Answer::of(status.not_started()));
            }
        }
    }
}
