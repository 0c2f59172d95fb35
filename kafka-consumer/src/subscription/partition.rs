//! One partition: where it stands, and what has to come before the next fetch of it.

use std::collections::VecDeque;

use kafka_client::{NodeId, Offset, TopicId, TopicPartition};
use tokio::time::Instant;

use super::plan::Leader;
use crate::buffer::Run;
use crate::error::{Error, ErrorKind};

/// A place in the log that is to be looked up, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Reading begins there, by the caller's wish.
    Begin(Offset),
    /// The position is of no use any more, and the policy says so.
    Reset(Offset),
}

impl Place {
    pub(super) fn offset(self) -> Offset {
        match self {
            Self::Begin(offset) | Self::Reset(offset) => offset,
        }
    }

    pub(super) fn or_latest(self) -> Self {
        match self {
            Self::Begin(_) => Self::Begin(Offset::Latest),
            Self::Reset(_) => Self::Reset(Offset::Latest),
        }
    }
}

/// What stands before a partition can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The group's committed offset is to be asked for.
    NeedsCommitted,
    /// A place in the log is to be looked up.
    NeedsPlace(Place),
    /// The broker said that the end of what is buffered is outside; the current leader is to confirm it.
    NeedsEnds,
    /// Nothing can be read behind what is buffered; that is good, and handed out before anything else is done.
    Draining,
    /// There is a new leader, which may lack what was read.
    NeedsValidation,
    Fetching,
    /// An error was handed to the caller, who is to seek.
    Stuck,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: TopicPartition,
    /// The first version, which names the assignment.
    pub(super) assigned: u64,
    pub(super) version: u64,
    pub(super) state: State,
    /// A lookup is under way; fetches are counted per node by the fetcher.
    pub(super) asking: bool,
    pub(super) retry_at: Option<Instant>,
    pub(super) position: i64,
    pub(super) position_epoch: Option<i32>,
    pub(super) fetch_offset: i64,
    pub(super) fetch_epoch: Option<i32>,
    /// The newest leader epoch under which the position is known to be good.
    pub(super) leader_epoch: Option<i32>,
    /// The topic that the position is in: one of the same name may be another. Zero while that is open.
    pub(super) topic_id: TopicId,
    pub(super) preferred: Option<(NodeId, Instant)>,
    pub(super) paused: bool,
    pub(super) revoking: bool,
    /// What was handed out to a caller who may not be done with it yet.
    pub(super) handed: Option<(i64, Option<i32>)>,
    /// What an automatic commit may say: the caller is done with everything before it.
    pub(super) acked: Option<(i64, Option<i32>)>,
    /// The last of these that was told to be committed.
    pub(super) told: Option<i64>,
    /// The last gap that was stepped over: who is done with what is before it is done with it, too.
    gap: Option<(i64, i64)>,
    pub(super) high_watermark: Option<i64>,
    pub(super) last_stable_offset: Option<i64>,
    pub(super) runs: VecDeque<Run>,
    pub(super) queued_bytes: usize,
    /// Its reader waits for something to read.
    pub(super) awaited: bool,
    /// Others needed the room more: it is not fetched until what it has was read.
    pub(super) is_resting: bool,
    pub(super) listed: bool,
    pub(super) error: Option<Error>,
}

impl Partition {
    pub(super) fn new(name: TopicPartition, version: u64) -> Self {
        Self {
            name,
            assigned: version,
            version,
            state: State::NeedsCommitted,
            asking: false,
            retry_at: None,
            position: -1,
            position_epoch: None,
            fetch_offset: -1,
            fetch_epoch: None,
            leader_epoch: None,
            topic_id: TopicId::ZERO,
            preferred: None,
            paused: false,
            revoking: false,
            handed: None,
            acked: None,
            told: None,
            gap: None,
            high_watermark: None,
            last_stable_offset: None,
            runs: VecDeque::new(),
            queued_bytes: 0,
            awaited: false,
            is_resting: false,
            listed: false,
            error: None,
        }
    }

    /// Begins without a committed offset.
    pub(super) fn start(&mut self, at: Option<Offset>) {
        match at {
            Some(Offset::At(offset)) => self.begin_at(offset, None),
            Some(place) => self.state = State::NeedsPlace(Place::Begin(place)),
            None => self.fail(ErrorKind::NoOffset(self.name.clone())),
        }
    }

    pub(super) fn known_position(&self) -> Option<i64> {
        (self.position >= 0).then_some(self.position)
    }

    /// Whether there is something for a reader.
    pub(super) fn is_ready(&self) -> bool {
        (!self.runs.is_empty() || self.error.is_some()) && !self.paused && !self.revoking
    }

    /// Takes a position as given; whether the leader still has it is found out before the first fetch.
    pub(super) fn stand_at(&mut self, offset: i64, epoch: Option<i32>) {
        self.position = offset;
        self.position_epoch = epoch;
        self.fetch_offset = offset;
        self.fetch_epoch = epoch;
        self.leader_epoch = None;
        self.topic_id = TopicId::ZERO;
        self.state = State::Fetching;
        self.gap = None;
    }

    /// Takes a position that the caller chose: what lies before it is nobody's concern any more.
    pub(super) fn begin_at(&mut self, offset: i64, epoch: Option<i32>) {
        self.stand_at(offset, epoch);
        self.handed = None;
        self.acked = Some((offset, epoch));
    }

    pub(super) fn fail(&mut self, error: ErrorKind) {
        self.state = State::Stuck;
        self.error = Some(error.into());
    }

    /// Records up to `next_offset` were handed out.
    pub(super) fn advance(&mut self, next_offset: i64, epoch: Option<i32>) {
        self.position = self.position.max(next_offset);
        self.position_epoch = epoch.or(self.position_epoch);
        self.handed = Some((self.position, self.position_epoch));
    }

    /// There is nothing to hand out up to `next_offset`.
    pub(super) fn step_over(&mut self, next_offset: i64, epoch: Option<i32>) {
        let before = self.position;
        self.position = before.max(next_offset);
        self.position_epoch = epoch.or(self.position_epoch);
        let gap_start = self.gap.filter(|(_, end)| *end == before).map_or(before, |(start, _)| start);
        self.gap = Some((gap_start, self.position));
        for said in [&mut self.handed, &mut self.acked].into_iter().flatten() {
            if said.0 == before {
                *said = (self.position, self.position_epoch);
            }
        }
    }

    /// The caller is done with everything before `offset`.
    pub(super) fn ack(&mut self, offset: i64, epoch: Option<i32>) {
        let acked = match self.gap {
            Some((start, end)) if start == offset => (end, epoch),
            _ => (offset, epoch),
        };
        self.acked = Some(acked);
        self.handed = self.handed.filter(|handed| handed.0 > acked.0);
    }

    /// A newer leader may lack what was read under an older one.
    pub(super) fn meet_leader(&mut self, leader: Leader) {
        let newer = leader.epoch.is_some_and(|epoch| self.leader_epoch.is_none_or(|known| epoch > known));
        if newer {
            self.leader_epoch = leader.epoch;
            let behind = self.fetch_epoch.is_some_and(|epoch| Some(epoch) != leader.epoch);
            if self.state == State::Fetching && behind {
                self.state = State::NeedsValidation;
            }
        }
    }

    pub(super) fn read_from(
        &mut self,
        leader: NodeId,
        now: Instant,
        alive: impl Fn(NodeId) -> bool,
    ) -> NodeId {
        self.preferred = self.preferred.filter(|(node, until)| *until > now && alive(*node));
        self.preferred.map_or(leader, |(node, _)| node)
    }
}
