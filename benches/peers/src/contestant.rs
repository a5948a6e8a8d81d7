//! Who is measured, and what every client can do.

use hdrhistogram::Histogram;

use crate::Outcome;

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    Ringway,
    /// ringway's channel for other threads.
    RingwayChannel,
    /// ringway over QUIC.
    RingwayQuic,
    Quinn,
    Tonic,
    Tarpc,
    Capnp,
}

/// How it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// As its documentation starts.
    Default,
    /// As fast as it goes: it never sleeps, one thread, no delay, wide windows.
    Best,
}

/// A library in one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) library: Library,
    pub(crate) setting: Setting,
}

const fn contestant(name: &'static str, library: Library, setting: Setting) -> Contestant {
    Contestant {
        name,
        library,
        setting,
    }
}

/// All of them. The first is what the others are compared with.
pub(crate) const CONTESTANTS: [Contestant; 13] = [
    contestant("ringway-best", Library::Ringway, Setting::Best),
    contestant("ringway-default", Library::Ringway, Setting::Default),
    contestant("ringway-channel", Library::RingwayChannel, Setting::Default),
    contestant("tonic-best", Library::Tonic, Setting::Best),
    contestant("tonic-default", Library::Tonic, Setting::Default),
    contestant("tarpc-best", Library::Tarpc, Setting::Best),
    contestant("tarpc-default", Library::Tarpc, Setting::Default),
    contestant("capnp-best", Library::Capnp, Setting::Best),
    contestant("capnp-default", Library::Capnp, Setting::Default),
    // `--only quic` compares these with the first of them.
    contestant("quic-ringway-best", Library::RingwayQuic, Setting::Best),
    contestant(
        "quic-ringway-default",
        Library::RingwayQuic,
        Setting::Default,
    ),
    contestant("quic-quinn-best", Library::Quinn, Setting::Best),
    contestant("quic-quinn-default", Library::Quinn, Setting::Default),
];

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// One call after the other, 64 bytes both ways.
    Rtt,
    /// 64 calls in flight, 64 bytes both ways.
    Rate,
    /// Requests of 1 MiB, four in flight, empty answers.
    Bandwidth,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Rtt, Self::Rate, Self::Bandwidth];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rtt => "call-rtt",
            Self::Rate => "call-rate",
            Self::Bandwidth => "call-bandwidth",
        }
    }

    /// Bytes of a request.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bandwidth => 1 << 20,
            _ => 64,
        }
    }

    /// Calls in flight.
    pub(crate) fn outstanding(self) -> usize {
        match self {
            Self::Rtt => 1,
            Self::Rate => 64,
            Self::Bandwidth => 4,
        }
    }

    /// Whether the answer is the request's body.
    pub(crate) fn is_whole(self) -> bool {
        self != Self::Bandwidth
    }
}

/// A connected client.
pub(crate) trait Client {
    /// Makes `ops` calls and returns when all are answered; the round trips of `rtt` go to `latencies`.
    fn run(
        &mut self,
        workload: Workload,
        ops: usize,
        latencies: &mut Histogram<u64>,
    ) -> Outcome<()>;
}

/// Fails unless an answer is as long as it has to be.
pub(crate) fn check(workload: Workload, len: usize) -> Outcome<()> {
    let expected = if workload.is_whole() {
        workload.size()
    } else {
        0
    };
    if len == expected {
        return Ok(());
    }
    Err(format!("{}: an answer of {len} bytes", workload.name()).into())
}

/// Records a round trip.
pub(crate) fn record(latencies: &mut Histogram<u64>, started: std::time::Instant) {
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    latencies.saturating_record(nanos);
}
