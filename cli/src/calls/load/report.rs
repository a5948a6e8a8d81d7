//! The result as a table and as JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::generator::Outcome;
use super::record::Record;
use super::{Pace, Plan};
use crate::bench::figures::float;
use crate::failure::Failure;
use crate::output::{duration, quantity};

/// What is shown of a distribution.
pub(crate) const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

/// What was asked for, in one line.
pub(crate) fn wish(plan: &Plan) -> String {
    let pace = match plan.pace {
        Pace::Rate(rate) => format!("open loop, {}/s", quantity(rate)),
        Pace::Outstanding(most) => format!("closed loop, {most} outstanding"),
    };
    let connections = match plan.connections {
        1 => "1 connection".to_owned(),
        many => format!("{many} connections"),
    };
    format!(
        "{pace}, {connections}, {:?} after {:?} of warm-up",
        plan.duration, plan.warmup
    )
}

/// Calls by status, most frequent ones first.
pub(crate) fn statuses(record: &Record) -> Vec<(String, u64, String)> {
    let ended = record.ended.iter();
    let mut all: Vec<_> = ended
        .map(|(code, (count, status))| (code.to_string(), *count, status.message.to_string()))
        .collect();
    if record.unfinished > 0 {
        all.push(("unfinished".to_owned(), record.unfinished, String::new()));
    }
    all.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    all
}

/// The columns of times: from when calls were due, and from when they were sent.
pub(crate) fn columns<'a>(
    plan: &Plan,
    record: &'a Record,
) -> Vec<(&'static str, &'a Histogram<u64>)> {
    match plan.pace {
        Pace::Rate(_) => vec![
            ("from due time", &record.due),
            ("from sending", &record.sent),
            ("sent late by", &record.late),
        ],
        Pace::Outstanding(_) => vec![("latency", &record.sent)],
    }
}

/// Calls that ended well per second, while the measurement lasted.
pub(crate) fn per_s(record: &Record) -> f64 {
    float(record.in_time) / record.seconds()
}

/// The table.
pub(crate) fn table(plan: &Plan, outcome: &Outcome) -> String {
    let record = &outcome.record;
    let mut text = format!(
        "{} at {}: {}\ndriver {}, policy {}\n\n",
        plan.name,
        plan.address,
        wish(plan),
        outcome.driver,
        outcome.policy
    );
    text += &format!("{:<10}{}/s", "achieved", quantity(per_s(record)));
    if let Pace::Rate(rate) = plan.pace {
        text += &format!(" of {}/s", quantity(rate));
    }
    text += &format!("\n{:<10}{}\n", "calls", record.calls());
    for (code, count, message) in statuses(record) {
        let first = match message.as_str() {
            "" => String::new(),
            message => format!("  first: {message}"),
        };
        text += &format!("  {code:<22}{count:>12}{first}\n");
    }
    let columns = columns(plan, record);
    text += &format!("\n{:<10}", "");
    for (name, _) in &columns {
        text += &format!("{name:>16}");
    }
    let mean = columns.iter().map(|(_, times)| duration(times.mean()));
    let mut rows = vec![("mean", mean.collect::<Vec<_>>())];
    for (name, quantile) in QUANTILES {
        let row = columns
            .iter()
            .map(|(_, times)| duration(float(times.value_at_quantile(quantile))));
        rows.push((name, row.collect()));
    }
    for (name, row) in rows {
        text += &format!("\n{name:<10}");
        for cell in row {
            text += &format!("{cell:>16}");
        }
    }
    text
}

#[derive(Debug, Serialize)]
struct Json<'a> {
    address: &'a str,
    method: &'a str,
    rate_wished_per_s: Option<f64>,
    outstanding: Option<u32>,
    connections: u32,
    seconds: f64,
    warmup_seconds: f64,
    driver: &'a str,
    policy: &'a str,
    achieved_per_s: f64,
    calls: u64,
    statuses: std::collections::BTreeMap<String, u64>,
    /// From when calls were due; at --outstanding the same as `from_sending`.
    from_due: Times,
    from_sending: Times,
    sent_late: Times,
    timeline: Vec<Stretch>,
}

#[derive(Debug, Serialize)]
struct Times {
    mean_ns: f64,
    p50_ns: u64,
    p75_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    p9999_ns: u64,
    max_ns: u64,
}

#[derive(Debug, Serialize)]
struct Stretch {
    at_s: f64,
    per_s: f64,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    failed: u64,
}

impl Times {
    fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self {
            mean_ns: times.mean(),
            p50_ns: at(0.5),
            p75_ns: at(0.75),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: times.max(),
        }
    }
}

/// One line of JSON.
pub(crate) fn json(plan: &Plan, outcome: &Outcome) -> Result<String, Failure> {
    let record = &outcome.record;
    let (rate, outstanding) = match plan.pace {
        Pace::Rate(rate) => (Some(rate), None),
        Pace::Outstanding(most) => (None, Some(most)),
    };
    let statuses = statuses(record).into_iter();
    let timeline = record.points.iter().map(|point| Stretch {
        at_s: point.at_s,
        per_s: point.per_s,
        p50_ns: point.p50_ns,
        p99_ns: point.p99_ns,
        max_ns: point.max_ns,
        failed: point.failed,
    });
    let json = Json {
        address: &plan.address,
        method: &plan.name,
        rate_wished_per_s: rate,
        outstanding,
        connections: plan.connections,
        seconds: record.seconds(),
        warmup_seconds: plan.warmup.as_secs_f64(),
        driver: &outcome.driver,
        policy: &outcome.policy,
        achieved_per_s: per_s(record),
        calls: record.calls(),
        statuses: statuses.map(|(code, count, _)| (code, count)).collect(),
        from_due: Times::of(&record.due),
        from_sending: Times::of(&record.sent),
        sent_late: Times::of(&record.late),
        timeline: timeline.collect(),
    };
    serde_json::to_string(&json)
        .map_err(|error| Failure::Peer(format!("can't write the result: {error}")))
}
