//! A small Kafka broker that starts inside a test, and as a binary.

pub mod group;

mod acl;
mod admin;
mod api_versions;
mod builder;
mod clock;
mod cluster;
mod config;
mod controller;
mod fault;
mod fetch;
mod image;
mod init_producer_id;
mod inspect;
mod leader_epoch;
mod list_offsets;
mod listener;
mod log;
mod metadata;
mod net;
mod node;
#[cfg(test)]
mod null_test;
mod partition;
mod principal;
mod produce;
mod quota;
mod router;
mod sasl;
mod shared;
#[cfg(test)]
mod sweep_test;
#[cfg(test)]
mod testing;
mod tls;
mod tokens;
#[cfg(test)]
mod wire_test;
#[cfg(test)]
mod wire_traps;

#[doc(hidden)]
pub use acl::acls_allow;
pub use acl::{Acl, ResourcePattern};
pub use builder::{ClusterBuilder, StartError};
pub use cluster::{ChangeError, Cluster};
pub use fault::{Fault, FaultGuard, Matcher, on, on_any};
pub use inspect::{BrokerState, Outcome, PartitionState, RequestRecord, Snapshot, StoredRecord, WaitError};
pub use listener::{ClientAuth, ListenerSpec, SaslMechanism, SecurityProtocol};
pub use log::NullBatch;
pub use net::MemoryConnector;
pub use sasl::OauthKeys;
pub use tls::{CertificateSpec, Identity, ServerTls, TestCa};
pub use tokens::{TokenError, TokenIssuer};

/// What access control lists are made of.
pub use kafka_wire::acl::{AclOperation, PatternType, PermissionType, ResourceType};
/// What the batch of a null broker is made of.
pub use kafka_wire::compression::Compression;
/// What fault rules are made of.
pub use kafka_wire::{Api, ErrorCode};
