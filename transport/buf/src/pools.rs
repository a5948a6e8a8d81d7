//! The pools of one engine: a few size classes behind one question, "room for `len` bytes".
//!
//! Above [`Pool`]; what a driver or an engine asks for memory. The budget bounds what is leased. What is free
//! stays resident for the next taker, bounded too: at most `RESIDENT_BYTES` a class beyond what was leased at
//! once, because a class that makes new memory resident first lets others give as much back. Tested by
//! `tests/model.rs` and below.

use std::cell::RefCell;

use crate::{Budget, Lease, Mode, Pool, PoolConfig};

/// Room in each class beyond its power of two, so that a body of exactly that size keeps its headers.
const EXTRA_BYTES: usize = 4096;
/// Smallest class: a turn's answers on a quiet connection.
const SMALL_BYTES: usize = 4096;
/// Middle class: a receive slot; larger ones gain nothing, smaller ones cost per slot.
const MIDDLE_BYTES: usize = 16 * 1024;
/// Large class: a contiguous batch or receive buffer of a hot connection.
const LARGE_BYTES: usize = 64 * 1024;
/// Classes above `LARGE_BYTES`: 128 KiB (+ extra) to 128 MiB (+ extra), each twice the one below.
const HUGE_CLASSES: usize = 11;
/// Leases of each small class that wait, still leased, for the next taker. They save the round through the
/// return queue and the budget: about 50 ns a turn.
const STASH_MAX: usize = 16;
/// Free memory of a class that stays resident; mapping and clearing 1 MiB anew costs more than copying it.
const RESIDENT_BYTES: usize = 16 * 1024 * 1024;

/// Limits of an engine's memory.
#[derive(Clone, Copy, Debug)]
pub struct PoolsConfig {
    /// Hard cap in bytes over all classes: the engine's [`Budget`]. Up to 16 MiB of free memory a size class
    /// may stay resident beyond it.
    pub budget_bytes: usize,
    /// Treatment of free slots, for tests.
    pub mode: Mode,
}

impl Default for PoolsConfig {
    fn default() -> Self {
        Self {
            budget_bytes: 1 << 30,
            mode: Mode::Plain,
        }
    }
}

/// The size classes of one engine. One thread asks; leases may be dropped anywhere.
#[derive(Debug)]
pub struct Pools {
    classes: Vec<Class>,
    budget: Budget,
}

#[derive(Debug)]
struct Class {
    pool: Pool,
    stash: RefCell<Vec<Lease>>,
    stash_max: usize,
}

impl Pools {
    /// Makes the classes; memory is mapped when first used.
    #[must_use]
    pub fn new(config: PoolsConfig) -> Self {
        let budget = Budget::new(config.budget_bytes);
        let small = [(SMALL_BYTES, 64), (MIDDLE_BYTES, 32), (LARGE_BYTES, 8)];
        let huge = (0..HUGE_CLASSES).map(|step| (((2 * LARGE_BYTES) << step) + EXTRA_BYTES, 1));
        let classes = small
            .into_iter()
            .chain(huge)
            .map(|(slot_bytes, slots_per_segment)| {
                // No class alone may pass the budget by more than one segment.
                let segment = slot_bytes.saturating_mul(slots_per_segment as usize);
                let segments = (config.budget_bytes / segment + 1).min(16 * 1024);
                #[expect(clippy::cast_possible_truncation, reason = "at most 16 Ki")]
                let segments_max = segments as u32;
                let shape = PoolConfig {
                    slot_bytes,
                    slots_per_segment,
                    segments_max,
                    mode: config.mode,
                };
                let keeps = config.mode == Mode::Plain && slot_bytes <= LARGE_BYTES;
                Class {
                    pool: Pool::new(shape, budget.clone()),
                    stash: RefCell::new(Vec::with_capacity(if keeps { STASH_MAX } else { 0 })),
                    stash_max: if keeps { STASH_MAX } else { 0 },
                }
            })
            .collect();
        Self { classes, budget }
    }

    /// Leases room for at least `bytes`. `None` when the budget, the memory or the largest class is passed.
    #[must_use]
    #[inline]
    pub fn lease(&self, bytes: usize) -> Option<Lease> {
        let class = self
            .classes
            .iter()
            .find(|class| class.pool.slot_bytes() >= bytes)?;
        if let Some(mut lease) = class.stash.borrow_mut().pop() {
            lease.reset(0);
            return Some(lease);
        }
        let (lease, cold) = class
            .pool
            .lease_told()
            .or_else(|| self.lease_relieved(class))?;
        if cold {
            self.make_up(class);
        }
        Some(lease)
    }

    /// Takes a lease back for the next taker; the quick way home for the thread that owns these pools.
    ///
    /// Dropping the lease is always right too, and it is what happens to one that other pools made: it must
    /// not stay charged to their budget.
    #[inline]
    pub fn give(&self, lease: Lease) {
        let class = self
            .classes
            .iter()
            .find(|class| class.pool.slot_bytes() == lease.capacity());
        if let Some(class) = class {
            let mut stash = class.stash.borrow_mut();
            if stash.len() < class.stash_max && class.pool.made(&lease) {
                stash.push(lease);
            }
        }
    }

    /// After a refusal: what waits in the stashes is charged too. Frees it and asks again.
    #[cold]
    fn lease_relieved(&self, class: &Class) -> Option<(Lease, bool)> {
        if self.stashed_bytes() == 0 {
            return None;
        }
        for class in &self.classes {
            class.stash.borrow_mut().clear();
        }
        class.pool.lease_told()
    }

    /// `taker` just made memory resident: the other classes give as much of theirs back, if they can spare it.
    #[cold]
    fn make_up(&self, taker: &Class) {
        let bytes = taker.pool.slot_bytes();
        let others = self
            .classes
            .iter()
            .filter(|class| !core::ptr::eq(*class, taker));
        for class in others {
            class.pool.trim_some(RESIDENT_BYTES, bytes);
        }
    }

    /// The account of all memory that is leased from here.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes that [`give`](Self::give) keeps leased for the next taker.
    #[must_use]
    pub fn stashed_bytes(&self) -> usize {
        self.classes
            .iter()
            .map(|class| class.stash.borrow().len() * class.pool.slot_bytes())
            .sum()
    }

    /// Whether `reserve` bytes of the budget are left when `bytes` more are taken. What [`give`](Self::give) keeps
    /// counts as free: [`lease`](Self::lease) frees it before it refuses.
    #[must_use]
    pub fn leaves(&self, reserve: usize, bytes: usize) -> bool {
        let used = self.budget.used().saturating_sub(self.stashed_bytes());
        used.saturating_add(bytes).saturating_add(reserve) <= self.budget.limit()
    }

    /// Returns cold free memory to the kernel. An engine calls it before it sleeps long.
    pub fn trim(&self) {
        for class in &self.classes {
            class.pool.trim(RESIDENT_BYTES);
        }
    }

    /// Counters of each class, smallest first: slot size in bytes and figures.
    pub fn stats(&self) -> impl Iterator<Item = (usize, crate::PoolStats)> {
        self.classes
            .iter()
            .map(|class| (class.pool.slot_bytes(), class.pool.stats()))
    }
}
