//! ListOffsets: the ends of a log, and the first record since a time.

use std::collections::{HashMap, HashSet};

use kafka_wire::acl::AclOperation;
use kafka_wire::compression::{Compression, Decompressor};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::list_offsets_request::ListOffsetsPartition;
use kafka_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use kafka_wire::record_batch::{BatchError, RawBatch};

use crate::fault::Stage;
use crate::log::{UNDEFINED, UNDEFINED_OFFSET};
use crate::partition::Reader;
use crate::shared::RequestContext;

/// Times that stand for something else, with the first version that knows them.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// What a batch may decompress to where the record of a time is looked for in it.
const MOST_DECOMPRESSED: usize = 64 * 1024 * 1024;

/// What was found; all -1 for nothing.
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found { timestamp: -1, offset: UNDEFINED_OFFSET, leader_epoch: UNDEFINED };

pub(crate) async fn handle(ctx: &RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named_twice = named_twice(&request);
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = match named_twice.get_mut(&(topic.name.clone(), asked.partition_index)) {
                None => find(ctx, &topic.name, asked).await,
                Some(answered) if *answered => continue,
                Some(answered) => {
                    *answered = true;
                    Err(ErrorCode::INVALID_REQUEST)
                }
            };
            let (code, found) = match found {
                Ok(found) => (ErrorCode::NONE, found),
                Err(code) => (code, NOTHING),
            };
            // Earlier versions have no place for it.
            let leader_epoch = if ctx.version >= 4 { found.leader_epoch } else { UNDEFINED };
            partitions.push(
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code.0)
                    .with_timestamp(found.timestamp)
                    .with_offset(found.offset)
                    .with_leader_epoch(leader_epoch),
            );
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// The partitions that a request names more than once, each with whether it was answered: Kafka refuses it, once.
fn named_twice(request: &ListOffsetsRequest) -> HashMap<(TopicName, i32), bool> {
    let mut once = HashSet::new();
    let all = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name.clone(), partition.partition_index))
    });
    all.filter(|partition| !once.insert(partition.clone())).map(|partition| (partition, false)).collect()
}

async fn find(ctx: &RequestContext, topic: &str, asked: &ListOffsetsPartition) -> Result<Found, ErrorCode> {
    ctx.authorize_topic(AclOperation::Describe, topic)?;
    ctx.injected_error(Stage::Before, topic, asked.partition_index)?;
    let mut since = 0;
    let found = loop {
        match look(ctx, topic, asked, since)? {
            Looked::Found(found) => break found,
            Looked::Batch { batch, epoch, start } => {
                let next = batch.header.last_offset() + 1;
                if let Some((timestamp, offset)) = record_since(batch, asked.timestamp, start).await? {
                    break Found { timestamp, offset, leader_epoch: epoch };
                }
                // Its record of that time was deleted, or its header claims a time that none of its records has.
                since = next;
                tokio::task::consume_budget().await;
            }
        }
    };
    ctx.injected_error(Stage::After, topic, asked.partition_index)?;
    Ok(found)
}

/// What the index of a log tells.
enum Looked {
    Found(Found),
    /// A batch that should hold the record looked for, the batch's leader epoch, and where the log starts.
    Batch {
        batch: RawBatch,
        epoch: i32,
        start: i64,
    },
}

/// Looks for a time in what ends at `since` or later.
fn look(
    ctx: &RequestContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    since: i64,
) -> Result<Looked, ErrorCode> {
    let known_since = match asked.timestamp {
        EARLIEST_PENDING_UPLOAD => 11,
        LATEST_TIERED => 9,
        EARLIEST_LOCAL => 8,
        MAX_TIMESTAMP => 7,
        time if time < EARLIEST_PENDING_UPLOAD => i16::MAX,
        _ => 0,
    };
    if ctx.version < known_since {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let image = ctx.image();
    let place = image.partition(topic, asked.partition_index);
    let mut state = place.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.partition.lock();
    let reader = Reader { broker: ctx.broker, follower: false, leader_epoch: asked.current_leader_epoch };
    state.check_reader(reader)?;
    let log = &mut state.log;
    let batch = match asked.timestamp {
        LATEST => {
            let (offset, leader_epoch) = (log.end(), log.latest_epoch());
            return Ok(Looked::Found(Found { timestamp: -1, offset, leader_epoch }));
        }
        EARLIEST | EARLIEST_LOCAL => {
            let offset = log.start();
            return Ok(Looked::Found(Found { timestamp: -1, offset, leader_epoch: log.epoch_of(offset) }));
        }
        // One whose records do not have it was looked at in vain.
        MAX_TIMESTAMP => log.batch_with_max_timestamp().filter(|_| since == 0),
        // Nothing is ever uploaded.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        time => log.first_batch_since(time, since),
    };
    Ok(batch.map_or(Looked::Found(NOTHING), |batch| {
        let epoch = log.epoch_of(batch.header.last_offset());
        Looked::Batch { batch, epoch, start: log.start() }
    }))
}

/// Timestamp and offset of the first record in a batch, from `start` on, that has at least this time, or the largest.
///
/// This decompresses: the answer is exact, as Kafka's is, and few ask.
async fn record_since(batch: RawBatch, timestamp: i64, start: i64) -> Result<Option<(i64, i64)>, ErrorCode> {
    let least = if timestamp == MAX_TIMESTAMP { batch.header.max_timestamp } else { timestamp };
    let compression = batch.header.compression();
    let look = move || {
        let decoded = batch.decode(&mut Decompressor::new(MOST_DECOMPRESSED))?;
        for record in decoded.records() {
            let record = record?;
            if record.timestamp >= least && record.offset >= start {
                return Ok(Some((record.timestamp, record.offset)));
            }
        }
        Ok::<_, BatchError>(None)
    };
    let looked = if compression == Compression::None {
        look()
    } else {
        tokio::task::spawn_blocking(look).await.map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?
    };
    looked.map_err(|_| ErrorCode::CORRUPT_MESSAGE)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_wire::api::Api;
    use kafka_wire::compression::Compressor;
    use kafka_wire::messages::TopicName;
    use kafka_wire::messages::list_offsets_request::ListOffsetsTopic;
    use kafka_wire::record_batch::{BatchWriter, batch_buffer};

    use super::*;
    use crate::cluster::Cluster;
    use crate::fault::on;
    use crate::wire_test::{Wire, memory_cluster, named};

    fn batch(timestamps: &[i64], compression: Compression) -> Bytes {
        let mut writer = BatchWriter::new(batch_buffer(256));
        for timestamp in timestamps {
            writer.append(*timestamp, None, Some(&[b'x'; 100]), &[]).unwrap();
        }
        let mut compressor = Compressor::new(compression, None).unwrap();
        writer.finish_compressed(&mut compressor, batch_buffer(256)).unwrap().0.freeze()
    }

    /// Offsets 0 to 6 at times 100, 120, 110 | 90 | 300, 300, 250.
    async fn cluster() -> Cluster {
        let cluster = memory_cluster(2, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        for (timestamps, compression) in [
            (&[100, 120, 110][..], Compression::Gzip),
            (&[90], Compression::None),
            (&[300, 300, 250], Compression::Lz4),
        ] {
            wire.produce(9, 1, named("t"), &[(0, batch(timestamps, compression))]).await;
        }
        cluster
    }

    async fn ask(cluster: &Cluster, version: i16, timestamp: i64) -> (ErrorCode, i64, i64) {
        ask_of(cluster, 1, version, "t", ListOffsetsPartition::default().with_timestamp(timestamp)).await
    }

    async fn ask_of(
        cluster: &Cluster,
        broker: i32,
        version: i16,
        topic: &str,
        partition: ListOffsetsPartition,
    ) -> (ErrorCode, i64, i64) {
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(topic.to_owned().into()))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let response = Wire::to(cluster, broker).call(version, request).await;
        let found = &response.topics[0].partitions[0];
        (ErrorCode(found.error_code), found.timestamp, found.offset)
    }

    #[tokio::test]
    async fn the_ends_and_the_records_of_a_time_are_found() {
        let cluster = cluster().await;
        for version in Api::ListOffsets.versions().min..=Api::ListOffsets.versions().max {
            let cases = [
                (LATEST, -1, 7),
                (EARLIEST, -1, 0),
                (0, 100, 0),
                (100, 100, 0),
                // The first record, not the first batch, that has this time or a later one.
                (101, 120, 1),
                (121, 300, 4),
                (300, 300, 4),
                (301, -1, -1),
            ];
            for (time, timestamp, offset) in cases {
                let found = ask(&cluster, version, time).await;
                assert_eq!(found, (ErrorCode::NONE, timestamp, offset), "version {version}, time {time}");
            }
        }
    }

    #[tokio::test]
    async fn special_times_are_known_from_their_version_on() {
        let cluster = cluster().await;
        let cases = [
            (MAX_TIMESTAMP, 7, (300, 4)),
            (EARLIEST_LOCAL, 8, (-1, 0)),
            (LATEST_TIERED, 9, (-1, -1)),
            (EARLIEST_PENDING_UPLOAD, 11, (-1, -1)),
        ];
        for (time, since, (timestamp, offset)) in cases {
            assert_eq!(ask(&cluster, since, time).await, (ErrorCode::NONE, timestamp, offset), "{time}");
            let before = ask(&cluster, since - 1, time).await;
            assert_eq!(before, (ErrorCode::UNSUPPORTED_VERSION, -1, -1), "{time}");
        }
        assert_eq!(ask(&cluster, 11, -7).await.0, ErrorCode::UNSUPPORTED_VERSION);
    }

    #[tokio::test]
    async fn deleted_records_are_not_found() {
        let cluster = cluster().await;
        let image = cluster.shared().image();
        image.partition("t", 0).unwrap().partition.lock().log.delete_before(4);
        drop(image);
        assert_eq!(ask(&cluster, 5, EARLIEST).await, (ErrorCode::NONE, -1, 4));
        assert_eq!(ask(&cluster, 5, 100).await, (ErrorCode::NONE, 300, 4));
        // Within a batch as well: the one record of 300 or later that is left has 300 no more.
        cluster.shared().image().partition("t", 0).unwrap().partition.lock().log.delete_before(6);
        assert_eq!(ask(&cluster, 5, 100).await, (ErrorCode::NONE, 250, 6));
        assert_eq!(ask(&cluster, 5, 251).await, (ErrorCode::NONE, -1, -1));
    }

    #[tokio::test]
    async fn only_the_leader_answers_in_its_epoch() {
        let cluster = cluster().await;
        let partition = || ListOffsetsPartition::default().with_timestamp(LATEST);
        let cases = [
            (2, "t", partition(), ErrorCode::NOT_LEADER_OR_FOLLOWER),
            (1, "u", partition(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (1, "t", partition().with_partition_index(1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (1, "t", partition().with_current_leader_epoch(0), ErrorCode::NONE),
            (1, "t", partition().with_current_leader_epoch(1), ErrorCode::UNKNOWN_LEADER_EPOCH),
        ];
        for (broker, topic, partition, expected) in cases {
            assert_eq!(ask_of(&cluster, broker, 5, topic, partition).await.0, expected);
        }
        let _fault = cluster.fault(on(Api::ListOffsets).topic("t")).error(ErrorCode::OFFSET_NOT_AVAILABLE);
        assert_eq!(ask(&cluster, 5, LATEST).await.0, ErrorCode::OFFSET_NOT_AVAILABLE);
    }
}
