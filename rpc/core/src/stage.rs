//! What the handlers' ends on this thread have said and the node has not sent yet.
//!
//! Futures, senders and deferred replies cannot hold the engine's context: it is borrowed for a callback, and they
//! live longer. So they write here, and the node sends all of it before it leaves the callback. Short messages are
//! gathered in one vector that is reused (one copy on their way into the batch); long ones take a lease and go on
//! without a copy.
//!
//! Bound: a sender stops at [`SENDER_BYTES_MAX`], a deferred reply is one message, and both belong to one of the
//! node's calls.

use core::cell::{Cell, OnceCell, RefCell};
use core::ops::Range;
use core::time::Duration;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use ringway_buf::{Id, Instant, Pools, Slice};
use ringway_call::{Code, Status};

use crate::client::Channel;
use crate::client::inlet::Inlet;
use crate::client::remote::Pending;
use crate::executor::Bell;
use crate::worker::Workers;

/// Longest message that is gathered by copying. Above, a lease (64 KiB at least) is worth its place.
pub(crate) const COPY_BYTES_MAX: usize = 8 * 1024;
/// Bytes of the gathering vector that are kept for the next round.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Bytes one sender may write ahead of the node.
pub(crate) const SENDER_BYTES_MAX: usize = 64 * 1024;

/// Servers that the handlers of one engine may name.
const CHANNELS_MAX: usize = 1024;

/// A message on its way from a handler's end to its connection.
#[derive(Debug)]
pub(crate) enum Content {
    Gathered(Range<usize>),
    Shared(Slice),
}

/// An answer that was made on another thread.
pub(crate) type RemoteAnswer = Result<Vec<u8>, Status>;

/// Answers on their way to their engine, and how long each had waited for a worker.
pub(crate) type RemoteAnswers = Mutex<Vec<(Id, Duration, RemoteAnswer)>>;

/// What a handler's end wants.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Answer a unary or client-streaming call.
    Reply(Content),
    /// One message of a stream.
    Send(Content),
    /// End with this status.
    Fail(Status),
    /// A received message was taken: so many bytes of credit go back.
    Grant(u32),
    /// Make a nested call, whose continuation answers this one.
    Call(Box<Pending>),
}

/// All wishes of one round, in order.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) wishes: Vec<(Id, Wish)>,
    pub(crate) gathered: Vec<u8>,
}

/// What the handlers' ends of one thread share with its node.
#[derive(Debug)]
pub(crate) struct Local {
    staged: RefCell<Staged>,
    /// Generation of the live call at each index of the table of calls; 0: none.
    alive: RefCell<Vec<u32>>,
    /// The node is in a callback and looks here before it leaves.
    attended: Cell<bool>,
    pools: RefCell<Option<Rc<Pools>>>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) workers: Option<Arc<Workers>>,
    /// Nested calls on their way to the clients of this node; one for each of its calls at most.
    nested: RefCell<Vec<Pending>>,
    /// The way to the clients of this node; empty without an engine.
    inlet: OnceCell<Arc<Inlet>>,
    /// Servers that handlers named.
    channels: RefCell<Vec<(Box<str>, Channel)>>,
    /// Answers from other threads; one for each remote reply at most.
    pub(crate) remote: Arc<RemoteAnswers>,
}

impl Local {
    pub(crate) fn new(bell: Arc<Bell>, workers: Option<Arc<Workers>>) -> Rc<Self> {
        Rc::new(Self {
            staged: RefCell::new(Staged::default()),
            alive: RefCell::new(Vec::new()),
            attended: Cell::new(false),
            pools: RefCell::new(None),
            bell,
            workers,
            nested: RefCell::default(),
            inlet: OnceCell::new(),
            channels: RefCell::default(),
            remote: Arc::default(),
        })
    }

    /// Handlers call through the clients behind this inlet.
    pub(crate) fn set_inlet(&self, inlet: Arc<Inlet>) {
        self.inlet.get_or_init(|| inlet);
    }

    pub(crate) fn inlet(&self) -> Option<&Arc<Inlet>> {
        self.inlet.get()
    }

    /// A server that a handler calls, over the engine that runs it. The same address gives the same connection.
    pub(crate) fn channel(
        &self,
        address: &str,
        deadline: Option<Instant>,
    ) -> Result<Channel, Status> {
        let failed = |text| Status::of(Code::FailedPrecondition, text);
        let inlet = self
            .inlet()
            .ok_or_else(|| failed("no engine runs this handler; use `Channel::connect`"))?;
        let mut known = self.channels.borrow_mut();
        if let Some((_, channel)) = known.iter().find(|(name, _)| **name == *address) {
            return Ok(channel.until(deadline));
        }
        if known.len() >= CHANNELS_MAX {
            return Err(failed("too many servers are named by handlers"));
        }
        let channel = Channel::of_handler(address, inlet)?;
        known.push((address.into(), channel.clone()));
        Ok(channel.until(deadline))
    }

    /// Hands a nested call on.
    pub(crate) fn nest(&self, pending: Pending) {
        self.nested.borrow_mut().push(pending);
    }

    /// Whether the node's clients have something to take.
    #[inline]
    pub(crate) fn has_calls(&self) -> bool {
        !self.nested.borrow().is_empty() || self.inlet().is_some_and(|inlet| inlet.has_work())
    }

    pub(crate) fn take_nested(&self) -> Vec<Pending> {
        self.nested.take()
    }

    /// The node ends: replies that wait in here hold it.
    pub(crate) fn clear(&self) {
        drop(self.staged.take());
        drop(self.nested.take());
        drop(self.channels.take());
    }

    pub(crate) fn adopt_pools(&self, pools: &Rc<Pools>) {
        self.pools
            .borrow_mut()
            .get_or_insert_with(|| Rc::clone(pools));
    }

    pub(crate) fn pools(&self) -> Option<Rc<Pools>> {
        self.pools.borrow().clone()
    }

    /// The node enters (`true`) or leaves a callback.
    #[inline]
    pub(crate) fn attend(&self, on: bool) {
        self.attended.set(on);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.borrow().wishes.is_empty()
    }

    /// Takes what is there; give it back emptied by [`give_back`](Self::give_back).
    pub(crate) fn take(&self) -> Staged {
        self.staged.take()
    }

    /// Takes the emptied room back, unless new wishes have come meanwhile.
    pub(crate) fn give_back(&self, mut room: Staged) {
        room.wishes.clear();
        room.gathered.clear();
        if room.gathered.capacity() > KEPT_BYTES_MAX {
            room.gathered = Vec::new();
        }
        let mut staged = self.staged.borrow_mut();
        if staged.wishes.is_empty() {
            *staged = room;
        }
    }

    pub(crate) fn wish(&self, call: Id, wish: Wish) {
        self.staged.borrow_mut().wishes.push((call, wish));
        if !self.attended.get() {
            self.bell.ring();
        }
    }

    /// Writes a message of `len` bytes.
    pub(crate) fn write(
        &self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<Content, Status> {
        if len > COPY_BYTES_MAX {
            return self.write_lease(len, write);
        }
        let mut staged = self.staged.borrow_mut();
        let from = staged.gathered.len();
        staged.gathered.resize(from + len, 0);
        if let Some(room) = staged.gathered.get_mut(from..) {
            write(room);
        }
        Ok(Content::Gathered(from..from + len))
    }

    fn write_lease(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<Content, Status> {
        let lease = self.pools().and_then(|pools| pools.lease(len));
        let mut lease = lease.ok_or_else(|| {
            Status::new(
                Code::ResourceExhausted,
                "no memory for the message; raise `budget_bytes`",
            )
        })?;
        lease.reset(0);
        if let Some(room) = lease.append(len) {
            write(room);
        }
        Ok(Content::Shared(lease.freeze()))
    }

    pub(crate) fn set_alive(&self, call: Id, alive: bool) {
        let at = call.index() as usize;
        let mut all = self.alive.borrow_mut();
        if all.len() <= at {
            all.resize(at + 1, 0);
        }
        if let Some(entry) = all.get_mut(at) {
            *entry = if alive { call.generation() } else { 0 };
        }
    }

    pub(crate) fn is_alive(&self, call: Id) -> bool {
        self.alive.borrow().get(call.index() as usize) == Some(&call.generation())
    }
}
