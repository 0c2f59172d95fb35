//! What one scenario asks for, and the command line that asks a driver for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Produces, saturated or at a rate.
    Produce,
    /// Produces in an open loop, and stamps each record with the time it was due.
    Latency,
    /// Reads from the beginning.
    Consume,
    /// From the start of the process to the first acknowledgement.
    Start,
    /// Knows many partitions, then writes to each once.
    Memory,
}

impl Mode {
    /// The word on the driver's command line.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Produce => "produce",
            Mode::Latency => "latency",
            Mode::Consume => "consume",
            Mode::Start => "start",
            Mode::Memory => "memory",
        }
    }

    /// Whether records are written.
    pub fn writes(self) -> bool {
        self != Mode::Consume
    }
}

/// Which broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerKind {
    /// Apache Kafka.
    Real,
    /// The bundled broker, which keeps records in memory.
    Bundled,
    /// The bundled broker's null mode, which keeps nothing.
    Null,
}

impl BrokerKind {
    /// The word in scenario names and tables.
    pub fn word(self) -> &'static str {
        match self {
            BrokerKind::Real => "real",
            BrokerKind::Bundled => "bundled",
            BrokerKind::Null => "null",
        }
    }
}

/// Which settings a client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settings {
    /// The client's own.
    Defaults,
    /// The same for everyone.
    Equal,
}

/// How records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// The word on the command line and in names.
    pub fn word(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// How fast records are offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// As fast as the client takes them.
    Saturated,
    /// So many in a second.
    Fixed(u64),
    /// Half of what the slowest peer reached in that saturated scenario, or 20,000 in a second where it was not run.
    HalfOfSlowest(String),
}

/// Why a scenario is run: what `--only` names as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// A goal of the project rests on it.
    Goals,
    /// It fills the tables.
    Tables,
    /// It shows how cost grows.
    Growth,
}

impl Group {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Group::Goals => "goals",
            Group::Tables => "tables",
            Group::Growth => "growth",
        }
    }
}

/// One piece of work that every client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// What it is called, on the command line and in results.
    pub name: String,
    /// Why it is run.
    pub group: Group,
    /// What the drivers do.
    pub mode: Mode,
    /// Which broker answers.
    pub broker: BrokerKind,
    /// How many brokers there are.
    pub brokers: u16,
    /// Which settings the clients have.
    pub settings: Settings,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// Bytes of a value.
    pub size: u32,
    /// Bytes of a key.
    pub key: u32,
    /// How batches are compressed.
    pub codec: Codec,
    /// How long a producer waits for more, in microseconds.
    pub linger_us: u32,
    /// How large a batch may be.
    pub batch_bytes: u32,
    /// How fast records are offered.
    pub rate: Rate,
    /// How many tasks produce.
    pub tasks: u32,
    /// How many records a topic to consume has; 0 for a consumer that reads until its time is over.
    pub records: u64,
    /// How often everyone runs, the first time for nothing.
    pub rounds: u32,
    /// Warm-up in seconds.
    pub warmup: f64,
    /// The measured window in seconds.
    pub seconds: f64,
    /// Warm-up of a client that compiles itself while it runs, in seconds.
    pub slow_warmup: f64,
}

/// What of the scenario is known only when a driver is about to run.
#[derive(Clone, Debug)]
pub struct Occasion<'a> {
    /// The variant of the client.
    pub variant: &'a str,
    /// Where the broker listens.
    pub bootstrap: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Records in a second, 0 when saturated.
    pub rate: u64,
    /// Records that are in the topic.
    pub records: u64,
    /// The client's warm-up in seconds.
    pub warmup: f64,
    /// When the driver was started, in nanoseconds since 1970.
    pub epoch_ns: u128,
}

impl Scenario {
    /// The driver's command line behind its program.
    pub fn arguments(&self, occasion: &Occasion<'_>) -> Vec<String> {
        let settings = match self.settings {
            Settings::Defaults => "defaults",
            Settings::Equal => "equal",
        };
        let mut arguments = vec![self.mode.word().to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("client", occasion.variant.into());
        option("bootstrap", occasion.bootstrap.into());
        option("topic", occasion.topic.into());
        option("partitions", self.partitions.to_string());
        option("settings", settings.into());
        option("linger-us", self.linger_us.to_string());
        option("batch-bytes", self.batch_bytes.to_string());
        option("codec", self.codec.word().into());
        option("in-flight", "5".into());
        option("size", self.size.to_string());
        option("key", self.key.to_string());
        option("rate", occasion.rate.to_string());
        option("tasks", self.tasks.to_string());
        option("warmup", occasion.warmup.to_string());
        option("seconds", self.seconds.to_string());
        option("records", occasion.records.to_string());
        option("epoch-ns", occasion.epoch_ns.to_string());
        arguments
    }

    /// How long one driver may take before it counts as hung.
    pub fn deadline(&self, warmup: f64) -> Duration {
        // A topic that is read to its end takes as long as it takes; nothing here needs more than this.
        Duration::from_secs_f64((warmup + self.seconds) * 3.0 + 30.0)
    }

    /// How long one driver is expected to take with what the harness does around it, in seconds.
    pub fn expected_seconds(&self, warmup: f64) -> f64 {
        let around = match self.broker {
            BrokerKind::Real => 0.8,
            BrokerKind::Bundled | BrokerKind::Null => 0.5,
        };
        around
            + match self.mode {
                Mode::Start => 0.2,
                Mode::Memory => 3.0,
                // Half a million bytes in a millisecond is what the slower clients read.
                Mode::Consume if self.records > 0 => {
                    self.records as f64 * (f64::from(self.size + self.key) / 4e8 + 5e-7)
                }
                _ => warmup + self.seconds,
            }
    }

    /// What a reader is told about it beyond its name.
    pub fn description(&self) -> String {
        let rate = match &self.rate {
            Rate::Saturated => "saturated".to_owned(),
            Rate::Fixed(rate) => format!("{rate}/s"),
            Rate::HalfOfSlowest(_) => "half the slowest peer's rate".to_owned(),
        };
        let how = match self.mode {
            Mode::Produce | Mode::Latency => rate,
            Mode::Consume if self.records > 0 => format!("{} records", self.records),
            Mode::Consume => "endless".to_owned(),
            Mode::Start => "to the first acknowledgement".to_owned(),
            Mode::Memory => "each partition written once".to_owned(),
        };
        let mut text = format!(
            "{}, {how}, {} broker, {} B values, {} partitions, {}",
            self.mode.word(),
            self.broker.word(),
            self.size,
            self.partitions,
            if self.codec == Codec::None { "uncompressed" } else { self.codec.word() }
        );
        match self.settings {
            Settings::Defaults => text += ", defaults",
            Settings::Equal => {
                text += &format!(
                    ", linger {} ms, batch {} KiB",
                    f64::from(self.linger_us) / 1000.0,
                    self.batch_bytes / 1024
                );
            }
        }
        if self.tasks > 1 {
            text += &format!(", {} tasks", self.tasks);
        }
        if self.brokers > 1 {
            text += &format!(", {} brokers", self.brokers);
        }
        text
    }
}
