//! Virtual time and what is due when. Events of one instant fire in the order in which they were planned.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use ringway_buf::{Id, Instant};

/// Something that happens in the network at its time. An event about something that is gone does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A request to connect reaches its target.
    Syn { end: Id },
    /// The answer reaches who asked: 0 for yes, or an error number.
    SynAnswer { end: Id, errno: i32 },
    /// Bytes up to that offset of the stream reach `end`.
    Segment { end: Id, upto: u64 },
    /// The peer's end of stream reaches `end`.
    Fin { end: Id },
    /// `end` learns that the connection broke.
    Reset { end: Id },
    /// The writer whose bytes go to `end` learns what was read there.
    Credit { end: Id },
    /// A datagram arrives.
    Datagram { flight: Id },
    /// A driver looks at a socket again: a late completion is due.
    Nudge { node: u32, socket: Id },
}

impl Event {
    /// The event as words for the trace.
    pub(crate) fn words(self) -> [u64; 3] {
        match self {
            Self::Syn { end } => [1, end.to_bits(), 0],
            Self::SynAnswer { end, errno } => [2, end.to_bits(), u64::from(errno.unsigned_abs())],
            Self::Segment { end, upto } => [3, end.to_bits(), upto],
            Self::Fin { end } => [4, end.to_bits(), 0],
            Self::Reset { end } => [5, end.to_bits(), 0],
            Self::Credit { end } => [6, end.to_bits(), 0],
            Self::Datagram { flight } => [7, flight.to_bits(), 0],
            Self::Nudge { node, socket } => [8, socket.to_bits(), u64::from(node)],
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    sequence: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// The clock of one network.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Instant,
    sequence: u64,
    due: BinaryHeap<Reverse<Due>>,
}

impl Clock {
    /// Where virtual time starts: not at zero, which is a special value to careless code.
    pub(crate) const START: Instant = Instant::from_nanos(1_000_000_000);

    pub(crate) fn new() -> Self {
        Self {
            now: Self::START,
            sequence: 0,
            due: BinaryHeap::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Plans an event; one in the past happens as soon as time moves.
    ///
    /// The heap needs no limit of its own: each direction of a connection, each socket and each datagram on
    /// its way has a bounded number of events, and so has their sum.
    pub(crate) fn plan(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.due.push(Reverse(Due {
            at: at.max(self.now),
            sequence: self.sequence,
            event,
        }));
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|due| due.0.at)
    }

    /// Moves time forward; it never goes back.
    pub(crate) fn move_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    /// The next event that is due now.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        if self.next()? > self.now {
            return None;
        }
        self.due.pop().map(|due| due.0.event)
    }

    /// Events planned.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}
