//! The results: JSON lines and a table on standard output, `peers.md` and plots in a folder.

use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use crate::contestant::Workload;
use crate::rounds::{Block, Series};
use crate::{Outcome, Plan, plot};

/// One JSON line.
#[derive(Debug, Serialize)]
struct Line {
    contestant: &'static str,
    workload: &'static str,
    size: usize,
    outstanding: usize,
    rounds: usize,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    per_s: f64,
    bytes_per_s: f64,
    /// Median over the rounds of its figure to that of the first contestant: round trips by their p50, else rates.
    ratio: f64,
}

/// The figure that a workload is about.
fn figure(workload: Workload, block: &Block) -> f64 {
    match workload {
        Workload::Rtt => block.p50_ns,
        _ => block.per_s,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn line(series: &Series, base: &Series) -> Line {
    let over = |field: fn(&Block) -> f64| median(series.blocks.iter().map(field).collect());
    let workload = series.workload;
    let timed = |field| (workload == Workload::Rtt).then(|| over(field));
    let pairs = series.blocks.iter().zip(&base.blocks);
    let ratios = pairs.map(|(own, base)| figure(workload, own) / figure(workload, base));
    let per_s = over(|block| block.per_s);
    Line {
        contestant: series.contestant.name,
        workload: workload.name(),
        size: workload.size(),
        outstanding: workload.outstanding(),
        rounds: series.blocks.len(),
        p50_ns: timed(|block| block.p50_ns),
        p99_ns: timed(|block| block.p99_ns),
        per_s,
        bytes_per_s: per_s * workload.size() as f64,
        ratio: median(ratios.collect()),
    }
}

/// Writes everything.
pub(crate) fn write(plan: &Plan, results: &[Series]) -> Outcome<()> {
    fs::create_dir_all(&plan.out)?;
    let (mut table, mut json) = (String::new(), String::new());
    for workload in Workload::ALL {
        let all: Vec<&Series> = results
            .iter()
            .filter(|it| it.workload == workload)
            .collect();
        let Some(base) = all.first() else { continue };
        let lines: Vec<Line> = all.iter().map(|series| line(series, base)).collect();
        for line in &lines {
            json += &serde_json::to_string(line)?;
            json.push('\n');
        }
        section(&mut table, workload, &lines)?;
        let bars: Vec<(&str, f64)> = lines.iter().map(|line| bar(workload, line)).collect();
        let file = plan.out.join(format!("peers-{}.svg", workload.name()));
        fs::write(file, plot::bars(title(workload), &bars))?;
    }
    fs::write(plan.out.join("peers.md"), format!("{HEAD}{table}"))?;
    fs::write(plan.out.join("peers.jsonl"), &json)?;
    print!("{json}\n{table}");
    Ok(())
}

const HEAD: &str = "# ringway beside other libraries\n\nWritten by \
`cargo run --release --manifest-path benches/peers/Cargo.toml`; what the settings mean stands in \
[benchmarks.md](../benchmarks.md#other-libraries). The last column is the median of the rounds' ratios to the first row.\n";

fn title(workload: Workload) -> &'static str {
    match workload {
        Workload::Rtt => "64 B round trip, p50, microseconds (less is better)",
        Workload::Rate => "64 B, 64 calls in flight, thousand calls per second (more is better)",
        Workload::Bandwidth => "1 MiB requests, 4 in flight, MB per second (more is better)",
    }
}

fn bar<'a>(workload: Workload, line: &Line) -> (&'a str, f64) {
    let value = match workload {
        Workload::Rtt => line.p50_ns.unwrap_or(f64::NAN) / 1e3,
        Workload::Rate => line.per_s / 1e3,
        Workload::Bandwidth => line.bytes_per_s / 1e6,
    };
    (line.contestant, value)
}

fn section(text: &mut String, workload: Workload, lines: &[Line]) -> Outcome<()> {
    writeln!(text, "\n## {}\n\n{}\n", workload.name(), title(workload))?;
    writeln!(text, "![{0}](peers-{0}.svg)\n", workload.name())?;
    writeln!(text, "| contestant | p50 | p99 | calls/s | MB/s | ratio |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    let time = |ns: Option<f64>| ns.map_or_else(String::new, |ns| format!("{:.1} us", ns / 1e3));
    for line in lines {
        writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.1} | {:.3} |",
            line.contestant,
            time(line.p50_ns),
            time(line.p99_ns),
            line.per_s,
            line.bytes_per_s / 1e6,
            line.ratio
        )?;
    }
    Ok(())
}
