//! What the runs of one scenario say: everyone's figures, the best peer, and whether the comparison counts at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::clients::{CLIENTS, EMPTY, OURS, OURS_AGAIN};
use crate::metric::Metric;
use crate::outcome::{Failure, FailureKind, Outcome};
use crate::record::{Run, Session};
use crate::scenario::{Mode, Scenario};
use crate::stats::{Estimate, Sample, ratio};
use crate::table::number;

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
    session: &'a Session,
    runs: Vec<&'a Run>,
    /// The first round that counts: the second, where there are more than one.
    first: u32,
}

/// The sheets of all scenarios, by name.
pub type Sheets<'a> = BTreeMap<&'a str, Sheet<'a>>;

/// Some clients in the rounds that all of them were measured in, with what is taken off.
struct Together {
    rounds: usize,
    samples: Vec<Sample>,
    floor: Option<Sample>,
}

impl Together {
    /// What a client shows in these rounds, less what the empty client shows in the same. It is not held at zero: what is
    /// below is noise that has to be seen.
    fn figure(&self, client: usize, drawn: &[usize]) -> Option<f64> {
        let floor = self.floor.as_ref().map_or(Some(0.0), |floor| floor.figure(drawn))?;
        Some(self.samples.get(client)?.figure(drawn)? - floor)
    }
}

/// Ours beside the best peer. What could not be compared has the reason.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Our figure.
    pub ours: Result<Estimate, String>,
    /// The best peer with its figure.
    pub best: Result<(&'static str, Estimate), String>,
    /// Ours ÷ the best peer's.
    pub ratio: Result<Estimate, String>,
    /// Ours ÷ ours, which should be 1.
    pub control: Result<Estimate, String>,
    /// Why none of it counts, if so.
    pub void: Option<String>,
}

impl<'a> Sheet<'a> {
    /// Of these runs of a session. `None` without runs.
    pub fn of(runs: &[&'a Run], session: &'a Session) -> Option<Self> {
        let scenario = &runs.first()?.scenario;
        let first = u32::from(runs.iter().any(|run| run.round > 0));
        Some(Self { scenario, session, runs: runs.to_vec(), first })
    }

    /// Whether it was only a check.
    pub fn is_quick(&self) -> bool {
        self.session.quick
    }

    /// The clients that took part, in the order of the tables.
    pub fn clients(&self) -> Vec<&'static str> {
        CLIENTS.iter().map(|client| client.name).filter(|name| self.runs_of(name).next().is_some()).collect()
    }

    /// Everything that a client did, the first round too.
    pub fn runs_of(&self, client: &str) -> impl Iterator<Item = &'a Run> {
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

    /// How often and how long it was measured.
    pub fn effort(&self) -> String {
        let counted = self.runs.iter().filter(|run| run.round >= self.first);
        let rounds = match counted.map(|run| run.round).collect::<BTreeSet<_>>().len() {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        };
        match (self.scenario.mode, self.scenario.records) {
            (Mode::Start | Mode::Memory, _) => rounds,
            (Mode::Consume, records) if records > 0 => {
                format!("{rounds} of {} records or more", number(records as f64))
            }
            _ => format!("{rounds} of {} s", self.scenario.seconds),
        }
    }

    /// Why a client has no figures, if it failed.
    pub fn failure(&self, client: &str) -> Option<&'a Failure> {
        self.runs_of(client).find_map(|run| run.failure.as_ref())
    }

    /// Records that one of our clients lost, in whichever round.
    pub fn lost(&self) -> Option<&'a Failure> {
        let ours = CLIENTS.iter().filter(|client| !client.peer && client.name != EMPTY);
        let failures =
            ours.flat_map(|client| self.runs_of(client.name)).filter_map(|run| run.failure.as_ref());
        failures.into_iter().find(|failure| failure.kind == FailureKind::Lost)
    }

    /// A client's runs that have this figure, by round. Runs that are void are left out where enough others remain; of a run
    /// that was repeated, the last repetition counts.
    fn rounds(&self, client: &str, metric: Metric) -> BTreeMap<u32, &'a Run> {
        let good = || {
            let runs = self.runs_of(client).filter(|run| run.round >= self.first && run.failure.is_none());
            runs.filter(|run| metric.of(run).is_some()).map(|run| (run.round, run))
        };
        let clean: BTreeMap<u32, &Run> = good().filter(|(_, run)| run.void.is_none()).collect();
        if clean.len() >= ENOUGH { clean } else { good().collect() }
    }

    /// `None` if there is no round in which all were measured.
    fn together(&self, clients: &[&str], metric: Metric) -> Option<Together> {
        let floor = metric.floor(self.scenario.mode).filter(|_| !clients.contains(&EMPTY)).map(|_| EMPTY);
        let of_each: Vec<BTreeMap<u32, &Run>> =
            clients.iter().copied().chain(floor).map(|client| self.rounds(client, metric)).collect();
        let common: Vec<u32> = of_each
            .first()?
            .keys()
            .copied()
            .filter(|round| of_each.iter().all(|runs| runs.contains_key(round)))
            .collect();
        let sample = |runs: &BTreeMap<u32, &Run>| {
            metric.sample(&common.iter().filter_map(|round| runs.get(round).copied()).collect::<Vec<_>>())
        };
        let mut samples = of_each.iter().map(sample).collect::<Option<Vec<_>>>()?;
        let floor = floor.and_then(|_| samples.pop());
        (!common.is_empty()).then_some(Together { rounds: common.len(), samples, floor })
    }

    /// What the empty client shows, where that is taken off.
    pub fn own_cost(&self, metric: Metric) -> Option<f64> {
        metric.floor(self.scenario.mode)?;
        Some(self.figure(EMPTY, metric)?.value)
    }

    /// A client's figure with its interval, less what the empty client shows where the metric asks for that.
    pub fn figure(&self, client: &str, metric: Metric) -> Option<Estimate> {
        let together = self.together(&[client], metric)?;
        Estimate::of(together.rounds, self.session.seed, |drawn| together.figure(0, drawn))
    }

    /// One client's figure ÷ the other's, of the rounds that both were measured in. Each draw takes everyone's runs of the
    /// same rounds: what slowed all of them in one widens nothing, and the noise of what is taken off is in the interval.
    fn ratio(&self, one: &str, other: &str, metric: Metric) -> Result<Estimate, String> {
        let together = self
            .together(&[one, other], metric)
            .ok_or_else(|| format!("there is no round in which both {one} and {other} were measured"))?;
        let of = |drawn: &[usize]| ratio(together.figure(0, drawn)?, together.figure(1, drawn)?);
        Estimate::of(together.rounds, self.session.seed, of).ok_or_else(|| {
            let floor = metric.floor(self.scenario.mode).unwrap_or("nothing");
            format!("{one} and {other} are at or below what {floor} takes")
        })
    }

    /// The peer with the best figure.
    pub fn best_peer(&self, metric: Metric) -> Option<(&'static str, Estimate)> {
        let peers = CLIENTS.iter().filter(|client| client.peer).map(|client| client.name);
        let figures = peers.filter_map(|name| Some((name, self.figure(name, metric)?)));
        figures.min_by(|(_, a), (_, b)| {
            let order = a.value.total_cmp(&b.value);
            if metric.higher_is_better() { order.reverse() } else { order }
        })
    }

    /// Ours ÷ ours, which should be 1.
    pub fn control(&self, metric: Metric) -> Result<Estimate, String> {
        self.ratio(OURS_AGAIN, OURS, metric).map_err(|reason| format!("no control: {reason}"))
    }

    /// Ours beside the best peer.
    pub fn compare(&self, metric: Metric) -> Comparison {
        let best = self.best_peer(metric).ok_or_else(|| "no peer was measured".to_owned());
        let failed = || match self.failure(OURS) {
            Some(failure) => format!("ours failed: {failure}"),
            None => "ours was not measured".to_owned(),
        };
        Comparison {
            ours: self.figure(OURS, metric).ok_or_else(failed),
            ratio: best.clone().and_then(|(name, _)| self.ratio(OURS, name, metric)),
            best,
            control: self.control(metric),
            void: self.void(metric),
        }
    }

    /// Why no comparison of this figure counts, if so.
    fn void(&self, metric: Metric) -> Option<String> {
        let floor = metric.floor(self.scenario.mode);
        if let Some(floor) = floor.filter(|_| self.rounds(EMPTY, metric).is_empty()) {
            let reason = self.failure(EMPTY).map_or(String::new(), |failure| format!(": {failure}"));
            return Some(format!("what {floor} takes was not measured{reason}"));
        }
        let rests_on = self.clients().into_iter().filter(|&name| name != EMPTY || floor.is_some());
        let disturbed: Vec<&str> = rests_on.filter(|name| self.is_disturbed(name)).collect();
        (!disturbed.is_empty()).then(|| format!("too few undisturbed runs of {}", disturbed.join(", ")))
    }

    /// Whether a client's figures rest on runs that are void.
    pub fn is_disturbed(&self, client: &str) -> bool {
        let counted = || self.runs_of(client).filter(|run| run.round >= self.first);
        let clean = counted().filter(|run| run.failure.is_none() && run.void.is_none()).count();
        // The last try of a round counts.
        let of_rounds: BTreeMap<u32, bool> = counted().map(|run| (run.round, run.void.is_some())).collect();
        clean < ENOUGH && of_rounds.into_values().any(|is_void| is_void)
    }
}

#[cfg(test)]
mod tests;
