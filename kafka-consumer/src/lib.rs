//! A Kafka consumer for async Rust.
//!
//! A [`Consumer`] is built on a [`Client`](kafka_client::Client), which it shares with whatever else the program does with
//! the cluster. It reads partitions it is [assigned](ConsumerBuilder::assign), or shares
//! [topics](ConsumerBuilder::topics) with the other members of a group.

mod acks;
mod alarm;
mod buffer;
mod builder;
pub mod config;
mod consumer;
pub mod error;
mod fetch;
mod group;
mod handle;
mod offsets;
mod opening;
mod partitions;
mod pattern;
mod reader;
mod rebalance;
mod record;
mod refused_topics;
mod shared;
mod subscription;

pub use acks::Ack;
pub use builder::ConsumerBuilder;
pub use config::ConsumerConfig;
pub use consumer::Consumer;
pub use error::{Error, ErrorKind, Result};
pub use group::assignor;
pub use handle::{ConsumerHandle, OffsetAndTimestamp};
pub use kafka_wire::record_batch::TimestampType;
pub use partitions::{PartitionRecord, PartitionStream, Partitions};
pub use rebalance::{HookFuture, RebalanceListener};
pub use record::{Batch, ConsumerRecord, RecordHeader};
