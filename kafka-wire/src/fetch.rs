//! Fetch 4 to 18, by hand in both directions: records are linked into an answer and sliced out of it, never copied.

use bytes::{BufMut, Bytes, BytesMut};

pub use crate::partitions::{Endpoints, LeaderHint, NodeEndpoint, TopicRef};

use crate::api::Api;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::partitions::{self, Layout, Out, Partition, Rope, Topics};
use crate::primitives::{self, Reader, Tag};

/// The version from which there are sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;
/// The version from which a reader in another rack is sent to a nearer replica (KIP-392).
const RACKS_SINCE: i16 = 11;
/// The version from which epochs are compared and leaders named; also the first with tagged fields.
const EPOCHS_SINCE: i16 = 12;
/// The version from which a replica's id is a tagged field.
const REPLICA_STATE_SINCE: i16 = 15;
/// The version from which an answer says where leaders listen (KIP-951).
const ENDPOINTS_SINCE: i16 = 16;
/// Fixed fields, lengths and tags of one partition in an answer, for the first guess of our own part.
const USUAL_OVERHEAD: usize = 96;

/// A Fetch request to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The follower that asks, -1 from a consumer.
    pub replica_id: i32,
    /// That follower's epoch, -1 from a consumer; not sent before version 15.
    pub replica_epoch: i64,
    /// The cluster that a KRaft follower means; not sent before version 12.
    pub cluster_id: Option<&'a str>,
    /// How long the broker may wait for `min_bytes`, in ms.
    pub max_wait_ms: i32,
    /// Bytes worth answering for.
    pub min_bytes: i32,
    /// Bytes that the answer may have, but for its first batch.
    pub max_bytes: i32,
    /// 0 reads everything up to the high watermark, 1 only what is committed.
    pub isolation_level: i8,
    /// The session, 0 for none; not sent before version 7.
    pub session_id: i32,
    /// The session's epoch: -1 without one, 0 to start one; not sent before version 7.
    pub session_epoch: i32,
    /// What to read; those of a topic must be adjacent.
    pub partitions: &'a [FetchPartition<'a>],
    /// What to drop from the session, adjacent as well; not sent before version 7.
    pub forgotten: &'a [ForgottenPartition<'a>],
    /// The rack of the consumer, empty for none; not sent before version 11.
    pub rack_id: &'a str,
}

/// Where to read one partition from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition<'a> {
    /// The topic; from version 13 on its id counts, before its name.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub index: i32,
    /// The leader's epoch as far as known, else -1; not sent before version 9.
    pub current_leader_epoch: i32,
    /// The offset to read from.
    pub fetch_offset: i64,
    /// Epoch of the last record read, else -1, to notice a truncation (KIP-320); not sent before version 12.
    pub last_fetched_epoch: i32,
    /// Where a follower's log starts, -1 from a consumer; not sent before version 5.
    pub log_start_offset: i64,
    /// Bytes to return of this partition, but for a first batch.
    pub max_bytes: i32,
    /// The log directory of a follower, zero from a consumer; not sent before version 17.
    pub replica_directory_id: [u8; 16],
    /// The high watermark a follower knows, [`NO_HIGH_WATERMARK`] from a consumer; not sent before version 18.
    pub high_watermark: i64,
}

/// What a requester without the feature sends as [`FetchPartition::high_watermark`].
pub const NO_HIGH_WATERMARK: i64 = i64::MAX;

impl<'a> FetchPartition<'a> {
    /// A consumer's request for a partition from an offset, without epochs.
    pub fn new(topic: TopicRef<'a>, index: i32, fetch_offset: i64, max_bytes: i32) -> FetchPartition<'a> {
        FetchPartition {
            topic,
            index,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes,
            replica_directory_id: [0; 16],
            high_watermark: NO_HIGH_WATERMARK,
        }
    }
}

/// A partition that leaves a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgottenPartition<'a> {
    /// The topic; from version 13 on its id counts, before its name.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub index: i32,
}

impl Request<'_> {
    /// Appends the body to `out`.
    ///
    /// # Errors
    /// A version we do not know, a topic without the id it needs, a name that is too long.
    pub fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), ProtocolError> {
        let layout = Layout::of(Api::Fetch, version)?;
        self.put(layout, out).map_err(|kind| error(kind, version))
    }

    fn put(&self, layout: Layout, out: &mut BytesMut) -> primitives::Result<()> {
        let Layout { version, flexible, .. } = layout;
        if version < REPLICA_STATE_SINCE {
            out.put_i32(self.replica_id);
        }
        out.put_i32(self.max_wait_ms);
        out.put_i32(self.min_bytes);
        out.put_i32(self.max_bytes);
        out.put_i8(self.isolation_level);
        if version >= SESSIONS_SINCE {
            out.put_i32(self.session_id);
            out.put_i32(self.session_epoch);
        }
        let partitions = self.partitions;
        let named = partitions.iter().map(|p| p.topic).chain(self.forgotten.iter().map(|p| p.topic));
        partitions::check_ids(layout, named)?;
        partitions::put_topics(out, layout, partitions, |p| p.topic, |out, p| p.put(layout, out))?;
        if version >= SESSIONS_SINCE {
            partitions::put_topics(
                out,
                layout,
                self.forgotten,
                |p| p.topic,
                |out, p| {
                    out.put_i32(p.index);
                    Ok(())
                },
            )?;
        }
        if version >= RACKS_SINCE {
            primitives::put_string(out, self.rack_id, flexible)?;
        }
        if flexible {
            self.put_tags(version, out)?;
        }
        Ok(())
    }

    fn put_tags(&self, version: i16, out: &mut BytesMut) -> primitives::Result<()> {
        let replica = version >= REPLICA_STATE_SINCE && (self.replica_id, self.replica_epoch) != (-1, -1);
        out.put_u8(u8::from(self.cluster_id.is_some()) + u8::from(replica));
        if let Some(cluster_id) = self.cluster_id {
            let mut content = Vec::new();
            primitives::put_string(&mut content, cluster_id, true)?;
            partitions::put_tag(out, 0, &[&content]);
        }
        if replica {
            let (id, epoch) = (self.replica_id.to_be_bytes(), self.replica_epoch.to_be_bytes());
            partitions::put_tag(out, 1, &[&id, &epoch, &[0]]);
        }
        Ok(())
    }
}

impl FetchPartition<'_> {
    fn put(&self, layout: Layout, out: &mut BytesMut) -> primitives::Result<()> {
        let version = layout.version;
        out.put_i32(self.index);
        if version >= 9 {
            out.put_i32(self.current_leader_epoch);
        }
        out.put_i64(self.fetch_offset);
        if version >= EPOCHS_SINCE {
            out.put_i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            out.put_i64(self.log_start_offset);
        }
        out.put_i32(self.max_bytes);
        if layout.flexible {
            let directory = version >= 17 && self.replica_directory_id != [0; 16];
            let watermark = version >= 18 && self.high_watermark != NO_HIGH_WATERMARK;
            out.put_u8(u8::from(directory) + u8::from(watermark));
            if directory {
                partitions::put_tag(out, 0, &[&self.replica_directory_id]);
            }
            if watermark {
                partitions::put_tag(out, 1, &[&self.high_watermark.to_be_bytes()]);
            }
        }
        Ok(())
    }
}

/// A Fetch request that was received; borrows from its frame.
#[derive(Debug, Clone)]
pub struct RequestView<'a> {
    /// The follower that asks, -1 from a consumer.
    pub replica_id: i32,
    /// That follower's epoch, -1 when it says none.
    pub replica_epoch: i64,
    /// The cluster that a KRaft follower means.
    pub cluster_id: Option<&'a str>,
    /// How long to wait for `min_bytes`, in ms.
    pub max_wait_ms: i32,
    /// Bytes worth answering for.
    pub min_bytes: i32,
    /// Bytes that the answer may have, but for its first batch.
    pub max_bytes: i32,
    /// 0 reads everything up to the high watermark, 1 only what is committed.
    pub isolation_level: i8,
    /// The session, 0 for none.
    pub session_id: i32,
    /// The session's epoch: -1 without one, 0 to start one.
    pub session_epoch: i32,
    /// The rack of the consumer, empty for none.
    pub rack_id: &'a str,
    partitions: Topics<'a, FetchPartition<'a>>,
    forgotten: Topics<'a, ForgottenPartition<'a>>,
}

impl<'a> RequestView<'a> {
    /// Reads a whole body; what it holds can then be walked without errors.
    ///
    /// # Errors
    /// Whatever keeps `body` from being this request.
    pub fn decode(version: i16, body: &'a [u8]) -> Result<RequestView<'a>, ProtocolError> {
        let layout = Layout::of(Api::Fetch, version)?;
        Self::read(layout, body).map_err(|kind| error(kind, version))
    }

    fn read(layout: Layout, body: &'a [u8]) -> primitives::Result<RequestView<'a>> {
        let Layout { version, flexible, .. } = layout;
        let sessions = version >= SESSIONS_SINCE;
        let mut reader = Reader::new(body);
        let mut request = RequestView {
            replica_id: if version < REPLICA_STATE_SINCE { reader.i32()? } else { -1 },
            replica_epoch: -1,
            cluster_id: None,
            max_wait_ms: reader.i32()?,
            min_bytes: reader.i32()?,
            max_bytes: reader.i32()?,
            isolation_level: reader.i8()?,
            session_id: if sessions { reader.i32()? } else { 0 },
            session_epoch: if sessions { reader.i32()? } else { -1 },
            partitions: Topics::read(&mut reader, layout)?,
            forgotten: if sessions { Topics::read(&mut reader, layout)? } else { Topics::none(layout) },
            rack_id: if version >= RACKS_SINCE { reader.string(flexible)? } else { "" },
        };
        if flexible {
            reader.tagged_fields(|tag, content| match tag {
                0 => {
                    request.cluster_id = content.nullable_string(true)?;
                    Ok(Tag::Read)
                }
                1 if version >= REPLICA_STATE_SINCE => {
                    request.replica_id = content.i32()?;
                    request.replica_epoch = content.i64()?;
                    content.skip_tagged_fields()?;
                    Ok(Tag::Read)
                }
                _ => Ok(Tag::Skipped),
            })?;
        }
        reader.finish()?;
        Ok(request)
    }

    /// What to read, in the order of the request.
    pub fn partitions(&self) -> impl Iterator<Item = FetchPartition<'a>> + Clone + use<'a> {
        self.partitions.clone()
    }

    /// What to drop from the session.
    pub fn forgotten(&self) -> impl Iterator<Item = ForgottenPartition<'a>> + Clone + use<'a> {
        self.forgotten.clone()
    }
}

impl<'a> Partition<'a> for FetchPartition<'a> {
    const MIN_LEN: usize = 4 + 8 + 4;

    #[inline]
    fn read(topic: TopicRef<'a>, reader: &mut Reader<'a>, layout: Layout) -> primitives::Result<Self> {
        let version = layout.version;
        let mut partition = FetchPartition {
            topic,
            index: reader.i32()?,
            current_leader_epoch: if version >= 9 { reader.i32()? } else { -1 },
            fetch_offset: reader.i64()?,
            last_fetched_epoch: if version >= EPOCHS_SINCE { reader.i32()? } else { -1 },
            log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
            max_bytes: reader.i32()?,
            replica_directory_id: [0; 16],
            high_watermark: NO_HIGH_WATERMARK,
        };
        if layout.flexible {
            reader.tagged_fields(|tag, content| match tag {
                0 if version >= 17 => {
                    partition.replica_directory_id = content.uuid()?;
                    Ok(Tag::Read)
                }
                1 if version >= 18 => {
                    partition.high_watermark = content.i64()?;
                    Ok(Tag::Read)
                }
                _ => Ok(Tag::Skipped),
            })?;
        }
        Ok(partition)
    }
}

impl<'a> Partition<'a> for ForgottenPartition<'a> {
    const MIN_LEN: usize = 4;

    #[inline]
    fn read(topic: TopicRef<'a>, reader: &mut Reader<'a>, _: Layout) -> primitives::Result<Self> {
        Ok(ForgottenPartition { topic, index: reader.i32()? })
    }
}

/// A Fetch response to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// How long the client should stay away, in ms.
    pub throttle_time_ms: i32,
    /// An error of the whole request; not sent before version 7.
    pub error_code: i16,
    /// The session, 0 for none; not sent before version 7.
    pub session_id: i32,
    /// What was read; those of a topic must be adjacent.
    pub partitions: &'a [PartitionResponse<'a>],
    /// Where the nodes of the leader hints listen; dropped before version 16.
    pub node_endpoints: &'a [NodeEndpoint<'a>],
}

/// What was read of one partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionResponse<'a> {
    /// The topic; from version 13 on its id counts, before its name.
    pub topic: TopicRef<'a>,
    /// The partition and the state of its log.
    pub status: Status,
    /// Aborted transactions in the records, `None` for a reader of everything.
    pub aborted_transactions: Option<&'a [AbortedTransaction]>,
    /// The records in as many pieces as they lie in memory; nothing is sent as empty, never as null.
    pub records: &'a [Bytes],
}

/// The fixed part of a partition's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The partition.
    pub index: i32,
    /// 0, or an error's number; see [`ErrorCode`](crate::error_code::ErrorCode).
    pub error_code: i16,
    /// The offset below which everything is replicated, -1 with an error.
    pub high_watermark: i64,
    /// The offset below which every transaction is decided, -1 when unknown.
    pub last_stable_offset: i64,
    /// Where the log starts, -1 when unknown; not sent before version 5.
    pub log_start_offset: i64,
    /// Where the reader's log parts from this one (KIP-320, KIP-595); not sent before version 12.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Who leads instead; not sent before version 12.
    pub current_leader: Option<LeaderHint>,
    /// The snapshot to load first, of KRaft's log; not sent before version 12.
    pub snapshot_id: Option<SnapshotId>,
    /// The replica to read from instead, -1 for none (KIP-392); not sent before version 11.
    pub preferred_read_replica: i32,
}

/// The end of an epoch in the answering log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest epoch not above the one asked for.
    pub epoch: i32,
    /// The offset where it ends.
    pub end_offset: i64,
}

/// A snapshot of KRaft's metadata log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotId {
    /// The offset it ends at.
    pub end_offset: i64,
    /// The epoch it ends in.
    pub epoch: i32,
}

/// A transaction whose records a read_committed consumer skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
}

impl Response<'_> {
    /// Writes the body as a rope: the records are linked in, everything else goes into `scratch`, whose capacity is
    /// used again once the response is sent and dropped.
    ///
    /// # Errors
    /// A version we do not know, a name that is too long, records of 2 GiB.
    pub fn encode(&self, version: i16, scratch: &mut BytesMut) -> Result<Vec<Bytes>, ProtocolError> {
        let layout = Layout::of(Api::Fetch, version)?;
        self.put(layout, scratch).map_err(|kind| error(kind, version))
    }

    fn put(&self, layout: Layout, scratch: &mut BytesMut) -> primitives::Result<Vec<Bytes>> {
        let mut rope = Rope::new(scratch);
        let pieces: usize = self.partitions.iter().map(|partition| 1 + partition.records.len()).sum();
        rope.reserve(USUAL_OVERHEAD * (1 + self.partitions.len()), 1 + pieces);
        let out = rope.own();
        out.put_i32(self.throttle_time_ms);
        if layout.version >= SESSIONS_SINCE {
            out.put_i16(self.error_code);
            out.put_i32(self.session_id);
        }
        let partitions = self.partitions;
        partitions::put_topics(&mut rope, layout, partitions, |p| p.topic, |rope, p| p.put(layout, rope))?;
        if layout.version >= ENDPOINTS_SINCE {
            partitions::put_endpoints(rope.own(), self.node_endpoints)?;
        } else {
            partitions::put_no_tags(rope.own(), layout);
        }
        Ok(rope.finish())
    }
}

impl PartitionResponse<'_> {
    fn put(&self, layout: Layout, rope: &mut Rope<'_>) -> primitives::Result<()> {
        let Layout { version, flexible, .. } = layout;
        let status = &self.status;
        let out = rope.own();
        out.put_i32(status.index);
        out.put_i16(status.error_code);
        out.put_i64(status.high_watermark);
        out.put_i64(status.last_stable_offset);
        if version >= 5 {
            out.put_i64(status.log_start_offset);
        }
        primitives::put_length(out, self.aborted_transactions.map(<[_]>::len), flexible)?;
        for aborted in self.aborted_transactions.unwrap_or_default() {
            out.put_i64(aborted.producer_id);
            out.put_i64(aborted.first_offset);
            partitions::put_no_tags(out, layout);
        }
        if version >= RACKS_SINCE {
            out.put_i32(status.preferred_read_replica);
        }
        primitives::put_length(out, Some(self.records.iter().map(Bytes::len).sum()), flexible)?;
        for piece in self.records {
            rope.link(piece);
        }
        if flexible {
            status.put_tags(rope.own());
        }
        Ok(())
    }
}

impl Status {
    fn put_tags(&self, out: &mut BytesMut) {
        let set = [self.diverging_epoch.is_some(), self.current_leader.is_some(), self.snapshot_id.is_some()];
        out.put_u8(set.into_iter().map(u8::from).sum());
        if let Some(EpochEndOffset { epoch, end_offset }) = self.diverging_epoch {
            partitions::put_tag(out, 0, &[&epoch.to_be_bytes(), &end_offset.to_be_bytes(), &[0]]);
        }
        if let Some(hint) = self.current_leader {
            partitions::put_leader_hint(out, 1, hint);
        }
        if let Some(SnapshotId { end_offset, epoch }) = self.snapshot_id {
            partitions::put_tag(out, 2, &[&end_offset.to_be_bytes(), &epoch.to_be_bytes(), &[0]]);
        }
    }
}

/// A Fetch response that was received; borrows from its frame.
#[derive(Debug, Clone)]
pub struct ResponseView<'a> {
    /// How long to stay away, in ms.
    pub throttle_time_ms: i32,
    /// An error of the whole request.
    pub error_code: i16,
    /// The session, 0 for none.
    pub session_id: i32,
    /// Where the nodes of the leader hints listen.
    pub node_endpoints: Endpoints<'a>,
    partitions: Topics<'a, PartitionResponseView<'a>>,
}

/// What was read of one partition, in a [`ResponseView`].
#[derive(Debug, Clone, Copy)]
pub struct PartitionResponseView<'a> {
    /// The topic, by id from version 13 on, else by name.
    pub topic: TopicRef<'a>,
    /// The partition and the state of its log.
    pub status: Status,
    /// Aborted transactions in the records.
    pub aborted_transactions: AbortedTransactions<'a>,
    /// The records, possibly ending in part of a batch. `slice_ref` of the frame's `Bytes` makes them outlive the borrow.
    pub records: &'a [u8],
}

impl<'a> ResponseView<'a> {
    /// Reads a whole body; what it holds can then be walked without errors.
    ///
    /// # Errors
    /// Whatever keeps `body` from being this response.
    pub fn decode(version: i16, body: &'a [u8]) -> Result<ResponseView<'a>, ProtocolError> {
        let layout = Layout::of(Api::Fetch, version)?;
        Self::read(layout, body).map_err(|kind| error(kind, version))
    }

    fn read(layout: Layout, body: &'a [u8]) -> primitives::Result<ResponseView<'a>> {
        let sessions = layout.version >= SESSIONS_SINCE;
        let mut reader = Reader::new(body);
        let response = ResponseView {
            throttle_time_ms: reader.i32()?,
            error_code: if sessions { reader.i16()? } else { 0 },
            session_id: if sessions { reader.i32()? } else { 0 },
            partitions: Topics::read(&mut reader, layout)?,
            node_endpoints: partitions::endpoints(&mut reader, layout, ENDPOINTS_SINCE)?,
        };
        reader.finish()?;
        Ok(response)
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
        let mut status = Status {
            index: reader.i32()?,
            error_code: reader.i16()?,
            high_watermark: reader.i64()?,
            last_stable_offset: reader.i64()?,
            log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            preferred_read_replica: -1,
        };
        let aborted_transactions = AbortedTransactions::read(reader, flexible)?;
        if version >= RACKS_SINCE {
            status.preferred_read_replica = reader.i32()?;
        }
        let records = reader.nullable_bytes(flexible)?.unwrap_or_default();
        if flexible {
            reader.tagged_fields(|tag, content| status.read_tag(tag, content))?;
        }
        Ok(PartitionResponseView { topic, status, aborted_transactions, records })
    }
}

impl Status {
    fn read_tag(&mut self, tag: u32, content: &mut Reader<'_>) -> primitives::Result<Tag> {
        match tag {
            0 => {
                let (epoch, end_offset) = (content.i32()?, content.i64()?);
                content.skip_tagged_fields()?;
                self.diverging_epoch = (epoch >= 0).then_some(EpochEndOffset { epoch, end_offset });
            }
            1 => self.current_leader = partitions::leader_hint(content)?,
            2 => {
                let (end_offset, epoch) = (content.i64()?, content.i32()?);
                content.skip_tagged_fields()?;
                self.snapshot_id = (epoch >= 0).then_some(SnapshotId { end_offset, epoch });
            }
            _ => return Ok(Tag::Skipped),
        }
        Ok(Tag::Read)
    }
}

/// The aborted transactions of a partition's answer; an iterator.
#[derive(Debug, Clone, Copy)]
pub struct AbortedTransactions<'a> {
    reader: Reader<'a>,
    remaining: usize,
    flexible: bool,
}

impl<'a> AbortedTransactions<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>, flexible: bool) -> primitives::Result<AbortedTransactions<'a>> {
        let remaining = reader.nullable_count(flexible, 16)?.unwrap_or_default();
        let aborted = AbortedTransactions { reader: *reader, remaining, flexible };
        for _ in 0..remaining {
            aborted_transaction(reader, flexible)?;
        }
        Ok(aborted)
    }
}

impl Iterator for AbortedTransactions<'_> {
    type Item = AbortedTransaction;

    fn next(&mut self) -> Option<AbortedTransaction> {
        self.remaining = self.remaining.checked_sub(1)?;
        // `read` saw that each can be read.
        aborted_transaction(&mut self.reader, self.flexible).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

fn aborted_transaction(reader: &mut Reader<'_>, flexible: bool) -> primitives::Result<AbortedTransaction> {
    let aborted = AbortedTransaction { producer_id: reader.i64()?, first_offset: reader.i64()? };
    if flexible {
        reader.skip_tagged_fields()?;
    }
    Ok(aborted)
}

fn error(kind: ProtocolErrorKind, version: i16) -> ProtocolError {
    kind.at(Api::Fetch.key(), version)
}
