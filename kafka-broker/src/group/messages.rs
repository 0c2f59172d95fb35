//! What goes into the group machine and what comes out of it: plain types, independent of any protocol version.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::machine::GroupState;

/// The caller's own number for a request; the answer carries it back.
pub type RequestId = u64;

/// What a member, or an administrator in its name, asks of the group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// JoinGroup: answered with [`Reply::Join`] once the rebalance completes.
    Join(JoinRequest),
    /// SyncGroup: answered with [`Reply::Sync`] once the leader has sent the assignment.
    Sync(SyncRequest),
    /// Heartbeat: answered at once with [`Reply::Heartbeat`].
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup: answered at once with [`Reply::Leave`].
    Leave(LeaveRequest),
    /// OffsetCommit: answered at once with [`Reply::Commit`].
    Commit(CommitRequest),
}

/// JoinGroup.
#[derive(Clone, Debug, Default)]
pub struct JoinRequest {
    /// Empty for a member that has none yet.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Prefix of a generated member id, and shown by describe.
    pub client_id: String,
    /// Shown by describe.
    pub client_host: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// Assignors by preference, each with the metadata the leader gets.
    pub protocols: Vec<(String, Bytes)>,
    /// Silence after which the member is removed.
    pub session_timeout: Duration,
    /// How long the others wait for this member to rejoin.
    pub rebalance_timeout: Duration,
    /// JoinGroup v4 and later: a dynamic member without an id is given one and must join again with it (KIP-394).
    pub requires_member_id: bool,
    /// JoinGroup v9 and later: a returning static leader can be told not to assign (KIP-814).
    pub supports_skip_assignment: bool,
}

/// SyncGroup.
#[derive(Clone, Debug, Default)]
pub struct SyncRequest {
    /// The member's id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The generation it joined.
    pub generation: i32,
    /// SyncGroup v5 and later: must be the group's.
    pub protocol_type: Option<String>,
    /// SyncGroup v5 and later: must be the group's.
    pub protocol: Option<String>,
    /// From the leader: member id to assignment. Empty from the others.
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatRequest {
    /// The member's id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The generation it is in.
    pub generation: i32,
}

/// LeaveGroup, of one or several members.
#[derive(Clone, Debug, Default)]
pub struct LeaveRequest {
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One member of a [`LeaveRequest`].
#[derive(Clone, Debug, Default)]
pub struct LeavingMember {
    /// Empty when an administrator removes a static member by its instance id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Empty for a commit from outside the group.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// −1 for a commit from outside the group.
    pub generation: i32,
    /// What to store.
    pub offsets: Vec<OffsetCommit>,
}

/// One partition of a [`CommitRequest`].
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, −1 if unknown.
    pub leader_epoch: i32,
    /// The caller's note, returned as it came.
    pub metadata: String,
}

/// An answer and the request it belongs to.
#[derive(Clone, Debug)]
pub struct Output {
    /// The number given to `handle`.
    pub request: RequestId,
    /// The answer.
    pub reply: Reply,
}

/// The answer to an [`Input`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// To JoinGroup.
    Join(Result<Joined, JoinRejected>),
    /// To SyncGroup.
    Sync(Result<Synced, GroupError>),
    /// To Heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To LeaveGroup: an outcome per member, in the request's order.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To OffsetCommit: an outcome per partition, in the request's order.
    Commit(Result<Vec<Result<(), GroupError>>, GroupError>),
}

/// The member is in the generation.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The member's id, generated here if it had none.
    pub member_id: String,
    /// The generation that begins.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: String,
    /// The assignor that all members support and most prefer.
    pub protocol: String,
    /// Member id of the leader.
    pub leader: String,
    /// The leader must not compute an assignment (KIP-814).
    pub skip_assignment: bool,
    /// All members with their metadata for the leader, empty for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// JoinGroup failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRejected {
    /// Why.
    pub error: GroupError,
    /// With `MemberIdRequired` the id to join with; else the request's, or empty.
    pub member_id: String,
}

/// The member's part of the assignment.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: String,
    /// The group's protocol.
    pub protocol: String,
    /// What the leader assigned, empty if nothing.
    pub assignment: Bytes,
}

/// A group as DescribeGroups shows it, and its generation.
#[derive(Clone, Debug)]
pub struct GroupDescription {
    /// The state.
    pub state: GroupState,
    /// The generation, 0 before the first rebalance.
    pub generation: i32,
    /// Empty before the first member.
    pub protocol_type: String,
    /// The assignor; empty unless the group is stable.
    pub protocol: String,
    /// Members in the order in which they joined.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug)]
pub struct MemberDescription {
    /// Member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id it joined with.
    pub client_id: String,
    /// The address it joined from.
    pub client_host: String,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its part of the assignment.
    pub assignment: Bytes,
}

/// A group as ListGroups shows it.
#[derive(Clone, Debug)]
pub struct GroupListing {
    /// The group's id.
    pub group_id: Arc<str>,
    /// Empty before the first member.
    pub protocol_type: String,
    /// The state.
    pub state: GroupState,
}

/// Why the coordinator refuses; each is one of Kafka's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupError {
    /// COORDINATOR_NOT_AVAILABLE (15): the group has just been deleted.
    CoordinatorNotAvailable,
    /// NOT_COORDINATOR (16): another broker has the group now.
    NotCoordinator,
    /// OFFSET_METADATA_TOO_LARGE (12).
    OffsetMetadataTooLarge,
    /// ILLEGAL_GENERATION (22).
    IllegalGeneration,
    /// INCONSISTENT_GROUP_PROTOCOL (23): no protocol that all members support, or another protocol type.
    InconsistentGroupProtocol,
    /// INVALID_GROUP_ID (24): empty or too long.
    InvalidGroupId,
    /// UNKNOWN_MEMBER_ID (25).
    UnknownMemberId,
    /// INVALID_SESSION_TIMEOUT (26): outside the configured bounds.
    InvalidSessionTimeout,
    /// REBALANCE_IN_PROGRESS (27).
    RebalanceInProgress,
    /// INVALID_REQUEST (42): more protocols, longer metadata or a longer name than this broker keeps.
    InvalidRequest,
    /// NON_EMPTY_GROUP (68).
    NonEmptyGroup,
    /// GROUP_ID_NOT_FOUND (69).
    GroupIdNotFound,
    /// MEMBER_ID_REQUIRED (79): join again with the id in the answer.
    MemberIdRequired,
    /// GROUP_MAX_SIZE_REACHED (81).
    GroupMaxSizeReached,
    /// FENCED_INSTANCE_ID (82): another process has joined with this instance id.
    FencedInstanceId,
    /// GROUP_SUBSCRIBED_TO_TOPIC (86).
    GroupSubscribedToTopic,
}

impl GroupError {
    /// Kafka's number for it.
    pub fn code(self) -> i16 {
        match self {
            Self::OffsetMetadataTooLarge => 12,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::IllegalGeneration => 22,
            Self::InconsistentGroupProtocol => 23,
            Self::InvalidGroupId => 24,
            Self::UnknownMemberId => 25,
            Self::InvalidSessionTimeout => 26,
            Self::RebalanceInProgress => 27,
            Self::InvalidRequest => 42,
            Self::NonEmptyGroup => 68,
            Self::GroupIdNotFound => 69,
            Self::MemberIdRequired => 79,
            Self::GroupMaxSizeReached => 81,
            Self::FencedInstanceId => 82,
            Self::GroupSubscribedToTopic => 86,
        }
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

impl std::error::Error for GroupError {}
