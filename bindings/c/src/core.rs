//! One engine of foreign code: engine, handler, the claim that is open, the calls that were made.

use core::time::Duration;
use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use ringway::rpc::{CallEvent, CallKey, Clients, Node, Target};
use ringway::{Claim, ConnectionId, Context, Engine, Handle, Instant, StartError};
use ringway_buf::Table;

use crate::config::EngineConfig;
use crate::event::{Event, kind};
use crate::front::{Desk, Front, Held};
use crate::guard::{Fail, Rw};
use crate::host::Waiting;
use crate::ids::{Kind, Salt};
use crate::known::Known;
use crate::lent::Lent;
use crate::serve::Foreign;

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    /// The open claim; it borrows `engine`, which nobody else touches meanwhile.
    claim: Option<Claim<'static>>,
    /// Made by `Box::into_raw`: a box would claim to be the only way to the engine, beside the claim's.
    engine: NonNull<Engine>,
    pub(crate) front: Front,
    pub(crate) desk: Rc<RefCell<Desk>>,
    pub(crate) salt: Salt,
    /// Calls that foreign code made and that are not over.
    pub(crate) made: Known<CallKey>,
    pub(crate) channels: Table<Target>,
    /// Services that are not served yet.
    pub(crate) services: Vec<Foreign>,
    pub(crate) methods: u32,
    /// Other threads that wait in functions of this engine, if it has a thread of its own.
    pub(crate) waiting: Waiting,
    /// Memory of foreign code that is being sent.
    pub(crate) lent: Lent,
    /// Calls are served or made: no service can be added any more.
    pub(crate) settled: bool,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.claim = None;
        // SAFETY: made by `Box::into_raw` in `start`, and freed here only; the claim, the one borrower, is gone.
        drop(unsafe { Box::from_raw(self.engine.as_ptr()) });
    }
}

/// Servers of one engine.
const CHANNELS_MAX: usize = 1024;
/// Calls of one engine that are under way; each server allows fewer per connection.
const CALLS_MAX: usize = 1 << 24;

impl Core {
    pub(crate) fn start(
        config: &EngineConfig,
        id: u64,
        woken: &'static AtomicBool,
    ) -> Result<Self, Fail> {
        let engine = config.engine()?.build();
        let engine = engine.map_err(|error| {
            let code = match error {
                StartError::Config(_) => Rw::E_INVALID,
                _ => Rw::E_SYSTEM,
            };
            Fail::new(code, error.to_string())
        })?;
        let salt = Salt::of(id);
        let desk = Rc::new(RefCell::new(Desk::new(salt)));
        let node = Node::clients_only(Clients::default());
        Ok(Self {
            claim: None,
            engine: NonNull::from(Box::leak(Box::new(engine))),
            front: Front::new(Rc::clone(&desk), node, config.leases_max(), woken),
            desk,
            salt,
            made: Known::new(Kind::Call, salt, CALLS_MAX),
            channels: Table::new(CHANNELS_MAX),
            services: Vec::new(),
            methods: 0,
            waiting: Waiting::default(),
            lent: Lent::new(),
            settled: false,
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        // SAFETY: alive until `drop`; a new core has no claim.
        unsafe { self.engine.as_ref() }.handle()
    }

    /// Refuses while a claim is open.
    #[inline]
    pub(crate) fn unclaimed(&self) -> Result<(), Fail> {
        if self.claim.is_none() {
            return Ok(());
        }
        let text = "a claim is open; commit or abort it first";
        Err(Fail::new(Rw::E_BUSY, text))
    }

    /// The engine with its handler. Panics while a claim is open, which [`unclaimed`](Self::unclaimed) tells.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut Engine, &mut Front) {
        assert!(self.claim.is_none(), "the open claim borrows the engine");
        // SAFETY: alive until `drop`; no claim borrows it; the result borrows `self`.
        let engine = unsafe { self.engine.as_mut() };
        (engine, &mut self.front)
    }

    #[inline]
    pub(crate) fn engine(&mut self) -> &mut Engine {
        self.parts().0
    }

    /// The node's clients, with the context that they work in.
    #[inline]
    pub(crate) fn clients(&mut self) -> (Context<'_>, &mut Clients) {
        let (engine, front) = self.parts();
        (engine.context(), front.node.clients())
    }

    /// Opens a claim.
    #[inline]
    pub(crate) fn claim(
        &mut self,
        make: impl FnOnce(&mut Context<'_>) -> Result<Claim<'static>, Fail>,
    ) -> Result<&mut Claim<'static>, Fail> {
        let claim = make(&mut self.engine().context())?;
        Ok(self.claim.insert(claim))
    }

    /// Takes the open claim.
    #[inline]
    pub(crate) fn take_claim(&mut self) -> Result<Claim<'static>, Fail> {
        let claim = self.claim.take();
        claim.ok_or_else(|| Fail::new(Rw::E_STATE, "there is no open claim"))
    }

    pub(crate) fn connection(&self, id: u64) -> ConnectionId {
        ConnectionId::from_bits(self.salt.mix(Kind::Connection, id))
    }

    /// A connection for messages that lives.
    #[inline]
    pub(crate) fn plain(&self, id: u64) -> Result<ConnectionId, Fail> {
        let connection = self.connection(id);
        if self.front.is_plain(connection) {
            Ok(connection)
        } else {
            Err(Fail::stale("connection"))
        }
    }

    pub(crate) fn call(&self, id: u64) -> Result<CallKey, Fail> {
        self.made.key(id).ok_or_else(|| Fail::stale("call"))
    }

    /// Turns the engine once under its idle policy, and makes events of what happened to calls.
    #[inline]
    pub(crate) fn turn(&mut self, limit: Option<Duration>) {
        let (engine, front) = self.parts();
        front.resume(&mut engine.context());
        // Who has not looked at all owed calls does not sleep: none may be over unseen.
        let busy = front.desk.borrow().is_sweeping();
        let work = if busy || limit == Some(Duration::ZERO) {
            engine.turn(front)
        } else {
            engine.wait(front, limit)
        };
        self.gather();
        let mut desk = self.desk.borrow_mut();
        self.lent.gather(&mut desk.events);
        desk.sweep(work > 0);
    }

    /// Gets ready for a sleep in a loop of others; false if something waits already.
    pub(crate) fn arm(&mut self) -> Result<bool, Fail> {
        let desk = self.desk.borrow();
        // Who has not looked at all owed calls does not sleep: `rw_poll` looks on.
        if !desk.events.is_empty() || desk.is_sweeping() {
            return Ok(false);
        }
        drop(desk);
        let (engine, front) = self.parts();
        front.resume(&mut engine.context());
        let armed = engine.arm(front).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Fail::new(Rw::E_STATE, "ask for the descriptor by rw_event_fd first")
            }
            _ => Fail::new(Rw::E_SYSTEM, error.to_string()),
        })?;
        self.gather();
        let mut desk = self.desk.borrow_mut();
        self.lent.gather(&mut desk.events);
        // Whatever happened, owed calls may be over by it.
        desk.sweep(!armed);
        Ok(armed && desk.events.is_empty() && !desk.is_sweeping())
    }

    /// When a wait of so many nanoseconds ends; never, if it is negative.
    pub(crate) fn until(&mut self, timeout_ns: i64) -> Option<Instant> {
        let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
        timeout.map(|timeout| self.engine().now() + timeout)
    }

    /// Turns once towards `until`, or without a limit; false when the time is up.
    #[inline]
    pub(crate) fn turn_until(&mut self, until: Option<Instant>) -> bool {
        let left = until.map(|until| until.saturating_since(self.engine().now()));
        self.turn(left);
        left.is_none_or(|left| !left.is_zero())
    }

    /// What happened to calls becomes events.
    #[inline]
    pub(crate) fn gather(&mut self) {
        while let Some((key, happened)) = self.front.node.clients().next_event() {
            let (kind, held, status) = match happened {
                CallEvent::Message(slice, cost) => (
                    kind::STREAM_MESSAGE,
                    Some(Held::Stream(slice, key, cost)),
                    0,
                ),
                CallEvent::Writable => (kind::STREAM_WRITABLE, None, 0),
                CallEvent::Ended(answer) => {
                    let status = i32::from(answer.status.code.to_wire());
                    let held = match answer {
                        // The usual case: the message and nothing else, which needs no box.
                        answer if status == 0 && answer.metadata.is_empty() => {
                            answer.message.map(Held::Shared)
                        }
                        answer => Some(Held::Ended(Box::new(answer))),
                    };
                    (kind::RESPONSE, held, status)
                }
            };
            let made = match kind {
                kind::RESPONSE => self.made.remove(key),
                _ => self.made.own(key),
            };
            let Some(made) = made else { continue };
            let mut event = Event::new(kind, made.id);
            event.user = made.user;
            event.status = status;
            let mut desk = self.desk.borrow_mut();
            match held {
                Some(held) => desk.deliver(event, held),
                None => desk.events.push_back(event),
            }
        }
    }
}
