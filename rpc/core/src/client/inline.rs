//! The inline face: who calls owns the engine, and turns it while waiting. The lowest latency.

use core::time::Duration;

use ringway_buf::{Instant, Slice};
use ringway_call::{Body, Code, Open, Refused, Status};
use ringway_engine::{Address, Config, Engine};

use super::answer::{Answer, CallOptions, Response};
use super::session::{CallKey, Waiter};
use super::{Clients, Happening, Target};
use crate::codec::Codec;
use crate::executor::{is_within_handler, would_block};
use crate::node::Node;
use crate::reply::Coded;
use crate::service::Method;
use crate::{coder::Coder, rpc_config};

/// A client that owns its engine: `!Send`, one thread, no queue, no wake-up.
///
/// A call encodes its request straight into the connection's batch and turns the engine until the answer is there;
/// the answer is read where it was received. In steady state that is no allocation and no copy. While it waits it
/// blocks its thread (or spins, by the engine's idle policy), so inside a handler it refuses: what would wait answers
/// FAILED_PRECONDITION.
///
/// Two ways to use it: [`call`](Self::call) for one at a time; [`start`](Self::start) and
/// [`next_answer`](Self::next_answer) or [`finish`](Self::finish) for many at once.
///
/// ```
/// use ringway_rpc::{CallOptions, InlineChannel, Kind, Method, Raw};
/// # use ringway_rpc::{IncomingCall, Server, Service, ServiceInfo};
/// # struct Echo;
/// # static INFO: ServiceInfo =
/// #     ServiceInfo { name: "demo.Echo", methods: METHODS, descriptors: &[] };
/// # impl Service for Echo {
/// #     fn info(&self) -> &'static ServiceInfo { &INFO }
/// #     fn call(&mut self, call: IncomingCall<'_, '_>) {
/// #         call.inline::<Raw, [u8], [u8]>(|_call, request, reply| reply.send(request));
/// #     }
/// # }
/// # let server = Server::builder().service(|| Echo).shards(1, &["tcp://127.0.0.1:0"])?;
/// # let address = server.addresses()[0].to_string();
/// static METHODS: &[Method] = &[Method::new("demo.Echo/Say", Kind::Unary, 0, 0)];
///
/// let mut channel = InlineChannel::connect(&address)?;
/// let say = channel.bind(METHODS)?;
/// let answer = channel.call::<Raw, [u8], [u8]>(say, b"hello", &CallOptions::default())?;
/// assert_eq!(answer.bytes(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail
/// fn moves<T: Send>() {}
/// moves::<ringway_rpc::InlineChannel>();
/// ```
#[derive(Debug)]
pub struct InlineChannel {
    engine: Engine,
    node: Node,
    target: Target,
}

/// How long connecting, and agreeing on methods, may take before this gives up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl InlineChannel {
    /// Connects to a server and waits until calls can go there. Blocks. A host's name is resolved here; the engine
    /// keeps to the address that was found.
    ///
    /// # Errors
    /// UNAVAILABLE with the reason; INVALID_ARGUMENT when the address can't be read; FAILED_PRECONDITION when the
    /// engine can't start, and inside a handler.
    pub fn connect(address: &str) -> Result<Self, Status> {
        Self::connect_with(rpc_config(), address)
    }

    /// Like [`connect`](Self::connect), with engine settings of the caller's own; calls are offered in any case.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(config: Config, address: &str) -> Result<Self, Status> {
        let engine = config
            .features(ringway_call::feature::RPC)
            .build()
            .map_err(|error| Status::new(Code::FailedPrecondition, &error.to_string()))?;
        Self::with_engine(engine, Node::clients_only(Clients::default()), address)
    }

    /// On an engine and a node that are there already; it may serve as well.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn with_engine(engine: Engine, node: Node, address: &str) -> Result<Self, Status> {
        let mut channel = Self::connect_later(engine, node, address)?;
        let target = channel.target;
        let until = channel.engine.now() + CONNECT_TIMEOUT;
        while !channel.node.clients().is_ready(target) {
            if let Some(trouble) = channel.node.clients().trouble(target) {
                return Err(trouble);
            }
            channel.turn_until(until, || format!("{address}: no answer"))?;
        }
        Ok(channel)
    }

    /// Like [`with_engine`](Self::with_engine), but does not wait: for loops of one's own, which turn the engine
    /// until [`is_ready`](Self::is_ready).
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the address can't be read; RESOURCE_EXHAUSTED: no room for the connection.
    pub fn connect_later(
        mut engine: Engine,
        mut node: Node,
        address: &str,
    ) -> Result<Self, Status> {
        let target = connect(&mut engine, &mut node, address)?;
        Ok(Self {
            engine,
            node,
            target,
        })
    }

    /// Turns the engine until something happened, at most until `until`.
    fn turn_until(&mut self, until: Instant, what: impl FnOnce() -> String) -> Result<(), Status> {
        let now = self.engine.now();
        if now >= until {
            let text = format!("{} within {CONNECT_TIMEOUT:?}", what());
            return Err(Status::new(Code::Unavailable, &text).not_started());
        }
        self.wait(Some(until - now))
    }

    /// Turns the engine, unless a handler runs on this thread.
    #[inline]
    fn wait(&mut self, limit: Option<Duration>) -> Result<(), Status> {
        if is_within_handler() {
            return Err(would_block());
        }
        self.engine.wait(&mut self.node, limit);
        Ok(())
    }

    /// Turns the engine under its idle policy until something happened, or `limit` passed; how much happened. Does
    /// nothing inside a handler.
    #[inline]
    pub fn turn(&mut self, limit: Option<Duration>) -> u32 {
        if is_within_handler() {
            return 0;
        }
        self.engine.wait(&mut self.node, limit)
    }

    /// The engine, for its figures.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The server that this channel calls.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Names one more server; the same engine calls it. Does not wait for the connection.
    ///
    /// # Errors
    /// As [`connect_later`](Self::connect_later).
    pub fn add(&mut self, address: &str) -> Result<Target, Status> {
        connect(&mut self.engine, &mut self.node, address)
    }

    /// Whether calls can go to a server now.
    pub fn is_ready(&mut self, target: Target) -> bool {
        self.node.clients().is_ready(target)
    }

    /// Agrees with the server on the methods of a service; the index of the first. Blocks for one round trip.
    ///
    /// # Errors
    /// UNIMPLEMENTED or FAILED_PRECONDITION: the server lacks one, or has it in another shape; UNAVAILABLE: it can't
    /// be reached.
    pub fn bind(&mut self, methods: &[Method]) -> Result<u32, Status> {
        self.bind_at(self.target, methods)
    }

    /// Like [`bind`](Self::bind), for any server of this engine.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_at(&mut self, target: Target, methods: &[Method]) -> Result<u32, Status> {
        let first = self.bind_later(target, methods)?;
        let until = self.engine.now() + CONNECT_TIMEOUT;
        for method in (first..).take(methods.len()) {
            loop {
                match self.node.clients().bound(target, method) {
                    Some(Ok(())) => break,
                    Some(Err(status)) => return Err(status),
                    None => {}
                }
                if let Some(trouble) = self.node.clients().trouble(target) {
                    return Err(trouble);
                }
                self.turn_until(until, || "no word about the methods".to_owned())?;
            }
        }
        Ok(first)
    }

    /// Like [`bind_at`](Self::bind_at), but does not wait: a method that the server refuses ends its calls.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: the server allows fewer methods; NOT_FOUND: no such target.
    pub fn bind_later(&mut self, target: Target, methods: &[Method]) -> Result<u32, Status> {
        let cx = &mut self.engine.context();
        self.node.clients().bind(cx, target, methods)
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// The status that the call ended with.
    #[inline]
    pub fn call<C, Q, R>(
        &mut self,
        method: u32,
        request: &Q,
        options: &CallOptions<'_>,
    ) -> Result<Response<C, R>, Status>
    where
        C: Codec<Q> + Codec<R>,
        Q: ?Sized,
        R: ?Sized,
    {
        let body = Coded::new(Coder::of::<C>(), request);
        let key = self.start_with(self.target, method, body, options)?;
        self.finish(key).decode()
    }

    /// Starts a call and does not wait: many may be under way. [`finish`](Self::finish) or
    /// [`next_answer`](Self::next_answer) gives the answer.
    ///
    /// # Errors
    /// Why it could not be started.
    #[inline]
    pub fn start<C, Q>(
        &mut self,
        method: u32,
        request: &Q,
        options: &CallOptions<'_>,
    ) -> Result<CallKey, Status>
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        let body = Coded::new(Coder::of::<C>(), request);
        self.start_with(self.target, method, body, options)
    }

    /// Like [`start`](Self::start), for any server of this engine and any body: a [`Slice`] goes without a copy.
    ///
    /// # Errors
    /// Why it could not be started.
    #[inline]
    pub fn start_with<B: Body>(
        &mut self,
        target: Target,
        method: u32,
        body: B,
        options: &CallOptions<'_>,
    ) -> Result<CallKey, Status> {
        let open = options.open(method, self.now(options));
        self.open_call(target, open, Some(body), options.wait_for_ready)
    }

    /// Makes a call that nobody answers, and does not wait (but for room on the connection). It leaves with the next
    /// turn.
    ///
    /// # Errors
    /// Why it surely does not start.
    pub fn one_way<C, Q>(
        &mut self,
        method: u32,
        request: &Q,
        options: &CallOptions<'_>,
    ) -> Result<(), Status>
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        let open = Open {
            one_way: true,
            ..options.open(method, self.now(options))
        };
        let body = Coded::new(Coder::of::<C>(), request);
        self.open_call(self.target, open, Some(body), options.wait_for_ready)
            .map(|_no_key| ())
    }

    /// The clock, for calls with a deadline: the engine's own reading is as old as its last turn.
    #[inline]
    fn now(&self, options: &CallOptions<'_>) -> Instant {
        match options.timeout {
            Some(_) => self.engine.now(),
            None => Instant::ZERO,
        }
    }

    /// Opens a call; turns the engine while it has to wait for the connection or for room.
    #[inline]
    fn open_call<B: Body>(
        &mut self,
        target: Target,
        open: Open<'_>,
        mut body: Option<B>,
        wait_for_ready: bool,
    ) -> Result<CallKey, Status> {
        loop {
            let clients = self.node.clients();
            if clients.is_overfull() {
                return Err(overfull());
            }
            let now = match open.deadline {
                Some(_) => self.engine.now(),
                None => Instant::ZERO,
            };
            let cx = &mut self.engine.context();
            let refused = match clients.open(cx, target, &open, body, now, || Waiter::Owner) {
                Ok(key) => return Ok(key),
                Err(refused) => refused,
            };
            let is_down = matches!(refused, Refused::NotReady(_))
                && !wait_for_ready
                && clients.trouble(target).is_some();
            if is_down || !clients.is_worth_waiting(target, open.method, &refused) {
                return Err(clients.status_of(target, open.method, &refused));
            }
            body = refused.into_body();
            let left = open.deadline.map(|at| at - self.engine.now());
            if left.is_some_and(|left| left.is_zero()) {
                let status = Status::of(Code::DeadlineExceeded, "the deadline has passed");
                return Err(status.not_started());
            }
            self.wait(left)?;
        }
    }

    /// Waits for the answer of a call of [`start`](Self::start). A call that is over already, or was cancelled, ends
    /// with CANCELLED.
    #[inline]
    pub fn finish(&mut self, key: CallKey) -> Answer {
        loop {
            match self.next_of(key) {
                Ok(Happening::Answered(message)) => return Answer::plain(message),
                Ok(Happening::Ended(answer)) => return *answer,
                Ok(Happening::Message(_, cost)) => self.granted(key, cost),
                Ok(Happening::Writable) => {}
                Err(status) => return Answer::of(status),
            }
        }
    }

    /// What happens next to a call; turns the engine until then.
    #[inline]
    fn next_of(&mut self, key: CallKey) -> Result<Happening, Status> {
        loop {
            if let Some(happening) = self.node.clients().take(key) {
                return Ok(happening);
            }
            if !self.node.clients().is_owned(key) {
                return Err(Status::of(Code::Cancelled, "the call is over"));
            }
            self.wait(None)?;
        }
    }

    /// The next answer of any started call, if there is one already; never waits and does not turn the engine.
    #[inline]
    pub fn next_answer(&mut self) -> Option<(CallKey, Answer)> {
        loop {
            match self.node.clients().next()? {
                (key, Happening::Answered(message)) => {
                    return Some((key, Answer::plain(message)));
                }
                (key, Happening::Ended(answer)) => return Some((key, *answer)),
                (key, Happening::Message(_, cost)) => self.granted(key, cost),
                (_, Happening::Writable) => {}
            }
        }
    }

    /// Gives a started call up; nothing more comes of it. The server learns of it with the next turn.
    pub fn cancel(&mut self, key: CallKey) {
        let cx = &mut self.engine.context();
        self.node.clients().cancel(cx, key);
    }

    fn granted(&mut self, key: CallKey, cost: u32) {
        let cx = &mut self.engine.context();
        self.node.clients().grant(cx, key, cost);
    }

    /// Opens a call that streams: with its first message or without; `end` when the client says no more.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub fn open<C, Q>(
        &mut self,
        method: u32,
        request: Option<&Q>,
        end: bool,
        options: &CallOptions<'_>,
    ) -> Result<CallKey, Status>
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        let body = request.map(|request| Coded::new(Coder::of::<C>(), request));
        let open = Open {
            end,
            ..options.open(method, self.now(options))
        };
        self.open_call(self.target, open, body, options.wait_for_ready)
    }

    /// Sends a message of a client's stream; turns the engine while there is no room. A server that waits for
    /// room itself before it reads on needs somebody to [`receive`](Self::receive): use
    /// [`try_send`](Self::try_send) then.
    ///
    /// # Errors
    /// CANCELLED: the call is over ([`receive`](Self::receive) tells how); RESOURCE_EXHAUSTED: the message is too long,
    /// or the engine's budget has no memory for it now.
    pub fn send<C, Q>(&mut self, key: CallKey, message: &Q, end: bool) -> Result<(), Status>
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        while !self.try_send::<C, Q>(key, message, end)? {
            self.wait(None)?;
        }
        Ok(())
    }

    /// Sends a message of a client's stream if there is room now; `Ok(false)` if not.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn try_send<C, Q>(&mut self, key: CallKey, message: &Q, end: bool) -> Result<bool, Status>
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        let cx = &mut self.engine.context();
        let body = Coded::new(Coder::of::<C>(), message);
        Ok(self.node.clients().send(cx, key, body, end)?)
    }

    /// Ends a client's stream without a further message.
    pub fn end(&mut self, key: CallKey) {
        let cx = &mut self.engine.context();
        self.node.clients().end(cx, key);
    }

    /// Waits for the next message of an answering stream.
    ///
    /// # Errors
    /// The call's answer: its end. A unary answer to a client's stream comes with it.
    pub fn receive(&mut self, key: CallKey) -> Result<Slice, Answer> {
        loop {
            match self.next_of(key) {
                Ok(Happening::Message(message, cost)) => {
                    self.granted(key, cost);
                    return Ok(message);
                }
                Ok(Happening::Answered(message)) => return Err(Answer::plain(message)),
                Ok(Happening::Ended(answer)) => return Err(*answer),
                Ok(Happening::Writable) => {}
                Err(status) => return Err(Answer::of(status)),
            }
        }
    }
}

/// Names a server, on the engine's own thread.
fn connect(engine: &mut Engine, node: &mut Node, address: &str) -> Result<Target, Status> {
    let address = Address::resolve(address)
        .map_err(|error| Status::new(Code::InvalidArgument, &error.to_string()).not_started())?;
    let cx = &mut engine.context();
    node.clients()
        .connect(cx, &address.to_string())
        .map_err(|error| Status::new(Code::ResourceExhausted, &error.to_string()).not_started())
}

#[cold]
fn overfull() -> Status {
    let text = "too many answers wait to be taken";
    Status::of(Code::ResourceExhausted, text).not_started()
}
