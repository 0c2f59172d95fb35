//! What is known of the cluster, as an immutable snapshot: brokers, topics, leaders. Decides what an answer changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::address::NodeAddress;
use kafka_wire::error_code::ErrorCode;
use tokio::time::Instant;

use crate::types::{NodeId, TopicId, TopicPartition};

/// How long a topic that was known is kept while brokers deny it: after its creation, and while metadata spreads,
/// some of them do (librdkafka's `topic.metadata.propagation.max.ms`).
const PROPAGATION: Duration = Duration::from_secs(30);

/// A view of the cluster at one moment. It never changes; a refresh publishes a new one.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    generation: u64,
    cluster_id: Option<Arc<str>>,
    controller: Option<NodeId>,
    brokers: Arc<[Broker]>,
    topics: HashMap<Arc<str>, Arc<Topic>>,
    names: HashMap<TopicId, Arc<str>>,
}

/// A broker and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Its id.
    pub id: NodeId,
    /// Its address, as it advertises it.
    pub address: NodeAddress,
    /// Its rack, if it has one.
    pub rack: Option<Arc<str>>,
}

/// A topic and its partitions.
#[derive(Clone, Debug)]
pub struct Topic {
    name: Arc<str>,
    id: TopicId,
    internal: bool,
    error: Option<ErrorCode>,
    denied_since: Option<Instant>,
    partitions: Vec<Entry>,
    /// The replica lists of all partitions, one after the other.
    nodes: Vec<NodeId>,
}

/// One partition of a [`Topic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partition<'a> {
    /// Its number.
    pub id: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<NodeId>,
    /// The leader's epoch, which grows with every change of leader; `None` from brokers that do not tell.
    pub leader_epoch: Option<i32>,
    /// The brokers that have a copy, the preferred leader first.
    pub replicas: &'a [NodeId],
    /// Those of them that are in sync.
    pub isr: &'a [NodeId],
    /// Those of them that are offline.
    pub offline: &'a [NodeId],
}

/// A partition; its number is its place in the topic.
#[derive(Clone, Copy, Debug)]
struct Entry {
    leader: NodeId,
    leader_epoch: i32,
    /// Where in `nodes` its lists begin: replicas, then those in sync unless they are the same, then those offline.
    /// [`ABSENT`] if nothing is known of the partition.
    start: u32,
    replicas: u8,
    /// [`SAME`] if the list is that of the replicas.
    isr: u8,
    offline: u8,
}

const ABSENT: u32 = u32::MAX;
const SAME: u8 = u8::MAX;

impl Metadata {
    /// Grows by one with every published snapshot.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The cluster's id, once a broker told it.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The broker to which controller requests go.
    pub fn controller(&self) -> Option<NodeId> {
        self.controller
    }

    /// Every broker that is up, by ascending id.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The broker with this id.
    pub fn broker(&self, id: NodeId) -> Option<&Broker> {
        self.brokers.binary_search_by_key(&id, |broker| broker.id).ok().map(|index| &self.brokers[index])
    }

    /// A topic that is tracked and was asked for already.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// Every known topic, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The leader of a partition and its epoch, if both the partition and its leader are known.
    pub fn leader(&self, partition: &TopicPartition) -> Option<(NodeId, Option<i32>)> {
        let partition = self.topic(&partition.topic)?.partition(partition.partition)?;
        Some((partition.leader?, partition.leader_epoch))
    }

    /// The snapshot after an answer: about all topics, or about some. Topics for which `keep` does not hold go.
    pub(crate) fn updated(
        &self,
        update: Update,
        about_all: bool,
        keep: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Self {
        let mut topics = self.topics.clone();
        topics.retain(|name, _| keep(name));
        if about_all {
            // What a list of everything leaves out is gone, or soon will be.
            for (name, topic) in &mut topics {
                if !update.topics.contains_key(name) {
                    *topic = Arc::new(topic.denied(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, now));
                }
            }
            topics.retain(|_, topic| !topic.partitions.is_empty());
        }
        for (name, answer) in update.topics {
            let topic = match topics.get(&name) {
                Some(known) => known.merged(answer, now),
                None => answer,
            };
            topics.insert(name, Arc::new(topic));
        }
        Self {
            generation: self.generation + 1,
            cluster_id: update.cluster_id.or_else(|| self.cluster_id.clone()),
            controller: update.controller,
            brokers: update.brokers.into(),
            names: names(&topics),
            topics,
        }
    }

    /// The snapshot after a broker said in passing who leads a partition now (KIP-951); `None` if that is no news.
    pub(crate) fn hinted(
        &self,
        partition: &TopicPartition,
        leader: NodeId,
        leader_epoch: i32,
        brokers: &[Broker],
    ) -> Option<Self> {
        let topic = self.topic(&partition.topic)?;
        let index = topic.index(partition.partition)?;
        let known = topic.partitions[index].leader_epoch;
        if leader < 0 || leader_epoch < 0 || leader_epoch <= known {
            return None;
        }
        let endpoint = brokers.iter().find(|broker| broker.id == leader && broker.is_usable());
        if endpoint.is_none() && self.broker(leader).is_none() {
            return None;
        }
        let mut next = self.clone();
        next.generation += 1;
        if let Some(endpoint) = endpoint {
            let others = self.brokers.iter().filter(|broker| broker.id != leader);
            // A hint has no rack where metadata has one.
            let rack = endpoint.rack.clone().or_else(|| self.broker(leader)?.rack.clone());
            let mut all: Vec<Broker> = others.cloned().chain([Broker { rack, ..endpoint.clone() }]).collect();
            all.sort_by_key(|broker| broker.id);
            next.brokers = all.into();
        }
        let mut topic = Topic::clone(topic);
        topic.partitions[index].leader = leader;
        topic.partitions[index].leader_epoch = leader_epoch;
        next.topics.insert(topic.name.clone(), Arc::new(topic));
        Some(next)
    }
}

impl Broker {
    /// A broker that listens at `address`, without a rack.
    pub fn new(id: NodeId, address: NodeAddress) -> Self {
        Self { id, address, rack: None }
    }

    /// Whether it could be connected to at all.
    pub(crate) fn is_usable(&self) -> bool {
        self.id >= 0 && self.address.port != 0 && !self.address.host.is_empty()
    }
}

fn names(topics: &HashMap<Arc<str>, Arc<Topic>>) -> HashMap<TopicId, Arc<str>> {
    let with_id = topics.values().filter(|topic| !topic.id.is_zero());
    with_id.map(|topic| (topic.id, topic.name.clone())).collect()
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its id; `None` from brokers before Kafka 2.8.
    pub fn id(&self) -> Option<TopicId> {
        (!self.id.is_zero()).then_some(self.id)
    }

    /// Whether it is one of Kafka's own.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// What the last answer about it said, if it was an error. A known topic keeps its partitions for a while.
    pub fn error(&self) -> Option<ErrorCode> {
        self.error
    }

    /// How many partitions it has, also those of which nothing else is known.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// One of its partitions.
    pub fn partition(&self, id: i32) -> Option<Partition<'_>> {
        self.view(self.index(id)?)
    }

    /// Its partitions, by ascending number.
    pub fn partitions(&self) -> impl Iterator<Item = Partition<'_>> {
        (0..self.partitions.len()).filter_map(|index| self.view(index))
    }

    fn index(&self, id: i32) -> Option<usize> {
        let index = usize::try_from(id).ok()?;
        self.partitions.get(index).filter(|entry| entry.start != ABSENT).map(|_| index)
    }

    fn view(&self, index: usize) -> Option<Partition<'_>> {
        let entry = self.partitions.get(index).filter(|entry| entry.start != ABSENT)?;
        let nodes = &self.nodes[entry.start as usize..];
        let (replicas, rest) = nodes.split_at(entry.replicas.into());
        let (isr, rest) = match entry.isr {
            SAME => (replicas, rest),
            count => rest.split_at(count.into()),
        };
        Some(Partition {
            id: index as i32,
            leader: (entry.leader >= 0).then_some(entry.leader),
            leader_epoch: (entry.leader_epoch >= 0).then_some(entry.leader_epoch),
            replicas,
            isr,
            offline: &rest[..entry.offline.into()],
        })
    }

    /// This topic after `answer` about it.
    fn merged(&self, answer: Self, now: Instant) -> Self {
        if let Some(error) = answer.error
            && answer.partitions.is_empty()
        {
            return if error.is_retriable() { self.denied(error, now) } else { answer };
        }
        let has_ids = !self.id.is_zero() && !answer.id.is_zero();
        if has_ids && self.id != answer.id {
            // Another topic under the same name: nothing that was known holds for it.
            return answer;
        }
        let survives = |known: &Partition<'_>| match answer.partition(known.id) {
            // A broker that tells no epoch is believed; one that tells an older epoch is behind.
            Some(answered) => answered.leader_epoch.is_some() && answered.leader_epoch < known.leader_epoch,
            // Without ids a partition that is missing may be that of a topic created anew with fewer.
            None => has_ids,
        };
        let mut kept = self.partitions().filter(survives).peekable();
        if kept.peek().is_none() {
            return answer;
        }
        let count = self.partitions.len().max(answer.partitions.len());
        let mut builder =
            TopicBuilder::new(answer.name.clone(), answer.id, answer.internal, answer.error, count);
        // Of two with one number the builder takes the first.
        for partition in kept.chain(answer.partitions()) {
            builder.push(partition);
        }
        builder.build()
    }

    /// This topic after a broker said that it does not know it, or not yet.
    fn denied(&self, error: ErrorCode, now: Instant) -> Self {
        let since = self.denied_since.unwrap_or(now);
        let mut topic = if now.duration_since(since) < PROPAGATION {
            self.clone()
        } else {
            TopicBuilder::new(self.name.clone(), self.id, self.internal, None, 0).build()
        };
        topic.error = Some(error);
        topic.denied_since = Some(since);
        topic
    }
}

/// What a Metadata response says, checked.
#[derive(Debug, Default)]
pub(crate) struct Update {
    pub(crate) cluster_id: Option<Arc<str>>,
    pub(crate) controller: Option<NodeId>,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) topics: HashMap<Arc<str>, Topic>,
    /// An error of the whole answer (version 13 on).
    pub(crate) error: ErrorCode,
}

impl Update {
    /// Puts the parts in order and drops what contradicts itself: of two brokers with one id, the second.
    pub(crate) fn finish(mut self) -> Self {
        self.brokers.retain(Broker::is_usable);
        self.brokers.sort_by_key(|broker| broker.id);
        self.brokers.dedup_by_key(|broker| broker.id);
        let brokers = &self.brokers;
        self.controller = self.controller.filter(|id| brokers.iter().any(|broker| broker.id == *id));
        self
    }
}

/// Collects the partitions of a topic in whatever order they come.
pub(crate) struct TopicBuilder(Topic);

impl TopicBuilder {
    /// A topic with so many partitions.
    pub(crate) fn new(
        name: Arc<str>,
        id: TopicId,
        internal: bool,
        error: Option<ErrorCode>,
        partitions: usize,
    ) -> Self {
        let absent = Entry { leader: -1, leader_epoch: -1, start: ABSENT, replicas: 0, isr: 0, offline: 0 };
        Self(Topic {
            name,
            id,
            internal,
            error,
            denied_since: None,
            partitions: vec![absent; partitions],
            nodes: Vec::new(),
        })
    }

    /// Says what is known of a partition. One whose number is beyond the topic's partitions is ignored, and so is the
    /// second of two with one number.
    pub(crate) fn push(&mut self, partition: Partition<'_>) {
        let Self(Topic { partitions, nodes, .. }) = self;
        let entry = usize::try_from(partition.id).ok().and_then(|index| partitions.get_mut(index));
        let Some(entry) = entry.filter(|entry| entry.start == ABSENT) else { return };
        let Some(start) = u32::try_from(nodes.len()).ok().filter(|start| *start != ABSENT) else { return };
        let same = partition.isr == partition.replicas;
        let mut list = |list: &[NodeId]| {
            // One less than a byte holds; Kafka's replication factors are far below.
            let count = list.len().min(usize::from(SAME) - 1);
            if nodes.capacity() - nodes.len() < count {
                // Not twice as much, as a vector would take: a topic may fill most of a frame of 100 MiB.
                nodes.reserve_exact(count + 64 + nodes.len() / 8);
            }
            nodes.extend_from_slice(&list[..count]);
            count as u8
        };
        let replicas = list(partition.replicas);
        let isr = if same { SAME } else { list(partition.isr) };
        let offline = list(partition.offline);
        let leader = partition.leader.unwrap_or(-1);
        let leader_epoch = partition.leader_epoch.unwrap_or(-1);
        *entry = Entry { leader, leader_epoch, start, replicas, isr, offline };
    }

    pub(crate) fn build(mut self) -> Topic {
        self.0.nodes.shrink_to_fit();
        self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A broker at port 9092 of `b1`, `b2` …
    pub(crate) fn broker(id: NodeId) -> Broker {
        Broker { id, address: NodeAddress::new(format!("b{id}"), 9092), rack: None }
    }

    /// A topic whose partitions have these leaders and epochs.
    pub(crate) fn topic(name: &str, id: u8, leaders: &[(NodeId, i32)]) -> Topic {
        let mut builder = TopicBuilder::new(name.into(), TopicId([id; 16]), false, None, leaders.len());
        for (index, (leader, epoch)) in leaders.iter().enumerate() {
            builder.push(Partition {
                id: index as i32,
                leader: Some(*leader).filter(|id| *id >= 0),
                leader_epoch: Some(*epoch).filter(|epoch| *epoch >= 0),
                replicas: &[*leader],
                isr: &[*leader],
                offline: &[],
            });
        }
        builder.build()
    }

    fn failed(name: &str, error: ErrorCode) -> Topic {
        TopicBuilder::new(name.into(), TopicId::ZERO, false, Some(error), 0).build()
    }

    pub(crate) fn update(topics: impl IntoIterator<Item = Topic>) -> Update {
        let topics = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        Update { brokers: vec![broker(1), broker(2)], controller: Some(1), topics, ..Update::default() }
            .finish()
    }

    fn after(metadata: &Metadata, answer: Topic, seconds: u64, start: Instant) -> Metadata {
        metadata.updated(update([answer]), false, |_| true, start + Duration::from_secs(seconds))
    }

    fn leader(metadata: &Metadata, partition: i32) -> Option<(NodeId, Option<i32>)> {
        metadata.leader(&TopicPartition::new("t", partition))
    }

    #[test]
    fn an_older_leader_epoch_is_ignored_unless_the_topic_id_changed() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 5), (1, 5)]), 0, now);
        let behind = after(&known, topic("t", 7, &[(2, 4), (2, 6)]), 1, now);
        assert_eq!(leader(&behind, 0), Some((1, Some(5))));
        assert_eq!(leader(&behind, 1), Some((2, Some(6))));
        let recreated = after(&known, topic("t", 8, &[(2, 0)]), 1, now);
        assert_eq!(leader(&recreated, 0), Some((2, Some(0))));
        assert_eq!(leader(&recreated, 1), None);
        assert!(recreated.topic_by_id(TopicId([7; 16])).is_none());
        assert_eq!(recreated.topic_by_id(TopicId([8; 16])).unwrap().name().as_ref(), "t");
    }

    #[test]
    fn a_broker_that_tells_no_epoch_is_believed() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 0, &[(1, 5)]), 0, now);
        let answered = after(&known, topic("t", 0, &[(2, -1)]), 1, now);
        assert_eq!(leader(&answered, 0), Some((2, None)));
    }

    #[test]
    fn a_partition_that_an_answer_leaves_out_is_kept() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 0), (2, 0), (1, 0)]), 0, now);
        let answered = after(&known, topic("t", 7, &[(2, 1)]), 1, now);
        let leaders: Vec<_> = (0..3).map(|id| leader(&answered, id)).collect();
        assert_eq!(leaders, [Some((2, Some(1))), Some((2, Some(0))), Some((1, Some(0)))]);
    }

    #[test]
    fn a_known_topic_outlives_a_moment_of_denial_and_not_a_long_one() {
        let now = Instant::now();
        let denial = || failed("t", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 0)]), 0, now);
        let denied = after(&known, denial(), 10, now);
        assert_eq!(leader(&denied, 0), Some((1, Some(0))));
        assert_eq!(denied.topic("t").unwrap().error(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        let still = after(&denied, denial(), 39, now);
        assert_eq!(leader(&still, 0), Some((1, Some(0))));
        let gone = after(&still, denial(), 40, now);
        assert_eq!(gone.topic("t").unwrap().partition_count(), 0);
        let back = after(&denied, topic("t", 7, &[(2, 1)]), 11, now);
        assert_eq!(back.topic("t").unwrap().error(), None);
        let denied_anew = after(&back, denial(), 45, now);
        assert_eq!(leader(&denied_anew, 0), Some((2, Some(1))));
    }

    #[test]
    fn an_error_that_stays_takes_the_topic_away_at_once() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 0)]), 0, now);
        let denied = after(&known, failed("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED), 1, now);
        assert_eq!(denied.topic("t").unwrap().partition_count(), 0);
    }

    #[test]
    fn a_list_of_all_topics_ends_those_it_leaves_out_after_a_while() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 0)]), 0, now);
        let later = |seconds, metadata: &Metadata| {
            metadata.updated(update([]), true, |_| true, now + Duration::from_secs(seconds))
        };
        let missing = later(1, &known);
        assert_eq!(leader(&missing, 0), Some((1, Some(0))));
        assert!(later(31, &missing).topic("t").is_none());
    }

    #[test]
    fn topics_that_nobody_tracks_any_more_are_forgotten() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 0)]), 0, now);
        let updated = known.updated(update([topic("u", 8, &[])]), false, |name| name == "u", now);
        assert!(updated.topic("t").is_none() && updated.topic("u").is_some());
    }

    #[test]
    fn a_hint_counts_only_with_a_newer_epoch_and_a_reachable_leader() {
        let now = Instant::now();
        let known = after(&Metadata::default(), topic("t", 7, &[(1, 5)]), 0, now);
        let partition = TopicPartition::new("t", 0);
        let hinted = |leader, epoch, brokers: &[Broker]| known.hinted(&partition, leader, epoch, brokers);
        assert_eq!(leader(&hinted(2, 6, &[]).unwrap(), 0), Some((2, Some(6))));
        let moved = hinted(3, 6, &[broker(3)]).unwrap();
        assert_eq!(leader(&moved, 0), Some((3, Some(6))));
        assert_eq!(moved.broker(3), Some(&broker(3)));
        assert_eq!(moved.brokers().len(), 3);
        assert!(hinted(2, 5, &[]).is_none());
        assert!(hinted(2, 4, &[]).is_none());
        assert!(hinted(3, 6, &[]).is_none());
        assert!(hinted(-1, 6, &[]).is_none());
        let nowhere = Broker { address: NodeAddress::new("", 0), ..broker(3) };
        assert!(hinted(3, 6, &[nowhere]).is_none());
        assert!(known.hinted(&TopicPartition::new("t", 1), 2, 6, &[]).is_none());
    }

    #[test]
    fn lists_of_nodes_come_back_as_they_were_given() {
        let mut builder = TopicBuilder::new("t".into(), TopicId::ZERO, false, None, 10);
        let view = |id, replicas, isr, offline| Partition {
            id,
            leader: None,
            leader_epoch: None,
            replicas,
            isr,
            offline,
        };
        let partitions = [
            view(9, &[1, 2, 3], &[1, 2, 3], &[]),
            view(0, &[1, 2, 3], &[2], &[1, 3]),
            view(4, &[], &[], &[]),
        ];
        partitions.iter().for_each(|partition| builder.push(*partition));
        builder.push(view(-1, &[1], &[1], &[]));
        builder.push(view(10, &[1], &[1], &[]));
        builder.push(view(9, &[7], &[7], &[7]));
        let topic = builder.build();
        assert_eq!(topic.partitions().collect::<Vec<_>>(), [partitions[1], partitions[2], partitions[0]]);
        assert_eq!(topic.partition(9), Some(partitions[0]));
        assert_eq!((topic.partition(1), topic.partition(-1)), (None, None));
    }

    #[test]
    fn a_partition_takes_few_bytes() {
        assert!(size_of::<Entry>() <= 16);
    }
}
