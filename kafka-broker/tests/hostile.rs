//! Hostile clients: their connections end, they cost about what they sent, and the others are served.
//!
//! Everything runs on one thread over the in-memory transport, so what that thread allocates is what the broker and the
//! two clients do; time is virtual.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use counting_alloc::{CountingAlloc, measure};
use kafka_broker::{Cluster, ListenerSpec, SaslMechanism, TestCa};
use kafka_wire::api::{Api, Request};
use kafka_wire::header::RequestHeader;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::messages::{
    DescribeConfigsRequest, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest, StrBytes,
    TopicName,
};
use kafka_wire::sasl::plain;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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

fn connect_to(cluster: &Cluster, listener: &str) -> DuplexStream {
    let address = cluster.bootstrap_of(listener).unwrap().parse().unwrap();
    cluster.connector().connect(&address).unwrap()
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
    attack_over(connect(&scene.cluster), bytes, every).await
}

async fn attack_over(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
    every: Duration,
) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        let piece = if every.is_zero() { bytes.len().max(1) } else { 1 };
        for piece in bytes.chunks(piece) {
            if write.write_all(piece).await.is_err() || write.flush().await.is_err() {
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

/// A broker with a listener for its neighbour, and one for each kind of attack.
async fn secured(ca: &TestCa) -> Scene {
    let cluster = Cluster::builder()
        .transport_memory()
        .tls(ca)
        .user("alice", "secret")
        .topic("t", 1000, 1)
        .listener(ListenerSpec::plaintext("OPEN"))
        .listener(ListenerSpec::ssl("TLS"))
        .listener(ListenerSpec::sasl_plaintext("SASL").sasl([SaslMechanism::Plain]))
        .listener(ListenerSpec::sasl_ssl("BOTH").sasl([SaslMechanism::Plain]))
        .start()
        .await
        .unwrap();
    let mut neighbour = connect(&cluster);
    greet(&mut neighbour).await;
    Scene { cluster, neighbour }
}

async fn over_tls(scene: &Scene, ca: &TestCa, listener: &str) -> TlsStream<DuplexStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = connect_to(&scene.cluster, listener);
    let name = ServerName::try_from("broker-1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The requests by which alice authenticates.
fn as_alice() -> Vec<u8> {
    let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
    let token = plain::encode("alice", "secret").unwrap().to_vec();
    let token = SaslAuthenticateRequest::default().with_auth_bytes(token.into());
    [encoded(1, &handshake), encoded(2, &token)].concat()
}

#[test]
fn before_authentication_a_client_is_bounded_in_time_and_memory() {
    let runtime = runtime();
    let ca = TestCa::new();
    let mut scene = runtime.block_on(secured(&ca));
    let huge = |length: i32, rest: &[u8]| [&length.to_be_bytes(), rest].concat();
    let token = |rest: &[u8]| [&huge(512 * 1024, &[0, 36, 0, 2, 0, 0, 0, 1]), rest].concat();
    let (soon, slow) = (0..=0, 10..=10);
    let cases = [
        ("nothing", vec![], &slow),
        ("a request that needs a principal", encoded(1, &MetadataRequest::default()), &soon),
        ("a token without a mechanism", encoded(2, &SaslAuthenticateRequest::default()), &soon),
        ("an unknown API", framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]), &soon),
        ("2 GiB", huge(i32::MAX, &[0; 1000]), &soon),
        ("a frame beyond Kafka's limit", huge(512 * 1024 + 1, b""), &soon),
        ("the largest frame, hardly begun", token(&[]), &slow),
        ("the largest frame, hardly finished", token(&vec![0; 512 * 1024 - 100]), &slow),
        ("half a prefix", vec![0, 0], &slow),
        ("garbage", vec![0x5a; 4096], &soon),
    ];
    for (name, bytes, seconds) in &cases {
        let ((answer, took), used) = measure(|| {
            runtime.block_on(attack_over(connect_to(&scene.cluster, "SASL"), bytes, Duration::ZERO))
        });
        assert!(answer.is_empty(), "{name} is not answered");
        assert!(seconds.contains(&took.as_secs()), "{name} took {took:?}");
        assert!(used.peak < 2 * MIB, "{name} used {used:?}");
        runtime.block_on(scene.is_unharmed());
        // The same inside TLS.
        let ((answer, took), used) = measure(|| {
            runtime.block_on(async {
                let stream = over_tls(&scene, &ca, "BOTH").await;
                attack_over(stream, bytes, Duration::ZERO).await
            })
        });
        assert!(answer.is_empty(), "{name} is not answered in TLS");
        assert!(seconds.contains(&took.as_secs()), "{name} took {took:?} in TLS");
        assert!(used.peak < 3 * MIB, "{name} used {used:?} in TLS");
        runtime.block_on(scene.is_unharmed());
    }
    // A drip of bytes, and one of questions that are answered, end at the same time as nothing.
    for bytes in [huge(1000, &[0; 64]), HELLO.repeat(64)] {
        let every = Duration::from_millis(500);
        let stream = connect_to(&scene.cluster, "SASL");
        let (_, took) = runtime.block_on(attack_over(stream, &bytes, every));
        assert_eq!(took, Duration::from_secs(10));
        runtime.block_on(scene.is_unharmed());
    }
}

#[test]
fn what_is_no_tls_handshake_ends_in_time_and_costs_little() {
    let runtime = runtime();
    let ca = TestCa::new();
    let mut scene = runtime.block_on(secured(&ca));
    let client_hello = |length: u32| {
        let length = length.to_be_bytes();
        [&[22, 3, 1, 0x40, 0, 1][..], &length[1..], &[0; 0x3ffc]].concat()
    };
    let (soon, slow) = (0..=0, 10..=10);
    for (name, bytes, every, seconds) in [
        ("nothing", vec![], Duration::ZERO, &slow),
        ("a request", HELLO.to_vec(), Duration::ZERO, &soon),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Duration::ZERO, &soon),
        ("garbage", vec![0x5a; 4096], Duration::ZERO, &soon),
        ("half a record", vec![22, 3, 1, 2, 0, 1], Duration::ZERO, &slow),
        ("a trickle", client_hello(0x3ff0), Duration::from_millis(100), &slow),
        ("a hello of 16 MiB", client_hello(0xff_ffff), Duration::ZERO, &soon),
    ] {
        let ((answer, took), used) =
            measure(|| runtime.block_on(attack_over(connect_to(&scene.cluster, "TLS"), &bytes, every)));
        // At most an alert.
        assert!(answer.len() <= 7 && answer.first().is_none_or(|kind| *kind == 21), "{name}: {answer:?}");
        assert!(seconds.contains(&took.as_secs()), "{name} took {took:?}");
        assert!(used.peak < MIB, "{name} used {used:?}");
        runtime.block_on(scene.is_unharmed());
    }
}

#[test]
fn garbage_after_success_ends_that_connection_alone() {
    let runtime = runtime();
    let ca = TestCa::new();
    let mut scene = runtime.block_on(secured(&ca));
    let huge = |length: i32| length.to_be_bytes().to_vec();
    for garbage in [vec![0x5a; 4096], huge(i32::MAX), huge(-1), framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1])] {
        let bytes = [as_alice(), garbage].concat();
        let ((answer, took), used) = measure(|| {
            runtime.block_on(async {
                attack_over(over_tls(&scene, &ca, "BOTH").await, &bytes, Duration::ZERO).await
            })
        });
        // Both were answered, the second one without an error.
        let first = 4 + i32::from_be_bytes(answer[..4].try_into().unwrap()) as usize;
        assert_eq!(answer[first..][4..11], [0, 0, 0, 1, 0, 0, 0]);
        assert!(took < Duration::from_secs(1) && used.peak < 3 * MIB, "{took:?} {used:?}");
        runtime.block_on(scene.is_unharmed());
    }
}

#[test]
fn a_flood_of_connections_is_bounded_on_all_listeners_together_and_drains() {
    let runtime = runtime();
    let ca = TestCa::new();
    runtime.block_on(async {
        let cluster = Cluster::builder()
            .transport_memory()
            .tls(&ca)
            .user("alice", "secret")
            .config("max.connections", "100")
            .listener(ListenerSpec::plaintext("OPEN"))
            .listener(ListenerSpec::ssl("TLS"))
            .listener(ListenerSpec::sasl_plaintext("SASL"))
            .start()
            .await
            .unwrap();
        let mut neighbour = connect(&cluster);
        greet(&mut neighbour).await;
        let mut flood = Vec::new();
        let began = Instant::now();
        for _ in 0..50 {
            for listener in ["TLS", "SASL"] {
                flood.push(connect_to(&cluster, listener));
            }
            let open = cluster.snapshot().brokers[0].connections;
            assert!(open <= 100, "{open}");
            tokio::task::yield_now().await;
        }
        let full = |cluster: &Cluster| cluster.snapshot().brokers[0].connections == 100;
        cluster.wait_until(LONG, full).await.unwrap();
        // One more is closed, wherever it comes.
        for listener in ["OPEN", "TLS", "SASL"] {
            let mut rest = Vec::new();
            let mut one_more = connect_to(&cluster, listener);
            let _ = timeout(Duration::from_secs(1), one_more.read_to_end(&mut rest)).await.expect(listener);
        }
        greet(&mut neighbour).await;
        // Those that do nothing make room for others.
        let drained = |cluster: &Cluster| cluster.snapshot().brokers[0].connections == 1;
        cluster.wait_until(LONG, drained).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 10);
        greet(&mut connect(&cluster)).await;
    });
}
