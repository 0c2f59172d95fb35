//! Requests through a connection with all its layers, over loopback TCP, against a peer that answers as fast as it can.
//!
//! The peer is a blocking thread of the same process and shares the cores. Pin the process to compare runs
//! (`taskset -c 0`): on a virtual machine the placement of the two threads changes a round trip by a factor of six.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_client::Client;
use kafka_client::raw::{BrokerService, Connection, Lane, Owner};
use kafka_wire::api::{Api, Request};
use kafka_wire::frame::{FrameDecoder, MAX_FRAME};
use kafka_wire::header::{RequestHeader, encode_response_header};
use kafka_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, MetadataRequest, MetadataResponse, StrBytes,
    api_versions_response::ApiVersion, metadata_response::MetadataResponseBroker,
};
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: counting_alloc::CountingAlloc = counting_alloc::CountingAlloc;

const NODE: i32 = 1;
const TIME: Duration = Duration::from_secs(2);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let port = serve()?;
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("client's part: what the client's own thread used, CPU time and allocations");
    for (name, runtime) in [("current_thread", &current), ("multi_thread(2)", &multi)] {
        // The peer has its own threads, so with one thread the client's part can be told.
        let alone = name == "current_thread";
        println!("{name}");
        for count in [1, 16, 64, 1000] {
            let name = format!("{count} callers, 64 B");
            measure(&name, 0, alone, || runtime.block_on(callers(port, count)))?;
        }
        for (label, size) in [("16 KiB", 16 << 10), ("128 KiB", 128 << 10), ("1 MiB", 1 << 20)] {
            let name = format!("upload {label}, 5 in flight");
            measure(&name, size, alone, || runtime.block_on(upload(port, size)))?;
        }
        for (label, size) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("4 MiB", 4 << 20)] {
            let name = format!("download {label}, 2 in flight");
            measure(&name, size, alone, || runtime.block_on(download(port, size)))?;
        }
    }
    Ok(())
}

/// Runs one measurement, unless the command line asks for others: `cargo bench -p benches --bench connection -- upload`.
fn measure(
    what: &str,
    bytes_each: usize,
    alone: bool,
    run: impl FnOnce() -> Result<u64, Failure>,
) -> Result<(), Failure> {
    let mut asked = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if asked.peek().is_some() && !asked.any(|part| what.contains(&part)) {
        return Ok(());
    }
    let cpu = thread_cpu();
    let (requests, counts) = counting_alloc::measure(run);
    let (requests, cpu) = (requests?, thread_cpu() - cpu);
    let per_second = requests as f64 / TIME.as_secs_f64();
    if bytes_each > 0 {
        print!("  {what:30} {:8.2} GB/s       ", per_second * bytes_each as f64 / 1e9);
    } else {
        print!("  {what:30} {:8.1} k requests/s", per_second / 1e3);
    }
    if alone {
        let micros = cpu.as_secs_f64() * 1e6 / requests as f64;
        print!("  {micros:8.2} us, {:6.2} allocations each", counts.allocations as f64 / requests as f64);
        if bytes_each > 0 {
            print!(", {:.2} GB per CPU second", bytes_each as f64 / micros / 1e3);
        }
    }
    println!();
    Ok(())
}

/// The time this thread has spent on a core; zero where the system does not tell.
fn thread_cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

async fn connect(port: u16) -> Result<(Client, Owner, Connection), Failure> {
    let client = Client::connect(format!("127.0.0.1:{port}")).await?;
    let owner = client.owner();
    let connection = client.connection(NODE, Lane::Produce, &owner).await?;
    Ok((client, owner, connection))
}

/// So many callers, each of which asks again once it is answered.
async fn callers(port: u16, count: usize) -> Result<u64, Failure> {
    let (_client, _owner, connection) = connect(port).await?;
    let end = Instant::now() + TIME;
    let body = Bytes::from(vec![0; 64]);
    let callers = (0..count).map(|_| {
        let (connection, body, mut service) = (connection.clone(), body.clone(), connection.service());
        tokio::spawn(async move {
            let mut requests = 0;
            while Instant::now() < end {
                ready(&mut service).await?;
                service.call(connection.request(Api::Heartbeat, 4, vec![body.clone()])).await?;
                requests += 1;
            }
            Ok::<u64, Failure>(requests)
        })
    });
    let mut requests = 0;
    for caller in callers.collect::<Vec<_>>() {
        requests += caller.await??;
    }
    Ok(requests)
}

/// One sender with a window of five, as a producer's.
async fn upload(port: u16, size: usize) -> Result<u64, Failure> {
    // The rope of a produce request: a little before each of eight batches.
    let rope: Vec<Bytes> =
        (0..8).flat_map(|_| [Bytes::from_static(&[0; 30]), Bytes::from(vec![0; size / 8])]).collect();
    window(port, 5, Api::Heartbeat, rope).await
}

/// One fetcher with the next request already on its way.
async fn download(port: u16, size: usize) -> Result<u64, Failure> {
    let body = Bytes::copy_from_slice(&u32::try_from(size)?.to_be_bytes());
    window(port, 2, Api::LeaveGroup, vec![body]).await
}

async fn window(port: u16, window: usize, api: Api, body: Vec<Bytes>) -> Result<u64, Failure> {
    let (_client, _owner, connection) = connect(port).await?;
    let mut service = connection.service();
    let end = Instant::now() + TIME;
    let mut in_flight = std::collections::VecDeque::new();
    let mut requests = 0;
    while Instant::now() < end {
        while in_flight.len() < window {
            ready(&mut service).await?;
            in_flight.push_back(service.call(connection.request(api, 4, body.clone())));
        }
        if let Some(answer) = in_flight.pop_front() {
            std::hint::black_box(answer.await?);
            requests += 1;
        }
    }
    for answer in in_flight {
        answer.await?;
    }
    Ok(requests)
}

async fn ready(service: &mut BrokerService) -> Result<(), Failure> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    Ok(())
}

/// Starts the peer, and returns its port.
fn serve() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A profile tells the threads apart by name.
            let _ = std::thread::Builder::new().name("peer".into()).spawn(move || answer_all(stream, port));
        }
    });
    Ok(port)
}

fn answer_all(mut stream: TcpStream, port: u16) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    let (mut received, mut answers) = (BytesMut::new(), Vec::new());
    let mut chunk = vec![0; 256 << 10];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..count]);
        while let Some(frame) = decoder.decode(&mut received)? {
            let (header, body) = RequestHeader::decode(&frame)?;
            let mut answer = BytesMut::new();
            match header.api {
                Api::ApiVersions => {
                    ApiVersionsRequest::encode_response(&versions(), header.version, &mut answer)?
                }
                Api::Metadata => {
                    MetadataRequest::encode_response(&metadata(port), header.version, &mut answer)?
                }
                // Asks for an answer of so many bytes.
                Api::LeaveGroup => {
                    let size = body.first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
                    answer.resize(size as usize, 0);
                }
                _ => answer.extend_from_slice(&[0; 7]),
            }
            answers.extend_from_slice(&encode_response_header(
                header.api,
                header.version,
                header.correlation_id,
                answer.len(),
            )?);
            answers.extend_from_slice(&answer);
        }
        stream.write_all(&answers)?;
        answers.clear();
    }
}

fn versions() -> ApiVersionsResponse {
    let keys = Api::ALL.iter().map(|api| {
        let versions = api.versions();
        ApiVersion::default()
            .with_api_key(api.key())
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

fn metadata(port: u16) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(port.into());
    MetadataResponse::default().with_controller_id(BrokerId(NODE)).with_brokers(vec![broker])
}
