//! The handle that other threads hold of an engine.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use ringway_driver::{Address, Incoming, ListenOptions};

use crate::counters::Counters;
use crate::link::{Acceptor, Link, LinkError};
use crate::remote::{Reply, Shared, block_on, promise};
use crate::{ConnectionId, Context, Full, OpenError, SendError};

/// The engine is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the engine has stopped; start a new one")
    }
}

impl std::error::Error for Stopped {}

/// A piece of work that runs on an engine's thread, with its [`Context`].
pub type Work = Box<dyn FnOnce(&mut Context<'_>) + Send>;

/// Work for the engine's thread.
pub(crate) enum Command {
    Run(Work),
    Send {
        connection: ConnectionId,
        body: Vec<u8>,
        reply: Reply<Result<(), Full<Vec<u8>>>>,
    },
    Connect {
        address: Address,
        reply: Reply<Result<Link, LinkError>>,
    },
    Listen {
        address: Address,
        options: Box<ListenOptions>,
        reply: Reply<Result<Acceptor, OpenError>>,
    },
    Adopt {
        incoming: Incoming,
        peer: Option<Address>,
    },
    Drain,
    Stop,
}

impl Command {
    /// Answers that the engine is gone, with what has to be handed back. The other answers are given by
    /// dropping them.
    pub(crate) fn refuse(self) {
        if let Self::Send { body, reply, .. } = self {
            reply.answer(Err(Full {
                message: body,
                error: SendError::Closed,
            }));
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "Run",
            Self::Send { .. } => "Send",
            Self::Connect { .. } => "Connect",
            Self::Listen { .. } => "Listen",
            Self::Adopt { .. } => "Adopt",
            Self::Drain => "Drain",
            Self::Stop => "Stop",
        })
    }
}

/// A handle of one engine: `Send + Sync`, cheap to clone, usable from any thread and any `async` runtime.
///
/// Commands go through a bounded queue (`commands_max`); the engine is woken only if it sleeps. Methods that
/// wait come in pairs: an `async` one for any executor, and one ending in `_wait` that blocks the thread
/// (never call that on the engine's own thread).
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Runs `work` on the engine's thread, with its [`Context`]. Does not wait.
    ///
    /// # Errors
    /// Hands `work` back, boxed, when the command queue is full; [`is_stopped`](Self::is_stopped) tells
    /// whether it is because the engine is gone.
    pub fn post(
        &self,
        work: impl FnOnce(&mut Context<'_>) + Send + 'static,
    ) -> Result<(), Full<Work>> {
        let work: Work = Box::new(work);
        self.shared.post(Command::Run(work)).map_err(|command| {
            let Command::Run(message) = command else {
                unreachable!("the command just given")
            };
            let error = if self.is_stopped() {
                SendError::Closed
            } else {
                SendError::Full
            };
            Full { message, error }
        })
    }

    /// Sends a message on a connection of the engine's handler; resolves when it is accepted for sending.
    ///
    /// # Errors
    /// Hands the message back: the connection's queue is full, it is closed, or the engine is gone.
    pub async fn send(&self, connection: ConnectionId, body: Vec<u8>) -> Result<(), Full<Vec<u8>>> {
        let (reply, answer) = promise();
        let command = Command::Send {
            connection,
            body,
            reply,
        };
        match self.submit(command).await {
            Ok(()) => answer.await.unwrap_or_else(|| {
                Err(Full {
                    message: Vec::new(),
                    error: SendError::Closed,
                })
            }),
            Err(Command::Send { body, .. }) => Err(Full {
                message: body,
                error: SendError::Closed,
            }),
            Err(_) => unreachable!("the command just given"),
        }
    }

    /// Blocking face of [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_wait(&self, connection: ConnectionId, body: Vec<u8>) -> Result<(), Full<Vec<u8>>> {
        block_on(self.send(connection, body))
    }

    /// Opens a connection that belongs to the caller; resolves when it is open.
    ///
    /// The name service is asked on the calling thread and may block it; give numeric addresses in `async`
    /// code.
    ///
    /// # Errors
    /// The address can't be read, the connection can't be opened, or the engine is gone.
    pub async fn connect(&self, address: &str) -> Result<Link, LinkError> {
        let address =
            Address::resolve(address).map_err(|error| LinkError::Open(Arc::new(error.into())))?;
        let (reply, answer) = promise();
        let command = Command::Connect { address, reply };
        self.submit(command)
            .await
            .map_err(|_refused| LinkError::Stopped)?;
        answer.await.unwrap_or(Err(LinkError::Stopped))
    }

    /// Blocking face of [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_wait(&self, address: &str) -> Result<Link, LinkError> {
        block_on(self.connect(address))
    }

    /// Listens on a stream address; accepted connections come out of the [`Acceptor`] as links.
    ///
    /// # Errors
    /// The address can't be read or listened on, or the engine is gone.
    pub async fn listen(
        &self,
        address: &str,
        options: ListenOptions,
    ) -> Result<Acceptor, LinkError> {
        let address =
            Address::resolve(address).map_err(|error| LinkError::Open(Arc::new(error.into())))?;
        let (reply, answer) = promise();
        let command = Command::Listen {
            address,
            options: Box::new(options),
            reply,
        };
        self.submit(command)
            .await
            .map_err(|_refused| LinkError::Stopped)?;
        match answer.await {
            Some(listening) => listening.map_err(|error| LinkError::Open(Arc::new(error))),
            None => Err(LinkError::Stopped),
        }
    }

    /// Blocking face of [`listen`](Self::listen).
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn listen_wait(
        &self,
        address: &str,
        options: ListenOptions,
    ) -> Result<Acceptor, LinkError> {
        block_on(self.listen(address, options))
    }

    /// Drains all connections of the engine; `run` ends when they are closed.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn drain(&self) -> Result<(), Stopped> {
        block_on(self.submit(Command::Drain)).map_err(|_refused| Stopped)
    }

    /// Ends the engine's `run` after the turn in which it sees this.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn stop(&self) -> Result<(), Stopped> {
        block_on(self.submit(Command::Stop)).map_err(|_refused| Stopped)
    }

    /// Wakes the engine if it sleeps; its `wait` returns.
    pub fn wake(&self) {
        self.shared.ring();
    }

    /// Asks the engine to call its handler's [`notified`](crate::Handler::notified); wakes it if it sleeps.
    ///
    /// For layers with queues of their own: push first, then notify. Calls that come before the engine looks
    /// are answered by one callback. Does not block or allocate, and can't fail: if the engine is gone, nothing
    /// happens.
    pub fn notify(&self) {
        self.shared.notify_handler();
    }

    /// The engine's counters, readable at any time.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters.clone()
    }

    /// True when the engine is gone.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped()
    }

    /// Hands an accepted socket over to this engine; gives it back when that is impossible now.
    pub(crate) fn adopt(
        &self,
        incoming: Incoming,
        peer: Option<Address>,
    ) -> Result<(), (Incoming, Option<Address>)> {
        self.shared
            .post(Command::Adopt { incoming, peer })
            .map_err(|command| match command {
                Command::Adopt { incoming, peer } => (incoming, peer),
                _ => unreachable!("the command just given"),
            })
    }

    /// Waits for room in the command queue; gives the command back when the engine is gone.
    async fn submit(&self, command: Command) -> Result<(), Command> {
        let mut command = Some(command);
        poll_fn(|cx| {
            let Some(taken) = command.take() else {
                return Poll::Ready(Ok(()));
            };
            let Err(refused) = self.shared.post(taken) else {
                return Poll::Ready(Ok(()));
            };
            if self.is_stopped() {
                return Poll::Ready(Err(refused));
            }
            self.shared.wait_for_room(cx.waker());
            // Again, in case room was made before the waker was known.
            match self.shared.post(refused) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(refused) if self.is_stopped() => Poll::Ready(Err(refused)),
                Err(refused) => {
                    command = Some(refused);
                    Poll::Pending
                }
            }
        })
        .await
    }
}
