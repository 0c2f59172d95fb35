//! A Kafka producer for async Rust.

mod completion;
mod error;
mod idempotence;
mod ledger;
mod memory;
mod partitioner;
mod record;

pub use completion::Delivery;
pub use error::{Error, ErrorKind, Fate, Result};
pub use partitioner::{ByKey, IgnoreKeys, Partitioner, RecordBytes};
pub use record::{HeaderValue, ProducerRecord, RecordMetadata};
