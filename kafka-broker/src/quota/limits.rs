//! What quotas are set, and which of them is in force for a client: Kafka's eight levels.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One component of an [`Entity`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Part {
    /// It does not matter.
    #[default]
    Absent,
    /// Everyone without a quota of their own, each on their own.
    Default,
    /// This one.
    Named(Arc<str>),
}

/// Whom a quota is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Entity {
    pub(crate) user: Part,
    pub(crate) client_id: Part,
    pub(crate) ip: Part,
}

/// What quotas limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Bytes of Produce requests a second.
    Produce,
    /// Bytes of fetched records a second.
    Fetch,
    /// The time that requests are worked on, in percent of one thread.
    Request,
    /// Partitions created and deleted a second.
    Mutation,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
            Self::Mutation => "controller_mutation_rate",
        }
    }
}

/// The settings of quotas, and whether each is a whole number.
const USER_KEYS: &[(&str, bool)] = &[
    ("consumer_byte_rate", true),
    ("controller_mutation_rate", false),
    ("producer_byte_rate", true),
    ("request_percentage", false),
];
/// Taken and told, as tools for Kafka expect; how often an address connects is not limited.
const IP_KEYS: &[(&str, bool)] = &[("connection_creation_rate", true)];

/// Who shares a limit: a user, a client id, or a client id of a user. An empty name means any.
pub(crate) type Sharers = (Arc<str>, Arc<str>);

/// A change of one entity's quotas: keys with their new values, or none to remove them.
pub(crate) type Alteration = (Entity, Vec<(String, Option<f64>)>);

/// All quotas of a cluster; immutable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas(BTreeMap<Entity, BTreeMap<String, f64>>);

impl Quotas {
    /// Whether there are none, so that nothing has to be counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entities have quotas.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every entity with what is set for it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Entity, &BTreeMap<String, f64>)> {
        self.0.iter()
    }

    /// Changes the quotas of one entity, all or none of them; says in Kafka's words what is wrong.
    pub(crate) fn alter(&mut self, (entity, changes): &Alteration) -> Result<(), String> {
        let keys = entity.keys()?;
        for (at, (key, value)) in changes.iter().enumerate() {
            if changes[..at].iter().any(|(other, _)| other == key) {
                return Err(format!("Duplicate quota key {key}"));
            }
            if let Some(value) = value {
                check_value(keys, key, *value)?;
            }
        }
        let mut set = self.0.remove(entity).unwrap_or_default();
        for (key, value) in changes {
            match value {
                Some(value) => set.insert(key.clone(), *value),
                None => set.remove(key),
            };
        }
        if !set.is_empty() {
            self.0.insert(entity.clone(), set);
        }
        Ok(())
    }

    /// The limit that is in force for a client, and who shares it: the first of Kafka's eight levels at which there is one.
    pub(crate) fn limit(&self, kind: Kind, user: &Arc<str>, client_id: &Arc<str>) -> Option<(Sharers, f64)> {
        let any: Arc<str> = Arc::default();
        let named = |name: &Arc<str>| Part::Named(Arc::clone(name));
        let both = || (Arc::clone(user), Arc::clone(client_id));
        let user_only = || (Arc::clone(user), Arc::clone(&any));
        let client_only = || (Arc::clone(&any), Arc::clone(client_id));
        let set = |user: Part, client_id: Part| {
            let entity = Entity { user, client_id, ip: Part::Absent };
            self.0.get(&entity)?.get(kind.key()).copied()
        };
        // A client without an id has the quotas of its user only.
        let with_id = |user: Part, client: Part| if client_id.is_empty() { None } else { set(user, client) };
        let pair = |user: Part, client: Part| Some((both(), with_id(user, client)?));
        pair(named(user), named(client_id))
            .or_else(|| pair(named(user), Part::Default))
            .or_else(|| Some((user_only(), set(named(user), Part::Absent)?)))
            .or_else(|| pair(Part::Default, named(client_id)))
            .or_else(|| pair(Part::Default, Part::Default))
            .or_else(|| Some((user_only(), set(Part::Default, Part::Absent)?)))
            .or_else(|| Some((client_only(), with_id(Part::Absent, named(client_id))?)))
            .or_else(|| Some((client_only(), with_id(Part::Absent, Part::Default)?)))
    }
}

impl Entity {
    /// What can be set for it.
    fn keys(&self) -> Result<&'static [(&'static str, bool)], String> {
        match (&self.ip, self.user == Part::Absent && self.client_id == Part::Absent) {
            (Part::Absent, true) => Err("Invalid empty client quota entity".to_owned()),
            (Part::Absent, false) => Ok(USER_KEYS),
            (_, false) => {
                Err("Invalid quota entity combination, IP entity should not be combined with User or \
                               ClientId"
                    .to_owned())
            }
            (Part::Named(ip), true) if ip.parse::<IpAddr>().is_err() => {
                Err(format!("{ip} is not a valid IP or resolvable host."))
            }
            (_, true) => Ok(IP_KEYS),
        }
    }
}

fn check_value(keys: &[(&str, bool)], key: &str, value: f64) -> Result<(), String> {
    let Some((_, whole)) = keys.iter().find(|(name, _)| *name == key) else {
        return Err(format!("Invalid configuration key {key}"));
    };
    if !value.is_finite() || value <= 0.0 {
        return Err(format!("Quota {key} must be greater than 0"));
    }
    if *whole && value.fract().abs() > 1e-6 {
        return Err(format!("{key} cannot be a fractional value."));
    }
    // The largest numbers of Kafka's types for them.
    let most =
        if key == "connection_creation_rate" { f64::from(i32::MAX) } else { 9_223_372_036_854_775_807.0 };
    if *whole && value > most {
        return Err(format!("Proposed value for {key} is too large."));
    }
    Ok(())
}
