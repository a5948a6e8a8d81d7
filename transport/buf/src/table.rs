//! A bounded table whose ids are checked by generation.

use core::fmt;

/// Index and generation of an entry. An id of a removed entry is never valid again before its generation
/// wraps after 2^32 - 1 reuses of the same index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    /// Makes an id from its parts, as it comes back from a foreign caller or a completion.
    #[must_use]
    #[inline]
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// Position in the table.
    #[must_use]
    #[inline]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How often that position was used; never 0 for an id that a table made.
    #[must_use]
    #[inline]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Both parts in one word: generation above, index below.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "splits a word into its halves"
    )]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// A slab with at most `max` entries. Grows on use, never shrinks; lookups check the generation.
#[derive(Debug)]
pub struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    count: usize,
    max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    /// An empty table for at most `max` entries (at most 2^32 - 1). Allocates nothing.
    #[must_use]
    #[inline]
    pub fn new(max: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            count: 0,
            max: max.min(u32::MAX as usize),
        }
    }

    /// Entries in use.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when no entry is in use.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True when [`insert`](Self::insert) would refuse.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count == self.max
    }

    /// Most entries this table holds.
    #[must_use]
    #[inline]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Inserts `value`.
    ///
    /// # Errors
    /// Hands `value` back when the table is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Id, T> {
        if self.is_full() {
            return Err(value);
        }
        self.count += 1;
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            debug_assert!(entry.value.is_none(), "a free entry is empty");
            entry.value = Some(value);
            return Ok(Id {
                index,
                generation: entry.generation,
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounded by max, which fits 32 bits"
        )]
        let index = self.entries.len() as u32;
        self.entries.push(Entry {
            generation: 1,
            value: Some(value),
        });
        Ok(Id {
            index,
            generation: 1,
        })
    }

    /// The entry of `id`, unless it was removed.
    #[must_use]
    #[inline]
    pub fn get(&self, id: Id) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation == id.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    /// The entry of `id`, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation == id.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// Removes the entry of `id`; that id is stale from now on.
    #[inline]
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.checked_add(1).unwrap_or(1);
        self.free.push(id.index);
        self.count -= 1;
        Some(value)
    }

    /// All entries in order of their index.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| {
                let value = entry.value.as_ref()?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a table's index fits 32 bits"
                )]
                let index = index as u32;
                Some((
                    Id {
                        index,
                        generation: entry.generation,
                    },
                    value,
                ))
            })
    }

    /// Ids of all entries in order of their index.
    #[must_use]
    pub fn ids(&self) -> Vec<Id> {
        self.iter().map(|(id, _)| id).collect()
    }

    /// The first entry at or after index `from`; walk a table piecewise with it.
    #[must_use]
    #[inline]
    pub fn next_from(&self, from: u32) -> Option<Id> {
        let tail = self.entries.get(from as usize..)?;
        let offset = tail.iter().position(|entry| entry.value.is_some())?;
        let index = from + u32::try_from(offset).ok()?;
        Some(Id {
            index,
            generation: self.entries[index as usize].generation,
        })
    }
}
