//! Packets that arrived: which are new, and what is to be acknowledged when.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "packet numbers below 2^62, and instants that saturate"
    )
)]

use core::time::Duration;

use ringway_buf::Instant;

use super::number::{expand, low};
use super::ranges::Ranges;
use super::wire::{ACK_PAIRS_MAX, Ack};

/// Most ranges that are remembered; numbers below the lowest count as known.
const RANGES_MAX: usize = 64;
/// Packets that may wait for their acknowledgement within one batch.
const PENDING_MAX: u32 = 2;

#[derive(Debug, Default)]
pub(crate) struct Received {
    ranges: Ranges,
    /// Numbers below it are taken for duplicates.
    floor: u64,
    /// Numbers below it need no acknowledgement any more.
    acked_floor: u64,
    largest_at: Instant,
    /// Packets that wait for their acknowledgement.
    pending: u32,
    at_once: bool,
    /// The first of them came since the session had its last turn to send.
    is_fresh: bool,
    due: Option<Instant>,
    ce: u32,
}

impl Received {
    pub(crate) fn largest(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.end - 1)
    }

    /// The whole number of a packet.
    pub(crate) fn expand(&self, number: u32) -> u64 {
        expand(self.ranges.last().map_or(0, |range| range.end), number)
    }

    pub(crate) fn is_new(&self, number: u64) -> bool {
        number >= self.floor && !self.ranges.contains(number)
    }

    /// Notes a packet. What arrives out of order, fills a gap or is marked is acknowledged at once.
    pub(crate) fn on_packet(
        &mut self,
        number: u64,
        eliciting: bool,
        is_marked: bool,
        delay: Duration,
        now: Instant,
    ) {
        let expected = self.ranges.last().map_or(0, |range| range.end);
        self.ranges.insert(number..number + 1);
        if number >= expected {
            self.largest_at = now;
        }
        if self.ranges.len() > RANGES_MAX
            && let Some(end) = self.ranges.drop_lowest()
        {
            self.floor = self.floor.max(end);
        }
        if is_marked {
            self.ce = self.ce.wrapping_add(1);
        }
        if eliciting {
            self.is_fresh |= self.pending == 0;
            self.pending += 1;
            self.at_once |= number != expected || is_marked;
            self.due.get_or_insert(now + delay);
        }
    }

    /// A batch has ended: if it held several packets, they are acknowledged together, without delay.
    pub(crate) fn on_batch_end(&mut self, now: Instant) {
        if self.pending >= PENDING_MAX {
            self.due = Some(now);
        }
    }

    /// The session had its turn to send. What came before it has waited for what its owner sends in answer.
    pub(crate) fn on_turn(&mut self) {
        self.is_fresh = false;
    }

    /// An acknowledgement is to be sent even if it has to travel alone.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let has_waited = !self.is_fresh && self.due.is_some_and(|due| due <= now);
        self.pending > 0 && (self.at_once || has_waited)
    }

    /// An acknowledgement is worth its bytes in a packet that leaves anyway.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending > 0
    }

    /// When [`is_due`](Self::is_due) turns true.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.pending == 0 {
            return None;
        }
        if self.at_once {
            return Some(Instant::ZERO);
        }
        self.due
    }

    /// Asks for an acknowledgement now.
    pub(crate) fn hurry(&mut self) {
        self.pending = self.pending.max(1);
        self.at_once = true;
    }

    /// The acknowledgement to be sent now, and the largest number in it.
    pub(crate) fn ack(&self, now: Instant) -> Option<(Ack, u64)> {
        let mut ranges = self.ranges.iter().rev();
        let newest = ranges.next()?;
        let largest = newest.end - 1;
        let below = largest - newest.start;
        let first = u8::try_from(below).unwrap_or(u8::MAX);
        let held = now.saturating_since(self.largest_at).as_micros();
        let mut ack = Ack {
            largest: low(largest),
            delay_us: u16::try_from(held).unwrap_or(u16::MAX),
            first,
            ce: (self.ce > 0).then_some(self.ce),
            ..Ack::default()
        };
        let mut next = largest - u64::from(first);
        let mut rest = below - u64::from(first);
        let mut count = 0;
        // What does not fit the small field goes on in pairs without a gap.
        while rest > 0 && count < ACK_PAIRS_MAX {
            let len = u16::try_from(rest).unwrap_or(u16::MAX);
            if let Some(pair) = ack.pairs.get_mut(count) {
                *pair = (0, len);
            }
            rest -= u64::from(len);
            next -= u64::from(len);
            count += 1;
        }
        for range in ranges {
            if count == ACK_PAIRS_MAX || range.end <= self.acked_floor || rest > 0 {
                break;
            }
            let Ok(gap) = u16::try_from(next - range.end) else {
                break;
            };
            let len = u16::try_from(range.end - range.start).unwrap_or(u16::MAX);
            if let Some(pair) = ack.pairs.get_mut(count) {
                *pair = (gap, len);
            }
            count += 1;
            next = range.end - u64::from(len);
            if next > range.start {
                break;
            }
        }
        ack.pair_count = u8::try_from(count).unwrap_or(0);
        Some((ack, largest))
    }

    /// The acknowledgement left.
    pub(crate) fn on_ack_sent(&mut self) {
        self.pending = 0;
        self.at_once = false;
        self.due = None;
    }

    /// The peer has seen an acknowledgement up to this number.
    pub(crate) fn on_ack_seen(&mut self, largest: u64) {
        self.acked_floor = self.acked_floor.max(largest);
        // What is long settled needs no memory; a little stays, to tell late packets from new ones.
        let floor = self.acked_floor.saturating_sub(1024);
        if floor > self.floor {
            self.floor = floor;
            self.ranges.forget_below(floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_micros(25);

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    /// The numbers that an acknowledgement names.
    fn numbers(ack: &Ack) -> Vec<u64> {
        let mut low = u64::from(ack.largest) - u64::from(ack.first);
        let mut all: Vec<u64> = (low..=u64::from(ack.largest)).collect();
        for (gap, len) in ack.pairs() {
            let high = low - 1 - u64::from(*gap);
            low = high + 1 - u64::from(*len);
            all.extend(low..=high);
        }
        all.sort_unstable();
        all
    }

    // docs/wire/rudp.md#acknowledgements
    #[test]
    fn one_packet_in_order_waits_and_a_gap_does_not() {
        let mut received = Received::default();
        received.on_packet(0, true, false, DELAY, at(0));
        received.on_batch_end(at(0));
        received.on_turn();
        assert!(!received.is_due(at(24)) && received.is_due(at(25)));
        received.on_ack_sent();
        assert_eq!(received.due(), None);
        for number in [1, 2] {
            received.on_packet(number, true, false, DELAY, at(26));
        }
        received.on_batch_end(at(26));
        assert!(!received.is_due(at(60)), "the owner may answer");
        received.on_turn();
        assert!(received.is_due(at(26)), "a batch");
        received.on_ack_sent();
        received.on_packet(4, true, false, DELAY, at(30));
        assert!(received.is_due(at(30)), "a gap");
        received.on_ack_sent();
        received.on_packet(5, false, false, DELAY, at(31));
        assert!(
            !received.is_pending(),
            "an acknowledgement is not acknowledged"
        );
        received.on_packet(6, true, true, DELAY, at(31));
        assert!(received.is_due(at(31)), "marked");
    }

    #[test]
    fn duplicates_and_what_is_long_settled_are_not_new() {
        let mut received = Received::default();
        for number in 0..5000 {
            assert!(received.is_new(number));
            received.on_packet(number, true, false, DELAY, at(1));
        }
        received.on_ack_seen(4999);
        assert!(!received.is_new(4999) && !received.is_new(100) && received.is_new(5000));
        let many = (6000..7000).step_by(2);
        many.for_each(|number| received.on_packet(number, true, false, DELAY, at(2)));
        assert!(received.ranges.len() <= RANGES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_acknowledged_arrived(order in prop::collection::vec(0..900_u64, 1..300)) {
            let mut received = Received::default();
            for number in &order {
                if received.is_new(*number) {
                    received.on_packet(*number, true, false, DELAY, at(1));
                }
                let (ack, largest) = received.ack(at(3)).unwrap();
                let named = numbers(&ack);
                prop_assert_eq!(named.last(), Some(&largest));
                prop_assert!(named.iter().all(|number| order.contains(number)));
                prop_assert!(ack.delay_us <= 3);
            }
        }

        #[test]
        fn long_runs_are_named_whole(run in 1..70_000_u64) {
            let mut received = Received::default();
            received.ranges.insert(0..run);
            let (ack, _) = received.ack(at(0)).unwrap();
            prop_assert_eq!(numbers(&ack).len() as u64, run);
        }
    }
}
