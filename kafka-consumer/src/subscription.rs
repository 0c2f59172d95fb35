//! Where the consumer stands in each of its partitions, and what has to be asked of the cluster next. Pure: no I/O.
//!
//! Two offsets matter. `position` is the next record to hand out and moves only when something is handed out, so that a
//! commit means "everything that was given". `fetch_offset` is the end of what is buffered behind it. Every change that
//! makes older answers meaningless (seek, reset, assignment) gives the partition a new `version`; answers and readers
//! that carry another one are stale and change nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use kafka_client::{NodeId, Offset, OffsetAndMetadata, TopicId, TopicPartition};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::RawBatch;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// How long a broker's advice to read from a closer replica holds (Java: `metadata.max.age.ms`).
const PREFERRED_REPLICA_AGE: Duration = Duration::from_secs(300);
/// How long a partition rests after data that cannot be read, so that a bad batch is no busy loop.
const CORRUPT_BACKOFF: Duration = Duration::from_millis(100);

/// What the caller chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where to start without a committed offset; `None` is a typed error.
    pub(crate) start_at: Option<Offset>,
    /// Where to go when the position is outside the log or truncated; `None` is a typed error.
    pub(crate) out_of_range: Option<Offset>,
    /// A partition with this many bytes buffered is not fetched again.
    pub(crate) low_water: usize,
    /// All partitions together buffer no more than about this.
    pub(crate) max_buffered: usize,
    pub(crate) retry_backoff: Duration,
}

/// Who leads a partition, as the metadata says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leader {
    pub(crate) node: NodeId,
    pub(crate) epoch: Option<i32>,
    pub(crate) topic_id: TopicId,
}

/// Names a partition at one version: what answers and readers carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    slot: usize,
    version: u64,
}

#[cfg(test)]
impl Claim {
    pub(crate) fn for_test(slot: usize, assigned: u64) -> Self {
        Self { slot, assigned }
    }
}

#[cfg(test)]
impl Ticket {
    pub(crate) fn for_test(slot: usize, version: u64) -> Self {
        Self { slot, version }
    }
}

/// Names a partition from its assignment to its revocation, seeks in between notwithstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    slot: usize,
    assigned: u64,
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
    pub(crate) log_start: i64,
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
    Fetch { node: NodeId, entries: Vec<FetchEntry> },
}

/// What [`Subscription::plan`] found.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) work: Vec<Work>,
    /// When to plan again if nothing else happens.
    pub(crate) wake_at: Option<Instant>,
    /// Some partition has no known leader: ask for metadata.
    pub(crate) leader_missing: bool,
}

/// What stands before a partition can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The group's committed offset is to be asked for.
    NeedsCommitted,
    /// A place in the log is to be looked up.
    NeedsPlace(Offset),
    /// The broker said that the position is outside; the current leader is to confirm it.
    NeedsEnds,
    /// There is a new leader, which may lack what was read.
    NeedsValidation,
    Fetching,
    /// An error was handed to the caller, who is to seek.
    Stuck,
}

/// A run of the log: a batch, or a gap (aborted data, control records) to step over.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) batch: Option<RawBatch>,
    pub(crate) next_offset: i64,
    pub(crate) leader_epoch: Option<i32>,
}

impl Queued {
    fn bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes.len())
    }
}

/// What a reader takes out of the buffer.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) ticket: Ticket,
    pub(crate) partition: TopicPartition,
    pub(crate) queued: Queued,
    /// The partition has fallen below its low-water mark by this: the fetcher has something to do.
    pub(crate) wake_fetcher: bool,
}

/// Whether a reader may hand out what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Yes; the position before it is this.
    Yes(i64),
    /// The partition was sought, revoked or reset meanwhile: drop it.
    Stale,
    /// The partition was paused meanwhile: give it back.
    Paused,
}

#[derive(Debug)]
struct Partition {
    name: TopicPartition,
    /// The first version, which names the assignment.
    assigned: u64,
    version: u64,
    state: State,
    /// A lookup is under way; fetches are counted per node by the fetcher.
    asking: bool,
    retry_at: Option<Instant>,
    position: i64,
    position_epoch: Option<i32>,
    fetch_offset: i64,
    fetch_epoch: Option<i32>,
    /// The newest leader epoch under which the position is known to be good.
    leader_epoch: Option<i32>,
    preferred: Option<(NodeId, Instant)>,
    paused: bool,
    revoking: bool,
    /// What an automatic commit may say: handed out *and* done with.
    acked: Option<(i64, Option<i32>)>,
    /// The last of these that was told to be committed.
    told: Option<i64>,
    /// Where reading began, to come back to if nothing was acknowledged.
    started: Option<(i64, Option<i32>)>,
    high_watermark: Option<i64>,
    last_stable_offset: Option<i64>,
    log_start: i64,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    listed: bool,
    error: Option<Error>,
}

/// The partitions of one consumer.
#[derive(Debug)]
pub(crate) struct Subscription {
    settings: Settings,
    slots: Vec<Option<Partition>>,
    index: HashMap<TopicPartition, usize>,
    /// Slots with something to hand out, in turn.
    ready: VecDeque<usize>,
    versions: u64,
    buffered: usize,
}

impl Subscription {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            slots: Vec::new(),
            index: HashMap::new(),
            ready: VecDeque::new(),
            versions: 0,
            buffered: 0,
        }
    }

    // --- assignment -------------------------------------------------------------------------------------------------

    /// Adds partitions; `committed` says whether a group may have an offset for them. Known ones are left alone.
    pub(crate) fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>, committed: bool) {
        for name in partitions {
            if self.index.contains_key(&name) {
                continue;
            }
            let version = self.next_version();
            let mut partition = Partition {
                name: name.clone(),
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
                preferred: None,
                paused: false,
                revoking: false,
                acked: None,
                started: None,
                told: None,
                high_watermark: None,
                last_stable_offset: None,
                log_start: -1,
                queue: VecDeque::new(),
                queued_bytes: 0,
                listed: false,
                error: None,
            };
            if !committed {
                start(&mut partition, self.settings.start_at);
            }
            let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
            if slot == self.slots.len() {
                self.slots.push(None);
            }
            self.slots[slot] = Some(partition);
            self.index.insert(name, slot);
            self.list_if_ready(slot);
        }
    }

    /// Forgets partitions and all that is buffered of them.
    pub(crate) fn unassign<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for name in partitions {
            if let Some(slot) = self.index.remove(name)
                && let Some(partition) = self.slots[slot].take()
            {
                self.buffered -= partition.queued_bytes;
                self.ready.retain(|ready| *ready != slot);
            }
        }
    }

    /// Stops fetching and handing out these partitions, whose revocation is under way; their positions stay readable.
    pub(crate) fn start_revoking<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for name in partitions {
            if let Some(slot) = self.index.get(name).copied() {
                self.drop_buffer(slot);
                if let Some(partition) = self.slots[slot].as_mut() {
                    partition.revoking = true;
                }
            }
        }
    }

    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        let mut all: Vec<_> = self.index.keys().cloned().collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn claim(&self, partition: &TopicPartition) -> Option<Claim> {
        let slot = *self.index.get(partition)?;
        Some(Claim { slot, assigned: self.slots[slot].as_ref()?.assigned })
    }

    /// The claim that a ticket falls under.
    pub(crate) fn claim_of(&self, ticket: Ticket) -> Option<Claim> {
        let partition = self.slots.get(ticket.slot)?.as_ref()?;
        Some(Claim { slot: ticket.slot, assigned: partition.assigned })
    }

    /// Whether the partition is assigned as it was then, and not being revoked.
    pub(crate) fn is_assigned(&self, claim: Claim) -> bool {
        self.slots
            .get(claim.slot)
            .and_then(Option::as_ref)
            .is_some_and(|p| p.assigned == claim.assigned && !p.revoking)
    }

    // --- what callers ask and say -----------------------------------------------------------------------------------

    /// Moves the position; a place that is no number is looked up first.
    pub(crate) fn seek(
        &mut self,
        name: &TopicPartition,
        to: Offset,
        epoch: Option<i32>,
    ) -> Result<(), Error> {
        let slot = self.slot(name)?;
        self.renew(slot);
        let Some(partition) = self.slots[slot].as_mut() else { return Ok(()) };
        match to {
            Offset::At(offset) => partition.stand_at(offset, epoch),
            place => {
                partition.state = State::NeedsPlace(place);
                partition.position = -1;
            }
        }
        Ok(())
    }

    pub(crate) fn pause(&mut self, name: &TopicPartition) -> Result<(), Error> {
        let slot = self.slot(name)?;
        if let Some(partition) = self.slots[slot].as_mut() {
            partition.paused = true;
            partition.listed = false;
        }
        self.ready.retain(|ready| *ready != slot);
        Ok(())
    }

    pub(crate) fn resume(&mut self, name: &TopicPartition) -> Result<(), Error> {
        let slot = self.slot(name)?;
        if let Some(partition) = self.slots[slot].as_mut() {
            partition.paused = false;
        }
        self.list_if_ready(slot);
        Ok(())
    }

    pub(crate) fn paused(&self) -> Vec<TopicPartition> {
        let mut paused: Vec<_> =
            self.slots.iter().flatten().filter(|p| p.paused).map(|p| p.name.clone()).collect();
        paused.sort_unstable();
        paused
    }

    /// The position, once it is known.
    pub(crate) fn position(&self, name: &TopicPartition) -> Result<Option<i64>, Error> {
        let slot = self.slot(name)?;
        Ok(self.slots[slot].as_ref().and_then(Partition::known_position))
    }

    /// Everything that was handed out, as a commit says it.
    pub(crate) fn positions(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.slots
            .iter()
            .flatten()
            .filter_map(|p| Some((p.name.clone(), offset_and_epoch(p.known_position()?, p.position_epoch))))
            .collect()
    }

    /// Everything that was handed out and is done with, of all partitions or of some.
    pub(crate) fn acked(
        &self,
        only: Option<&[TopicPartition]>,
    ) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.slots
            .iter()
            .flatten()
            .filter(|p| only.is_none_or(|only| only.contains(&p.name)))
            .filter_map(|p| p.acked.map(|(offset, epoch)| (p.name.clone(), offset_and_epoch(offset, epoch))))
            .collect()
    }

    /// As [`acked`](Self::acked), without what this told before.
    pub(crate) fn acked_since_last(&mut self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let mut news = BTreeMap::new();
        for partition in self.slots.iter_mut().flatten() {
            if let Some((offset, epoch)) = partition.acked
                && partition.told.replace(offset) != Some(offset)
            {
                news.insert(partition.name.clone(), offset_and_epoch(offset, epoch));
            }
        }
        news
    }

    /// The caller is done with everything before the partition's position.
    pub(crate) fn ack_position(&mut self, ticket: Ticket) {
        if let Some(partition) = self.at(ticket)
            && let Some(position) = partition.known_position()
        {
            partition.acked = Some((position, partition.position_epoch));
        }
    }

    /// The caller is done with everything before `offset`, which may be behind the position.
    pub(crate) fn ack_claim(&mut self, claim: Claim, offset: i64, epoch: Option<i32>) {
        let partition = self.slots.get_mut(claim.slot).and_then(Option::as_mut);
        if let Some(partition) = partition.filter(|partition| partition.assigned == claim.assigned) {
            partition.acked = Some((offset, epoch));
        }
    }

    /// Goes back to what the caller was done with last, for another reader to begin there.
    pub(crate) fn rewind(&mut self, claim: Claim) {
        let partition = self.slots.get(claim.slot).and_then(Option::as_ref);
        if let Some(partition) = partition.filter(|partition| partition.assigned == claim.assigned)
            && let Some((offset, epoch)) = partition.acked.or(partition.started)
        {
            let name = partition.name.clone();
            let _ = self.seek(&name, Offset::At(offset), epoch);
        }
    }

    /// The partitions that may be read, with their claims.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (Claim, &TopicPartition)> {
        self.slots.iter().enumerate().filter_map(|(slot, partition)| {
            let partition = partition.as_ref().filter(|partition| !partition.revoking)?;
            Some((Claim { slot, assigned: partition.assigned }, &partition.name))
        })
    }

    /// Records between the position and the end that this isolation level sees, once both are known.
    pub(crate) fn lag(&self, name: &TopicPartition, committed_only: bool) -> Result<Option<i64>, Error> {
        let slot = self.slot(name)?;
        Ok(self.slots[slot].as_ref().and_then(|p| {
            let end = if committed_only { p.last_stable_offset } else { p.high_watermark };
            Some((end? - p.known_position()?).max(0))
        }))
    }

    /// Bytes fetched and not handed out.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    // --- readers ----------------------------------------------------------------------------------------------------

    /// The next thing to hand out of any partition; errors come in their partition's turn.
    pub(crate) fn take(&mut self) -> Option<Result<Taken, Error>> {
        while let Some(slot) = self.ready.pop_front() {
            if let Some(partition) = self.slots[slot].as_mut() {
                partition.listed = false;
            }
            if let Some(taken) = self.take_slot(slot) {
                self.list_if_ready(slot);
                return Some(taken);
            }
        }
        None
    }

    /// The next thing to hand out of one partition.
    pub(crate) fn take_from(&mut self, claim: Claim) -> Option<Result<Taken, Error>> {
        self.is_assigned(claim).then(|| self.take_slot(claim.slot)).flatten()
    }

    fn take_slot(&mut self, slot: usize) -> Option<Result<Taken, Error>> {
        let partition = self.slots[slot].as_mut().filter(|p| !p.paused && !p.revoking)?;
        let Some(queued) = partition.queue.pop_front() else { return partition.error.take().map(Err) };
        let before = partition.queued_bytes;
        let full = self.buffered >= self.settings.max_buffered;
        partition.queued_bytes -= queued.bytes();
        self.buffered -= queued.bytes();
        let low_water = self.settings.low_water;
        Some(Ok(Taken {
            ticket: Ticket { slot, version: partition.version },
            partition: partition.name.clone(),
            queued,
            wake_fetcher: full || (before >= low_water && partition.queued_bytes < low_water),
        }))
    }

    /// Whether what was taken under `ticket` may be handed out now.
    pub(crate) fn turn(&self, ticket: Ticket) -> Turn {
        match self.slots.get(ticket.slot).and_then(Option::as_ref) {
            Some(partition) if partition.version == ticket.version && !partition.revoking => {
                if partition.paused { Turn::Paused } else { Turn::Yes(partition.position) }
            }
            _ => Turn::Stale,
        }
    }

    /// Everything before `next_offset` has been handed out.
    pub(crate) fn advance(&mut self, ticket: Ticket, next_offset: i64, epoch: Option<i32>) {
        if let Some(partition) = self.at(ticket) {
            partition.started = partition.started.or(Some((partition.position, partition.position_epoch)));
            partition.position = partition.position.max(next_offset);
            partition.position_epoch = epoch.or(partition.position_epoch);
        }
    }

    /// An error that a reader met too early waits for its turn.
    pub(crate) fn put_off(&mut self, ticket: Ticket, error: Error) {
        if let Some(partition) = self.at(ticket) {
            partition.error = Some(error);
            self.list_if_ready(ticket.slot);
        }
    }

    /// Puts back what a reader took and could not hand out.
    pub(crate) fn give_back(&mut self, ticket: Ticket, queued: Queued) {
        let bytes = queued.bytes();
        if let Some(partition) = self.at(ticket) {
            partition.queue.push_front(queued);
            partition.queued_bytes += bytes;
            self.buffered += bytes;
            self.list_if_ready(ticket.slot);
        }
    }

    /// A batch cannot be read: the position stays, what is buffered goes, and after a pause it is fetched again.
    pub(crate) fn corrupt(&mut self, ticket: Ticket, now: Instant) {
        if self.at(ticket).is_none() {
            return;
        }
        self.renew(ticket.slot);
        if let Some(partition) = self.slots[ticket.slot].as_mut() {
            partition.retry_at = Some(now + CORRUPT_BACKOFF.max(self.settings.retry_backoff));
        }
    }

    // --- the fetcher ------------------------------------------------------------------------------------------------

    /// What to ask now. `busy` are the nodes with a fetch under way; `leader` and `alive` read the metadata.
    pub(crate) fn plan(
        &mut self,
        now: Instant,
        busy: &HashSet<NodeId>,
        leader: impl Fn(&TopicPartition) -> Option<Leader>,
        alive: impl Fn(NodeId) -> bool,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut committed = Vec::new();
        let mut lookups: BTreeMap<NodeId, Vec<LookupEntry>> = BTreeMap::new();
        let mut validations: BTreeMap<NodeId, Vec<ValidateEntry>> = BTreeMap::new();
        let mut fetches: BTreeMap<NodeId, Vec<FetchEntry>> = BTreeMap::new();
        let room = self.buffered < self.settings.max_buffered;
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
            let Some(leader) = leader(&partition.name) else {
                plan.leader_missing = true;
                continue;
            };
            partition.meet_leader(leader);
            match partition.state {
                State::NeedsPlace(_) | State::NeedsEnds => {
                    partition.asking = true;
                    lookups.entry(leader.node).or_default().push(LookupEntry {
                        ticket,
                        partition: partition.name.clone(),
                        leader_epoch: leader.epoch,
                        lookup: match partition.state {
                            State::NeedsPlace(place) => Lookup::Place(place),
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
                    let node = partition.read_from(leader.node, now, &alive);
                    if room
                        && !partition.paused
                        && !busy.contains(&node)
                        && partition.queued_bytes < self.settings.low_water
                        && partition.error.is_none()
                    {
                        fetches.entry(node).or_default().push(FetchEntry {
                            ticket,
                            partition: partition.name.clone(),
                            topic_id: leader.topic_id,
                            offset: partition.fetch_offset,
                            leader_epoch: leader.epoch,
                            last_fetched_epoch: partition.fetch_epoch,
                            log_start: -1,
                        });
                    }
                }
                State::NeedsCommitted | State::Stuck => {}
            }
        }
        if !committed.is_empty() {
            plan.work.push(Work::Committed(committed));
        }
        plan.work.extend(lookups.into_iter().map(|(node, entries)| Work::Offsets { node, entries }));
        plan.work.extend(validations.into_iter().map(|(node, entries)| Work::Validate { node, entries }));
        plan.work.extend(fetches.into_iter().map(|(node, entries)| Work::Fetch { node, entries }));
        plan
    }

    /// The group's committed offset, `None` if it has none.
    pub(crate) fn committed(&mut self, ticket: Ticket, offset: Option<OffsetAndMetadata>) {
        let start_at = self.settings.start_at;
        let Some(partition) = self.answered(ticket) else { return };
        match offset {
            Some(committed) if committed.offset >= 0 => {
                partition.stand_at(committed.offset, committed.leader_epoch);
                partition.acked = Some((committed.offset, committed.leader_epoch));
                partition.told = Some(committed.offset);
            }
            _ => start(partition, start_at),
        }
        self.list_if_ready(ticket.slot);
    }

    /// The offset of the place that was looked up.
    pub(crate) fn place_found(&mut self, ticket: Ticket, offset: i64, epoch: Option<i32>) {
        if let Some(partition) = self.answered(ticket) {
            if offset < 0 {
                // No record is as late as the timestamp that was asked for: start at the end.
                partition.state = State::NeedsPlace(Offset::Latest);
            } else {
                partition.stand_at(offset, epoch);
                // A fresh answer of the current leader needs no validation.
                partition.position_epoch = None;
                partition.fetch_epoch = None;
            }
        }
    }

    /// Both ends of the log, asked for because a broker called the position out of range.
    pub(crate) fn ends_found(&mut self, ticket: Ticket, earliest: i64, latest: i64, now: Instant) {
        let Settings { out_of_range, retry_backoff, .. } = self.settings;
        let Some(partition) = self.answered(ticket) else { return };
        let position = partition.fetch_offset;
        if (earliest..=latest).contains(&position) {
            // The broker that refused was behind or deposed: the position was good all the time.
            partition.state = State::Fetching;
            partition.retry_at = Some(now + retry_backoff);
            return;
        }
        match out_of_range {
            Some(to) => {
                tracing::warn!(partition = %partition.name, position, earliest, latest, ?to, "position out of range");
                match to {
                    Offset::Earliest => partition.stand_at(earliest, None),
                    Offset::Latest => partition.stand_at(latest, None),
                    place => partition.state = State::NeedsPlace(place),
                }
                self.renew(ticket.slot);
            }
            None => {
                let partition_name = partition.name.clone();
                partition.fail(
                    ErrorKind::OutOfRange { partition: partition_name, position, earliest, latest }.into(),
                );
                self.list_if_ready(ticket.slot);
            }
        }
    }

    /// Where the leader's log ends for the epoch of the last record read; `None` where it does not know the epoch.
    pub(crate) fn validated(&mut self, ticket: Ticket, end: Option<(i32, i64)>) {
        let out_of_range = self.settings.out_of_range;
        let Some(partition) = self.answered(ticket) else { return };
        match end {
            Some((_, end)) if end >= partition.fetch_offset => partition.state = State::Fetching,
            _ if partition.fetch_offset > partition.position => {
                // Only what is buffered may be gone; look again from the position itself.
                self.renew(ticket.slot);
            }
            _ => {
                let position = partition.position;
                match (out_of_range, end) {
                    (Some(_), Some((epoch, end))) => {
                        tracing::warn!(partition = %partition.name, position, end, "log truncated; going back to its end");
                        partition.stand_at(end, Some(epoch));
                        partition.state = State::Fetching;
                        self.renew(ticket.slot);
                    }
                    (Some(to), None) => partition.state = State::NeedsPlace(to),
                    (None, end) => {
                        let error = ErrorKind::Truncated {
                            partition: partition.name.clone(),
                            position,
                            diverged_at: end.map(|(_, end)| end),
                        };
                        partition.fail(error.into());
                        self.list_if_ready(ticket.slot);
                    }
                }
            }
        }
    }

    /// The broker cannot validate positions; go on as before KIP-320.
    pub(crate) fn validation_unsupported(&mut self, ticket: Ticket) {
        if let Some(partition) = self.answered(ticket) {
            partition.state = State::Fetching;
        }
    }

    /// A lookup did not come through; it is asked again. Never a reason to move the position.
    pub(crate) fn lookup_failed(&mut self, ticket: Ticket, now: Instant) {
        let backoff = self.settings.retry_backoff;
        if let Some(partition) = self.answered(ticket) {
            partition.retry_at = Some(now + backoff);
        }
    }

    /// A lookup was refused for good; the caller is told, and it is asked again after a second.
    pub(crate) fn lookup_refused(&mut self, ticket: Ticket, error: Error, now: Instant) {
        if let Some(partition) = self.answered(ticket) {
            partition.error = Some(error);
            partition.retry_at = Some(now + Duration::from_secs(1));
            self.list_if_ready(ticket.slot);
        }
    }

    /// Whether an answer to a fetch from `offset` still fits; then [`push`](Self::push) its runs and
    /// [`watermarks`](Self::watermarks).
    pub(crate) fn expects(&mut self, ticket: Ticket, offset: i64) -> bool {
        self.at(ticket).is_some_and(|p| p.state == State::Fetching && !p.revoking && p.fetch_offset == offset)
    }

    /// Adds a run of the log behind what is buffered; returns whether the partition had nothing to hand out before.
    pub(crate) fn push(&mut self, ticket: Ticket, queued: Queued) -> bool {
        let Some(partition) = self.at(ticket) else { return false };
        partition.fetch_offset = partition.fetch_offset.max(queued.next_offset);
        partition.fetch_epoch = queued.leader_epoch.or(partition.fetch_epoch);
        let bytes = queued.bytes();
        match partition.queue.back_mut() {
            // A gap behind a batch is stepped over together with it.
            Some(last) if queued.batch.is_none() => last.next_offset = queued.next_offset,
            _ => partition.queue.push_back(queued),
        }
        partition.queued_bytes += bytes;
        self.buffered += bytes;
        self.list_if_ready(ticket.slot)
    }

    pub(crate) fn watermarks(&mut self, ticket: Ticket, high: i64, stable: i64, log_start: i64) {
        if let Some(partition) = self.at(ticket) {
            partition.high_watermark = (high >= 0).then_some(high);
            partition.last_stable_offset = if stable >= 0 { Some(stable) } else { partition.high_watermark };
            partition.log_start = log_start;
        }
    }

    /// The broker advises to read from a closer replica (KIP-392).
    pub(crate) fn prefer(&mut self, ticket: Ticket, node: NodeId, now: Instant) {
        if let Some(partition) = self.at(ticket) {
            partition.preferred = Some((node, now + PREFERRED_REPLICA_AGE));
        }
    }

    /// The leader told that what was fetched last is not in its log (KIP-595's diverging epoch).
    pub(crate) fn diverged(&mut self, ticket: Ticket) {
        if let Some(partition) = self.at(ticket) {
            partition.state = State::NeedsValidation;
        }
    }

    /// A broker answered a fetch of the partition with an error; returns whether the metadata may be to blame.
    pub(crate) fn fetch_failed(
        &mut self,
        ticket: Ticket,
        node: NodeId,
        code: ErrorCode,
        now: Instant,
    ) -> bool {
        let backoff = self.settings.retry_backoff;
        let Some(partition) = self.at(ticket) else { return false };
        let from_follower = partition.preferred.take().is_some_and(|(preferred, _)| preferred == node);
        let mut stale_metadata = false;
        match code {
            // A follower may be behind: ask the leader before believing it.
            ErrorCode::OFFSET_OUT_OF_RANGE if from_follower => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                partition.state = State::NeedsEnds;
                stale_metadata = true;
            }
            ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::INVALID_TOPIC_EXCEPTION => {
                partition.error = Some(ErrorKind::Refused { partition: partition.name.clone(), code }.into());
                partition.retry_at = Some(now + Duration::from_secs(1));
            }
            code => {
                partition.retry_at = Some(now + backoff);
                stale_metadata = code != ErrorCode::UNKNOWN_LEADER_EPOCH;
            }
        }
        self.list_if_ready(ticket.slot);
        stale_metadata
    }

    /// Data came that cannot be walked, or not one whole batch in it.
    pub(crate) fn fetch_corrupt(&mut self, ticket: Ticket, error: Error, now: Instant) {
        self.corrupt(ticket, now);
        if let Some(partition) = self.slots.get_mut(ticket.slot).and_then(Option::as_mut) {
            partition.error = Some(error);
            self.list_if_ready(ticket.slot);
        }
    }

    /// The way to `node` failed: partitions read from it as a follower go back to their leader.
    pub(crate) fn node_failed(
        &mut self,
        tickets: impl IntoIterator<Item = Ticket>,
        node: NodeId,
        now: Instant,
    ) {
        let backoff = self.settings.retry_backoff;
        for ticket in tickets {
            if let Some(partition) = self.at(ticket) {
                partition.retry_at = Some(now + backoff);
                partition.preferred = partition.preferred.filter(|(preferred, _)| *preferred != node);
            }
        }
    }

    // --- helpers ----------------------------------------------------------------------------------------------------

    fn slot(&self, name: &TopicPartition) -> Result<usize, Error> {
        self.index.get(name).copied().ok_or_else(|| ErrorKind::NotAssigned(name.clone()).into())
    }

    fn at(&mut self, ticket: Ticket) -> Option<&mut Partition> {
        self.slots.get_mut(ticket.slot)?.as_mut().filter(|partition| partition.version == ticket.version)
    }

    fn answered(&mut self, ticket: Ticket) -> Option<&mut Partition> {
        let partition = self.at(ticket)?;
        partition.asking = false;
        Some(partition)
    }

    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Gives the partition a new version and drops its buffer, so that nothing older counts; it goes on from its
    /// position.
    fn renew(&mut self, slot: usize) {
        let version = self.next_version();
        self.drop_buffer(slot);
        if let Some(partition) = self.slots[slot].as_mut() {
            partition.version = version;
            partition.asking = false;
            partition.error = None;
            partition.retry_at = None;
            partition.fetch_offset = partition.position;
            partition.fetch_epoch = partition.position_epoch;
        }
    }

    fn drop_buffer(&mut self, slot: usize) {
        if let Some(partition) = self.slots[slot].as_mut() {
            self.buffered -= partition.queued_bytes;
            partition.queued_bytes = 0;
            partition.queue.clear();
            if std::mem::take(&mut partition.listed) {
                self.ready.retain(|ready| *ready != slot);
            }
        }
    }

    fn list_if_ready(&mut self, slot: usize) -> bool {
        let Some(partition) = self.slots[slot].as_mut() else { return false };
        let ready = (!partition.queue.is_empty() || partition.error.is_some())
            && !partition.paused
            && !partition.revoking
            && !partition.listed;
        if ready {
            partition.listed = true;
            self.ready.push_back(slot);
        }
        ready
    }
}

impl Partition {
    fn known_position(&self) -> Option<i64> {
        (self.position >= 0).then_some(self.position)
    }

    /// Takes a position as given; whether the leader still has it is found out before the first fetch.
    fn stand_at(&mut self, offset: i64, epoch: Option<i32>) {
        self.position = offset;
        self.position_epoch = epoch;
        self.fetch_offset = offset;
        self.fetch_epoch = epoch;
        self.leader_epoch = None;
        self.state = State::Fetching;
    }

    fn fail(&mut self, error: Error) {
        self.state = State::Stuck;
        self.error = Some(error);
    }

    /// A newer leader may lack what was read under an older one.
    fn meet_leader(&mut self, leader: Leader) {
        let newer = leader.epoch.is_some_and(|epoch| self.leader_epoch.is_none_or(|known| epoch > known));
        if newer {
            self.leader_epoch = leader.epoch;
            let behind = self.fetch_epoch.is_some_and(|epoch| Some(epoch) != leader.epoch);
            if self.state == State::Fetching && behind {
                self.state = State::NeedsValidation;
            }
        }
    }

    fn read_from(&mut self, leader: NodeId, now: Instant, alive: impl Fn(NodeId) -> bool) -> NodeId {
        self.preferred = self.preferred.filter(|(node, until)| *until > now && alive(*node));
        self.preferred.map_or(leader, |(node, _)| node)
    }
}

fn start(partition: &mut Partition, at: Option<Offset>) {
    match at {
        Some(Offset::At(offset)) => partition.stand_at(offset, None),
        Some(place) => partition.state = State::NeedsPlace(place),
        None => partition.fail(ErrorKind::NoOffset(partition.name.clone()).into()),
    }
}

fn offset_and_epoch(offset: i64, epoch: Option<i32>) -> OffsetAndMetadata {
    let committed = OffsetAndMetadata::new(offset);
    match epoch {
        Some(epoch) => committed.with_leader_epoch(epoch),
        None => committed,
    }
}

#[cfg(test)]
mod tests;
