//! A result as a table for people.

use super::baseline::Baseline;
use super::figures::Figures;
use super::goals::{Bound, Figure, Goal, Verdict, goals};
use super::json::Line;
use super::plan::{ROUNDS_MIN, Workload};
use super::stats::Band;
use crate::output::{duration, quantity};

/// One row: its name, the three contestants, and the comparison.
struct Row {
    name: &'static str,
    cells: [String; 3],
    ratio: Option<f64>,
    /// To the second baseline.
    ratio_second: Option<f64>,
    band: Option<Band>,
    /// What goals may be about.
    figures: &'static [Figure],
}

/// All lines of the table.
pub(crate) fn table(line: &Line) -> String {
    let goals = goals(line);
    let second = line.second.as_ref().map(|second| second.baseline);
    let mut text = format!("{}\n\n", headline(line));
    let [ours, base] = match line.workload {
        // The figures are those of the other calls.
        Workload::CallTail => ["slow beside", "none slow"],
        _ => ["ringway", line.baseline.title()],
    };
    let title = second.map_or("", Baseline::title);
    text += &columns(
        ["", ours, base, title, "ratio", "to 2nd", "A/A band", "goal"],
        second.is_some(),
    );
    for row in rows(line) {
        let standings: Vec<_> = goals
            .iter()
            .filter(|goal| row.figures.contains(&goal.figure))
            .map(|goal| standing(goal, line))
            .collect();
        let [ours, raw, beside] = &row.cells;
        let show =
            |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let band = row.band.map_or_else(String::new, |band| {
            format!("{:.3}..{:.3}", band.low, band.high)
        });
        let (ratio, to_second) = (show(row.ratio), show(row.ratio_second));
        let verdicts = standings.join("; ");
        text += &columns(
            [
                row.name, ours, raw, beside, &ratio, &to_second, &band, &verdicts,
            ],
            second.is_some(),
        );
    }
    if line.rounds < ROUNDS_MIN && line.workload != Workload::Idle {
        text += &format!("\n{}\n", few_rounds(line.rounds));
    }
    text
}

/// Why a run with few rounds proves nothing.
pub(crate) fn few_rounds(rounds: u32) -> String {
    format!("only {rounds} rounds: a look, not a claim; a claim takes at least {ROUNDS_MIN}")
}

fn headline(line: &Line) -> String {
    let size = if line.size >= 1 << 20 {
        format!("{} MiB", line.size >> 20)
    } else {
        format!("{} B", line.size)
    };
    let shape = match line.workload {
        Workload::Rtt | Workload::CallRtt => "one call after the other".to_owned(),
        Workload::Rate | Workload::CallRate | Workload::CallBandwidth => {
            format!("{} calls in flight", line.outstanding)
        }
        Workload::Stream | Workload::Bandwidth | Workload::CallStream => "one way".to_owned(),
        Workload::CallTail => "a fixed rate, one call in 100 sleeps 5 ms on a worker".to_owned(),
        Workload::Connections | Workload::CallConnections => {
            format!("{} connections, one call each", line.connections)
        }
        Workload::Idle => format!("{} idle connections", line.connections),
        // It has a report of its own.
        Workload::Recovery => String::new(),
    };
    let mtu = line
        .mtu
        .map_or_else(String::new, |mtu| format!(" with packets of {mtu} B"));
    format!(
        "{} over {}{mtu}: {size}, {shape}; driver {}, policy {}; {} rounds of {} messages",
        line.workload, line.transport, line.driver, line.policy, line.rounds, line.ops
    )
}

fn columns(cells: [&str; 8], has_second: bool) -> String {
    let [name, ours, raw, second, ratio, to_second, band, goal] = cells;
    let text = if has_second {
        format!(
            "{name:<22}{ours:>13}{raw:>14}{second:>14}{ratio:>9}{to_second:>9}  {band:<15}{goal}"
        )
    } else {
        format!("{name:<22}{ours:>13}{raw:>13}{ratio:>9}  {band:<15}{goal}")
    };
    format!("{}\n", text.trim_end())
}

fn rows(line: &Line) -> Vec<Row> {
    let row = |name, field: fn(&Figures) -> Option<f64>, show: fn(f64) -> String| {
        let text =
            |figures: Option<&Figures>| figures.and_then(field).map_or_else(String::new, show);
        let cells = [
            text(Some(&line.ours)),
            text(Some(&line.raw)),
            text(line.second.as_ref().map(|second| &second.figures)),
        ];
        Row {
            name,
            cells,
            ratio: None,
            ratio_second: None,
            band: None,
            figures: &[],
        }
    };
    let second = line.second.as_ref();
    let compared = |row: Row, ratio, ratio_second, band, figures| Row {
        ratio,
        ratio_second,
        band,
        figures,
        ..row
    };
    let counted = |row: Row, figures| Row { figures, ..row };
    let rate = match line.workload {
        Workload::Stream | Workload::Bandwidth | Workload::CallStream => "messages per s",
        _ => "calls per s",
    };
    let one = |value: f64| format!("{value:.3}");
    let mut rows = vec![
        compared(
            row("p50", |it| it.p50_ns, duration),
            line.ratio_p50,
            second.and_then(|it| it.ratio_p50),
            line.band_p50,
            &[Figure::P50, Figure::P50Second],
        ),
        compared(
            row("p99", |it| it.p99_ns, duration),
            line.ratio_p99,
            second.and_then(|it| it.ratio_p99),
            line.band_p99,
            &[Figure::P99],
        ),
        row("p99.9", |it| it.p999_ns, duration),
        compared(
            row(rate, |it| it.per_s, quantity),
            line.ratio_rate,
            second.and_then(|it| it.ratio_rate),
            line.band_rate,
            &[Figure::Rate, Figure::RateSecond],
        ),
        row("bytes per s", |it| it.bytes_per_s, quantity),
        row("cpu per message", |it| it.cpu_ns_per_op, duration),
        row("syscalls per message", |it| it.syscalls_per_op, one),
        row("  of these empty", |it| it.empty_polls_per_op, one),
        counted(
            row("allocs per message", |it| it.allocs_per_op, one),
            &[Figure::Allocations],
        ),
        counted(
            row("copies per message", |it| it.copies_per_op, one),
            &[Figure::Copies],
        ),
        counted(
            row(
                "rss per connection",
                |it| it.rss_per_connection,
                |value| format!("{value:.0} B"),
            ),
            &[Figure::RssPerConnection],
        ),
        counted(
            row(
                "cpu of the server",
                |it| it.cpu_percent,
                |value| format!("{value:.2} %"),
            ),
            &[Figure::IdleCpu],
        ),
    ];
    rows.retain(|row| row.cells.iter().any(|cell| !cell.is_empty()));
    rows
}

fn standing(goal: &Goal, line: &Line) -> String {
    let bound = match goal.bound {
        Bound::AtMost(bound) => format!("<= {bound}"),
        Bound::Below(bound) => format!("< {bound}"),
        Bound::AtLeast(bound) => format!(">= {bound}"),
    };
    let whose = if goal.figure.is_to_second() {
        "2nd "
    } else {
        ""
    };
    let verdict = match goal.verdict(line) {
        Some(Verdict::Met) => "met",
        Some(Verdict::WithinNoise) => "missed within noise",
        Some(Verdict::Missed) => "MISSED",
        None => "no figure",
    };
    format!("{whose}{bound}  {verdict}")
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::outcome;
    use super::super::plan::Transport;
    use super::*;

    #[test]
    fn the_table_shows_figures_ratio_band_and_verdict() {
        let text = table(&Line::new(&outcome(Workload::Rtt, Transport::Tcp)));
        let row = text.lines().find(|line| line.starts_with("p50")).unwrap();
        for part in [
            "11.00 us",
            "10.00 us",
            "1.100",
            "0.970..1.030",
            "<= 1.25  met",
        ] {
            assert!(row.contains(part), "{part} in {row}");
        }
        assert!(
            !text.contains("no claim") && !text.contains("not a claim"),
            "{text}"
        );
        assert!(text.contains("raw tcp") && !text.contains("2nd"));
    }

    #[test]
    fn a_second_baseline_has_columns_and_goals() {
        let mut outcome = outcome(Workload::CallRtt, Transport::Rudp);
        outcome.plan.driver = super::super::plan::Driver::Uring;
        let text = table(&Line::new(&outcome));
        let row = text.lines().find(|line| line.starts_with("p50")).unwrap();
        for part in ["20.00 us", "1.100", "0.550", "<= 1.2  met; 2nd < 1  met"] {
            assert!(row.contains(part), "{part} in {row}");
        }
        assert!(
            text.contains("raw udp") && text.contains("raw tcp"),
            "{text}"
        );
    }

    #[test]
    fn few_rounds_are_said_to_be_no_claim() {
        let mut line = Line::new(&outcome(Workload::Rtt, Transport::Tcp));
        line.rounds = 3;
        assert!(table(&line).contains("only 3 rounds"));
    }
}
