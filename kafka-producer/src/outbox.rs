//! Decides which batches go to which broker now, and when to look again: everything of the sender that needs no socket.
//!
//! A pure machine: time comes in as an argument, requests go out through [`Outbox::take_request`], and every event of
//! the outside (a slot has news, a leader is known, an answer came, time passed) is a method.

mod partition;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_client::raw::Backoff;
use kafka_client::{NodeId, TopicId};
use kafka_wire::compression::Compressor;
use kafka_wire::record_batch::{BatchError, BatchWriter, NO_PRODUCER, ProducerStamp, SealedBatch};
use tokio::time::Instant;

use self::partition::{Head, Partition};
use crate::accumulator::Slot;
use crate::answer::Verdict;
use crate::completion::BatchCompletion;
use crate::error::{Error, Fate};
use crate::idempotence::{Identity, Next, ProducerIdentity, Sequence};
use crate::memory::Memory;
use crate::partitioner::Load;

pub(crate) struct Outbox {
    settings: Settings,
    memory: Arc<Memory>,
    identity: Identity,
    /// By slot number; `None` for slots that were never used.
    partitions: Vec<Option<Box<Partition>>>,
    /// By node: partitions that have something to send there. One may have lost its reason by the time it is looked at.
    ready: HashMap<NodeId, VecDeque<u32>>,
    /// Partitions with an open batch that waits for more records.
    lingering: Vec<u32>,
    linger_ends: Option<Instant>,
    /// When to look at a partition again: a retry is due, or a batch expires. Outdated entries are skipped.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Compresses on the spot. gzip and zstd take too long for that and go through [`Outbox::next_compression`].
    compressor: Option<Compressor>,
    to_compress: VecDeque<u32>,
    random: fastrand::Rng,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) idempotent: bool,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) max_request_size: usize,
    pub(crate) retries: u32,
    pub(crate) backoff: Backoff,
}

/// One partition's share of a request.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) slot: u32,
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: i32,
    pub(crate) sequence: Sequence,
    pub(crate) bytes: Bytes,
}

/// Records to be compressed off the sender's task.
#[derive(Debug)]
pub(crate) struct Compression {
    slot: u32,
    batch: Arc<BatchCompletion>,
    pub(crate) writer: BatchWriter,
}

/// What became of a [`Compression`].
#[derive(Debug)]
pub(crate) struct Compressed {
    slot: u32,
    batch: Arc<BatchCompletion>,
    result: Result<SealedBatch, BatchError>,
}

impl Compression {
    pub(crate) fn run(self, compressor: Option<&mut Compressor>, memory: &Memory) -> Compressed {
        let result = crate::batch::seal(self.writer, compressor, memory);
        Compressed { slot: self.slot, batch: self.batch, result }
    }
}

/// Bytes that a partition takes in a request besides its batch, topic name included in the usual case.
const PART_OVERHEAD: usize = 64;

impl Outbox {
    /// `compressor` for batches, if they are compressed.
    pub(crate) fn new(
        settings: Settings,
        compressor: Option<Compressor>,
        memory: Arc<Memory>,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            settings,
            memory,
            identity: Identity::default(),
            partitions: Vec::new(),
            ready: HashMap::new(),
            lingering: Vec::new(),
            linger_ends: None,
            timers: BinaryHeap::new(),
            compressor,
            to_compress: VecDeque::new(),
            random,
        }
    }

    /// Whether a producer id has to be asked for before anything can be sent.
    pub(crate) fn needs_identity(&self) -> bool {
        self.settings.idempotent && self.identity.current().is_none()
    }

    pub(crate) fn assign_identity(&mut self, identity: ProducerIdentity, now: Instant) {
        self.identity.assign(identity);
        for number in 0..self.partitions.len() as u32 {
            self.consider(number, now);
        }
    }

    /// Whether the slot was met before. If not, its leader has to be told.
    pub(crate) fn knows(&self, slot: &Slot) -> bool {
        matches!(self.partitions.get(slot.number as usize), Some(Some(_)))
    }

    /// A slot has a new or a full batch.
    pub(crate) fn note(&mut self, slot: &Arc<Slot>, now: Instant) {
        let number = slot.number as usize;
        if self.partitions.len() <= number {
            self.partitions.resize_with(number + 1, || None);
        }
        let partition = self.partitions[number]
            .get_or_insert_with(|| Box::new(Partition::new(slot.clone(), self.settings.idempotent)));
        let before = partition.waiting.len();
        partition.collect();
        let is_slow = self.compressor.as_ref().is_some_and(Compressor::is_slow);
        let added = partition.waiting.len() - before;
        if is_slow && added > 0 {
            self.to_compress.extend(std::iter::repeat_n(slot.number, added));
        }
        let may_linger = self.settings.linger > Duration::ZERO && !self.memory.is_waited_for();
        if partition.is_lingering() && may_linger {
            if !std::mem::replace(&mut partition.in_lingering, true) {
                self.lingering.push(slot.number);
            }
            let ends = partition.open_since.map(|since| since + self.settings.linger);
            self.linger_ends = self.linger_ends.min(ends).or(ends);
        } else {
            partition.due = partition.open_since.is_some();
        }
        self.consider(slot.number, now);
    }

    /// Sends all open batches without waiting for more records. Those of slots with news are not among them before they
    /// are [noted](Self::note).
    pub(crate) fn send_everything(&mut self, now: Instant) {
        // Not a look at every partition: while callers wait for memory, this is asked for again and again.
        self.linger_ends = None;
        let mut lingering = std::mem::take(&mut self.lingering);
        for number in lingering.drain(..) {
            let Some(Some(partition)) = self.partitions.get_mut(number as usize) else { continue };
            partition.in_lingering = false;
            partition.collect();
            partition.due = partition.open_since.is_some();
            self.consider(number, now);
        }
        // The same memory, for those that will linger.
        self.lingering = lingering;
    }

    /// Who leads a slot's partition now, of a topic with this id. The answers of an old leader are waited for before
    /// anything goes to the new one.
    pub(crate) fn set_leader(
        &mut self,
        slot: &Slot,
        leader: Option<NodeId>,
        topic_id: TopicId,
        now: Instant,
    ) {
        let Some(Some(partition)) = self.partitions.get_mut(slot.number as usize) else {
            slot.set_load(if leader.is_some() { Load::Queued(0) } else { Load::Unavailable });
            return;
        };
        if !topic_id.is_zero() && !partition.topic_id.is_zero() && partition.topic_id != topic_id {
            partition.pipeline.new_log();
        }
        if !topic_id.is_zero() {
            partition.topic_id = topic_id;
        }
        if leader.is_some() && leader != partition.leader {
            // The wait was for the old leader to recover.
            partition.not_before = None;
        }
        partition.leader = leader;
        partition.publish_load();
        self.consider(slot.number, now);
    }

    /// An answer said who leads a slot's partition now.
    pub(crate) fn follow_leader(&mut self, slot: u32, leader: NodeId, now: Instant) {
        let Some(Some(partition)) = self.partitions.get(slot as usize) else { return };
        let (slot, topic_id) = (partition.slot.clone(), partition.topic_id);
        self.set_leader(&slot, Some(leader), topic_id, now);
    }

    /// Whether anything waits to be sent to `node`.
    pub(crate) fn has_work_for(&self, node: NodeId) -> bool {
        self.ready.get(&node).is_some_and(|ready| !ready.is_empty())
    }

    /// The nodes for which something waits.
    pub(crate) fn nodes_with_work(&self) -> impl Iterator<Item = NodeId> {
        self.ready.iter().filter(|(_, ready)| !ready.is_empty()).map(|(node, _)| *node)
    }

    /// Who leads the partitions that have records, as far as known; a node may be named more than once.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = NodeId> {
        let used = self.partitions.iter().flatten().filter(|partition| partition.has_records());
        used.filter_map(|partition| partition.leader)
    }

    /// Takes what can go to `node` in one request: one batch of each partition, in turn, up to the request's largest
    /// size. A batch counts as sent from here on.
    pub(crate) fn take_request(&mut self, node: NodeId, parts: &mut Vec<Part>, now: Instant) {
        let mut size = 0;
        while let Some(number) = self.ready.get_mut(&node).and_then(VecDeque::pop_front) {
            let Some(Some(partition)) = self.partitions.get_mut(number as usize) else { continue };
            partition.ready_at = None;
            if self.destination(number, now) != Some(node) {
                self.consider(number, now);
                continue;
            }
            let Some(Some(partition)) = self.partitions.get_mut(number as usize) else { continue };
            if let Err(error) = partition.prepare_head(&self.identity, self.compressor.as_mut(), &self.memory)
            {
                tracing::warn!(partition = %partition.slot.id, %error, "a batch cannot be encoded");
                self.consider(number, now);
                continue;
            }
            let length = partition.head_len(&self.identity) + PART_OVERHEAD + partition.slot.id.topic.len();
            if size > 0 && size + length > self.settings.max_request_size {
                partition.ready_at = Some(node);
                self.ready.entry(node).or_default().push_front(number);
                break;
            }
            let Some(part) = partition.take_head(&self.identity, number, node) else { continue };
            size += length;
            parts.push(part);
        }
    }

    /// The place of a request in the order of its connection is fixed: what follows may be called.
    pub(crate) fn queued(&mut self, part: &Part, now: Instant) {
        if let Some(Some(partition)) = self.partitions.get_mut(part.slot as usize)
            && partition.unqueued == Some(part.sequence)
        {
            partition.unqueued = None;
            self.consider(part.slot, now);
        }
    }

    /// Tells what became of one partition's share of a request.
    pub(crate) fn answered(&mut self, slot: u32, sequence: Sequence, verdict: Verdict, now: Instant) {
        let Some(Some(partition)) = self.partitions.get_mut(slot as usize) else { return };
        let retries = self.settings.retries;
        if let Some(failures) = partition.answered(sequence, verdict, retries, &self.memory) {
            let delay = self.settings.backoff.delay(failures, &mut self.random);
            partition.not_before = Some(now + delay);
        }
        partition.publish_load();
        self.consider(slot, now);
    }

    /// The next batch that is to be compressed elsewhere, if any.
    pub(crate) fn next_compression(&mut self) -> Option<Compression> {
        while let Some(slot) = self.to_compress.pop_front() {
            if let Some(Some(partition)) = self.partitions.get_mut(slot as usize)
                && let Some((batch, writer)) = partition.take_raw()
            {
                return Some(Compression { slot, batch, writer });
            }
        }
        None
    }

    pub(crate) fn compressed(&mut self, compressed: Compressed, now: Instant) {
        let Compressed { slot, batch, result } = compressed;
        let Some(Some(partition)) = self.partitions.get_mut(slot as usize) else { return };
        match result {
            Ok(sealed) => partition.put_back(&batch, sealed, &self.memory),
            Err(error) => {
                tracing::warn!(partition = %partition.slot.id, %error, "a batch cannot be compressed");
                partition.fail_batch(&batch, &error, &self.memory);
            }
        }
        self.consider(slot, now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        [timer, self.linger_ends].into_iter().flatten().min()
    }

    /// When the first open batch is due for being old enough.
    pub(crate) fn linger_ends(&self) -> Option<Instant> {
        self.linger_ends
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.linger_ends.is_some_and(|ends| ends <= now) {
            self.end_linger(now);
        }
        while let Some(Reverse((at, number))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            if let Some(Some(partition)) = self.partitions.get_mut(number as usize)
                && partition.timer == Some(at)
            {
                partition.timer = None;
                partition.expire(self.settings.delivery_timeout, &self.memory, now);
                partition.publish_load();
                self.consider(number, now);
            }
        }
    }

    /// Whoever has waited long enough is due, and with it every open batch for the same broker: they fit one request.
    fn end_linger(&mut self, now: Instant) {
        let linger = self.settings.linger;
        let mut lingering = std::mem::take(&mut self.lingering);
        let mut nodes: Vec<NodeId> = Vec::new();
        for number in &lingering {
            let Some(Some(partition)) = self.partitions.get_mut(*number as usize) else { continue };
            partition.collect();
            if partition.is_lingering() && partition.open_since.is_some_and(|since| since + linger <= now) {
                partition.due = true;
                if let Some(leader) = partition.leader
                    && !nodes.contains(&leader)
                {
                    nodes.push(leader);
                }
            }
        }
        self.linger_ends = None;
        lingering.retain(|number| {
            let Some(Some(partition)) = self.partitions.get_mut(*number as usize) else { return false };
            partition.due |=
                partition.is_lingering() && partition.leader.is_some_and(|leader| nodes.contains(&leader));
            partition.in_lingering = partition.is_lingering();
            if partition.in_lingering {
                let ends = partition.open_since.map(|since| since + linger);
                self.linger_ends = self.linger_ends.min(ends).or(ends);
            }
            let stays = partition.in_lingering;
            if !stays {
                self.consider(*number, now);
            }
            stays
        });
        self.lingering = lingering;
    }

    /// Remembers what keeps batches for a node, or all batches, from being sent, for those that expire over it.
    pub(crate) fn note_failure(&mut self, error: &Error, node: Option<NodeId>) {
        for partition in self.partitions.iter_mut().flatten() {
            if node.is_none() || partition.leader == node {
                partition.note_failure(error);
            }
        }
    }

    /// Fails what waits for a node, or everything, because no broker will take it from this client.
    pub(crate) fn refuse(&mut self, error: &kafka_client::Error, node: Option<NodeId>, now: Instant) {
        self.refuse_where(error, |leader| node.is_none() || leader == node, now);
    }

    /// Fails what waits for a leader to be known, because no broker will name it to this client.
    pub(crate) fn refuse_leaderless(&mut self, error: &kafka_client::Error, now: Instant) {
        self.refuse_where(error, |leader| leader.is_none(), now);
    }

    fn refuse_where(
        &mut self,
        error: &kafka_client::Error,
        concerns: impl Fn(Option<NodeId>) -> bool,
        now: Instant,
    ) {
        for number in 0..self.partitions.len() {
            if let Some(partition) = &mut self.partitions[number]
                && concerns(partition.leader)
            {
                partition.refuse(error, &self.memory);
                partition.publish_load();
                self.consider(number as u32, now);
            }
        }
    }

    /// Whether an answer is waited for.
    pub(crate) fn is_on_wire(&self, slot: u32, sequence: Sequence) -> bool {
        match self.partitions.get(slot as usize) {
            Some(Some(partition)) => partition.pipeline.has_on_wire(sequence),
            _ => false,
        }
    }

    /// Takes no more records, also in `slots` that were never met, and fails what was accepted. `error` makes the error
    /// for a fate.
    pub(crate) fn close(&mut self, slots: &[Arc<Slot>], mut error: impl FnMut(Fate) -> Error) {
        let idempotent = self.settings.idempotent;
        let strangers = slots.iter().filter(|slot| !self.knows(slot));
        let mut strangers: Vec<_> =
            strangers.map(|slot| Box::new(Partition::new(slot.clone(), idempotent))).collect();
        for partition in self.partitions.iter_mut().flatten().chain(&mut strangers) {
            partition.close(&self.memory, &mut error);
        }
        self.ready.clear();
        self.timers.clear();
        self.lingering.clear();
        self.linger_ends = None;
    }

    /// Whether everything of a slot was answered and nothing waits.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self, slot: u32) -> bool {
        self.partitions
            .get(slot as usize)
            .and_then(Option::as_ref)
            .is_none_or(|partition| partition.is_at_rest())
    }

    /// Puts a partition on the list of the node it has something for, and sets its timer.
    fn consider(&mut self, number: u32, now: Instant) {
        let node = self.destination(number, now);
        let delivery_timeout = self.settings.delivery_timeout;
        let Some(Some(partition)) = self.partitions.get_mut(number as usize) else { return };
        if let Some(node) = node
            && partition.ready_at != Some(node)
        {
            partition.ready_at = Some(node);
            self.ready.entry(node).or_default().push_back(number);
        }
        if let Some(at) = partition.next_timer(delivery_timeout, now)
            && partition.timer.is_none_or(|timer| at < timer)
        {
            partition.timer = Some(at);
            self.timers.push(Reverse((at, number)));
        }
    }

    /// The node to which a partition can send something now.
    fn destination(&mut self, number: u32, now: Instant) -> Option<NodeId> {
        let Some(Some(partition)) = self.partitions.get_mut(number as usize) else { return None };
        if partition.pipeline.next(&self.identity) == Next::Restart {
            partition.restart(&mut self.identity, &self.memory);
        }
        let leader = partition.leader?;
        let waits = partition.unqueued.is_some()
            || partition.not_before.is_some_and(|at| at > now)
            || partition.wire.is_some_and(|wire| wire.node != leader);
        if waits {
            return None;
        }
        match partition.head(&self.identity) {
            Head::Nothing => None,
            Head::Ready => Some(leader),
            Head::Unprepared if self.compressor.as_ref().is_some_and(Compressor::is_slow) => {
                self.to_compress.push_back(number);
                None
            }
            Head::Unprepared => Some(leader),
            Head::Away => None,
            Head::Open => {
                if self.compressor.as_ref().is_some_and(Compressor::is_slow) {
                    partition.seal();
                    self.to_compress.push_back(number);
                    return None;
                }
                Some(leader)
            }
        }
    }
}

fn stamp(identity: Option<ProducerIdentity>, sequence: Sequence) -> ProducerStamp {
    match identity {
        Some(ProducerIdentity { id, epoch }) => {
            ProducerStamp { producer_id: id, producer_epoch: epoch, base_sequence: sequence.0 }
        }
        None => NO_PRODUCER,
    }
}
