//! What stands between the `Request` trait and the codec of a message: kafka-protocol's, or one that is generated.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

use crate::api::Api;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::messages::{GroupId, StrBytes, TopicName};
use crate::primitives::{Reader, Result, put_length, put_nullable_string};
use crate::shape::{self, Direction};

/// A message that can be written and, once its shape was checked, read.
pub(crate) trait Codec: Sized {
    fn write(&self, version: i16, out: &mut BytesMut) -> Result<()>;

    /// The message, and the number of bytes after it.
    fn read(version: i16, body: &Bytes) -> Result<(Self, usize)>;
}

impl<T: Encodable + Decodable> Codec for T {
    fn write(&self, version: i16, out: &mut BytesMut) -> Result<()> {
        self.encode(out, version).map_err(|error| ProtocolErrorKind::Unencodable(error.to_string().into()))
    }

    fn read(version: i16, body: &Bytes) -> Result<(Self, usize)> {
        let mut body = body.clone();
        match Self::decode(&mut body, version) {
            Ok(message) => Ok((message, body.len())),
            Err(error) => Err(ProtocolErrorKind::InvalidValue(error.to_string().into())),
        }
    }
}

/// Writes a message in a version of the table; `codec_version` is the one that its codec knows the layout by.
pub(crate) fn encode<T: Codec>(
    message: &T,
    api: Api,
    version: i16,
    codec_version: i16,
    out: &mut BytesMut,
) -> std::result::Result<(), ProtocolError> {
    api.check_version(version)?;
    message.write(codec_version, out).map_err(|kind| kind.at(api.key(), version))
}

/// Checks the shape of a body, reads it, and refuses trailing bytes.
pub(crate) fn decode<T: Codec>(
    api: Api,
    version: i16,
    codec_version: i16,
    direction: Direction,
    body: &Bytes,
) -> std::result::Result<T, ProtocolError> {
    shape::check(api, version, direction, body)?;
    match T::read(codec_version, body) {
        Ok((message, 0)) => Ok(message),
        Ok((_, left)) => Err(ProtocolErrorKind::TrailingBytes(left).at(api.key(), version)),
        Err(kind) => Err(kind.at(api.key(), version)),
    }
}

/// A value inside a generated message.
pub(crate) trait Value: Sized {
    fn put(&self, out: &mut Output<'_>) -> Result<()>;
    fn get(input: &mut Input<'_>) -> Result<Self>;
}

/// Where a generated message is written to.
pub(crate) struct Output<'a> {
    pub(crate) version: i16,
    flexible: bool,
    bytes: &'a mut BytesMut,
}

impl<'a> Output<'a> {
    pub(crate) fn new(version: i16, flexible: bool, bytes: &'a mut BytesMut) -> Self {
        Self { version, flexible, bytes }
    }

    /// Fails if a field that this version lacks, and that means something, is set.
    pub(crate) fn leave_out(&self, is_default: bool, field: &str) -> Result<()> {
        if is_default {
            Ok(())
        } else {
            Err(unencodable(format!("{field} is set, and this version lacks it")))
        }
    }

    /// Fails if a field is null that this version does not allow to be.
    pub(crate) fn forbid_null(&self, is_null: bool, field: &str) -> Result<()> {
        if is_null {
            Err(unencodable(format!("{field} is null, which this version forbids")))
        } else {
            Ok(())
        }
    }

    pub(crate) fn end_struct(&mut self) {
        if self.flexible {
            self.bytes.put_u8(0);
        }
    }
}

/// Where a generated message is read from.
pub(crate) struct Input<'a> {
    pub(crate) version: i16,
    flexible: bool,
    reader: Reader<'a>,
    body: &'a Bytes,
}

impl<'a> Input<'a> {
    pub(crate) fn new(version: i16, flexible: bool, body: &'a Bytes) -> Self {
        Self { version, flexible, reader: Reader::new(body), body }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    pub(crate) fn end_struct(&mut self) -> Result<()> {
        if self.flexible { self.reader.skip_tagged_fields() } else { Ok(()) }
    }
}

fn unencodable(message: String) -> ProtocolErrorKind {
    ProtocolErrorKind::Unencodable(message.into())
}

macro_rules! fixed {
    ($($type:ty, $put:ident, $get:ident;)*) => {
        $(impl Value for $type {
            fn put(&self, out: &mut Output<'_>) -> Result<()> {
                out.bytes.$put((*self).into());
                Ok(())
            }

            fn get(input: &mut Input<'_>) -> Result<Self> {
                input.reader.$get()
            }
        })*
    };
}

fixed! {
    bool, put_u8, bool;
    i16, put_i16, i16;
    i32, put_i32, i32;
    i64, put_i64, i64;
}

impl Value for Uuid {
    fn put(&self, out: &mut Output<'_>) -> Result<()> {
        out.bytes.put_slice(self.as_bytes());
        Ok(())
    }

    fn get(input: &mut Input<'_>) -> Result<Self> {
        input.reader.uuid().map(Self::from_bytes)
    }
}

impl Value for Option<StrBytes> {
    fn put(&self, out: &mut Output<'_>) -> Result<()> {
        put_nullable_string(out.bytes, self.as_deref(), out.flexible)
    }

    fn get(input: &mut Input<'_>) -> Result<Self> {
        let Some(text) = input.reader.nullable_string(input.flexible)? else { return Ok(None) };
        let bytes = input.body.slice_ref(text.as_bytes());
        StrBytes::from_utf8(bytes).map(Some).map_err(|_| ProtocolErrorKind::InvalidUtf8)
    }
}

impl Value for StrBytes {
    fn put(&self, out: &mut Output<'_>) -> Result<()> {
        put_nullable_string(out.bytes, Some(self), out.flexible)
    }

    fn get(input: &mut Input<'_>) -> Result<Self> {
        Option::get(input)?.ok_or(ProtocolErrorKind::UnexpectedNull)
    }
}

macro_rules! named_strings {
    ($($name:ident),*) => {
        $(impl Value for $name {
            fn put(&self, out: &mut Output<'_>) -> Result<()> {
                self.0.put(out)
            }

            fn get(input: &mut Input<'_>) -> Result<Self> {
                StrBytes::get(input).map(Self)
            }
        })*
    };
}

named_strings!(GroupId, TopicName);

impl<T: Value> Value for Option<Vec<T>> {
    fn put(&self, out: &mut Output<'_>) -> Result<()> {
        put_length(out.bytes, self.as_ref().map(Vec::len), out.flexible)?;
        self.iter().flatten().try_for_each(|value| value.put(out))
    }

    fn get(input: &mut Input<'_>) -> Result<Self> {
        // No count is larger than what the bytes can hold: the shape was checked.
        let Some(count) = input.reader.nullable_count(input.flexible, 1)? else { return Ok(None) };
        (0..count).map(|_| T::get(input)).collect::<Result<_>>().map(Some)
    }
}

impl<T: Value> Value for Vec<T> {
    fn put(&self, out: &mut Output<'_>) -> Result<()> {
        put_length(out.bytes, Some(self.len()), out.flexible)?;
        self.iter().try_for_each(|value| value.put(out))
    }

    fn get(input: &mut Input<'_>) -> Result<Self> {
        Option::get(input)?.ok_or(ProtocolErrorKind::UnexpectedNull)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::messages as ours;
    use crate::shape::sample::sample;
    use kafka_protocol::messages as theirs;
    use kafka_protocol::protocol::Message;

    /// Reads random bodies with both codecs, and compares what they found and what they write.
    fn compare<Ours, Theirs>(api: Api, direction: Direction)
    where
        Ours: Codec + Debug + Default,
        Theirs: Codec + Debug + Default + Message,
    {
        let shown = |theirs: &Theirs| format!("{theirs:?}").replace(", unknown_tagged_fields: {}", "");
        assert_eq!(format!("{:?}", Ours::default()), shown(&Theirs::default()));
        let mut random = fastrand::Rng::with_seed(7);
        for version in Theirs::VERSIONS.min..=Theirs::VERSIONS.max {
            for _ in 0..50 {
                let body = Bytes::from(sample(&mut random, api, version, direction));
                let (ours, _) = Ours::read(version, &body).unwrap();
                let (theirs, _) = Theirs::read(version, &body).unwrap();
                assert_eq!(format!("{ours:?}"), shown(&theirs), "{api} v{version}");
                let mut out = BytesMut::new();
                ours.write(version, &mut out).unwrap();
                assert_eq!(out, body, "{api} v{version}");
            }
        }
    }

    // DescribeLogDirs has a field more, so only its bytes can be compared; the shape tests do.
    #[test]
    fn generated_codecs_agree_with_those_of_kafka_protocol_in_the_versions_that_both_know() {
        compare::<ours::OffsetCommitRequest, theirs::OffsetCommitRequest>(
            Api::OffsetCommit,
            Direction::Request,
        );
        compare::<ours::OffsetCommitResponse, theirs::OffsetCommitResponse>(
            Api::OffsetCommit,
            Direction::Response,
        );
        compare::<ours::OffsetFetchRequest, theirs::OffsetFetchRequest>(Api::OffsetFetch, Direction::Request);
        compare::<ours::OffsetFetchResponse, theirs::OffsetFetchResponse>(
            Api::OffsetFetch,
            Direction::Response,
        );
    }

    #[test]
    fn a_field_that_the_version_lacks_is_refused_unless_it_can_be_ignored() {
        let error = |request: &ours::OffsetFetchRequest, version| {
            Value::put(request, &mut Output::new(version, false, &mut BytesMut::new()))
                .unwrap_err()
                .to_string()
        };
        let groups = ours::OffsetFetchRequest::default().with_groups(vec![Default::default()]);
        assert_eq!(error(&groups, 5), "groups is set, and this version lacks it");
        let all_topics = ours::OffsetFetchRequest::default().with_topics(None);
        assert_eq!(error(&all_topics, 1), "topics is null, which this version forbids");
        let commit = ours::OffsetCommitRequest::default().with_retention_time_ms(5);
        assert_eq!(commit.write(10, &mut BytesMut::new()), Ok(()));
    }
}
