//! Brokers that lie: every record's fate is told in time, the memory comes back, and nobody is asked in a hurry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_broker::Cluster;
use kafka_client::Client;
use kafka_client::layers::BrokerResponse;
use kafka_producer::{Delivery, ErrorKind, Fate, Producer, ProducerRecord};
use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::metadata_response::MetadataResponsePartition;
use kafka_wire::messages::{
    BrokerId, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProducerId,
};
use kafka_wire::produce::{
    LeaderHint, NodeEndpoint, Outcome, PartitionResponse, RecordError, Response, TopicRef,
};
use tokio::time::Instant;

use crate::support::{assert_complete, call, client, cluster, meddle, values};

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(40);
const MAX_BLOCK: Duration = Duration::from_secs(10);

/// What is said in place of the broker's answer, given that and its version.
type Lie = Box<dyn Fn(&[u8], i16) -> Bytes + Send + Sync>;

/// A client to which the first `times` answers to `api` are lies; the broker does what it was asked. Counts the requests.
fn lied_to(cluster: &Cluster, api: Api, times: usize, lie: Lie) -> (Client, Arc<AtomicUsize>) {
    let (lie, asked) = (Arc::new(lie), Arc::<AtomicUsize>::default());
    let count = asked.clone();
    let layer = meddle(move |request, inner| {
        if request.api != api || count.fetch_add(1, Ordering::Relaxed) >= times {
            return call(inner, request);
        }
        let lie = lie.clone();
        Box::pin(async move {
            let truth = call(inner, request).await?;
            Ok(BrokerResponse::new(truth.version, truth.correlation_id, lie(&truth.body, truth.version)))
        })
    });
    (client(cluster).layer(layer).build().unwrap(), asked)
}

async fn producer(client: &Client) -> Producer {
    let builder = Producer::builder(client).batch_size(300).delivery_timeout(DELIVERY_TIMEOUT);
    builder.max_block(MAX_BLOCK).build().await.unwrap()
}

async fn enqueue(producer: &Producer, count: usize) -> Vec<kafka_producer::Result<Delivery>> {
    let mut deliveries = vec![];
    for index in 0..count {
        deliveries.push(producer.enqueue(ProducerRecord::to("orders").value(index.to_string())).await);
    }
    deliveries
}

/// Waits for all, which must not take longer than `within`, and returns the fates of those that failed.
async fn fates(lie: &str, deliveries: Vec<kafka_producer::Result<Delivery>>, within: Duration) -> Vec<Fate> {
    let mut fates = vec![];
    let deadline = Instant::now() + within + Duration::from_secs(1);
    for delivery in deliveries {
        let outcome = match delivery {
            Ok(delivery) => tokio::time::timeout_at(deadline, delivery).await,
            Err(error) => Ok(Err(error)),
        };
        match outcome {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => fates.push(error.fate()),
            Err(_) => panic!("{lie}: a record's fate was not told within {within:?}"),
        }
    }
    fates
}

/// The producer ends in order, with all its memory.
async fn ends_well(lie: &str, producer: Producer) {
    producer.close(Duration::from_secs(5)).await.unwrap_or_else(|error| panic!("{lie}: {error:?}"));
    let shown = format!("{producer:?}");
    assert!(shown.contains(&format!("available_memory: {}", 32 << 20)), "{lie}: {shown}");
}

fn outcome(index: i32, code: ErrorCode, base_offset: i64) -> Outcome {
    Outcome {
        index,
        error_code: code.0,
        base_offset,
        log_append_time_ms: -1,
        log_start_offset: -1,
        current_leader: None,
    }
}

struct Answers {
    id: [u8; 16],
}

impl Answers {
    async fn of(client: &Client) -> Arc<Self> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let topic = client.refresher().topic("orders", false, deadline).await.unwrap();
        Arc::new(Self { id: topic.id().unwrap().0 })
    }

    fn of_topic(id: [u8; 16], outcomes: &[Outcome], version: i16) -> Bytes {
        let at_fault =
            [i32::MAX, i32::MIN, 0, 0].map(|batch_index| RecordError { batch_index, message: None });
        let partitions: Vec<_> = outcomes
            .iter()
            .map(|outcome| PartitionResponse {
                topic: TopicRef { name: "orders", id },
                outcome: *outcome,
                record_errors: if outcome.error_code == ErrorCode::INVALID_RECORD.0 {
                    &at_fault
                } else {
                    &[]
                },
                error_message: None,
            })
            .collect();
        let node_endpoints = [
            NodeEndpoint { node_id: 77, host: "nowhere.invalid", port: 9, rack: None },
            NodeEndpoint { node_id: 78, host: "", port: 70_000, rack: None },
        ];
        let response =
            Response { partitions: &partitions, throttle_time_ms: 0, node_endpoints: &node_endpoints };
        let mut body = BytesMut::new();
        response.encode(version, &mut body).unwrap();
        body.freeze()
    }

    fn lie(self: &Arc<Self>, outcomes: Vec<Outcome>) -> Lie {
        let id = self.id;
        Box::new(move |_, version| Self::of_topic(id, &outcomes, version))
    }

    /// Lies that say nothing about the batch: the producer can only ask again.
    fn that_tell_nothing(self: &Arc<Self>) -> Vec<(&'static str, Lie)> {
        vec![
            ("nothing", Box::new(|_, _| Bytes::new())),
            ("garbage", Box::new(|_, _| Bytes::from(vec![0xff; 64]))),
            ("half an answer", Box::new(|truth, _| Bytes::copy_from_slice(&truth[..truth.len() / 2]))),
            ("more than an answer", Box::new(|truth, _| Bytes::from([truth, &[0]].concat()))),
            ("no partition", self.lie(vec![])),
            ("a partition that was not asked", self.lie(vec![outcome(7, ErrorCode::NONE, 0)])),
            ("a partition below zero", self.lie(vec![outcome(-1, ErrorCode::NONE, 0)])),
            (
                "another topic",
                Box::new(|_, version| {
                    Self::of_topic([9; 16], &[outcome(0, ErrorCode::NONE, 0)], version.max(13))
                }),
            ),
            (
                "an error before success",
                self.lie(vec![
                    outcome(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1),
                    outcome(0, ErrorCode::NONE, 5),
                ]),
            ),
            (
                "success before an error",
                self.lie(vec![
                    outcome(0, ErrorCode::NONE, 5),
                    outcome(0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
                ]),
            ),
        ]
    }

    fn that_tell_something(self: &Arc<Self>) -> Vec<(&'static str, Lie)> {
        let with_start =
            |log_start_offset| Outcome { log_start_offset, ..outcome(0, ErrorCode::UNKNOWN_PRODUCER_ID, -1) };
        let hint = |leader_id, leader_epoch| Outcome {
            current_leader: Some(LeaderHint { leader_id, leader_epoch }),
            ..outcome(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)
        };
        let hops = AtomicI32::new(10);
        let id = self.id;
        vec![
            ("a code that nobody knows", self.lie(vec![outcome(0, ErrorCode(999), -1)])),
            ("a code below all", self.lie(vec![outcome(0, ErrorCode(i16::MIN), i64::MIN)])),
            ("an offset below zero", self.lie(vec![outcome(0, ErrorCode::NONE, -7)])),
            ("an offset beyond all", self.lie(vec![outcome(0, ErrorCode::NONE, i64::MAX)])),
            (
                "records at fault that are not there",
                self.lie(vec![outcome(0, ErrorCode::INVALID_RECORD, -1)]),
            ),
            ("always too large", self.lie(vec![outcome(0, ErrorCode::MESSAGE_TOO_LARGE, -1)])),
            ("always out of order", self.lie(vec![outcome(0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1)])),
            ("always an old epoch", self.lie(vec![outcome(0, ErrorCode::INVALID_PRODUCER_EPOCH, -1)])),
            ("an unknown producer", self.lie(vec![with_start(5)])),
            ("an unknown producer and no start", self.lie(vec![with_start(-1)])),
            ("an unknown producer and a start below all", self.lie(vec![with_start(i64::MIN)])),
            ("a leader that is none", self.lie(vec![hint(-3, i32::MAX)])),
            ("a leader without a port", self.lie(vec![hint(78, i32::MAX)])),
            ("a leader that nobody reaches", self.lie(vec![hint(77, i32::MAX)])),
            (
                "leaders that name each other",
                Box::new(move |_, version| {
                    let hop = hops.fetch_add(1, Ordering::Relaxed);
                    Self::of_topic(id, &[hint(1 + hop % 3, hop)], version)
                }),
            ),
        ]
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_tell_nothing_are_asked_for_again_and_nothing_is_written_twice() {
    let count = {
        let (_cluster, client) = cluster(1).await;
        Answers::of(&client).await.that_tell_nothing().len()
    };
    for lie in 0..count {
        let (cluster, plain) = cluster(1).await;
        let (name, lie) = Answers::of(&plain).await.that_tell_nothing().swap_remove(lie);
        let (client, asked) = lied_to(&cluster, Api::Produce, 3, lie);
        let producer = producer(&client).await;
        let deliveries = enqueue(&producer, 100).await;
        assert_eq!(fates(name, deliveries, DELIVERY_TIMEOUT).await, [], "{name}");
        assert!(asked.load(Ordering::Relaxed) > 3, "{name}");
        assert_complete(&cluster, 0, 100).await;
        ends_well(name, producer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_broker_says_for_ever_every_record_learns_its_fate_in_time() {
    let lies = |answers: Arc<Answers>| {
        let mut lies = answers.that_tell_nothing();
        lies.extend(answers.that_tell_something());
        lies
    };
    let count = {
        let (_cluster, client) = cluster(1).await;
        lies(Answers::of(&client).await).len()
    };
    for lie in 0..count {
        let (cluster, plain) = cluster(1).await;
        let (name, lie) = lies(Answers::of(&plain).await).swap_remove(lie);
        let (client, asked) = lied_to(&cluster, Api::Produce, usize::MAX, lie);
        let producer = producer(&client).await;
        let deliveries = enqueue(&producer, 100).await;
        let fates = fates(name, deliveries, DELIVERY_TIMEOUT).await;
        assert!(!fates.contains(&Fate::Written), "{name}");
        let asked = asked.load(Ordering::Relaxed);
        assert!((1..2000).contains(&asked), "{name}: asked {asked} times");
        ends_well(name, producer).await;
        drop(cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_producer_id_writes_nothing_unprotected() {
    let granting = |id: i64, epoch: i16, code: i16| -> Lie {
        Box::new(move |_, version| {
            let response = InitProducerIdResponse::default()
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
                .with_error_code(code);
            let mut body = BytesMut::new();
            InitProducerIdRequest::encode_response(&response, version, &mut body).unwrap();
            body.freeze()
        })
    };
    let lies: [(&str, Lie); 5] = [
        ("an id below zero", granting(-1, 0, 0)),
        ("an epoch below zero", granting(5, -1, 0)),
        ("a code that nobody knows", granting(5, 0, 999)),
        ("nothing", Box::new(|_, _| Bytes::new())),
        ("garbage", Box::new(|_, _| Bytes::from(vec![0xff; 64]))),
    ];
    for (name, lie) in lies {
        let (cluster, _) = cluster(1).await;
        let (client, asked) = lied_to(&cluster, Api::InitProducerId, usize::MAX, lie);
        let producer = producer(&client).await;
        let deliveries = enqueue(&producer, 10).await;
        assert_eq!(fates(name, deliveries, DELIVERY_TIMEOUT).await, [Fate::NotWritten; 10], "{name}");
        assert!((1..500).contains(&asked.load(Ordering::Relaxed)), "{name}: {asked:?}");
        assert_eq!(values(&cluster, 0).await, [""; 0], "{name}");
    }
}

fn untrue(lie: impl Fn(&mut MetadataResponse) + Send + Sync + 'static) -> Lie {
    Box::new(move |truth, version| {
        let mut response = MetadataRequest::decode_response(version, Bytes::copy_from_slice(truth)).unwrap();
        lie(&mut response);
        let mut body = BytesMut::new();
        MetadataRequest::encode_response(&response, version, &mut body).unwrap();
        body.freeze()
    })
}

/// Applies `lie` to the partitions of every topic.
fn of_partitions(lie: impl Fn(&mut Vec<MetadataResponsePartition>) + Send + Sync + 'static) -> Lie {
    untrue(move |response| response.topics.iter_mut().for_each(|topic| lie(&mut topic.partitions)))
}

fn about_the_cluster() -> Vec<(&'static str, Lie)> {
    vec![
        ("no brokers", untrue(|response| response.brokers.clear())),
        ("no topics", untrue(|response| response.topics.clear())),
        ("no partitions", of_partitions(Vec::clear)),
        (
            "a leader that is not there",
            of_partitions(|partitions| partitions.iter_mut().for_each(|one| one.leader_id = BrokerId(99))),
        ),
        (
            "a partition beyond all",
            of_partitions(|partitions| partitions.iter_mut().for_each(|one| one.partition_index = i32::MAX)),
        ),
        (
            "a partition below zero",
            of_partitions(|partitions| partitions.iter_mut().for_each(|one| one.partition_index = -5)),
        ),
        (
            "a code that nobody knows",
            untrue(|response| response.topics.iter_mut().for_each(|topic| topic.error_code = 999)),
        ),
        ("each partition twice", of_partitions(|partitions| partitions.extend(partitions.clone()))),
        ("garbage", Box::new(|_, _| Bytes::from(vec![0xff; 64]))),
    ]
}

#[tokio::test(start_paused = true)]
async fn untrue_metadata_delays_records_until_it_is_true_or_their_time_is_over() {
    for lie in 0..about_the_cluster().len() {
        for times in [4, usize::MAX] {
            let (cluster, _) = cluster(1).await;
            let (name, lie) = about_the_cluster().swap_remove(lie);
            let (client, asked) = lied_to(&cluster, Api::Metadata, times, lie);
            let producer = producer(&client).await;
            let start = Instant::now();
            let deliveries = enqueue(&producer, 3).await;
            assert!(start.elapsed() <= 3 * MAX_BLOCK + Duration::from_secs(1), "{name}");
            let fates = fates(name, deliveries, DELIVERY_TIMEOUT).await;
            assert!(fates.iter().all(|fate| *fate == Fate::NotWritten), "{name}: {fates:?}");
            assert!((1..2000).contains(&asked.load(Ordering::Relaxed)), "{name}: {asked:?}");
            if times == 4 {
                let sent = producer.send(ProducerRecord::to("orders").partition(0).value("x")).await;
                assert!(sent.is_ok(), "{name}: {sent:?}");
            }
            ends_well(name, producer).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_denied_for_a_while_keeps_its_sequences() {
    let denials: [fn(&mut MetadataResponse); 3] = [
        |response| response.topics.clear(),
        |response| response.topics.iter_mut().for_each(|topic| topic.partitions.clear()),
        |response| {
            for topic in &mut response.topics {
                topic.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                topic.partitions.clear();
            }
        },
    ];
    for deny in denials {
        let (cluster, _) = cluster(1).await;
        let denied = Arc::<AtomicBool>::default();
        let lies = denied.clone();
        let lie = untrue(move |response| {
            if lies.load(Ordering::Relaxed) {
                deny(response);
            }
        });
        let (client, asked) = lied_to(&cluster, Api::Metadata, usize::MAX, lie);
        let builder = Producer::builder(&client).batch_size(300).delivery_timeout(Duration::from_secs(120));
        let producer = builder.build().await.unwrap();
        let mut deliveries = enqueue(&producer, 50).await;
        producer.flush().await;
        denied.store(true, Ordering::Relaxed);
        // The broker has them, but says that it does not lead: whoever starts at sequence 0 again loses the next ones.
        let refusing = cluster.fault(kafka_broker::on(Api::Produce).nth(1)).after_effect();
        let refusing = refusing.error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let before = asked.load(Ordering::Relaxed);
        for index in 50..100 {
            deliveries.push(producer.enqueue(ProducerRecord::to("orders").value(index.to_string())).await);
        }
        // Longer than a topic that is denied is still believed in.
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert!(asked.load(Ordering::Relaxed) > before);
        denied.store(false, Ordering::Relaxed);
        assert_eq!(fates("denied", deliveries, Duration::from_secs(120)).await, []);
        refusing.assert_fired();
        assert_complete(&cluster, 0, 100).await;
        ends_well("denied", producer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_without_a_cluster_to_trust_says_why_it_closes() {
    let (cluster, _) = cluster(1).await;
    let slow = meddle(|request, inner| {
        let wait = if request.api == Api::InitProducerId { 1 } else { 0 };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            call(inner, request).await
        })
    });
    let client = client(&cluster).layer(slow).build().unwrap();
    let asked = kafka_broker::on(Api::InitProducerId);
    let denied = cluster.fault(asked).error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let producer = producer(&client).await;
    let delivery = producer.enqueue(ProducerRecord::to("orders").value("0")).await.unwrap();
    let error = producer.close(Duration::from_secs(5)).await.unwrap_err();
    denied.assert_fired();
    assert_eq!(error.error_code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), "{error:?}");
    assert!(!matches!(delivery.await.unwrap_err().kind(), ErrorKind::Closed));
}
