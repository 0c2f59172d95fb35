//! Creating, describing and deleting access control lists (KIP-140, KIP-290).

use std::fmt;

use kafka_client::raw::Route;
use kafka_client::raw::wire::acl::{CLUSTER_NAME, WILDCARD};
use kafka_client::raw::wire::messages::create_acls_request::AclCreation;
use kafka_client::raw::wire::messages::delete_acls_request::DeleteAclsFilter;
use kafka_client::raw::wire::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_client::raw::wire::messages::describe_acls_response::DescribeAclsResource;
use kafka_client::raw::wire::messages::{
    CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, DescribeAclsResponse,
};
use kafka_client::{Api, Error, ErrorCode, NodeId, Result, VersionRange};

use crate::admin::{Admin, Answers, Outcomes, controller_may_change_its_mind, outcome};
use crate::topics::text;
use crate::{AclOperation, PatternType, PermissionType, ResourceType};

/// From this version on there are access control lists for users.
const USERS: VersionRange = VersionRange { min: 3, max: 3 };

/// The resources that an access control list is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ResourcePattern {
    /// Their type.
    pub resource_type: ResourceType,
    /// Their name, or what it begins with; `*` is every name.
    pub name: String,
    /// How the name is to be read.
    pub pattern_type: PatternType,
}

impl ResourcePattern {
    /// The resource of this type and exactly this name; `*` is every name.
    pub fn new(resource_type: ResourceType, name: impl Into<String>) -> Self {
        Self { resource_type, name: name.into(), pattern_type: PatternType::Literal }
    }

    /// A topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(ResourceType::Topic, name)
    }

    /// A group.
    pub fn group(id: impl Into<String>) -> Self {
        Self::new(ResourceType::Group, id)
    }

    /// A transactional id.
    pub fn transactional_id(id: impl Into<String>) -> Self {
        Self::new(ResourceType::TransactionalId, id)
    }

    /// A delegation token, by its id.
    pub fn delegation_token(id: impl Into<String>) -> Self {
        Self::new(ResourceType::DelegationToken, id)
    }

    /// A user, such as `User:alice`, for whom others make delegation tokens. Needs Kafka 3.3.
    pub fn user(principal: impl Into<String>) -> Self {
        Self::new(ResourceType::User, principal)
    }

    /// The cluster itself.
    pub fn cluster() -> Self {
        Self::new(ResourceType::Cluster, CLUSTER_NAME)
    }

    /// Every resource whose name begins as this one's.
    #[must_use]
    pub fn prefixed(mut self) -> Self {
        self.pattern_type = PatternType::Prefixed;
        self
    }

    fn from_wire(resource_type: i8, name: &str, pattern_type: i8) -> std::result::Result<Self, Unknown> {
        Ok(Self {
            resource_type: ResourceType::from_code(resource_type)
                .ok_or(Unknown("resource type", resource_type))?,
            name: name.to_owned(),
            pattern_type: PatternType::from_code(pattern_type)
                .ok_or(Unknown("pattern type", pattern_type))?,
        })
    }
}

/// Who may do something, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct AccessControlEntry {
    /// Who, such as `User:alice`; `User:*` is every user.
    pub principal: String,
    /// From which address; `*` is every address.
    pub host: String,
    /// What.
    pub operation: AclOperation,
    /// Whether it is allowed or denied.
    pub permission_type: PermissionType,
}

impl AccessControlEntry {
    /// Allows an operation to a principal such as `User:alice`, from every address.
    pub fn allow(principal: impl Into<String>, operation: AclOperation) -> Self {
        Self::new(principal.into(), operation, PermissionType::Allow)
    }

    /// Denies an operation to a principal such as `User:alice`, from every address, whatever else allows it.
    pub fn deny(principal: impl Into<String>, operation: AclOperation) -> Self {
        Self::new(principal.into(), operation, PermissionType::Deny)
    }

    /// Only from this address.
    #[must_use]
    pub fn host(mut self, address: impl Into<String>) -> Self {
        self.host = address.into();
        self
    }

    fn new(principal: String, operation: AclOperation, permission_type: PermissionType) -> Self {
        Self { principal, host: WILDCARD.to_owned(), operation, permission_type }
    }

    fn from_wire(
        principal: &str,
        host: &str,
        operation: i8,
        permission: i8,
    ) -> std::result::Result<Self, Unknown> {
        Ok(Self {
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation: AclOperation::from_code(operation).ok_or(Unknown("operation", operation))?,
            permission_type: PermissionType::from_code(permission)
                .ok_or(Unknown("permission type", permission))?,
        })
    }
}

/// An access control list: who may do something with which resources, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct AclBinding {
    /// The resources.
    pub pattern: ResourcePattern,
    /// Who, and what.
    pub entry: AccessControlEntry,
}

impl AclBinding {
    /// Binds an entry to resources.
    pub fn new(pattern: ResourcePattern, entry: AccessControlEntry) -> Self {
        Self { pattern, entry }
    }

    /// Why it cannot be created. Brokers refuse all that is sent along with such a one.
    fn fault(&self) -> Option<Error> {
        let only_in_filters = self.pattern.resource_type == ResourceType::Any
            || matches!(self.pattern.pattern_type, PatternType::Any | PatternType::Match)
            || self.entry.operation == AclOperation::Any
            || self.entry.permission_type == PermissionType::Any;
        let message = "it has a word that is for filters only";
        let error =
            || Error::broker(ErrorCode::INVALID_REQUEST, Api::CreateAcls, None, Some(message.to_owned()));
        only_in_filters.then(error)
    }

    fn to_wire(&self) -> AclCreation {
        AclCreation::default()
            .with_resource_type(self.pattern.resource_type.code())
            .with_resource_name(text(&self.pattern.name))
            .with_resource_pattern_type(self.pattern.pattern_type.code())
            .with_principal(text(&self.entry.principal))
            .with_host(text(&self.entry.host))
            .with_operation(self.entry.operation.code())
            .with_permission_type(self.entry.permission_type.code())
    }
}

/// As `(User:alice, *, Read, Allow) on Topic:Literal:orders`.
impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessControlEntry { principal, host, operation, permission_type } = &self.entry;
        let ResourcePattern { resource_type, name, pattern_type } = &self.pattern;
        write!(f, "({principal}, {host}, {operation}, {permission_type})")?;
        write!(f, " on {resource_type}:{pattern_type}:{name}")
    }
}

/// Which access control lists are meant; all by default.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[must_use]
pub struct AclBindingFilter {
    resource_type: ResourceType,
    name: Option<String>,
    pattern_type: PatternType,
    principal: Option<String>,
    host: Option<String>,
    operation: AclOperation,
    permission_type: PermissionType,
}

impl Default for AclBindingFilter {
    fn default() -> Self {
        Self::any()
    }
}

impl AclBindingFilter {
    /// All of them.
    pub fn any() -> Self {
        Self {
            resource_type: ResourceType::Any,
            name: None,
            pattern_type: PatternType::Any,
            principal: None,
            host: None,
            operation: AclOperation::Any,
            permission_type: PermissionType::Any,
        }
    }

    /// Only those about resources of this type.
    pub fn resource_type(mut self, resource_type: ResourceType) -> Self {
        self.resource_type = resource_type;
        self
    }

    /// Only those with this name in their pattern.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only those with this type of pattern; [`PatternType::Match`] means all that cover the resource of the name.
    pub fn pattern_type(mut self, pattern_type: PatternType) -> Self {
        self.pattern_type = pattern_type;
        self
    }

    /// Only those that cover this resource, by its name, by a prefix of it, or by `*`.
    pub fn covering(self, resource_type: ResourceType, name: impl Into<String>) -> Self {
        self.resource_type(resource_type).name(name).pattern_type(PatternType::Match)
    }

    /// Only those for this principal, such as `User:alice`.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// Only those for this address.
    pub fn host(mut self, address: impl Into<String>) -> Self {
        self.host = Some(address.into());
        self
    }

    /// Only those for this operation.
    pub fn operation(mut self, operation: AclOperation) -> Self {
        self.operation = operation;
        self
    }

    /// Only those that allow, or only those that deny.
    pub fn permission_type(mut self, permission_type: PermissionType) -> Self {
        self.permission_type = permission_type;
        self
    }

    fn to_describe(&self) -> DescribeAclsRequest {
        DescribeAclsRequest::default()
            .with_resource_type_filter(self.resource_type.code())
            .with_resource_name_filter(self.name.as_deref().map(text))
            .with_pattern_type_filter(self.pattern_type.code())
            .with_principal_filter(self.principal.as_deref().map(text))
            .with_host_filter(self.host.as_deref().map(text))
            .with_operation(self.operation.code())
            .with_permission_type(self.permission_type.code())
    }

    fn to_delete(&self) -> DeleteAclsFilter {
        DeleteAclsFilter::default()
            .with_resource_type_filter(self.resource_type.code())
            .with_resource_name_filter(self.name.as_deref().map(text))
            .with_pattern_type_filter(self.pattern_type.code())
            .with_principal_filter(self.principal.as_deref().map(text))
            .with_host_filter(self.host.as_deref().map(text))
            .with_operation(self.operation.code())
            .with_permission_type(self.permission_type.code())
    }
}

/// Exactly this one.
impl From<AclBinding> for AclBindingFilter {
    fn from(binding: AclBinding) -> Self {
        Self {
            resource_type: binding.pattern.resource_type,
            name: Some(binding.pattern.name),
            pattern_type: binding.pattern.pattern_type,
            principal: Some(binding.entry.principal),
            host: Some(binding.entry.host),
            operation: binding.entry.operation,
            permission_type: binding.entry.permission_type,
        }
    }
}

impl Admin {
    /// Creates access control lists. One that is there already is no error.
    ///
    /// # Errors
    /// No list was answered for. What is wrong with one is in its result, such as `SECURITY_DISABLED` where brokers have
    /// no authorizer.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn create_acls(
        &self,
        bindings: impl IntoIterator<Item = AclBinding>,
    ) -> Result<Outcomes<AclBinding, ()>> {
        let bindings: Vec<AclBinding> = bindings.into_iter().collect();
        self.each(
            Api::CreateAcls,
            bindings,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let mut answers = Answers::new();
                let mut sound = Vec::with_capacity(open.len());
                for binding in open {
                    match binding.fault() {
                        Some(fault) => drop(answers.insert(binding, Err(fault))),
                        None => sound.push(binding),
                    }
                }
                if sound.is_empty() {
                    return Ok(answers);
                }
                let mut call = self.client().request(Route::Controller).deadline(deadline);
                if sound.iter().any(|binding| binding.pattern.resource_type == ResourceType::User) {
                    call = call.versions(USERS, "an access control list for a user");
                }
                let creations = sound.iter().map(AclBinding::to_wire).collect();
                let request = CreateAclsRequest::default().with_creations(creations);
                let answer = call.send(|_| Ok(request.clone())).await?;
                let results = answer.response.results.into_iter().map(|result| {
                    let message = result.error_message.as_ref();
                    outcome(result.error_code, Api::CreateAcls, answer.node, message)
                });
                // Results are told apart by their places alone.
                answers.extend(sound.into_iter().zip(results));
                Ok(answers)
            },
        )
        .await
    }

    /// Describes the access control lists that the filter lets through.
    ///
    /// # Errors
    /// No broker answered, or it refused, such as with `SECURITY_DISABLED` where it has no authorizer.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_acls(&self, filter: AclBindingFilter) -> Result<Vec<AclBinding>> {
        let request = filter.to_describe();
        let mut call = self.request(Route::Any);
        if filter.resource_type == ResourceType::User {
            call = call.versions(USERS, "access control lists for users");
        }
        // What may pass leads to another attempt here, without its message.
        let passing = |answer: &DescribeAclsResponse| {
            Some(ErrorCode(answer.error_code)).filter(|code| code.is_retriable()).unwrap_or(ErrorCode::NONE)
        };
        let answer = call.send_checked(|_| Ok(request.clone()), passing).await?;
        let (node, described) = (answer.node, answer.response);
        outcome(described.error_code, Api::DescribeAcls, node, described.error_message.as_ref())?;
        let bindings: std::result::Result<Vec<_>, Unknown> =
            described.resources.into_iter().map(bindings).collect();
        let bindings = bindings.map_err(|unknown| unknown.into_error(Api::DescribeAcls, node))?;
        Ok(bindings.into_iter().flatten().collect())
    }

    /// Deletes the access control lists that filters let through, and tells which they were. One filter that is made
    /// [from](AclBindingFilter::from) a list deletes exactly that.
    ///
    /// # Errors
    /// No filter was answered for. What is wrong with one filter is in its result, and what is wrong with one of the lists
    /// that it lets through in the result of that.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn delete_acls<F: Into<AclBindingFilter>>(
        &self,
        filters: impl IntoIterator<Item = F>,
    ) -> Result<Outcomes<AclBindingFilter, Outcomes<AclBinding, ()>>> {
        let filters: Vec<AclBindingFilter> = filters.into_iter().map(Into::into).collect();
        self.each(
            Api::DeleteAcls,
            filters,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let mut call = self.client().request(Route::Controller).deadline(deadline);
                if open.iter().any(|filter| filter.resource_type == ResourceType::User) {
                    call = call.versions(USERS, "access control lists for users");
                }
                let filters = open.iter().map(AclBindingFilter::to_delete).collect();
                let request = DeleteAclsRequest::default().with_filters(filters);
                let answer = call.send(|_| Ok(request.clone())).await?;
                let results = answer.response.filter_results.into_iter();
                let results = results.map(|result| deleted(result, answer.node));
                // Results are told apart by their places alone.
                Ok(open.into_iter().zip(results).collect())
            },
        )
        .await
    }
}

/// A word in an answer that this client has no name for: its kind, and its code.
struct Unknown(&'static str, i8);

impl Unknown {
    fn into_error(self, api: Api, node: NodeId) -> Error {
        let Self(kind, code) = self;
        let message = format!("the answer has an access control list whose {kind} {code} is unknown here");
        Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, api, Some(node), Some(message))
    }
}

fn bindings(resource: DescribeAclsResource) -> std::result::Result<Vec<AclBinding>, Unknown> {
    let (kind, how) = (resource.resource_type, resource.pattern_type);
    let pattern = ResourcePattern::from_wire(kind, &resource.resource_name, how)?;
    let acls = resource.acls.iter().map(|acl| {
        let (operation, permission) = (acl.operation, acl.permission_type);
        let entry = AccessControlEntry::from_wire(&acl.principal, &acl.host, operation, permission)?;
        Ok(AclBinding::new(pattern.clone(), entry))
    });
    acls.collect()
}

fn deleted(result: DeleteAclsFilterResult, node: NodeId) -> Result<Outcomes<AclBinding, ()>> {
    outcome(result.error_code, Api::DeleteAcls, node, result.error_message.as_ref())?;
    let matching = result.matching_acls.into_iter().map(|acl: DeleteAclsMatchingAcl| {
        let pattern = ResourcePattern::from_wire(acl.resource_type, &acl.resource_name, acl.pattern_type)?;
        let (operation, permission) = (acl.operation, acl.permission_type);
        let entry = AccessControlEntry::from_wire(&acl.principal, &acl.host, operation, permission)?;
        let outcome = outcome(acl.error_code, Api::DeleteAcls, node, acl.error_message.as_ref());
        Ok((AclBinding::new(pattern, entry), outcome))
    });
    let matching: std::result::Result<Vec<_>, Unknown> = matching.collect();
    matching.map_err(|unknown| unknown.into_error(Api::DeleteAcls, node))
}
