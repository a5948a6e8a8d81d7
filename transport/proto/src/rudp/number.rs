//! Conversions between the widths of this machine's numbers; all saturate, none panics.

/// A length or count as 64 bits.
#[inline]
pub(crate) fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A 64-bit number as a length.
#[inline]
pub(crate) fn narrow(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A length as 32 bits.
#[inline]
pub(crate) fn short(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The low 32 bits of a counter, as they travel.
#[inline]
pub(crate) fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// The counter that is nearest to `expected` and has these low 32 bits, after RFC 9000 A.3.
#[inline]
pub(crate) fn expand(expected: u64, low: u32) -> u64 {
    const WINDOW: u64 = 1 << 32;
    let candidate = (expected & !(WINDOW.wrapping_sub(1))) | u64::from(low);
    if candidate.saturating_add(WINDOW >> 1) <= expected {
        candidate.saturating_add(WINDOW)
    } else if candidate > expected.saturating_add(WINDOW >> 1) && candidate >= WINDOW {
        candidate.saturating_sub(WINDOW)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_back_from_their_low_half_across_the_wrap() {
        let near: [u64; 6] = [0, 1, (1 << 32) - 1, 1 << 32, (1 << 33) + 5, u64::MAX >> 2];
        for expected in near {
            for away in [0, 1, 1000, 1 << 30] {
                for value in [expected.saturating_add(away), expected.saturating_sub(away)] {
                    assert_eq!(expand(expected, low(value)), value, "{expected} {value}");
                }
            }
        }
    }
}
