//! The one question that handlers ask of the authorizer: may this request do that? Without an authorizer, everything may.

use std::net::{IpAddr, Ipv4Addr};

use kafka_wire::acl::{AclOperation, CLUSTER_NAME, ResourceType};
use kafka_wire::error_code::ErrorCode;

use super::authorizer::every_operation;
use super::{Authorizer, Requester};
use crate::fault::served::Served;
use crate::image::Image;
use crate::shared::RequestContext;

/// What a client needs so that an API is served at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    Free,
    /// The handler asks, for each item.
    PerItem,
    /// This right on the cluster.
    Cluster(AclOperation),
    /// This right on the group of the request; topics are left to the handler.
    Group(AclOperation),
}

impl Access {
    /// Fails with the code that refuses the whole request.
    pub(crate) fn check<R: Served>(self, ctx: &RequestContext, request: &R) -> Result<(), ErrorCode> {
        match self {
            Self::Free | Self::PerItem => Ok(()),
            Self::Cluster(operation) => ctx.authorize_cluster(operation),
            Self::Group(operation) => {
                ctx.authorize(operation, ResourceType::Group, request.group().unwrap_or_default())
            }
        }
    }
}

impl RequestContext {
    /// Fails with Kafka's code for resources of this type if the client may not do this.
    pub(crate) fn authorize(
        &self,
        operation: AclOperation,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<(), ErrorCode> {
        self.authorize_in(&self.image(), operation, resource_type, name)
    }

    /// [`authorize`](Self::authorize) by the lists of an image that the caller has.
    pub(crate) fn authorize_in(
        &self,
        image: &Image,
        operation: AclOperation,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<(), ErrorCode> {
        let Some(authorizer) = &image.authorizer else { return Ok(()) };
        if authorizer.allows(self.requester(), operation, resource_type, name) {
            return Ok(());
        }
        tracing::debug!(
            principal = %self.principal, host = %self.host(), %operation, resource = %resource_type, name, api = %self.api,
            "not authorized"
        );
        Err(match resource_type {
            ResourceType::Topic => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ResourceType::Group => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            ResourceType::TransactionalId => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ResourceType::DelegationToken => ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED,
            _ => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        })
    }

    /// [`authorize`](Self::authorize) for a topic.
    pub(crate) fn authorize_topic(&self, operation: AclOperation, name: &str) -> Result<(), ErrorCode> {
        self.authorize(operation, ResourceType::Topic, name)
    }

    /// [`authorize`](Self::authorize) for the cluster.
    pub(crate) fn authorize_cluster(&self, operation: AclOperation) -> Result<(), ErrorCode> {
        self.authorize(operation, ResourceType::Cluster, CLUSTER_NAME)
    }

    /// Whether the client may do this with at least one resource of a type.
    pub(crate) fn may_with_some(&self, operation: AclOperation, resource_type: ResourceType) -> bool {
        let image = self.image();
        let authorizer: &Option<_> = &image.authorizer;
        authorizer
            .as_deref()
            .is_none_or(|authorizer| authorizer.allows_some(self.requester(), operation, resource_type))
    }

    /// What responses say that the client may do with a resource, as a bit for each operation's code.
    pub(crate) fn authorized_operations(&self, resource_type: ResourceType, name: &str) -> i32 {
        match self.image().authorizer.as_deref() {
            None => every_operation(resource_type),
            Some(authorizer) => Authorizer::operations(authorizer, self.requester(), resource_type, name),
        }
    }

    /// [`authorized_operations`](Self::authorized_operations) on the cluster: none for a client that may not describe it.
    pub(crate) fn authorized_cluster_operations(&self) -> i32 {
        match self.authorize_cluster(AclOperation::Describe) {
            Ok(()) => self.authorized_operations(ResourceType::Cluster, CLUSTER_NAME),
            Err(_) => 0,
        }
    }

    fn requester(&self) -> Requester<'_> {
        Requester { principal: &self.principal, host: self.host() }
    }

    /// The address that lists name; who shares our memory is on this host.
    fn host(&self) -> IpAddr {
        self.peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.to_canonical())
    }
}
