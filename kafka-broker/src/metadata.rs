//! Metadata: brokers by advertised address, topics with their leaders, and auto-creation.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::messages::{BrokerId, MetadataRequest, MetadataResponse, StrBytes, TopicName};

use crate::controller::NewTopic;
use crate::fault::Stage;
use crate::image::{Image, NO_NODE, PartitionImage, Topic};
use crate::shared::RequestContext;

pub(crate) async fn handle(ctx: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let wanted = match &request.topics {
        // Version 0 had no null: there an empty list means all topics.
        None => None,
        Some(topics) if topics.is_empty() && ctx.version == 0 => None,
        Some(topics) => Some(topics),
    };
    let sees = |name: &str| ctx.authorize_topic(AclOperation::Describe, name).is_ok();
    // As it was before any topic is created: Kafka creates in the background, and calls the topic unknown in this answer.
    let image = ctx.image();
    let mut may_not_create = BTreeSet::new();
    if request.allow_auto_topic_creation || ctx.version < 4 {
        let by_name = wanted.into_iter().flatten().filter(|topic| topic.topic_id.is_nil());
        for name in by_name.filter_map(|topic| topic.name.as_ref()).filter(|name| sees(name)) {
            if auto_create(ctx, &image, name).is_err() {
                may_not_create.insert(name);
            }
        }
    }
    let operations = |name: &str| match request.include_topic_authorized_operations {
        true => ctx.authorized_operations(ResourceType::Topic, name),
        false => i32::MIN,
    };
    let known = |topic: &Arc<Topic>| {
        let injected = |stage| ctx.injected.item_error(stage, &topic.name, None);
        let described = match injected(Stage::Before).or_else(|| injected(Stage::After)) {
            Some(code) => nothing_of(topic).with_error_code(code.0),
            None => describe(&image, topic),
        };
        described.with_topic_authorized_operations(operations(&topic.name))
    };
    let refused = |code: ErrorCode, name: Option<&TopicName>, id| {
        MetadataResponseTopic::default()
            .with_error_code(code.0)
            .with_name(name_of_unknown(ctx.version, name))
            .with_topic_id(id)
    };
    // Once each, as in Kafka: a short request could otherwise ask for an answer that no memory holds.
    let mut asked = BTreeSet::new();
    let topics = match wanted {
        None => image.topics.values().filter(|topic| sees(&topic.name)).map(known).collect(),
        Some(wanted) => wanted
            .iter()
            .filter(|topic| asked.insert((&topic.name, topic.topic_id)))
            .map(|asked| {
                // Beside an id a name means nothing: Java sends an empty one.
                let name = asked.name.as_ref().filter(|_| asked.topic_id.is_nil());
                let denied = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
                let Some(name) = name else {
                    return match image.topic_by_id(asked.topic_id) {
                        // Whoever has the id may learn that it is one.
                        Some(topic) if !sees(&topic.name) => refused(denied, None, asked.topic_id),
                        Some(topic) => known(topic),
                        None => refused(ErrorCode::UNKNOWN_TOPIC_ID, None, asked.topic_id),
                    };
                };
                if !sees(name) || may_not_create.contains(name) {
                    return refused(denied, Some(name), asked.topic_id);
                }
                image.topic(name).map_or_else(
                    || {
                        refused(unknown_name(&image, name), Some(name), asked.topic_id)
                            .with_topic_authorized_operations(operations(name))
                    },
                    known,
                )
            })
            .collect(),
    };
    let brokers = image.live_brokers().map(|broker| {
        let address = broker.address_at(ctx.listener);
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(StrBytes::from_string(address.host.to_string()))
            .with_port(i32::from(address.port))
            .with_rack(broker.rack.as_ref().map(|rack| StrBytes::from_string(rack.to_string())))
    });
    let cluster_operations = match request.include_cluster_authorized_operations {
        true => ctx.authorized_cluster_operations(),
        false => i32::MIN,
    };
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_string(image.cluster_id.to_string())))
        .with_controller_id(BrokerId(image.controller()))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations)
}

/// Creates a topic that a client asked about, if the brokers allow that; fails if they do and the client may not.
fn auto_create(ctx: &RequestContext, image: &Image, name: &TopicName) -> Result<(), ErrorCode> {
    if image.topic(name).is_none() && image.configs.flag("auto.create.topics.enable") {
        ctx.authorize_cluster(AclOperation::Create)
            .or_else(|_| ctx.authorize_topic(AclOperation::Create, name))?;
        let new = NewTopic { name: name.to_string(), ..NewTopic::default() };
        if let Err(refusal) = ctx.shared.controller.create_topic(new, false) {
            tracing::debug!(topic = %name.as_str(), code = %refusal.code, "topic not created: {}", refusal.message);
        }
    }
    Ok(())
}

fn describe(image: &Image, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| describe_partition(image, partition));
    nothing_of(topic).with_partitions(partitions.collect())
}

fn nothing_of(topic: &Topic) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(topic.id)
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

#[cfg(test)]
mod tests {
    use kafka_wire::api::Api;
    use kafka_wire::messages::metadata_request::MetadataRequestTopic;
    use uuid::Uuid;

    use super::*;
    use crate::cluster::Cluster;
    use crate::fault::on;
    use crate::wire_test::{Wire, memory_cluster};

    fn asking(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| {
            MetadataRequestTopic::default().with_name(Some(TopicName((*name).to_owned().into())))
        };
        MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
    }

    fn codes(response: &MetadataResponse) -> Vec<(String, ErrorCode)> {
        let line = |topic: &MetadataResponseTopic| {
            let name = topic.name.as_deref().map_or(String::new(), StrBytes::to_string);
            (name, ErrorCode(topic.error_code))
        };
        response.topics.iter().map(line).collect()
    }

    #[tokio::test]
    async fn every_version_names_brokers_leaders_and_a_live_controller() {
        let cluster = memory_cluster(3, "t", 4, 2).await;
        cluster.stop_broker(1).await.unwrap();
        let mut wire = Wire::to(&cluster, 2);
        for version in Api::Metadata.versions().min..=Api::Metadata.versions().max {
            let response = wire.call(version, asking(&["t"])).await;
            let brokers: Vec<i32> = response.brokers.iter().map(|broker| broker.node_id.0).collect();
            assert_eq!(brokers, [2, 3], "version {version}");
            assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("broker-2", 9092));
            let partitions = &response.topics[0].partitions;
            let leaders: Vec<i32> = partitions.iter().map(|partition| partition.leader_id.0).collect();
            assert_eq!(leaders, [2, 2, 3, 2]);
            assert_eq!(
                (&partitions[0].replica_nodes[..], &partitions[0].isr_nodes[..]),
                (&[BrokerId(1), BrokerId(2)][..], &[BrokerId(2)][..])
            );
            if version >= 1 {
                assert!(brokers.contains(&response.controller_id.0));
            }
            if version >= 2 {
                assert_eq!(response.cluster_id.unwrap().len(), 22);
            }
            if version >= 5 {
                assert_eq!(partitions[0].offline_replicas, [BrokerId(1)]);
            }
            if version >= 7 {
                assert_eq!(partitions[0].leader_epoch, 1);
            }
        }
    }

    #[tokio::test]
    async fn null_means_every_topic_and_an_empty_list_none() {
        let cluster =
            Cluster::builder().transport_memory().topic("a", 1, 1).topic("b", 1, 1).start().await.unwrap();
        let mut wire = Wire::to(&cluster, 1);
        let all = vec![("a".to_owned(), ErrorCode::NONE), ("b".to_owned(), ErrorCode::NONE)];
        let empty = || MetadataRequest::default().with_topics(Some(Vec::new()));
        assert_eq!(codes(&wire.call(0, empty()).await), all, "in version 0");
        assert_eq!(codes(&wire.call(1, empty()).await), []);
        assert_eq!(codes(&wire.call(1, MetadataRequest::default().with_topics(None)).await), all);
        assert_eq!(codes(&wire.call(13, MetadataRequest::default().with_topics(None)).await), all);
    }

    #[tokio::test]
    async fn topics_are_created_only_if_the_client_and_the_brokers_want_that() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let asking = |name| asking(&[name]).with_allow_auto_topic_creation(false);
        let unknown = |name: &str| vec![(name.to_owned(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
        assert_eq!(codes(&wire.call(4, asking("new")).await), unknown("new"));
        let may_create = || asking("new").with_allow_auto_topic_creation(true);
        assert_eq!(codes(&wire.call(4, may_create()).await), unknown("new"), "when it is created");
        let created = wire.call(4, may_create()).await;
        assert_eq!(created.topics[0].partitions[0].leader_id, BrokerId(1));
        let bad = wire.call(4, asking("a b").with_allow_auto_topic_creation(true)).await;
        assert_eq!(codes(&bad), [("a b".to_owned(), ErrorCode::INVALID_TOPIC_EXCEPTION)]);
        for expected in [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::NONE] {
            assert_eq!(codes(&wire.call(3, super::tests::asking(&["old"])).await)[0].1, expected);
        }

        let builder = Cluster::builder().transport_memory();
        let cluster = builder.config("auto.create.topics.enable", "false").start().await.unwrap();
        let mut wire = Wire::to(&cluster, 1);
        let asked = wire.call(9, asking("new").with_allow_auto_topic_creation(true)).await;
        assert_eq!(codes(&asked), unknown("new"));
    }

    #[tokio::test]
    async fn topics_are_found_by_id_and_stale_ids_are_named_so() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let id = cluster.shared().image().topic("t").unwrap().id;
        // Java sends an empty name beside the id, others none.
        for name in [None, Some(TopicName::default())] {
            let by_id = |id| MetadataRequestTopic::default().with_name(name.clone()).with_topic_id(id);
            let asked = vec![by_id(id), by_id(Uuid::from_u128(77))];
            let response =
                Wire::to(&cluster, 1).call(12, MetadataRequest::default().with_topics(Some(asked))).await;
            let expected = [("t".to_owned(), ErrorCode::NONE), (String::new(), ErrorCode::UNKNOWN_TOPIC_ID)];
            assert_eq!(codes(&response), expected);
            assert_eq!((&response.topics[1].name, response.topics[1].topic_id), (&None, Uuid::from_u128(77)));
        }
    }

    #[tokio::test]
    async fn a_partition_without_a_live_replica_has_no_leader() {
        let cluster = memory_cluster(2, "t", 1, 1).await;
        cluster.stop_broker(1).await.unwrap();
        let response = Wire::to(&cluster, 2).call(9, asking(&["t"])).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(ErrorCode(partition.error_code), ErrorCode::LEADER_NOT_AVAILABLE);
        assert_eq!((partition.leader_id, &partition.isr_nodes[..]), (BrokerId(-1), &[][..]));
    }

    #[tokio::test]
    async fn a_fault_hits_its_topic_alone() {
        let cluster =
            Cluster::builder().transport_memory().topic("a", 1, 1).topic("b", 1, 1).start().await.unwrap();
        let _fault = cluster.fault(on(Api::Metadata).topic("a")).error(ErrorCode::LEADER_NOT_AVAILABLE);
        let response = Wire::to(&cluster, 1).call(9, asking(&["a", "b"])).await;
        let expected = [("a".to_owned(), ErrorCode::LEADER_NOT_AVAILABLE), ("b".to_owned(), ErrorCode::NONE)];
        assert_eq!(codes(&response), expected);
    }
}
