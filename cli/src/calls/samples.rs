//! A server's statistics over a stretch of time: the difference of two answers of `ringway.admin.v1.Admin/Stats`.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::remote::Remote;
use crate::bench::figures::float;
use crate::failure::Failure;

const NAME: &str = "ringway.admin.v1.Admin/Stats";
/// How long each of the server's threads may take to publish what it has counted.
const PUBLISH: Duration = Duration::from_millis(20);
const OK: u32 = 0;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(bool, tag = "1")]
    buckets: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, repeated, tag = "1")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    started: u64,
    #[prost(uint64, tag = "3")]
    running: u64,
    #[prost(uint64, tag = "4")]
    refused: u64,
    #[prost(message, repeated, tag = "5")]
    ended: Vec<CodeCount>,
    #[prost(message, optional, tag = "6")]
    queue: Option<Times>,
    #[prost(message, optional, tag = "7")]
    wire: Option<Times>,
    #[prost(message, optional, tag = "8")]
    handler: Option<Times>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CodeCount {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(uint64, tag = "2")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Times {
    #[prost(uint64, repeated, tag = "8")]
    bucket_ns: Vec<u64>,
    #[prost(uint64, repeated, tag = "9")]
    bucket_count: Vec<u64>,
}

/// What a server has counted since it started.
#[derive(Debug)]
pub(crate) struct Sample {
    at: Instant,
    methods: BTreeMap<String, Method>,
}

/// One method over the stretch.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) started: u64,
    pub(crate) per_s: f64,
    pub(crate) running: u64,
    /// Calls that ended otherwise than well, per second.
    pub(crate) failed_per_s: f64,
    /// Calls that were refused before their handler started, per second.
    pub(crate) refused_per_s: f64,
    /// Waiting for the handler, arriving, in the handler.
    pub(crate) times: [Spread; 3],
}

/// What is shown of a distribution; zeros without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
}

impl Sample {
    /// Asks the server. Each of its threads publishes when it is asked, so that the second answer is fresh.
    pub(crate) fn take(remote: &Remote, timeout: Duration) -> Result<Self, Failure> {
        let ask = || remote.unary::<_, Response>(NAME, &Request { buckets: true }, Some(timeout));
        ask()?;
        thread::sleep(PUBLISH);
        let Response { methods } = ask()?;
        let methods = methods
            .into_iter()
            .map(|method| (method.name.clone(), method));
        Ok(Self {
            at: Instant::now(),
            methods: methods.collect(),
        })
    }

    /// What happened since an earlier one, busiest methods first.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<Row> {
        let seconds = (self.at - earlier.at).as_secs_f64().max(1e-9);
        let none = Method::default();
        let rows = self.methods.values().map(|method| {
            let before = earlier.methods.get(&method.name).unwrap_or(&none);
            let per_s = |now: u64, before: u64| float(now.saturating_sub(before)) / seconds;
            let spread = |now: &Option<Times>, before: &Option<Times>| {
                let now = now.as_ref().map(|now| now.since(before.as_ref()));
                now.as_deref().map(Spread::of).unwrap_or_default()
            };
            Row {
                name: method.name.clone(),
                started: method.started,
                per_s: per_s(method.started, before.started),
                running: method.running,
                failed_per_s: per_s(method.failed(), before.failed()),
                refused_per_s: per_s(method.refused, before.refused),
                times: [
                    spread(&method.queue, &before.queue),
                    spread(&method.wire, &before.wire),
                    spread(&method.handler, &before.handler),
                ],
            }
        });
        let mut rows: Vec<Row> = rows.collect();
        rows.sort_by(|one, other| {
            other
                .per_s
                .total_cmp(&one.per_s)
                .then(one.name.cmp(&other.name))
        });
        rows
    }
}

impl Method {
    fn failed(&self) -> u64 {
        let failed = self.ended.iter().filter(|it| it.code != OK);
        failed.map(|it| it.count).fold(0, u64::saturating_add)
    }
}

impl Times {
    /// The buckets that filled up since an earlier reading: (upper end in nanoseconds, count), in order.
    fn since(&self, earlier: Option<&Self>) -> Vec<(u64, u64)> {
        let mut buckets: BTreeMap<u64, u64> = BTreeMap::new();
        for (ns, count) in self.bucket_ns.iter().zip(&self.bucket_count) {
            buckets.insert(*ns, *count);
        }
        if let Some(earlier) = earlier {
            for (ns, count) in earlier.bucket_ns.iter().zip(&earlier.bucket_count) {
                if let Some(now) = buckets.get_mut(ns) {
                    *now = now.saturating_sub(*count);
                }
            }
        }
        buckets
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

impl Spread {
    fn of(buckets: &[(u64, u64)]) -> Self {
        let total: u64 = buckets.iter().map(|(_, count)| count).sum();
        // In thousandths, rounded up: the last of `total` values at 1000.
        let at = |thousandths: u64| {
            let rank = total.saturating_mul(thousandths).div_ceil(1000).max(1);
            let mut seen = 0;
            let found = buckets.iter().find(|(_, count)| {
                seen += count;
                seen >= rank
            });
            found.map_or(0, |(ns, _)| *ns)
        };
        Self {
            p50_ns: at(500),
            p99_ns: at(990),
            p999_ns: at(999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_shows_its_own_calls_and_no_earlier_ones() {
        let times = |buckets: &[(u64, u64)]| {
            Some(Times {
                bucket_ns: buckets.iter().map(|it| it.0).collect(),
                bucket_count: buckets.iter().map(|it| it.1).collect(),
            })
        };
        let method = |started, failed, handler| Method {
            name: "a.B/C".to_owned(),
            started,
            running: 2,
            ended: vec![
                CodeCount { code: 0, count: 5 },
                CodeCount {
                    code: 5,
                    count: failed,
                },
            ],
            handler,
            ..Method::default()
        };
        let at = Instant::now();
        let sample = |at, method: Method| Sample {
            at,
            methods: BTreeMap::from([(method.name.clone(), method)]),
        };
        let earlier = sample(at, method(100, 1, times(&[(1_000_000, 100)])));
        let now = method(
            1100,
            3,
            times(&[(10, 989), (500, 10), (900, 1), (1_000_000, 100)]),
        );
        let rows = sample(at + Duration::from_secs(2), now).since(&earlier);
        let row = &rows[0];
        assert_eq!((row.per_s, row.failed_per_s, row.running), (500.0, 1.0, 2));
        let spread = Spread {
            p50_ns: 10,
            p99_ns: 500,
            p999_ns: 500,
        };
        assert_eq!(row.times, [Spread::default(), Spread::default(), spread]);
    }
}
