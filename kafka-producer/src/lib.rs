//! A Kafka producer for async Rust.

mod accumulator;
mod answer;
mod batch;
mod builder;
mod clock;
mod completion;
pub mod config;
mod error;
mod idempotence;
mod ledger;
mod memory;
mod notices;
mod outbox;
mod partitioner;
mod producer;
mod record;
mod request;
mod sender;
#[cfg(test)]
mod simulation;
mod sink;
mod topic;

pub use builder::ProducerBuilder;
pub use completion::Delivery;
pub use config::{Acks, ProducerConfig};
pub use error::{Error, ErrorKind, Fate, Result};
pub use partitioner::{ByKey, IgnoreKeys, Partitioner, RecordBytes};
pub use producer::Producer;
pub use record::{HeaderValue, ProducerRecord, RecordMetadata};
pub use sink::ProducerSink;
pub use topic::{Destination, Topic};

pub use kafka_wire::compression::Compression;
