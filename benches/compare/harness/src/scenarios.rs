//! The scenarios, as data: what everyone is measured at, and how often.

use crate::scenario::{BrokerKind, Codec, Group, Mode, Rate, Scenario, Settings};

const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];
const SIZES: [u32; 4] = [10, 100, 1024, 10_240];
const BATCHES: [u32; 2] = [16 * 1024, 1024 * 1024];
/// The rate at which everyone is compared where it must be the same, records in a second.
const EQUAL_RATE: u64 = 100_000;

/// The shortest window of a latency scenario.
const LATENCY_SECONDS: f64 = 3.0;

/// How long and how often everything is measured, unless the command line says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Rounds of the scenarios that goals rest on; the first is dropped.
    pub rounds: u32,
    /// Seconds of their measured windows.
    pub seconds: f64,
    /// A check that everything works, not a measurement.
    pub quick: bool,
}

impl Effort {
    fn apply(self, scenario: Scenario) -> Scenario {
        let goals = scenario.group == Group::Goals;
        let often = match scenario.mode {
            Mode::Memory => self.rounds.min(6),
            // A few milliseconds each, which is why one says little.
            Mode::Start => self.rounds * 3,
            _ => self.rounds,
        };
        let (rounds, seconds, warmup, slow_warmup) = match (self.quick, goals) {
            (true, _) => (self.rounds.min(3), self.seconds.min(0.3), 0.2, 1.0),
            (false, true) => (often, self.seconds, 0.5, 8.0),
            // Two measured rounds show the order of things; what a goal rests on is measured thoroughly above.
            (false, false) => (self.rounds.min(3), self.seconds * 0.4, 0.2, 3.0),
        };
        // The 99.9th percentile of a short window would be a single tick.
        let seconds = match (scenario.mode, self.quick) {
            (Mode::Latency, false) => seconds.max(LATENCY_SECONDS),
            _ => seconds,
        };
        Scenario { rounds, seconds, warmup, slow_warmup, ..scenario }
    }
}

/// Every scenario, those of one broker behind another so that brokers start seldom.
pub fn all(effort: Effort) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> =
        goals().into_iter().chain(tables()).chain(growth()).map(|scenario| effort.apply(scenario)).collect();
    scenarios.sort_by_key(|scenario| scenario.broker);
    scenarios
}

/// What most scenarios are: 100 B values at equal settings, produced without compression as fast as they are taken.
fn base(name: &str, group: Group, mode: Mode, broker: BrokerKind) -> Scenario {
    Scenario {
        name: name.to_owned(),
        group,
        mode,
        broker,
        brokers: 1,
        settings: Settings::Equal,
        partitions: 16,
        size: 100,
        key: 16,
        codec: Codec::None,
        linger_us: 5_000,
        batch_bytes: BATCHES[0],
        rate: Rate::Saturated,
        tasks: 1,
        records: 0,
        rounds: 0,
        warmup: 0.0,
        seconds: 0.0,
        slow_warmup: 0.0,
    }
}

/// Records in a prefilled topic: enough for a second of the fastest, and no more than a few hundred megabytes.
fn prefilled(size: u32) -> u64 {
    match size {
        0..=100 => 3_000_000,
        101..=1024 => 500_000,
        _ => 50_000,
    }
}

fn goals() -> Vec<Scenario> {
    use BrokerKind::{Null, Real};
    let goal = |name, mode, broker| base(name, Group::Goals, mode, broker);
    let prefilled =
        |name, size| Scenario { size, records: prefilled(size), ..goal(name, Mode::Consume, Real) };
    let latency = |name, linger_us| Scenario {
        linger_us,
        rate: Rate::HalfOfSlowest("produce-real".into()),
        ..goal(name, Mode::Latency, Real)
    };
    vec![
        goal("produce-real", Mode::Produce, Real),
        Scenario { rate: Rate::Fixed(EQUAL_RATE), ..goal("produce-real-rate", Mode::Produce, Real) },
        Scenario { codec: Codec::Lz4, ..goal("produce-real-lz4", Mode::Produce, Real) },
        Scenario { size: 1024, ..goal("produce-real-1KiB", Mode::Produce, Real) },
        goal("produce-null", Mode::Produce, Null),
        Scenario { rate: Rate::Fixed(EQUAL_RATE), ..goal("produce-null-rate", Mode::Produce, Null) },
        prefilled("consume-real", 100),
        Scenario { codec: Codec::Lz4, ..prefilled("consume-real-lz4", 100) },
        prefilled("consume-real-1KiB", 1024),
        goal("consume-null", Mode::Consume, Null),
        latency("latency-linger-0", 0),
        latency("latency-linger-5", 5_000),
        Scenario { rate: Rate::Fixed(20_000), ..latency("latency-linger-0-20k", 0) },
        Scenario { partitions: 10_000, ..goal("memory", Mode::Memory, BrokerKind::Bundled) },
        // Without linger: how soon a client could send is the question.
        Scenario { partitions: 1, linger_us: 0, ..goal("start", Mode::Start, BrokerKind::Bundled) },
    ]
}

/// Every cell of the two tables that no goal rests on: those are in [`goals`].
fn tables() -> Vec<Scenario> {
    use BrokerKind::{Bundled, Null, Real};
    let goals = goals();
    let mut tables = Vec::new();
    for size in SIZES {
        let named = |what: &str, broker: BrokerKind, tail: &str| {
            format!("{what}-{}-{}{tail}", broker.word(), size_word(size))
        };
        let table =
            |name: String, mode, broker| Scenario { size, ..base(&name, Group::Tables, mode, broker) };
        let records = prefilled(size);
        for broker in [Real, Null] {
            let settings = Settings::Defaults;
            let defaults = |what| named(what, broker, "-defaults");
            tables.push(Scenario { settings, ..table(defaults("produce"), Mode::Produce, broker) });
            let records = if broker == Real { records } else { 0 };
            tables.push(Scenario { settings, records, ..table(defaults("consume"), Mode::Consume, broker) });
        }
        for codec in CODECS {
            for batch_bytes in BATCHES {
                let tail = format!("-{}-{}K", codec.word(), batch_bytes / 1024);
                tables.push(Scenario {
                    codec,
                    batch_bytes,
                    ..table(named("produce", Real, &tail), Mode::Produce, Real)
                });
            }
            let tail = format!("-{}", codec.word());
            tables.push(Scenario {
                codec,
                records,
                ..table(named("consume", Real, &tail), Mode::Consume, Real)
            });
        }
        // The null broker shows the client's ceiling; with a codec the codec is the ceiling, which the above shows.
        tables.push(table(named("produce", Null, ""), Mode::Produce, Null));
        tables.push(table(named("consume", Null, ""), Mode::Consume, Null));
        tables.push(table(named("produce", Bundled, ""), Mode::Produce, Bundled));
    }
    tables.retain(|cell| !goals.iter().any(|goal| same_work(goal, cell)));
    tables
}

/// Whether two scenarios differ in nothing but name and group.
fn same_work(a: &Scenario, b: &Scenario) -> bool {
    Scenario { name: b.name.clone(), group: b.group, ..a.clone() } == *b
}

fn growth() -> Vec<Scenario> {
    let grows = |name: String| base(&name, Group::Growth, Mode::Produce, BrokerKind::Null);
    let partitions = [1, 100, 10_000]
        .map(|partitions| Scenario { partitions, ..grows(format!("growth-partitions-{partitions}")) });
    // A fixed rate: at saturation more partitions mean only fuller batches.
    let rates = [1, 100, 10_000].map(|partitions| Scenario {
        partitions,
        rate: Rate::Fixed(EQUAL_RATE),
        ..grows(format!("growth-partitions-{partitions}-rate"))
    });
    let tasks = [1, 8, 64].map(|tasks| Scenario { tasks, ..grows(format!("growth-tasks-{tasks}")) });
    let brokers = [1, 3].map(|brokers| Scenario { brokers, ..grows(format!("growth-brokers-{brokers}")) });
    partitions.into_iter().chain(rates).chain(tasks).chain(brokers).collect()
}

/// A size as names have it.
pub fn size_word(size: u32) -> String {
    if size >= 1024 && size.is_multiple_of(1024) { format!("{}KiB", size / 1024) } else { format!("{size}B") }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const FULL: Effort = Effort { rounds: 8, seconds: 2.0, quick: false };

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let all = all(FULL);
        let names: HashSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn no_work_is_done_twice() {
        let all = all(Effort { rounds: 3, seconds: 0.3, quick: true });
        for (index, scenario) in all.iter().enumerate() {
            let twin =
                all[..index].iter().find(|other| other.group == scenario.group && same_work(other, scenario));
            let allowed = scenario.group == Group::Growth;
            assert!(
                twin.is_none() || allowed,
                "{} does what {:?} does",
                scenario.name,
                twin.map(|t| &t.name)
            );
        }
    }

    #[test]
    fn the_tables_cover_every_size_codec_and_batch_with_what_the_goals_measure() {
        let all = all(FULL);
        for size in SIZES {
            for codec in CODECS {
                for batch_bytes in BATCHES {
                    let cell = |scenario: &&Scenario| {
                        scenario.mode == Mode::Produce
                            && scenario.broker == BrokerKind::Real
                            && (scenario.size, scenario.codec, scenario.batch_bytes)
                                == (size, codec, batch_bytes)
                            && scenario.rate == Rate::Saturated
                            && scenario.settings == Settings::Equal
                    };
                    assert_eq!(all.iter().filter(cell).count(), 1, "{size} {codec:?} {batch_bytes}");
                }
            }
        }
    }

    #[test]
    fn goals_get_every_round_and_a_quick_run_at_most_three() {
        let rounds = |effort| all(effort).iter().find(|s| s.name == "produce-real").unwrap().rounds;
        assert_eq!(rounds(FULL), 8);
        assert_eq!(rounds(Effort { quick: true, ..FULL }), 3);
    }
}
