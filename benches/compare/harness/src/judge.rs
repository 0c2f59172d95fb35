//! What the runs of one scenario say: everyone's figures, the best peer, and whether the comparison counts at all.

use crate::clients::{EMPTY, OURS, OURS_AGAIN, find};
use crate::metric::Metric;
use crate::record::{Outcome, Run};
use crate::scenario::Scenario;
use crate::stats::{Estimate, Samples, median, median_with_interval, ratio_of_medians};

/// The most of the machine's time that its host may keep in a run that counts.
const MOST_STEAL: f64 = 0.05;
/// The most cores that other processes may use in a run that counts.
const MOST_FOREIGN: f64 = 0.5;
/// So many runs that count are enough to do without those that do not.
const ENOUGH: usize = 3;

/// Why a run does not count, by what else the machine did; `None` if it does.
pub fn void_run(steal: f64, foreign_cores: f64) -> Option<String> {
    if steal > MOST_STEAL {
        Some(format!("{:.0} % of the time was stolen", steal * 100.0))
    } else if foreign_cores > MOST_FOREIGN {
        Some(format!("others used {foreign_cores:.1} cores"))
    } else {
        None
    }
}

/// The runs of one scenario in one session.
#[derive(Clone, Debug)]
pub struct Sheet<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    runs: Vec<&'a Run>,
    seed: u64,
}

impl<'a> Sheet<'a> {
    /// Of these runs, the first round dropped where there are more. `None` without runs.
    pub fn of(runs: &[&'a Run], seed: u64) -> Option<Self> {
        let scenario = &runs.first()?.scenario;
        let measured = runs.iter().any(|run| run.round > 0);
        let runs = runs.iter().copied().filter(|run| run.round > 0 || !measured).collect();
        Some(Self { scenario, runs, seed })
    }

    /// The clients that took part, in the order of the tables.
    pub fn clients(&self) -> Vec<&'static str> {
        let took_part = |name: &str| self.runs.iter().any(|run| run.client == name);
        crate::clients::CLIENTS.iter().map(|client| client.name).filter(|name| took_part(name)).collect()
    }

    fn runs_of(&self, client: &str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().copied().filter(move |run| run.client == client)
    }

    /// What a client's driver said of itself.
    pub fn outcome(&self, client: &str) -> Option<&'a Outcome> {
        self.runs_of(client).find_map(|run| run.outcome.as_ref())
    }

    /// Records in a second that were asked for.
    pub fn rate(&self) -> u64 {
        self.runs.first().map_or(0, |run| run.rate)
    }

    /// Why a client has no figures, if it failed.
    pub fn failure(&self, client: &str) -> Option<&'a str> {
        self.runs_of(client).find_map(|run| run.failure.as_deref())
    }

    /// A client's samples as they were measured. Runs that are void are left out where enough others remain; of a run that
    /// was repeated, the repetition counts.
    fn samples(&self, client: &str, metric: Metric) -> Samples {
        let good = || self.runs_of(client).filter(|run| run.failure.is_none());
        let of = |runs: &mut dyn Iterator<Item = &Run>| -> Samples {
            runs.filter_map(|run| Some((run.round, metric.of(run)?))).collect()
        };
        let clean = of(&mut good().filter(|run| run.void.is_none()));
        if clean.len() >= ENOUGH { clean } else { of(&mut good()) }
    }

    /// The same without what the empty client shows, where the metric asks for that.
    fn net_samples(&self, client: &str, metric: Metric) -> Samples {
        let mut samples = self.samples(client, metric);
        if metric.less_control(self.scenario.mode) && client != EMPTY {
            let own = self.own_cost(metric).unwrap_or(0.0);
            samples.values_mut().for_each(|value| *value = (*value - own).max(0.0));
        }
        samples
    }

    /// What the empty client shows.
    pub fn own_cost(&self, metric: Metric) -> Option<f64> {
        median(&self.samples(EMPTY, metric).into_values().collect::<Vec<_>>())
    }

    /// A client's figure with its interval.
    pub fn figure(&self, client: &str, metric: Metric) -> Option<Estimate> {
        median_with_interval(&self.net_samples(client, metric), self.seed)
    }

    /// Ours ÷ the other's.
    pub fn ratio(&self, other: &str, metric: Metric) -> Option<Estimate> {
        ratio_of_medians(&self.net_samples(OURS, metric), &self.net_samples(other, metric), self.seed)
    }

    /// The peer with the best figure.
    pub fn best_peer(&self, metric: Metric) -> Option<(&'static str, Estimate)> {
        let peers = self.clients().into_iter().filter(|name| find(name).is_some_and(|client| client.peer));
        let figures = peers.filter_map(|name| Some((name, self.figure(name, metric)?)));
        figures.min_by(|(_, a), (_, b)| {
            let order = a.value.total_cmp(&b.value);
            if metric.higher_is_better() { order.reverse() } else { order }
        })
    }

    /// Ours ÷ ours, which should be 1.
    pub fn control(&self, metric: Metric) -> Option<Estimate> {
        ratio_of_medians(&self.net_samples(OURS_AGAIN, metric), &self.net_samples(OURS, metric), self.seed)
    }

    /// Why this comparison does not count, if so.
    pub fn void(&self, metric: Metric) -> Option<String> {
        if let Some(control) = self.control(metric).filter(|control| !control.holds_one()) {
            return Some(format!(
                "ours ÷ ours is {:.2} [{:.2}, {:.2}]",
                control.value, control.low, control.high
            ));
        }
        let compared = self.clients().into_iter().filter(|&name| name != OURS_AGAIN && name != EMPTY);
        let disturbed = compared.filter(|name| self.is_disturbed(name));
        let disturbed: Vec<&str> = disturbed.collect();
        (!disturbed.is_empty()).then(|| format!("too few undisturbed runs of {}", disturbed.join(", ")))
    }

    /// Whether a client's figures rest on runs that are void.
    pub fn is_disturbed(&self, client: &str) -> bool {
        let clean = self.runs_of(client).filter(|run| run.failure.is_none() && run.void.is_none()).count();
        clean < ENOUGH && self.runs_of(client).any(|run| run.void.is_some() && self.stands(run))
    }

    /// Whether no later try of the same round counts instead.
    fn stands(&self, run: &Run) -> bool {
        let later = |other: &Run| other.round == run.round && other.repeated && !run.repeated;
        !self.runs_of(&run.client).any(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    fn sheet(runs: &[Run]) -> Sheet<'_> {
        Sheet::of(&runs.iter().collect::<Vec<_>>(), 1).unwrap()
    }

    fn rounds(client: &str, cpu: &[f64]) -> Vec<Run> {
        (0..).zip(cpu).map(|(round, &cpu)| run("produce-real", client, round, cpu)).collect()
    }

    #[test]
    fn a_run_is_void_by_stolen_time_or_the_load_of_others() {
        assert_eq!(void_run(0.01, 0.4), None);
        assert!(void_run(0.06, 0.0).unwrap().contains("stolen"));
        assert!(void_run(0.0, 0.7).unwrap().contains("0.7 cores"));
    }

    #[test]
    fn the_first_round_and_the_drivers_own_cost_do_not_count() {
        let runs = [
            rounds("ours", &[9.0, 0.4, 0.4, 0.4]),
            rounds("krafka", &[0.1, 1.7, 1.7, 1.7]),
            rounds("kacrab", &[0.1, 0.9, 0.9, 0.9]),
            rounds("control", &[0.0, 0.1, 0.1, 0.1]),
        ]
        .concat();
        let sheet = sheet(&runs);
        let (best, figure) = sheet.best_peer(Metric::Cpu).unwrap();
        assert_eq!(best, "kacrab");
        assert!((figure.value - 0.8).abs() < 1e-9);
        assert!((sheet.ratio(best, Metric::Cpu).unwrap().value - 0.375).abs() < 1e-9);
        assert_eq!(sheet.own_cost(Metric::Cpu), Some(0.1));
        assert_eq!(sheet.void(Metric::Cpu), None);
    }

    #[test]
    fn the_best_at_throughput_is_the_highest() {
        let runs = [rounds("krafka", &[1.0]), rounds("kacrab", &[1.0])].concat();
        let mut runs = runs;
        runs[1].outcome.as_mut().unwrap().seconds = 1.0;
        assert_eq!(sheet(&runs).best_peer(Metric::Throughput).unwrap().0, "kacrab");
    }

    #[test]
    fn a_control_without_one_voids_the_scenario() {
        let runs =
            [rounds("ours", &[1.0, 0.50, 0.51, 0.49]), rounds("ours-control", &[1.0, 0.60, 0.61, 0.59])]
                .concat();
        assert!(sheet(&runs).void(Metric::Cpu).unwrap().contains("ours ÷ ours is 1.20"));
    }

    #[test]
    fn disturbed_runs_are_left_out_while_enough_remain() {
        let mut runs = rounds("ours", &[1.0, 0.5, 0.5, 0.5, 5.0]);
        runs[4].void = Some("others used 1.0 cores".into());
        assert_eq!(sheet(&runs).figure("ours", Metric::Cpu).unwrap().high, 0.5);
        assert_eq!(sheet(&runs).void(Metric::Cpu), None);
        runs[3].void = runs[4].void.clone();
        assert!(sheet(&runs).void(Metric::Cpu).unwrap().contains("undisturbed runs of ours"));
    }

    #[test]
    fn of_a_repeated_run_the_repetition_counts() {
        let mut runs = rounds("ours", &[1.0, 7.0]);
        runs[1].void = Some("others used 1.0 cores".into());
        runs.push(Run { repeated: true, ..run("produce-real", "ours", 1, 0.5) });
        assert_eq!(sheet(&runs).figure("ours", Metric::Cpu).unwrap().value, 0.5);
        assert!(!sheet(&runs).is_disturbed("ours"));
    }

    #[test]
    fn a_client_that_failed_has_no_figures_but_a_reason() {
        let mut runs = rounds("krafka", &[1.0, 1.0]);
        runs[1].failure = Some("acknowledged 7 but 6 are in the topic".into());
        let sheet = sheet(&runs);
        assert_eq!(sheet.figure("krafka", Metric::Cpu), None);
        assert!(sheet.failure("krafka").unwrap().contains("acknowledged 7"));
    }
}
