//! What a test can see of a cluster: its state at a moment, the requests it got, the records it holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::api::Api;
use kafka_wire::compression::Decompressor;
use kafka_wire::record_batch::{BatchError, OwnedHeader, RawBatch, batches};
use tokio::time::Instant;

use crate::image::NO_NODE;
use crate::shared::Shared;

/// What a batch may decompress to when a test reads it back.
const MOST_DECOMPRESSED: usize = 256 * 1024 * 1024;
/// How many of the last requests an error shows.
const SHOWN: usize = 50;

/// One request that a broker received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RequestRecord {
    /// How many had come to the cluster before: with a clock that a test has paused, many come at the same time.
    pub(crate) before: u64,
    /// When it had been read, on tokio's clock.
    pub arrived: Instant,
    /// The same in milliseconds since the Unix epoch, on the cluster's clock.
    pub wall_ms: i64,
    /// The broker that received it.
    pub broker: i32,
    /// Which connection of that broker, counted from 1.
    pub connection: u64,
    /// The name of the client, or its first 255 characters.
    pub client_id: Option<Arc<str>>,
    /// Who sent it, as the broker knows it: `User:alice`, or `User:ANONYMOUS`.
    pub principal: Arc<str>,
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

impl fmt::Display for RequestRecord {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, connection, api, version, correlation_id, outcome, .. } = self;
        let client = self.client_id.as_deref().unwrap_or("-");
        write!(
            out,
            "broker {broker}, connection {connection} ({client}): {api} v{version} #{correlation_id}, "
        )?;
        match self.latency {
            Some(latency) => write!(out, "{outcome:?} after {latency:?}"),
            None => write!(out, "{outcome:?}"),
        }
    }
}

/// The state of a cluster at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// All brokers, by id.
    pub brokers: Vec<BrokerState>,
    /// All partitions, by topic and number.
    pub partitions: Vec<PartitionState>,
}

/// One broker in a [`Snapshot`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BrokerState {
    /// Its id.
    pub id: i32,
    /// Where clients are told to connect to.
    pub address: String,
    /// Whether it runs.
    pub alive: bool,
    /// Open connections.
    pub connections: usize,
    /// Fetch sessions.
    pub fetch_sessions: usize,
    /// Connections that were closed because a handler panicked: always 0, or this crate has a bug.
    pub panics: u64,
}

/// One partition in a [`Snapshot`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionState {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
    /// The leader, unless no replica is live.
    pub leader: Option<i32>,
    /// How often a leader was elected, from 0.
    pub leader_epoch: i32,
    /// Brokers with a replica, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Live replicas.
    pub isr: Vec<i32>,
    /// The first offset that can be read.
    pub log_start_offset: i64,
    /// The offset of the next record.
    pub log_end_offset: i64,
    /// The offset below which records are replicated: the end, as replicas share one log.
    pub high_watermark: i64,
    /// Idempotent producers that the log knows.
    pub producers: usize,
}

impl Snapshot {
    pub(crate) fn take(shared: &Shared) -> Self {
        let image = shared.image();
        let brokers = image.brokers.values().filter_map(|broker| {
            let node = shared.nodes.get(&broker.id)?;
            Some(BrokerState {
                id: broker.id,
                address: broker.address.to_string(),
                alive: broker.alive,
                connections: node.open_connections(),
                fetch_sessions: node.sessions.len(),
                panics: node.panics(),
            })
        });
        let places =
            image.topics.values().flat_map(|topic| topic.partitions.iter().map(move |place| (topic, place)));
        let partitions = places.map(|(topic, place)| {
            let state = place.partition.lock();
            PartitionState {
                topic: Arc::clone(&topic.name),
                partition: place.partition.number(),
                leader: Some(state.leader).filter(|leader| *leader != NO_NODE),
                leader_epoch: state.leader_epoch,
                replicas: place.replicas.to_vec(),
                isr: place.isr(&image),
                log_start_offset: state.log.start(),
                log_end_offset: state.log.end(),
                high_watermark: state.log.end(),
                producers: state.log.producers().count(),
            }
        });
        Self { brokers: brokers.collect(), partitions: partitions.collect() }
    }

    /// The state of one partition, if it exists.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionState> {
        self.partitions.iter().find(|state| &*state.topic == topic && state.partition == partition)
    }

    /// The state of one broker, if it exists.
    #[must_use]
    pub fn broker(&self, id: i32) -> Option<&BrokerState> {
        self.brokers.iter().find(|broker| broker.id == id)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for broker in &self.brokers {
            let state = if broker.alive { "live" } else { "stopped" };
            writeln!(
                out,
                "broker {} at {}: {state}, {} connections",
                broker.id, broker.address, broker.connections
            )?;
        }
        for state in &self.partitions {
            let PartitionState { topic, partition, leader, leader_epoch, isr, .. } = state;
            let offsets = state.log_start_offset..state.log_end_offset;
            write!(out, "{topic}-{partition}: leader {leader:?} in epoch {leader_epoch}, isr {isr:?}, ")?;
            writeln!(out, "offsets {offsets:?}")?;
        }
        Ok(())
    }
}

/// A condition that did not come true in time, with what the cluster looked like then.
#[derive(Debug, thiserror::Error)]
#[error("the condition was not met within {limit:?}\n{snapshot}last requests:\n{}", lines(.requests))]
pub struct WaitError {
    /// How long was waited.
    pub limit: Duration,
    /// The cluster at the end.
    pub snapshot: Snapshot,
    /// The last requests, oldest first.
    pub requests: Vec<RequestRecord>,
}

impl WaitError {
    pub(crate) fn new(limit: Duration, snapshot: Snapshot, mut requests: Vec<RequestRecord>) -> Self {
        requests.drain(..requests.len().saturating_sub(SHOWN));
        Self { limit, snapshot, requests }
    }
}

fn lines(requests: &[RequestRecord]) -> String {
    requests.iter().map(|request| format!("{request}\n")).collect()
}

/// A record as a log holds it. Equal to a `str` or bytes if its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Its key; `None` for null.
    pub key: Option<Bytes>,
    /// Its value; `None` for null.
    pub value: Option<Bytes>,
    /// Names and values of its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// The idempotent producer that wrote it, or -1.
    pub producer_id: i64,
    /// The leader epoch in which it was written.
    pub leader_epoch: i32,
}

impl StoredRecord {
    /// The value as text; empty for null, and with replacement characters where it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default())
    }
}

impl PartialEq<str> for StoredRecord {
    fn eq(&self, value: &str) -> bool {
        self.value.as_deref() == Some(value.as_bytes())
    }
}

impl PartialEq<&str> for StoredRecord {
    fn eq(&self, value: &&str) -> bool {
        *self == **value
    }
}

impl PartialEq<String> for StoredRecord {
    fn eq(&self, value: &String) -> bool {
        *self == **value
    }
}

impl PartialEq<[u8]> for StoredRecord {
    fn eq(&self, value: &[u8]) -> bool {
        self.value.as_deref() == Some(value)
    }
}

/// Every record in `pieces` of a log from offset `start` on, but those of batches that cannot be decoded.
pub(crate) fn decode(topic: &str, partition: i32, start: i64, pieces: Vec<Bytes>) -> Vec<StoredRecord> {
    let mut decompressor = Decompressor::new(MOST_DECOMPRESSED);
    let mut records = Vec::new();
    for batch in pieces.into_iter().flat_map(batches) {
        let before = records.len();
        let read =
            batch.and_then(|batch| decode_batch(partition, start, batch, &mut decompressor, &mut records));
        if let Err(error) = read {
            records.truncate(before);
            tracing::warn!(topic, partition, "left out a batch that cannot be decoded: {error}");
        }
    }
    records
}

fn decode_batch(
    partition: i32,
    start: i64,
    batch: RawBatch,
    decompressor: &mut Decompressor,
    records: &mut Vec<StoredRecord>,
) -> Result<(), BatchError> {
    if batch.header.is_control() {
        return Ok(());
    }
    for record in batch.decode(decompressor)?.into_reader() {
        let record = record?;
        if record.offset < start {
            continue;
        }
        let header = |OwnedHeader { key, value, .. }| (key, value);
        records.push(StoredRecord {
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().map(header).collect(),
            producer_id: batch.header.producer_id,
            leader_epoch: batch.header.partition_leader_epoch,
        });
    }
    Ok(())
}
