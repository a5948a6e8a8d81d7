//! The network of a run: links, habits of the drivers, faults.

use std::time::Duration;

use crate::rng::{Concern, Rng};
use crate::{Chance, DatagramFaults, DriverFaults, Faults, PathConfig, Span, StreamFaults};

/// Largest socket buffer of a simulated stream; more is taken as this.
pub(crate) const BUFFER_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Everything that decides how a [`SimNet`](crate::SimNet) behaves, but for the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Connections.
    pub stream: StreamLink,
    /// Datagrams.
    pub datagram: DatagramLink,
    /// What drivers do one way or another, both being right.
    pub habits: Habits,
    /// What goes wrong.
    pub faults: Faults,
}

/// A connection: each direction has these properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLink {
    /// One way of the handshake.
    pub connect_delay: Span,
    /// One way of a segment, and of the window update that answers it. Segments never overtake.
    pub delay: Span,
    /// Bytes per second; 0 means no limit.
    pub bandwidth_bytes_per_s: u64,
    /// Bytes between the writer's `sent` and the reader's `received`: both socket buffers and the way between.
    /// At most 64 MiB.
    pub buffer_bytes: u32,
}

/// The way of datagrams out of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramLink {
    /// One way.
    pub delay: Span,
    /// Added to the delay, drawn from zero to this; never reorders by itself.
    pub jitter: Duration,
    /// Bytes per second; 0 means no limit.
    pub bandwidth_bytes_per_s: u64,
    /// Largest payload; a longer datagram is reported as too long and not sent.
    pub mtu_bytes: u32,
    /// Bytes that wait for the link, and bytes that wait in a socket's inbox; what does not fit is dropped.
    pub queue_bytes: u32,
    /// Bytes waiting for the link from which on datagrams are marked "congestion experienced"; 0 is off.
    pub ecn_threshold_bytes: u32,
}

impl Default for DatagramLink {
    /// Perfect: 10 us one way, no jitter, no limit of bandwidth, 1 MiB of queue, datagrams as long as UDP allows.
    fn default() -> Self {
        Self {
            delay: Span::micros(10, 10),
            jitter: Duration::ZERO,
            bandwidth_bytes_per_s: 0,
            mtu_bytes: 65_507,
            queue_bytes: 1024 * 1024,
            ecn_threshold_bytes: 0,
        }
    }
}

/// Choices that differ between real drivers; none of them is a fault, so healing leaves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// A receive goes into a pooled 16 KiB slot instead of where the engine wants it. Per receive.
    pub slot_recv: Chance,
    /// Datagrams of one peer and size arrive together, as by GRO. Per datagram that would fit.
    pub coalesce: Chance,
}

impl NetConfig {
    /// No faults, no jitter, no limit of bandwidth: 10 us one way, 256 KiB of buffer, 1452-byte datagrams.
    #[must_use]
    pub fn perfect() -> Self {
        Self {
            stream: StreamLink {
                connect_delay: Span::micros(10, 10),
                delay: Span::micros(10, 10),
                bandwidth_bytes_per_s: 0,
                buffer_bytes: 256 * 1024,
            },
            datagram: DatagramLink {
                mtu_bytes: 1452,
                ..DatagramLink::default()
            },
            habits: Habits {
                slot_recv: Chance::NEVER,
                coalesce: Chance::ALWAYS,
            },
            faults: Faults::none(),
        }
    }

    /// A random network and a random mix of faults: each kind is off in half of all seeds.
    ///
    /// Swarm testing (Groce and others 2012): a run with all faults at once drowns what needs a few of them.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut draw = Draw(Rng::split(seed, Concern::Swarm, 0));
        let mtu_bytes = draw.pick([1200, 1452, 8952, 65_507]);
        let mut config = Self {
            stream: StreamLink {
                connect_delay: draw.span(1, 50_000),
                delay: draw.span(1, 50_000),
                bandwidth_bytes_per_s: draw.pick([0, 0, 1_000_000_000, 20_000_000]),
                buffer_bytes: draw.pick([4 * 1024, 64 * 1024, 256 * 1024, 4 * 1024 * 1024]),
            },
            datagram: DatagramLink {
                delay: draw.span(1, 50_000),
                jitter: draw.span(1, 5_000).max,
                bandwidth_bytes_per_s: draw.pick([0, 0, 1_000_000_000, 20_000_000]),
                mtu_bytes,
                queue_bytes: draw.pick([4 * 1024, 64 * 1024, 256 * 1024, 4 * 1024 * 1024]),
                ecn_threshold_bytes: draw.pick([0, 0, 16 * 1024, 64 * 1024]),
            },
            habits: Habits {
                slot_recv: Chance::percent(draw.pick([0, 0, 50, 100])),
                coalesce: Chance::percent(draw.pick([0, 50, 90, 100])),
            },
            faults: Faults {
                stream: draw.stream_faults(),
                datagram: draw.datagram_faults(mtu_bytes),
                driver: draw.driver_faults(),
            },
        };
        draw.disruptions(&mut config.faults.datagram);
        config
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self::perfect()
    }
}

impl PathConfig {
    /// A random path that reliable transports must master: 1200 bytes pass now and then, each kind of fault is off in half
    /// of all seeds.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut draw = Draw(Rng::split(seed, Concern::PathSwarm, 0));
        let mut config = Self {
            link: DatagramLink {
                delay: draw.span(1, 20_000),
                jitter: draw.span(1, 2_000).max,
                bandwidth_bytes_per_s: draw.pick([0, 1_000_000_000, 20_000_000, 1_000_000]),
                queue_bytes: draw.pick([20_000, 200_000, 1 << 20, 1 << 20]),
                ecn_threshold_bytes: draw.pick([0, 0, 5_000, 50_000]),
                ..DatagramLink::default()
            },
            faults: DatagramFaults {
                loss: draw.chance(300_000),
                burst_enter: draw.chance(20_000),
                reorder_window: draw.span(10, 20_000).max,
                ..draw.datagram_faults(0)
            },
        };
        config.faults.black_hole_bytes = draw.pick([1200, 1400, 9000, 0]);
        draw.disruptions(&mut config.faults);
        config
    }
}

/// The generator of [`NetConfig::swarm`] and [`PathConfig::swarm`].
struct Draw(Rng);

impl Draw {
    fn pick<T: Copy>(&mut self, choices: [T; 4]) -> T {
        choices[usize::try_from(self.0.below(4)).unwrap_or(0)]
    }

    /// Zero in half of all draws, else up to `max` in a million, small chances as likely as large ones.
    fn chance(&mut self, max: u32) -> Chance {
        let on = self.0.hits(Chance::percent(50));
        let parts = self.0.between(1, u64::from(max)) >> self.0.below(5);
        let parts = u32::try_from(parts).unwrap_or(max).max(1);
        if on {
            Chance::parts(parts)
        } else {
            Chance::NEVER
        }
    }

    /// A span between `min` and `max` microseconds, of any order of magnitude.
    fn span(&mut self, min: u64, max: u64) -> Span {
        let top = (max >> self.0.below(15)).max(min);
        let bottom = self.0.between(min, top);
        Span::micros(bottom, top)
    }

    fn stream_faults(&mut self) -> StreamFaults {
        StreamFaults {
            reset: self.chance(50_000),
            stall: self.chance(50_000),
            stall_time: self.span(1_000, 5_000_000),
            partial_read: self.chance(900_000),
            partial_write: self.chance(900_000),
            chunk_bytes_max: self.pick([7, 64, 1000, 16 * 1024]),
            half_open: self.chance(300_000),
            half_open_bytes_max: self.pick([0, 100, 4096, 65_536]),
            connect_refused: self.chance(500_000),
            connect_silent: self.chance(300_000),
        }
    }

    fn datagram_faults(&mut self, mtu_bytes: u32) -> DatagramFaults {
        DatagramFaults {
            loss: self.chance(500_000),
            burst_enter: self.chance(50_000),
            burst_leave: Chance::percent(self.pick([5, 10, 30, 50])),
            burst_loss: Chance::percent(self.pick([50, 80, 100, 100])),
            duplicate: self.chance(500_000),
            reorder: self.chance(500_000),
            reorder_window: self.span(10, 1_000_000).max,
            corrupt: self.chance(20_000),
            truncate: self.chance(20_000),
            ecn_mark: self.chance(200_000),
            black_hole_bytes: self.pick([0, 0, 0, mtu_bytes / 2]),
            ..DatagramFaults::default()
        }
    }

    /// Partitions of at most 100 ms, and rebindings.
    fn disruptions(&mut self, faults: &mut DatagramFaults) {
        if self.0.hits(Chance::percent(50)) {
            faults.partition_every = self.span(20_000, 2_000_000).max;
            faults.partition_time = (faults.partition_every / 2).min(Duration::from_millis(100));
        }
        if self.0.hits(Chance::percent(50)) {
            faults.rebind_every = self.span(10_000, 1_000_000).max;
        }
    }

    fn driver_faults(&mut self) -> DriverFaults {
        DriverFaults {
            starve: self.chance(200_000),
            late: self.chance(300_000),
            late_time: self.span(1, 100_000),
            accept: self.chance(500_000),
        }
    }
}
