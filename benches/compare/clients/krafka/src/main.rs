//! Drives krafka.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use driver::{BUFFER_BYTES, Client, Codec, Options, Result, Tally};
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::producer::{Acks, DeliveryHandle, Producer};
use krafka::{Compression, Kafka, Record};

fn main() -> ExitCode {
    driver::main(driver::run::<Krafka>)
}

struct Krafka;

impl Client for Krafka {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        "0.28.1".into()
    }

    async fn producer(options: &Options) -> Result<Sending> {
        let mut client = Kafka::builder(&options.bootstrap);
        if options.equal() {
            client = client.max_in_flight_requests(options.in_flight);
        }
        let mut builder = client.connect().await?.producer().compression(match options.codec {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        });
        if options.equal() {
            builder = builder
                .acks(Acks::All)
                .idempotent(true)
                .linger(options.linger)
                .batch_size(options.batch_bytes)
                .buffer_memory(BUFFER_BYTES);
        }
        Ok(Sending { producer: Arc::new(builder.build().await?), topic: options.topic.as_str().into() })
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let client = Kafka::builder(&options.bootstrap).connect().await?;
        let mut builder = client
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false);
        if options.equal() {
            // It stops fetching at 500 records by default.
            builder = builder.max_poll_records(10_000).max_buffered_records(100_000);
        }
        let consumer = builder.build().await?;
        consumer.assign(&options.topic, (0..options.partitions).collect()).await?;
        Ok(Reading(consumer))
    }
}

#[derive(Clone)]
struct Sending {
    producer: Arc<Producer>,
    topic: Arc<str>,
}

impl driver::Producer for Sending {
    type Ack = DeliveryHandle;

    async fn enqueue(
        &self,
        record: &'static driver::Record,
        partition: Option<i32>,
    ) -> Result<DeliveryHandle> {
        let mut sent = Record::new(&*self.topic, record.value.clone()).key(record.key.clone());
        if let Some(partition) = partition {
            sent = sent.partition(partition);
        }
        Ok(self.producer.enqueue(sent).await?)
    }

    fn settled(ack: &mut DeliveryHandle) -> Option<Result<()>> {
        Some(driver::now(ack)?.map(drop).map_err(Into::into))
    }

    async fn settle(ack: DeliveryHandle) -> Result<()> {
        Ok(ack.await.map(drop)?)
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.producer.flush().await?)
    }
}

struct Reading(Consumer);

impl driver::Consumer for Reading {
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        for record in &self.0.poll(Duration::from_secs(1)).await? {
            tally.record(record.partition, record.offset, record.key.as_deref(), record.value.as_deref());
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
