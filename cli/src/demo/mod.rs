//! `ringway demo`: messages over every transport, measured beside raw sockets, with a report to look at.
//!
//! First an echo server in a process of its own and a few words with it ([`exchange`]), then the key-value example
//! and calls of it ([`services`]),
//! then short runs of the benchmark over tcp, unix and udp, then a table and one self-contained page ([`page`], drawn by
//! [`chart`]). Few rounds: it shows what to expect, and proves nothing; `ringway bench` does.

pub(crate) mod chart;
mod exchange;
pub(crate) mod lines;
pub(crate) mod page;
mod services;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ringway::Config;

use crate::args;
use crate::bench::bar;
use crate::bench::figures::float;
use crate::bench::json::Line;
use crate::bench::plan::{Driver, Plan, Policy, Transport, Workload};
use crate::bench::rounds::{self, Outcome};
use crate::failure::Failure;
use crate::machine::Cores;
use crate::output::{self, duration, quantity};
use services::Called;

/// What is measured on each transport.
const WORKLOADS: [Workload; 3] = [Workload::Rtt, Workload::Rate, Workload::Stream];
/// All transports.
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Unix, Transport::Udp];
/// What one block takes the raw side, in milliseconds.
const BLOCK_MS: u64 = 25;
/// When so much time has passed, what is left is measured in a single round each.
const PATIENCE: Duration = Duration::from_secs(15);

/// One measurement of the demo.
#[derive(Debug)]
struct Shown {
    outcome: Outcome,
    line: Line,
}

/// Where and how it was measured.
#[derive(Debug)]
struct Setting {
    driver: Driver,
    policy: Policy,
    /// Why the driver isn't io_uring, if it isn't.
    fallback: Option<String>,
}

/// Shows everything.
pub(crate) fn run(arguments: &args::Demo) -> Result<(), Failure> {
    let started = Instant::now();
    let setting = setting(arguments.driver)?;
    let Setting { driver, policy, .. } = setting;
    if let Some(fallback) = &setting.fallback {
        output::line(format!(
            "io_uring can't be used here, so this is epoll: {fallback}"
        ))?;
    }
    output::line(format!("driver {driver}, policy {policy}\n"))?;
    exchange::run(driver)?;
    let called = services::run(driver, policy)?;
    let shown = measure(arguments.rounds, &setting, started)?;
    output::line(table(&shown))?;
    output::line(calls_table(&called))?;
    write(&arguments.report, &page::page(&setting, &shown, &called))?;
    output::line(format!(
        "report: {} ({:.1} s)\n{}",
        arguments.report.display(),
        started.elapsed().as_secs_f64(),
        "few rounds: a look, not a claim; `ringway bench` makes claims"
    ))
}

fn setting(wish: Option<Driver>) -> Result<Setting, Failure> {
    let policy = if Cores::choose()?.are_two() {
        Policy::Spin
    } else {
        Policy::Park
    };
    if let Some(driver) = wish {
        return Ok(Setting {
            driver,
            policy,
            fallback: None,
        });
    }
    Ok(
        match Config::default().driver(Driver::Uring.required()).build() {
            Ok(_) => Setting {
                driver: Driver::Uring,
                policy,
                fallback: None,
            },
            Err(error) => Setting {
                driver: Driver::Epoll,
                policy,
                fallback: Some(error.to_string()),
            },
        },
    )
}

fn measure(rounds: u32, setting: &Setting, started: Instant) -> Result<Vec<Shown>, Failure> {
    let total = WORKLOADS.len() * TRANSPORTS.len();
    let bar = bar(u64::try_from(total).unwrap_or(0) * u64::from(rounds));
    let mut shown = Vec::with_capacity(total);
    for transport in TRANSPORTS {
        for workload in WORKLOADS {
            let rounds = if started.elapsed() < PATIENCE {
                rounds
            } else {
                1
            };
            let plan = plan(workload, transport, rounds, setting)?;
            bar.set_prefix(format!("{workload} over {transport}"));
            if !output::is_interactive() {
                output::note(format!("measuring {workload} over {transport}"));
            }
            let outcome = rounds::run(plan, |_| bar.inc(1))?;
            let line = Line::new(&outcome);
            shown.push(Shown { outcome, line });
        }
    }
    bar.finish_and_clear();
    Ok(shown)
}

fn plan(
    workload: Workload,
    transport: Transport,
    rounds: u32,
    setting: &Setting,
) -> Result<Plan, Failure> {
    let wish = args::Bench {
        workload,
        transport,
        driver: setting.driver,
        policy: setting.policy,
        size: None,
        outstanding: None,
        connections: None,
        held: None,
        rate: None,
        rounds: Some(rounds),
        mtu: None,
        ops: None,
        json: false,
    };
    Ok(Plan {
        block_ms: BLOCK_MS,
        ..Plan::new(&wish)?
    })
}

/// One row of figures: ringway, raw, ratio; empty where there is no figure.
fn figures(shown: &Shown) -> [String; 3] {
    let line = &shown.line;
    let ((ours, raw), ratio, show): (_, _, fn(f64) -> String) = match line.workload {
        Workload::Rtt => (
            (line.ours.p50_ns, line.raw.p50_ns),
            line.ratio_p50,
            duration,
        ),
        _ => (
            (line.ours.per_s, line.raw.per_s),
            line.ratio_rate,
            per_second,
        ),
    };
    let [ours, raw] = [ours, raw].map(|value| value.map_or_else(String::new, show));
    [
        ours,
        raw,
        ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
    ]
}

fn per_second(value: f64) -> String {
    format!("{}/s", quantity(value))
}

/// What a workload's figure is called.
fn title(workload: Workload) -> &'static str {
    match workload {
        Workload::Rtt => "round trip, p50",
        Workload::Rate => "calls, 64 in flight",
        _ => "messages, one way",
    }
}

fn table(shown: &[Shown]) -> String {
    let mut text = format!(
        "{:<6}{:<22}{:>13}{:>13}{:>8}\n",
        "", "64-byte messages", "ringway", "raw", "ratio"
    );
    for one in shown {
        let [ours, raw, ratio] = figures(one);
        let transport = one.line.transport.to_string();
        let title = title(one.line.workload);
        text += &format!("{transport:<6}{title:<22}{ours:>13}{raw:>13}{ratio:>8}\n");
    }
    text
}

/// What calls of the key-value store took.
fn calls_table(called: &[Called]) -> String {
    let mut text = format!("{:<6}{:<22}{:>13}\n", "", "kv.KeyValue/Get", "ringway");
    for one in called {
        let transport = one.transport.to_string();
        let rows = [
            (
                "round trip, p50",
                duration(float(one.round_trips.value_at_quantile(0.5))),
            ),
            (
                "round trip, p99",
                duration(float(one.round_trips.value_at_quantile(0.99))),
            ),
            ("calls, 64 in flight", per_second(one.per_s)),
        ];
        for (title, figure) in rows {
            text += &format!("{transport:<6}{title:<22}{figure:>13}\n");
        }
    }
    text
}

fn write(path: &Path, page: &str) -> Result<(), Failure> {
    let what = "write the report (choose another place with --report)";
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(Failure::system(what))?;
    }
    fs::write(path, page).map_err(Failure::system(what))
}
