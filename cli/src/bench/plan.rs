//! What a run measures: the parsed and checked arguments, equal in both processes.

use std::fmt;

use clap::ValueEnum;
use ringway::{DriverChoice, Idle};
use serde::{Deserialize, Serialize};

use crate::args;
use crate::failure::Failure;
use crate::machine;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

named! {
    /// What is exchanged.
    Workload {
        /// One call after the other: round-trip time
        Rtt = "rtt",
        /// Many calls in flight on one connection: calls per second
        Rate = "rate",
        /// One way, small messages: messages per second
        Stream = "stream",
        /// One way, large messages: bytes per second
        Bandwidth = "bandwidth",
        /// Many connections with one call each: calls per second, memory per connection
        Connections = "connections",
        /// Many connections that say nothing: CPU of the server
        Idle = "idle",
    }
}

named! {
    /// What carries the messages.
    Transport {
        /// TCP over loopback
        Tcp = "tcp",
        /// Unix stream sockets
        Unix = "unix",
        /// Plain datagrams over loopback
        Udp = "udp",
    }
}

named! {
    /// ringway's driver.
    Driver {
        /// io_uring with direct system calls for hot sockets
        Uring = "uring",
        /// epoll
        Epoll = "epoll",
    }
}

named! {
    /// What an engine does when there is nothing to do.
    Policy {
        /// Never sleep: the lowest latency, one core always busy
        Spin = "spin",
        /// Spin for about one wake-up's cost, then sleep
        Adaptive = "adaptive",
        /// Sleep at once: the least CPU
        Park = "park",
    }
}

impl Driver {
    /// The driver or nothing: a silent fallback would measure something else.
    pub(crate) fn required(self) -> DriverChoice {
        match self {
            Self::Uring => DriverChoice::Uring,
            Self::Epoll => DriverChoice::Epoll,
        }
    }
}

impl Policy {
    pub(crate) fn idle(self) -> Idle {
        match self {
            Self::Spin => Idle::Spin,
            Self::Adaptive => Idle::Adaptive,
            Self::Park => Idle::Park,
        }
    }
}

/// Rounds that a claim needs.
pub(crate) const ROUNDS_MIN: u32 = 31;
/// Most rounds of a run.
const ROUNDS_MAX: u32 = 1001;
/// Rounds of `idle` by default: each takes six seconds, and no ratio is claimed.
const IDLE_ROUNDS: u32 = 3;
/// A body carries a sequence number and a time stamp.
pub(crate) const SIZE_MIN: u32 = 16;
/// Longest message of a stream workload.
const SIZE_MAX: u32 = 16 << 20;
/// Longest payload of an IPv4 datagram.
const DATAGRAM_MAX: u32 = 65_507;
/// Longest message where many connections share one thread.
const MANY_SIZE_MAX: u32 = 16 << 10;
/// Bytes that may be in flight in a closed loop. Both directions together always fit the kernel's socket
/// buffers, so that two blocking writers never wait for each other.
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 10;
/// Bytes of kernel memory that a small datagram costs in a receive buffer, at most.
const DATAGRAM_COST: u64 = 2048;
/// Most connections or held connections: one port's worth of local ports.
const CONNECTIONS_MAX: u32 = 20_000;
/// Most messages of a measured block.
const OPS_MAX: u64 = 1 << 26;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) transport: Transport,
    pub(crate) driver: Driver,
    pub(crate) policy: Policy,
    /// Bytes of a message body.
    pub(crate) size: u32,
    /// Calls in flight, all connections together.
    pub(crate) outstanding: u32,
    /// Connections of each contestant.
    pub(crate) connections: u32,
    /// Idle connections held while memory is measured.
    pub(crate) held: u32,
    pub(crate) rounds: u32,
    /// Messages per measured block; `None` calibrates.
    pub(crate) ops: Option<u64>,
    /// What a calibrated block of the raw side shall take, in milliseconds.
    pub(crate) block_ms: u64,
}

impl Plan {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// [`Failure::Usage`] that names the argument and its range.
    pub(crate) fn new(given: &args::Bench) -> Result<Self, Failure> {
        let (workload, transport) = (given.workload, given.transport);
        let connections = match workload {
            Workload::Connections | Workload::Idle => given.connections.unwrap_or(1000),
            _ => only(given.connections, "--connections", "connections and idle")?.unwrap_or(1),
        };
        let outstanding = match workload {
            Workload::Rate => given.outstanding.unwrap_or(64),
            _ => only(given.outstanding, "--outstanding", "rate")?.unwrap_or(connections),
        };
        let held = match workload {
            Workload::Connections => given.held.unwrap_or(connections),
            _ => only(given.held, "--held", "connections")?.unwrap_or(0),
        };
        let size = given.size.unwrap_or(match (workload, transport) {
            (Workload::Bandwidth, Transport::Udp) => 1200,
            (Workload::Bandwidth, _) => 1 << 20,
            _ => 64,
        });
        let rounds = given.rounds.unwrap_or(match workload {
            Workload::Idle => IDLE_ROUNDS,
            _ => ROUNDS_MIN,
        });
        let plan = Self {
            workload,
            transport,
            driver: given.driver,
            policy: given.policy,
            size,
            outstanding,
            connections,
            held,
            rounds,
            ops: given.ops,
            block_ms: 80,
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Failure> {
        let size_max = match (self.transport, self.workload) {
            (_, Workload::Connections | Workload::Idle) => MANY_SIZE_MAX,
            (Transport::Udp, _) => DATAGRAM_MAX,
            _ => SIZE_MAX,
        };
        within(
            "--size",
            u64::from(self.size),
            u64::from(SIZE_MIN),
            u64::from(size_max),
        )?;
        within("--rounds", u64::from(self.rounds), 1, u64::from(ROUNDS_MAX))?;
        let connections_max = u64::from(CONNECTIONS_MAX);
        within(
            "--connections",
            u64::from(self.connections),
            1,
            connections_max,
        )?;
        within("--held", u64::from(self.held), 0, connections_max)?;
        within("--ops", self.ops.unwrap_or(1), 1, OPS_MAX)?;
        if self.workload == Workload::Rate {
            let each = u64::from(self.size).max(512);
            within(
                "--outstanding",
                u64::from(self.outstanding),
                1,
                IN_FLIGHT_BYTES_MAX / each,
            )?;
        }
        if self.transport == Transport::Udp && self.workload == Workload::Connections {
            let cost = DATAGRAM_COST + 2 * u64::from(self.size);
            let most = 2 * machine::recv_buffer_bytes_max() / cost;
            if u64::from(self.connections) > most {
                return Err(Failure::Usage(format!(
                    "one udp socket can't buffer {} datagrams here; use --connections {most} or \
                     fewer, or raise the sysctl net.core.rmem_max",
                    self.connections
                )));
            }
        }
        Ok(())
    }

    /// Whether connections are many and share epoll.
    pub(crate) fn is_many(&self) -> bool {
        matches!(self.workload, Workload::Connections | Workload::Idle)
    }

    /// Whether nothing is said.
    pub(crate) fn is_idle(&self) -> bool {
        self.workload == Workload::Idle
    }

    /// Whether messages flow one way, with an acknowledgement at the end.
    pub(crate) fn is_one_way(&self) -> bool {
        matches!(self.workload, Workload::Stream | Workload::Bandwidth)
    }

    /// Whether a bare, connected UDP figure stands beside the like-for-like one.
    pub(crate) fn has_bare(&self) -> bool {
        self.transport == Transport::Udp && !self.is_many()
    }

    /// For one-way datagrams: how many may be unacknowledged, so that the receive buffer can't overflow.
    ///
    /// The receiver acknowledges every half of it. Streams have their own flow control.
    pub(crate) fn window(&self) -> Option<u64> {
        let each = u64::from(self.size).max(512);
        (self.transport == Transport::Udp).then(|| (IN_FLIGHT_BYTES_MAX / each).max(1))
    }

    /// Receive buffer of the datagram sockets of both contestants in bytes, where the default is too small.
    pub(crate) fn recv_buffer_bytes(&self) -> Option<u32> {
        let needs = self.transport == Transport::Udp && self.workload == Workload::Connections;
        // The kernel doubles what is asked for.
        let each = DATAGRAM_COST / 2 + u64::from(self.size);
        let bytes = (u64::from(self.connections) * each).max(128 << 10);
        needs.then(|| u32::try_from(bytes).unwrap_or(u32::MAX))
    }
}

fn only<T>(given: Option<T>, argument: &str, workloads: &str) -> Result<Option<T>, Failure> {
    match given {
        Some(_) => Err(Failure::Usage(format!(
            "{argument} belongs to the workload {workloads}"
        ))),
        None => Ok(None),
    }
}

fn within(argument: &str, value: u64, min: u64, max: u64) -> Result<(), Failure> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{argument} is {value}; this workload takes {min} to {max}"
    )))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn bench(workload: Workload, transport: Transport) -> args::Bench {
        args::Bench {
            workload,
            transport,
            driver: Driver::Epoll,
            policy: Policy::Spin,
            size: None,
            outstanding: None,
            connections: None,
            held: None,
            rounds: None,
            ops: None,
            json: false,
        }
    }

    #[test]
    fn defaults_are_the_shapes_of_the_goals() {
        let plan = |workload, transport| Plan::new(&bench(workload, transport)).unwrap();
        let rtt = plan(Workload::Rtt, Transport::Tcp);
        assert_eq!(
            (rtt.size, rtt.outstanding, rtt.connections, rtt.rounds),
            (64, 1, 1, 31)
        );
        let rate = plan(Workload::Rate, Transport::Unix);
        assert_eq!((rate.size, rate.outstanding, rate.connections), (64, 64, 1));
        assert_eq!(plan(Workload::Bandwidth, Transport::Tcp).size, 1 << 20);
        assert_eq!(plan(Workload::Bandwidth, Transport::Udp).size, 1200);
        let many = plan(Workload::Connections, Transport::Tcp);
        assert_eq!(
            (many.connections, many.outstanding, many.held),
            (1000, 1000, 1000)
        );
        assert_eq!(plan(Workload::Idle, Transport::Tcp).rounds, 3);
    }

    #[test]
    fn senseless_arguments_are_refused_with_their_range() {
        let refused = |alter: fn(&mut args::Bench)| {
            let mut given = bench(Workload::Rate, Transport::Udp);
            alter(&mut given);
            let failure = Plan::new(&given).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)));
            failure.to_string()
        };
        assert!(refused(|given| given.size = Some(15)).contains("--size is 15"));
        assert!(refused(|given| given.size = Some(65_508)).contains("16 to 65507"));
        assert!(refused(|given| given.rounds = Some(0)).contains("--rounds"));
        assert!(refused(|given| given.outstanding = Some(0)).contains("1 to 128"));
        assert!(refused(|given| given.outstanding = Some(129)).contains("1 to 128"));
        assert!(refused(|given| given.connections = Some(5)).contains("--connections belongs"));
        assert!(refused(|given| given.held = Some(5)).contains("--held belongs"));
    }

    #[test]
    fn datagrams_in_flight_fit_a_default_receive_buffer() {
        for size in [16, 64, 512, 1200, 9000, 65_507] {
            let mut given = bench(Workload::Stream, Transport::Udp);
            given.size = Some(size);
            let window = Plan::new(&given).unwrap().window().unwrap();
            assert!(
                window >= 1 && window * u64::from(size) <= 64 << 10,
                "{size}: {window}"
            );
        }
        let tcp = Plan::new(&bench(Workload::Stream, Transport::Tcp)).unwrap();
        assert_eq!(tcp.window(), None);
    }
}
