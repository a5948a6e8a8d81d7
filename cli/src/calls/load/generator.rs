//! The loop that makes the calls: one thread, one engine, any number of connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ringway::rpc::{
    CallConfig, CallKey, CallOptions, Clients, InlineChannel, Node, Status, Target, rpc_config,
};
use ringway::{DriverChoice, Instant};

use super::record::{Record, Times};
use super::{Pace, Plan};
use crate::bench::plan::{Driver, Policy};
use crate::calls::lz4;
use crate::failure::Failure;
use crate::output::{self, quantity};
use crate::tls;

/// Calls that are open at once on one connection; a server allows 1,024 unless it is told otherwise.
const OPEN_MAX: usize = 1000;
/// Calls that are made before the engine is turned again.
const BURST_MAX: usize = 64;
/// Longest sleep: a signal is looked for in between.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// A sleep ends so much before the next call is due; the rest is waited for awake. Waking up takes less.
const AWAKE: Duration = Duration::from_micros(80);
/// Steps in which calls that were never made are counted.
const UNMADE_STEPS: u64 = 10_000;
/// After a call that could not even be made.
const PAUSE: Duration = Duration::from_millis(10);

/// What was measured, and with what.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) record: Record,
    pub(crate) driver: String,
    pub(crate) policy: String,
}

/// One connection.
#[derive(Debug)]
struct Lane {
    target: Target,
    method: u32,
    open: usize,
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    lane: usize,
    times: Times,
}

#[derive(Debug)]
struct Generator<'a> {
    plan: &'a Plan,
    channel: InlineChannel,
    lanes: Vec<Lane>,
    flights: HashMap<CallKey, Flight>,
    record: Record,
    /// When the first call was due.
    begin: Instant,
    /// Calls made, or due at the given rate.
    made: u64,
    /// Which connection is next.
    turn: usize,
    /// Nothing is made until then.
    pause: Instant,
}

/// Makes the calls of a plan, until its time is over or somebody has stopped it.
pub(crate) fn run(
    plan: &Plan,
    driver: Option<Driver>,
    policy: Policy,
    stopped: &AtomicBool,
) -> Result<Outcome, Failure> {
    let choice = driver.map_or(DriverChoice::Auto, Driver::required);
    let config = rpc_config().driver(choice).idle(policy.idle());
    let engine = tls::with(config, plan.quic.clone())
        .build()
        .map_err(Failure::Start)?;
    let driver = engine.capabilities().kind.to_string();
    let node = Node::clients_only(Clients::new(CallConfig::default(), lz4::compressors()));
    let failed = |status: Status| Failure::call(&plan.name, status);
    let mut channel = InlineChannel::with_engine(engine, node, &plan.address).map_err(failed)?;
    let mut targets = vec![channel.target()];
    for _ in 1..plan.connections {
        targets.push(channel.add(&plan.address).map_err(failed)?);
    }
    let mut lanes = Vec::with_capacity(targets.len());
    for target in targets {
        let method = channel.bind_at(target, &[plan.method]).map_err(failed)?;
        lanes.push(Lane {
            target,
            method,
            open: 0,
        });
    }
    let begin = Instant::monotonic();
    let from = begin + plan.warmup;
    let mut generator = Generator {
        plan,
        channel,
        lanes,
        flights: HashMap::new(),
        record: Record::new(from, from + plan.duration),
        begin,
        made: 0,
        turn: 0,
        pause: begin,
    };
    generator.go(stopped);
    Ok(Outcome {
        record: generator.record,
        driver,
        policy: policy.to_string(),
    })
}

impl Generator<'_> {
    fn go(&mut self, stopped: &AtomicBool) {
        let whole = self.plan.warmup + self.plan.duration;
        let mut until = self.begin + whole;
        let bar = bar(whole);
        let mut shown = self.begin;
        loop {
            let mut now = Instant::monotonic();
            if now < until && stopped.load(Ordering::Relaxed) {
                until = now;
                self.record.stop(now);
            }
            // Those that were due in time are made even if it is late.
            self.make(now, until);
            let is_done = self.flights.is_empty() && !self.owes(until);
            if now >= until && (is_done || now >= until + self.plan.timeout) {
                break;
            }
            now = Instant::monotonic();
            let sleep = self.sleep(now, until);
            self.channel.turn(Some(sleep));
            self.take();
            if now.saturating_since(shown) >= SLEEP_MAX {
                shown = now;
                self.show(&bar, now);
            }
        }
        let now = Instant::monotonic();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "they are counted; the order is nothing"
        )]
        for flight in self.flights.values() {
            self.record.unfinished(&flight.times, now);
        }
        self.give_up(now, until);
        self.record.advance(now);
        bar.finish_and_clear();
    }

    /// Whether a call was due before `until` and is not made.
    fn owes(&self, until: Instant) -> bool {
        match self.plan.pace {
            Pace::Rate(rate) => due(self.begin, self.made, rate) < until,
            Pace::Outstanding(_) => false,
        }
    }

    /// Notes the calls that were due and never made, because nothing could take them.
    fn give_up(&mut self, now: Instant, until: Instant) {
        let Pace::Rate(rate) = self.plan.pace else {
            return;
        };
        let whole = due_before(self.begin, until, rate);
        // They may be very many: some at a time, as if all of these were due when their middle one was.
        let some = (whole.saturating_sub(self.made) / UNMADE_STEPS).max(1);
        while self.made < whole {
            let count = some.min(whole - self.made);
            let due = due(self.begin, self.made + count / 2, rate);
            self.record.never_made(due, now, count);
            self.made += count;
        }
    }

    /// Makes the calls that are due.
    fn make(&mut self, now: Instant, until: Instant) {
        for _ in 0..BURST_MAX {
            let due = match self.plan.pace {
                Pace::Rate(rate) => due(self.begin, self.made, rate),
                Pace::Outstanding(most) => {
                    if self.flights.len() >= most as usize {
                        return;
                    }
                    now.max(self.pause)
                }
            };
            if due > now || due >= until || now < self.pause {
                return;
            }
            let Some(lane) = self.free_lane() else {
                // They are due all the same: made later, they count from now.
                return;
            };
            self.one(lane, due);
        }
    }

    /// The next connection with room.
    fn free_lane(&mut self) -> Option<usize> {
        let count = self.lanes.len();
        let next = (self.turn..self.turn + count).map(|at| at % count);
        let found = next
            .into_iter()
            .find(|at| self.lanes.get(*at).is_some_and(|lane| lane.open < OPEN_MAX))?;
        self.turn = found + 1;
        Some(found)
    }

    fn one(&mut self, at: usize, due: Instant) {
        self.made += 1;
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        let options = CallOptions {
            timeout: Some(self.plan.timeout),
            metadata: &self.plan.metadata,
            compress: self.plan.compress,
            ..CallOptions::default()
        };
        let sent = Instant::monotonic();
        let due = match self.plan.pace {
            Pace::Rate(_) => due,
            Pace::Outstanding(_) => sent,
        };
        let times = Times { due, sent };
        let request = &self.plan.request;
        match self
            .channel
            .start_with(lane.target, lane.method, request, &options)
        {
            Ok(key) => {
                lane.open += 1;
                self.flights.insert(key, Flight { lane: at, times });
            }
            Err(status) => {
                let now = Instant::monotonic();
                self.record.ended(&times, now, status);
                if matches!(self.plan.pace, Pace::Outstanding(_)) {
                    self.pause = now + PAUSE;
                }
            }
        }
    }

    /// How long the engine may sleep.
    fn sleep(&self, now: Instant, until: Instant) -> Duration {
        let next = match self.plan.pace {
            _ if now >= until && !self.owes(until) => until + self.plan.timeout,
            Pace::Rate(rate) => due(self.begin, self.made, rate),
            Pace::Outstanding(_) if now < self.pause => self.pause,
            Pace::Outstanding(_) => now + SLEEP_MAX,
        };
        next.saturating_since(now)
            .saturating_sub(AWAKE)
            .min(SLEEP_MAX)
    }

    /// Notes what has ended.
    fn take(&mut self) {
        while let Some((key, answer)) = self.channel.next_answer() {
            let now = Instant::monotonic();
            if let Some(flight) = self.flights.remove(&key) {
                if let Some(lane) = self.lanes.get_mut(flight.lane) {
                    lane.open = lane.open.saturating_sub(1);
                }
                self.record.ended(&flight.times, now, answer.status);
            }
        }
    }

    fn show(&self, bar: &ProgressBar, now: Instant) {
        if bar.is_hidden() {
            return;
        }
        let passed = now.saturating_since(self.begin);
        bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(0));
        let failed = self.record.calls() - self.record.ok();
        let last = self.record.points.last();
        let per_s = last.map_or_else(String::new, |point| format!("{}/s", quantity(point.per_s)));
        bar.set_message(format!("{per_s}, {failed} failed"));
    }
}

/// When call number `index` is due.
fn due(begin: Instant, index: u64, rate: f64) -> Instant {
    begin + Duration::from_secs_f64(crate::bench::figures::float(index) / rate)
}

/// How many calls are due before `until`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count: at most 100 million per second for some days, and not negative"
)]
fn due_before(begin: Instant, until: Instant, rate: f64) -> u64 {
    (until.saturating_since(begin).as_secs_f64() * rate).ceil() as u64
}

/// A progress bar over time on a terminal, nothing elsewhere.
fn bar(whole: Duration) -> ProgressBar {
    if !output::is_interactive() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:>8} {bar:32} {percent}% {msg}");
    ProgressBar::new(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX))
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_prefix("load")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_at_even_times_and_as_many_as_the_rate_says() {
        let begin = Instant::from_nanos(5);
        assert_eq!(due(begin, 0, 500.0), begin);
        assert_eq!(due(begin, 3, 500.0), begin + Duration::from_millis(6));
        let until = begin + Duration::from_millis(500);
        assert_eq!(due_before(begin, until, 500.0), 250);
        assert_eq!(due_before(begin, begin, 500.0), 0);
    }
}
