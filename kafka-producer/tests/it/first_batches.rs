//! The first batches of a producer's epoch, under load from the start: where two other clients lose or repeat records.
//!
//! A broker that does not know a producer id takes any first sequence. If it refuses the first batch and takes the second
//! one, sent in the same window, the first can never be written in order again.

use std::time::Duration;

use kafka_broker::{Cluster, on};
use kafka_client::Client;
use kafka_producer::{Delivery, Producer, ProducerRecord};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use tokio::time::Instant;

use crate::support::{assert_complete, cluster, leader, values};

const PARTITIONS: i32 = 3;

/// Enqueues the records of each partition so that many batches are ready at once.
async fn saturate(producer: &Producer, range: std::ops::Range<usize>) -> Vec<Delivery> {
    let mut deliveries = vec![];
    for index in range {
        for partition in 0..PARTITIONS {
            let record = ProducerRecord::to("orders").partition(partition).value(index.to_string());
            deliveries.push(producer.enqueue(record).await.unwrap());
        }
    }
    deliveries
}

async fn small_batches(client: &Client) -> Producer {
    Producer::builder(client).batch_size(150).build().await.unwrap()
}

async fn all_written(cluster: &Cluster, deliveries: Vec<Delivery>, count: usize) {
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    for partition in 0..PARTITIONS {
        assert_complete(cluster, partition, count).await;
    }
}

/// Refuses the next Produce to each partition, `times` times in a row.
fn refuse_first(cluster: &Cluster, code: ErrorCode, times: u64) -> Vec<kafka_broker::FaultGuard> {
    let refuse = |partition| {
        let first = on(Api::Produce).topic("orders").partition(partition).nth(1).times(times);
        cluster.fault(first).error(code)
    };
    (0..PARTITIONS).map(refuse).collect()
}

const CODES: [ErrorCode; 4] = [
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::LEADER_NOT_AVAILABLE,
    ErrorCode::NOT_ENOUGH_REPLICAS,
];

#[tokio::test(start_paused = true)]
async fn a_fresh_topic_that_refuses_the_first_produce_gets_everything_once_and_in_order() {
    for code in CODES {
        for times in [1, 2, 3] {
            let (cluster, client) = cluster(PARTITIONS).await;
            let faults = refuse_first(&cluster, code, times);
            let producer = small_batches(&client).await;
            let deliveries = saturate(&producer, 0..200).await;
            all_written(&cluster, deliveries, 200).await;
            faults.iter().for_each(kafka_broker::FaultGuard::assert_fired);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_when_the_first_answer_is_lost() {
    for appended in [false, true] {
        let (cluster, client) = cluster(PARTITIONS).await;
        let faults: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let fault = cluster.fault(on(Api::Produce).partition(partition).nth(1));
                if appended { fault.after_effect().close() } else { fault.close() }
            })
            .collect();
        let producer = small_batches(&client).await;
        let deliveries = saturate(&producer, 0..200).await;
        all_written(&cluster, deliveries, 200).await;
        assert!(faults.iter().any(|fault| fault.fired() > 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_after_the_brokers_forgot_the_producer() {
    for code in CODES {
        let (cluster, client) = cluster(PARTITIONS).await;
        let producer = small_batches(&client).await;
        for delivery in saturate(&producer, 0..100).await {
            delivery.await.unwrap();
        }
        for partition in 0..PARTITIONS {
            cluster.forget_producers("orders", partition).unwrap();
        }
        let faults = refuse_first(&cluster, code, 1);
        let deliveries = saturate(&producer, 100..300).await;
        all_written(&cluster, deliveries, 300).await;
        faults.iter().for_each(kafka_broker::FaultGuard::assert_fired);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_after_records_were_deleted() {
    for code in CODES {
        let (cluster, client) = cluster(PARTITIONS).await;
        let producer = small_batches(&client).await;
        for delivery in saturate(&producer, 0..100).await {
            delivery.await.unwrap();
        }
        for partition in 0..PARTITIONS {
            delete_records(&client, partition).await;
            cluster.forget_producers("orders", partition).unwrap();
        }
        let faults = refuse_first(&cluster, code, 2);
        for delivery in saturate(&producer, 100..300).await {
            delivery.await.unwrap();
        }
        faults.iter().for_each(kafka_broker::FaultGuard::assert_fired);
        for partition in 0..PARTITIONS {
            let found = values(&cluster, partition).await;
            assert_eq!(found, (100..300).map(|index| index.to_string()).collect::<Vec<_>>());
        }
    }
}

async fn delete_records(client: &Client, partition: i32) {
    use kafka_client::TopicPartition;
    use kafka_client::raw::Route;
    use kafka_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use kafka_wire::messages::{DeleteRecordsRequest, StrBytes, TopicName};
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partitions(vec![
            DeleteRecordsPartition::default().with_partition_index(partition).with_offset(-1),
        ]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    let route = Route::Leader(TopicPartition::new("orders", partition));
    let answer = client.call(route, request).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn the_same_after_the_leaders_moved() {
    for code in CODES {
        let (cluster, client) = cluster(PARTITIONS).await;
        let producer = small_batches(&client).await;
        for delivery in saturate(&producer, 0..100).await {
            delivery.await.unwrap();
        }
        for partition in 0..PARTITIONS {
            let leader = leader(&client, partition);
            cluster.move_leader("orders", partition, 1 + leader % 3).unwrap();
        }
        let faults = refuse_first(&cluster, code, 2);
        let deliveries = saturate(&producer, 100..300).await;
        all_written(&cluster, deliveries, 300).await;
        faults.iter().for_each(kafka_broker::FaultGuard::assert_fired);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_after_the_epoch_was_bumped() {
    for code in CODES {
        let (cluster, client) = cluster(PARTITIONS).await;
        let producer = small_batches(&client).await;
        for delivery in saturate(&producer, 0..100).await {
            delivery.await.unwrap();
        }
        // The brokers say that the sequence has a hole, so the producer starts a new epoch …
        let bumps: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let first = on(Api::Produce).partition(partition).nth(1);
                cluster.fault(first).error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            })
            .collect();
        // … and refuse what comes next, which is the first batch of that epoch.
        let refusals: Vec<_> = (0..PARTITIONS)
            .map(|partition| cluster.fault(on(Api::Produce).partition(partition).nth(2).times(2)).error(code))
            .collect();
        let deliveries = saturate(&producer, 100..300).await;
        all_written(&cluster, deliveries, 300).await;
        bumps.iter().chain(&refusals).for_each(kafka_broker::FaultGuard::assert_fired);
    }
}

#[tokio::test(start_paused = true)]
async fn no_timer_is_waited_for_until_the_first_record_is_acknowledged() {
    let (_cluster, client) = cluster(1).await;
    // The clock may stand between two ticks of tokio's timers.
    tokio::time::advance(Duration::from_micros(300)).await;
    let start = Instant::now();
    let producer = Producer::builder(&client).linger(Duration::ZERO).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").value("first")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_linger_is_over_when_it_was_asked_for_to_be_over() {
    let (_cluster, client) = cluster(1).await;
    let linger = Duration::from_millis(5);
    let producer = Producer::builder(&client).linger(linger).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").value("first")).await.unwrap();
    // Wherever between two ticks of tokio's timers it begins.
    for _ in 0..10 {
        tokio::time::advance(Duration::from_micros(300)).await;
        let start = Instant::now();
        producer.send(ProducerRecord::to("orders").value("later")).await.unwrap();
        let took = start.elapsed();
        assert!(took <= linger && took + Duration::from_millis(1) >= linger, "{took:?}");
    }
}
