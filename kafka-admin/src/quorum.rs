//! Describing the quorum of controllers that keeps the cluster's metadata (KIP-595, KIP-836, KIP-853).

use std::fmt;

use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_client::raw::wire::messages::describe_quorum_response::{
    Node, PartitionData as DescribedPartition, ReplicaState as WireReplica,
};
use kafka_client::raw::wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_client::{Api, Error, ErrorCode, NodeId, Result, TopicId};

use crate::admin::{Admin, outcome};
use crate::topics::topic_name;

/// The topic that the quorum keeps.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The controllers of a cluster, and how far each has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumInfo {
    /// The controller that is active; `None` while there is none.
    pub leader_id: Option<NodeId>,
    /// Its epoch.
    pub leader_epoch: i32,
    /// Up to where the metadata log is committed.
    pub high_watermark: i64,
    /// The controllers that elect the leader, by id.
    pub voters: Vec<ReplicaState>,
    /// Those that only follow, such as brokers, by id.
    pub observers: Vec<ReplicaState>,
    /// Where the controllers listen, by id; empty from brokers before Kafka 3.9.
    pub nodes: Vec<QuorumNode>,
}

/// A copy of the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaState {
    /// Whose it is.
    pub replica_id: NodeId,
    /// The directory that it is in; `None` from brokers before Kafka 3.9, and where it is not known.
    pub replica_directory_id: Option<DirectoryId>,
    /// Where it ends, as the leader knows it; `None` where it does not.
    pub log_end_offset: Option<i64>,
    /// When it last fetched from the leader, in milliseconds since 1970 by the leader's clock; `None` from brokers
    /// before Kafka 3.3, and where it is not known.
    pub last_fetch_timestamp: Option<i64>,
    /// When it was last as long as the leader's, likewise.
    pub last_caught_up_timestamp: Option<i64>,
}

/// A controller and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumNode {
    /// Its id.
    pub node_id: NodeId,
    /// Its listeners.
    pub endpoints: Vec<RaftVoterEndpoint>,
}

/// A listener of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RaftVoterEndpoint {
    /// Its name, such as `CONTROLLER`.
    pub name: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The id of a log directory (KIP-858). It prints as in Kafka's tools, in URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryId(pub [u8; 16]);

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&TopicId(self.0), f)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl QuorumInfo {
    /// How many records of the metadata log a replica lacks, next to the leader; `None` where that is not known.
    pub fn lag(&self, replica: &ReplicaState) -> Option<i64> {
        let leader = self.voters.iter().find(|voter| Some(voter.replica_id) == self.leader_id)?;
        Some(leader.log_end_offset?.saturating_sub(replica.log_end_offset?).max(0))
    }

    fn from_wire(partition: DescribedPartition, nodes: Vec<Node>) -> Self {
        let mut nodes: Vec<_> = nodes.into_iter().map(QuorumNode::from_wire).collect();
        nodes.sort_by_key(|node| node.node_id);
        Self {
            leader_id: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: replicas(&partition.current_voters),
            observers: replicas(&partition.observers),
            nodes,
        }
    }
}

impl Admin {
    /// Describes the quorum of controllers. Needs Kafka 3.3, in KRaft mode.
    ///
    /// # Errors
    /// No broker answered, or none that knows; to describe the cluster may not be allowed.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_metadata_quorum(&self) -> Result<QuorumInfo> {
        let topic = TopicData::default()
            .with_topic_name(topic_name(METADATA_TOPIC))
            .with_partitions(vec![PartitionData::default()]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        // What may pass leads to another attempt here, without its message.
        let passing = |answer: &DescribeQuorumResponse| {
            let inner = metadata_partition(answer).map_or(0, |partition| partition.error_code);
            let codes = [ErrorCode(answer.error_code), ErrorCode(inner)];
            codes.into_iter().find(|code| code.is_retriable()).unwrap_or(ErrorCode::NONE)
        };
        let answer = self.request(Route::Any).send_checked(|_| Ok(request.clone()), passing).await?;
        let (node, described) = (answer.node, answer.response);
        let check = |code, message: &Option<_>| outcome(code, Api::DescribeQuorum, node, message.as_ref());
        check(described.error_code, &described.error_message)?;
        let Some(partition) = metadata_partition(&described).cloned() else {
            let message = format!("the answer leaves {METADATA_TOPIC} out");
            let code = ErrorCode::UNKNOWN_SERVER_ERROR;
            return Err(Error::broker(code, Api::DescribeQuorum, Some(node), Some(message)));
        };
        check(partition.error_code, &partition.error_message)?;
        Ok(QuorumInfo::from_wire(partition, described.nodes))
    }
}

fn metadata_partition(answer: &DescribeQuorumResponse) -> Option<&DescribedPartition> {
    let topic = answer.topics.iter().find(|topic| topic.topic_name.as_str() == METADATA_TOPIC)?;
    topic.partitions.iter().find(|partition| partition.partition_index == 0)
}

fn replicas(replicas: &[WireReplica]) -> Vec<ReplicaState> {
    let known = |number: i64| Some(number).filter(|number| *number >= 0);
    let replica = |replica: &WireReplica| ReplicaState {
        replica_id: replica.replica_id.0,
        replica_directory_id: Some(DirectoryId(replica.replica_directory_id.into_bytes()))
            .filter(|id| id.0 != [0; 16]),
        log_end_offset: known(replica.log_end_offset),
        last_fetch_timestamp: known(replica.last_fetch_timestamp),
        last_caught_up_timestamp: known(replica.last_caught_up_timestamp),
    };
    let mut replicas: Vec<_> = replicas.iter().map(replica).collect();
    replicas.sort_by_key(|replica| replica.replica_id);
    replicas
}

impl QuorumNode {
    fn from_wire(node: Node) -> Self {
        let endpoint = |listener: kafka_client::raw::wire::messages::describe_quorum_response::Listener| {
            RaftVoterEndpoint {
                name: listener.name.to_string(),
                host: listener.host.to_string(),
                port: listener.port,
            }
        };
        Self { node_id: node.node_id.0, endpoints: node.listeners.into_iter().map(endpoint).collect() }
    }
}
