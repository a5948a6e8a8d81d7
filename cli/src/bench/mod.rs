//! `ringway bench`: ringway beside hand-written sockets of the same shape, in one pair of processes.
//!
//! The parent is the client, the child ([`peer`]) the server; each is pinned to a core. All connections are
//! made once; then [`rounds`] run every contestant in turn. [`ours`] and [`raw`] are the contestants, [`load`]
//! is what they send, the same object for both. [`stats`] turns rounds into ratios and bands, [`goals`] into
//! verdicts; [`json`] and [`report`] write them down.

pub(crate) mod allocations;
mod baseline;
mod contestant;
mod control;
pub(crate) mod figures;
pub(crate) mod goals;
pub(crate) mod json;
pub(crate) mod load;
mod ours;
mod pair;
pub(crate) mod peer;
pub(crate) mod plan;
mod raw;
mod recovery;
mod report;
pub(crate) mod rounds;
pub(crate) mod stats;
mod usage;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::args;
use crate::failure::Failure;
use crate::machine::Cores;
use crate::output;
use json::Line;
use plan::{Plan, Policy, ROUNDS_MIN, Workload};

/// How long nothing may arrive, or a block may take, before a run is given up.
pub(crate) const STALL: Duration = Duration::from_secs(10);

/// Runs one measurement and prints it.
pub(crate) fn run(arguments: &args::Bench) -> Result<(), Failure> {
    if arguments.workload == Workload::Recovery {
        return recovery::run(arguments);
    }
    let plan = Plan::new(arguments)?;
    if plan.rounds < ROUNDS_MIN && !plan.is_idle() && arguments.json {
        output::note(format!("ringway: {}", report::few_rounds(plan.rounds)));
    }
    if plan.policy == Policy::Spin && !Cores::choose()?.are_two() {
        output::note(
            "ringway: both processes share one core; spinning there measures the scheduler",
        );
    }
    let bar = bar(u64::from(plan.rounds));
    let outcome = rounds::run(plan, |done| bar.set_position(u64::from(done)))?;
    bar.finish_and_clear();
    let line = Line::new(&outcome);
    if arguments.json {
        let text = serde_json::to_string(&line)
            .map_err(|error| Failure::Peer(format!("can't write the result: {error}")))?;
        return output::line(text);
    }
    output::line(report::table(&line).trim_end())
}

/// A progress bar on a terminal, nothing elsewhere.
pub(crate) fn bar(length: u64) -> ProgressBar {
    if !output::is_interactive() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:>16} {bar:32} {pos}/{len} {msg}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
