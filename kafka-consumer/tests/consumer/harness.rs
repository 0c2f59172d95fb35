//! What the tests have in common: batches, clusters, and patience with a limit.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use kafka_broker::{Cluster, ClusterBuilder};
use kafka_client::raw::wire::compression::{Compression, Compressor};
use kafka_client::raw::wire::record_batch::{BatchWriter, batch_buffer};
use kafka_client::{Client, TopicPartition};
use kafka_producer::{Producer, ProducerRecord};
use tokio::time::{Instant, timeout};

/// Waits for something that must happen within a minute.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let happened = timeout(Duration::from_secs(60), what).await.expect("it takes too long");
    // Time running out polls once more, and would hide that nobody was woken.
    assert!(start.elapsed() < Duration::from_secs(60), "nobody was woken for it");
    happened
}

/// Whether nothing comes for so long.
pub(crate) async fn nothing_for<T>(seconds: u64, what: impl Future<Output = T>) -> bool {
    timeout(Duration::from_secs(seconds), what).await.is_err()
}

/// The next item of a stream that does not end.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    soon(stream.next()).await.expect("the stream goes on")
}

/// A batch of records with these values, at no offset yet.
pub(crate) fn batch<V: AsRef<[u8]>>(codec: Compression, values: impl IntoIterator<Item = V>) -> Bytes {
    let mut writer = BatchWriter::new(batch_buffer(1 << 16));
    for value in values {
        writer.append(1, None, Some(value.as_ref()), &[]).unwrap();
    }
    let mut compressor = Compressor::new(codec, None).unwrap();
    let (batch, _) = writer.finish_compressed(&mut compressor, BytesMut::new()).unwrap();
    batch.freeze()
}

/// A batch of records that compresses well, with the numbers from `first` on in front.
pub(crate) fn numbers(codec: Compression, first: i64, count: i64) -> Bytes {
    batch(codec, (first..first + count).map(|number| format!("{number:>100}")))
}

/// The number in a record of [`numbers`].
pub(crate) fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().trim().parse().unwrap()
}

/// The batch as a leader stores it.
pub(crate) fn at(batch: &Bytes, base_offset: i64, leader_epoch: i32) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    batch.freeze()
}

pub(crate) async fn start(builder: ClusterBuilder) -> (Cluster, Client) {
    let cluster = builder.transport_memory().start().await.unwrap();
    let client = client(&cluster).await;
    (cluster, client)
}

pub(crate) async fn client(cluster: &Cluster) -> Client {
    Client::builder(cluster.bootstrap()).connector(cluster.connector()).seed(7).connect().await.unwrap()
}

pub(crate) fn partition(topic: &str, index: i32) -> TopicPartition {
    TopicPartition::new(topic, index)
}

/// Writes the numbers from `first` on to one partition.
pub(crate) async fn produce(client: &Client, topic: &str, partition: i32, first: i64, count: i64) {
    let producer = Producer::builder(client).build().await.unwrap();
    let records: Vec<String> = (first..first + count).map(|number| number.to_string()).collect();
    let records =
        records.iter().map(|value| ProducerRecord::to(topic).partition(partition).value(value.as_str()));
    for result in soon(producer.send_all(records)).await {
        result.unwrap();
    }
}
