//! Bytes on their way through one direction of a connection: a ring that grows up to the socket buffer.

use std::mem;

/// Smallest storage in bytes; a call and its answer fit.
const STORAGE_BYTES_MIN: usize = 4096;

/// First in, first out. The capacity is a power of two; who writes bounds the length.
#[derive(Debug, Default)]
pub(crate) struct ByteRing {
    storage: Vec<u8>,
    head: usize,
    len: usize,
}

impl ByteRing {
    /// A ring that uses storage of an earlier one.
    pub(crate) fn with_storage(storage: Vec<u8>) -> Self {
        debug_assert!(storage.is_empty() || storage.len().is_power_of_two());
        Self {
            storage,
            head: 0,
            len: 0,
        }
    }

    /// The storage, for the next ring.
    pub(crate) fn take_storage(&mut self) -> Vec<u8> {
        self.head = 0;
        self.len = 0;
        mem::take(&mut self.storage)
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let mask = self.storage.len().wrapping_sub(1);
        let from = (self.head + self.len) & mask;
        let first = bytes.len().min(self.storage.len() - from);
        let (near, far) = bytes.split_at(first);
        self.storage[from..from + first].copy_from_slice(near);
        self.storage[..far.len()].copy_from_slice(far);
        self.len += bytes.len();
    }

    /// Moves bytes to the front of `target`; as many as both have.
    pub(crate) fn pop(&mut self, target: &mut [u8]) -> usize {
        let count = target.len().min(self.len);
        let first = count.min(self.storage.len() - self.head);
        target[..first].copy_from_slice(&self.storage[self.head..self.head + first]);
        target[first..count].copy_from_slice(&self.storage[..count - first]);
        self.skip(count);
        count
    }

    /// Drops `count` bytes at the front, or all there are.
    pub(crate) fn skip(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        let mask = self.storage.len().wrapping_sub(1);
        self.head = if self.len == 0 {
            0
        } else {
            (self.head + count) & mask
        };
    }

    fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if needed <= self.storage.len() {
            return;
        }
        let mut wider = vec![0; needed.next_power_of_two().max(STORAGE_BYTES_MIN)];
        let kept = self.pop(&mut wider);
        self.storage = wider;
        self.head = 0;
        self.len = kept;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::ByteRing;
    use crate::rng::{Concern, Rng};

    #[test]
    fn it_behaves_like_a_plain_queue() {
        let mut rng = Rng::split(3, Concern::Mode, 0);
        let (mut ring, mut oracle) = (ByteRing::default(), VecDeque::new());
        let mut next = 0_u8;
        for _ in 0..20_000 {
            let len = rng.len(700);
            match rng.below(3) {
                0 if oracle.len() < 20_000 => {
                    let bytes: Vec<u8> = (0..len)
                        .map(|_| {
                            next = next.wrapping_add(1);
                            next
                        })
                        .collect();
                    ring.push(&bytes);
                    oracle.extend(bytes);
                }
                1 => {
                    ring.skip(len);
                    oracle.drain(..len.min(oracle.len()));
                }
                _ => {
                    let mut target = vec![0; len];
                    let count = ring.pop(&mut target);
                    let expected: Vec<u8> = oracle.drain(..len.min(oracle.len())).collect();
                    assert_eq!(&target[..count], &expected);
                }
            }
            assert_eq!(ring.len, oracle.len());
        }
    }
}
