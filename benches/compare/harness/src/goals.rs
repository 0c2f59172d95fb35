//! The goals, as data, and whether they are met.

use crate::clients::{OURS, OURS_AGAIN};
use crate::judge::{Comparison, Sheet, Sheets};
use crate::metric::Metric;
use crate::stats::Estimate;

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Ours ÷ the best peer's is at most that.
    AtMost(f64),
    /// Ours ÷ the best peer's is at least that.
    AtLeast(f64),
    /// Ours ÷ the best peer's is more than that.
    Above(f64),
    /// Ours is at most that, whatever the peers show.
    OurMost(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtMost(most) | Bound::OurMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
            Bound::Above(bound) => figure > bound,
        }
    }

    /// How far a figure is from it, as a share of it.
    fn distance(self, figure: f64) -> f64 {
        let (Bound::AtMost(bound) | Bound::OurMost(bound) | Bound::AtLeast(bound) | Bound::Above(bound)) =
            self;
        (figure / bound - 1.0).abs()
    }

    /// As a reader is told.
    pub fn text(self) -> String {
        match self {
            Bound::AtMost(most) => format!("≤ {most}"),
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::Above(bound) => format!("> {bound}"),
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
    goal("saturated throughput, Apache Kafka", "produce-real", Metric::Throughput, Bound::Above(1.0)),
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
    /// The figure meets it, but for that reason not for certain.
    Nearly(&'static str),
    /// No.
    Missed,
    /// Ours lost records, beside which no figure counts.
    Lost(String),
    /// The comparison does not count, for that reason.
    Void(String),
    /// It was only seen to work.
    CheckOnly,
    /// It was not measured at all.
    Unknown,
}

impl Verdict {
    /// As a reader is told.
    pub fn text(&self) -> String {
        match self {
            Verdict::Met => "met".into(),
            Verdict::Nearly(reason) => format!("met, but not for certain: {reason}"),
            Verdict::Missed => "NOT met".into(),
            Verdict::Lost(reason) => format!("NOT met: records lost: {reason}"),
            Verdict::Void(reason) => format!("void: {reason}"),
            Verdict::CheckOnly => "check only".into(),
            Verdict::Unknown => "not measured".into(),
        }
    }
}

/// Judges a goal by the sheets of all scenarios; gives what it was judged by too, where there is such.
pub fn judge(goal: Goal, sheets: &Sheets<'_>) -> (Option<Comparison>, Verdict) {
    let Some(sheet) = sheets.get(goal.scenario) else { return (None, Verdict::Unknown) };
    let comparison = sheet.compare(goal.metric);
    let verdict = if let Some(lost) = sheet.lost() {
        Verdict::Lost(lost.reason.clone())
    } else if sheet.is_quick() {
        Verdict::CheckOnly
    } else {
        verdict(goal.bound, sheet, &comparison).unwrap_or_else(Verdict::Void)
    };
    (Some(comparison), verdict)
}

/// # Errors
/// Why there is nothing to judge by.
fn verdict(bound: Bound, sheet: &Sheet<'_>, comparison: &Comparison) -> Result<Verdict, String> {
    if let Some(reason) = &comparison.void {
        return Err(reason.clone());
    }
    let ours = comparison.ours.clone()?;
    let figure = if matches!(bound, Bound::OurMost(_)) { ours } else { comparison.ratio.clone()? };
    let control = comparison.control.clone()?;
    if !bound.holds(figure.value) {
        return Ok(Verdict::Missed);
    }
    let failed = |client: &str| sheet.runs_of(client).any(|run| run.failure.is_some() && run.void.is_none());
    let doubt = if failed(OURS) || failed(OURS_AGAIN) { Some("some runs of ours failed") } else { None };
    Ok(doubt.or_else(|| doubt_of(bound, figure, control)).map_or(Verdict::Met, Verdict::Nearly))
}

/// Why a figure that meets its bound does not do so for certain. What the method makes of no difference, which is ours ÷ ours
/// with its interval, must be less than what lies between the figure and its bound.
fn doubt_of(bound: Bound, figure: Estimate, control: Estimate) -> Option<&'static str> {
    match figure.wholly(|figure| bound.holds(figure)).zip(control.interval) {
        None => Some("too few rounds"),
        Some((false, _)) => Some("its interval does not"),
        Some((true, _)) if !control.may_be_one() => Some("ours ÷ ours is not 1"),
        Some((true, _)) if control.furthest_from_one() >= bound.distance(figure.value) => {
            Some("ours ÷ ours is as far from 1 as this from its bound")
        }
        Some((true, _)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;
    use crate::record::{Run, Session};
    use crate::scenarios::{Effort, all};
    use crate::testing::{run, session};

    #[test]
    fn every_goal_is_measured_where_its_figure_is_taken() {
        let scenarios = all(Effort { rounds: 8, seconds: 2.0, quick: false });
        for goal in GOALS {
            assert!(scenarios.iter().any(|scenario| scenario.name == goal.scenario), "{}", goal.scenario);
        }
    }

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some((low, high)) }
    }

    #[test]
    fn a_goal_is_met_for_certain_by_its_whole_interval() {
        let one = estimate(1.0, 0.99, 1.01);
        let doubt = |bound, value, low, high| doubt_of(bound, estimate(value, low, high), one);
        assert_eq!(doubt(Bound::AtMost(0.35), 0.3, 0.28, 0.34), None);
        assert!(doubt(Bound::AtMost(0.35), 0.3, 0.28, 0.36).unwrap().contains("interval"));
        assert!(doubt(Bound::AtMost(0.35), 0.3, 0.28, f64::INFINITY).unwrap().contains("interval"));
        assert_eq!(doubt(Bound::AtLeast(2.0), 2.5, 2.1, 3.0), None);
        assert!(doubt(Bound::AtLeast(2.0), 2.5, 1.9, 3.0).unwrap().contains("interval"));
        assert!(!Bound::Above(1.0).holds(1.0) && Bound::Above(1.0).holds(1.1));
        let few = Estimate { value: 0.3, interval: None };
        assert!(doubt_of(Bound::AtMost(0.35), few, one).unwrap().contains("few rounds"));
    }

    #[test]
    fn a_control_must_be_narrower_than_the_distance_to_the_bound() {
        let doubt = |control| doubt_of(Bound::AtMost(1.0), estimate(0.9, 0.88, 0.92), control);
        assert_eq!(doubt(estimate(1.0, 0.95, 1.05)), None);
        assert!(doubt(estimate(1.0, 0.89, 1.05)).unwrap().contains("as far from 1"));
        assert!(doubt(estimate(1.03, 1.01, 1.05)).unwrap().contains("is not 1"));
        assert!(doubt(Estimate { value: 1.0, interval: None }).unwrap().contains("few rounds"));
    }

    fn steady(client: &str, cpu: f64) -> Vec<Run> {
        (0..8).map(|round| run("produce-real", client, round, cpu)).collect()
    }

    fn verdict_on(runs: &[Run], quick: bool) -> Verdict {
        let session = Session { quick, ..session("1") };
        let sheet = Sheet::of(&runs.iter().collect::<Vec<_>>(), &session).unwrap();
        judge(GOALS[0], &Sheets::from([("produce-real", sheet)])).1
    }

    #[test]
    fn ours_is_judged_against_the_best_peer() {
        let mut runs = [
            steady("ours", 0.2),
            steady("ours-control", 0.2),
            steady("java", 2.0),
            steady("franz-go", 0.7),
            steady("control", 0.01),
        ]
        .concat();
        assert_eq!(verdict_on(&runs, false), Verdict::Met);
        assert_eq!(verdict_on(&runs, true), Verdict::CheckOnly);
        assert_eq!(judge(GOALS[0], &Sheets::new()).1, Verdict::Unknown);
        runs[3].failure = Some("hung".into());
        assert_eq!(verdict_on(&runs, false), Verdict::Nearly("some runs of ours failed"));
        runs[3].failure = Failure::of_counts("acknowledged", 7, 6);
        assert!(verdict_on(&runs, false).text().contains("NOT met: records lost: MISMATCH"));
    }

    #[test]
    fn without_a_control_or_ours_or_a_peer_nothing_is_judged() {
        let clients = ["ours", "ours-control", "franz-go", "control"];
        let reason = |missing: &str| {
            let there = clients.iter().filter(|&&client| client != missing);
            let cpu = |client: &str| if client == "control" { 0.01 } else { 0.2 };
            let runs: Vec<Run> = there.flat_map(|client| steady(client, cpu(client))).collect();
            match verdict_on(&runs, false) {
                Verdict::Void(reason) => reason,
                verdict => verdict.text(),
            }
        };
        assert!(reason("ours-control").contains("no control"));
        assert!(reason("control").contains("what an empty driver takes"));
        assert!(reason("franz-go").contains("no peer"));
        assert!(reason("ours").contains("ours was not measured"));
        assert_eq!(reason(""), "NOT met");
    }

    #[test]
    fn a_best_peer_at_the_floor_is_missed() {
        let runs =
            [steady("ours", 0.2), steady("ours-control", 0.2), steady("krafka", 0.1), steady("control", 0.1)];
        assert_eq!(verdict_on(&runs.concat(), false), Verdict::Missed);
    }
}
