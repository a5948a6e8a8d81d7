//! One slot of a pool and its reference count: the lowest private module that touches raw memory.
//!
//! Invariants, kept by this file and `pool.rs`:
//! 1. a slot index is either free (in the pool) or issued (`count >= 1`), never both;
//! 2. the owners of one issued slot together hold one strong count of its pool's `Shared`, so mapping and
//!    control block live as long as any of them;
//!    A foreign slot is no pool's: its `shared` is null, and its last owner frees its [`Foreign`] instead;
//! 3. who may read or write which bytes of an issued slot is decided by the types above: `Lease` (unique),
//!    `Slice` (its range never changes again), `RecvBuffer` (writes only beyond what was ever shared).
//!
//! Tested by `tests/model.rs` (every mode), `tests/loom.rs` (count and way home) and `pool/tests.rs`, and by
//! AddressSanitizer runs of them in `.ci/full`.

use core::ptr::NonNull;
use std::sync::Arc;

use crate::count::Count;
use crate::pool::Shared;
use crate::returns::Link;

/// Reference count and home of one slot. Lives outside the slot's bytes, so no stray write reaches it.
#[derive(Debug)]
pub(crate) struct Control {
    count: Count,
    pub(crate) link: Link,
    index: u32,
    shared: *const Shared,
}

// SAFETY: `shared` is only turned back into an `Arc` by the last owner of an issued slot (invariant 2).
unsafe impl Send for Control {}
// SAFETY: as above; count and link are atomic, `index` never changes.
unsafe impl Sync for Control {}

impl Control {
    pub(crate) fn new(index: u32, shared: *const Shared) -> Self {
        Self {
            count: Count::new(),
            link: Link::new(),
            index,
            shared,
        }
    }
}

/// Who is told that nobody uses its memory any more.
pub trait Owner: Send + Sync + core::fmt::Debug {
    /// The memory that was lent under `token` is free again. Called once, on any thread.
    fn free(&self, token: u64);
}

/// Memory of somebody else, lent until the last handle is gone.
#[repr(C)]
struct Foreign {
    /// First, so that a pointer to it is one to the whole.
    control: Control,
    owner: Arc<dyn Owner>,
    token: u64,
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
        control.count.issue();
        let leaked = Arc::into_raw(shared);
        debug_assert_eq!(leaked, control.shared);
        Self {
            control: NonNull::from(control),
            base,
            capacity,
        }
    }

    /// Makes the first handle of memory that `owner` lends.
    ///
    /// # Safety
    /// `len` readable bytes at `base`, which nobody writes until `owner` is told that they are free.
    pub(crate) unsafe fn lend(
        base: NonNull<u8>,
        len: u32,
        owner: Arc<dyn Owner>,
        token: u64,
    ) -> Self {
        let control = Control::new(0, core::ptr::null());
        control.count.issue();
        let foreign = Box::leak(Box::new(Foreign {
            control,
            owner,
            token,
        }));
        Self {
            control: NonNull::from(foreign).cast(),
            base,
            capacity: len,
        }
    }

    /// True for memory that was lent: it is never written.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.control().shared.is_null()
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Whose slot this is; to compare, never to follow.
    #[inline]
    pub(crate) fn home(&self) -> *const Shared {
        self.control().shared
    }

    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: invariant 2: this handle keeps the pool's `Shared`, and so the control block, alive.
        unsafe { self.control.as_ref() }
    }

    /// True when this is the only handle; nobody else can then make another one.
    #[inline]
    pub(crate) fn is_unique(&self) -> bool {
        self.control().count.is_unique()
    }

    /// Bytes `[from, to)`.
    ///
    /// # Safety
    /// The caller's type must guarantee that no one writes this range while the reference lives.
    #[inline]
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
    #[expect(
        clippy::mut_from_ref,
        reason = "uniqueness is the caller's invariant 3"
    )]
    #[inline]
    pub(crate) unsafe fn bytes_mut(&self, from: u32, to: u32) -> &mut [u8] {
        debug_assert!(from <= to && to <= self.capacity);
        // SAFETY: `from <= capacity`, so the address stays inside the slot.
        let start = unsafe { self.base.add(from as usize) };
        // SAFETY: as in `bytes`; the caller answers for exclusive access.
        unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), (to - from) as usize) }
    }
}

impl Clone for Slot {
    #[inline]
    fn clone(&self) -> Self {
        self.control().count.add();
        Self {
            control: self.control,
            base: self.base,
            capacity: self.capacity,
        }
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        let control = self.control();
        // Read before the release: from then on another thread may free the control block.
        let (shared, index) = (control.shared, control.index);
        if control.count.release() {
            if shared.is_null() {
                // SAFETY: only `lend` makes slots without a pool, from a box whose first field the control block is;
                // the last owner takes it back.
                let foreign = unsafe { Box::from_raw(self.control.cast::<Foreign>().as_ptr()) };
                return foreign.owner.free(foreign.token);
            }
            // SAFETY: invariant 2: the last owner takes the one strong count that `issue` leaked.
            let shared = unsafe { Arc::from_raw(shared) };
            shared.recycle(index);
        }
    }
}
