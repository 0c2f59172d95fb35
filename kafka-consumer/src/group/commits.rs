//! Commits on their way: decides which offsets the next OffsetCommit carries, and who hears of its answer.
//!
//! One request is in flight at a time and later commits wait behind it, so that an old offset, tried again, can never
//! overwrite a newer one. What waits travels together in the next request.

use std::collections::VecDeque;
use std::time::Instant;

use fastrand::Rng;
use kafka_client::raw::Backoff;
use kafka_client::types::{OffsetAndMetadata, TopicPartition};

use super::interface::Offsets;
use super::messages::RequestId;

/// The caller's own number for a commit; its outcome carries it back.
pub(crate) type CommitId = u64;

/// Offsets to be committed.
#[derive(Debug)]
pub(super) struct Commit {
    /// Who wants to hear of it.
    pub(super) caller: Option<CommitId>,
    pub(super) offsets: Offsets,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// Ascends in the order in which commits were made.
    place: u64,
}

impl Commit {
    pub(super) fn new(caller: Option<CommitId>, offsets: Offsets, since: Instant, deadline: Instant) -> Self {
        Self { caller, offsets, since, deadline, place: 0 }
    }
}

/// All commits that have no outcome yet.
#[derive(Debug)]
pub(super) struct Commits {
    waiting: VecDeque<Commit>,
    in_flight: Option<(RequestId, Vec<Commit>)>,
    retry_at: Option<Instant>,
    backoff: Backoff,
    last_place: u64,
    flush_to: u64,
}

impl Commits {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: None,
            retry_at: None,
            backoff,
            last_place: 0,
            flush_to: 0,
        }
    }

    pub(super) fn push(&mut self, commit: Commit) {
        self.last_place += 1;
        self.waiting.push_back(Commit { place: self.last_place, ..commit });
    }

    /// Whether every commit has its outcome, and nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_in_flight() && self.waiting.is_empty()
    }

    /// Whether a request is out.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Marks what there is now as what [`is_flushed`](Self::is_flushed) waits for; later commits do not prolong it.
    pub(super) fn flush(&mut self) {
        self.flush_to = self.last_place;
    }

    /// Whether everything marked has its outcome, and nothing is in flight.
    pub(super) fn is_flushed(&self) -> bool {
        !self.is_in_flight() && self.waiting.front().is_none_or(|commit| commit.place > self.flush_to)
    }

    /// The offsets for the next request, if there are any and it is time.
    pub(super) fn send(
        &mut self,
        request: RequestId,
        now: Instant,
    ) -> Option<Vec<(TopicPartition, OffsetAndMetadata)>> {
        let due = self.retry_at.is_none_or(|at| at <= now);
        if self.is_in_flight() || self.waiting.is_empty() || !due {
            return None;
        }
        self.retry_at = None;
        let commits: Vec<Commit> = self.waiting.drain(..).collect();
        let mut offsets = Offsets::new();
        for commit in &commits {
            offsets
                .extend(commit.offsets.iter().map(|(partition, offset)| (partition.clone(), offset.clone())));
        }
        self.in_flight = Some((request, commits));
        Some(offsets.into_iter().collect())
    }

    /// The commits that this answer is about; none if the request has been given up.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<Vec<Commit>> {
        let (_, commits) = self.in_flight.take_if(|(in_flight, _)| *in_flight == request)?;
        Some(commits)
    }

    /// The way to the coordinator is good again.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Sends these again, before all others, after a while.
    pub(super) fn retry(&mut self, commits: Vec<Commit>, now: Instant, random: &mut Rng) {
        for commit in commits.into_iter().rev() {
            self.waiting.push_front(commit);
        }
        self.retry_at = Some(now + self.backoff.next(random));
    }

    /// Takes out the commits that can wait no longer. One that was sent may take effect all the same, so the older ones
    /// that still wait take over its offsets: sent again, they must not undo it.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Commit> {
        let mut expired = self.remove(|commit| commit.deadline <= now);
        if let Some((_, commits)) = &mut self.in_flight {
            expired.extend(commits.extract_if(.., |commit| commit.deadline <= now));
        }
        expired.sort_by_key(|commit| commit.place);
        let in_flight = self.in_flight.iter_mut().flat_map(|(_, commits)| commits);
        for older in in_flight.chain(&mut self.waiting) {
            for newer in expired.iter().filter(|newer| newer.place > older.place) {
                for (partition, offset) in &mut older.offsets {
                    if let Some(newer) = newer.offsets.get(partition) {
                        offset.clone_from(newer);
                    }
                }
            }
        }
        expired
    }

    /// Takes out the waiting commits for which `hopeless` holds.
    pub(super) fn remove(&mut self, hopeless: impl Fn(&Commit) -> bool) -> Vec<Commit> {
        let (gone, kept): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(hopeless);
        self.waiting.extend(kept);
        gone
    }

    /// Gives everything up, also what is in flight.
    pub(super) fn drain(&mut self) -> Vec<Commit> {
        self.retry_at = None;
        let in_flight = self.in_flight.take().into_iter().flat_map(|(_, commits)| commits);
        in_flight.chain(self.waiting.drain(..)).collect()
    }

    /// The next instant at which time alone changes something here; `open` says whether a request may be sent at all.
    pub(super) fn poll_timeout(&self, open: bool) -> Option<Instant> {
        let in_flight = self.in_flight.iter().flat_map(|(_, commits)| commits);
        let deadlines = in_flight.chain(&self.waiting).map(|commit| commit.deadline);
        let retry = self.retry_at.filter(|_| open && !self.waiting.is_empty() && !self.is_in_flight());
        deadlines.chain(retry).min()
    }
}
