//! The `consumer` protocol of classic groups: what members send their leader, and what the leader sends back.
//!
//! The broker passes these bytes on without looking at them, so each was written by *another member*, in any language.
//! Reading is done by views over the bytes, which allocate nothing: a member's lies cost the leader no memory.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ProtocolErrorKind;
use crate::primitives::{Reader, put_length, put_nullable_bytes, put_nullable_string, put_string};

/// The protocol type under which consumers join.
pub const PROTOCOL_TYPE: &str = "consumer";

/// The version that is written; each version adds fields at the end, so that every reader understands it.
pub const VERSION: i16 = 3;

/// What a member of a group wants to read, and what it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription<'a> {
    /// The topics it subscribes to.
    pub topics: Names<'a>,
    /// Bytes for the assignor of the same name in the leader.
    pub user_data: Option<&'a [u8]>,
    /// The partitions it goes on reading while the group rebalances (version 1 on).
    pub owned: TopicPartitions<'a>,
    /// The generation in which it owned them; -1 if it says none (version 2 on).
    pub generation: i32,
    /// Where it runs (version 3 on).
    pub rack: Option<&'a str>,
}

impl<'a> Subscription<'a> {
    /// Reads a subscription of any version; what versions after [`VERSION`] add is skipped.
    ///
    /// # Errors
    /// The first fault: cut short, counts beyond the bytes, no UTF-8, negative version or partition.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ProtocolErrorKind> {
        let mut reader = Reader::new(bytes);
        let version = version(&mut reader)?;
        Ok(Self {
            topics: Names::parse(&mut reader)?,
            user_data: reader.nullable_bytes(false)?,
            owned: if version >= 1 { TopicPartitions::parse(&mut reader)? } else { TopicPartitions::EMPTY },
            generation: if version >= 2 { reader.i32()? } else { -1 },
            rack: if version >= 3 { reader.nullable_string(false)? } else { None },
        })
    }
}

/// Writes a subscription; fields that the version lacks are left out.
///
/// # Errors
/// [`ProtocolErrorKind::Unencodable`] for names longer than 32767 bytes, [`ProtocolErrorKind::InvalidValue`] for a
/// version outside 0 to [`VERSION`].
pub fn encode_subscription<T: AsRef<str>>(
    version: i16,
    topics: &[T],
    user_data: Option<&[u8]>,
    owned: &[(T, Vec<i32>)],
    generation: i32,
    rack: Option<&str>,
) -> Result<Bytes, ProtocolErrorKind> {
    let mut out = start(version)?;
    put_length(&mut out, Some(topics.len()), false)?;
    for topic in topics {
        put_string(&mut out, topic.as_ref(), false)?;
    }
    put_nullable_bytes(&mut out, user_data, false)?;
    if version >= 1 {
        put_topic_partitions(&mut out, owned)?;
    }
    if version >= 2 {
        out.put_i32(generation);
    }
    if version >= 3 {
        put_nullable_string(&mut out, rack, false)?;
    }
    Ok(out.freeze())
}

/// What the leader decided that one member is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignment<'a> {
    /// Its partitions.
    pub partitions: TopicPartitions<'a>,
    /// Bytes from the leader's assignor.
    pub user_data: Option<&'a [u8]>,
}

impl<'a> Assignment<'a> {
    /// Reads an assignment of any version; what versions after [`VERSION`] add is skipped.
    ///
    /// # Errors
    /// The first fault: cut short, counts beyond the bytes, no UTF-8, negative version or partition.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ProtocolErrorKind> {
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        Ok(Self {
            partitions: TopicPartitions::parse(&mut reader)?,
            user_data: reader.nullable_bytes(false)?,
        })
    }
}

/// Writes an assignment, which looks the same in every version.
///
/// # Errors
/// As [`encode_subscription`].
pub fn encode_assignment<T: AsRef<str>>(
    version: i16,
    partitions: &[(T, Vec<i32>)],
    user_data: Option<&[u8]>,
) -> Result<Bytes, ProtocolErrorKind> {
    let mut out = start(version)?;
    put_topic_partitions(&mut out, partitions)?;
    put_nullable_bytes(&mut out, user_data, false)?;
    Ok(out.freeze())
}

/// Writes partitions by topic, as [`TopicPartitions`] reads them.
///
/// # Errors
/// [`ProtocolErrorKind::Unencodable`] for names longer than 32767 bytes.
pub fn put_topic_partitions<T: AsRef<str>>(
    out: &mut impl BufMut,
    topics: &[(T, Vec<i32>)],
) -> Result<(), ProtocolErrorKind> {
    put_length(out, Some(topics.len()), false)?;
    for (topic, partitions) in topics {
        put_string(out, topic.as_ref(), false)?;
        put_length(out, Some(partitions.len()), false)?;
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    Ok(())
}

/// A list of names that has been read through once and is known to be sound.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Names<'a> {
    /// Reads a list of names.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, ProtocolErrorKind> {
        let count = reader.count(false, 2)?;
        let bytes = walked(reader, |reader| (0..count).try_for_each(|_| reader.string(false).map(drop)))?;
        Ok(Self { count, bytes })
    }

    /// The names, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| reader.string(false).ok())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Partitions by topic that have been read through once and are known to be sound.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TopicPartitions<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> TopicPartitions<'a> {
    const EMPTY: Self = Self { count: 0, bytes: &[] };

    /// Reads partitions by topic.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, ProtocolErrorKind> {
        let count = reader.count(false, 6)?;
        let bytes = walked(reader, |reader| {
            (0..count).try_for_each(|_| {
                topic_partitions(reader).and_then(|(_, partitions)| {
                    match partitions.clone().find(|partition| *partition < 0) {
                        None => Ok(()),
                        Some(partition) => {
                            Err(ProtocolErrorKind::InvalidValue(format!("partition {partition}").into()))
                        }
                    }
                })
            })
        })?;
        Ok(Self { count, bytes })
    }

    /// Topics and their partitions, in the order in which they were written; a writer may have named a topic twice.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, impl Iterator<Item = i32> + use<'a>)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| topic_partitions(&mut reader).ok())
    }
}

impl fmt::Debug for TopicPartitions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(topic, partitions)| (topic, partitions.collect::<Vec<_>>())))
            .finish()
    }
}

fn topic_partitions<'a>(
    reader: &mut Reader<'a>,
) -> Result<(&'a str, impl Iterator<Item = i32> + Clone + use<'a>), ProtocolErrorKind> {
    let topic = reader.string(false)?;
    let count = reader.count(false, 4)?;
    let (partitions, _) = reader.take(count * 4)?.as_chunks();
    Ok((topic, partitions.iter().map(|partition| i32::from_be_bytes(*partition))))
}

/// The bytes that `walk` went over.
fn walked<'a>(
    reader: &mut Reader<'a>,
    walk: impl FnOnce(&mut Reader<'a>) -> Result<(), ProtocolErrorKind>,
) -> Result<&'a [u8], ProtocolErrorKind> {
    let mut ahead = *reader;
    walk(&mut ahead)?;
    reader.take(reader.remaining() - ahead.remaining())
}

fn version(reader: &mut Reader<'_>) -> Result<i16, ProtocolErrorKind> {
    match reader.i16()? {
        version if version < 0 => {
            Err(ProtocolErrorKind::InvalidValue(format!("version {version} of the consumer protocol").into()))
        }
        version => Ok(version),
    }
}

fn start(version: i16) -> Result<BytesMut, ProtocolErrorKind> {
    if !(0..=VERSION).contains(&version) {
        let message = format!("version {version} of the consumer protocol");
        return Err(ProtocolErrorKind::Unencodable(message.into()));
    }
    let mut out = BytesMut::new();
    out.put_i16(version);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seeded;

    fn owned() -> Vec<(&'static str, Vec<i32>)> {
        vec![("orders", vec![0, 2]), ("parcels", vec![])]
    }

    fn subscription(version: i16) -> Bytes {
        let topics = ["orders", "parcels"];
        encode_subscription(version, &topics, Some(b"data"), &owned(), 7, Some("a")).unwrap()
    }

    fn collected(partitions: TopicPartitions<'_>) -> Vec<(&str, Vec<i32>)> {
        partitions.iter().map(|(topic, partitions)| (topic, partitions.collect())).collect()
    }

    #[test]
    fn a_subscription_of_each_version_keeps_the_fields_that_version_has() {
        for version in 0..=VERSION {
            let bytes = subscription(version);
            let read = Subscription::parse(&bytes).unwrap();
            assert_eq!(read.topics.iter().collect::<Vec<_>>(), ["orders", "parcels"], "version {version}");
            assert_eq!(read.user_data, Some(&b"data"[..]));
            assert_eq!(collected(read.owned), if version >= 1 { owned() } else { Vec::new() });
            assert_eq!(read.generation, if version >= 2 { 7 } else { -1 });
            assert_eq!(read.rack, if version >= 3 { Some("a") } else { None });
        }
    }

    #[test]
    fn an_assignment_survives_a_round_trip_in_each_version() {
        for version in 0..=VERSION {
            let bytes = encode_assignment(version, &owned(), None).unwrap();
            let read = Assignment::parse(&bytes).unwrap();
            assert_eq!(collected(read.partitions), owned());
            assert_eq!(read.user_data, None);
        }
    }

    #[test]
    fn the_bytes_are_those_that_the_java_client_writes() {
        let bytes = encode_subscription(1, &["t"], None, &[("t", vec![5])], 0, None).unwrap();
        let expected: &[u8] = &[
            0, 1, // version
            0, 0, 0, 1, 0, 1, b't', // topics
            0xff, 0xff, 0xff, 0xff, // no user data
            0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, // owned
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        let mut bytes = subscription(3).to_vec();
        bytes[1] = 9;
        bytes.extend_from_slice(b"news");
        assert_eq!(Subscription::parse(&bytes).unwrap().rack, Some("a"));
    }

    #[test]
    fn a_subscription_cut_anywhere_is_refused() {
        let whole = subscription(3);
        for length in 0..whole.len() {
            assert!(Subscription::parse(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn lying_counts_and_negative_numbers_are_refused() {
        assert!(matches!(
            Assignment::parse(&[0, 1, 0x7f, 0xff, 0xff, 0xff]),
            Err(ProtocolErrorKind::CountTooLarge { .. })
        ));
        let partitions = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1];
        assert!(matches!(Assignment::parse(&partitions), Err(ProtocolErrorKind::CountTooLarge { .. })));
        let negative = encode_assignment(3, &[("t", vec![-1])], None).unwrap();
        assert!(matches!(Assignment::parse(&negative), Err(ProtocolErrorKind::InvalidValue(_))));
        assert!(matches!(Assignment::parse(&[0xff, 0xff]), Err(ProtocolErrorKind::InvalidValue(_))));
        assert!(encode_assignment::<&str>(4, &[], None).is_err());
    }

    #[test]
    fn mutated_bytes_are_read_or_refused_without_asking_for_memory() {
        let mut random = seeded();
        let (mut read, mut refused) = (0, 0);
        for round in 0..20_000_i16 {
            let version = round % (VERSION + 1);
            let assignment = encode_assignment(version, &owned(), Some(b"data")).unwrap();
            for (bytes, is_subscription) in [(subscription(version), true), (assignment, false)] {
                let mut bytes = bytes.to_vec();
                bytes.truncate(random.usize(..=bytes.len() + 8));
                for _ in 0..random.usize(..3) {
                    let value = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap();
                    if let Some(byte) = random.choice(&mut bytes[..]) {
                        *byte = value;
                    }
                }
                let (walked, used) = counting_alloc::measure(|| {
                    if is_subscription {
                        let subscription = Subscription::parse(&bytes)?;
                        assert_eq!(subscription.topics.iter().count(), subscription.topics.len());
                        Ok::<_, ProtocolErrorKind>(walk(subscription.owned))
                    } else {
                        Ok(walk(Assignment::parse(&bytes)?.partitions))
                    }
                });
                // Only refusing may take some, to say why.
                assert!(used.bytes <= if walked.is_ok() { 0 } else { 128 }, "{used:?} for {bytes:02x?}");
                *(if walked.is_ok() { &mut read } else { &mut refused }) += 1;
            }
        }
        assert!(read > 1_000 && refused > 1_000, "{read} read, {refused} refused");
    }

    fn walk(partitions: TopicPartitions<'_>) -> i64 {
        let numbers = partitions.iter().flat_map(|(_, numbers)| numbers);
        numbers
            .map(|number| {
                assert!(number >= 0);
                i64::from(number)
            })
            .sum()
    }
}
