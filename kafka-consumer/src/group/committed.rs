//! Asks the coordinator how far a group has come: OffsetFetch.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kafka_client::Client;
use kafka_client::raw::{Backoff, Route};
use kafka_client::types::{OffsetAndMetadata, TopicPartition};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::GroupId;
use kafka_wire::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::messages::offset_fetch_response::OffsetFetchResponse;
use tokio::time::{Instant, sleep};

use super::by_topic;
use super::wire::{TopicIds, text};
use crate::error::Result;

/// What a group has committed for each partition; none where it has not committed anything.
pub(crate) type Committed = BTreeMap<TopicPartition, Option<OffsetAndMetadata>>;

/// From these versions on an answer waits for transactions to end, and a request names several groups.
const REQUIRES_STABLE: i16 = 7;
const GROUPS: i16 = 8;
/// The stream of random numbers for the waits between attempts.
const OFFSET_FETCH: u64 = 9;

/// What `group` has committed for `partitions`. An offset that a transaction is about to change is waited for.
///
/// # Errors
/// The failure of the last attempt before the deadline; what will not pass, such as a lack of authorization, at once.
///
/// # Cancel safety
/// Dropping it changes nothing.
pub(crate) async fn committed(
    client: &Client,
    group: &Arc<str>,
    partitions: &[TopicPartition],
    deadline: Instant,
) -> Result<Committed> {
    if partitions.is_empty() {
        return Ok(Committed::new());
    }
    let config = client.config();
    let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    let mut random = config.random(OFFSET_FETCH);
    loop {
        let error = match attempt(client, group, partitions, deadline).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let wait = backoff.next(&mut random);
        if !error.is_retriable() || Instant::now() + wait >= deadline {
            return Err(error.into());
        }
        tracing::debug!(%group, %error, ?wait, "asking again for committed offsets");
        sleep(wait).await;
    }
}

/// Each attempt looks up the topics' ids anew: one that failed because a topic was created again refreshes them.
async fn attempt(
    client: &Client,
    group: &Arc<str>,
    partitions: &[TopicPartition],
    deadline: Instant,
) -> kafka_client::Result<Committed> {
    let ids = TopicIds::of(client, partitions);
    let topics = by_topic(partitions);
    // On the shared connection: the group's own may be taken by a parked JoinGroup.
    let call = client.request(Route::Group(Arc::clone(group))).once().deadline(deadline);
    let call = call.versions(ids.versions(Api::OffsetFetch), "fetching committed offsets");
    let code = |response: &OffsetFetchResponse| {
        let answered = read(response, &ids);
        let of_group = group_code(response).into_iter();
        let code = of_group.chain(answered.iter().map(|(.., code)| *code)).find(|code| !code.is_ok());
        let answered: HashSet<&TopicPartition> = answered.iter().map(|(partition, ..)| partition).collect();
        // A partition that was left out may be there next time.
        let complete = partitions.iter().all(|partition| answered.contains(partition));
        code.unwrap_or(if complete { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION })
    };
    let answer = call.send_checked(|version| Ok(request(group, &topics, &ids, version)), code).await?;
    let asked: HashSet<&TopicPartition> = partitions.iter().collect();
    let mut committed = Committed::new();
    for (partition, offset, _) in read(&answer.response, &ids) {
        // Of two answers about one partition the first counts; about others nothing was asked.
        if asked.contains(&partition) {
            committed.entry(partition).or_insert(offset);
        }
    }
    Ok(committed)
}

fn request(
    group: &Arc<str>,
    topics: &[(Arc<str>, Vec<i32>)],
    ids: &TopicIds,
    version: i16,
) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default().with_require_stable(version >= REQUIRES_STABLE);
    if version < GROUPS {
        let topic = |(topic, partitions): &(Arc<str>, Vec<i32>)| {
            let (name, _) = ids.wire(topic, version);
            OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(partitions.clone())
        };
        return request
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(topics.iter().map(topic).collect()));
    }
    let topic = |(topic, partitions): &(Arc<str>, Vec<i32>)| {
        let (name, topic_id) = ids.wire(topic, version);
        OffsetFetchRequestTopics::default()
            .with_name(name)
            .with_topic_id(topic_id)
            .with_partition_indexes(partitions.clone())
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(topics.iter().map(topic).collect()));
    request.with_groups(vec![group])
}

/// The code that stands for the whole group, if it is none of success.
fn group_code(response: &OffsetFetchResponse) -> Option<ErrorCode> {
    let of_group = response.groups.first().map_or(response.error_code, |group| group.error_code);
    Some(ErrorCode(of_group)).filter(|code| !code.is_ok())
}

/// The partitions in an answer of any version.
fn read(
    response: &OffsetFetchResponse,
    ids: &TopicIds,
) -> Vec<(TopicPartition, Option<OffsetAndMetadata>, ErrorCode)> {
    let mut partitions = Vec::new();
    let mut add = |topic: &Arc<str>, partition, offset: i64, epoch: i32, metadata: Option<&str>, code| {
        let offset = (offset >= 0).then(|| {
            let committed = OffsetAndMetadata::new(offset).with_metadata(metadata.unwrap_or_default());
            if epoch >= 0 { committed.with_leader_epoch(epoch) } else { committed }
        });
        partitions.push((TopicPartition::new(Arc::clone(topic), partition), offset, ErrorCode(code)));
    };
    for topic in &response.topics {
        let Some(name) = ids.named(&topic.name) else { continue };
        for of in &topic.partitions {
            let (offset, epoch) = (of.committed_offset, of.committed_leader_epoch);
            add(&name, of.partition_index, offset, epoch, of.metadata.as_deref(), of.error_code);
        }
    }
    for topic in response.groups.iter().flat_map(|group| &group.topics) {
        let Some(name) = ids.named(&topic.name).or_else(|| ids.identified(topic.topic_id)) else { continue };
        for of in &topic.partitions {
            let (offset, epoch) = (of.committed_offset, of.committed_leader_epoch);
            add(&name, of.partition_index, offset, epoch, of.metadata.as_deref(), of.error_code);
        }
    }
    partitions
}
