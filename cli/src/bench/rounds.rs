//! The rounds of a run: every contestant once per round, the order rotating, so that what the machine does
//! meanwhile falls on all of them alike.

use super::contestant::Client;
use super::control::{Block, Order, Side};
use super::figures::{Figures, Series};
use super::ours::{CallClient, OurClient};
use super::pair::Pair;
use super::plan::{Plan, Transport, Workload};
use super::raw::RawClient;
use super::usage::Meter;
use crate::failure::Failure;
use crate::machine::{self, Cores, DESCRIPTORS_BESIDE, Pinned};

/// Of a measured block, so much goes ahead unmeasured: caches, branch predictors, hot sets.
const WARM_UP_SHARE: u64 = 8;
/// A calibrating block has to take at least so long, in nanoseconds.
const CALIBRATION_NS: u64 = 4_000_000;
/// Blocks per size while calibrating.
const CALIBRATIONS: u32 = 3;
/// Fewest and most messages of a calibrated block.
const OPS_RANGE: (u64, u64) = (16, 1 << 24);
/// How long one block of `idle` takes, in milliseconds.
const IDLE_MS: u64 = 2_000;

/// One contestant's turn in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The baseline.
    RawFirst,
    Ours,
    /// The baseline once more: the control.
    RawAgain,
    /// The second baseline.
    Second,
}

impl Slot {
    fn side(self) -> Side {
        match self {
            Self::RawFirst | Self::RawAgain => Side::Raw,
            Self::Ours => Side::Ours,
            Self::Second => Side::Second,
        }
    }
}

/// What the rounds brought.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    /// Messages of each measured block.
    pub(crate) ops: u64,
    pub(crate) raw: Series,
    pub(crate) ours: Series,
    /// The baseline a second time in each round: the A/A control.
    pub(crate) control: Series,
    /// The second baseline, where there is one.
    pub(crate) second: Option<Series>,
}

/// Both processes with all their connections.
struct Run {
    plan: Plan,
    pair: Pair,
    clients: Vec<(Side, Box<dyn Client>)>,
}

/// Runs `plan`; calls `progress` after each round with the number of rounds done.
pub(crate) fn run(plan: Plan, mut progress: impl FnMut(u32)) -> Result<Outcome, Failure> {
    let cores = Cores::choose()?;
    let sockets = 2 * u64::from(plan.connections);
    machine::allow_descriptors(sockets.max(u64::from(plan.held)) + DESCRIPTORS_BESIDE)?;
    let _pinned = Pinned::to(cores.client)?;
    let rss = resident(plan, cores)?;
    let mut run = Run::connect(plan, cores)?;
    let ops = run.calibrate()?;
    let mut slots = vec![Slot::RawFirst, Slot::Ours, Slot::RawAgain];
    let has_second = plan.baselines().1.is_some();
    slots.extend(has_second.then_some(Slot::Second));
    let mut outcome = Outcome {
        plan,
        ops,
        raw: Series::new(),
        ours: Series::new(),
        control: Series::new(),
        second: has_second.then(Series::new),
    };
    if !plan.is_idle() {
        // A whole round that is not counted, the same for all.
        for slot in &slots {
            run.block(*slot, ops, None)?;
        }
    }
    for round in 0..plan.rounds {
        for slot in &slots {
            let series = match slot {
                Slot::RawFirst => Some(&mut outcome.raw),
                Slot::Ours => Some(&mut outcome.ours),
                Slot::RawAgain => Some(&mut outcome.control),
                Slot::Second => outcome.second.as_mut(),
            };
            run.block(*slot, ops, series)?;
        }
        slots.rotate_left(1);
        progress(round + 1);
    }
    if let Some((ours, raw)) = rss {
        outcome.ours.rss_per_connection = Some(ours);
        outcome.raw.rss_per_connection = Some(raw);
    }
    Ok(outcome)
}

impl Run {
    /// Makes all connections of all contestants, once.
    fn connect(plan: Plan, cores: Cores) -> Result<Self, Failure> {
        let mut run = Self {
            plan,
            pair: Pair::start(plan, cores)?,
            clients: Vec::new(),
        };
        let mut sides = vec![Side::Raw, Side::Ours];
        sides.extend(plan.baselines().1.map(|_| Side::Second));
        for side in sides {
            let (client, _) = meet(&mut run.pair, plan, side, plan.connections)?;
            run.clients.push((side, client));
        }
        Ok(run)
    }

    /// Messages that take the baseline about as long as a block shall take.
    fn calibrate(&mut self) -> Result<u64, Failure> {
        if let Some(ops) = self.plan.ops {
            return Ok(ops);
        }
        if self.plan.is_idle() {
            return Ok(0);
        }
        let fewest = OPS_RANGE.0.max(u64::from(self.plan.outstanding));
        let mut ops = fewest;
        loop {
            // The fastest of three: what else runs on the machine makes blocks longer, never shorter.
            let mut elapsed_ns = u64::MAX;
            for _ in 0..CALIBRATIONS {
                elapsed_ns = elapsed_ns.min(self.exchange(Side::Raw, ops, |_, _| {})?.max(1));
            }
            if elapsed_ns >= CALIBRATION_NS || ops >= OPS_RANGE.1 {
                let target_ns = self.plan.block_ms * 1_000_000;
                let scaled = u128::from(ops) * u128::from(target_ns) / u128::from(elapsed_ns);
                return Ok(u64::try_from(scaled)
                    .unwrap_or(u64::MAX)
                    .clamp(fewest, OPS_RANGE.1));
            }
            ops *= 4;
        }
    }

    /// One contestant's block; its figures go to `series`.
    fn block(&mut self, slot: Slot, ops: u64, series: Option<&mut Series>) -> Result<(), Failure> {
        if self.plan.is_idle() {
            self.pair.tell(&Order::Idle(slot.side(), IDLE_MS))?;
            self.pair.ready()?;
            let usage = self.pair.done()?;
            if let Some(series) = series {
                series.add(Figures::of_idle(usage), None);
            }
            return Ok(());
        }
        self.exchange(slot.side(), ops, |figures, latencies| {
            if let Some(series) = series {
                series.add(figures, latencies);
            }
        })?;
        Ok(())
    }

    /// A block on both sides; returns how long it took the client, in nanoseconds.
    fn exchange(
        &mut self,
        side: Side,
        ops: u64,
        take: impl FnOnce(Figures, Option<&hdrhistogram::Histogram<u64>>),
    ) -> Result<u64, Failure> {
        let block = Block {
            warm_up: (ops / WARM_UP_SHARE)
                .max(self.plan.together().min(ops))
                .max(1),
            measured: ops,
        };
        let found = self.clients.iter_mut().find(|(known, _)| *known == side);
        let Some((_, client)) = found else {
            return Err(Failure::Connection(
                "this contestant has not connected".to_owned(),
            ));
        };
        self.pair.tell(&Order::Block(side, block))?;
        self.pair.ready()?;
        let done = (|| {
            client.warm_up(block.warm_up)?;
            let meter = Meter::start(client.counts());
            client.run(block.measured)?;
            let usage = meter.stop(client.counts());
            client.settle()?;
            Ok(usage)
        })();
        // If both sides failed, the child's word says more than "it hung up".
        let usage = match (done, self.pair.done()) {
            (Ok(near), Ok(far)) => (near, near + far),
            (Err(failure @ Failure::Stalled { .. }), _) | (Err(failure), Ok(_)) => {
                return Err(failure);
            }
            (_, Err(failure)) => return Err(failure),
        };
        let (near, mut both) = usage;
        both.elapsed_ns = near.elapsed_ns;
        let latencies = client.latencies();
        let figures = Figures::of_block(&self.plan, ops, both, latencies);
        take(figures, self.plan.has_latency().then_some(latencies));
        Ok(near.elapsed_ns)
    }
}

/// A connected client; resident bytes of its server before and after.
type Met = (Box<dyn Client>, (u64, u64));

/// Makes the connections of one contestant; resident bytes of the server before and after.
fn meet(pair: &mut Pair, plan: Plan, side: Side, count: u32) -> Result<Met, Failure> {
    let address = pair.listen(side)?;
    pair.tell(&Order::Accept(side, count))?;
    let (baseline, tail) = (plan.baseline(side), plan.workload == Workload::CallTail);
    let certificate = pair.certificate();
    let client: Result<Box<dyn Client>, Failure> = match baseline {
        Some(baseline) if !tail => {
            RawClient::connect(plan, baseline, &address, count).map(|it| Box::new(it) as _)
        }
        // Beside the tail stands the same without slow calls.
        _ if plan.is_calls() => {
            CallClient::connect(plan, certificate, &address, count, baseline.is_none())
                .map(|it| Box::new(it) as _)
        }
        _ => OurClient::connect(plan, certificate, &address, count).map(|it| Box::new(it) as _),
    };
    let mut client = client?;
    client.settle()?;
    Ok((client, pair.accepted()?))
}

/// Resident bytes of a server per idle connection, ours and raw, each measured in a fresh process, so that
/// memory freed by one can't hide the other's.
fn resident(plan: Plan, cores: Cores) -> Result<Option<(f64, f64)>, Failure> {
    // Behind datagram sockets there are no connections of the baseline's whose memory could be compared.
    let streams = matches!(plan.transport, Transport::Tcp | Transport::Unix);
    if plan.workload.shape() != Workload::Connections || plan.held == 0 || !streams {
        return Ok(None);
    }
    let measure = |side| {
        let mut pair = Pair::start(plan, cores)?;
        let (client, (before, now)) = meet(&mut pair, plan, side, plan.held)?;
        drop(client);
        let grown = super::figures::float(now.saturating_sub(before));
        Ok::<_, Failure>(grown / f64::from(plan.held))
    };
    Ok(Some((measure(Side::Ours)?, measure(Side::Raw)?)))
}
