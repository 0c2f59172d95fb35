//! Produce: checks each batch by its header and CRC, and appends it. Nothing is decompressed, but on compacted topics.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_wire::compression::{Compression, Decompressor};
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::produce::{
    LeaderHint, NodeEndpoint, Outcome, PartitionRecordsView, PartitionResponse, RecordError, RequestView,
    Response, TopicRef,
};
use kafka_wire::record_batch::{BatchError, BatchHeader, NO_TIMESTAMP, RawBatch, verify_crc};
use uuid::Uuid;

use crate::config::TopicConfig;
use crate::fault::{Seen, Stage};
use crate::image::{Image, PartitionImage, Topic};
use crate::log::{AppendRules, Appended, has_append_time};
use crate::router::{Reply, check_names, strike};
use crate::shared::RequestContext;

/// The first version in which topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version in which a client may send zstd.
const ZSTD_SINCE: i16 = 7;
/// The first version that tells who leads instead (KIP-951).
const LEADER_HINTS_SINCE: i16 = 10;
/// What a batch may decompress to where its records have to be looked at.
const MOST_DECOMPRESSED: usize = 16 * 1024 * 1024;

/// Why a batch was not appended.
#[derive(Debug, Default)]
struct Refused {
    code: ErrorCode,
    message: Option<String>,
    /// Indexes of the records at fault.
    records: Vec<i32>,
    leader: Option<LeaderHint>,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), ..Self::default() }
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
    let mut outcomes = Vec::with_capacity(request.partitions().size_hint().0);
    for partition in request.partitions() {
        let topic = find_topic(&image, ctx.version, partition.topic);
        outcomes.push(produce(&ctx, &image, &request, topic, partition, &body).await);
    }
    ctx.shared.events.notify();
    if let Some(reply) = strike(&ctx, Stage::After).await {
        return Ok(reply);
    }
    if request.acks == 0 {
        // The producer has no other way to learn that something went wrong.
        let failed = outcomes.iter().any(Result::is_err);
        return Ok(if failed { Reply::Close } else { Reply::Nothing });
    }
    let body = respond(&ctx, &image, &request, &outcomes)?;
    Ok(Reply::answer(&ctx, vec![body]))
}

fn find_topic<'i>(image: &'i Image, version: i16, topic: TopicRef<'_>) -> Option<&'i Arc<Topic>> {
    if version >= TOPIC_IDS_SINCE {
        image.topic_by_id(Uuid::from_bytes(topic.id))
    } else {
        image.topic(topic.name)
    }
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
    if !matches!(request.acks, -1..=1) {
        return Err(ErrorCode::INVALID_REQUIRED_ACKS.into());
    }
    let unknown = if ctx.version >= TOPIC_IDS_SINCE {
        ErrorCode::UNKNOWN_TOPIC_ID
    } else {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    };
    let topic = topic.ok_or(unknown)?;
    ctx.injected_error(Stage::Before, &topic.name, partition.index)?;
    let place = topic.partition(partition.index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let now_ms = ctx.shared.clock.wall_ms();
    let (batch, header) = checked_batch(partition.records, ctx.version, &topic.config, now_ms)?;
    if topic.config.compacted {
        check_keys(body.slice_ref(batch), header).await?;
    }
    let done = append(ctx, image, topic, place, request.acks, batch, &header, now_ms)?;
    ctx.injected_error(Stage::After, &topic.name, partition.index)?;
    Ok(done)
}

/// The one batch that a partition's records must be, as far as header and CRC tell.
fn checked_batch<'a>(
    records: Option<&'a [u8]>,
    version: i16,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<(&'a [u8], BatchHeader), Refused> {
    let records = records.unwrap_or_default();
    let invalid = |message: &str| Refused::new(ErrorCode::INVALID_RECORD, message);
    let one_batch = || invalid("Produce requests must contain exactly one record batch per partition");
    let header = BatchHeader::parse(records).map_err(|error| match error {
        BatchError::Truncated { .. } => one_batch(),
        BatchError::UnsupportedMagic(_) => Refused::new(ErrorCode::INVALID_RECORD, error.to_string()),
        BatchError::UnknownCompression(_) => {
            Refused::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, error.to_string())
        }
        error => Refused::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()),
    })?;
    if header.size_in_bytes() != records.len() {
        return Err(one_batch());
    }
    if header.compression() == Compression::Zstd && version < ZSTD_SINCE {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.into());
    }
    if records.len() > config.max_message_bytes {
        let message =
            format!("The batch has {} bytes, the topic takes {}", records.len(), config.max_message_bytes);
        return Err(Refused::new(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    if let Err(error) = verify_crc(records) {
        return Err(Refused::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()));
    }
    if header.is_control() {
        return Err(invalid("Clients are not allowed to write control records"));
    }
    if header.base_offset != 0 {
        return Err(invalid("The base offset of the record batch should be 0"));
    }
    if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        return Err(invalid("The record count does not match the offsets of the batch"));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(invalid("An idempotent batch needs an epoch and a sequence"));
    }
    if header.is_transactional() {
        return Err(Refused::new(ErrorCode::INVALID_TXN_STATE, "This broker has no transactions"));
    }
    check_timestamps(&header, config, now_ms)?;
    Ok((records, header))
}

fn check_timestamps(header: &BatchHeader, config: &TopicConfig, now_ms: i64) -> Result<(), Refused> {
    let invalid = |message: String| Err(Refused::new(ErrorCode::INVALID_TIMESTAMP, message));
    if has_append_time(header) {
        return invalid("Producers must not set the timestamp type to LogAppendTime".into());
    }
    if config.log_append_time {
        return Ok(());
    }
    let (first, last) = (header.base_timestamp, header.max_timestamp);
    if last != NO_TIMESTAMP && last.saturating_sub(now_ms) > config.timestamp_after_max_ms {
        return invalid(format!("Timestamp {last} is more than {} ms ahead", config.timestamp_after_max_ms));
    }
    if first != NO_TIMESTAMP && now_ms.saturating_sub(first) > config.timestamp_before_max_ms {
        return invalid(format!("Timestamp {first} is more than {} ms old", config.timestamp_before_max_ms));
    }
    Ok(())
}

/// On a compacted topic every record needs a key, which only the decompressed records tell.
async fn check_keys(bytes: Bytes, header: BatchHeader) -> Result<(), Refused> {
    let look = move || {
        let decoded = RawBatch { header, bytes }.decode(&mut Decompressor::new(MOST_DECOMPRESSED))?;
        let mut keyless = Vec::new();
        for (index, record) in (0..).zip(decoded.records()) {
            if record?.key.is_none() {
                keyless.push(index);
            }
        }
        Ok::<_, BatchError>(keyless)
    };
    let looked = if header.compression() == Compression::None {
        look()
    } else {
        let looking = tokio::task::spawn_blocking(look).await;
        looking.map_err(|_| Refused::from(ErrorCode::UNKNOWN_SERVER_ERROR))?
    };
    let records = looked.map_err(|error| Refused::new(ErrorCode::CORRUPT_MESSAGE, error.to_string()))?;
    if records.is_empty() {
        return Ok(());
    }
    let message = "Compacted topic cannot accept message without key".to_owned();
    Err(Refused { code: ErrorCode::INVALID_RECORD, message: Some(message), records, leader: None })
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
    request: &RequestView<'_>,
    outcomes: &[Result<Done, Refused>],
) -> Result<Bytes, ProtocolError> {
    let nobody = LeaderHint { leader_id: -1, leader_epoch: -1 };
    let mut record_errors = Vec::new();
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let message = refused.message.as_deref();
        record_errors
            .extend(refused.records.iter().map(|index| RecordError { batch_index: *index, message }));
    }
    let mut record_errors = &record_errors[..];
    let mut leaders: Vec<i32> = Vec::new();
    let partitions: Vec<PartitionResponse<'_>> = request
        .partitions()
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
                            log_start_offset: -1,
                            current_leader: refused.leader,
                        },
                        record_errors: errors,
                        error_message: refused.message.as_deref(),
                    }
                }
            }
        })
        .collect();
    let node_endpoints = endpoints(image, leaders);
    let throttle_time_ms = ctx.injected.throttle().unwrap_or_default();
    let response = Response { partitions: &partitions, throttle_time_ms, node_endpoints: &node_endpoints };
    let mut out = BytesMut::new();
    response.encode(ctx.version, &mut out)?;
    Ok(out.freeze())
}

/// Where live leaders listen, each once.
pub(crate) fn endpoints(image: &Image, mut leaders: Vec<i32>) -> Vec<NodeEndpoint<'_>> {
    leaders.sort_unstable();
    leaders.dedup();
    let live = leaders.into_iter().filter_map(|id| image.live_broker(id));
    live.map(|broker| NodeEndpoint {
        node_id: broker.id,
        host: &broker.address.host,
        port: i32::from(broker.address.port),
        rack: broker.rack.as_deref(),
    })
    .collect()
}
