//! The command line that every driver has, in every language.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use lexopt::ValueExt;
use lexopt::prelude::{Long, Short, Value};

use crate::error::{Error, Result};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Producing, as fast as possible or at a rate.
    Produce,
    /// The time from a record's scheduled moment to its acknowledgement.
    Latency,
    /// Reading a topic.
    Consume,
    /// From the start of the process to the first acknowledgement.
    Start,
    /// What many partitions cost.
    Memory,
}

/// Whose settings are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    /// The client's own: nothing is set but what the job needs.
    Defaults,
    /// The same for every client.
    Equal,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What may be buffered with [`Settings::Equal`], in bytes of records: the default of Java and most others.
pub const BUFFER_BYTES: usize = 32 << 20;

/// What the harness asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is measured.
    pub mode: Mode,
    /// Which client, or which of its variants.
    pub client: String,
    /// The address of a broker.
    pub bootstrap: String,
    /// The topic, which exists.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Whose settings are used.
    pub settings: Settings,
    /// How long a batch waits for more records. Like the three below, meant for [`Settings::Equal`] only.
    pub linger: Duration,
    /// How large a batch may become.
    pub batch_bytes: usize,
    /// How batches are compressed.
    pub codec: Codec,
    /// How many requests may be unanswered.
    pub in_flight: usize,
    /// Bytes of a value.
    pub size: usize,
    /// Bytes of a key.
    pub key: usize,
    /// Records a second; 0 is as many as possible.
    pub rate: u64,
    /// Tasks that produce, on one client.
    pub tasks: usize,
    /// How long to run before the window.
    pub warmup: Duration,
    /// The window.
    pub seconds: Duration,
    /// Records in the topic to be read; 0 reads until the window is over.
    pub records: u64,
    /// When the process was started, in ns since 1970.
    pub epoch_ns: Option<u128>,
}

impl Mode {
    /// Its name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Latency => "latency",
            Self::Consume => "consume",
            Self::Start => "start",
            Self::Memory => "memory",
        }
    }
}

impl Codec {
    /// Its name on the command line and in Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Options {
    /// Whether the common settings are to be set.
    pub fn equal(&self) -> bool {
        self.settings == Settings::Equal
    }

    /// Reads the command line without the program's name.
    ///
    /// # Errors
    /// An argument that is not known, or does not fit.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut options = Self {
            mode: Mode::Produce,
            client: String::new(),
            bootstrap: String::new(),
            topic: String::new(),
            partitions: 1,
            settings: Settings::Defaults,
            linger: Duration::from_micros(5000),
            batch_bytes: 16384,
            codec: Codec::None,
            in_flight: 5,
            size: 100,
            key: 16,
            rate: 0,
            tasks: 1,
            warmup: Duration::from_secs(1),
            seconds: Duration::from_secs(5),
            records: 0,
            epoch_ns: None,
        };
        let mut mode = None;
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Value(name) if mode.is_none() => mode = Some(name.parse()?),
                Long(name) => {
                    let name = name.to_owned();
                    options.set(&name, &parser.value()?.string()?)?;
                }
                Short(_) | Value(_) => return Err(argument.unexpected().into()),
            }
        }
        options.mode =
            mode.ok_or_else(|| Error::failed("no mode: produce, latency, consume, start, memory"))?;
        for (name, value) in
            [("client", &options.client), ("bootstrap", &options.bootstrap), ("topic", &options.topic)]
        {
            if value.is_empty() {
                return Err(Error::failed(format_args!("--{name} is missing")));
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "client" => self.client = value.into(),
            "bootstrap" => self.bootstrap = value.into(),
            "topic" => self.topic = value.into(),
            "partitions" => self.partitions = number(name, value)?,
            "settings" => self.settings = number(name, value)?,
            "linger-us" => self.linger = Duration::from_micros(number(name, value)?),
            "batch-bytes" => self.batch_bytes = number(name, value)?,
            "codec" => self.codec = number(name, value)?,
            "in-flight" => self.in_flight = number(name, value)?,
            "size" => self.size = number(name, value)?,
            "key" => self.key = number(name, value)?,
            "rate" => self.rate = number(name, value)?,
            "tasks" => self.tasks = number(name, value)?,
            "warmup" => self.warmup = seconds(name, value)?,
            "seconds" => self.seconds = seconds(name, value)?,
            "records" => self.records = number(name, value)?,
            "epoch-ns" => self.epoch_ns = Some(number(name, value)?),
            _ => return Err(Error::failed(format_args!("unknown option --{name}"))),
        }
        Ok(())
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| Error::failed(format_args!("--{name} {value}: not a value for it")))
}

fn seconds(name: &str, value: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(number(name, value)?)?)
}

/// A word that is none of those known.
#[derive(Debug)]
pub struct UnknownWord;

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not one of the known words")
    }
}

impl std::error::Error for UnknownWord {}

impl FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        [Self::Produce, Self::Latency, Self::Consume, Self::Start, Self::Memory]
            .into_iter()
            .find(|mode| mode.name() == word)
            .ok_or(UnknownWord)
    }
}

impl FromStr for Codec {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.name() == word).ok_or(UnknownWord)
    }
}

impl FromStr for Settings {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        match word {
            "defaults" => Ok(Self::Defaults),
            "equal" => Ok(Self::Equal),
            _ => Err(UnknownWord),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_line_of_the_contract_is_understood() {
        let line = "latency --client ours --bootstrap h:1 --topic t --partitions 16 --settings equal \
                    --linger-us 0 --batch-bytes 1048576 --codec lz4 --in-flight 3 --size 10 --key 8 --rate 20000 \
                    --tasks 2 --warmup 0.5 --seconds 2.25 --records 7 --epoch-ns 1790000000000000000";
        let options = parse(line).unwrap();
        assert_eq!(
            (options.mode, options.codec, options.settings),
            (Mode::Latency, Codec::Lz4, Settings::Equal)
        );
        assert_eq!((options.partitions, options.batch_bytes, options.in_flight), (16, 1 << 20, 3));
        assert_eq!(
            (options.warmup, options.seconds),
            (Duration::from_millis(500), Duration::from_millis(2250))
        );
        assert_eq!(options.epoch_ns, Some(1_790_000_000_000_000_000));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let told = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(told("produce --client x --bootstrap h:1"), "--topic is missing");
        assert_eq!(told("produce --codec brotli"), "--codec brotli: not a value for it");
        assert_eq!(told("produce --turbo 1"), "unknown option --turbo");
    }
}
