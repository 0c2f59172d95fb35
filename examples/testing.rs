//! How a user tests a service of their own: on bundled brokers, with a fault that real clusters have and that no other
//! test broker can be asked for: the answer to a write gets lost after it was carried out.

use std::time::Duration;

use examples::Result;
use futures::TryStreamExt;
use kafka_broker::{Api, Cluster, on};
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};

/// The service under test: places an order once.
async fn place_order(client: &Client, order: &str) -> Result {
    let producer = Producer::new(client).await?;
    producer.send(ProducerRecord::to("orders").key(order).value("placed")).await?;
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// In a project of one's own this is a `#[tokio::test]`.
async fn a_lost_answer_does_not_place_an_order_twice() -> Result {
    let cluster = Cluster::builder().brokers(3).topic("orders", 1, 3).start().await?;
    let lost = cluster.fault(on(Api::Produce).topic("orders").nth(1)).after_effect().close();
    let client = Client::connect(cluster.bootstrap()).await?;

    place_order(&client, "order-1").await?;
    place_order(&client, "order-2").await?;

    // Without this a test whose fault never came would pass for nothing.
    lost.assert_fired();
    let mut consumer = Consumer::builder(&client)
        .assign([TopicPartition::new("orders", 0)])
        .start_at(Offset::Earliest)
        .build()
        .await?;
    let end = consumer.end_offsets(consumer.assignment()).await?[&TopicPartition::new("orders", 0)];
    let mut orders = Vec::new();
    while orders.len() < end as usize {
        let Some(record) = consumer.try_next().await? else { break };
        orders.push(record.key_as::<String>()?);
    }
    assert_eq!(orders, ["order-1", "order-2"]);
    cluster.stop().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    a_lost_answer_does_not_place_an_order_twice().await?;
    println!("a_lost_answer_does_not_place_an_order_twice ... ok");
    Ok(())
}
