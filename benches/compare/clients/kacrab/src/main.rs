//! Drives kacrab.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use driver::{BUFFER_BYTES, Client, Options, Record, Result, Tally};
use kacrab::common::TopicPartition;
use kacrab::consumer::Consumer;
use kacrab::producer::{Producer, ProducerRecord, SendFuture};

fn main() -> ExitCode {
    driver::main(driver::run::<Kacrab>)
}

struct Kacrab;

impl Client for Kacrab {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        "0.4.0".into()
    }

    async fn producer(options: &Options) -> Result<Sending> {
        let mut builder = Producer::builder().set("bootstrap.servers", options.bootstrap.as_str());
        if options.codec != driver::Codec::None {
            builder = builder.set("compression.type", options.codec.name());
        }
        if options.equal() {
            builder = builder
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("linger.ms", options.linger.as_millis().to_string())
                .set("batch.size", options.batch_bytes.to_string())
                .set("buffer.memory", BUFFER_BYTES.to_string())
                .set("max.in.flight.requests.per.connection", options.in_flight.to_string());
        }
        Ok(Sending { producer: Arc::new(builder.build().await?), topic: options.topic.as_str().into() })
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let mut settings = vec![
            ("bootstrap.servers", options.bootstrap.as_str()),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
        ];
        if options.equal() {
            settings.push(("max.poll.records", "10000"));
        }
        let mut consumer = Consumer::from_map(settings).await?;
        consumer.assign(
            (0..options.partitions)
                .map(|partition| TopicPartition { topic: options.topic.clone(), partition }),
        )?;
        Ok(Reading(consumer))
    }
}

#[derive(Clone)]
struct Sending {
    producer: Arc<Producer>,
    topic: Arc<str>,
}

impl driver::Producer for Sending {
    type Ack = SendFuture;

    /// With its buffer (32 MiB) full, `send` spins for as long as a minute, and the task that empties the buffer does
    /// not run on this thread meanwhile.
    const MOST_UNSETTLED: usize = 16 << 20;

    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<SendFuture> {
        let sent = match partition {
            Some(partition) => ProducerRecord::new(self.topic.clone(), partition),
            None => ProducerRecord::unassigned(self.topic.clone()),
        };
        Ok(self.producer.send(sent.key(record.key.clone()).value(record.value.clone()))?)
    }

    fn settled(ack: &mut SendFuture) -> Option<Result<()>> {
        Some(driver::now(ack)?.map(drop).map_err(Into::into))
    }

    async fn settle(ack: SendFuture) -> Result<()> {
        ack.await?;
        Ok(())
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
        self.0.close().await;
        Ok(())
    }
}
