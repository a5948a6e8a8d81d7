//! One engine of foreign code: engine, handler, the claim that is open, the calls that were made.

use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use ringway::rpc::{CallEvent, CallKey, Clients, Node, Target};
use ringway::{Claim, ConnectionId, Context, Engine, Handle};
use ringway_buf::{Id, Table};

use crate::config::EngineConfig;
use crate::event::{Event, kind};
use crate::front::{Desk, Front, Held};
use crate::guard::{Fail, Rw};
use crate::ids::{Kind, Salt};
use crate::serve::Foreign;

/// Calls of foreign code that are under way, by what the node calls them.
type Calls = HashMap<CallKey, Made, BuildHasherDefault<Fold>>;

/// A call that foreign code made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) id: u64,
    pub(crate) user: u64,
}

/// Folds the few words of a key; the keys are this engine's own, so nobody can choose them.
#[derive(Debug, Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

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
    pub(crate) made: Table<CallKey>,
    calls: Calls,
    pub(crate) channels: Table<Target>,
    /// Services that are not served yet.
    pub(crate) services: Vec<Foreign>,
    pub(crate) methods: u32,
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
        let engine = engine.map_err(|error| Fail::new(Rw::E_SYSTEM, error.to_string()))?;
        let salt = Salt::of(id);
        let desk = Rc::new(RefCell::new(Desk::new(salt)));
        let node = Node::clients_only(Clients::default());
        Ok(Self {
            claim: None,
            engine: NonNull::from(Box::leak(Box::new(engine))),
            front: Front::new(Rc::clone(&desk), node, config.leases_max(), woken),
            desk,
            salt,
            made: Table::new(CALLS_MAX),
            calls: Calls::default(),
            channels: Table::new(CHANNELS_MAX),
            services: Vec::new(),
            methods: 0,
            settled: false,
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        // SAFETY: alive until `drop`; a new core has no claim.
        unsafe { self.engine.as_ref() }.handle()
    }

    /// The engine with its handler, unless a claim is open.
    #[inline]
    pub(crate) fn parts(&mut self) -> Result<(&mut Engine, &mut Front), Fail> {
        if self.claim.is_some() {
            let text = "a claim is open; commit or abort it first";
            return Err(Fail::new(Rw::E_BUSY, text));
        }
        // SAFETY: alive until `drop`; no claim borrows it; the result borrows `self`.
        let engine = unsafe { self.engine.as_mut() };
        Ok((engine, &mut self.front))
    }

    #[inline]
    pub(crate) fn engine(&mut self) -> Result<&mut Engine, Fail> {
        self.parts().map(|(engine, _)| engine)
    }

    /// Opens a claim.
    #[inline]
    pub(crate) fn claim(
        &mut self,
        make: impl FnOnce(&mut Context<'_>) -> Result<Claim<'static>, Fail>,
    ) -> Result<&mut Claim<'static>, Fail> {
        let engine = self.engine()?;
        let claim = make(&mut engine.context())?;
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

    /// A call was made: its id for foreign code.
    #[inline]
    pub(crate) fn remember(&mut self, key: CallKey, user: u64) -> Result<u64, Fail> {
        let Ok(id) = self.made.insert(key) else {
            return Err(Fail::new(Rw::E_LIMIT, "too many calls are under way"));
        };
        let id = self.salt.mix(Kind::Call, id.to_bits());
        self.calls.insert(key, Made { id, user });
        Ok(id)
    }

    pub(crate) fn call(&self, id: u64) -> Result<CallKey, Fail> {
        let key = self.made.get(Id::from_bits(self.salt.mix(Kind::Call, id)));
        key.copied().ok_or_else(|| Fail::stale("call"))
    }

    pub(crate) fn forget(&mut self, key: CallKey) -> Option<Made> {
        let made = self.calls.remove(&key)?;
        self.made
            .remove(Id::from_bits(self.salt.mix(Kind::Call, made.id)));
        Some(made)
    }

    /// Turns the engine once under its idle policy, and makes events of what happened to calls.
    #[inline]
    pub(crate) fn turn(&mut self, limit: Option<Duration>) -> Result<(), Fail> {
        let (engine, front) = self.parts()?;
        if !front.held_back.is_empty() {
            front.resume(&mut engine.context());
        }
        if limit == Some(Duration::ZERO) {
            engine.turn(front);
        } else {
            engine.wait(front, limit);
        }
        self.gather();
        Ok(())
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
                kind::RESPONSE => self.forget(key),
                _ => self.calls.get(&key).copied(),
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
        self.desk.borrow_mut().sweep();
    }
}
