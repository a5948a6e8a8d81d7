//! Things that the engine names one way and foreign code another: calls that were made, timers that were set.

use core::hash::{BuildHasherDefault, Hash, Hasher};
use std::collections::HashMap;

use ringway_buf::{Id, Table};

use crate::ids::{Kind, Salt};

/// What foreign code knows of one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) id: u64,
    /// What it gave along.
    pub(crate) user: u64,
}

/// All of one kind.
#[derive(Debug)]
pub(crate) struct Known<K> {
    by_id: Table<K>,
    by_key: HashMap<K, Own, BuildHasherDefault<Fold>>,
    kind: Kind,
    salt: Salt,
}

impl<K: Copy + Eq + Hash> Known<K> {
    pub(crate) fn new(kind: Kind, salt: Salt, max: usize) -> Self {
        Self {
            by_id: Table::new(max),
            by_key: HashMap::default(),
            kind,
            salt,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.by_id.is_full()
    }

    /// Its id for foreign code. `None`: there are too many.
    #[inline]
    pub(crate) fn insert(&mut self, key: K, user: u64) -> Option<u64> {
        let id = self.by_id.insert(key).ok()?;
        let id = self.salt.mix(self.kind, id.to_bits());
        self.by_key.insert(key, Own { id, user });
        Some(id)
    }

    fn bits(&self, id: u64) -> Id {
        Id::from_bits(self.salt.mix(self.kind, id))
    }

    #[inline]
    pub(crate) fn key(&self, id: u64) -> Option<K> {
        self.by_id.get(self.bits(id)).copied()
    }

    #[inline]
    pub(crate) fn own(&self, key: K) -> Option<Own> {
        self.by_key.get(&key).copied()
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: K) -> Option<Own> {
        let own = self.by_key.remove(&key)?;
        self.by_id.remove(self.bits(own.id));
        Some(own)
    }
}

/// Folds the few words of a key; the keys are this engine's own, so nobody can choose them.
#[derive(Debug, Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
