//! The rounds: every contestant once in each, the order rotating.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::contestant::{CONTESTANTS, Client, Contestant, Library, Workload};
use crate::{Outcome, Plan, peers, sys};

/// Of a measured block, so much goes ahead unmeasured.
const WARM_UP_SHARE: usize = 8;

/// One contestant's figures of one workload, round by round.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) contestant: Contestant,
    pub(crate) workload: Workload,
    pub(crate) blocks: Vec<Block>,
}

/// The figures of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) per_s: f64,
}

/// A server process and the client that is connected to it.
struct Pair {
    contestant: Contestant,
    server: Server,
    client: Box<dyn Client>,
    /// Calls of a block of each workload.
    ops: [usize; 3],
}

/// A server process, ended with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Measures everything.
pub(crate) fn run(plan: &Plan) -> Outcome<Vec<Series>> {
    let (client_core, server_core) = sys::cores()?;
    sys::pin(client_core)?;
    let mut pairs = Vec::new();
    let wanted = |name: &str| plan.only.as_ref().is_none_or(|part| name.contains(part));
    for contestant in CONTESTANTS.iter().filter(|it| wanted(it.name)) {
        pairs.push(Pair::start(*contestant, server_core, plan)?);
    }
    let mut series: Vec<Series> = Vec::new();
    for workload in Workload::ALL {
        series.extend(pairs.iter().map(|pair| Series {
            contestant: pair.contestant,
            workload,
            blocks: Vec::new(),
        }));
    }
    let count = pairs.len();
    for round in 0..plan.rounds {
        for turn in 0..count {
            let at = (round + turn) % count;
            for (row, workload) in plan.workloads() {
                let block = pairs[at].block(workload)?;
                series[row * count + at].blocks.push(block);
            }
        }
        eprint!("\rround {} of {}", round + 1, plan.rounds);
    }
    eprintln!();
    series.retain(|series| !series.blocks.is_empty());
    Ok(series)
}

impl Plan {
    /// What is measured, with its row.
    fn workloads(&self) -> impl Iterator<Item = (usize, Workload)> + '_ {
        let all = Workload::ALL.into_iter().enumerate();
        all.filter(|(_, it)| self.workload.as_ref().is_none_or(|name| name == it.name()))
    }
}

impl Pair {
    fn start(contestant: Contestant, core: usize, plan: &Plan) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", contestant.name, &core.to_string()])
            .args([std::process::id().to_string(), plan.payload.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said).read_line(&mut address)?;
        }
        let server = Server(child);
        let address = address.trim();
        let setting = contestant.setting;
        let client: Box<dyn Client> = match contestant.library {
            Library::Ringway => Box::new(peers::ringway::Inline::connect(address, setting)?),
            Library::RingwayChannel => Box::new(peers::ringway::Blocking::connect(address)?),
            Library::RingwayQuic => {
                let client = peers::ringway::Inline::connect_quic(address, setting, plan.payload)?;
                Box::new(client)
            }
            Library::Quinn => peers::quinn::connect(address, setting, plan.payload)?,
            Library::Tonic => peers::tonic::connect(address, setting)?,
            Library::Tarpc => peers::tarpc::connect(address, setting)?,
            Library::Capnp => peers::capnp::connect(address, setting)?,
        };
        let mut pair = Self {
            contestant,
            server,
            client,
            ops: [0; 3],
        };
        for (row, workload) in plan.workloads() {
            pair.ops[row] = pair.calibrated(workload, plan.block_ms)?;
        }
        sys::stop(pair.server.0.id(), true)?;
        Ok(pair)
    }

    /// How many calls take about as long as a block shall.
    fn calibrated(&mut self, workload: Workload, block_ms: u64) -> Outcome<usize> {
        let mut ops = 4 * workload.outstanding();
        loop {
            // The fastest of three: what else runs on the machine makes blocks longer, never shorter.
            let mut seconds = f64::MAX;
            for _ in 0..3 {
                seconds = seconds.min(self.timed(workload, ops)?.0);
            }
            let wanted = block_ms as f64 / 1e3;
            if seconds > wanted / 8.0 {
                return Ok(((ops as f64 * wanted / seconds) as usize).max(workload.outstanding()));
            }
            ops *= 2;
        }
    }

    fn timed(&mut self, workload: Workload, ops: usize) -> Outcome<(f64, Histogram<u64>)> {
        let mut latencies = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
        let started = Instant::now();
        self.client
            .run(workload, ops, &mut latencies)
            .map_err(|error| format!("{}: {error}", self.contestant.name))?;
        Ok((started.elapsed().as_secs_f64(), latencies))
    }

    fn block(&mut self, workload: Workload) -> Outcome<Block> {
        let row = Workload::ALL.iter().position(|it| *it == workload);
        let ops = row.map_or(1, |row| self.ops[row]);
        sys::stop(self.server.0.id(), false)?;
        self.timed(workload, (ops / WARM_UP_SHARE).max(1))?;
        let (seconds, latencies) = self.timed(workload, ops)?;
        sys::stop(self.server.0.id(), true)?;
        Ok(Block {
            p50_ns: latencies.value_at_quantile(0.50) as f64,
            p99_ns: latencies.value_at_quantile(0.99) as f64,
            per_s: ops as f64 / seconds,
        })
    }
}
