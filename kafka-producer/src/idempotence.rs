//! Decides which batch of a partition may be sent next and what an answer means for it, so that no record is written
//! twice or out of order.
//!
//! A broker keeps, per partition and producer id, the last five batches and the epoch. It takes a batch whose first
//! sequence follows the last one, takes the first batch of a newer epoch only at sequence 0, and takes *anything* from a
//! producer id that it does not know. [`Pipeline`] is the other side of those rules for one partition, [`Identity`] the
//! part that all partitions of a producer share. Neither knows time, bytes or connections.

use std::collections::VecDeque;

use crate::batch::push_sparingly;
use crate::error::Fate;

/// How many batches of one partition may be unanswered: as many as a broker remembers.
const WINDOW: usize = 5;

/// Who a broker takes this producer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// The identity under which new batches are stamped.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    current: Option<ProducerIdentity>,
}

impl Identity {
    pub(crate) fn current(&self) -> Option<ProducerIdentity> {
        self.current
    }

    /// Takes the identity that a broker handed out.
    pub(crate) fn assign(&mut self, identity: ProducerIdentity) {
        self.current = Some(identity);
    }

    /// Moves on from `used`, unless another partition already did. Without epochs left the producer needs a new id,
    /// and nothing is stamped until [`assign`](Self::assign) brings it.
    fn move_on_from(&mut self, used: ProducerIdentity) {
        if self.current == Some(used) {
            self.current = used.epoch.checked_add(1).map(|epoch| ProducerIdentity { id: used.id, epoch });
        }
    }
}

/// What a pipeline needs to know of the batches it orders.
pub(crate) trait Stampable: Sized {
    /// How many sequence numbers the batch takes; at least 1.
    fn record_count(&self) -> i32;

    /// Two batches that hold the same records in the same order, or the batch itself if it cannot be divided.
    fn split(self) -> Result<[Self; 2], Self>;
}

/// Where a batch stands in its partition's order; what the broker sees as base sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence(pub(crate) i32);

/// A batch to be sent, with the stamp it must carry. Without idempotence there is no stamp.
#[derive(Debug)]
pub(crate) struct Outgoing<'a, B> {
    pub(crate) batch: &'a mut B,
    pub(crate) sequence: Sequence,
    pub(crate) stamp: Option<ProducerIdentity>,
}

/// What became of one attempt to write a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The records are in the log, from this attempt or an earlier one.
    Written,
    /// Not appended by this attempt; sending the same bytes again may help.
    NotAppended,
    /// Nobody can tell; sending the same bytes again is the way to find out.
    Unknown,
    /// Not appended by this attempt, and the same bytes never will be.
    Refused,
    /// Nobody can tell, and sending the same bytes again could write them twice.
    GivenUp,
    /// More bytes than the broker takes at once; not appended.
    TooLarge,
    /// OUT_OF_ORDER_SEQUENCE_NUMBER; not appended.
    OutOfOrder,
    /// UNKNOWN_PRODUCER_ID; not appended. −1 where the broker did not say where its log starts.
    UnknownProducerId { log_start_offset: i64 },
    /// INVALID_PRODUCER_EPOCH: the partition knows a newer epoch; not appended.
    StaleEpoch,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<B> {
    /// Done.
    Acknowledge(B),
    /// The batch stays in the pipeline and will be sent again.
    Retry,
    /// The batch is over.
    Fail(B, Fate),
    /// The batch had been resolved before, by expiry; its place in the order is free now.
    Forget(B),
    /// No batch is on its way under this sequence.
    Nothing,
}

/// What the pipeline can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send the oldest batch again: [`Pipeline::retry`].
    Retry,
    /// Take a batch that was never sent: [`Pipeline::stamp`].
    Stamp,
    /// Wait for an answer or for an identity.
    Wait,
    /// Start over under a new epoch: [`Pipeline::restart`].
    Restart,
}

/// One partition's stamped batches in the order of their sequences.
#[derive(Debug)]
pub(crate) struct Pipeline<B> {
    idempotent: bool,
    /// The identity under which this partition counts; it may lag behind the producer's until the pipeline is empty.
    stamp: Option<ProducerIdentity>,
    next_sequence: i32,
    /// The highest sequence that is known to be in the log.
    last_acked: Option<i32>,
    entries: VecDeque<Entry<B>>,
    /// Whether more than one batch may be unanswered.
    open: bool,
    /// A range was given up without knowing whether it is in the log: nothing new is stamped behind it.
    gap: bool,
    /// The log and our count disagree: nothing is sent until the socket is quiet, then everything starts over.
    restart: bool,
}

#[derive(Debug)]
struct Entry<B> {
    batch: B,
    sequence: i32,
    count: i32,
    on_wire: bool,
    retried: bool,
    possibly_written: bool,
    /// A later batch is in the log: this one can be confirmed there but no longer be written in order.
    overtaken: bool,
    /// Its records were given their outcome; only the range still matters.
    expired: bool,
}

impl<B> Entry<B> {
    fn fate(&self) -> Fate {
        if self.possibly_written { Fate::PossiblyWritten } else { Fate::NotWritten }
    }
}

impl<B: Stampable> Pipeline<B> {
    /// Without idempotence batches carry no stamp, and order is kept by having one unanswered at a time.
    pub(crate) fn new(idempotent: bool) -> Self {
        Self {
            idempotent,
            stamp: None,
            next_sequence: 0,
            last_acked: None,
            entries: VecDeque::new(),
            open: false,
            gap: false,
            restart: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many batches are stamped and not settled.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The batches in order, without those that expired.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &B> {
        self.entries.iter().filter(|entry| !entry.expired).map(|entry| &entry.batch)
    }

    pub(crate) fn batches_mut(&mut self) -> impl Iterator<Item = &mut B> {
        self.entries.iter_mut().filter(|entry| !entry.expired).map(|entry| &mut entry.batch)
    }

    /// The batch that [`retry`](Self::retry) would send.
    pub(crate) fn oldest(&self) -> Option<&B> {
        self.entries.front().map(|entry| &entry.batch)
    }

    pub(crate) fn oldest_mut(&mut self) -> Option<&mut B> {
        self.entries.front_mut().map(|entry| &mut entry.batch)
    }

    /// Whether a request that holds a batch of this partition is unanswered.
    pub(crate) fn is_on_wire(&self) -> bool {
        self.entries.iter().any(|entry| entry.on_wire)
    }

    /// What may happen now, with `identity` being the producer's.
    pub(crate) fn next(&self, identity: &Identity) -> Next {
        if self.restart {
            return if self.is_on_wire() { Next::Wait } else { Next::Restart };
        }
        // Recovery runs with one batch in flight: a broker remembers too few to recognise an old one behind new ones.
        if let Some(first) = self.entries.iter().position(|entry| !entry.on_wire) {
            return if first == 0 { Next::Retry } else { Next::Wait };
        }
        if self.entries.iter().any(|entry| entry.retried) {
            return Next::Wait;
        }
        if self.entries.is_empty() {
            return if self.idempotent && identity.current().is_none() { Next::Wait } else { Next::Stamp };
        }
        // The first batch of an epoch travels alone: a broker that does not know the producer yet would take the second
        // one after refusing the first, and then refuse the first for ever.
        let window = if self.idempotent && self.open { WINDOW } else { 1 };
        let settled = !self.gap && self.stamp == identity.current();
        if settled && self.entries.len() < window { Next::Stamp } else { Next::Wait }
    }

    /// Takes a new batch into the order; it counts as sent. Call it after [`Next::Stamp`] only.
    pub(crate) fn stamp(&mut self, identity: &Identity, batch: B) -> Outgoing<'_, B> {
        if self.idempotent && self.stamp != identity.current() && self.entries.is_empty() {
            self.start_under(identity.current());
        }
        let sequence = self.next_sequence;
        let count = batch.record_count();
        self.next_sequence = advance(sequence, count);
        let position = self.entries.len();
        let entry = Entry {
            batch,
            sequence,
            count,
            on_wire: true,
            retried: false,
            possibly_written: false,
            overtaken: false,
            expired: false,
        };
        push_sparingly(&mut self.entries, entry);
        Outgoing { batch: &mut self.entries[position].batch, sequence: Sequence(sequence), stamp: self.stamp }
    }

    /// The oldest batch, to be sent once more exactly as before. Call it after [`Next::Retry`] only.
    pub(crate) fn retry(&mut self) -> Option<Outgoing<'_, B>> {
        let stamp = self.stamp;
        let entry = self.entries.front_mut()?;
        entry.on_wire = true;
        entry.retried = true;
        Some(Outgoing { batch: &mut entry.batch, sequence: Sequence(entry.sequence), stamp })
    }

    /// The batch that is on its way under `sequence`.
    pub(crate) fn on_wire(&mut self, sequence: Sequence) -> Option<&mut B> {
        let at = self.position(sequence)?;
        Some(&mut self.entries[at].batch)
    }

    pub(crate) fn has_on_wire(&self, sequence: Sequence) -> bool {
        self.position(sequence).is_some()
    }

    /// Tells what became of the batch that was sent under `sequence`.
    pub(crate) fn answered(&mut self, sequence: Sequence, answer: Answer) -> Step<B> {
        let Some(at) = self.position(sequence) else { return Step::Nothing };
        let step = self.step(at, answer);
        self.close_gap();
        step
    }

    /// With everything answered, either the range that was given up is in the log after all, or the log ends before it.
    fn close_gap(&mut self) {
        if self.entries.is_empty() && self.gap {
            self.gap = false;
            self.restart |= self.idempotent && !self.is_contiguous();
        }
    }

    fn step(&mut self, at: usize, answer: Answer) -> Step<B> {
        let entry = &mut self.entries[at];
        entry.on_wire = false;
        if answer == Answer::Written {
            return self.acknowledge(at);
        }
        entry.possibly_written |= matches!(answer, Answer::Unknown | Answer::GivenUp);
        if entry.expired {
            return self.remove(at, |entry| Step::Forget(entry.batch));
        }
        let out_of_reach = entry.overtaken && !entry.possibly_written;
        match answer {
            _ if out_of_reach => self.fail(at),
            Answer::Written | Answer::NotAppended | Answer::Unknown => Step::Retry,
            Answer::Refused | Answer::GivenUp => self.fail(at),
            Answer::TooLarge => self.split(at),
            Answer::OutOfOrder if entry.overtaken => self.fail(at),
            // Its predecessor is being retried, and this one follows it.
            Answer::OutOfOrder if at > 0 => Step::Retry,
            // The leader does not know where its log starts: it has only just become the leader.
            Answer::UnknownProducerId { log_start_offset: -1 } => Step::Retry,
            // Nothing is missing before a first batch.
            Answer::UnknownProducerId { .. } if entry.sequence == 0 => Step::Retry,
            Answer::OutOfOrder | Answer::UnknownProducerId { .. } | Answer::StaleEpoch => {
                self.restart = true;
                Step::Retry
            }
        }
    }

    fn acknowledge(&mut self, at: usize) -> Step<B> {
        for earlier in self.entries.range_mut(..at) {
            earlier.overtaken = true;
        }
        let entry = &self.entries[at];
        let last = advance(entry.sequence, entry.count - 1);
        if self.last_acked.is_none_or(|acked| is_after(last, acked)) {
            self.last_acked = Some(last);
        }
        self.open = true;
        self.remove(at, |entry| {
            if entry.expired { Step::Forget(entry.batch) } else { Step::Acknowledge(entry.batch) }
        })
    }

    /// Ends a batch. Its range is free again if nothing was stamped behind it and no attempt can have been appended.
    fn fail(&mut self, at: usize) -> Step<B> {
        let entry = &self.entries[at];
        let is_last = at + 1 == self.entries.len();
        if entry.overtaken {
            // The log already continues behind it.
        } else if is_last && !self.gap && !entry.possibly_written {
            self.next_sequence = entry.sequence;
        } else {
            self.gap = true;
        }
        self.remove(at, |entry| {
            let fate = entry.fate();
            Step::Fail(entry.batch, fate)
        })
    }

    /// Puts two halves in the place of a batch; they share its range and what is known about it.
    fn split(&mut self, at: usize) -> Step<B> {
        let Some(Entry { batch, sequence, count, on_wire, retried, possibly_written, overtaken, expired }) =
            self.entries.remove(at)
        else {
            return Step::Nothing;
        };
        let part = |batch, sequence, count| Entry {
            batch,
            sequence,
            count,
            on_wire,
            retried,
            possibly_written,
            overtaken,
            expired,
        };
        match batch.split() {
            Ok([first, second]) => {
                let middle = first.record_count();
                self.entries.insert(at, part(second, advance(sequence, middle), count - middle));
                self.entries.insert(at, part(first, sequence, middle));
                Step::Retry
            }
            Err(batch) => {
                self.entries.insert(at, part(batch, sequence, count));
                self.fail(at)
            }
        }
    }

    /// Gives up on every batch that `is_expired` names. `resolve` tells its records; a batch that is on the wire is
    /// dropped only when its request is over.
    pub(crate) fn expire(&mut self, is_expired: impl Fn(&B) -> bool, mut resolve: impl FnMut(&mut B, Fate)) {
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            if entry.expired || !is_expired(&entry.batch) {
                at += 1;
                continue;
            }
            self.gap |= !entry.overtaken;
            if entry.on_wire {
                entry.expired = true;
                resolve(&mut entry.batch, Fate::PossiblyWritten);
                at += 1;
            } else if let Some(mut entry) = self.entries.remove(at) {
                let fate = entry.fate();
                resolve(&mut entry.batch, fate);
            }
        }
        self.close_gap();
    }

    /// Everything sent so far was answered and nothing waits: the next batch travels alone again, since by then the
    /// broker may have forgotten this producer.
    pub(crate) fn rest(&mut self) {
        if self.entries.is_empty() {
            self.open = false;
        }
    }

    /// The partition has a new log, which knows nothing of this producer.
    pub(crate) fn new_log(&mut self) {
        self.restart |= self.idempotent && self.stamp.is_some();
    }

    /// Starts over under a new epoch. Batches of which no attempt can have been appended are handed back in order, to
    /// be stamped anew; the others fail, since stamping them anew could write them twice. Call it after
    /// [`Next::Restart`] only.
    pub(crate) fn restart(
        &mut self,
        identity: &mut Identity,
        mut again: impl FnMut(B),
        mut failed: impl FnMut(B, Fate),
    ) {
        for entry in self.entries.drain(..) {
            match entry.fate() {
                Fate::NotWritten if !entry.overtaken => again(entry.batch),
                fate => failed(entry.batch, fate),
            }
        }
        if let Some(used) = self.stamp {
            identity.move_on_from(used);
        }
        self.start_under(None);
        self.restart = false;
    }

    /// Takes every batch out, with its fate. Nothing may be sent afterwards.
    pub(crate) fn close(&mut self, mut failed: impl FnMut(B, Fate)) {
        for entry in self.entries.drain(..).filter(|entry| !entry.expired) {
            let fate = if entry.on_wire { Fate::PossiblyWritten } else { entry.fate() };
            failed(entry.batch, fate);
        }
    }

    fn start_under(&mut self, stamp: Option<ProducerIdentity>) {
        self.stamp = stamp;
        self.next_sequence = 0;
        self.last_acked = None;
        self.open = false;
        self.gap = false;
    }

    fn position(&self, sequence: Sequence) -> Option<usize> {
        self.entries.iter().position(|entry| entry.on_wire && entry.sequence == sequence.0)
    }

    fn remove<T>(&mut self, at: usize, with: impl FnOnce(Entry<B>) -> Step<T>) -> Step<T> {
        self.entries.remove(at).map_or(Step::Nothing, with)
    }

    fn is_contiguous(&self) -> bool {
        self.last_acked.map_or(0, |acked| advance(acked, 1)) == self.next_sequence
    }
}

/// The sequence `count` after `sequence`; 2^31 − 1 is followed by 0.
fn advance(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

/// Whether `one` comes after `other`, which it is never further from than half the numbers there are.
fn is_after(one: i32, other: i32) -> bool {
    let ahead = one.wrapping_sub(other) & i32::MAX;
    ahead != 0 && ahead < i32::MAX / 2
}

#[cfg(test)]
mod tests;
