//! The face for other threads: a channel is `Send`, cheap to clone, blocking or `async` on any runtime.

use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ringway_buf::Instant;
use ringway_call::{Code, Status};
use ringway_engine::{Config, Handle, block_on};

use super::answer::{Answer, CallOptions, Response};
use super::remote::{Command, Connecting, Inlet, Request, Settings};
use super::{Clients, Target};
use crate::codec::Codec;
use crate::node::Node;
use crate::rpc_config;
use crate::service::Method;

/// An engine on a thread of its own, for channels. Cheap to clone; the last clone or channel ends it.
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
    /// Starts an engine; `config` is called on its thread.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: the thread or the engine can't start; the text names the fix.
    pub fn start(config: impl FnOnce() -> Config + Send + 'static) -> Result<Self, Status> {
        let failed = |why: &str| Status::new(Code::FailedPrecondition, why);
        let inlet = Inlet::new();
        let shared = Arc::clone(&inlet);
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ringway-client".to_owned())
            .spawn(move || {
                let mut engine = match config().features(ringway_call::feature::RPC).build() {
                    Ok(engine) => engine,
                    Err(error) => return drop(report.send(Err(error.to_string()))),
                };
                let clients = Clients::default().with_inlet(Arc::clone(&shared));
                let mut node = Node::clients_only(clients);
                shared.open(engine.handle());
                drop(report.send(Ok(engine.handle())));
                engine.run(&mut node);
                drop(node);
                drop(engine);
                shared.close();
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

    /// A channel to a server over this engine. Does not wait for the connection.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the address can't be read; UNAVAILABLE: the engine is overwhelmed or gone.
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        let connecting = Arc::new(Connecting::default());
        let command = Command::Connect(address.to_owned(), Arc::clone(&connecting));
        let inlet = &self.0.inlet;
        inlet.push(command).map_err(|_back| {
            Status::of(Code::Unavailable, "the client's engine is gone or full")
        })?;
        let target = connecting
            .wait()
            .map_err(|error| Status::new(Code::InvalidArgument, &error.to_string()))?;
        Ok(Channel(Arc::new(Open {
            engine: self.clone(),
            target,
        })))
    }
}

/// A client's view of one server: `Send + Sync`, cheap to clone.
///
/// Calls go through the engine of a [`ClientEngine`], which keeps the connection and makes it anew when it breaks.
/// Every call is a future for any executor, and [`Call::wait`] blocks for it.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Open>);

#[derive(Debug)]
struct Open {
    engine: ClientEngine,
    target: Target,
}

impl Drop for Open {
    fn drop(&mut self) {
        // If the queue is full the connection stays until the engine ends.
        drop(self.engine.0.inlet.push(Command::Disconnect(self.target)));
    }
}

impl Channel {
    /// A channel over the process's shared client engine. Does not wait for the connection.
    ///
    /// # Errors
    /// As [`ClientEngine::channel`].
    pub fn connect(address: &str) -> Result<Self, Status> {
        ClientEngine::shared()?.channel(address)
    }

    fn inlet(&self) -> &Arc<Inlet> {
        &self.0.engine.0.inlet
    }

    fn submit(
        &self,
        methods: &'static [Method],
        index: u32,
        first: Option<Vec<u8>>,
        end: bool,
        options: &CallOptions<'_>,
    ) -> Arc<Request> {
        let settings = Settings {
            target: self.0.target,
            methods,
            index,
            deadline: options
                .timeout
                .map(|timeout| Instant::monotonic() + timeout),
            metadata: options.metadata.into(),
            priority: options.priority,
            wait_for_ready: options.wait_for_ready,
            idempotent: options.idempotent,
            compress: options.compress,
        };
        let request = Request::new(settings, first, end);
        if self
            .inlet()
            .push(Command::Open(Arc::clone(&request)))
            .is_err()
        {
            let status = Status::of(
                Code::ResourceExhausted,
                "the client's engine is gone, or its queue is full",
            );
            request.end(Answer::of(status.not_started()));
        }
        request
    }

    /// Calls the method at `index` of `methods`; the future resolves to the answer.
    pub fn call<C, Q, R>(
        &self,
        methods: &'static [Method],
        index: u32,
        request: &Q,
        options: &CallOptions<'_>,
    ) -> Call<C, R>
    where
        C: Codec<Q> + Codec<R>,
        Q: ?Sized,
        R: ?Sized,
    {
        Call {
            request: self.submit(
                methods,
                index,
                Some(encoded::<C, Q>(request)),
                true,
                options,
            ),
            channel: self.clone(),
            done: false,
            types: PhantomData,
        }
    }

    /// Opens a call that streams, with its first message or without. With `end` the client says no more.
    pub fn open<C, Q, R>(
        &self,
        methods: &'static [Method],
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
        let request = self.submit(methods, index, first, end, options);
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

fn encoded<C: Codec<Q>, Q: ?Sized>(value: &Q) -> Vec<u8> {
    let mut bytes = vec![0; C::encoded_len(value)];
    C::encode(value, &mut bytes);
    bytes
}

/// A unary call under way. Dropping it gives the call up.
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
    /// Blocks for the answer. Not for the engine's own thread, nor for an executor's.
    ///
    /// # Errors
    /// The status that the call ended with.
    pub fn wait(self) -> Result<Response<C, R>, Status> {
        block_on(self)
    }
}

impl<C: Codec<R>, R: ?Sized> Future for Call<C, R> {
    type Output = Result<Response<C, R>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = core::task::ready!(self.request.poll_answer(cx));
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
    /// Sends a message; waits while too much is unsent.
    ///
    /// # Errors
    /// The call is over; its answer tells how.
    pub async fn send(&mut self, message: &Q) -> Result<(), Status> {
        core::future::poll_fn(|cx| self.request.poll_room(cx)).await?;
        self.request.send(&self.inlet, encoded::<C, Q>(message));
        Ok(())
    }

    /// Like [`send`](Self::send), blocking.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_wait(&mut self, message: &Q) -> Result<(), Status> {
        block_on(self.send(message))
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
    /// The next message; `None` after the last one of a call that went well.
    ///
    /// # Errors
    /// The status that the call ended with, or INTERNAL when a message can't be decoded.
    pub async fn next(&mut self) -> Result<Option<R>, Status> {
        if self.done {
            return Ok(None);
        }
        let came =
            core::future::poll_fn(|cx| self.request.poll_message(self.channel.inlet(), cx)).await;
        match came {
            Ok(message) => C::decode_owned(&message)
                .map(Some)
                .map_err(super::answer::undecodable),
            Err(answer) => {
                self.done = true;
                match answer {
                    Answer { status, .. } if !status.is_ok() => Err(status),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Like [`next`](Self::next), blocking.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_wait(&mut self) -> Result<Option<R>, Status> {
        block_on(self.next())
    }

    /// The one answer to a client's stream.
    ///
    /// # Errors
    /// The status that the call ended with.
    pub async fn answer(mut self) -> Result<Response<C, R>, Status> {
        let answer = core::future::poll_fn(|cx| self.request.poll_answer(cx)).await;
        self.done = true;
        answer.decode()
    }

    /// Like [`answer`](Self::answer), blocking.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn answer_wait(self) -> Result<Response<C, R>, Status> {
        block_on(self.answer())
    }
}

impl<C, R: ?Sized> Drop for Incoming<C, R> {
    fn drop(&mut self) {
        if !self.done {
            self.request.cancel(self.channel.inlet());
        }
    }
}
