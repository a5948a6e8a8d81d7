//! What ringway sets out to reach, as ratios to the baseline and as counted figures, and whether it did.

use super::json::Line;
use super::plan::{Driver, MTU_ETHERNET, Policy, Transport, Workload};
use super::stats::Band;

/// Which figure a goal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    P50,
    /// Beside the second baseline.
    P50Second,
    P99,
    Rate,
    /// Beside the second baseline.
    RateSecond,
    Allocations,
    Copies,
    RssPerConnection,
    IdleCpu,
}

impl Figure {
    /// Whether it is a ratio to the second baseline.
    pub(crate) fn is_to_second(self) -> bool {
        matches!(self, Self::P50Second | Self::RateSecond)
    }
}

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// Missed by no more than the machine's noise.
    WithinNoise,
    Missed,
}

/// One goal that applies to a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    pub(crate) figure: Figure,
    pub(crate) bound: Bound,
}

/// The goals for the shape of `line`. Those about latency and rate hold for its default sizes.
pub(crate) fn goals(line: &Line) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost, Below};
    use Figure::{
        Allocations, Copies, IdleCpu, P50, P50Second, P99, Rate, RateSecond, RssPerConnection,
    };
    let goal = |figure, bound| Goal { figure, bound };
    let small = line.size == 64;
    let ethernet = line.mtu == Some(MTU_ETHERNET);
    let mut goals = match (line.workload, line.transport, line.policy) {
        (Workload::CallRtt, Transport::Rudp, Policy::Spin) if small && ethernet => {
            vec![goal(P50, AtMost(1.20)), goal(P50Second, Below(1.0))]
        }
        (Workload::CallRate, Transport::Rudp, _) if small && ethernet && line.outstanding == 64 => {
            vec![goal(Rate, AtLeast(6.0))]
        }
        (Workload::Bandwidth, Transport::Rudp, _) if line.size == 1 << 20 && ethernet => {
            vec![goal(Rate, AtLeast(3.0)), goal(RateSecond, AtLeast(0.9))]
        }
        // The other goals are about streams and plain datagrams.
        (_, Transport::Rudp | Transport::Quic, _) => Vec::new(),
        (Workload::Rtt, _, Policy::Spin) if small && line.driver == Driver::Epoll => {
            vec![goal(P50, AtMost(1.25))]
        }
        (Workload::Rtt, Transport::Tcp | Transport::Udp, Policy::Spin) if small => {
            vec![goal(P50, AtMost(1.10)), goal(P99, AtMost(1.30))]
        }
        (Workload::Rtt, Transport::Unix, Policy::Spin) if small => vec![goal(P50, AtMost(1.20))],
        (Workload::Rtt, _, Policy::Park) if small => vec![goal(P50, AtMost(1.05))],
        (Workload::Rtt, _, Policy::Adaptive) if small => vec![goal(P50, AtMost(0.5))],
        (Workload::Rate, _, _) if small && line.outstanding == 64 => vec![goal(Rate, AtLeast(0.7))],
        (Workload::Stream, _, _) if small => vec![goal(Rate, AtLeast(0.7))],
        (Workload::Bandwidth, Transport::Tcp | Transport::Unix, _) if line.size == 1 << 20 => {
            vec![goal(Rate, AtLeast(0.95))]
        }
        (Workload::Connections, _, _) if small && line.connections >= 1000 => {
            vec![goal(Rate, AtLeast(1.1))]
        }
        (Workload::CallRtt, Transport::Tcp, Policy::Spin)
            if small && line.driver == Driver::Uring =>
        {
            vec![goal(P50, AtMost(1.15)), goal(P99, AtMost(1.35))]
        }
        (Workload::CallRate, _, _) if small && line.outstanding == 64 => {
            vec![goal(Rate, AtLeast(0.6))]
        }
        (Workload::CallBandwidth, _, _) if line.size == 1 << 20 => vec![goal(Rate, AtLeast(0.9))],
        (Workload::CallTail, _, Policy::Adaptive) if small => vec![goal(P99, AtMost(3.0))],
        (Workload::Idle, _, Policy::Adaptive) => vec![goal(IdleCpu, AtMost(1.0))],
        _ => Vec::new(),
    };
    // A stream's handler is a future, a slow call's answer comes from another thread, a large request is kept
    // whole in memory of its own: these allocate per call.
    let steady = !matches!(
        line.workload,
        Workload::Idle | Workload::CallStream | Workload::CallTail | Workload::CallBandwidth
    );
    // quinn-proto allocates as it likes.
    let steady = steady && line.transport != Transport::Quic;
    if steady {
        goals.push(goal(Allocations, AtMost(0.0)));
        // Of a large message, the part that arrives together with its header is copied, by design.
        // A small message that goes into a packet is copied once into the sender's shelf, by design.
        let copies = line.workload.shape() == Workload::Bandwidth || line.transport.has_packets();
        if !copies {
            goals.push(goal(Copies, AtMost(0.0)));
        }
    }
    if line.ours.rss_per_connection.is_some() && line.workload == Workload::Connections {
        goals.push(goal(RssPerConnection, AtMost(4096.0)));
    }
    goals
}

impl Goal {
    /// The measured value that the goal is about.
    pub(crate) fn value(&self, line: &Line) -> Option<f64> {
        match self.figure {
            Figure::P50 => line.ratio_p50,
            Figure::P50Second => line.second.as_ref()?.ratio_p50,
            Figure::RateSecond => line.second.as_ref()?.ratio_rate,
            Figure::P99 => line.ratio_p99,
            Figure::Rate => line.ratio_rate,
            Figure::Allocations => line.ours.allocs_per_op,
            Figure::Copies => line.ours.copies_per_op,
            Figure::RssPerConnection => line.ours.rss_per_connection,
            Figure::IdleCpu => line.ours.cpu_percent,
        }
    }

    /// Whether it is met. Counted figures know no noise.
    pub(crate) fn verdict(&self, line: &Line) -> Option<Verdict> {
        let value = self.value(line)?;
        let band = match self.figure {
            Figure::P50 | Figure::P50Second => line.band_p50,
            Figure::P99 => line.band_p99,
            Figure::Rate | Figure::RateSecond => line.band_rate,
            _ => None,
        };
        let Band { low, high } = band.unwrap_or(Band {
            low: 1.0,
            high: 1.0,
        });
        let slack = match self.figure {
            // A table that grows for the last time in a measured block; one in ten thousand is none.
            Figure::Allocations => 1e-4,
            // The message that straddles the end of a receive is moved once, as the baseline's is.
            Figure::Copies => 1e-2,
            _ => 0.0,
        };
        Some(match self.bound {
            Bound::AtMost(bound) if value <= bound + slack => Verdict::Met,
            Bound::Below(bound) if value < bound => Verdict::Met,
            Bound::AtLeast(bound) if value >= bound => Verdict::Met,
            Bound::AtMost(bound) | Bound::Below(bound) if value <= bound * high.max(1.0) => {
                Verdict::WithinNoise
            }
            Bound::AtLeast(bound) if value >= bound * low.min(1.0) => Verdict::WithinNoise,
            _ => Verdict::Missed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::outcome;
    use super::*;

    fn rtt(ratio: f64, high: f64) -> Line {
        let mut line = Line::new(&outcome(Workload::Rtt, Transport::Tcp));
        line.driver = Driver::Uring;
        line.ratio_p50 = Some(ratio);
        line.band_p50 = Some(Band { low: 0.98, high });
        line
    }

    #[test]
    fn a_miss_counts_only_outside_the_band() {
        let goal = goals(&rtt(1.0, 1.0))[0];
        assert_eq!(
            goal,
            Goal {
                figure: Figure::P50,
                bound: Bound::AtMost(1.10)
            }
        );
        assert_eq!(goal.verdict(&rtt(1.10, 1.0)), Some(Verdict::Met));
        assert_eq!(goal.verdict(&rtt(1.12, 1.03)), Some(Verdict::WithinNoise));
        assert_eq!(goal.verdict(&rtt(1.12, 1.01)), Some(Verdict::Missed));
        assert_eq!(
            goal.verdict(&rtt(1.12, 0.99)),
            Some(Verdict::Missed),
            "a lucky control helps nobody"
        );
    }

    #[test]
    fn rates_have_to_be_high_and_counts_to_be_nil() {
        let mut line = Line::new(&outcome(Workload::Rate, Transport::Tcp));
        line.band_rate = Some(Band {
            low: 0.9,
            high: 1.0,
        });
        line.ours.allocs_per_op = Some(0.000_01);
        line.ours.copies_per_op = Some(0.02);
        let found = goals(&line);
        let verdict = |index: usize, line: &Line| found[index].verdict(line);
        line.ratio_rate = Some(0.65);
        assert_eq!(verdict(0, &line), Some(Verdict::WithinNoise));
        line.ratio_rate = Some(0.6);
        assert_eq!(verdict(0, &line), Some(Verdict::Missed));
        assert_eq!(verdict(1, &line), Some(Verdict::Met));
        assert_eq!(verdict(2, &line), Some(Verdict::Missed));
    }

    #[test]
    fn goals_hold_for_the_shapes_that_they_name() {
        let mut line = rtt(1.0, 1.0);
        line.size = 4096;
        assert!(goals(&line).iter().all(|goal| goal.figure != Figure::P50));
    }
}
