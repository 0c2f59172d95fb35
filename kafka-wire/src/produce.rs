//! Produce 3 to 13, by hand in both directions: batches are sent as they are, answers are walked without allocating.

use bytes::{BufMut, Bytes, BytesMut};

pub use crate::partitions::{Endpoints, LeaderHint, NodeEndpoint, TopicRef};

use crate::api::Api;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::partitions::{self, Layout, Out, Partition, Rope, Topics};
use crate::primitives::{self, Reader, Tag};

/// The version from which a failure names the records at fault.
const RECORD_ERRORS_SINCE: i16 = 8;
/// The version from which a wrong leader names the right one (KIP-951).
const LEADER_HINTS_SINCE: i16 = 10;
/// Topic, partition, lengths and tags around one batch, for the first guess of our own part.
const USUAL_OVERHEAD: usize = 48;

/// A Produce request to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The transaction that the batches belong to.
    pub transactional_id: Option<&'a str>,
    /// -1 waits for all in-sync replicas, 1 for the leader, 0 for nobody: then there is no response.
    pub acks: i16,
    /// How long the broker may wait for replicas, in ms.
    pub timeout_ms: i32,
    /// The batches; those of a topic must be adjacent.
    pub partitions: &'a [PartitionRecords<'a>],
}

/// The records for one partition.
#[derive(Debug, Clone)]
pub struct PartitionRecords<'a> {
    /// The topic; version 13 needs its id, the others its name.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub index: i32,
    /// One record batch: brokers refuse more.
    pub records: Bytes,
}

impl Request<'_> {
    /// Writes the body as a rope: the batches are linked in, everything else goes into `scratch`, whose capacity is
    /// used again once the request is sent and dropped.
    ///
    /// # Errors
    /// A version we do not know, a topic without the id it needs, a name that is too long.
    pub fn encode(&self, version: i16, scratch: &mut BytesMut) -> Result<Vec<Bytes>, ProtocolError> {
        let layout = Layout::of(Api::Produce, version)?;
        self.put(layout, scratch).map_err(|kind| error(kind, version))
    }

    fn put(&self, layout: Layout, scratch: &mut BytesMut) -> primitives::Result<Vec<Bytes>> {
        let flexible = layout.flexible;
        partitions::check_ids(layout, self.partitions.iter().map(|partition| partition.topic))?;
        let mut rope = Rope::new(scratch);
        rope.reserve(USUAL_OVERHEAD * (1 + self.partitions.len()), 1 + 2 * self.partitions.len());
        let out = rope.own();
        primitives::put_nullable_string(out, self.transactional_id, flexible)?;
        out.put_i16(self.acks);
        out.put_i32(self.timeout_ms);
        partitions::put_topics(
            &mut rope,
            layout,
            self.partitions,
            |partition| partition.topic,
            |rope, partition| {
                rope.own().put_i32(partition.index);
                primitives::put_length(rope.own(), Some(partition.records.len()), flexible)?;
                rope.link(&partition.records);
                partitions::put_no_tags(rope.own(), layout);
                Ok(())
            },
        )?;
        partitions::put_no_tags(rope.own(), layout);
        Ok(rope.finish())
    }
}

/// A Produce request that was received; borrows from its frame.
#[derive(Debug, Clone)]
pub struct RequestView<'a> {
    /// The transaction that the batches belong to.
    pub transactional_id: Option<&'a str>,
    /// -1, 0 or 1 from a well-behaved client; not checked.
    pub acks: i16,
    /// How long to wait for replicas, in ms.
    pub timeout_ms: i32,
    partitions: Topics<'a, PartitionRecordsView<'a>>,
}

/// The records for one partition in a [`RequestView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRecordsView<'a> {
    /// The topic, by id from version 13 on, else by name.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub index: i32,
    /// What should be one record batch; not checked. `Bytes::slice_ref` makes it outlive the borrow.
    pub records: Option<&'a [u8]>,
}

impl<'a> RequestView<'a> {
    /// Reads a whole body; what it holds can then be walked without errors.
    ///
    /// # Errors
    /// Whatever keeps `body` from being this request.
    pub fn decode(version: i16, body: &'a [u8]) -> Result<RequestView<'a>, ProtocolError> {
        let layout = Layout::of(Api::Produce, version)?;
        Self::read(layout, body).map_err(|kind| error(kind, version))
    }

    fn read(layout: Layout, body: &'a [u8]) -> primitives::Result<RequestView<'a>> {
        let mut reader = Reader::new(body);
        let request = RequestView {
            transactional_id: reader.nullable_string(layout.flexible)?,
            acks: reader.i16()?,
            timeout_ms: reader.i32()?,
            partitions: Topics::read(&mut reader, layout)?,
        };
        if layout.flexible {
            reader.skip_tagged_fields()?;
        }
        reader.finish()?;
        Ok(request)
    }

    /// The partitions in the order of the request.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionRecordsView<'a>> + Clone + use<'a> {
        self.partitions.clone()
    }
}

impl<'a> Partition<'a> for PartitionRecordsView<'a> {
    const MIN_LEN: usize = 4 + 1;

    #[inline]
    fn read(topic: TopicRef<'a>, reader: &mut Reader<'a>, layout: Layout) -> primitives::Result<Self> {
        let partition = PartitionRecordsView {
            topic,
            index: reader.i32()?,
            records: reader.nullable_bytes(layout.flexible)?,
        };
        if layout.flexible {
            reader.skip_tagged_fields()?;
        }
        Ok(partition)
    }
}

/// A Produce response to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The outcome of each partition; those of a topic must be adjacent.
    pub partitions: &'a [PartitionResponse<'a>],
    /// How long the client should stay away, in ms.
    pub throttle_time_ms: i32,
    /// Where the nodes of the leader hints listen; dropped before version 10.
    pub node_endpoints: &'a [NodeEndpoint<'a>],
}

/// What became of one partition's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionResponse<'a> {
    /// The topic as the request has it: by id from version 13 on, else by name.
    pub topic: TopicRef<'a>,
    /// The partition and what the log says.
    pub outcome: Outcome,
    /// The records at fault; dropped before version 8.
    pub record_errors: &'a [RecordError<'a>],
    /// What is wrong with them; dropped before version 8.
    pub error_message: Option<&'a str>,
}

/// The fixed part of a partition's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The partition.
    pub index: i32,
    /// 0, or an error's number; see [`ErrorCode`](crate::error_code::ErrorCode).
    pub error_code: i16,
    /// Offset of the batch's first record, -1 with an error.
    pub base_offset: i64,
    /// The broker's timestamp for the batch in ms, -1 under CreateTime.
    pub log_append_time_ms: i64,
    /// Where the partition's log starts, -1 when unknown; not sent before version 5.
    pub log_start_offset: i64,
    /// Who leads instead; not sent before version 10.
    pub current_leader: Option<LeaderHint>,
}

/// A record that a broker refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError<'a> {
    /// Its index in the batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<&'a str>,
}

impl Response<'_> {
    /// Appends the body to `out`.
    ///
    /// # Errors
    /// A version we do not know, a text that is too long.
    pub fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), ProtocolError> {
        let layout = Layout::of(Api::Produce, version)?;
        self.put(layout, out).map_err(|kind| error(kind, version))
    }

    fn put(&self, layout: Layout, out: &mut BytesMut) -> primitives::Result<()> {
        partitions::put_topics(
            out,
            layout,
            self.partitions,
            |partition| partition.topic,
            |out, partition| partition.put(layout, out),
        )?;
        out.put_i32(self.throttle_time_ms);
        if layout.version >= LEADER_HINTS_SINCE {
            partitions::put_endpoints(out, self.node_endpoints)?;
        } else {
            partitions::put_no_tags(out, layout);
        }
        Ok(())
    }
}

impl PartitionResponse<'_> {
    fn put(&self, layout: Layout, out: &mut BytesMut) -> primitives::Result<()> {
        let Layout { version, flexible, .. } = layout;
        let outcome = &self.outcome;
        out.put_i32(outcome.index);
        out.put_i16(outcome.error_code);
        out.put_i64(outcome.base_offset);
        out.put_i64(outcome.log_append_time_ms);
        if version >= 5 {
            out.put_i64(outcome.log_start_offset);
        }
        if version >= RECORD_ERRORS_SINCE {
            primitives::put_length(out, Some(self.record_errors.len()), flexible)?;
            for error in self.record_errors {
                out.put_i32(error.batch_index);
                primitives::put_nullable_string(out, error.message, flexible)?;
                partitions::put_no_tags(out, layout);
            }
            primitives::put_nullable_string(out, self.error_message, flexible)?;
        }
        match outcome.current_leader {
            Some(hint) if version >= LEADER_HINTS_SINCE => {
                out.put_u8(1);
                partitions::put_leader_hint(out, 0, hint);
            }
            _ => partitions::put_no_tags(out, layout),
        }
        Ok(())
    }
}

/// A Produce response that was received; borrows from its frame.
#[derive(Debug, Clone)]
pub struct ResponseView<'a> {
    /// How long to stay away, in ms.
    pub throttle_time_ms: i32,
    /// Where the nodes of the leader hints listen.
    pub node_endpoints: Endpoints<'a>,
    partitions: Topics<'a, PartitionResponseView<'a>>,
}

/// What became of one partition's records, in a [`ResponseView`].
#[derive(Debug, Clone, Copy)]
pub struct PartitionResponseView<'a> {
    /// The topic, by id from version 13 on, else by name.
    pub topic: TopicRef<'a>,
    /// The partition and what the log says.
    pub outcome: Outcome,
    /// The records at fault.
    pub record_errors: RecordErrors<'a>,
    /// What is wrong with them.
    pub error_message: Option<&'a str>,
}

impl<'a> ResponseView<'a> {
    /// Reads a whole body; what it holds can then be walked without errors.
    ///
    /// # Errors
    /// Whatever keeps `body` from being this response.
    pub fn decode(version: i16, body: &'a [u8]) -> Result<ResponseView<'a>, ProtocolError> {
        let layout = Layout::of(Api::Produce, version)?;
        Self::read(layout, body).map_err(|kind| error(kind, version))
    }

    fn read(layout: Layout, body: &'a [u8]) -> primitives::Result<ResponseView<'a>> {
        let mut reader = Reader::new(body);
        let partitions = Topics::read(&mut reader, layout)?;
        let throttle_time_ms = reader.i32()?;
        let node_endpoints = partitions::endpoints(&mut reader, layout, LEADER_HINTS_SINCE)?;
        reader.finish()?;
        Ok(ResponseView { throttle_time_ms, node_endpoints, partitions })
    }

    /// The partitions in the order of the response.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionResponseView<'a>> + Clone + use<'a> {
        self.partitions.clone()
    }
}

impl<'a> Partition<'a> for PartitionResponseView<'a> {
    const MIN_LEN: usize = 4 + 2 + 8 + 8;

    #[inline]
    fn read(topic: TopicRef<'a>, reader: &mut Reader<'a>, layout: Layout) -> primitives::Result<Self> {
        let Layout { version, flexible, .. } = layout;
        let mut outcome = Outcome {
            index: reader.i32()?,
            error_code: reader.i16()?,
            base_offset: reader.i64()?,
            log_append_time_ms: reader.i64()?,
            log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
            current_leader: None,
        };
        let (record_errors, error_message) = if version >= RECORD_ERRORS_SINCE {
            (RecordErrors::read(reader, flexible)?, reader.nullable_string(flexible)?)
        } else {
            (RecordErrors::none(), None)
        };
        if flexible {
            reader.tagged_fields(|tag, content| match tag {
                0 if version >= LEADER_HINTS_SINCE => {
                    outcome.current_leader = partitions::leader_hint(content)?;
                    Ok(Tag::Read)
                }
                _ => Ok(Tag::Skipped),
            })?;
        }
        Ok(PartitionResponseView { topic, outcome, record_errors, error_message })
    }
}

/// The records of a batch that a broker refused; an iterator.
#[derive(Debug, Clone, Copy)]
pub struct RecordErrors<'a> {
    reader: Reader<'a>,
    remaining: usize,
    flexible: bool,
}

impl<'a> RecordErrors<'a> {
    fn none() -> RecordErrors<'a> {
        RecordErrors { reader: Reader::new(&[]), remaining: 0, flexible: false }
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, flexible: bool) -> primitives::Result<RecordErrors<'a>> {
        // An index and the length of a text.
        let remaining = reader.count(flexible, 5)?;
        let errors = RecordErrors { reader: *reader, remaining, flexible };
        for _ in 0..remaining {
            record_error(reader, flexible)?;
        }
        Ok(errors)
    }
}

impl<'a> Iterator for RecordErrors<'a> {
    type Item = RecordError<'a>;

    fn next(&mut self) -> Option<RecordError<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        // `read` saw that each can be read.
        record_error(&mut self.reader, self.flexible).ok()
    }
}

fn record_error<'a>(reader: &mut Reader<'a>, flexible: bool) -> primitives::Result<RecordError<'a>> {
    let error = RecordError { batch_index: reader.i32()?, message: reader.nullable_string(flexible)? };
    if flexible {
        reader.skip_tagged_fields()?;
    }
    Ok(error)
}

fn error(kind: ProtocolErrorKind, version: i16) -> ProtocolError {
    kind.at(Api::Produce.key(), version)
}
