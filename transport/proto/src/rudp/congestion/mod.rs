//! How much may be on the way: one trait, two rules.
//!
//! The machine tells a controller what was acknowledged, lost and marked, and asks for a window. It tells it of
//! at most one loss or mark per round trip: what was sent before the last reduction reduces nothing again.

mod cubic;
mod fixed;

use ringway_buf::Instant;

pub(crate) use self::cubic::Cubic;
pub(crate) use self::fixed::Fixed;

/// Newly acknowledged bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    /// When.
    pub(crate) now: Instant,
    /// How many bytes of packets.
    pub(crate) bytes: u64,
    /// The latest round trip, in nanoseconds.
    pub(crate) rtt_ns: u64,
    /// The smoothed round trip, in nanoseconds.
    pub(crate) smoothed_ns: u64,
    /// The window was used up when they were sent; otherwise it need not grow.
    pub(crate) is_limited: bool,
    /// Number of the largest acknowledged packet.
    pub(crate) largest: u64,
    /// Number of the next packet.
    pub(crate) next: u64,
}

/// A rule for the window.
pub(crate) trait Controller: core::fmt::Debug {
    /// Packets were acknowledged.
    fn on_ack(&mut self, acked: &Acked);

    /// Packets were lost, or (`is_mark`) marked by the network; at most once per round trip.
    fn on_loss(&mut self, now: Instant, is_mark: bool);

    /// Everything was lost for several probe times: the path has changed.
    fn on_collapse(&mut self);

    /// Bytes that may be on the way.
    fn window(&self) -> u64;
}
