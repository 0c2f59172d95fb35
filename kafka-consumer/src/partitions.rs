//! A stream of streams: each partition this consumer is given, to be read by a task of its own until it is revoked.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use kafka_client::TopicPartition;

use crate::acks::{Ack, Acks};
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::handle::ConsumerHandle;
use crate::reader::{Reader, Source};
use crate::record::ConsumerRecord;
use crate::shared::Shared;
use crate::subscription::Claim;

/// Gives a [`PartitionStream`] for each partition that is assigned, now and later.
///
/// Keep polling it: it is what follows the group and commits. What is committed is what was acknowledged
/// ([`PartitionRecord::ack`]) without a gap, so that a record in the hands of a slow task is never passed over. Dropping
/// it drops the consumer: all streams end.
///
/// When a partition is revoked its stream ends; the group waits until the records in the hands of tasks have been
/// acknowledged or dropped, and commits them, before another consumer gets the partition. A stream that is dropped
/// before that is given anew, from the first record that was not acknowledged.
#[derive(Debug)]
pub struct Partitions {
    consumer: Consumer,
    given: HashSet<Claim>,
}

impl Partitions {
    pub(crate) fn new(mut consumer: Consumer) -> Self {
        consumer.stop_reading();
        consumer.shared().state().by_acks = true;
        Self { consumer, given: HashSet::new() }
    }

    /// The controls of the consumer.
    pub fn handle(&self) -> &ConsumerHandle {
        self.consumer.handle()
    }

    /// Ends the consumer within `timeout`: all streams end, records in the hands of tasks are waited for, what was
    /// acknowledged is committed, the group is left.
    ///
    /// # Errors
    /// The commit's. The consumer is closed in any case.
    ///
    /// # Cancel safety
    /// Dropping it drops the consumer: what was not done by then is not done.
    pub async fn close(mut self, timeout: Duration) -> Result<()> {
        let deadline = self.consumer.deadline_in(timeout);
        let under_way = {
            let mut state = self.consumer.shared().state();
            let partitions = state.subscription.assignment();
            state.stop(&partitions);
            state.acks_of(&partitions)
        };
        self.consumer.end(under_way, deadline).await
    }

    /// A partition that nobody reads.
    fn next_claim(&mut self) -> Option<(Claim, TopicPartition, Arc<Acks>)> {
        let shared = Arc::clone(self.consumer.shared());
        let mut state = shared.state();
        self.given.retain(|claim| state.subscription.is_assigned(*claim));
        for claim in std::mem::take(&mut state.dropped) {
            if self.given.remove(&claim) {
                state.subscription.rewind(claim);
                shared.fetch.notify_one();
            }
        }
        let mut claims = state.subscription.claims();
        let (claim, name) = claims.find(|(claim, _)| !self.given.contains(claim))?;
        let name = name.clone();
        drop(claims);
        let acks = Acks::new(claim, &shared);
        // What was handed out by a stream before this one, and is still in the hands of tasks, is read again.
        state.acks.insert(claim, Arc::clone(&acks));
        self.given.insert(claim);
        Some((claim, name, acks))
    }
}

/// Partition after partition. It never ends; an error that [is fatal](Error::is_fatal) comes again with every poll.
impl Stream for Partitions {
    type Item = Result<PartitionStream, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Err(error) = ready!(this.consumer.poll_turn(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        // Registered before the look, so that a stream dropped between the two is not missed.
        this.consumer.shared().state().reader = Some(cx.waker().clone());
        match this.next_claim() {
            Some((claim, partition, acks)) => {
                let shared = Arc::clone(this.consumer.shared());
                let reader = Reader::new(Source::One(claim, acks));
                Poll::Ready(Some(Ok(PartitionStream { partition, claim, reader, shared })))
            }
            None => this.consumer.wait(cx).map(|refused| Some(Err(refused))),
        }
    }
}

/// The records of one partition, from its assignment to its revocation, with which it ends. `Send`, and independent of
/// all others.
///
/// # Cancel safety
/// Dropping the future of a `next` loses and skips nothing.
#[derive(Debug)]
pub struct PartitionStream {
    partition: TopicPartition,
    claim: Claim,
    reader: Reader,
    shared: Arc<Shared>,
}

impl PartitionStream {
    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

impl Stream for PartitionStream {
    type Item = Result<PartitionRecord, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        {
            let state = this.shared.state();
            if state.closed || !state.subscription.is_assigned(this.claim) {
                return Poll::Ready(None);
            }
        }
        if let Some(group) = &this.shared.group {
            group.polls().touch();
        }
        Poll::Ready(match ready!(this.reader.poll_record(cx, &this.shared)) {
            Some(Ok((record, ack))) => ack.map(|ack| Ok(PartitionRecord { record, ack })),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.streams.remove(&self.claim);
        if !state.closed && state.subscription.is_assigned(self.claim) {
            state.dropped.push(self.claim);
            if let Some(partitions) = state.reader.take() {
                partitions.wake();
            }
        }
    }
}

/// A record of a [`PartitionStream`], with its acknowledgement. Dereferences to the record.
#[derive(Debug)]
#[must_use = "acknowledge it when it is done with, or it is read again by the partition's next owner"]
pub struct PartitionRecord {
    record: ConsumerRecord,
    ack: Ack,
}

impl PartitionRecord {
    /// The application is done with the record.
    pub fn ack(self) {
        self.ack.ack();
    }

    /// The record by itself, and its acknowledgement to be given later, from any task.
    pub fn into_parts(self) -> (ConsumerRecord, Ack) {
        (self.record, self.ack)
    }
}

impl Deref for PartitionRecord {
    type Target = ConsumerRecord;

    fn deref(&self) -> &ConsumerRecord {
        &self.record
    }
}

impl fmt::Display for PartitionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.partition, f)
    }
}
