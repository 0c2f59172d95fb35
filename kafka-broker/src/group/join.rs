//! JoinGroup: who is let in, under which id, and whether the answer can be given at once.

use std::collections::BTreeSet;
use std::time::Instant;

use super::machine::{Group, GroupState};
use super::member::Member;
use super::messages::{GroupError, JoinRejected, JoinRequest, Joined, Reply, RequestId};

/// Most protocols one member may offer; clients offer one to four.
const MAX_PROTOCOLS: usize = 16;
/// Longest member id, instance id, client id or protocol name.
const MAX_NAME: usize = 1_024;

impl Group {
    pub(super) fn join(&mut self, request: RequestId, mut join: JoinRequest, now: Instant) {
        if join.protocols.len() <= MAX_PROTOCOLS {
            let mut known = BTreeSet::new();
            join.protocols.retain(|(name, _)| known.insert(name.clone()));
        }
        if let Err(rejected) = self.try_join(request, join, now) {
            self.reply(request, Reply::Join(Err(rejected)));
        }
    }

    fn try_join(&mut self, request: RequestId, join: JoinRequest, now: Instant) -> Result<(), JoinRejected> {
        let reject = |error, member_id: &str| Err(JoinRejected { error, member_id: member_id.to_owned() });
        if !(self.config.min_session_timeout..=self.config.max_session_timeout)
            .contains(&join.session_timeout)
        {
            return reject(GroupError::InvalidSessionTimeout, &join.member_id);
        }
        if !self.is_storable(&join) {
            return reject(GroupError::InvalidRequest, &join.member_id);
        }
        if !self.has_room_for(&join) {
            self.remove(&join.member_id);
            self.maybe_complete_join(now);
            return reject(GroupError::GroupMaxSizeReached, "");
        }
        if self.state == GroupState::Dead {
            return reject(GroupError::CoordinatorNotAvailable, &join.member_id);
        }
        if !self.supports_protocols_of(&join) {
            return reject(GroupError::InconsistentGroupProtocol, &join.member_id);
        }
        if join.member_id.is_empty() {
            return self.join_without_id(request, join, now);
        }
        if let Some(index) = self.pending.iter().position(|(id, _)| *id == join.member_id) {
            if join.instance_id.is_some() {
                return reject(GroupError::UnknownMemberId, &join.member_id);
            }
            self.pending.remove(index);
            let id = join.member_id.clone();
            self.add_member(request, id, join, now);
            return Ok(());
        }
        if let Err(error) = self.check_member(&join.member_id, join.instance_id.as_deref()) {
            return reject(error, &join.member_id);
        }
        let Some(index) = self.index_of(&join.member_id) else {
            return reject(GroupError::UnknownMemberId, &join.member_id);
        };
        self.rejoin(request, index, join, now);
        Ok(())
    }

    fn join_without_id(
        &mut self,
        request: RequestId,
        join: JoinRequest,
        now: Instant,
    ) -> Result<(), JoinRejected> {
        let id = self.new_member_id(&join);
        if let Some(instance_id) = &join.instance_id {
            match self.members.iter().position(|member| member.instance_id.as_ref() == Some(instance_id)) {
                Some(index) => self.replace_static_member(request, index, id, join, now),
                None => self.add_member(request, id, join, now),
            }
            return Ok(());
        }
        if !join.requires_member_id {
            self.add_member(request, id, join, now);
            return Ok(());
        }
        if self.pending.len() >= self.config.max_size {
            return Err(JoinRejected { error: GroupError::GroupMaxSizeReached, member_id: String::new() });
        }
        self.pending.push((id.clone(), now + join.session_timeout));
        Err(JoinRejected { error: GroupError::MemberIdRequired, member_id: id })
    }

    fn add_member(&mut self, request: RequestId, id: String, join: JoinRequest, now: Instant) {
        let mut member = Member::new(id, join);
        member.joining = Some(request);
        // It cannot heartbeat before it has an answer, so only this bounds how long a vanished one holds up the others.
        member.expires = Some(now + self.config.new_member_join_timeout);
        if self.members.is_empty() {
            self.protocol_type = Some(member.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.new_member_came = true;
        self.members.push(member);
        self.rebalance_or_complete_join(now);
    }

    fn rejoin(&mut self, request: RequestId, index: usize, join: JoinRequest, now: Instant) {
        let member = &self.members[index];
        let leads = self.leader.as_ref() == Some(&member.id);
        let changed = member.protocols != join.protocols;
        let answered_from_here = match self.state {
            // Its answer was lost: the generation is the same.
            GroupState::CompletingRebalance => !changed,
            // The leader may ask for a rebalance, for example because partitions were added.
            GroupState::Stable => !changed && !leads,
            _ => false,
        };
        if answered_from_here {
            let joined = self.joined(index, self.state == GroupState::CompletingRebalance);
            self.reply(request, Reply::Join(Ok(joined)));
            return;
        }
        self.park_join(request, index, join);
        self.rebalance_or_complete_join(now);
    }

    /// A static member came back without its member id: it goes on under a new one, and the old process is fenced.
    fn replace_static_member(
        &mut self,
        request: RequestId,
        index: usize,
        id: String,
        join: JoinRequest,
        now: Instant,
    ) {
        self.reply_to_join(index, Err(GroupError::FencedInstanceId));
        if let Some(parked) = self.members[index].syncing.take() {
            self.reply(parked, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
        let old_leader = self.leader.clone().unwrap_or_default();
        let old_id = std::mem::replace(&mut self.members[index].id, id.clone());
        let leads = old_leader == old_id;
        if leads {
            self.leader = Some(id);
        }
        let supports_skip_assignment = join.supports_skip_assignment;
        self.members[index].is_new = false;
        self.park_join(request, index, join);
        self.members[index].restart_session(now);
        match self.state {
            GroupState::Stable if self.protocol.is_some() && self.protocol == self.vote() => {
                // Nothing changes for the others, so the generation goes on.
                let mut joined = self.joined(index, supports_skip_assignment);
                if supports_skip_assignment {
                    joined.skip_assignment = leads;
                } else {
                    // An old client must not take itself for the leader: it would compute and send a new assignment.
                    joined.leader = old_leader;
                }
                self.reply_to_join(index, Ok(joined));
            }
            // In the other case the leader may already be assigning to the old member id.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            _ => self.maybe_complete_join(now),
        }
    }

    fn park_join(&mut self, request: RequestId, index: usize, join: JoinRequest) {
        // The client gave up on the earlier request, or a network delivered it twice: it may only ask again.
        self.reply_to_join(index, Err(GroupError::RebalanceInProgress));
        let member = &mut self.members[index];
        member.protocols = join.protocols;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.joining = Some(request);
    }

    fn is_storable(&self, join: &JoinRequest) -> bool {
        let names = [&join.member_id, &join.client_id, &join.client_host, &join.protocol_type];
        join.protocols.len() <= MAX_PROTOCOLS
            && names.into_iter().chain(&join.instance_id).all(|name| name.len() <= MAX_NAME)
            && join.protocols.iter().all(|(name, metadata)| {
                name.len() <= MAX_NAME && metadata.len() <= self.config.max_protocol_metadata
            })
    }

    fn has_room_for(&self, join: &JoinRequest) -> bool {
        let member = self.members.iter().find(|member| {
            member.id == join.member_id
                || (join.member_id.is_empty() && member.is_static() && member.instance_id == join.instance_id)
        });
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            // Those that joined first stay, in case the bound was lowered below the number of members.
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some())
                    || self.members.iter().filter(|member| member.joining.is_some()).count()
                        < self.config.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < self.config.max_size
            }
        }
    }

    fn supports_protocols_of(&self, join: &JoinRequest) -> bool {
        if self.state == GroupState::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| self.members.iter().all(|member| member.supports(name)))
    }

    fn new_member_id(&mut self, join: &JoinRequest) -> String {
        let uuid = uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes()).into_uuid();
        format!("{}-{uuid}", join.instance_id.as_deref().unwrap_or(&join.client_id))
    }

    pub(super) fn joined(&self, index: usize, tell_leader_members: bool) -> Joined {
        let member = &self.members[index];
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if tell_leader_members && leader == member.id {
            self.members.iter().map(|member| member.as_joined(&protocol)).collect()
        } else {
            Vec::new()
        };
        Joined {
            member_id: member.id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            leader,
            skip_assignment: false,
            members,
        }
    }
}
