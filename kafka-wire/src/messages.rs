//! The messages themselves, as `kafka-protocol` defines them: raw material that no public signature shows.

pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::StrBytes;
