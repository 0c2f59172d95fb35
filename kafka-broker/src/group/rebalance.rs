//! The rebalance: when it begins, how long it waits, and what the next generation looks like.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::machine::{Group, GroupState, JoinDeadline};
use super::member::Member;
use super::messages::GroupError;
use super::offsets::subscribed_topics;

impl Group {
    pub(super) fn rebalance_or_complete_join(&mut self, now: Instant) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(now)
            }
            GroupState::PreparingRebalance | GroupState::Dead => self.maybe_complete_join(now),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Instant) {
        if self.state == GroupState::CompletingRebalance {
            self.propagate_assignment(Err(GroupError::RebalanceInProgress), now);
        }
        self.sync_deadline = None;
        let is_first = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        tracing::debug!(group = %self.id, generation = self.generation, "preparing a rebalance");
        if is_first {
            let delay = self.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.new_member_came = false;
            if delay.is_zero() {
                self.complete_join(now);
            } else {
                self.join_deadline =
                    Some(JoinDeadline { at: now + delay, initial: Some((delay, remaining)) });
            }
        } else if self.has_everyone_joined() {
            self.complete_join(now);
        } else {
            self.join_deadline = Some(JoinDeadline { at: now + self.rebalance_timeout(), initial: None });
        }
    }

    pub(super) fn maybe_complete_join(&mut self, now: Instant) {
        let delayed = self.join_deadline.is_some_and(|deadline| deadline.initial.is_some());
        if self.state == GroupState::PreparingRebalance && !delayed && self.has_everyone_joined() {
            self.complete_join(now);
        }
    }

    pub(super) fn join_deadline_passed(&mut self, deadline: JoinDeadline, now: Instant) {
        match deadline.initial {
            Some((delay, remaining)) if self.new_member_came && !remaining.is_zero() => {
                self.new_member_came = false;
                let next = self.config.initial_rebalance_delay.min(remaining);
                self.join_deadline = Some(JoinDeadline {
                    at: now + next,
                    initial: Some((next, remaining.saturating_sub(delay))),
                });
            }
            _ => self.complete_join(now),
        }
    }

    /// Ends the join phase: who has not joined is out, unless static; the rest is the next generation.
    fn complete_join(&mut self, now: Instant) {
        self.join_deadline = None;
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|member| member.joining.is_none() && !member.is_static())
            .map(|member| member.id.clone())
            .collect();
        for id in late {
            self.remove(&id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none is back: wait on, until their sessions end. A rebalance timeout of zero
            // must not turn that into a spin.
            let wait = self.rebalance_timeout().max(Duration::from_secs(1));
            self.join_deadline = Some(JoinDeadline { at: now + wait, initial: None });
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.protocol = self.vote();
        self.subscribed = self.read_subscriptions();
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            return;
        }
        self.state = GroupState::CompletingRebalance;
        tracing::debug!(group = %self.id, generation = self.generation, members = self.members.len(), "all members joined");
        for index in 0..self.members.len() {
            let joined = self.joined(index, true);
            self.reply_to_join(index, Ok(joined));
            let member = &mut self.members[index];
            member.restart_session(now);
            member.is_new = false;
            member.owes_sync = true;
        }
        self.sync_deadline = Some(now + self.rebalance_timeout());
    }

    pub(super) fn sync_deadline_passed(&mut self, now: Instant) {
        self.sync_deadline = None;
        let silent: Vec<String> =
            self.members.iter().filter(|member| member.owes_sync).map(|member| member.id.clone()).collect();
        if silent.is_empty() {
            return;
        }
        for id in silent {
            self.remove(&id);
        }
        self.prepare_rebalance(now);
    }

    pub(super) fn session_expired(&mut self, index: usize, now: Instant) {
        if self.members[index].is_spoken_for() {
            self.members[index].expires = None;
            return;
        }
        let id = self.members[index].id.clone();
        tracing::debug!(group = %self.id, member = %id, "session expired");
        self.remove(&id);
        self.rebalance_or_complete_join(now);
    }

    fn has_everyone_joined(&self) -> bool {
        self.pending.is_empty() && self.members.iter().all(|member| member.joining.is_some())
    }

    /// Makes sure that the leader is one who joined; `false` if nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &&Member| member.joining.is_some();
        if !self.members.iter().filter(joined).any(|member| Some(&member.id) == self.leader.as_ref()) {
            let Some(member) = self.members.iter().find(joined) else { return false };
            self.leader = Some(member.id.clone());
        }
        true
    }

    /// The protocol that all members support and most put first; among equals the one an earlier member prefers.
    pub(super) fn vote(&self) -> Option<String> {
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for member in &self.members {
            let choice = member
                .protocols
                .iter()
                .find(|(name, _)| self.members.iter().all(|other| other.supports(name)));
            let Some((choice, _)) = choice else { continue };
            match votes.iter_mut().find(|(name, _)| name == choice) {
                Some((_, count)) => *count += 1,
                None => votes.push((choice, 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }

    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let mut topics = BTreeSet::new();
        for member in &self.members {
            topics.append(&mut subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.iter().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }
}
