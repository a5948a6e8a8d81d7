//! The one JSON line of a result.

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::figures::Figures;
use super::plan::{Driver, Plan, Policy, Transport, Workload};
use super::rounds::Outcome;
use super::stats::{Band, median, median_band, paired_ratios};

/// A result: figures of both contestants, their ratios, and what the baseline shows against itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) workload: Workload,
    pub(crate) transport: Transport,
    pub(crate) driver: Driver,
    pub(crate) policy: Policy,
    pub(crate) size: u32,
    pub(crate) outstanding: u32,
    pub(crate) connections: u32,
    pub(crate) rounds: u32,
    /// Messages per block.
    pub(crate) ops: u64,
    pub(crate) ours: Figures,
    pub(crate) raw: Figures,
    /// Of `udp`, the second baseline's figures: those of [`second`](Self::second); null elsewhere.
    pub(crate) raw_bare: Option<Figures>,
    /// What `raw` is.
    pub(crate) baseline: Baseline,
    /// Another baseline of the same rounds, where there is one.
    pub(crate) second: Option<Second>,
    /// Longest packet in bytes, over reliable UDP and QUIC.
    pub(crate) mtu: Option<u32>,
    /// Median of the rounds' ratios of ringway to the baseline.
    pub(crate) ratio_p50: Option<f64>,
    pub(crate) ratio_p99: Option<f64>,
    pub(crate) ratio_rate: Option<f64>,
    /// 95 % interval of the median ratio of the baseline to itself.
    pub(crate) band_p50: Option<Band>,
    pub(crate) band_p99: Option<Band>,
    pub(crate) band_rate: Option<Band>,
}

/// A second baseline, and the medians of the rounds' ratios of ringway to it. The control of the first baseline has to
/// do for its band.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    pub(crate) baseline: Baseline,
    pub(crate) figures: Figures,
    pub(crate) ratio_p50: Option<f64>,
    pub(crate) ratio_p99: Option<f64>,
    pub(crate) ratio_rate: Option<f64>,
}

impl Second {
    fn new(outcome: &Outcome) -> Option<Self> {
        let series = outcome.second.as_ref()?;
        let ratio = |field: fn(&Figures) -> Option<f64>| {
            median(&paired_ratios(
                &outcome.ours.over(field),
                &series.over(field),
            ))
        };
        Some(Self {
            baseline: outcome.plan.baselines().1?,
            figures: series.summary(),
            ratio_p50: ratio(|it| it.p50_ns),
            ratio_p99: ratio(|it| it.p99_ns),
            ratio_rate: ratio(|it| it.per_s),
        })
    }
}

/// Median ratio of ours to the baseline, and the band of the control.
fn compared(outcome: &Outcome, field: fn(&Figures) -> Option<f64>) -> (Option<f64>, Option<Band>) {
    let base = outcome.raw.over(field);
    let ratios = paired_ratios(&outcome.ours.over(field), &base);
    let control = paired_ratios(&outcome.control.over(field), &base);
    (median(&ratios), median_band(&control))
}

impl Line {
    /// Sums the rounds up.
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let Plan {
            workload,
            transport,
            driver,
            policy,
            ..
        } = outcome.plan;
        let Plan {
            size,
            outstanding,
            connections,
            rounds,
            mtu,
            ..
        } = outcome.plan;
        let second = Second::new(outcome);
        let (ratio_p50, band_p50) = compared(outcome, |it| it.p50_ns);
        let (ratio_p99, band_p99) = compared(outcome, |it| it.p99_ns);
        let (ratio_rate, band_rate) = compared(outcome, |it| it.per_s);
        Self {
            workload,
            transport,
            driver,
            policy,
            size,
            outstanding,
            connections,
            rounds,
            ops: outcome.ops,
            ours: outcome.ours.summary(),
            raw: outcome.raw.summary(),
            raw_bare: second
                .as_ref()
                .filter(|second| second.baseline == Baseline::UdpBare)
                .map(|second| second.figures),
            baseline: outcome.plan.baselines().0,
            second,
            mtu,
            ratio_p50,
            ratio_p99,
            ratio_rate,
            band_p50,
            band_p99,
            band_rate,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::figures::Series;
    use super::super::plan::tests::bench;
    use super::*;

    /// Seven rounds in which ours takes 1.1 of the baseline, which wobbles by a percent a round.
    pub(crate) fn outcome(workload: Workload, transport: Transport) -> Outcome {
        let plan = Plan::new(&bench(workload, transport)).unwrap();
        let series = |factor: f64, wobble: f64| {
            let mut series = Series::new();
            for round in 0..7 {
                let p50 = 10_000.0 * factor * (1.0 + wobble * f64::from(round - 3));
                let figures = Figures {
                    p50_ns: Some(p50),
                    p99_ns: Some(2.0 * p50),
                    per_s: Some(1e9 / p50),
                    ..Figures::default()
                };
                series.add(figures, None);
            }
            series
        };
        Outcome {
            plan,
            ops: 1000,
            raw: series(1.0, 0.0),
            ours: series(1.1, 0.0),
            control: series(1.0, 0.01),
            second: plan.baselines().1.map(|_| series(2.0, 0.0)),
        }
    }

    #[test]
    fn ratios_are_medians_and_bands_come_from_the_control() {
        let line = Line::new(&outcome(Workload::Rtt, Transport::Tcp));
        let near = |value: f64, to: f64| (value - to).abs() < 1e-9;
        assert!(near(line.ratio_p50.unwrap(), 1.1) && near(line.ratio_p99.unwrap(), 1.1));
        assert!(near(line.ratio_rate.unwrap(), 1.0 / 1.1));
        // Seven rounds: the first and the last order statistic.
        let band = line.band_p50.unwrap();
        assert!(near(band.low, 0.97) && near(band.high, 1.03), "{band:?}");
    }

    #[test]
    fn a_second_baseline_has_ratios_of_its_own() {
        let line = Line::new(&outcome(Workload::Rtt, Transport::Rudp));
        let second = line.second.unwrap();
        assert_eq!(
            (line.baseline, second.baseline),
            (Baseline::Udp, Baseline::Tcp)
        );
        assert!((second.ratio_p50.unwrap() - 0.55).abs() < 1e-9);
        assert!((second.ratio_rate.unwrap() - 1.0 / 0.55).abs() < 1e-9);
        assert_eq!((line.raw_bare, line.mtu), (None, Some(1500)));
        let tcp = Line::new(&outcome(Workload::Rtt, Transport::Tcp));
        assert_eq!(tcp.second, None);
    }

    #[test]
    fn the_schema_is_stable() {
        let line = Line::new(&outcome(Workload::Rtt, Transport::Udp));
        let value = serde_json::to_value(&line).unwrap();
        let keys = |value: &serde_json::Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
        };
        let expected = [
            "workload",
            "transport",
            "driver",
            "policy",
            "size",
            "outstanding",
            "connections",
            "rounds",
            "ops",
            "ours",
            "raw",
            "raw_bare",
            "baseline",
            "second",
            "mtu",
            "ratio_p50",
            "ratio_p99",
            "ratio_rate",
            "band_p50",
            "band_p99",
            "band_rate",
        ];
        assert_eq!(keys(&value), expected.map(str::to_owned).into());
        let figures = [
            "p50_ns",
            "p99_ns",
            "p999_ns",
            "per_s",
            "bytes_per_s",
            "cpu_ns_per_op",
            "syscalls_per_op",
            "empty_polls_per_op",
            "allocs_per_op",
            "copies_per_op",
            "rss_per_connection",
            "cpu_percent",
        ];
        assert_eq!(keys(&value["ours"]), figures.map(str::to_owned).into());
        assert_eq!(value["workload"], "rtt");
        assert_eq!(value["driver"], "epoll");
        assert_eq!(value["baseline"], "udp");
        assert_eq!(value["second"]["baseline"], "udp-bare");
        assert_eq!(value["second"]["figures"], value["raw_bare"]);
        assert!(value["mtu"].is_null());
        assert_eq!(value["band_p50"].as_array().unwrap().len(), 2);
        let back: Line = serde_json::from_value(value).unwrap();
        assert_eq!(back, line);
    }
}
