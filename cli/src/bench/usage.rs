//! What a block cost one process: time, processor, system calls, allocations, copies.

use std::ops::Add;

use ringway::Instant;
use serde::{Deserialize, Serialize};

use super::allocations::allocations;
use crate::machine;

/// Counters that a contestant keeps itself, so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) syscalls: u64,
    pub(crate) empty_polls: u64,
    pub(crate) copies: u64,
}

/// The cost of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) syscalls: u64,
    pub(crate) empty_polls: u64,
    pub(crate) allocations: u64,
    pub(crate) copies: u64,
}

impl Add for Usage {
    type Output = Self;

    /// Both processes of a block: costs add up, the time is the longer one.
    fn add(self, other: Self) -> Self {
        Self {
            elapsed_ns: self.elapsed_ns.max(other.elapsed_ns),
            cpu_ns: self.cpu_ns + other.cpu_ns,
            syscalls: self.syscalls + other.syscalls,
            empty_polls: self.empty_polls + other.empty_polls,
            allocations: self.allocations + other.allocations,
            copies: self.copies + other.copies,
        }
    }
}

/// The state at the start of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    at: Instant,
    cpu_ns: u64,
    allocations: u64,
    counts: Counts,
}

impl Meter {
    /// Starts measuring.
    pub(crate) fn start(counts: Counts) -> Self {
        let (cpu_ns, allocations) = (machine::cpu_ns(), allocations());
        Self {
            at: Instant::monotonic(),
            cpu_ns,
            allocations,
            counts,
        }
    }

    /// What was used since the start.
    pub(crate) fn stop(&self, counts: Counts) -> Usage {
        // The clock first: what follows is no part of the block.
        let now = Instant::monotonic();
        Usage {
            elapsed_ns: now.as_nanos().saturating_sub(self.at.as_nanos()),
            cpu_ns: machine::cpu_ns() - self.cpu_ns,
            syscalls: counts.syscalls - self.counts.syscalls,
            empty_polls: counts.empty_polls - self.counts.empty_polls,
            allocations: allocations() - self.allocations,
            copies: counts.copies - self.counts.copies,
        }
    }
}
