//! The statistics of the comparison: medians, and ratios of medians with a bootstrap interval. Pure and seeded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often samples are drawn again for an interval.
const RESAMPLES: usize = 2_000;

/// A control may be off by this much: what it measures is steady to less, but no interval of a few rounds is exact.
const CONTROL_TOLERANCE: f64 = 0.005;

/// The samples of one client in one scenario, by round.
pub type Samples = BTreeMap<u32, f64>;

/// A figure and the interval that holds it in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure itself.
    pub value: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end of its interval.
    pub high: f64,
}

impl Estimate {
    /// Whether 1.0 is in the interval, as it must be for something compared with itself.
    pub fn holds_one(&self) -> bool {
        self.low - CONTROL_TOLERANCE <= 1.0 && 1.0 <= self.high + CONTROL_TOLERANCE
    }
}

/// The middle of the values; the mean of the two in the middle when there is no one. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted.get(middle - 1)? + upper) / 2.0) }
}

/// The median of the samples with its interval.
pub fn median_with_interval(samples: &Samples, seed: u64) -> Option<Estimate> {
    let values: Vec<f64> = samples.values().copied().collect();
    let value = median(&values)?;
    let (low, high) = interval(values.len(), seed, |drawn| {
        median(&drawn.iter().filter_map(|&index| values.get(index).copied()).collect::<Vec<_>>())
    })?;
    Some(Estimate { value, low, high })
}

/// The median of `ours` ÷ the median of `theirs`, of the rounds that both were measured in. Rounds are drawn again as
/// pairs, so that what slowed both in one round widens nothing. `None` without a common round, or if theirs is 0.
pub fn ratio_of_medians(ours: &Samples, theirs: &Samples, seed: u64) -> Option<Estimate> {
    let pairs: Vec<(f64, f64)> =
        ours.iter().filter_map(|(round, &our)| Some((our, *theirs.get(round)?))).collect();
    let ratio = |pairs: &[(f64, f64)]| {
        let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let ratio = median(&ours)? / median(&theirs)?;
        ratio.is_finite().then_some(ratio)
    };
    let value = ratio(&pairs)?;
    let (low, high) = interval(pairs.len(), seed, |drawn| {
        ratio(&drawn.iter().filter_map(|&index| pairs.get(index).copied()).collect::<Vec<_>>())
    })?;
    Some(Estimate { value, low, high })
}

/// The 2.5th and the 97.5th percentile of what `figure` says of samples drawn again, by their indexes.
fn interval(samples: usize, seed: u64, figure: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, f64)> {
    if samples == 0 {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| figure(&(0..samples).map(|_| random.usize(..samples)).collect::<Vec<_>>()))
        .collect();
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    let at = |share: f64| figures.get((share * last as f64).round() as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        (1..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn one_outlier_moves_neither_the_ratio_nor_much_of_its_interval() {
        let ours = samples(&[1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 30.0]);
        let theirs = samples(&[2.0, 2.1, 1.9, 2.0, 2.05, 1.95, 2.0]);
        let ratio = ratio_of_medians(&ours, &theirs, 1).unwrap();
        assert!((0.48..0.52).contains(&ratio.value), "{ratio:?}");
        assert!(ratio.low > 0.4 && ratio.high < 0.6, "{ratio:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let (a, b) = (samples(&[1.0, 1.4, 0.8, 1.2]), samples(&[1.1, 1.2, 0.9, 1.3]));
        assert_eq!(ratio_of_medians(&a, &b, 7), ratio_of_medians(&a, &b, 7));
        assert_ne!(ratio_of_medians(&a, &b, 7), None);
    }

    #[test]
    fn rounds_that_only_one_was_measured_in_do_not_count() {
        let ours = Samples::from([(1, 100.0), (2, 1.0), (3, 1.0)]);
        let theirs = Samples::from([(2, 2.0), (3, 2.0), (4, 500.0)]);
        let ratio = ratio_of_medians(&ours, &theirs, 1).unwrap();
        assert_eq!(ratio, Estimate { value: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(ratio_of_medians(&Samples::from([(1, 1.0)]), &Samples::from([(2, 1.0)]), 1), None);
    }

    #[test]
    fn what_slows_both_in_a_round_is_no_doubt_about_the_ratio() {
        let ours = samples(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let theirs = samples(&[2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
        assert_eq!(
            ratio_of_medians(&ours, &theirs, 3).unwrap(),
            Estimate { value: 0.5, low: 0.5, high: 0.5 }
        );
    }

    #[test]
    fn a_control_must_hold_one_or_nearly() {
        assert!(Estimate { value: 1.02, low: 0.97, high: 1.05 }.holds_one());
        assert!(Estimate { value: 1.003, low: 1.002, high: 1.006 }.holds_one());
        assert!(!Estimate { value: 1.03, low: 1.01, high: 1.05 }.holds_one());
        assert!(!Estimate { value: 0.9, low: 0.8, high: 0.99 }.holds_one());
    }
}
