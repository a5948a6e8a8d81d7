//! Accepted connections of one engine: the call machine of each, and which of its calls are open.

use std::rc::Rc;

use ringway_buf::{Id, Instant};
use ringway_call::{CallId, Callee};
use ringway_engine::{ConnectionId, TimerId};

use crate::context::Origin;

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: ConnectionId,
    pub(crate) callee: Callee,
    pub(crate) origin: Rc<Origin>,
    /// Open calls by slot; grows to the slots that were used.
    live: Vec<Option<Id>>,
    /// The engine was asked to keep the connection open while it drains.
    pub(crate) is_held: bool,
    /// When the node looks at the machine's deadlines next.
    pub(crate) due: Instant,
    /// When it is drained for its age.
    pub(crate) age: Option<TimerId>,
}

impl Session {
    pub(crate) fn new(id: ConnectionId, callee: Callee, origin: Origin) -> Self {
        Self {
            id,
            callee,
            origin: Rc::new(origin),
            live: Vec::new(),
            is_held: false,
            due: Instant::MAX,
            age: None,
        }
    }

    /// Notes that a call of this connection is open, or no longer.
    pub(crate) fn set_live(&mut self, call: CallId, live: Option<Id>) {
        let at = call.slot() as usize;
        if self.live.len() <= at {
            if live.is_none() {
                return;
            }
            // The machine has checked the slot against `calls_max`.
            self.live.resize(at + 1, None);
        }
        if let Some(entry) = self.live.get_mut(at) {
            *entry = live;
        }
    }

    pub(crate) fn live(&self, call: CallId) -> Option<Id> {
        self.live.get(call.slot() as usize).copied().flatten()
    }

    /// All open calls, which are open no longer.
    pub(crate) fn take_live(&mut self) -> impl Iterator<Item = Id> {
        core::mem::take(&mut self.live).into_iter().flatten()
    }
}

/// All accepted connections; an id of one that is gone finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: Vec<Option<Box<Session>>>,
    count: usize,
}

/// Where a connection's id points.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is the index"
)]
fn index(id: ConnectionId) -> usize {
    id.to_bits() as u32 as usize
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The engine gives small numbers and uses them again, so that the table stays as large as its connections.
    pub(crate) fn insert(&mut self, session: Session) {
        let at = index(session.id);
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        if let Some(entry) = self.entries.get_mut(at) {
            self.count += usize::from(entry.is_none());
            *entry = Some(Box::new(session));
        }
    }

    #[inline]
    pub(crate) fn find(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let session = self.entries.get_mut(index(id))?.as_deref_mut()?;
        (session.id == id).then_some(session)
    }

    pub(crate) fn contains(&self, id: ConnectionId) -> bool {
        let entry = self.entries.get(index(id)).and_then(Option::as_ref);
        entry.is_some_and(|session| session.id == id)
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Session>> {
        let entry = self.entries.get_mut(index(id))?;
        if entry.as_ref()?.id != id {
            return None;
        }
        self.count -= 1;
        entry.take()
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let all = self.entries.iter().flatten();
        all.map(|session| session.id).collect()
    }
}
