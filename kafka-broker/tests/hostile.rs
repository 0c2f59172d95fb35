//! Hostile clients: their connections end, they cost about what they sent, and the others are served.
//!
//! Everything runs on one thread over the in-memory transport, so what that thread allocates is what the broker and the
//! two clients do; time is virtual.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use std::future::pending;
use std::time::Duration;

use bytes::BytesMut;
use counting_alloc::{CountingAlloc, measure};
use kafka_broker::Cluster;
use kafka_wire::api::{Api, Request};
use kafka_wire::header::RequestHeader;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::messages::{DescribeConfigsRequest, MetadataRequest, StrBytes, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

const MIB: u64 = 1 << 20;
/// What decoded messages may take for each byte received.
const PER_BYTE: u64 = 512;
/// An ApiVersions request of version 0, length prefix included.
const HELLO: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff];
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(300);

/// A broker and a well-behaved client of it.
struct Scene {
    cluster: Cluster,
    neighbour: DuplexStream,
}

impl Scene {
    async fn start() -> Self {
        let builder = Cluster::builder().transport_memory().topic("t", 1000, 1);
        let cluster = builder.start().await.unwrap();
        let mut neighbour = connect(&cluster);
        greet(&mut neighbour).await;
        Self { cluster, neighbour }
    }

    /// The neighbour is served as before, a new client is too, and nobody else is connected.
    async fn is_unharmed(&mut self) {
        greet(&mut self.neighbour).await;
        greet(&mut connect(&self.cluster)).await;
        let alone = |cluster: &Cluster| cluster.snapshot().brokers[0].connections == 1;
        self.cluster.wait_until(LONG, alone).await.unwrap();
        assert_eq!(self.cluster.snapshot().brokers[0].panics, 0);
    }
}

fn connect(cluster: &Cluster) -> DuplexStream {
    cluster.connector().connect(&cluster.bootstrap().parse().unwrap()).unwrap()
}

async fn greet(stream: &mut DuplexStream) {
    stream.write_all(&HELLO).await.unwrap();
    let answer = timeout(LONG, read_frame(stream)).await.unwrap().unwrap();
    assert_eq!(answer[..4], [0, 0, 0, 9]);
}

async fn read_frame(stream: &mut DuplexStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; usize::try_from(stream.read_i32().await.ok()?).unwrap()];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
}

/// A request whose body is these bytes.
fn request(api: Api, version: i16, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader { api, version, correlation_id: 1, client_id: None };
    [&header.encode(body.len()).unwrap(), body].concat()
}

fn encoded<R: Request>(version: i16, message: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    message.encode(version, &mut body).unwrap();
    request(R::API, version, &body)
}

/// Sends `bytes` one after the other, `every` so long, and reads until the broker closes. What it answered, and when it
/// closed.
async fn attack(scene: &Scene, bytes: &[u8], every: Duration) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(connect(&scene.cluster));
    let send = async {
        let piece = if every.is_zero() { bytes.len() } else { 1 };
        for piece in bytes.chunks(piece) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            sleep(every).await;
        }
        // The broker has to end it.
        pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        read = timeout(LONG, read.read_to_end(&mut answer)) => {
            let _ = read.expect("the broker closes it");
        }
        () = send => {}
    }
    (answer, began.elapsed())
}

#[test]
fn what_cannot_be_a_request_closes_the_connection_and_costs_nothing() {
    let runtime = runtime();
    let mut scene = runtime.block_on(Scene::start());
    let huge = |length: i32, rest: &[u8]| [&length.to_be_bytes(), rest].concat();
    let at_once = Duration::ZERO;
    let (soon, slow) = (0..=0, 30..=31);
    let cases = [
        ("a length that is too large", huge(100 << 20 | 1, b""), &soon),
        ("the largest length", huge(i32::MAX, &[0; 1000]), &soon),
        ("a negative length", huge(-1, b""), &soon),
        ("the largest frame, hardly begun", huge(100 << 20, &[0, 0, 0]), &slow),
        ("half a prefix", vec![0, 0], &slow),
        ("half a request", HELLO[..9].to_vec(), &slow),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &soon),
        ("HTTP", b"GET /metrics HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec(), &soon),
        ("no header", framed(&[]), &soon),
        ("an unknown API", framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]), &soon),
        // Only these may be larger than 16 MiB, and Metadata not even that.
        ("a large JoinGroup", huge((16 << 20) + 1, &[0, 11, 0, 5, 0, 0, 0, 1]), &soon),
        ("a JoinGroup, hardly begun", huge(16 << 20, &[0, 11, 0, 5, 0, 0, 0, 1]), &slow),
        ("a large Metadata", huge((4 << 20) + 1, &[0, 3, 0, 5, 0, 0, 0, 1]), &soon),
        ("a Produce, hardly begun", huge(90 << 20, &[0, 0, 0, 9, 0, 0, 0, 1]), &slow),
        ("a client id beyond the frame", framed(&[0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, b'a']), &soon),
    ];
    for (name, bytes, seconds) in &cases {
        let (outcome, used) = measure(|| runtime.block_on(attack(&scene, bytes, at_once)));
        assert_eq!(outcome.0, b"", "{name} is not answered");
        assert!(seconds.contains(&outcome.1.as_secs()), "{name} took {:?}", outcome.1);
        assert!(used.peak < MIB, "{name} used {used:?}");
        runtime.block_on(scene.is_unharmed());
    }
    // The same, after the client has shown that it is one.
    for (name, bytes, seconds) in &cases {
        let bytes = [&HELLO, &bytes[..]].concat();
        let ((answer, took), used) = measure(|| runtime.block_on(attack(&scene, &bytes, at_once)));
        assert_eq!(answer[4..8], [0, 0, 0, 9], "{name} comes after an answer");
        assert_eq!(answer.len(), 4 + i32::from_be_bytes(answer[..4].try_into().unwrap()) as usize);
        assert!(seconds.contains(&took.as_secs()), "{name} took {took:?}");
        assert!(used.peak < MIB, "{name} used {used:?}");
        runtime.block_on(scene.is_unharmed());
    }
}

#[test]
fn one_byte_a_second_does_not_hold_a_connection() {
    let runtime = runtime();
    let mut scene = runtime.block_on(Scene::start());
    let drip = Duration::from_secs(1);
    for start in [i32::to_be_bytes(100 << 20), i32::to_be_bytes(1000)] {
        let bytes = [&start[..], &[0; 200]].concat();
        let ((answer, took), used) = measure(|| runtime.block_on(attack(&scene, &bytes, drip)));
        assert!(answer.is_empty() && (30..=31).contains(&took.as_secs()), "{took:?}");
        assert!(used.peak < MIB, "{used:?}");
        runtime.block_on(scene.is_unharmed());
    }
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let runtime = runtime();
    let mut scene = runtime.block_on(Scene::start());
    let valid = encoded(12, &MetadataRequest::default());
    for length in 0..valid.len() {
        runtime.block_on(async {
            let mut stream = connect(&scene.cluster);
            stream.write_all(&valid[..length]).await.unwrap();
            drop(stream);
            scene.is_unharmed().await;
        });
    }
}

#[test]
fn counts_that_lie_close_the_connection_and_cost_nothing() {
    let runtime = runtime();
    let mut scene = runtime.block_on(Scene::start());
    // As a number, and as a varint.
    let lies: [&[u8]; 4] =
        [&[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0xff, 0xff, 0x7f], &[0x3f; 8]];
    let mut refused = 0;
    for api in Api::ALL {
        for version in api.versions().min..=api.versions().max {
            for lie in lies {
                // Where the first count is differs, so at several places.
                for before in [0, 1, 2, 4, 8, 16, 22, 32] {
                    let bytes = request(*api, version, &[&vec![0; before], lie].concat());
                    let (closed, used) = measure(|| {
                        runtime.block_on(async {
                            let mut stream = connect(&scene.cluster);
                            stream.write_all(&bytes).await.unwrap();
                            // A few are valid requests, of which some wait.
                            timeout(Duration::from_secs(1), read_frame(&mut stream)).await == Ok(None)
                        })
                    });
                    assert!(used.peak < MIB, "{api} v{version} {bytes:?} used {used:?}");
                    refused += usize::from(closed);
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
    runtime.block_on(scene.is_unharmed());
}

/// What a request may cost, with its answer.
fn bound(bytes: &[u8]) -> u64 {
    2 * MIB + PER_BYTE * bytes.len() as u64
}

#[test]
fn a_request_that_repeats_itself_is_not_as_large_as_the_answer_it_asks_for() {
    let runtime = runtime();
    let mut scene = runtime.block_on(Scene::start());
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("t"))));
    let topics = MetadataRequest::default().with_topics(Some(vec![topic; 10_000]));
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_static_str("t"))
        .with_configuration_keys(None);
    let configs = DescribeConfigsRequest::default().with_resources(vec![resource; 10_000]);
    for bytes in [encoded(1, &topics), encoded(1, &configs.with_include_synonyms(true))] {
        let (answer, used) = measure(|| {
            runtime.block_on(async {
                let mut stream = connect(&scene.cluster);
                stream.write_all(&bytes).await.unwrap();
                read_frame(&mut stream).await.unwrap()
            })
        });
        assert!(answer.len() < 100_000, "{}", answer.len());
        assert!(used.peak < bound(&bytes), "{used:?}");
        runtime.block_on(scene.is_unharmed());
    }
}

#[test]
fn damaged_requests_stay_within_bounds() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let runtime = runtime();
    let mut scene = runtime.block_on(Scene::start());
    for _ in 0..3000 {
        let api = rng.choice(Api::ALL.iter().copied()).unwrap();
        let versions = api.versions();
        let version = rng.i16(versions.min..=versions.max);
        // Small numbers make counts and lengths that often fit.
        let length = rng.usize(0..200);
        let body: Vec<u8> =
            (0..length).map(|_| if rng.u8(..8) > 0 { rng.u8(0..4) } else { rng.u8(..) }).collect();
        let bytes = request(api, version, &body);
        let ((), used) = measure(|| {
            runtime.block_on(async {
                let mut stream = connect(&scene.cluster);
                stream.write_all(&bytes).await.unwrap();
                let _ = timeout(Duration::from_secs(1), read_frame(&mut stream)).await;
            });
        });
        assert!(used.peak < bound(&bytes), "{api} v{version} used {used:?}, SEED={seed}");
    }
    runtime.block_on(scene.is_unharmed());
}
