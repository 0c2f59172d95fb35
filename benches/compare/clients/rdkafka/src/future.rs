//! `FutureProducer` and `StreamConsumer`.

use std::time::Duration;

use driver::{Client, Error, Options, Record, Result, Tally};
use rdkafka::Message;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};

use crate::{consumer_config, everything, producer_config, version};

/// How many messages are taken between two looks at the clock.
const MESSAGES: usize = 1024;
/// How long to wait when librdkafka's queue is full; its own `send` waits for 100 ms, in which the queue may run dry.
const QUEUE_FULL: Duration = Duration::from_millis(2);

pub(crate) struct Future;

impl Client for Future {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        version()
    }

    async fn producer(options: &Options) -> Result<Sending> {
        let producer = producer_config(options).create()?;
        Ok(Sending { producer, topic: options.topic.clone().leak() })
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let consumer: StreamConsumer = consumer_config(options).create()?;
        consumer.assign(&everything(options)?)?;
        Ok(Reading(consumer))
    }
}

#[derive(Clone)]
pub(crate) struct Sending {
    producer: FutureProducer,
    topic: &'static str,
}

impl driver::Producer for Sending {
    type Ack = DeliveryFuture;

    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<DeliveryFuture> {
        let mut sent = FutureRecord::to(self.topic).key(&*record.key).payload(&*record.value);
        sent.partition = partition;
        loop {
            match self.producer.send_result(sent) {
                Ok(ack) => return Ok(ack),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => sent = back,
                Err((error, _)) => return Err(error.into()),
            }
            tokio::time::sleep(QUEUE_FULL).await;
        }
    }

    fn settled(ack: &mut DeliveryFuture) -> Option<Result<()>> {
        driver::now(ack).map(outcome)
    }

    async fn settle(ack: DeliveryFuture) -> Result<()> {
        outcome(ack.await)
    }

    /// Its flush blocks the thread and rounds up to 100 ms; what lingers goes in a few milliseconds by itself.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn outcome<E>(delivery: std::result::Result<OwnedDeliveryResult, E>) -> Result<()> {
    match delivery {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error.into()),
        Err(_) => Err(Error::failed("the producer went away")),
    }
}

pub(crate) struct Reading(StreamConsumer);

impl driver::Consumer for Reading {
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        for _ in 0..MESSAGES {
            if tally.is_full() {
                break;
            }
            let message = self.0.recv().await?;
            tally.record(message.partition(), message.offset(), message.key(), message.payload());
        }
        // Messages are there at once as a rule, so that the runtime's timers would never have their turn.
        tokio::task::yield_now().await;
        Ok(())
    }
}
