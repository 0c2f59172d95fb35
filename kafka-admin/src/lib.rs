//! Kafka administration for async Rust: topics, configurations, groups, offsets, records, the cluster, who may do what.
//!
//! An [`Admin`] is built on a [`Client`](kafka_client::Client) and shares its connections. Operations on several things
//! give a result for each, in the order in which they were named:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = kafka_broker::Cluster::builder().brokers(3).start().await?;
//! # let client = kafka_client::Client::connect(cluster.bootstrap()).await?;
//! use kafka_admin::{Admin, NewTopic};
//!
//! let admin = Admin::new(&client);
//! let topic = NewTopic::new("orders").partitions(6).replication(3).config("retention.ms", "86400000");
//! for (name, outcome) in admin.create_topics([topic]).await? {
//!     println!("{name}: {:?}", outcome?.id);
//! }
//! # Ok(())
//! # }
//! ```

mod acls;
mod admin;
mod cluster;
mod configs;
mod delegation_tokens;
mod features;
mod group_offsets;
mod groups;
mod quorum;
mod quotas;
mod records;
mod scram;
mod topics;

pub use acls::{AccessControlEntry, AclBinding, AclBindingFilter, ResourcePattern};
pub use admin::{Admin, Outcomes};
pub use cluster::{BrokerDescription, ClusterDescription};
pub use configs::{AlterConfigs, Config, ConfigEntry, ConfigResource, ConfigSource};
pub use delegation_tokens::{DelegationToken, KafkaPrincipal, NewDelegationToken, TokenInformation};
pub use features::{
    FeatureMetadata, FeatureUpdate, FinalizedVersionRange, SupportedVersionRange, UpgradeType,
};
pub use group_offsets::GroupOffsets;
pub use groups::{GroupDescription, GroupFilter, GroupKind, GroupListing, GroupListings, MemberDescription};
pub use kafka_client::auth::Secret;
pub use kafka_client::raw::wire::acl::{AclOperation, PatternType, PermissionType, ResourceType};
pub use kafka_client::{Error, ErrorKind, Result};
pub use quorum::{DirectoryId, QuorumInfo, QuorumNode, RaftVoterEndpoint, ReplicaState};
pub use quotas::{ClientQuotaAlteration, ClientQuotaEntity, ClientQuotaFilter};
pub use records::{ListedOffset, OffsetSpec};
pub use scram::{ScramCredentialInfo, ScramMechanism, UserScramCredentialAlteration};
pub use topics::{
    CreatedTopic, NewPartitions, NewTopic, PartitionDescription, TopicDescription, TopicListing,
};
