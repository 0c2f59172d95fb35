//! What a consumer hands out: single records that own their bytes, and batches that records are borrowed from.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use kafka_client::TopicPartition;
use kafka_client::serde::{BoxError, Deserialize};
use kafka_wire::record_batch::{DecodedBatch, RecordRef, TimestampType};

/// A record with its place in the log.
///
/// Key, value and headers share the memory of the fetched batch, which lives until the last of its records is dropped;
/// [`detach`](Self::detach) copies one out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset in its partition.
    pub offset: i64,
    /// Milliseconds since 1970: the producer's, or the broker's where the topic is set to LogAppendTime; -1 if none.
    pub timestamp: i64,
    /// Whose time [`timestamp`](Self::timestamp) is.
    pub timestamp_type: TimestampType,
    /// The leader epoch under which the record was written, where the broker keeps one.
    pub leader_epoch: Option<i32>,
    /// The key; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// The value; `None` is Kafka's null (a tombstone on compacted topics).
    pub value: Option<Bytes>,
    /// The headers in order, duplicates included.
    pub headers: Vec<RecordHeader>,
}

impl ConsumerRecord {
    /// A record that was borrowed from `body`, and now shares its memory.
    #[inline]
    pub(crate) fn new(place: &Place, body: &Bytes, record: &RecordRef<'_>) -> Self {
        let share = |bytes: &[u8]| body.slice_ref(bytes);
        Self {
            topic: Arc::clone(&place.partition.topic),
            partition: place.partition.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: place.timestamp_type,
            leader_epoch: place.leader_epoch,
            key: record.key.map(share),
            value: record.value.map(share),
            headers: match record.headers() {
                // Most records have none.
                headers if headers.len() == 0 => Vec::new(),
                headers => headers
                    .map(|header| RecordHeader { key: share(header.key), value: header.value.map(share) })
                    .collect(),
            },
        }
    }

    /// The partition it was read from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), self.partition)
    }

    /// The key as `T`: `String`, `Bytes`, `Option<T>`, `Json<T>` with the feature `json`, or a type of your own.
    ///
    /// # Errors
    /// What `T` finds wrong with the bytes.
    pub fn key_as<T: Deserialize>(&self) -> Result<T, BoxError> {
        T::deserialize(self.key.clone())
    }

    /// The value as `T`.
    ///
    /// # Errors
    /// What `T` finds wrong with the bytes.
    pub fn value_as<T: Deserialize>(&self) -> Result<T, BoxError> {
        T::deserialize(self.value.clone())
    }

    /// The last header of that name, as Kafka's own `lastHeader`.
    pub fn header(&self, name: &str) -> Option<&RecordHeader> {
        self.headers.iter().rev().find(|header| header.key == name.as_bytes())
    }

    /// A copy with memory of its own, for a record that is kept long after its batch was read.
    #[must_use]
    pub fn detach(&self) -> Self {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self {
            key: self.key.as_ref().map(copy),
            value: self.value.as_ref().map(copy),
            headers: self
                .headers
                .iter()
                .map(|header| RecordHeader { key: copy(&header.key), value: header.value.as_ref().map(copy) })
                .collect(),
            ..self.clone()
        }
    }
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordHeader {
    /// The name: UTF-8 by convention, not checked.
    pub key: Bytes,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// The name as text; bytes that are no UTF-8 become U+FFFD.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// What the records of one batch have in common.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) timestamp_type: TimestampType,
}

/// Records of one partition that lie together in its log: the unit in which a consumer reads.
///
/// Iterating borrows and allocates nothing; [`to_records`](Self::to_records) gives owned ones.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) place: Place,
    pub(crate) decoded: DecodedBatch,
    /// The position before this batch: what a seek or an earlier read left out is skipped.
    pub(crate) from: i64,
    pub(crate) next_offset: i64,
}

impl Batch {
    /// The partition the records were read from.
    pub fn partition(&self) -> &TopicPartition {
        &self.place.partition
    }

    /// The leader epoch under which the batch was written, where the broker keeps one.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.place.leader_epoch
    }

    /// Whose time the records' timestamps are.
    pub fn timestamp_type(&self) -> TimestampType {
        self.place.timestamp_type
    }

    /// The position behind the batch: what a commit after it says.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The records, borrowed. They were checked when the batch was handed out, so there is no error to expect.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.decoded.records().map_while(Result::ok).skip_while(|record| record.offset < self.from)
    }

    /// The records, each with its place, sharing the batch's memory.
    pub fn to_records(&self) -> impl Iterator<Item = ConsumerRecord> + '_ {
        self.records().map(|record| ConsumerRecord::new(&self.place, self.decoded.body(), &record))
    }
}
