//! A Kafka producer for async Rust.

mod accumulator;
mod answer;
mod batch;
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
mod record;
#[cfg(test)]
mod simulation;

pub use completion::Delivery;
pub use config::{Acks, ProducerConfig};
pub use error::{Error, ErrorKind, Fate, Result};
pub use partitioner::{ByKey, IgnoreKeys, Partitioner, RecordBytes};
pub use record::{HeaderValue, ProducerRecord, RecordMetadata};
