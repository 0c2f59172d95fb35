//! What passes between a consumer and its membership in a group: calls in, events out. All of it is in this file.
//!
//! The membership lives in a task of its own, so that heartbeats go on while the application is busy. The consumer
//! holds a [`GroupHandle`] and reads [`GroupEvent`]s. Both sides keep these rules:
//!
//! 1. Events are handled in the order in which they come, and all that have come before a record is handed out.
//! 2. [`Assigned`](GroupEvent::Assigned) adds partitions to what is read; each starts at its committed offset.
//! 3. [`Revoked`](GroupEvent::Revoked) stops the partitions at once: nothing of them is handed out any more. Then the
//!    application may finish, and commit. [`Release::with`] takes the last offsets and lets the group go on; the
//!    membership commits them first. Until it is released, or the rebalance timeout passes, the member does not rejoin.
//! 4. [`Lost`](GroupEvent::Lost) partitions may be with another member already: they are dropped, nothing is committed.
//! 5. Commits are sent in the order in which they were made. One that comes while the group rebalances waits, and fails
//!    if its partitions are not assigned afterwards.
//! 6. Whenever the application asks for records, [`Polls::touch`] is called; while it waits for them, it holds
//!    [`Polls::waiting`]. Without either for `max.poll.interval.ms` the membership ends until the next poll.
//! 7. [`GroupHandle::leave`] ends the membership properly: a last `Revoked`, its offsets, then LeaveGroup. If the handle
//!    is dropped instead, the task just stops, and the coordinator notices after the session timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kafka_client::Client;
use kafka_client::types::{OffsetAndMetadata, TopicPartition};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::committed::{Committed, committed};
use crate::error::{Error, Result};

/// What is committed: the next offset to read of each partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// What the group tells the consumer.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// These are added to what this consumer reads; may be none, which tells that a rebalance is over.
    Assigned(Vec<TopicPartition>),
    /// These are to be let go of; the group waits for the release.
    Revoked(Vec<TopicPartition>, Release),
    /// These are gone already.
    Lost(Vec<TopicPartition>),
    /// The membership is over, for a reason that a retry does not change; to subscribe again begins a new one.
    Failed(Error),
}

/// Tells the group, when it is dropped, that revoked partitions have been let go of.
#[derive(Debug)]
pub(crate) struct Release {
    revocation: u64,
    offsets: Offsets,
    commands: mpsc::UnboundedSender<Command>,
}

impl Release {
    pub(super) fn new(revocation: u64, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { revocation, offsets: Offsets::new(), commands }
    }

    /// Releases the partitions; `offsets` are committed before the group goes on.
    pub(crate) fn with(mut self, offsets: Offsets) {
        self.offsets = offsets;
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let offsets = std::mem::take(&mut self.offsets);
        // A task that has ended waits for no release.
        let _ = self.commands.send(Command::Release { revocation: self.revocation, offsets });
    }
}

/// What the consumer tells its membership.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(BTreeSet<Arc<str>>),
    Commit { offsets: Offsets, deadline: Instant, done: Option<oneshot::Sender<Result<()>>> },
    Release { revocation: u64, offsets: Offsets },
    Leave { deadline: Instant, done: oneshot::Sender<()> },
}

/// This consumer's identity in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The id from the coordinator; empty while it has given none.
    pub(crate) member_id: Arc<str>,
    /// The generation; -1 outside of any.
    pub(crate) generation: i32,
}

impl Membership {
    /// No member of any generation.
    pub(crate) fn none() -> Self {
        Self { member_id: "".into(), generation: -1 }
    }
}

/// The consumer's side of its membership.
#[derive(Debug)]
pub(crate) struct GroupHandle {
    pub(super) client: Client,
    pub(super) group: Arc<str>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) polls: Arc<Polls>,
    pub(super) membership: watch::Receiver<Membership>,
    pub(super) task: AbortHandle,
}

impl GroupHandle {
    /// Ends the membership's task, whoever else holds this handle: nobody is told, nothing is committed.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    /// Sets the topics to share with the group, and joins it; with no topics, leaves it. Joining takes place in the
    /// background.
    pub(crate) fn subscribe(&self, topics: BTreeSet<Arc<str>>) {
        let _ = self.commands.send(Command::Subscribe(topics));
    }

    /// Commits, trying again until `deadline` where that can help.
    ///
    /// A consumer that never subscribed commits as one that assigns its partitions itself.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind): not a member, not assigned, refused, out of time.
    ///
    /// # Cancel safety
    /// The commit goes on when the future is dropped; a later one is sent after it.
    pub(crate) async fn commit(&self, offsets: Offsets, deadline: Instant) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let (done, outcome) = oneshot::channel();
        let _ = self.commands.send(Command::Commit { offsets, deadline, done: Some(done) });
        outcome.await.unwrap_or_else(|_| Err(kafka_client::Error::closed().into()))
    }

    /// As [`commit`](Self::commit), without waiting; a failure is logged.
    pub(crate) fn commit_in_background(&self, offsets: Offsets, deadline: Instant) {
        if !offsets.is_empty() {
            let _ = self.commands.send(Command::Commit { offsets, deadline, done: None });
        }
    }

    /// What the group has committed for these partitions, by whichever member.
    ///
    /// # Errors
    /// As [`committed`](super::committed::committed).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub(crate) async fn committed(
        &self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Committed> {
        committed(&self.client, &self.group, partitions, deadline).await
    }

    /// Leaves the group: revokes what is assigned, commits what the release brings, says goodbye.
    ///
    /// A static member does not say goodbye: its place is kept for its next start. At `deadline` it is over anyhow.
    ///
    /// # Cancel safety
    /// Goes on when the future is dropped.
    pub(crate) async fn leave(&self, deadline: Instant) {
        let (done, left) = oneshot::channel();
        let _ = self.commands.send(Command::Leave { deadline, done });
        let _ = left.await;
    }

    /// Where the application shows that it is alive.
    pub(crate) fn polls(&self) -> &Arc<Polls> {
        &self.polls
    }

    /// The identity under which this consumer reads and commits at the moment.
    pub(crate) fn membership(&self) -> Membership {
        self.membership.borrow().clone()
    }
}

/// Signs of life of the application: whether it has asked for records lately.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    touched: AtomicBool,
    waiting: AtomicUsize,
    /// Whether the membership was given up for want of polls, so that the next poll must wake the task.
    stalled: AtomicBool,
    wake: Notify,
}

impl Polls {
    /// Notes a poll. Costs two relaxed accesses to one cache line, so that it may be called per record.
    pub(crate) fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
        if self.stalled.load(Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Notes a poll that goes on until the guard is dropped. Not to be held while the application's own code runs.
    ///
    /// Surely wakes a stalled membership, which `touch`, being relaxed, may just miss: a consumer that has lost its
    /// partitions soon waits.
    pub(crate) fn waiting(self: &Arc<Self>) -> Waiting {
        self.touched.store(true, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if self.stalled.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
        Waiting(Arc::clone(self))
    }

    /// Whether there was a poll since the last call, or one is going on.
    pub(super) fn take(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed) | (self.waiting.load(Ordering::SeqCst) > 0)
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Waits for a poll while stalled.
    pub(super) async fn resumed(&self) {
        self.wake.notified().await;
    }
}

/// A poll that is going on.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Polls>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.touched.store(true, Ordering::Relaxed);
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
