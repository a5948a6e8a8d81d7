//! The inline face: who calls owns the engine, and turns it while waiting. The lowest latency.

use core::time::Duration;

use ringway_buf::{Instant, Slice};
use ringway_call::{Body, Code, Refused, Status};
use ringway_engine::{Config, Engine};

use super::answer::{Answer, CallOptions, Response};
use super::session::{CallKey, Waiter};
use super::{Clients, Happening, Target};
use crate::codec::Codec;
use crate::node::Node;
use crate::reply::Coded;
use crate::service::Method;
use crate::{coder::Coder, rpc_config};

/// A client that owns its engine: `!Send`, one thread, no queue, no wake-up.
///
/// A call encodes its request straight into the connection's batch and turns the engine until the answer is there;
/// the answer is read where it was received. In steady state that is no allocation and no copy. It can't be
/// called from a handler: only the owner of the engine turns it.
#[derive(Debug)]
pub struct InlineChannel {
    engine: Engine,
    node: Node,
    target: Target,
}

/// How long connecting may take before [`InlineChannel::connect`] gives up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl InlineChannel {
    /// Connects to a server and waits until calls can go there. Blocks.
    ///
    /// # Errors
    /// UNAVAILABLE with the reason; FAILED_PRECONDITION when the engine can't start.
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
    pub fn with_engine(mut engine: Engine, mut node: Node, address: &str) -> Result<Self, Status> {
        let target = node
            .clients()
            .connect(&mut engine.context(), address)
            .map_err(|error| Status::new(Code::Unavailable, &error.to_string()))?;
        let mut channel = Self {
            engine,
            node,
            target,
        };
        let until = channel.engine.now() + CONNECT_TIMEOUT;
        while !channel.node.clients().is_ready(target) {
            if let Some(trouble) = channel.node.clients().trouble(target) {
                return Err(trouble);
            }
            if channel.engine.now() >= until {
                let text = format!("{address}: no answer within {CONNECT_TIMEOUT:?}");
                return Err(Status::new(Code::Unavailable, &text));
            }
            channel.turn(Some(CONNECT_TIMEOUT));
        }
        Ok(channel)
    }

    /// Turns the engine under its idle policy until something happened, or `limit` passed.
    #[inline]
    pub fn turn(&mut self, limit: Option<Duration>) -> u32 {
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

    /// Names one more server; the same engine calls it.
    ///
    /// # Errors
    /// The address can't be read.
    pub fn add(&mut self, address: &str) -> Result<Target, Status> {
        self.node
            .clients()
            .connect(&mut self.engine.context(), address)
            .map_err(|error| Status::new(Code::Unavailable, &error.to_string()))
    }

    /// Whether calls can go to a server now.
    pub fn is_ready(&mut self, target: Target) -> bool {
        self.node.clients().is_ready(target)
    }

    /// Agrees with the server on the methods of a service; the index of the first. Blocks for one round trip.
    ///
    /// # Errors
    /// UNIMPLEMENTED or FAILED_PRECONDITION: the server lacks one, or has it in another shape.
    pub fn bind(&mut self, methods: &[Method]) -> Result<u32, Status> {
        self.bind_at(self.target, methods)
    }

    /// Like [`bind`](Self::bind), for any server of this engine.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_at(&mut self, target: Target, methods: &[Method]) -> Result<u32, Status> {
        let cx = &mut self.engine.context();
        let first = self.node.clients().bind(cx, target, methods)?;
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
                self.turn(None);
            }
        }
        Ok(first)
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
        let mut body = Some(body);
        let mut deadline = None;
        loop {
            let cx = &mut self.engine.context();
            let clients = self.node.clients();
            let opened = clients.open(cx, target, method, options, body, true, Waiter::Owner);
            let refused = match opened {
                Ok(key) => return Ok(key),
                Err(refused) => refused,
            };
            let waits = match &refused {
                Refused::Full(_) | Refused::Draining(_) => true,
                Refused::NotReady(_) => options.wait_for_ready || clients.trouble(target).is_none(),
                _ => false,
            };
            if !waits || clients.bound(target, method).is_some_and(|it| it.is_err()) {
                return Err(clients.status_of(target, method, &refused));
            }
            body = refused.into_body();
            let now = self.engine.now();
            let until = *deadline.get_or_insert_with(|| {
                options
                    .timeout
                    .map_or(Instant::MAX, |timeout| now + timeout)
            });
            if now >= until {
                let status = Status::of(Code::DeadlineExceeded, "the deadline has passed");
                return Err(status.not_started());
            }
            self.turn((until != Instant::MAX).then(|| until - now));
        }
    }

    /// Waits for the answer of a call of [`start`](Self::start).
    #[inline]
    pub fn finish(&mut self, key: CallKey) -> Answer {
        loop {
            match self.node.clients().take(key) {
                Some(Happening::Ended(answer)) => return answer,
                Some(Happening::Message(_, cost)) => self.granted(key, cost),
                Some(Happening::Writable) => {}
                None => {
                    self.turn(None);
                }
            }
        }
    }

    /// The next answer of any started call, if there is one already; never waits.
    #[inline]
    pub fn next_answer(&mut self) -> Option<(CallKey, Answer)> {
        loop {
            match self.node.clients().next()? {
                (key, Happening::Ended(answer)) => return Some((key, answer)),
                (key, Happening::Message(_, cost)) => self.granted(key, cost),
                (_, Happening::Writable) => {}
            }
        }
    }

    /// Gives a started call up; nothing more comes of it.
    pub fn cancel(&mut self, key: CallKey) {
        let cx = &mut self.engine.context();
        self.node.clients().cancel(cx, key);
    }

    fn granted(&mut self, key: CallKey, cost: u32) {
        let cx = &mut self.engine.context();
        self.node
            .clients()
            .with(cx, key, |caller, out, call| caller.grant(out, call, cost));
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
        let cx = &mut self.engine.context();
        let body = request.map(|request| Coded::new(Coder::of::<C>(), request));
        let (target, clients) = (self.target, self.node.clients());
        clients
            .open(cx, target, method, options, body, end, Waiter::Owner)
            .map_err(|refused| clients.status_of(target, method, &refused))
    }

    /// Sends a message of a client's stream; turns the engine while there is no room.
    ///
    /// # Errors
    /// The call is over ([`receive`](Self::receive) tells how), or the message is too long.
    pub fn send<C, Q>(&mut self, key: CallKey, message: &Q, end: bool) -> Result<(), Status>
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        loop {
            let cx = &mut self.engine.context();
            let sent = self.node.clients().with(cx, key, |caller, out, call| {
                caller.send(out, call, Coded::new(Coder::of::<C>(), message), end, false)
            });
            match sent {
                Some(Ok(())) => return Ok(()),
                Some(Err(Refused::Full(_))) => {
                    self.turn(None);
                }
                Some(Err(refused @ Refused::TooLong { .. })) => {
                    let text = refused.to_string();
                    return Err(Status::new(Code::ResourceExhausted, &text));
                }
                _ => return Err(Status::of(Code::Cancelled, "the call is over")),
            }
        }
    }

    /// Ends a client's stream without a further message.
    pub fn end(&mut self, key: CallKey) {
        let cx = &mut self.engine.context();
        self.node
            .clients()
            .with(cx, key, |caller, out, call| caller.end(out, call));
    }

    /// Waits for the next message of an answering stream.
    ///
    /// # Errors
    /// The call's answer: its end. A unary answer to a client's stream comes with it.
    pub fn receive(&mut self, key: CallKey) -> Result<Slice, Answer> {
        loop {
            match self.node.clients().take(key) {
                Some(Happening::Message(message, cost)) => {
                    self.granted(key, cost);
                    return Ok(message);
                }
                Some(Happening::Ended(answer)) => return Err(answer),
                Some(Happening::Writable) => {}
                None => {
                    self.turn(None);
                }
            }
        }
    }
}
