//! Takes batches out of the subscription's buffer, has them opened, and hands them out in order.
//!
//! Batches that are opened on another thread are so two ahead of the application.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kafka_client::TopicPartition;
use kafka_wire::record_batch::{BatchError, DecodedBatch, RecordReader};
use tokio::time::Instant;

use crate::acks::{Ack, Acks};
use crate::buffer::Piece;
use crate::error::{ErrorKind, Result};
use crate::opening::Opening;
use crate::record::{Batch, ConsumerRecord, Place};
use crate::shared::{Shared, State};
use crate::subscription::{Claim, Next, Ticket, Turn};

/// Batches that are opened ahead of the application, to bound what decompression may take.
const AHEAD: usize = 2;

/// What a reader reads.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Every partition, in turn.
    All,
    /// One, until it is revoked; what is handed out of it is to be acknowledged.
    One(Claim, Arc<Acks>),
}

/// A record, to be acknowledged if it comes from one partition's reader.
pub(crate) type HandedOut = (ConsumerRecord, Option<Ack>);

#[derive(Debug)]
struct Job {
    ticket: Ticket,
    partition: TopicPartition,
    next: Next,
    opening: Opening,
}

/// A batch that may be handed out.
#[derive(Debug)]
struct Open {
    ticket: Ticket,
    claim: Option<Claim>,
    place: Place,
    decoded: DecodedBatch,
    piece: Piece,
}

/// The batch whose records are being handed out one by one.
#[derive(Debug)]
struct Current {
    open: Open,
    records: RecordReader,
}

/// Reads a [`Source`].
#[derive(Debug)]
pub(crate) struct Reader {
    source: Source,
    ahead: VecDeque<Job>,
    current: Option<Current>,
    /// What was handed out last: asking for more says that the application is done with it.
    last: Option<Claim>,
}

impl Reader {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, ahead: VecDeque::new(), current: None, last: None }
    }

    /// The application asks for more, so it is done with what it has.
    pub(crate) fn acknowledge_last(&mut self, state: &mut State) {
        if let Some(claim) = self.last.take() {
            state.subscription.ack_handed(claim);
        }
    }

    /// Puts everything back that was not handed out, for others to read.
    pub(crate) fn stop(&mut self, state: &mut State) {
        while let Some(ticket) = self.ahead.back().map(|job| job.ticket) {
            self.give_back(state, ticket);
        }
        if let Some(ticket) = self.current.as_ref().map(|current| current.open.ticket) {
            self.give_back(state, ticket);
        }
    }

    /// The next record. `None` ends a partition that is no longer assigned.
    pub(crate) fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Option<Result<HandedOut>>> {
        loop {
            if let Some(record) = self.next_of_current(shared) {
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(self.poll_open(cx, shared)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(open)) => {
                    let records = open.decoded.clone().into_reader();
                    self.current = Some(Current { open, records });
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
        loop {
            let open = match self.current.take() {
                Some(current) => current.open,
                None => match ready!(self.poll_open(cx, shared)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(open)) => open,
                },
            };
            let mut state = shared.state();
            let from = match state.subscription.turn(open.ticket) {
                Turn::Yes(position) => position,
                Turn::Stale => continue,
                Turn::Paused => {
                    let ticket = open.ticket;
                    let records = open.decoded.clone().into_reader();
                    self.current = Some(Current { open, records });
                    self.give_back(&mut state, ticket);
                    continue;
                }
            };
            let Open { ticket, claim, place, decoded, piece } = open;
            let is_empty =
                from > decoded.header.base_offset && !decoded.records().flatten().any(|r| r.offset >= from);
            let next_offset = piece.next_offset;
            if is_empty {
                step_over(shared, &mut state, ticket, piece);
                continue;
            }
            let mut wake = state.subscription.advance(ticket, next_offset, piece.leader_epoch);
            self.last = claim;
            drop(piece);
            wake |= state.subscription.has_room_again();
            drop(state);
            if wake {
                shared.fetch.notify_one();
            }
            return Poll::Ready(Some(Ok(Batch { place, decoded, from, next_offset })));
        }
    }

    /// The next record of the batch that is being handed out, which costs one look at the partition. Asking for it says,
    /// where all partitions are read, that the application is done with the record before.
    #[inline]
    pub(crate) fn next_of_current(&mut self, shared: &Shared) -> Option<HandedOut> {
        let Current { open, records } = self.current.as_mut()?;
        let ticket = open.ticket;
        let mut state = shared.state();
        if let Source::All = self.source
            && let Some(claim) = self.last.take()
        {
            state.subscription.ack_handed(claim);
        }
        let position = match state.subscription.turn(ticket) {
            Turn::Yes(position) => position,
            Turn::Stale => {
                self.current = None;
                return None;
            }
            Turn::Paused => {
                self.give_back(&mut state, ticket);
                return None;
            }
        };
        let mut left = records.remaining();
        let record = loop {
            left = left.saturating_sub(1);
            // That the records can be read was seen when the batch was opened.
            match records.next_record() {
                Some(Ok(record)) if record.offset < position => {}
                record => break record.and_then(std::result::Result::ok),
            }
        };
        let ended = record.is_none() || left == 0;
        let epoch = open.piece.leader_epoch;
        let next_offset = match &record {
            Some(record) if !ended => record.offset + 1,
            _ => open.piece.next_offset,
        };
        let handed_out = record.map(|record| {
            // Together with the position: or a revocation could come between the two, and not wait for the record.
            let ack = match &self.source {
                Source::All => None,
                Source::One(_, acks) => Some(acks.hand_out(next_offset, epoch)),
            };
            (ConsumerRecord::new(&open.place, open.decoded.body(), &record), ack)
        });
        let mut wake = match &handed_out {
            Some(_) => state.subscription.advance(ticket, next_offset, epoch),
            None => state.subscription.step_over(ticket, next_offset, epoch),
        };
        if handed_out.is_some() {
            self.last = open.claim;
        }
        if ended {
            self.current = None;
            wake |= state.subscription.has_room_again();
        }
        drop(state);
        if wake {
            shared.fetch.notify_one();
        }
        handed_out
    }

    /// The next batch that may be handed out.
    fn poll_open(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Option<Result<Open>>> {
        loop {
            if self.fill(cx, shared) {
                return Poll::Ready(None);
            }
            let Some(job) = self.ahead.front_mut() else { return Poll::Pending };
            if let Opening::Elsewhere(task) = &mut job.opening {
                let opened = ready!(Pin::new(task).poll(cx));
                // A codec that panics is as good as one that refuses.
                let opened = opened.unwrap_or(Err(BatchError::Malformed("its codec failed")));
                job.opening = Opening::Done(opened);
            }
            let ticket = job.ticket;
            let mut state = shared.state();
            let position = match state.subscription.turn(ticket) {
                Turn::Yes(position) => position,
                Turn::Stale => {
                    self.ahead.pop_front();
                    continue;
                }
                Turn::Paused => {
                    self.give_back(&mut state, ticket);
                    continue;
                }
            };
            let Some(Job { partition, next, opening, .. }) = self.ahead.pop_front() else { continue };
            let (piece, source) = match (next, opening) {
                (Next::Error(error), _) => return Poll::Ready(Some(Err(error))),
                (Next::Unreadable(source), _) => (None, source),
                (Next::Piece(piece), Opening::Done(Ok(decoded))) => {
                    let place = Place {
                        partition,
                        leader_epoch: piece.leader_epoch,
                        timestamp_type: decoded.header.timestamp_type(),
                    };
                    let claim = state.subscription.claim_of(ticket);
                    return Poll::Ready(Some(Ok(Open { ticket, claim, place, decoded, piece })));
                }
                (Next::Piece(piece), Opening::Done(Err(source))) => (Some(piece), source),
                (Next::Piece(piece), _) => {
                    step_over(shared, &mut state, ticket, piece);
                    continue;
                }
            };
            state.subscription.corrupt(ticket, Instant::now());
            drop(state);
            shared.fetch.notify_one();
            let batch = piece.as_ref().and_then(|piece| piece.batch.as_ref());
            let offset = batch.map_or(position, |batch| batch.header.base_offset);
            return Poll::Ready(Some(Err(ErrorKind::Corrupt { partition, offset, source }.into())));
        }
    }

    /// Takes as much as may be opened ahead; tells whether the source has ended.
    fn fill(&mut self, cx: &Context<'_>, shared: &Shared) -> bool {
        while self.ahead.len() < AHEAD {
            let is_slow = |job: &Job| matches!(job.opening, Opening::Elsewhere(_));
            if self.ahead.back().is_some_and(|job| !is_slow(job)) {
                return false;
            }
            let mut state = shared.state();
            let taken = match &self.source {
                Source::All => state.subscription.take(),
                Source::One(claim, _) => state.subscription.take_from(*claim),
            };
            let Some(taken) = taken else {
                return self.ahead.is_empty() && self.wait(cx, shared, &mut state);
            };
            drop(state);
            if taken.wake_fetcher {
                shared.fetch.notify_one();
            }
            let opening = match &taken.next {
                Next::Piece(Piece { batch: Some(batch), .. }) => shared.opener.open(batch),
                _ => Opening::None,
            };
            let (ticket, partition, next) = (taken.ticket, taken.partition, taken.next);
            self.ahead.push_back(Job { ticket, partition, next, opening });
        }
        false
    }

    /// Waits for more; tells whether there is none to come.
    fn wait(&self, cx: &Context<'_>, shared: &Shared, state: &mut State) -> bool {
        let claim = match &self.source {
            Source::All => {
                state.reader = Some(cx.waker().clone());
                None
            }
            Source::One(claim, _) if state.subscription.is_assigned(*claim) && !state.closed => {
                state.streams.insert(*claim, cx.waker().clone());
                Some(*claim)
            }
            Source::One(..) => return true,
        };
        if state.subscription.await_more(claim) {
            shared.fetch.notify_one();
        }
        false
    }

    /// Puts back everything taken of a partition, which keeps what was fetched of it: the last piece first.
    fn give_back(&mut self, state: &mut State, ticket: Ticket) {
        let (mut same, rest): (VecDeque<Job>, VecDeque<Job>) =
            self.ahead.drain(..).partition(|job| job.ticket == ticket);
        self.ahead = rest;
        while let Some(job) = same.pop_back() {
            state.subscription.give_back(ticket, job.next);
        }
        if let Some(current) = self.current.take_if(|current| current.open.ticket == ticket) {
            state.subscription.give_back(ticket, Next::Piece(current.open.piece));
        }
    }
}

fn step_over(shared: &Shared, state: &mut State, ticket: Ticket, piece: Piece) {
    let mut wake = state.subscription.step_over(ticket, piece.next_offset, piece.leader_epoch);
    drop(piece);
    wake |= state.subscription.has_room_again();
    if wake {
        shared.fetch.notify_one();
    }
}
