//! Calling: all outgoing connections of one engine, and the faces in front of them.
//!
//! [`Clients`] lives on the engine's thread inside its [`Node`](crate::Node). Three faces stand in front of it:
//! [`InlineChannel`] owns engine and node and turns them while it waits; [`Channel`] hands calls over from other
//! threads and from handlers, blocking or `async`; the owner of the context calls with a continuation
//! ([`Clients::call`]).
//!
//! ```text
//!  InlineChannel ───────────────────────────┐
//!  Channel ──► Inlet ──► remote.rs ──► Clients ──► Session (one call machine per connection)
//!  continuation ────────────────────────────┘
//! ```

pub(crate) mod answer;
pub(crate) mod channel;
mod endpoint;
mod events;
pub(crate) mod inlet;
pub(crate) mod inline;
pub(crate) mod nested;
mod owner;
pub(crate) mod remote;
pub(crate) mod request;
mod session;
mod stream;

use std::collections::VecDeque;
use std::sync::Arc;

use ringway_buf::{Id, Instant, Slice, Table};
use ringway_call::{
    Binding, Body, CallConfig, CallId, Caller, Code, Compressors, Open, Refused, Status,
};
use ringway_engine::{CloseCode, Context, OpenError, TimerId};

pub use answer::{Answer, CallOptions, Response};
pub use channel::{Call, Channel, ClientEngine, Incoming, OneWay, Outgoing};
pub use inline::InlineChannel;
pub use owner::{CallEvent, NotTaken};
pub use session::CallKey;
pub use stream::InlineStream;

use crate::outlet::Line;
use crate::service::{Method, Methods};
use endpoint::{Endpoint, State};
use inlet::{Inlet, Place};
use nested::Continuation;
use session::{Session, Sessions, Waiter};

/// Servers that one engine's clients may name.
const ENDPOINTS_MAX: usize = 1024;
/// What may have happened to calls of the engine's owner who does not look; further calls are refused.
const INBOX_MAX: usize = 64 * 1024;

/// A server that is called: made by [`Clients::connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(Id);

/// Something for the owner of the engine.
#[derive(Debug)]
pub(crate) enum Happening {
    Message(Slice, u32),
    Writable,
    /// The usual end: it went well, with a message and without metadata. Small, because it is moved twice.
    Answered(Slice),
    /// Any other end.
    Ended(Box<Answer>),
}

/// All outgoing connections of one engine.
#[derive(Debug)]
pub struct Clients {
    endpoints: Table<Endpoint>,
    sessions: Sessions,
    /// What happened to calls of the engine's owner, oldest first. Bounded by [`INBOX_MAX`], the calls that are
    /// open then, and their streams' credit.
    inbox: VecDeque<(CallKey, Happening)>,
    /// Endpoints that wait for another attempt.
    retries: Vec<(TimerId, Id)>,
    /// Some call waits for a connection, or for room on it.
    waits: bool,
    /// The timer for the earliest deadline of those that wait.
    expiry: Option<(TimerId, Instant)>,
    inlet: Option<Arc<Inlet>>,
    config: CallConfig,
    compressors: Compressors,
    seed: u64,
}

impl Drop for Clients {
    /// The engine ends: whoever waits elsewhere is told.
    fn drop(&mut self) {
        for session in self.sessions.iter_mut() {
            session.abandon();
        }
        for id in self.endpoints.ids() {
            if let Some(endpoint) = self.endpoints.get_mut(id) {
                for pending in endpoint.waiting.drain(..) {
                    pending.request.lost();
                }
            }
        }
        if let Some(inlet) = &self.inlet {
            inlet.close();
        }
    }
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
            waits: false,
            expiry: None,
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
        for pending in waiting {
            pending.end(cx, gone());
        }
        match state {
            State::Ready(connection) => {
                if let Some(session) = self.sessions.find(connection) {
                    session.draining = true;
                    session.caller.handle_drain();
                    cx.hold(connection, session.caller.open_calls() > 0);
                }
                cx.drain(connection);
            }
            State::Connecting(connection) => cx.close(connection, CloseCode::Normal),
            State::Failing => {
                self.retries
                    .retain(|(timer, id)| *id != target.0 || !cx.cancel_timer(*timer));
                self.endpoints.remove(target.0);
            }
        }
    }

    /// The name of a server on this engine, which starts connecting if it is new.
    pub(crate) fn target_of(
        &mut self,
        cx: &mut Context<'_>,
        place: &Place,
    ) -> Result<Target, OpenError> {
        if let Some(target) = place.target.get() {
            return Ok(*target);
        }
        let target = self.connect(cx, &place.address)?;
        Ok(*place.target.get_or_init(|| target))
    }

    /// Registers methods of a server; the index of the first. The same methods get the same indices. Does not wait:
    /// [`bound`](Self::bound) tells the server's word about them.
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
        let too_many = || Status::of(Code::FailedPrecondition, TOO_MANY_METHODS);
        if endpoint.methods.len() + wanted.len() > METHODS_MAX {
            return Err(too_many());
        }
        if let Some(connection) = endpoint.ready()
            && let Some(session) = self.sessions.find(connection)
        {
            let mut out = Line::new(cx.reborrow(), connection);
            let bound = session.caller.bind(&mut out, &wanted);
            bound.map_err(|_full| too_many())?;
        }
        let first = index_of(endpoint.methods.len());
        endpoint.methods.extend_from_slice(&wanted);
        endpoint.bound.resize(endpoint.methods.len(), None);
        Ok(first)
    }

    /// Like [`bind`](Self::bind), found again by the place of the list.
    pub(crate) fn bind_service(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        methods: &Methods,
    ) -> Result<u32, Status> {
        let Some(methods) = methods.as_static() else {
            // Its place may be another list's tomorrow.
            return self.bind(cx, target, methods);
        };
        if let Some(endpoint) = self.endpoints.get(target.0) {
            let mut known = endpoint.services.iter();
            if let Some((_, first)) = known.find(|(it, _)| core::ptr::eq(*it, methods)) {
                return Ok(*first);
            }
        }
        let first = self.bind(cx, target, methods)?;
        if let Some(endpoint) = self.endpoints.get_mut(target.0) {
            endpoint.services.push((methods, first));
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
    #[must_use]
    pub fn trouble(&self, target: Target) -> Option<Status> {
        let endpoint = self.endpoints.get(target.0)?;
        (endpoint.state == State::Failing).then(|| endpoint.unavailable())
    }

    /// Calls a method from wherever there is a context: an own handler, or between turns. `then` gets the answer, in a
    /// later turn. Fails at once while there is no connection. Handlers of services call through
    /// [`CallContext::channel`](crate::CallContext::channel) or [`Deferred::call`](crate::Deferred::call) instead,
    /// which wait, inherit the deadline, and give the call up with their own.
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
        let now = cx.now();
        let open = options.open(method, now);
        let then = || Waiter::Then(Continuation::new(then));
        self.open(cx, target, &open, Some(request), now, then)
            .map_err(|refused| self.status_of(target, method, &refused))
    }

    /// Opens a call on a ready connection.
    #[inline]
    pub(crate) fn open<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        open: &Open<'_>,
        request: Option<B>,
        now: Instant,
        waiter: impl FnOnce() -> Waiter,
    ) -> Result<CallKey, Refused<Option<B>>> {
        let endpoint = self.endpoints.get(target.0);
        let Some(connection) = endpoint.and_then(Endpoint::ready) else {
            return Err(Refused::NotReady(request));
        };
        let Some(session) = self.sessions.find(connection) else {
            return Err(Refused::NotReady(request));
        };
        let mut out = Line::new(cx.reborrow(), connection);
        let call = session.caller.open(&mut out, open, request, now)?;
        if !open.one_way {
            session.set_waiter(call, waiter());
            if open.deadline.is_some() {
                rearm(cx, session);
            }
        }
        Ok(CallKey { connection, call })
    }

    /// Whether a call that was refused may be opened later on: there is no room now, or the server is being
    /// connected to and has not refused the method.
    #[cold]
    pub(crate) fn is_worth_waiting<B>(
        &self,
        target: Target,
        method: u32,
        refused: &Refused<B>,
    ) -> bool {
        let Some(endpoint) = self.endpoints.get(target.0).filter(|it| !it.closing) else {
            return false;
        };
        match refused {
            Refused::Full(_) | Refused::Draining(_) => true,
            Refused::NotReady(_) => {
                let is_bound = (method as usize) < endpoint.methods.len();
                is_bound && endpoint.refusal(method).is_none()
            }
            _ => false,
        }
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
                if method as usize >= endpoint.methods.len() {
                    let text = "the method is not bound; bind it first";
                    return Status::of(Code::FailedPrecondition, text).not_started();
                }
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
            events::push_bulk(cx, key.connection, session);
        }
        Some(done)
    }

    /// Gives a call up; nothing more comes of it. Nothing happens if it is over.
    pub fn cancel(&mut self, cx: &mut Context<'_>, key: CallKey) {
        self.with(cx, key, |caller, out, call| caller.cancel(out, call));
        if let Some(session) = self.sessions.find(key.connection) {
            drop(session.take_waiter(key.call));
        }
        self.inbox.retain(|(other, _)| *other != key);
    }

    /// Whether the engine's owner still waits for a call.
    #[cold]
    pub(crate) fn is_owned(&mut self, key: CallKey) -> bool {
        let session = self.sessions.find(key.connection);
        session.is_some_and(|it| matches!(it.waiter(key.call), Waiter::Owner))
    }

    /// Whether the engine's owner leaves too many answers untaken.
    #[inline]
    pub(crate) fn is_overfull(&self) -> bool {
        self.inbox.len() >= INBOX_MAX
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

/// Methods of one server that clients of this engine may bind.
const METHODS_MAX: usize = 65_536;
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
