//! Listing, altering and deleting the offsets that a group has committed.

use std::collections::{BTreeMap, HashMap};

use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_client::raw::wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_client::raw::wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_client::raw::wire::messages::offset_fetch_response::OffsetFetchResponse;
use kafka_client::raw::wire::messages::{
    GroupId, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, StrBytes,
};
use kafka_client::{Api, ErrorCode, NodeId, OffsetAndMetadata, Result, TopicPartition, VersionRange};

use crate::admin::{Admin, Answers, Outcomes, by_topic, outcome, place_may_change};
use crate::topics::{text, topic_name};

/// From this version of OffsetFetch on a request names several groups.
const BATCHED: i16 = 8;
/// The last version of OffsetFetch and OffsetCommit that names topics; later ones use ids, which a topic that was
/// deleted has no more, though the group may still have offsets in it.
const LAST_WITH_NAMES: i16 = 9;

/// The offsets of one group, partition by partition; without an entry, the group has none there.
pub type GroupOffsets = BTreeMap<TopicPartition, Result<OffsetAndMetadata>>;

impl Admin {
    /// Lists the offsets that a group has committed, in all partitions.
    ///
    /// # Errors
    /// The group's coordinator does not answer, or refuses. What is wrong with one partition is in its entry.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn list_group_offsets(&self, group: &str) -> Result<GroupOffsets> {
        self.fetch_offsets(group, None).await
    }

    /// Lists the offsets that a group has committed in these partitions.
    ///
    /// # Errors
    /// As [`list_group_offsets`](Self::list_group_offsets).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn list_group_offsets_of(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<GroupOffsets> {
        self.fetch_offsets(group, Some(partitions.into_iter().collect())).await
    }

    async fn fetch_offsets(
        &self,
        group: &str,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Result<GroupOffsets> {
        // Version 1 cannot ask for all partitions.
        let first = if partitions.is_none() { 2 } else { 1 };
        let call = self.request(Route::Group(group.into()));
        let call =
            call.versions(VersionRange { min: first, max: LAST_WITH_NAMES }, "listing a group's offsets");
        let make = |version| Ok(fetch_request(group, partitions.as_deref(), version));
        let answer = call.send_checked(make, fetch_code).await?;
        let mut offsets = GroupOffsets::new();
        for (topic, id, code, offset) in fetched(answer.response) {
            let outcome = outcome(code, Api::OffsetFetch, answer.node, None);
            // No offset is told as -1.
            if outcome.is_err() || offset.offset >= 0 {
                offsets.insert(TopicPartition::new(topic.as_str(), id), outcome.map(|()| offset));
            }
        }
        Ok(offsets)
    }

    /// Sets the offsets of a group that has no members at the moment.
    ///
    /// # Errors
    /// No partition was answered for. What is wrong with one partition is in its result, such as `UNKNOWN_MEMBER_ID`
    /// while the group has members.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let offsets: Vec<(TopicPartition, OffsetAndMetadata)> = offsets.into_iter().collect();
        let places: HashMap<&TopicPartition, &OffsetAndMetadata> =
            offsets.iter().map(|(partition, offset)| (partition, offset)).collect();
        let places = &places;
        let partitions = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        self.each(
            Api::OffsetCommit,
            partitions,
            place_may_change,
            move |open: Vec<TopicPartition>, deadline| async move {
                let make = |version| {
                    let topics = by_topic(&open).into_iter().map(|(name, ids)| {
                        let partitions = ids.into_iter().filter_map(|id| {
                            let offset = places.get(&TopicPartition::new(name, id))?;
                            let partition = OffsetCommitRequestPartition::default()
                                .with_partition_index(id)
                                .with_committed_offset(offset.offset)
                                .with_committed_metadata(Some(text(&offset.metadata)));
                            Some(match offset.leader_epoch {
                                // Older brokers keep no epochs.
                                Some(epoch) if version >= 6 => partition.with_committed_leader_epoch(epoch),
                                _ => partition,
                            })
                        });
                        OffsetCommitRequestTopic::default()
                            .with_name(topic_name(name))
                            .with_partitions(partitions.collect())
                    });
                    Ok(OffsetCommitRequest::default()
                        .with_group_id(GroupId(text(group)))
                        // Of no generation and no member: what only a group without members allows.
                        .with_generation_id_or_member_epoch(-1)
                        .with_topics(topics.collect()))
                };
                let route = Route::Group(group.into());
                let first = Api::OffsetCommit.versions().min;
                let call = self.client().request(route.clone()).deadline(deadline);
                let call = call
                    .versions(VersionRange { min: first, max: LAST_WITH_NAMES }, "setting a group's offsets");
                let answer = call.send(make).await?;
                let mut answers = HashMap::new();
                for topic in answer.response.topics {
                    for committed in topic.partitions {
                        let outcome = outcome(committed.error_code, Api::OffsetCommit, answer.node, None);
                        answers.insert(
                            TopicPartition::new(topic.name.as_str(), committed.partition_index),
                            outcome,
                        );
                    }
                }
                self.forget_if_moved(&route, answer.node, &answers);
                Ok(answers)
            },
        )
        .await
    }

    /// Deletes offsets of a group that does not consume the topics at the moment.
    ///
    /// # Errors
    /// The group's coordinator does not answer, or refuses. What is wrong with one partition is in its result, such as
    /// `GROUP_SUBSCRIBED_TO_TOPIC`.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let partitions = partitions.into_iter().collect();
        self.each(
            Api::OffsetDelete,
            partitions,
            place_may_change,
            move |open: Vec<TopicPartition>, deadline| async move {
                let topics = by_topic(&open).into_iter().map(|(name, ids)| {
                    let partition = |id| OffsetDeleteRequestPartition::default().with_partition_index(id);
                    OffsetDeleteRequestTopic::default()
                        .with_name(topic_name(name))
                        .with_partitions(ids.into_iter().map(partition).collect())
                });
                let request = OffsetDeleteRequest::default()
                    .with_group_id(GroupId(text(group)))
                    .with_topics(topics.collect());
                let route = Route::Group(group.into());
                let call = self.client().request(route.clone()).deadline(deadline);
                let answer =
                    call.send_checked(|_| Ok(request.clone()), |answer| ErrorCode(answer.error_code)).await?;
                let mut answers = HashMap::new();
                for topic in answer.response.topics {
                    for deleted in topic.partitions {
                        let outcome = outcome(deleted.error_code, Api::OffsetDelete, answer.node, None);
                        answers.insert(
                            TopicPartition::new(topic.name.as_str(), deleted.partition_index),
                            outcome,
                        );
                    }
                }
                self.forget_if_moved(&route, answer.node, &answers);
                Ok(answers)
            },
        )
        .await
    }

    /// Has the coordinator looked up anew if it said, for some partition, that it is none.
    fn forget_if_moved<T>(&self, route: &Route, node: NodeId, answers: &Answers<TopicPartition, T>) {
        let denies = |outcome: &Result<T>| matches!(outcome, Err(error) if error.error_code() == Some(ErrorCode::NOT_COORDINATOR));
        if answers.values().any(denies) {
            self.client().forget(route, node);
        }
    }
}

fn fetch_request(group: &str, partitions: Option<&[TopicPartition]>, version: i16) -> OffsetFetchRequest {
    let topics = partitions.map(by_topic);
    let group = GroupId(text(group));
    if version >= BATCHED {
        let topic = |(name, ids): (&str, Vec<i32>)| {
            OffsetFetchRequestTopics::default().with_name(topic_name(name)).with_partition_indexes(ids)
        };
        let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
        let group = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(topics);
        OffsetFetchRequest::default().with_groups(vec![group])
    } else {
        let topic = |(name, ids): (&str, Vec<i32>)| {
            OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(ids)
        };
        let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
        OffsetFetchRequest::default().with_group_id(group).with_topics(topics)
    }
}

/// The code for the group: of the whole answer, or of its only group.
fn fetch_code(response: &OffsetFetchResponse) -> ErrorCode {
    let of_group = response.groups.first().map(|group| group.error_code);
    ErrorCode(of_group.unwrap_or(response.error_code))
}

/// Each partition with its error code and its offset, in the old form of the answer and in the new.
fn fetched(response: OffsetFetchResponse) -> Vec<(StrBytes, i32, i16, OffsetAndMetadata)> {
    let offset = |offset, epoch: i32, metadata: Option<StrBytes>| {
        let offset = OffsetAndMetadata::new(offset).with_metadata(metadata.unwrap_or_default().to_string());
        if epoch >= 0 { offset.with_leader_epoch(epoch) } else { offset }
    };
    let mut all = Vec::new();
    for topic in response.topics {
        all.extend(topic.partitions.into_iter().map(|p| {
            let offset = offset(p.committed_offset, p.committed_leader_epoch, p.metadata);
            (topic.name.0.clone(), p.partition_index, p.error_code, offset)
        }));
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        all.extend(topic.partitions.into_iter().map(|p| {
            let offset = offset(p.committed_offset, p.committed_leader_epoch, p.metadata);
            (topic.name.0.clone(), p.partition_index, p.error_code, offset)
        }));
    }
    all
}
