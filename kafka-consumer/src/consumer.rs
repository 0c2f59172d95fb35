//! The consumer: reads records and batches, follows its group, commits what the application is done with.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use kafka_client::Client;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use crate::builder::ConsumerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::ConsumerHandle;
use crate::partitions::Partitions;
use crate::pattern::PatternSubscription;
use crate::reader::{Reader, Source};
use crate::rebalance::Rebalance;
use crate::record::{Batch, ConsumerRecord};

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
    tick: Pin<Box<Sleep>>,
    tick_every: Duration,
    next_commit: Instant,
    fetcher: Fetcher,
}

/// The fetcher's task, which ends with the consumer.
struct Fetcher(JoinHandle<()>);

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Consumer {
    /// Begins a consumer on `client`; its connections to fetch on are its own, everything else is shared.
    pub fn builder(client: &Client) -> ConsumerBuilder {
        ConsumerBuilder::new(client)
    }

    pub(crate) fn new(
        handle: ConsumerHandle,
        rebalance: Rebalance,
        pattern: Option<PatternSubscription>,
        fetcher: JoinHandle<()>,
    ) -> Self {
        let config = handle.config();
        let reader = Reader::new(Source::All, config.max_decompressed_bytes);
        // Often enough that a consumer that waits for records never seems to be gone.
        let tick_every =
            config.auto_commit_interval.min(config.max_poll_interval / 3).max(Duration::from_millis(1));
        let now = Instant::now();
        Self {
            reader,
            rebalance,
            pattern,
            tick: Box::pin(tokio::time::sleep_until(now + tick_every)),
            tick_every,
            next_commit: now + config.auto_commit_interval,
            fetcher: Fetcher(fetcher),
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
    /// See [`ErrorKind`]. Unless it [is fatal](Error::is_fatal), the next call goes on with the other partitions, and
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
                _ => self.wait(),
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
    /// The commit's. The consumer is closed in any case.
    ///
    /// # Cancel safety
    /// Dropping it drops the consumer: what was not done by then is not done.
    pub async fn close(mut self, timeout: Duration) -> Result<()> {
        let deadline = self.handle.deadline_in(timeout);
        self.reader.acknowledge_last(&mut self.handle.shared().state());
        self.end(deadline).await
    }

    pub(crate) async fn end(&mut self, deadline: Instant) -> Result<()> {
        let result = match tokio::time::timeout_at(deadline, self.leave(deadline)).await {
            Ok(result) => result,
            Err(_) => Err(kafka_client::Error::timed_out("leaving the group", Duration::ZERO).into()),
        };
        {
            let mut state = self.handle.shared().state();
            state.closed = true;
            state.wake_all();
        }
        self.handle.shared().fetch.notify_one();
        // The fetcher says goodbye to its sessions.
        let _ = tokio::time::timeout_at(deadline, &mut self.fetcher.0).await;
        result
    }

    async fn leave(&mut self, deadline: Instant) -> Result<()> {
        let handle = self.handle.clone();
        let Some(group) = &handle.shared().group else { return Ok(()) };
        if handle.config().auto_commit {
            // Said here, and not only by the release, so that a failure is heard of.
            let offsets = handle.shared().state().subscription.acked(None);
            group.commit(offsets, deadline).await?;
        }
        let mut leave = std::pin::pin!(group.leave(deadline));
        poll_fn(|cx| {
            // The last revocation passes through here.
            let steps = self.rebalance.poll_steps(cx, &handle);
            match (leave.as_mut().poll(cx), steps) {
                (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (Poll::Ready(()), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// What precedes every hand-out: signs of life, steps of the group, the automatic commit. Ready when records may be
    /// handed out.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shared = self.handle.shared();
        let alive = {
            let mut state = shared.state();
            if state.closed {
                return Poll::Ready(Err(ErrorKind::Closed.into()));
            }
            self.reader.acknowledge_last(&mut state);
            state.is_idle()
        };
        if let Some(group) = shared.group.as_ref().filter(|_| alive) {
            group.polls().touch();
        }
        self.poll_tick(cx);
        if let Some(pattern) = &mut self.pattern {
            pattern.poll_topics(cx, self.handle.shared());
        }
        self.rebalance.poll_steps(cx, &self.handle)
    }

    /// There is nothing to hand out. The group is told for certain that the application is alive, which `touch` alone,
    /// cheap enough for every record, may fail to do for a membership that was just given up.
    pub(crate) fn wait<T>(&self) -> Poll<T> {
        let shared = self.handle.shared();
        if let Some(group) = shared.group.as_ref().filter(|_| shared.state().is_idle()) {
            drop(group.polls().waiting());
        }
        Poll::Pending
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) {
        while self.tick.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.tick.as_mut().reset(now + self.tick_every);
            let shared = self.handle.shared();
            if let Some(group) = &shared.group
                && shared.config.auto_commit
                && now >= self.next_commit
            {
                self.next_commit = now + shared.config.auto_commit_interval;
                let offsets = shared.state().subscription.acked_since_last();
                group.commit_in_background(offsets, self.handle.deadline());
            }
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
        if let Err(error) = ready!(this.poll_turn(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        match this.reader.poll_record(cx, this.handle.shared()) {
            Poll::Ready(Some(result)) => Poll::Ready(Some(result.map(|(_, record)| record))),
            _ => this.wait(),
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
