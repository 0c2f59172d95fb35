//! Kafka's bytes: framing, guarded messages, record batches, compression, error codes. No tokio, no clock.

pub mod acl;
pub mod address;
pub mod api;
mod codec;
pub mod compression;
pub mod consumer_protocol;
pub mod crc;
pub mod error;
pub mod error_code;
pub mod fetch;
pub mod frame;
mod generated;
pub mod header;
pub mod messages;
pub mod murmur2;
mod partitions;
pub mod primitives;
pub mod produce;
pub mod record_batch;
pub mod sasl;
pub mod shape;
mod shape_tables;
#[cfg(test)]
mod testing;

pub use address::NodeAddress;
pub use api::{Api, Request, VersionRange};
pub use error::{ProtocolError, ProtocolErrorKind};
pub use error_code::ErrorCode;
