//! The queue that loom can see through: `ArrayQueue`'s interface over a locked deque.

use std::collections::VecDeque;

use loom::sync::{Mutex, MutexGuard};

pub(super) struct Queue<T> {
    values: Mutex<VecDeque<T>>,
    capacity: usize,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            values: Mutex::new(VecDeque::with_capacity(capacity)),
            capacity,
        }
    }

    pub(super) fn push(&self, value: T) -> Result<(), T> {
        let mut values = self.values();
        if values.len() == self.capacity {
            return Err(value);
        }
        values.push_back(value);
        Ok(())
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.values().pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.values().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values().is_empty()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    fn values(&self) -> MutexGuard<'_, VecDeque<T>> {
        match self.values.lock() {
            Ok(values) => values,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
