//! What a consumer's handles, readers and fetcher share: the subscription behind its lock, and who waits for what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use kafka_client::raw::Tracked;
use kafka_client::{Client, TopicPartition};
use tokio::sync::Notify;

use crate::acks::Acks;
use crate::config::ConsumerConfig;
use crate::group::GroupHandle;
use crate::opening::Opener;
use crate::subscription::{Claim, Subscription};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) config: ConsumerConfig,
    pub(crate) group: Option<GroupHandle>,
    pub(crate) opener: Arc<Opener>,
    /// Wakes the fetcher: there is room, or something else to ask for.
    pub(crate) fetch: Notify,
    state: Mutex<State>,
}

/// Everything that changes while a consumer runs. Held for a few instructions at a time, never across an await.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) subscription: Subscription,
    /// The topics that were subscribed to.
    _subscribed: Tracked,
    /// Those of the partitions that are assigned.
    assigned: Tracked,
    /// The task that reads all partitions.
    pub(crate) reader: Option<Waker>,
    /// The tasks that read one partition each.
    pub(crate) streams: HashMap<Claim, Waker>,
    /// What is under way with partitions that are read by streams of their own.
    pub(crate) acks: HashMap<Claim, Arc<Acks>>,
    /// Streams that were dropped while their partition was still assigned.
    pub(crate) dropped: Vec<Claim>,
    /// Whether a commit says what was acknowledged, instead of what was handed out.
    pub(crate) by_acks: bool,
    pub(crate) closed: bool,
}

impl Shared {
    pub(crate) fn new(
        client: Client,
        config: ConsumerConfig,
        group: Option<GroupHandle>,
        subscription: Subscription,
        subscribed: Tracked,
    ) -> Arc<Self> {
        let no_topics: [Arc<str>; 0] = [];
        let state = State {
            subscription,
            _subscribed: subscribed,
            assigned: client.refresher().track(no_topics, config.allow_auto_create_topics),
            reader: None,
            streams: HashMap::new(),
            acks: HashMap::new(),
            dropped: Vec::new(),
            by_acks: false,
            closed: false,
        };
        let opener = Opener::new(config.check_crcs, config.max_decompressed_bytes);
        Arc::new(Self { client, config, group, opener, fetch: Notify::new(), state: Mutex::new(state) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes whoever reads this partition.
    pub(crate) fn wake(&mut self, claim: Option<Claim>) {
        let reader = if self.by_acks {
            claim.and_then(|claim| self.streams.remove(&claim))
        } else {
            self.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether somebody waits for records.
    pub(crate) fn is_awaited(&self) -> bool {
        // With streams, the reader is who takes new ones, and always waits.
        if self.by_acks { !self.streams.is_empty() } else { self.reader.is_some() }
    }

    /// Wakes everybody: an assignment changed, or it is over.
    pub(crate) fn wake_all(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        self.streams.drain().for_each(|(_, stream)| stream.wake());
    }

    /// Another reader than before takes the partition's records; what the old one handed out does not count any more.
    pub(crate) fn restart_acks(&self, claim: Option<Claim>) {
        if let Some(acks) = claim.and_then(|claim| self.acks.get(&claim)) {
            acks.restart();
        }
    }

    /// What is under way with these partitions.
    pub(crate) fn acks_of(&self, partitions: &[TopicPartition]) -> Vec<Arc<Acks>> {
        let claims = partitions.iter().filter_map(|partition| self.subscription.claim(partition));
        claims.filter_map(|claim| self.acks.get(&claim).cloned()).collect()
    }

    /// Whether a wait for more is a sign of life: not while tasks of the application have records that they do not come
    /// back from. Theirs is each record they are done with, or ask for.
    pub(crate) fn is_idle(&self) -> bool {
        !self.by_acks || self.acks.values().all(|acks| acks.is_settled())
    }

    /// Begins to read partitions; `committed` says whether a group may have an offset for them.
    pub(crate) fn assign(&mut self, partitions: &[TopicPartition], committed: bool) {
        for partition in partitions {
            self.assigned.add(Arc::clone(&partition.topic));
        }
        self.subscription.assign(partitions.iter().cloned(), committed);
    }

    /// Forgets partitions, and their topics unless others of them are read or they are subscribed to.
    pub(crate) fn unassign(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(claim) = self.subscription.claim(partition) {
                self.acks.remove(&claim);
            }
        }
        self.subscription.unassign(partitions);
        for partition in partitions {
            if !self.subscription.is_topic_assigned(&partition.topic) {
                self.assigned.remove(&partition.topic);
            }
        }
        self.wake_all();
    }

    /// Stops reading partitions at once, while what is to be done about them is still to come.
    pub(crate) fn stop(&mut self, partitions: &[TopicPartition]) {
        self.subscription.start_revoking(partitions);
        self.wake_all();
    }
}
