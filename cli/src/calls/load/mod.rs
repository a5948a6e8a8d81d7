//! `ringway load`: calls at a given rate, or so many at once, and how long they took.
//!
//! At a given rate the loop is open: call k is due at its own time, whether the server keeps up or not, and its
//! latency counts from that time. A generator that waits for a slow answer before it asks again leaves out the calls
//! that would have suffered (coordinated omission); here they are sent late and count in full. What the same calls
//! took from when they were really sent is shown beside it.
//!
//! ```text
//! mod.rs (what is asked for) ─► generator.rs (one engine, the loop) ─► record.rs (histograms, timeline)
//!                                                                      └─► report.rs (table, JSON), page.rs (HTML)
//! ```

mod generator;
mod page;
mod record;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway::QuicConfig;
use ringway::rpc::Method;

use super::args;
use super::call::{self, Wish};
use super::input::Input;
use super::remote::Remote;
use crate::bench::plan::{Driver, Policy};
use crate::failure::Failure;
use crate::{output, signals, tls};
use generator::Outcome;
pub(crate) use report::per_s;

/// What is asked for, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) address: String,
    /// Settings of `quic://`, for an address of it.
    pub(crate) quic: Option<QuicConfig>,
    /// `package.Service/Method`.
    pub(crate) name: String,
    pub(crate) method: Method,
    pub(crate) request: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) pace: Pace,
    pub(crate) connections: u32,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) timeout: Duration,
    pub(crate) compress: bool,
}

/// When calls are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many per second, whatever happens.
    Rate(f64),
    /// So many at once: the next one when one has ended.
    Outstanding(u32),
}

/// Makes the calls and shows what became of them.
pub(crate) fn run(arguments: &args::Load) -> Result<(), Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    // Before any other thread is there. Relaxed: nothing else is told by it.
    signals::on_stop(move || flag.store(true, Ordering::Relaxed))?;
    let plan = plan(arguments)?;
    let outcome = generator::run(&plan, arguments.reach.driver, arguments.idle, &stopped)?;
    if let Some(path) = &arguments.html {
        write(path, &page::page(&plan, &outcome))?;
    }
    if arguments.json {
        output::line(report::json(&plan, &outcome)?)?;
    } else {
        output::line(report::table(&plan, &outcome))?;
        if let Some(path) = &arguments.html {
            output::line(format!("\npage: {}", path.display()))?;
        }
    }
    match outcome.record.worst() {
        // Not one call went well: the reader of the exit code has to know.
        Some(status) if outcome.record.ok() == 0 => Err(Failure::call(&plan.name, status)),
        _ => Ok(()),
    }
}

/// Makes the calls of a plan of somebody else's.
pub(crate) fn measure(plan: &Plan, driver: Driver, policy: Policy) -> Result<Outcome, Failure> {
    generator::run(plan, Some(driver), policy, &AtomicBool::new(false))
}

fn plan(arguments: &args::Load) -> Result<Plan, Failure> {
    let metadata = call::headers(&arguments.message.headers)?;
    let wish = Wish {
        method: &arguments.method,
        message: &arguments.message,
        timeout: Some(arguments.timeout),
        defaults: false,
    };
    // What is learned from the server is learned on a connection of its own, which is gone before the first call.
    let remote = Remote::new(&arguments.address, &arguments.reach)?;
    let (method, name, form) = call::method(&wish, &remote)?;
    let data: Vec<String> = arguments.data.iter().cloned().collect();
    let request = match Input::of(&data, &form, false)? {
        Input::Given(messages) => messages.into_iter().next().unwrap_or_default(),
        Input::Lines => Vec::new(),
    };
    let pace = match (arguments.rate, arguments.outstanding) {
        (Some(rate), _) => Pace::Rate(rate),
        (None, outstanding) => Pace::Outstanding(outstanding.unwrap_or(1)),
    };
    Ok(Plan {
        address: remote.address().to_string(),
        quic: tls::connecting(&arguments.reach.tls, remote.address())?,
        name,
        method,
        request,
        metadata: metadata.bytes().to_vec(),
        pace,
        connections: u32::from(arguments.connections),
        warmup: arguments.warmup,
        duration: arguments.duration,
        timeout: arguments.timeout,
        compress: arguments.message.compress,
    })
}

fn write(path: &Path, page: &str) -> Result<(), Failure> {
    let what = "write the page (choose another place with --html)";
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(Failure::system(what))?;
    }
    std::fs::write(path, page).map_err(Failure::system(what))
}
