//! What drivers find: a broker that runs and is warm, and the topics on it.

use std::collections::BTreeMap;

use crate::broker::{Broker, Needs};
use crate::building::Program;
use crate::clients::OURS;
use crate::drive::drive;
use crate::outcome::{Failure, Outcome};
use crate::scenario::{BrokerKind, Mode, Occasion, Rate, Scenario, Settings};
use crate::session::Workshop;

/// One filling of a prefilled topic, in seconds; as many follow one another as it takes.
const FILLING: f64 = 0.5;
/// How long Apache Kafka is written to before anything is measured, in seconds: until its compiler is done it takes half as many
/// records, and its sockets cost whoever writes to them twice the time.
const WARMING: f64 = 30.0;

/// The broker in use, if any, and what is on it.
#[derive(Debug)]
pub struct Stage<'a> {
    workshop: &'a Workshop,
    /// Whether Apache Kafka is warmed, which a check does without.
    warms: bool,
    broker: Option<Broker>,
    /// Topics filled on the running broker, with their records.
    filled: BTreeMap<String, u64>,
    /// Brokers that could not be started, with the reason.
    absent: BTreeMap<BrokerKind, String>,
    topics: u32,
}

impl<'a> Stage<'a> {
    /// An empty one.
    pub fn new(workshop: &'a Workshop, warms: bool) -> Self {
        Self { workshop, warms, broker: None, filled: BTreeMap::new(), absent: BTreeMap::new(), topics: 0 }
    }

    /// The broker that a scenario needs: the one that runs, or a new one if that is another or has died.
    ///
    /// # Errors
    /// It cannot be started or warmed, now or before.
    pub fn broker(&mut self, scenario: &Scenario) -> Result<&mut Broker, String> {
        let needs = Needs::of(scenario);
        if !self.broker.as_ref().is_some_and(|broker| broker.meets(&needs)) {
            if let Some(reason) = self.absent.get(&scenario.broker) {
                return Err(reason.clone());
            }
            // The old one first: there is one core for brokers.
            self.broker = None;
            self.filled.clear();
            let started = self.start(scenario, needs);
            let started = started.map_err(|reason| format!("no {} broker: {reason}", scenario.broker.word()));
            self.broker =
                Some(started.inspect_err(|why| drop(self.absent.insert(scenario.broker, why.clone())))?);
        }
        self.broker.as_mut().ok_or_else(|| "there is no broker".into())
    }

    /// A broker is in use only when it is warm.
    fn start(&mut self, scenario: &Scenario, needs: Needs) -> Result<Broker, String> {
        let broker = Broker::start(&self.workshop.paths, &self.workshop.broker, needs)?;
        if scenario.broker == BrokerKind::Real && self.warms {
            eprintln!("warming Apache Kafka");
            let topic = self.name(scenario);
            broker.topics.create(&topic, scenario.partitions, 1)?;
            let outcome = fill(&self.workshop.filler, &broker, &topic, scenario, WARMING)?;
            eprintln!("{:.0} k records/s", outcome.records as f64 / outcome.seconds / 1e3);
            broker.topics.delete(&topic)?;
        }
        Ok(broker)
    }

    fn name(&mut self, scenario: &Scenario) -> String {
        self.topics += 1;
        format!("{}-{}", scenario.name, self.topics)
    }

    /// A new topic on the scenario's broker.
    ///
    /// # Errors
    /// There is no such broker, or it makes no topic.
    pub fn fresh_topic(&mut self, scenario: &Scenario) -> Result<String, String> {
        let topic = self.name(scenario);
        self.broker(scenario)?.topics.create(&topic, scenario.partitions, 1)?;
        Ok(topic)
    }

    /// A topic with the scenario's records, filled by our own producer if it is not there yet, and how many it has.
    ///
    /// # Errors
    /// There is no such broker, or the topic cannot be filled.
    pub fn filled_topic(&mut self, scenario: &Scenario) -> Result<(String, u64), String> {
        let Scenario { size, key, partitions, batch_bytes, codec, .. } = scenario;
        let topic = format!("filled-{size}-{key}-{partitions}-{batch_bytes}-{}", codec.word());
        let filler = &self.workshop.filler;
        // First, as a new broker has nothing of what was filled on the one before.
        self.broker(scenario)?;
        if let Some(&records) = self.filled.get(&topic) {
            return Ok((topic, records));
        }
        let broker = self.broker(scenario)?;
        broker.topics.create(&topic, scenario.partitions, 1)?;
        eprintln!("filling {topic}");
        let mut acknowledged = 0;
        while acknowledged < scenario.records {
            let outcome = fill(filler, broker, &topic, scenario, FILLING)?;
            if outcome.acked_total == 0 {
                return Err(format!("{topic} cannot be filled: nothing was acknowledged"));
            }
            acknowledged += outcome.acked_total;
        }
        let records = broker.topics.records(&topic, scenario.partitions)?;
        if let Some(mismatch) = Failure::of_counts("acknowledged", acknowledged, records) {
            return Err(format!("{topic}: {mismatch}"));
        }
        self.filled.insert(topic.clone(), records);
        Ok((topic, records))
    }
}

/// Has our own producer write to a topic for a while.
fn fill(
    filler: &Program,
    broker: &Broker,
    topic: &str,
    scenario: &Scenario,
    seconds: f64,
) -> Result<Outcome, String> {
    let work = Scenario {
        mode: Mode::Produce,
        rate: Rate::Saturated,
        settings: Settings::Equal,
        warmup: 0.0,
        seconds,
        ..scenario.clone()
    };
    let bootstrap = &broker.bootstrap;
    let occasion =
        Occasion { variant: OURS, bootstrap, topic, rate: 0, records: 0, warmup: 0.0, epoch_ns: 0 };
    drive(filler, &work, occasion).map_err(|failure| failure.reason)
}
