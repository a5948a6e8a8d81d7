//! A bounded queue from many threads to one: how commands of handles reach an engine.
//!
//! Above it stand the engine's handles, below it its turn. A thin face over crossbeam's `ArrayQueue`, which
//! allocates once and never blocks. Waking a sleeping reader is not its business: the engine's doorbell is
//! built on one promise of this queue, kept by sequentially consistent positions: of a push followed by a
//! sequentially consistent read-modify-write elsewhere, and such an operation followed by
//! [`Receiver::is_empty`] or [`Receiver::pop`], at least one side sees the other.
//!
//! Under `--cfg loom` the queue is a `VecDeque` under loom's mutex, whose order of lock acquisitions gives
//! the same promise; loom has no sequentially consistent accesses, so crossbeam's own could not be checked.

use core::fmt;

#[cfg(not(loom))]
#[path = "array.rs"]
mod queue;
#[cfg(loom)]
#[path = "locked.rs"]
mod queue;

pub use crate::Full;
use queue::Queue;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering};

struct Shared<T> {
    queue: Queue<T>,
    senders: AtomicUsize,
    receiver_gone: AtomicBool,
}

/// Makes a queue for exactly `capacity` values (at least 1). Allocates once, here.
///
/// ```
/// use ringway_buf::mpsc;
///
/// let (sender, mut receiver) = mpsc::channel(1);
/// sender.push("command")?;
/// assert_eq!(sender.clone().push("second").unwrap_err().into_inner(), "second");
/// assert_eq!(receiver.pop(), Some("command"));
/// # Ok::<(), mpsc::Full<&str>>(())
/// ```
#[must_use]
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Queue::new(capacity.max(1)),
        senders: AtomicUsize::new(1),
        receiver_gone: AtomicBool::new(false),
    });
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

/// A writing end; clone it for each thread, or share one.
pub struct Sender<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Queues `value`. Does not look whether the receiver still lives: see [`is_closed`](Self::is_closed).
    ///
    /// # Errors
    /// Hands `value` back when the queue is full.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), Full<T>> {
        self.shared.queue.push(value).map_err(Full)
    }

    /// Values that wait now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Values that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.queue.capacity()
    }

    /// True when the receiver is gone: nobody will pop what is pushed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.receiver_gone.load(Ordering::Acquire)
    }
}

impl<T: Send> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: a new end is made from a living one, as in `Arc`.
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release pairs with `Receiver::is_closed`: who sees zero sees every push before it.
        self.shared.senders.fetch_sub(1, Ordering::Release);
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// The reading end; there is one.
pub struct Receiver<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest value; `None` when nothing waits. Cheap on an empty queue: two loads.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        // crossbeam's own pop pays a full fence before it says "empty".
        if self.shared.queue.is_empty() {
            None
        } else {
            self.shared.queue.pop()
        }
    }

    /// Values that wait now.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// True when nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Values that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.queue.capacity()
    }

    /// True when all senders are gone *and* everything that they pushed was popped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // The count first: Acquire makes the last pushes visible to the look at the queue.
        self.shared.senders.load(Ordering::Acquire) == 0 && self.is_empty()
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_gone.store(true, Ordering::Release);
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn full_queue_hands_the_message_back() {
        let (sender, mut receiver) = channel(2);
        sender.push(1).unwrap();
        sender.push(2).unwrap();
        assert_eq!(sender.push(3).unwrap_err().into_inner(), 3);
        assert_eq!((sender.len(), sender.capacity()), (2, 2));
        assert_eq!(receiver.pop(), Some(1));
        sender.push(3).unwrap();
        assert_eq!(
            (receiver.pop(), receiver.pop(), receiver.pop()),
            (Some(2), Some(3), None)
        );
    }

    #[test]
    fn each_senders_values_arrive_in_order() {
        const COUNT: u32 = 5_000;
        let (sender, mut receiver) = channel(16);
        let writers: Vec<_> = (0..3_usize)
            .map(|who| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for value in 0..COUNT {
                        while sender.push((who, value)).is_err() {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        let mut next = [0; 3];
        while !receiver.is_closed() {
            match receiver.pop() {
                Some((who, value)) => {
                    assert_eq!(value, next[who]);
                    next[who] += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        assert_eq!(next, [COUNT; 3]);
        for writer in writers {
            writer.join().unwrap();
        }
    }

    #[test]
    fn ends_see_each_other_go() {
        let (sender, receiver) = channel::<u8>(1);
        let second = sender.clone();
        drop(sender);
        assert!(!receiver.is_closed());
        second.push(1).unwrap();
        assert!(!second.is_closed());
        drop(receiver);
        assert!(second.is_closed());
        let (sender, mut receiver) = channel::<u8>(1);
        sender.push(1).unwrap();
        drop(sender);
        assert!(!receiver.is_closed(), "a value still waits");
        assert_eq!(receiver.pop(), Some(1));
        assert!(receiver.is_closed());
    }
}
