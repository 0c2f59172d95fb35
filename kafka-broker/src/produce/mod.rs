//! Produce: checks each batch by its header and CRC, and appends it. Nothing is decompressed, but on compacted topics.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;
use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::compression::{Compression, Decompressor};
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::produce::{
    LeaderHint, NodeEndpoint, Outcome, PartitionRecordsView, PartitionResponse, RecordError, RequestView,
    Response, TopicRef,
};
use kafka_wire::record_batch::{
    BatchError, BatchHeader, NO_TIMESTAMP, RawBatch, RecordRef, TimestampType, verify_crc,
};
use uuid::Uuid;

use crate::config::TopicConfig;
use crate::fault::{Seen, Stage};
use crate::image::{Image, PartitionImage, Topic};
use crate::log::{AppendRules, Appended};
use crate::quota::measured;
use crate::router::{Reply, check_names, strike};
use crate::shared::RequestContext;

/// The first version in which topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version in which a client may send zstd.
const ZSTD_SINCE: i16 = 7;
/// The first version that tells who leads instead (KIP-951).
const LEADER_HINTS_SINCE: i16 = 10;
/// Where every format says how long a batch is after that, the least it may say, and where the format itself is.
const LENGTH_AT: usize = 8;
const LEAST_LENGTH: usize = 14;
const MAGIC_AT: usize = 16;
const NEWEST_MAGIC: u8 = 2;
/// Where the lower byte of a batch's attributes is, which of its bits name the codec, and which says transactional.
const ATTRIBUTES_AT: usize = 22;
const CODEC: u8 = 7;
const TRANSACTIONAL: u8 = 16;
/// What a batch may decompress to where its records have to be looked at.
const MOST_DECOMPRESSED: usize = 16 * 1024 * 1024;

/// Why a batch was not appended.
#[derive(Debug)]
struct Refused {
    code: ErrorCode,
    /// Told only together with records, as by Kafka.
    reason: String,
    /// Indexes of the records at fault.
    records: Vec<i32>,
    leader: Option<LeaderHint>,
    /// Where the log starts, if it was the log that refused.
    log_start: i64,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

impl Refused {
    fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), records: Vec::new(), leader: None, log_start: -1 }
    }
}

/// What a response says of one partition.
struct Done {
    appended: Appended,
    log_start: i64,
}

pub(crate) async fn serve(mut ctx: RequestContext, body: Bytes) -> Result<Reply, ProtocolError> {
    let request = RequestView::decode(ctx.version, &body)?;
    check_names(&ctx, request.partitions().map(|partition| partition.topic))?;
    ctx.injected = ctx.shared.faults.hitting(&Seen {
        broker: ctx.broker,
        api: ctx.api,
        client_id: ctx.client_id.as_deref(),
        group: None,
        items: &|see| {
            let image = ctx.image();
            for partition in request.partitions() {
                let topic = find_topic(&image, ctx.version, partition.topic);
                see(topic.map_or(partition.topic.name, |topic| &topic.name), Some(partition.index));
            }
        },
    });
    if let Some(reply) = strike(&ctx, Stage::Before).await {
        return Ok(reply);
    }
    let image = ctx.shared.controller.whole_image();
    let partitions = each_once(&request);
    let mut outcomes = Vec::with_capacity(partitions.len());
    let appending = async {
        for partition in &partitions {
            let topic = find_topic(&image, ctx.version, partition.topic);
            let outcome = produce(&ctx, &image, &request, topic, *partition, &body).await;
            if let Err(Refused { code, reason, .. }) = &outcome {
                let name = topic.map_or(partition.topic.name, |topic| &topic.name);
                tracing::debug!(topic = name, partition = partition.index, %code, reason, "a batch was refused");
            }
            outcomes.push(outcome);
        }
    };
    let ((), spent) = measured(appending).await;
    ctx.throttle = ctx.charge_produce(body.len());
    if request.acks != 0 {
        ctx.throttle = ctx.throttle.max(ctx.charge_time(spent));
    }
    ctx.shared.events.notify();
    if let Some(reply) = strike(&ctx, Stage::After).await {
        return Ok(reply);
    }
    if request.acks == 0 {
        // The producer has no other way to learn that something went wrong.
        let failed = outcomes.iter().any(Result::is_err);
        return Ok(if failed { Reply::Close } else { Reply::Nothing(ctx.throttle) });
    }
    let body = respond(&ctx, &image, &partitions, &outcomes)?;
    Ok(Reply::answer(&ctx, vec![body]))
}

fn find_topic<'i>(image: &'i Image, version: i16, topic: TopicRef<'_>) -> Option<&'i Arc<Topic>> {
    if version >= TOPIC_IDS_SINCE {
        image.topic_by_id(Uuid::from_bytes(topic.id))
    } else {
        image.topic(topic.name)
    }
}

/// Of a partition that is named again, only the last records count, as in Kafka.
fn each_once<'a>(request: &RequestView<'a>) -> Vec<PartitionRecordsView<'a>> {
    let mut partitions: Vec<PartitionRecordsView<'a>> = request.partitions().collect();
    if partitions.len() > 1 {
        let key = |partition: &PartitionRecordsView<'a>| {
            (partition.topic.name, partition.topic.id, partition.index)
        };
        let last: HashMap<_, usize, RandomState> = partitions.iter().map(key).zip(0..).collect();
        let mut at = 0..;
        partitions.retain(|partition| last.get(&key(partition)).copied() == at.next());
    }
    partitions
}

/// Appends the records for one partition.
async fn produce(
    ctx: &RequestContext,
    image: &Image,
    request: &RequestView<'_>,
    topic: Option<&Arc<Topic>>,
    partition: PartitionRecordsView<'_>,
    body: &Bytes,
) -> Result<Done, Refused> {
    let topic = if ctx.version >= TOPIC_IDS_SINCE {
        let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        ctx.authorize_in(image, AclOperation::Write, ResourceType::Topic, &topic.name)?;
        topic
    } else {
        // Before it is looked at, so that nobody learns what exists.
        ctx.authorize_in(image, AclOperation::Write, ResourceType::Topic, partition.topic.name)?;
        topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
    };
    if !matches!(request.acks, -1..=1) {
        return Err(ErrorCode::INVALID_REQUIRED_ACKS.into());
    }
    ctx.injected_error(Stage::Before, &topic.name, partition.index)?;
    let place = topic.partition(partition.index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let batch = one_batch(partition.records.unwrap_or_default(), ctx.version)?;
    if attributes(batch) & TRANSACTIONAL != 0 {
        let id = request.transactional_id.ok_or(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)?;
        ctx.authorize_in(image, AclOperation::Write, ResourceType::TransactionalId, id)?;
    }
    let done = match store(ctx, image, topic, place, request.acks, body.slice_ref(batch)).await {
        Err(refused) if tells_log_start(refused.code) => {
            let log_start = place.partition.lock().log.start();
            return Err(Refused { log_start, ..refused });
        }
        stored => stored?,
    };
    ctx.injected_error(Stage::After, &topic.name, partition.index)?;
    Ok(done)
}

/// Kafka tells where the log starts with all but these errors of a log.
fn tells_log_start(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::CORRUPT_MESSAGE
    )
}

/// The one batch that a partition's records must begin with. Part of another may follow and is left out, as by Kafka.
fn one_batch(records: &[u8], version: i16) -> Result<&[u8], Refused> {
    let invalid = |reason: &str| Err(Refused::new(ErrorCode::INVALID_RECORD, reason));
    const ONE_BATCH: &str = "Produce requests must contain exactly one record batch per partition";
    let Some(batch) = next_batch(records)? else { return invalid(ONE_BATCH) };
    if batch.get(MAGIC_AT) != Some(&NEWEST_MAGIC) {
        return invalid("Produce requests must contain record batches of format 2");
    }
    let codec = Compression::from_id(attributes(batch) & CODEC);
    if codec == Some(Compression::Zstd) && version < ZSTD_SINCE {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.into());
    }
    match next_batch(&records[batch.len()..])? {
        Some(_) => invalid(ONE_BATCH),
        None => Ok(batch),
    }
}

fn attributes(batch: &[u8]) -> u8 {
    batch.get(ATTRIBUTES_AT).copied().unwrap_or_default()
}

/// The batch, of any format, at the beginning; `None` if not all of it is there.
fn next_batch(records: &[u8]) -> Result<Option<&[u8]>, Refused> {
    let Some(length) = records.get(LENGTH_AT..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length)).ok().filter(|length| *length >= LEAST_LENGTH);
    let length = length.ok_or_else(|| Refused::new(ErrorCode::CORRUPT_MESSAGE, "The size is too small"))?;
    match records.get(MAGIC_AT) {
        None => Ok(None),
        Some(0..=NEWEST_MAGIC) => Ok(records.get(..LENGTH_AT + size_of::<i32>() + length)),
        Some(magic) => Err(Refused::new(ErrorCode::CORRUPT_MESSAGE, format!("Format {magic} is unknown"))),
    }
}

/// Checks a batch, and its records where that needs be, and appends it.
async fn store(
    ctx: &RequestContext,
    image: &Image,
    topic: &Topic,
    place: &PartitionImage,
    acks: i16,
    bytes: Bytes,
) -> Result<Done, Refused> {
    let now_ms = ctx.shared.clock.wall_ms();
    if image.null.is_some() {
        // Nothing is kept, so nothing matters of it but how many records it has.
        let header = parsed_header(&bytes)?;
        return append(ctx, image, topic, place, acks, &bytes, &header, now_ms);
    }
    let header = checked_header(&bytes, &topic.config)?;
    if topic.config.compacted {
        check_keys(&bytes, header).await?;
    }
    check_timestamps(&bytes, header, &topic.config, now_ms).await?;
    append(ctx, image, topic, place, acks, &bytes, &header, now_ms)
}

/// What header and CRC tell of a batch.
fn checked_header(batch: &[u8], config: &TopicConfig) -> Result<BatchHeader, Refused> {
    let invalid = |reason: &str| Err(Refused::new(ErrorCode::INVALID_RECORD, reason));
    if batch.len() > config.max_message_bytes {
        let (size, most) = (batch.len(), config.max_message_bytes);
        let reason = format!("The batch has {size} bytes, the topic takes {most}");
        return Err(Refused::new(ErrorCode::MESSAGE_TOO_LARGE, reason));
    }
    if let Err(error) = verify_crc(batch) {
        return Err(Refused::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()));
    }
    let header = parsed_header(batch)?;
    if header.is_control() {
        return invalid("Clients are not allowed to write control records");
    }
    if header.base_offset != 0 {
        return invalid("The base offset of the record batch should be 0");
    }
    if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        return invalid("The record count does not match the offsets of the batch");
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return invalid("An idempotent batch needs a sequence");
    }
    if header.is_transactional() {
        return Err(Refused::new(ErrorCode::INVALID_TXN_STATE, "This broker has no transactions"));
    }
    Ok(header)
}

fn parsed_header(batch: &[u8]) -> Result<BatchHeader, Refused> {
    BatchHeader::parse(batch).map_err(|error| {
        let code = match error {
            BatchError::UnknownCompression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::Truncated { .. } => ErrorCode::CORRUPT_MESSAGE,
            _ => ErrorCode::INVALID_RECORD,
        };
        Refused::new(code, error.to_string())
    })
}

/// Whether the times of the records are near enough to now. The header tells; if it tells otherwise, the records are asked.
async fn check_timestamps(
    bytes: &Bytes,
    header: BatchHeader,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<(), Refused> {
    if config.log_append_time {
        if header.timestamp_type() == TimestampType::CreateTime {
            return Ok(());
        }
        let records = records_that(bytes, header, |_| true).await?;
        let reason = "Producers must not set the timestamp type to LogAppendTime";
        return refuse_records(ErrorCode::INVALID_TIMESTAMP, reason, records);
    }
    let (before, after) = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
    let is_far = move |timestamp: i64| {
        timestamp != NO_TIMESTAMP
            && (timestamp.saturating_sub(now_ms) > after || now_ms.saturating_sub(timestamp) > before)
    };
    if !is_far(header.base_timestamp) && !is_far(header.max_timestamp) {
        return Ok(());
    }
    let records = records_that(bytes, header, move |record| is_far(record.timestamp)).await?;
    let reason = format!("Timestamp is more than {before} ms old or {after} ms ahead");
    refuse_records(ErrorCode::INVALID_TIMESTAMP, reason, records)
}

/// On a compacted topic every record needs a key, which only the decompressed records tell.
async fn check_keys(bytes: &Bytes, header: BatchHeader) -> Result<(), Refused> {
    let records = records_that(bytes, header, |record| record.key.is_none()).await?;
    refuse_records(ErrorCode::INVALID_RECORD, "Compacted topic cannot accept message without key", records)
}

/// Which records of a batch are at fault.
async fn records_that(
    bytes: &Bytes,
    header: BatchHeader,
    is_at_fault: impl Fn(&RecordRef<'_>) -> bool + Send + 'static,
) -> Result<Vec<i32>, Refused> {
    let batch = RawBatch { header, bytes: bytes.clone() };
    let look = move || {
        let decoded = batch.decode(&mut Decompressor::new(MOST_DECOMPRESSED))?;
        let mut found = Vec::new();
        for (index, record) in (0..).zip(decoded.records()) {
            if is_at_fault(&record?) {
                found.push(index);
            }
        }
        Ok::<_, BatchError>(found)
    };
    let looked = if header.compression() == Compression::None {
        look()
    } else {
        let looking = tokio::task::spawn_blocking(look).await;
        looking.map_err(|_| Refused::from(ErrorCode::UNKNOWN_SERVER_ERROR))?
    };
    looked.map_err(|error| Refused::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()))
}

fn refuse_records(code: ErrorCode, reason: impl Into<String>, records: Vec<i32>) -> Result<(), Refused> {
    if records.is_empty() { Ok(()) } else { Err(Refused { records, ..Refused::new(code, reason) }) }
}

#[expect(clippy::too_many_arguments, reason = "called once; a struct would only repeat the names")]
fn append(
    ctx: &RequestContext,
    image: &Image,
    topic: &Topic,
    place: &PartitionImage,
    acks: i16,
    batch: &[u8],
    header: &BatchHeader,
    now_ms: i64,
) -> Result<Done, Refused> {
    let mut state = place.partition.lock();
    if state.leader != ctx.broker {
        let leader = LeaderHint { leader_id: state.leader, leader_epoch: state.leader_epoch };
        let leader = Some(leader).filter(|_| ctx.version >= LEADER_HINTS_SINCE);
        return Err(Refused { leader, ..Refused::from(ErrorCode::NOT_LEADER_OR_FOLLOWER) });
    }
    if acks == -1 && place.isr_len(image) < topic.config.min_insync_replicas {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    }
    let rules = AppendRules {
        leader_epoch: state.leader_epoch,
        now_ms,
        log_append_time: topic.config.log_append_time,
        producer_expiration_ms: ctx.shared.limits.producer_expiration_ms,
    };
    let appended = state.log.append(batch, header, rules)?;
    if !appended.duplicate {
        state.wake();
    }
    Ok(Done { appended, log_start: state.log.start() })
}

fn respond(
    ctx: &RequestContext,
    image: &Image,
    asked: &[PartitionRecordsView<'_>],
    outcomes: &[Result<Done, Refused>],
) -> Result<Bytes, ProtocolError> {
    let nobody = LeaderHint { leader_id: -1, leader_epoch: -1 };
    let mut record_errors = Vec::new();
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let message = Some(&*refused.reason);
        record_errors
            .extend(refused.records.iter().map(|index| RecordError { batch_index: *index, message }));
    }
    let mut record_errors = &record_errors[..];
    let mut leaders: Vec<i32> = Vec::new();
    let partitions: Vec<PartitionResponse<'_>> = asked
        .iter()
        .zip(outcomes)
        .map(|(asked, outcome)| {
            let (index, topic) = (asked.index, asked.topic);
            match outcome {
                Ok(Done { appended, log_start }) => PartitionResponse {
                    topic,
                    outcome: Outcome {
                        index,
                        error_code: ErrorCode::NONE.0,
                        base_offset: appended.base_offset,
                        log_append_time_ms: appended.log_append_time_ms,
                        log_start_offset: *log_start,
                        current_leader: None,
                    },
                    record_errors: &[],
                    error_message: None,
                },
                Err(refused) => {
                    let errors;
                    (errors, record_errors) = record_errors.split_at(refused.records.len());
                    leaders.extend(refused.leader.filter(|hint| *hint != nobody).map(|hint| hint.leader_id));
                    PartitionResponse {
                        topic,
                        outcome: Outcome {
                            index,
                            error_code: refused.code.0,
                            base_offset: -1,
                            log_append_time_ms: NO_TIMESTAMP,
                            log_start_offset: refused.log_start,
                            current_leader: refused.leader,
                        },
                        record_errors: errors,
                        error_message: Some(&*refused.reason).filter(|_| !errors.is_empty()),
                    }
                }
            }
        })
        .collect();
    let node_endpoints = endpoints(image, ctx.listener, leaders);
    let throttle_time_ms = ctx.throttle_ms();
    let response = Response { partitions: &partitions, throttle_time_ms, node_endpoints: &node_endpoints };
    let mut out = BytesMut::new();
    response.encode(ctx.version, &mut out)?;
    Ok(out.freeze())
}

/// Where live leaders listen for clients of this listener, each once.
pub(crate) fn endpoints(image: &Image, listener: usize, mut leaders: Vec<i32>) -> Vec<NodeEndpoint<'_>> {
    leaders.sort_unstable();
    leaders.dedup();
    let live = leaders.into_iter().filter_map(|id| image.live_broker(id));
    live.map(|broker| {
        let address = broker.address_at(listener);
        NodeEndpoint {
            node_id: broker.id,
            host: &address.host,
            port: i32::from(address.port),
            rack: broker.rack.as_deref(),
        }
    })
    .collect()
}
