//! Ids as foreign code sees them: mixed with their engine and their kind.
//!
//! Tables count from 0, so the plain ids of two engines are alike. Mixed with a word of the engine's own, an id of
//! another engine, or of another kind, decodes to an index far beyond any table, and is refused as stale.

/// What an id names.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Kind {
    Connection = 0x9E37_79B9_7F4A_7C15,
    Listener = 0xC2B2_AE3D_27D4_EB4F,
    Lease = 0x1656_67B1_9E37_79F9,
    Channel = 0x27D4_EB2F_1656_67C5,
    Call = 0x85EB_CA77_C2B2_AE63,
    Request = 0x94D0_49BB_1331_11EB,
    Timer = 0xBF58_476D_1CE4_E5B9,
    Detached = 0xD6E8_FEB8_6659_FD93,
    Threads = 0xA076_1D64_78BD_642F,
}

/// One engine's word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salt(u64);

impl Salt {
    pub(crate) fn of(engine: u64) -> Self {
        // SplitMix64: neighbours differ in half of their bits.
        let mut mixed = engine.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self(mixed ^ (mixed >> 31))
    }

    /// To foreign code, and back.
    #[inline]
    pub(crate) fn mix(self, kind: Kind, bits: u64) -> u64 {
        bits ^ self.0 ^ kind as u64
    }
}
