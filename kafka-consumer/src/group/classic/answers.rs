//! What each answer, and each error code in it, means for the membership.
//!
//! | code | JoinGroup | SyncGroup | Heartbeat | OffsetCommit |
//! |---|---|---|---|---|
//! | MEMBER_ID_REQUIRED | join with the given id | | | |
//! | UNKNOWN_MEMBER_ID | lose id, join | lose id, join | lose id, join | lose id, join; commit fails |
//! | ILLEGAL_GENERATION | | lose, keep id, join | lose, keep id, join | lose, keep id, join; commit fails |
//! | REBALANCE_IN_PROGRESS | try again | join | join if stable; counts as a sign of life | join; commit fails, may be repeated |
//! | FENCED_INSTANCE_ID | end | end | end | end |
//! | another coordinator, none, loading, silence | try again | join | try again | try again |
//! | any other | end | end | end | that partition is refused |
//!
//! A request that was overtaken by a new generation has no phase to come back to, so its answer is dropped.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use kafka_client::types::TopicPartition;
use kafka_wire::api::Api;
use kafka_wire::consumer_protocol::{Assignment, PROTOCOL_TYPE};
use kafka_wire::error::ProtocolErrorKind;
use kafka_wire::error_code::ErrorCode;

use super::{ClassicMember, NO_GENERATION, Next, Phase};
use crate::error::{Error, ErrorKind};
use crate::group::commits::Commit;
use crate::group::messages::{Answer, JoinRejected, Joined, RequestId, Synced};

impl ClassicMember {
    pub(super) fn answered(&mut self, request: RequestId, answer: Answer, now: Instant) {
        match &self.phase {
            Phase::Joining(joining) if *joining == request => return self.join_answered(answer, now),
            Phase::Syncing(syncing) if *syncing == request => return self.sync_answered(answer, now),
            Phase::Leaving(leaving) if leaving.request == Some(request) => {
                return self.leave_answered(&answer, now);
            }
            _ => {}
        }
        if self.heartbeat == Some(request) {
            self.heartbeat = None;
            self.heartbeat_answered(answer, now);
        } else if let Some(commits) = self.commits.answered(request) {
            self.commits_answered(commits, answer, now);
        }
    }

    fn join_answered(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Join(Ok(joined)) => self.joined(joined, now),
            Answer::Join(Err(JoinRejected { code, member_id })) => match code {
                ErrorCode::MEMBER_ID_REQUIRED => {
                    self.member_id = member_id;
                    self.join_again("need to re-join with the given member id", now);
                }
                ErrorCode::UNKNOWN_MEMBER_ID => {
                    self.lose(false);
                    self.join_again("encountered UNKNOWN_MEMBER_ID from JoinGroup response", now);
                }
                ErrorCode::REBALANCE_IN_PROGRESS => self.join_later(now),
                code if code.is_retriable() => self.join_later(now),
                code => self.fail(broker_error(code, Api::JoinGroup)),
            },
            Answer::Failed(error) if may_pass(&error) => self.join_later(now),
            Answer::Failed(error) => self.fail(error.into()),
            _ => self.join_later(now),
        }
    }

    fn joined(&mut self, joined: Joined, now: Instant) {
        let ours = |protocol: &str| {
            self.config.assignors.iter().find(|assignor| assignor.name() == protocol).cloned()
        };
        let is_consumers = joined.protocol_type.as_deref().is_none_or(|of_group| of_group == PROTOCOL_TYPE);
        let Some(assignor) = joined.protocol.as_deref().filter(|_| is_consumers).and_then(ours) else {
            return self.fail(broker_error(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, Api::JoinGroup));
        };
        if joined.generation < 0 || joined.member_id.is_empty() {
            return self.join_later(now);
        }
        let missed =
            self.generation != NO_GENERATION && joined.generation > self.generation.saturating_add(1);
        if missed && self.config.instance_id.is_some() {
            // The coordinator kept a static member's place, but not its partitions: whoever had them in between may
            // have read on, and committed.
            self.lose(true);
        }
        self.member_id = Arc::clone(&joined.member_id);
        self.generation = joined.generation;
        // Whatever was known before the rebalance has been taken into account by it.
        self.rejoin = None;
        self.heartbeat = None;
        self.heartbeat_due = now + self.config.heartbeat_interval;
        self.session_ends = now + self.config.session_timeout;
        if joined.leader == *joined.member_id {
            self.lead(joined, assignor);
        } else {
            self.stop_leading();
            self.sync(assignor.name().into(), Vec::new());
        }
    }

    fn sync_answered(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Sync(Ok(synced)) => self.synced(&synced, now),
            Answer::Sync(Err(code)) => match code {
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                    self.lose(code == ErrorCode::ILLEGAL_GENERATION);
                    self.join_again("encountered an outdated generation in SyncGroup response", now);
                }
                ErrorCode::REBALANCE_IN_PROGRESS => self.join_again("group is already rebalancing", now),
                code if code.is_retriable() => self.join_later(now),
                code => self.fail(broker_error(code, Api::SyncGroup)),
            },
            Answer::Failed(error) if may_pass(&error) => self.join_later(now),
            Answer::Failed(error) => self.fail(error.into()),
            _ => self.join_later(now),
        }
    }

    fn synced(&mut self, synced: &Synced, now: Instant) {
        let is_consumers = synced.protocol_type.as_deref().is_none_or(|of_group| of_group == PROTOCOL_TYPE);
        let is_known = synced
            .protocol
            .as_deref()
            .is_none_or(|protocol| self.config.assignors.iter().any(|assignor| assignor.name() == protocol));
        if !is_consumers || !is_known {
            return self.fail(broker_error(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, Api::SyncGroup));
        }
        let (assigned, memo) = match read_assignment(&synced.assignment) {
            Ok(read) => read,
            Err(fault) => {
                let group = &self.config.group;
                tracing::error!(%group, %fault, "the leader's assignment cannot be read; joining again");
                return self.join_later(now);
            }
        };
        if assigned.iter().any(|partition| !self.topics.contains(&partition.topic)) {
            return self.join_again("received assignment does not match the current subscription", now);
        }
        self.recall(memo, now);
        let revoked: Vec<TopicPartition> = self.owned.difference(&assigned).cloned().collect();
        if revoked.is_empty() {
            self.apply(assigned);
        } else {
            self.rejoin = Some("need to revoke partitions and re-join");
            self.release(revoked, Next::Apply(assigned), now);
        }
    }

    fn heartbeat_answered(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Heartbeat(Ok(())) => self.session_ends = now + self.config.session_timeout,
            Answer::Heartbeat(Err(code)) => match code {
                ErrorCode::REBALANCE_IN_PROGRESS => {
                    self.session_ends = now + self.config.session_timeout;
                    // Between JoinGroup and SyncGroup this is the rebalance that is going on already.
                    if matches!(self.phase, Phase::Stable) {
                        self.rejoin = Some("group is already rebalancing");
                    }
                }
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                    self.lose(code == ErrorCode::ILLEGAL_GENERATION);
                    self.join_again("encountered an outdated generation in Heartbeat response", now);
                }
                code if code.is_retriable() => self.heartbeat_soon(now),
                code => self.fail(broker_error(code, Api::Heartbeat)),
            },
            Answer::Failed(error) if !may_pass(&error) => self.fail(error.into()),
            _ => self.heartbeat_soon(now),
        }
    }

    /// A heartbeat that was not received is repeated soon, to be in time for the session.
    fn heartbeat_soon(&mut self, now: Instant) {
        self.heartbeat_due = now + self.config.retry_backoff_max.min(self.config.heartbeat_interval);
    }

    fn leave_answered(&mut self, answer: &Answer, now: Instant) {
        let again = match answer {
            Answer::Leave(Err(code)) => code.is_retriable(),
            Answer::Failed(error) => may_pass(error),
            _ => false,
        };
        let wait = self.config.retry_backoff;
        match &mut self.phase {
            Phase::Leaving(leaving) if again && leaving.attempts_left > 0 => {
                leaving.request = None;
                leaving.send_at = now + wait;
            }
            // Whatever else came back: the coordinator removes this member, or has done so.
            _ => self.left(),
        }
    }

    fn commits_answered(&mut self, commits: Vec<Commit>, answer: Answer, now: Instant) {
        let codes: HashMap<TopicPartition, ErrorCode> = match answer {
            Answer::Commit(codes) => codes.into_iter().collect(),
            Answer::Failed(error) if !may_pass(&error) => return self.fail_commits(&commits, &error.into()),
            _ => return self.commits.retry(commits, now, &mut self.random),
        };
        let group_wide = codes.values().find(|code| {
            matches!(
                **code,
                ErrorCode::UNKNOWN_MEMBER_ID
                    | ErrorCode::ILLEGAL_GENERATION
                    | ErrorCode::REBALANCE_IN_PROGRESS
                    | ErrorCode::FENCED_INSTANCE_ID
                    | ErrorCode::GROUP_AUTHORIZATION_FAILED
            )
        });
        match group_wide.copied() {
            Some(ErrorCode::REBALANCE_IN_PROGRESS) => {
                let group = Arc::clone(&self.config.group);
                self.fail_commits(&commits, &ErrorKind::RebalanceInProgress { group }.into());
                self.rejoin = Some("offset commit failed since group is already rebalancing");
            }
            Some(code @ (ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION)) => {
                let error = self.not_a_member();
                self.fail_commits(&commits, &error);
                if !matches!(self.phase, Phase::Idle) {
                    self.lose(code == ErrorCode::ILLEGAL_GENERATION);
                    self.join_again("encountered an outdated generation in OffsetCommit response", now);
                }
            }
            Some(ErrorCode::FENCED_INSTANCE_ID) => {
                let error = broker_error(ErrorCode::FENCED_INSTANCE_ID, Api::OffsetCommit);
                self.fail_commits(&commits, &error);
                if !matches!(self.phase, Phase::Idle) {
                    self.fail(error);
                }
            }
            Some(code) => self.fail_commits(&commits, &broker_error(code, Api::OffsetCommit)),
            None => self.settle(commits, &codes, now),
        }
    }

    /// Tells the callers, or tries again, according to the code of each partition.
    fn settle(&mut self, commits: Vec<Commit>, codes: &HashMap<TopicPartition, ErrorCode>, now: Instant) {
        // A topic that was deleted must not hold up a rebalance (KAFKA-14024).
        let patient = !matches!(self.phase, Phase::Releasing(_));
        let mut again = Vec::new();
        for mut commit in commits {
            let mut refused = Vec::new();
            // What is stored is not sent again: by then, a later commit may have stored more.
            commit.offsets.retain(|partition, _| match codes.get(partition) {
                Some(code) if code.is_ok() => false,
                Some(code) if !code.is_retriable() || (code.refreshes_metadata() && !patient) => {
                    refused.push((partition.clone(), *code));
                    false
                }
                // Left out of the answer, or refused for a reason that may pass.
                _ => true,
            });
            if !refused.is_empty() {
                self.committed(&commit, Err(ErrorKind::CommitRefused(refused).into()));
            } else if commit.offsets.is_empty() {
                self.committed(&commit, Ok(()));
            } else {
                again.push(commit);
            }
        }
        if again.is_empty() {
            self.commits.succeeded();
        } else {
            self.commits.retry(again, now, &mut self.random);
        }
    }

    fn fail_commits(&mut self, commits: &[Commit], error: &Error) {
        commits.iter().for_each(|commit| self.committed(commit, Err(error.clone())));
    }
}

/// Whether the next attempt may do better: not if the client is closed, the broker too old or the request impossible.
fn may_pass(error: &kafka_client::Error) -> bool {
    error.is_retriable() || matches!(error.kind(), kafka_client::ErrorKind::Layer(_))
}

/// The partitions in an assignment, which another member wrote, and what a leader noted for itself.
fn read_assignment(bytes: &[u8]) -> Result<(BTreeSet<TopicPartition>, Option<&[u8]>), ProtocolErrorKind> {
    let mut assigned = BTreeSet::new();
    if bytes.is_empty() {
        // What the coordinator sends a member of whom the leader said nothing.
        return Ok((assigned, None));
    }
    let assignment = Assignment::parse(bytes)?;
    for (topic, partitions) in assignment.partitions.iter() {
        let topic: Arc<str> = topic.into();
        assigned.extend(partitions.map(|partition| TopicPartition::new(Arc::clone(&topic), partition)));
    }
    Ok((assigned, assignment.user_data))
}

fn broker_error(code: ErrorCode, api: Api) -> Error {
    kafka_client::Error::broker(code, api, None, None).into()
}
