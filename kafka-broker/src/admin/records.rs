//! DeleteRecords, DescribeProducers, DescribeLogDirs: what administrators ask of logs.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::acl::AclOperation;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::delete_records_request::DeleteRecordsPartition;
use kafka_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_wire::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeProducersRequest, DescribeProducersResponse, ProducerId, TopicName,
};

use super::text;
use crate::config::{self, ConfigValue};
use crate::image::{PartitionImage, Topic};
use crate::shared::RequestContext;

/// DeleteRecords' offset for everything that can be read now.
const HIGH_WATERMARK: i64 = -1;
/// Where all records are. There is no folder of this name: it is what tools print.
const LOG_DIR: &str = "/memory";

pub(crate) async fn delete(ctx: &RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let (code, low_watermark) = match delete_before(ctx, &topic.name, asked) {
                Ok(start) => (ErrorCode::NONE, start),
                Err(code) => (code, -1),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code.0)
                .with_low_watermark(low_watermark)
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

/// Deletes records, and returns the first offset that is left.
fn delete_before(
    ctx: &RequestContext,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    ctx.authorize_topic(AclOperation::Delete, topic)?;
    let image = ctx.image();
    let known = image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let place = known.partition(asked.partition_index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    // A topic that only compacts promises to keep the last record of each key.
    let policy = config::topic_config("cleanup.policy")
        .and_then(|def| image.configs.topic_values(&known.overrides, def).into_iter().next());
    let has = |policy: &ConfigValue, word| config::list(&policy.value).any(|policy| policy == word);
    if policy.is_some_and(|policy| has(&policy, "compact") && !has(&policy, "delete")) {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let mut state = place.partition.lock();
    if state.leader != ctx.broker {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let end = state.log.end();
    let offset = if asked.offset == HIGH_WATERMARK { end } else { asked.offset };
    if !(0..=end).contains(&offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let start = state.log.delete_before(offset);
    // A fetch may wait below the new start, which is an error now.
    state.wake();
    Ok(start)
}

pub(crate) async fn describe_producers(
    ctx: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    // Once each: a short request could otherwise ask for an answer that no memory holds.
    let mut seen = BTreeSet::new();
    let topics = request.topics.into_iter().filter(|topic| seen.insert(topic.name.clone())).map(|topic| {
        // Of a topic that it knows Kafka says no more than the code.
        let authorized = ctx.authorize_topic(AclOperation::Read, &topic.name);
        let is_unknown = authorized.is_err() || ctx.image().topic(&topic.name).is_none();
        let numbers: BTreeSet<i32> = topic.partition_indexes.iter().copied().collect();
        let partitions = numbers.iter().map(|number| {
            let response = PartitionResponse::default().with_partition_index(*number);
            match authorized.and_then(|()| producers(ctx, &topic.name, *number)) {
                Ok(producers) => response.with_error_message(None).with_active_producers(producers),
                Err(code) => {
                    let message = is_unknown.then(|| text(code.message()));
                    response.with_error_code(code.0).with_error_message(message)
                }
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producers(ctx: &RequestContext, topic: &str, partition: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    let image = ctx.image();
    let place = image.partition(topic, partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let state = place.partition.lock();
    if state.leader != ctx.broker {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let producers = state.log.producers().map(|producer| {
        ProducerState::default()
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(i32::from(producer.epoch))
            .with_last_sequence(producer.last_sequence)
            .with_last_timestamp(producer.last_timestamp)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    });
    Ok(producers.collect())
}

pub(crate) async fn describe_log_dirs(
    ctx: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let image = ctx.image();
    let describe = |topic: &Topic, wanted: &dyn Fn(i32) -> bool| {
        let here = topic.partitions.iter().filter(|place| place.replicas.contains(&ctx.broker));
        let partitions: Vec<_> =
            here.filter(|place| wanted(place.partition.number())).map(describe_log).collect();
        let name = TopicName(text(&*topic.name));
        DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions)
    };
    let topics: Vec<_> = match request.topics {
        None => image.topics.values().map(|topic| describe(topic, &|_| true)).collect(),
        Some(asked) => {
            let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
            for topic in &asked {
                wanted.entry(&topic.topic).or_default().extend(&topic.partitions);
            }
            let known = wanted.iter().filter_map(|(name, numbers)| Some((image.topic(name)?, numbers)));
            known.map(|(topic, numbers)| describe(topic, &|number| numbers.contains(&number))).collect()
        }
    };
    let topics = topics.into_iter().filter(|topic| !topic.partitions.is_empty()).collect();
    let result = DescribeLogDirsResult::default().with_log_dir(text(LOG_DIR)).with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn describe_log(place: &PartitionImage) -> DescribeLogDirsPartition {
    let size = place.partition.lock().log.size();
    DescribeLogDirsPartition::default()
        .with_partition_index(place.partition.number())
        .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use kafka_wire::api::Api;
    use kafka_wire::fetch::{FetchPartition, NO_HIGH_WATERMARK};
    use kafka_wire::messages::delete_records_request::DeleteRecordsTopic;
    use kafka_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
    use kafka_wire::messages::describe_producers_request::TopicRequest;

    use super::*;
    use crate::cluster::Cluster;
    use crate::wire_test::{Wire, batch_of, fetch_request, memory_cluster, named};

    fn before(topic: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
        let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic =
            DeleteRecordsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    }

    async fn delete(wire: &mut Wire, version: i16, request: DeleteRecordsRequest) -> (ErrorCode, i64) {
        let answer = wire.call(version, request).await;
        let partition = &answer.topics[0].partitions[0];
        (ErrorCode(partition.error_code), partition.low_watermark)
    }

    /// Three batches of two records in partition 0 of topic `t`.
    async fn cluster_with_records() -> (Cluster, Wire) {
        let cluster = memory_cluster(1, "t", 2, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        for first in ["a", "c", "e"] {
            let sequence = i32::from(first.as_bytes()[0] - b'a');
            let records = [(0, batch_of(&[first, "z"], Some((77, 0, sequence))))];
            assert_eq!(wire.produce(9, -1, named("t"), &records).await[0].code(), ErrorCode::NONE);
        }
        (cluster, wire)
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_deleted_up_to_an_offset_and_cannot_be_fetched_any_more() {
        let (_cluster, mut wire) = cluster_with_records().await;
        for version in Api::DeleteRecords.versions().min..=Api::DeleteRecords.versions().max {
            let start = i64::from(version) + 1;
            assert_eq!(delete(&mut wire, version, before("t", 0, start)).await, (ErrorCode::NONE, start));
        }
        let below = FetchPartition { topic: named("t"), fetch_offset: 2, ..fetch_from_start() };
        let fetched = wire.fetch(12, fetch_request(&[below])).await;
        assert_eq!(fetched.summary()[0].1, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(delete(&mut wire, 2, before("t", 0, 1)).await, (ErrorCode::NONE, 3), "never back");
        assert_eq!(delete(&mut wire, 2, before("t", 0, 7)).await.0, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(delete(&mut wire, 2, before("t", 0, -2)).await.0, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(delete(&mut wire, 2, before("t", 0, -1)).await, (ErrorCode::NONE, 6), "all of them");
        assert_eq!(delete(&mut wire, 2, before("t", 9, 0)).await.0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(delete(&mut wire, 2, before("no", 0, 0)).await.0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_waits_below_the_new_start_is_answered() {
        let (cluster, mut wire) = cluster_with_records().await;
        let mut waiting = Wire::to(&cluster, 1);
        let partitions = [FetchPartition { topic: named("t"), fetch_offset: 0, ..fetch_from_start() }];
        let request = fetch_request(&partitions);
        let request = kafka_wire::fetch::Request { max_wait_ms: 60_000, min_bytes: 1_000_000, ..request };
        waiting.send_fetch(12, request).await;
        // On the paused clock time passes only when everybody waits: the fetch is parked now.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(delete(&mut wire, 2, before("t", 0, -1)).await.0, ErrorCode::NONE);
        let answered = tokio::time::timeout(std::time::Duration::from_secs(1), waiting.receive_fetch(12));
        let answered = answered.await.expect("at once");
        assert_eq!(answered.summary()[0].1, ErrorCode::OFFSET_OUT_OF_RANGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_only_compacts_keeps_its_records() {
        let (cluster, mut wire) = cluster_with_records().await;
        let set = |policy: &str| {
            let change = crate::controller::ConfigChange::Set(policy.into());
            let changes = [("cleanup.policy".to_owned(), change)];
            cluster.shared().controller.alter_topic_configs("t", &changes, false, false).unwrap();
        };
        set("compact");
        assert_eq!(delete(&mut wire, 2, before("t", 0, 1)).await.0, ErrorCode::POLICY_VIOLATION);
        set("compact,delete");
        assert_eq!(delete(&mut wire, 2, before("t", 0, 1)).await, (ErrorCode::NONE, 1));
        set("");
        assert_eq!(delete(&mut wire, 2, before("t", 0, 2)).await, (ErrorCode::NONE, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_leader_deletes_and_knows_producers() {
        let cluster = memory_cluster(2, "t", 1, 2).await;
        cluster.move_leader("t", 0, 2).unwrap();
        let mut wire = Wire::to(&cluster, 1);
        assert_eq!(delete(&mut wire, 2, before("t", 0, 0)).await.0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(producers_of(&mut wire, 0).await.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    }

    #[tokio::test(start_paused = true)]
    async fn idempotent_producers_are_described() {
        let (_cluster, mut wire) = cluster_with_records().await;
        let described = producers_of(&mut wire, 0).await;
        assert_eq!((described.error_code, described.active_producers.len()), (0, 1));
        let producer = &described.active_producers[0];
        assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (77, 0, 5));
        assert_eq!((producer.last_timestamp, producer.coordinator_epoch), (1000, -1));
        assert_eq!(producers_of(&mut wire, 1).await.active_producers, []);
        assert_eq!(producers_of(&mut wire, 9).await.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    }

    #[tokio::test(start_paused = true)]
    async fn logs_are_described_with_their_size() {
        let (_cluster, mut wire) = cluster_with_records().await;
        let size = 3 * batch_of(&["a", "z"], None).len() as i64;
        for version in Api::DescribeLogDirs.versions().min..=Api::DescribeLogDirs.versions().max {
            let all = wire.call(version, DescribeLogDirsRequest::default().with_topics(None)).await;
            let sizes: Vec<_> =
                all.results[0].topics[0].partitions.iter().map(|log| log.partition_size).collect();
            assert_eq!(sizes, [size, 0], "v{version}");
            let one = DescribableLogDirTopic::default().with_topic(TopicName(text("t")));
            let one = vec![one.with_partitions(vec![1, 5])];
            let one = wire.call(version, DescribeLogDirsRequest::default().with_topics(Some(one))).await;
            let numbers: Vec<_> =
                one.results[0].topics[0].partitions.iter().map(|log| log.partition_index).collect();
            assert_eq!(numbers, [1]);
        }
    }

    async fn producers_of(wire: &mut Wire, partition: i32) -> PartitionResponse {
        let topic = TopicRequest::default().with_name(TopicName(text("t")));
        let topic = topic.with_partition_indexes(vec![partition]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        wire.call(0, request).await.topics.remove(0).partitions.remove(0)
    }

    fn fetch_from_start() -> FetchPartition<'static> {
        FetchPartition {
            topic: named(""),
            index: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes: 1_000_000,
            replica_directory_id: [0; 16],
            high_watermark: NO_HIGH_WATERMARK,
        }
    }
}
