//! Producing: one record and its acknowledgement, many records without waiting for each, and what an error says of a
//! record's fate.

use std::time::Duration;

use examples::{Result, Target};
use kafka_admin::{Admin, NewTopic};
use kafka_client::Client;
use kafka_client::serde::Json;
use kafka_producer::{Compression, Fate, Producer, ProducerRecord};

#[derive(serde::Serialize)]
struct Reading {
    sensor: u32,
    celsius: f64,
}

#[tokio::main]
async fn main() -> Result {
    let target = Target::start().await?;
    let client = Client::connect(&target.bootstrap).await?;
    let topic = target.unique("readings");
    for (_, outcome) in Admin::new(&client).create_topics([NewTopic::new(&topic).partitions(6)]).await? {
        outcome?;
    }

    let producer = Producer::builder(&client)
        .linger(Duration::from_millis(5))
        .compression(Compression::Lz4)
        .build()
        .await?;

    // `send` waits for the acknowledgement.
    let reading = Reading { sensor: 7, celsius: 21.5 };
    let written = producer.send(ProducerRecord::to(&topic).key("sensor-7").value(Json(reading))).await?;
    println!("one reading is at {} offset {:?}", written.topic_partition(), written.offset);

    // `enqueue` waits only for room in the buffer; the acknowledgement comes through the delivery.
    let mut deliveries = Vec::new();
    for number in 0..10_000_u32 {
        let key = format!("sensor-{}", number % 100);
        let record = ProducerRecord::to(&topic).key(key).value("22.0").header("unit", "celsius");
        deliveries.push(producer.enqueue(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    println!("10000 more are written");

    // A record that is too large is refused before it is sent, and its error says so.
    let huge = vec![b'x'; 2 << 20];
    match producer.send(ProducerRecord::to(&topic).value(huge)).await {
        Ok(written) => println!("written after all, at {:?}", written.offset),
        Err(error) => match error.fate() {
            Fate::NotWritten => println!("not written, so it can be sent again safely: {error}"),
            Fate::PossiblyWritten => println!("may or may not be written: {error}"),
            fate => println!("{fate:?}: {error}"),
        },
    }
    producer.close(Duration::from_secs(10)).await?;
    target.stop().await;
    Ok(())
}
