//! Changes the image, one change at a time: topics, partitions, settings, elections, live brokers, coordinators.

mod acls;
mod quotas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use kafka_wire::error_code::ErrorCode;
use uuid::Uuid;

use crate::acl::Authorizer;
use crate::config::{self, BrokerConfigs, ConfigDef, TopicConfig};
use crate::image::{Broker, Image, NO_NODE, PartitionImage, Quorum, Topic, base64_id};
use crate::log::Endless;
use crate::partition::Partition;
use crate::sasl::Credentials;

/// What a cluster holds at most: a hostile client could otherwise fill the memory of a test.
pub(crate) const MOST_PARTITIONS: usize = 10_000;

/// Longest topic name, in characters.
pub(crate) const LONGEST_NAME: usize = 249;

/// Why a change was not made: the code and message a response carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    /// Empty where Kafka has none.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// `None` takes `num.partitions`.
    pub(crate) partitions: Option<i32>,
    /// `None` takes `default.replication.factor`.
    pub(crate) replication: Option<i16>,
    /// Replicas per partition, instead of the two numbers above.
    pub(crate) assignment: Option<Vec<Vec<i32>>>,
    pub(crate) configs: BTreeMap<String, String>,
}

/// One change of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigChange {
    Set(String),
    Delete,
    Append(String),
    Subtract(String),
}

/// The one place that changes the image.
#[derive(Debug)]
pub(crate) struct Controller {
    image: ArcSwap<Image>,
    /// Held while an image is replaced; gives out topic ids.
    changing: Mutex<fastrand::Rng>,
}

impl Controller {
    pub(crate) fn new(
        brokers: Vec<Broker>,
        configs: BrokerConfigs,
        mut rng: fastrand::Rng,
        credentials: Credentials,
        null: Option<Arc<Endless>>,
    ) -> Self {
        let cluster_id = base64_id(random_id(&mut rng)).into();
        let directories = brokers.iter().map(|broker| (broker.id, random_id(&mut rng))).collect();
        let image = Image {
            cluster_id,
            brokers: brokers.into_iter().map(|broker| (broker.id, broker)).collect(),
            topics: BTreeMap::new(),
            topic_names: std::collections::HashMap::new(),
            authorizer: Authorizer::from_configs(&configs).map(Arc::new),
            configs: Arc::new(configs),
            quotas: Arc::default(),
            moved_coordinators: BTreeMap::new(),
            quorum: Quorum { leader_epoch: 1, log_end_offset: 1, directories: Arc::new(directories) },
            credentials: Arc::new(credentials),
            null,
        };
        Self { image: ArcSwap::from_pointee(image), changing: Mutex::new(rng) }
    }

    /// The image now. Keep it for one request, not longer.
    pub(crate) fn image(&self) -> Guard<Arc<Image>> {
        self.image.load()
    }

    /// Randomness for another part of the cluster, repeatable by the cluster's seed.
    pub(crate) fn fork_rng(&self) -> fastrand::Rng {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// The image now, to be kept over an `.await` or lent to a response.
    pub(crate) fn whole_image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// Creates a topic whose partitions have leaders when this returns.
    pub(crate) fn create_topic(&self, new: NewTopic, validate_only: bool) -> Result<Arc<Topic>, Refusal> {
        self.change(|image, rng| {
            check_name(image, &new.name)?;
            let assignment = match new.assignment {
                Some(assignment) => checked_assignment(image, assignment)?,
                None => {
                    let partitions = new.partitions.unwrap_or_else(|| image.configs.number("num.partitions"));
                    let replication =
                        new.replication.unwrap_or_else(|| image.configs.number("default.replication.factor"));
                    place(image, image.topics.len(), 0, partitions, replication)?
                }
            };
            check_room(image, assignment.len())?;
            for (name, value) in &new.configs {
                topic_def(name)?.check(value).map_err(invalid_config)?;
            }
            let name: Arc<str> = new.name.into();
            let topic = Arc::new(Topic {
                name: Arc::clone(&name),
                id: random_id(rng),
                partitions: partition_images(image, 0, assignment),
                config: Arc::new(TopicConfig::resolve(&new.configs, &image.configs)),
                overrides: new.configs,
            });
            if validate_only {
                return Ok((None, topic));
            }
            let mut next = image.clone();
            next.topic_names.insert(topic.id, Arc::clone(&name));
            next.topics.insert(name, Arc::clone(&topic));
            Ok((Some(next), topic))
        })
    }

    /// Deletes a topic and all its records.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        self.change(|image, _| {
            if !image.configs.flag("delete.topic.enable") {
                return Err(Refusal::new(ErrorCode::TOPIC_DELETION_DISABLED, "delete.topic.enable is false"));
            }
            let mut next = image.clone();
            let topic = next.topics.remove(name).ok_or_else(unknown_topic)?;
            next.topic_names.remove(&topic.id);
            for partition in &topic.partitions {
                partition.partition.delete();
            }
            Ok((Some(next), topic))
        })
    }

    /// Grows a topic to `total` partitions; `assignment` gives the replicas of the new ones.
    pub(crate) fn create_partitions(
        &self,
        name: &str,
        total: i32,
        assignment: Option<Vec<Vec<i32>>>,
        validate_only: bool,
    ) -> Result<Arc<Topic>, Refusal> {
        self.change(|image, _| {
            let unknown = || Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "");
            let topic = image.topic(name).ok_or_else(unknown)?;
            let invalid = |message: String| Refusal::new(ErrorCode::INVALID_PARTITIONS, message);
            let now = topic.partitions.len();
            let added = usize::try_from(total).unwrap_or_default().saturating_sub(now);
            if added == 0 {
                return Err(invalid(match usize::try_from(total) {
                    Ok(total) if total == now => format!("Topic already has {now} partition(s)."),
                    _ => format!(
                        "The topic {name} currently has {now} partition(s); {total} would not be an increase."
                    ),
                }));
            }
            check_room(image, added)?;
            let assignment = match assignment {
                Some(assignment) if assignment.len() != added => {
                    let given = assignment.len();
                    let message = format!(
                        "Attempted to add {added} additional partition(s), but {given} were assigned."
                    );
                    return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
                }
                Some(assignment) => checked_assignment(image, assignment)?,
                None => {
                    let replication = topic.partitions.first().map_or(1, |first| first.replicas.len());
                    let added = i32::try_from(added).unwrap_or(i32::MAX);
                    place(image, 0, now, added, i16::try_from(replication).unwrap_or(i16::MAX))?
                }
            };
            let mut grown = Topic::clone(topic);
            grown.partitions.extend(partition_images(image, now, assignment));
            let grown = Arc::new(grown);
            if validate_only {
                return Ok((None, grown));
            }
            Ok((Some(image.with_topic(Arc::clone(&grown))), grown))
        })
    }

    /// Changes settings of a topic. `replace` first forgets every one that was set (AlterConfigs).
    pub(crate) fn alter_topic_configs(
        &self,
        name: &str,
        changes: &[(String, ConfigChange)],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        self.change(|image, _| {
            let topic = image.topic(name).ok_or_else(unknown_topic)?;
            let mut overrides = if replace { BTreeMap::new() } else { topic.overrides.clone() };
            for (name, change) in changes {
                let def = match topic_def(name) {
                    // There is nothing to delete, which is as well.
                    Err(_) if *change == ConfigChange::Delete => continue,
                    def => def?,
                };
                let inherited = image.configs.topic_values(&BTreeMap::new(), def);
                apply(&mut overrides, def, change, inherited.first().map_or("", |value| &value.value))?;
            }
            if validate_only {
                return Ok((None, ()));
            }
            let mut altered = Topic::clone(topic);
            altered.config = Arc::new(TopicConfig::resolve(&overrides, &image.configs));
            altered.overrides = overrides;
            Ok((Some(image.with_topic(Arc::new(altered))), ()))
        })
    }

    /// Changes settings of one broker, or of all (`None`).
    pub(crate) fn alter_broker_configs(
        &self,
        broker: Option<i32>,
        changes: &[(String, ConfigChange)],
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        self.change(|image, _| {
            if let Some(id) = broker.filter(|id| !image.brokers.contains_key(id)) {
                let message = format!("No broker has the id {id}");
                return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
            }
            let mut configs = BrokerConfigs::clone(&image.configs);
            let set = configs.dynamic.entry(broker).or_default();
            if replace {
                set.clear();
            }
            for (name, change) in changes {
                let unknown = || invalid_config(format!("Unknown broker config name: {name}"));
                let def = config::broker_config(name).ok_or_else(unknown)?;
                if def.read_only {
                    let message = format!("Cannot update these configs dynamically: [{name}]");
                    return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
                }
                apply(set, def, change, image.configs.value(name))?;
            }
            if validate_only {
                return Ok((None, ()));
            }
            let mut next = image.clone();
            next.configs = Arc::new(configs);
            for topic in next.topics.values_mut() {
                let config = TopicConfig::resolve(&topic.overrides, &next.configs);
                if config != *topic.config {
                    Arc::make_mut(topic).config = Arc::new(config);
                }
            }
            Ok((Some(next), ()))
        })
    }

    /// Makes a live replica the leader of a partition, in a new epoch.
    pub(crate) fn move_leader(&self, name: &str, partition: i32, leader: i32) -> Result<(), Refusal> {
        self.change(|image, _| {
            let mut topic = Topic::clone(image.topic(name).ok_or_else(unknown_topic)?);
            let place = usize::try_from(partition).ok().and_then(|at| topic.partitions.get_mut(at));
            let place = place.ok_or_else(unknown_topic)?;
            if !place.replicas.contains(&leader) || image.live_broker(leader).is_none() {
                let message = format!("{leader} is not a live replica of {name}-{partition}");
                return Err(Refusal::new(ErrorCode::REPLICA_NOT_AVAILABLE, message));
            }
            place.elect(leader);
            Ok((Some(image.with_topic(Arc::new(topic))), ()))
        })
    }

    /// Puts a partition on other replicas. They share its log, so this is done when it returns; the leader stays if it is
    /// among them.
    pub(crate) fn reassign(
        &self,
        name: &str,
        partition: i32,
        replicas: Vec<i32>,
        may_change_factor: bool,
    ) -> Result<(), Refusal> {
        self.change(|image, _| {
            let mut topic = Topic::clone(image.topic(name).ok_or_else(unknown_topic)?);
            let place = usize::try_from(partition).ok().and_then(|at| topic.partitions.get_mut(at));
            let place = place.ok_or_else(unknown_topic)?;
            if !may_change_factor && replicas.len() != place.replicas.len() {
                let message =
                    format!("The replication factor is {}, not {}", place.replicas.len(), replicas.len());
                return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
            }
            let mut checked = checked_assignment(image, vec![replicas])?;
            place.replicas = checked.remove(0).into();
            if !place.replicas.contains(&place.leader) {
                let leader = place.replicas.iter().copied().find(|id| image.live_broker(*id).is_some());
                place.elect(leader.unwrap_or(NO_NODE));
            }
            Ok((Some(image.with_topic(Arc::new(topic))), ()))
        })
    }

    /// Starts a new epoch with the same leader, on a log that ends at the batch with `offset`.
    pub(crate) fn truncate(
        &self,
        name: &str,
        partition: i32,
        offset: i64,
        now_ms: i64,
        producer_expiration_ms: i64,
    ) -> Result<(), Refusal> {
        let leader = {
            let image = self.image();
            let place = image.partition(name, partition).ok_or_else(unknown_topic)?;
            let mut state = place.partition.lock();
            state.log.truncate(offset, now_ms, producer_expiration_ms);
            state.leader
        };
        self.move_leader(name, partition, leader)
    }

    /// Forgets the idempotent producers of a partition.
    pub(crate) fn forget_producers(&self, name: &str, partition: i32) -> Result<(), Refusal> {
        let image = self.image();
        let place = image.partition(name, partition).ok_or_else(unknown_topic)?;
        place.partition.lock().log.forget_producers();
        Ok(())
    }

    /// Says that a broker stopped or started, and elects leaders: a stopped one loses its partitions to the first live
    /// replica, and a started one takes those that have no leader.
    pub(crate) fn set_alive(&self, broker: i32, alive: bool) -> Result<(), Refusal> {
        self.change(|image, _| {
            let mut next = image.clone();
            let unknown = || Refusal::new(ErrorCode::BROKER_ID_NOT_REGISTERED, format!("No broker {broker}"));
            next.brokers.get_mut(&broker).ok_or_else(unknown)?.alive = alive;
            let live: Vec<i32> = next.live_brokers().map(|broker| broker.id).collect();
            for topic in next.topics.values_mut() {
                let lost = |place: &PartitionImage| !live.contains(&place.leader);
                let electable = |place: &PartitionImage| place.replicas.iter().any(|id| live.contains(id));
                let changes =
                    |place: &PartitionImage| lost(place) && (electable(place) || place.leader != NO_NODE);
                if !topic.partitions.iter().any(changes) {
                    continue;
                }
                for place in Arc::make_mut(topic).partitions.iter_mut().filter(|place| changes(place)) {
                    let replica = place.replicas.iter().copied().find(|id| live.contains(id));
                    place.elect(replica.unwrap_or(NO_NODE));
                }
            }
            Ok((Some(next), ()))
        })
    }

    /// Makes a live broker the coordinator of a group.
    pub(crate) fn move_coordinator(&self, group: &str, broker: i32) -> Result<(), Refusal> {
        self.change(|image, _| {
            if image.live_broker(broker).is_none() {
                let message = format!("{broker} is not a live broker");
                return Err(Refusal::new(ErrorCode::BROKER_NOT_AVAILABLE, message));
            }
            let mut next = image.clone();
            next.moved_coordinators.insert(group.to_owned(), broker);
            Ok((Some(next), ()))
        })
    }

    /// Changes who may authenticate, on all brokers at once.
    pub(crate) fn alter_credentials<T>(
        &self,
        alter: impl FnOnce(&mut Credentials) -> T,
    ) -> Result<T, Refusal> {
        self.change(|image, _| {
            let mut next = image.clone();
            let outcome = alter(Arc::make_mut(&mut next.credentials));
            Ok((Some(next), outcome))
        })
    }

    /// Runs one change after the other, each on the image that the one before left.
    fn change<T>(
        &self,
        decide: impl FnOnce(&Image, &mut fastrand::Rng) -> Result<(Option<Image>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let mut rng = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let image = self.image.load();
        let (next, outcome) = decide(&image, &mut rng)?;
        if let Some(mut next) = next {
            next.quorum.log_end_offset += 1;
            next.quorum.leader_epoch += i32::from(next.controller() != image.controller());
            self.image.store(Arc::new(next));
        }
        Ok(outcome)
    }
}

impl Image {
    /// This image with the topic added or replaced.
    fn with_topic(&self, topic: Arc<Topic>) -> Self {
        let mut next = self.clone();
        next.topics.insert(Arc::clone(&topic.name), topic);
        next
    }
}

impl PartitionImage {
    fn elect(&mut self, leader: i32) {
        self.leader = leader;
        self.leader_epoch += 1;
        self.partition.elect(leader, self.leader_epoch);
    }
}

/// Kafka's rule for topic names.
pub(crate) fn check_name(image: &Image, name: &str) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fault = match name {
        "" => Some("the empty string is not allowed".to_owned()),
        "." | ".." => Some(format!("'{name}' is not allowed")),
        _ if name.len() > LONGEST_NAME => {
            Some(format!("the length of '{name}' is longer than the max allowed length {LONGEST_NAME}"))
        }
        _ if !name.chars().all(legal) => Some(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )),
        _ => None,
    };
    if let Some(fault) = fault {
        return invalid(format!("Topic name is invalid: {fault}"));
    }
    if image.topic(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
    }
    // Kafka's metrics write '.' as '_', so it refuses names that differ in nothing else.
    let flat = |byte: u8| if byte == b'.' { b'_' } else { byte };
    let collides =
        |other: &str| other.len() == name.len() && other.bytes().map(flat).eq(name.bytes().map(flat));
    if name.contains(['.', '_'])
        && let Some(other) = image.topics.keys().find(|other| collides(other))
    {
        return invalid(format!("Topic '{name}' collides with existing topic: {other}"));
    }
    Ok(())
}

fn check_room(image: &Image, added: usize) -> Result<(), Refusal> {
    let now: usize = image.topics.values().map(|topic| topic.partitions.len()).sum();
    if now + added > MOST_PARTITIONS {
        let message = format!("{now} partitions and {added} more exceed {MOST_PARTITIONS}");
        return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
    }
    Ok(())
}

/// Spreads partitions over live brokers, round robin from `start`; the first replica is the preferred leader.
fn place(
    image: &Image,
    start: usize,
    first: usize,
    partitions: i32,
    replication: i16,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let live: Vec<i32> = image.live_brokers().map(|broker| broker.id).collect();
    let Some(partitions) = usize::try_from(partitions).ok().filter(|count| *count > 0) else {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
    };
    check_room(image, partitions)?;
    match usize::try_from(replication) {
        Ok(replication) if (1..=live.len()).contains(&replication) => {
            let replica = |partition: usize, copy: usize| live[(start + partition + copy) % live.len()];
            let replicas = |partition| (0..replication).map(|copy| replica(partition, copy)).collect();
            Ok((first..first + partitions).map(replicas).collect())
        }
        _ => {
            let message = if replication > 0 {
                let live = live.len();
                format!(
                    "Unable to replicate the partition {replication} time(s): The target replication factor of \
                     {replication} cannot be reached because only {live} broker(s) are live."
                )
            } else {
                "Replication factor must be larger than 0, or -1 to use the default value.".to_owned()
            };
            Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message))
        }
    }
}

/// Replicas that a caller chose: each known once, as many for each partition.
fn checked_assignment(image: &Image, assignment: Vec<Vec<i32>>) -> Result<Vec<Vec<i32>>, Refusal> {
    let invalid = |message: &str| Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    let first = assignment.first().ok_or_else(|| invalid("No partition is assigned"))?;
    for replicas in &assignment {
        let manual = "The manual partition assignment includes";
        if replicas.is_empty() {
            return Err(invalid(&format!("{manual} an empty replica list.")));
        }
        if let Some(id) = replicas.iter().find(|id| !image.brokers.contains_key(id)) {
            return Err(invalid(&format!("{manual} broker {id}, but no such broker is registered.")));
        }
        if let Some((_, id)) = replicas.iter().enumerate().find(|(at, id)| replicas[..*at].contains(id)) {
            return Err(invalid(&format!("{manual} the broker {id} more than once.")));
        }
        if replicas.len() != first.len() {
            let (one, other) = (replicas.len(), first.len());
            return Err(invalid(&format!("{manual} partitions with {one} and with {other} replica(s).")));
        }
    }
    Ok(assignment)
}

/// Partitions numbered from `first`, led by their first live replica.
fn partition_images(image: &Image, first: usize, assignment: Vec<Vec<i32>>) -> Vec<PartitionImage> {
    let build = |(number, replicas): (usize, Vec<i32>)| {
        let leader = replicas.iter().copied().find(|id| image.live_broker(*id).is_some()).unwrap_or(NO_NODE);
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let partition = Arc::new(Partition::new(number, leader, image.null.clone()));
        PartitionImage { leader, leader_epoch: 0, replicas: replicas.into(), partition }
    };
    (first..).zip(assignment).map(build).collect()
}

fn apply(
    set: &mut BTreeMap<String, String>,
    def: &'static ConfigDef,
    change: &ConfigChange,
    inherited: &str,
) -> Result<(), Refusal> {
    let now = set.get(def.name).map_or(inherited, String::as_str);
    let listed = |operation: &str| -> Result<Vec<String>, Refusal> {
        match def.kind {
            config::Kind::List(_) => Ok(config::list(now).map(str::to_owned).collect()),
            _ => {
                let name = def.name;
                Err(invalid_config(format!("Can't {operation} to key {name} because its type is not LIST.")))
            }
        }
    };
    let value = match change {
        ConfigChange::Delete => {
            set.remove(def.name);
            return Ok(());
        }
        ConfigChange::Set(value) => value.clone(),
        ConfigChange::Append(value) => {
            let mut words = listed("APPEND")?;
            for word in config::list(value) {
                if !words.iter().any(|known| known == word) {
                    words.push(word.to_owned());
                }
            }
            words.join(",")
        }
        ConfigChange::Subtract(value) => {
            let mut words = listed("SUBTRACT")?;
            words.retain(|word| !config::list(value).any(|gone| gone == word));
            words.join(",")
        }
    };
    def.check(&value).map_err(invalid_config)?;
    set.insert(def.name.to_owned(), value);
    Ok(())
}

fn topic_def(name: &str) -> Result<&'static ConfigDef, Refusal> {
    config::topic_config(name).ok_or_else(|| invalid_config(format!("Unknown topic config name: {name}")))
}

fn invalid_config(message: String) -> Refusal {
    Refusal::new(ErrorCode::INVALID_CONFIG, message)
}

fn unknown_topic() -> Refusal {
    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    Refusal::new(code, code.message())
}

/// An id that Kafka could have made: not reserved, and not starting with '-' when printed.
fn random_id(rng: &mut fastrand::Rng) -> Uuid {
    loop {
        let id = Uuid::from_u128(rng.u128(..));
        if id.as_u128() > 1 && !base64_id(id).starts_with('-') {
            return id;
        }
    }
}
