//! A record's way through the producer: from `enqueue` into a sealed batch, and on to its acknowledgement.
//! `cargo bench -p benches --bench producer_path`, with parts of names behind `--` to run some measurements only.
//!
//! The bundled broker runs on a thread of its own, so that the client's part of the CPU time can be told.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_broker::Cluster;
use kafka_client::Client;
use kafka_client::layers::{BrokerRequest, BrokerResponse, BrokerService};
use kafka_client::raw::Metadata;
use kafka_client::serde::Serialize;
use kafka_producer::{Compression, Delivery, ErrorKind, Producer, ProducerRecord};
use kafka_wire::api::Api;
use kafka_wire::produce::{Outcome, PartitionResponse, Response, TopicRef};
use kafka_wire::record_batch::{BatchWriter, batch_buffer};
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: counting_alloc::CountingAlloc = counting_alloc::CountingAlloc;

type Done<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PARTITIONS: i32 = 16;
const KEY: [u8; 16] = [b'k'; 16];
const VALUE: [u8; 100] = [b'v'; 100];
const BATCH: usize = 16 << 10;
const ROUNDS: usize = 9;

fn main() -> Done {
    floor()?;
    let bootstrap = serve()?;
    let keys: [[u8; 16]; 1024] =
        std::array::from_fn(|key| (key as u128 * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
    let given = |index: usize| {
        ProducerRecord::to("t").partition(index as i32 % PARTITIONS).key(&KEY[..]).value(&VALUE[..])
    };
    let by_key = |index: usize| ProducerRecord::to("t").key(&keys[index % 1024][..]).value(&VALUE[..]);
    let sticky = |_| ProducerRecord::to("t").value(&VALUE[..]);

    println!(
        "\nenqueue to sealed batch: 16 KiB, {PARTITIONS} partitions, deliveries kept, the sender does not run"
    );
    accept(&bootstrap, "accept, partition given", given)?;
    accept(&bootstrap, "accept, by key", by_key)?;
    accept(&bootstrap, "accept, sticky", sticky)?;

    println!("\nenqueue to acknowledgement by a layer in the broker's place: CPU time of all threads");
    answered(&bootstrap, "layer, partition given", given)?;
    answered(&bootstrap, "layer, by key", by_key)?;
    answered(&bootstrap, "layer, sticky", sticky)?;

    println!("\nenqueue to acknowledgement by the bundled broker, partition given, linger 5 ms");
    for batch_size in [16 << 10, 1 << 20] {
        for codec in [Compression::None, Compression::Lz4] {
            for threads in [1, 2] {
                deliver(&bootstrap, threads, batch_size, codec)?;
            }
        }
    }
    Ok(())
}

/// Whether the command line asks for this measurement, or for none in particular.
fn asked_for(name: &str) -> bool {
    let mut asked = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    asked.peek().is_none() || asked.any(|part| name.contains(&part))
}

/// What the parts of the way cost alone, in this run and on this machine.
fn floor() -> Done {
    const OPERATIONS: u32 = 2_000_000;
    let time = |name: &str, mut operation: Box<dyn FnMut() -> Done>| -> Done {
        if !asked_for(name) {
            return Ok(());
        }
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            let started = Instant::now();
            for _ in 0..OPERATIONS {
                operation()?;
            }
            best = best.min(started.elapsed().as_nanos() as f64 / f64::from(OPERATIONS));
        }
        println!("  {name:36} {best:6.1} ns");
        Ok(())
    };
    println!("floor: each alone, at best");
    let mutex = Mutex::new(0_u64);
    time(
        "floor, lock and unlock a mutex",
        Box::new(move || {
            *mutex.lock().map_err(|_| "poisoned")? += 1;
            Ok(())
        }),
    )?;
    let shared = Arc::new(0_u64);
    time(
        "floor, clone and drop an Arc",
        Box::new(move || {
            black_box(shared.clone());
            Ok(())
        }),
    )?;
    let mut writer = BatchWriter::new(batch_buffer(BATCH));
    time(
        "floor, encode the record",
        Box::new(move || {
            if writer.len() + 160 > BATCH {
                let used = std::mem::replace(&mut writer, BatchWriter::new(BytesMut::new()));
                writer = BatchWriter::new(used.into_buffer());
            }
            writer.append(black_box(1_700_000_000_000), Some(&KEY), Some(&VALUE), &[])?;
            Ok(())
        }),
    )
}

/// Starts a broker on a thread that lives as long as the process.
fn serve() -> Done<String> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("broker".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let cluster = Cluster::builder().topic("t", PARTITIONS, 1).start().await?;
            tell.send(cluster.bootstrap())?;
            std::future::pending::<()>().await;
            Done::Ok(())
        })
    })?;
    Ok(told.recv()?)
}

/// Accepts records while the sender cannot run: it shares the thread and nothing here waits.
fn accept<'a, K: Serialize, V: Serialize>(
    bootstrap: &str,
    name: &str,
    record: impl Fn(usize) -> ProducerRecord<'a, K, V>,
) -> Done {
    // Few enough that their memory is that of a usual producer, and is used again in the next round.
    const RECORDS: usize = 150_000;
    if !asked_for(name) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = answering_client(bootstrap).await?;
        let producer = Producer::builder(&client).build().await?;
        producer.send(ProducerRecord::to("t").value("load the topic")).await?;
        let mut costs = Vec::new();
        let mut allocations = 0;
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(RECORDS);
        for _ in 0..ROUNDS * 5 {
            deliveries.clear();
            let started = thread_cpu();
            let (accepted, used) = counting_alloc::measure(|| {
                for index in 0..RECORDS {
                    deliveries.push(producer.try_enqueue(&record(index))?);
                }
                Done::Ok(())
            });
            accepted?;
            costs.push((thread_cpu() - started).as_nanos() as f64 / RECORDS as f64);
            allocations = used.allocations;
            producer.flush().await;
            assert!(
                deliveries.iter_mut().all(|delivery| delivery.try_outcome().is_some_and(|done| done.is_ok()))
            );
        }
        report(name, costs, allocations as f64 / RECORDS as f64);
        Done::Ok(())
    })
}

/// The whole client but the connection: accepting thread, sender, answers, deliveries.
fn answered<'a, K: Serialize, V: Serialize>(
    bootstrap: &str,
    name: &str,
    record: impl Fn(usize) -> ProducerRecord<'a, K, V>,
) -> Done {
    const RECORDS: usize = 1_000_000;
    if !asked_for(name) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = answering_client(bootstrap).await?;
        let producer = Producer::builder(&client).build().await?;
        producer.send(ProducerRecord::to("t").value("load the topic")).await?;
        let mut costs = Vec::new();
        let mut allocations = 0.0;
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(RECORDS);
        for _ in 0..ROUNDS {
            deliveries.clear();
            let (cpu, allocated) = (process_cpu(), counting_alloc::process_totals().0);
            for index in 0..RECORDS {
                let record = record(index);
                deliveries.push(match producer.try_enqueue(&record) {
                    Err(error) if matches!(error.kind(), ErrorKind::BufferFull { .. }) => {
                        producer.enqueue(record).await?
                    }
                    accepted => accepted?,
                });
            }
            producer.flush().await;
            costs.push((process_cpu() - cpu).as_nanos() as f64 / RECORDS as f64);
            allocations = (counting_alloc::process_totals().0 - allocated) as f64 / RECORDS as f64;
        }
        report(name, costs, allocations);
        Done::Ok(())
    })
}

fn report(name: &str, mut costs: Vec<f64>, allocations: f64) {
    costs.sort_by(f64::total_cmp);
    let median = costs[costs.len() / 2];
    println!(
        "  {name:36} {:6.1} ns a record at best, {median:6.1} median, {allocations:.4} allocations",
        costs[0]
    );
}

/// Records through the whole producer and over loopback to the broker.
fn deliver(bootstrap: &str, threads: usize, batch_size: usize, codec: Compression) -> Done {
    const RECORDS: usize = 2_000_000;
    let alone = threads == 1;
    let name = if alone { "current_thread" } else { "multi_thread(2)" };
    if !asked_for(name) {
        return Ok(());
    }
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(bootstrap).await?;
        let builder = Producer::builder(&client).batch_size(batch_size).compression(codec);
        let producer = builder.buffer_memory(64 << 20).max_request_size(4 << 20).build().await?;
        producer.send(ProducerRecord::to("t").value("load the topic")).await?;
        let started = Instant::now();
        let cpu = thread_cpu();
        for index in 0..RECORDS {
            let record =
                ProducerRecord::to("t").partition(index as i32 % PARTITIONS).key(&KEY[..]).value(&VALUE[..]);
            match producer.try_enqueue(&record) {
                Err(error) if matches!(error.kind(), ErrorKind::BufferFull { .. }) => {
                    drop(producer.enqueue(record).await?);
                }
                accepted => drop(accepted?),
            }
        }
        producer.flush().await;
        let (time, cpu) = (started.elapsed(), thread_cpu() - cpu);
        let rate = RECORDS as f64 / time.as_secs_f64() / 1e6;
        print!("  {name:16} batch {:4} KiB, {codec:4} {rate:6.2} M records/s", batch_size >> 10);
        if alone {
            print!(", client {:.3} CPU-s per M", cpu.as_secs_f64() * 1e6 / RECORDS as f64);
        }
        println!();
        producer.close(Duration::from_secs(10)).await?;
        Done::Ok(())
    })
}

/// A client whose Produce requests are answered by a layer, as by a broker that has written everything.
async fn answering_client(bootstrap: &str) -> Done<Client> {
    let plain = Client::connect(bootstrap).await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    plain.refresher().topic("t", false, deadline).await?;
    let answer = answer(&plain.metadata())?;
    let layer = Answers { answer };
    Ok(Client::builder(bootstrap).layer(layer).connect().await?)
}

/// Success for every partition; those that were not asked for are passed over.
fn answer(metadata: &Metadata) -> Done<Bytes> {
    let id = metadata.topic("t").and_then(|topic| topic.id()).ok_or("the topic has no id")?;
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|index| PartitionResponse {
            topic: TopicRef { name: "t", id: id.0 },
            outcome: Outcome {
                index,
                error_code: 0,
                base_offset: 0,
                log_append_time_ms: -1,
                log_start_offset: 0,
                current_leader: None,
            },
            record_errors: &[],
            error_message: None,
        })
        .collect();
    let mut body = BytesMut::new();
    let response = Response { partitions: &partitions, throttle_time_ms: 0, node_endpoints: &[] };
    response.encode(Api::Produce.versions().max, &mut body)?;
    Ok(body.freeze())
}

#[derive(Clone)]
struct Answers {
    answer: Bytes,
}

impl tower_layer::Layer<BrokerService> for Answers {
    type Service = Answering;

    fn layer(&self, inner: BrokerService) -> Answering {
        Answering { inner, answer: self.answer.clone() }
    }
}

#[derive(Clone)]
struct Answering {
    inner: BrokerService,
    answer: Bytes,
}

impl Service<BrokerRequest> for Answering {
    type Response = BrokerResponse;
    type Error = kafka_client::Error;
    type Future = Pin<Box<dyn Future<Output = kafka_client::Result<BrokerResponse>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<kafka_client::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: BrokerRequest) -> Self::Future {
        if request.api != Api::Produce {
            return self.inner.call(request);
        }
        let answer = BrokerResponse::new(request.version, 0, self.answer.clone());
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// The time this thread has spent on a core; zero where the system does not tell.
fn thread_cpu() -> Duration {
    // Linux brings the count up to date at ticks, which come too seldom, and when a thread yields.
    thread::yield_now();
    cpu_of("/proc/thread-self")
}

/// The same for all threads of the process that live.
fn process_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| cpu_of(&task.path().to_string_lossy())).sum()
}

fn cpu_of(task: &str) -> Duration {
    let told = std::fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}
