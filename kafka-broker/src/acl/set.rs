//! An immutable set of access control lists, found by the resources that they cover.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use kafka_wire::acl::{AclOperation, PatternType, PermissionType, ResourceType, WILDCARD};

use super::Acl;
use crate::principal::Principal;

/// All access control lists of a cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct AclSet {
    all: BTreeSet<Acl>,
    by_type: BTreeMap<ResourceType, Rules>,
}

/// The rules for one type of resources.
#[derive(Debug, Clone, Default)]
struct Rules {
    literal: HashMap<String, Vec<Rule>>,
    prefixed: HashMap<String, Vec<Rule>>,
    /// How long the prefixes are, so that a name is looked up by its beginnings of these lengths only.
    prefix_lengths: BTreeSet<usize>,
}

/// What an access control list says beside the resource, parsed once.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// `None` is everybody.
    principal: Option<Principal>,
    host: Host,
    pub(super) operation: AclOperation,
    pub(super) denies: bool,
}

#[derive(Debug, Clone)]
enum Host {
    Any,
    Address(IpAddr),
    /// A name: Kafka compares addresses only.
    Unmatched,
}

impl Rule {
    fn new(acl: &Acl) -> Self {
        let host = match (acl.host.as_str(), acl.host.parse::<IpAddr>()) {
            (WILDCARD, _) => Host::Any,
            (_, Ok(address)) => Host::Address(address.to_canonical()),
            (_, Err(_)) => Host::Unmatched,
        };
        Self {
            principal: Some(Principal::parse(&acl.principal))
                .filter(|principal| &*principal.kind != "User" || &*principal.name != WILDCARD),
            host,
            operation: acl.operation,
            denies: acl.permission == PermissionType::Deny,
        }
    }

    /// Whether it is about this client.
    pub(super) fn is_about(&self, principal: &Principal, host: IpAddr) -> bool {
        let same_host = match self.host {
            Host::Any => true,
            Host::Address(address) => address == host,
            Host::Unmatched => false,
        };
        same_host && self.principal.as_ref().is_none_or(|mine| mine == principal)
    }
}

impl AclSet {
    /// The set of these.
    pub(crate) fn new(acls: BTreeSet<Acl>) -> Self {
        let mut by_type: BTreeMap<ResourceType, Rules> = BTreeMap::new();
        for acl in &acls {
            let rules = by_type.entry(acl.pattern.resource_type).or_default();
            let name = &acl.pattern.name;
            let named = match acl.pattern.pattern_type {
                PatternType::Prefixed => {
                    rules.prefix_lengths.insert(name.len());
                    &mut rules.prefixed
                }
                _ => &mut rules.literal,
            };
            named.entry(name.clone()).or_default().push(Rule::new(acl));
        }
        Self { all: acls, by_type }
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> &BTreeSet<Acl> {
        &self.all
    }

    /// The rules that cover the resource of this name.
    pub(super) fn covering<'a>(
        &'a self,
        resource_type: ResourceType,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Rule> {
        self.by_type.get(&resource_type).into_iter().flat_map(move |rules| {
            let wildcard = rules.literal.get(WILDCARD).filter(|_| name != WILDCARD);
            let beginnings = rules.prefix_lengths.iter().filter_map(move |length| name.get(..*length));
            let prefixed = beginnings.filter_map(|beginning| rules.prefixed.get(beginning));
            rules.literal.get(name).into_iter().chain(wildcard).chain(prefixed).flatten()
        })
    }

    /// Every rule for resources of a type, with its pattern.
    pub(super) fn of_type(
        &self,
        resource_type: ResourceType,
    ) -> impl Iterator<Item = (PatternType, &str, &Rule)> {
        fn named(
            pattern: PatternType,
            rules: &HashMap<String, Vec<Rule>>,
        ) -> impl Iterator<Item = (PatternType, &str, &Rule)> {
            rules
                .iter()
                .flat_map(move |(name, rules)| rules.iter().map(move |rule| (pattern, name.as_str(), rule)))
        }
        self.by_type.get(&resource_type).into_iter().flat_map(|rules| {
            named(PatternType::Literal, &rules.literal).chain(named(PatternType::Prefixed, &rules.prefixed))
        })
    }
}

/// Which access control lists are described or deleted; `None` matches whatever is there.
#[derive(Debug, Clone)]
pub(crate) struct AclFilter {
    pub(crate) resource_type: ResourceType,
    pub(crate) pattern_type: PatternType,
    pub(crate) name: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: AclOperation,
    pub(crate) permission: PermissionType,
}

impl AclFilter {
    /// Whether it is for this one.
    pub(crate) fn matches(&self, acl: &Acl) -> bool {
        let is =
            |wanted: &Option<String>, there: &str| wanted.as_deref().is_none_or(|wanted| wanted == there);
        (self.resource_type == ResourceType::Any || self.resource_type == acl.pattern.resource_type)
            && self.matches_name(acl)
            && is(&self.principal, &acl.principal)
            && is(&self.host, &acl.host)
            && (self.operation == AclOperation::Any || self.operation == acl.operation)
            && (self.permission == PermissionType::Any || self.permission == acl.permission)
    }

    fn matches_name(&self, acl: &Acl) -> bool {
        let (there, pattern) = (acl.pattern.name.as_str(), acl.pattern.pattern_type);
        let Some(name) = self.name.as_deref() else {
            return matches!(self.pattern_type, PatternType::Any | PatternType::Match)
                || self.pattern_type == pattern;
        };
        match (self.pattern_type, pattern) {
            (PatternType::Match, PatternType::Prefixed) => name.starts_with(there),
            (PatternType::Match, _) => name == there || there == WILDCARD,
            (PatternType::Any, _) => name == there,
            (wanted, _) => wanted == pattern && name == there,
        }
    }
}
