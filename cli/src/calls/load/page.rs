//! The result as a page: how slow the slow ones are, and when.

use hdrhistogram::Histogram;

use super::generator::Outcome;
use super::report::{self, QUANTILES};
use super::{Pace, Plan};
use crate::bench::figures::float;
use crate::demo::chart::escape;
use crate::demo::lines::{Axis, Line, chart};
use crate::demo::page::shell;
use crate::machine;
use crate::output::{duration, quantity};

/// Steps of a percentile curve in each power of ten.
const STEPS: u32 = 20;

/// The whole page.
pub(crate) fn page(plan: &Plan, outcome: &Outcome) -> String {
    let mut body = format!(
        "<h1>{}</h1><p class=\"soft\">{}; {}<br>{}, Linux {}; driver {}, policy {}</p>",
        escape(&plan.name),
        escape(&plan.address),
        report::wish(plan),
        escape(&machine::processor()),
        escape(&machine::kernel()),
        outcome.driver,
        outcome.policy,
    );
    body += &figures(plan, outcome);
    body += &curves(plan, outcome);
    body += &timeline(outcome);
    shell(&format!("ringway load: {}", plan.name), &body)
}

fn figures(plan: &Plan, outcome: &Outcome) -> String {
    let record = &outcome.record;
    let wished = match plan.pace {
        Pace::Rate(rate) => format!(" of {}/s", quantity(rate)),
        Pace::Outstanding(_) => String::new(),
    };
    let statuses = report::statuses(record).into_iter();
    let statuses: Vec<_> = statuses
        .map(|(code, count, _)| format!("{} {count}", escape(&code)))
        .collect();
    let columns = report::columns(plan, record);
    let mut text = format!(
        "<section><h2>Figures</h2><p>{}/s{wished} achieved; {} calls: {}</p><div class=\"scroll\"><table>\
         <thead><tr><th></th>",
        quantity(report::per_s(record)),
        record.calls(),
        statuses.join(", "),
    );
    for (name, _) in &columns {
        text += &format!("<th>{name}</th>");
    }
    text += "</tr></thead><tbody>";
    for (name, quantile) in QUANTILES {
        text += &format!("<tr><td>{name}</td>");
        for (_, times) in &columns {
            let cell = duration(float(times.value_at_quantile(quantile)));
            text += &format!("<td>{cell}</td>");
        }
        text += "</tr>";
    }
    text + "</tbody></table></div></section>"
}

/// Latency over the share of calls that were faster, by nines.
fn curves(plan: &Plan, outcome: &Outcome) -> String {
    let record = &outcome.record;
    let mut lines = vec![Line {
        name: "from due time",
        class: "ours",
        points: curve(&record.due),
    }];
    if matches!(plan.pace, Pace::Rate(_)) {
        lines.push(Line {
            name: "from sending",
            class: "raw",
            points: curve(&record.sent),
        });
    } else if let Some(only) = lines.first_mut() {
        only.name = "latency";
    }
    let x = Axis::nines(
        lines
            .iter()
            .flat_map(|line| line.points.iter().map(|it| it.0)),
    );
    let y = Axis::times(
        lines
            .iter()
            .flat_map(|line| line.points.iter().map(|it| it.1)),
    );
    let svg = chart("Latency by percentile", &lines, &x, &y);
    format!(
        "<section><h2>Latency by percentile</h2><figure>{svg}<figcaption>A point says: this share of all calls \
         took no longer. Calls count from when they were due, so that a stall of the server counts for every call \
         that it delayed.</figcaption></figure></section>"
    )
}

/// Points (1 / (1 - q), ns).
fn curve(times: &Histogram<u64>) -> Vec<(f64, f64)> {
    if times.is_empty() {
        return Vec::new();
    }
    let powers = (0..=9 * STEPS).map(|step| 10_f64.powf(f64::from(step) / f64::from(STEPS)));
    let total = float(times.len());
    powers
        .take_while(|nines| *nines <= total)
        .map(|nines| {
            let quantile = 1.0 - 1.0 / nines;
            (nines, float(times.value_at_quantile(quantile).max(1)))
        })
        .chain(std::iter::once((total, float(times.max().max(1)))))
        .collect()
}

fn timeline(outcome: &Outcome) -> String {
    let points = &outcome.record.points;
    // A stretch without an end of a call has no latency.
    let of = |value: fn(&super::record::Point) -> u64| {
        let known = points.iter().filter(|point| point.max_ns > 0);
        known
            .map(|point| (point.at_s, float(value(point).max(1))))
            .collect()
    };
    let times = [
        Line {
            name: "max",
            class: "bare",
            points: of(|point| point.max_ns),
        },
        Line {
            name: "p99",
            class: "raw",
            points: of(|point| point.p99_ns),
        },
        Line {
            name: "p50",
            class: "ours",
            points: of(|point| point.p50_ns),
        },
    ];
    let x = Axis::seconds(outcome.record.seconds());
    let y = Axis::times(
        times
            .iter()
            .flat_map(|line| line.points.iter().map(|it| it.1)),
    );
    let latency = chart("Latency over time", &times, &x, &y);
    let rates = [Line {
        name: "calls/s",
        class: "ours",
        points: points.iter().map(|it| (it.at_s, it.per_s)).collect(),
    }];
    let y = Axis::rates(
        rates
            .iter()
            .flat_map(|line| line.points.iter().map(|it| it.1)),
    );
    let rate = chart("Calls that ended well, per second", &rates, &x, &y);
    format!(
        "<section><h2>Over time</h2><h3>Latency</h3><figure>{latency}</figure><h3>Calls that ended well, per \
         second</h3><figure>{rate}</figure></section>"
    )
}
