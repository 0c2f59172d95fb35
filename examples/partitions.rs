//! One task for each partition: a slow record in one holds up no other, and what is committed is what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use examples::{Result, Target};
use futures::TryStreamExt;
use kafka_admin::{Admin, NewTopic};
use kafka_client::{Client, Offset};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};
use tokio::sync::Notify;

const RECORDS: usize = 300;

#[tokio::main]
async fn main() -> Result {
    let target = Target::start().await?;
    let client = Client::connect(&target.bootstrap).await?;
    let topic = target.unique("orders");
    for (_, outcome) in Admin::new(&client).create_topics([NewTopic::new(&topic).partitions(6)]).await? {
        outcome?;
    }
    let producer = Producer::new(&client).await?;
    for number in 0..RECORDS {
        let key = format!("customer-{}", number % 50);
        // The flush below waits for all of them.
        drop(producer.enqueue(ProducerRecord::to(&topic).key(key).value("order")).await?);
    }
    producer.flush().await;

    let group = target.unique("shipping");
    let consumer = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .build()
        .await?;
    let mut partitions = consumer.partitions();
    let (done, all_done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    loop {
        tokio::select! {
            partition = partitions.try_next() => {
                let Some(mut partition) = partition? else { break };
                let (done, all_done) = (Arc::clone(&done), Arc::clone(&all_done));
                // Ends when the partition is revoked.
                tokio::spawn(async move {
                    println!("started a task for {}", partition.partition());
                    while let Some(record) = partition.try_next().await? {
                        // … ship the order …
                        record.ack();
                        if done.fetch_add(1, Ordering::Relaxed) + 1 == RECORDS {
                            all_done.notify_one();
                        }
                    }
                    Ok::<(), kafka_consumer::Error>(())
                });
            }
            () = all_done.notified() => break,
        }
    }
    println!("{} orders shipped", done.load(Ordering::Relaxed));
    // Commits what was acknowledged.
    partitions.close(Duration::from_secs(10)).await?;
    target.stop().await;
    Ok(())
}
