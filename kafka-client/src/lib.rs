//! Kafka connections, metadata, routing and one shared pool, for async Rust.
//!
//! A [`Client`] knows a cluster and keeps the connections to it; producers, consumers and admins are built on one and
//! share it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = kafka_broker::Cluster::builder().brokers(3).start().await?;
//! # let bootstrap = cluster.bootstrap();
//! use std::time::Duration;
//!
//! use kafka_client::Client;
//!
//! let client = Client::builder(bootstrap)
//!     .client_id("billing")
//!     .request_timeout(Duration::from_secs(10))
//!     .connect()
//!     .await?;
//! for broker in client.metadata().brokers() {
//!     println!("broker {} at {}", broker.id, broker.address);
//! }
//! print!("{}", client.metrics().to_prometheus());
//! # Ok(())
//! # }
//! ```
//!
//! | feature | brings |
//! |---|---|
//! | `ring` (default), `aws-lc-rs` | the cryptography of [`tls`]; aws-lc-rs if both are on |
//! | `encrypted-keys` | private keys for mutual TLS that have a password |
//! | `json` | `serde::Json`, any serde type as a key or value |
//! | `oidc` | `auth::oidc`: tokens for OAUTHBEARER from an OAuth 2.0 token endpoint |
//! | `aws-msk` | `auth::aws_msk`: `AWS_MSK_IAM`, and tokens for OAUTHBEARER signed for Amazon MSK |
//! | `zstd` | the C library for zstd: faster than the pure-Rust default, and every level |

pub mod auth;
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
pub mod tls;
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
