//! The queue itself: crossbeam's.

pub(super) use crossbeam_queue::ArrayQueue as Queue;
