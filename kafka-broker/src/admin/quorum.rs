//! DescribeQuorum: every broker is a controller too, as in a combined KRaft cluster, and its log is the image's changes.

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::describe_quorum_request::TopicData as AskedTopic;
use kafka_wire::messages::describe_quorum_response::{Node, PartitionData, ReplicaState, TopicData};
use kafka_wire::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, TopicName};

use super::text;
use crate::image::{Broker, Image};
use crate::shared::RequestContext;

const METADATA_TOPIC: &str = "__cluster_metadata";

/// What a leader says of a controller that it has not heard of.
const UNKNOWN: i64 = -1;

pub(crate) async fn describe(ctx: &RequestContext, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let is_the_quorum = match &request.topics[..] {
        [AskedTopic { topic_name, partitions, .. }] if topic_name.as_str() == METADATA_TOPIC => {
            matches!(&partitions[..], [partition] if partition.partition_index == 0)
        }
        _ => false,
    };
    if !is_the_quorum {
        return unknown(ctx.version, request.topics);
    }
    let image = ctx.image();
    let now = ctx.shared.clock.wall_ms();
    let voters = image.brokers.values().map(|broker| voter(&image, ctx.version, broker, now));
    let partition = PartitionData::default()
        .with_leader_id(BrokerId(image.controller()))
        .with_leader_epoch(image.quorum.leader_epoch)
        .with_high_watermark(image.quorum.log_end_offset)
        .with_current_voters(voters.collect());
    let topic = TopicData::default()
        .with_topic_name(TopicName(text(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    // No controller listens: brokers do what they would do.
    let node = |broker: &Broker| Node::default().with_node_id(BrokerId(broker.id));
    let nodes = if ctx.version >= 2 { image.brokers.values().map(node).collect() } else { Vec::new() };
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(nodes)
}

fn voter(image: &Image, version: i16, broker: &Broker, now: i64) -> ReplicaState {
    let (end, time) = if broker.alive { (image.quorum.log_end_offset, now) } else { (UNKNOWN, UNKNOWN) };
    let voter = ReplicaState::default().with_replica_id(BrokerId(broker.id)).with_log_end_offset(end);
    let voter = if version >= 1 {
        voter.with_last_fetch_timestamp(time).with_last_caught_up_timestamp(time)
    } else {
        voter
    };
    match image.quorum.directories.get(&broker.id) {
        Some(id) if version >= 2 => voter.with_replica_directory_id(*id),
        _ => voter,
    }
}

/// Kafka answers for nothing, not even the quorum, if it is asked for anything else.
fn unknown(version: i16, topics: Vec<AskedTopic>) -> DescribeQuorumResponse {
    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let refused = PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.0);
            if version >= 2 { refused.with_error_message(Some(text(code.message()))) } else { refused }
        });
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions.collect())
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}
