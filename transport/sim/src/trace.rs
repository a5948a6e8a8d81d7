//! A running hash over everything that happens in the network: same seed, same run, same number.

use crate::rng::mix;

/// Multiplier of the hash; any large odd number of mixed bits serves, nobody attacks it.
const FACTOR: u64 = 0x517C_C1B7_2722_0A95;

#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    state: u64,
}

impl Trace {
    /// Notes one word.
    pub(crate) fn word(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }

    /// Notes a few words.
    pub(crate) fn words<const COUNT: usize>(&mut self, words: [u64; COUNT]) {
        for word in words {
            self.word(word);
        }
    }

    /// Notes the content of a segment or datagram.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut array = [0; 8];
            array.copy_from_slice(word);
            self.word(u64::from_le_bytes(array));
        }
        let mut array = [0; 8];
        let rest = words.remainder();
        array[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(array));
    }

    pub(crate) fn hash(&self) -> u64 {
        mix(self.state)
    }
}
