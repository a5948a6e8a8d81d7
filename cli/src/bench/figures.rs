//! The figures of one contestant: block by block, and as medians over the rounds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::load::histogram;
use super::plan::{Plan, Workload};
use super::stats::median;
use super::usage::Usage;

/// The figures of one block, or medians over blocks. `None` where a figure has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) p50_ns: Option<f64>,
    pub(crate) p99_ns: Option<f64>,
    pub(crate) p999_ns: Option<f64>,
    /// Calls, or messages of one-way workloads, per second.
    pub(crate) per_s: Option<f64>,
    /// Body bytes per second, one direction.
    pub(crate) bytes_per_s: Option<f64>,
    /// Processor time of both processes.
    pub(crate) cpu_ns_per_op: Option<f64>,
    /// System calls of both processes, the empty ones included.
    pub(crate) syscalls_per_op: Option<f64>,
    /// System calls of both processes that found nothing.
    pub(crate) empty_polls_per_op: Option<f64>,
    /// Allocations of both processes.
    pub(crate) allocs_per_op: Option<f64>,
    /// Copies of payload bytes inside the library, both processes.
    pub(crate) copies_per_op: Option<f64>,
    /// Bytes of the server's resident memory per idle connection.
    pub(crate) rss_per_connection: Option<f64>,
    /// For `idle`: the server's processor time in percent of a core.
    pub(crate) cpu_percent: Option<f64>,
}

impl Figures {
    /// The figures of a block of `ops` messages.
    pub(crate) fn of_block(
        plan: &Plan,
        ops: u64,
        usage: Usage,
        latencies: &Histogram<u64>,
    ) -> Self {
        let ops = float(ops.max(1));
        let seconds = float(usage.elapsed_ns.max(1)) / 1e9;
        let each = |count: u64| Some(float(count) / ops);
        let timed = !latencies.is_empty() && !plan.is_one_way();
        let quantile = |at: f64| timed.then(|| float(latencies.value_at_quantile(at)));
        Self {
            p50_ns: quantile(0.50),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            per_s: Some(ops / seconds),
            bytes_per_s: Some(ops / seconds * f64::from(plan.size)),
            cpu_ns_per_op: each(usage.cpu_ns),
            syscalls_per_op: each(usage.syscalls),
            empty_polls_per_op: each(usage.empty_polls),
            allocs_per_op: each(usage.allocations),
            copies_per_op: each(usage.copies),
            rss_per_connection: None,
            cpu_percent: None,
        }
    }

    /// The figures of a server that had nothing to do.
    pub(crate) fn of_idle(usage: Usage) -> Self {
        let percent = 100.0 * float(usage.cpu_ns) / float(usage.elapsed_ns.max(1));
        Self {
            cpu_percent: Some(percent),
            ..Self::default()
        }
    }

    /// Field by field the median over blocks.
    fn median_of(blocks: &[Self]) -> Self {
        let over = |field: fn(&Self) -> Option<f64>| {
            median(&blocks.iter().filter_map(field).collect::<Vec<_>>())
        };
        Self {
            p50_ns: over(|it| it.p50_ns),
            p99_ns: over(|it| it.p99_ns),
            p999_ns: over(|it| it.p999_ns),
            per_s: over(|it| it.per_s),
            bytes_per_s: over(|it| it.bytes_per_s),
            cpu_ns_per_op: over(|it| it.cpu_ns_per_op),
            syscalls_per_op: over(|it| it.syscalls_per_op),
            empty_polls_per_op: over(|it| it.empty_polls_per_op),
            allocs_per_op: over(|it| it.allocs_per_op),
            copies_per_op: over(|it| it.copies_per_op),
            rss_per_connection: over(|it| it.rss_per_connection),
            cpu_percent: over(|it| it.cpu_percent),
        }
    }
}

/// All blocks of one contestant.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) blocks: Vec<Figures>,
    /// Round trips of all blocks together.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) rss_per_connection: Option<f64>,
}

impl Series {
    pub(crate) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            latencies: histogram(),
            rss_per_connection: None,
        }
    }

    /// Adds a block.
    pub(crate) fn add(&mut self, figures: Figures, latencies: Option<&Histogram<u64>>) {
        self.blocks.push(figures);
        if let Some(latencies) = latencies {
            // Same bounds on both sides, so that nothing is out of range.
            let added = self.latencies.add(latencies);
            debug_assert!(added.is_ok(), "histograms have the same bounds");
        }
    }

    /// One figure, round by round.
    pub(crate) fn over(&self, field: fn(&Figures) -> Option<f64>) -> Vec<Option<f64>> {
        self.blocks.iter().map(field).collect()
    }

    /// Medians over the rounds.
    pub(crate) fn summary(&self) -> Figures {
        let medians = Figures::median_of(&self.blocks);
        Figures {
            rss_per_connection: self.rss_per_connection,
            ..medians
        }
    }
}

impl Plan {
    /// Whether round trips are what this workload is about.
    pub(crate) fn has_latency(&self) -> bool {
        matches!(
            self.workload.shape(),
            Workload::Rtt | Workload::Rate | Workload::Connections
        )
    }
}

/// Counts and nanoseconds as a ratio's parts: exact up to 2^53, which is 104 days in nanoseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact for all counts that occur"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Transport, tests::bench};
    use super::*;

    #[test]
    fn a_block_is_divided_by_its_messages() {
        let plan = Plan::new(&bench(Workload::Rtt, Transport::Tcp)).unwrap();
        let usage = Usage {
            elapsed_ns: 1_000_000,
            cpu_ns: 2_000_000,
            syscalls: 400,
            empty_polls: 50,
            allocations: 0,
            copies: 100,
        };
        let mut latencies = histogram();
        latencies.record_n(10_000, 99).unwrap();
        latencies.record(50_000).unwrap();
        let figures = Figures::of_block(&plan, 100, usage, &latencies);
        assert_eq!(figures.per_s, Some(100_000.0));
        assert_eq!(figures.bytes_per_s, Some(6_400_000.0));
        assert_eq!(figures.cpu_ns_per_op, Some(20_000.0));
        assert_eq!(
            (figures.syscalls_per_op, figures.empty_polls_per_op),
            (Some(4.0), Some(0.5))
        );
        assert_eq!(
            (figures.allocs_per_op, figures.copies_per_op),
            (Some(0.0), Some(1.0))
        );
        let close = |value: Option<f64>, to: f64| (value.unwrap() / to - 1.0).abs() < 0.002;
        assert!(
            close(figures.p50_ns, 10_000.0) && close(figures.p999_ns, 50_000.0),
            "{figures:?}"
        );
    }

    #[test]
    fn a_series_is_the_median_of_its_rounds() {
        let mut series = Series::new();
        for per_s in [3.0, 1.0, 2.0] {
            series.add(
                Figures {
                    per_s: Some(per_s),
                    ..Figures::default()
                },
                None,
            );
        }
        assert_eq!(
            series.summary(),
            Figures {
                per_s: Some(2.0),
                ..Figures::default()
            }
        );
    }
}
