//! The whole path in one file: create a topic, produce to it, consume it as a group, commit, and resume from the commit.

use std::time::Duration;

use examples::{Result, Target};
use futures::TryStreamExt;
use kafka_admin::{Admin, NewTopic};
use kafka_client::{Client, Offset};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};

#[tokio::main]
async fn main() -> Result {
    let target = Target::start().await?;
    let client = Client::builder(&target.bootstrap).client_id("quickstart").connect().await?;

    let (topic, group) = (target.unique("orders"), target.unique("billing"));
    for (name, outcome) in Admin::new(&client).create_topics([NewTopic::new(&topic).partitions(3)]).await? {
        outcome?;
        println!("created   {name} with 3 partitions");
    }

    let producer = Producer::new(&client).await?;
    for number in 0..10 {
        let record =
            ProducerRecord::to(&topic).key(format!("order-{}", number % 4)).value(format!("event {number}"));
        let written = producer.send(record).await?;
        println!("produced  event {number} to {} at offset {:?}", written.topic_partition(), written.offset);
    }
    producer.close(Duration::from_secs(10)).await?;

    let mut consumer = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .auto_commit(false)
        .build()
        .await?;
    for _ in 0..10 {
        let Some(record) = consumer.try_next().await? else { break };
        let (key, value): (String, String) = (record.key_as()?, record.value_as()?);
        println!("consumed  {value} of {key} from {} at offset {}", record.topic_partition(), record.offset);
    }
    consumer.commit().await?;
    let committed = consumer.committed(consumer.assignment()).await?;
    for (partition, committed) in committed {
        println!("committed {partition} up to offset {}", committed.offset);
    }
    consumer.close(Duration::from_secs(10)).await?;
    target.stop().await;
    Ok(())
}
