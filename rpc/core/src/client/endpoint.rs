//! A server as this engine knows it: its address, its methods, its connection, and what waits for one.

use core::time::Duration;
use std::collections::VecDeque;

use ringway_buf::Instant;
use ringway_call::{Binding, Bound, Code, Status};
use ringway_engine::ConnectionId;

use super::remote::Pending;
use crate::service::Method;

/// First wait after a failed attempt; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection that lived shorter than this has not worked: the next attempt waits as after a failed one.
const PROVEN_AFTER: Duration = Duration::from_secs(1);
/// Calls that may wait for a connection or for room on it, per server.
pub(crate) const WAITING_MAX: usize = 1024;

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The first attempt, or one after a connection that had been ready.
    Connecting(ConnectionId),
    Ready(ConnectionId),
    /// An attempt failed; the next one comes by timer.
    Failing,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) state: State,
    /// All methods that are called there, in the order of their indices on every connection.
    pub(crate) methods: Vec<Binding>,
    /// The server's last word about each.
    pub(crate) bound: Vec<Option<Bound>>,
    /// Services that were bound whole, and the index of their first method.
    pub(crate) services: Vec<(&'static [Method], u32)>,
    /// Calls that wait for the connection, oldest first.
    pub(crate) waiting: VecDeque<Pending>,
    /// Since when calls can go there.
    ready_since: Instant,
    /// Failed attempts in a row.
    failures: u32,
    /// Why the last attempt failed.
    pub(crate) trouble: Option<String>,
    /// Nobody calls there any more.
    pub(crate) closing: bool,
}

impl Endpoint {
    pub(crate) fn new(address: &str, connection: Option<ConnectionId>) -> Self {
        Self {
            address: address.to_owned(),
            state: connection.map_or(State::Failing, State::Connecting),
            methods: Vec::new(),
            bound: Vec::new(),
            services: Vec::new(),
            waiting: VecDeque::new(),
            ready_since: Instant::ZERO,
            failures: 0,
            trouble: None,
            closing: false,
        }
    }

    /// Its connection, if calls can go there now.
    #[inline]
    pub(crate) fn ready(&self) -> Option<ConnectionId> {
        match self.state {
            State::Ready(connection) => Some(connection),
            State::Connecting(_) | State::Failing => None,
        }
    }

    pub(crate) fn is_current(&self, connection: ConnectionId) -> bool {
        matches!(self.state, State::Connecting(it) | State::Ready(it) if it == connection)
    }

    pub(crate) fn succeeded(&mut self, connection: ConnectionId, now: Instant) {
        self.state = State::Ready(connection);
        self.ready_since = now;
        self.trouble = None;
    }

    /// Its connection was ready and is gone, or goes: whether to try again at once.
    pub(crate) fn has_worked(&mut self, now: Instant) -> bool {
        let proven = now - self.ready_since >= PROVEN_AFTER;
        if proven {
            self.failures = 0;
        }
        proven
    }

    /// An attempt failed: how long to wait before the next one. `random` spreads many clients.
    pub(crate) fn failed(&mut self, why: String, random: u64) -> Duration {
        self.state = State::Failing;
        self.trouble = Some(why);
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(BACKOFF_MAX);
        // 80 to 120 %.
        let percent = 80 + (random % 41) as u32;
        wait * percent / 100
    }

    /// What a call that does not wait gets while there is no connection.
    pub(crate) fn unavailable(&self) -> Status {
        let why = self.trouble.as_deref().unwrap_or("not connected yet");
        let text = format!("{}: {why}", self.address);
        Status::new(Code::Unavailable, &text).not_started()
    }

    /// What a call of a method gets that the server refused to bind.
    pub(crate) fn refusal(&self, method: u32) -> Option<Status> {
        let bound = self.bound.get(method as usize).copied().flatten()?;
        let code = match bound {
            Bound::Ok => return None,
            Bound::Unknown => Code::Unimplemented,
            _ => Code::FailedPrecondition,
        };
        Some(Status::of(code, bound.text()).not_started())
    }
}
