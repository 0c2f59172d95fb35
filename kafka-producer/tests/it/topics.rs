//! Topics that grow, go, and come back as others, under a producer that uses them.

use std::time::Duration;

use kafka_client::Client;
use kafka_client::raw::Route;
use kafka_producer::{ErrorKind, Fate, Producer, ProducerRecord};
use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::create_topics_request::CreatableTopic;
use kafka_wire::messages::delete_topics_request::DeleteTopicState;
use kafka_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, StrBytes, TopicName,
};

use crate::support::{cluster, values};

fn orders() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

async fn create_partitions(client: &Client, count: i32) {
    let topic = CreatePartitionsTopic::default().with_name(orders()).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    let answer = client.call(Route::Controller, request).await.unwrap();
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
}

async fn delete(client: &Client) {
    let topic = DeleteTopicState::default().with_name(Some(orders()));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    let answer = client.call(Route::Controller, request).await.unwrap();
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

async fn create(client: &Client, partitions: i32) {
    let topic = CreatableTopic::default()
        .with_name(orders())
        .with_num_partitions(partitions)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    let answer = client.call(Route::Controller, request).await.unwrap();
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_are_used() {
    let (_cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    producer.send(ProducerRecord::to("orders").value("x")).await.unwrap();
    create_partitions(&client, 4).await;
    let sent = producer.send(ProducerRecord::to("orders").partition(3).value("x")).await.unwrap();
    assert_eq!((sent.partition(), sent.offset), (3, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_looked_up_once_follows_what_becomes_of_it() {
    let (_cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    let orders = producer.topic("orders").await.unwrap();
    assert_eq!(orders.name(), "orders");
    let by_name = |value| ProducerRecord::to("orders").partition(0).value(value);
    let looked_up = |value| ProducerRecord::to(&orders).partition(0).value(value);
    assert_eq!(by_name("x"), looked_up("x"));
    // Both ways lead to the same place in the same order.
    let mut deliveries = vec![];
    for _ in 0..3 {
        deliveries.push(producer.enqueue(by_name("x")).await.unwrap());
        deliveries.push(producer.enqueue(looked_up("x")).await.unwrap());
    }
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, Some(offset as i64));
    }
    for partitions in [3, 4] {
        create_partitions(&client, partitions).await;
        let record = ProducerRecord::to(&orders).partition(partitions - 1).value("x");
        let sent = producer.send(record).await.unwrap();
        assert_eq!((sent.topic(), sent.partition(), sent.offset), ("orders", partitions - 1, Some(0)));
    }
    // Another producer has slots of its own, and knows the topic by its name.
    let other = Producer::new(&client).await.unwrap();
    assert_eq!(other.send(looked_up("x")).await.unwrap().offset, Some(6));
    producer.close(Duration::from_secs(1)).await.unwrap();
    let error = producer.send(looked_up("x")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
    let error = producer.topic("orders").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn records_for_a_topic_that_is_gone_expire_unwritten_and_give_their_memory_back() {
    let (_cluster, client) = cluster(2).await;
    let builder = Producer::builder(&client).delivery_timeout(Duration::from_secs(40));
    let producer = builder.allow_auto_create_topics(false).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    delete(&client).await;
    let start = tokio::time::Instant::now();
    for partition in [0, 1] {
        let record = ProducerRecord::to("orders").partition(partition).value("1");
        let error = producer.send(record).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DeliveryTimedOut { .. }), "{error:?}");
        assert_eq!(error.fate(), Fate::NotWritten, "{error:?}");
    }
    assert!(start.elapsed() <= Duration::from_secs(81), "{:?}", start.elapsed());
    let shown = format!("{producer:?}");
    assert!(shown.contains(&format!("available_memory: {}", 32 << 20)), "{shown}");
    producer.close(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_back_as_another_is_written_from_its_beginning() {
    for partitions in [1, 2, 3] {
        let (cluster, client) = cluster(2).await;
        let producer = Producer::builder(&client).linger(Duration::ZERO).build().await.unwrap();
        for partition in [0, 0, 0, 1, 1] {
            producer.send(ProducerRecord::to("orders").partition(partition).value("old")).await.unwrap();
        }
        delete(&client).await;
        create(&client, partitions).await;
        let mut deliveries = vec![];
        for value in ["0", "1", "2"] {
            let record = ProducerRecord::to("orders").partition(0).value(value);
            deliveries.push(producer.enqueue(record).await.unwrap());
        }
        for (offset, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.unwrap().offset, Some(offset as i64));
        }
        assert_eq!(values(&cluster, 0).await, ["0", "1", "2"]);
        let last = ProducerRecord::to("orders").partition(1).value("0");
        match producer.send(last).await {
            Ok(_) => assert_eq!(values(&cluster, 1).await, ["0"]),
            Err(error) => {
                assert_eq!((partitions, error.fate()), (1, Fate::NotWritten), "{error:?}");
                assert!(
                    matches!(error.kind(), ErrorKind::UnknownPartition { partitions: 1, .. }),
                    "{error:?}"
                );
            }
        }
    }
}
