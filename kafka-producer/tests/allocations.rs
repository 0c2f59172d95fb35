//! What the producer asks of the allocator: nothing for a record, a fixed number for a batch and for a request.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::mpsc;
use std::time::Duration;

use counting_alloc::{CountingAlloc, measure};
use kafka_broker::Cluster;
use kafka_client::Client;
use kafka_producer::{Delivery, Producer, ProducerRecord};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

const PARTITIONS: i32 = 16;

/// A batch that is accepted: itself, and its completion, which all its deliveries share.
const PER_ACCEPTED_BATCH: u64 = 2;
/// So many of the records here fit into 16 KiB, at least.
const FULL_BATCH: usize = 100;
/// A request with one batch, from the record to its acknowledgement, the connection and its layers included.
const PER_REQUEST: u64 = 13;
/// Each further batch in a request.
const PER_BATCH: u64 = 4;

/// A broker on a thread of its own, whose allocations are not counted here, and a runtime whose tasks run on this one.
fn start() -> (Runtime, Producer) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::builder().topic("orders", PARTITIONS, 1).start().await.unwrap();
            tell.send(cluster.bootstrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let bootstrap = told.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let producer = runtime.block_on(async {
        let client = Client::connect(bootstrap).await.unwrap();
        let builder = Producer::builder(&client).batch_size(16 << 10).buffer_memory(256 << 20);
        builder.linger(Duration::from_secs(30)).build().await.unwrap()
    });
    (runtime, producer)
}

fn accept_at(producer: &Producer, partition: i32, deliveries: &mut Vec<Delivery>) {
    let record = ProducerRecord::to("orders").partition(partition).key(&[7; 16]).value(&[9; 100]);
    deliveries.push(producer.try_enqueue(&record).unwrap());
}

/// Accepts records for all partitions in turn while the sender cannot run, which shares the thread.
fn accept(producer: &Producer, count: usize, deliveries: &mut Vec<Delivery>) {
    for index in 0..count {
        accept_at(producer, index as i32 % PARTITIONS, deliveries);
    }
}

/// Lets every lane, list and buffer grow to its usual size.
fn warm_up(runtime: &Runtime, producer: &Producer) {
    runtime.block_on(async {
        drop(producer.enqueue(ProducerRecord::to("orders").value("load the topic")).await.unwrap());
        for _ in 0..2 {
            let mut deliveries = Vec::new();
            accept(producer, 40_000, &mut deliveries);
            producer.flush().await;
        }
    });
}

#[test]
fn a_record_costs_no_allocation() {
    let (runtime, producer) = start();
    warm_up(&runtime, &producer);
    runtime.block_on(async {
        let mut deliveries = Vec::with_capacity(40_000);
        // Every partition gets its open batch.
        accept(&producer, PARTITIONS as usize, &mut deliveries);
        let (_, used) = measure(|| accept(&producer, 64 * PARTITIONS as usize, &mut deliveries));
        assert_eq!(used.allocations, 0, "{used:?}");

        let keyed = |index: usize| ProducerRecord::to("orders").key(format!("{index:016}")).value("v");
        let records: Vec<_> = (0..500).map(keyed).collect();
        let (_, used) = measure(|| {
            for record in &records {
                deliveries.push(producer.try_enqueue(record).unwrap());
            }
        });
        assert_eq!(used.allocations, 0, "by key: {used:?}");

        let headers = ProducerRecord::to("orders").partition(0).header("a", "1").header("b", "2").value("v");
        let (_, used) = measure(|| {
            for _ in 0..20 {
                deliveries.push(producer.try_enqueue(&headers).unwrap());
            }
        });
        assert_eq!(used.allocations, 0, "with headers: {used:?}");
        producer.flush().await;
    });
}

#[test]
fn a_batch_costs_two_allocations_to_accept() {
    let (runtime, producer) = start();
    warm_up(&runtime, &producer);
    runtime.block_on(async {
        let mut deliveries = Vec::with_capacity(20_000);
        // By partition: the records accepted since the one that began the batch, which is known by what it costs.
        let mut since = [None; PARTITIONS as usize];
        let mut batches = 0;
        for index in 0..20_000 {
            let partition = index % PARTITIONS as usize;
            let (_, used) = measure(|| accept_at(&producer, partition as i32, &mut deliveries));
            if used.allocations == 0 {
                since[partition] = since[partition].map(|records: usize| records + 1);
                continue;
            }
            assert_eq!(used.allocations, PER_ACCEPTED_BATCH, "{used:?}");
            if let Some(records) = since[partition].replace(1) {
                batches += 1;
                assert!(records >= FULL_BATCH, "the record after {records} others costs {used:?}");
            }
        }
        assert!(batches > 100, "{batches}");
        producer.flush().await;
        assert!(
            deliveries.iter_mut().all(|delivery| delivery.try_outcome().is_some_and(|done| done.is_ok()))
        );
    });
}

#[test]
fn requests_and_batches_cost_fixed_numbers() {
    let (runtime, producer) = start();
    warm_up(&runtime, &producer);
    const ROUNDS: u64 = 50;
    let cost = |batches: u64| {
        let run = || {
            runtime.block_on(async {
                for _ in 0..ROUNDS {
                    for partition in 0..batches {
                        let record =
                            ProducerRecord::to("orders").partition(partition as i32).value(&[9; 100]);
                        drop(producer.try_enqueue(&record).unwrap());
                    }
                    producer.flush().await;
                }
            });
        };
        run();
        let allocations = measure(run).1.allocations;
        println!("{batches} batches a request: {} allocations", allocations as f64 / ROUNDS as f64);
        allocations
    };
    for batches in [1, PARTITIONS as u64] {
        let most = ROUNDS * (PER_REQUEST + PER_BATCH * (batches - 1));
        let used = cost(batches);
        assert!(used <= most, "{used} in {ROUNDS} requests of {batches} batches, at most {most}");
    }
}
