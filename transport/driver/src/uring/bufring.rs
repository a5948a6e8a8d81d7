//! Receive slots that the kernel picks from: the provided-buffer ring and the memory behind it.
//!
//! Between `recv.rs` (above) and the pools and the kernel (below). A *bid* is an index, not memory: what was
//! received under it goes up, and when the sink keeps slices of a slot, the rest of that slot or a fresh one
//! goes back under the same bid. So a consumer that never lets go costs memory up to the pools' budget, not
//! the ring its slots. An idle connection owns none of this.
//!
//! Invariants:
//! 1. every bid is *provided* (the kernel may write its slot; this file owns the slot), *out* (its completion
//!    is being handled), *vacant* (no memory for it now) or *resting* (not needed now);
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
/// Slots provided at first and at least. The number doubles whenever a receive finds none, and halves when half
/// of them were not used for [`EBB_RECEIVES`]: the kernel takes them in turn, so that each one more is one more
/// cold one. A thousand connections that open together need hundreds, a thousand busy ones less than a hundred.
const SLOTS_FIRST: u16 = 64;
/// Receives after which the number of slots is reviewed: each of a thousand slots was used several times.
const EBB_RECEIVES: u32 = 8192;
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
    /// Bids that are not needed now.
    resting: Vec<u16>,
    /// How many more shall rest, as they come back.
    ebbing: usize,
    /// Receives since the number was reviewed, and the fewest provided slots meanwhile.
    receives: u32,
    provided_min: usize,
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
            resting: Vec::with_capacity(usize::from(max)),
            ebbing: 0,
            receives: 0,
            provided_min: 0,
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
        self.provided_min = self.provided_min.min(self.provided);
        self.receives += 1;
        if self.receives == EBB_RECEIVES {
            self.review();
        }
        Some(slot)
    }

    /// Half of the slots were not needed: so many shall rest.
    fn review(&mut self) {
        let circulating = usize::from(self.bids) - self.resting.len();
        let spare = circulating - usize::from(SLOTS_FIRST).min(circulating);
        self.ebbing = if self.provided_min > circulating / 2 {
            spare.min(circulating / 2)
        } else {
            0
        };
        self.receives = 0;
        self.provided_min = self.provided;
    }

    /// Puts memory back under `bid`: what is left of `slot`, or a fresh one.
    pub(super) fn recycle(&mut self, bid: u16, slot: Option<RecvBuffer>, pools: &Pools) {
        if self.ebbing > 0 {
            self.ebbing -= 1;
            self.resting.push(bid);
            if let Some(Ok(lease)) = slot.map(RecvBuffer::try_into_lease) {
                pools.give(lease);
            }
            return;
        }
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
        self.ebbing = 0;
        self.provided_min = 0;
        let circulating = usize::from(self.bids) - self.resting.len();
        let woken = self.resting.len().saturating_sub(circulating);
        self.vacant.extend(self.resting.drain(woken..));
        if self.resting.is_empty() {
            let double = u16::try_from(2 * circulating).unwrap_or(u16::MAX);
            self.add(double.max(self.bids).min(self.max));
        }
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

#[cfg(test)]
mod tests {
    use ringway_buf::PoolsConfig;

    use super::super::ring::{Completion, Entry};
    use super::*;
    use crate::{DriverStats, Park};

    /// A ring that knows nothing: the slots themselves are looked at.
    struct Blank;

    impl Ring for Blank {
        unsafe fn push(&mut self, _entry: &Entry) -> bool {
            false
        }

        fn queued(&mut self) -> u32 {
            0
        }

        fn attention(&mut self) -> bool {
            false
        }

        fn overflowed(&mut self) -> bool {
            false
        }

        fn enter(&mut self, _park: Park, _stats: &mut DriverStats) -> io::Result<()> {
            Ok(())
        }

        fn next(&mut self) -> Option<Completion> {
            None
        }

        unsafe fn register_buffers(&mut self, _: u64, _: u16, _: u16) -> io::Result<()> {
            Ok(())
        }

        fn unregister_buffers(&mut self, _group: u16) -> io::Result<()> {
            Ok(())
        }
    }

    /// Receives `rounds` times into `at_once` slots that are out together.
    fn receive(slots: &mut Slots, pools: &Pools, at_once: usize, rounds: u32) {
        for _ in 0..rounds {
            let out: Vec<_> = (0..slots.max)
                .filter_map(|bid| Some((bid, slots.take(bid)?)))
                .take(at_once)
                .collect();
            assert_eq!(out.len(), at_once, "there were enough");
            for (bid, slot) in out {
                slots.recycle(bid, Some(slot), pools);
            }
        }
    }

    #[test]
    fn slots_that_a_burst_needed_rest_afterwards_and_come_back_with_the_next() {
        let pools = Pools::new(PoolsConfig::default());
        let mut slots = Slots::new(&mut Blank, 512, &pools).unwrap();
        let first = usize::from(SLOTS_FIRST);
        assert_eq!(slots.provided(), first);
        for _ in 0..4 {
            slots.grow(&pools);
        }
        assert_eq!(slots.provided(), 512, "and no more than the most");
        let used = pools.budget().used();
        // Ten at once: each review halves the number, down to the first one.
        receive(&mut slots, &pools, 10, 5 * EBB_RECEIVES / 10);
        assert_eq!(
            (slots.provided(), slots.resting.len()),
            (first, 512 - first)
        );
        assert!(pools.budget().used() <= used, "their memory went back");
        // More than half of them at once: all stay.
        receive(&mut slots, &pools, first / 2 + 1, EBB_RECEIVES / 10);
        assert_eq!(slots.provided(), first);
        for provided in [128, 256, 512, 512] {
            slots.grow(&pools);
            assert_eq!(slots.provided(), provided);
            assert!(!slots.lacking());
        }
    }
}
