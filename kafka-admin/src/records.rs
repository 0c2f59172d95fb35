//! Finding offsets by place or time, and deleting records: what the leaders of partitions answer.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::join_all;
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_client::raw::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_client::raw::wire::messages::{BrokerId, DeleteRecordsRequest, ListOffsetsRequest};
use kafka_client::{Api, Error, IsolationLevel, NodeId, Offset, Result, TopicPartition, VersionRange};
use tokio::time::Instant;

use crate::admin::{Admin, Answers, Outcomes, by_topic, outcome, place_may_change};
use crate::topics::topic_name;

/// A place in a partition whose offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first record that the broker still has, on whatever storage.
    Earliest,
    /// The end: the offset of the next record; with [`IsolationLevel::ReadCommitted`] the first that is not yet decided.
    Latest,
    /// The first record with this timestamp, in milliseconds since 1970 and not before, or a later one.
    Timestamp(i64),
    /// The record with the highest timestamp. Needs Kafka 3.0.
    MaxTimestamp,
    /// The first record on the broker's own storage. Needs Kafka 3.4.
    EarliestLocal,
    /// The last record on remote storage. Needs Kafka 3.9.
    LatestTiered,
    /// The first record that is still to be copied to remote storage. Needs Kafka 4.2.
    EarliestPendingUpload,
}

impl OffsetSpec {
    /// The number that stands for it on the wire.
    fn timestamp(self) -> i64 {
        match self {
            Self::Timestamp(timestamp) => timestamp,
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
            Self::EarliestPendingUpload => -6,
        }
    }

    /// The first version that knows it, and its name in an error about brokers that do not.
    fn needs(self) -> (i16, &'static str) {
        match self {
            Self::Timestamp(_) | Self::Latest | Self::Earliest => (1, "listing offsets"),
            Self::MaxTimestamp => (7, "the offset of the highest timestamp"),
            Self::EarliestLocal => (8, "the first offset on local storage"),
            Self::LatestTiered => (9, "the last offset on remote storage"),
            Self::EarliestPendingUpload => (11, "the first offset to be copied to remote storage"),
        }
    }
}

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; `None` if no record is at that place, such as after the last timestamp.
    pub offset: Option<i64>,
    /// The timestamp of the record there, in milliseconds since 1970, where the place was given by time.
    pub timestamp: Option<i64>,
    /// The epoch of the leader that wrote it, where known.
    pub leader_epoch: Option<i32>,
}

impl Admin {
    /// Finds offsets in partitions, among all records.
    ///
    /// # Errors
    /// What is wrong with one partition is in its result; one that the cluster does not know is waited for 5 s.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn list_offsets(
        &self,
        places: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
    ) -> Result<Outcomes<TopicPartition, ListedOffset>> {
        self.list_offsets_at(places, IsolationLevel::ReadUncommitted).await
    }

    /// Finds offsets in partitions, among the records that readers of this isolation level see.
    ///
    /// # Errors
    /// As [`list_offsets`](Self::list_offsets).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn list_offsets_at(
        &self,
        places: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
        isolation: IsolationLevel,
    ) -> Result<Outcomes<TopicPartition, ListedOffset>> {
        let places: Vec<(TopicPartition, OffsetSpec)> = places.into_iter().collect();
        let topics = places.iter().map(|(partition, _)| partition.topic.clone());
        let _tracked = self.client().refresher().track(topics, false);
        // The place is part of the key: one partition may be asked for several.
        let outcomes =
            self.each(Api::ListOffsets, places, place_may_change, move |open, deadline| async move {
                let route = |(partition, _): &(TopicPartition, OffsetSpec)| Route::Leader(partition.clone());
                let ask = |node, places| async move {
                    Ok(self.ask_offsets(node, places, isolation, deadline).await)
                };
                Ok(self.fan_out(open, deadline, route, ask).await)
            });
        Ok(outcomes.await?.into_iter().map(|((partition, _), outcome)| (partition, outcome)).collect())
    }

    /// Asks one broker. A request names a partition once, and what the broker is too old for must not spoil the rest,
    /// so each kind of place is asked for apart.
    async fn ask_offsets(
        &self,
        node: NodeId,
        places: Vec<(TopicPartition, OffsetSpec)>,
        isolation: IsolationLevel,
        deadline: Instant,
    ) -> Answers<(TopicPartition, OffsetSpec), ListedOffset> {
        let mut kinds: BTreeMap<OffsetSpec, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, place) in places {
            kinds.entry(place).or_default().push(partition);
        }
        let asked = join_all(
            kinds
                .iter()
                .map(|(place, partitions)| self.ask_kind(node, *place, partitions, isolation, deadline)),
        )
        .await;
        let mut answers = HashMap::new();
        for ((place, partitions), outcome) in kinds.into_iter().zip(asked) {
            match outcome {
                Ok(found) => {
                    answers.extend(found.into_iter().map(|(partition, offset)| ((partition, place), offset)));
                }
                Err(error) => answers
                    .extend(partitions.into_iter().map(|partition| ((partition, place), Err(error.clone())))),
            }
        }
        answers
    }

    async fn ask_kind(
        &self,
        node: NodeId,
        place: OffsetSpec,
        partitions: &[TopicPartition],
        isolation: IsolationLevel,
        deadline: Instant,
    ) -> Result<Answers<TopicPartition, ListedOffset>> {
        if let OffsetSpec::Timestamp(..0) = place {
            // On the wire it would stand for another place.
            let remedy = "give milliseconds since 1970, or another place";
            return Err(Error::config("timestamp", format!("{place:?}"), remedy));
        }
        // From version 2 on a request says which records count.
        let (first, feature) = match (place.needs(), isolation) {
            ((1, _), IsolationLevel::ReadCommitted) => (2, "listing offsets of committed records"),
            (needs, _) => needs,
        };
        let versions = VersionRange { min: first, ..Api::ListOffsets.versions() };
        let make = |version| {
            let partition = |id| {
                ListOffsetsPartition::default().with_partition_index(id).with_timestamp(place.timestamp())
            };
            let topic = |(name, ids): (&str, Vec<i32>)| {
                ListOffsetsTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(ids.into_iter().map(partition).collect())
            };
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(isolation.id())
                .with_topics(by_topic(partitions).into_iter().map(topic).collect());
            // From version 10 on the broker may have to ask remote storage.
            Ok(if version >= 10 { request.with_timeout_ms(self.broker_timeout_ms()) } else { request })
        };
        let call = self.client().request(Route::Node(node)).once().deadline(deadline);
        let answer = call.versions(versions, feature).send(make).await?;
        let mut answers = HashMap::new();
        for topic in answer.response.topics {
            for found in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), found.partition_index);
                let listed = ListedOffset {
                    offset: Some(found.offset).filter(|offset| *offset >= 0),
                    timestamp: Some(found.timestamp).filter(|timestamp| *timestamp >= 0),
                    leader_epoch: Some(found.leader_epoch).filter(|epoch| *epoch >= 0),
                };
                let outcome = outcome(found.error_code, Api::ListOffsets, answer.node, None);
                answers.insert(partition, outcome.map(|()| listed));
            }
        }
        Ok(answers)
    }

    /// Deletes the records of partitions that lie before an offset; [`Offset::Latest`] deletes them all. Gives the
    /// first offset that is left.
    ///
    /// # Errors
    /// An [`Offset`] other than `At` from 0 on, `Earliest` (which deletes nothing) and `Latest` is a
    /// [`Config`](kafka_client::ErrorKind::Config) error in the partition's result. What else is wrong with one
    /// partition is there too; one that the cluster does not know is waited for 5 s.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn delete_records(
        &self,
        before: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<Outcomes<TopicPartition, i64>> {
        let before: Vec<(TopicPartition, Offset)> = before.into_iter().collect();
        let offsets: HashMap<TopicPartition, Offset> = before.iter().cloned().collect();
        let partitions: Vec<TopicPartition> = before.into_iter().map(|(partition, _)| partition).collect();
        let topics = partitions.iter().map(|partition| partition.topic.clone());
        let _tracked = self.client().refresher().track(topics, false);
        let offsets = &offsets;
        self.each(Api::DeleteRecords, partitions, place_may_change, move |open, deadline| async move {
            let mut answers = HashMap::new();
            let mut places: HashMap<TopicPartition, i64> = HashMap::new();
            for partition in open {
                let Some(before) = offsets.get(&partition) else { continue };
                let offset = match before {
                    Offset::At(offset @ 0..) => *offset,
                    Offset::Earliest => 0,
                    Offset::Latest => -1,
                    // Also a negative offset, which on the wire would stand for all records.
                    _ => {
                        let remedy = "give an offset from 0 on, or Offset::Latest for all records";
                        answers
                            .insert(partition, Err(Error::config("offset", format!("{before:?}"), remedy)));
                        continue;
                    }
                };
                places.insert(partition, offset);
            }
            let route = |partition: &TopicPartition| Route::Leader(partition.clone());
            let places = &places;
            let ask = |node, partitions: Vec<TopicPartition>| async move {
                self.ask_deletion(node, &partitions, places, deadline).await
            };
            let keys = places.keys().cloned().collect();
            answers.extend(self.fan_out(keys, deadline, route, ask).await);
            Ok(answers)
        })
        .await
    }

    async fn ask_deletion(
        &self,
        node: NodeId,
        partitions: &[TopicPartition],
        places: &HashMap<TopicPartition, i64>,
        deadline: Instant,
    ) -> Result<Answers<TopicPartition, i64>> {
        let topics = by_topic(partitions).into_iter().map(|(name, ids)| {
            let partition = |id| {
                let offset = places.get(&TopicPartition::new(name, id)).copied().unwrap_or(0);
                DeleteRecordsPartition::default().with_partition_index(id).with_offset(offset)
            };
            DeleteRecordsTopic::default()
                .with_name(topic_name(name))
                .with_partitions(ids.into_iter().map(partition).collect())
        });
        let request = DeleteRecordsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(self.broker_timeout_ms());
        let call = self.client().request(Route::Node(node)).once().deadline(deadline);
        let answer = call.send(|_| Ok(request.clone())).await?;
        let mut answers = HashMap::new();
        for topic in answer.response.topics {
            for deleted in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), deleted.partition_index);
                let outcome = outcome(deleted.error_code, Api::DeleteRecords, answer.node, None);
                answers.insert(partition, outcome.map(|()| deleted.low_watermark));
            }
        }
        Ok(answers)
    }
}
