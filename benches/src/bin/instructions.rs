//! Workloads for `tests/checks/instructions.sh`, which counts under callgrind what each of them takes for a record.
//!
//! Without an argument it lists them, a line each: name, the most instructions for a record, records. With a name it runs
//! that one. Only what happens inside of `measured` counts; a bound is what was counted when it was set and a tenth more.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use kafka_broker::Cluster;
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Compression, Producer, ProducerRecord};
use kafka_wire::compression::{Compressor, Decompressor};
use kafka_wire::record_batch::{BatchWriter, RawBatch, RecordRef, batch_buffer, batches};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Workload {
    name: &'static str,
    /// The most instructions for a record.
    bound: u64,
    records: usize,
    run: fn() -> Result<(), Failure>,
}

/// What fits into a batch of 16 KiB.
const IN_BATCH: usize = 130;
const BATCHES: usize = 40;
const RECORDS: usize = IN_BATCH * BATCHES;
/// Callgrind makes everything fifty times as slow.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);

const WORKLOADS: &[Workload] = &[
    Workload { name: "open", bound: 212, records: RECORDS, run: || open(Compression::None) },
    Workload { name: "open-lz4", bound: 590, records: RECORDS, run: || open(Compression::Lz4) },
    Workload { name: "iterate", bound: 225, records: RECORDS, run: iterate },
    Workload { name: "consume-batches", bound: 453, records: RECORDS, run: consume_batches },
    Workload { name: "consume-records", bound: 1140, records: RECORDS, run: consume_records },
    Workload { name: "accept", bound: 716, records: RECORDS, run: accept },
];

fn main() -> Result<(), Failure> {
    let Some(name) = std::env::args().nth(1) else {
        for Workload { name, bound, records, .. } in WORKLOADS {
            println!("{name} {bound} {records}");
        }
        return Ok(());
    };
    let workload = WORKLOADS.iter().find(|workload| workload.name == name);
    (workload.ok_or_else(|| format!("there is no workload {name}"))?.run)()
}

/// What is counted.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    work()
}

fn record(number: usize) -> (String, String) {
    (format!("key-{number:012}"), format!("{:0100}", number.wrapping_mul(2_654_435_761)))
}

fn touch(record: &RecordRef<'_>) -> usize {
    let value = record.value.unwrap_or_default();
    record.key.map_or(0, <[u8]>::len) + value.len() + value.first().copied().map_or(0, usize::from)
}

fn batch(compression: Compression) -> Result<RawBatch, Failure> {
    let mut writer = BatchWriter::new(batch_buffer(1 << 16));
    for number in 0..IN_BATCH {
        let (key, value) = record(number);
        writer.append(number as i64 / 8, Some(key.as_bytes()), Some(value.as_bytes()), &[])?;
    }
    let sealed = match compression {
        Compression::None => writer.finish()?,
        codec => writer.finish_compressed(&mut Compressor::new(codec, None)?, batch_buffer(1 << 16))?.0,
    };
    Ok(batches(sealed.freeze()).next().ok_or("no batch was written")??)
}

/// Checks and opens batches as a consumer does.
fn open(compression: Compression) -> Result<(), Failure> {
    let batch = batch(compression)?;
    let mut decompressor = Decompressor::default();
    measured(|| {
        for _ in 0..BATCHES {
            black_box(&batch).verify()?;
            batch.decode(&mut decompressor)?.check()?;
        }
        Ok(())
    })
}

/// Reads records of a batch that was opened.
fn iterate() -> Result<(), Failure> {
    let decoded = batch(Compression::None)?.decode(&mut Decompressor::default())?;
    let sum: usize = measured(|| {
        (0..BATCHES).map(|_| black_box(&decoded).records().flatten().map(|r| touch(&r)).sum::<usize>()).sum()
    });
    if sum < RECORDS { Err("records are missing".into()) } else { Ok(()) }
}

/// Hands out whole batches that were fetched, whose records are borrowed.
fn consume_batches() -> Result<(), Failure> {
    fetched(|consumer| {
        let mut found = 0;
        while found < RECORDS {
            let batch = consumer.next_batch().now_or_never().ok_or("not all was fetched")??;
            found += batch.records().filter(|record| touch(record) > 0).count();
        }
        Ok(())
    })
}

/// Hands out record after record that were fetched.
fn consume_records() -> Result<(), Failure> {
    fetched(|consumer| {
        for _ in 0..RECORDS {
            let record = consumer.next().now_or_never().flatten().ok_or("not all was fetched")??;
            black_box(record);
        }
        Ok(())
    })
}

/// Accepts records for a topic that was looked up, while the sender does not run.
fn accept() -> Result<(), Failure> {
    const PARTITIONS: usize = 16;
    let bootstrap = serve(PARTITIONS as i32)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(bootstrap).await?;
        let producer = Producer::builder(&client).linger(Duration::from_secs(30)).build().await?;
        let topic = producer.topic("t").await?;
        let records: Vec<_> = (0..RECORDS).map(record).collect();
        let accept = |(number, (key, value)): (usize, &(String, String))| {
            let partition = (number % PARTITIONS) as i32;
            producer
                .try_enqueue(&ProducerRecord::to(&topic).key(&key[..]).value(&value[..]).partition(partition))
        };
        // Batches have their usual size from the second one on.
        let warm = records.iter().enumerate().map(accept).collect::<Result<Vec<_>, _>>()?;
        producer.flush().await;
        let mut deliveries = Vec::with_capacity(RECORDS);
        measured(|| {
            for numbered in records.iter().enumerate() {
                deliveries.push(accept(numbered)?);
            }
            Ok::<(), Failure>(())
        })?;
        producer.flush().await;
        for delivery in warm.into_iter().chain(deliveries) {
            delivery.await?;
        }
        Ok(())
    })
}

/// Starts a broker on a thread of its own, so that what it does is not counted; tells where it listens.
fn serve(partitions: i32) -> Result<String, Failure> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let cluster = Cluster::builder().topic("t", partitions, 1).start().await?;
            tell.send(cluster.bootstrap())?;
            std::future::pending().await
        })
    });
    Ok(told.recv()?)
}

/// Counts what is done with a consumer that has fetched everything, on a thread without the broker.
fn fetched(work: impl FnOnce(&mut Consumer) -> Result<(), Failure>) -> Result<(), Failure> {
    let bootstrap = serve(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(bootstrap).await?;
        let producer = Producer::builder(&client).linger(Duration::ZERO).batch_size(1 << 20).build().await?;
        for _ in 0..BATCHES {
            let records: Vec<_> = (0..IN_BATCH).map(record).collect();
            let records = records.iter();
            let records = records.map(|(key, value)| ProducerRecord::to("t").key(&key[..]).value(&value[..]));
            for result in producer.send_all(records).await {
                result?;
            }
        }
        let partition = TopicPartition::new("t", 0);
        let builder = Consumer::builder(&client).assign([partition.clone()]).start_at(Offset::Earliest);
        let mut consumer = builder.fetch_bytes(50 << 20, 50 << 20).build().await?;
        let end = consumer.end_offsets([partition.clone()]).await?.get(&partition).copied();
        let begun = Instant::now();
        while consumer.lag(&partition)? != end || consumer.buffered_bytes() == 0 {
            if begun.elapsed() > FETCHED_WITHIN {
                return Err(
                    format!("not everything was fetched within {} s", FETCHED_WITHIN.as_secs()).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        measured(|| work(&mut consumer))
    })
}
