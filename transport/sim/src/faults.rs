//! What goes wrong, and how often. Everything here is off by default.

use std::time::Duration;

use crate::rng::nanos;

/// A probability in parts per million: integers, so that a run is the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self(0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// `parts` of a million, at most all of them.
    #[must_use]
    pub const fn parts(parts: u32) -> Self {
        if parts > 1_000_000 {
            Self::ALWAYS
        } else {
            Self(parts)
        }
    }

    /// `percent` of a hundred, at most all of them.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self::parts(percent.saturating_mul(10_000))
    }

    /// The probability in parts per million.
    #[must_use]
    pub const fn per_million(self) -> u32 {
        self.0
    }
}

/// A range of durations, both ends included, drawn from uniformly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Span {
    /// Always the same duration.
    #[must_use]
    pub const fn fixed(duration: Duration) -> Self {
        Self {
            min: duration,
            max: duration,
        }
    }

    /// From `min` to `max` microseconds.
    #[must_use]
    pub const fn micros(min: u64, max: u64) -> Self {
        Self {
            min: Duration::from_micros(min),
            max: Duration::from_micros(max),
        }
    }
}

/// All faults of a run; [`Default`] is none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of connections.
    pub stream: StreamFaults,
    /// Of datagrams.
    pub datagram: DatagramFaults,
    /// Of the drivers themselves.
    pub driver: DriverFaults,
}

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}

/// Faults of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFaults {
    /// A segment dies and takes the connection with it: both ends see `ECONNRESET`. Per segment.
    pub reset: Chance,
    /// A segment, and all behind it, is held up for a time of `stall_time`. Per segment.
    pub stall: Chance,
    /// How long a stall lasts.
    pub stall_time: Span,
    /// A receive brings less than there is. Per receive.
    pub partial_read: Chance,
    /// A send takes less than there is room for. Per send.
    pub partial_write: Chance,
    /// Most bytes of a partial read or write; the length is drawn from `1..=chunk_bytes_max`.
    pub chunk_bytes_max: u32,
    /// One direction of a connection goes silent for ever: no bytes, no end, no reset arrive. Per direction.
    /// [`heal`](crate::SimNet::heal) does not bring such a connection back: its peer is dead.
    pub half_open: Chance,
    /// A direction that goes silent does so within its first bytes, drawn from `0..=half_open_bytes_max`.
    pub half_open_bytes_max: u32,
    /// A connect is refused although somebody listens. Per connect.
    pub connect_refused: Chance,
    /// A connect is never answered. Per connect.
    pub connect_silent: Chance,
}

/// Faults of datagrams. All chances are per datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramFaults {
    /// Lost, independently of others.
    pub loss: Chance,
    /// Loss in bursts (Gilbert-Elliott): chance that a link turns bad.
    pub burst_enter: Chance,
    /// Chance that a bad link turns good again; its inverse is the mean length of a burst.
    pub burst_leave: Chance,
    /// Lost while the link is bad.
    pub burst_loss: Chance,
    /// Arrives twice.
    pub duplicate: Chance,
    /// Leaves its place in the row: it is held back by up to `reorder_window`, and others may pass it.
    pub reorder: Chance,
    /// How long a reordered datagram may be held back.
    pub reorder_window: Duration,
    /// Arrives with 1 to 8 flipped bits and no sign of it.
    pub corrupt: Chance,
    /// Arrives cut short and marked `truncated`, as by a receive buffer that was too small.
    pub truncate: Chance,
    /// Arrives marked "congestion experienced", if its sender speaks ECN.
    pub ecn_mark: Chance,
    /// Datagrams longer than this vanish without an error (a path that drops what it should report); 0 is off.
    pub black_hole_bytes: u32,
    /// A partition begins this often, counted from the beginning of the run; zero is off.
    pub partition_every: Duration,
    /// How long a partition lasts: nothing passes meanwhile, in either direction.
    pub partition_time: Duration,
    /// A translation of addresses (NAT) forgets what it knew this often, counted from the beginning of the run: who is
    /// behind it is seen under a new address from the next datagram on, and not reached under the old one. Zero is off.
    pub rebind_every: Duration,
}

impl DatagramFaults {
    /// Whether nothing passes when a run is this old.
    #[must_use]
    pub fn is_partitioned(&self, age: Duration) -> bool {
        let every = nanos(self.partition_every);
        let age = nanos(age);
        every > 0 && age >= every && age % every < nanos(self.partition_time)
    }

    /// How long it takes until something passes again when a run is this old.
    #[must_use]
    pub fn partition_left(&self, age: Duration) -> Duration {
        if !self.is_partitioned(age) {
            return Duration::ZERO;
        }
        let since = nanos(age) % nanos(self.partition_every);
        self.partition_time - Duration::from_nanos(since)
    }

    /// How often translations have forgotten what they knew when a run is this old.
    #[must_use]
    pub fn rebinds(&self, age: Duration) -> u64 {
        nanos(age)
            .checked_div(nanos(self.rebind_every))
            .unwrap_or(0)
    }
}

/// Faults of a driver and of the system below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverFaults {
    /// No receive buffer for a while, as by `ENOBUFS`. Per receive.
    pub starve: Chance,
    /// A completion comes late: `sent`, or `closed`. Per operation.
    pub late: Chance,
    /// How late, and how long a starved receive waits.
    pub late_time: Span,
    /// An accept fails: `EMFILE`, `ENFILE`, `ENOBUFS` or `ECONNABORTED`. Per connection.
    pub accept: Chance,
}
