//! Fetch over the wire: limits, waiting, sessions, epochs, racks, faults.

use std::time::Duration;

use kafka_wire::api::Api;
use kafka_wire::fetch::{FetchPartition, ForgottenPartition, Request};
use kafka_wire::record_batch::batches;

use super::*;
use crate::cluster::Cluster;
use crate::fault::on;
use crate::wire_test::{Fetched, Wire, batch_of, fetch_request, memory_cluster, named};

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

fn at<'a>(cluster: &Cluster, topic: &'a str, index: i32, offset: i64) -> FetchPartition<'a> {
    let id = cluster.shared().image().topic(topic).map_or([9; 16], |topic| topic.id.into_bytes());
    FetchPartition::new(TopicRef { name: topic, id }, index, offset, i32::MAX)
}

/// A cluster with topic "t" of `partitions`, each with batches of the sizes given (all the same size on the wire).
async fn filled(brokers: i32, partitions: i32, batches: usize) -> (Cluster, usize) {
    let cluster = memory_cluster(brokers, "t", partitions, 1).await;
    let mut size = 0;
    for partition in 0..partitions {
        for number in 0..batches {
            let batch = batch_of(&[&format!("{number:03}"), "x"], None);
            size = batch.len();
            let leader = 1 + partition % brokers;
            let produced = Wire::to(&cluster, leader).produce(9, 1, named("t"), &[(partition, batch)]).await;
            assert!(produced[0].code().is_ok());
        }
    }
    (cluster, size)
}

async fn append(cluster: &Cluster, partition: i32) {
    let records = [(partition, batch_of(&["new"], None))];
    let produced = Wire::to(cluster, 1).produce(9, 1, named("t"), &records).await;
    assert!(produced[0].code().is_ok());
}

#[tokio::test]
async fn every_version_reads_from_an_offset_on() {
    let (cluster, size) = filled(1, 1, 3).await;
    let mut wire = Wire::to(&cluster, 1);
    for version in VERSIONS {
        // In the middle of the second batch, which is returned whole.
        let fetched = wire.fetch(version, fetch_request(&[at(&cluster, "t", 0, 3)])).await;
        assert_eq!(fetched.summary(), [(0, ErrorCode::NONE, 2 * size)], "version {version}");
        let (status, records) = &fetched.partitions[0];
        assert_eq!((status.high_watermark, status.last_stable_offset), (6, 6));
        assert_eq!(status.log_start_offset, if version >= 5 { 0 } else { -1 });
        let bases: Vec<i64> =
            batches(records.clone()).map(|batch| batch.unwrap().header.base_offset).collect();
        assert_eq!(bases, [2, 4]);
        let end = wire.fetch(version, fetch_request(&[at(&cluster, "t", 0, 6)])).await;
        assert_eq!(end.summary(), [(0, ErrorCode::NONE, 0)]);
    }
}

#[tokio::test]
async fn limits_cut_the_answer_as_kafka_does() {
    let (cluster, size) = filled(1, 3, 3).await;
    let mut wire = Wire::to(&cluster, 1);
    let limit = |index, max_bytes: usize| FetchPartition {
        max_bytes: max_bytes as i32,
        ..at(&cluster, "t", index, 0)
    };
    let all = size * 3;
    // Limits of the response and of each partition, and what is read of each.
    let cases = [
        (all * 3, [all, all, all], [all, all, all]),
        // A partition's own limit cuts a batch off.
        (all * 3, [size + 5, all, size * 2], [size + 5, all, size * 2]),
        // So does what is left of the response's.
        (all + size + 7, [all, all, all], [all, size + 7, 0]),
        // Later batches that do not fit give nothing.
        (all + size - 1, [all, all, all], [all, 0, 0]),
        (all * 3, [all, size - 1, all], [all, 0, all]),
        // The first batch comes whole, whatever the limits.
        (1, [all, all, all], [size, 0, 0]),
        (all * 3, [1, 1, all], [size, 0, all]),
        (0, [0, 0, 0], [size, 0, 0]),
    ];
    for (max_bytes, of_partitions, expected) in cases {
        let partitions = [0, 1, 2].map(|index| limit(index, of_partitions[index as usize]));
        let request = Request { max_bytes: max_bytes as i32, ..fetch_request(&partitions) };
        let fetched = wire.fetch(12, request).await;
        let sizes: Vec<usize> = fetched.summary().iter().map(|(.., bytes)| *bytes).collect();
        assert_eq!(sizes, expected, "{max_bytes} {of_partitions:?}");
    }
    // The first with records is meant, not the first in the list.
    let partitions = [at(&cluster, "t", 0, 6), limit(1, 1)];
    let fetched = wire.fetch(12, Request { max_bytes: 1, ..fetch_request(&partitions) }).await;
    assert_eq!(fetched.summary(), [(0, ErrorCode::NONE, 0), (1, ErrorCode::NONE, size)]);
}

#[tokio::test]
async fn errors_are_told_by_partition() {
    let (cluster, _) = filled(2, 2, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let with_epoch = |epoch| FetchPartition { current_leader_epoch: epoch, ..at(&cluster, "t", 0, 0) };
    cluster.shared().controller.move_leader("t", 0, 1).unwrap();
    let cases = [
        (at(&cluster, "t", 0, 3), ErrorCode::OFFSET_OUT_OF_RANGE),
        (at(&cluster, "t", 0, -1), ErrorCode::OFFSET_OUT_OF_RANGE),
        (at(&cluster, "t", 1, 0), ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (at(&cluster, "t", 2, 0), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (at(&cluster, "u", 0, 0), ErrorCode::UNKNOWN_TOPIC_ID),
        (with_epoch(0), ErrorCode::FENCED_LEADER_EPOCH),
        (with_epoch(1), ErrorCode::NONE),
        (with_epoch(2), ErrorCode::UNKNOWN_LEADER_EPOCH),
    ];
    for (partition, expected) in cases {
        let fetched = wire.fetch(16, fetch_request(&[partition])).await;
        let (status, records) = &fetched.partitions[0];
        assert_eq!(ErrorCode(status.error_code), expected, "{partition:?}");
        if !expected.is_ok() {
            assert_eq!((status.high_watermark, records.len()), (-1, 0));
        }
        let told = matches!(expected, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH);
        assert_eq!(status.current_leader.is_some(), told);
        assert_eq!(fetched.endpoints.is_empty(), !told);
    }
    let by_name = wire.fetch(12, fetch_request(&[at(&cluster, "u", 0, 0)])).await;
    assert_eq!(by_name.summary()[0].1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

/// Whether an answer came, after letting everything that can run, run.
async fn arrived(wire: &mut Wire) -> Option<Fetched> {
    tokio::time::timeout(Duration::from_millis(1), wire.receive_fetch(12)).await.ok()
}

fn waiting<'a>(partitions: &'a [FetchPartition<'a>], min_bytes: usize) -> Request<'a> {
    Request { max_wait_ms: 60_000, min_bytes: min_bytes as i32, ..fetch_request(partitions) }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_enough_bytes_or_for_its_time() {
    let (cluster, size) = filled(1, 2, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let ends = [at(&cluster, "t", 0, 2), at(&cluster, "t", 1, 2)];
    let started = Instant::now();
    wire.send_fetch(12, waiting(&ends, 1)).await;
    assert!(arrived(&mut wire).await.is_none(), "there is nothing yet");
    append(&cluster, 1).await;
    let fetched = wire.receive_fetch(12).await;
    assert!(fetched.summary()[1].2 > 0);
    assert!(started.elapsed() < Duration::from_secs(1), "it answers with the append");

    wire.send_fetch(12, waiting(&[at(&cluster, "t", 0, 0)], size + 1)).await;
    assert!(arrived(&mut wire).await.is_none(), "one batch is not enough");
    append(&cluster, 0).await;
    assert!(wire.receive_fetch(12).await.summary()[0].2 > size);

    let started = Instant::now();
    wire.send_fetch(12, waiting(&[at(&cluster, "t", 0, 0)], 1_000_000)).await;
    let fetched = wire.receive_fetch(12).await;
    assert_eq!(started.elapsed(), Duration::from_secs(60), "then it takes what there is");
    assert!(fetched.summary()[0].2 > size);
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_is_answered_when_the_leader_moves_or_the_topic_goes() {
    let cluster = memory_cluster(2, "t", 1, 2).await;
    let mut wire = Wire::to(&cluster, 1);
    let partitions = [at(&cluster, "t", 0, 0)];
    wire.send_fetch(10, waiting(&partitions, 1)).await;
    assert!(arrived(&mut wire).await.is_none());
    cluster.move_leader("t", 0, 2).unwrap();
    let fetched = wire.receive_fetch(10).await;
    assert_eq!(fetched.summary()[0].1, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let mut wire = Wire::to(&cluster, 2);
    wire.send_fetch(12, waiting(&partitions, 1)).await;
    assert!(arrived(&mut wire).await.is_none());
    cluster.shared().controller.delete_topic("t").unwrap();
    let fetched = wire.receive_fetch(12).await;
    assert!(!fetched.summary()[0].1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_whose_client_is_gone_is_dropped() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    wire.send_fetch(12, waiting(&[at(&cluster, "t", 0, 0)], 1)).await;
    assert!(arrived(&mut wire).await.is_none());
    let node = Arc::clone(&cluster.shared().nodes[&1]);
    assert_eq!(node.open_connections(), 1);
    drop(wire);
    cluster.shared().events.wait_for(|| (node.open_connections() == 0).then_some(())).await;
}

/// A request in a session.
fn in_session<'a>(id: i32, epoch: i32, partitions: &'a [FetchPartition<'a>]) -> Request<'a> {
    Request { session_id: id, session_epoch: epoch, ..fetch_request(partitions) }
}

#[tokio::test]
async fn a_session_answers_with_news_only() {
    let (cluster, size) = filled(1, 3, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    for version in [7, 12, 13, 18] {
        let all = [0, 1, 2].map(|index| at(&cluster, "t", index, 0));
        let first = wire.fetch(version, in_session(0, 0, &all)).await;
        let id = first.session_id;
        assert_ne!(id, 0);
        assert_eq!(first.summary(), [0, 1, 2].map(|index| (index, ErrorCode::NONE, size)));
        // Two partitions move on to their ends; the third stays, and is read again.
        let end = |index| cluster.shared().image().partition("t", index).unwrap().partition.lock().log.end();
        let moved = [at(&cluster, "t", 0, end(0)), at(&cluster, "t", 1, end(1))];
        let second = wire.fetch(version, in_session(id, 1, &moved)).await;
        assert_eq!((second.session_id, second.summary()), (id, vec![(2, ErrorCode::NONE, size)]));
        let forgotten = [ForgottenPartition { topic: at(&cluster, "t", 2, 0).topic, index: 2 }];
        let request = Request { forgotten: &forgotten, ..in_session(id, 2, &[]) };
        assert_eq!(wire.fetch(version, request).await.summary(), []);
        let gone = at(&cluster, "t", 1, end(1) + 1);
        let error = wire.fetch(version, in_session(id, 3, &[gone])).await;
        assert_eq!(error.summary(), [(1, ErrorCode::OFFSET_OUT_OF_RANGE, 0)]);
        let again = wire.fetch(version, in_session(id, 4, &[])).await;
        assert_eq!(again.summary(), error.summary(), "an error is repeated");
        let back = wire.fetch(version, in_session(id, 5, &[at(&cluster, "t", 1, end(1))])).await;
        assert_eq!(back.summary(), [(1, ErrorCode::NONE, 0)], "and its end is news");
        let stale = wire.fetch(version, in_session(id, 5, &[])).await;
        assert_eq!((stale.code, stale.session_id), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0));
        wire.fetch(version, in_session(id, -1, &[])).await;
        let ended = wire.fetch(version, in_session(id, 6, &[])).await;
        assert_eq!(ended.code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_in_a_session_is_woken_by_what_the_session_remembers() {
    let cluster = memory_cluster(1, "t", 3, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let all = [0, 1, 2].map(|index| at(&cluster, "t", index, 0));
    let id = wire.fetch(12, in_session(0, 0, &all)).await.session_id;
    let request = Request { max_wait_ms: 60_000, ..in_session(id, 1, &[]) };
    wire.send_fetch(12, request).await;
    assert!(arrived(&mut wire).await.is_none());
    append(&cluster, 1).await;
    let fetched = wire.receive_fetch(12).await;
    assert_eq!(fetched.summary().iter().map(|line| line.0).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn readers_of_committed_records_get_a_stable_offset() {
    let (cluster, size) = filled(1, 1, 2).await;
    let mut wire = Wire::to(&cluster, 1);
    let start = [at(&cluster, "t", 0, 0)];
    let request = Request { isolation_level: 1, ..fetch_request(&start) };
    let fetched = wire.fetch(12, request).await;
    assert_eq!(fetched.summary(), [(0, ErrorCode::NONE, 2 * size)]);
    assert_eq!(fetched.partitions[0].0.last_stable_offset, 4);
}

#[tokio::test]
async fn a_reader_past_a_truncation_learns_where_its_log_parted() {
    let (cluster, _) = filled(1, 1, 3).await;
    let mut wire = Wire::to(&cluster, 1);
    cluster.truncate("t", 0, 2).unwrap();
    append(&cluster, 0).await;
    let read = |offset, epoch| FetchPartition { last_fetched_epoch: epoch, ..at(&cluster, "t", 0, offset) };
    let fetched = wire.fetch(12, fetch_request(&[read(6, 0)])).await;
    let diverging = Some(EpochEndOffset { epoch: 0, end_offset: 2 });
    assert_eq!((fetched.partitions[0].0.diverging_epoch, fetched.summary()[0].2), (diverging, 0));
    for (position, expected) in [
        (read(2, 0), ErrorCode::NONE),
        (read(3, 1), ErrorCode::NONE),
        (read(3, 7), ErrorCode::OFFSET_OUT_OF_RANGE),
    ] {
        let fetched = wire.fetch(12, fetch_request(&[position])).await;
        assert_eq!(fetched.summary()[0].1, expected, "{position:?}");
        assert_eq!(fetched.partitions[0].0.diverging_epoch, None);
    }
}

#[tokio::test]
async fn a_reader_in_another_rack_is_sent_to_the_replica_in_its_own() {
    let builder = Cluster::builder().brokers(2).racks(["a", "b"]).topic("t", 1, 2).transport_memory();
    let cluster = builder.config("replica.selector.class", RACK_AWARE).start().await.unwrap();
    append(&cluster, 0).await;
    let (mut leader, mut follower) = (Wire::to(&cluster, 1), Wire::to(&cluster, 2));
    let partitions = [at(&cluster, "t", 0, 0)];
    let from =
        |rack_id| Request { rack_id, max_wait_ms: 1000, min_bytes: 1000, ..fetch_request(&partitions) };
    let sent = leader.fetch(11, from("b")).await;
    assert_eq!((sent.partitions[0].0.preferred_read_replica, sent.summary()[0].2), (2, 0));
    assert!(follower.fetch(11, from("b")).await.summary()[0].2 > 0, "the follower has the records");
    for rack in ["a", "c", ""] {
        let request = Request { max_wait_ms: 0, ..from(rack) };
        let stays = leader.fetch(11, request).await;
        assert_eq!(stays.partitions[0].0.preferred_read_replica, -1, "{rack}");
    }
    let old = follower.fetch(10, fetch_request(&partitions)).await;
    assert_eq!(old.summary()[0].1, ErrorCode::NOT_LEADER_OR_FOLLOWER, "not known before version 11");
    cluster.stop_broker(2).await.unwrap();
    let alone = leader.fetch(11, Request { max_wait_ms: 0, ..from("b") }).await;
    assert_eq!(alone.partitions[0].0.preferred_read_replica, -1);
}

#[tokio::test(start_paused = true)]
async fn faults_hit_what_a_fetch_reads_also_from_memory() {
    let (cluster, size) = filled(1, 2, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let both = [0, 1].map(|index| at(&cluster, "t", index, 0));
    let id = wire.fetch(12, in_session(0, 0, &both)).await.session_id;
    let fault = cluster.fault(on(Api::Fetch).topic("t").partition(1)).error(ErrorCode::KAFKA_STORAGE_ERROR);
    let hit = wire.fetch(12, in_session(id, 1, &[])).await;
    assert_eq!(hit.summary(), [(0, ErrorCode::NONE, size), (1, ErrorCode::KAFKA_STORAGE_ERROR, 0)]);
    assert_eq!(fault.fired(), 1);
    drop(fault);

    let slow = cluster.fault(on(Api::Fetch).client_id("wire")).delay(Duration::from_secs(3));
    let started = Instant::now();
    wire.fetch(12, fetch_request(&both)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    drop(slow);

    let throttled = cluster.fault(on(Api::Fetch).nth(1)).throttle(2000);
    let started = Instant::now();
    wire.fetch(12, fetch_request(&both)).await;
    assert_eq!(started.elapsed(), Duration::ZERO, "the answer comes at once");
    wire.fetch(12, fetch_request(&both)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(2), "the next request waits");
    throttled.assert_fired();

    let cut = cluster.fault(on(Api::Fetch)).close_after_bytes(20);
    wire.send_fetch(12, fetch_request(&both)).await;
    let mut received = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut wire.stream, &mut received).await.unwrap();
    assert_eq!(received.len(), 20);
    cut.assert_fired();
    drop(cut);

    let mut wire = Wire::to(&cluster, 1);
    let drip = cluster.fault(on(Api::Fetch)).drip(100);
    let started = Instant::now();
    let fetched = wire.fetch(12, fetch_request(&both)).await;
    assert_eq!(fetched.summary()[1].2, size);
    assert!(started.elapsed() > Duration::from_secs(2), "{:?} for {size} bytes and more", started.elapsed());
    drop(drip);

    let hung = cluster.fault(on(Api::Fetch)).hang();
    wire.send_fetch(12, fetch_request(&both)).await;
    let silence = tokio::time::timeout(Duration::from_secs(300), wire.receive_frame()).await;
    assert!(silence.is_err(), "neither an answer nor a close");
    hung.assert_fired();
}
