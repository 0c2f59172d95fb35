//! Kafka connections, metadata, routing and one shared pool, for async Rust.
//!
//! A [`Client`] knows a cluster and keeps the connections to it; producers, consumers and admins are built on one and
//! share it.

mod client;
mod clock;
mod cluster;
pub mod config;
pub mod error;
pub mod layers;
pub mod metrics;
mod net;
pub mod properties;
pub mod raw;
pub mod serde;
pub mod types;

pub use client::{Client, ClientBuilder};
pub use config::{ClientConfig, MetadataRecovery};
pub use error::{Error, ErrorKind, Result};
pub use kafka_wire::{Api, ErrorCode, NodeAddress, ProtocolError, VersionRange};
pub use types::{IsolationLevel, NodeId, Offset, OffsetAndMetadata, TopicId, TopicPartition};

// Tests assert how often a request asks for memory.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: counting_alloc::CountingAlloc = counting_alloc::CountingAlloc;
