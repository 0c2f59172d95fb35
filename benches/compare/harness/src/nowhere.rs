//! The goal about everything: nowhere worse than the best peer. Every comparison is looked at, and none is passed over.

use crate::judge::{Sheet, Sheets};
use crate::metric::Metric;
use crate::stats::Estimate;

/// Somewhere that we are worse than the best peer.
#[derive(Clone, Debug)]
pub struct Worse {
    /// The scenario.
    pub scenario: String,
    /// The figure.
    pub metric: Metric,
    /// The best peer.
    pub best: &'static str,
    /// Ours ÷ theirs.
    pub ratio: Estimate,
    /// Whether the whole interval says so.
    pub certain: bool,
}

/// A comparison that tells nothing.
#[derive(Clone, Debug)]
pub struct Untold {
    /// The scenario.
    pub scenario: String,
    /// The figure.
    pub metric: Metric,
    /// Why it tells nothing.
    pub reason: String,
}

/// Ours beside the best peer in every figure of every scenario.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// How many comparisons count.
    pub compared: usize,
    /// Those in which ours is worse.
    pub worse: Vec<Worse>,
    /// Where ours failed or lost records.
    pub failed: Vec<Untold>,
    /// What does not count for another reason: other load, or nobody to compare with.
    pub void: Vec<Untold>,
}

impl Survey {
    /// Of all scenarios.
    pub fn of(sheets: &Sheets<'_>) -> Self {
        let mut survey = Self::default();
        for (scenario, sheet) in sheets {
            for metric in Metric::of_scenario(sheet.scenario) {
                survey.look(scenario, sheet, metric);
            }
        }
        survey
    }

    fn look(&mut self, scenario: &str, sheet: &Sheet<'_>, metric: Metric) {
        let comparison = sheet.compare(metric);
        let untold = |reason| Untold { scenario: scenario.to_owned(), metric, reason };
        if let Some(lost) = sheet.lost() {
            return self.failed.push(untold(lost.reason.clone()));
        }
        if let Some(reason) = comparison.void {
            return self.void.push(untold(reason));
        }
        if let Err(reason) = comparison.ours {
            return self.failed.push(untold(reason));
        }
        let (best, ratio) = match (comparison.best, comparison.ratio) {
            (Ok((best, _)), Ok(ratio)) => (best, ratio),
            (Err(reason), _) | (_, Err(reason)) => return self.void.push(untold(reason)),
        };
        self.compared += 1;
        let is_worse = |ratio: f64| if metric.higher_is_better() { ratio < 1.0 } else { ratio > 1.0 };
        if is_worse(ratio.value) {
            let certain = ratio.wholly(is_worse).unwrap_or(false);
            self.worse.push(Worse { scenario: scenario.to_owned(), metric, best, ratio, certain });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;
    use crate::record::Run;
    use crate::testing::{run, session};

    fn rounds(count: u32, client: &str, cpu: f64) -> Vec<Run> {
        (0..count).map(|round| run("produce-real", client, round, cpu)).collect()
    }

    fn survey(runs: &[Run]) -> Survey {
        let session = session("1");
        let sheet = Sheet::of(&runs.iter().collect::<Vec<_>>(), &session).unwrap();
        Survey::of(&Sheets::from([("produce-real", sheet)]))
    }

    #[test]
    fn worse_is_certain_by_its_whole_interval_only() {
        let of = |count| {
            let runs =
                [rounds(count, "ours", 0.9), rounds(count, "java", 0.6), rounds(count, "control", 0.1)];
            survey(&runs.concat())
        };
        let certain = of(8);
        assert_eq!((certain.compared, certain.worse.len()), (2, 1));
        assert!(certain.worse[0].certain && certain.worse[0].best == "java");
        assert!(!of(5).worse[0].certain);
    }

    #[test]
    fn what_cannot_be_compared_is_counted_with_its_reason() {
        let mut runs = [rounds(8, "ours", 0.2), rounds(8, "java", 0.6)].concat();
        let no_floor = survey(&runs);
        assert_eq!((no_floor.compared, no_floor.void.len()), (1, 1));
        assert!(no_floor.void[0].reason.contains("what an empty driver takes"));
        for run in &mut runs[..8] {
            run.failure = Some("hung".into());
        }
        let failed = survey(&[runs.clone(), rounds(8, "control", 0.1)].concat());
        assert_eq!((failed.compared, failed.failed.len()), (0, 2));
        assert!(failed.failed[0].reason.contains("ours failed: hung"));
        runs[0].failure = Failure::of_counts("acknowledged", 2, 1);
        assert!(survey(&runs).failed[0].reason.contains("MISMATCH"));
        let alone = survey(&[rounds(8, "ours", 0.2), rounds(8, "control", 0.1)].concat());
        assert_eq!((alone.compared, alone.void.len()), (0, 2));
    }
}
