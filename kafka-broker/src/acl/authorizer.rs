//! Decides whether a client may do something, by the rules of Kafka's StandardAuthorizer.

use std::collections::HashSet;
use std::net::IpAddr;

use kafka_wire::acl::{AclOperation, PatternType, ResourceType, WILDCARD};

use super::AclSet;
use crate::config::BrokerConfigs;
use crate::principal::Principal;

/// The name on which Kafka tries whether a principal may do something with every resource of a type.
const ANY_NAME: &str = "hardcode";

/// Who asks, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requester<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) host: IpAddr,
}

/// Immutable: a change of the access control lists makes another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authorizer {
    /// They may do everything, whatever the lists say.
    pub(crate) super_users: HashSet<Principal>,
    /// Whether everybody may do everything with a resource that no list covers.
    pub(crate) allow_if_no_acl: bool,
    pub(crate) acls: AclSet,
}

impl Authorizer {
    /// The one that the settings ask for, without any list.
    pub(crate) fn from_configs(configs: &BrokerConfigs) -> Option<Self> {
        if configs.value("authorizer.class.name").trim().is_empty() {
            return None;
        }
        // Not by commas, which the names of certificates have.
        let names = configs.value("super.users").split(';').map(str::trim).filter(|name| !name.is_empty());
        Some(Self {
            super_users: names.map(Principal::parse).collect(),
            allow_if_no_acl: configs.flag("allow.everyone.if.no.acl.found"),
            acls: AclSet::default(),
        })
    }

    /// Whether the client may do this with the resource of this name.
    pub(crate) fn allows(
        &self,
        who: Requester<'_>,
        operation: AclOperation,
        resource_type: ResourceType,
        name: &str,
    ) -> bool {
        if self.super_users.contains(who.principal) {
            return true;
        }
        let (mut covered, mut allowed) = (false, false);
        for rule in self.acls.covering(resource_type, name) {
            covered = true;
            if !rule.is_about(who.principal, who.host) {
                continue;
            }
            let same = rule.operation == AclOperation::All || rule.operation == operation;
            if rule.denies && same {
                return false;
            }
            // What implies another operation does so only where it allows.
            allowed |= !rule.denies && (same || implies(rule.operation, operation));
        }
        allowed || (!covered && self.allow_if_no_acl)
    }

    /// Whether the client may do this with at least one resource of a type.
    pub(crate) fn allows_some(
        &self,
        who: Requester<'_>,
        operation: AclOperation,
        resource_type: ResourceType,
    ) -> bool {
        if self.allows(who, operation, resource_type, ANY_NAME) {
            return true;
        }
        let about = || {
            self.acls.of_type(resource_type).filter(|(_, _, rule)| {
                rule.is_about(who.principal, who.host)
                    && (rule.operation == AclOperation::All || rule.operation == operation)
            })
        };
        let denied: HashSet<(PatternType, &str)> =
            about().filter(|(.., rule)| rule.denies).map(|(pattern, name, _)| (pattern, name)).collect();
        if denied.contains(&(PatternType::Literal, WILDCARD)) {
            return false;
        }
        about().filter(|(.., rule)| !rule.denies).any(|(pattern, name, _)| {
            let is_wildcard = pattern == PatternType::Literal && name == WILDCARD;
            let mut beginnings = name.char_indices().map(|(at, char)| &name[..at + char.len_utf8()]);
            let is_denied = (pattern == PatternType::Literal && denied.contains(&(pattern, name)))
                || beginnings.any(|beginning| denied.contains(&(PatternType::Prefixed, beginning)));
            is_wildcard || !is_denied
        })
    }

    /// What the client may do with a resource, as a bit for each operation's code.
    pub(crate) fn operations(&self, who: Requester<'_>, resource_type: ResourceType, name: &str) -> i32 {
        let allowed = operations_of(resource_type).iter();
        let allowed = allowed.filter(|operation| self.allows(who, **operation, resource_type, name));
        bits(allowed)
    }
}

/// Whether being allowed `granted` means being allowed `wanted`.
fn implies(granted: AclOperation, wanted: AclOperation) -> bool {
    use AclOperation::{Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    match wanted {
        Describe => matches!(granted, Read | Write | Delete | Alter),
        DescribeConfigs => granted == AlterConfigs,
        _ => false,
    }
}

/// All that can be done with resources of a type, as a bit for each operation's code.
pub(super) fn every_operation(resource_type: ResourceType) -> i32 {
    bits(operations_of(resource_type).iter())
}

fn bits<'a>(operations: impl Iterator<Item = &'a AclOperation>) -> i32 {
    operations.fold(0, |bits, operation| bits | 1 << operation.code())
}

/// What responses name among a client's authorised operations.
fn operations_of(resource_type: ResourceType) -> &'static [AclOperation] {
    use AclOperation::{
        Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read,
        Write,
    };
    match resource_type {
        ResourceType::Topic => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
        ResourceType::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
        ResourceType::Cluster => {
            &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite]
        }
        _ => &[],
    }
}
