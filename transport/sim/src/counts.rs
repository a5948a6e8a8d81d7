//! How often each fault fired: a test that never met a fault has not tested it.

use std::fmt;
use std::ops::AddAssign;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A connection was reset by the network.
    Reset,
    /// A segment was held up.
    Stall,
    /// A receive brought less than there was.
    PartialRead,
    /// A send took less than there was room for.
    PartialWrite,
    /// A direction of a connection went silent.
    HalfOpen,
    /// A connect was refused.
    ConnectRefused,
    /// A connect was left unanswered.
    ConnectSilent,
    /// A datagram was lost by itself.
    Loss,
    /// A datagram was lost in a burst.
    BurstLoss,
    /// A datagram was duplicated.
    Duplicate,
    /// A datagram was held back.
    Reorder,
    /// Bits of a datagram were flipped.
    Corrupt,
    /// A datagram was cut short.
    Truncate,
    /// A datagram was marked "congestion experienced".
    EcnMark,
    /// A datagram was too long for the path and vanished.
    BlackHole,
    /// A queue of datagrams was full, and one was dropped.
    Overflow,
    /// A datagram was lost in a partition.
    Partition,
    /// A translation of addresses forgot what it knew.
    Rebind,
    /// A receive found no buffer.
    Starve,
    /// A completion came late.
    Late,
    /// An accept failed.
    Accept,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 21] = [
        Self::Reset,
        Self::Stall,
        Self::PartialRead,
        Self::PartialWrite,
        Self::HalfOpen,
        Self::ConnectRefused,
        Self::ConnectSilent,
        Self::Loss,
        Self::BurstLoss,
        Self::Duplicate,
        Self::Reorder,
        Self::Corrupt,
        Self::Truncate,
        Self::EcnMark,
        Self::BlackHole,
        Self::Overflow,
        Self::Partition,
        Self::Rebind,
        Self::Starve,
        Self::Late,
        Self::Accept,
    ];

    /// Its name, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Stall => "stall",
            Self::PartialRead => "partial_read",
            Self::PartialWrite => "partial_write",
            Self::HalfOpen => "half_open",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectSilent => "connect_silent",
            Self::Loss => "loss",
            Self::BurstLoss => "burst_loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt => "corrupt",
            Self::Truncate => "truncate",
            Self::EcnMark => "ecn_mark",
            Self::BlackHole => "black_hole",
            Self::Overflow => "overflow",
            Self::Partition => "partition",
            Self::Rebind => "rebind",
            Self::Starve => "starve",
            Self::Late => "late",
            Self::Accept => "accept",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each fault fired in a run, or, summed with `+=`, in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    counts: [u64; Fault::ALL.len()],
}

impl FaultCounts {
    /// How often `fault` fired.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// All kinds with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().map(|fault| (fault, self.of(fault)))
    }

    /// Faults of all kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }
}

impl AddAssign for FaultCounts {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (fault, count)) in self.iter().filter(|(_, count)| *count > 0).enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{fault} {count}")?;
        }
        Ok(())
    }
}
