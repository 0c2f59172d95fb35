//! What a [`Producer`](crate::Producer) can be told: typed settings with Java's names and defaults, checked at build.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::error::{Error, Result};
use kafka_client::properties::{Setting, value};
use kafka_wire::compression::{Compression, Compressor};

use crate::partitioner::{ByKey, IgnoreKeys, Partitioner};

/// The settings of a producer, as they stand after [`ProducerBuilder`](crate::ProducerBuilder) checked them.
///
/// Defaults are those of the Java client 4.x, but for [`batch_size`](Self::batch_size). How long a single request may take, and the waits between attempts, are
/// the client's: `request.timeout.ms`, `retry.backoff.ms` and `retry.backoff.max.ms`.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// `acks`: who must have a record before it counts as written. All in-sync replicas.
    pub acks: Acks,
    /// `enable.idempotence`: whether brokers recognise a record that is sent twice. On by default, and off by default
    /// with an [`acks`](Self::acks) that rules it out.
    pub idempotence: Option<bool>,
    /// `max.in.flight.requests.per.connection`: how many requests to one broker may be unanswered; 1 to 5 with
    /// idempotence. 5.
    pub max_in_flight: usize,
    /// `retries`: how often a batch is sent again at most. Without a limit but [`delivery_timeout`](Self::delivery_timeout).
    pub retries: u32,
    /// `delivery.timeout.ms`: how long a record may take from being accepted to being acknowledged. 2 min.
    pub delivery_timeout: Duration,
    /// `linger.ms`: how long a batch waits for more records. 5 ms.
    pub linger: Duration,
    /// `batch.size`: how large a batch may become, in bytes before compression and within [`buffer_memory`](Self::buffer_memory).
    /// A larger record travels alone. 256 KiB.
    ///
    /// Java's 16 KiB (librdkafka has 1,000,000 bytes) is for buffers that have that size from the start. Here they grow
    /// with what is in them, and batches still leave after [`linger`](Self::linger), so a large limit costs only those
    /// who fill it, and saves them CPU time and round trips.
    pub batch_size: usize,
    /// `max.request.size`: how large a request, and so a record, may become, in bytes. 1 MiB.
    pub max_request_size: usize,
    /// `buffer.memory`: how much the batches that are not acknowledged may take, in bytes. 32 MiB.
    pub buffer_memory: usize,
    /// `max.block.ms`: how long a send may wait for room and for a topic's partitions to become known. 1 min.
    pub max_block: Duration,
    /// `compression.type`: how batches are compressed. Not at all.
    pub compression: Compression,
    /// `compression.gzip.level`: 1 to 9. 6.
    pub gzip_level: Option<i32>,
    /// `compression.lz4.level`: only the one that Java calls 9.
    pub lz4_level: Option<i32>,
    /// `compression.zstd.level`: 1, or with the feature `zstd` -131072 to 22 and by default 3.
    pub zstd_level: Option<i32>,
    /// `partitioner.adaptive.partitioning.enable`: whether records without key prefer partitions with short queues. Yes.
    pub adaptive_partitioning: bool,
    /// `allow.auto.create.topics`: whether brokers that are configured to may create a topic that a record names. Yes.
    pub allow_auto_create_topics: bool,
    /// `partitioner.class`: who chooses partitions. [`ByKey`].
    pub partitioner: Arc<dyn Partitioner>,
}

/// Who must have a record before it counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acks {
    /// Nobody: it counts once it is handed to the connection, and its offset stays unknown. It may be lost.
    None,
    /// The partition's leader. It is lost if the leader fails before a follower has it.
    Leader,
    /// All in-sync replicas. Needed for idempotence.
    #[default]
    All,
}

impl Acks {
    pub(crate) fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: None,
            max_in_flight: 5,
            retries: i32::MAX as u32,
            delivery_timeout: Duration::from_secs(120),
            linger: Duration::from_millis(5),
            batch_size: 256 * 1024,
            max_request_size: 1024 * 1024,
            buffer_memory: 32 * 1024 * 1024,
            max_block: Duration::from_secs(60),
            compression: Compression::None,
            gzip_level: None,
            lz4_level: None,
            zstd_level: None,
            adaptive_partitioning: true,
            allow_auto_create_topics: true,
            partitioner: Arc::new(ByKey),
        }
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerConfig")
            .field("acks", &self.acks)
            .field("idempotence", &self.is_idempotent())
            .field("max_in_flight", &self.max_in_flight)
            .field("retries", &self.retries)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("linger", &self.linger)
            .field("batch_size", &self.batch_size)
            .field("max_request_size", &self.max_request_size)
            .field("buffer_memory", &self.buffer_memory)
            .field("max_block", &self.max_block)
            .field("compression", &self.compression)
            .field("compression_level", &self.compression_level())
            .field("adaptive_partitioning", &self.adaptive_partitioning)
            .field("allow_auto_create_topics", &self.allow_auto_create_topics)
            .finish_non_exhaustive()
    }
}

/// The least `buffer.memory`, in bytes: enough for some record.
const LEAST_MEMORY: usize = 1024;

impl ProducerConfig {
    /// Whether brokers recognise a record that is sent twice.
    pub fn is_idempotent(&self) -> bool {
        self.idempotence.unwrap_or(self.acks == Acks::All && self.retries > 0 && self.max_in_flight <= 5)
    }

    /// Checks every setting, alone and beside the others and the client's `request_timeout`.
    ///
    /// # Errors
    /// The first one that cannot work, by name, with its value and a remedy.
    pub fn validate(&self, request_timeout: Duration) -> Result<()> {
        if self.idempotence == Some(true) {
            if self.acks != Acks::All {
                let remedy = "give all, or turn enable.idempotence off";
                return Err(Error::config("acks", self.acks.id(), remedy));
            }
            if self.retries == 0 {
                let remedy = "give at least 1, or turn enable.idempotence off";
                return Err(Error::config("retries", 0, remedy));
            }
        }
        let in_flight = "max.in.flight.requests.per.connection";
        if self.max_in_flight == 0 {
            return Err(Error::config(in_flight, 0, "give at least 1"));
        }
        if self.is_idempotent() && self.max_in_flight > 5 {
            let remedy = "give at most 5, or turn enable.idempotence off: a broker remembers 5 batches";
            return Err(Error::config(in_flight, self.max_in_flight, remedy));
        }
        let least = self.linger.saturating_add(request_timeout);
        if self.delivery_timeout < least {
            let remedy =
                format!("give at least {} ms, which is linger.ms + request.timeout.ms", least.as_millis());
            return Err(Error::config("delivery.timeout.ms", self.delivery_timeout.as_millis(), remedy));
        }
        let largest = i32::MAX as usize;
        for (name, bytes, minimum) in
            [("batch.size", self.batch_size, 1), ("max.request.size", self.max_request_size, 1)]
        {
            if !(minimum..=largest).contains(&bytes) {
                return Err(Error::config(name, bytes, "give between 1 and 2147483647 bytes"));
            }
        }
        if self.buffer_memory < LEAST_MEMORY {
            let remedy =
                format!("give at least {LEAST_MEMORY} bytes, and no less than the largest record has");
            return Err(Error::config("buffer.memory", self.buffer_memory, remedy));
        }
        self.compressor().map(drop)
    }

    /// The level for the codec in use, if one was set.
    pub(crate) fn compression_level(&self) -> Option<i32> {
        match self.compression {
            Compression::Gzip => self.gzip_level,
            Compression::Lz4 => self.lz4_level,
            Compression::Zstd => self.zstd_level,
            _ => None,
        }
    }

    /// What compresses batches; `None` if nothing does.
    pub(crate) fn compressor(&self) -> Result<Option<Compressor>> {
        if self.compression == Compression::None {
            return Ok(None);
        }
        let level = self.compression_level();
        Compressor::new(self.compression, level).map(Some).map_err(|error| {
            let setting = format!("compression.{}.level", self.compression);
            Error::config(setting, level.unwrap_or_default(), error.to_string())
        })
    }
}

/// The producer's property names: Java's first, librdkafka's as aliases.
pub const SETTINGS: &[Setting<ProducerConfig>] = &[
    Key::new("acks", "all", |config, text| {
        let acks = [("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)];
        value::one_of(text, &acks).map(|acks| config.acks = acks)
    })
    .aliases(&["request.required.acks"]),
    Key::new("enable.idempotence", "true", |config, text| {
        value::boolean(text).map(|on| config.idempotence = Some(on))
    })
    .librdkafka("false"),
    Key::new("max.in.flight.requests.per.connection", "5", |config, text| {
        value::number(text, 1..=i32::MAX as usize).map(|requests| config.max_in_flight = requests)
    })
    .aliases(&["max.in.flight"])
    .librdkafka("1000000"),
    Key::new("retries", "2147483647", |config, text| {
        value::number(text, 0..=i32::MAX as u32).map(|retries| config.retries = retries)
    })
    .aliases(&["message.send.max.retries"]),
    Key::new("delivery.timeout.ms", "120000", |config, text| {
        value::milliseconds(text).map(|time| config.delivery_timeout = time)
    })
    .aliases(&["message.timeout.ms"])
    .librdkafka("300000"),
    Key::new("linger.ms", "5", |config, text| {
        // librdkafka's may have a fraction.
        let milliseconds = text.parse::<f64>().ok().filter(|value| (0.0..1e12).contains(value));
        let milliseconds = milliseconds.ok_or("give milliseconds, 0 or more")?;
        config.linger = Duration::from_secs_f64(milliseconds / 1000.0);
        Ok(())
    })
    .aliases(&["queue.buffering.max.ms"]),
    Key::new("batch.size", "262144", |config, text| {
        value::bytes(text).map(|bytes| config.batch_size = bytes)
    })
    .java("16384")
    .librdkafka("1000000"),
    Key::new("max.request.size", "1048576", |config, text| {
        value::bytes(text).map(|bytes| config.max_request_size = bytes)
    })
    .aliases(&["message.max.bytes"])
    .librdkafka("1000000"),
    Key::new("buffer.memory", "33554432", |config, text| {
        let bytes = text.parse::<usize>().map_err(|_| "give a size in bytes")?;
        config.buffer_memory = bytes;
        Ok(())
    })
    .not_in_librdkafka(),
    Key::new("queue.buffering.max.kbytes", "32768", |config, text| {
        let kilobytes = value::number(text, 1..=i32::MAX as usize)?;
        config.buffer_memory = kilobytes.saturating_mul(1024);
        Ok(())
    })
    .librdkafka("1048576")
    .not_in_java(),
    Key::new("max.block.ms", "60000", |config, text| {
        value::milliseconds(text).map(|time| config.max_block = time)
    })
    .not_in_librdkafka(),
    Key::new("compression.type", "none", |config, text| {
        config.compression = text.parse().map_err(|_| "give none, gzip, snappy, lz4 or zstd")?;
        Ok(())
    })
    .aliases(&["compression.codec"]),
    Key::new("compression.gzip.level", "-1", |config, text| {
        level(text).map(|level| config.gzip_level = level)
    })
    .not_in_librdkafka(),
    Key::new("compression.lz4.level", "9", |config, text| level(text).map(|level| config.lz4_level = level))
        .not_in_librdkafka(),
    Key::new("compression.zstd.level", if cfg!(feature = "zstd") { "3" } else { "1" }, |config, text| {
        level(text).map(|level| config.zstd_level = level)
    })
    .java("3")
    .not_in_librdkafka(),
    Key::new("compression.level", "-1", |config, text| {
        let level = Some(value::number(text, -1..=12)?).filter(|level| *level != -1);
        (config.gzip_level, config.lz4_level, config.zstd_level) = (level, level, level);
        Ok(())
    })
    .not_in_java(),
    Key::new("partitioner.ignore.keys", "false", |config, text| {
        if value::boolean(text)? {
            config.partitioner = Arc::new(IgnoreKeys);
        }
        Ok(())
    })
    .not_in_librdkafka(),
    Key::new("partitioner.adaptive.partitioning.enable", "true", |config, text| {
        value::boolean(text).map(|on| config.adaptive_partitioning = on)
    })
    .not_in_librdkafka(),
    Key::new("partitioner", "murmur2_random", |config, text| {
        let remedy =
            "give murmur2_random (Java's) or random: this producer has no CRC32 or FNV-1a partitioner";
        match text {
            "murmur2" | "murmur2_random" => config.partitioner = Arc::new(ByKey),
            "random" => config.partitioner = Arc::new(IgnoreKeys),
            _ => return Err(remedy.to_owned()),
        }
        Ok(())
    })
    .librdkafka("consistent_random")
    .not_in_java(),
];

type Key = Setting<ProducerConfig>;

fn level(text: &str) -> std::result::Result<Option<i32>, String> {
    value::number(text, i32::MIN..=i32::MAX).map(Some)
}

#[cfg(test)]
mod tests {
    use kafka_client::ErrorKind;
    use kafka_client::properties::{Properties, Role, apply};

    use super::*;
    use crate::partitioner::RecordBytes;

    const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

    fn read(text: &str) -> ProducerConfig {
        let mut config = ProducerConfig::default();
        let report = apply(SETTINGS, Role::Producer, &text.parse().unwrap(), &mut config);
        report.check().unwrap();
        config
    }

    #[test]
    fn the_defaults_are_valid_and_javas_but_for_those_reported() {
        let config = ProducerConfig::default();
        config.validate(REQUEST_TIMEOUT).unwrap();
        assert!(config.is_idempotent());
        let mut applied =
            ProducerConfig { linger: Duration::ZERO, batch_size: 1, ..ProducerConfig::default() };
        let defaults: Properties = SETTINGS
            .iter()
            .filter(|setting| !["compression.lz4.level", "compression.zstd.level"].contains(&setting.name()))
            .map(|setting| (setting.name(), setting.default_value()))
            .collect();
        apply(SETTINGS, Role::Producer, &defaults, &mut applied).check().unwrap();
        applied.gzip_level = None;
        applied.idempotence = None;
        assert_eq!(format!("{applied:?}"), format!("{config:?}"));
        let java = apply(SETTINGS, Role::Producer, &Properties::default(), &mut applied);
        let differing: Vec<_> = java.different_defaults().iter().map(|default| default.key).collect();
        let expected: &[&str] =
            if cfg!(feature = "zstd") { &["batch.size"] } else { &["batch.size", "compression.zstd.level"] };
        assert_eq!(differing, expected);
    }

    #[test]
    fn a_setting_that_cannot_work_is_named_with_its_value() {
        type Spoil = fn(&mut ProducerConfig);
        let cases: [(&str, Spoil); 9] = [
            ("acks", |config| (config.acks, config.idempotence) = (Acks::Leader, Some(true))),
            ("retries", |config| (config.retries, config.idempotence) = (0, Some(true))),
            ("max.in.flight.requests.per.connection", |config| config.max_in_flight = 0),
            ("max.in.flight.requests.per.connection", |config| {
                (config.max_in_flight, config.idempotence) = (6, Some(true));
            }),
            ("delivery.timeout.ms", |config| config.delivery_timeout = Duration::from_secs(30)),
            ("batch.size", |config| config.batch_size = 0),
            ("max.request.size", |config| config.max_request_size = 0),
            ("buffer.memory", |config| config.buffer_memory = 1023),
            ("compression.gzip.level", |config| {
                (config.compression, config.gzip_level) = (Compression::Gzip, Some(12));
            }),
        ];
        for (setting, spoil) in cases {
            let mut config = ProducerConfig::default();
            spoil(&mut config);
            let error = config.validate(REQUEST_TIMEOUT).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Config { setting: name, .. } if name == setting),
                "{setting}: {error}"
            );
        }
    }

    #[test]
    fn idempotence_gives_way_to_settings_that_rule_it_out_unless_it_was_asked_for() {
        for text in ["acks=1", "acks=0", "retries=0", "max.in.flight.requests.per.connection=6"] {
            let config = read(text);
            config.validate(REQUEST_TIMEOUT).unwrap();
            assert!(!config.is_idempotent(), "{text}");
            let demanded = ProducerConfig { idempotence: Some(true), ..config };
            assert!(demanded.validate(REQUEST_TIMEOUT).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_both_clients_are_understood() {
        let config = read(
            "request.required.acks=-1\nqueue.buffering.max.ms=0.5\nmessage.timeout.ms=60000\n\
             queue.buffering.max.kbytes=1024\ncompression.codec=lz4\nmax.in.flight=1\npartitioner=random",
        );
        assert_eq!(config.linger, Duration::from_micros(500));
        assert_eq!(config.delivery_timeout, Duration::from_secs(60));
        assert_eq!((config.buffer_memory, config.max_in_flight), (1 << 20, 1));
        assert_eq!(config.compression, Compression::Lz4);
        let record = RecordBytes { topic: "t", key: Some(b"k"), value: None };
        assert_eq!(config.partitioner.partition(&record, 3), None);
    }

    #[test]
    fn each_codec_keeps_its_own_level_in_whatever_order_they_are_given() {
        let config = read("compression.gzip.level=9\ncompression.zstd.level=1\ncompression.type=gzip");
        assert_eq!(config.compression_level(), Some(9));
        assert_eq!(read("compression.gzip.level=9\ncompression.type=zstd").compression_level(), None);
    }

    #[test]
    fn a_partitioner_that_this_producer_lacks_is_refused_by_name() {
        let mut config = ProducerConfig::default();
        let properties: Properties = "partitioner=consistent_random".parse().unwrap();
        let error =
            apply(SETTINGS, Role::Producer, &properties, &mut config).check().unwrap_err().to_string();
        assert!(error.contains("consistent_random") && error.contains("CRC32"), "{error}");
    }
}
