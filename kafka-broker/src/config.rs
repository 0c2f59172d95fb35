//! Which settings a topic and a broker have, their Kafka 4.3 defaults, and whether a value fits.

use std::collections::BTreeMap;

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A 32-bit integer of at least this.
    Int(i32),
    /// A 64-bit integer of at least this.
    Long(i64),
    /// A number between these two.
    Double(f64, f64),
    /// Any text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A comma-separated list; of these words if any are given.
    List(&'static [&'static str]),
}

impl Kind {
    /// The `config_type` of DescribeConfigs.
    pub(crate) fn type_code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text | Self::OneOf(_) => 2,
            Self::Int(_) => 3,
            Self::Long(_) => 5,
            Self::Double(..) => 6,
            Self::List(_) => 7,
        }
    }
}

/// One setting.
#[derive(Debug, PartialEq)]
pub(crate) struct ConfigDef {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
    /// For a topic setting: the broker setting that gives its default.
    pub(crate) broker_name: Option<&'static str>,
    /// Fixed once the broker has started.
    pub(crate) read_only: bool,
}

const fn topic(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    broker_name: Option<&'static str>,
) -> ConfigDef {
    ConfigDef { name, default, kind, broker_name, read_only: false }
}

const fn dynamic(name: &'static str, default: &'static str, kind: Kind) -> ConfigDef {
    ConfigDef { name, default, kind, broker_name: None, read_only: false }
}

const fn fixed(name: &'static str, default: &'static str, kind: Kind) -> ConfigDef {
    ConfigDef { name, default, kind, broker_name: None, read_only: true }
}

const FOREVER: &str = "9223372036854775807";
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const CLIENT_AUTH: &[&str] = &["none", "requested", "required"];
const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
const PROTOCOL_MAP: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";
const TLS_VERSIONS: &[&str] = &["TLSv1.2", "TLSv1.3"];
const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
const POLICIES: &[&str] = &["compact", "delete"];
/// What Kafka calls the one authorizer that there is.
pub(crate) const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const AUTHORIZERS: &[&str] = &["", AUTHORIZER];
const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

/// Every setting of a topic, by name. Those about disks, cleaning and retention are kept and described, not acted on.
pub(crate) static TOPIC_CONFIGS: &[ConfigDef] = &[
    topic("cleanup.policy", "delete", Kind::List(POLICIES), Some("log.cleanup.policy")),
    topic("compression.gzip.level", "-1", Kind::Int(-1), Some("compression.gzip.level")),
    topic("compression.lz4.level", "9", Kind::Int(1), Some("compression.lz4.level")),
    topic("compression.type", "producer", Kind::OneOf(CODECS), Some("compression.type")),
    topic("compression.zstd.level", "3", Kind::Int(-131_072), Some("compression.zstd.level")),
    topic("delete.retention.ms", "86400000", Kind::Long(0), Some("log.cleaner.delete.retention.ms")),
    topic("file.delete.delay.ms", "60000", Kind::Long(0), Some("log.segment.delete.delay.ms")),
    topic("flush.messages", FOREVER, Kind::Long(1), Some("log.flush.interval.messages")),
    topic("flush.ms", FOREVER, Kind::Long(0), Some("log.flush.interval.ms")),
    topic("follower.replication.throttled.replicas", "", Kind::List(&[]), None),
    topic("index.interval.bytes", "4096", Kind::Int(0), Some("log.index.interval.bytes")),
    topic("leader.replication.throttled.replicas", "", Kind::List(&[]), None),
    topic("local.retention.bytes", "-2", Kind::Long(-2), Some("log.local.retention.bytes")),
    topic("local.retention.ms", "-2", Kind::Long(-2), Some("log.local.retention.ms")),
    topic("max.compaction.lag.ms", FOREVER, Kind::Long(1), Some("log.cleaner.max.compaction.lag.ms")),
    topic("max.message.bytes", "1048588", Kind::Int(0), Some("message.max.bytes")),
    topic(
        "message.timestamp.after.max.ms",
        "3600000",
        Kind::Long(0),
        Some("log.message.timestamp.after.max.ms"),
    ),
    topic(
        "message.timestamp.before.max.ms",
        FOREVER,
        Kind::Long(0),
        Some("log.message.timestamp.before.max.ms"),
    ),
    topic(
        "message.timestamp.type",
        "CreateTime",
        Kind::OneOf(TIMESTAMP_TYPES),
        Some("log.message.timestamp.type"),
    ),
    topic(
        "min.cleanable.dirty.ratio",
        "0.5",
        Kind::Double(0.0, 1.0),
        Some("log.cleaner.min.cleanable.ratio"),
    ),
    topic("min.compaction.lag.ms", "0", Kind::Long(0), Some("log.cleaner.min.compaction.lag.ms")),
    topic("min.insync.replicas", "1", Kind::Int(1), Some("min.insync.replicas")),
    topic("preallocate", "false", Kind::Boolean, Some("log.preallocate")),
    topic("remote.log.copy.disable", "false", Kind::Boolean, None),
    topic("remote.log.delete.on.disable", "false", Kind::Boolean, None),
    topic("remote.storage.enable", "false", Kind::Boolean, None),
    topic("retention.bytes", "-1", Kind::Long(-1), Some("log.retention.bytes")),
    topic("retention.ms", "604800000", Kind::Long(-1), Some("log.retention.ms")),
    topic("segment.bytes", "1073741824", Kind::Int(1_048_576), Some("log.segment.bytes")),
    topic("segment.index.bytes", "10485760", Kind::Int(4), Some("log.index.size.max.bytes")),
    topic("segment.jitter.ms", "0", Kind::Long(0), Some("log.roll.jitter.ms")),
    topic("segment.ms", "604800000", Kind::Long(1), Some("log.roll.ms")),
    topic("unclean.leader.election.enable", "false", Kind::Boolean, Some("unclean.leader.election.enable")),
];

/// Every setting of a broker, by name. Where the default is not Kafka's, a comment says why.
pub(crate) static BROKER_CONFIGS: &[ConfigDef] = &[
    fixed("advertised.listeners", "", Kind::Text),
    fixed("allow.everyone.if.no.acl.found", "false", Kind::Boolean),
    // One name turns the authorizer on, as the only one there is.
    fixed("authorizer.class.name", "", Kind::OneOf(AUTHORIZERS)),
    fixed("auto.create.topics.enable", "true", Kind::Boolean),
    dynamic("compression.gzip.level", "-1", Kind::Int(-1)),
    dynamic("compression.lz4.level", "9", Kind::Int(1)),
    dynamic("compression.type", "producer", Kind::OneOf(CODECS)),
    dynamic("compression.zstd.level", "3", Kind::Int(-131_072)),
    // Kafka has no such limit: how long a client may take until it has authenticated, the TLS handshake included.
    fixed("connection.authentication.timeout.ms", "10000", Kind::Int(1)),
    fixed("connection.failed.authentication.delay.ms", "100", Kind::Int(0)),
    fixed("connections.max.idle.ms", "600000", Kind::Long(-1)),
    fixed("connections.max.reauth.ms", "0", Kind::Long(0)),
    fixed("default.replication.factor", "1", Kind::Int(1)),
    fixed("delete.topic.enable", "true", Kind::Boolean),
    fixed("fetch.max.bytes", "57671680", Kind::Int(1024)),
    // Kafka waits 3000: a test would rather have its group at once.
    fixed("group.initial.rebalance.delay.ms", "0", Kind::Int(0)),
    fixed("group.max.session.timeout.ms", "1800000", Kind::Int(1)),
    // Kafka has no limit: here a hostile client could otherwise fill the memory of a test.
    fixed("group.max.size", "1000", Kind::Int(1)),
    fixed("group.min.session.timeout.ms", "6000", Kind::Int(1)),
    // Brokers of one process do not talk over the network: kept and described, not acted on, as the two further below.
    fixed("inter.broker.listener.name", "", Kind::Text),
    fixed("listener.security.protocol.map", PROTOCOL_MAP, Kind::Text),
    fixed("listeners", "PLAINTEXT://:9092", Kind::Text),
    dynamic("log.cleaner.delete.retention.ms", "86400000", Kind::Long(0)),
    dynamic("log.cleaner.max.compaction.lag.ms", FOREVER, Kind::Long(1)),
    dynamic("log.cleaner.min.cleanable.ratio", "0.5", Kind::Double(0.0, 1.0)),
    dynamic("log.cleaner.min.compaction.lag.ms", "0", Kind::Long(0)),
    dynamic("log.cleanup.policy", "delete", Kind::List(POLICIES)),
    dynamic("log.flush.interval.messages", FOREVER, Kind::Long(1)),
    dynamic("log.flush.interval.ms", FOREVER, Kind::Long(0)),
    dynamic("log.index.interval.bytes", "4096", Kind::Int(0)),
    dynamic("log.index.size.max.bytes", "10485760", Kind::Int(4)),
    dynamic("log.local.retention.bytes", "-2", Kind::Long(-2)),
    dynamic("log.local.retention.ms", "-2", Kind::Long(-2)),
    dynamic("log.message.timestamp.after.max.ms", "3600000", Kind::Long(0)),
    dynamic("log.message.timestamp.before.max.ms", FOREVER, Kind::Long(0)),
    dynamic("log.message.timestamp.type", "CreateTime", Kind::OneOf(TIMESTAMP_TYPES)),
    dynamic("log.preallocate", "false", Kind::Boolean),
    dynamic("log.retention.bytes", "-1", Kind::Long(-1)),
    dynamic("log.retention.ms", "604800000", Kind::Long(-1)),
    dynamic("log.roll.jitter.ms", "0", Kind::Long(0)),
    dynamic("log.roll.ms", "604800000", Kind::Long(1)),
    dynamic("log.segment.bytes", "1073741824", Kind::Int(1_048_576)),
    dynamic("log.segment.delete.delay.ms", "60000", Kind::Long(0)),
    // Kafka has no limit on these two: they bound what a hostile client can hold open.
    dynamic("max.connections", "1000", Kind::Int(0)),
    dynamic("max.connections.per.ip", "200", Kind::Int(0)),
    fixed("max.incremental.fetch.session.cache.slots", "1000", Kind::Int(0)),
    dynamic("message.max.bytes", "1048588", Kind::Int(0)),
    dynamic("min.insync.replicas", "1", Kind::Int(1)),
    fixed("num.partitions", "1", Kind::Int(1)),
    fixed("offset.metadata.max.bytes", "4096", Kind::Int(0)),
    fixed("offsets.retention.minutes", "10080", Kind::Int(1)),
    // Kafka can change it at any time; here logs keep the value they started with.
    fixed("producer.id.expiration.ms", "86400000", Kind::Int(1)),
    // Kafka's -1 is no limit: half-received frames of all connections share this much memory.
    fixed("queued.max.request.bytes", "268435456", Kind::Long(1_048_576)),
    fixed("quota.window.num", "11", Kind::Int(1)),
    fixed("quota.window.size.seconds", "1", Kind::Int(1)),
    fixed("replica.selector.class", "", Kind::Text),
    // Kafka's is GSSAPI, which this broker does not speak.
    fixed("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512", Kind::List(MECHANISMS)),
    fixed("sasl.mechanism.inter.broker.protocol", "GSSAPI", Kind::Text),
    fixed("sasl.oauthbearer.clock.skew.seconds", "30", Kind::Int(0)),
    fixed("sasl.oauthbearer.expected.audience", "", Kind::List(&[])),
    fixed("sasl.oauthbearer.expected.issuer", "", Kind::Text),
    fixed("sasl.server.max.receive.size", "524288", Kind::Int(1024)),
    fixed("security.inter.broker.protocol", "PLAINTEXT", Kind::OneOf(PROTOCOLS)),
    fixed("socket.request.max.bytes", "104857600", Kind::Int(1024)),
    fixed("ssl.client.auth", "none", Kind::OneOf(CLIENT_AUTH)),
    fixed("ssl.enabled.protocols", "TLSv1.2,TLSv1.3", Kind::List(TLS_VERSIONS)),
    // Kafka has rules made of regular expressions too.
    fixed("ssl.principal.mapping.rules", "DEFAULT", Kind::OneOf(&["DEFAULT"])),
    // Divided by semicolons, as the names of certificates have commas.
    fixed("super.users", "", Kind::Text),
    dynamic("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// The setting of a topic with this name.
pub(crate) fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    TOPIC_CONFIGS.iter().find(|def| def.name == name)
}

/// The setting of a broker with this name.
pub(crate) fn broker_config(name: &str) -> Option<&'static ConfigDef> {
    BROKER_CONFIGS.iter().find(|def| def.name == name)
}

impl ConfigDef {
    /// Says what is wrong with the value, in Kafka's words, or nothing.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let value = value.trim();
        let wrong = |why: &str| Err(format!("Invalid value {value} for configuration {}: {why}", self.name));
        match self.kind {
            Kind::Boolean if matches!(value, "true" | "false") => Ok(()),
            Kind::Boolean => wrong("Expected value to be either true or false"),
            Kind::Int(least) => match value.parse::<i32>() {
                Ok(number) if number >= least => Ok(()),
                Ok(_) => wrong(&format!("Value must be at least {least}")),
                Err(_) => wrong("Not a number of type INT"),
            },
            Kind::Long(least) => match value.parse::<i64>() {
                Ok(number) if number >= least => Ok(()),
                Ok(_) => wrong(&format!("Value must be at least {least}")),
                Err(_) => wrong("Not a number of type LONG"),
            },
            Kind::Double(least, most) => match value.parse::<f64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(()),
                Ok(_) => wrong(&format!("Value must be between {least} and {most}")),
                Err(_) => wrong("Not a number of type DOUBLE"),
            },
            Kind::Text => Ok(()),
            Kind::OneOf(words) if words.contains(&value) => Ok(()),
            Kind::OneOf(words) => wrong(&format!("String must be one of: {}", words.join(", "))),
            Kind::List(words) if words.is_empty() || list(value).all(|word| words.contains(&word)) => Ok(()),
            Kind::List(words) => wrong(&format!("String must be one of: {}", words.join(", "))),
        }
    }
}

/// The entries of a list setting.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Where a value comes from, with the codes of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set on this broker while it runs.
    Broker = 2,
    /// Set on all brokers while they run.
    ClusterDefault = 3,
    /// Given when the cluster was built.
    Static = 4,
    /// Kafka's default.
    Default = 5,
}

/// One value that a setting has or would have: the name it was set under, the value, its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigValue {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// What was set on the brokers of a cluster, at its start or later.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokerConfigs {
    /// Given when the cluster was built.
    pub(crate) fixed: BTreeMap<String, String>,
    /// Set while running, on all brokers (`None`) or on one.
    pub(crate) dynamic: BTreeMap<Option<i32>, BTreeMap<String, String>>,
}

impl BrokerConfigs {
    /// Every value of a broker setting, the one in force first and its default last.
    pub(crate) fn values(&self, broker: i32, def: &'static ConfigDef) -> Vec<ConfigValue> {
        let dynamic = |of: Option<i32>| self.dynamic.get(&of).and_then(|set| set.get(def.name));
        let set = [
            (dynamic(Some(broker)), Source::Broker),
            (dynamic(None), Source::ClusterDefault),
            (self.fixed.get(def.name), Source::Static),
        ];
        set.into_iter()
            .filter_map(|(value, source)| Some((value?.clone(), source)))
            .chain([(def.default.to_owned(), Source::Default)])
            .map(|(value, source)| ConfigValue { name: def.name, value, source })
            .collect()
    }

    /// The value in force on every broker that has no own one.
    pub(crate) fn value(&self, name: &str) -> &str {
        let set = self.dynamic.get(&None).and_then(|set| set.get(name)).or_else(|| self.fixed.get(name));
        set.map_or_else(|| broker_config(name).map_or("", |def| def.default), String::as_str)
    }

    /// [`value`](Self::value) as a number; values were checked when they were set.
    pub(crate) fn number<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        self.value(name).trim().parse().unwrap_or_default()
    }

    /// [`value`](Self::value) as a flag.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.value(name).trim() == "true"
    }

    /// Every value of a topic setting, the one in force first and its default last.
    pub(crate) fn topic_values(
        &self,
        overrides: &BTreeMap<String, String>,
        def: &'static ConfigDef,
    ) -> Vec<ConfigValue> {
        let own = overrides.get(def.name).map(|value| ConfigValue {
            name: def.name,
            value: value.clone(),
            source: Source::Topic,
        });
        let inherited = match def.broker_name.and_then(broker_config) {
            // No broker has this number: only what all brokers share decides.
            Some(broker) => self.values(i32::MIN, broker),
            None => {
                vec![ConfigValue { name: def.name, value: def.default.to_owned(), source: Source::Default }]
            }
        };
        own.into_iter().chain(inherited).collect()
    }
}

/// The settings of one topic that the hot paths act on, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    /// Largest batch, in bytes.
    pub(crate) max_message_bytes: usize,
    /// Records need a key.
    pub(crate) compacted: bool,
    /// Timestamps are set on append.
    pub(crate) log_append_time: bool,
    /// Live replicas that acks=all asks for.
    pub(crate) min_insync_replicas: usize,
    /// How far a timestamp may lie in the past, in milliseconds.
    pub(crate) timestamp_before_max_ms: i64,
    /// How far a timestamp may lie in the future, in milliseconds.
    pub(crate) timestamp_after_max_ms: i64,
}

impl TopicConfig {
    /// What is in force for a topic with these overrides.
    pub(crate) fn resolve(overrides: &BTreeMap<String, String>, brokers: &BrokerConfigs) -> Self {
        let text = |name: &str| -> String {
            let own = overrides.get(name).cloned();
            own.unwrap_or_else(|| {
                let def = topic_config(name);
                let inherited = def.and_then(|def| def.broker_name).map(|broker| brokers.value(broker));
                inherited.or_else(|| def.map(|def| def.default)).unwrap_or_default().to_owned()
            })
        };
        let number = |name: &str| text(name).trim().parse::<i64>().unwrap_or_default();
        let size = |name: &str| usize::try_from(number(name)).unwrap_or_default();
        Self {
            max_message_bytes: size("max.message.bytes"),
            compacted: list(&text("cleanup.policy")).any(|policy| policy == "compact"),
            log_append_time: text("message.timestamp.type").trim() == "LogAppendTime",
            min_insync_replicas: size("min.insync.replicas"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check_and_every_broker_name_exists() {
        for def in TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS) {
            assert_eq!(def.check(def.default), Ok(()), "{}", def.name);
            if let Some(name) = def.broker_name {
                assert_eq!(broker_config(name).map(|broker| broker.default), Some(def.default), "{name}");
            }
        }
        for table in [TOPIC_CONFIGS, BROKER_CONFIGS] {
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted and unique");
        }
    }

    #[test]
    fn a_topic_takes_its_own_value_before_the_brokers_before_the_default() {
        let mut brokers = BrokerConfigs::default();
        let mut overrides = BTreeMap::new();
        let bytes = |brokers: &BrokerConfigs, overrides: &BTreeMap<_, _>| {
            TopicConfig::resolve(overrides, brokers).max_message_bytes
        };
        assert_eq!(bytes(&brokers, &overrides), 1_048_588);
        brokers.fixed.insert("message.max.bytes".into(), "2000".into());
        assert_eq!(bytes(&brokers, &overrides), 2000);
        brokers.dynamic.entry(None).or_default().insert("message.max.bytes".into(), "3000".into());
        assert_eq!(bytes(&brokers, &overrides), 3000);
        overrides.insert("max.message.bytes".into(), "4000".into());
        assert_eq!(bytes(&brokers, &overrides), 4000);
        let def = topic_config("max.message.bytes").unwrap();
        let sources: Vec<_> =
            brokers.topic_values(&overrides, def).into_iter().map(|value| value.source).collect();
        assert_eq!(sources, [Source::Topic, Source::ClusterDefault, Source::Static, Source::Default]);
    }

    #[test]
    fn a_bad_value_is_named_with_its_setting() {
        let retention = topic_config("retention.ms").unwrap();
        assert!(retention.check("soon").unwrap_err().contains("retention.ms"));
        assert!(retention.check("-2").is_err());
        assert!(topic_config("cleanup.policy").unwrap().check("compact,delete").is_ok());
        assert!(topic_config("cleanup.policy").unwrap().check("burn").is_err());
        assert!(topic_config("preallocate").unwrap().check("yes").is_err());
    }
}
