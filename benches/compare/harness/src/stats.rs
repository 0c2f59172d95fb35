//! The statistics of the comparison: medians, quantiles of pooled latencies, and bootstrap intervals. Pure and seeded.

/// How often rounds are drawn again for an interval.
const RESAMPLES: usize = 2_000;
/// An interval of fewer rounds than that would be of little but chance.
pub const FEWEST_ROUNDS: usize = 5;
/// A control may be off by this much: what it measures is steady to less, but no interval of a few rounds is exact.
const CONTROL_TOLERANCE: f64 = 0.005;

/// A figure and the interval that holds it in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure itself.
    pub value: f64,
    /// The lower and the upper end of its interval; `None` where it rests on too few rounds.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// Of so many rounds: `figure` says what those with the indexes that it is given show together. The same function gives
    /// the figure and what each choice of rounds drawn again shows. A choice that shows nothing counts as infinite: it is one
    /// in which a divisor was lost in noise, and to leave it out would make the interval narrower than it is.
    pub fn of(rounds: usize, seed: u64, figure: impl Fn(&[usize]) -> Option<f64>) -> Option<Self> {
        let value = figure(&(0..rounds).collect::<Vec<_>>())?;
        if rounds < FEWEST_ROUNDS {
            return Some(Self { value, interval: None });
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut drawn = vec![0; rounds];
        let mut figures: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                drawn.fill_with(|| random.usize(..rounds));
                figure(&drawn).unwrap_or(f64::INFINITY)
            })
            .collect();
        figures.sort_by(f64::total_cmp);
        let at = |share: f64| figures.get((share * (RESAMPLES - 1) as f64).round() as usize).copied();
        Some(Self { value, interval: at(0.025).zip(at(0.975)) })
    }

    /// Whether 1.0 may be the truth, as it must of something compared with itself.
    pub fn may_be_one(&self) -> bool {
        self.interval
            .is_none_or(|(low, high)| low - CONTROL_TOLERANCE <= 1.0 && 1.0 <= high + CONTROL_TOLERANCE)
    }

    /// How far from 1.0 the figure or an end of its interval is, whichever is further.
    pub fn furthest_from_one(&self) -> f64 {
        let (low, high) = self.interval.unwrap_or((self.value, self.value));
        [self.value, low, high].map(|end| (end - 1.0).abs()).into_iter().fold(0.0, f64::max)
    }

    /// Whether the figure and its whole interval are so. `None` without an interval.
    pub fn wholly(&self, so: impl Fn(f64) -> bool) -> Option<bool> {
        let (low, high) = self.interval?;
        Some(so(self.value) && so(low) && so(high))
    }
}

/// Ours ÷ theirs, of figures from which something was taken off. Where nothing is left of theirs, ours is infinitely more;
/// where nothing is left of either, there is no ratio.
pub fn ratio(ours: f64, theirs: f64) -> Option<f64> {
    match (ours > 0.0, theirs > 0.0) {
        (_, true) => Some(ours / theirs),
        (true, false) => Some(f64::INFINITY),
        (false, false) => None,
    }
}

/// What was measured in each of some rounds, so that any choice of them gives a figure.
#[derive(Clone, Debug)]
pub enum Sample {
    /// A number in each; the figure is their median.
    Values(Vec<f64>),
    /// Latencies in each; the figure is a quantile of all together.
    Latencies(Pool),
}

impl Sample {
    /// What the rounds with these indexes show together, of which some may be named more than once. `None` of nothing.
    pub fn figure(&self, drawn: &[usize]) -> Option<f64> {
        match self {
            Sample::Values(values) => {
                median(drawn.iter().filter_map(|&index| values.get(index).copied()).collect())
            }
            Sample::Latencies(pool) => pool.quantile(drawn),
        }
    }
}

/// The middle of the values; the mean of the two in the middle when there is no one. `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values.get(middle - 1)? + upper) / 2.0) }
}

/// The latencies of several rounds, laid out so that a quantile of any choice of rounds is found by bisection.
#[derive(Clone, Debug)]
pub struct Pool {
    quantile: f64,
    /// Every latency that occurred, ascending, with how many records of each round took no longer.
    up_to: Vec<(f64, Vec<u64>)>,
}

impl Pool {
    /// Of a histogram for each round.
    pub fn of(histograms: &[&[(f64, u64)]], quantile: f64) -> Self {
        let mut all: Vec<(f64, usize, u64)> = histograms
            .iter()
            .enumerate()
            .flat_map(|(round, histogram)| histogram.iter().map(move |&(us, count)| (us, round, count)))
            .collect();
        all.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
        let mut passed = vec![0_u64; histograms.len()];
        let mut up_to = Vec::new();
        for same in all.chunk_by(|(a, ..), (b, ..)| a == b) {
            for &(_, round, count) in same {
                if let Some(passed) = passed.get_mut(round) {
                    *passed = passed.saturating_add(count);
                }
            }
            up_to.extend(same.first().map(|&(us, ..)| (us, passed.clone())));
        }
        Self { quantile, up_to }
    }

    fn quantile(&self, drawn: &[usize]) -> Option<f64> {
        let of_drawn = |up_to: &[u64]| -> f64 {
            drawn.iter().filter_map(|&round| up_to.get(round)).map(|&count| count as f64).sum()
        };
        let all = of_drawn(&self.up_to.last()?.1);
        let wanted = (self.quantile * all).ceil().max(1.0);
        let index = self.up_to.partition_point(|(_, up_to)| of_drawn(up_to) < wanted);
        self.up_to.get(index).map(|&(us, _)| us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[f64]) -> Sample {
        Sample::Values(values.to_vec())
    }

    fn ratio_of(ours: &[f64], theirs: &[f64], seed: u64) -> Estimate {
        let samples = (values(ours), values(theirs));
        Estimate::of(ours.len(), seed, |drawn| ratio(samples.0.figure(drawn)?, samples.1.figure(drawn)?))
            .unwrap()
    }

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some((low, high)) }
    }

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn one_outlier_moves_neither_the_ratio_nor_much_of_its_interval() {
        let ratio =
            ratio_of(&[1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 30.0], &[2.0, 2.1, 1.9, 2.0, 2.05, 1.95, 2.0], 1);
        assert!((0.48..0.52).contains(&ratio.value), "{ratio:?}");
        assert_eq!(ratio.wholly(|ratio| (0.4..0.6).contains(&ratio)), Some(true), "{ratio:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let of = || ratio_of(&[1.0, 1.4, 0.8, 1.2, 1.1], &[1.1, 1.2, 0.9, 1.3, 1.0], 7);
        assert_eq!(of(), of());
    }

    #[test]
    fn fewer_than_five_rounds_have_no_interval() {
        assert_eq!(ratio_of(&[1.0; 4], &[2.0; 4], 1), Estimate { value: 0.5, interval: None });
        assert_eq!(ratio_of(&[1.0; 5], &[2.0; 5], 1), estimate(0.5, 0.5, 0.5));
        assert_eq!(Estimate { value: 0.5, interval: None }.wholly(|_| true), None);
        assert_eq!(Estimate::of(0, 1, |drawn| values(&[]).figure(drawn)), None);
    }

    #[test]
    fn what_slows_both_in_a_round_is_no_doubt_about_the_ratio() {
        let ours = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(ratio_of(&ours, &ours.map(|value| value * 2.0), 3), estimate(0.5, 0.5, 0.5));
    }

    #[test]
    fn a_divisor_lost_in_noise_makes_the_interval_infinite() {
        assert_eq!(ratio(1.0, -0.1), Some(f64::INFINITY));
        assert_eq!(ratio(-1.0, 2.0), Some(-0.5));
        assert_eq!(ratio(0.0, 0.0), None);
        let (low, high) = ratio_of(&[1.0; 7], &[2.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0], 1).interval.unwrap();
        assert!(low == 0.5 && high == f64::INFINITY);
        // Nothing is left of either in some of the draws.
        let (_, high) =
            ratio_of(&[1.0, 1.0, 1.0, -1.0, -1.0], &[2.0, 2.0, 2.0, -1.0, -1.0], 1).interval.unwrap();
        assert_eq!(high, f64::INFINITY);
    }

    #[test]
    fn a_quantile_is_of_all_latencies_that_were_drawn() {
        let calm: &[(f64, u64)] = &[(1.0, 99), (2.0, 1)];
        let rough: &[(f64, u64)] = &[(1.0, 50), (8.0, 50)];
        let pool = |quantile| Sample::Latencies(Pool::of(&[calm, rough], quantile));
        assert_eq!(pool(0.5).figure(&[0, 1]), Some(1.0));
        assert_eq!(pool(0.75).figure(&[0, 1]), Some(2.0));
        assert_eq!(pool(0.99).figure(&[0, 1]), Some(8.0));
        // Not the mean or the median of 1 and 8.
        assert_eq!(pool(0.99).figure(&[0]), Some(1.0));
        assert_eq!(pool(0.999).figure(&[0, 0, 0]), Some(2.0));
        assert_eq!(pool(0.7).figure(&[0, 1, 1]), Some(8.0));
        assert_eq!(Sample::Latencies(Pool::of(&[], 0.5)).figure(&[]), None);
    }

    #[test]
    fn a_control_must_hold_one_or_nearly() {
        assert!(estimate(1.02, 0.97, 1.05).may_be_one());
        assert!(estimate(1.003, 1.002, 1.006).may_be_one());
        assert!(!estimate(1.03, 1.01, 1.05).may_be_one());
        assert!(!estimate(0.9, 0.8, 0.99).may_be_one());
        assert!((estimate(1.02, 0.9, 1.05).furthest_from_one() - 0.1).abs() < 1e-9);
    }
}
