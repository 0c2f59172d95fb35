//! The bundled broker alone, over loopback TCP: how fast it starts, stores and serves, driven by a client that does no
//! more than move bytes. `cargo bench -p benches --bench broker`

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_broker::Cluster;
use kafka_wire::api::Api;
use kafka_wire::fetch::{self, FetchPartition, TopicRef};
use kafka_wire::header::RequestHeader;
use kafka_wire::produce;
use kafka_wire::record_batch::{BatchWriter, batch_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const VALUE: usize = 100;
const PARTITIONS: i32 = 8;

fn main() -> Outcome {
    for (name, runtime) in [
        ("current_thread", tokio::runtime::Builder::new_current_thread().enable_all().build()?),
        ("multi_thread", tokio::runtime::Builder::new_multi_thread().enable_all().build()?),
    ] {
        println!("-- {name}");
        runtime.block_on(async {
            start().await?;
            // 16 KiB is a producer's default batch, 64 KiB a busy one's.
            for batch_size in [16 * 1024, 64 * 1024] {
                produce_and_fetch(batch_size).await?;
            }
            Outcome::Ok(())
        })?;
    }
    Ok(())
}

/// The time until three brokers accept connections and twelve partitions have leaders.
async fn start() -> Outcome {
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let cluster = Cluster::builder().brokers(3).topic("t", 12, 3).start().await?;
        times.push(started.elapsed());
        cluster.stop().await;
    }
    times.sort();
    println!("start of 3 brokers: median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
    Ok(())
}

async fn produce_and_fetch(batch_size: usize) -> Outcome {
    let cluster = Cluster::builder().topic("t", PARTITIONS, 1).start().await?;
    let mut writer = BatchWriter::new(batch_buffer(batch_size));
    while writer.len() + VALUE + 32 < batch_size {
        writer.append(0, None, Some(&[b'v'; VALUE]), &[])?;
    }
    let batch = writer.finish()?;
    let (records, batch) = (batch.record_count(), batch.freeze());
    let rounds = 600 * 1024 * 1024 / (batch.len() * PARTITIONS as usize);

    let (started, cpu) = (Instant::now(), cpu_seconds());
    produce(&cluster.bootstrap(), &batch, rounds).await?;
    let (elapsed, cpu) = (started.elapsed(), cpu_seconds() - cpu);
    let total = rounds * PARTITIONS as usize;
    let millions = total as f64 * f64::from(records) / 1e6;
    println!(
        "{:>3} KiB batches: produce {:.2} M records/s, {:.2} GB/s; {:.3} CPU s per million, the client's included",
        batch_size / 1024,
        millions / elapsed.as_secs_f64(),
        gigabytes(total * batch.len(), elapsed),
        cpu / millions
    );

    let (started, cpu) = (Instant::now(), cpu_seconds());
    let bytes = consume(&cluster.bootstrap(), total * batch.len()).await?;
    let (elapsed, cpu) = (started.elapsed(), cpu_seconds() - cpu);
    println!(
        "{:>18} fetch {:.2} GB/s; {:.3} CPU s per GB",
        "",
        gigabytes(bytes, elapsed),
        cpu / (bytes as f64 / 1e9)
    );
    cluster.stop().await;
    Ok(())
}

/// What this process has used so far, which tells more than time does on a machine with other work.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    // User and system time, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

fn gigabytes(bytes: usize, elapsed: Duration) -> f64 {
    bytes as f64 / elapsed.as_secs_f64() / 1e9
}

/// One batch for each partition in each request, five requests in flight.
async fn produce(address: &str, batch: &Bytes, rounds: usize) -> Outcome {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.split();
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|index| produce::PartitionRecords { topic: topic(), index, records: batch.clone() })
        .collect();
    let request =
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 1000, partitions: &partitions };
    let body = request.encode(9, &mut BytesMut::new())?;
    let length = body.iter().map(Bytes::len).sum();
    let frame = [&header(Api::Produce, 9, length)?[..], &body.concat()].concat();
    let window = tokio::sync::Semaphore::new(5);
    let send = async {
        for _ in 0..rounds {
            window.acquire().await?.forget();
            write.write_all(&frame).await?;
        }
        Outcome::Ok(())
    };
    let receive = async {
        let mut answer = vec![0; 64 * 1024];
        for _ in 0..rounds {
            let length = usize::try_from(read.read_i32().await?)?;
            read.read_exact(&mut answer[..length]).await?;
            window.add_permits(1);
            let view = produce::ResponseView::decode(9, &answer[5..length])?;
            assert!(view.partitions().all(|partition| partition.outcome.error_code == 0));
        }
        Outcome::Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(())
}

/// Partition after partition, one request at a time, 8 MiB each.
async fn consume(address: &str, total: usize) -> Outcome<usize> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::new();
    let (mut received, mut partition, mut offset) = (0, 0, 0);
    while received < total {
        let partitions = [FetchPartition::new(topic(), partition, offset, 8 << 20)];
        let request = fetch::Request {
            replica_id: -1,
            replica_epoch: -1,
            cluster_id: None,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 50 << 20,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            partitions: &partitions,
            forgotten: &[],
            rack_id: "",
        };
        let mut body = BytesMut::new();
        request.encode(12, &mut body)?;
        let frame = [&header(Api::Fetch, 12, body.len())?[..], &body].concat();
        stream.write_all(&frame).await?;
        answer.resize(usize::try_from(stream.read_i32().await?)?, 0);
        stream.read_exact(&mut answer).await?;
        let view = fetch::ResponseView::decode(12, &answer[5..])?;
        let Some(found) = view.partitions().next() else { return Err("no partition in the answer".into()) };
        let mut rest = found.records;
        // Whole batches by their lengths; a cut one is fetched again.
        while let Some(header) = kafka_wire::record_batch::BatchHeader::parse(rest).ok()
            && header.size_in_bytes() <= rest.len()
        {
            received += header.size_in_bytes();
            offset = header.last_offset() + 1;
            rest = &rest[header.size_in_bytes()..];
        }
        if found.status.high_watermark == offset {
            (partition, offset) = (partition + 1, 0);
        }
    }
    Ok(received)
}

fn topic() -> TopicRef<'static> {
    TopicRef { name: "t", id: [0; 16] }
}

fn header(api: Api, version: i16, length: usize) -> Outcome<Bytes> {
    let header = RequestHeader { api, version, correlation_id: 0, client_id: Some("bench") };
    Ok(header.encode(length)?)
}
