//! Deadlines of one engine, in user space.
//!
//! The next deadline rides on the driver's sleep; a timer operation of the kernel would cost forty times as
//! much. An entry that was superseded stays in the heap and is recognised when it is due, so re-arming a
//! busy connection costs nothing.

use ringway_buf::{Alarms, Id, Instant, Table};

use crate::packet::EndpointId;
use crate::{ConnectionId, ListenerId};

/// A timer set by a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub(crate) Id);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Connection(ConnectionId),
    /// A connection that is paused gives a sign of life.
    Paused(ConnectionId),
    Listener(ListenerId),
    Endpoint(EndpointId),
    User(TimerId),
}

/// Most entries that fire in one turn; the rest fires in the next.
pub(crate) const TURN_TIMERS_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Timers {
    heap: Alarms<Due>,
    user: Table<Instant>,
}

impl Timers {
    pub(crate) fn new(user_max: usize) -> Self {
        Self {
            heap: Alarms::new(),
            user: Table::new(user_max),
        }
    }

    pub(crate) fn arm(&mut self, at: Instant, due: Due) {
        self.heap.arm(at, due);
    }

    /// An endpoint's entry has been followed by an earlier one. `is_armed` knows those that count.
    pub(crate) fn supersede(&mut self, is_armed: impl Fn(EndpointId, Instant) -> bool) {
        self.heap.supersede(|at, due| match due {
            Due::Endpoint(id) => is_armed(id, at),
            _ => true,
        });
    }

    /// A superseded entry came due.
    pub(crate) fn outlived(&mut self) {
        self.heap.outlived();
    }

    /// The earliest entry; it may turn out to be superseded.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.next()
    }

    /// Takes one entry that is due at `now`. Cancelled user timers are skipped.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, Due)> {
        while let Some((at, due)) = self.heap.pop(now) {
            match due {
                Due::User(TimerId(id)) if self.user.remove(id).is_none() => {}
                _ => return Some((at, due)),
            }
        }
        None
    }

    /// Sets a user timer; `None` when `timers_max` are set.
    pub(crate) fn set(&mut self, at: Instant) -> Option<TimerId> {
        let id = TimerId(self.user.insert(at).ok()?);
        self.arm(at, Due::User(id));
        Some(id)
    }

    /// Cancels a user timer; false when it fired already.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let found = self.user.remove(id.0).is_some();
        // Cancelled entries wait in the heap; sweep them before they outnumber the living ones.
        if self.heap.len() > 4 * (self.user.len() + 256) {
            self.sweep();
        }
        found
    }

    fn sweep(&mut self) {
        let user = &self.user;
        self.heap.retain(|due| match due {
            Due::User(TimerId(id)) => user.get(id).is_some(),
            Due::Connection(_) | Due::Paused(_) | Due::Listener(_) | Due::Endpoint(_) => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn timers_fire_in_order_and_once() {
        let mut timers = Timers::new(8);
        let late = timers.set(at(20)).unwrap();
        let early = timers.set(at(10)).unwrap();
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(25)), Some((at(10), Due::User(early))));
        assert_eq!(timers.pop(at(25)), Some((at(20), Due::User(late))));
        assert_eq!(timers.pop(at(25)), None);
        assert!(!timers.cancel(late), "fired already");
    }

    #[test]
    fn a_cancelled_timer_never_fires_even_if_its_place_is_reused() {
        let mut timers = Timers::new(1);
        let first = timers.set(at(10)).unwrap();
        assert!(timers.set(at(11)).is_none(), "full");
        assert!(timers.cancel(first));
        let second = timers.set(at(30)).unwrap();
        assert_eq!(timers.pop(at(20)), None);
        assert_eq!(timers.pop(at(30)), Some((at(30), Due::User(second))));
    }

    #[test]
    fn cancelling_does_not_grow_the_heap_without_bound() {
        let mut timers = Timers::new(8);
        for nanos in 0..100_000 {
            let timer = timers.set(at(nanos)).unwrap();
            timers.cancel(timer);
        }
        assert!(timers.heap.len() <= 4 * 257, "{}", timers.heap.len());
    }
}
