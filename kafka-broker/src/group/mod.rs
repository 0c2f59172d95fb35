//! The classic group coordinator: one pure machine per group, and the shell that waits for it.
//!
//! [`Group`] decides; it holds no clock, no task and no socket, so a test can run thousands of rebalances in a second:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use kafka_broker::group::{Group, GroupConfig, Input, JoinRequest, Output, Reply};
//!
//! let mut group = Group::new("billing", GroupConfig::default(), 42);
//! let now = Instant::now();
//! let join = JoinRequest {
//!     protocol_type: "consumer".into(),
//!     protocols: vec![("range".into(), "subscription".into())],
//!     session_timeout: Duration::from_secs(45),
//!     rebalance_timeout: Duration::from_secs(60),
//!     ..JoinRequest::default()
//! };
//! group.handle(1, Input::Join(join), now);
//! let Some(Output { request: 1, reply: Reply::Join(Ok(joined)) }) = group.poll_output() else { panic!() };
//! assert_eq!(joined.generation, 1);
//! assert_eq!(joined.leader, joined.member_id);
//! assert_eq!(group.poll_timeout(), Some(now + Duration::from_secs(45)));
//! ```
//!
//! How to drive it:
//! - `handle(request, input, now)`: what a member asked. `request` is the caller's own number for it; the answer carries it
//!   back. JoinGroup and SyncGroup may be answered much later, by another member's request or by a timeout. Every request
//!   is answered exactly once. A second request of one member for the same phase answers the first with
//!   `RebalanceInProgress`.
//! - `poll_output()`: answers, until `None`; after every `handle` and `handle_timeout`.
//! - `poll_timeout()` and `handle_timeout(now)`: the next instant at which time alone changes the group.
//! - `fail_parked(error)`: the coordinator moved away; who waits is told, members and offsets stay.
//! - `describe()`, `listing()`, `committed()`, `state()`, `generation()`: reading, which never changes anything.
//!
//! Rules and error codes are Kafka's (classic protocol of Kafka 4.x), except for bounds on what one member may store.

mod coordinator;
mod join;
mod machine;
mod member;
mod messages;
mod offsets;
mod rebalance;
pub(crate) mod serve;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use coordinator::Coordinator;
pub use machine::{Group, GroupConfig, GroupState};
pub use messages::{
    CommitRequest, GroupDescription, GroupError, GroupListing, HeartbeatRequest, Input, JoinRejected,
    JoinRequest, Joined, JoinedMember, LeaveRequest, LeavingMember, MemberDescription, OffsetCommit, Output,
    Reply, RequestId, SyncRequest, Synced,
};
pub use offsets::CommittedOffset;
