//! The load itself, the same object for both contestants: what a message holds, when the next may be sent,
//! and which round trips are timed.
//!
//! A body is `[sequence: u64 | stamp: u64 | filler]`. A stamp of zero means that this message is not timed.
//! The sequence starts at a number of the block's own, so that an answer of an earlier block is recognised.

use hdrhistogram::Histogram;
use ringway::Instant;

use super::plan::{Plan, SIZE_MIN};
use crate::failure::Failure;

/// Of messages that are many in flight, one in so many is timed: a clock read costs 25 ns.
const TIMED_ONE_IN: u64 = 16;
/// Of an open loop with slow calls, one in so many is one.
const SLOW_ONE_IN: u64 = 100;
/// Longest time that a histogram holds, in nanoseconds.
const LATENCY_MAX_NS: u64 = 10_000_000_000;
/// Significant digits of a histogram.
const DIGITS: u8 = 3;

/// A histogram for latencies in nanoseconds.
#[expect(clippy::expect_used, reason = "the bounds are constants, and valid")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("constant bounds")
}

/// The filler of all messages: no byte is special, all differ from their neighbours.
pub(crate) fn template(size: u32) -> Vec<u8> {
    (0..size)
        .map(|index| u8::try_from(index % 251).unwrap_or(0))
        .collect()
}

/// A closed loop of calls: at most `window` in flight, the next one leaves when an answer came.
#[derive(Debug)]
pub(crate) struct Calls {
    template: Vec<u8>,
    base: u64,
    target: u64,
    window: u64,
    timed_one_in: u64,
    issued: u64,
    answered: u64,
    latencies: Histogram<u64>,
}

impl Calls {
    /// A closed loop in the shape of `plan`, with nothing to do yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            template: template(plan.size),
            base: 0,
            target: 0,
            window: u64::from(plan.outstanding),
            timed_one_in: if plan.outstanding == 1 {
                1
            } else {
                TIMED_ONE_IN
            },
            issued: 0,
            answered: 0,
            latencies: histogram(),
        }
    }

    /// Starts a block of `target` calls; all of the last one have to be answered.
    pub(crate) fn start(&mut self, target: u64) {
        self.base += self.issued;
        (self.issued, self.answered, self.target) = (0, 0, target);
        self.latencies.reset();
    }

    /// Bytes of a message.
    pub(crate) fn size(&self) -> usize {
        self.template.len()
    }

    /// Whether the loop's rule lets the next call leave.
    #[inline]
    pub(crate) fn may_issue(&self) -> bool {
        self.issued < self.target && self.issued - self.answered < self.window
    }

    /// Writes the next call into `room`, which has [`size`](Self::size) bytes.
    #[inline]
    pub(crate) fn issue(&mut self, room: &mut [u8]) {
        let stamp = if self.issued.is_multiple_of(self.timed_one_in) {
            now()
        } else {
            0
        };
        room.copy_from_slice(&self.template);
        room[..8].copy_from_slice(&(self.base + self.issued).to_le_bytes());
        room[8..16].copy_from_slice(&stamp.to_le_bytes());
        self.issued += 1;
    }

    /// Takes an answer; returns false if it belongs to no call of this block.
    #[inline]
    pub(crate) fn answer(&mut self, body: &[u8]) -> bool {
        let (Some(sequence), Some(stamp)) = (word(body, 0), word(body, 8)) else {
            return false;
        };
        let known = sequence.wrapping_sub(self.base) < self.issued;
        if !known || body.len() != self.template.len() || self.answered == self.issued {
            return false;
        }
        if stamp != 0 {
            self.latencies
                .saturating_record(now().saturating_sub(stamp).max(1));
        }
        self.answered += 1;
        true
    }

    /// Whether all calls of the block are answered.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.answered == self.target
    }

    /// Answers of this block so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Round trips of this block.
    pub(crate) fn latencies(&self) -> &Histogram<u64> {
        &self.latencies
    }
}

/// An open loop: calls leave when their time has come, whatever happened to those before. A latency counts from
/// the intended time, so that a late answer is charged with every call that it delayed.
#[derive(Debug)]
pub(crate) struct OpenLoop {
    template: Vec<u8>,
    interval_ns: u64,
    slow: bool,
    base: u64,
    target: u64,
    issued: u64,
    answered: u64,
    started: u64,
    latencies: Histogram<u64>,
}

impl OpenLoop {
    /// An open loop at the rate of `plan`; `slow`: one call in [`SLOW_ONE_IN`] is a slow one.
    pub(crate) fn new(plan: &Plan, slow: bool) -> Self {
        Self {
            template: template(plan.size),
            interval_ns: 1_000_000_000 / u64::from(plan.rate.max(1)),
            slow,
            base: 0,
            target: 0,
            issued: 0,
            answered: 0,
            started: 0,
            latencies: histogram(),
        }
    }

    /// Starts a block of `target` calls; the first leaves now.
    pub(crate) fn start(&mut self, target: u64) {
        self.start_at(target, now());
    }

    /// Like [`start`](Self::start), as if the generator had been held up until `together` calls were due: so many are in
    /// flight at once.
    pub(crate) fn start_late(&mut self, target: u64, together: u64) {
        let late = together.min(target) * self.interval_ns;
        self.start_at(target, now().saturating_sub(late));
    }

    fn start_at(&mut self, target: u64, at: u64) {
        self.base += self.issued;
        (self.issued, self.answered, self.target) = (0, 0, target);
        self.started = at;
        self.latencies.reset();
    }

    /// Writes the next call into `room` if its time has come; says whether it is a slow one.
    pub(crate) fn issue_due(&mut self, room: &mut [u8]) -> Option<bool> {
        let now = now();
        self.issue_at(room, now)
    }

    fn issue_at(&mut self, room: &mut [u8], now: u64) -> Option<bool> {
        let due = self.started + self.issued * self.interval_ns;
        if self.issued == self.target || now < due {
            return None;
        }
        let sequence = self.base + self.issued;
        let slow = self.slow && mixed(sequence).is_multiple_of(SLOW_ONE_IN);
        room.copy_from_slice(&self.template);
        room[..8].copy_from_slice(&sequence.to_le_bytes());
        room[8..16].copy_from_slice(&if slow { 0 } else { due }.to_le_bytes());
        self.issued += 1;
        Some(slow)
    }

    /// Takes an answer; returns false if it belongs to no call of this block.
    pub(crate) fn answer(&mut self, body: &[u8]) -> bool {
        self.answer_at(body, now())
    }

    fn answer_at(&mut self, body: &[u8], now: u64) -> bool {
        let (Some(sequence), Some(due)) = (word(body, 0), word(body, 8)) else {
            return false;
        };
        let known = sequence.wrapping_sub(self.base) < self.issued;
        if !known || body.len() != self.template.len() || self.answered == self.issued {
            return false;
        }
        if due != 0 {
            let latency = now.saturating_sub(due).max(1);
            self.latencies.saturating_record(latency);
        }
        self.answered += 1;
        true
    }

    /// Whether all calls of the block are answered.
    pub(crate) fn is_done(&self) -> bool {
        self.answered == self.target
    }

    /// Latencies of this block's calls that are not slow.
    pub(crate) fn latencies(&self) -> &Histogram<u64> {
        &self.latencies
    }
}

/// SplitMix64: which calls are slow looks random and is the same in every run.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The sending side of one-way traffic.
#[derive(Debug)]
pub(crate) struct Flow {
    template: Vec<u8>,
    window: u64,
    target: u64,
    issued: u64,
    acknowledged: u64,
}

impl Flow {
    /// One-way traffic in the shape of `plan`, with nothing to do yet. `plain` datagrams wait for acknowledgements.
    pub(crate) fn new(plan: &Plan, plain: bool) -> Self {
        let window = if plain { plan.window() } else { u64::MAX };
        Self {
            template: template(plan.size),
            window,
            target: 0,
            issued: 0,
            acknowledged: 0,
        }
    }

    /// Starts a block of `target` messages.
    pub(crate) fn start(&mut self, target: u64) {
        (self.issued, self.acknowledged, self.target) = (0, 0, target);
    }

    /// The body that every message has.
    pub(crate) fn body(&self) -> &[u8] {
        &self.template
    }

    /// How many messages may leave now.
    #[inline]
    pub(crate) fn may_issue(&self) -> u64 {
        (self.target - self.issued).min(self.window.saturating_sub(self.in_flight()))
    }

    /// One message left.
    #[inline]
    pub(crate) fn issued(&mut self) {
        self.issued += 1;
    }

    /// Takes the receiver's word for how many messages arrived.
    ///
    /// # Errors
    /// When it is no acknowledgement.
    pub(crate) fn acknowledge(&mut self, body: &[u8]) -> Result<(), Failure> {
        let count = word(body, 0).filter(|count| *count <= self.target);
        let Some(count) = count else {
            return Err(Failure::Connection(
                "the server acknowledged what was not sent".to_owned(),
            ));
        };
        self.acknowledged = self.acknowledged.max(count);
        Ok(())
    }

    /// Messages that left and are not acknowledged.
    pub(crate) fn in_flight(&self) -> u64 {
        self.issued.saturating_sub(self.acknowledged)
    }

    /// Messages that the receiver is known to have.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the receiver has everything.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.acknowledged == self.target
    }
}

/// The receiving side of one-way traffic.
#[derive(Debug)]
pub(crate) struct Tally {
    size: usize,
    window: Option<u64>,
    target: u64,
    count: u64,
}

impl Tally {
    /// Nothing counted yet. `plain` datagrams are acknowledged on the way.
    pub(crate) fn new(plan: &Plan, plain: bool) -> Self {
        Self {
            size: plan.size as usize,
            window: plain.then(|| plan.window()),
            target: 0,
            count: 0,
        }
    }

    /// Starts a block of `target` messages.
    pub(crate) fn start(&mut self, target: u64) {
        (self.count, self.target) = (0, target);
    }

    /// Counts a message; gives the acknowledgement that is due now.
    #[inline]
    pub(crate) fn count(&mut self, body: &[u8]) -> Option<[u8; SIZE_MIN as usize]> {
        if body.len() != self.size {
            return None;
        }
        self.count += 1;
        let due = match self.window {
            Some(window) => self.count.is_multiple_of((window / 2).max(1)),
            None => false,
        };
        (due || self.count == self.target).then(|| {
            let mut body = [0; SIZE_MIN as usize];
            body[..8].copy_from_slice(&self.count.to_le_bytes());
            body
        })
    }

    /// Messages that have arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.count
    }

    /// Whether everything arrived.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.count >= self.target
    }
}

fn word(body: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?))
}

fn now() -> u64 {
    Instant::monotonic().as_nanos()
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Transport, Workload, tests::bench};
    use super::*;

    fn plan(workload: Workload, transport: Transport) -> Plan {
        Plan::new(&bench(workload, transport)).unwrap()
    }

    #[test]
    fn a_closed_loop_never_passes_its_window_and_ends_at_its_target() {
        let mut calls = Calls::new(&plan(Workload::Rate, Transport::Tcp));
        for block in 0..2 {
            calls.start(100);
            let mut in_flight = std::collections::VecDeque::new();
            let mut most = 0;
            while !calls.is_done() {
                while calls.may_issue() {
                    let mut room = vec![0; calls.size()];
                    calls.issue(&mut room);
                    in_flight.push_back(room);
                }
                most = most.max(in_flight.len());
                assert!(calls.answer(&in_flight.pop_front().unwrap()));
            }
            assert_eq!((most, in_flight.len()), (64, 0), "block {block}");
            // 0, 16, 32, 48, 64, 80 and 96 are timed.
            assert_eq!(calls.latencies().len(), 7);
        }
    }

    #[test]
    fn an_open_loop_counts_from_the_intended_time() {
        let mut calls = OpenLoop::new(&plan(Workload::CallTail, Transport::Tcp), true);
        let mut room = vec![0; 64];
        calls.start_at(10_000, 1_000_000);
        assert_eq!(
            calls.issue_at(&mut room, 999_999),
            None,
            "not before its time"
        );
        // The generator wakes one millisecond late: twenty calls are due, and each counts from its own time.
        let (late, mut slow) = (2_000_000, 0);
        let mut issued = 0_u64;
        while let Some(is_slow) = calls.issue_at(&mut room, late) {
            slow += u32::from(is_slow);
            issued += 1;
            assert!(calls.answer_at(&room, late));
        }
        assert_eq!(issued, 21, "one per 50 us, both ends included");
        assert_eq!(calls.latencies().len() + u64::from(slow), issued);
        assert!(calls.latencies().max() >= 999_000 && calls.latencies().min() <= 50_001);
        while let Some(is_slow) = calls.issue_at(&mut room, u64::MAX / 2) {
            slow += u32::from(is_slow);
        }
        assert!((50..200).contains(&slow), "one in a hundred: {slow}");
    }

    #[test]
    fn answers_of_another_block_and_malformed_ones_are_refused() {
        let mut calls = Calls::new(&plan(Workload::Rtt, Transport::Udp));
        let mut old = vec![0; calls.size()];
        calls.start(1);
        calls.issue(&mut old);
        calls.start(2);
        assert!(!calls.answer(&old), "of an earlier block");
        let mut fresh = vec![0; calls.size()];
        calls.issue(&mut fresh);
        assert!(!calls.answer(&fresh[..63]), "cut");
        assert!(!calls.answer(&[]), "empty");
        assert!(calls.answer(&fresh));
        assert!(!calls.answer(&fresh), "twice");
    }

    #[test]
    fn one_way_datagrams_wait_for_acknowledgements_and_streams_do_not() {
        let udp = plan(Workload::Stream, Transport::Udp);
        let (mut flow, mut tally) = (Flow::new(&udp, true), Tally::new(&udp, true));
        flow.start(1000);
        tally.start(1000);
        let mut rounds = 0;
        while !flow.is_done() {
            let burst = flow.may_issue();
            assert!((1..=128).contains(&burst), "{burst}");
            for _ in 0..burst {
                flow.issued();
                if let Some(body) = tally.count(flow.body()) {
                    flow.acknowledge(&body).unwrap();
                }
            }
            rounds += 1;
        }
        assert!(tally.is_done() && rounds >= 8, "{rounds}");
        assert!(flow.acknowledge(&1001_u64.to_le_bytes()).is_err());
        assert!(flow.acknowledge(&[]).is_err());

        let mut flow = Flow::new(&plan(Workload::Stream, Transport::Tcp), false);
        flow.start(1000);
        assert_eq!(flow.may_issue(), 1000);
    }
}
