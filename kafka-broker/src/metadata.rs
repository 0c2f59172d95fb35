//! Metadata: brokers by advertised address, topics with their leaders, and auto-creation.

use std::sync::Arc;

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::messages::{BrokerId, MetadataRequest, MetadataResponse, StrBytes, TopicName};

use crate::controller::NewTopic;
use crate::image::{Image, NO_NODE, PartitionImage, Topic};
use crate::shared::RequestContext;

/// What a client may do with a topic and with the cluster where nobody restricts it, as bits by operation.
pub(crate) const TOPIC_OPERATIONS: i32 = operations(&[3, 4, 5, 6, 7, 8, 10, 11]);
pub(crate) const CLUSTER_OPERATIONS: i32 = operations(&[5, 7, 8, 9, 10, 11, 12]);

pub(crate) async fn handle(ctx: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let wanted = match &request.topics {
        // Version 0 had no null: there an empty list means all topics.
        None => None,
        Some(topics) if topics.is_empty() && ctx.version == 0 => None,
        Some(topics) => Some(topics),
    };
    if request.allow_auto_topic_creation || ctx.version < 4 {
        for topic in wanted.into_iter().flatten().filter_map(|topic| topic.name.as_ref()) {
            auto_create(ctx, topic);
        }
    }
    let image = ctx.image();
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN };
    let known = |topic: &Arc<Topic>| describe(&image, topic).with_topic_authorized_operations(operations);
    let topics = match wanted {
        None => image.topics.values().map(known).collect(),
        Some(wanted) => wanted
            .iter()
            .map(|asked| {
                let (found, missing) = match &asked.name {
                    Some(name) => (image.topic(name), unknown_name(&image, name)),
                    None => (image.topic_by_id(asked.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
                };
                found.map_or_else(
                    || {
                        MetadataResponseTopic::default()
                            .with_error_code(missing.0)
                            .with_name(name_of_unknown(ctx.version, asked.name.as_ref()))
                            .with_topic_id(asked.topic_id)
                    },
                    known,
                )
            })
            .collect(),
    };
    let brokers = image.live_brokers().map(|broker| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(StrBytes::from_string(broker.address.host.to_string()))
            .with_port(i32::from(broker.address.port))
            .with_rack(broker.rack.as_ref().map(|rack| StrBytes::from_string(rack.to_string())))
    });
    let cluster_operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_string(image.cluster_id.to_string())))
        .with_controller_id(BrokerId(image.controller()))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations)
}

/// Creates a topic that a client asked about, if the brokers allow that. Whatever keeps it from existing shows in the answer.
fn auto_create(ctx: &RequestContext, name: &TopicName) {
    let image = ctx.image();
    if image.topic(name).is_none() && image.configs.flag("auto.create.topics.enable") {
        let new = NewTopic { name: name.to_string(), ..NewTopic::default() };
        if let Err(refusal) = ctx.shared.controller.create_topic(new, false) {
            tracing::debug!(topic = %name.as_str(), code = %refusal.code, "topic not created: {}", refusal.message);
        }
    }
}

fn describe(image: &Image, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| describe_partition(image, partition));
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn describe_partition(image: &Image, partition: &PartitionImage) -> MetadataResponsePartition {
    let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let error = if partition.leader == NO_NODE { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::NONE };
    MetadataResponsePartition::default()
        .with_error_code(error.0)
        .with_partition_index(partition.partition.number())
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(partition.replicas.to_vec()))
        .with_isr_nodes(ids(partition.isr(image)))
        .with_offline_replicas(ids(partition.offline(image)))
}

/// The code for a name that is not a topic: whether it could become one.
fn unknown_name(image: &Image, name: &TopicName) -> ErrorCode {
    crate::controller::check_name(image, name)
        .map_or_else(|refusal| refusal.code, |()| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// A topic asked for by an id that nobody knows has no name; versions before 12 cannot say so.
fn name_of_unknown(version: i16, name: Option<&TopicName>) -> Option<TopicName> {
    name.cloned().or_else(|| (version < 12).then(TopicName::default))
}

const fn operations(bits: &[u32]) -> i32 {
    let mut all = 0;
    let mut at = 0;
    while at < bits.len() {
        all |= 1 << bits[at];
        at += 1;
    }
    all
}
