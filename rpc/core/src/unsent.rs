//! Messages of one stream that wait for credit.
//!
//! Short ones are gathered in one piece of memory that is reused, so that a stream which its client slows down costs
//! no allocation per message; long ones are slices already. Bounded by what a
//! [`Sender`](crate::Sender) may write ahead.

use std::collections::VecDeque;

use ringway_buf::Slice;

#[derive(Debug)]
enum Entry {
    /// So many of the gathered bytes.
    Copied(usize),
    Shared(Slice),
}

/// A queue of messages.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    order: VecDeque<Entry>,
    /// The bytes of all copied messages, those of the first from `begin` on.
    gathered: Vec<u8>,
    begin: usize,
}

/// The message that is next.
#[derive(Debug)]
pub(crate) enum Front<'a> {
    Copied(&'a [u8]),
    Shared(&'a Slice),
}

impl Unsent {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn push_copy(&mut self, bytes: &[u8]) {
        self.push_written(bytes.len(), |room| room.copy_from_slice(bytes));
    }

    /// A message of `len` bytes that `write` writes in place.
    pub(crate) fn push_written(&mut self, len: usize, write: impl FnOnce(&mut [u8])) {
        // What has left is at least as much as what stays: each byte is moved once on average.
        if self.begin > 0 && self.begin >= self.gathered.len() - self.begin {
            self.gathered.drain(..self.begin);
            self.begin = 0;
        }
        let from = self.gathered.len();
        self.gathered.resize(from + len, 0);
        if let Some(room) = self.gathered.get_mut(from..) {
            write(room);
        }
        self.order.push_back(Entry::Copied(len));
    }

    pub(crate) fn push_slice(&mut self, slice: Slice) {
        self.order.push_back(Entry::Shared(slice));
    }

    pub(crate) fn front(&self) -> Option<Front<'_>> {
        Some(match self.order.front()? {
            Entry::Copied(len) => {
                let range = self.begin..self.begin + len;
                Front::Copied(self.gathered.get(range).unwrap_or_default())
            }
            Entry::Shared(slice) => Front::Shared(slice),
        })
    }

    /// Forgets the message that is next.
    pub(crate) fn pop(&mut self) {
        if let Some(Entry::Copied(len)) = self.order.pop_front() {
            self.begin += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use ringway_buf::{Pools, PoolsConfig};

    use super::*;

    fn copied(unsent: &Unsent) -> &[u8] {
        match unsent.front() {
            Some(Front::Copied(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_come_out_in_order() {
        let mut unsent = Unsent::default();
        assert!(unsent.is_empty() && unsent.front().is_none());
        unsent.push_copy(b"one");
        unsent.push_copy(b"");
        let mut lease = Pools::new(PoolsConfig::default()).lease(3).unwrap();
        lease.append(3).unwrap().copy_from_slice(b"two");
        unsent.push_slice(lease.freeze());
        unsent.push_copy(b"three");
        assert_eq!(copied(&unsent), b"one");
        unsent.pop();
        assert_eq!(copied(&unsent), b"");
        unsent.pop();
        assert!(matches!(unsent.front(), Some(Front::Shared(slice)) if **slice == *b"two"));
        unsent.pop();
        assert_eq!(copied(&unsent), b"three");
        unsent.pop();
        assert!(unsent.is_empty());
    }

    #[test]
    fn a_queue_that_never_empties_keeps_its_memory_small() {
        let mut unsent = Unsent::default();
        for round in 0..10_000_u32 {
            unsent.push_copy(&round.to_le_bytes());
            if round >= 100 {
                assert_eq!(copied(&unsent), (round - 100).to_le_bytes());
                unsent.pop();
            }
        }
        assert!(
            unsent.gathered.capacity() <= 4 * 4 * 101,
            "{}",
            unsent.gathered.capacity()
        );
    }
}
