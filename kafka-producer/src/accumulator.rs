//! Collects records into batches: one slot per partition that records were sent to, into whose open batch a record is
//! encoded in place.
//!
//! Appending takes the slot's mutex and, once per batch, the memory's and the sender's. Nothing is compressed, awaited or
//! logged under any of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use kafka_client::TopicPartition;
use kafka_wire::record_batch::{BatchWriter, HEADER_LEN, HeaderRef};
use tokio::time::Instant;

use crate::batch::{Batch, push_sparingly};
use crate::clock::Clock;
use crate::completion::{BatchCompletion, Delivery};
use crate::ledger::{Completer, Ledger};
use crate::memory::{Memory, Room};
use crate::notices::{Notice, Notices};
use crate::partitioner::{Load, Sticky};

/// What the producer's handles and its sender share.
#[derive(Debug)]
pub(crate) struct Accumulator {
    topics: ArcSwap<Topics>,
    /// Guards the creation of slots.
    creation: Mutex<Creation>,
    /// Batches that take records; counted to know whether records need a fresh clock.
    open_batches: Arc<AtomicUsize>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) clock: Clock,
    pub(crate) notices: Notices,
    ledger: Arc<Ledger>,
    settings: Settings,
}

/// How many bytes without a key a partition is given at most before the next one has its turn: Java's `batch.size`, which
/// it is there. With as much as a batch here may have, topics with little traffic would move on every few minutes only.
const STICKY: usize = 16 << 10;

#[derive(Debug, Default)]
struct Creation {
    /// The number of the next slot.
    next: u32,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) batch_size: usize,
    pub(crate) buffer_memory: usize,
    pub(crate) adaptive_partitioning: bool,
    /// Whether an open batch may be sent at once: there is no `linger`.
    pub(crate) eager: bool,
    pub(crate) seed: u64,
}

type Topics = HashMap<Arc<str>, Arc<TopicSlots>, foldhash::fast::RandomState>;

/// The slots of a topic's partitions.
#[derive(Debug)]
pub(crate) struct TopicSlots {
    pub(crate) name: Arc<str>,
    /// By partition, made when the first record comes: most producers use a few of many partitions. A topic created anew
    /// with fewer partitions keeps the slots of those that are gone, for what they still hold, but takes no records for them.
    slots: Box<[OnceLock<Arc<Slot>>]>,
    partitions: usize,
    sticky: Arc<Sticky>,
    /// What replaced this when the number of partitions changed.
    successor: OnceLock<Arc<TopicSlots>>,
}

/// A record's parts as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [HeaderRef<'a>],
    pub(crate) timestamp: Option<i64>,
}

impl Encoded<'_> {
    /// The bytes it takes at most, the header of its batch not included.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        BatchWriter::record_size_upper_bound(self.key, self.value, self.headers)
    }
}

/// Why a record was not appended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Credit for so many bytes is needed first; bring it along.
    NeedsRoom(usize),
    /// The record does not fit Kafka's format.
    Malformed(kafka_wire::record_batch::BatchError),
    Closed,
}

impl Accumulator {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            topics: ArcSwap::default(),
            creation: Mutex::default(),
            open_batches: Arc::default(),
            memory: Arc::new(Memory::new(settings.buffer_memory, settings.batch_size)),
            clock: Clock::new(),
            notices: Notices::default(),
            ledger: Arc::default(),
            settings,
        }
    }

    /// The topics that were opened so far.
    pub(crate) fn topics(&self) -> Guard<Arc<Topics>> {
        self.topics.load()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many batches take records at the moment.
    pub(crate) fn open_batches(&self) -> usize {
        self.open_batches.load(Ordering::Relaxed)
    }

    /// Hands out no more memory and makes no more slots that take records; returns those there are, to be closed too.
    pub(crate) fn close(&self) -> Vec<Arc<Slot>> {
        let mut creation = self.creation.lock().unwrap_or_else(PoisonError::into_inner);
        creation.closed = true;
        self.memory.close();
        self.topics.load().values().flat_map(|topic| topic.slots().cloned()).collect()
    }

    /// Takes records for a topic with so many partitions from now on.
    pub(crate) fn open_topic(&self, name: &Arc<str>, partitions: usize) {
        let creation = self.creation.lock().unwrap_or_else(PoisonError::into_inner);
        if creation.closed {
            return;
        }
        let topics = self.topics.load_full();
        let known = topics.get(name);
        if let Some(known) = known
            && known.partitions == partitions
        {
            return;
        }
        let mut slots = known.map(|known| known.slots.to_vec()).unwrap_or_default();
        slots.resize_with(partitions.max(slots.len()), OnceLock::new);
        let slots = slots.into_boxed_slice();
        let sticky = known.map_or_else(
            || {
                let seed = self.settings.seed.wrapping_add(topics.len() as u64);
                let stays_for = self.settings.batch_size.min(STICKY);
                Arc::new(Sticky::new(stays_for, self.settings.adaptive_partitioning, seed))
            },
            |known| known.sticky.clone(),
        );
        let successor = OnceLock::new();
        let opened = Arc::new(TopicSlots { name: name.clone(), slots, partitions, sticky, successor });
        if let Some(known) = known {
            let _ = known.successor.set(opened.clone());
        }
        let mut topics = Topics::clone(&topics);
        topics.insert(name.clone(), opened);
        self.topics.store(Arc::new(topics));
    }

    /// Keeps records without key away from partitions, until they have leaders. That takes a slot.
    pub(crate) fn avoid(&self, topic: &str, partitions: impl Iterator<Item = i32>) {
        let topics = self.topics();
        let Some(topic) = topics.get(topic) else { return };
        for slot in partitions.filter_map(|partition| self.slot(topic, partition)) {
            slot.set_load(Load::Unavailable);
        }
    }

    /// Where a partition's records are collected, if the topic has that partition.
    #[inline]
    pub(crate) fn slot<'a>(&self, topic: &'a TopicSlots, partition: i32) -> Option<&'a Arc<Slot>> {
        let partition = usize::try_from(partition).ok().filter(|partition| *partition < topic.partitions)?;
        Some(match topic.slots[partition].get() {
            Some(slot) => slot,
            None => self.make_slot(topic, partition),
        })
    }

    #[cold]
    fn make_slot<'a>(&self, topic: &'a TopicSlots, partition: usize) -> &'a Arc<Slot> {
        let mut creation = self.creation.lock().unwrap_or_else(PoisonError::into_inner);
        // A partition has one slot, and whatever replaces these takes it over from the newest.
        let slot = topic.newest().slots[partition].get_or_init(|| {
            let id = TopicPartition { topic: topic.name.clone(), partition: partition as i32 };
            let slot = Slot::new(creation.next, id, self.open_batches.clone(), creation.closed);
            creation.next += 1;
            Arc::new(slot)
        });
        topic.slots[partition].get_or_init(|| slot.clone())
    }

    /// Encodes a record, of which `size` is the [size](Encoded::size), into the open batch of a partition, or into a new
    /// one. `room` is credit that the caller waited for; what is not used of it stays there.
    #[inline(always)]
    pub(crate) fn append(
        &self,
        slot: &Arc<Slot>,
        record: &Encoded<'_>,
        size: usize,
        room: &mut Option<Room>,
    ) -> Result<Appended, Refusal> {
        let mut lane = slot.lane();
        if let Some(open) = &mut lane.open
            && let Some(writer) = open.writer_for(size)
        {
            let (index, timestamp) = self.write(writer, record)?;
            let delivery = Delivery::new(open.completion().clone(), index, timestamp);
            return Ok(Appended { delivery, began_batch: false });
        }
        self.append_elsewhere(slot, lane, record, size, room)
    }

    /// The open batch has no room for the record as it is.
    #[cold]
    fn append_elsewhere(
        &self,
        slot: &Arc<Slot>,
        mut lane: MutexGuard<'_, Lane>,
        record: &Encoded<'_>,
        size: usize,
        room: &mut Option<Room>,
    ) -> Result<Appended, Refusal> {
        let mut notice = None;
        let grows = match &mut lane.open {
            Some(open) => open.grow(size, &self.memory).map_err(|_| Refusal::Closed)?,
            None => false,
        };
        if !grows {
            if lane.closed {
                return Err(Refusal::Closed);
            }
            if let Some(full) = slot.seal(&mut lane) {
                lane.sealed.push_back(full);
                notice = Some(Notice::Full);
            }
            match self.open(slot, &mut lane, HEADER_LEN + size, room) {
                Ok(()) if self.settings.eager || self.memory.is_waited_for() => notice = Some(Notice::Full),
                Ok(()) => notice = notice.or(Some(Notice::Opened)),
                Err(refusal) => {
                    self.tell(slot, lane, notice);
                    return Err(refusal);
                }
            }
        }
        let Some(open) = &mut lane.open else { return Err(Refusal::Closed) };
        let Some(writer) = open.writer_for(size) else { return Err(Refusal::Closed) };
        let written = self.write(writer, record);
        let completion = open.completion().clone();
        self.tell(slot, lane, notice);
        let (index, timestamp) = written?;
        Ok(Appended { delivery: Delivery::new(completion, index, timestamp), began_batch: notice.is_some() })
    }

    /// The record's index in its batch, and its timestamp.
    #[inline(always)]
    fn write(&self, writer: &mut BatchWriter, record: &Encoded<'_>) -> Result<(u32, i64), Refusal> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.clock.cached_ms());
        let index = writer.append(timestamp, record.key, record.value, record.headers);
        Ok((index.map_err(Refusal::Malformed)?, timestamp))
    }

    /// Lets go of the slot and tells the sender what happened there.
    fn tell(&self, slot: &Arc<Slot>, mut lane: MutexGuard<'_, Lane>, notice: Option<Notice>) {
        let Some(notice) = notice else { return };
        let listed = std::mem::replace(&mut lane.listed, true);
        // While nobody else can add to the batch: who does, and flushes, counts on the sender's knowing of it.
        let wake = self.notices.post((!listed).then_some(slot), notice);
        drop(lane);
        if wake {
            self.notices.wake();
        }
    }

    fn open(
        &self,
        slot: &Slot,
        lane: &mut Lane,
        size: usize,
        room: &mut Option<Room>,
    ) -> Result<(), Refusal> {
        let size = self.memory.size_for(size.max(lane.usual_size.min(self.settings.batch_size)));
        let room = match room.take_if(|room| room.size() >= size) {
            Some(room) => room,
            None => match self.memory.try_take(size) {
                Ok(Some(room)) => room,
                Ok(None) => return Err(Refusal::NeedsRoom(size)),
                Err(_) => return Err(Refusal::Closed),
            },
        };
        self.open_batches.fetch_add(1, Ordering::Relaxed);
        let completion = BatchCompletion::new(slot.id.topic.clone(), slot.id.partition);
        let writer = BatchWriter::new(self.memory.buffer(size));
        let completer = Completer::new(completion, &self.ledger);
        lane.open = Some(Box::new(Batch::new(writer, completer, room, self.clock.refresh())));
        Ok(())
    }
}

/// A record that was accepted.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) delivery: Delivery,
    /// Whether the batch before it is full, or there was none.
    pub(crate) began_batch: bool,
}

impl TopicSlots {
    /// These, or what has replaced them.
    #[inline]
    pub(crate) fn newest(&self) -> &Self {
        let mut slots = self;
        while let Some(successor) = slots.successor.get() {
            slots = successor;
        }
        slots
    }

    #[inline]
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    /// The slots of all partitions that records were sent to, also of those that the topic has no more.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.iter().filter_map(OnceLock::get)
    }

    fn load(&self, partition: usize) -> Load {
        self.slots[partition].get().map_or(Load::Queued(0), |slot| slot.load())
    }

    /// The partition for a record that could go to any.
    pub(crate) fn sticky_partition(&self) -> i32 {
        self.sticky.partition(self.partitions, |partition| self.load(partition))
    }

    /// Counts a record of so many bytes that went to its [`sticky_partition`](Self::sticky_partition).
    pub(crate) fn count_sticky(&self, partition: i32, size: usize, began_batch: bool) {
        self.sticky.appended(partition, size, began_batch, self.partitions, |partition| self.load(partition));
    }
}

/// Where the records of one partition are collected. Small, since there may be thousands, but larger than a cache line: so
/// no two locks share one.
pub(crate) struct Slot {
    /// Its place in the sender's table.
    pub(crate) number: u32,
    pub(crate) id: TopicPartition,
    /// How many batches wait, for the choice of a partition; [`UNAVAILABLE`] without a leader.
    load: AtomicU32,
    /// The accumulator's count.
    open_batches: Arc<AtomicUsize>,
    /// Guards the batches that the sender has not taken. Held while a record is encoded, never across an await.
    lane: Mutex<Lane>,
}

const UNAVAILABLE: u32 = u32::MAX;

#[derive(Debug)]
struct Lane {
    open: Option<Box<Batch>>,
    sealed: VecDeque<Box<Batch>>,
    /// Whether the sender was told to look here and has not done so.
    listed: bool,
    closed: bool,
    /// How much the last batches held, as the size to begin the next one with.
    usual_size: usize,
}

impl Slot {
    fn new(number: u32, id: TopicPartition, open_batches: Arc<AtomicUsize>, closed: bool) -> Self {
        let lane = Lane { open: None, sealed: VecDeque::new(), listed: false, closed, usual_size: 0 };
        Self { number, id, load: AtomicU32::new(0), open_batches, lane: Mutex::new(lane) }
    }

    /// Ends the open batch.
    fn seal(&self, lane: &mut Lane) -> Option<Box<Batch>> {
        let batch = lane.open.take()?;
        self.open_batches.fetch_sub(1, Ordering::Relaxed);
        // Half of what it was, so that one small batch in between does not make the next one grow from the start.
        lane.usual_size = batch.len().max(lane.usual_size / 2);
        Some(batch)
    }

    /// Moves the full batches to the end of `waiting`; returns when the open one was opened.
    pub(crate) fn collect(&self, waiting: &mut VecDeque<Box<Batch>>) -> Option<Instant> {
        let mut lane = self.lane();
        lane.listed = false;
        waiting.append(&mut lane.sealed);
        lane.open.as_ref().map(|open| open.created())
    }

    /// Ends the open batch, after those that are full already, so that all can be sent.
    pub(crate) fn seal_into(&self, waiting: &mut VecDeque<Box<Batch>>) {
        let mut lane = self.lane();
        waiting.append(&mut lane.sealed);
        if let Some(batch) = self.seal(&mut lane) {
            push_sparingly(waiting, batch);
        }
    }

    /// Takes no more records and hands out those it has.
    pub(crate) fn close(&self, waiting: &mut VecDeque<Box<Batch>>) {
        let mut lane = self.lane();
        lane.closed = true;
        waiting.append(&mut lane.sealed);
        waiting.extend(self.seal(&mut lane));
    }

    pub(crate) fn set_load(&self, load: Load) {
        let load = match load {
            Load::Unavailable => UNAVAILABLE,
            Load::Queued(batches) => batches.min(UNAVAILABLE - 1),
        };
        self.load.store(load, Ordering::Relaxed);
    }

    fn load(&self) -> Load {
        match self.load.load(Ordering::Relaxed) {
            UNAVAILABLE => Load::Unavailable,
            batches => Load::Queued(batches),
        }
    }

    #[inline]
    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accumulator() -> Accumulator {
        Accumulator::new(Settings {
            batch_size: 1024,
            buffer_memory: 1 << 20,
            adaptive_partitioning: true,
            eager: false,
            seed: 1,
        })
    }

    fn open(accumulator: &Accumulator, partitions: usize) -> Arc<TopicSlots> {
        accumulator.open_topic(&"orders".into(), partitions);
        accumulator.topics()["orders"].clone()
    }

    #[test]
    fn a_partition_has_one_slot_however_old_the_view_it_is_asked_for_through() {
        let accumulator = accumulator();
        let old = open(&accumulator, 2);
        assert_eq!(old.slots().count(), 0);
        let new = open(&accumulator, 4);
        let first = accumulator.slot(&old, 0).unwrap();
        assert!(Arc::ptr_eq(first, accumulator.slot(&new, 0).unwrap()));
        let second = accumulator.slot(&new, 1).unwrap();
        assert!(Arc::ptr_eq(second, accumulator.slot(&old, 1).unwrap()));
        assert_eq!((first.number, second.number, new.slots().count()), (0, 1, 2));
        assert!(accumulator.slot(&old, 2).is_none() && accumulator.slot(&new, 2).is_some());
        assert!(accumulator.slot(&new, -1).is_none() && accumulator.slot(&new, 4).is_none());
    }

    #[test]
    fn a_topic_with_fewer_partitions_keeps_the_slots_of_the_others_for_when_they_return() {
        let accumulator = accumulator();
        let four = open(&accumulator, 4);
        let last = accumulator.slot(&four, 3).unwrap();
        let one = open(&accumulator, 1);
        assert!(accumulator.slot(&one, 3).is_none());
        assert_eq!(one.slots().count(), 1);
        // Whoever still has the old view may meet a partition that is gone for the first time.
        let third = accumulator.slot(&four, 2).unwrap();
        let again = open(&accumulator, 4);
        assert!(Arc::ptr_eq(last, accumulator.slot(&again, 3).unwrap()));
        assert!(Arc::ptr_eq(third, accumulator.slot(&again, 2).unwrap()));
    }

    #[test]
    fn a_slot_that_is_made_after_the_end_takes_no_records() {
        let accumulator = accumulator();
        let topic = open(&accumulator, 2);
        let early = accumulator.slot(&topic, 0).unwrap();
        assert_eq!(accumulator.close().len(), 1);
        let record = Encoded { key: None, value: Some(b"x"), headers: &[], timestamp: None };
        let mut room = None;
        let late = accumulator.slot(&topic, 1).unwrap();
        assert_eq!(accumulator.append(late, &record, record.size(), &mut room).unwrap_err(), Refusal::Closed);
        early.close(&mut VecDeque::new());
        assert_eq!(
            accumulator.append(early, &record, record.size(), &mut room).unwrap_err(),
            Refusal::Closed
        );
    }
}
