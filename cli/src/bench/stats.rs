//! From rounds to claims: medians of paired ratios, and the band that the baseline shows against itself.

use serde::{Deserialize, Serialize};

/// The range in which a median lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "[f64; 2]", from = "[f64; 2]")]
pub(crate) struct Band {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl From<Band> for [f64; 2] {
    fn from(band: Band) -> Self {
        [band.low, band.high]
    }
}

impl From<[f64; 2]> for Band {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

/// Round by round, `ours` divided by `base`. Rounds in which either is missing or zero are left out.
pub(crate) fn paired_ratios(ours: &[Option<f64>], base: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours
        .iter()
        .zip(base)
        .filter_map(|(ours, base)| Some(((*ours)?, (*base)?)));
    pairs
        .filter(|(ours, base)| *ours > 0.0 && *base > 0.0)
        .map(|(ours, base)| ours / base)
        .collect()
}

/// The middle value, or the mean of the two middle ones; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted.get(half - 1)? + upper) / 2.0)
}

/// The 95 % confidence interval of the values' median, by order statistics.
///
/// It assumes nothing about how the values are distributed: between the k-th smallest and the k-th largest
/// value lies the true median, unless more than n - k of n fair coins fell on one side. With fewer than six
/// values no such pair reaches 95 %; then it is the whole range, and claims nothing.
pub(crate) fn median_band(values: &[f64]) -> Option<Band> {
    let sorted = sorted(values);
    let rank = band_rank(sorted.len()).max(1);
    let low = *sorted.get(rank - 1)?;
    let high = *sorted.get(sorted.len() - rank)?;
    Some(Band { low, high })
}

/// The largest k such that fewer than k of `count` fair coins show heads in at most 2.5 % of all cases; 0
/// when there is none.
fn band_rank(count: usize) -> usize {
    let mut rank = 0;
    // P(heads = 0); then P(heads = i + 1) = P(heads = i) * (count - i) / (i + 1).
    let mut exactly = 0.5_f64.powf(float(count));
    let mut at_most = exactly;
    while at_most <= 0.025 && rank < count / 2 {
        exactly *= float(count - rank) / float(rank + 1);
        at_most += exactly;
        rank += 1;
    }
    rank
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of rounds are far below 2^52"
)]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(to: u32) -> Vec<f64> {
        (1..=to).rev().map(f64::from).collect()
    }

    #[test]
    fn medians_of_known_numbers() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), Some(6.0));
    }

    #[test]
    fn ratios_are_paired_round_by_round() {
        let ours = [Some(2.0), Some(30.0), None, Some(4.0), Some(1.0)];
        let base = [Some(1.0), Some(10.0), Some(5.0), Some(0.0), Some(4.0)];
        assert_eq!(paired_ratios(&ours, &base), [2.0, 3.0, 0.25]);
        // The median of ratios, not the ratio of medians (which would be 3/4.5).
        assert_eq!(median(&paired_ratios(&ours, &base)), Some(2.0));
    }

    // Tables of order statistics for the median: n = 6: 1 and 6; 10: 2 and 9; 20: 6 and 15; 31: 10 and 22;
    // 50: 18 and 33; 100: 40 and 61.
    #[test]
    fn band_ranks_are_those_of_the_tables() {
        let table = [
            (1, 0),
            (5, 0),
            (6, 1),
            (10, 2),
            (20, 6),
            (31, 10),
            (50, 18),
            (100, 40),
        ];
        for (count, rank) in table {
            assert_eq!(band_rank(count), rank, "{count} values");
        }
    }

    #[test]
    fn bands_of_known_numbers() {
        assert_eq!(
            median_band(&counting(31)),
            Some(Band {
                low: 10.0,
                high: 22.0
            })
        );
        assert_eq!(
            median_band(&counting(10)),
            Some(Band {
                low: 2.0,
                high: 9.0
            })
        );
        assert_eq!(
            median_band(&counting(3)),
            Some(Band {
                low: 1.0,
                high: 3.0
            })
        );
        assert_eq!(
            median_band(&[7.0]),
            Some(Band {
                low: 7.0,
                high: 7.0
            })
        );
        assert_eq!(median_band(&[]), None);
    }

    // 2,000 samples of 31 values with true median 0.5: the band has to contain it about 97 times in 100 (the
    // exact coverage of ranks 10 and 22).
    #[test]
    fn the_band_covers_the_true_median_as_often_as_it_says() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
        };
        let covered = (0..2000).filter(|_| {
            let sample: Vec<f64> = (0..31).map(|_| random()).collect();
            let band = median_band(&sample).unwrap();
            (band.low..=band.high).contains(&0.5)
        });
        let covered = covered.count();
        assert!((1910..=1970).contains(&covered), "{covered} of 2000");
    }
}
