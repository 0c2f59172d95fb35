//! A null broker over the wire: it counts what is produced, and is read without end.

use bytes::Bytes;
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::FetchPartition;
use kafka_wire::messages::ListOffsetsRequest;
use kafka_wire::messages::TopicName;
use kafka_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::record_batch::batches;

use crate::cluster::Cluster;
use crate::fault::on;
use crate::log::NullBatch;
use crate::wire_test::{Wire, batch_of, fetch_request, named};

/// Offsets in steps of ten.
const BATCH: u32 = 10;

async fn cluster() -> Cluster {
    let null = NullBatch { records: BATCH, ..NullBatch::default() };
    Cluster::builder().topic("t", 2, 1).null(null).transport_memory().start().await.unwrap()
}

/// What ListOffsets says: -2 asks for the start, -1 for the end.
async fn offset(cluster: &Cluster, partition: i32, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName("t".to_owned().into()))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    Wire::to(cluster, 1).call(7, request).await.topics[0].partitions[0].offset
}

/// The base offsets of the batches in an answer.
fn bases(records: &Bytes) -> Vec<i64> {
    batches(records.clone()).map(|batch| batch.unwrap().header.base_offset).collect()
}

#[tokio::test]
async fn records_are_counted_by_partition_and_forgotten() {
    let cluster = cluster().await;
    let mut wire = Wire::to(&cluster, 1);
    let mut corrupt = batch_of(&["c", "d", "e"], None).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let rounds = [
        [(0, batch_of(&["a", "b"], None)), (1, batch_of(&["a"], None))],
        // What is in a batch is not looked at, nor whether it came before.
        [(0, corrupt.into()), (1, batch_of(&["b"], Some((1, 0, 0))))],
        [(0, batch_of(&["f"], None)), (1, batch_of(&["b"], Some((1, 0, 0))))],
    ];
    for (records, expected) in rounds.iter().zip([[0, 0], [2, 1], [5, 2]]) {
        let produced = wire.produce(9, -1, named("t"), records).await;
        let seen = produced.iter().map(|p| (p.code(), p.outcome.base_offset)).collect::<Vec<_>>();
        assert_eq!(seen, expected.map(|base| (ErrorCode::NONE, base)));
    }
    assert_eq!((offset(&cluster, 0, -1).await, offset(&cluster, 1, -1).await), (6, 3));
    assert_eq!(offset(&cluster, 0, -2).await, 0);
    assert_eq!(cluster.snapshot().partition("t", 0).unwrap().log_end_offset, 6);
    assert!(cluster.records("t").await.is_empty());
}

#[tokio::test]
async fn what_holds_no_batch_is_refused_and_not_counted() {
    let cluster = cluster().await;
    let mut wire = Wire::to(&cluster, 1);
    let batch = batch_of(&["a"], None);
    let mut miscounted = batch.to_vec();
    miscounted[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    for bad in [Bytes::new(), batch.slice(..batch.len() - 1), miscounted.into()] {
        let produced = wire.produce(9, -1, named("t"), &[(0, bad)]).await;
        assert_eq!(produced[0].code(), ErrorCode::INVALID_RECORD);
    }
    assert_eq!(offset(&cluster, 0, -1).await, 0);
}

#[tokio::test]
async fn every_partition_can_be_read_for_ever_without_a_gap() {
    let cluster = cluster().await;
    let mut wire = Wire::to(&cluster, 1);
    let mut next = [0, 17];
    for _ in 0..5 {
        let asked = [0, 1].map(|index| FetchPartition::new(named("t"), index, next[index as usize], 5_000));
        let fetched = wire.fetch(12, fetch_request(&asked)).await;
        for (status, records) in &fetched.partitions {
            assert_eq!(ErrorCode(status.error_code), ErrorCode::NONE);
            let next = &mut next[status.index as usize];
            let seen = bases(records);
            let first = *next - *next % i64::from(BATCH);
            let expected: Vec<i64> = (first..).step_by(BATCH as usize).take(seen.len()).collect();
            assert_eq!(seen, expected);
            assert!(seen.len() > 2 && records.len() <= 5_000, "{} bytes", records.len());
            *next = seen.last().unwrap() + i64::from(BATCH);
            assert!(status.high_watermark > *next && status.last_stable_offset == status.high_watermark);
        }
    }
    assert_eq!(offset(&cluster, 0, -1).await, 0, "only what is produced counts");
    let out_of_range = FetchPartition::new(named("t"), 0, i64::MAX, 5_000);
    let fetched = wire.fetch(12, fetch_request(&[out_of_range])).await;
    assert_eq!(fetched.summary(), [(0, ErrorCode::OFFSET_OUT_OF_RANGE, 0)]);
}

#[tokio::test]
async fn the_rest_of_the_broker_is_as_ever() {
    let cluster = cluster().await;
    let mut wire = Wire::to(&cluster, 1);
    let _fault = cluster.fault(on(Api::Produce).topic("t")).error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let produced = wire.produce(9, -1, named("t"), &[(0, batch_of(&["a"], None))]).await;
    assert_eq!(produced[0].code(), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let created = cluster.shared().controller.create_partitions("t", 3, None, false);
    assert!(created.is_ok());
    let fetched = wire.fetch(12, fetch_request(&[FetchPartition::new(named("t"), 2, 0, 5_000)])).await;
    assert!(!bases(&fetched.partitions[0].1).is_empty(), "partitions that come later are null ones too");
}

#[tokio::test]
async fn requests_are_counted_by_api_beyond_those_remembered() {
    let cluster = cluster().await;
    let mut wire = Wire::to(&cluster, 1);
    for _ in 0..10_005 {
        wire.produce(9, -1, named("t"), &[(0, batch_of(&["a"], None))]).await;
    }
    assert_eq!(offset(&cluster, 0, -1).await, 10_005);
    assert!(cluster.requests().len() <= 10_000);
    let totals = cluster.request_totals();
    assert_eq!(totals.into_iter().collect::<Vec<_>>(), [(Api::Produce, 10_005), (Api::ListOffsets, 1)]);
}

#[tokio::test]
async fn a_batch_without_records_is_no_null_broker() {
    let null = NullBatch { records: 0, ..NullBatch::default() };
    let error = Cluster::builder().null(null).transport_memory().start().await.unwrap_err();
    assert!(error.to_string().contains("give the batch a record at least"), "{error}");
}

#[tokio::test]
async fn a_batch_of_whatever_shape_is_made_or_refused() {
    let start = |null: NullBatch| Cluster::builder().null(null).transport_memory().start();
    let none = NullBatch { value_bytes: 0, key_bytes: 0, ..NullBatch::default() };
    start(none).await.unwrap();
    // More than a formatter's width may be.
    start(NullBatch { key_bytes: 70_000, ..none }).await.unwrap();
    for refused in [NullBatch { records: u32::MAX, ..none }, NullBatch { key_bytes: usize::MAX, ..none }] {
        let error = start(refused).await.unwrap_err();
        assert!(error.to_string().contains("the batch has more than 64 MiB"), "{error}");
    }
}
