//! SipHash-2-4 (Aumasson and Bernstein 2012): the keyed sum behind cookies.
//!
//! A cookie has to be unforgeable for the minutes of its life by somebody who does not see the server's
//! packets; 64 bits of a keyed hash made for short inputs are that.

/// The key of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(pub(crate) u64, pub(crate) u64);

/// The keyed sum of `words`, with their number mixed in.
pub(crate) fn sum(key: Key, words: &[u64]) -> u64 {
    let mut state = [
        key.0 ^ 0x736F_6D65_7073_6575,
        key.1 ^ 0x646F_7261_6E64_6F6D,
        key.0 ^ 0x6C79_6765_6E65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let len = u64::try_from(words.len()).unwrap_or(u64::MAX);
    let tail = len.wrapping_mul(8) << 56;
    for word in words.iter().copied().chain([tail]) {
        let [a, b, c, d] = state;
        let [a, b, c, d] = round(round([a, b, c, d ^ word]));
        state = [a ^ word, b, c, d];
    }
    let [a, b, c, d] = state;
    let [a, b, c, d] = round(round(round(round([a, b, c ^ 0xFF, d]))));
    a ^ b ^ c ^ d
}

fn round([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    let a = a.wrapping_add(b);
    let b = b.rotate_left(13) ^ a;
    let a = a.rotate_left(32);
    let c = c.wrapping_add(d);
    let d = d.rotate_left(16) ^ c;
    let a = a.wrapping_add(d);
    let d = d.rotate_left(21) ^ a;
    let c = c.wrapping_add(b);
    let b = b.rotate_left(17) ^ c;
    [a, b, c.rotate_left(32), d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_function() {
        // Key 00..0f; inputs of 0 and 8 bytes (00..07): vectors of the reference implementation.
        let key = Key(0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908);
        assert_eq!(sum(key, &[]), 0x726F_DB47_DD0E_0E31);
        assert_eq!(sum(key, &[0x0706_0504_0302_0100]), 0x93F5_F579_9A93_2462);
    }
}
