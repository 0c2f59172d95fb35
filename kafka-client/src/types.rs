//! The nouns every role shares: topic partitions, topic ids, offsets, isolation levels.

use std::fmt;
use std::sync::Arc;

/// A broker's id. Brokers of one cluster have different ids, from 0 on.
pub type NodeId = i32;

/// One partition of one topic; prints as `orders-0`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0 on.
    pub partition: i32,
}

impl TopicPartition {
    /// Names `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

/// A topic's id, which unlike its name is never used again; all zeros means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// What brokers send that give topics no id.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this stands for "no id".
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// URL-safe base64 without padding: the form in which Kafka's own tools print topic ids.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for chunk in self.0.chunks(3) {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                let index = (bits >> (18 - 6 * place)) as usize & 63;
                fmt::Write::write_char(f, char::from(ALPHABET[index]))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Offset {
    /// The first record that the broker still has.
    Earliest,
    /// The end: only records that are written from now on.
    Latest,
    /// The record with this offset, from 0 on.
    At(i64),
    /// The first record whose timestamp, in milliseconds since 1970, is this or later.
    Timestamp(i64),
}

impl From<i64> for Offset {
    fn from(offset: i64) -> Self {
        Self::At(offset)
    }
}

/// A group's position in a partition, as it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, where known; lets a consumer see that a log was truncated.
    pub leader_epoch: Option<i32>,
    /// Any text the application stored with the offset; empty by default.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// The position before the record with this offset, without epoch and text.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new() }
    }

    /// Adds the leader epoch of the last record read.
    #[must_use]
    pub fn with_leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = Some(leader_epoch);
        self
    }

    /// Adds a text to be stored with the offset.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}

/// Whether records of open and aborted transactions are read. Kafka's default is [`ReadUncommitted`](Self::ReadUncommitted).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// Every record, up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Only records outside transactions and of committed ones, up to the first open transaction.
    ReadCommitted,
}

impl IsolationLevel {
    /// The number that stands for it on the wire.
    pub fn id(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_partition_prints_as_kafka_prints_it() {
        assert_eq!(TopicPartition::new("orders", 3).to_string(), "orders-3");
        assert_eq!(format!("{:?}", TopicPartition::from(("orders", 3))), "orders-3");
    }

    #[test]
    fn a_topic_id_prints_as_kafkas_tools_print_it() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId([0xff; 16]).to_string(), "_____________________w");
        let counting = TopicId(std::array::from_fn(|index| index as u8));
        assert_eq!(counting.to_string(), "AAECAwQFBgcICQoLDA0ODw");
    }
}
