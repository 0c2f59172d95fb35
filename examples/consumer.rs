//! Consuming without a group: assigned partitions, batches whose records are borrowed, seek, pause, offsets by time, lag.

use std::time::Duration;

use examples::{Result, Target};
use kafka_admin::{Admin, NewTopic};
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};

#[tokio::main]
async fn main() -> Result {
    let target = Target::start().await?;
    let client = Client::connect(&target.bootstrap).await?;
    let topic = target.unique("clicks");
    for (_, outcome) in Admin::new(&client).create_topics([NewTopic::new(&topic).partitions(2)]).await? {
        outcome?;
    }
    let producer = Producer::new(&client).await?;
    for number in 0..1000_i64 {
        let record =
            ProducerRecord::to(&topic).partition((number % 2) as i32).timestamp(1_700_000_000_000 + number);
        // The flush below waits for all of them.
        drop(producer.enqueue(record.value(format!("click {number}"))).await?);
    }
    producer.flush().await;

    let partitions: Vec<_> = (0..2).map(|partition| TopicPartition::new(topic.as_str(), partition)).collect();
    let mut consumer =
        Consumer::builder(&client).assign(partitions.clone()).start_at(Offset::Earliest).build().await?;

    let mut read = 0;
    while read < 1000 {
        let batch = consumer.next_batch().await?;
        // The records borrow from the batch: nothing is copied or allocated.
        read += batch.records().count();
        println!("{read} read; {} has a lag of {:?}", batch.partition(), consumer.lag(batch.partition())?);
    }

    // Back to a moment in time, in one partition only.
    let moment = 1_700_000_000_900;
    let found = consumer.offsets_for_times([(partitions[0].clone(), moment)]).await?;
    consumer.pause([&partitions[1]])?;
    consumer.seek(&partitions[0], found[&partitions[0]].offset)?;
    let batch = consumer.next_batch().await?;
    for record in batch.records().take(3) {
        println!("from {moment}: {}", String::from_utf8_lossy(record.value.unwrap_or_default()));
    }
    consumer.close(Duration::from_secs(10)).await?;
    target.stop().await;
    Ok(())
}
