//! Kafka connections, metadata, routing and one shared pool, for async Rust.
//!
//! A [`Client`] knows a cluster and keeps the connections to it; producers, consumers and admins are built on one and
//! share it.

mod cluster;
pub mod config;
pub mod error;
pub mod metrics;
pub mod properties;
pub mod raw;
pub mod serde;
pub mod types;

pub use config::{ClientConfig, MetadataRecovery};
pub use error::{Error, ErrorKind, Result};
pub use types::{IsolationLevel, NodeId, Offset, OffsetAndMetadata, TopicId, TopicPartition};
