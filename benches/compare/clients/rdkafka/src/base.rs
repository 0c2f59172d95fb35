//! `BaseProducer` and `BaseConsumer`.
//!
//! Saturated, the producing thread serves the callbacks itself, which saves the switches between two threads. Otherwise a
//! thread does, as in `ThreadedProducer`: `poll` with a time-out of less than a millisecond spins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driver::{Client, Error, Mode, Options, Record, Result, Tally};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};

use crate::{consumer_config, everything, producer_config, version};

/// `poll(0)` serves one event: the acknowledgements of about a batch.
const RECORDS_PER_POLL: u64 = 64;
/// How long to wait for room or for the last acknowledgements.
const WAIT: Duration = Duration::from_millis(1);
/// How many events to serve after a wait.
const POLLS: usize = 64;
/// Between two looks for the one delivery that is timed.
const LOOK_AGAIN: Duration = Duration::from_micros(50);
/// How many messages are taken between two looks at the clock.
const MESSAGES: usize = 1024;

pub(crate) struct Base;

impl Client for Base {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        version()
    }

    async fn producer(options: &Options) -> Result<Sending> {
        if options.mode == Mode::Latency {
            return Err(Error::unsupported("latency by callbacks: it would be that of rdkafka-future"));
        }
        let producer: BaseProducer<Fates> = producer_config(options).create_with_context(Fates::default())?;
        let sending = Sending {
            producer: Arc::new(producer),
            topic: options.topic.clone().leak(),
            sent: Arc::default(),
            polled_elsewhere: options.mode != Mode::Produce || options.rate != 0,
            settles_at_once: options.mode == Mode::Start,
        };
        if sending.polled_elsewhere {
            let producer = Arc::clone(&sending.producer);
            std::thread::spawn(move || {
                loop {
                    producer.poll(Duration::from_millis(100));
                }
            });
        }
        Ok(sending)
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let consumer: BaseConsumer = consumer_config(options).create()?;
        consumer.assign(&everything(options)?)?;
        Ok(Reading(consumer))
    }
}

/// Counts what the callbacks tell.
#[derive(Default)]
struct Fates {
    failed: AtomicU64,
}

impl ClientContext for Fates {}

impl ProducerContext for Fates {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && self.failed.fetch_add(1, Ordering::Relaxed) < 3
        {
            eprintln!("error: {error}");
        }
    }
}

#[derive(Clone)]
pub(crate) struct Sending {
    producer: Arc<BaseProducer<Fates>>,
    topic: &'static str,
    sent: Arc<AtomicU64>,
    polled_elsewhere: bool,
    settles_at_once: bool,
}

impl driver::Producer for Sending {
    type Ack = ();

    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<()> {
        let mut sent = BaseRecord::to(self.topic).key(&*record.key).payload(&*record.value);
        sent.partition = partition;
        while let Err((error, back)) = self.producer.send(sent) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => sent = back,
                _ => return Err(error.into()),
            }
            self.wait().await;
        }
        if !self.polled_elsewhere
            && self.sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(RECORDS_PER_POLL)
        {
            self.producer.poll(Duration::ZERO);
        }
        // There is nothing to await a delivery by, so that the one which is timed is looked for.
        while self.settles_at_once && self.producer.in_flight_count() > 0 {
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn settled((): &mut ()) -> Option<Result<()>> {
        Some(Ok(()))
    }

    async fn settle((): ()) -> Result<()> {
        Ok(())
    }

    /// librdkafka's own flush rounds up to 100 ms here; what lingers goes in a few milliseconds by itself.
    async fn flush(&self) -> Result<()> {
        while self.producer.in_flight_count() > 0 {
            self.wait().await;
        }
        Ok(())
    }

    fn failed_later(&self) -> u64 {
        self.producer.client().context().failed.load(Ordering::Relaxed)
    }
}

impl Sending {
    async fn wait(&self) {
        if self.polled_elsewhere {
            tokio::time::sleep(WAIT).await;
        } else {
            // `poll(WAIT)` would go on until the time is over, and spin through the last millisecond.
            std::thread::sleep(WAIT);
            (0..POLLS).for_each(|_| self.producer.poll(Duration::ZERO));
        }
    }
}

pub(crate) struct Reading(BaseConsumer);

impl driver::Consumer for Reading {
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        for _ in 0..MESSAGES {
            if tally.is_full() {
                break;
            }
            let Some(message) = self.0.poll(Duration::from_millis(100)) else { break };
            let message = message?;
            tally.record(message.partition(), message.offset(), message.key(), message.payload());
        }
        // This never waits for the runtime, whose timers would never have their turn.
        tokio::task::yield_now().await;
        Ok(())
    }
}
