//! What is sent and what comes back: [`ProducerRecord`] and [`RecordMetadata`].

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kafka_client::TopicPartition;

use crate::completion::BatchCompletion;
use crate::topic::Destination;

/// A record to be sent: where to, and what.
///
/// Key and value are anything that implements [`Serialize`](kafka_client::serde::Serialize). Without a key the record
/// goes to a partition of the producer's choice; without a value it is a tombstone.
///
/// ```
/// use kafka_producer::ProducerRecord;
///
/// let record = ProducerRecord::to("orders").key("42").value("created").header("trace", "4bf92f35");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRecord<'a, K = (), V = ()> {
    pub(crate) topic: Destination<'a>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) timestamp: Option<i64>,
}

/// A record's header. Names may repeat, and the value may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for `topic`, a name or a [`Topic`](crate::Topic), with neither key nor value yet.
    #[inline]
    #[must_use]
    pub fn to(topic: impl Into<Destination<'a>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: (),
            value: (),
            headers: Vec::new(),
            timestamp: None,
        }
    }
}

impl<'a, K, V> ProducerRecord<'a, K, V> {
    /// Sets the key, which by default decides the partition.
    #[inline]
    #[must_use]
    pub fn key<T>(self, key: T) -> ProducerRecord<'a, T, V> {
        let Self { topic, partition, key: _, value, headers, timestamp } = self;
        ProducerRecord { topic, partition, key, value, headers, timestamp }
    }

    /// Sets the value.
    #[inline]
    #[must_use]
    pub fn value<T>(self, value: T) -> ProducerRecord<'a, K, T> {
        let Self { topic, partition, key, value: _, headers, timestamp } = self;
        ProducerRecord { topic, partition, key, value, headers, timestamp }
    }

    /// Sends it to this partition, whatever its key.
    #[inline]
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Adds a header behind those already there.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl HeaderValue<'a>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into_header_value() });
        self
    }

    /// Sets the record's time in milliseconds since 1970; by default the time at which it is accepted.
    #[inline]
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// The topic it goes to.
    pub fn topic(&self) -> &str {
        self.topic.name()
    }
}

/// What a header's value can be given as: text, bytes, or `None` for null.
pub trait HeaderValue<'a> {
    /// The bytes, or `None` for null.
    fn into_header_value(self) -> Option<Cow<'a, [u8]>>;
}

macro_rules! header_values {
    ($($type:ty => |$value:ident| $bytes:expr;)*) => {$(
        impl<'a> HeaderValue<'a> for $type {
            fn into_header_value(self) -> Option<Cow<'a, [u8]>> {
                let $value = self;
                Some($bytes)
            }
        }
    )*};
}
header_values! {
    &'a [u8] => |value| Cow::Borrowed(value);
    &'a Vec<u8> => |value| Cow::Borrowed(value);
    &'a bytes::Bytes => |value| Cow::Borrowed(value);
    &'a str => |value| Cow::Borrowed(value.as_bytes());
    &'a String => |value| Cow::Borrowed(value.as_bytes());
    Vec<u8> => |value| Cow::Owned(value);
    bytes::Bytes => |value| Cow::Owned(value.into());
    String => |value| Cow::Owned(value.into_bytes());
}

impl<'a, const N: usize> HeaderValue<'a> for &'a [u8; N] {
    fn into_header_value(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self))
    }
}

/// `None` is null.
impl<'a, T: HeaderValue<'a>> HeaderValue<'a> for Option<T> {
    fn into_header_value(self) -> Option<Cow<'a, [u8]>> {
        self.and_then(T::into_header_value)
    }
}

/// Where an acknowledged record is.
#[derive(Clone)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// Knows topic and partition.
    pub(crate) batch: Arc<BatchCompletion>,
    /// Its offset. `None` with `acks=0`, and where the broker recognised the record as one that an earlier attempt had
    /// written but no longer knew where.
    pub offset: Option<i64>,
    /// Its time in milliseconds since 1970: the broker's where the topic says LogAppendTime, otherwise its own.
    pub timestamp: i64,
}

impl RecordMetadata {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.batch.topic()
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition()
    }

    /// The topic and partition together.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.batch.topic().clone(), partition: self.partition() }
    }
}

impl PartialEq for RecordMetadata {
    fn eq(&self, other: &Self) -> bool {
        (self.topic(), self.partition(), self.offset, self.timestamp)
            == (other.topic(), other.partition(), other.offset, other.timestamp)
    }
}

impl Eq for RecordMetadata {}

impl Hash for RecordMetadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.topic(), self.partition(), self.offset, self.timestamp).hash(state);
    }
}

impl fmt::Debug for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordMetadata")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_order_and_may_repeat_or_be_null() {
        let record = ProducerRecord::to("t")
            .header("a", "1")
            .header("b", None::<&str>)
            .header("a", vec![0xff])
            .header("c", b"xyz");
        let headers: Vec<_> = record.headers.iter().map(|h| (&*h.name, h.value.as_deref())).collect();
        let expected: [(&str, Option<&[u8]>); 4] =
            [("a", Some(b"1")), ("b", None), ("a", Some(&[0xff])), ("c", Some(b"xyz"))];
        assert_eq!(headers, expected);
    }
}
