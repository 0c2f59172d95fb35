//! OffsetCommit, OffsetFetch, OffsetDelete.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};

use super::{optional, owned, text};
use crate::group::{CommitRequest, CommittedOffset, Group, GroupError, Input, OffsetCommit, Reply};
use crate::image::Topic;
use crate::shared::RequestContext;

/// From this version on OffsetCommit and OffsetFetch name topics by their ids.
const BY_TOPIC_ID: i16 = 10;

pub(crate) async fn commit(ctx: &RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    // Answers in the request's order; a partition that the group has to decide on has none yet.
    let mut answers = Vec::new();
    for topic in &request.topics {
        let known = if ctx.version >= BY_TOPIC_ID {
            ctx.image().topic_by_id(topic.topic_id).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        } else {
            // Before it is looked up, so that nobody learns what exists.
            let authorized = ctx.authorize_topic(AclOperation::Read, &topic.name);
            let known =
                || ctx.image().topic(&topic.name).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            authorized.and_then(|()| known())
        };
        let known =
            known.and_then(|topic| ctx.authorize_topic(AclOperation::Read, &topic.name).map(|()| topic));
        for partition in &topic.partitions {
            let number = partition.partition_index;
            let place = known.as_ref().map_err(|code| *code).and_then(|topic| partition_of(topic, number));
            answers.push(place.as_ref().err().copied());
            if let Ok(topic) = place {
                offsets.push(OffsetCommit {
                    topic,
                    partition: number,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: optional(partition.committed_metadata.as_ref()).unwrap_or_default(),
                });
            }
        }
    }
    let mut decided = match offsets.len() {
        0 => Vec::new(),
        count => {
            let outcomes = commit_known(ctx, &request, offsets).await;
            outcomes.unwrap_or_else(|error| vec![Err(error); count])
        }
    }
    .into_iter();
    let mut answers = answers.into_iter().map(|unknown| match unknown {
        Some(code) => code.0,
        None => decided.next().map_or(0, |outcome| super::code(&outcome)),
    });
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(answers.next().unwrap_or_default())
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

async fn commit_known(
    ctx: &RequestContext,
    request: &OffsetCommitRequest,
    offsets: Vec<OffsetCommit>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let generation = request.generation_id_or_member_epoch;
    let commit = CommitRequest {
        member_id: owned(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation,
        offsets,
    };
    // A commit from outside makes the group; one from a member of a group that is gone does not.
    let create = generation < 0;
    let read = |reply| match reply {
        Reply::Commit(outcomes) => Some(outcomes),
        _ => None,
    };
    let outcomes =
        ctx.shared.groups.request(ctx, &request.group_id, create, Input::Commit(commit), read).await;
    match outcomes.flatten() {
        Err(GroupError::GroupIdNotFound) if ctx.version < 9 => Err(GroupError::IllegalGeneration),
        outcomes => outcomes,
    }
}

fn partition_of(topic: &Topic, partition: i32) -> Result<Arc<str>, ErrorCode> {
    topic.partition(partition).map(|_| Arc::clone(&topic.name)).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

pub(crate) async fn fetch(ctx: &RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if ctx.version >= 8 {
        // Once each, here and for partitions: a short request could otherwise ask for an answer that no memory holds.
        let mut asked = BTreeSet::new();
        let groups = request.groups.iter().filter(|group| asked.insert(&group.group_id));
        let groups = groups.map(|group| fetch_group(ctx, group));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics);
    let answer = fetch_group(ctx, &group);
    // Version 1 has no code for the whole: there each partition carries it.
    let spread = if ctx.version < 2 { answer.error_code } else { 0 };
    let topics = if answer.error_code == 0 {
        answer.topics
    } else {
        let asked = group.topics.iter().flatten();
        asked.map(|topic| fetch_topic(topic, |_| None).with_name(topic.name.clone())).collect()
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(if spread == 0 { partition.error_code } else { spread })
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    let response = OffsetFetchResponse::default().with_topics(topics.collect());
    if ctx.version < 2 { response } else { response.with_error_code(answer.error_code) }
}

fn fetch_group(ctx: &RequestContext, asked: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
    if let Err(code) = ctx.authorize(AclOperation::Describe, ResourceType::Group, &asked.group_id) {
        return answer.with_error_code(code.0);
    }
    let mut seen = BTreeSet::new();
    let topics = asked.topics.as_ref().map(|topics| {
        topics.iter().filter(|topic| seen.insert((&topic.name, topic.topic_id))).collect::<Vec<_>>()
    });
    let read = |group: &mut Group| match &topics {
        Some(topics) => topics.iter().map(|topic| fetch_known(ctx, group, topic)).collect(),
        None => fetch_all(ctx, group),
    };
    match ctx.shared.groups.with(ctx, &asked.group_id, read) {
        Ok(topics) => answer.with_topics(topics),
        // A group that nobody has heard of is one without offsets.
        Err(GroupError::GroupIdNotFound) => {
            let topics = topics.into_iter().flatten();
            answer.with_topics(topics.map(|topic| fetch_unknown(ctx, topic)).collect())
        }
        Err(error) => answer.with_error_code(error.code()),
    }
}

fn fetch_known(
    ctx: &RequestContext,
    group: &Group,
    asked: &OffsetFetchRequestTopics,
) -> OffsetFetchResponseTopics {
    match described_name(ctx, asked) {
        Ok(name) => fetch_topic(asked, |partition| group.committed(&name, partition)),
        Err(code) => refuse_topic(asked, code),
    }
}

/// The same where there is no group.
fn fetch_unknown(ctx: &RequestContext, asked: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    match described_name(ctx, asked) {
        Err(code) if code != ErrorCode::UNKNOWN_TOPIC_ID => refuse_topic(asked, code),
        _ => fetch_topic(asked, |_| None),
    }
}

/// The name of a topic that the client may see.
fn described_name(ctx: &RequestContext, asked: &OffsetFetchRequestTopics) -> Result<Arc<str>, ErrorCode> {
    let name = if ctx.version < BY_TOPIC_ID {
        asked.name.as_str().into()
    } else {
        let image = ctx.image();
        Arc::clone(&image.topic_by_id(asked.topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?.name)
    };
    ctx.authorize_topic(AclOperation::Describe, &name)?;
    Ok(name)
}

fn refuse_topic(asked: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let mut refused = fetch_topic(asked, |_| None);
    for partition in &mut refused.partitions {
        partition.error_code = code.0;
    }
    refused
}

fn fetch_all(ctx: &RequestContext, group: &Group) -> Vec<OffsetFetchResponseTopics> {
    let image = ctx.image();
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    let sees = |name: &str| ctx.authorize_topic(AclOperation::Describe, name).is_ok();
    let visible = group.all_committed().filter(|(name, ..)| sees(name));
    for (name, partition, at) in visible {
        let partition = offset(partition, Some(at));
        match topics.last_mut().filter(|topic| *topic.name == **name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                OffsetFetchResponseTopics::default()
                    .with_name(TopicName(text(&**name)))
                    .with_topic_id(image.topic(name).map(|topic| topic.id).unwrap_or_default())
                    .with_partitions(vec![partition]),
            ),
        }
    }
    topics
}

fn fetch_topic<'a>(
    asked: &OffsetFetchRequestTopics,
    committed: impl Fn(i32) -> Option<&'a CommittedOffset>,
) -> OffsetFetchResponseTopics {
    let partitions =
        asked.partition_indexes.iter().map(|partition| offset(*partition, committed(*partition)));
    OffsetFetchResponseTopics::default()
        .with_name(asked.name.clone())
        .with_topic_id(asked.topic_id)
        .with_partitions(partitions.collect())
}

fn offset(partition: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(committed.map_or(-1, |at| at.offset))
        .with_committed_leader_epoch(committed.map_or(-1, |at| at.leader_epoch))
        .with_metadata(Some(text(committed.map_or("", |at| &at.metadata))))
}

pub(crate) async fn delete(ctx: &RequestContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if request.group_id.is_empty() {
        return OffsetDeleteResponse::default().with_error_code(ErrorCode::INVALID_GROUP_ID.0);
    }
    let delete = |group: &mut Group| {
        group.may_delete_offsets()?;
        let topics = request.topics.iter().map(|topic| {
            let authorized = ctx.authorize_topic(AclOperation::Read, &topic.name);
            let partitions = topic.partitions.iter().map(|partition| {
                let number = partition.partition_index;
                let code = match (authorized, ctx.image().partition(&topic.name, number)) {
                    (Err(code), _) => code.0,
                    (Ok(()), None) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0,
                    (Ok(()), Some(_)) => super::code(&group.delete_offset(&topic.name, number)),
                };
                OffsetDeleteResponsePartition::default().with_partition_index(number).with_error_code(code)
            });
            let partitions = partitions.collect();
            OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        Ok(topics.collect())
    };
    match ctx.shared.groups.with(ctx, &request.group_id, delete).flatten() {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    }
}
