//! Where the consumer stands in each of its partitions, and what has to be asked of the cluster next. Pure: no I/O.
//!
//! Two offsets matter. `position` is the next record to hand out and moves only when something is handed out, so that a
//! commit means "everything that was given". `fetch_offset` is the end of what is buffered behind it. Every change that
//! makes older answers meaningless (seek, reset, assignment) gives the partition a new `version`; answers and readers
//! that carry another one are stale and change nothing.

mod answers;
mod partition;
mod plan;
mod reading;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use kafka_client::{Offset, OffsetAndMetadata, TopicPartition};

use crate::buffer::Held;
use crate::error::{Error, ErrorKind};

pub(crate) use self::answers::Fit;
use self::partition::{Partition, Place, State};
pub(crate) use self::plan::{FetchEntry, Leader, Lookup, LookupEntry, ValidateEntry, Work};
pub(crate) use self::reading::{Next, Turn};

/// What the caller chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where to start without a committed offset; `None` is a typed error.
    pub(crate) start_at: Option<Offset>,
    /// Where to go when the position is outside the log or truncated; `None` is a typed error.
    pub(crate) out_of_range: Option<Offset>,
    /// The most of one partition in one answer. A partition with as much buffered is not fetched again.
    pub(crate) partition_bytes: usize,
    /// The most in one answer.
    pub(crate) answer_bytes: usize,
    /// Answers that something not handed out still lies in, and those under way, take no more than about this.
    pub(crate) max_buffered: usize,
    pub(crate) retry_backoff: Duration,
}

/// Names a partition at one version: what answers and readers carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    slot: usize,
    version: u64,
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

#[cfg(test)]
impl Claim {
    pub(crate) fn for_test(slot: usize, assigned: u64) -> Self {
        Self { slot, assigned }
    }
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
    /// Bytes in the queues of all partitions.
    buffered: usize,
    /// The memory that these bytes, and those in the hands of readers, hold.
    held: Held,
    /// Whoever reads all partitions waits for any of them.
    awaited: bool,
    /// The last plan found no room to fetch what is wanted.
    cramped: bool,
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
            held: Held::default(),
            awaited: false,
            cramped: false,
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
            let mut partition = Partition::new(name.clone(), version);
            if !committed {
                partition.start(self.settings.start_at);
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
            if let Some(slot) = self.index.remove(name) {
                self.drop_buffer(slot);
                self.slots[slot] = None;
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

    pub(crate) fn is_topic_assigned(&self, topic: &str) -> bool {
        self.index.keys().any(|partition| &*partition.topic == topic)
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
        self.claimed(claim).is_some_and(|partition| !partition.revoking)
    }

    /// The partitions that may be read, with their claims.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (Claim, &TopicPartition)> {
        self.slots.iter().enumerate().filter_map(|(slot, partition)| {
            let partition = partition.as_ref().filter(|partition| !partition.revoking)?;
            Some((Claim { slot, assigned: partition.assigned }, &partition.name))
        })
    }

    // --- what callers ask and say -----------------------------------------------------------------------------------

    /// Moves the position; a place that is no number is looked up first. The caller is done with what lies before it.
    pub(crate) fn seek(&mut self, name: &TopicPartition, to: Offset) -> Result<(), Error> {
        let slot = self.slot(name)?;
        self.renew(slot);
        let Some(partition) = self.slots[slot].as_mut() else { return Ok(()) };
        match to {
            Offset::At(offset) => partition.begin_at(offset, None),
            place => {
                partition.state = State::NeedsPlace(Place::Begin(place));
                partition.position = -1;
                partition.handed = None;
            }
        }
        Ok(())
    }

    pub(crate) fn pause(&mut self, name: &TopicPartition) -> Result<(), Error> {
        let slot = self.slot(name)?;
        if let Some(partition) = self.slots[slot].as_mut() {
            partition.paused = true;
        }
        self.unlist(slot);
        Ok(())
    }

    pub(crate) fn resume(&mut self, name: &TopicPartition) -> Result<(), Error> {
        let slot = self.slot(name)?;
        if let Some(partition) = self.slots[slot].as_mut() {
            partition.paused = false;
            partition.is_resting &= !partition.runs.is_empty();
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

    /// Everything that the caller is done with, of all partitions or of some.
    pub(crate) fn acked(
        &self,
        only: Option<&[TopicPartition]>,
    ) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let said =
            |p: &Partition| p.acked.map(|(offset, epoch)| (p.name.clone(), offset_and_epoch(offset, epoch)));
        match only {
            None => self.slots.iter().flatten().filter_map(said).collect(),
            Some(only) => {
                let slots = only.iter().filter_map(|name| self.index.get(name));
                slots.filter_map(|slot| self.slots[*slot].as_ref().and_then(said)).collect()
            }
        }
    }

    /// As [`acked`](Self::acked), without what this told before.
    pub(crate) fn acked_since_last(&mut self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let mut news = BTreeMap::new();
        for partition in self.slots.iter_mut().flatten() {
            if let Some((offset, epoch)) = partition.acked
                && !partition.revoking
                && partition.told.replace(offset) != Some(offset)
            {
                news.insert(partition.name.clone(), offset_and_epoch(offset, epoch));
            }
        }
        news
    }

    /// What was told could not be committed: it is to be told again.
    pub(crate) fn not_committed<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for name in partitions {
            if let Some(partition) = self.index.get(name).and_then(|slot| self.slots[*slot].as_mut()) {
                partition.told = None;
            }
        }
    }

    /// The caller is done with everything that was handed out.
    pub(crate) fn ack_handed(&mut self, claim: Claim) {
        if let Some(partition) = self.claimed_mut(claim)
            && let Some(handed) = partition.handed.take()
        {
            partition.acked = Some(handed);
        }
    }

    /// The caller is done with everything before `offset`, which may be behind the position.
    pub(crate) fn ack_claim(&mut self, claim: Claim, offset: i64, epoch: Option<i32>) {
        if let Some(partition) = self.claimed_mut(claim) {
            partition.ack(offset, epoch);
        }
    }

    /// Goes back to what the caller was done with last, for another reader to begin there.
    pub(crate) fn rewind(&mut self, claim: Claim) {
        if self.claimed(claim).is_none() {
            return;
        }
        // Also where nothing was handed out: the reader may have taken something to open it.
        self.renew(claim.slot);
        if let Some(partition) = self.claimed_mut(claim)
            && !matches!(partition.state, State::NeedsCommitted | State::NeedsPlace(_))
            && let Some((offset, epoch)) = partition.acked
        {
            let topic_id = partition.topic_id;
            partition.begin_at(offset, epoch);
            partition.topic_id = topic_id;
        }
    }

    /// Records between the position and the end that this isolation level sees, once both are known.
    pub(crate) fn lag(&self, name: &TopicPartition, committed_only: bool) -> Result<Option<i64>, Error> {
        let slot = self.slot(name)?;
        Ok(self.slots[slot].as_ref().and_then(|p| {
            let end = if committed_only { p.last_stable_offset } else { p.high_watermark };
            Some(end?.saturating_sub(p.known_position()?).max(0))
        }))
    }

    /// Bytes fetched and not handed out.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Where answers are counted that something is buffered of.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    // --- helpers ----------------------------------------------------------------------------------------------------

    fn slot(&self, name: &TopicPartition) -> Result<usize, Error> {
        self.index.get(name).copied().ok_or_else(|| ErrorKind::NotAssigned(name.clone()).into())
    }

    fn at(&mut self, ticket: Ticket) -> Option<&mut Partition> {
        self.slots.get_mut(ticket.slot)?.as_mut().filter(|partition| partition.version == ticket.version)
    }

    fn claimed(&self, claim: Claim) -> Option<&Partition> {
        self.slots.get(claim.slot)?.as_ref().filter(|partition| partition.assigned == claim.assigned)
    }

    fn claimed_mut(&mut self, claim: Claim) -> Option<&mut Partition> {
        self.slots.get_mut(claim.slot)?.as_mut().filter(|partition| partition.assigned == claim.assigned)
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
            partition.runs.clear();
            partition.is_resting = false;
        }
        self.unlist(slot);
    }

    fn list_if_ready(&mut self, slot: usize) {
        if let Some(partition) = self.slots[slot].as_mut()
            && partition.is_ready()
            && !partition.listed
        {
            partition.listed = true;
            self.ready.push_back(slot);
        }
    }

    fn unlist(&mut self, slot: usize) {
        if let Some(partition) = self.slots[slot].as_mut()
            && std::mem::take(&mut partition.listed)
        {
            self.ready.retain(|ready| *ready != slot);
        }
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
