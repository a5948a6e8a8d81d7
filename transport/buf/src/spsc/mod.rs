//! A bounded queue between exactly two threads.
//!
//! Carries commands and events between an engine and one other thread. Neither side ever waits, locks or
//! allocates after [`channel`]; waking a sleeping reader is the caller's business.
//!
//! Positions only grow (modulo 2^64) and are masked when used. Invariants: `head <= tail <= head + capacity`;
//! the sender alone moves `tail` and touches cells `[tail, head + capacity)`, the receiver alone moves `head`
//! and touches cells `[head, tail)`. Each side keeps a copy of the other's position and reads the shared
//! one only when that copy says full or empty, so that a burst moves a cache line once.
//!
//! Checked by `tests/loom.rs` (each ordering was weakened once and seen to fail there) and by the model test
//! in `spsc/tests.rs`. Method: the ring of FastForward and its successors, as in rigtorp's `SPSCQueue`.

use core::fmt;
use core::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

pub use crate::Full;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

struct Ring<T> {
    /// Next position to pop; stored by the receiver.
    head: CachePadded<AtomicUsize>,
    /// Next position to push; stored by the sender.
    tail: CachePadded<AtomicUsize>,
    /// One end is gone. One flag is enough: only the other end ever asks.
    closed: AtomicBool,
    mask: usize,
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a value passes from the sender's thread to the receiver's, hence `T: Send`; no two threads touch
// one cell at a time (module invariants, kept by `Sender::push`, `Receiver::pop` and the drop below).
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; `&Ring` gives no access to a `T`.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// Takes the value of a position out of its cell.
    ///
    /// # Safety
    /// `position` lies in `[head, tail)`, its push happened before, and the caller counts it as popped.
    #[inline]
    unsafe fn take(&self, position: usize) -> T {
        self.cells[position & self.mask].with_mut(|cell| {
            // SAFETY: the caller owns this cell now, so the reference is the only one.
            let cell = unsafe { &mut *cell };
            // SAFETY: the cell was written by the push of this position and is read once.
            unsafe { cell.assume_init_read() }
        })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Relaxed: the `Arc` that dropped its last count ordered everything before this.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut position = self.head.load(Ordering::Relaxed);
        while position != tail {
            // SAFETY: both ends are gone; `[head, tail)` holds what was pushed and never popped.
            drop(unsafe { self.take(position) });
            position = position.wrapping_add(1);
        }
    }
}

/// Makes a queue for at least `capacity` values: the next power of two, at least 1.
///
/// Allocates once, here.
///
/// # Panics
/// When `capacity` passes 2^31: a queue of that size bounds nothing.
///
/// ```
/// use ringway_buf::spsc;
///
/// let (mut sender, mut receiver) = spsc::channel(2);
/// sender.push(1)?;
/// sender.push(2)?;
/// assert_eq!(sender.push(3).unwrap_err().into_inner(), 3);
/// assert_eq!(receiver.pop(), Some(1));
/// # Ok::<(), spsc::Full<i32>>(())
/// ```
#[must_use]
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity <= 1 << 31,
        "a queue of {capacity} values is no bound"
    );
    let capacity = capacity.max(1).next_power_of_two();
    let ring = Arc::new(Ring {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        closed: AtomicBool::new(false),
        mask: capacity - 1,
        cells: (0..capacity)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect(),
    });
    (
        Sender {
            ring: Arc::clone(&ring),
            tail: 0,
            head_seen: 0,
        },
        Receiver {
            ring,
            head: 0,
            tail_seen: 0,
        },
    )
}

/// The writing end. Dropping it closes the queue; what was pushed can still be popped.
pub struct Sender<T: Send> {
    ring: Arc<Ring<T>>,
    /// Equal to `ring.tail`, which nobody else stores.
    tail: usize,
    /// Some earlier value of `ring.head`.
    head_seen: usize,
}

impl<T: Send> Sender<T> {
    /// Queues `value`. Does not look whether the receiver still lives: see [`is_closed`](Self::is_closed).
    ///
    /// # Errors
    /// Hands `value` back when the queue is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), Full<T>> {
        let capacity = self.capacity();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            // Acquire pairs with the Release of `pop`: the old value left the cell before we overwrite it.
            self.head_seen = self.ring.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == capacity {
                return Err(Full(value));
            }
        }
        self.ring.cells[self.tail & self.ring.mask].with_mut(|cell| {
            // SAFETY: `tail` is below `head + capacity`, so this cell is the sender's and empty.
            let cell = unsafe { &mut *cell };
            cell.write(value);
        });
        self.tail = self.tail.wrapping_add(1);
        // Release pairs with the Acquire of `pop`: the value is in its cell before it can be seen.
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Values that wait now; may be less by the time it is looked at.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.tail
            .wrapping_sub(self.ring.head.load(Ordering::Relaxed))
    }

    /// True when nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that fit.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.ring.mask + 1
    }

    /// True when the receiver is gone: nobody will pop what is pushed.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.ring.closed.load(Ordering::Acquire)
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release pairs with `Receiver::is_closed`: who sees the flag sees every push before it.
        self.ring.closed.store(true, Ordering::Release);
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("capacity", &self.capacity())
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

/// The reading end. Dropping it closes the queue.
pub struct Receiver<T: Send> {
    ring: Arc<Ring<T>>,
    /// Equal to `ring.head`, which nobody else stores.
    head: usize,
    /// Some earlier value of `ring.tail`.
    tail_seen: usize,
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest value; `None` when nothing waits.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            // Acquire pairs with the Release of `push`: the value is in its cell.
            self.tail_seen = self.ring.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head` is below `tail`, whose Acquire load made the push happen before; `head` moves on
        // right below and this is its only reader.
        let value = unsafe { self.ring.take(self.head) };
        self.head = self.head.wrapping_add(1);
        // Release pairs with the Acquire of `push`: the cell is empty before it is handed back.
        self.ring.head.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Values that wait now; may be more by the time it is looked at.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.ring
            .tail
            .load(Ordering::Relaxed)
            .wrapping_sub(self.head)
    }

    /// True when nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that fit.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.ring.mask + 1
    }

    /// True when the sender is gone *and* everything that it pushed was popped: no value will ever come.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        // The flag first: Acquire makes the sender's last push visible to the look at `tail`.
        self.ring.closed.load(Ordering::Acquire) && self.is_empty()
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Release: what was popped happened before, for a sender that saw the flag.
        self.ring.closed.store(true, Ordering::Release);
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("capacity", &self.capacity())
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
