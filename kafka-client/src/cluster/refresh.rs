//! Keeps the snapshot of the cluster fresh: one task that asks one broker at a time, and the handle to it.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::BytesMut;
use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_wire::messages::{StrBytes, TopicName};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Cluster;
use super::interest::{Question, Scope, is_unsettled};
use super::metadata::{Broker, Metadata, Topic, Update};
use super::metadata_response;
use crate::config::MetadataRecovery;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{NodeId, TopicPartition};

/// Keeps what is known of the cluster fresh, and says what is worth knowing.
///
/// A refresh happens when one is [requested](Self::request), when what is known is as old as `metadata.max.age.ms`,
/// and again after a backoff while a tracked topic is unknown or a partition of it has no leader. One broker is asked
/// at a time; if none answers, the bootstrap addresses are resolved and asked anew (KIP-899).
pub struct Refresher(Arc<Cluster>);

impl Refresher {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self(cluster)
    }

    /// Tracks topics until the guard is dropped: refreshes ask for them. With `create` the brokers may create those
    /// that do not exist, if they are configured to (`auto.create.topics.enable`).
    pub fn track<T: Into<Arc<str>>>(&self, topics: impl IntoIterator<Item = T>, create: bool) -> Tracked {
        self.0.track(topics, create)
    }

    /// Tracks every topic of the cluster until the guard is dropped.
    pub fn track_everything(&self) -> Tracked {
        let mut state = self.0.state();
        state.interest.add_everything();
        state.schedule.request(Instant::now());
        drop(state);
        self.0.wake.notify_one();
        Tracked { cluster: Arc::downgrade(&self.0), topics: HashSet::new(), create: false, everything: true }
    }

    /// Asks for a refresh soon: something showed that what is known is wrong. Requests that come together make one
    /// refresh, and one refresh follows the other with a growing wait.
    pub fn request(&self, reason: &'static str) {
        self.0.request_refresh(reason);
    }

    /// Tells when a newer snapshot is published: the receiver holds its generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Tells when a refresh has failed, and when one has succeeded after that.
    pub fn failures(&self) -> watch::Receiver<Option<Error>> {
        self.0.failure.subscribe()
    }

    /// Why nothing more will be learned of the cluster until somebody changes something, if the last refresh has shown
    /// that: the credentials are refused, or a certificate.
    pub fn refusal(&self) -> Option<Error> {
        self.0.failure.borrow().clone().filter(Error::is_fatal)
    }

    /// Waits until at least one broker is known.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) at the deadline, with the last failure;
    /// [`NoBroker`](ErrorKind::NoBroker) at once for a failure that will not pass, such as a peer that speaks TLS;
    /// [`Authentication`](ErrorKind::Authentication) at once if the credentials are refused.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn ready(&self, deadline: Instant) -> Result<Arc<Metadata>> {
        self.0.ready(deadline).await
    }

    /// Waits until a topic and its partitions are known. Track the topic to keep it so.
    ///
    /// # Errors
    /// [`UnknownTopic`](ErrorKind::UnknownTopic) if the cluster still denies it at the deadline,
    /// [`TimedOut`](ErrorKind::TimedOut) if nobody answered, [`Broker`](ErrorKind::Broker) at once for an error that
    /// will not pass, such as a lack of authorization.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn topic(&self, name: &str, create: bool, deadline: Instant) -> Result<Arc<Topic>> {
        let _tracked = self.track([name], create);
        self.0.topic(name, deadline).await
    }

    /// Takes over what a broker said in passing about a partition's leader (KIP-951). It counts only if its epoch is
    /// newer than what is known and the leader's address is known or among `brokers`; says whether it counted.
    pub fn leader_hint(
        &self,
        partition: &TopicPartition,
        leader: NodeId,
        leader_epoch: i32,
        brokers: &[Broker],
    ) -> bool {
        let mut news = false;
        self.0.publish(|metadata, _| {
            let hinted = metadata.hinted(partition, leader, leader_epoch, brokers);
            news = hinted.is_some();
            hinted
        });
        news
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher").field("generation", &self.0.metadata().generation()).finish()
    }
}

/// Topics that somebody uses; dropping it ends that.
#[must_use = "the topics are tracked only until this is dropped"]
pub struct Tracked {
    cluster: Weak<Cluster>,
    topics: HashSet<Arc<str>>,
    create: bool,
    everything: bool,
}

impl Tracked {
    /// Tracks one more topic.
    pub fn add(&mut self, topic: impl Into<Arc<str>>) {
        let topic = topic.into();
        let Some(cluster) = self.cluster.upgrade() else { return };
        if !self.topics.insert(topic.clone()) {
            return;
        }
        let mut state = cluster.state();
        state.interest.add(&topic, self.create);
        if is_unsettled(cluster.metadata.load().topic(&topic)) {
            state.schedule.request_new_topics();
            drop(state);
            cluster.wake.notify_one();
        }
    }

    /// Tracks a topic no longer.
    pub fn remove(&mut self, topic: &str) {
        if self.topics.remove(topic)
            && let Some(cluster) = self.cluster.upgrade()
        {
            cluster.state().interest.remove(topic, self.create);
        }
    }

    /// The topics, in no order; for a guard of everything there are none.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter()
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("topics", &self.topics).field("everything", &self.everything).finish()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        let mut state = cluster.state();
        self.topics.iter().for_each(|topic| state.interest.remove(topic, self.create));
        if self.everything {
            state.interest.remove_everything();
        }
    }
}

impl Cluster {
    /// See [`Refresher::track`].
    pub(crate) fn track<T: Into<Arc<str>>>(
        self: &Arc<Self>,
        topics: impl IntoIterator<Item = T>,
        create: bool,
    ) -> Tracked {
        let cluster = Arc::downgrade(self);
        let mut tracked = Tracked { cluster, topics: HashSet::new(), create, everything: false };
        topics.into_iter().for_each(|topic| tracked.add(topic));
        tracked
    }

    pub(crate) fn request_refresh(&self, reason: &'static str) {
        tracing::debug!(reason, "metadata refresh requested");
        self.state().schedule.request(Instant::now());
        self.wake.notify_one();
    }

    /// Starts the refresher's task if it does not run: `build` had nothing to refresh and perhaps no runtime, and the
    /// runtime it ran on may be gone.
    pub(crate) fn start(self: &Arc<Self>) {
        // Without one, whoever waits for something will come with a runtime.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = self.state();
        if state.task.as_ref().is_none_or(|task| task.is_finished()) {
            if self.metadata.load().brokers().is_empty() {
                state.schedule.request(Instant::now());
            }
            state.task = Some(runtime.spawn(self.clone().keep_fresh()).abort_handle());
        }
    }

    /// See [`Refresher::ready`].
    pub(crate) async fn ready(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Metadata>> {
        self.wait_for(deadline, "learning of the cluster's brokers", |metadata| {
            (!metadata.brokers().is_empty()).then(|| Ok(metadata.clone()))
        })
        .await
    }

    /// See [`Refresher::topic`]; somebody tracks the topic meanwhile.
    pub(crate) async fn topic(self: &Arc<Self>, name: &str, deadline: Instant) -> Result<Arc<Topic>> {
        let what = "learning of a topic's partitions";
        let refused = |topic: &Topic| {
            topic.error().filter(|error| topic.partition_count() == 0 && !error.is_retriable())
        };
        // What was refused some time ago may have been granted since.
        let known = self.metadata();
        let stale = known.topic(name).and_then(|topic| refused(topic)).map(|_| known.generation());
        if stale.is_some() {
            self.request_refresh("a topic that was refused is asked for again");
        }
        let found = self.wait_for(deadline, what, |metadata| {
            let topic = metadata.topic(name)?;
            match refused(topic) {
                None => (topic.partition_count() > 0).then(|| Ok(topic.clone())),
                Some(_) if stale == Some(metadata.generation()) => None,
                Some(error) => {
                    let message = format!("topic {name}: {}", error.message());
                    Some(Err(Error::broker(error, Api::Metadata, None, Some(message))))
                }
            }
        });
        found.await.map_err(|error| match self.metadata.load().topic(name) {
            Some(topic) if topic.error() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                ErrorKind::UnknownTopic(name.into()).into()
            }
            _ => error,
        })
    }

    /// Waits for a snapshot that holds what `look` looks for.
    async fn wait_for<T>(
        self: &Arc<Self>,
        deadline: Instant,
        what: &'static str,
        look: impl Fn(&Arc<Metadata>) -> Option<Result<T>>,
    ) -> Result<T> {
        if let Some(found) = look(&self.metadata.load()) {
            return found;
        }
        if let Some(refusal) = self.pool.refusal() {
            return Err(refusal);
        }
        let start = Instant::now();
        // Before the start, so that what the first refresh brings is not missed.
        let mut generation = self.generation.subscribe();
        let mut failure = self.failure.subscribe();
        self.start();
        let found = async {
            loop {
                if let Some(found) = look(&self.metadata.load()) {
                    return found;
                }
                // Neither ends: the senders are part of the cluster, which this holds.
                tokio::select! {
                    _ = generation.changed() => {}
                    _ = failure.changed() => {
                        let failure = failure.borrow_and_update().clone();
                        if let Some(error) = failure.filter(|error| !error.is_retriable()) {
                            return Err(error);
                        }
                    }
                }
            }
        };
        timeout_at(deadline, found).await.unwrap_or_else(|_| Err(self.timed_out(what.to_owned(), start)))
    }

    /// The refresher's task.
    async fn keep_fresh(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            let due = self.state().schedule.due(now);
            match due {
                Some((at, scope)) if at <= now => self.refresh(scope).await,
                Some((at, _)) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.wake.notified() => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    async fn refresh(&self, scope: Scope) {
        let questions = {
            let mut state = self.state();
            state.schedule.started();
            state.interest.questions(&self.metadata.load(), scope)
        };
        let outcome = self.ask_all(&questions).await;
        let mut guard = self.state();
        let state = &mut *guard;
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                let unsettled = state.interest.is_unsettled(&self.metadata.load());
                state.schedule.succeeded(scope, unsettled, now, &mut state.random);
                drop(guard);
                self.failure.send_replace(None);
            }
            Err(error) => {
                tracing::debug!(%error, "metadata refresh failed");
                state.schedule.failed(now, &mut state.random);
                drop(guard);
                self.failure.send_replace(Some(error));
            }
        }
    }

    async fn ask_all(&self, questions: &[Question]) -> Result<()> {
        // For the whole round: a broker that failed is not asked again before others were.
        let mut tried = Vec::new();
        for question in questions {
            self.ask_around(question, &mut tried).await?;
        }
        Ok(())
    }

    /// Asks one broker after the other, then the bootstrap addresses, until one answers.
    async fn ask_around(&self, question: &Question, tried: &mut Vec<NodeId>) -> Result<()> {
        let may_rebootstrap = self.config.metadata_recovery == MetadataRecovery::Rebootstrap;
        let mut last: Option<Error> = None;
        let mut is_bootstrapping = self.metadata.load().brokers().is_empty();
        let mut bootstraps = self.bootstraps();
        loop {
            if !is_bootstrapping && may_rebootstrap && self.state().schedule.must_rebootstrap(Instant::now())
            {
                self.forget_connections("no metadata for too long");
                is_bootstrapping = true;
            }
            let next = if is_bootstrapping { bootstraps.pop() } else { self.least_loaded(tried) };
            let Some(broker) = next else {
                if is_bootstrapping || !may_rebootstrap {
                    return Err(match last {
                        // Told as it is: whoever waits for a broker waits in vain.
                        Some(last) if matches!(last.kind(), ErrorKind::Authentication { .. }) => last,
                        last => ErrorKind::NoBroker { last }.into(),
                    });
                }
                is_bootstrapping = true;
                continue;
            };
            match self.ask(&broker, question).await {
                Ok(update) => {
                    // Before anybody knows of the broker, and connects to it.
                    let is_here = |it: &&Broker| broker.id < 0 && it.address == broker.address;
                    if let Some(found) = update.brokers.iter().find(is_here) {
                        self.pool.identify(broker.id, found.id);
                    }
                    self.take_over(update, question.topics.is_none());
                    return Ok(());
                }
                Err(error) => {
                    if error.error_code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED) && !is_bootstrapping {
                        self.forget_connections("a broker asked for it");
                        is_bootstrapping = true;
                    }
                    // Credentials that one broker refuses, the others refuse too.
                    if let Some(refusal) = self.pool.refusal() {
                        return Err(refusal);
                    }
                    // What is final is told. While one of the other failures may pass, so may all of them.
                    let outweighs = |last: &Error| {
                        error.is_fatal() || !last.is_fatal() && (!last.is_retriable() || error.is_retriable())
                    };
                    if last.as_ref().is_none_or(outweighs) {
                        last = Some(error);
                    }
                }
            }
            self.state().schedule.attempt_failed(Instant::now());
            tried.push(broker.id);
        }
    }

    /// The bootstrap addresses in random order, under negative ids: who listens there is not known yet.
    fn bootstraps(&self) -> Vec<Broker> {
        let mut brokers: Vec<Broker> = (1..)
            .zip(&self.config.bootstrap)
            .map(|(id, address)| Broker::new(-id, address.clone()))
            .collect();
        self.state().random.shuffle(&mut brokers);
        brokers
    }

    fn forget_connections(&self, reason: &'static str) {
        tracing::info!(reason, "starting again from the bootstrap addresses");
        self.pool.reset("the cluster is looked for anew");
        self.state().schedule.rebootstrapped(Instant::now());
    }

    async fn ask(&self, broker: &Broker, question: &Question) -> Result<Update> {
        let connection = self.pool.shared_connection(broker.id, &broker.address).await?;
        let version = connection.version_for(Api::Metadata, Api::Metadata.versions())?;
        let mut body = BytesMut::new();
        request(question, version).encode(version, &mut body).map_err(ErrorKind::Encode)?;
        let request = connection.request(Api::Metadata, version, vec![body.freeze()]);
        let response = connection.call(request).await?;
        let update = {
            let known = self.metadata.load();
            let wanted = |name: &str| self.state().interest.wants(name);
            metadata_response::decode(version, &response.body, &known, wanted)
        };
        let update = update.map_err(|error| connection.fail(error))?;
        update.error.check().map_err(|code| Error::broker(code, Api::Metadata, Some(broker.id), None))?;
        if update.brokers.is_empty() {
            let message = "the answer names no broker".to_owned();
            return Err(Error::broker(
                ErrorCode::LEADER_NOT_AVAILABLE,
                Api::Metadata,
                Some(broker.id),
                Some(message),
            ));
        }
        Ok(update)
    }

    fn take_over(&self, update: Update, about_all: bool) {
        self.publish(|known, interest| {
            if let (Some(old), Some(new)) = (known.cluster_id(), update.cluster_id.as_deref())
                && old != new
            {
                tracing::warn!(old, new, "the brokers belong to another cluster now");
            }
            Some(known.updated(update, about_all, |name| interest.wants(name), Instant::now()))
        });
    }
}

fn request(question: &Question, version: i16) -> MetadataRequest {
    let name = |topic: &Arc<str>| TopicName(StrBytes::from_string(topic.to_string()));
    let topic = |topic| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let topics = question.topics.as_ref().map(|topics| topics.iter().map(topic).collect());
    MetadataRequest::default()
        // Version 0 says "all" with an empty list.
        .with_topics(if version == 0 { Some(topics.unwrap_or_default()) } else { topics })
        // Older versions always allow it.
        .with_allow_auto_topic_creation(version < 4 || question.may_create)
}

#[cfg(test)]
mod tests;
