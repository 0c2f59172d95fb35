//! Asks leaders for offsets: of places in their logs, and of the ends of epochs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_client::raw::{Backoff, Route};
use kafka_client::{Client, ErrorKind as ClientErrorKind, IsolationLevel, NodeId, Offset, TopicPartition};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_wire::messages::{BrokerId, ListOffsetsRequest, OffsetForLeaderEpochRequest, StrBytes, TopicName};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// One offset to look up.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) at: Offset,
}

/// What a broker knows about a place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// -1 where no record is as late as the timestamp.
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    /// The record's own, for a query by timestamp; else -1.
    pub(crate) timestamp: i64,
}

/// An answer for each query, in the order of the queries: what was found, or the broker's code.
pub(crate) type Answers<T> = Vec<std::result::Result<T, ErrorCode>>;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Tells the broker that a consumer asks.
const CONSUMER: BrokerId = BrokerId(-1);

fn timestamp_of(at: Offset) -> i64 {
    match at {
        Offset::Earliest => EARLIEST,
        Offset::Timestamp(timestamp) => timestamp.max(0),
        _ => LATEST,
    }
}

/// Asks one leader for places in logs, each of another partition: a broker refuses those that are named twice.
pub(crate) async fn list(
    client: &Client,
    node: NodeId,
    isolation: IsolationLevel,
    queries: &[Query],
    deadline: Instant,
) -> Result<Answers<Found>> {
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    let topics = by_topic(queries.iter().map(|query| (&query.partition, query)));
    let call = client.request(Route::Node(node)).deadline(deadline).once();
    let answer = call
        .send(|_| {
            let topics = topics.iter().map(|(topic, queries)| {
                let partitions = queries.iter().map(|query| {
                    ListOffsetsPartition::default()
                        .with_partition_index(query.partition.partition)
                        .with_current_leader_epoch(query.leader_epoch.unwrap_or(-1))
                        .with_timestamp(timestamp_of(query.at))
                });
                ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions.collect())
            });
            Ok(ListOffsetsRequest::default()
                .with_replica_id(CONSUMER)
                .with_isolation_level(isolation.id())
                .with_topics(topics.collect()))
        })
        .await?;
    let mut found = HashMap::new();
    for topic in answer.response.topics {
        for partition in topic.partitions {
            let code = ErrorCode(partition.error_code);
            let result = code.check().map(|()| Found {
                offset: partition.offset,
                leader_epoch: (partition.leader_epoch >= 0).then_some(partition.leader_epoch),
                timestamp: partition.timestamp,
            });
            // Of two answers about one partition the first counts.
            found.entry((topic.name.to_string(), partition.partition_index)).or_insert(result);
        }
    }
    Ok(queries
        .iter()
        .map(|query| {
            let key = (query.partition.topic.to_string(), query.partition.partition);
            // What the broker left out is asked again, as after any passing error.
            let found = found.remove(&key).unwrap_or(Err(ErrorCode::LEADER_NOT_AVAILABLE))?;
            // A log has two ends. That no record is as late as a time is an answer.
            let is_possible = found.offset >= 0 || matches!(query.at, Offset::Timestamp(_));
            if is_possible { Ok(found) } else { Err(ErrorCode::UNKNOWN_SERVER_ERROR) }
        })
        .collect())
}

/// Asks every leader for places in logs, again where that may help, until the deadline.
pub(crate) async fn list_everywhere(
    client: &Client,
    isolation: IsolationLevel,
    queries: Vec<(TopicPartition, Offset)>,
    deadline: Instant,
) -> Result<BTreeMap<TopicPartition, Found>> {
    let topics: Vec<Arc<str>> = queries.iter().map(|(partition, _)| Arc::clone(&partition.topic)).collect();
    let _tracked = client.refresher().track(topics, false);
    let mut found = BTreeMap::new();
    let mut open: BTreeMap<TopicPartition, Offset> = queries.into_iter().collect();
    let mut backoff = Backoff::new(client.config().retry_backoff, client.config().retry_backoff_max);
    let mut random = client.config().random(2);
    loop {
        let by_leader = by_leader(client, &open, deadline).await?;
        let asked = by_leader.into_iter().map(|(node, queries)| async move {
            let answers = list(client, node, isolation, &queries, deadline).await;
            (node, queries, answers)
        });
        let mut last = None;
        // Side by side, so that a leader that is gone holds up none of the others.
        for (node, queries, answers) in futures_util::future::join_all(asked).await {
            match answers {
                Ok(answers) => {
                    for (query, answer) in queries.into_iter().zip(answers) {
                        match answer {
                            Ok(place) => {
                                open.remove(&query.partition);
                                found.insert(query.partition, place);
                            }
                            Err(code) if is_passing(code) => last = Some(broker_error(code, node)),
                            Err(code) => {
                                return Err(ErrorKind::Refused { partition: query.partition, code }.into());
                            }
                        }
                    }
                }
                Err(error) if error.is_retriable() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(last) = last.filter(|_| !open.is_empty()) else { return Ok(found) };
        client.refresher().request("a leader did not answer for its partition");
        let wait = backoff.next(&mut random);
        if Instant::now() + wait >= deadline {
            return Err(last);
        }
        tokio::time::sleep(wait).await;
    }
}

/// Whether the same question may be answered later.
pub(crate) fn is_passing(code: ErrorCode) -> bool {
    code.is_retriable() || code == ErrorCode::UNKNOWN_SERVER_ERROR
}

fn broker_error(code: ErrorCode, node: NodeId) -> Error {
    kafka_client::Error::broker(code, Api::ListOffsets, Some(node), None).into()
}

async fn by_leader(
    client: &Client,
    open: &BTreeMap<TopicPartition, Offset>,
    deadline: Instant,
) -> Result<BTreeMap<NodeId, Vec<Query>>> {
    let mut by_leader: BTreeMap<NodeId, Vec<Query>> = BTreeMap::new();
    for (partition, at) in open {
        let node = client.resolve(&Route::Leader(partition.clone()), deadline).await?;
        let leader_epoch = client.metadata().leader(partition).and_then(|(_, epoch)| epoch);
        by_leader.entry(node).or_default().push(Query {
            partition: partition.clone(),
            leader_epoch,
            at: *at,
        });
    }
    Ok(by_leader)
}

/// A position to compare with the leader's log.
#[derive(Clone, Debug)]
pub(crate) struct EpochQuery {
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) epoch: i32,
}

/// Asks one leader where its log ends for an epoch (KIP-320); `None` where it does not know the epoch.
pub(crate) async fn end_of_epochs(
    client: &Client,
    node: NodeId,
    queries: &[EpochQuery],
    deadline: Instant,
) -> Result<Answers<Option<(i32, i64)>>> {
    let topics = by_topic(queries.iter().map(|query| (&query.partition, query)));
    let call = client.request(Route::Node(node)).deadline(deadline).once();
    let answer = call
        .send(|_| {
            let topics = topics.iter().map(|(topic, queries)| {
                let partitions = queries.iter().map(|query| {
                    OffsetForLeaderPartition::default()
                        .with_partition(query.partition.partition)
                        .with_current_leader_epoch(query.leader_epoch.unwrap_or(-1))
                        .with_leader_epoch(query.epoch)
                });
                OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(partitions.collect())
            });
            Ok(OffsetForLeaderEpochRequest::default().with_replica_id(CONSUMER).with_topics(topics.collect()))
        })
        .await?;
    let mut ends = HashMap::new();
    for topic in answer.response.topics {
        for partition in topic.partitions {
            let code = ErrorCode(partition.error_code);
            let end = (partition.leader_epoch >= 0 && partition.end_offset >= 0)
                .then_some((partition.leader_epoch, partition.end_offset));
            let result = if code.is_ok() { Ok(end) } else { Err(code) };
            ends.entry((topic.topic.to_string(), partition.partition)).or_insert(result);
        }
    }
    Ok(queries
        .iter()
        .map(|query| {
            let key = (query.partition.topic.to_string(), query.partition.partition);
            ends.get(&key).copied().unwrap_or(Err(ErrorCode::LEADER_NOT_AVAILABLE))
        })
        .collect())
}

/// Whether a broker cannot do something at all, as against not now.
pub(crate) fn is_unsupported(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Client(error) if matches!(error.kind(), ClientErrorKind::UnsupportedVersion { .. }))
}

fn by_topic<'a, T>(items: impl Iterator<Item = (&'a TopicPartition, T)>) -> BTreeMap<&'a str, Vec<T>> {
    let mut topics: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for (partition, item) in items {
        topics.entry(&partition.topic).or_default().push(item);
    }
    topics
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from(topic.to_owned()))
}
