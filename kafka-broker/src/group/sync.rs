//! SyncGroup, Heartbeat and LeaveGroup: handing out the assignment, staying alive, going.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::machine::{Group, GroupState};
use super::member::Member;
use super::messages::{
    GroupError, HeartbeatRequest, LeaveRequest, LeavingMember, Reply, RequestId, SyncRequest, Synced,
};

impl Group {
    pub(super) fn sync(&mut self, request: RequestId, sync: SyncRequest, now: Instant) {
        let index = match self.check_sync(&sync) {
            Ok(index) => index,
            Err(error) => return self.reply(request, Reply::Sync(Err(error))),
        };
        self.members[index].owes_sync = false;
        if self.members.iter().all(|member| !member.owes_sync) {
            self.sync_deadline = None;
        }
        if self.state == GroupState::Stable {
            let synced = self.synced(index);
            return self.reply(request, Reply::Sync(Ok(synced)));
        }
        if let Some(earlier) = self.members[index].syncing.replace(request) {
            self.reply(earlier, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.leader.as_ref() == Some(&sync.member_id) {
            // By id, as the leader may send any number of assignments for members that do not exist.
            let mut places: BTreeMap<&str, &mut Bytes> = BTreeMap::new();
            for member in &mut self.members {
                member.assignment = Bytes::new();
                places.insert(&member.id, &mut member.assignment);
            }
            for (id, assignment) in sync.assignments {
                if let Some(place) = places.get_mut(id.as_str()) {
                    **place = assignment;
                }
            }
            self.propagate_assignment(Ok(()), now);
            self.state = GroupState::Stable;
        }
    }

    fn check_sync(&self, sync: &SyncRequest) -> Result<usize, GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && theirs != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            _ => self.index_of(&sync.member_id).ok_or(GroupError::UnknownMemberId),
        }
    }

    /// Answers every parked SyncGroup; with an error, the assignment is void.
    pub(super) fn propagate_assignment(&mut self, outcome: Result<(), GroupError>, now: Instant) {
        for index in 0..self.members.len() {
            if outcome.is_err() {
                self.members[index].assignment = Bytes::new();
                self.members[index].owes_sync = false;
            }
            if let Some(request) = self.members[index].syncing.take() {
                // Its session may have ended unnoticed while the request spoke for it.
                self.members[index].restart_session(now);
                let reply = outcome.map(|()| self.synced(index));
                self.reply(request, Reply::Sync(reply));
            }
        }
    }

    fn synced(&self, index: usize) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.members[index].assignment.clone(),
        }
    }

    pub(super) fn heartbeat(&mut self, heartbeat: &HeartbeatRequest, now: Instant) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&heartbeat.member_id, heartbeat.instance_id.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.restart_session(&heartbeat.member_id, now);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, request: RequestId, leave: &LeaveRequest, now: Instant) {
        if self.state == GroupState::Dead {
            return self.reply(request, Reply::Leave(Err(GroupError::CoordinatorNotAvailable)));
        }
        // Each is looked for among the members; nobody needs more than there can be.
        if leave.members.len() > self.config.max_size.saturating_mul(2) {
            return self.reply(request, Reply::Leave(Err(GroupError::InvalidRequest)));
        }
        let outcomes: Vec<_> = leave.members.iter().map(|member| self.leave_one(member)).collect();
        if outcomes.iter().any(Result::is_ok) && self.state != GroupState::Empty {
            self.rebalance_or_complete_join(now);
        }
        self.reply(request, Reply::Leave(Ok(outcomes)));
    }

    fn leave_one(&mut self, leaving: &LeavingMember) -> Result<(), GroupError> {
        let id = if leaving.member_id.is_empty() {
            let known = |member: &&Member| member.is_static() && member.instance_id == leaving.instance_id;
            self.members
                .iter()
                .find(known)
                .map(|member| member.id.clone())
                .ok_or(GroupError::UnknownMemberId)?
        } else {
            if !self.pending.iter().any(|(id, _)| *id == leaving.member_id) {
                self.check_member(&leaving.member_id, leaving.instance_id.as_deref())?;
            }
            leaving.member_id.clone()
        };
        self.remove(&id);
        Ok(())
    }
}
