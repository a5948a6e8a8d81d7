//! Randomness: one small generator per link and per concern, all split from the one seed of a run.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, two multiplications a draw, the same numbers on
//! every machine. A concern whose chance is zero draws nothing and a concern never draws from another's
//! generator; so switching one fault on or off leaves all the others as they were, and a failing run can be
//! shrunk fault by fault.

use std::time::Duration;

use crate::{Chance, Span};

/// 2^64 divided by the golden ratio, the increment of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a generator is for. Part of its seed; the numbers are arbitrary but fixed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Concern {
    Swarm = 1,
    Connect = 2,
    StreamDelay = 3,
    StreamStall = 4,
    StreamReset = 5,
    StreamChunk = 6,
    StreamSilence = 7,
    DatagramDelay = 8,
    DatagramLoss = 9,
    DatagramCopy = 10,
    DatagramOrder = 11,
    DatagramBits = 12,
    DatagramMark = 13,
    Starve = 14,
    Late = 15,
    Accept = 16,
    Mode = 17,
    Coalesce = 18,
    Spread = 19,
    PathSwarm = 20,
}

/// A seeded generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    /// The generator of one concern of the `index`-th link (connection, socket, node) of a run.
    pub(crate) fn split(seed: u64, concern: Concern, index: u64) -> Self {
        Self {
            state: mix(mix(seed ^ GOLDEN).wrapping_add(concern as u64) ^ mix(index)),
        }
    }

    /// A generator that begins where another one has drawn.
    pub(crate) fn from_state(state: u64) -> Self {
        Self { state }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number in `0..bound`; 0 for a bound of 0. The bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// A number in `min..=max`; `min` when they are swapped.
    pub(crate) fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max.saturating_sub(min).saturating_add(1))
    }

    /// A length in `1..=max`; 1 for a maximum of 0.
    pub(crate) fn len(&mut self, max: usize) -> usize {
        let len = self.between(1, max.max(1) as u64);
        usize::try_from(len).unwrap_or(max)
    }

    /// True with the given chance. Draws nothing when that is zero.
    pub(crate) fn hits(&mut self, chance: Chance) -> bool {
        chance != Chance::NEVER && self.below(1_000_000) < u64::from(chance.per_million())
    }

    /// A duration in the span. Draws nothing when it is a single point.
    pub(crate) fn duration(&mut self, span: Span) -> Duration {
        if span.max <= span.min {
            return span.min;
        }
        Duration::from_nanos(self.between(nanos(span.min), nanos(span.max)))
    }
}

/// A duration in whole nanoseconds, saturating after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The output function of SplitMix64: a bijection on 64-bit words.
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Concern, Rng};
    use crate::Chance;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        // First outputs of the reference implementation for seed 1234567.
        let mut rng = Rng { state: 1_234_567 };
        assert_eq!(rng.bits(), 6_457_827_717_110_365_317);
        assert_eq!(rng.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn concerns_and_links_differ() {
        let mut a = Rng::split(1, Concern::Late, 0);
        let mut b = Rng::split(1, Concern::Late, 1);
        let mut c = Rng::split(1, Concern::Starve, 0);
        let first = [a.bits(), b.bits(), c.bits()];
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    }

    #[test]
    fn a_chance_is_met_about_as_often_as_it_says() {
        let mut rng = Rng::split(7, Concern::Late, 0);
        let hits = (0..100_000)
            .filter(|_| rng.hits(Chance::percent(20)))
            .count();
        assert!((19_000..21_000).contains(&hits), "{hits}");
        assert!(!rng.hits(Chance::NEVER));
        assert!(rng.hits(Chance::ALWAYS));
    }
}
