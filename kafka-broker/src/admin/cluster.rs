//! DescribeCluster, DescribeTopicPartitions.

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, TopicName,
};

use super::text;
use crate::controller;
use crate::image::{Image, NO_NODE, PartitionImage};
use crate::shared::RequestContext;

/// DescribeCluster's word for brokers; the other endpoints are controllers, of which none listens.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
/// `max.request.partition.size.limit`: most partitions in one answer.
const MOST_PARTITIONS: usize = 2_000;

pub(crate) async fn describe(
    ctx: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
    let refusal = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(ErrorCode::MISMATCHED_ENDPOINT_TYPE),
        _ => Some(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE),
    };
    if let Some(code) = refusal {
        return response.with_error_code(code.0).with_error_message(Some(text(code.message())));
    }
    let image = ctx.image();
    let brokers = image.brokers.values().filter(|broker| broker.alive || request.include_fenced_brokers);
    let brokers = brokers.map(|broker| {
        let address = broker.address_at(ctx.listener);
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.id))
            .with_host(text(&*address.host))
            .with_port(i32::from(address.port))
            .with_rack(broker.rack.as_deref().map(text))
            .with_is_fenced(!broker.alive)
    });
    let operations = match request.include_cluster_authorized_operations {
        true => ctx.authorized_cluster_operations(),
        false => i32::MIN,
    };
    response
        .with_cluster_id(text(&*image.cluster_id))
        .with_controller_id(BrokerId(image.controller()))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}

pub(crate) async fn describe_topic_partitions(
    ctx: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let invalid = request.cursor.as_ref().is_some_and(|cursor| {
        let mut asked = request.topics.iter();
        let is_asked = request.topics.is_empty() || asked.any(|topic| topic.name == cursor.topic_name);
        cursor.partition_index < 0 || !is_asked
    });
    if invalid {
        let refused = request.topics.into_iter().map(|topic| {
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(topic.name))
                .with_error_code(ErrorCode::INVALID_REQUEST.0)
        });
        return DescribeTopicPartitionsResponse::default()
            .with_topics(refused.collect())
            .with_next_cursor(None);
    }
    let image = ctx.image();
    // In the order of names, without repetition, and only from the cursor on.
    let mut names: Vec<&str> = if request.topics.is_empty() {
        image.topics.keys().map(|name| &**name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    names.sort_unstable();
    names.dedup();
    let cursor = request.cursor.as_ref().map(|cursor| (cursor.topic_name.as_str(), cursor.partition_index));
    names.retain(|name| cursor.is_none_or(|(first, _)| *name >= first));
    let mut hidden = Vec::new();
    names.retain(|name| match ctx.authorize_topic(AclOperation::Describe, name) {
        Ok(()) => true,
        Err(code) => {
            hidden.push((*name, code));
            false
        }
    });

    let limit = usize::try_from(request.response_partition_limit).unwrap_or_default();
    let mut room = limit.clamp(1, MOST_PARTITIONS);
    let mut topics = Vec::new();
    let mut next = None;
    for name in names {
        let start = cursor.filter(|(first, _)| *first == name).map_or(0, |(_, partition)| partition);
        let start = usize::try_from(start).unwrap_or_default();
        let total = image.topic(name).map_or(0, |topic| topic.partitions.len());
        let shown = total.saturating_sub(start).min(room);
        if shown > 0 || total <= start {
            let operations = ctx.authorized_operations(ResourceType::Topic, name);
            let topic = describe_topic(&image, name, start, shown);
            topics.push(topic.with_topic_authorized_operations(operations));
            room -= shown;
        }
        if start + shown < total {
            let partition = i32::try_from(start + shown).unwrap_or(i32::MAX);
            let cursor = Cursor::default().with_topic_name(TopicName(text(name)));
            next = Some(cursor.with_partition_index(partition));
            break;
        }
    }
    if !request.topics.is_empty() {
        topics.extend(hidden.into_iter().map(|(name, code)| {
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(TopicName(text(name))))
                .with_error_code(code.0)
        }));
    }
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next)
}

fn describe_topic(
    image: &Image,
    name: &str,
    start: usize,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let described = DescribeTopicPartitionsResponseTopic::default().with_name(Some(TopicName(text(name))));
    let Some(topic) = image.topic(name) else {
        let code = controller::check_name(image, name).err().map(|refusal| refusal.code);
        return described.with_error_code(code.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).0);
    };
    let partitions = topic.partitions.iter().skip(start).take(room);
    described
        .with_topic_id(topic.id)
        .with_partitions(partitions.map(|partition| describe_partition(image, partition)).collect())
}

fn describe_partition(image: &Image, partition: &PartitionImage) -> DescribeTopicPartitionsResponsePartition {
    let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let code = if partition.leader == NO_NODE { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::NONE };
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(code.0)
        .with_partition_index(partition.partition.number())
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(partition.replicas.to_vec()))
        .with_isr_nodes(ids(partition.isr(image)))
        .with_offline_replicas(ids(partition.offline(image)))
        // Java's client fails on null lists.
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
