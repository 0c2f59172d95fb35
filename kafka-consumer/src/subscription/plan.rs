//! What to ask of the cluster next: look-ups, validations, and fetches, within the room that there is.

use std::collections::{BTreeMap, HashMap};

use kafka_client::{NodeId, Offset, TopicId, TopicPartition};
use tokio::time::{Duration, Instant};

use super::partition::{Partition, State};
use super::{Subscription, Ticket};
use crate::error::Error;

/// How often a caller is told that the cluster refuses a partition.
pub(super) const REFUSED_BACKOFF: Duration = Duration::from_secs(1);

/// Who leads a partition, as the metadata says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leader {
    pub(crate) node: NodeId,
    pub(crate) epoch: Option<i32>,
    pub(crate) topic_id: TopicId,
}

/// A partition to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct FetchEntry {
    pub(crate) ticket: Ticket,
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) last_fetched_epoch: Option<i32>,
}

/// What is to be looked up for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// One place in the log, to start from.
    Place(Offset),
    /// Both ends of the log, to see whether the position is outside.
    Ends,
}

/// A partition whose offsets are to be looked up.
#[derive(Clone, Debug)]
pub(crate) struct LookupEntry {
    pub(crate) ticket: Ticket,
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) lookup: Lookup,
}

/// A partition whose position is to be compared with the leader's log (KIP-320).
#[derive(Clone, Debug)]
pub(crate) struct ValidateEntry {
    pub(crate) ticket: Ticket,
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: Option<i32>,
    /// The epoch of the last record read.
    pub(crate) epoch: i32,
}

/// One thing to ask the cluster.
#[derive(Debug)]
pub(crate) enum Work {
    Committed(Vec<(Ticket, TopicPartition)>),
    Offsets { node: NodeId, entries: Vec<LookupEntry> },
    Validate { node: NodeId, entries: Vec<ValidateEntry> },
    Fetch { node: NodeId, entries: Vec<FetchEntry>, max_bytes: usize },
}

/// What [`Subscription::plan`] found.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) work: Vec<Work>,
    /// When to plan again if nothing else happens.
    pub(crate) wake_at: Option<Instant>,
    /// Some reader waits for a partition that there is no room for.
    is_starving: bool,
    /// Some reader is to be told of an error.
    pub(crate) has_errors: bool,
}

impl Subscription {
    /// What to ask now. `busy` are the nodes with a fetch under way, and how many bytes each may bring; `leader` and
    /// `alive` read the metadata, which may say that a topic is refused.
    pub(crate) fn plan(
        &mut self,
        now: Instant,
        busy: &HashMap<NodeId, usize>,
        leader: impl Fn(&TopicPartition) -> Result<Leader, Option<Error>>,
        alive: impl Fn(NodeId) -> bool,
    ) -> Plan {
        let under_way = busy.values().sum();
        let mut plan = self.look(now, busy, self.room(under_way), &leader, &alive);
        if plan.is_starving && self.make_room(under_way) {
            let more = self.look(now, busy, self.room(under_way), &leader, &alive);
            plan.work.extend(more.work);
            plan.has_errors |= more.has_errors;
            plan.wake_at = plan.wake_at.into_iter().chain(more.wake_at).min();
        }
        plan
    }

    fn look(
        &mut self,
        now: Instant,
        busy: &HashMap<NodeId, usize>,
        room: usize,
        leader: &impl Fn(&TopicPartition) -> Result<Leader, Option<Error>>,
        alive: &impl Fn(NodeId) -> bool,
    ) -> Plan {
        let low_water = self.low_water();
        let mut plan = Plan::default();
        let mut committed = Vec::new();
        let mut lookups: BTreeMap<NodeId, Vec<LookupEntry>> = BTreeMap::new();
        let mut validations: BTreeMap<NodeId, Vec<ValidateEntry>> = BTreeMap::new();
        let mut fetches: BTreeMap<NodeId, Vec<FetchEntry>> = BTreeMap::new();
        let mut refused = Vec::new();
        self.cramped = false;
        for (slot, partition) in self.slots.iter_mut().enumerate() {
            let Some(partition) = partition else { continue };
            if partition.asking || partition.revoking || partition.state == State::Stuck {
                continue;
            }
            if let Some(at) = partition.retry_at {
                if at > now {
                    plan.wake_at = Some(plan.wake_at.map_or(at, |wake| wake.min(at)));
                    continue;
                }
                partition.retry_at = None;
            }
            let ticket = Ticket { slot, version: partition.version };
            if partition.state == State::NeedsCommitted {
                partition.asking = true;
                committed.push((ticket, partition.name.clone()));
                continue;
            }
            let leader = match leader(&partition.name) {
                Ok(leader) => leader,
                Err(None) => continue,
                Err(Some(error)) => {
                    let again = now + REFUSED_BACKOFF;
                    partition.retry_at = Some(again);
                    plan.wake_at = Some(plan.wake_at.map_or(again, |wake| wake.min(again)));
                    if partition.error.is_none() && partition.runs.is_empty() {
                        partition.error = Some(error);
                        refused.push(slot);
                    }
                    continue;
                }
            };
            partition.meet_leader(leader);
            if partition.state == State::Draining && partition.position >= partition.fetch_offset {
                // Whatever was wrong there is told again, and is not in the way of anything now.
                partition.state = State::Fetching;
            }
            if partition.state == State::NeedsValidation && partition.fetch_epoch.is_none() {
                // Nothing was read that the leader could lack.
                partition.state = State::Fetching;
            }
            match partition.state {
                State::NeedsPlace(_) | State::NeedsEnds => {
                    partition.asking = true;
                    lookups.entry(leader.node).or_default().push(LookupEntry {
                        ticket,
                        partition: partition.name.clone(),
                        leader_epoch: leader.epoch,
                        lookup: match partition.state {
                            State::NeedsPlace(place) => Lookup::Place(place.offset()),
                            _ => Lookup::Ends,
                        },
                    });
                }
                State::NeedsValidation => {
                    partition.asking = true;
                    validations.entry(leader.node).or_default().push(ValidateEntry {
                        ticket,
                        partition: partition.name.clone(),
                        leader_epoch: leader.epoch,
                        epoch: partition.fetch_epoch.unwrap_or(-1),
                    });
                }
                State::Fetching => {
                    let node = partition.read_from(leader.node, now, alive);
                    let starves = partition.runs.is_empty() && (partition.awaited || self.awaited);
                    if busy.contains_key(&node) || !partition.wants_more(low_water, starves) {
                        continue;
                    }
                    if room == 0 {
                        self.cramped = true;
                        plan.is_starving |= starves;
                        continue;
                    }
                    fetches.entry(node).or_default().push(FetchEntry {
                        ticket,
                        partition: partition.name.clone(),
                        topic_id: leader.topic_id,
                        offset: partition.fetch_offset,
                        leader_epoch: leader.epoch,
                        last_fetched_epoch: partition.fetch_epoch,
                    });
                }
                State::NeedsCommitted | State::Draining | State::Stuck => {}
            }
        }
        plan.has_errors = !refused.is_empty();
        refused.into_iter().for_each(|slot| self.list_if_ready(slot));
        if !committed.is_empty() {
            plan.work.push(Work::Committed(committed));
        }
        plan.work.extend(lookups.into_iter().map(|(node, entries)| Work::Offsets { node, entries }));
        plan.work.extend(validations.into_iter().map(|(node, entries)| Work::Validate { node, entries }));
        // However little room there is, a partition's share fits: or it would never be read.
        let least = self.settings.partition_bytes.min(self.settings.answer_bytes);
        let max_bytes = (room / fetches.len().max(1)).min(self.settings.answer_bytes).max(least);
        let fetches = fetches.into_iter();
        plan.work.extend(fetches.map(|(node, entries)| Work::Fetch { node, entries, max_bytes }));
        plan
    }

    pub(super) fn low_water(&self) -> usize {
        self.settings.partition_bytes.min(self.settings.max_buffered).max(1)
    }

    /// Bytes that may still be fetched.
    fn room(&self, under_way: usize) -> usize {
        self.settings.max_buffered.saturating_sub(self.held.bytes()).saturating_sub(under_way)
    }

    /// Frees what those hold that nobody waits for (paused ones, and those whose readers are slow), so that they cannot
    /// keep the others from being read. Returns whether there is room now.
    fn make_room(&mut self, under_way: usize) -> bool {
        if self.held.bytes() / 2 >= self.buffered {
            // Small parts keep large answers.
            for partition in self.slots.iter_mut().flatten() {
                partition.runs.iter_mut().for_each(|run| run.detach(&self.held));
            }
        }
        let wanted = self.settings.partition_bytes.min(self.settings.max_buffered);
        while self.room(under_way) < wanted && self.evict() {}
        self.room(under_way) > 0
    }

    /// Drops the end of what a partition has buffered; it is fetched again when the rest was read.
    fn evict(&mut self) -> bool {
        let candidates = self.slots.iter().enumerate().filter_map(|(slot, partition)| {
            let partition =
                partition.as_ref().filter(|p| !p.runs.is_empty() && p.state == State::Fetching)?;
            Some((partition.paused, partition.queued_bytes, slot))
        });
        let Some((_, _, slot)) = candidates.max() else { return false };
        let Some(partition) = self.slots[slot].as_mut() else { return false };
        let Some(run) = partition.runs.pop_back() else { return false };
        let bytes = run.bytes();
        let (start, epoch) = run.start();
        partition.queued_bytes -= bytes;
        partition.fetch_offset = start.max(partition.position);
        partition.fetch_epoch = epoch;
        partition.is_resting = true;
        self.buffered -= bytes;
        if !partition.is_ready() {
            self.unlist(slot);
        }
        true
    }
}

impl Partition {
    fn wants_more(&self, low_water: usize, starves: bool) -> bool {
        let may = !self.paused && self.error.is_none() && self.queued_bytes < low_water;
        may && (starves || !self.is_resting)
    }
}
