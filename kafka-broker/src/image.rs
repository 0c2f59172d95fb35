//! What the cluster looks like at one moment: brokers, topics, leaders, settings, coordinators. Immutable; see `controller`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_wire::address::NodeAddress;
use uuid::Uuid;

use crate::acl::Authorizer;
use crate::config::{BrokerConfigs, TopicConfig};
use crate::log::Endless;
use crate::partition::Partition;
use crate::quota::Quotas;
use crate::sasl::Credentials;

/// "No leader", "no broker", as Kafka writes it.
pub(crate) const NO_NODE: i32 = -1;

/// How many partitions `__consumer_offsets` would have: groups are hashed to it, and it to brokers.
const GROUP_SLOTS: i32 = 50;

/// The whole metadata of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// A UUID as 22 characters of URL-safe base64.
    pub(crate) cluster_id: Arc<str>,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(crate) topics: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(crate) topic_names: HashMap<Uuid, Arc<str>>,
    pub(crate) configs: Arc<BrokerConfigs>,
    /// What decides who may do what; `None` lets everybody do everything.
    pub(crate) authorizer: Option<Arc<Authorizer>>,
    /// How much clients may use.
    pub(crate) quotas: Arc<Quotas>,
    /// Groups whose coordinator was moved away from where they hash to.
    pub(crate) moved_coordinators: BTreeMap<String, i32>,
    pub(crate) quorum: Quorum,
    /// Who may authenticate by a password.
    pub(crate) credentials: Arc<Credentials>,
    /// What readers get of a null broker, which stores nothing.
    pub(crate) null: Option<Arc<Endless>>,
}

/// What the controllers, which are the brokers, say of their log.
#[derive(Debug, Clone)]
pub(crate) struct Quorum {
    /// How often the controller has changed.
    pub(crate) leader_epoch: i32,
    /// How often the image has changed.
    pub(crate) log_end_offset: i64,
    /// The id of each broker's log directory.
    pub(crate) directories: Arc<BTreeMap<i32, Uuid>>,
}

/// One broker, live or stopped.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    /// What clients of the first listener are told to connect to.
    pub(crate) address: NodeAddress,
    /// What clients of the other listeners are told, in their order.
    pub(crate) more_addresses: Arc<[NodeAddress]>,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) alive: bool,
}

/// One topic.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<PartitionImage>,
    /// What was set on the topic itself.
    pub(crate) overrides: BTreeMap<String, String>,
    /// What is in force.
    pub(crate) config: Arc<TopicConfig>,
}

/// One partition of a topic.
#[derive(Debug, Clone)]
pub(crate) struct PartitionImage {
    /// The leader's id, or [`NO_NODE`] while no replica is live.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    /// The preferred leader first.
    pub(crate) replicas: Arc<[i32]>,
    /// The log, shared by all replicas.
    pub(crate) partition: Arc<Partition>,
}

impl Image {
    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of this id.
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// The partition of the topic of this name.
    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionImage> {
        self.topic(topic)?.partition(partition)
    }

    /// The broker with this id, if it is live.
    pub(crate) fn live_broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id).filter(|broker| broker.alive)
    }

    /// Live brokers, by id.
    pub(crate) fn live_brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().filter(|broker| broker.alive)
    }

    /// The broker that metadata names as controller; any broker serves admin requests.
    pub(crate) fn controller(&self) -> i32 {
        self.live_brokers().next().map_or(NO_NODE, |broker| broker.id)
    }

    /// The live broker that coordinates this group: where it was moved to, else where its hash falls.
    pub(crate) fn coordinator(&self, group: &str) -> Option<&Broker> {
        if let Some(broker) = self.moved_coordinators.get(group).and_then(|id| self.live_broker(*id)) {
            return Some(broker);
        }
        let slot = (java_hash(group) & i32::MAX) % GROUP_SLOTS;
        let ids: Vec<i32> = self.brokers.keys().copied().collect();
        let start = usize::try_from(slot).unwrap_or_default();
        // A stopped broker's groups go to the next live one.
        (0..ids.len()).find_map(|step| self.live_broker(ids[(start + step) % ids.len()]))
    }
}

impl Broker {
    /// What a client that came in on this listener is told to connect to.
    pub(crate) fn address_at(&self, listener: usize) -> &NodeAddress {
        let more = listener.checked_sub(1).and_then(|at| self.more_addresses.get(at));
        more.unwrap_or(&self.address)
    }
}

impl Topic {
    /// The partition with this number.
    pub(crate) fn partition(&self, partition: i32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

impl PartitionImage {
    /// Replicas in sync. They share one log, so that is every live one.
    pub(crate) fn isr(&self, image: &Image) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| image.live_broker(*id).is_some()).collect()
    }

    /// How many replicas are in sync.
    pub(crate) fn isr_len(&self, image: &Image) -> usize {
        self.replicas.iter().filter(|id| image.live_broker(**id).is_some()).count()
    }

    /// Replicas on stopped brokers.
    pub(crate) fn offline(&self, image: &Image) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| image.live_broker(*id).is_none()).collect()
    }
}

/// Java's `String.hashCode`, by which Kafka hashes groups to coordinators.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// 16 bytes as Kafka prints UUIDs: URL-safe base64 without padding.
pub(crate) fn base64_id(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    let sextet = |shift: u32| char::from(ALPHABET[usize::try_from((bits >> shift) & 63).unwrap_or_default()]);
    let last = char::from(ALPHABET[usize::try_from((bits << 4) & 63).unwrap_or_default()]);
    (0..21).map(|place| sextet(122 - 6 * place)).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_kafka_prints_them() {
        assert_eq!(base64_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64_id(Uuid::from_u128(u128::MAX)), "_____________________w");
        assert_eq!(base64_id(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn groups_hash_as_java_strings_do() {
        assert_eq!(
            java_hash("billing"),
            "billing".bytes().fold(0_i32, |h, b| h.wrapping_mul(31) + i32::from(b))
        );
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash(""), 0);
    }
}
