//! A set of numbers kept as disjoint ranges in ascending order: packets received, bytes acknowledged.
//!
//! Arrivals in order extend the last range, so the usual insertion looks at one element. The caller bounds the
//! number of ranges, see [`drop_lowest`](Ranges::drop_lowest).

use alloc::vec::Vec;
use core::ops::Range;

/// Disjoint, ascending, never adjacent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Range<u64>> {
        self.0.iter()
    }

    pub(crate) fn last(&self) -> Option<&Range<u64>> {
        self.0.last()
    }

    /// Index of the first range that ends at or behind `at`.
    fn position(&self, at: u64) -> usize {
        match self.0.last() {
            Some(last) if last.start <= at => {
                self.0.len().saturating_sub(usize::from(last.end >= at))
            }
            _ => self.0.partition_point(|range| range.end < at),
        }
    }

    /// Adds a range and returns how many of its numbers are new.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let from = self.position(range.start);
        let mut merged = range.clone();
        let mut known: u64 = 0;
        let mut to = from;
        while let Some(other) = self.0.get(to).filter(|other| other.start <= range.end) {
            let overlap = other
                .end
                .min(range.end)
                .saturating_sub(other.start.max(range.start));
            known = known.saturating_add(overlap);
            merged = merged.start.min(other.start)..merged.end.max(other.end);
            to = to.saturating_add(1);
        }
        match self.0.get_mut(from) {
            Some(first) if to > from => {
                *first = merged;
                self.0.drain(from.saturating_add(1)..to);
            }
            _ => self.0.insert(from, merged),
        }
        range.end.saturating_sub(range.start).saturating_sub(known)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.0
            .get(self.0.partition_point(|range| range.end <= number))
            .is_some_and(|range| range.contains(&number))
    }

    /// The first part of `range` that is not in the set.
    pub(crate) fn missing_in(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut start = range.start;
        let from = self.0.partition_point(|known| known.end <= range.start);
        for known in self.0.get(from..).unwrap_or_default() {
            if known.start > start {
                break;
            }
            start = known.end;
        }
        let next = self
            .0
            .get(self.0.partition_point(|known| known.start <= start));
        let end = next.map_or(range.end, |known| known.start.min(range.end));
        (start < end).then_some(start..end)
    }

    /// Whether the set is exactly `0..end`.
    pub(crate) fn is_whole(&self, end: u64) -> bool {
        matches!(self.0.as_slice(), [only] if only.start == 0 && only.end >= end)
    }

    /// Forgets all numbers below `floor`.
    pub(crate) fn forget_below(&mut self, floor: u64) {
        let gone = self.0.partition_point(|range| range.end <= floor);
        self.0.drain(..gone);
        if let Some(first) = self.0.first_mut() {
            first.start = first.start.max(floor);
        }
    }

    /// Forgets the lowest range and returns where it ended.
    pub(crate) fn drop_lowest(&mut self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.remove(0).end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(u64, u64),
        ForgetBelow(u64),
        DropLowest,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            8 => (0..60_u64, 0..12_u64).prop_map(|(at, len)| Operation::Insert(at, at + len)),
            1 => (0..60_u64).prop_map(Operation::ForgetBelow),
            1 => Just(Operation::DropLowest),
        ]
    }

    proptest! {
        #[test]
        fn it_is_the_set_it_stands_for(operations in prop::collection::vec(operation(), 1..80)) {
            let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
            for operation in operations {
                match operation {
                    Operation::Insert(from, to) => {
                        let new = (from..to).filter(|number| model.insert(*number)).count();
                        prop_assert_eq!(ranges.insert(from..to), new as u64);
                    }
                    Operation::ForgetBelow(floor) => {
                        ranges.forget_below(floor);
                        model.retain(|number| *number >= floor);
                    }
                    Operation::DropLowest => {
                        if let Some(end) = ranges.drop_lowest() {
                            model.retain(|number| *number >= end);
                        }
                    }
                }
                let flat: Vec<u64> = ranges.iter().cloned().flatten().collect();
                prop_assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start));
                for number in 0..75 {
                    prop_assert_eq!(ranges.contains(number), model.contains(&number));
                    let missing = (number..number + 9).find(|at| !model.contains(at));
                    let found = ranges.missing_in(number..number + 9);
                    prop_assert_eq!(found.as_ref().map(|range| range.start), missing);
                    if let Some(found) = found {
                        let end = found.end;
                        prop_assert!(found.clone().all(|at| !model.contains(&at)));
                        prop_assert!(end == number + 9 || model.contains(&end));
                    }
                }
            }
        }
    }
}
