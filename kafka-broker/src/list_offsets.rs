//! ListOffsets: the ends of a log, and the first record since a time.

use kafka_wire::compression::{Compression, Decompressor};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::list_offsets_request::ListOffsetsPartition;
use kafka_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::messages::{ListOffsetsRequest, ListOffsetsResponse};
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
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let (code, found) = match find(ctx, &topic.name, asked).await {
                Ok(found) => (ErrorCode::NONE, found),
                Err(code) => (code, NOTHING),
            };
            partitions.push(
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code.0)
                    .with_timestamp(found.timestamp)
                    .with_offset(found.offset)
                    .with_leader_epoch(found.leader_epoch),
            );
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn find(ctx: &RequestContext, topic: &str, asked: &ListOffsetsPartition) -> Result<Found, ErrorCode> {
    ctx.injected_error(Stage::Before, topic, asked.partition_index)?;
    let found = match look(ctx, topic, asked)? {
        Looked::Found(found) => found,
        Looked::Batch(batch, epoch) => {
            let (timestamp, offset) = record_since(batch, asked.timestamp).await?;
            Found { timestamp, offset, leader_epoch: epoch }
        }
    };
    ctx.injected_error(Stage::After, topic, asked.partition_index)?;
    Ok(found)
}

/// What the index of a log tells.
enum Looked {
    Found(Found),
    /// The batch that holds the record looked for, and its leader epoch.
    Batch(RawBatch, i32),
}

fn look(ctx: &RequestContext, topic: &str, asked: &ListOffsetsPartition) -> Result<Looked, ErrorCode> {
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
        MAX_TIMESTAMP => log.batch_with_max_timestamp(),
        // Nothing is ever uploaded.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        time => log.first_batch_since(time),
    };
    Ok(batch.map_or(Looked::Found(NOTHING), |batch| {
        let epoch = log.epoch_of(batch.header.base_offset);
        Looked::Batch(batch, epoch)
    }))
}

/// Timestamp and offset of the first record in a batch that has at least this time, or of one with the largest.
///
/// This decompresses: the answer is exact, as Kafka's is, and few ask.
async fn record_since(batch: RawBatch, timestamp: i64) -> Result<(i64, i64), ErrorCode> {
    let least = if timestamp == MAX_TIMESTAMP { batch.header.max_timestamp } else { timestamp };
    let compression = batch.header.compression();
    let look = move || {
        let decoded = batch.decode(&mut Decompressor::new(MOST_DECOMPRESSED))?;
        for record in decoded.records() {
            let record = record?;
            if record.timestamp >= least {
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
    // A batch that claims a time which none of its records has is as corrupt as one that does not decompress.
    looked.ok().flatten().ok_or(ErrorCode::CORRUPT_MESSAGE)
}
