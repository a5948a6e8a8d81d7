//! Receive slots that the kernel picks from: the provided-buffer ring and the memory behind it.
//!
//! Between `recv.rs` (above) and the pools and the kernel (below). A *bid* is an index, not memory: what was
//! received under it goes up, and when the sink keeps slices of a slot, the rest of that slot or a fresh one
//! goes back under the same bid. So a consumer that never lets go costs memory up to the pools' budget, not
//! the ring its slots. An idle connection owns none of this.
//!
//! Invariants:
//! 1. every bid is *provided* (the kernel may write its slot; this file owns the slot), *out* (its completion
//!    is being handled) or *vacant* (no memory for it now);
//! 2. a provided slot is empty and unshared in its spare room, and nobody here looks at it;
//! 3. the entries and the provided slots are freed only after the ring of buffers was unregistered, and leaked
//!    if that can't be known (`Slots::leak`).
//!
//! Tested by `tests/uring_starvation.rs` and, under guard pages, `tests/uring_storms.rs`.

use core::sync::atomic::{AtomicU16, Ordering};
use std::io;

use io_uring::types::BufRingEntry;
use ringway_buf::{Pools, RecvBuffer};

use super::ring::Ring;
use super::sys::Pages;

/// Size of a slot: the pools' middle class. Larger ones gain nothing (75 against 81 ns per KiB), smaller ones
/// cost per slot (4 KiB: 193 ns per KiB).
pub(super) const SLOT_BYTES: usize = 16 * 1024;
/// A slot of which slices are held goes on behind them as long as this much room is left.
const SLOT_SPARE_MIN: usize = 8 * 1024;
/// Slots provided at first; the number doubles whenever a receive finds none. Fewer slots stay warmer: the
/// kernel takes them in turn.
const SLOTS_FIRST: u16 = 64;
/// The one buffer group of a driver.
pub(super) const GROUP: u16 = 0;

/// The ring of entries that the kernel reads.
#[derive(Debug)]
struct Entries {
    pages: Pages,
    mask: u16,
    tail: u16,
}

impl Entries {
    fn new(count: u16) -> io::Result<Self> {
        debug_assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let pages = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        Ok(Self {
            pages,
            mask: count - 1,
            tail: 0,
        })
    }

    /// Queues `room` under `bid`, for the kernel to see after [`publish`](Self::publish).
    ///
    /// # Safety
    /// `room` stays valid, and untouched by us, until a completion names `bid` or the ring is unregistered.
    unsafe fn provide(&mut self, bid: u16, room: &mut [u8]) {
        let position = usize::from(self.tail & self.mask);
        let base = self.pages.base().cast::<BufRingEntry>();
        // SAFETY: `position` is below the number of entries that the pages were mapped for.
        let mut entry = unsafe { base.add(position) };
        // SAFETY: the entry is ours until the tail passes it; the pages are zero-filled, so it is initialised.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(room.as_mut_ptr().expose_provenance() as u64);
        entry.set_len(u32::try_from(room.len()).unwrap_or(u32::MAX));
        entry.set_bid(bid);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let base = self.pages.base().cast::<BufRingEntry>().as_ptr();
        // SAFETY: the first entry exists; its reserved field is the ring's tail.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: aligned (offset 14 of an entry), inside the pages, and only this thread and the kernel use it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release pairs with the kernel's acquire of the tail: it sees the entries below.
        tail.store(self.tail, Ordering::Release);
    }
}

/// The slots of one driver.
#[derive(Debug)]
pub(super) struct Slots {
    entries: Entries,
    /// The provided slots, by bid.
    slots: Vec<Option<RecvBuffer>>,
    /// Bids without memory.
    vacant: Vec<u16>,
    /// How many bids are provided.
    provided: usize,
    /// How many bids there are, and may be.
    bids: u16,
    max: u16,
}

impl Slots {
    /// Registers a ring for up to `max` slots (a power of two) and provides the first of them.
    pub(super) fn new<R: Ring>(ring: &mut R, max: u16, pools: &Pools) -> io::Result<Self> {
        let entries = Entries::new(max)?;
        let address = entries.pages.base().as_ptr().expose_provenance() as u64;
        debug_assert!(entries.pages.bytes() >= usize::from(max) * size_of::<BufRingEntry>());
        // SAFETY: page-aligned memory for `max` entries; invariant 3 keeps it.
        unsafe { ring.register_buffers(address, max, GROUP) }?;
        let slots = (0..max).map(|_| None).collect();
        let vacant = Vec::with_capacity(usize::from(max));
        let mut this = Self {
            entries,
            slots,
            vacant,
            provided: 0,
            bids: 0,
            max,
        };
        this.add(SLOTS_FIRST.min(max));
        this.refill(pools);
        Ok(this)
    }

    /// Slots that the kernel may pick from (less those whose completion we have not seen yet).
    pub(super) fn provided(&self) -> usize {
        self.provided
    }

    /// True when bids wait for memory.
    pub(super) fn lacking(&self) -> bool {
        !self.vacant.is_empty()
    }

    /// Takes the slot that a completion named. `None` for a bid that was not provided.
    pub(super) fn take(&mut self, bid: u16) -> Option<RecvBuffer> {
        let slot = self.slots.get_mut(usize::from(bid))?.take()?;
        self.provided -= 1;
        Some(slot)
    }

    /// Puts memory back under `bid`: what is left of `slot`, or a fresh one.
    pub(super) fn recycle(&mut self, bid: u16, slot: Option<RecvBuffer>, pools: &Pools) {
        let usable = slot.and_then(|mut slot| slot.restart(0, SLOT_SPARE_MIN).then_some(slot));
        match usable.or_else(|| pools.lease(SLOT_BYTES).map(ringway_buf::Lease::into_recv)) {
            Some(slot) => self.provide(bid, slot),
            None => self.vacant.push(bid),
        }
        self.entries.publish();
    }

    /// Drops a slot's memory and leaves its bid vacant; the self-test runs out of slots by it.
    pub(super) fn hold_back(&mut self, bid: u16, slot: RecvBuffer) {
        drop(slot);
        self.vacant.push(bid);
    }

    /// Gives vacant bids memory again, as far as there is some.
    pub(super) fn refill(&mut self, pools: &Pools) {
        while let Some(bid) = self.vacant.pop() {
            let Some(lease) = pools.lease(SLOT_BYTES) else {
                self.vacant.push(bid);
                break;
            };
            self.provide(bid, lease.into_recv());
        }
        self.entries.publish();
    }

    /// Doubles the number of slots, up to the maximum; called when a receive found none.
    pub(super) fn grow(&mut self, pools: &Pools) {
        self.add(self.bids.saturating_mul(2).min(self.max));
        self.refill(pools);
    }

    /// Frees nothing, ever: the kernel may still write.
    pub(super) fn leak(self) {
        Box::leak(Box::new(self));
    }

    fn add(&mut self, to: u16) {
        self.vacant.extend((self.bids..to).rev());
        self.bids = to;
    }

    fn provide(&mut self, bid: u16, mut slot: RecvBuffer) {
        debug_assert!(slot.is_empty(), "a provided slot is empty");
        // SAFETY: the slot's memory does not move and is kept in `slots` until `take`; its spare room is
        // never touched in between (invariant 2).
        unsafe { self.entries.provide(bid, slot.spare_mut()) };
        let place = &mut self.slots[usize::from(bid)];
        debug_assert!(place.is_none(), "a bid is provided once");
        *place = Some(slot);
        self.provided += 1;
    }
}
