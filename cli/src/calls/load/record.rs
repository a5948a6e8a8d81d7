//! What became of the calls: histograms, statuses, a timeline.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringway::Instant;
use ringway::rpc::{Code, Status};

/// Longest time that is told apart; longer ones count as this.
const TIME_NS_MAX: u64 = 600_000_000_000;
/// Significant digits of a time.
const DIGITS: u8 = 3;
/// Points of a timeline.
const POINTS: u32 = 100;
/// Shortest time between two points.
const POINT_MIN: Duration = Duration::from_millis(20);

/// A histogram of times in nanoseconds.
#[expect(clippy::expect_used, reason = "the bounds are constants, and valid")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_NS_MAX, DIGITS).expect("constant bounds")
}

/// When a call was due, and when it really left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
}

/// One stretch of the timeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Seconds from the end of the warm-up to its middle.
    pub(crate) at_s: f64,
    /// Calls that ended well, per second.
    pub(crate) per_s: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// Calls that ended otherwise.
    pub(crate) failed: u64,
}

/// Everything that is kept. Calls that were due during the warm-up are not.
#[derive(Debug)]
pub(crate) struct Record {
    from: Instant,
    until: Instant,
    /// From when each call was due; failed and unfinished ones too.
    pub(crate) due: Histogram<u64>,
    /// From when each call was sent.
    pub(crate) sent: Histogram<u64>,
    /// How late calls were sent: the generator, or connections that took no more.
    pub(crate) late: Histogram<u64>,
    /// Calls by status, with the first text of each.
    pub(crate) ended: BTreeMap<Code, (u64, Status)>,
    /// Calls that had not ended when the patience did; their age then counts as their latency.
    pub(crate) unfinished: u64,
    /// Calls that ended well while the measurement lasted.
    pub(crate) in_time: u64,
    pub(crate) points: Vec<Point>,
    point: Stretch,
}

/// A stretch that is not over yet.
#[derive(Debug)]
struct Stretch {
    width: Duration,
    until: Instant,
    times: Histogram<u64>,
    ok: u64,
    failed: u64,
}

impl Record {
    /// Of calls that are due from `from` until `until`.
    pub(crate) fn new(from: Instant, until: Instant) -> Self {
        let width = (until.saturating_since(from) / POINTS).max(POINT_MIN);
        Self {
            from,
            until,
            due: histogram(),
            sent: histogram(),
            late: histogram(),
            ended: BTreeMap::new(),
            unfinished: 0,
            in_time: 0,
            points: Vec::new(),
            point: Stretch {
                width,
                until: from + width,
                times: histogram(),
                ok: 0,
                failed: 0,
            },
        }
    }

    fn counts(&self, times: &Times) -> bool {
        (self.from..self.until).contains(&times.due)
    }

    /// A call has ended, or could not be made.
    pub(crate) fn ended(&mut self, times: &Times, now: Instant, status: Status) {
        if !self.counts(times) {
            return;
        }
        let is_ok = status.is_ok();
        let of_code = self.ended.entry(status.code).or_insert((0, status));
        of_code.0 += 1;
        self.times(times, now);
        self.advance(now);
        if now < self.until && is_ok {
            self.in_time += 1;
        }
        let latency = nanos(now.saturating_since(times.due));
        self.point.times.saturating_record(latency);
        if is_ok {
            self.point.ok += 1;
        } else {
            self.point.failed += 1;
        }
    }

    /// A call has not ended, and nobody waits for it any more.
    pub(crate) fn unfinished(&mut self, times: &Times, now: Instant) {
        if self.counts(times) {
            self.unfinished += 1;
            self.times(times, now);
        }
    }

    /// So many calls were due about then, and could not even be sent.
    pub(crate) fn never_made(&mut self, due: Instant, now: Instant, count: u64) {
        let times = Times { due, sent: now };
        if self.counts(&times) {
            self.unfinished += count;
            let age = nanos(now.saturating_since(due));
            self.due.saturating_record_n(age, count);
            self.late.saturating_record_n(age, count);
        }
    }

    fn times(&mut self, times: &Times, now: Instant) {
        let Times { due, sent } = *times;
        for (histogram, time) in [
            (&mut self.due, now.saturating_since(due)),
            (&mut self.sent, now.saturating_since(sent)),
            (&mut self.late, sent.saturating_since(due)),
        ] {
            histogram.saturating_record(nanos(time));
        }
    }

    /// Closes the stretches that are over.
    pub(crate) fn advance(&mut self, now: Instant) {
        while now >= self.point.until && self.point.until <= self.until {
            let Stretch {
                width,
                until,
                times,
                ok,
                failed,
            } = &mut self.point;
            let middle = until.saturating_since(self.from).saturating_sub(*width / 2);
            self.points.push(Point {
                at_s: middle.as_secs_f64(),
                per_s: float(*ok) / width.as_secs_f64(),
                p50_ns: times.value_at_quantile(0.5),
                p99_ns: times.value_at_quantile(0.99),
                max_ns: times.max(),
                failed: *failed,
            });
            times.reset();
            (*ok, *failed) = (0, 0);
            *until = *until + *width;
        }
    }

    /// The measurement was cut short.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.until = self.until.min(now.max(self.from));
    }

    /// How long the measurement took.
    pub(crate) fn seconds(&self) -> f64 {
        self.until
            .saturating_since(self.from)
            .as_secs_f64()
            .max(1e-9)
    }

    /// Calls that were due in that time.
    pub(crate) fn calls(&self) -> u64 {
        self.due.len()
    }

    /// Calls that went well.
    pub(crate) fn ok(&self) -> u64 {
        self.ended.get(&Code::Ok).map_or(0, |(count, _)| *count)
    }

    /// The status of most of the calls that failed.
    pub(crate) fn worst(&self) -> Option<Status> {
        let failed = self.ended.iter().filter(|(code, _)| **code != Code::Ok);
        let most = failed.max_by_key(|(_, (count, _))| *count);
        most.map(|(_, (_, status))| status.clone())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn float(count: u64) -> f64 {
    crate::bench::figures::float(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn times(due: u64, sent: u64) -> Times {
        Times {
            due: at(due),
            sent: at(sent),
        }
    }

    #[test]
    fn a_stalled_server_is_seen_from_when_calls_were_due() {
        let mut record = Record::new(at(0), at(1000));
        // One call every 10 ms; from 100 to 600 ms nothing is sent, because nothing is answered.
        for call in 0..100 {
            let due = call * 10;
            let sent = if (100..600).contains(&due) { 600 } else { due };
            record.ended(&times(due, sent), at(sent + 1), Status::OK);
        }
        let ms = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) / 1_000_000
        };
        assert_eq!(ms(&record.sent, 0.99), 1);
        assert!(ms(&record.due, 0.75) > 200, "{}", ms(&record.due, 0.75));
        assert!(ms(&record.due, 0.99) >= 490);
        assert!(ms(&record.late, 0.99) >= 490);
        assert_eq!(record.calls(), 100);
    }

    #[test]
    fn calls_of_the_warm_up_do_not_count_and_unfinished_ones_do() {
        let mut record = Record::new(at(100), at(200));
        record.ended(&times(99, 99), at(150), Status::OK);
        record.ended(&times(100, 100), at(150), Status::OK);
        record.ended(&times(150, 150), at(151), Status::of(Code::Aborted, "no"));
        record.ended(&times(200, 200), at(201), Status::OK);
        record.unfinished(&times(199, 199), at(5000));
        assert_eq!((record.calls(), record.ok(), record.unfinished), (3, 1, 1));
        record.never_made(at(180), at(5000), 10);
        assert_eq!(
            (record.calls(), record.sent.len(), record.unfinished),
            (13, 3, 11)
        );
        assert!(record.due.max() >= 4_800_000_000);
        assert_eq!(record.worst().map(|it| it.code), Some(Code::Aborted));
    }

    #[test]
    fn the_timeline_has_a_point_for_every_stretch_with_calls_or_without() {
        let mut record = Record::new(at(0), at(2000));
        record.ended(&times(5, 5), at(10), Status::OK);
        record.ended(
            &times(1990, 1990),
            at(1995),
            Status::of(Code::Aborted, "no"),
        );
        record.advance(at(3000));
        assert_eq!(record.points.len(), 100);
        let (first, last) = (record.points[0], record.points[99]);
        assert_eq!((first.per_s, first.failed), (50.0, 0));
        assert_eq!((last.per_s, last.failed), (0.0, 1));
        assert_eq!(record.points[50].max_ns, 0);
    }
}
