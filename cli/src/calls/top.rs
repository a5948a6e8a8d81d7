//! `ringway top`: what a server is doing, method by method.

use std::thread;
use std::time::Instant;

use serde::Serialize;

use super::args;
use super::remote::Remote;
use super::samples::{Row, Sample, Spread};
use crate::bench::figures::float;
use crate::failure::Failure;
use crate::output::{self, quantity};

/// Services that servers have of themselves: not shown unless asked for.
const BUILT_IN: [&str; 3] = ["ringway.admin.", "grpc.reflection.", "grpc.health."];
/// Rows on a terminal.
const ROWS_MAX: usize = 40;
/// To the upper left corner; from here to the end of the line; from here to the end of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
/// Cut lines that are too long for the terminal; wrap them, as it usually does.
const CUT: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
const REST_OF_SCREEN: &str = "\x1b[J";

/// Shows stretch after stretch, until the server or the reader goes away.
pub(crate) fn run(arguments: &args::Top) -> Result<(), Failure> {
    let remote = Remote::new(&arguments.address, &arguments.reach)?;
    let is_live = output::is_terminal() && !arguments.once && !arguments.json;
    let mut before = Sample::take(&remote, arguments.timeout)?;
    if is_live {
        output::line(format!(
            "{HOME}{REST_OF_SCREEN}{}: one moment",
            arguments.address
        ))?;
    }
    let mut due = Instant::now();
    loop {
        due += arguments.interval;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Sample::take(&remote, arguments.timeout)?;
        let mut rows = now.since(&before);
        before = now;
        if !arguments.all {
            let is_built_in = |name: &str| BUILT_IN.iter().any(|it| name.starts_with(it));
            rows.retain(|row| row.started > 0 && !is_built_in(&row.name));
        }
        let place = arguments.address.to_string();
        if arguments.json {
            output::line(json(&place, &rows)?)?;
        } else if is_live {
            rows.truncate(ROWS_MAX);
            let text = table(&place, &rows);
            let lines: Vec<String> = text
                .lines()
                .map(|line| format!("{line}{REST_OF_LINE}"))
                .collect();
            let text = lines.join("\n");
            output::line(format!("{HOME}{CUT}{text}{WRAP}{REST_OF_SCREEN}"))?;
        } else {
            output::line(table(&place, &rows))?;
            if !arguments.once {
                output::line("")?;
            }
        }
        if arguments.once {
            return Ok(());
        }
    }
}

fn table(place: &str, rows: &[Row]) -> String {
    let sum = |value: fn(&Row) -> f64| rows.iter().map(value).sum::<f64>();
    let running: u64 = rows.iter().map(|row| row.running).sum();
    let mut text = format!(
        "{place}: {} calls/s, {running} running, {} failed/s, {} refused/s\n",
        quantity(sum(|row| row.per_s)),
        quantity(sum(|row| row.failed_per_s)),
        quantity(sum(|row| row.refused_per_s)),
    );
    let width = rows
        .iter()
        .map(|row| row.name.len())
        .max()
        .unwrap_or(0)
        .max(6);
    text += &format!(
        "{:<width$}{:>9}{:>8}{:>8}{:>24}{:>24}{:>24}\n",
        "", "", "", "", "queue", "arriving", "handler"
    );
    text += &format!(
        "{:<width$}{:>9}{:>8}{:>8}",
        "method", "calls/s", "running", "fail/s"
    );
    for _ in 0..3 {
        text += &format!("{:>8}{:>8}{:>8}", "p50", "p99", "p99.9");
    }
    for row in rows {
        text += &format!(
            "\n{:<width$}{:>9}{:>8}{:>8}",
            row.name,
            quantity(row.per_s),
            row.running,
            quantity(row.failed_per_s + row.refused_per_s),
        );
        for Spread {
            p50_ns,
            p99_ns,
            p999_ns,
        } in row.times
        {
            for ns in [p50_ns, p99_ns, p999_ns] {
                text += &format!("{:>8}", short(ns));
            }
        }
    }
    text
}

/// A time in at most six letters; a dash where there is none. The least that is recorded is a nanosecond.
fn short(ns: u64) -> String {
    match float(ns) {
        n if n < 1.0 => "-".to_owned(),
        n if n < 2.0 => "0".to_owned(),
        n if n < 1e3 => format!("{n:.0}ns"),
        n if n < 1e4 => format!("{:.1}us", n / 1e3),
        n if n < 1e6 => format!("{:.0}us", n / 1e3),
        n if n < 1e7 => format!("{:.1}ms", n / 1e6),
        n if n < 1e9 => format!("{:.0}ms", n / 1e6),
        n => format!("{:.1}s", n / 1e9),
    }
}

#[derive(Debug, Serialize)]
struct Json<'a> {
    address: &'a str,
    methods: Vec<JsonRow<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    name: &'a str,
    started: u64,
    calls_per_s: f64,
    running: u64,
    failed_per_s: f64,
    refused_per_s: f64,
    queue: JsonTimes,
    wire: JsonTimes,
    handler: JsonTimes,
}

#[derive(Debug, Serialize)]
struct JsonTimes {
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
}

impl From<Spread> for JsonTimes {
    fn from(
        Spread {
            p50_ns,
            p99_ns,
            p999_ns,
        }: Spread,
    ) -> Self {
        Self {
            p50_ns,
            p99_ns,
            p999_ns,
        }
    }
}

fn json(address: &str, rows: &[Row]) -> Result<String, Failure> {
    let methods = rows.iter().map(|row| {
        let [queue, wire, handler] = row.times.map(JsonTimes::from);
        JsonRow {
            name: &row.name,
            started: row.started,
            calls_per_s: row.per_s,
            running: row.running,
            failed_per_s: row.failed_per_s,
            refused_per_s: row.refused_per_s,
            queue,
            wire,
            handler,
        }
    });
    let json = Json {
        address,
        methods: methods.collect(),
    };
    serde_json::to_string(&json)
        .map_err(|error| Failure::Peer(format!("can't write the result: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_enough_for_their_column() {
        let cases = [
            (0, "-"),
            (1, "0"),
            (870, "870ns"),
            (1_250, "1.2us"),
            (99_600, "100us"),
            (2_500_000, "2.5ms"),
            (125_000_000, "125ms"),
            (3_000_000_000, "3.0s"),
        ];
        for (ns, text) in cases {
            assert_eq!(short(ns), text);
        }
    }
}
