//! The face for other threads and for handlers: a channel is `Send`, cheap to clone, blocking or `async` on any
//! runtime.

use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ringway_buf::{Instant, Slice};
use ringway_call::{Code, Status};
use ringway_engine::{Address, Config, Handle, block_on};

use super::Clients;
use super::answer::{Answer, CallOptions, Response};
use super::inlet::{Command, Inlet, Note, Place};
use super::request::{Request, Settings};
use crate::codec::Codec;
use crate::executor::{is_within_handler, would_block};
use crate::node::Node;
use crate::rpc_config;
use crate::service::Methods;

/// An engine on a thread of its own, for channels. Cheap to clone; the last clone or channel ends it.
///
/// One engine serves many channels and threads; more of them help when its core is full, not before. [`Channel::connect`]
/// shares one for the whole process; this is for settings of one's own.
///
/// ```
/// use ringway_engine::{Config, Idle};
/// use ringway_rpc::ClientEngine;
///
/// let engine = ClientEngine::start(|| Config::default().idle(Idle::Park))?;
/// let channel = engine.channel("tcp://127.0.0.1:9")?;
/// # Ok::<(), ringway_rpc::Status>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientEngine(Arc<Running>);

#[derive(Debug)]
struct Running {
    inlet: Arc<Inlet>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already stopped is as good.
        let _stopped = self.handle.stop();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl ClientEngine {
    /// Starts an engine; `config` is called on its thread. Calls are offered in any case.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: the thread or the engine can't start; the text names the fix.
    pub fn start(config: impl FnOnce() -> Config + Send + 'static) -> Result<Self, Status> {
        Self::start_with(config, Clients::default)
    }

    /// Like [`start`](Self::start), with limits and compressors of one's own; `clients` is called on the engine's
    /// thread.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        config: impl FnOnce() -> Config + Send + 'static,
        clients: impl FnOnce() -> Clients + Send + 'static,
    ) -> Result<Self, Status> {
        let failed = |why: &str| Status::new(Code::FailedPrecondition, why);
        let inlet = Inlet::new(None);
        let shared = Arc::clone(&inlet);
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ringway-client".to_owned())
            .spawn(move || {
                let mut engine = match config().features(ringway_call::feature::RPC).build() {
                    Ok(engine) => engine,
                    Err(error) => return drop(report.send(Err(error.to_string()))),
                };
                // Dropped on every way out of here: then nobody waits any more.
                let clients = clients().with_inlet(Arc::clone(&shared));
                let mut node = Node::clients_only(clients);
                shared.open(engine.handle());
                drop(report.send(Ok(engine.handle())));
                engine.run(&mut node);
            })
            .map_err(|error| failed(&format!("starting the client's thread: {error}")))?;
        let handle = match started.recv() {
            Ok(Ok(handle)) => handle,
            Ok(Err(why)) => return Err(failed(&why)),
            Err(_) => return Err(failed("the client's thread died")),
        };
        Ok(Self(Arc::new(Running {
            inlet,
            handle,
            thread: Some(thread),
        })))
    }

    /// The engine that all channels of this process share unless they are given another; it is started with the
    /// first of them and ends with the last.
    fn shared() -> Result<Self, Status> {
        static SHARED: Mutex<std::sync::Weak<Running>> = Mutex::new(std::sync::Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade()
            && !running.handle.is_stopped()
        {
            return Ok(Self(running));
        }
        let engine = Self::start(rpc_config)?;
        *shared = Arc::downgrade(&engine.0);
        Ok(engine)
    }

    /// A channel to a server over this engine. Does not wait for the connection. A host's name is resolved here,
    /// which may block; the engine keeps to the address that was found.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the address can't be read or resolved; UNAVAILABLE or RESOURCE_EXHAUSTED: the engine is
    /// gone or overwhelmed.
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        let address = Address::resolve(address).map_err(|error| unreadable(&error))?;
        let inlet = Arc::clone(&self.0.inlet);
        Channel::new(address, inlet, Some(self.clone()))
    }

    /// A handle of the engine, for its counters.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

#[cold]
fn unreadable(error: &dyn core::fmt::Display) -> Status {
    Status::new(Code::InvalidArgument, &error.to_string()).not_started()
}

/// A client's view of one server: `Send + Sync`, cheap to clone.
///
/// Calls go through an engine, which keeps the connection and makes it anew when it breaks. Every call is a future
/// for any executor, and its `wait` blocks for it. Making a call never waits: what can't go out yet waits in the
/// engine, within bounds, and what exceeds them is refused.
///
/// ```
/// use ringway_rpc::{CallOptions, Channel, Kind, Method, Raw};
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
///
/// // Usually generated, and wrapped in a client with a function for each method.
/// static METHODS: &[Method] = &[Method::new("demo.Echo/Say", Kind::Unary, 0, 0)];
///
/// let channel = Channel::connect(&address)?;
/// let call = channel.call::<Raw, [u8], [u8]>(METHODS, 0, b"hello", &CallOptions::default());
/// let answer = call.wait()?; // or `call.await?`
/// assert_eq!(answer.bytes(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    open: Arc<Open>,
    /// When the call ends whose handler calls here.
    deadline: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Open {
    inlet: Arc<Inlet>,
    place: Arc<Place>,
    /// `None`: the engine that runs the handler.
    engine: Option<ClientEngine>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inlet.note(Note::Leave(Arc::clone(&self.place)));
    }
}

impl Channel {
    /// A channel over the process's shared client engine. Does not wait for the connection. A host's name is
    /// resolved here, which may block.
    ///
    /// # Errors
    /// As [`ClientEngine::channel`], and FAILED_PRECONDITION when that engine can't be started.
    pub fn connect(address: &str) -> Result<Self, Status> {
        ClientEngine::shared()?.channel(address)
    }

    fn new(
        address: Address,
        inlet: Arc<Inlet>,
        engine: Option<ClientEngine>,
    ) -> Result<Self, Status> {
        let place = Place::new(address.to_string());
        inlet.push(Command::Connect(Arc::clone(&place)))?;
        let open = Open {
            inlet,
            place,
            engine,
        };
        Ok(Self {
            open: Arc::new(open),
            deadline: None,
        })
    }

    /// A channel over the engine that runs the handler. Nothing is resolved: that would block it.
    pub(crate) fn of_handler(address: &str, inlet: &Arc<Inlet>) -> Result<Self, Status> {
        let address: Address = address.parse().map_err(|error| {
            let error: ringway_engine::AddressError = error;
            unreadable(&error)
        })?;
        Self::new(address, Arc::clone(inlet), None)
    }

    /// The same channel for the calls of a handler whose own call ends at `deadline`.
    pub(crate) fn until(&self, deadline: Option<Instant>) -> Self {
        Self {
            open: Arc::clone(&self.open),
            deadline,
        }
    }

    /// The address that is called, as the engine has it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.open.place.address
    }

    pub(crate) fn is_of(&self, inlet: &Arc<Inlet>) -> bool {
        Arc::ptr_eq(&self.open.inlet, inlet)
    }

    pub(crate) fn inlet(&self) -> &Arc<Inlet> {
        &self.open.inlet
    }

    /// A call, not yet under way.
    pub(crate) fn request(
        &self,
        methods: Methods,
        index: u32,
        first: Option<Vec<u8>>,
        end: bool,
        options: &CallOptions<'_>,
        one_way: bool,
    ) -> Arc<Request> {
        let method = methods.get(index as usize);
        let is_idempotent = method.is_some_and(|it| it.idempotent);
        // Another thread's call counts from now, even if its engine is slow to take it; one of a handler counts by
        // the clock of its engine, which takes it in the same turn and may be simulated.
        let own = self.open.engine.is_some();
        let at = |timeout| Instant::monotonic() + timeout;
        let deadline = options.timeout.filter(|_| own).map(at);
        let deadline = [deadline, self.deadline].into_iter().flatten().min();
        let settings = Settings {
            place: Arc::clone(&self.open.place),
            methods,
            index,
            metadata: options.metadata.into(),
            priority: options.priority,
            wait_for_ready: options.wait_for_ready,
            idempotent: options.idempotent || is_idempotent,
            compress: options.compress,
            one_way,
            timeout: options.timeout.filter(|_| !own),
        };
        let keep = one_way.then(|| self.clone());
        Request::new(settings, deadline, first, end, keep)
    }

    fn submit(&self, request: Arc<Request>) -> Arc<Request> {
        let is_known = (request.settings.index as usize) < request.settings.methods.len();
        let pushed = if is_known {
            self.inlet().push(Command::Open(Arc::clone(&request)))
        } else {
            let text = "the list of methods is shorter than the index";
            Err(Status::of(Code::InvalidArgument, text).not_started())
        };
        if let Err(status) = pushed {
            request.end(Answer::of(status));
        }
        request
    }

    /// Calls the method at `index` of `methods`; the future resolves to the answer. Dropping it gives the call up.
    pub fn call<C, Q, R>(
        &self,
        methods: impl Into<Methods>,
        index: u32,
        request: &Q,
        options: &CallOptions<'_>,
    ) -> Call<C, R>
    where
        C: Codec<Q> + Codec<R>,
        Q: ?Sized,
        R: ?Sized,
    {
        let first = Some(encoded::<C, Q>(request));
        let request = self.request(methods.into(), index, first, true, options, false);
        Call {
            request: self.submit(request),
            channel: self.clone(),
            done: false,
            types: PhantomData,
        }
    }

    /// Makes a call that nobody answers. The future resolves when the request is accepted for sending, or to why it
    /// surely does not start; dropping it does not take the call back. Over QUIC the request is a datagram, if it fits
    /// one, and may get lost.
    pub fn one_way<C, Q>(
        &self,
        methods: impl Into<Methods>,
        index: u32,
        request: &Q,
        options: &CallOptions<'_>,
    ) -> OneWay
    where
        C: Codec<Q>,
        Q: ?Sized,
    {
        let first = Some(encoded::<C, Q>(request));
        let request = self.request(methods.into(), index, first, true, options, true);
        OneWay {
            request: self.submit(request),
            inlet: Arc::clone(self.inlet()),
        }
    }

    /// Opens a call that streams, with its first message or without. With `end` the client says no more.
    pub fn open<C, Q, R>(
        &self,
        methods: impl Into<Methods>,
        index: u32,
        first: Option<&Q>,
        end: bool,
        options: &CallOptions<'_>,
    ) -> (Outgoing<C, Q>, Incoming<C, R>)
    where
        C: Codec<Q> + Codec<R>,
        Q: ?Sized,
        R: ?Sized,
    {
        let first = first.map(encoded::<C, Q>);
        let request = self.request(methods.into(), index, first, end, options, false);
        let request = self.submit(request);
        let outgoing = Outgoing {
            request: Arc::clone(&request),
            inlet: Arc::clone(self.inlet()),
            types: PhantomData,
        };
        let incoming = Incoming {
            request,
            channel: self.clone(),
            done: false,
            types: PhantomData,
        };
        (outgoing, incoming)
    }
}

pub(crate) fn encoded<C: Codec<Q>, Q: ?Sized>(value: &Q) -> Vec<u8> {
    let mut bytes = vec![0; C::encoded_len(value)];
    C::encode(value, &mut bytes);
    bytes
}

/// Blocks for a future, unless that would stop the engine that has to make it ready.
fn wait_for<T>(future: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    if is_within_handler() {
        return Err(would_block());
    }
    block_on(future)
}

/// A unary call under way. Dropping it gives the call up: its handler is cancelled.
#[must_use = "a call that is dropped is cancelled"]
pub struct Call<C, R: ?Sized> {
    request: Arc<Request>,
    channel: Channel,
    done: bool,
    types: PhantomData<fn() -> (C, *const R)>,
}

impl<C, R: ?Sized> core::fmt::Debug for Call<C, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Call")
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<C: Codec<R>, R: ?Sized> Call<C, R> {
    /// Blocks for the answer. Not for an executor's threads.
    ///
    /// # Errors
    /// The status that the call ended with; FAILED_PRECONDITION inside a handler, which has to await it.
    pub fn wait(self) -> Result<Response<C, R>, Status> {
        wait_for(self)
    }
}

impl<C: Codec<R>, R: ?Sized> Future for Call<C, R> {
    type Output = Result<Response<C, R>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = core::task::ready!(self.request.poll_answer(self.channel.inlet(), cx));
        self.done = true;
        Poll::Ready(answer.decode())
    }
}

impl<C, R: ?Sized> Drop for Call<C, R> {
    fn drop(&mut self) {
        if !self.done {
            self.request.cancel(self.channel.inlet());
        }
    }
}

/// A call that nobody answers, on its way out. Resolves when it is accepted for sending; may be dropped at any time.
pub struct OneWay {
    request: Arc<Request>,
    inlet: Arc<Inlet>,
}

impl core::fmt::Debug for OneWay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OneWay").finish_non_exhaustive()
    }
}

impl OneWay {
    /// Blocks until it is accepted for sending.
    ///
    /// # Errors
    /// Why it surely does not start; FAILED_PRECONDITION inside a handler, which has to await it (or drop it).
    pub fn wait(self) -> Result<(), Status> {
        wait_for(self)
    }
}

impl Future for OneWay {
    type Output = Result<(), Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = core::task::ready!(self.request.poll_answer(&self.inlet, cx));
        Poll::Ready(match answer.status {
            status if status.is_ok() => Ok(()),
            status => Err(status),
        })
    }
}

/// The client's stream of a call. Dropping it ends the stream.
pub struct Outgoing<C, Q: ?Sized> {
    request: Arc<Request>,
    inlet: Arc<Inlet>,
    types: PhantomData<fn(C, *const Q)>,
}

impl<C, Q: ?Sized> core::fmt::Debug for Outgoing<C, Q> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

impl<C: Codec<Q>, Q: ?Sized> Outgoing<C, Q> {
    /// Sends a message; waits while 256 KiB are unsent (the server gives no credit, or there is no connection yet).
    ///
    /// # Errors
    /// CANCELLED: the call is over; its answer tells how.
    pub async fn send(&mut self, message: &Q) -> Result<(), Status> {
        core::future::poll_fn(|cx| self.request.poll_room(cx)).await?;
        self.request.send(&self.inlet, encoded::<C, Q>(message));
        Ok(())
    }

    /// Sends a message if there is room now; `Ok(false)` if not.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn try_send(&mut self, message: &Q) -> Result<bool, Status> {
        let cx = Context::from_waker(core::task::Waker::noop());
        match self.request.poll_room(&cx) {
            Poll::Ready(room) => {
                room?;
                self.request.send(&self.inlet, encoded::<C, Q>(message));
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Like [`send`](Self::send), blocking.
    ///
    /// # Errors
    /// As [`send`](Self::send); FAILED_PRECONDITION inside a handler.
    pub fn send_wait(&mut self, message: &Q) -> Result<(), Status> {
        wait_for(self.send(message))
    }

    /// Says that no more follows.
    pub fn finish(self) {}
}

impl<C, Q: ?Sized> Drop for Outgoing<C, Q> {
    fn drop(&mut self) {
        self.request.finish(&self.inlet);
    }
}

/// The answering stream of a call. Dropping it before its end gives the call up.
pub struct Incoming<C, R: ?Sized> {
    request: Arc<Request>,
    channel: Channel,
    done: bool,
    types: PhantomData<fn() -> (C, *const R)>,
}

impl<C, R: ?Sized> core::fmt::Debug for Incoming<C, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Incoming")
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<C: Codec<R>, R> Incoming<C, R> {
    /// The next message; `None` after the last one of a call that went well. A message that is taken gives the
    /// server credit for another. The one answer to a client's stream comes as its only message.
    ///
    /// # Errors
    /// The status that the call ended with, or INTERNAL when a message can't be decoded.
    pub async fn next(&mut self) -> Result<Option<R>, Status> {
        if self.done {
            return Ok(None);
        }
        let inlet = self.channel.inlet();
        let came = core::future::poll_fn(|cx| self.request.poll_message(inlet, cx)).await;
        let decode = |message: &[u8]| {
            C::decode_owned(message)
                .map(Some)
                .map_err(super::answer::undecodable)
        };
        match came {
            Ok(message) => decode(&message),
            Err(answer) => {
                self.done = true;
                match answer.message {
                    _ if !answer.status.is_ok() => Err(answer.status),
                    Some(message) => decode(&message),
                    None => Ok(None),
                }
            }
        }
    }

    /// Like [`next`](Self::next), undecoded and in the memory it arrived in, for those who pass messages on. The end
    /// of the call is told whole, with its metadata; the one answer to a client's stream comes with it.
    ///
    /// Ready with an error: the end of the call, also of one that went well.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slice, Answer>> {
        if self.done {
            return Poll::Ready(Err(Answer::of(Status::OK)));
        }
        let came = core::task::ready!(self.request.poll_message(self.channel.inlet(), cx));
        self.done = came.is_err();
        Poll::Ready(came)
    }

    /// Like [`next`](Self::next), blocking.
    ///
    /// # Errors
    /// As [`next`](Self::next); FAILED_PRECONDITION inside a handler.
    pub fn next_wait(&mut self) -> Result<Option<R>, Status> {
        wait_for(self.next())
    }

    /// The one answer to a client's stream. Messages of an answering stream are let go.
    ///
    /// # Errors
    /// The status that the call ended with.
    pub async fn answer(mut self) -> Result<Response<C, R>, Status> {
        let inlet = self.channel.inlet();
        let answer = core::future::poll_fn(|cx| self.request.poll_answer(inlet, cx)).await;
        self.done = true;
        answer.decode()
    }

    /// Like [`answer`](Self::answer), blocking.
    ///
    /// # Errors
    /// As [`answer`](Self::answer); FAILED_PRECONDITION inside a handler.
    pub fn answer_wait(self) -> Result<Response<C, R>, Status> {
        wait_for(self.answer())
    }
}

impl<C, R: ?Sized> Drop for Incoming<C, R> {
    fn drop(&mut self) {
        if !self.done {
            self.request.cancel(self.channel.inlet());
        }
    }
}
