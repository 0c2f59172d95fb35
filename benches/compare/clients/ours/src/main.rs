//! Drives the clients of this repository.

use std::process::ExitCode;

use driver::{BUFFER_BYTES, Client, Codec, Options, Record, Result, Tally};
use kafka_client::{Api, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Compression, Delivery, Producer, ProducerRecord, Topic};

fn main() -> ExitCode {
    driver::main(driver::run::<Ours>)
}

struct Ours;

impl Client for Ours {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        let zstd = if cfg!(feature = "zstd") { "zstd in C" } else { "zstd in Rust" };
        format!("{} ({zstd})", env!("CARGO_PKG_VERSION"))
    }

    async fn producer(options: &Options) -> Result<Sending> {
        let client = kafka_client::Client::builder(&options.bootstrap).build()?;
        let mut builder = Producer::builder(&client).compression(match options.codec {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        });
        if options.equal() {
            builder = builder
                .linger(options.linger)
                .batch_size(options.batch_bytes)
                .max_in_flight(options.in_flight)
                .buffer_memory(BUFFER_BYTES);
        }
        let producer = builder.build().await?;
        let topic = producer.topic(&options.topic).await?;
        Ok(Sending { client, producer, topic })
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let client = kafka_client::Client::builder(&options.bootstrap).build()?;
        let partitions =
            (0..options.partitions).map(|partition| TopicPartition::new(&*options.topic, partition));
        let builder = Consumer::builder(&client).assign(partitions).start_at(Offset::Earliest);
        Ok(Reading(builder.build().await?))
    }
}

#[derive(Clone)]
struct Sending {
    client: kafka_client::Client,
    producer: Producer,
    topic: Topic,
}

impl Sending {
    #[inline]
    fn record<'a>(
        &'a self,
        record: &'a Record,
        partition: Option<i32>,
    ) -> ProducerRecord<'a, &'a [u8], &'a [u8]> {
        let (key, value) = (&*record.key, &*record.value);
        match partition {
            Some(partition) => ProducerRecord::to(&self.topic).partition(partition).key(key).value(value),
            None => ProducerRecord::to(&self.topic).key(key).value(value),
        }
    }
}

impl driver::Producer for Sending {
    type Ack = Delivery;

    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<Delivery> {
        match self.producer.try_enqueue(&self.record(record, partition)) {
            Err(error) if error.is_retriable() => {
                Ok(self.producer.enqueue(self.record(record, partition)).await?)
            }
            sent => Ok(sent?),
        }
    }

    fn settled(ack: &mut Delivery) -> Option<Result<()>> {
        Some(ack.try_outcome()?.map(drop).map_err(Into::into))
    }

    async fn settle(ack: Delivery) -> Result<()> {
        ack.await?;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.producer.flush().await;
        Ok(())
    }

    fn requests(&self) -> Option<u64> {
        let metrics = self.client.metrics();
        Some(metrics.request(Api::Produce).map_or(0, |produce| produce.answered + produce.failed))
    }
}

struct Reading(Consumer);

impl driver::Consumer for Reading {
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        let batch = self.0.next_batch().await?;
        let partition = batch.partition().partition;
        for record in batch.records() {
            tally.record(partition, record.offset, record.key, record.value);
        }
        Ok(())
    }
}
