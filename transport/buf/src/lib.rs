//! Memory of ringway: who owns bytes, for how long, and how many there may be.
//!
//! The lowest crate of the house. Everything that a peer can make a process hold passes through here:
//!
//! * [`Pools`] hands out [`Lease`]s (unique, writable, with head- and tailroom) from fixed-size slots that
//!   are mapped once, 64-byte aligned, and counted by a [`Budget`];
//! * a lease freezes to a [`Slice`] (shared, immutable, `Send`), or becomes a [`RecvBuffer`] that a driver
//!   fills at its tail while parts of its front are already shared;
//! * a [`Chain`] is a queue of such segments, the unit in which drivers send;
//! * [`Table`] is the generation-checked slab behind every id of the engine and the drivers;
//! * [`Alarms`] are deadlines, lazily checked;
//! * [`spsc`] and [`mpsc`] queues carry commands between threads; [`Instant`] is time for those who have no clock.
//!
//! Slots keep their mapping alive by themselves, so a slice may outlive the engine that received it.

mod alarms;
mod budget;
mod chain;
mod copies;
#[cfg_attr(
    not(loom),
    expect(unreachable_pub, reason = "public for `tests/loom.rs` only")
)]
mod count;
mod crc32c;
mod full;
mod instant;
mod lease;
mod mmap;
pub mod mpsc;
mod pool;
mod pools;
mod recv_buffer;
#[cfg_attr(
    not(loom),
    expect(unreachable_pub, reason = "public for `tests/loom.rs` only")
)]
mod returns;
mod slice;
mod slot;
pub mod spsc;
mod sync;
mod table;

pub use alarms::Alarms;
pub use budget::{Budget, Charge};
pub use chain::{Chain, Segment};
pub use copies::{Copies, copies, copy_counted};
pub use crc32c::crc32c;
pub use full::Full;
pub use instant::Instant;
pub use lease::Lease;
pub use pool::{Mode, Pool, PoolConfig, PoolStats};
pub use pools::{Pools, PoolsConfig};
pub use recv_buffer::RecvBuffer;
pub use slice::Slice;
pub use slot::Owner;
pub use table::{Id, Table};

/// The parts that only loom looks at from outside.
#[cfg(loom)]
#[doc(hidden)]
pub mod checked {
    pub use crate::count::Count;
    pub use crate::returns::{Link, Returns};
}

/// Alignment in bytes of every slot: one cache line.
///
/// A 64 KiB receive into memory that is 16 bytes off such a boundary costs five times as much on the AMD
/// machines this was measured on (`rep movsb` with an unlucky relative page offset).
pub const SLOT_ALIGN: usize = 64;
