//! The classic group coordinator of one group: who is a member, when a rebalance ends, who waits for what.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::member::Member;
use super::messages::{
    GroupDescription, GroupError, GroupListing, Input, JoinRejected, Joined, Output, Reply, RequestId,
};
use super::offsets::Offsets;

/// Bounds and delays of a group; the defaults are Kafka's unless said otherwise.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`: how long the first member waits for others. Default 0, where Kafka has 3 s.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`, default 6 s.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`, default 30 min.
    pub max_session_timeout: Duration,
    /// `group.max.size`, default 1,000 members, where Kafka has no bound. As many more may be pending.
    pub max_size: usize,
    /// How long the JoinGroup of a member nobody knows yet stays parked, default 5 min.
    pub new_member_join_timeout: Duration,
    /// Longest metadata of one protocol, default 64 KiB. Kafka has no bound.
    pub max_protocol_metadata: usize,
    /// `offset.metadata.max.bytes`, default 4,096.
    pub max_offset_metadata: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::ZERO,
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            max_size: 1_000,
            new_member_join_timeout: Duration::from_secs(5 * 60),
            max_protocol_metadata: 64 * 1024,
            max_offset_metadata: 4_096,
        }
    }
}

/// Where a group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; there may be offsets.
    Empty,
    /// Waiting for all members to join.
    PreparingRebalance,
    /// Members know the generation and wait for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Deleted.
    Dead,
}

impl GroupState {
    /// Kafka's name for it, as in DescribeGroups and ListGroups.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When the join phase ends although somebody has not joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct JoinDeadline {
    pub(super) at: Instant,
    /// In a first rebalance: the delay now running and how much more may follow while new members keep coming.
    pub(super) initial: Option<(Duration, Duration)>,
}

/// One classic group: members, generation, assignment and committed offsets. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Group {
    pub(super) id: Arc<str>,
    pub(super) config: GroupConfig,
    pub(super) rng: Rng,
    pub(super) state: GroupState,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    /// In the order in which they joined.
    pub(super) members: Vec<Member>,
    /// Ids given out with `MemberIdRequired`, and when they lapse.
    pub(super) pending: Vec<(String, Instant)>,
    pub(super) join_deadline: Option<JoinDeadline>,
    pub(super) sync_deadline: Option<Instant>,
    /// A member came while the first rebalance was being delayed.
    pub(super) new_member_came: bool,
    /// Topics that members of a consumer group read; `None` if unknown.
    pub(super) subscribed: Option<BTreeSet<String>>,
    pub(super) offsets: Offsets,
    pub(super) outputs: VecDeque<Output>,
}

impl Group {
    /// An empty group. `seed` makes the member ids it generates repeatable.
    pub fn new(id: impl Into<Arc<str>>, config: GroupConfig, seed: u64) -> Self {
        Self {
            id: id.into(),
            config,
            rng: Rng::with_seed(seed),
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Vec::new(),
            pending: Vec::new(),
            join_deadline: None,
            sync_deadline: None,
            new_member_came: false,
            subscribed: None,
            offsets: Offsets::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes a request; its answer comes out of [`poll_output`](Self::poll_output), now or later, exactly once.
    pub fn handle(&mut self, request: RequestId, input: Input, now: Instant) {
        match input {
            Input::Join(join) => self.join(request, join, now),
            Input::Sync(sync) => self.sync(request, sync, now),
            Input::Heartbeat(heartbeat) => {
                let reply = Reply::Heartbeat(self.heartbeat(&heartbeat, now));
                self.reply(request, reply);
            }
            Input::Leave(leave) => self.leave(request, &leave, now),
            Input::Commit(commit) => {
                let reply = self.commit(commit, now);
                self.reply(request, reply);
            }
        }
    }

    /// Lets everything happen that was due by `now`, in the order in which it was due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.poll_timeout().filter(|due| *due <= now) {
            if let Some(deadline) = self.join_deadline.filter(|deadline| deadline.at == due) {
                self.join_deadline_passed(deadline, due);
            } else if self.sync_deadline == Some(due) {
                self.sync_deadline_passed(due);
            } else if let Some(index) = self.pending.iter().position(|(_, expires)| *expires == due) {
                self.pending.remove(index);
                self.maybe_complete_join(due);
            } else if let Some(index) = self.members.iter().position(|member| member.expires == Some(due)) {
                self.session_expired(index, due);
            }
        }
    }

    /// The next instant at which [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.members.iter().filter_map(|member| member.expires);
        let pending = self.pending.iter().map(|(_, expires)| *expires);
        let phases = self.join_deadline.map(|deadline| deadline.at).into_iter().chain(self.sync_deadline);
        sessions.chain(pending).chain(phases).min()
    }

    /// The next answer.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Answers all parked requests with `error`, because another broker coordinates the group from now on. Members that
    /// were never told their id are dropped; nobody else could be.
    pub fn fail_parked(&mut self, error: GroupError, now: Instant) {
        let strangers: Vec<String> = self
            .members
            .iter()
            .filter(|member| member.is_new && member.joining.is_some())
            .map(|member| member.id.clone())
            .collect();
        for index in 0..self.members.len() {
            if self.members[index].is_spoken_for() {
                self.members[index].restart_session(now);
            }
            self.reply_to_join(index, Err(error));
            if let Some(request) = self.members[index].syncing.take() {
                self.reply(request, Reply::Sync(Err(error)));
            }
        }
        for id in strangers {
            self.remove(&id);
        }
        self.maybe_complete_join(now);
    }

    /// Deletes the group and its offsets.
    ///
    /// # Errors
    /// `NonEmptyGroup` while it has members, `GroupIdNotFound` if already deleted.
    pub fn delete(&mut self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Dead => Err(GroupError::GroupIdNotFound),
            GroupState::Empty => {
                self.state = GroupState::Dead;
                self.pending.clear();
                self.offsets.clear();
                Ok(())
            }
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    /// The group's id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The state.
    pub fn state(&self) -> GroupState {
        self.state
    }

    /// The generation, 0 before the first rebalance.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Member id of the leader.
    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// Whether nothing would be lost by forgetting the group.
    pub fn is_blank(&self) -> bool {
        self.state == GroupState::Dead
            || (self.state == GroupState::Empty && self.pending.is_empty() && self.offsets.is_empty())
    }

    /// As DescribeGroups shows it.
    pub fn describe(&self) -> GroupDescription {
        let protocol = self.protocol.as_deref().filter(|_| self.state == GroupState::Stable);
        GroupDescription {
            state: self.state,
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: self.members.iter().map(|member| member.describe(protocol)).collect(),
        }
    }

    /// As ListGroups shows it.
    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state,
        }
    }
}

impl Group {
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.members.iter().find(|member| member.instance_id.as_deref() == Some(instance_id)) {
                None => return Err(GroupError::UnknownMemberId),
                Some(member) if member.id != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.index_of(member_id).map(|_| ()).ok_or(GroupError::UnknownMemberId)
    }

    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    pub(super) fn restart_session(&mut self, member_id: &str, now: Instant) {
        if let Some(index) = self.index_of(member_id) {
            self.members[index].restart_session(now);
        }
    }

    pub(super) fn index_of(&self, member_id: &str) -> Option<usize> {
        self.members.iter().position(|member| member.id == member_id)
    }

    /// Forgets a member or pending id. Who still waits under that id learns that it is unknown.
    pub(super) fn remove(&mut self, member_id: &str) {
        self.pending.retain(|(id, _)| id != member_id);
        let Some(index) = self.index_of(member_id) else { return };
        self.reply_to_join(index, Err(GroupError::UnknownMemberId));
        let member = self.members.remove(index);
        if let Some(request) = member.syncing {
            self.reply(request, Reply::Sync(Err(GroupError::UnknownMemberId)));
        }
        if self.leader.as_ref() == Some(&member.id) {
            self.leader = self.members.first().map(|member| member.id.clone());
        }
    }

    pub(super) fn reply_to_join(&mut self, index: usize, outcome: Result<Joined, GroupError>) {
        let member = &mut self.members[index];
        let Some(request) = member.joining.take() else { return };
        let outcome = outcome.map_err(|error| JoinRejected {
            error,
            member_id: if error == GroupError::UnknownMemberId { String::new() } else { member.id.clone() },
        });
        self.reply(request, Reply::Join(outcome));
    }

    pub(super) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.outputs.push_back(Output { request, reply });
    }
}
