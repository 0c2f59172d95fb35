//! Decides what a member of a classic group does next: join, sync, heartbeat, let go, commit, leave.
//!
//! A pure machine: [`handle`](ClassicMember::handle) what happened, [`handle_timeout`](ClassicMember::handle_timeout)
//! what became due, then take every [`poll_output`](ClassicMember::poll_output) and wait for the next input or for
//! [`poll_timeout`](ClassicMember::poll_timeout). It knows no socket and no coordinator: each request is one attempt,
//! and its answer, or failure, is an input.
//!
//! ```text
//! Waiting ─► Joining ─► (leader: Assigning) ─► Syncing ─► (Releasing ─►) Stable ─► (Releasing ─►) Waiting …
//! ```
//!
//! While a generation is held, heartbeats go on in every phase but Waiting and Joining. Commits are sent only in
//! Stable and Releasing, never between JoinGroup and the end of SyncGroup; what is released is committed first.

mod answers;
mod lead;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use kafka_client::raw::Backoff;
use kafka_client::types::TopicPartition;
use kafka_wire::api::Api;
use kafka_wire::consumer_protocol::{VERSION, encode_subscription};

use super::assignor::{LastAssignment, Topics};
use super::by_topic;
use super::commits::{Commit, CommitId, Commits};
use super::config::GroupConfig;
use super::interface::{Membership, Offsets};
use super::messages::{
    Answer, CommitRequest, HeartbeatRequest, JoinRequest, LeaveRequest, Request, RequestId,
};
use crate::error::{Error, ErrorKind, Result};
use lead::Lead;

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// The topics to share with the group changed; with none, no membership is wanted.
    Subscribe(BTreeSet<Arc<str>>),
    /// A request was answered, or failed.
    Answer { request: RequestId, answer: Answer },
    /// Revoked partitions were let go of; these are their last offsets.
    Released { revocation: u64, offsets: Offsets },
    /// What is known of the topics last asked for with [`Output::Lookup`]; again whenever that changes.
    Topics(Topics),
    /// Offsets are to be committed; `commit` ascends from call to call.
    Commit { commit: CommitId, offsets: Offsets, deadline: Instant },
    /// The application has polled since the last input, or is polling now.
    Polled,
    /// The consumer closes: leave when everything is released and committed.
    Leave,
    /// There is no more time to leave properly.
    Abandon,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send this to the coordinator, once.
    Send { request: RequestId, body: Request },
    /// Answer with [`Input::Topics`], soon, and watch these topics instead of those named before.
    Lookup(BTreeSet<Arc<str>>),
    /// The coordinator has been silent for a whole session: find out anew who it is.
    Rediscover,
    /// Tell the consumer: these are its own now.
    Assigned(Vec<TopicPartition>),
    /// Tell the consumer: let go of these, then [`Input::Released`].
    Revoked { revocation: u64, partitions: Vec<TopicPartition> },
    /// Tell the consumer: these are gone.
    Lost(Vec<TopicPartition>),
    /// Tell the consumer: the membership is over.
    Failed(Error),
    /// The outcome of a commit.
    Committed { commit: CommitId, outcome: Result<()> },
    /// After [`Input::Leave`] or [`Input::Abandon`]: it is done, nothing follows.
    Left,
}

#[derive(Debug)]
enum Phase {
    /// No membership is wanted.
    Idle,
    /// JoinGroup goes out at this time.
    Waiting(Instant),
    /// JoinGroup is out.
    Joining(RequestId),
    /// This member leads, and waits to hear of the topics.
    Assigning(Lead),
    /// SyncGroup is out.
    Syncing(RequestId),
    /// Partitions are being let go of.
    Releasing(Releasing),
    /// The assignment is in force.
    Stable,
    /// LeaveGroup is out, or waits to be sent again.
    Leaving(Leaving),
    /// Ended by an error, until subscribed anew.
    Failed,
    /// Ended for good.
    Closed,
}

#[derive(Debug)]
struct Releasing {
    /// The consumer still holds on to the partitions. Once it does not, their offsets are being committed.
    revocation: Option<u64>,
    partitions: Vec<TopicPartition>,
    next: Next,
    until: Instant,
}

/// What comes after a release.
#[derive(Debug)]
enum Next {
    Join,
    /// The assignment for which something had to be let go of takes effect.
    Apply(BTreeSet<TopicPartition>),
    Leave,
}

#[derive(Debug)]
struct Leaving {
    member_id: Arc<str>,
    request: Option<RequestId>,
    send_at: Instant,
    attempts_left: u32,
}

/// One consumer's membership in a classic group.
#[derive(Debug)]
pub(crate) struct ClassicMember {
    config: GroupConfig,
    random: Rng,
    phase: Phase,
    /// The topics to share.
    topics: BTreeSet<Arc<str>>,
    /// The topics named in the last JoinGroup.
    joined_topics: BTreeSet<Arc<str>>,
    member_id: Arc<str>,
    generation: i32,
    /// What the consumer may read and commit. Empty outside of a generation.
    owned: BTreeSet<TopicPartition>,
    last: Option<LastAssignment>,
    /// Why to join again as soon as the group is stable.
    rejoin: Option<&'static str>,
    /// Why the next JoinGroup is sent.
    reason: &'static str,
    join_backoff: Backoff,
    /// How often a failed join was begun again at once, since the group was stable last.
    hasty_joins: u32,
    heartbeat_due: Instant,
    heartbeat: Option<RequestId>,
    session_ends: Instant,
    last_poll: Instant,
    stalled: Option<Stall>,
    closing: bool,
    /// What this member knew of the group's topics when it assigned them, as their leader.
    led: Option<Topics>,
    /// When to rebalance for the sake of partitions that were held back, if nobody else has by then.
    follow_up: Option<Instant>,
    commits: Commits,
    last_request: RequestId,
    last_revocation: u64,
    outputs: VecDeque<Output>,
}

/// The membership was given up because the application does not poll; it begins anew with the next poll, or when the
/// application lets go of what it should have.
#[derive(Debug)]
struct Stall {
    revocation: Option<u64>,
}

/// The generation of those who are in none.
const NO_GENERATION: i32 = -1;
/// So many failed joins in a row are begun again at once; then each waits.
const HASTY_JOINS: u32 = 3;
/// How often LeaveGroup is sent if it fails.
const LEAVE_ATTEMPTS: u32 = 3;

impl ClassicMember {
    /// A member of no group yet. `seed` makes its choices repeatable.
    pub(crate) fn new(config: GroupConfig, seed: u64, now: Instant) -> Self {
        let backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        Self {
            random: Rng::with_seed(seed),
            phase: Phase::Idle,
            topics: BTreeSet::new(),
            joined_topics: BTreeSet::new(),
            member_id: "".into(),
            generation: NO_GENERATION,
            owned: BTreeSet::new(),
            last: None,
            rejoin: None,
            reason: "",
            join_backoff: backoff.clone(),
            hasty_joins: 0,
            heartbeat_due: now,
            heartbeat: None,
            session_ends: now,
            last_poll: now,
            stalled: None,
            closing: false,
            led: None,
            follow_up: None,
            commits: Commits::new(backoff),
            last_request: 0,
            last_revocation: 0,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Subscribe(topics) => self.subscribe(topics, now),
            Input::Answer { request, answer } => self.answered(request, answer, now),
            Input::Released { revocation, offsets } => self.released(revocation, offsets, now),
            Input::Topics(topics) => self.learn(topics),
            Input::Commit { commit, offsets, deadline } => {
                self.commit(Commit::new(Some(commit), offsets, now, deadline));
            }
            Input::Polled => self.resume(now),
            Input::Leave => self.leave(now),
            Input::Abandon => self.abandon(now),
        }
        self.advance(now);
    }

    /// Lets happen what was due by `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for commit in self.commits.expired(now) {
            self.commit_timed_out(&commit);
        }
        if let Phase::Releasing(Releasing { until, .. }) = &self.phase
            && *until <= now
        {
            self.release_timed_out(now);
        }
        if self.is_active() && !self.wants_to_leave() && self.poll_deadline() <= now {
            tracing::warn!(
                group = %self.config.group,
                interval = ?self.config.max_poll_interval,
                "no poll for max.poll.interval.ms: leaving the group until the next one"
            );
            self.stall("consumer poll timeout has expired", now);
        }
        if self.is_active() && self.session_ends <= now {
            // What was sent is of no use any more, and the coordinator may be another by now.
            self.heartbeat = None;
            self.heartbeat_due = now;
            self.session_ends = now + self.config.session_timeout;
            self.outputs.push_back(Output::Rediscover);
        }
        if self.is_active() && self.follow_up.take_if(|at| *at <= now).is_some() {
            self.rejoin = Some("partitions that were held back have not been let go of");
        }
        self.advance(now);
    }

    /// The next instant at which [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Waiting(at) => Some(*at).filter(|_| !self.is_stalled()),
            Phase::Releasing(releasing) => Some(releasing.until),
            Phase::Leaving(leaving) => Some(leaving.send_at).filter(|_| leaving.request.is_none()),
            _ => None,
        };
        let active = self.is_active().then(|| {
            let heartbeat = Some(self.heartbeat_due).filter(|_| self.heartbeat.is_none());
            let poll = Some(self.poll_deadline()).filter(|_| !self.wants_to_leave());
            heartbeat.into_iter().chain(poll).chain(self.follow_up).fold(self.session_ends, Instant::min)
        });
        phase.into_iter().chain(active).chain(self.commits.poll_timeout(self.may_commit())).min()
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The identity under which requests are made now.
    pub(crate) fn membership(&self) -> Membership {
        Membership { member_id: Arc::clone(&self.member_id), generation: self.generation }
    }

    /// Whether the membership waits for the application to poll.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    fn subscribe(&mut self, topics: BTreeSet<Arc<str>>, now: Instant) {
        if self.closing {
            return;
        }
        self.topics = topics;
        self.resume(now);
        match self.phase {
            Phase::Idle | Phase::Failed if self.topics.is_empty() => self.phase = Phase::Idle,
            Phase::Idle | Phase::Failed => {
                self.join_backoff.reset();
                self.hasty_joins = 0;
                self.join_at(now, "");
            }
            _ if self.topics.is_empty() => self.begin_leaving(now),
            // A change is noticed as soon as the group is stable.
            _ => {}
        }
    }

    /// The application has shown that it is alive.
    fn resume(&mut self, now: Instant) {
        self.last_poll = now;
        self.stalled = None;
    }

    fn released(&mut self, revocation: u64, offsets: Offsets, now: Instant) {
        if self.stalled.as_ref().is_some_and(|stall| stall.revocation == Some(revocation)) {
            self.resume(now);
        }
        let Phase::Releasing(releasing) = &mut self.phase else { return };
        if releasing.revocation.take_if(|awaited| *awaited == revocation).is_none() {
            return;
        }
        let until = releasing.until;
        if !offsets.is_empty() {
            self.commit(Commit::new(None, offsets, now, until));
        }
        self.commits.flush();
    }

    fn commit(&mut self, commit: Commit) {
        match self.refusal(&commit) {
            Some(error) => self.committed(&commit, Err(error)),
            None => self.commits.push(commit),
        }
    }

    /// Why this commit cannot be made, if it cannot.
    fn refusal(&self, commit: &Commit) -> Option<Error> {
        // A consumer that is in no group assigns its partitions itself.
        if matches!(self.phase, Phase::Idle) {
            return None;
        }
        let foreign = commit.offsets.keys().find(|partition| !self.owned.contains(*partition))?;
        Some(match self.phase {
            Phase::Stable => ErrorKind::NotAssigned(foreign.clone()).into(),
            Phase::Failed | Phase::Closed | Phase::Leaving(_) => self.not_a_member(),
            _ if self.is_stalled() => self.not_a_member(),
            _ => ErrorKind::RebalanceInProgress { group: Arc::clone(&self.config.group) }.into(),
        })
    }

    fn committed(&mut self, commit: &Commit, outcome: Result<()>) {
        match (commit.caller, outcome) {
            (Some(commit), outcome) => self.outputs.push_back(Output::Committed { commit, outcome }),
            (None, Ok(())) => {}
            (None, Err(error)) => {
                tracing::warn!(group = %self.config.group, %error, "offsets of revoked partitions were not committed");
            }
        }
    }

    fn commit_timed_out(&mut self, commit: &Commit) {
        let after = commit.deadline.saturating_duration_since(commit.since);
        self.committed(commit, Err(kafka_client::Error::timed_out("committing offsets", after).into()));
    }

    fn not_a_member(&self) -> Error {
        ErrorKind::NotAMember { group: Arc::clone(&self.config.group) }.into()
    }

    /// Whether a generation is held, and heartbeats and polls are due. Between JoinGroup and its answer the
    /// coordinator expects none.
    fn is_active(&self) -> bool {
        let in_phase = matches!(
            self.phase,
            Phase::Assigning(_) | Phase::Syncing(_) | Phase::Releasing(_) | Phase::Stable
        );
        in_phase && self.generation != NO_GENERATION
    }

    fn may_commit(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Stable | Phase::Releasing(_))
    }

    fn wants_to_leave(&self) -> bool {
        self.closing || self.topics.is_empty()
    }

    fn poll_deadline(&self) -> Instant {
        self.last_poll + self.config.max_poll_interval
    }

    /// Does everything that can be done at once.
    fn advance(&mut self, now: Instant) {
        loop {
            match &self.phase {
                Phase::Waiting(at) if *at <= now && !self.is_stalled() => self.join(now),
                Phase::Releasing(Releasing { revocation: None, .. }) if self.commits.is_flushed() => {
                    self.finish_release(now);
                }
                Phase::Stable if self.wants_to_leave() => self.begin_leaving(now),
                Phase::Stable if self.joined_topics != self.topics => {
                    self.rejoin("subscription has changed", now)
                }
                Phase::Stable => match self.rejoin.take() {
                    Some(reason) => self.rejoin(reason, now),
                    None => break,
                },
                Phase::Idle if self.closing && self.commits.is_empty() => self.left(),
                Phase::Leaving(Leaving { request: None, send_at, .. }) if *send_at <= now => {
                    self.say_goodbye()
                }
                _ => break,
            }
        }
        if self.may_commit() {
            self.send_commits(now);
        }
        if self.is_active() && self.heartbeat.is_none() && self.heartbeat_due <= now {
            self.heartbeat_due = now + self.config.heartbeat_interval;
            let (member_id, generation) = (Arc::clone(&self.member_id), self.generation);
            self.heartbeat = Some(self.send(Request::Heartbeat(HeartbeatRequest { member_id, generation })));
        }
    }

    fn send(&mut self, body: Request) -> RequestId {
        self.last_request += 1;
        self.outputs.push_back(Output::Send { request: self.last_request, body });
        self.last_request
    }

    fn send_commits(&mut self, now: Instant) {
        let request = self.last_request + 1;
        if let Some(offsets) = self.commits.send(request, now) {
            let (member_id, generation) = (Arc::clone(&self.member_id), self.generation);
            self.send(Request::Commit(CommitRequest { member_id, generation, offsets }));
        }
    }

    /// Begins the next rebalance: lets go of what the protocol demands, then joins.
    fn rejoin(&mut self, reason: &'static str, now: Instant) {
        self.reason = reason;
        let cooperative = self.config.is_cooperative();
        let unwanted = |partition: &&TopicPartition| !cooperative || !self.topics.contains(&partition.topic);
        let partitions = self.owned.iter().filter(unwanted).cloned().collect();
        self.release(partitions, Next::Join, now);
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, next: Next, now: Instant) {
        let revocation = (!partitions.is_empty()).then(|| {
            self.last_revocation += 1;
            let revocation = self.last_revocation;
            self.outputs.push_back(Output::Revoked { revocation, partitions: partitions.clone() });
            revocation
        });
        self.commits.flush();
        // The others wait no longer than this for us.
        let until = now + self.config.max_poll_interval;
        self.phase = Phase::Releasing(Releasing { revocation, partitions, next, until });
    }

    fn finish_release(&mut self, now: Instant) {
        let Phase::Releasing(Releasing { partitions, next, .. }) =
            std::mem::replace(&mut self.phase, Phase::Stable)
        else {
            return;
        };
        for partition in &partitions {
            self.owned.remove(partition);
        }
        match next {
            // Still a member of the generation: what is left can be let go of without a rebalance.
            Next::Join if self.wants_to_leave() => {}
            Next::Join => self.join_at(now, self.reason),
            Next::Apply(assigned) => self.apply(assigned),
            Next::Leave => self.end_membership(now),
        }
        self.refuse_hopeless_commits();
    }

    fn release_timed_out(&mut self, now: Instant) {
        let Phase::Releasing(releasing) = &self.phase else { return };
        if releasing.revocation.is_some() && !matches!(releasing.next, Next::Leave) {
            tracing::warn!(
                group = %self.config.group,
                "revoked partitions were not released in time: others have them now, this member waits for the release"
            );
            self.stall("revoked partitions were not released in time", now);
            return;
        }
        for commit in self.commits.drain() {
            self.commit_timed_out(&commit);
        }
        self.finish_release(now);
    }

    /// An assignment takes effect.
    fn apply(&mut self, assigned: BTreeSet<TopicPartition>) {
        let added = assigned.difference(&self.owned).cloned().collect();
        self.last = Some(LastAssignment::new(assigned.iter().cloned().collect(), self.generation));
        self.owned = assigned;
        self.phase = Phase::Stable;
        self.join_backoff.reset();
        self.hasty_joins = 0;
        self.outputs.push_back(Output::Assigned(added));
        self.refuse_hopeless_commits();
    }

    fn refuse_hopeless_commits(&mut self) {
        if matches!(self.phase, Phase::Idle) {
            return;
        }
        let owned = &self.owned;
        for commit in
            self.commits.remove(|commit| commit.offsets.keys().any(|partition| !owned.contains(partition)))
        {
            let refusal = self.refusal(&commit);
            self.committed(&commit, refusal.map_or(Ok(()), Err));
        }
    }

    fn join_at(&mut self, at: Instant, reason: &'static str) {
        self.reason = reason;
        self.phase = Phase::Waiting(at);
    }

    /// Joins again after a failure that another try can mend: at once, unless that has not helped before.
    fn join_again(&mut self, reason: &'static str, now: Instant) {
        self.hasty_joins += 1;
        if self.hasty_joins <= HASTY_JOINS {
            self.join_at(now, reason);
        } else {
            self.join_later(now);
        }
    }

    fn join_later(&mut self, now: Instant) {
        let wait = self.join_backoff.next(&mut self.random);
        self.join_at(now + wait, self.reason);
    }

    fn join(&mut self, now: Instant) {
        if self.wants_to_leave() && self.owned.is_empty() {
            return self.end_membership(now);
        }
        let topics: Vec<&Arc<str>> = self.topics.iter().collect();
        let owned: Vec<TopicPartition> = self.owned.iter().cloned().collect();
        let owned = by_topic(&owned);
        let owned: Vec<(&Arc<str>, Vec<i32>)> = owned.iter().map(|(topic, of)| (topic, of.clone())).collect();
        let mut protocols = Vec::new();
        for assignor in &self.config.assignors {
            let user_data = assignor.user_data(self.last.as_ref());
            let rack = self.config.rack.as_deref();
            match encode_subscription(VERSION, &topics, user_data.as_deref(), &owned, self.generation, rack) {
                Ok(subscription) => protocols.push((assignor.name().into(), subscription)),
                Err(fault) => {
                    let error = kafka_client::ErrorKind::Encode(fault.at(Api::JoinGroup as i16, VERSION));
                    return self.fail(kafka_client::Error::from(error).into());
                }
            }
        }
        self.joined_topics = self.topics.clone();
        self.rejoin = None;
        self.follow_up = None;
        let member_id = Arc::clone(&self.member_id);
        let request = self.send(Request::Join(JoinRequest { member_id, protocols, reason: self.reason }));
        self.phase = Phase::Joining(request);
    }

    /// The generation is over for this member: what it had is with others, or will be.
    fn lose(&mut self, keep_member_id: bool) {
        self.generation = NO_GENERATION;
        if !keep_member_id {
            self.member_id = "".into();
        }
        self.heartbeat = None;
        self.rejoin = None;
        self.follow_up = None;
        self.stop_leading();
        for commit in self.commits.drain() {
            let error = self.not_a_member();
            self.committed(&commit, Err(error));
        }
        let mut lost = std::mem::take(&mut self.owned);
        if let Phase::Releasing(releasing) = &self.phase {
            // The consumer has been told to let go of these, and is about to.
            for partition in &releasing.partitions {
                lost.remove(partition);
            }
        }
        if !lost.is_empty() {
            self.outputs.push_back(Output::Lost(lost.into_iter().collect()));
        }
    }

    fn stall(&mut self, reason: &'static str, now: Instant) {
        let revocation = match &self.phase {
            Phase::Releasing(releasing) => releasing.revocation,
            _ => None,
        };
        self.stalled = Some(Stall { revocation });
        self.leave_quickly(reason);
        self.lose(false);
        self.join_at(now, reason);
    }

    fn fail(&mut self, error: Error) {
        self.leave_quickly("the membership failed");
        self.lose(false);
        self.phase = Phase::Failed;
        self.outputs.push_back(Output::Failed(error));
        if self.closing {
            self.left();
        }
    }

    fn leave(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closed) {
            return self.outputs.push_back(Output::Left);
        }
        self.closing = true;
        self.stalled = None;
        self.begin_leaving(now);
    }

    fn begin_leaving(&mut self, now: Instant) {
        match &self.phase {
            // A consumer that is in no group may still have commits on their way.
            Phase::Idle | Phase::Closed => {}
            Phase::Failed => self.left(),
            Phase::Stable => {
                let owned = self.owned.iter().cloned().collect();
                self.release(owned, Next::Leave, now);
            }
            // Goes on when everything has been let go of, or LeaveGroup has been answered.
            Phase::Releasing(_) | Phase::Leaving(_) => {}
            // A consumer that closes commits what it kept during the rebalance, which it can once that is over.
            Phase::Waiting(_) | Phase::Joining(_) | Phase::Assigning(_) | Phase::Syncing(_)
                if self.closing && !self.owned.is_empty() => {}
            Phase::Waiting(_) | Phase::Joining(_) | Phase::Assigning(_) | Phase::Syncing(_) => {
                self.end_membership(now);
            }
        }
    }

    /// Says goodbye, unless there is nobody to say it to. A static member keeps its place for its next start.
    fn end_membership(&mut self, now: Instant) {
        let member_id = Arc::clone(&self.member_id);
        self.lose(false);
        if member_id.is_empty() || self.config.instance_id.is_some() {
            return self.left();
        }
        let leaving = Leaving { member_id, request: None, send_at: now, attempts_left: LEAVE_ATTEMPTS };
        self.phase = Phase::Leaving(leaving);
    }

    fn say_goodbye(&mut self) {
        let reason = if self.closing { "the consumer is being closed" } else { "the consumer unsubscribed" };
        let Phase::Leaving(Leaving { member_id, .. }) = &self.phase else { return };
        let member_id = Arc::clone(member_id);
        let sent = self.send(Request::Leave(LeaveRequest { member_id, reason }));
        if let Phase::Leaving(leaving) = &mut self.phase {
            leaving.request = Some(sent);
            leaving.attempts_left = leaving.attempts_left.saturating_sub(1);
        }
    }

    /// Says goodbye once and does not wait for an answer.
    fn leave_quickly(&mut self, reason: &'static str) {
        if !self.member_id.is_empty() && self.config.instance_id.is_none() {
            let member_id = Arc::clone(&self.member_id);
            self.send(Request::Leave(LeaveRequest { member_id, reason }));
        }
    }

    fn left(&mut self) {
        self.phase = Phase::Idle;
        if self.closing {
            self.phase = Phase::Closed;
            self.outputs.push_back(Output::Left);
        } else if !self.topics.is_empty() {
            self.phase = Phase::Waiting(self.last_poll);
        }
    }

    fn abandon(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.closing = true;
        self.stalled = None;
        for commit in self.commits.drain() {
            self.commit_timed_out(&commit);
        }
        self.end_membership(now);
        if let Phase::Leaving(leaving) = &self.phase {
            // One last try, on which nobody waits.
            if leaving.request.is_none() {
                self.say_goodbye();
            }
            self.left();
        }
    }
}
