//! Access control lists as Kafka's StandardAuthorizer reads them: who may do what with which resource.

mod authorizer;
pub(crate) mod check;
#[cfg(test)]
mod checks_test;
#[cfg(test)]
mod model_test;
pub(crate) mod serve;
mod set;

use std::fmt;

use kafka_wire::acl::{AclOperation, CLUSTER_NAME, PatternType, PermissionType, ResourceType, WILDCARD};

pub(crate) use self::authorizer::{Authorizer, Requester};
pub(crate) use self::set::{AclFilter, AclSet};

/// The resources that an [`Acl`] is about: one name, every name that begins so, or every name (`*`).
///
/// ```
/// use kafka_broker::ResourcePattern;
///
/// let one = ResourcePattern::topic("orders");
/// let those_of_a_team = ResourcePattern::topic("payments-").prefixed();
/// let all = ResourcePattern::topic("*");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ResourcePattern {
    /// The type of the resources.
    pub resource_type: ResourceType,
    /// How the name is to be read. Default literal.
    pub pattern_type: PatternType,
    /// The name, or its beginning; `*` is every name if literal.
    pub name: String,
}

impl ResourcePattern {
    /// The resources of a type with this name; `*` is every name.
    #[must_use]
    pub fn new(resource_type: ResourceType, name: impl Into<String>) -> Self {
        Self { resource_type, pattern_type: PatternType::Literal, name: name.into() }
    }

    /// A topic.
    #[must_use]
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(ResourceType::Topic, name)
    }

    /// A consumer group.
    #[must_use]
    pub fn group(id: impl Into<String>) -> Self {
        Self::new(ResourceType::Group, id)
    }

    /// A transactional producer.
    #[must_use]
    pub fn transactional_id(id: impl Into<String>) -> Self {
        Self::new(ResourceType::TransactionalId, id)
    }

    /// The cluster.
    #[must_use]
    pub fn cluster() -> Self {
        Self::new(ResourceType::Cluster, CLUSTER_NAME)
    }

    /// Every resource whose name begins with this one's.
    #[must_use]
    pub fn prefixed(mut self) -> Self {
        self.pattern_type = PatternType::Prefixed;
        self
    }
}

impl fmt::Display for ResourcePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.resource_type, self.pattern_type, self.name)
    }
}

/// One access control list: allows or denies a principal an operation on resources.
///
/// ```
/// use kafka_broker::{Acl, AclOperation, ResourcePattern};
///
/// let alice_reads = Acl::allow("User:alice", AclOperation::Read, ResourcePattern::topic("orders"));
/// let nobody_deletes = Acl::deny("User:*", AclOperation::Delete, ResourcePattern::topic("*"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Acl {
    /// What it is about.
    pub pattern: ResourcePattern,
    /// Kind and name, such as `User:alice`; `User:*` is everybody.
    pub principal: String,
    /// The IP address of the client; `*`, the default, is every address. Over the in-memory transport it is `127.0.0.1`.
    pub host: String,
    /// What is done.
    pub operation: AclOperation,
    /// Whether it is allowed or denied.
    pub permission: PermissionType,
}

impl Acl {
    /// Lets a principal do something.
    #[must_use]
    pub fn allow(principal: impl Into<String>, operation: AclOperation, pattern: ResourcePattern) -> Self {
        Self {
            pattern,
            principal: principal.into(),
            host: WILDCARD.to_owned(),
            operation,
            permission: PermissionType::Allow,
        }
    }

    /// Forbids a principal something, whatever else allows it.
    #[must_use]
    pub fn deny(principal: impl Into<String>, operation: AclOperation, pattern: ResourcePattern) -> Self {
        Self { permission: PermissionType::Deny, ..Self::allow(principal, operation, pattern) }
    }

    /// Only for clients that connect from this IP address.
    #[must_use]
    pub fn from_host(mut self, address: impl Into<String>) -> Self {
        self.host = address.into();
        self
    }

    /// Says in Kafka's words what keeps it from being one.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { pattern, principal, operation, permission, .. } = self;
        if pattern.resource_type == ResourceType::Any {
            return Err("Invalid resourceType ANY".to_owned());
        }
        if !matches!(pattern.pattern_type, PatternType::Literal | PatternType::Prefixed) {
            return Err(format!("Invalid patternType {}", pattern.pattern_type));
        }
        if *operation == AclOperation::Any {
            return Err("Invalid operation ANY".to_owned());
        }
        if !matches!(permission, PermissionType::Allow | PermissionType::Deny) {
            return Err(format!("Invalid permissionType {permission}"));
        }
        if pattern.name.is_empty() {
            return Err("Resource name should not be empty".to_owned());
        }
        if pattern.resource_type == ResourceType::Cluster && pattern.name != CLUSTER_NAME {
            return Err(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}"));
        }
        if !principal.contains(':') {
            return Err(format!(
                "Could not parse principal from `{principal}` (no colon is present separating the principal type from \
                 the principal name)"
            ));
        }
        Ok(())
    }
}

/// Whether these lists, and nothing else, let a principal at an address do something: for the fuzz target that asks a plain
/// model as well.
#[doc(hidden)]
#[must_use]
pub fn acls_allow(
    acls: impl IntoIterator<Item = Acl>,
    principal: &str,
    host: std::net::IpAddr,
    operation: AclOperation,
    resource_type: ResourceType,
    name: &str,
) -> bool {
    let authorizer = Authorizer { acls: AclSet::new(acls.into_iter().collect()), ..Authorizer::default() };
    let principal = crate::principal::Principal::parse(principal);
    let who = Requester { principal: &principal, host: host.to_canonical() };
    authorizer.allows(who, operation, resource_type, name)
}

impl fmt::Display for Acl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, principal, host, operation, permission } = self;
        write!(out, "{permission} {principal} from {host} {operation} on {pattern}")
    }
}
