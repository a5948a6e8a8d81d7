//! What a network does to datagrams: one direction, judged one datagram at a time.
//!
//! The one model of the house. [`SimNet`](crate::SimNet) has a path per socket, [`DatagramNet`](crate::DatagramNet) one per
//! pair of addresses; `ringway impair` and the impaired driver send real datagrams through it. It holds no payload,
//! no clock and no queue: it is told how long a datagram is and when it leaves, and says whether, when and how damaged
//! it arrives. Whoever owns the bytes keeps them until then, for instance in [`Flights`](crate::Flights).
//!
//! Invariants: the same seed and the same calls give the same answers; a fault whose chance is zero draws nothing.

use std::time::Duration;

use ringway_buf::Instant;

use crate::pipe::wire_time;
use crate::rng::{Concern, Rng, nanos};
use crate::{DatagramFaults, DatagramLink, Fault, FaultCounts, Span};

/// Most bits that one corruption flips.
const FLIPPED_BITS_MAX: u64 = 8;
/// ECN bits: "congestion experienced" (RFC 3168, section 5).
const ECN_CE: u8 = 3;

/// A way of datagrams: its properties, and what goes wrong on it. The default is perfect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathConfig {
    /// Delay, rate, queue.
    pub link: DatagramLink,
    /// Loss, damage, disorder.
    pub faults: DatagramFaults,
}

/// The state of one direction.
///
/// ```
/// use ringway_buf::Instant;
/// use ringway_sim::{Chance, DatagramPath, FaultCounts, Passage, PathConfig};
///
/// let mut config = PathConfig::default();
/// config.faults.loss = Chance::percent(1);
/// let (mut path, mut counts) = (DatagramPath::new(7, 0, Instant::ZERO), FaultCounts::default());
/// let arrived = (0..1000).filter(|_| {
///     matches!(path.send(Instant::ZERO, 100, 0, &config, &mut counts), Passage::Arrives(..))
/// });
/// assert!((950..1000).contains(&arrived.count()));
/// ```
#[derive(Clone, Debug)]
pub struct DatagramPath {
    began: Instant,
    busy_until: Instant,
    last_arrival: Instant,
    /// The bad state of Gilbert and Elliott.
    bad: bool,
    delay: Rng,
    loss: Rng,
    copy: Rng,
    order: Rng,
    bits: Rng,
    mark: Rng,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug)]
pub enum Passage {
    /// It arrives, and perhaps once more.
    Arrives(Arrival, Option<Arrival>),
    /// The network lost it, and tells nobody.
    Lost(Fault),
    /// It does not fit into the queue before the link.
    Overflow,
    /// It is longer than this many bytes, and its sender is told.
    TooLong(usize),
}

/// How one copy of a datagram arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// ECN bits at its arrival.
    pub ecn: u8,
    /// Bytes that are left of it; it was cut if that is fewer than it had.
    pub len: usize,
    /// Which bits are flipped, as the state of a generator.
    flips: Option<u64>,
}

impl Arrival {
    /// Flips what the way flips. `payload` is the whole datagram; [`len`](Self::len) bytes of it arrive.
    pub fn damage(&self, payload: &mut [u8]) {
        let Some(state) = self.flips.filter(|_| !payload.is_empty()) else {
            return;
        };
        let mut rng = Rng::from_state(state);
        for _ in 0..rng.between(1, FLIPPED_BITS_MAX) {
            let bit = rng.below(payload.len() as u64 * 8);
            let index = usize::try_from(bit / 8).unwrap_or(0);
            payload[index] ^= 1 << (bit % 8);
        }
    }

    /// Whether bits of it are flipped.
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.flips.is_some()
    }
}

impl DatagramPath {
    /// The `index`-th direction of a run. Partitions are counted from `began`, the same for all paths of a network.
    #[must_use]
    pub fn new(seed: u64, index: u64, began: Instant) -> Self {
        let lane = |concern| Rng::split(seed, concern, index);
        Self {
            began,
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            bad: false,
            delay: lane(Concern::DatagramDelay),
            loss: lane(Concern::DatagramLoss),
            copy: lane(Concern::DatagramCopy),
            order: lane(Concern::DatagramOrder),
            bits: lane(Concern::DatagramBits),
            mark: lane(Concern::DatagramMark),
        }
    }

    /// Bytes that wait for the link.
    #[must_use]
    pub fn waiting_bytes(&self, now: Instant, link: &DatagramLink) -> u64 {
        if link.bandwidth_bytes_per_s == 0 {
            return 0;
        }
        let wait = u128::from(nanos(self.busy_until.saturating_since(now)));
        let bytes = wait * u128::from(link.bandwidth_bytes_per_s) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Sends a datagram of `len` bytes with these ECN bits; counts the faults that it meets.
    pub fn send(
        &mut self,
        now: Instant,
        len: usize,
        ecn: u8,
        config: &PathConfig,
        counts: &mut FaultCounts,
    ) -> Passage {
        let (link, faults) = (&config.link, &config.faults);
        if len > link.mtu_bytes as usize {
            return Passage::TooLong(link.mtu_bytes as usize);
        }
        let waiting = self.waiting_bytes(now, link);
        if waiting + len as u64 > u64::from(link.queue_bytes) {
            counts.add(Fault::Overflow);
            return Passage::Overflow;
        }
        self.busy_until = self.busy_until.max(now) + wire_time(len, link.bandwidth_bytes_per_s);
        if let Some(fault) = self.loses(now, len, faults) {
            counts.add(fault);
            return Passage::Lost(fault);
        }
        let full = link.ecn_threshold_bytes > 0 && waiting >= u64::from(link.ecn_threshold_bytes);
        let mut ecn = ecn;
        if ecn != 0 && (full || self.mark.hits(faults.ecn_mark)) {
            counts.add(Fault::EcnMark);
            ecn = ECN_CE;
        }
        let twice = self.copy.hits(faults.duplicate);
        if twice {
            counts.add(Fault::Duplicate);
        }
        let first = self.fly(now, len, ecn, config, counts);
        let second = twice.then(|| self.fly(now, len, ecn, config, counts));
        Passage::Arrives(first, second)
    }

    /// When `len` bytes of a stream arrive that leave now: bytes keep their order, and wait for the end of a partition.
    #[must_use]
    pub fn stream(&mut self, now: Instant, len: usize, config: &PathConfig) -> Instant {
        let (link, faults) = (&config.link, &config.faults);
        let age = now.saturating_since(self.began);
        let leaves = now + faults.partition_left(age);
        let wire = wire_time(len, link.bandwidth_bytes_per_s);
        self.busy_until = self.busy_until.max(leaves) + wire;
        self.arrival(leaves, link, None)
    }

    /// Whether the next datagram is lost, and how.
    fn loses(&mut self, now: Instant, len: usize, faults: &DatagramFaults) -> Option<Fault> {
        if faults.is_partitioned(now.saturating_since(self.began)) {
            return Some(Fault::Partition);
        }
        if faults.black_hole_bytes > 0 && len > faults.black_hole_bytes as usize {
            return Some(Fault::BlackHole);
        }
        let turns = if self.bad {
            faults.burst_leave
        } else {
            faults.burst_enter
        };
        if self.loss.hits(turns) {
            self.bad = !self.bad;
        }
        if self.bad && self.loss.hits(faults.burst_loss) {
            return Some(Fault::BurstLoss);
        }
        self.loss.hits(faults.loss).then_some(Fault::Loss)
    }

    /// How one copy arrives.
    fn fly(
        &mut self,
        now: Instant,
        len: usize,
        ecn: u8,
        config: &PathConfig,
        counts: &mut FaultCounts,
    ) -> Arrival {
        let (link, faults) = (&config.link, &config.faults);
        let mut flips = None;
        if self.bits.hits(faults.corrupt) && len > 0 {
            counts.add(Fault::Corrupt);
            flips = Some(self.bits.bits());
        }
        let mut kept = len;
        if self.bits.hits(faults.truncate) && len > 0 {
            counts.add(Fault::Truncate);
            kept = self.bits.len(len) - 1;
        }
        let held = self.order.hits(faults.reorder);
        if held {
            counts.add(Fault::Reorder);
        }
        Arrival {
            at: self.arrival(now, link, held.then_some(faults.reorder_window)),
            ecn,
            len: kept,
            flips,
        }
    }

    /// When a datagram arrives. Those that are not held back keep their order.
    fn arrival(&mut self, now: Instant, link: &DatagramLink, held: Option<Duration>) -> Instant {
        let jitter = self.delay.duration(Span {
            min: Duration::ZERO,
            max: link.jitter,
        });
        let arrival = self.busy_until.max(now) + self.delay.duration(link.delay) + jitter;
        match held {
            Some(window) => {
                arrival
                    + self.order.duration(Span {
                        min: Duration::from_nanos(1),
                        max: window,
                    })
            }
            None => {
                self.last_arrival = self.last_arrival.max(arrival);
                self.last_arrival
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_buf::Instant;

    use super::{DatagramPath, Passage, PathConfig};
    use crate::{Chance, Fault, FaultCounts};

    fn at_ms(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_partition_comes_and_goes_by_the_clock() {
        let mut config = PathConfig::default();
        config.faults.partition_every = Duration::from_millis(100);
        config.faults.partition_time = Duration::from_millis(10);
        let mut path = DatagramPath::new(1, 0, at_ms(1000));
        let mut counts = FaultCounts::default();
        let mut arrives = |ms: u64| {
            let passage = path.send(at_ms(1000 + ms), 10, 0, &config, &mut counts);
            matches!(passage, Passage::Arrives(..))
        };
        let seen = [0, 50, 99, 100, 109, 110, 199, 200, 210].map(&mut arrives);
        assert_eq!(
            seen,
            [true, true, true, false, false, true, true, false, true]
        );
        assert_eq!(counts.of(Fault::Partition), 3);
    }

    #[test]
    fn damage_is_the_same_for_the_same_arrival_and_changes_something() {
        let mut config = PathConfig::default();
        config.faults.corrupt = Chance::ALWAYS;
        let mut path = DatagramPath::new(2, 0, Instant::ZERO);
        let mut counts = FaultCounts::default();
        for _ in 0..100 {
            let passage = path.send(Instant::ZERO, 40, 0, &config, &mut counts);
            let Passage::Arrives(arrival, None) = passage else {
                unreachable!("nothing is lost or doubled");
            };
            let (mut one, mut two) = ([0_u8; 40], [0_u8; 40]);
            arrival.damage(&mut one);
            arrival.damage(&mut two);
            assert_eq!(one, two);
            let flipped: u32 = one.iter().map(|byte| byte.count_ones()).sum();
            assert!(flipped <= 8);
        }
    }

    #[test]
    fn a_link_sends_no_faster_than_its_rate_and_holds_no_more_than_its_queue() {
        let mut config = PathConfig::default();
        config.link.bandwidth_bytes_per_s = 1_000_000;
        config.link.queue_bytes = 10_000;
        let mut path = DatagramPath::new(3, 0, Instant::ZERO);
        let mut counts = FaultCounts::default();
        let mut last = Instant::ZERO;
        let mut dropped = 0;
        for _ in 0..20 {
            match path.send(Instant::ZERO, 1000, 0, &config, &mut counts) {
                Passage::Arrives(arrival, None) => last = arrival.at,
                Passage::Overflow => dropped += 1,
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!(dropped, 10);
        assert_eq!(last, at_ms(10) + config.link.delay.max);
    }
}
