//! Takes batches out of the subscription's buffer, opens them, and hands them out in order.
//!
//! A slow codec's batches are opened on another thread, two ahead of the application; all others right here.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kafka_client::TopicPartition;
use kafka_wire::compression::{Compression, Decompressor};
use kafka_wire::record_batch::{BatchError, DecodedBatch, RawBatch, RecordReader};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::record::{Batch, ConsumerRecord, Place};
use crate::shared::{Shared, State};
use crate::subscription::{Claim, Queued, Ticket, Turn};

/// Batches that are opened ahead of the application, to bound what decompression may take.
const AHEAD: usize = 2;

/// What a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Every partition, in turn.
    All,
    /// One, until it is revoked.
    One(Claim),
}

type Opened = std::result::Result<DecodedBatch, BatchError>;

#[derive(Debug)]
enum Opening {
    /// There is nothing to hand out, only a part of the log to step over.
    Gap,
    Done(Opened),
    Elsewhere(JoinHandle<Opened>),
}

#[derive(Debug)]
struct Job {
    ticket: Ticket,
    partition: TopicPartition,
    queued: Queued,
    opening: Opening,
}

/// The batch whose records are being handed out one by one.
#[derive(Debug)]
struct Current {
    ticket: Ticket,
    place: Place,
    records: RecordReader,
    queued: Queued,
}

/// Reads a [`Source`].
#[derive(Debug)]
pub(crate) struct Reader {
    source: Source,
    ahead: VecDeque<Job>,
    current: Option<Current>,
    /// What was handed out last: asking for more says that the application is done with it.
    last: Option<Ticket>,
    decompressor: Decompressor,
}

impl Reader {
    pub(crate) fn new(source: Source, max_decompressed: usize) -> Self {
        Self {
            source,
            ahead: VecDeque::new(),
            current: None,
            last: None,
            decompressor: Decompressor::new(max_decompressed),
        }
    }

    /// The application asks for more, so it is done with what it has.
    pub(crate) fn acknowledge_last(&mut self, state: &mut State) {
        if let Some(ticket) = self.last.take() {
            state.subscription.ack_position(ticket);
        }
    }

    /// The next record. `None` ends a partition that is no longer assigned.
    pub(crate) fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Option<Result<(Ticket, ConsumerRecord)>>> {
        loop {
            if let Some(record) = self.next_of_current(shared) {
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(self.poll_open(cx, shared)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok((ticket, place, decoded, queued, _))) => {
                    self.current = Some(Current { ticket, place, records: decoded.into_reader(), queued });
                }
            }
        }
    }

    /// The next batch: what is left of one whose records were handed out singly, or a whole one.
    pub(crate) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Option<Result<Batch>>> {
        if let Some(current) = self.current.take() {
            // It is opened again, which is rare and cheaper than another kind of batch.
            shared.state().subscription.give_back(current.ticket, current.queued);
        }
        match ready!(self.poll_open(cx, shared)) {
            None => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok((ticket, place, decoded, queued, from))) => {
                let next_offset = queued.next_offset;
                shared.state().subscription.advance(ticket, next_offset, queued.leader_epoch);
                self.last = Some(ticket);
                Poll::Ready(Some(Ok(Batch { place, decoded, from, next_offset })))
            }
        }
    }

    fn next_of_current(&mut self, shared: &Shared) -> Option<(Ticket, ConsumerRecord)> {
        let current = self.current.as_mut()?;
        let mut state = shared.state();
        match state.subscription.turn(current.ticket) {
            Turn::Yes(position) => {
                // That the records can be read was seen when the batch was opened.
                let record = current.records.find_map(|record| record.ok().filter(|r| r.offset >= position));
                let ended = record.is_none() || current.records.remaining() == 0;
                let next = match &record {
                    Some(record) if !ended => record.offset + 1,
                    _ => current.queued.next_offset,
                };
                state.subscription.advance(current.ticket, next, current.queued.leader_epoch);
                drop(state);
                let handed_out = record.map(|record| {
                    self.last = Some(current.ticket);
                    (current.ticket, ConsumerRecord::new(&current.place, record))
                });
                if ended {
                    self.current = None;
                }
                handed_out
            }
            turn => {
                if turn == Turn::Paused
                    && let Some(current) = self.current.take()
                {
                    state.subscription.give_back(current.ticket, current.queued);
                }
                self.current = None;
                None
            }
        }
    }

    /// The next batch that may be handed out, with the position before it.
    #[allow(clippy::type_complexity, reason = "two callers, side by side")]
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Option<Result<(Ticket, Place, DecodedBatch, Queued, i64)>>> {
        loop {
            if let Some(end) = self.fill(cx, shared) {
                return end;
            }
            let Some(job) = self.ahead.front_mut() else { return Poll::Pending };
            if let Opening::Elsewhere(task) = &mut job.opening {
                let opened = ready!(Pin::new(task).poll(cx));
                // A codec that panics is as good as one that refuses.
                let opened = opened.unwrap_or(Err(BatchError::Malformed("its codec failed")));
                job.opening = Opening::Done(opened);
            }
            let Some(job) = self.ahead.pop_front() else { continue };
            let mut state = shared.state();
            let position = match state.subscription.turn(job.ticket) {
                Turn::Yes(position) => position,
                Turn::Stale => continue,
                Turn::Paused => {
                    self.give_back(&mut state, job);
                    continue;
                }
            };
            match job.opening {
                Opening::Done(Ok(decoded)) => {
                    let place = Place {
                        partition: job.partition,
                        leader_epoch: job.queued.leader_epoch,
                        timestamp_type: decoded.header.timestamp_type(),
                    };
                    return Poll::Ready(Some(Ok((job.ticket, place, decoded, job.queued, position))));
                }
                Opening::Done(Err(source)) => {
                    state.subscription.corrupt(job.ticket, Instant::now());
                    drop(state);
                    shared.fetch.notify_one();
                    let offset = job.queued.batch.as_ref().map_or(position, |batch| batch.header.base_offset);
                    let error = ErrorKind::Corrupt { partition: job.partition, offset, source };
                    return Poll::Ready(Some(Err(error.into())));
                }
                _ => state.subscription.advance(job.ticket, job.queued.next_offset, job.queued.leader_epoch),
            }
        }
    }

    /// Takes as much as may be opened ahead; gives an error or the end of the source, if that is what comes next.
    fn fill<T>(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Option<Poll<Option<Result<T, Error>>>> {
        while self.ahead.len() < AHEAD {
            let slow = |job: &Job| matches!(job.opening, Opening::Elsewhere(_));
            if self.ahead.back().is_some_and(|job| !slow(job)) {
                return None;
            }
            let mut state = shared.state();
            let taken = match self.source {
                Source::All => state.subscription.take(),
                Source::One(claim) => state.subscription.take_from(claim),
            };
            match taken {
                None if !self.ahead.is_empty() => return None,
                None => return self.wait(cx, &mut state),
                // What was taken before the error goes first; the error waits with the partition.
                Some(Err(error)) if self.ahead.is_empty() => return Some(Poll::Ready(Some(Err(error)))),
                Some(Err(error)) => {
                    self.put_off(&mut state, error);
                    return None;
                }
                Some(Ok(taken)) => {
                    drop(state);
                    if taken.wake_fetcher {
                        shared.fetch.notify_one();
                    }
                    let opening = match taken.queued.batch.clone() {
                        None => Opening::Gap,
                        Some(batch) => self.open(batch, shared.config.check_crcs),
                    };
                    self.ahead.push_back(Job {
                        ticket: taken.ticket,
                        partition: taken.partition,
                        queued: taken.queued,
                        opening,
                    });
                }
            }
        }
        None
    }

    fn wait<T>(&self, cx: &Context<'_>, state: &mut State) -> Option<Poll<Option<Result<T, Error>>>> {
        match self.source {
            Source::All => state.reader = Some(cx.waker().clone()),
            Source::One(claim) if state.subscription.is_assigned(claim) && !state.closed => {
                state.streams.insert(claim, cx.waker().clone());
            }
            Source::One(_) => return Some(Poll::Ready(None)),
        }
        None
    }

    fn put_off(&self, state: &mut State, error: Error) {
        if let Some(job) = self.ahead.back() {
            state.subscription.put_off(job.ticket, error);
        }
    }

    /// A paused partition keeps what was fetched of it: everything taken goes back, the last one first.
    fn give_back(&mut self, state: &mut State, first: Job) {
        let ticket = first.ticket;
        let (mut same, rest): (VecDeque<Job>, VecDeque<Job>) =
            self.ahead.drain(..).partition(|job| job.ticket == ticket);
        self.ahead = rest;
        same.push_front(first);
        for job in same.into_iter().rev() {
            state.subscription.give_back(ticket, job.queued);
        }
    }

    fn open(&mut self, batch: RawBatch, check_crc: bool) -> Opening {
        match batch.header.compression() {
            Compression::Gzip | Compression::Zstd => {
                let limit = self.decompressor.limit();
                Opening::Elsewhere(tokio::task::spawn_blocking(move || {
                    open(&batch, check_crc, &mut Decompressor::new(limit))
                }))
            }
            _ => Opening::Done(open(&batch, check_crc, &mut self.decompressor)),
        }
    }
}

/// Opens a batch and sees that every record of it can be read, so that nothing of a bad one is handed out.
fn open(batch: &RawBatch, check_crc: bool, decompressor: &mut Decompressor) -> Opened {
    if check_crc {
        batch.verify()?;
    }
    let decoded = batch.decode(decompressor)?;
    decoded.records().try_for_each(|record| record.map(drop))?;
    Ok(decoded)
}
