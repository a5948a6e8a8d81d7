//! What a run measures: the parsed and checked arguments, equal in both processes.

use std::fmt;

use clap::ValueEnum;
use ringway::{DriverChoice, Idle};
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use crate::args;
use crate::failure::Failure;
use crate::machine;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
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
        /// One RPC after the other: round-trip time
        CallRtt = "call-rtt",
        /// Many RPCs in flight on one connection: calls per second
        CallRate = "call-rate",
        /// One RPC that streams small messages from server to client: messages per second
        CallStream = "call-stream",
        /// RPCs with large requests: bytes per second
        CallBandwidth = "call-bandwidth",
        /// Many connections with one RPC each: calls per second, memory per connection
        CallConnections = "call-connections",
        /// RPCs at a fixed rate: p99 beside slow calls to that without slow calls
        CallTail = "call-tail",
        /// What loss costs over rudp or quic, in the simulator's virtual time: lost tail, calls, bulk, two flows
        Recovery = "recovery",
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
        /// Reliable UDP over loopback
        Rudp = "rudp",
        /// QUIC over loopback, with a certificate made for the run
        Quic = "quic",
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

impl Workload {
    /// The message workload whose baseline an RPC workload has; any other itself.
    pub(crate) fn shape(self) -> Self {
        match self {
            Self::CallRtt | Self::CallTail => Self::Rtt,
            Self::CallRate => Self::Rate,
            Self::CallStream => Self::Stream,
            Self::CallBandwidth => Self::Bandwidth,
            Self::CallConnections => Self::Connections,
            other => other,
        }
    }
}

impl Transport {
    /// Whether ringway's own packets carry the messages: reliable UDP and QUIC.
    pub(crate) fn has_packets(self) -> bool {
        matches!(self, Self::Rudp | Self::Quic)
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
/// Longest call or answer over packets: its baseline sends it as one datagram.
const PACKET_CALL_MAX: u32 = 60_000;
/// Ethernet's packets, headers of IP and UDP included: what runs over packets keep to by default.
pub(crate) const MTU_ETHERNET: u32 = 1500;
/// Receive buffer in bytes that the engine asks for where packets are its own.
const PACKETS_RECV_BUFFER_BYTES: u32 = 4 << 20;
/// Headers of IPv4 and UDP.
const IP_UDP_BYTES: u32 = 28;
/// Smallest packets: the least that QUIC and reliable UDP ask of a path, with those headers.
const MTU_MIN: u32 = 1200 + IP_UDP_BYTES;
/// Longest message where many connections share one thread.
const MANY_SIZE_MAX: u32 = 16 << 10;
/// Bytes that may be in flight in a closed loop. Both directions together always fit the kernel's socket
/// buffers, so that two blocking writers never wait for each other.
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 10;
/// Bytes of kernel memory that a small datagram costs in a receive buffer, at most.
const DATAGRAM_COST: u64 = 2048;
/// Most connections or held connections: one port's worth of local ports.
const CONNECTIONS_MAX: u32 = 20_000;
/// Most connections over which one thread calls: the servers that a client may name.
const CALL_CONNECTIONS_MAX: u32 = 1000;
/// Large requests that may be in flight.
const LARGE_OUTSTANDING_MAX: u64 = 64;
/// Calls per second of the open loop.
const RATE_MAX: u32 = 1_000_000;
/// Calls that a connection has room for: the default of `CallConfig`.
const CALLS_MAX: u64 = 1024;
/// Bytes that the opening frame of a call carries between header and body.
const OPEN_FIELDS_BYTES: usize = 16;
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
    /// Calls per second of an open loop; 0 where the loop is closed.
    pub(crate) rate: u32,
    /// Connections of each contestant.
    pub(crate) connections: u32,
    /// Idle connections held while memory is measured.
    pub(crate) held: u32,
    pub(crate) rounds: u32,
    /// Messages per measured block; `None` calibrates.
    pub(crate) ops: Option<u64>,
    /// What a calibrated block of the raw side shall take, in milliseconds.
    pub(crate) block_ms: u64,
    /// Longest packet in bytes, IP header included, over reliable UDP and QUIC.
    pub(crate) mtu: Option<u32>,
}

impl Plan {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// [`Failure::Usage`] that names the argument and its range.
    pub(crate) fn new(given: &args::Bench) -> Result<Self, Failure> {
        let (workload, transport) = (given.workload, given.transport);
        let shape = workload.shape();
        let connections = match shape {
            Workload::Connections | Workload::Idle => given.connections.unwrap_or(1000),
            _ => only(
                given.connections,
                "--connections",
                "connections, idle and call-connections",
            )?
            .unwrap_or(1),
        };
        let outstanding = match workload {
            Workload::Rate | Workload::CallRate => given.outstanding.unwrap_or(64),
            Workload::CallBandwidth => given.outstanding.unwrap_or(4),
            _ => only(
                given.outstanding,
                "--outstanding",
                "rate, call-rate and call-bandwidth",
            )?
            .unwrap_or(connections),
        };
        let held = match shape {
            Workload::Connections => given.held.unwrap_or(connections),
            _ => only(given.held, "--held", "connections and call-connections")?.unwrap_or(0),
        };
        let rate = match workload {
            Workload::CallTail => given.rate.unwrap_or(20_000),
            _ => only(given.rate, "--rate", "call-tail")?.unwrap_or(0),
        };
        let size = given.size.unwrap_or(match (shape, transport) {
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
            rate,
            connections,
            held,
            rounds,
            ops: given.ops,
            // A p99 of an open loop takes some thousand calls.
            block_ms: if rate > 0 { 500 } else { 80 },
            mtu: if transport.has_packets() {
                Some(given.mtu.unwrap_or(MTU_ETHERNET))
            } else {
                only(given.mtu, "--mtu", "the transports rudp and quic")?
            },
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Failure> {
        let shape = self.workload.shape();
        if self.is_calls() && self.transport == Transport::Udp {
            return Err(Failure::Usage(
                "plain datagrams carry messages, not calls; use another --transport".to_owned(),
            ));
        }
        let size_max = match (self.transport, shape) {
            (_, Workload::Connections | Workload::Idle) => MANY_SIZE_MAX,
            (Transport::Udp, _) => DATAGRAM_MAX,
            (Transport::Rudp | Transport::Quic, _) if !self.is_one_way() => PACKET_CALL_MAX,
            _ => SIZE_MAX,
        };
        within("--size", self.size.into(), SIZE_MIN.into(), size_max.into())?;
        if let Some(mtu) = self.mtu {
            within("--mtu", mtu.into(), MTU_MIN.into(), u16::MAX.into())?;
        }
        within("--rounds", self.rounds.into(), 1, ROUNDS_MAX.into())?;
        let connections_max = if self.is_calls() {
            CALL_CONNECTIONS_MAX
        } else {
            CONNECTIONS_MAX
        };
        let connections = u64::from(self.connections);
        within("--connections", connections, 1, connections_max.into())?;
        within("--held", self.held.into(), 0, connections_max.into())?;
        within("--ops", self.ops.unwrap_or(1), 1, OPS_MAX)?;
        let outstanding = u64::from(self.outstanding);
        match self.workload {
            Workload::Rate | Workload::CallRate => {
                let each = u64::from(self.size).max(512);
                within("--outstanding", outstanding, 1, IN_FLIGHT_BYTES_MAX / each)?;
            }
            Workload::CallBandwidth => {
                within("--outstanding", outstanding, 1, LARGE_OUTSTANDING_MAX)?;
            }
            Workload::CallTail => within("--rate", self.rate.into(), 1, RATE_MAX.into())?,
            _ => {}
        }
        if self.is_crowd_of_datagrams() {
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

    /// Whether ringway's side makes RPCs.
    pub(crate) fn is_calls(&self) -> bool {
        self.workload.shape() != self.workload
    }

    /// Calls of an open loop that are in flight together whenever a side is held up for long; more wait for a slot. Both
    /// sides have had as many before they are measured, or their tables would grow in whichever block is held up first.
    pub(crate) fn together(&self) -> u64 {
        if self.rate == 0 { 0 } else { CALLS_MAX }
    }

    /// Whether connections are many and share epoll.
    pub(crate) fn is_many(&self) -> bool {
        matches!(
            self.workload.shape(),
            Workload::Connections | Workload::Idle
        )
    }

    /// Whether nothing is said.
    pub(crate) fn is_idle(&self) -> bool {
        self.workload == Workload::Idle
    }

    /// Whether messages flow one way, with an acknowledgement at the end.
    pub(crate) fn is_one_way(&self) -> bool {
        matches!(
            self.workload.shape(),
            Workload::Stream | Workload::Bandwidth
        )
    }

    /// Bytes of a request ahead of its body: the baseline sends them too, and its server drops them.
    pub(crate) fn lead_bytes(&self) -> usize {
        if self.is_calls() && !self.is_one_way() {
            OPEN_FIELDS_BYTES
        } else {
            0
        }
    }

    /// Longest payload of a datagram in bytes, over reliable UDP and QUIC.
    pub(crate) fn datagram_bytes_max(&self) -> Option<u32> {
        self.mtu.map(|mtu| mtu - IP_UDP_BYTES)
    }

    /// For one-way plain datagrams: how many may be unacknowledged, so that the receive buffer can't overflow.
    ///
    /// The receiver acknowledges every half of it. All else has its own flow control.
    pub(crate) fn window(&self) -> u64 {
        let each = u64::from(self.size).max(512);
        (IN_FLIGHT_BYTES_MAX / each).max(1)
    }

    /// Whether one datagram socket answers many others, all at once.
    fn is_crowd_of_datagrams(&self) -> bool {
        let datagrams = self.baselines().0 == Baseline::Udp;
        datagrams && self.workload.shape() == Workload::Connections
    }

    /// Receive buffer of the datagram sockets of both contestants in bytes, where the default is too small.
    pub(crate) fn recv_buffer_bytes(&self) -> Option<u32> {
        // The kernel doubles what is asked for.
        let each = DATAGRAM_COST / 2 + u64::from(self.size);
        let bytes = (u64::from(self.connections) * each).max(128 << 10);
        match self.transport {
            Transport::Rudp | Transport::Quic => Some(PACKETS_RECV_BUFFER_BYTES),
            _ => self
                .is_crowd_of_datagrams()
                .then(|| u32::try_from(bytes).unwrap_or(u32::MAX)),
        }
    }
}

fn only<T>(given: Option<T>, argument: &str, workloads: &str) -> Result<Option<T>, Failure> {
    match given {
        Some(_) => Err(Failure::Usage(format!("{argument} belongs to {workloads}"))),
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
            rate: None,
            rounds: None,
            ops: None,
            mtu: None,
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
        let large = plan(Workload::CallBandwidth, Transport::Tcp);
        assert_eq!((large.size, large.outstanding), (1 << 20, 4));
        assert_eq!(plan(Workload::CallTail, Transport::Unix).rate, 20_000);
    }

    #[test]
    fn calls_have_the_baseline_of_messages_and_its_extra_bytes() {
        let plan = |workload| Plan::new(&bench(workload, Transport::Tcp)).unwrap();
        for (calls, messages, lead) in [
            (Workload::CallRtt, Workload::Rtt, 16),
            (Workload::CallRate, Workload::Rate, 16),
            (Workload::CallConnections, Workload::Connections, 16),
            (Workload::CallStream, Workload::Stream, 0),
            (Workload::CallBandwidth, Workload::Bandwidth, 0),
        ] {
            assert!(plan(calls).is_calls() && !plan(messages).is_calls());
            assert_eq!(plan(calls).workload.shape(), messages);
            assert_eq!(plan(calls).is_one_way(), plan(messages).is_one_way());
            assert_eq!(plan(calls).lead_bytes(), lead, "{calls}");
            assert_eq!(plan(messages).lead_bytes(), 0);
        }
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
        assert!(refused(|given| given.rate = Some(5)).contains("--rate belongs"));
        assert!(
            refused(|given| given.workload = Workload::CallRate).contains("another --transport")
        );
    }

    #[test]
    fn datagrams_in_flight_fit_a_default_receive_buffer() {
        for size in [16, 64, 512, 1200, 9000, 65_507] {
            let mut given = bench(Workload::Stream, Transport::Udp);
            given.size = Some(size);
            let window = Plan::new(&given).unwrap().window();
            assert!(
                window >= 1 && window * u64::from(size) <= 64 << 10,
                "{size}: {window}"
            );
        }
    }
}
