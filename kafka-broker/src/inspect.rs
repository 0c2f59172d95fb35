//! What a test can see of a cluster: its state at a moment, the requests it got, the records it holds.

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::api::Api;
use tokio::time::Instant;

/// One request that a broker received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RequestRecord {
    /// When it had been read, on tokio's clock.
    pub arrived: Instant,
    /// The same in milliseconds since the Unix epoch, on the cluster's clock.
    pub wall_ms: i64,
    /// The broker that received it.
    pub broker: i32,
    /// Which connection of that broker, counted from 1.
    pub connection: u64,
    /// The name of the client.
    pub client_id: Option<Arc<str>>,
    /// The API called.
    pub api: Api,
    /// The version of the API.
    pub version: i16,
    /// The id that the response repeats.
    pub correlation_id: i32,
    /// How long the broker took until the response was ready; `None` while it is being served.
    pub latency: Option<Duration>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is being served, or parked.
    InProgress,
    /// A response was ready to be written.
    Answered,
    /// It was served, and the client expects no response (`acks=0`).
    NotExpected,
    /// The connection was closed instead.
    Closed,
    /// A fault rule leaves it without an answer.
    Hung,
}
