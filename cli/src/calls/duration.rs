//! Times as people write them.

use std::time::Duration;

/// Longest time that may be asked for.
const SECONDS_MAX: f64 = 86_400.0;

/// `2`, `0.5s`, `200ms`, `50us`, `1m`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1e-3),
        ("us", 1e-6),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let with_unit = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = with_unit.unwrap_or((text, 1.0));
    let seconds = number.trim().parse::<f64>().map(|it| it * factor);
    match seconds {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(_) => Err("write a time from 0 to one day".to_owned()),
        Err(_) => Err("write a time such as 2, 0.5s, 200ms or 1m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        let cases = [
            ("2", 2_000_000),
            ("0.5s", 500_000),
            ("200ms", 200_000),
            ("50us", 50),
            ("1m", 60_000_000),
            ("1h", 3_600_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for bad in ["", "x", "-1", "NaN", "2d", "25h", "inf", "1e9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
