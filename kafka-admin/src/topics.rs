//! Creating, deleting, listing and describing topics, and adding partitions to them.

use std::collections::{HashMap, HashSet};

use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_client::raw::wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_client::raw::wire::messages::create_topics_response::CreatableTopicResult;
use kafka_client::raw::wire::messages::delete_topics_request::DeleteTopicState;
use kafka_client::raw::wire::messages::metadata_request::MetadataRequestTopic;
use kafka_client::raw::wire::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_client::raw::wire::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, StrBytes,
    TopicName,
};
use kafka_client::{Api, ErrorCode, NodeId, Result, TopicId, VersionRange};

use crate::admin::{Admin, Answers, Outcomes, controller_may_change_its_mind, outcome};
use crate::configs::ConfigEntry;

/// From this version on the broker's own defaults for partitions and replication can be asked for.
const BROKER_DEFAULTS: VersionRange = VersionRange { min: 4, max: 7 };

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replication: i16,
    assignments: Vec<Vec<NodeId>>,
    configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with as many partitions and replicas as the brokers' defaults say.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: -1,
            replication: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }

    /// How many partitions it has; the brokers' `num.partitions` by default.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many replicas each partition has; the brokers' `default.replication.factor` by default.
    pub fn replication(mut self, replicas: i16) -> Self {
        self.replication = replicas;
        self
    }

    /// Adds a partition with replicas on these brokers, the preferred leader first. With it, the numbers of partitions
    /// and replicas follow from the assignments.
    pub fn assign(mut self, brokers: impl IntoIterator<Item = NodeId>) -> Self {
        self.assignments.push(brokers.into_iter().collect());
        self
    }

    /// Sets one of the topic's configurations, such as `retention.ms`.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    fn needs_broker_defaults(&self) -> bool {
        self.assignments.is_empty() && (self.partitions == -1 || self.replication == -1)
    }

    fn to_wire(&self) -> CreatableTopic {
        let assignment = |(id, brokers): (i32, &Vec<NodeId>)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(id)
                .with_broker_ids(broker_ids(brokers))
        };
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let assigned = !self.assignments.is_empty();
        CreatableTopic::default()
            .with_name(topic_name(&self.name))
            .with_num_partitions(if assigned { -1 } else { self.partitions })
            .with_replication_factor(if assigned { -1 } else { self.replication })
            .with_assignments((0..).zip(&self.assignments).map(assignment).collect())
            .with_configs(self.configs.iter().map(config).collect())
    }
}

/// A topic that was created, as far as the broker told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id; `None` from brokers before Kafka 2.8.
    pub id: Option<TopicId>,
    /// How many partitions it has; `None` from brokers before Kafka 2.4, or where reading that is not allowed.
    pub partitions: Option<i32>,
    /// How many replicas each partition has; `None` likewise.
    pub replication: Option<i16>,
    /// Its configurations, also those at their defaults; empty likewise.
    pub configs: Vec<ConfigEntry>,
}

/// Partitions to be added to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewPartitions {
    topic: String,
    total: i32,
    assignments: Vec<Vec<NodeId>>,
}

impl NewPartitions {
    /// Raises the number of the topic's partitions to `total`. Keys are spread over more partitions from then on, so
    /// records with one key may be in two.
    pub fn to(topic: impl Into<String>, total: i32) -> Self {
        Self { topic: topic.into(), total, assignments: Vec::new() }
    }

    /// Places the next of the new partitions on these brokers, the preferred leader first. The controller chooses by
    /// default.
    pub fn assign(mut self, brokers: impl IntoIterator<Item = NodeId>) -> Self {
        self.assignments.push(brokers.into_iter().collect());
        self
    }

    fn to_wire(&self) -> CreatePartitionsTopic {
        let assignment = |brokers: &Vec<NodeId>| {
            CreatePartitionsAssignment::default().with_broker_ids(broker_ids(brokers))
        };
        let assignments = self.assignments.iter().map(assignment).collect::<Vec<_>>();
        CreatePartitionsTopic::default()
            .with_name(topic_name(&self.topic))
            .with_count(self.total)
            .with_assignments(Some(assignments).filter(|assignments| !assignments.is_empty()))
    }
}

/// A topic in a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id; `None` from brokers before Kafka 2.8.
    pub id: Option<TopicId>,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id; `None` from brokers before Kafka 2.8.
    pub id: Option<TopicId>,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
    /// Its partitions, by ascending number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub id: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<NodeId>,
    /// The leader's epoch; `None` from brokers before Kafka 2.1.
    pub leader_epoch: Option<i32>,
    /// The brokers that have a copy, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those of them that are in sync.
    pub isr: Vec<NodeId>,
    /// Those of them that are offline.
    pub offline: Vec<NodeId>,
}

impl Admin {
    /// Creates topics. They may take a moment to be known to every broker.
    ///
    /// # Errors
    /// No topic was answered for. What is wrong with one topic is in its result; after an answer was lost, that may be
    /// `TOPIC_ALREADY_EXISTS` for one that this call created.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Outcomes<String, CreatedTopic>> {
        self.create(topics.into_iter().collect(), false).await
    }

    /// Checks whether topics could be created, and creates none.
    ///
    /// # Errors
    /// As [`create_topics`](Self::create_topics).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn validate_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Outcomes<String, CreatedTopic>> {
        self.create(topics.into_iter().collect(), true).await
    }

    async fn create(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Outcomes<String, CreatedTopic>> {
        let names = topics.iter().map(|topic| topic.name.clone()).collect();
        let topics = &topics;
        self.each(
            Api::CreateTopics,
            names,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let open: HashSet<String> = open.into_iter().collect();
                let wanted = || topics.iter().filter(|topic| open.contains(&topic.name));
                let mut call = self.client().request(Route::Controller).deadline(deadline);
                if wanted().any(NewTopic::needs_broker_defaults) {
                    call = call.versions(
                        BROKER_DEFAULTS,
                        "a topic with the broker's numbers of partitions and replicas",
                    );
                }
                let request = CreateTopicsRequest::default()
                    .with_topics(wanted().map(NewTopic::to_wire).collect())
                    .with_timeout_ms(self.broker_timeout_ms())
                    .with_validate_only(validate_only);
                let answer = call.send(|_| Ok(request.clone())).await?;
                let created = |topic: CreatableTopicResult| {
                    let outcome = outcome(
                        topic.error_code,
                        Api::CreateTopics,
                        answer.node,
                        topic.error_message.as_ref(),
                    );
                    (topic.name.to_string(), outcome.map(|()| CreatedTopic::from_wire(topic)))
                };
                Ok(answer.response.topics.into_iter().map(created).collect())
            },
        )
        .await
    }

    /// Deletes topics and all their records.
    ///
    /// # Errors
    /// No topic was answered for. What is wrong with one topic is in its result; after an answer was lost, that may be
    /// `UNKNOWN_TOPIC_OR_PARTITION` for one that this call deleted.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn delete_topics<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<Outcomes<String, ()>> {
        let names = topics.into_iter().map(Into::into).collect();
        self.each(
            Api::DeleteTopics,
            names,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let make = |version| {
                    let names = open.iter().map(|name| topic_name(name));
                    let request = DeleteTopicsRequest::default().with_timeout_ms(self.broker_timeout_ms());
                    Ok(if version >= 6 {
                        request.with_topics(
                            names.map(|name| DeleteTopicState::default().with_name(Some(name))).collect(),
                        )
                    } else {
                        request.with_topic_names(names.collect())
                    })
                };
                let answer = self.client().request(Route::Controller).deadline(deadline).send(make).await?;
                let results = answer.response.responses.into_iter();
                Ok(results
                    .filter_map(|topic| {
                        let message = topic.error_message.as_ref();
                        let outcome = outcome(topic.error_code, Api::DeleteTopics, answer.node, message);
                        Some((topic.name?.to_string(), outcome))
                    })
                    .collect())
            },
        )
        .await
    }

    /// Lists every topic that this client may see, Kafka's own among them, by name.
    ///
    /// # Errors
    /// No broker answered.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let make = |version| {
            // Version 0 says "all" with an empty list.
            Ok(MetadataRequest::default()
                .with_topics((version == 0).then(Vec::new))
                .with_allow_auto_topic_creation(version < 4))
        };
        let answer = self.request(Route::Any).send(make).await?;
        let listing = |topic: MetadataResponseTopic| {
            Some(TopicListing {
                name: topic.name?.to_string(),
                id: topic_id(topic.topic_id.into_bytes()),
                internal: topic.is_internal,
            })
        };
        let mut topics: Vec<TopicListing> = answer.response.topics.into_iter().filter_map(listing).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Describes topics: their partitions and where they are. What one broker knows at the moment: a topic that was
    /// just created may still be `UNKNOWN_TOPIC_OR_PARTITION`.
    ///
    /// # Errors
    /// No broker answered.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_topics<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<Outcomes<String, TopicDescription>> {
        let names: Vec<String> = topics.into_iter().map(Into::into).collect();
        self.each(
            Api::Metadata,
            names,
            |_| false,
            move |open, deadline| async move {
                if open.is_empty() {
                    return Ok(HashMap::new());
                }
                let make = |version| {
                    let topic =
                        |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
                    Ok(MetadataRequest::default()
                        .with_topics(Some(open.iter().map(topic).collect()))
                        .with_allow_auto_topic_creation(version < 4))
                };
                let answer = self.client().request(Route::Any).deadline(deadline).send(make).await?;
                let described = |topic: MetadataResponseTopic| {
                    let name = topic.name.as_ref()?.to_string();
                    let description = match ErrorCode(topic.error_code) {
                        // Says that some partition has none, which the partitions say too.
                        ErrorCode::LEADER_NOT_AVAILABLE if !topic.partitions.is_empty() => Ok(()),
                        _ => outcome(topic.error_code, Api::Metadata, answer.node, None),
                    };
                    let description = description.map(|()| TopicDescription::from_wire(name.clone(), topic));
                    Some((name, description))
                };
                Ok(answer.response.topics.into_iter().filter_map(described).collect::<Answers<_, _>>())
            },
        )
        .await
    }

    /// Adds partitions to topics.
    ///
    /// # Errors
    /// No topic was answered for. What is wrong with one topic is in its result.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn create_partitions(
        &self,
        partitions: impl IntoIterator<Item = NewPartitions>,
    ) -> Result<Outcomes<String, ()>> {
        let partitions: Vec<NewPartitions> = partitions.into_iter().collect();
        let names = partitions.iter().map(|partitions| partitions.topic.clone()).collect();
        let partitions = &partitions;
        self.each(
            Api::CreatePartitions,
            names,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let open: HashSet<String> = open.into_iter().collect();
                let wanted = partitions.iter().filter(|partitions| open.contains(&partitions.topic));
                let request = CreatePartitionsRequest::default()
                    .with_topics(wanted.map(NewPartitions::to_wire).collect())
                    .with_timeout_ms(self.broker_timeout_ms());
                let call = self.client().request(Route::Controller).deadline(deadline);
                let answer = call.send(|_| Ok(request.clone())).await?;
                let results = answer.response.results.into_iter();
                Ok(results
                    .map(|topic| {
                        let message = topic.error_message.as_ref();
                        let outcome = outcome(topic.error_code, Api::CreatePartitions, answer.node, message);
                        (topic.name.to_string(), outcome)
                    })
                    .collect())
            },
        )
        .await
    }
}

impl CreatedTopic {
    fn from_wire(topic: CreatableTopicResult) -> Self {
        Self {
            id: topic_id(topic.topic_id.into_bytes()),
            partitions: Some(topic.num_partitions).filter(|count| *count >= 0),
            replication: Some(topic.replication_factor).filter(|count| *count >= 0),
            configs: topic.configs.unwrap_or_default().into_iter().map(ConfigEntry::from_created).collect(),
        }
    }
}

impl TopicDescription {
    fn from_wire(name: String, topic: MetadataResponseTopic) -> Self {
        let mut partitions: Vec<_> =
            topic.partitions.into_iter().map(PartitionDescription::from_wire).collect();
        partitions.sort_by_key(|partition| partition.id);
        Self { name, id: topic_id(topic.topic_id.into_bytes()), internal: topic.is_internal, partitions }
    }
}

impl PartitionDescription {
    fn from_wire(partition: MetadataResponsePartition) -> Self {
        let ids = |brokers: Vec<BrokerId>| brokers.into_iter().map(|id| id.0).collect();
        Self {
            id: partition.partition_index,
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: Some(partition.leader_epoch).filter(|epoch| *epoch >= 0),
            replicas: ids(partition.replica_nodes),
            isr: ids(partition.isr_nodes),
            offline: ids(partition.offline_replicas),
        }
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn broker_ids(brokers: &[NodeId]) -> Vec<BrokerId> {
    brokers.iter().map(|id| BrokerId(*id)).collect()
}

fn topic_id(bytes: [u8; 16]) -> Option<TopicId> {
    Some(TopicId(bytes)).filter(|id| !id.is_zero())
}
