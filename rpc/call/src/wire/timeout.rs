//! Remaining time in four bytes: 27 bits of mantissa, 5 bits of exponent, in nanoseconds.

use core::time::Duration;

const EXPONENT_BITS: u32 = 5;
const MANTISSA_MAX: u64 = (1 << 27) - 1;
/// Largest value that fits: about nine years. Longer ones are as good as none.
const EXPONENT_MAX: u32 = 31;

/// Packs a time, rounded down but never to "none"; more than fits becomes the largest value.
#[must_use]
#[inline]
pub fn timeout_to_wire(time: Duration) -> u32 {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
    let bits = u64::BITS - nanos.leading_zeros();
    let exponent = bits.saturating_sub(27);
    if exponent > EXPONENT_MAX {
        return u32::MAX;
    }
    let mantissa = (nanos >> exponent) & MANTISSA_MAX;
    (mantissa as u32) << EXPONENT_BITS | exponent
}

/// Unpacks a time; `None`: no deadline.
#[must_use]
#[inline]
pub fn timeout_from_wire(packed: u32) -> Option<Duration> {
    let mantissa = u64::from(packed >> EXPONENT_BITS);
    let exponent = packed & EXPONENT_MAX;
    (mantissa != 0).then(|| Duration::from_nanos(mantissa << exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // docs/wire/rpc.md#timeout
    #[test]
    fn edges() {
        assert_eq!(timeout_from_wire(0), None);
        assert_eq!(timeout_to_wire(Duration::ZERO), 1 << 5);
        assert_eq!(timeout_to_wire(Duration::from_nanos(1)), 1 << 5);
        assert_eq!(timeout_to_wire(Duration::MAX), u32::MAX);
        assert_eq!(
            timeout_from_wire(timeout_to_wire(Duration::from_secs(1))),
            Some(Duration::from_secs(1))
        );
    }

    proptest! {
        #[test]
        fn rounds_down_by_less_than_a_millionth(nanos in 1..=(MANTISSA_MAX << 31)) {
            let back = timeout_from_wire(timeout_to_wire(Duration::from_nanos(nanos))).unwrap();
            let back = u64::try_from(back.as_nanos()).unwrap();
            prop_assert!(back <= nanos && nanos - back <= nanos >> 26);
        }

        #[test]
        fn every_word_is_a_time_or_none(packed in any::<u32>()) {
            prop_assert_eq!(timeout_from_wire(packed).is_none(), packed >> 5 == 0);
        }
    }
}
