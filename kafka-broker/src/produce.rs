//! Produce: checks each batch by its header and CRC, and appends it. Nothing is decompressed, but on compacted topics.

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
use crate::router::{Reply, strike};
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

#[cfg(test)]
mod tests {
    use kafka_wire::api::Api;
    use kafka_wire::record_batch::{BatchMut, BatchWriter, SealedBatch, batch_buffer};

    use super::*;
    use crate::cluster::Cluster;
    use crate::fault::on;
    use crate::wire_test::{Produced, Wire, batch_of, memory_cluster, named};

    const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

    fn topic_ref<'a>(cluster: &Cluster, name: &'a str) -> TopicRef<'a> {
        let id = cluster.shared().image().topic(name).map_or([9; 16], |topic| topic.id.into_bytes());
        TopicRef { name, id }
    }

    async fn code(cluster: &Cluster, version: i16, topic: &str, batch: Bytes) -> ErrorCode {
        let topic = topic_ref(cluster, topic);
        Wire::to(cluster, 1).produce(version, -1, topic, &[(0, batch)]).await[0].code()
    }

    /// A batch whose header bytes were changed and whose CRC fits.
    fn patched(at: usize, bytes: &[u8]) -> Bytes {
        let mut batch = batch_of(&["v"], None).to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = kafka_wire::crc::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    #[tokio::test]
    async fn every_version_appends_and_answers_with_the_offset() {
        let cluster = memory_cluster(1, "t", 2, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        for (round, version) in (0..).zip(VERSIONS) {
            let records = [(1, batch_of(&["a", "b"], None)), (0, batch_of(&["c"], None))];
            let produced = wire.produce(version, 1, topic_ref(&cluster, "t"), &records).await;
            let seen =
                produced.iter().map(|p| (p.outcome.index, p.outcome.error_code, p.outcome.base_offset));
            assert_eq!(seen.collect::<Vec<_>>(), [(1, 0, 2 * round), (0, 0, round)], "version {version}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_refused_with_kafkas_codes() {
        let builder = Cluster::builder().transport_memory().topic("t", 1, 1).topic("small", 1, 1);
        let builder = builder.topic_config("max.message.bytes", "70").topic("log", 1, 1);
        let builder = builder.topic_config("message.timestamp.type", "LogAppendTime").topic("strict", 1, 1);
        let cluster = builder.topic_config("message.timestamp.before.max.ms", "10").start().await.unwrap();
        let good = || batch_of(&["v"], None);
        let corrupt = || {
            let mut bytes = good().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Bytes::from(bytes)
        };
        let far = (cluster.shared().clock.wall_ms() + 7_200_000).to_be_bytes();
        let cases = [
            ("good", 13, "t", good(), ErrorCode::NONE),
            ("unknown id", 13, "nope", good(), ErrorCode::UNKNOWN_TOPIC_ID),
            ("unknown name", 12, "nope", good(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("empty", 9, "t", Bytes::new(), ErrorCode::INVALID_RECORD),
            ("two batches", 9, "t", [good(), good()].concat().into(), ErrorCode::INVALID_RECORD),
            ("cut", 9, "t", good().slice(..good().len() - 1), ErrorCode::INVALID_RECORD),
            ("old format", 9, "t", patched(16, &[1]), ErrorCode::INVALID_RECORD),
            ("bad CRC", 9, "t", corrupt(), ErrorCode::CORRUPT_MESSAGE),
            ("unknown codec", 9, "t", patched(22, &[7]), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
            ("zstd too early", 6, "t", patched(22, &[4]), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
            ("zstd", 7, "t", patched(22, &[4]), ErrorCode::NONE),
            ("control", 9, "t", patched(22, &[0x20]), ErrorCode::INVALID_RECORD),
            ("transactional", 9, "t", patched(22, &[0x10]), ErrorCode::INVALID_TXN_STATE),
            ("own append time", 9, "t", patched(22, &[0x08]), ErrorCode::INVALID_TIMESTAMP),
            ("base offset", 9, "t", patched(7, &[1]), ErrorCode::INVALID_RECORD),
            ("offsets without records", 9, "t", patched(26, &[1]), ErrorCode::INVALID_RECORD),
            ("no records", 9, "t", patched(57, &[0, 0, 0, 0]), ErrorCode::INVALID_RECORD),
            ("more records than bytes", 9, "t", patched(57, &[0x7f, 0, 0, 0]), ErrorCode::CORRUPT_MESSAGE),
            ("producer without sequence", 9, "t", patched(43, &[0; 8]), ErrorCode::INVALID_RECORD),
            ("far ahead", 9, "t", patched(35, &far), ErrorCode::INVALID_TIMESTAMP),
            ("far ahead, not its own time", 9, "log", patched(35, &far), ErrorCode::NONE),
            ("old", 9, "strict", good(), ErrorCode::INVALID_TIMESTAMP),
            ("too large", 9, "small", good(), ErrorCode::MESSAGE_TOO_LARGE),
        ];
        for (name, version, topic, batch, expected) in cases {
            assert_eq!(code(&cluster, version, topic, batch).await, expected, "{name}");
        }
        let mut wire = Wire::to(&cluster, 1);
        let odd = wire.produce(9, 2, named("t"), &[(0, good())]).await;
        assert_eq!(odd[0].code(), ErrorCode::INVALID_REQUIRED_ACKS);
        let beyond = wire.produce(9, 1, named("t"), &[(1, good())]).await;
        assert_eq!(beyond[0].code(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    #[tokio::test]
    async fn a_compacted_topic_names_the_records_without_a_key() {
        let builder = Cluster::builder().transport_memory().topic("t", 1, 1);
        let cluster = builder.topic_config("cleanup.policy", "compact").start().await.unwrap();
        let write = |keys: &[Option<&[u8]>], compression: Compression| {
            let mut writer = BatchWriter::new(batch_buffer(256));
            for key in keys {
                writer.append(1000, *key, Some(b"value value value value"), &[]).unwrap();
            }
            let mut compressor = kafka_wire::compression::Compressor::new(compression, None).unwrap();
            let sealed: SealedBatch = match compression {
                Compression::None => writer.finish().unwrap(),
                _ => writer.finish_compressed(&mut compressor, batch_buffer(256)).unwrap().0,
            };
            sealed.freeze()
        };
        let mut wire = Wire::to(&cluster, 1);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Lz4] {
            let keyless = write(&[Some(b"k"), None, Some(b"k"), None], compression);
            let refused = wire.produce(9, 1, named("t"), &[(0, keyless)]).await;
            assert_eq!(
                (refused[0].code(), &refused[0].bad_records[..]),
                (ErrorCode::INVALID_RECORD, &[1, 3][..])
            );
            let keyed = write(&[Some(b"k"), Some(b"")], compression);
            assert_eq!(wire.produce(9, 1, named("t"), &[(0, keyed)]).await[0].code(), ErrorCode::NONE);
        }
    }

    #[tokio::test]
    async fn a_broker_that_does_not_lead_says_who_does() {
        let cluster = memory_cluster(2, "t", 1, 2).await;
        let mut wire = Wire::to(&cluster, 2);
        for version in VERSIONS {
            let topic = topic_ref(&cluster, "t");
            let refused = &wire.produce(version, -1, topic, &[(0, batch_of(&["v"], None))]).await[0];
            assert_eq!(refused.code(), ErrorCode::NOT_LEADER_OR_FOLLOWER);
            let hint = LeaderHint { leader_id: 1, leader_epoch: 0 };
            let told = version >= 10;
            assert_eq!(refused.outcome.current_leader, told.then_some(hint), "version {version}");
            assert_eq!(refused.endpoints, if told { vec![1] } else { vec![] });
        }
    }

    #[tokio::test]
    async fn acks_0_gets_no_answer_and_an_error_closes_the_connection() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        wire.send_produce(9, 0, named("t"), &[(0, batch_of(&["a"], None))]).await;
        let next = wire.produce(9, 1, named("t"), &[(0, batch_of(&["b"], None))]).await;
        assert_eq!(next[0].outcome.base_offset, 1, "the answer is that of the second request");
        wire.send_produce(9, 0, named("nope"), &[(0, batch_of(&["a"], None))]).await;
        wire.assert_closed().await;
    }

    #[tokio::test]
    async fn acks_all_needs_enough_live_replicas() {
        let builder = Cluster::builder().brokers(2).transport_memory().topic("t", 1, 2);
        let cluster = builder.topic_config("min.insync.replicas", "2").start().await.unwrap();
        cluster.stop_broker(2).await.unwrap();
        let mut wire = Wire::to(&cluster, 1);
        let batch = || batch_of(&["v"], None);
        let codes = [
            wire.produce(9, -1, named("t"), &[(0, batch())]).await[0].code(),
            wire.produce(9, 1, named("t"), &[(0, batch())]).await[0].code(),
        ];
        assert_eq!(codes, [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NONE]);
    }

    #[tokio::test]
    async fn a_lost_answer_is_repeated_and_nothing_is_written_twice() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let lost = cluster.fault(on(Api::Produce).topic("t").partition(0).nth(2)).after_effect().close();
        let batches = [batch_of(&["a"], Some((5, 0, 0))), batch_of(&["b", "c"], Some((5, 0, 1)))];
        let mut wire = Wire::to(&cluster, 1);
        assert_eq!(
            wire.produce(9, -1, named("t"), &[(0, batches[0].clone())]).await[0].outcome.base_offset,
            0
        );
        wire.send_produce(9, -1, named("t"), &[(0, batches[1].clone())]).await;
        wire.assert_closed().await;
        lost.assert_fired();
        let mut wire = Wire::to(&cluster, 1);
        let again = wire.produce(9, -1, named("t"), &[(0, batches[1].clone())]).await;
        assert_eq!((again[0].code(), again[0].outcome.base_offset), (ErrorCode::NONE, 1));
        let state = cluster.shared().image();
        assert_eq!(state.partition("t", 0).unwrap().partition.lock().log.end(), 3);
    }

    #[tokio::test]
    async fn an_injected_error_hits_only_its_partition_before_or_after_the_append() {
        let cluster = memory_cluster(1, "t", 2, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let both = || [(0, batch_of(&["v"], None)), (1, batch_of(&["v"], None))];
        let ends = || {
            let image = cluster.shared().image();
            [0, 1].map(|p| image.partition("t", p).unwrap().partition.lock().log.end())
        };
        let before =
            cluster.fault(on(Api::Produce).topic("t").partition(1)).error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let codes: Vec<_> =
            wire.produce(9, -1, named("t"), &both()).await.iter().map(Produced::code).collect();
        assert_eq!(codes, [ErrorCode::NONE, ErrorCode::NOT_LEADER_OR_FOLLOWER]);
        assert_eq!((ends(), before.fired()), ([1, 0], 1));
        drop(before);
        let _after =
            cluster.fault(on(Api::Produce).partition(0)).after_effect().error(ErrorCode::REQUEST_TIMED_OUT);
        let codes: Vec<_> =
            wire.produce(9, -1, named("t"), &both()).await.iter().map(Produced::code).collect();
        assert_eq!(codes, [ErrorCode::REQUEST_TIMED_OUT, ErrorCode::NONE]);
        assert_eq!(ends(), [2, 1]);
    }

    #[tokio::test]
    async fn the_stored_batch_is_the_sent_one_with_offset_and_epoch() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let sent = batch_of(&["a", "b"], Some((9, 3, 0)));
        for _ in 0..2 {
            // A second producer's batch, so that the second one has an offset above 0.
            wire.produce(9, -1, named("t"), &[(0, batch_of(&["x"], None))]).await;
        }
        wire.produce(9, -1, named("t"), &[(0, sent.clone())]).await;
        let image = cluster.shared().image();
        let stored = image.partition("t", 0).unwrap().partition.lock().log.read_all().concat();
        let mut expected = sent.to_vec();
        let mut patch = BatchMut::new(&mut expected).unwrap();
        patch.set_base_offset(2);
        patch.set_leader_epoch(0);
        assert_eq!(stored[stored.len() - sent.len()..], expected);
        let header = BatchHeader::parse(&expected).unwrap();
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 3, 0));
    }
}
