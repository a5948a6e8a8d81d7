//! Fixed-size slots, mapped segment by segment, recycled from any thread.
//!
//! Below [`Pools`](crate::Pools), above `Slot`. A slot goes round: `Local::free` (the owner's stack) -> issued
//! -> `Shared::returns` (by its last handle, on any thread) -> `Local::free`. What is issued is charged to the
//! budget; what is free is not, and stays resident until trimmed. Tested by `pool/tests.rs`, `tests/model.rs`
//! and, for the way home, `tests/loom.rs`.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use crate::mmap::{Mapping, page_bytes};
use crate::returns::Returns;
use crate::slot::{Control, Slot};
use crate::{Budget, Lease, SLOT_ALIGN};

/// How a pool treats a slot that is not leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Leaves it alone: the production setting.
    #[default]
    Plain,
    /// Fills it with one byte value when it comes back and checks the fill when it goes out again.
    ///
    /// A write through a stale address panics at the next lease; bytes of another connection can't leak.
    Poison,
    /// Gives each slot pages of its own and forbids them while the slot is free.
    ///
    /// The kernel then answers an operation on a freed slot with `EFAULT`, the program with `SIGSEGV`.
    Guard,
}

/// What a free byte holds in [`Mode::Poison`].
pub(crate) const POISON: u8 = 0xA5;

/// Shape of a [`Pool`].
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Usable bytes of a slot.
    pub slot_bytes: usize,
    /// Slots that are mapped together.
    pub slots_per_segment: u32,
    /// Segments at most; with `slots_per_segment` the hard cap of this pool.
    pub segments_max: u32,
    /// Treatment of free slots.
    pub mode: Mode,
}

/// What a pool did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Slots leased now.
    pub leased: u64,
    /// Slots mapped.
    pub mapped: u64,
    /// Leases refused because the cap or the budget was reached.
    pub refused: u64,
}

/// One size class of slots. Leases are made by its owner thread and may be dropped on any thread.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    local: RefCell<Local>,
}

#[derive(Debug, Default)]
struct Local {
    /// A stack: its top is warm, what lies deepest was used longest ago.
    free: Vec<u32>,
    /// The deepest entries of `free` whose physical memory was given back.
    trimmed: usize,
    segments: u32,
    refused: u64,
}

/// The part of a pool that its slots keep alive.
#[derive(Debug)]
pub(crate) struct Shared {
    config: PoolConfig,
    stride: usize,
    page_bytes: usize,
    segments: Box<[OnceLock<Segment>]>,
    returns: Returns,
    budget: Budget,
}

#[derive(Debug)]
struct Segment {
    mapping: Mapping,
    controls: Box<[Control]>,
}

impl Pool {
    /// Makes an empty pool; memory is mapped with the first lease of each segment.
    ///
    /// # Panics
    /// When a field of `config` is zero or the number of slots passes `u32::MAX`.
    #[must_use]
    pub fn new(config: PoolConfig, budget: Budget) -> Self {
        assert!(config.slot_bytes > 0, "slot_bytes is at least 1");
        assert!(
            u32::try_from(config.slot_bytes).is_ok(),
            "slot_bytes fits 32 bits"
        );
        assert!(
            config.slots_per_segment > 0,
            "slots_per_segment is at least 1"
        );
        let slots = config.slots_per_segment.checked_mul(config.segments_max);
        assert!(
            slots.is_some_and(|slots| slots > 0),
            "between 1 and 2^32-1 slots in a pool"
        );
        let page_bytes = page_bytes();
        let granule = if config.mode == Mode::Guard {
            page_bytes
        } else {
            SLOT_ALIGN
        };
        let shared = Shared {
            config,
            stride: config.slot_bytes.next_multiple_of(granule),
            page_bytes,
            segments: (0..config.segments_max).map(|_| OnceLock::new()).collect(),
            returns: Returns::new(),
            budget,
        };
        Self {
            shared: Arc::new(shared),
            local: RefCell::new(Local::default()),
        }
    }

    /// Leases one slot, empty, with all its room at the tail. `None` when cap, budget or memory is used up.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.lease_told().map(|(lease, _)| lease)
    }

    /// Like [`lease`](Self::lease); also tells whether the slot's memory was not resident before.
    pub(crate) fn lease_told(&self) -> Option<(Lease, bool)> {
        let mut local = self.local.borrow_mut();
        let taken = self.take(&mut local);
        if taken.is_none() {
            local.refused += 1;
        }
        taken.map(|(slot, cold)| (Lease::new(slot), cold))
    }

    /// True when `lease` is one of this pool's slots.
    #[inline]
    pub(crate) fn made(&self, lease: &Lease) -> bool {
        lease.home() == Arc::as_ptr(&self.shared)
    }

    /// Usable bytes of a slot.
    #[must_use]
    #[inline]
    pub fn slot_bytes(&self) -> usize {
        self.shared.config.slot_bytes
    }

    /// Counters of this pool.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let mut local = self.local.borrow_mut();
        self.collect(&mut local);
        let mapped = u64::from(local.segments) * u64::from(self.shared.config.slots_per_segment);
        PoolStats {
            leased: mapped - local.free.len() as u64,
            mapped,
            refused: local.refused,
        }
    }

    /// Returns the physical memory of free slots beyond `keep_bytes` to the kernel.
    pub fn trim(&self, keep_bytes: usize) {
        self.trim_some(keep_bytes, usize::MAX);
    }

    /// Like [`trim`](Self::trim), but stops once `limit_bytes` were returned.
    pub(crate) fn trim_some(&self, keep_bytes: usize, limit_bytes: usize) {
        let mut local = self.local.borrow_mut();
        self.collect(&mut local);
        let stride = self.shared.stride;
        let cold = local.free.len().saturating_sub(keep_bytes / stride);
        let from = local.trimmed;
        let to = cold.min(from.saturating_add(limit_bytes.div_ceil(stride)));
        if to > from {
            for index in &local.free[from..to] {
                self.shared.discard(*index);
            }
            local.trimmed = to;
        }
    }

    fn take(&self, local: &mut Local) -> Option<(Slot, bool)> {
        // The budget first: what it refuses is never mapped.
        let bytes = self.shared.config.slot_bytes;
        if !self.shared.budget.try_take(bytes) {
            return None;
        }
        if local.free.is_empty() {
            self.collect(local);
        }
        if local.free.is_empty() {
            self.grow(local);
        }
        let Some(index) = local.free.pop() else {
            self.shared.budget.give(bytes);
            return None;
        };
        let cold = local.free.len() < local.trimmed;
        if cold {
            local.trimmed = local.free.len();
        }
        Some((Shared::issue(&self.shared, index), cold))
    }

    /// Takes over what came home.
    fn collect(&self, local: &mut Local) {
        let from = local.free.len();
        let mut next = self.shared.returns.take();
        while let Some(index) = next {
            local.free.push(index);
            let (segment, position) = self.shared.locate(index);
            next = segment.controls[position].link.next();
        }
        // The list is newest first; the newest belongs on top.
        local.free[from..].reverse();
    }

    /// Maps one more segment, unless the cap is reached or the kernel refuses.
    fn grow(&self, local: &mut Local) {
        let config = &self.shared.config;
        if local.segments == config.segments_max {
            return;
        }
        let count = config.slots_per_segment;
        let Some(bytes) = self.shared.stride.checked_mul(count as usize) else {
            return;
        };
        let Ok(mapping) = Mapping::new(bytes) else {
            return;
        };
        let first = local.segments * count;
        let shared = Arc::as_ptr(&self.shared);
        let controls = (0..count)
            .map(|slot| Control::new(first + slot, shared))
            .collect();
        let segment = Segment { mapping, controls };
        let fresh = self.shared.segments[local.segments as usize]
            .set(segment)
            .is_ok();
        assert!(fresh, "a segment is set once");
        local.segments += 1;
        // Room for every slot there is, so that collecting never allocates.
        local.free.reserve((first + count) as usize);
        for index in (first..first + count).rev() {
            self.shared.retire(index);
            local.free.push(index);
        }
        // None of this is resident yet: taking it out is "cold" each time.
        local.trimmed = local.free.len();
    }
}

impl Shared {
    fn locate(&self, index: u32) -> (&Segment, usize) {
        let per_segment = self.config.slots_per_segment;
        let segment = self.segments[(index / per_segment) as usize].get();
        let Some(segment) = segment else {
            unreachable!("an issued slot has a segment")
        };
        (segment, (index % per_segment) as usize)
    }

    /// Makes the handle of a slot that nobody owns.
    fn issue(this: &Arc<Self>, index: u32) -> Slot {
        let (segment, position) = this.locate(index);
        let offset = position * this.stride;
        match this.config.mode {
            Mode::Plain => {}
            Mode::Poison => this.check_poison(segment, offset),
            Mode::Guard => {
                let opened = segment.mapping.protect(offset, this.stride, true);
                assert!(opened.is_ok(), "guard mode: mprotect of our own mapping");
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked in Pool::new")]
        let capacity = this.config.slot_bytes as u32;
        Slot::issue(
            Arc::clone(this),
            &segment.controls[position],
            segment.mapping.at(offset),
            capacity,
        )
    }

    /// Takes a slot back whose last owner is gone. Called on any thread.
    pub(crate) fn recycle(&self, index: u32) {
        self.retire(index);
        let (segment, position) = self.locate(index);
        self.returns.push(index, &segment.controls[position].link);
        // Last: while the account says "taken", the slot is either in use or already on its way.
        self.budget.give(self.config.slot_bytes);
    }

    fn retire(&self, index: u32) {
        let (segment, position) = self.locate(index);
        let offset = position * self.stride;
        match self.config.mode {
            Mode::Plain => {}
            Mode::Poison => {
                // SAFETY: the slot has no owner (see callers), so this is the only access to its bytes,
                // which `Mapping::at` and the stride keep inside the segment.
                unsafe {
                    segment
                        .mapping
                        .at(offset)
                        .write_bytes(POISON, self.config.slot_bytes)
                };
            }
            Mode::Guard => {
                let closed = segment.mapping.protect(offset, self.stride, false);
                assert!(closed.is_ok(), "guard mode: mprotect of our own mapping");
            }
        }
    }

    fn check_poison(&self, segment: &Segment, offset: usize) {
        let base = segment.mapping.at(offset).as_ptr().cast_const();
        // SAFETY: the slot has no owner, its bytes are mapped and initialised by `retire`.
        let bytes = unsafe { core::slice::from_raw_parts(base, self.config.slot_bytes) };
        let stray = bytes.iter().position(|byte| *byte != POISON);
        assert!(
            stray.is_none(),
            "a free slot was written at byte {stray:?}: use after free"
        );
    }

    fn discard(&self, index: u32) {
        if self.config.mode == Mode::Plain && self.stride.is_multiple_of(self.page_bytes) {
            let (segment, position) = self.locate(index);
            // Advice only: when the kernel refuses, the memory merely stays resident.
            drop(segment.mapping.discard(position * self.stride, self.stride));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
