//! The name of a call on its connection.

use core::fmt;

/// Bits of a slot's number.
const SLOT_BITS: u32 = 20;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
const GENERATION_MASK: u16 = (1 << (32 - SLOT_BITS)) - 1;

/// A call: a slot of its connection and the slot's generation. Stale ids are told apart by the generation, which
/// wraps after 4,096 uses of a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u32);

impl CallId {
    /// All one-way calls: they have no slot.
    pub const ONE_WAY: Self = Self(crate::wire::SLOT_ONE_WAY);

    #[inline]
    pub(crate) const fn new(slot: u32, generation: u16) -> Self {
        Self((slot & SLOT_MASK) | ((generation & GENERATION_MASK) as u32) << SLOT_BITS)
    }

    /// The stream word of this call.
    #[must_use]
    #[inline]
    pub const fn to_wire(self) -> u32 {
        self.0
    }

    /// The call of a stream word.
    #[must_use]
    #[inline]
    pub const fn from_wire(word: u32) -> Self {
        Self(word)
    }

    /// Its slot: an index below `calls_max`.
    #[must_use]
    #[inline]
    pub const fn slot(self) -> u32 {
        self.0 & SLOT_MASK
    }

    /// Its generation, 12 bits.
    #[must_use]
    #[inline]
    pub const fn generation(self) -> u16 {
        (self.0 >> SLOT_BITS) as u16
    }

    /// The generation that follows.
    #[inline]
    pub(crate) const fn next_generation(generation: u16) -> u16 {
        generation.wrapping_add(1) & GENERATION_MASK
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation())
    }
}
