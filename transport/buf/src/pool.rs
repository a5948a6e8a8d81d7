//! Fixed-size slots, mapped segment by segment, recycled from any thread.

use std::cell::RefCell;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crossbeam_queue::ArrayQueue;

use crate::mmap::{Mapping, PAGE_BYTES};
use crate::slot::{Control, Slot};
use crate::{Budget, Lease, SLOT_ALIGN};

/// How a pool treats a slot that is not leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Leaves it alone: the production setting.
    #[default]
    Plain,
    /// Fills it with [`POISON`] when it comes back and checks the fill when it goes out again.
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
    free: Vec<u32>,
    segments: u32,
    refused: u64,
}

/// The part of a pool that its slots keep alive.
#[derive(Debug)]
pub(crate) struct Shared {
    config: PoolConfig,
    stride: usize,
    segments: Box<[OnceLock<Segment>]>,
    /// Slots on their way home. Holds as many as exist, so a push can't fail.
    returns: ArrayQueue<u32>,
    budget: Budget,
    leased: AtomicU64,
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
        assert!(u32::try_from(config.slot_bytes).is_ok(), "slot_bytes fits 32 bits");
        assert!(config.slots_per_segment > 0, "slots_per_segment is at least 1");
        let slots = config.slots_per_segment.checked_mul(config.segments_max);
        let slots = slots.filter(|slots| *slots > 0).map(|slots| slots as usize);
        let Some(slots) = slots else { panic!("between 1 and 2^32-1 slots in a pool") };
        let granule = if config.mode == Mode::Guard { PAGE_BYTES } else { SLOT_ALIGN };
        let shared = Shared {
            config,
            stride: config.slot_bytes.next_multiple_of(granule),
            segments: (0..config.segments_max).map(|_| OnceLock::new()).collect(),
            returns: ArrayQueue::new(slots),
            budget,
            leased: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), local: RefCell::new(Local::default()) }
    }

    /// Leases one slot, empty, with all its room at the tail. `None` when cap, budget or memory is used up.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        let slot = self.take();
        if slot.is_none() {
            self.local.borrow_mut().refused += 1;
        }
        slot.map(Lease::new)
    }

    /// Usable bytes of a slot.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        self.shared.config.slot_bytes
    }

    /// Counters of this pool.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let local = self.local.borrow();
        PoolStats {
            leased: self.shared.leased.load(Ordering::Relaxed),
            mapped: u64::from(local.segments) * u64::from(self.shared.config.slots_per_segment),
            refused: local.refused,
        }
    }

    /// Returns the physical memory of free slots beyond `keep_bytes` to the kernel.
    pub fn trim(&self, keep_bytes: usize) {
        let mut local = self.local.borrow_mut();
        self.collect(&mut local);
        let keep = keep_bytes / self.shared.stride;
        // The stack's top is warm; what lies deepest was used longest ago.
        let cold = local.free.len().saturating_sub(keep);
        for index in &local.free[..cold] {
            self.shared.discard(*index);
        }
    }

    fn take(&self) -> Option<Slot> {
        let bytes = self.shared.config.slot_bytes;
        let mut local = self.local.borrow_mut();
        if local.free.is_empty() {
            self.collect(&mut local);
        }
        if local.free.is_empty() && !self.grow(&mut local) {
            return None;
        }
        if !self.shared.budget.try_take(bytes) {
            return None;
        }
        let index = local.free.pop()?;
        Some(Shared::issue(&self.shared, index))
    }

    fn collect(&self, local: &mut Local) {
        while let Some(index) = self.shared.returns.pop() {
            local.free.push(index);
        }
    }

    fn grow(&self, local: &mut Local) -> bool {
        let config = &self.shared.config;
        if local.segments == config.segments_max {
            return false;
        }
        let count = config.slots_per_segment;
        let Ok(mapping) = Mapping::new(self.shared.stride * count as usize) else { return false };
        let first = local.segments * count;
        let shared = Arc::as_ptr(&self.shared);
        let controls = (0..count).map(|slot| Control::new(first + slot, shared)).collect();
        let segment = Segment { mapping, controls };
        let fresh = self.shared.segments[local.segments as usize].set(segment).is_ok();
        assert!(fresh, "a segment is set once");
        local.segments += 1;
        for index in (first..first + count).rev() {
            self.shared.retire(index);
            local.free.push(index);
        }
        true
    }
}

impl Shared {
    fn locate(&self, index: u32) -> (&Segment, usize) {
        let per_segment = self.config.slots_per_segment;
        let segment = self.segments[(index / per_segment) as usize].get();
        let Some(segment) = segment else { unreachable!("an issued slot has a segment") };
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
        this.leased.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "checked in Pool::new")]
        let capacity = this.config.slot_bytes as u32;
        Slot::issue(Arc::clone(this), &segment.controls[position], segment.mapping.at(offset), capacity)
    }

    /// Takes a slot back whose last owner is gone. Called on any thread.
    pub(crate) fn recycle(&self, index: u32) {
        self.retire(index);
        self.budget.give(self.config.slot_bytes);
        self.leased.fetch_sub(1, Ordering::Relaxed);
        let pushed = self.returns.push(index);
        assert!(pushed.is_ok(), "the return queue holds every slot there is");
    }

    fn retire(&self, index: u32) {
        let (segment, position) = self.locate(index);
        let offset = position * self.stride;
        match self.config.mode {
            Mode::Plain => {}
            Mode::Poison => {
                // SAFETY: the slot has no owner (see callers), so this is the only access to its bytes,
                // which `Mapping::at` and the stride keep inside the segment.
                unsafe { segment.mapping.at(offset).write_bytes(POISON, self.config.slot_bytes) };
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
        assert!(stray.is_none(), "a free slot was written at byte {stray:?}: use after free");
    }

    fn discard(&self, index: u32) {
        if self.config.mode == Mode::Plain && self.stride.is_multiple_of(PAGE_BYTES) {
            let (segment, position) = self.locate(index);
            // Advice only: when the kernel refuses, the memory merely stays resident.
            drop(segment.mapping.discard(position * self.stride, self.stride));
        }
    }
}

/// A reference count of one slot; `u32` is enough, `Slot::clone` refuses to pass half of it.
pub(crate) type Refs = AtomicU32;
