//! Counters and latency histograms of every method.
//!
//! Each engine thread counts for itself, without locks or atomics, and publishes a copy when a reader has asked for
//! one. Times are read only when statistics are on: two readings of the clock per call.
//!
//! What the times mean: `wire` from the first frame of a call until its request is complete (0 for one frame);
//! `queue` from there until the handler starts (the turn, and the workers' queue for [`Reply::blocking`]); `handler`
//! until the answer is written.
//!
//! [`Reply::blocking`]: crate::Reply::blocking

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use ringway_buf::Instant;
use ringway_call::Code;

use crate::executor::Bell;
use crate::sync::{AtomicBool, Ordering};

/// Longest time that a histogram tells apart, in nanoseconds; longer ones count as this.
const TIME_NS_MAX: u64 = 60_000_000_000;
/// Significant digits: 1 % is finer than what differs between two runs, and takes 20 KiB a histogram.
const DIGITS: u8 = 2;
/// More than this between the turn's clock and the system's: the clock is a simulated one, and nothing waits.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Times of one kind, in nanoseconds.
#[derive(Clone)]
pub struct Times(Histogram<u32>);

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times")
            .field("count", &self.0.len())
            .field("p50_ns", &self.quantile_ns(0.5))
            .finish_non_exhaustive()
    }
}

impl Times {
    fn new() -> Option<Self> {
        // Fails only for bounds out of range; these are constants.
        Histogram::new_with_bounds(1, TIME_NS_MAX, DIGITS)
            .ok()
            .map(Self)
    }

    fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Times recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time below which the share `quantile` (0 to 1) of all lies, in nanoseconds.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The longest, in nanoseconds.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.0.max()
    }

    /// How many times lie up to each value and above the one before: `(nanoseconds, count)`, in order, without those
    /// that are empty. At most some two thousand, usually some dozens.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.0.iter_recorded();
        recorded.map(|it| (it.value_iterated_to(), u64::from(it.count_at_value())))
    }

    /// The mean, in nanoseconds.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        self.0.mean()
    }
}

/// Figures of one method.
#[derive(Clone, Debug)]
pub struct MethodStats {
    /// `package.Service/Method`.
    pub name: &'static str,
    /// Calls that came in.
    pub started: u64,
    /// Calls that ended with each code, by its number.
    pub ended: [u64; 17],
    /// Calls that were refused before their handler started.
    pub refused: u64,
    /// Waiting for the handler.
    pub queue: Option<Times>,
    /// Receiving a request of several frames.
    pub wire: Option<Times>,
    /// In the handler.
    pub handler: Option<Times>,
}

impl MethodStats {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            started: 0,
            ended: [0; 17],
            refused: 0,
            queue: None,
            wire: None,
            handler: None,
        }
    }

    /// Calls that are running.
    #[must_use]
    pub fn running(&self) -> u64 {
        let ended = self.ended.iter().sum();
        self.started.saturating_sub(ended)
    }

    fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.refused += other.refused;
        for (mine, theirs) in self.ended.iter_mut().zip(other.ended) {
            *mine += theirs;
        }
        merge(&mut self.queue, other.queue.as_ref());
        merge(&mut self.wire, other.wire.as_ref());
        merge(&mut self.handler, other.handler.as_ref());
    }
}

fn merge(mine: &mut Option<Times>, theirs: Option<&Times>) {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => {
            // Same bounds on both sides, so that it can't fail.
            mine.0.add(&theirs.0).ok();
        }
        (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
        (_, None) => {}
    }
}

/// What all engine threads of one server published. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct StatsReader(Arc<Mutex<Vec<Shard>>>);

#[derive(Debug)]
struct Shard {
    methods: Vec<MethodStats>,
    wanted: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

impl StatsReader {
    /// The figures of all threads together, by method, as they were when somebody last asked; each thread is asked
    /// again. The thread that asks is up to date itself.
    #[must_use]
    pub fn methods(&self) -> Vec<MethodStats> {
        let mut all: Vec<MethodStats> = Vec::new();
        let mut bells = Vec::new();
        for shard in self.lock().iter() {
            // Release pairs with the Acquire in `Stats::is_wanted`; only the flag itself matters.
            shard.wanted.store(true, Ordering::Release);
            bells.push(Arc::clone(&shard.bell));
            for method in &shard.methods {
                match all.iter_mut().find(|it| it.name == method.name) {
                    Some(sum) => sum.add(method),
                    None => all.push(method.clone()),
                }
            }
        }
        for bell in bells {
            bell.ring();
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shard>> {
        // Each shard's figures are replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a call's handler started, and how long it had waited for that. Meaningless while statistics are off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    at: Instant,
    queued: Duration,
}

impl Began {
    pub(crate) const OFF: Self = Self {
        at: Instant::ZERO,
        queued: Duration::ZERO,
    };

    /// It waited for a worker first.
    pub(crate) fn later(self, waited: Duration) -> Self {
        Self {
            at: self.at + waited,
            queued: self.queued + waited,
        }
    }
}

/// One thread's own figures.
#[derive(Debug)]
pub(crate) struct Stats {
    methods: Vec<MethodStats>,
    reader: StatsReader,
    place: usize,
    wanted: Arc<AtomicBool>,
}

impl Stats {
    pub(crate) fn new(
        names: impl Iterator<Item = &'static str>,
        reader: StatsReader,
        bell: Arc<Bell>,
    ) -> Self {
        let methods: Vec<_> = names.map(MethodStats::new).collect();
        let wanted = Arc::new(AtomicBool::new(false));
        let mut shards = reader.lock();
        let place = shards.len();
        shards.push(Shard {
            methods: methods.clone(),
            wanted: Arc::clone(&wanted),
            bell,
        });
        drop(shards);
        Self {
            methods,
            reader,
            place,
            wanted,
        }
    }

    /// A call whose first frame came at `first` is complete in this turn, and its handler starts.
    pub(crate) fn started(&mut self, method: u32, turn: Instant, first: Instant) -> Began {
        let at = Instant::monotonic();
        if let Some(stats) = self.methods.get_mut(method as usize) {
            stats.started += 1;
            record(&mut stats.wire, nanos(turn - first));
        }
        let queued = match at - turn {
            simulated if simulated > WAIT_MAX => Duration::ZERO,
            queued => queued,
        };
        Began { at, queued }
    }

    /// A call was refused before its handler could start.
    pub(crate) fn refused(&mut self, method: u32) {
        if let Some(stats) = self.methods.get_mut(method as usize) {
            stats.refused += 1;
        }
    }

    /// A call that started was answered.
    pub(crate) fn ended(&mut self, method: u32, began: Began, code: Code) {
        let now = Instant::monotonic();
        if let Some(stats) = self.methods.get_mut(method as usize) {
            let code = usize::from(code.to_wire());
            if let Some(count) = stats.ended.get_mut(code) {
                *count += 1;
            }
            record(&mut stats.queue, nanos(began.queued));
            record(&mut stats.handler, nanos(now - began.at));
        }
    }

    /// Publishes if a reader has asked since the last time.
    pub(crate) fn answer_reader(&self) {
        if self.wanted.swap(false, Ordering::Acquire) {
            self.publish();
        }
    }

    /// Makes what was counted so far visible to readers.
    pub(crate) fn publish(&self) {
        let methods = self.methods.clone();
        if let Some(shard) = self.reader.lock().get_mut(self.place) {
            shard.methods = methods;
        }
    }
}

impl Drop for Stats {
    /// The thread ends: what it counted stays.
    fn drop(&mut self) {
        self.publish();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A histogram is made at its first value: methods that nobody calls take no memory.
fn record(times: &mut Option<Times>, ns: u64) {
    if times.is_none() {
        *times = Times::new();
    }
    if let Some(times) = times {
        times.record(ns);
    }
}
