//! Drives Confluent's own Rust client.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use confluent_kafka::common::serialization::{ByteArraySerializer, BytesDeserializer};
use confluent_kafka::common::{KafkaFuture, TopicPartition};
use confluent_kafka::consumer::{Consumer, ConsumerConfig, KafkaConsumer};
use confluent_kafka::producer::{KafkaProducer, Producer, ProducerConfig, ProducerRecord, RecordMetadata};
use driver::{BUFFER_BYTES, Client, Options, Record, Result, Tally};

fn main() -> ExitCode {
    driver::main(driver::run::<Confluent>)
}

struct Confluent;

/// Settings under Java's names.
struct Properties(HashMap<String, String>);

impl Properties {
    fn new(options: &Options) -> Self {
        Self(HashMap::new()).with("bootstrap.servers", &options.bootstrap)
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.into(), value.to_string());
        self
    }
}

impl Client for Confluent {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        "1.0.0".into()
    }

    async fn producer(options: &Options) -> Result<Sending> {
        let mut properties = Properties::new(options).with("compression.type", options.codec.name());
        if options.equal() {
            properties = properties
                .with("acks", "all")
                .with("enable.idempotence", true)
                .with("linger.ms", options.linger.as_millis())
                .with("batch.size", options.batch_bytes)
                .with("buffer.memory", BUFFER_BYTES)
                .with("max.in.flight.requests.per.connection", options.in_flight);
        }
        let config = ProducerConfig::new(&properties.0)?;
        let producer = KafkaProducer::new(config, ByteArraySerializer::new(), ByteArraySerializer::new())?;
        Ok(Sending { producer: Arc::new(producer), topic: options.topic.as_str().into() })
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let mut properties = Properties::new(options)
            .with("group.protocol", "consumer")
            .with("auto.offset.reset", "earliest")
            .with("enable.auto.commit", false);
        if options.equal() {
            properties = properties.with("max.poll.records", 10_000);
        }
        let config = ConsumerConfig::new(&properties.0)?;
        let mut consumer = KafkaConsumer::new(config, BytesDeserializer::new(), BytesDeserializer::new())?;
        let partitions =
            (0..options.partitions).map(|partition| TopicPartition::new(&*options.topic, partition));
        consumer.assign(partitions.collect()).await?;
        Ok(Reading(consumer))
    }
}

#[derive(Clone)]
struct Sending {
    producer: Arc<KafkaProducer<Vec<u8>, Vec<u8>>>,
    topic: Arc<str>,
}

impl driver::Producer for Sending {
    type Ack = KafkaFuture<RecordMetadata>;

    /// The inherent `send` takes borrowed bytes and copies them once, straight into the batch.
    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<Self::Ack> {
        let (key, value) = (Some(&*record.key), Some(&*record.value));
        let topic = self.topic.to_string();
        let sent = match partition {
            Some(partition) => ProducerRecord::with_partition_key(topic, Some(partition), key, value)?,
            None => ProducerRecord::with_key(topic, key, value),
        };
        Ok(self.producer.send(sent, None).await?)
    }

    fn settled(ack: &mut Self::Ack) -> Option<Result<()>> {
        if !ack.is_done() {
            return None;
        }
        Some(driver::now(&mut std::pin::pin!(ack.get()))?.map(drop).map_err(Into::into))
    }

    async fn settle(ack: Self::Ack) -> Result<()> {
        ack.get().await?;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(Producer::flush(&*self.producer).await?)
    }
}

struct Reading(KafkaConsumer<Bytes, Bytes>);

impl driver::Consumer for Reading {
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        for record in &self.0.poll(Duration::from_secs(1)).await? {
            tally.record(
                record.partition(),
                record.offset(),
                record.key().map(|key| &**key),
                record.value().map(|value| &**value),
            );
        }
        Ok(())
    }

    async fn close(mut self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
