//! One slot of a pool and its reference count: the lowest private module that touches raw memory.
//!
//! Invariants, kept by this file and `pool.rs`:
//! 1. a slot index is either free (in the pool) or issued (`refs >= 1`), never both;
//! 2. the owners of one issued slot together hold one strong count of its pool's `Shared`, so mapping and
//!    control block live as long as any of them;
//! 3. who may read or write which bytes of an issued slot is decided by the types above: `Lease` (unique),
//!    `Slice` (its range never changes again), `RecvBuffer` (writes only beyond what was ever shared).
//!
//! Backed by `tests/model.rs` of this crate, and by AddressSanitizer and guard-mode runs in `.ci/full`.

use core::ptr::NonNull;
use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use crate::pool::{Refs, Shared};

/// Reference count and home of one slot. Lives outside the slot's bytes, so no stray write reaches it.
#[derive(Debug)]
pub(crate) struct Control {
    refs: Refs,
    index: u32,
    shared: *const Shared,
}

// SAFETY: `shared` is only turned back into an `Arc` by the last owner of an issued slot (invariant 2).
unsafe impl Send for Control {}
// SAFETY: as above; `refs` is atomic and `index` never changes.
unsafe impl Sync for Control {}

impl Control {
    pub(crate) fn new(index: u32, shared: *const Shared) -> Self {
        Self { refs: Refs::new(0), index, shared }
    }
}

/// A counted handle of one issued slot.
#[derive(Debug)]
pub(crate) struct Slot {
    control: NonNull<Control>,
    base: NonNull<u8>,
    capacity: u32,
}

// SAFETY: the count is atomic, recycling works on any thread, and the bytes are arbitrated by invariant 3.
unsafe impl Send for Slot {}
// SAFETY: `&Slot` allows cloning (atomic) and reading the address; nothing else.
unsafe impl Sync for Slot {}

impl Slot {
    /// Makes the first handle of a free slot; `shared` is the strong count of invariant 2.
    pub(crate) fn issue(
        shared: Arc<Shared>,
        control: &Control,
        base: NonNull<u8>,
        capacity: u32,
    ) -> Self {
        debug_assert_eq!(Arc::as_ptr(&shared), control.shared, "a slot of this pool");
        let before = control.refs.swap(1, Ordering::Relaxed);
        assert_eq!(before, 0, "only a free slot is issued");
        let leaked = Arc::into_raw(shared);
        debug_assert_eq!(leaked, control.shared);
        Self { control: NonNull::from(control), base, capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }


    fn control(&self) -> &Control {
        // SAFETY: invariant 2: this handle keeps the pool's `Shared`, and so the control block, alive.
        unsafe { self.control.as_ref() }
    }

    /// True when this is the only handle; nobody else can then make another one.
    pub(crate) fn is_unique(&self) -> bool {
        // Acquire pairs with the Release in `drop` of other handles: their reads happened before.
        self.control().refs.load(Ordering::Acquire) == 1
    }

    /// Bytes `[from, to)`.
    ///
    /// # Safety
    /// The caller's type must guarantee that no one writes this range while the reference lives.
    pub(crate) unsafe fn bytes(&self, from: u32, to: u32) -> &[u8] {
        debug_assert!(from <= to && to <= self.capacity);
        // SAFETY: `from <= capacity`, so the address stays inside the slot.
        let start = unsafe { self.base.add(from as usize) };
        // SAFETY: mapped memory is always initialised (zero-filled), the range is inside the slot, and the
        // caller answers for the absence of writers.
        unsafe { core::slice::from_raw_parts(start.as_ptr(), (to - from) as usize) }
    }

    /// Bytes `[from, to)`, writable.
    ///
    /// # Safety
    /// The caller's type must guarantee that nobody else reads or writes this range meanwhile.
    #[expect(clippy::mut_from_ref, reason = "uniqueness is the caller's invariant 3")]
    pub(crate) unsafe fn bytes_mut(&self, from: u32, to: u32) -> &mut [u8] {
        debug_assert!(from <= to && to <= self.capacity);
        // SAFETY: `from <= capacity`, so the address stays inside the slot.
        let start = unsafe { self.base.add(from as usize) };
        // SAFETY: as in `bytes`; the caller answers for exclusive access.
        unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), (to - from) as usize) }
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        // Relaxed: a new handle is made from a living one, as in `Arc`.
        let before = self.control().refs.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "too many slices of one slot");
        Self { control: self.control, base: self.base, capacity: self.capacity }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let control = self.control();
        // Release pairs with the fence below in whoever drops last, and with `is_unique`.
        if control.refs.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let (shared, index) = (control.shared, control.index);
        // SAFETY: invariant 2: the last owner takes the one strong count that `issue` leaked.
        let shared = unsafe { Arc::from_raw(shared) };
        shared.recycle(index);
    }
}
