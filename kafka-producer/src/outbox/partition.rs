//! One partition's batches from the moment they are full or due: those that wait, those that are under way, and what the
//! next one waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::{NodeId, TopicId};
use kafka_wire::compression::Compressor;
use kafka_wire::record_batch::{BatchError, BatchWriter, SealedBatch};
use tokio::time::Instant;

use super::{Part, stamp};
use crate::accumulator::Slot;
use crate::answer::Verdict;
use crate::batch::Batch;
use crate::completion::{BatchCompletion, Outcome};
use crate::error::{Error, ErrorKind, Fate};
use crate::idempotence::{Answer, Identity, Next, Pipeline, Sequence, Step};
use crate::memory::Memory;
use crate::partitioner::Load;

pub(super) struct Partition {
    pub(super) slot: Arc<Slot>,
    pub(super) topic_id: TopicId,
    pub(super) leader: Option<NodeId>,
    /// Full or due, never sent under the present epoch.
    pub(super) waiting: VecDeque<Box<Batch>>,
    pub(super) pipeline: Pipeline<Box<Batch>>,
    /// When the slot's open batch was opened, as far as known.
    pub(super) open_since: Option<Instant>,
    /// The open batch may be sent as it is, and takes records until it is.
    pub(super) due: bool,
    /// Whether it is on the list of those that linger.
    pub(super) in_lingering: bool,
    /// Requests under way that hold a batch of this partition.
    pub(super) wire: Option<Wire>,
    /// The last batch handed over, until its place in the order of the socket is fixed: a layer may hold it up.
    pub(super) unqueued: Option<Sequence>,
    /// Attempts that failed since the last one that did not.
    failures: u32,
    /// The backoff after a failure.
    pub(super) not_before: Option<Instant>,
    /// The node on whose list of ready partitions it is.
    pub(super) ready_at: Option<NodeId>,
    /// Its next timer.
    pub(super) timer: Option<Instant>,
}

#[derive(Clone, Copy)]
pub(super) struct Wire {
    pub(super) node: NodeId,
    requests: u32,
}

/// So many failures in a row at most are retried at once because another leader was named: brokers that name each other
/// would be asked as fast as they answer. A window of batches that meets a new leader fails five times.
const PROMPT: u32 = 10;

/// What would be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// There is nothing, or it may not be sent yet.
    Nothing,
    /// A batch that could be sent as it is.
    Ready,
    /// A batch whose records must be compressed or finished first.
    Unprepared,
    /// A batch whose records are being compressed.
    Away,
    /// The slot's open batch.
    Open,
}

impl Partition {
    pub(super) fn new(slot: Arc<Slot>, idempotent: bool) -> Self {
        Self {
            slot,
            topic_id: TopicId::ZERO,
            leader: None,
            waiting: VecDeque::new(),
            pipeline: Pipeline::new(idempotent),
            open_since: None,
            due: false,
            in_lingering: false,
            wire: None,
            unqueued: None,
            failures: 0,
            not_before: None,
            ready_at: None,
            timer: None,
        }
    }

    /// Takes over what the slot has.
    pub(super) fn collect(&mut self) {
        let open_since = self.slot.collect(&mut self.waiting);
        // A batch that was due has been filled meanwhile; its successor is not.
        self.due &= open_since == self.open_since;
        self.open_since = open_since;
        self.publish_load();
    }

    /// Ends the open batch and lines it up.
    pub(super) fn seal(&mut self) {
        self.slot.seal_into(&mut self.waiting);
        self.open_since = None;
        self.due = false;
    }

    /// Whether the open batch waits for more records.
    pub(super) fn is_lingering(&self) -> bool {
        self.open_since.is_some() && !self.due
    }

    pub(super) fn publish_load(&self) {
        self.slot.set_load(match self.leader {
            Some(_) => {
                Load::Queued(u32::try_from(self.waiting.len() + self.pipeline.len()).unwrap_or(u32::MAX))
            }
            None => Load::Unavailable,
        });
    }

    pub(super) fn head(&self, identity: &Identity) -> Head {
        let batch = match self.pipeline.next(identity) {
            Next::Retry => self.pipeline.oldest(),
            Next::Stamp => self.waiting.front(),
            Next::Wait | Next::Restart => return Head::Nothing,
        };
        match batch {
            Some(batch) if batch.is_prepared() => Head::Ready,
            Some(batch) if batch.is_raw() => Head::Unprepared,
            Some(_) => Head::Away,
            None if self.due => Head::Open,
            None => Head::Nothing,
        }
    }

    /// Makes the next batch ready to be sent; one that cannot be made ready fails.
    pub(super) fn prepare_head(
        &mut self,
        identity: &Identity,
        compressor: Option<&mut Compressor>,
        memory: &Memory,
    ) -> Result<(), BatchError> {
        if self.head(identity) == Head::Open {
            self.seal();
        }
        let batch = match self.pipeline.next(identity) {
            Next::Retry => self.pipeline.oldest_mut(),
            _ => self.waiting.front_mut(),
        };
        let Some(batch) = batch else { return Ok(()) };
        let prepared = batch.prepare(compressor, memory);
        if let Err(error) = &prepared {
            let completion = batch.completion().clone();
            self.fail_batch(&completion, error, memory);
        }
        prepared
    }

    /// The size of the next batch in bytes.
    pub(super) fn head_len(&self, identity: &Identity) -> usize {
        let batch = match self.pipeline.next(identity) {
            Next::Retry => self.pipeline.oldest(),
            _ => self.waiting.front(),
        };
        batch.map_or(0, |batch| batch.len())
    }

    /// Hands out the next batch, stamped, to be sent to `node`.
    pub(super) fn take_head(&mut self, identity: &Identity, slot: u32, node: NodeId) -> Option<Part> {
        let sent = match self.pipeline.next(identity) {
            Next::Retry => self.pipeline.retry()?,
            Next::Stamp => self.pipeline.stamp(identity, self.waiting.pop_front()?),
            Next::Wait | Next::Restart => return None,
        };
        sent.batch.begin_attempt();
        let (sequence, stamp) = (sent.sequence, stamp(sent.stamp, sent.sequence));
        let bytes = sent.batch.bytes(stamp)?;
        let requests = self.wire.map_or(0, |wire| wire.requests) + 1;
        self.wire = Some(Wire { node, requests });
        self.unqueued = Some(sequence);
        Some(Part {
            slot,
            topic: self.slot.id.topic.clone(),
            topic_id: self.topic_id,
            partition: self.slot.id.partition,
            sequence,
            bytes,
        })
    }

    /// Takes in what became of an attempt. Says how many failed in a row if the batch is to be tried again.
    pub(super) fn answered(
        &mut self,
        sequence: Sequence,
        verdict: Verdict,
        retries: u32,
        memory: &Memory,
    ) -> Option<u32> {
        let batch = self.pipeline.on_wire(sequence)?;
        let mut answer = verdict.answer;
        if answer != Answer::Written {
            let doubtful = matches!(answer, Answer::Unknown | Answer::GivenUp);
            let fate = if doubtful { Fate::PossiblyWritten } else { Fate::NotWritten };
            batch.last_error = Some(verdict.error(&self.slot.id, fate));
            if batch.attempts > retries {
                answer = if doubtful { Answer::GivenUp } else { Answer::Refused };
            }
        }
        self.wire = self.wire.and_then(|wire| {
            (wire.requests > 1).then(|| Wire { node: wire.node, requests: wire.requests - 1 })
        });
        if self.unqueued == Some(sequence) {
            self.unqueued = None;
        }
        let mut retried = None;
        match self.pipeline.answered(sequence, answer) {
            Step::Acknowledge(batch) | Step::Forget(batch) => {
                if answer == Answer::Written {
                    self.failures = 0;
                    self.not_before = None;
                }
                batch.finish(verdict.outcome(&self.slot.id, Fate::Written), memory);
            }
            Step::Retry => {
                self.failures += 1;
                let at_once = verdict.retry_at_once && self.failures <= PROMPT;
                retried = (!at_once).then_some(self.failures);
            }
            Step::Fail(batch, fate) => batch.finish(verdict.outcome(&self.slot.id, fate), memory),
            Step::Nothing => {}
        }
        if self.is_at_rest() {
            self.pipeline.rest();
        }
        retried
    }

    /// Whether there are records that wait, also such as may wait for more.
    pub(super) fn has_records(&self) -> bool {
        self.open_since.is_some() || !self.waiting.is_empty()
    }

    /// Whether everything was answered and nothing waits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.pipeline.is_empty() && self.waiting.is_empty() && !self.due
    }

    /// Starts over under a new epoch, with everything that may be stamped anew lined up again in its order.
    pub(super) fn restart(&mut self, identity: &mut Identity, memory: &Memory) {
        let mut again = Vec::new();
        let id = &self.slot.id;
        self.pipeline.restart(
            identity,
            |batch| again.push(batch),
            |mut batch, fate| {
                let last = batch.last_error.take();
                batch.fail(ErrorKind::SequenceLost { partition: id.clone(), last }, fate, memory);
            },
        );
        tracing::debug!(
            partition = %self.slot.id,
            stamped_anew = again.len(),
            "the partition starts over under a new producer epoch"
        );
        for batch in again.into_iter().rev() {
            self.waiting.push_front(batch);
        }
    }

    /// Gives up on the batches whose time is over, the oldest first.
    pub(super) fn expire(&mut self, timeout: Duration, memory: &Memory, now: Instant) {
        let is_expired = |created: Instant| created + timeout <= now;
        if self.open_since.is_some_and(is_expired) {
            self.seal();
        }
        let id = self.slot.id.clone();
        let timed_out = |batch: &mut Batch| ErrorKind::DeliveryTimedOut {
            partition: id.clone(),
            after: timeout,
            attempts: batch.attempts,
            last: batch.last_error.take(),
        };
        self.give_up(|batch| is_expired(batch.created()), timed_out, memory);
    }

    /// Fails everything that was accepted so far, because no broker will take it.
    pub(super) fn refuse(&mut self, error: &kafka_client::Error, memory: &Memory) {
        self.collect();
        self.seal();
        self.give_up(|_| true, |_| ErrorKind::Client(error.clone()), memory);
    }

    /// Fails those batches, each with its fate.
    fn give_up(
        &mut self,
        which: impl Fn(&Batch) -> bool,
        why: impl Fn(&mut Batch) -> ErrorKind,
        memory: &Memory,
    ) {
        self.pipeline.expire(
            |batch| which(batch),
            |batch, fate| {
                let kind = why(batch);
                batch.resolve(Outcome::Failed(Error::new(kind, fate)));
            },
        );
        while let Some(mut batch) = self.waiting.pop_front_if(|batch| which(batch)) {
            let kind = why(&mut batch);
            batch.fail(kind, Fate::NotWritten, memory);
        }
        if self.is_at_rest() {
            self.pipeline.rest();
        }
    }

    /// When something happens here without anybody doing anything.
    pub(super) fn next_timer(&self, timeout: Duration, now: Instant) -> Option<Instant> {
        let oldest = self.pipeline.batches().next().or(self.waiting.front()).map(|batch| batch.created());
        let expires = oldest.or(self.open_since).map(|created| created + timeout);
        let retry = self.not_before.filter(|at| *at > now);
        [expires, retry].into_iter().flatten().min()
    }

    /// Takes the records of the oldest batch that is neither compressed nor being compressed.
    pub(super) fn take_raw(&mut self) -> Option<(Arc<BatchCompletion>, BatchWriter)> {
        let mut batches = self.pipeline.batches_mut().chain(&mut self.waiting);
        batches.find_map(|batch| Some((batch.completion().clone(), batch.take_raw()?)))
    }

    /// Brings back the records of a batch, unless it expired meanwhile.
    pub(super) fn put_back(&mut self, batch: &Arc<BatchCompletion>, sealed: SealedBatch, memory: &Memory) {
        let mut batches = self.pipeline.batches_mut().chain(&mut self.waiting);
        match batches.find(|known| Arc::ptr_eq(known.completion(), batch)) {
            Some(known) => known.put_back(sealed),
            None => memory.recycle_sent(sealed.freeze()),
        }
    }

    /// Fails a batch whose bytes cannot be made.
    pub(super) fn fail_batch(&mut self, batch: &Arc<BatchCompletion>, error: &BatchError, memory: &Memory) {
        let kind = || ErrorKind::InvalidRecord { reason: error.to_string() };
        let is_it = |known: &Batch| Arc::ptr_eq(known.completion(), batch);
        if let Some(at) = self.waiting.iter().position(|known| is_it(known)) {
            if let Some(batch) = self.waiting.remove(at) {
                batch.fail(kind(), Fate::NotWritten, memory);
            }
        } else if self.pipeline.oldest().is_some_and(|known| is_it(known))
            && let Some(sent) = self.pipeline.retry()
        {
            // Half of a divided batch: it has its place in the order, which is given up here.
            let sequence = sent.sequence;
            if let Step::Fail(batch, fate) = self.pipeline.answered(sequence, Answer::Refused) {
                batch.fail(kind(), fate, memory);
            }
        }
    }

    /// Remembers why the next batch is not sent.
    pub(super) fn note_failure(&mut self, error: &Error) {
        for batch in self.pipeline.batches_mut().chain(self.waiting.front_mut()) {
            batch.last_error.get_or_insert_with(|| error.clone());
        }
    }

    /// Fails everything, each batch with its fate.
    pub(super) fn close(&mut self, memory: &Memory, error: &mut impl FnMut(Fate) -> Error) {
        self.slot.close(&mut self.waiting);
        self.open_since = None;
        self.due = false;
        self.pipeline.close(|batch, fate| batch.finish(Outcome::Failed(error(fate)), memory));
        for batch in self.waiting.drain(..) {
            batch.finish(Outcome::Failed(error(Fate::NotWritten)), memory);
        }
    }
}
