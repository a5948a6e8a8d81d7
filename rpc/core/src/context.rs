//! What a handler knows about its call, borrowed ([`CallInfo`]) or for as long as the call lives ([`CallContext`]).

use core::fmt;
use core::time::Duration;
use std::rc::Rc;

use ringway_buf::{Id, Instant};
use ringway_call::{Metadata, Status};
use ringway_engine::{Address, ConnectionId};

use crate::client::Channel;
use crate::service::Method;
use crate::stage::Local;
use crate::worker::{Blocking, Job};

/// Where a call comes from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Origin {
    /// The connection; `None` for a call that was dispatched without one.
    pub connection: Option<ConnectionId>,
    /// The client's address, if its end of the socket has one.
    pub address: Option<Address>,
    /// A number that differs after each restart of the client; 0: unknown.
    pub epoch: u64,
}

/// What came with a call, borrowed during a callback.
#[derive(Clone, Debug)]
pub struct CallInfo<'a> {
    pub(crate) method: &'static Method,
    pub(crate) origin: &'a Origin,
    pub(crate) metadata: Metadata<'a>,
    pub(crate) now: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) priority: u8,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) one_way: bool,
}

impl<'a> CallInfo<'a> {
    /// The method that is called.
    #[must_use]
    pub fn method(&self) -> &'static Method {
        self.method
    }

    /// Where the call comes from.
    #[must_use]
    pub fn origin(&self) -> &'a Origin {
        self.origin
    }

    /// The request's metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// When the client stops waiting; nested calls inherit it. `None`: it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Time left until the deadline; zero when it is past.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_since(self.now))
    }

    /// 0 (most urgent) to 7.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// How often the client tried this call before.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.attempt
    }

    /// The client says that running it twice does no harm.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Nobody waits for an answer.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }
}

/// What an `async` handler knows about its call; stays on the call's thread.
#[derive(Clone)]
pub struct CallContext {
    pub(crate) method: &'static Method,
    pub(crate) origin: Rc<Origin>,
    pub(crate) metadata: Option<Rc<[u8]>>,
    pub(crate) began: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) priority: u8,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) one_way: bool,
    pub(crate) call: Id,
    pub(crate) local: Rc<Local>,
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("method", &self.method.name)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl CallContext {
    /// The method that is called.
    #[must_use]
    pub fn method(&self) -> &'static Method {
        self.method
    }

    /// Where the call comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The request's metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        // It was parsed when the call came in.
        let bytes = self.metadata.as_deref().unwrap_or_default();
        Metadata::parse(bytes).unwrap_or_default()
    }

    /// The time at which the call came in.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When the client stops waiting; nested calls inherit it. The future is dropped then. `None`: it waits for
    /// ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// 0 (most urgent) to 7.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// How often the client tried this call before.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.attempt
    }

    /// The client says that running it twice does no harm.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Nobody waits for an answer.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// Whether the call is over: answered, cancelled, past its deadline, or its connection gone. The handler's own
    /// future is dropped then; what it left elsewhere may ask here.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        !self.local.is_alive(self.call)
    }

    /// A channel to another server, over the engine that runs this handler: no other thread takes part. Its calls
    /// are awaited; they inherit this call's deadline, and are given up when this call is (its future is dropped
    /// then, and theirs with it). Does not wait for the connection; the same address gives the same one. Nothing is
    /// resolved: give a numeric address. [`Call::wait`](crate::Call::wait) and its like refuse inside a handler.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the address can't be read; FAILED_PRECONDITION: too many servers are named, or no engine
    /// runs this handler (it was dispatched in memory).
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        self.local.channel(address, self.deadline)
    }

    /// Runs `handler` on the server's worker pool, for work that blocks or takes long. The future resolves to its
    /// result; dropping it (as cancelling the call does) tells the job to stop.
    ///
    /// Resolves to RESOURCE_EXHAUSTED if the pool's queue is full, to INTERNAL if `handler` panics, and to
    /// FAILED_PRECONDITION if the server has no workers.
    pub fn blocking<R: Send + 'static>(
        &self,
        handler: impl FnOnce(&Job) -> Result<R, Status> + Send + 'static,
    ) -> Blocking<R> {
        Blocking::start(self.local.workers.as_deref(), self.deadline, handler)
    }
}
