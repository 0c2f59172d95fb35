//! Builds a consumer: what it reads, as what member of which group, how.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::properties::{self, Properties, PropertiesReport, Role};
use kafka_client::{Client, IsolationLevel, Offset, TopicPartition};

use crate::assignor::PartitionAssignor;
use crate::config::{ConsumerConfig, SETTINGS};
use crate::consumer::Consumer;
use crate::error::Result;
use crate::fetch::Fetcher;
use crate::group::{self, GroupConfig};
use crate::handle::ConsumerHandle;
use crate::pattern::{PatternSubscription, Wanted, changes};
use crate::rebalance::{NoListener, Rebalance, RebalanceListener};
use crate::refused_topics::RefusedTopics;
use crate::shared::Shared;
use crate::subscription::{Settings, Subscription};

/// What a consumer reads.
enum Reads {
    Nothing,
    Topics(BTreeSet<Arc<str>>),
    Matching(Wanted),
    Partitions(Vec<TopicPartition>),
}

/// Settings of a consumer to be; see [`ConsumerConfig`] for the defaults, which are Java's but for a few.
#[must_use = "nothing happens before `build`"]
pub struct ConsumerBuilder {
    client: Client,
    config: ConsumerConfig,
    reads: Reads,
    listener: Arc<dyn RebalanceListener>,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            config: ConsumerConfig::default(),
            reads: Reads::Nothing,
            listener: Arc::new(NoListener),
        }
    }

    /// Takes settings under Java's or librdkafka's names, and says what became of each: see [`PropertiesReport`].
    pub fn from_properties(mut self, properties: &Properties) -> (Self, PropertiesReport) {
        let report = properties::apply(SETTINGS, Role::Consumer, properties, &mut self.config);
        (self, report)
    }

    /// Takes all settings at once.
    pub fn config(mut self, config: ConsumerConfig) -> Self {
        self.config = config;
        self
    }

    /// `group.id`: shares the topics' partitions with the other members of this group, and keeps offsets in it.
    pub fn group(mut self, group: impl Into<Arc<str>>) -> Self {
        self.config.group_id = Some(group.into());
        self
    }

    /// `group.instance.id`: makes this a static member, whose partitions wait for it while it restarts.
    pub fn group_instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.config.group_instance_id = Some(id.into());
        self
    }

    /// Reads these topics, sharing their partitions with the group. Needs a [`group`](Self::group).
    pub fn topics<T: Into<Arc<str>>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.reads = Reads::Topics(topics.into_iter().map(Into::into).collect());
        self
    }

    /// Reads the topics whose names the function says yes to, as they come and go; a regular expression's `is_match`,
    /// for one. New topics are noticed with the next refresh of the metadata (`metadata.max.age.ms`). Needs a
    /// [`group`](Self::group).
    pub fn pattern(mut self, wanted: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.reads = Reads::Matching(Box::new(wanted));
        self
    }

    /// Reads these partitions, whoever else does. With a [`group`](Self::group) it starts from that group's offsets, and
    /// can commit them.
    pub fn assign<T: Into<TopicPartition>>(mut self, partitions: impl IntoIterator<Item = T>) -> Self {
        self.reads = Reads::Partitions(partitions.into_iter().map(Into::into).collect());
        self
    }

    /// Where to start in a partition without a committed offset; `None` makes that a typed error. The end by default.
    pub fn start_at(mut self, place: impl Into<Option<Offset>>) -> Self {
        self.config.start_at = place.into();
        self
    }

    /// Where to go when the position has fallen out of the log; `None`, the default, makes that a typed error, so that
    /// nothing is skipped in silence.
    pub fn out_of_range(mut self, place: impl Into<Option<Offset>>) -> Self {
        self.config.out_of_range = place.into();
        self
    }

    /// `enable.auto.commit`: whether to commit in the background what the application is done with. On by default.
    pub fn auto_commit(mut self, on: bool) -> Self {
        self.config.auto_commit = on;
        self
    }

    /// `auto.commit.interval.ms`. 5 s by default.
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.config.auto_commit_interval = interval;
        self
    }

    /// `session.timeout.ms` and `heartbeat.interval.ms`. 45 s and 3 s by default.
    pub fn session(mut self, timeout: Duration, heartbeat_interval: Duration) -> Self {
        self.config.session_timeout = timeout;
        self.config.heartbeat_interval = heartbeat_interval;
        self
    }

    /// `max.poll.interval.ms`. 5 min by default.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.config.max_poll_interval = interval;
        self
    }

    /// `partition.assignment.strategy`, by preference. Range, then cooperative-sticky, by default.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Arc<dyn PartitionAssignor>>) -> Self {
        self.config.assignors = assignors.into_iter().collect();
        self
    }

    /// `isolation.level`. Read uncommitted by default.
    pub fn isolation(mut self, isolation: IsolationLevel) -> Self {
        self.config.isolation = isolation;
        self
    }

    /// `client.rack`: where this consumer is, so that it may read from a replica close by (KIP-392).
    pub fn rack(mut self, rack: impl Into<Arc<str>>) -> Self {
        self.config.rack = Some(rack.into());
        self
    }

    /// `fetch.min.bytes` and `fetch.max.wait.ms`. 1 byte and 500 ms by default.
    pub fn fetch_wait(mut self, min_bytes: usize, max_wait: Duration) -> Self {
        self.config.fetch_min_bytes = min_bytes;
        self.config.fetch_max_wait = max_wait;
        self
    }

    /// The most memory that answers fetched ahead of the application take, give or take
    /// `max.partition.fetch.bytes` for each broker. 50 MiB by default.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.config.max_buffered_bytes = bytes;
        self
    }

    /// `fetch.max.bytes` and `max.partition.fetch.bytes`. 50 MiB and 1 MiB by default.
    pub fn fetch_bytes(mut self, max: usize, max_per_partition: usize) -> Self {
        self.config.fetch_max_bytes = max;
        self.config.max_partition_fetch_bytes = max_per_partition;
        self
    }

    /// The application's part in rebalances.
    pub fn rebalance_listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// Checks the settings and starts the consumer's tasks on the current runtime. Joining the group and fetching go on
    /// in the background; nothing is waited for.
    ///
    /// # Errors
    /// A setting that cannot work, by name.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn build(self) -> Result<Consumer> {
        let Self { client, config, reads, listener } = self;
        config.validate()?;
        check(&config, &reads)?;
        let owner = client.owner();
        let no_topics: [Arc<str>; 0] = [];
        let tracked = match &reads {
            Reads::Matching(_) => client.refresher().track_everything(),
            Reads::Topics(topics) => {
                client.refresher().track(topics.iter().cloned(), config.allow_auto_create_topics)
            }
            _ => client.refresher().track(no_topics, config.allow_auto_create_topics),
        };
        let (group, events) = match &config.group_id {
            Some(id) => {
                let (group, events) = group::spawn(&client, &owner, group_config(&client, id, &config));
                (Some(group), Some(events))
            }
            None => (None, None),
        };
        let subscription = Subscription::new(Settings {
            start_at: config.start_at,
            out_of_range: config.out_of_range,
            partition_bytes: config.max_partition_fetch_bytes,
            answer_bytes: config.fetch_max_bytes,
            max_buffered: config.max_buffered_bytes,
            retry_backoff: client.config().retry_backoff,
        });
        let include_internal = !config.exclude_internal_topics;
        let shared = Shared::new(client, config, group, subscription, tracked);
        let (mut pattern, mut refused) = (None, None);
        match reads {
            Reads::Nothing => {}
            Reads::Topics(topics) => {
                refused = Some(RefusedTopics::new(topics.iter().cloned().collect(), changes(&shared.client)));
                if let Some(group) = &shared.group {
                    group.subscribe(topics);
                }
            }
            Reads::Matching(wanted) => {
                pattern = Some(PatternSubscription::new(wanted, include_internal, changes(&shared.client)));
            }
            Reads::Partitions(partitions) => {
                shared.state().assign(&partitions, shared.group.is_some());
            }
        }
        let fetcher = tokio::spawn(Fetcher::new(Arc::clone(&shared), owner).run());
        let handle = ConsumerHandle::new(shared);
        Ok(Consumer::new(handle, Rebalance::new(events, listener), (pattern, refused), fetcher))
    }
}

/// What is read has to fit the group.
fn check(config: &ConsumerConfig, reads: &Reads) -> Result<()> {
    let shared = matches!(reads, Reads::Topics(_) | Reads::Matching(_));
    if shared && config.group_id.is_none() {
        let remedy = "name a group to share topics with, or assign partitions";
        return Err(kafka_client::Error::config("group.id", "", remedy).into());
    }
    let problem = match reads {
        Reads::Nothing => Some(("topics", "name topics, a pattern or partitions to read")),
        Reads::Topics(topics) if topics.is_empty() => Some(("topics", "name at least one topic")),
        Reads::Topics(topics) if topics.iter().any(|topic| topic.is_empty()) => {
            Some(("topics", "give every topic a name"))
        }
        Reads::Partitions(partitions) if partitions.is_empty() => {
            Some(("assign", "name at least one partition"))
        }
        Reads::Partitions(partitions) if partitions.iter().any(|p| p.partition < 0 || p.topic.is_empty()) => {
            Some(("assign", "give every partition a topic and a number from 0 on"))
        }
        _ => None,
    };
    match problem {
        Some((setting, remedy)) => Err(kafka_client::Error::config(setting, "", remedy).into()),
        None => Ok(()),
    }
}

fn group_config(client: &Client, group: &Arc<str>, config: &ConsumerConfig) -> GroupConfig {
    GroupConfig {
        group: Arc::clone(group),
        instance_id: config.group_instance_id.clone(),
        session_timeout: config.session_timeout,
        heartbeat_interval: config.heartbeat_interval,
        max_poll_interval: config.max_poll_interval,
        assignors: config.assignors.clone(),
        rack: config.rack.clone(),
        retry_backoff: client.config().retry_backoff,
        retry_backoff_max: client.config().retry_backoff_max,
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
