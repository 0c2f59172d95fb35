//! One call of `compare run`: scenario by scenario, round by round, every run checked, judged and recorded at once.

use std::path::PathBuf;

use crate::building::{Built, Paths, Program};
use crate::clients::{Client, EMPTY};
use crate::drive::drive;
use crate::judge::{Sheet, void_run};
use crate::machine::{Disturbance, Moment};
use crate::metric::Metric;
use crate::outcome::{Failure, FailureKind, Outcome};
use crate::record::{Recorder, Run, Session};
use crate::scenario::{Mode, Occasion, Rate, Scenario};
use crate::schedule::{is_spared, round, warmup};
use crate::stage::Stage;

/// The rate of latency where nothing says what half the slowest peer's is.
const LATENCY_RATE: u64 = 20_000;
/// Rates are rounded down to this, so that they are the same from run to run where they nearly are.
const RATE_STEP: u64 = 10_000;
/// How often a client is run in a round until it is not disturbed: hosts that take a twentieth of the time do so for seconds.
const TRIES: u32 = 4;

/// What a session works with.
#[derive(Debug)]
pub struct Workshop {
    /// The checkout.
    pub paths: Paths,
    /// The bundled broker's program.
    pub broker: PathBuf,
    /// The clients.
    pub clients: Vec<Built>,
    /// Our own driver, which fills topics.
    pub filler: Program,
}

/// Runs scenarios and records what comes out.
#[derive(Debug)]
pub struct Conductor<'a> {
    workshop: &'a Workshop,
    session: &'a Session,
    recorder: Recorder,
    random: fastrand::Rng,
    stage: Stage<'a>,
    /// What was measured so far.
    pub runs: Vec<Run>,
}

impl<'a> Conductor<'a> {
    /// Begins the session.
    pub fn new(workshop: &'a Workshop, session: &'a Session, recorder: Recorder) -> Self {
        Self {
            workshop,
            session,
            recorder,
            random: fastrand::Rng::with_seed(session.seed),
            // A check need not be exact.
            stage: Stage::new(workshop, !session.quick),
            runs: Vec::new(),
        }
    }

    /// Runs a scenario to its end. What fails is told and recorded, and the rest goes on.
    ///
    /// # Errors
    /// Results cannot be recorded.
    pub fn run_scenario(&mut self, scenario: &Scenario) -> Result<(), String> {
        let rate = self.rate(&scenario.rate);
        for index in 0..scenario.rounds {
            for built in round(&self.workshop.clients, scenario, index, &mut self.random) {
                let its_own =
                    |run: &&Run| run.scenario.name == scenario.name && run.client == built.client.name;
                if is_spared(self.runs.iter().filter(its_own)) {
                    continue;
                }
                // A check need not be exact, and the first round is dropped anyway.
                let tries = if self.session.quick || index == 0 { 1 } else { TRIES };
                for number in 0..tries {
                    if self.run_once(built, scenario, index, rate, number > 0)?.void.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn rate(&self, rate: &Rate) -> u64 {
        match rate {
            Rate::Saturated => 0,
            Rate::Fixed(rate) => *rate,
            Rate::HalfOfSlowest(scenario) => {
                let runs: Vec<&Run> = self.runs.iter().filter(|run| run.scenario.name == *scenario).collect();
                half_of_the_slowest(&runs, self.session).unwrap_or(LATENCY_RATE)
            }
        }
    }

    fn run_once(
        &mut self,
        built: &Built,
        scenario: &Scenario,
        index: u32,
        rate: u64,
        repeated: bool,
    ) -> Result<Run, String> {
        let (outcome, failure, produce_requests, disturbance) = match self.measure(built, scenario, rate) {
            Ok(measured) => {
                (Some(measured.outcome), measured.failure, measured.requests, measured.disturbance)
            }
            Err(reason) => (None, Some(reason), None, Disturbance::default()),
        };
        let run = Run {
            session: self.session.id.clone(),
            scenario: scenario.clone(),
            round: index,
            repeated,
            client: built.client.name.to_owned(),
            rate,
            outcome,
            failure,
            produce_requests,
            void: void_run(disturbance.steal, disturbance.foreign_cores),
            disturbance,
        };
        tell(&run);
        self.recorder.run(&run).map_err(|error| format!("results cannot be written: {error}"))?;
        self.runs.push(run.clone());
        Ok(run)
    }

    /// One driver on its topic, and whether what it says is in the topic.
    fn measure(&mut self, built: &Built, scenario: &Scenario, rate: u64) -> Result<Measured, Failure> {
        let program = built.program.as_ref().map_err(Clone::clone)?;
        let prefilled = scenario.mode == Mode::Consume && scenario.records > 0;
        let (topic, records) = if prefilled {
            self.stage.filled_topic(scenario)?
        } else {
            (self.stage.fresh_topic(scenario)?, 0)
        };
        let warmup = warmup(built.client, scenario);
        let broker = self.stage.broker(scenario)?;
        let requests = broker.produce_requests()?;
        let bootstrap = broker.bootstrap.clone();
        let occasion = Occasion {
            variant: built.client.name,
            bootstrap: &bootstrap,
            topic: &topic,
            rate,
            records,
            warmup,
            epoch_ns: 0,
        };
        let before = Moment::now(&broker.pids);
        let driven = drive(program, scenario, occasion);
        let disturbance = before.until(&Moment::now(&broker.pids), self.session.machine.cores);
        let requests = match (requests, broker.produce_requests()?) {
            (Some(before), Some(after)) => Some(after.saturating_sub(before)),
            _ => None,
        };
        let checked = driven.and_then(|outcome| {
            let counted = if prefilled {
                Failure::of_counts("consumed", outcome.acked_total, records)
                    .or_else(|| Failure::of_counts("measured", outcome.records, records))
            } else if scenario.mode.writes() && built.client.name != EMPTY {
                let written = broker.topics.records(&topic, scenario.partitions)?;
                Failure::of_counts("acknowledged", outcome.acked_total, written)
            } else {
                None
            };
            let failure = counted.or_else(|| outcome.missed_rate(rate, scenario).map(Failure::from));
            Ok(Measured { outcome, failure, requests, disturbance })
        });
        let deleted = if prefilled { Ok(()) } else { broker.topics.delete(&topic) };
        let mut measured = checked?;
        // What is wrong with the run weighs more.
        measured.failure = measured.failure.or(deleted.err().map(Failure::from));
        Ok(measured)
    }
}

struct Measured {
    outcome: Outcome,
    failure: Option<Failure>,
    requests: Option<u64>,
    disturbance: Disturbance,
}

fn half_of_the_slowest(runs: &[&Run], session: &Session) -> Option<u64> {
    let sheet = Sheet::of(runs, session)?;
    let peers = crate::clients::CLIENTS.iter().filter(|client: &&Client| client.peer);
    let rates = peers.filter_map(|client| sheet.figure(client.name, Metric::Throughput));
    let slowest = rates.map(|rate| rate.value).min_by(f64::total_cmp)?;
    Some(((slowest / 2.0) as u64 / RATE_STEP * RATE_STEP).max(RATE_STEP))
}

/// One line for one run.
fn tell(run: &Run) {
    let mut line =
        format!("{:32} {}/{} {:16}", run.scenario.name, run.round, run.scenario.rounds - 1, run.client);
    for metric in Metric::of_scenario(&run.scenario) {
        if let Some(figure) = metric.of(run) {
            line += &format!("  {} {}", crate::table::number(figure), metric.title());
        }
    }
    if let Some(failure) = &run.failure {
        let word = if failure.kind == FailureKind::Unsupported { "n/a" } else { "FAILED" };
        line += &format!("  {word}: {failure}");
    }
    if let Some(reason) = &run.void {
        line += &format!("  void: {reason}");
    }
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, session};

    #[test]
    fn the_rate_of_latency_is_half_of_what_the_slowest_peer_reached() {
        let slow = |client: &str, seconds| {
            let mut run = run("produce-real", client, 1, 1.0);
            run.outcome.as_mut().unwrap().seconds = seconds;
            run
        };
        let runs = [slow("java", 1.9), slow("krafka", 1.0), slow("ours", 100.0)];
        assert_eq!(half_of_the_slowest(&runs.iter().collect::<Vec<_>>(), &session("1")), Some(260_000));
        assert_eq!(half_of_the_slowest(&[], &session("1")), None);
    }
}
