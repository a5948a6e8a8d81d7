//! What stands beside ringway: which hand-written exchange, with how many bytes around a message, in how many pieces.
//!
//! Every run has one baseline, to which the A/A control belongs; some have a second one, whose ratio is shown too.

use serde::{Deserialize, Serialize};

use super::control::Side;
use super::plan::{Plan, Transport, Workload};

/// A hand-written contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Baseline {
    /// TCP.
    Tcp,
    /// Unix stream sockets.
    Unix,
    /// Datagrams as ringway exchanges them: its socket options, addressing, control messages, segmentation.
    Udp,
    /// The same without segmentation: one system call per datagram.
    UdpOneByOne,
    /// Connected datagram sockets, one call per datagram, no control messages.
    UdpBare,
}

/// Bytes around a small message in a packet of reliable UDP: packet header, acknowledgement, message header.
const RUDP_AROUND: usize = 20 + 8 + 20;
/// The same for QUIC: short header, acknowledgement, header of the stream frame, header of the message, tag.
const QUIC_AROUND: usize = 11 + 5 + 4 + 16 + 16;
/// Bytes of a packet that datagrams leave free, if they carry pieces of a message: 1,400 are left of Ethernet's 1,500.
const PIECE_BESIDE: u32 = 100;

impl Baseline {
    /// Whether bytes flow in a stream and messages have frames.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix)
    }

    /// The column's title.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tcp => "raw tcp",
            Self::Unix => "raw unix",
            Self::Udp => "raw udp",
            Self::UdpOneByOne => "raw udp 1by1",
            Self::UdpBare => "raw bare",
        }
    }
}

impl Plan {
    /// The baseline that the A/A control repeats, and a second one.
    pub(crate) fn baselines(&self) -> (Baseline, Option<Baseline>) {
        let (first, second) = match self.transport {
            Transport::Tcp => (Baseline::Tcp, None),
            Transport::Unix => (Baseline::Unix, None),
            Transport::Udp => (Baseline::Udp, Some(Baseline::UdpBare)),
            Transport::Rudp => (self.datagrams(), Some(Baseline::Tcp)),
            Transport::Quic => (Baseline::Tcp, Some(self.datagrams())),
        };
        // Many connections have room for one; the base of `call-tail` is ringway itself.
        let alone = self.is_many() || self.workload == Workload::CallTail;
        (first, second.filter(|_| !alone))
    }

    /// The hand-written contestant of a side; `None` for ringway's own.
    pub(crate) fn baseline(&self, side: Side) -> Option<Baseline> {
        let (first, second) = self.baselines();
        match side {
            Side::Ours => None,
            Side::Raw => Some(first),
            Side::Second => second,
        }
    }

    /// What a transport over datagrams is compared with. One message after the other knows no batches.
    fn datagrams(&self) -> Baseline {
        match self.workload.shape() {
            Workload::Rate | Workload::Stream | Workload::Bandwidth => Baseline::UdpOneByOne,
            _ => Baseline::Udp,
        }
    }

    /// What `baseline` exchanges for this plan, and how many of its messages make one of the plan's: a message that no
    /// packet holds goes one way as so many datagrams.
    pub(crate) fn in_pieces(&self, baseline: Baseline) -> (Self, u64) {
        let piece = self.mtu.map_or(u32::MAX, |mtu| mtu - PIECE_BESIDE);
        if baseline.is_stream() || !self.is_one_way() || self.size <= piece {
            return (*self, 1);
        }
        let plan = Self {
            size: piece,
            ..*self
        };
        (plan, u64::from(self.size.div_ceil(piece)))
    }

    /// Bytes that a datagram of `baseline` has beside the body, as many as a packet of ringway.
    pub(crate) fn around_bytes(&self, baseline: Baseline) -> usize {
        let (_, pieces) = self.in_pieces(baseline);
        match self.transport {
            _ if baseline.is_stream() || pieces > 1 => 0,
            Transport::Rudp => RUDP_AROUND,
            Transport::Quic => QUIC_AROUND,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::bench;
    use super::*;

    fn plan(workload: Workload, transport: Transport) -> Plan {
        Plan::new(&bench(workload, transport)).unwrap()
    }

    #[test]
    fn every_transport_has_its_baselines() {
        use Baseline::{Tcp, Udp, UdpBare, UdpOneByOne, Unix};
        let table = [
            (Workload::CallRtt, Transport::Tcp, (Tcp, None)),
            (Workload::Rate, Transport::Unix, (Unix, None)),
            (Workload::Rtt, Transport::Udp, (Udp, Some(UdpBare))),
            (Workload::Connections, Transport::Udp, (Udp, None)),
            (Workload::CallRtt, Transport::Rudp, (Udp, Some(Tcp))),
            (
                Workload::CallRate,
                Transport::Rudp,
                (UdpOneByOne, Some(Tcp)),
            ),
            (
                Workload::Bandwidth,
                Transport::Quic,
                (Tcp, Some(UdpOneByOne)),
            ),
        ];
        for (workload, transport, baselines) in table {
            assert_eq!(
                plan(workload, transport).baselines(),
                baselines,
                "{workload} {transport}"
            );
        }
    }

    #[test]
    fn a_message_beyond_a_packet_goes_as_datagrams_of_1400_bytes() {
        let large = plan(Workload::Bandwidth, Transport::Rudp);
        let (pieces, count) = large.in_pieces(Baseline::UdpOneByOne);
        assert_eq!((pieces.size, count), (1400, 749));
        assert!(pieces.window() * 1400 <= 64 << 10);
        assert_eq!(large.around_bytes(Baseline::UdpOneByOne), 0);
        assert_eq!(large.in_pieces(Baseline::Tcp), (large, 1));
        let small = plan(Workload::CallRate, Transport::Rudp);
        assert_eq!(small.in_pieces(Baseline::UdpOneByOne), (small, 1));
        assert_eq!(small.around_bytes(Baseline::UdpOneByOne), 48);
        assert_eq!(small.around_bytes(Baseline::Tcp), 0);
    }
}
