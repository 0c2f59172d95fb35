//! Settings of a producer to be, and its start.

use std::sync::Arc;
use std::time::Duration;

use kafka_client::Client;
use kafka_client::raw::Backoff;
use kafka_wire::compression::Compression;
use tokio::runtime::Handle;

use crate::accumulator::{self, Accumulator};
use crate::clock::{bounded, punctual};
use crate::config::{Acks, ProducerConfig};
use crate::error::Result;
use crate::outbox::{self, Outbox};
use crate::partitioner::Partitioner;
use crate::producer::{Producer, Shared};
use crate::request::Terms;
use crate::sender::Sender;

/// Settings of a producer to be; see [`ProducerConfig`] for what each means and its default.
#[derive(Debug)]
#[must_use = "nothing happens before `build`"]
pub struct ProducerBuilder {
    client: Client,
    pub(crate) config: ProducerConfig,
    /// The first mistake that was made, told by `build`.
    pub(crate) error: Option<kafka_client::Error>,
}

impl ProducerBuilder {
    pub(crate) fn new(client: &Client) -> Self {
        Self { client: client.clone(), config: ProducerConfig::default(), error: None }
    }

    /// Who must have a record before it counts as written (`acks`). All in-sync replicas by default.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.config.acks = acks;
        self
    }

    /// Whether brokers recognise a record that is sent twice (`enable.idempotence`). On by default.
    pub fn idempotence(mut self, on: bool) -> Self {
        self.config.idempotence = Some(on);
        self
    }

    /// How many requests to one broker may be unanswered (`max.in.flight.requests.per.connection`). 5 by default, and
    /// at most with idempotence.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests;
        self
    }

    /// How often a batch is sent again at most (`retries`). Only time limits it by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.config.retries = retries;
        self
    }

    /// How long a record may take from being accepted to being acknowledged (`delivery.timeout.ms`). 2 min by default.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.config.delivery_timeout = timeout;
        self
    }

    /// How long a batch waits for more records (`linger.ms`), to a millisecond. 5 ms by default.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// How large a batch may become, in bytes before compression and within `buffer.memory` (`batch.size`). 256 KiB by default.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.config.batch_size = bytes;
        self
    }

    /// How large a request, and so a record, may become, in bytes (`max.request.size`). 1 MiB by default.
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.config.max_request_size = bytes;
        self
    }

    /// How much the batches that are not acknowledged may take, in bytes (`buffer.memory`). 32 MiB by default.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.config.buffer_memory = bytes;
        self
    }

    /// How long a send may wait for room and for a topic's partitions to become known (`max.block.ms`). 1 min by
    /// default.
    pub fn max_block(mut self, timeout: Duration) -> Self {
        self.config.max_block = timeout;
        self
    }

    /// How batches are compressed (`compression.type`). Not at all by default.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// The level of the codec in use (`compression.gzip.level` and its like). The codec's own default.
    pub fn compression_level(mut self, level: i32) -> Self {
        (self.config.gzip_level, self.config.lz4_level, self.config.zstd_level) =
            (Some(level), Some(level), Some(level));
        self
    }

    /// Who chooses the partition of a record that names none (`partitioner.class`). By default
    /// [`ByKey`](crate::ByKey), as in Java.
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.config.partitioner = Arc::new(partitioner);
        self
    }

    /// Whether records without key prefer partitions with short queues (`partitioner.adaptive.partitioning.enable`).
    /// They do by default.
    pub fn adaptive_partitioning(mut self, on: bool) -> Self {
        self.config.adaptive_partitioning = on;
        self
    }

    /// Whether brokers that are configured to may create a topic that a record names. By default they may, as in Java.
    pub fn allow_auto_create_topics(mut self, on: bool) -> Self {
        self.config.allow_auto_create_topics = on;
        self
    }

    /// Starts the producer on the current tokio runtime. It needs no broker for that: records are accepted once their
    /// topic is known.
    ///
    /// # Errors
    /// The first setting that cannot work, by name, with its value and a remedy.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn build(self) -> Result<Producer> {
        let Self { client, config, error } = self;
        if let Some(error) = error {
            return Err(error.into());
        }
        let client_config = client.config();
        config.validate(client_config.request_timeout)?;
        let Ok(runtime) = Handle::try_current() else {
            let remedy = "build the producer inside a tokio runtime, on which its task can run";
            return Err(kafka_client::Error::config("runtime", "none", remedy).into());
        };
        // Any number that no other user of the client's seed has.
        let mut random = client_config.random(0x7072_6f64);
        let accumulator = Accumulator::new(accumulator::Settings {
            batch_size: config.batch_size.min(config.buffer_memory),
            buffer_memory: config.buffer_memory,
            adaptive_partitioning: config.adaptive_partitioning,
            eager: config.linger.is_zero(),
            seed: random.u64(..),
        });
        let settings = outbox::Settings {
            idempotent: config.is_idempotent(),
            linger: punctual(bounded(config.linger)),
            delivery_timeout: bounded(config.delivery_timeout),
            max_request_size: config.max_request_size,
            retries: config.retries,
            backoff: Backoff::new(client_config.retry_backoff, client_config.retry_backoff_max),
        };
        let terms = Terms {
            acks: config.acks,
            compression: config.compression,
            timeout: client_config.request_timeout,
            idempotent: config.is_idempotent(),
        };
        let outbox = Outbox::new(settings, config.compressor()?, accumulator.memory.clone(), random.fork());
        let shared = Arc::new(Shared::new(client.clone(), config, accumulator));
        runtime.spawn(Sender::new(client, shared.clone(), terms, outbox, random).run());
        Ok(Producer::over(shared))
    }
}
