//! Packets that were sent and not yet settled, after RFC 9002.
//!
//! Numbers grow and are never used twice, so a record is found by subtraction. What a packet carried stands in
//! one log behind another; both are rings that grow to a bound and then stay. The span from the oldest
//! unsettled packet to the newest is bounded too, so that one old packet cannot pin memory.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        reason = "packet numbers below 2^62 and bytes of at most SPAN_MAX packets"
    )
)]

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use ringway_buf::Instant;

use super::number::expand;
use super::number::{narrow, short, wide};
use super::room::cost;
use super::wire::{Ack, Lane};

/// Most numbers between the oldest packet that is not settled and the next one.
pub(crate) const SPAN_MAX: u64 = 16 * 1024;

/// A part of a message that a packet carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) lane: Lane,
    pub(crate) id: u64,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What a packet carried that has to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Piece(Piece),
    Credit,
    Confirm,
    Goaway,
    Final,
    Close,
    Room,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Neither acknowledged nor lost.
    Open,
    Acked,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    sent_at: Instant,
    bytes: u32,
    fate: Fate,
    /// A probe of the path's size: its loss says nothing of congestion.
    is_probe: bool,
    /// The window was used up when it left.
    is_limited: bool,
    first: u64,
    count: u32,
    /// Largest packet of the peer that it acknowledged.
    acked: Option<u64>,
}

/// A packet that leaves now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    pub(crate) bytes: usize,
    /// The peer has to acknowledge it.
    pub(crate) eliciting: bool,
    pub(crate) is_probe: bool,
    pub(crate) is_limited: bool,
    pub(crate) acked: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Sent {
    records: VecDeque<Record>,
    /// Number of the first record.
    base: u64,
    log: VecDeque<Carried>,
    log_base: u64,
    /// Bytes of open records.
    pub(crate) in_flight: u64,
    /// What they cost the system of the peer as long as they are not read there.
    pub(crate) held: u64,
    /// Open records.
    pub(crate) open: u64,
    pub(crate) largest_acked: Option<u64>,
    /// When the last packet left that the peer has to acknowledge.
    pub(crate) eliciting_at: Instant,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    /// Bytes that are acknowledged now and were not before.
    pub(crate) bytes: u64,
    /// When the largest acknowledged packet left, if this is the first time it is acknowledged.
    pub(crate) largest_sent_at: Option<Instant>,
    /// A packet that counted as lost had arrived; how far behind the largest it was.
    pub(crate) spurious: Option<u64>,
    /// Largest ordinary packet and largest size probe among them.
    pub(crate) longest: u32,
    pub(crate) probe: Option<u32>,
    pub(crate) is_limited: bool,
    /// Largest packet of the peer whose acknowledgement the peer has seen.
    pub(crate) acked: Option<u64>,
}

/// Packets that count as lost from now on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// When the first and the last of them left.
    pub(crate) span: Option<(Instant, Instant)>,
    pub(crate) probe: Option<u32>,
    /// How many of them were longer than the base size, and the longest.
    pub(crate) long: u32,
    pub(crate) longest: u32,
}

/// Rules by which packets count as lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossRule {
    /// Numbers by which a later acknowledged packet has to be ahead.
    pub(crate) threshold: u64,
    pub(crate) delay: Duration,
    /// How long lost packets are remembered, so that a late acknowledgement is recognised.
    pub(crate) memory: Duration,
}

impl Sent {
    /// Number of the next packet.
    pub(crate) fn next(&self) -> u64 {
        self.base + wide(self.records.len())
    }

    /// No further packet may leave until an old one is settled.
    pub(crate) fn is_full(&self) -> bool {
        wide(self.records.len()) >= SPAN_MAX
    }

    /// Notes that the packet being written carries this.
    pub(crate) fn carry(&mut self, carried: Carried) {
        self.log.push_back(carried);
    }

    /// Entries of the log, to tell what a packet being written carries.
    pub(crate) fn log_len(&self) -> usize {
        self.log.len()
    }

    /// The packet leaves; it carries the log from `mark` on.
    pub(crate) fn record(&mut self, leaving: &Leaving, mark: usize, now: Instant) {
        let count = self.log.len().saturating_sub(mark);
        self.records.push_back(Record {
            sent_at: now,
            bytes: short(leaving.bytes),
            fate: if leaving.eliciting {
                Fate::Open
            } else {
                Fate::Acked
            },
            is_probe: leaving.is_probe,
            is_limited: leaving.is_limited,
            first: self.log_base + wide(mark),
            count: short(count),
            acked: leaving.acked,
        });
        if leaving.eliciting {
            self.in_flight += wide(leaving.bytes);
            self.held += cost(wide(leaving.bytes));
            self.open += 1;
            self.eliciting_at = now;
        }
    }

    fn carried(&self, record: &Record) -> impl Iterator<Item = Carried> + '_ {
        let from = narrow(record.first.saturating_sub(self.log_base));
        let to = (from + narrow(u64::from(record.count))).min(self.log.len());
        self.log.range(from.min(to)..to).copied()
    }

    /// Applies an acknowledgement; what arrived is appended to `arrived`. `None`: it acknowledges packets
    /// that were never sent.
    pub(crate) fn on_ack(&mut self, ack: &Ack, arrived: &mut Vec<Carried>) -> Option<News> {
        let next = self.next();
        let largest = expand(next, ack.largest);
        if largest >= next {
            return None;
        }
        let mut news = News::default();
        let mut high = largest;
        let mut low = high.checked_sub(u64::from(ack.first))?;
        self.settle(low, high, largest, &mut news, arrived);
        for (gap, len) in ack.pairs() {
            let (gap, len) = (u64::from(*gap), u64::from(*len));
            if len == 0 {
                return None;
            }
            high = low.checked_sub(1)?.checked_sub(gap)?;
            low = high.checked_sub(len - 1)?;
            self.settle(low, high, largest, &mut news, arrived);
        }
        self.largest_acked = self.largest_acked.max(Some(largest));
        Some(news)
    }

    fn settle(
        &mut self,
        low: u64,
        high: u64,
        largest: u64,
        news: &mut News,
        arrived: &mut Vec<Carried>,
    ) {
        let base = self.base;
        if high < base {
            return;
        }
        let from = narrow(low.saturating_sub(base));
        let to = narrow(high - base);
        for index in (from..=to).rev() {
            let Some(record) = self.records.get_mut(index) else {
                continue;
            };
            if record.fate == Fate::Acked {
                continue;
            }
            let number = base + wide(index);
            if record.fate == Fate::Open {
                self.in_flight -= u64::from(record.bytes);
                self.held -= cost(u64::from(record.bytes));
                self.open -= 1;
                news.bytes += u64::from(record.bytes);
            } else {
                news.spurious = news.spurious.max(Some(largest - number));
            }
            record.fate = Fate::Acked;
            if number == largest {
                news.largest_sent_at = Some(record.sent_at);
            }
            news.is_limited |= record.is_limited;
            news.acked = news.acked.max(record.acked);
            if record.is_probe {
                news.probe = news.probe.max(Some(record.bytes));
            } else {
                news.longest = news.longest.max(record.bytes);
            }
            let record = *record;
            arrived.extend(self.carried(&record));
        }
    }

    /// Finds lost packets; what they carried is appended to `missing`. Returns them, and when the next one
    /// will count as lost.
    pub(crate) fn detect(
        &mut self,
        rule: &LossRule,
        base_bytes: u32,
        now: Instant,
        missing: &mut Vec<Carried>,
    ) -> (Losses, Option<Instant>) {
        let mut losses = Losses::default();
        let mut next_at: Option<Instant> = None;
        let Some(largest) = self.largest_acked else {
            return (losses, None);
        };
        let base = self.base;
        for index in 0..self.records.len() {
            let number = base + wide(index);
            if number >= largest {
                break;
            }
            let Some(record) = self.records.get_mut(index) else {
                break;
            };
            if record.fate != Fate::Open {
                continue;
            }
            let due = record.sent_at + rule.delay;
            if largest - number < rule.threshold && due > now {
                next_at = Some(next_at.map_or(due, |at| at.min(due)));
                continue;
            }
            record.fate = Fate::Lost;
            let record = *record;
            self.in_flight -= u64::from(record.bytes);
            self.held -= cost(u64::from(record.bytes));
            self.open -= 1;
            if record.is_probe {
                losses.probe = Some(record.bytes);
            } else {
                losses.packets += 1;
                losses.bytes += u64::from(record.bytes);
                losses.long += u32::from(record.bytes > base_bytes);
                losses.longest = losses.longest.max(record.bytes);
                let first = losses.span.map_or(record.sent_at, |span| span.0);
                losses.span = Some((first, record.sent_at));
            }
            missing.extend(self.carried(&record));
        }
        self.forget(rule.memory, now);
        (losses, next_at)
    }

    /// Drops acknowledged records from the front. True when none is left.
    pub(crate) fn forget_acked(&mut self) -> bool {
        while let Some(Record {
            fate: Fate::Acked, ..
        }) = self.records.front()
        {
            self.drop_front();
        }
        self.records.is_empty()
    }

    /// Drops settled records from the front.
    fn forget(&mut self, memory: Duration, now: Instant) {
        let crowded = self.records.len() > narrow(SPAN_MAX / 2);
        while let Some(front) = self.records.front() {
            match front.fate {
                Fate::Open => break,
                Fate::Lost if !crowded && front.sent_at + memory > now => break,
                Fate::Acked | Fate::Lost => {}
            }
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(front) = self.records.pop_front() {
            let gone = narrow(u64::from(front.count)).min(self.log.len());
            self.log.drain(..gone);
            self.log_base += wide(gone);
            self.base += 1;
        }
    }

    /// Gives up on the oldest open packets when the span is used up, so that a probe may leave. What they
    /// carried is appended to `missing`.
    pub(crate) fn make_room(&mut self, now: Instant, missing: &mut Vec<Carried>) {
        for index in 0..self.records.len().min(64) {
            let Some(record) = self.records.get_mut(index) else {
                break;
            };
            if record.fate == Fate::Open {
                record.fate = Fate::Lost;
                let record = *record;
                self.in_flight -= u64::from(record.bytes);
                self.held -= cost(u64::from(record.bytes));
                self.open -= 1;
                missing.extend(self.carried(&record));
            }
        }
        self.forget(Duration::ZERO, now);
    }

    /// What the oldest `count` open packets carry, to be sent once more as a probe.
    pub(crate) fn oldest(&self, count: usize, into: &mut Vec<Carried>) {
        let open = self
            .records
            .iter()
            .filter(|record| record.fate == Fate::Open);
        for record in open.take(count) {
            into.extend(self.carried(record));
        }
    }

    /// Ends the life of all packets: the path is another one. What they carried is appended to `missing`.
    pub(crate) fn give_up(&mut self, missing: &mut Vec<Carried>) {
        for index in 0..self.records.len() {
            let Some(record) = self.records.get_mut(index) else {
                break;
            };
            if record.fate == Fate::Open {
                record.fate = Fate::Lost;
                let record = *record;
                missing.extend(self.carried(&record));
            }
        }
        self.in_flight = 0;
        self.held = 0;
        self.open = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: LossRule = LossRule {
        threshold: 3,
        delay: Duration::from_micros(40),
        memory: Duration::from_micros(200),
    };

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    fn piece(id: u64) -> Carried {
        Carried::Piece(Piece {
            lane: Lane::Ordered,
            id,
            offset: 0,
            len: 10,
        })
    }

    fn send(sent: &mut Sent, count: u64, now: Instant) {
        for _ in 0..count {
            let mark = sent.log_len();
            sent.carry(piece(sent.next()));
            let leaving = Leaving {
                bytes: 100,
                eliciting: true,
                is_probe: false,
                is_limited: false,
                acked: None,
            };
            sent.record(&leaving, mark, now);
        }
    }

    fn ack(largest: u32, first: u8, pairs: &[(u16, u16)]) -> Ack {
        let mut ack = Ack {
            largest,
            first,
            pair_count: u8::try_from(pairs.len()).unwrap(),
            ..Ack::default()
        };
        ack.pairs[..pairs.len()].copy_from_slice(pairs);
        ack
    }

    // docs/wire/rudp.md#loss
    #[test]
    fn three_later_packets_or_an_eighth_of_a_round_trip_make_a_loss() {
        let mut sent = Sent::default();
        send(&mut sent, 6, at(0));
        let mut arrived = Vec::new();
        let news = sent.on_ack(&ack(4, 0, &[(2, 1)]), &mut arrived).unwrap();
        assert_eq!((news.bytes, news.largest_sent_at), (200, Some(at(0))));
        assert_eq!(arrived, [piece(4), piece(1)]);
        let mut missing = Vec::new();
        let (losses, next_at) = sent.detect(&RULE, 1200, at(20), &mut missing);
        assert_eq!((losses.packets, next_at), (1, Some(at(40))));
        assert_eq!(missing, [piece(0)], "three ahead");
        let (losses, next_at) = sent.detect(&RULE, 1200, at(40), &mut missing);
        assert_eq!((losses.packets, next_at), (2, None));
        assert_eq!(missing, [piece(0), piece(2), piece(3)], "overdue");
        assert_eq!((sent.in_flight, sent.open), (100, 1));
    }

    #[test]
    fn a_late_acknowledgement_of_a_lost_packet_is_recognised() {
        let mut sent = Sent::default();
        send(&mut sent, 6, at(0));
        let (mut arrived, mut missing) = (Vec::new(), Vec::new());
        sent.on_ack(&ack(5, 0, &[]), &mut arrived).unwrap();
        sent.detect(&RULE, 1200, at(1), &mut missing);
        assert_eq!(missing.len(), 3);
        let news = sent.on_ack(&ack(5, 5, &[]), &mut arrived).unwrap();
        assert_eq!(news.spurious, Some(5));
        assert_eq!((sent.in_flight, sent.open), (0, 0));
    }

    #[test]
    fn packets_never_sent_are_not_acknowledged() {
        let mut sent = Sent::default();
        send(&mut sent, 2, at(0));
        let mut arrived = Vec::new();
        for liar in [
            ack(2, 0, &[]),
            ack(1, 2, &[]),
            ack(1, 0, &[(1, 1)]),
            ack(1, 0, &[(0, 0)]),
        ] {
            assert!(sent.on_ack(&liar, &mut arrived).is_none(), "{liar:?}");
        }
        assert!(sent.on_ack(&ack(1, 1, &[]), &mut arrived).is_some());
    }

    #[test]
    fn memory_is_bounded_by_the_span() {
        let mut sent = Sent::default();
        let mut missing = Vec::new();
        for round in 0..SPAN_MAX * 3 {
            if sent.is_full() {
                sent.make_room(at(round), &mut missing);
            }
            assert!(!sent.is_full());
            send(&mut sent, 1, at(round));
        }
        assert!(sent.records.len() <= narrow(SPAN_MAX) && sent.log.len() <= narrow(SPAN_MAX));
    }
}
