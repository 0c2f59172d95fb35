//! What a consumer can be told: typed settings with Java's names and defaults, checked at build.

use std::sync::Arc;
use std::time::Duration;

use kafka_client::properties::{Setting, value};
use kafka_client::{Error, IsolationLevel, Offset, Result};

use crate::group::assignor::{self, CooperativeStickyAssignor, PartitionAssignor, RangeAssignor};

/// The settings of a consumer, as they stand after [`ConsumerBuilder`](crate::ConsumerBuilder) checked them.
///
/// Defaults are those of the Java consumer 4.x, except where a field says otherwise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// `group.id`: the group to share partitions and commit offsets with. None by default.
    pub group_id: Option<Arc<str>>,
    /// `group.instance.id`: makes this a static member, whose partitions wait for it while it restarts. None by default.
    pub group_instance_id: Option<Arc<str>>,
    /// `session.timeout.ms`: silence after which the group goes on without this member. 45 s.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`. 3 s.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: how long the application may take between two reads before its partitions are given to
    /// others. 5 min.
    pub max_poll_interval: Duration,
    /// `partition.assignment.strategy`, by preference: range, cooperative-sticky.
    pub assignors: Vec<Arc<dyn PartitionAssignor>>,
    /// Where to start in a partition without a committed offset; `None` makes that a typed error. The end.
    ///
    /// The first half of `auto.offset.reset`.
    pub start_at: Option<Offset>,
    /// Where to go when the position has fallen out of the log, or the log was truncated below it; `None` makes that a
    /// typed error, so that nothing is skipped in silence. `None`.
    ///
    /// The second half of `auto.offset.reset`, which sets both: Java's default there is `latest`.
    pub out_of_range: Option<Offset>,
    /// `enable.auto.commit`: commit what the application is done with, in the background. On where there is a group.
    pub auto_commit: bool,
    /// `auto.commit.interval.ms`. 5 s.
    pub auto_commit_interval: Duration,
    /// `isolation.level`. Read uncommitted.
    pub isolation: IsolationLevel,
    /// `fetch.min.bytes`: how much a broker collects before it answers, if that takes no longer than
    /// [`fetch_max_wait`](Self::fetch_max_wait). 1 B.
    pub fetch_min_bytes: usize,
    /// `fetch.max.wait.ms`. 500 ms.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: the most that one answer holds, a single larger batch excepted. 50 MiB. Asked for are 4 MiB, what
    /// caches hold, and more where records are waited for and answers are slow.
    pub fetch_max_bytes: usize,
    /// `max.partition.fetch.bytes`: the most of one partition in one answer, a single larger batch excepted. 1 MiB.
    pub max_partition_fetch_bytes: usize,
    /// `queued.max.messages.kbytes` of librdkafka, in bytes: the most memory that answers fetched ahead of the
    /// application take, give or take `max.partition.fetch.bytes` for each broker. Java has no such bound; 50 MiB.
    pub max_buffered_bytes: usize,
    /// The most that one batch may decompress to, so that a hostile one cannot take all memory. 128 MiB.
    pub max_decompressed_bytes: usize,
    /// `check.crcs`: compare the checksum of every batch. On.
    pub check_crcs: bool,
    /// `client.rack`: where this consumer is, so that it may read from a replica close by (KIP-392). None by default.
    pub rack: Option<Arc<str>>,
    /// `allow.auto.create.topics`: let the broker create topics that are subscribed to and do not exist. Off, unlike
    /// Java's: a typo should not make a topic.
    pub allow_auto_create_topics: bool,
    /// `exclude.internal.topics`: leave Kafka's own topics out of what a pattern matches. On.
    pub exclude_internal_topics: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            assignors: vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor)],
            start_at: Some(Offset::Latest),
            out_of_range: None,
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            isolation: IsolationLevel::ReadUncommitted,
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            max_buffered_bytes: 50 << 20,
            max_decompressed_bytes: 128 << 20,
            check_crcs: true,
            rack: None,
            allow_auto_create_topics: false,
            exclude_internal_topics: true,
        }
    }
}

impl ConsumerConfig {
    /// Checks every setting, alone and beside the others.
    ///
    /// # Errors
    /// The first one that cannot work, by name, with its value and a remedy.
    pub fn validate(&self) -> Result<()> {
        let millis = |duration: Duration| duration.as_millis();
        for (name, text) in [("group.id", &self.group_id), ("group.instance.id", &self.group_instance_id)] {
            if let Some(text) = text
                && !(1..=i16::MAX as usize).contains(&text.len())
            {
                return Err(Error::config(
                    name,
                    shorten(text),
                    "give between 1 and 32767 bytes, or leave it out",
                ));
            }
        }
        if self.group_instance_id.is_some() && self.group_id.is_none() {
            let id = self.group_instance_id.as_deref().unwrap_or_default();
            return Err(Error::config("group.instance.id", id, "give a group.id too, or leave it out"));
        }
        for (name, value) in [
            ("session.timeout.ms", self.session_timeout),
            ("heartbeat.interval.ms", self.heartbeat_interval),
            ("max.poll.interval.ms", self.max_poll_interval),
            ("auto.commit.interval.ms", self.auto_commit_interval),
        ] {
            if !(1..=i32::MAX as u128).contains(&millis(value)) {
                return Err(Error::config(name, millis(value), "give between 1 and 2147483647 ms"));
            }
        }
        if self.heartbeat_interval >= self.session_timeout {
            let remedy = "give less than session.timeout.ms, best a third of it, so that one lost heartbeat is no death";
            return Err(Error::config("heartbeat.interval.ms", millis(self.heartbeat_interval), remedy));
        }
        if self.assignors.is_empty() {
            return Err(Error::config("partition.assignment.strategy", "", "name at least one strategy"));
        }
        if millis(self.fetch_max_wait) > i32::MAX as u128 {
            return Err(Error::config(
                "fetch.max.wait.ms",
                millis(self.fetch_max_wait),
                "give at most 2147483647 ms",
            ));
        }
        for (name, bytes, least) in [
            ("fetch.min.bytes", self.fetch_min_bytes, 0),
            ("fetch.max.bytes", self.fetch_max_bytes, 1),
            ("max.partition.fetch.bytes", self.max_partition_fetch_bytes, 1),
            ("queued.max.messages.kbytes", self.max_buffered_bytes, 1),
            ("max.decompressed.bytes", self.max_decompressed_bytes, 1),
        ] {
            if !(least..=i32::MAX as usize).contains(&bytes) {
                return Err(Error::config(name, bytes, format!("give between {least} and 2147483647 bytes")));
            }
        }
        Ok(())
    }
}

fn shorten(text: &str) -> String {
    if text.len() <= 64 { text.to_owned() } else { text.chars().take(32).collect::<String>() + "…" }
}

/// The consumer's property names: Java's first, librdkafka's as aliases.
pub const SETTINGS: &[Setting<ConsumerConfig>] = &[
    Key::new("group.id", "", |config, text| {
        config.group_id = (!text.is_empty()).then(|| text.into());
        Ok(())
    }),
    Key::new("group.instance.id", "", |config, text| {
        config.group_instance_id = (!text.is_empty()).then(|| text.into());
        Ok(())
    }),
    Key::new("group.protocol", "classic", |_, text| value::one_of(text, &[("classic", ())])),
    Key::new("session.timeout.ms", "45000", |config, text| {
        value::milliseconds(text).map(|value| config.session_timeout = value)
    }),
    Key::new("heartbeat.interval.ms", "3000", |config, text| {
        value::milliseconds(text).map(|value| config.heartbeat_interval = value)
    }),
    Key::new("max.poll.interval.ms", "300000", |config, text| {
        value::milliseconds(text).map(|value| config.max_poll_interval = value)
    }),
    Key::new("partition.assignment.strategy", "range,cooperative-sticky", |config, text| {
        let assignors = text.split(',').map(|name| {
            let name = name.trim();
            let name = name.rsplit('.').next().unwrap_or(name);
            assignor::by_name(name).ok_or_else(|| {
                "give a list of range, roundrobin, sticky, cooperative-sticky, or Java's class names of them".to_owned()
            })
        });
        config.assignors = assignors.collect::<std::result::Result<_, String>>()?;
        Ok(())
    })
    .librdkafka("range,roundrobin"),
    Key::new("auto.offset.reset", "latest for a first start, and an error out of range", |config, text| {
        let place = value::one_of(
            text,
            &[
                ("latest", Some(Offset::Latest)),
                ("earliest", Some(Offset::Earliest)),
                ("none", None),
                ("largest", Some(Offset::Latest)),
                ("end", Some(Offset::Latest)),
                ("smallest", Some(Offset::Earliest)),
                ("beginning", Some(Offset::Earliest)),
                ("error", None),
            ],
        )?;
        config.start_at = place;
        config.out_of_range = place;
        Ok(())
    })
    .java("latest")
    .librdkafka("largest"),
    Key::new("enable.auto.commit", "true", |config, text| {
        value::boolean(text).map(|value| config.auto_commit = value)
    }),
    Key::new("auto.commit.interval.ms", "5000", |config, text| {
        value::milliseconds(text).map(|value| config.auto_commit_interval = value)
    }),
    Key::new("isolation.level", "read_uncommitted", |config, text| {
        config.isolation = value::one_of(
            text,
            &[
                ("read_uncommitted", IsolationLevel::ReadUncommitted),
                ("read_committed", IsolationLevel::ReadCommitted),
            ],
        )?;
        Ok(())
    })
    .librdkafka("read_committed"),
    Key::new("fetch.min.bytes", "1", |config, text| {
        value::bytes(text).map(|value| config.fetch_min_bytes = value)
    }),
    Key::new("fetch.max.wait.ms", "500", |config, text| {
        value::milliseconds(text).map(|value| config.fetch_max_wait = value)
    })
    .aliases(&["fetch.wait.max.ms"]),
    Key::new("fetch.max.bytes", "52428800", |config, text| {
        value::bytes(text).map(|value| config.fetch_max_bytes = value)
    }),
    Key::new("max.partition.fetch.bytes", "1048576", |config, text| {
        value::bytes(text).map(|value| config.max_partition_fetch_bytes = value)
    })
    .aliases(&["fetch.message.max.bytes"]),
    Key::new("queued.max.messages.kbytes", "51200", |config, text| {
        value::number(text, 1..=2_097_151_usize).map(|value| config.max_buffered_bytes = value << 10)
    })
    .librdkafka("65536")
    .not_in_java(),
    Key::new("check.crcs", "true", |config, text| {
        value::boolean(text).map(|value| config.check_crcs = value)
    })
    .librdkafka("false"),
    Key::new("client.rack", "", |config, text| {
        config.rack = (!text.is_empty()).then(|| text.into());
        Ok(())
    }),
    Key::new("allow.auto.create.topics", "false", |config, text| {
        value::boolean(text).map(|value| config.allow_auto_create_topics = value)
    })
    .java("true"),
    Key::new("exclude.internal.topics", "true", |config, text| {
        value::boolean(text).map(|value| config.exclude_internal_topics = value)
    })
    .not_in_librdkafka(),
];

type Key = Setting<ConsumerConfig>;

#[cfg(test)]
mod tests {
    use kafka_client::ErrorKind;
    use kafka_client::properties::{self, Properties, Role};

    use super::*;

    fn setting_of(error: &Error) -> &str {
        match error.kind() {
            ErrorKind::Config { setting, .. } => setting,
            other => panic!("not a configuration error: {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        ConsumerConfig::default().validate().unwrap();
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        type Spoil = fn(&mut ConsumerConfig);
        let cases: [(&str, Spoil); 7] = [
            ("group.id", |config| config.group_id = Some("".into())),
            ("group.instance.id", |config| config.group_instance_id = Some("one".into())),
            ("heartbeat.interval.ms", |config| config.heartbeat_interval = Duration::from_secs(45)),
            ("session.timeout.ms", |config| config.session_timeout = Duration::ZERO),
            ("partition.assignment.strategy", |config| config.assignors.clear()),
            ("fetch.max.bytes", |config| config.fetch_max_bytes = 0),
            ("max.partition.fetch.bytes", |config| config.max_partition_fetch_bytes = usize::MAX),
        ];
        for (setting, spoil) in cases {
            let mut config = ConsumerConfig::default();
            spoil(&mut config);
            assert_eq!(setting_of(&config.validate().unwrap_err()), setting);
        }
    }

    #[test]
    fn every_default_in_the_table_is_the_default_of_the_struct_but_for_the_reset_policy() {
        let mut from_table = ConsumerConfig::default();
        for setting in SETTINGS.iter().filter(|setting| setting.name() != "auto.offset.reset") {
            let properties: Properties = [(setting.name(), setting.default_value())].into_iter().collect();
            properties::apply(std::slice::from_ref(setting), Role::Consumer, &properties, &mut from_table)
                .check()
                .unwrap();
        }
        assert_eq!(format!("{from_table:?}"), format!("{:?}", ConsumerConfig::default()));
    }

    #[test]
    fn a_reset_policy_that_is_set_is_java_s_and_the_default_is_reported_to_be_another() {
        let mut config = ConsumerConfig::default();
        let report = properties::apply(SETTINGS, Role::Consumer, &Properties::default(), &mut config);
        let differs = report.different_defaults().iter().find(|default| default.key == "auto.offset.reset");
        assert_eq!((differs.unwrap().theirs, config.out_of_range), ("latest", None));
        let set: Properties = [("auto.offset.reset", "latest")].into_iter().collect();
        properties::apply(SETTINGS, Role::Consumer, &set, &mut config).check().unwrap();
        assert_eq!(config.out_of_range, Some(Offset::Latest));
    }

    #[test]
    fn java_class_names_of_strategies_are_understood() {
        let mut config = ConsumerConfig::default();
        let text = "org.apache.kafka.clients.consumer.StickyAssignor, range";
        let properties: Properties = [("partition.assignment.strategy", text)].into_iter().collect();
        properties::apply(SETTINGS, Role::Consumer, &properties, &mut config).check().unwrap();
        let names: Vec<_> = config.assignors.iter().map(|assignor| assignor.name()).collect();
        assert_eq!(names, ["sticky", "range"]);
    }
}
