//! Times at which somebody wants to be woken: a heap of lazily checked entries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Instant;

/// So many superseded entries, and as many as are not, and they are swept out.
const SUPERSEDED_MAX: usize = 16;

/// A heap of deadlines. Its user remembers for each key which entry counts; one that was followed by another stays
/// until it comes due, so that setting a deadline anew costs nothing.
///
/// A key at rest waits for seconds, a busy one for microseconds, and each change leaves an entry behind: those are
/// [swept out](Self::supersede) before they outnumber the living. Memory stays within twice that of the entries that
/// count, and 16.
#[derive(Debug)]
pub struct Alarms<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
    superseded: usize,
}

impl<K: Ord + Copy> Default for Alarms<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Copy> Alarms<K> {
    /// No entries, and room for 64: the only allocation while there are no more.
    #[must_use]
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::with_capacity(4 * SUPERSEDED_MAX),
            superseded: 0,
        }
    }

    /// Adds an entry.
    pub fn arm(&mut self, at: Instant, key: K) {
        self.heap.push(Reverse((at, key)));
    }

    /// The entry that counted for some key was followed by an earlier one. `counts` knows those that still do; it is
    /// asked about each when they are swept.
    pub fn supersede(&mut self, mut counts: impl FnMut(Instant, K) -> bool) {
        self.superseded += 1;
        if self.superseded >= SUPERSEDED_MAX.max(self.heap.len() / 2) {
            self.superseded = 0;
            self.heap.retain(|Reverse((at, key))| counts(*at, *key));
        }
    }

    /// An entry that came due turned out to be superseded.
    pub fn outlived(&mut self) {
        self.superseded = self.superseded.saturating_sub(1);
    }

    /// Keeps those entries only.
    pub fn retain(&mut self, mut keep: impl FnMut(K) -> bool) {
        self.heap.retain(|Reverse((_, key))| keep(*key));
    }

    /// When the earliest entry is due; it may turn out to be superseded.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the earliest entry, if it is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Entries, the superseded ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn entries_come_in_the_order_of_time_and_not_before() {
        let mut alarms = Alarms::new();
        for nanos in [30, 10, 20] {
            alarms.arm(at(nanos), nanos);
        }
        assert_eq!((alarms.len(), alarms.next()), (3, Some(at(10))));
        assert_eq!(alarms.pop(at(9)), None);
        assert_eq!(alarms.pop(at(20)), Some((at(10), 10)));
        assert_eq!(alarms.pop(at(20)), Some((at(20), 20)));
        assert_eq!(alarms.pop(at(20)), None);
        alarms.retain(|key| key != 30);
        assert!(alarms.is_empty());
    }

    #[test]
    fn superseded_entries_do_not_pile_up() {
        let mut alarms = Alarms::new();
        alarms.arm(at(1), 7);
        for nanos in (1000..101_000).rev() {
            alarms.arm(at(nanos), 8);
            alarms.supersede(|armed, key| key == 7 || armed == at(nanos));
            assert!(alarms.len() <= 2 * SUPERSEDED_MAX + 2, "{nanos}");
        }
        assert_eq!(alarms.pop(at(999)), Some((at(1), 7)));
        assert_eq!(alarms.pop(at(1000)), Some((at(1000), 8)));
    }
}
