//! The goals, as data, and whether they are met.

use std::collections::BTreeMap;

use crate::judge::Sheet;
use crate::metric::Metric;
use crate::stats::Estimate;

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Ours ÷ the best peer's is at most that.
    AtMost(f64),
    /// Ours ÷ the best peer's is at least that.
    AtLeast(f64),
    /// Ours is at most that, whatever the peers show.
    OurMost(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtMost(most) | Bound::OurMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
        }
    }

    /// As a reader is told.
    pub fn text(self) -> String {
        match self {
            Bound::AtMost(most) => format!("≤ {most}"),
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::OurMost(most) => format!("ours ≤ {most}"),
        }
    }
}

/// One goal.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// What it is about.
    pub title: &'static str,
    /// Where it is measured.
    pub scenario: &'static str,
    /// What is measured.
    pub metric: Metric,
    /// What is asked.
    pub bound: Bound,
}

const fn goal(title: &'static str, scenario: &'static str, metric: Metric, bound: Bound) -> Goal {
    Goal { title, scenario, metric, bound }
}

/// Every goal but the one about everything else: nowhere worse than the best peer.
pub const GOALS: [Goal; 22] = [
    goal("produce, saturated", "produce-real", Metric::Cpu, Bound::AtMost(0.35)),
    goal("produce, 100 k/s", "produce-real-rate", Metric::Cpu, Bound::AtMost(0.35)),
    goal("produce, saturated, null broker", "produce-null", Metric::Cpu, Bound::AtMost(0.35)),
    goal("produce, lz4", "produce-real-lz4", Metric::Cpu, Bound::AtMost(0.6)),
    goal("produce, 1 KiB", "produce-real-1KiB", Metric::Cpu, Bound::AtMost(0.6)),
    goal("consume", "consume-real", Metric::Cpu, Bound::AtMost(0.4)),
    goal("consume, null broker", "consume-null", Metric::Cpu, Bound::AtMost(0.4)),
    goal("consume, lz4", "consume-real-lz4", Metric::Cpu, Bound::AtMost(0.6)),
    goal("consume, 1 KiB", "consume-real-1KiB", Metric::Cpu, Bound::AtMost(0.6)),
    goal("saturated throughput, null broker", "produce-null", Metric::Throughput, Bound::AtLeast(2.0)),
    goal("saturated throughput, Apache Kafka", "produce-real", Metric::Throughput, Bound::AtLeast(1.0)),
    goal("latency, linger 0", "latency-linger-0", Metric::P99Above, Bound::AtMost(0.8)),
    goal("latency, linger 0", "latency-linger-0", Metric::P999Above, Bound::AtMost(0.5)),
    goal("latency, linger 5 ms", "latency-linger-5", Metric::P50, Bound::AtMost(1.0)),
    goal("latency, linger 5 ms", "latency-linger-5", Metric::P99, Bound::AtMost(1.0)),
    goal("latency, linger 5 ms", "latency-linger-5", Metric::P999, Bound::AtMost(1.0)),
    goal("memory, 10,000 partitions known", "memory", Metric::IdleRss, Bound::AtMost(0.4)),
    goal("memory, each written once", "memory", Metric::WrittenRss, Bound::AtMost(0.4)),
    goal("memory at 100 k/s", "produce-real-rate", Metric::RssPeak, Bound::OurMost(11.0)),
    goal("process start to first acknowledgement", "start", Metric::FirstAck, Bound::AtMost(1.0)),
    goal("wakeups, 100 k/s", "produce-null-rate", Metric::Wakeups, Bound::AtMost(0.5)),
    goal("wakeups, saturated", "produce-null", Metric::Wakeups, Bound::AtMost(0.5)),
];

/// Whether a goal is met.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// With its whole interval.
    Met,
    /// The figure meets it, but the interval does not wholly.
    Nearly,
    /// No.
    Missed,
    /// The comparison does not count, for that reason.
    Void(String),
    /// There is nothing to judge by.
    Unknown,
}

impl Verdict {
    /// As a reader is told.
    pub fn text(&self) -> String {
        match self {
            Verdict::Met => "met".into(),
            Verdict::Nearly => "met, but not for certain".into(),
            Verdict::Missed => "NOT met".into(),
            Verdict::Void(reason) => format!("void: {reason}"),
            Verdict::Unknown => "not measured".into(),
        }
    }
}

/// A goal with what was measured.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Our figure.
    pub ours: Option<Estimate>,
    /// The best peer with its figure.
    pub best: Option<(&'static str, Estimate)>,
    /// Ours ÷ the best peer's.
    pub ratio: Option<Estimate>,
    /// Ours ÷ ours.
    pub control: Option<Estimate>,
    /// What follows.
    pub verdict: Verdict,
}

/// Judges a goal by the sheets of all scenarios.
pub fn judge(goal: Goal, sheets: &BTreeMap<&str, Sheet<'_>>) -> Judgement {
    let nothing = Judgement { ours: None, best: None, ratio: None, control: None, verdict: Verdict::Unknown };
    let Some(sheet) = sheets.get(goal.scenario) else { return nothing };
    let ours = sheet.figure(crate::clients::OURS, goal.metric);
    let best = sheet.best_peer(goal.metric);
    let ratio = best.and_then(|(name, _)| sheet.ratio(name, goal.metric));
    let judged = if matches!(goal.bound, Bound::OurMost(_)) { ours } else { ratio };
    let verdict = match (judged, sheet.void(goal.metric)) {
        (None, _) => Verdict::Unknown,
        (Some(_), Some(reason)) => Verdict::Void(reason),
        (Some(figure), None) => verdict(goal.bound, figure),
    };
    Judgement { ours, best, ratio, control: sheet.control(goal.metric), verdict }
}

fn verdict(bound: Bound, figure: Estimate) -> Verdict {
    match (bound.holds(figure.value), bound.holds(figure.low) && bound.holds(figure.high)) {
        (true, true) => Verdict::Met,
        (true, false) => Verdict::Nearly,
        (false, _) => Verdict::Missed,
    }
}

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

/// Where we are worse than the best peer, and in how many comparisons that was looked for.
pub fn worse_than_the_best(sheets: &BTreeMap<&str, Sheet<'_>>) -> (Vec<Worse>, usize) {
    let (mut worse, mut looked) = (Vec::new(), 0);
    for (name, sheet) in sheets {
        for metric in Metric::of_scenario(sheet.scenario) {
            let Some((best, _)) = sheet.best_peer(metric) else { continue };
            let Some(ratio) = sheet.ratio(best, metric) else { continue };
            looked += 1;
            let (is_worse, certain) = if metric.higher_is_better() {
                (ratio.value < 1.0, ratio.high < 1.0)
            } else {
                (ratio.value > 1.0, ratio.low > 1.0)
            };
            if is_worse {
                worse.push(Worse { scenario: (*name).to_owned(), metric, best, ratio, certain });
            }
        }
    }
    (worse, looked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Run;
    use crate::scenarios::{Effort, all};
    use crate::testing::run;

    #[test]
    fn every_goal_is_measured_where_its_figure_is_taken() {
        let scenarios = all(Effort { rounds: 8, seconds: 2.0, quick: false });
        for goal in GOALS {
            assert!(scenarios.iter().any(|scenario| scenario.name == goal.scenario), "{}", goal.scenario);
        }
    }

    #[test]
    fn a_goal_is_met_by_its_whole_interval() {
        let figure = |value, low, high| Estimate { value, low, high };
        assert_eq!(verdict(Bound::AtMost(0.35), figure(0.3, 0.28, 0.34)), Verdict::Met);
        assert_eq!(verdict(Bound::AtMost(0.35), figure(0.3, 0.28, 0.36)), Verdict::Nearly);
        assert_eq!(verdict(Bound::AtMost(0.35), figure(0.36, 0.3, 0.4)), Verdict::Missed);
        assert_eq!(verdict(Bound::AtLeast(2.0), figure(2.5, 2.1, 3.0)), Verdict::Met);
        assert_eq!(verdict(Bound::AtLeast(2.0), figure(2.5, 1.9, 3.0)), Verdict::Nearly);
    }

    #[test]
    fn ours_is_judged_against_the_best_peer_and_found_where_it_is_worse() {
        let rounds =
            |client: &str, cpu| (0..4).map(move |round| run("produce-real", client, round, cpu)).collect();
        let runs: Vec<Run> = [rounds("ours", 0.2), rounds("java", 2.0), rounds("franz-go", 0.6)]
            .into_iter()
            .flat_map(|runs: Vec<Run>| runs)
            .collect();
        let runs: Vec<&Run> = runs.iter().collect();
        let sheets = BTreeMap::from([("produce-real", Sheet::of(&runs, 1).unwrap())]);
        let judgement = judge(GOALS[0], &sheets);
        assert_eq!(judgement.best.unwrap().0, "franz-go");
        assert_eq!(judgement.verdict, Verdict::Met);
        assert_eq!(judge(GOALS[3], &sheets).verdict, Verdict::Unknown);
        let (worse, looked) = worse_than_the_best(&sheets);
        assert!(worse.is_empty() && looked == 2, "{worse:?}");
    }
}
