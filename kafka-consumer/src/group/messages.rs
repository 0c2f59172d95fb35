//! The requests of a member and their answers as plain values, and how they look on the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_client::types::{OffsetAndMetadata, TopicPartition};
use kafka_wire::error_code::ErrorCode;

/// The member's own number for a request; its answer carries it back.
pub(crate) type RequestId = u64;

/// What a member asks of its coordinator.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Join the next generation.
    Join(JoinRequest),
    /// Get, and from the leader bring, the assignment.
    Sync(SyncRequest),
    /// Stay a member.
    Heartbeat(HeartbeatRequest),
    /// Be a member no more.
    Leave(LeaveRequest),
    /// Store offsets.
    Commit(CommitRequest),
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub(crate) struct JoinRequest {
    pub(crate) member_id: Arc<str>,
    /// Strategies by preference, each with this member's subscription.
    pub(crate) protocols: Vec<(Arc<str>, Bytes)>,
    /// Why, for the broker's log.
    pub(crate) reason: &'static str,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub(crate) struct SyncRequest {
    pub(crate) member_id: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) protocol: Arc<str>,
    /// From the leader: an assignment for each member id.
    pub(crate) assignments: Vec<(Arc<str>, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct HeartbeatRequest {
    pub(crate) member_id: Arc<str>,
    pub(crate) generation: i32,
}

/// LeaveGroup.
#[derive(Clone, Debug)]
pub(crate) struct LeaveRequest {
    pub(crate) member_id: Arc<str>,
    /// Why, for the broker's log.
    pub(crate) reason: &'static str,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub(crate) struct CommitRequest {
    pub(crate) member_id: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
}

/// What came back for a [`Request`].
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// No answer, or one that could not be read.
    Failed(kafka_client::Error),
    Join(Result<Joined, JoinRejected>),
    Sync(Result<Synced, ErrorCode>),
    Heartbeat(Result<(), ErrorCode>),
    Leave(Result<(), ErrorCode>),
    /// Each partition's code.
    Commit(Vec<(TopicPartition, ErrorCode)>),
}

/// The member is in the generation.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) member_id: Arc<str>,
    pub(crate) generation: i32,
    /// Told from JoinGroup version 7 on.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    /// All members, for the leader.
    pub(crate) members: Vec<JoinedMember>,
    /// The leader must bring no assignment: the old one holds (KIP-814).
    pub(crate) skip_assignment: bool,
}

/// A member as the coordinator shows it to the leader.
#[derive(Clone, Debug)]
pub(crate) struct JoinedMember {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    /// Its subscription, as it wrote it.
    pub(crate) metadata: Bytes,
}

/// JoinGroup failed.
#[derive(Clone, Debug)]
pub(crate) struct JoinRejected {
    pub(crate) code: ErrorCode,
    /// The id to join with, if the code is MEMBER_ID_REQUIRED.
    pub(crate) member_id: Arc<str>,
}

/// This member's part of the assignment.
#[derive(Clone, Debug)]
pub(crate) struct Synced {
    /// Told from SyncGroup version 5 on.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// How long a JoinGroup may stay unanswered: the coordinator holds it back until all members have come, for at most
/// the rebalance timeout. Java's extra five seconds are for the way there and back.
pub(crate) fn join_timeout(request_timeout: Duration, rebalance_timeout: Duration) -> Duration {
    request_timeout.max(rebalance_timeout.saturating_add(Duration::from_secs(5)))
}
