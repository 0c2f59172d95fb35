//! Waits on behalf of a membership: for commands, answers, timers and news of topics; the machine decides.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_client::Client;
use kafka_client::raw::{Owner, Tracked};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, sleep_until};

use super::assignor::Topics;
use super::classic::{ClassicMember, Input, Output};
use super::commits::CommitId;
use super::config::GroupConfig;
use super::interface::{Command, GroupEvent, GroupHandle, Membership, Polls, Release};
use super::messages::{Answer, RequestId};
use super::wire::Coordinator;
use crate::error::Result;

/// How long a leader waits for the metadata of topics that the cluster has not answered for yet.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The stream of random numbers for a membership.
const MEMBERSHIP: u64 = 11;

/// Starts a membership's task: what the consumer holds of it, and what it will hear from it.
///
/// The task ends with `GroupHandle::leave`, or when the handle is dropped.
pub(crate) fn spawn(
    client: &Client,
    owner: &Owner,
    config: GroupConfig,
) -> (GroupHandle, mpsc::UnboundedReceiver<GroupEvent>) {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (events, of_consumer) = mpsc::unbounded_channel();
    let (membership, identity) = watch::channel(Membership::none());
    let polls = Arc::new(Polls::default());
    let group = Arc::clone(&config.group);
    let seed = client.config().random(MEMBERSHIP).u64(..);
    let machine = ClassicMember::new(config.clone(), seed, Instant::now().into_std());
    let task = Task {
        metadata: client.refresher().subscribe(),
        coordinator: Coordinator { client: client.clone(), owner: owner.clone(), config: Arc::new(config) },
        machine,
        commands: commands.downgrade(),
        events,
        membership,
        polls: Arc::clone(&polls),
        requests: FuturesUnordered::new(),
        callers: HashMap::new(),
        last_commit: 0,
        watched: None,
        leaving: Vec::new(),
        leave_by: None,
        left: false,
    };
    let task = tokio::spawn(task.run(receiver)).abort_handle();
    (GroupHandle { client: client.clone(), group, commands, polls, membership: identity, task }, of_consumer)
}

struct Task {
    coordinator: Coordinator,
    machine: ClassicMember,
    /// To make releases from. Weak, so that the task ends when the consumer is gone.
    commands: mpsc::WeakUnboundedSender<Command>,
    events: mpsc::UnboundedSender<GroupEvent>,
    membership: watch::Sender<Membership>,
    polls: Arc<Polls>,
    requests: FuturesUnordered<BoxFuture<'static, (RequestId, Answer)>>,
    callers: HashMap<CommitId, oneshot::Sender<Result<()>>>,
    last_commit: CommitId,
    metadata: watch::Receiver<u64>,
    watched: Option<Watched>,
    leaving: Vec<oneshot::Sender<()>>,
    leave_by: Option<Instant>,
    left: bool,
}

/// The topics that the leader of a group has to know about.
struct Watched {
    topics: BTreeSet<Arc<str>>,
    /// Makes the client ask for them.
    _tracked: Tracked,
    /// What the machine was told last.
    told: Option<Topics>,
    /// Until then, an answer may wait for topics that the cluster has said nothing of.
    complete_by: Instant,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            self.carry_out();
            if self.left {
                return;
            }
            let due = self.due();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    // The consumer was dropped without leaving: nobody is told, nothing is committed.
                    None => return,
                },
                Some((request, answer)) = self.requests.next() => self.input(Input::Answer { request, answer }),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.on_time(),
                Ok(()) = self.metadata.changed(), if self.watched.is_some() => self.tell_topics(),
                () = self.polls.resumed(), if self.machine.is_stalled() => self.note_polls(),
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let lookup = self.watched.as_ref().filter(|watched| watched.told.is_none());
        let machine = self.machine.poll_timeout().map(Instant::from_std);
        machine.into_iter().chain(lookup.map(|watched| watched.complete_by)).chain(self.leave_by).min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Subscribe(topics) => self.input(Input::Subscribe(topics)),
            Command::Release { revocation, offsets } => self.input(Input::Released { revocation, offsets }),
            Command::Commit { offsets, deadline, done } => {
                self.last_commit += 1;
                if let Some(done) = done {
                    self.callers.insert(self.last_commit, done);
                }
                let (commit, deadline) = (self.last_commit, deadline.into_std());
                self.input(Input::Commit { commit, offsets, deadline });
            }
            Command::Leave { deadline, done } => {
                self.leaving.push(done);
                self.leave_by = Some(self.leave_by.map_or(deadline, |other| other.min(deadline)));
                self.input(Input::Leave);
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.note_polls();
        self.machine.handle(input, Instant::now().into_std());
    }

    fn note_polls(&mut self) {
        if self.polls.take() {
            self.machine.handle(Input::Polled, Instant::now().into_std());
        }
    }

    fn on_time(&mut self) {
        self.note_polls();
        let now = Instant::now();
        self.machine.handle_timeout(now.into_std());
        if self.watched.as_ref().is_some_and(|watched| watched.complete_by <= now) {
            self.tell_topics();
        }
        if self.leave_by.is_some_and(|deadline| deadline <= now) {
            self.leave_by = None;
            self.machine.handle(Input::Abandon, now.into_std());
        }
    }

    /// Does what the machine wants done, until it wants nothing more.
    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { request, body } => {
                    let ask = self.coordinator.clone().ask(body);
                    self.requests.push(Box::pin(async move { (request, ask.await) }));
                }
                Output::Lookup(topics) => self.watch(topics),
                Output::Rediscover => self.coordinator.rediscover(),
                Output::Assigned(partitions) => self.tell(GroupEvent::Assigned(partitions)),
                Output::Revoked { revocation, partitions } => {
                    // Without a sender the consumer is gone, and the task about to end.
                    if let Some(commands) = self.commands.upgrade() {
                        self.tell(GroupEvent::Revoked(partitions, Release::new(revocation, commands)));
                    }
                }
                Output::Lost(partitions) => self.tell(GroupEvent::Lost(partitions)),
                Output::Failed(error) => self.tell(GroupEvent::Failed(error)),
                Output::Committed { commit, outcome } => match (self.callers.remove(&commit), outcome) {
                    // A caller that has stopped waiting needs no answer.
                    (Some(caller), outcome) => drop(caller.send(outcome)),
                    (None, Err(error)) => {
                        tracing::warn!(group = %self.coordinator.config.group, %error, "offsets were not committed");
                    }
                    (None, Ok(())) => {}
                },
                Output::Left => {
                    self.left = true;
                    for caller in self.leaving.drain(..) {
                        // One that has stopped waiting needs no answer.
                        let _ = caller.send(());
                    }
                }
            }
        }
        let membership = self.machine.membership();
        self.membership.send_if_modified(|current| {
            let changed = *current != membership;
            *current = membership;
            changed
        });
        self.polls.set_stalled(self.machine.is_stalled());
        if self.machine.is_stalled() && self.polls.take() {
            // It came between the decision and the flag that makes polls wake this task.
            self.machine.handle(Input::Polled, Instant::now().into_std());
        }
    }

    fn tell(&self, event: GroupEvent) {
        tracing::debug!(group = %self.coordinator.config.group, ?event, membership = ?self.machine.membership());
        // A consumer that listens no more is being dropped.
        let _ = self.events.send(event);
    }

    fn watch(&mut self, topics: BTreeSet<Arc<str>>) {
        if topics.is_empty() {
            self.watched = None;
            // Whoever leads a group without topics has nothing to wait for.
            return self.machine.handle(Input::Topics(Topics::default()), Instant::now().into_std());
        }
        let tracked = self.coordinator.client.refresher().track(topics.iter().cloned(), false);
        let complete_by = Instant::now() + LOOKUP_TIMEOUT;
        self.watched = Some(Watched { topics, _tracked: tracked, told: None, complete_by });
        self.tell_topics();
    }

    /// Tells the machine of the watched topics, once the cluster has answered for all of them, and when they change.
    fn tell_topics(&mut self) {
        let Some(watched) = &mut self.watched else { return };
        let metadata = self.coordinator.client.metadata();
        let known = |topic: &Arc<str>| metadata.topic(topic).is_some();
        if watched.told.is_none() && !watched.topics.iter().all(known) && Instant::now() < watched.complete_by
        {
            return;
        }
        let partitions = |topic: &Arc<str>| metadata.topic(topic).map_or(0, |topic| topic.partition_count());
        let topics: Topics =
            watched.topics.iter().map(|topic| (Arc::clone(topic), partitions(topic))).collect();
        if watched.told.as_ref() != Some(&topics) {
            watched.told = Some(topics.clone());
            self.input(Input::Topics(topics));
        }
    }
}
