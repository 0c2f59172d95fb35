//! Produce over the wire: what is stored, what is refused and with which code, and what faults leave behind.

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
        let seen = produced.iter().map(|p| (p.outcome.index, p.outcome.error_code, p.outcome.base_offset));
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
    let at = |timestamp| {
        let mut writer = BatchWriter::new(batch_buffer(256));
        writer.append(timestamp, None, Some(b"v"), &[]).unwrap();
        writer.finish().unwrap().freeze()
    };
    let far = cluster.shared().clock.wall_ms() + 7_200_000;
    let cut_after = [&good()[..], &good()[..30]].concat();
    let odd_after = [&good()[..], &[0xff; 30]].concat();
    let cases = [
        ("good", 13, "t", good(), ErrorCode::NONE),
        ("unknown id", 13, "nope", good(), ErrorCode::UNKNOWN_TOPIC_ID),
        ("unknown name", 12, "nope", good(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("empty", 9, "t", Bytes::new(), ErrorCode::INVALID_RECORD),
        ("two batches", 9, "t", [good(), good()].concat().into(), ErrorCode::INVALID_RECORD),
        ("cut", 9, "t", good().slice(..good().len() - 1), ErrorCode::INVALID_RECORD),
        ("part of another", 9, "t", cut_after.into(), ErrorCode::NONE),
        ("followed by something else", 9, "t", odd_after.into(), ErrorCode::CORRUPT_MESSAGE),
        ("no format", 9, "t", patched(16, &[3]), ErrorCode::CORRUPT_MESSAGE),
        ("old format", 9, "t", patched(16, &[1]), ErrorCode::INVALID_RECORD),
        ("bad CRC", 9, "t", corrupt(), ErrorCode::CORRUPT_MESSAGE),
        ("unknown codec", 9, "t", patched(22, &[7]), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        ("zstd too early", 6, "t", patched(22, &[4]), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        ("zstd", 7, "t", patched(22, &[4]), ErrorCode::NONE),
        ("control", 9, "t", patched(22, &[0x20]), ErrorCode::INVALID_RECORD),
        ("transactional", 9, "t", patched(22, &[0x10]), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        ("own append time", 9, "t", patched(22, &[0x08]), ErrorCode::NONE),
        ("own append time", 9, "log", patched(22, &[0x08]), ErrorCode::INVALID_TIMESTAMP),
        ("base offset", 9, "t", patched(7, &[1]), ErrorCode::INVALID_RECORD),
        ("offsets without records", 9, "t", patched(26, &[1]), ErrorCode::INVALID_RECORD),
        ("no records", 9, "t", patched(57, &[0, 0, 0, 0]), ErrorCode::INVALID_RECORD),
        ("more records than bytes", 9, "t", patched(57, &[0x7f, 0, 0, 0]), ErrorCode::INVALID_RECORD),
        ("producer without sequence", 9, "t", patched(43, &[0; 8]), ErrorCode::INVALID_RECORD),
        ("far ahead", 9, "t", at(far), ErrorCode::INVALID_TIMESTAMP),
        ("far ahead by its header", 9, "t", patched(35, &far.to_be_bytes()), ErrorCode::NONE),
        ("far ahead, not its own time", 9, "log", at(far), ErrorCode::NONE),
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
async fn an_error_of_the_log_tells_where_it_starts_and_one_of_records_why() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    wire.produce(9, -1, named("t"), &[(0, batch_of(&["a", "b"], None))]).await;
    cluster.shared().image().partition("t", 0).unwrap().partition.lock().log.delete_before(1);
    for (batch, start) in [
        (Bytes::new(), -1),
        (patched(16, &[3]), -1),
        (batch_of(&["v"], None).slice(..40), -1),
        (patched(7, &[1]), 1),
        (patched(57, &[0, 0, 0, 0]), 1),
    ] {
        let refused = &wire.produce(9, -1, named("t"), &[(0, batch)]).await[0];
        assert_eq!((refused.outcome.log_start_offset, &refused.message), (start, &None));
        assert!(!refused.code().is_ok());
    }
    let mut writer = BatchWriter::new(batch_buffer(256));
    for timestamp in [1000, i64::MAX, 1000] {
        writer.append(timestamp, None, Some(b"v"), &[]).unwrap();
    }
    let refused = &wire.produce(9, -1, named("t"), &[(0, writer.finish().unwrap().freeze())]).await[0];
    assert_eq!((refused.code(), &refused.bad_records[..]), (ErrorCode::INVALID_TIMESTAMP, &[1][..]));
    assert_eq!(refused.outcome.log_start_offset, 1);
    assert!(refused.message.as_ref().is_some_and(|message| message.contains("ahead")));
}

#[tokio::test]
async fn of_a_partition_named_twice_the_last_records_count() {
    let cluster = memory_cluster(1, "t", 2, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let records = [(0, batch_of(&["lost"], None)), (1, batch_of(&["b"], None)), (0, batch_of(&["a"], None))];
    let produced = wire.produce(9, -1, named("t"), &records).await;
    let seen: Vec<_> = produced.iter().map(|p| (p.outcome.index, p.outcome.base_offset)).collect();
    assert_eq!(seen, [(1, 0), (0, 0)]);
    assert_eq!(cluster.shared().image().partition("t", 0).unwrap().partition.lock().log.end(), 1);
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
    assert_eq!(wire.produce(9, -1, named("t"), &[(0, batches[0].clone())]).await[0].outcome.base_offset, 0);
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
    let codes: Vec<_> = wire.produce(9, -1, named("t"), &both()).await.iter().map(Produced::code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::NOT_LEADER_OR_FOLLOWER]);
    assert_eq!((ends(), before.fired()), ([1, 0], 1));
    drop(before);
    let _after =
        cluster.fault(on(Api::Produce).partition(0)).after_effect().error(ErrorCode::REQUEST_TIMED_OUT);
    let codes: Vec<_> = wire.produce(9, -1, named("t"), &both()).await.iter().map(Produced::code).collect();
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
