//! Datagrams, or whatever else, on their way: bounded, ordered by arrival, then by departure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ringway_buf::{Id, Instant, Table};

/// Things that arrive at their time. Those of one moment keep the order in which they left.
///
/// The heap holds times and ids only, so that a large thing is not moved each time that another one is sorted in.
#[derive(Debug)]
pub struct Flights<T> {
    count: u64,
    due: BinaryHeap<Reverse<(Instant, u64, Id)>>,
    things: Table<T>,
}

impl<T> Flights<T> {
    /// At most `count_max` are on their way at a time.
    #[must_use]
    pub fn new(count_max: usize) -> Self {
        Self {
            count: 0,
            due: BinaryHeap::new(),
            things: Table::new(count_max),
        }
    }

    /// Puts something on its way.
    ///
    /// # Errors
    /// The thing itself, if as many as allowed are on their way.
    pub fn push(&mut self, at: Instant, thing: T) -> Result<(), T> {
        let id = self.things.insert(thing)?;
        self.count += 1;
        self.due.push(Reverse((at, self.count, id)));
        Ok(())
    }

    /// When the next arrives.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next, if it has arrived by `now`.
    #[must_use]
    pub fn peek(&self, now: Instant) -> Option<&T> {
        let Reverse((at, _, id)) = self.due.peek()?;
        self.things.get(*id).filter(|_| *at <= now)
    }

    /// Takes the next, if it has arrived by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        self.peek(now)?;
        let Reverse((_, _, id)) = self.due.pop()?;
        self.things.remove(id)
    }

    /// How many are on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use ringway_buf::Instant;

    use super::Flights;

    #[test]
    fn what_left_first_of_one_moment_arrives_first() {
        let mut flights = Flights::new(4);
        let (one, two) = (Instant::from_nanos(1), Instant::from_nanos(2));
        for (at, thing) in [(two, 'c'), (one, 'a'), (two, 'd'), (one, 'b')] {
            assert_eq!(flights.push(at, thing), Ok(()));
        }
        assert_eq!(flights.push(one, 'x'), Err('x'), "four at most");
        assert_eq!(flights.pop(Instant::ZERO), None, "nothing has arrived");
        assert_eq!(flights.next(), Some(one));
        let arrived: String = std::iter::from_fn(|| flights.pop(one)).collect();
        assert_eq!(arrived, "ab");
        assert_eq!(flights.len(), 2);
        let arrived: String = std::iter::from_fn(|| flights.pop(two)).collect();
        assert_eq!(arrived, "cd");
        assert!(flights.is_empty());
    }
}
