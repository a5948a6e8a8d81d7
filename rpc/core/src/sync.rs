//! The atomics of this crate, in one place.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
