//! Who of a group reads which partition: the strategies a group's leader chooses from, and the trait for one's own.

mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kafka_client::types::TopicPartition;

pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;
pub use sticky::{CooperativeStickyAssignor, StickyAssignor};

/// The partitions of each member, by member id.
pub type Assignments = BTreeMap<Arc<str>, Vec<TopicPartition>>;

/// A strategy that divides the partitions of the subscribed topics among the members of a group.
///
/// Every member offers the strategies it knows, in order of preference; the broker picks one that all of them know,
/// and one member, the leader, runs it for all.
pub trait PartitionAssignor: fmt::Debug + Send + Sync + 'static {
    /// The name by which members of any language agree on this strategy, such as `range`.
    fn name(&self) -> &str;

    /// Whether members keep reading what they keep while the group rebalances (KIP-429).
    ///
    /// A partition then changes hands in two steps: the leader holds back what another member still claims in
    /// [`Member::owned`] (see [`assign_as_leader`]), and the group rebalances once more when it has been let go of. A
    /// member rebalances cooperatively only if *every* strategy that it is configured with is cooperative.
    fn is_cooperative(&self) -> bool {
        false
    }

    /// Bytes for the leader's [`Member::user_data`], made from what this member was assigned last, if anything.
    fn user_data(&self, last: Option<&LastAssignment>) -> Option<Bytes> {
        let _ = last;
        None
    }

    /// Divides the partitions of `topics` among `members`.
    ///
    /// Members that are missing in the answer get nothing.
    fn assign(&self, topics: &Topics, members: &[Member]) -> Assignments;
}

/// What a member was assigned when its group was stable last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastAssignment {
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
    /// The generation of the group in which they were assigned.
    pub generation: i32,
}

impl LastAssignment {
    /// `partitions`, as assigned in `generation`.
    pub fn new(partitions: Vec<TopicPartition>, generation: i32) -> Self {
        Self { partitions, generation }
    }
}

/// A member of a group, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: Arc<str>,
    /// `group.instance.id`, for a static member: it stays the same when the member restarts.
    pub instance_id: Option<Arc<str>>,
    /// The topics it subscribes to.
    pub topics: Vec<Arc<str>>,
    /// The partitions it still owns while it rebalances; empty for strategies that are not cooperative.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it came to own them, where it said so.
    pub generation: Option<i32>,
    /// Where it runs (`client.rack`).
    pub rack: Option<Arc<str>>,
    /// What its own assignor added ([`PartitionAssignor::user_data`]).
    pub user_data: Option<Bytes>,
}

impl Member {
    /// A member that subscribes to `topics`.
    pub fn new(id: impl Into<Arc<str>>, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        Self {
            id: id.into(),
            instance_id: None,
            topics: topics.into_iter().map(Into::into).collect(),
            owned: Vec::new(),
            generation: None,
            rack: None,
            user_data: None,
        }
    }

    /// Says that it owns `partitions` since `generation`.
    #[must_use]
    pub fn owning(mut self, partitions: Vec<TopicPartition>, generation: i32) -> Self {
        self.owned = partitions;
        self.generation = Some(generation);
        self
    }

    /// Java's order of members: static ones first, by instance id, then the others by member id.
    fn rank(&self) -> (bool, &str) {
        match &self.instance_id {
            Some(instance_id) => (false, instance_id),
            None => (true, &self.id),
        }
    }
}

/// The subscribed topics that exist, in order of their names, with their partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics(BTreeMap<Arc<str>, usize>);

impl Topics {
    /// Adds a topic with this many partitions, numbered from 0 on; a topic without partitions is left out.
    pub fn insert(&mut self, topic: impl Into<Arc<str>>, partitions: usize) {
        if partitions > 0 {
            self.0.insert(topic.into(), partitions);
        }
    }

    /// How many partitions `topic` has; none if it does not exist.
    pub fn partition_count(&self, topic: &str) -> usize {
        self.0.get(topic).copied().unwrap_or(0)
    }

    /// Topics and their numbers of partitions, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.0.iter().map(|(topic, partitions)| (topic, *partitions))
    }
}

impl<T: Into<Arc<str>>> FromIterator<(T, usize)> for Topics {
    fn from_iter<I: IntoIterator<Item = (T, usize)>>(topics: I) -> Self {
        let mut all = Self::default();
        for (topic, partitions) in topics {
            all.insert(topic, partitions);
        }
        all
    }
}

/// The strategy with this name that comes with Kafka, by its own name (`range`, `roundrobin`, `sticky`,
/// `cooperative-sticky`) or by Java's class (`org.apache.kafka.clients.consumer.RangeAssignor`).
pub fn by_name(name: &str) -> Option<Arc<dyn PartitionAssignor>> {
    match name.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(name) {
        "range" | "RangeAssignor" => Some(Arc::new(RangeAssignor)),
        "roundrobin" | "RoundRobinAssignor" => Some(Arc::new(RoundRobinAssignor)),
        "sticky" | "StickyAssignor" => Some(Arc::new(StickyAssignor)),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Arc::new(CooperativeStickyAssignor)),
        _ => None,
    }
}

/// What the leader of a group sends its members: the strategy's division, and how many partitions are missing in it.
///
/// If the strategy is cooperative, partitions that another member has still are held back until it has let go of them
/// (KIP-429). A member may keep what it claims in a higher generation than anybody else; claims of the same generation
/// mean that somebody is wrong, so that all must let go first.
pub fn assign_as_leader(
    assignor: &dyn PartitionAssignor,
    topics: &Topics,
    members: &[Member],
) -> (Assignments, usize) {
    let mut assignments = assignor.assign(topics, members);
    if !assignor.is_cooperative() {
        return (assignments, 0);
    }
    let mut claims: HashMap<&TopicPartition, Vec<(&str, Option<i32>)>> = HashMap::new();
    for member in members {
        for owned in &member.owned {
            claims.entry(owned).or_default().push((&member.id, member.generation));
        }
    }
    let mut held_back = 0;
    for (id, partitions) in &mut assignments {
        let before = partitions.len();
        partitions.retain(|partition| {
            let claims = claims.get(partition).map_or(&[][..], Vec::as_slice);
            let own =
                claims.iter().find(|(claimant, _)| *claimant == &**id).map(|(_, generation)| *generation);
            let mut others = claims.iter().filter(|(claimant, _)| *claimant != &**id);
            others.all(|(_, generation)| own.is_some_and(|own| own > *generation))
        });
        held_back += before - partitions.len();
    }
    (assignments, held_back)
}

/// Partition `index` of a topic; a topic has at most 2³¹ − 1 partitions.
fn partition(topic: &Arc<str>, index: usize) -> TopicPartition {
    TopicPartition::new(Arc::clone(topic), i32::try_from(index).unwrap_or(i32::MAX))
}

/// Every member with nothing assigned yet.
fn nothing_assigned(members: &[Member]) -> Assignments {
    members.iter().map(|member| (Arc::clone(&member.id), Vec::new())).collect()
}
