//! One outgoing connection: its call machine, and who waits for each of its calls.

use std::sync::Arc;

use ringway_buf::{Id, Instant};
use ringway_call::{CallId, Caller};
use ringway_engine::{ConnectionId, TimerId};

use super::nested::Continuation;
use super::request::Request;

/// A call on its connection, unique as long as the engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    pub(crate) connection: ConnectionId,
    pub(crate) call: CallId,
}

/// Who waits for a call.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// The owner of the engine, who looks into the inbox.
    Owner,
    /// A piece of a handler.
    Then(Continuation),
    /// Another thread.
    Remote(Arc<Request>),
    /// Nobody: what still comes is dropped.
    Nobody,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: ConnectionId,
    pub(crate) endpoint: Id,
    pub(crate) caller: Caller,
    waiters: Vec<(CallId, Waiter)>,
    /// The engine's timer for the earliest deadline.
    pub(crate) timer: Option<(TimerId, Instant)>,
    /// The server drains: it ends with its last call.
    pub(crate) draining: bool,
}

impl Session {
    pub(crate) fn new(id: ConnectionId, endpoint: Id, caller: Caller) -> Self {
        Self {
            id,
            endpoint,
            caller,
            waiters: Vec::new(),
            timer: None,
            draining: false,
        }
    }

    #[inline]
    pub(crate) fn set_waiter(&mut self, call: CallId, waiter: Waiter) {
        let at = call.slot() as usize;
        if self.waiters.len() <= at {
            // The machine has checked the slot against the server's `calls_max`.
            self.waiters
                .resize_with(at + 1, || (CallId::ONE_WAY, Waiter::Nobody));
        }
        if let Some(entry) = self.waiters.get_mut(at) {
            *entry = (call, waiter);
        }
    }

    #[inline]
    pub(crate) fn take_waiter(&mut self, call: CallId) -> Waiter {
        match self.waiters.get_mut(call.slot() as usize) {
            Some(entry) if entry.0 == call => core::mem::replace(&mut entry.1, Waiter::Nobody),
            _ => Waiter::Nobody,
        }
    }

    #[inline]
    pub(crate) fn waiter(&self, call: CallId) -> &Waiter {
        match self.waiters.get(call.slot() as usize) {
            Some((known, waiter)) if *known == call => waiter,
            _ => &Waiter::Nobody,
        }
    }

    /// The engine ends: calls of other threads are told.
    pub(crate) fn abandon(&mut self) {
        for (_, waiter) in self.waiters.drain(..) {
            if let Waiter::Remote(request) = waiter {
                request.lost();
            }
        }
    }
}

/// All outgoing connections; an id of one that is gone finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Vec<Option<Box<Session>>>);

/// Where a connection's id points.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is the index"
)]
fn index(id: ConnectionId) -> usize {
    id.to_bits() as u32 as usize
}

impl Sessions {
    pub(crate) fn insert(&mut self, session: Session) {
        let at = index(session.id);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        if let Some(entry) = self.0.get_mut(at) {
            *entry = Some(Box::new(session));
        }
    }

    #[inline]
    pub(crate) fn find(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let session = self.0.get_mut(index(id))?.as_deref_mut()?;
        (session.id == id).then_some(session)
    }

    #[inline]
    pub(crate) fn contains(&self, id: ConnectionId) -> bool {
        let entry = self.0.get(index(id)).and_then(Option::as_ref);
        entry.is_some_and(|session| session.id == id)
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Session>> {
        let entry = self.0.get_mut(index(id))?;
        if entry.as_ref()?.id != id {
            return None;
        }
        entry.take()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.0.iter_mut().flatten().map(|session| &mut **session)
    }

    pub(crate) fn of_timer(&self, timer: TimerId) -> Option<ConnectionId> {
        let mut all = self.0.iter().flatten();
        let found = all.find(|session| session.timer.is_some_and(|(it, _)| it == timer))?;
        Some(found.id)
    }
}
