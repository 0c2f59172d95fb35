//! What reading asks of the allocator: nothing for a record of a batch, a fixed number for a batch and for a record alone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::mpsc;
use std::time::Duration;

use counting_alloc::{CountingAlloc, measure};
use futures_util::{FutureExt, StreamExt};
use kafka_broker::Cluster;
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Compression, Producer, ProducerRecord};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

/// A batch that is handed out, however many records are in it: at most, where it is compressed, as what it is opened into
/// grows with its size.
const PER_BATCH: [(Compression, u64); 3] =
    [(Compression::None, 0), (Compression::Snappy, 4), (Compression::Lz4, 5)];
/// A record that is handed out by itself, its key and value shared with the batch.
const PER_RECORD: u64 = 0;
/// The same with headers, however many: their list.
const PER_RECORD_WITH_HEADERS: u64 = 1;

const BATCHES: usize = 40;

/// A broker on a thread of its own, whose allocations are not counted here, and the runtime of a client on this one.
fn start() -> (Runtime, Client) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::builder().topic("orders", 1, 1).start().await.unwrap();
            tell.send(cluster.bootstrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let bootstrap = told.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::connect(bootstrap)).unwrap();
    (runtime, client)
}

/// Writes batches of so many records, and gives a consumer that has fetched them all.
async fn fetched(client: &Client, records: usize, headers: usize, compression: Compression) -> Consumer {
    let builder = Producer::builder(client).linger(Duration::ZERO).batch_size(1 << 20);
    let producer = builder.compression(compression).build().await.unwrap();
    for _ in 0..BATCHES {
        let record = || {
            let record = ProducerRecord::to("orders").key([7_u8; 16]).value([9_u8; 100]);
            (0..headers).fold(record, |record, _| record.header("trace", b"0123456789"))
        };
        for result in producer.send_all((0..records).map(|_| record())).await {
            result.unwrap();
        }
    }
    let partition = TopicPartition::new("orders", 0);
    let builder = Consumer::builder(client).assign([partition.clone()]).start_at(Offset::Earliest);
    let consumer = builder.fetch_bytes(50 << 20, 50 << 20).build().await.unwrap();
    let end = consumer.end_offsets([partition.clone()]).await.unwrap()[&partition];
    while consumer.lag(&partition).unwrap() != Some(end) || consumer.buffered_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    consumer
}

#[test]
fn a_batch_costs_a_fixed_number_of_allocations_and_its_records_none() {
    for (compression, stated) in PER_BATCH {
        for in_batch in [10, 1000] {
            let (runtime, client) = start();
            runtime.block_on(async {
                let mut consumer = fetched(&client, in_batch, 2, compression).await;
                // The reader's own queue is made for the first one.
                drop(consumer.next_batch().await.unwrap());
                for _ in 1..BATCHES {
                    // Or tokio would have the task make way for others after a while.
                    tokio::task::yield_now().await;
                    let (records, used) = measure(|| {
                        let batch = consumer.next_batch().now_or_never().unwrap().unwrap();
                        batch.records().filter(|record| record.headers().count() == 2).count()
                    });
                    assert_eq!(records, in_batch);
                    assert!(used.allocations <= stated, "{compression:?}, {in_batch} records: {used:?}");
                }
            });
        }
    }
}

#[test]
fn a_record_by_itself_costs_nothing_without_headers_and_one_allocation_with_them() {
    for (headers, stated) in [(0, PER_RECORD), (1, PER_RECORD_WITH_HEADERS), (5, PER_RECORD_WITH_HEADERS)] {
        let (runtime, client) = start();
        runtime.block_on(async {
            let mut consumer = fetched(&client, 100, headers, Compression::None).await;
            drop(consumer.next().await.unwrap().unwrap());
            for _ in 1..BATCHES * 100 {
                tokio::task::yield_now().await;
                let (record, used) = measure(|| consumer.next().now_or_never().unwrap().unwrap().unwrap());
                assert_eq!(record.headers.len(), headers);
                assert_eq!(used.allocations, stated, "{headers} headers");
            }
        });
    }
}
