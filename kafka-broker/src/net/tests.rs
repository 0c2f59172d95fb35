//! Hostile and unlucky clients: their connections end, nobody else notices.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{ApiVersionsRequest, MetadataRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::fault::on;
use crate::wire_test::{Wire, batch_of, memory_cluster, named};

/// An ApiVersions request of version 0, length prefix included.
const HELLO: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff];

async fn is_served(wire: &mut Wire) -> bool {
    wire.call(0, ApiVersionsRequest::default()).await.error_code == 0
}

/// Sends bytes and expects the connection to be closed without a word, while another one is served.
async fn refused(cluster: &Cluster, bytes: &[u8]) {
    let mut other = Wire::to(cluster, 1);
    let mut wire = Wire::to(cluster, 1);
    wire.stream.write_all(bytes).await.unwrap();
    wire.assert_closed().await;
    assert!(is_served(&mut other).await);
    assert_eq!(cluster.snapshot().brokers[0].panics, 0);
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
}

// librdkafka 2.16 asks so for every topic: the count takes four bytes where one says null, so that three are left.
#[tokio::test]
async fn bytes_after_a_request_are_left() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    for _ in 0..2 {
        wire.send_body(Api::Metadata, 13, &[0, 0, 0, 0, 0, 1, 0, 0]).await;
        let metadata = wire.receive::<MetadataRequest>(13).await;
        let names: Vec<_> = metadata.topics.iter().filter_map(|topic| topic.name.as_deref()).collect();
        assert_eq!(names, ["t"]);
    }
}

#[tokio::test]
async fn the_request_log_keeps_the_beginning_of_a_long_client_id() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    for (client_id, kept) in [("é".repeat(255), 255), ("é".repeat(256), 255), ("x".repeat(32_000), 255)] {
        let mut wire = Wire::to(&cluster, 1);
        let id = client_id.as_bytes();
        let bytes = [&[0, 18, 0, 1, 0, 0, 0, 9][..], &(id.len() as u16).to_be_bytes(), id].concat();
        wire.stream.write_all(&framed(&bytes)).await.unwrap();
        wire.receive_frame().await.unwrap();
        let logged = cluster.requests().pop().unwrap().client_id.unwrap();
        assert!(logged.chars().count() == kept && client_id.starts_with(&*logged), "{logged}");
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_and_headers_out_of_bounds_close_the_connection() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let cases: [&[u8]; 11] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &(100 * 1024 * 1024 + 1_i32).to_be_bytes(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        &framed(&[]),
        &framed(&[0, 18]),
        // An API that does not exist, one that is not served, a version that does not exist.
        &framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        &framed(&[0, 4, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        &framed(&[0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0]),
        // A client id longer than its frame.
        &framed(&[0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, b'a']),
    ];
    for bytes in cases {
        refused(&cluster, bytes).await;
    }
    // Produce 0 is advertised, for old clients to see, and refused.
    refused(&cluster, &framed(&[0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])).await;
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_not_what_they_claim_close_the_connection() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut metadata = BytesMut::new();
    MetadataRequest::default().encode(12, &mut metadata).unwrap();
    for (api, version, body) in [
        (Api::Metadata, 1, Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff])),
        (Api::Metadata, 12, metadata.freeze().slice(..2)),
        (Api::CreateTopics, 7, Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f])),
        (Api::Fetch, 12, Bytes::from_static(&[0xff; 40])),
        (Api::Produce, 9, Bytes::from_static(&[0xff; 40])),
        (Api::JoinGroup, 5, Bytes::new()),
    ] {
        let mut wire = Wire::to(&cluster, 1);
        wire.send_body(api, version, &body).await;
        wire.assert_closed().await;
    }
    assert!(is_served(&mut Wire::to(&cluster, 1)).await);
    assert_eq!(cluster.snapshot().brokers[0].panics, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_name_more_than_a_cluster_can_hold_close_the_connection() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let name = "x".repeat(250);
    let nothing = |count: i32| vec![(0, Bytes::new()); count as usize];
    for (topic, records) in [(named(&name), nothing(1)), (named("t"), nothing(10_001))] {
        let mut wire = Wire::to(&cluster, 1);
        wire.send_produce(9, 1, topic, &records).await;
        wire.assert_closed().await;
        let partitions: Vec<_> =
            records.iter().map(|_| kafka_wire::fetch::FetchPartition::new(topic, 0, 0, 1)).collect();
        let mut wire = Wire::to(&cluster, 1);
        wire.send_fetch(12, crate::wire_test::fetch_request(&partitions)).await;
        wire.assert_closed().await;
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_closes_its_connection_and_no_other() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let (mut wire, mut other) = (Wire::to(&cluster, 1), Wire::to(&cluster, 1));
    let bug = cluster.fault(on(Api::Metadata).nth(1)).panic();
    wire.send(1, &MetadataRequest::default()).await;
    wire.assert_closed().await;
    bug.assert_fired();
    assert!(is_served(&mut other).await);
    cluster
        .wait_until(Duration::from_secs(10), |cluster| cluster.snapshot().brokers[0].panics == 1)
        .await
        .unwrap();
    assert!(is_served(&mut Wire::to(&cluster, 1)).await);
}

#[tokio::test(start_paused = true)]
async fn random_frames_never_panic_a_handler() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..3000 {
        let api = rng.choice(Api::ALL.iter().copied()).unwrap();
        let versions = api.versions();
        let version = rng.i16(versions.min..=versions.max);
        let length = rng.usize(0..60);
        // Small numbers make counts and lengths that sometimes fit.
        let body: Vec<u8> = (0..length).map(|_| if rng.bool() { rng.u8(0..4) } else { rng.u8(..) }).collect();
        let mut wire = Wire::to(&cluster, 1);
        wire.send_body(api, version, &body).await;
        // Some are valid, and a few of those wait.
        let _ = timeout(Duration::from_secs(1), wire.receive_frame()).await;
    }
    assert_eq!(cluster.snapshot().brokers[0].panics, 0);
    assert!(is_served(&mut Wire::to(&cluster, 1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_frame_must_be_complete_in_30_seconds_however_it_drips() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let started = Instant::now();
    wire.stream.write_all(&[0, 0, 1, 0]).await.unwrap();
    let (mut read, mut write) = tokio::io::split(&mut wire.stream);
    let drip = async {
        while write.write_all(&[0]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        _ = read.read_to_end(&mut rest) => {}
        () = drip => {}
    }
    let elapsed = started.elapsed();
    assert!((30..=31).contains(&elapsed.as_secs()), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_ten_minutes_and_a_used_one_is_not() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let (mut idle, mut used) = (Wire::to(&cluster, 1), Wire::to(&cluster, 1));
    assert!(is_served(&mut idle).await);
    for _ in 0..11 {
        assert!(is_served(&mut used).await);
        sleep(Duration::from_secs(59)).await;
    }
    idle.assert_closed().await;
    assert!(is_served(&mut used).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_closed() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let big = batch_of(&[&"x".repeat(900_000)], None);
    wire.produce(9, 1, named("t"), &[(0, big)]).await;
    let partitions = [kafka_wire::fetch::FetchPartition::new(named("t"), 0, 0, i32::MAX)];
    wire.send_fetch(12, crate::wire_test::fetch_request(&partitions)).await;
    let gone = |cluster: &Cluster| cluster.snapshot().brokers[0].connections == 0;
    let started = Instant::now();
    cluster.wait_until(Duration::from_secs(120), gone).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_one_after_the_other() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let slow = cluster.fault(on(Api::Metadata)).delay(Duration::from_secs(5));
    let started = Instant::now();
    wire.send(1, &MetadataRequest::default()).await;
    wire.stream.write_all(&HELLO).await.unwrap();
    let first = wire.receive_frame().await.unwrap();
    assert_eq!(first[..4], 1_i32.to_be_bytes());
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    let second = wire.receive_frame().await.unwrap();
    assert_eq!(second[..4], 9_i32.to_be_bytes());
    slow.assert_fired();
}

#[tokio::test(start_paused = true)]
async fn a_request_with_effects_is_finished_for_a_client_that_is_gone() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_secs(5));
    wire.send_produce(9, 1, named("t"), &[(0, batch_of(&["v"], None))]).await;
    cluster
        .wait_until(Duration::from_secs(1), |cluster| cluster.count_requests(Api::Produce) == 1)
        .await
        .unwrap();
    drop(wire);
    let written = |cluster: &Cluster| cluster.snapshot().partition("t", 0).unwrap().log_end_offset == 1;
    cluster.wait_until(Duration::from_secs(10), written).await.unwrap();
}

#[tokio::test]
async fn connections_are_capped_in_total_and_by_address() {
    let builder = Cluster::builder().config("max.connections", "6").config("max.connections.per.ip", "4");
    let cluster = builder.start().await.unwrap();
    let address = cluster.bootstrap();
    let connect = async || {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(&HELLO).await.unwrap();
        let served = stream.read_i32().await.is_ok();
        (stream, served)
    };
    let mut open = Vec::new();
    for _ in 0..4 {
        let (stream, served) = connect().await;
        assert!(served);
        open.push(stream);
    }
    assert!(!connect().await.1, "the fifth of this address");
    open.pop();
    let freed = |cluster: &Cluster| cluster.snapshot().brokers[0].connections == 3;
    cluster.wait_until(Duration::from_secs(10), freed).await.unwrap();
    assert!(connect().await.1);

    let builder = Cluster::builder().transport_memory().config("max.connections", "2");
    let cluster = builder.start().await.unwrap();
    let (mut first, mut second) = (Wire::to(&cluster, 1), Wire::to(&cluster, 1));
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    Wire::to(&cluster, 1).assert_closed().await;
}

#[tokio::test(start_paused = true)]
async fn half_received_frames_share_a_budget_and_the_small_ones_of_others_pass() {
    let builder = Cluster::builder().transport_memory().topic("t", 1, 1);
    let builder = builder.topic_config("max.message.bytes", "9000000");
    let cluster = builder.config("queued.max.request.bytes", "3000000").start().await.unwrap();
    let mut hog = Wire::to(&cluster, 1);
    hog.stream.write_all(&(90_000_000_i32).to_be_bytes()).await.unwrap();
    let taken = timeout(Duration::from_secs(5), hog.stream.write_all(&vec![0; 9_000_000])).await;
    assert!(taken.is_err(), "only as much is read as the budget allows");
    assert!(is_served(&mut Wire::to(&cluster, 1)).await);
    let large = batch_of(&[&"x".repeat(1_500_000)], None);
    let mut wire = Wire::to(&cluster, 1);
    let produced = wire.produce(9, 1, named("t"), &[(0, large)]).await;
    assert_eq!(produced[0].code(), ErrorCode::NONE, "it waited until the hog was given up");
    hog.assert_closed().await;
}

#[tokio::test]
async fn a_stopped_broker_closes_and_refuses_connections_and_comes_back_at_its_address() {
    let cluster = Cluster::builder().brokers(2).topic("t", 1, 2).start().await.unwrap();
    let first = cluster.bootstrap().split(',').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(&first).await.unwrap();
    stream.write_all(&HELLO).await.unwrap();
    stream.read_i32().await.unwrap();
    cluster.stop_broker(1).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(TcpStream::connect(&first).await.is_err());
    assert_eq!(cluster.snapshot().partition("t", 0).unwrap().leader, Some(2));
    cluster.start_broker(1).await.unwrap();
    let mut stream = TcpStream::connect(&first).await.unwrap();
    stream.write_all(&HELLO).await.unwrap();
    assert!(stream.read_i32().await.is_ok());
    assert!(cluster.stop_broker(9).await.is_err());
    cluster.stop().await;
    assert!(TcpStream::connect(&first).await.is_err());
}
