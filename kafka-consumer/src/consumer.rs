//! The consumer: reads records and batches, follows its group, commits what the application is done with.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use kafka_client::{Client, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use crate::acks::Acks;
use crate::alarm::Alarm;
use crate::builder::ConsumerBuilder;
use crate::error::{Error, Result};
use crate::handle::ConsumerHandle;
use crate::partitions::Partitions;
use crate::pattern::PatternSubscription;
use crate::reader::{Reader, Source};
use crate::rebalance::Rebalance;
use crate::record::{Batch, ConsumerRecord};
use crate::refused_topics::RefusedTopics;

/// Reads records of topics, alone or as a member of a group.
///
/// As a [`Stream`] it gives record after record; [`next_batch`](Self::next_batch) is the faster way to the same, and
/// [`partitions`](Self::partitions) splits it into a stream for each partition, for tasks of their own. Everything else
/// (seek, pause, commit, questions) is on [`ConsumerHandle`], to which a consumer dereferences.
///
/// Asking for the next record says that the application is done with the one before: that is what an automatic commit
/// covers. An error does not end the stream unless [`Error::is_fatal`] says so.
///
/// Dropping a consumer stops it at once: nothing is committed and the group notices after `session.timeout.ms`.
/// [`close`](Self::close) is the proper end.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::TryStreamExt;
/// use kafka_client::{Client, Offset};
/// use kafka_consumer::Consumer;
///
/// let client = Client::connect("localhost:9092").await?;
/// let mut consumer =
///     Consumer::builder(&client).group("billing").topics(["orders"]).start_at(Offset::Earliest).build().await?;
/// while let Some(record) = consumer.try_next().await? {
///     println!("{}-{} @ {}", record.topic, record.partition, record.offset);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    handle: ConsumerHandle,
    reader: Reader,
    rebalance: Rebalance,
    pattern: Option<PatternSubscription>,
    refused: Option<RefusedTopics>,
    /// Rings when there is something to do beside handing out records.
    alarm: Alarm,
    tick: Pin<Box<Sleep>>,
    tick_every: Duration,
    next_commit: Instant,
    /// The automatic commit under way, and what it is about.
    committing: Option<Committing>,
    fetcher: JoinHandle<()>,
    /// The group has been told to go on without this consumer.
    is_leaving: bool,
}

struct Committing {
    partitions: Vec<TopicPartition>,
    outcome: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
}

impl Consumer {
    /// Begins a consumer on `client`; its connections to fetch on are its own, everything else is shared.
    pub fn builder(client: &Client) -> ConsumerBuilder {
        ConsumerBuilder::new(client)
    }

    pub(crate) fn new(
        handle: ConsumerHandle,
        rebalance: Rebalance,
        (pattern, refused): (Option<PatternSubscription>, Option<RefusedTopics>),
        fetcher: JoinHandle<()>,
    ) -> Self {
        let config = handle.config();
        let reader = Reader::new(Source::All);
        // Often enough that a consumer that waits for records never seems to be gone.
        let tick_every =
            config.auto_commit_interval.min(config.max_poll_interval / 3).max(Duration::from_millis(1));
        let now = Instant::now();
        Self {
            reader,
            rebalance,
            pattern,
            refused,
            alarm: Alarm::new(),
            tick: Box::pin(tokio::time::sleep_until(now + tick_every)),
            tick_every,
            next_commit: now + config.auto_commit_interval,
            committing: None,
            fetcher,
            is_leaving: false,
            handle,
        }
    }

    /// The controls, for other tasks.
    pub fn handle(&self) -> &ConsumerHandle {
        &self.handle
    }

    /// The next batch of any partition, with all of its records that were not handed out yet.
    ///
    /// Its records are borrowed from it without a copy or an allocation, so this is the fastest way to read.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind). Unless it [is fatal](Error::is_fatal), the next call goes on with the other partitions, and
    /// with this one once its cause is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost or skipped: the position moves only when a batch is returned. A rebalance under way goes on with
    /// the next call.
    pub async fn next_batch(&mut self) -> Result<Batch> {
        poll_fn(|cx| {
            ready!(self.poll_turn(cx))?;
            let shared = self.handle.shared();
            match self.reader.poll_batch(cx, shared) {
                Poll::Ready(Some(result)) => Poll::Ready(result),
                _ => self.wait(cx).map(Err),
            }
        })
        .await
    }

    /// Splits the consumer into a stream for each partition, to be read by tasks of their own.
    pub fn partitions(self) -> Partitions {
        Partitions::new(self)
    }

    /// Ends the consumer within `timeout`: runs the listener's `revoked`, commits what was handed out if commits are
    /// automatic, leaves the group (a static member's place is kept), ends the fetch sessions.
    ///
    /// # Errors
    /// The commit's, or that of a membership which had ended before; a time-out. The consumer is closed in any case, and
    /// has left the group if that could be done.
    ///
    /// # Cancel safety
    /// Dropping it drops the consumer: what was not done by then is not done.
    pub async fn close(mut self, timeout: Duration) -> Result<()> {
        let deadline = self.handle.deadline_in(timeout);
        self.reader.acknowledge_last(&mut self.handle.shared().state());
        self.end(Vec::new(), deadline).await
    }

    /// Ends the consumer, when these acknowledgements have come or are late.
    pub(crate) async fn end(&mut self, under_way: Vec<Arc<Acks>>, deadline: Instant) -> Result<()> {
        let result = self.leave(under_way, deadline).await;
        self.mark_closed();
        self.handle.shared().fetch.notify_one();
        // The fetcher says goodbye to its sessions.
        let _ = tokio::time::timeout_at(deadline, &mut self.fetcher).await;
        result
    }

    async fn leave(&mut self, under_way: Vec<Arc<Acks>>, deadline: Instant) -> Result<()> {
        let Self { handle, rebalance, is_leaving, .. } = self;
        let handle = &*handle;
        let shared = handle.shared();
        let farewell = async {
            let Some(group) = &shared.group else {
                return settle(&under_way, deadline).await;
            };
            let acked = || {
                let auto_commit = shared.config.auto_commit;
                if auto_commit { shared.state().subscription.acked(None) } else { BTreeMap::new() }
            };
            if !under_way.iter().all(|acks| acks.is_settled()) {
                // However late the others are, this much is certain.
                group.commit_in_background(acked(), deadline);
                settle(&under_way, deadline).await?;
            }
            // Said here, and not only by the release, so that a failure is heard of.
            group.commit(acked(), deadline).await
        };
        let mut farewell = std::pin::pin!(async {
            let committed = farewell.await;
            *is_leaving = true;
            if let Some(group) = &shared.group {
                group.leave(deadline).await;
            }
            committed
        });
        let mut result = None;
        let over = poll_fn(|cx| {
            // The last revocation passes through here.
            let steps = rebalance.poll_steps(cx, handle);
            if result.is_none()
                && let Poll::Ready(committed) = farewell.as_mut().poll(cx)
            {
                result = Some(committed);
                // What came last has to be taken, too.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match (&result, steps) {
                (Some(committed), Poll::Ready(ended)) => Poll::Ready(committed.clone().and(ended)),
                _ => Poll::Pending,
            }
        });
        let start = Instant::now();
        tokio::time::timeout_at(deadline, over).await.unwrap_or_else(|_| {
            Err(kafka_client::Error::timed_out("closing the consumer", start.elapsed()).into())
        })
    }

    fn mark_closed(&self) {
        let mut state = self.handle.shared().state();
        state.closed = true;
        state.wake_all();
    }

    /// Gives what was taken and not handed out to whoever reads from here on.
    pub(crate) fn stop_reading(&mut self) {
        let mut state = self.handle.shared().state();
        self.reader.acknowledge_last(&mut state);
        self.reader.stop(&mut state);
    }

    /// What precedes every hand-out: signs of life, steps of the group, the automatic commit. Ready when records may be
    /// handed out.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !tokio::task::coop::has_budget_remaining() {
            // It is the turn of other tasks, and nothing that is asked below would say any more than that.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let waker = self.alarm.listen(cx);
        let cx = &mut Context::from_waker(&waker);
        let shared = self.handle.shared();
        let alive = {
            let mut state = shared.state();
            self.reader.acknowledge_last(&mut state);
            state.is_idle()
        };
        if let Some(group) = shared.group.as_ref().filter(|_| alive) {
            group.polls().touch();
        }
        let steps = self.rebalance.poll_steps(cx, &self.handle);
        // After the steps, so that nothing is committed of what is lost.
        let is_due = self.poll_tick(cx, steps.is_ready());
        ready!(steps)?;
        // Heard of at once where there is nothing to read, and by now and then where there always is.
        if is_due && let Poll::Ready(refused) = self.poll_refusal(cx) {
            return Poll::Ready(Err(refused));
        }
        if let Some(pattern) = &mut self.pattern {
            pattern.poll_topics(cx, self.handle.shared());
        }
        self.alarm.settle();
        Poll::Ready(Ok(()))
    }

    /// There is nothing to hand out, unless it is that a topic is refused. The group is told for certain that the application
    /// is alive, which `touch` alone, cheap enough for every record, may fail to do for a membership that was just given up.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let shared = self.handle.shared();
        if let Some(group) = shared.group.as_ref().filter(|_| shared.state().is_idle()) {
            drop(group.polls().waiting());
        }
        self.poll_refusal(cx)
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(refused) = &mut self.refused else { return Poll::Pending };
        refused.poll_refusal(cx, &self.handle.shared().client)
    }

    /// Comes by now and then although there is nothing to read, as a sign of life, and commits. Says whether it was time.
    fn poll_tick(&mut self, cx: &mut Context<'_>, may_commit: bool) -> bool {
        let mut is_due = false;
        while self.tick.as_mut().poll(cx).is_ready() {
            is_due = true;
            self.tick.as_mut().reset(Instant::now() + self.tick_every);
        }
        self.poll_commit(cx);
        if !(is_due && may_commit && self.committing.is_none()) {
            return is_due;
        }
        let now = Instant::now();
        if now >= self.next_commit {
            self.next_commit = now + self.handle.config().auto_commit_interval;
            self.committing = self.begin_commit();
            // So that it is sent.
            self.poll_commit(cx);
        }
        is_due
    }

    fn poll_commit(&mut self, cx: &mut Context<'_>) {
        let Some(committing) = &mut self.committing else { return };
        let Poll::Ready(outcome) = committing.outcome.as_mut().poll(cx) else { return };
        if let Err(error) = outcome {
            tracing::warn!(%error, "an automatic commit failed, and is made again");
            self.handle.shared().state().subscription.not_committed(&committing.partitions);
        }
        self.committing = None;
    }

    fn begin_commit(&self) -> Option<Committing> {
        let shared = Arc::clone(self.handle.shared());
        if !shared.config.auto_commit || shared.group.is_none() {
            return None;
        }
        let offsets = shared.state().subscription.acked_since_last();
        let partitions: Vec<_> = offsets.keys().cloned().collect();
        let deadline = self.handle.deadline();
        let outcome = Box::pin(async move {
            match &shared.group {
                Some(group) => group.commit(offsets, deadline).await,
                None => Ok(()),
            }
        });
        (!partitions.is_empty()).then_some(Committing { partitions, outcome })
    }
}

/// Waits until nobody holds records any more.
async fn settle(under_way: &[Arc<Acks>], deadline: Instant) -> Result<()> {
    let start = Instant::now();
    for acks in under_way {
        let settled = tokio::time::timeout_at(deadline, acks.settled());
        settled.await.map_err(|_| kafka_client::Error::timed_out("waiting for records", start.elapsed()))?;
    }
    Ok(())
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetcher.abort();
        self.mark_closed();
        if let Some(group) = self.handle.shared().group.as_ref().filter(|_| !self.is_leaving) {
            group.stop();
        }
    }
}

/// Record after record, of all partitions in turn.
///
/// It never ends; an error that [is fatal](Error::is_fatal) comes again with every poll.
impl Stream for Consumer {
    type Item = Result<ConsumerRecord, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Within a batch, and with nothing else to do, a record costs no more than its own place.
        if this.alarm.is_quiet()
            && let Some((record, _)) = this.reader.next_of_current(this.handle.shared())
        {
            if let Some(group) = &this.handle.shared().group {
                group.polls().touch();
            }
            return Poll::Ready(Some(Ok(record)));
        }
        if let Err(error) = ready!(this.poll_turn(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        match this.reader.poll_record(cx, this.handle.shared()) {
            Poll::Ready(Some(result)) => Poll::Ready(Some(result.map(|(record, _)| record))),
            _ => this.wait(cx).map(|refused| Some(Err(refused))),
        }
    }
}

impl Deref for Consumer {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.handle.config().group_id)
            .field("assignment", &self.handle.assignment())
            .finish_non_exhaustive()
    }
}
