//! A global allocator that counts, so that "no allocations per message" is a figure and not a promise.
//!
//! The count is per thread and costs one thread-local addition; both contestants pay it alike.
#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one only counts and forwards"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Forwards to the system's allocator and counts what it hands out.
#[derive(Debug)]
pub(crate) struct Counting;

/// Allocations, growths included, of the calling thread so far.
pub(crate) fn allocations() -> u64 {
    COUNT.get()
}

fn count() {
    // The cell is gone while a thread ends; those allocations belong to no measurement.
    let _gone: Result<(), _> = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every method forwards its arguments unchanged to `System`, which keeps the trait's contract; counting
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the one of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` through this allocator, with this layout, says the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `dealloc`; the new size is the caller's, non-zero by the trait's contract.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn each_allocation_of_this_thread_is_counted_once() {
        let before = allocations();
        let mut grown = black_box(Vec::<u64>::with_capacity(4));
        assert_eq!(allocations() - before, 1);
        grown.reserve_exact(64);
        assert_eq!(allocations() - before, 2);
        drop(black_box(grown));
        assert_eq!(allocations() - before, 2);
    }
}
