//! The administrators' APIs, in every version that we serve.

use std::collections::BTreeMap;

use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_wire::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_wire::messages::create_topics_response::CreatableTopicResult;
use kafka_wire::messages::delete_topics_request::DeleteTopicState;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::describe_configs_response::DescribeConfigsResult;
use kafka_wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_wire::messages::elect_leaders_request::TopicPartitions;
use kafka_wire::messages::*;

use super::text;
use crate::testing::Bench;

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn new_topic(topic: &str) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(2).with_replication_factor(1)
}

fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(1_000)
}

async fn create_one(bench: &Bench, topic: CreatableTopic) -> CreatableTopicResult {
    bench.call(1, 7, create(vec![topic])).await.topics.remove(0)
}

async fn describe_configs(bench: &Bench, kind: i8, resource: &str, keys: &[&str]) -> DescribeConfigsResult {
    let keys = (!keys.is_empty()).then(|| keys.iter().map(|key| text(*key)).collect());
    let asked = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configuration_keys(keys);
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true);
    bench.call(1, 4, request).await.results.remove(0)
}

/// Value, source and synonyms' sources of one setting.
async fn setting(bench: &Bench, kind: i8, resource: &str, key: &str) -> (String, i8, Vec<i8>) {
    let result = describe_configs(bench, kind, resource, &[key]).await;
    assert_eq!((result.error_code, result.configs.len()), (0, 1));
    let config = &result.configs[0];
    let value = config.value.as_ref().map(ToString::to_string).unwrap_or_default();
    (value, config.config_source, config.synonyms.iter().map(|synonym| synonym.source).collect())
}

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    R::API.versions().min..=R::API.versions().max
}

#[tokio::test]
async fn a_topic_is_created_and_deleted_in_every_version() {
    let bench = Bench::new(3);
    for version in versions::<CreateTopicsRequest>() {
        let topic = new_topic("t").with_configs(vec![config("retention.ms", Some("5"))]);
        let dry = create(vec![topic.clone()]).with_validate_only(true);
        assert_eq!(bench.call(2, version, dry).await.topics[0].error_code, 0);
        assert!(bench.shared.image().topic("t").is_none(), "only validated");
        let created = bench.call(2, version, create(vec![topic])).await.topics.remove(0);
        assert_eq!(created.error_code, 0, "v{version}");
        let known = bench.shared.image().topic("t").cloned().expect("created");
        assert!(known.partitions.iter().all(|partition| partition.leader > 0), "leaders at once");
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
            let retention = created.configs.expect("never null");
            let retention = retention.iter().find(|config| config.name.as_str() == "retention.ms");
            assert_eq!(retention.map(|config| config.config_source), Some(1));
        }
        if version >= 7 {
            assert_eq!(created.topic_id, known.id);
        }
        let delete_version = version.min(Api::DeleteTopics.versions().max);
        let by_name = if delete_version < 6 {
            DeleteTopicsRequest::default().with_topic_names(vec![name("t")])
        } else {
            let by_id = DeleteTopicState::default().with_name(None).with_topic_id(known.id);
            DeleteTopicsRequest::default().with_topics(vec![by_id])
        };
        let deleted = bench.call(3, delete_version, by_name).await.responses.remove(0);
        assert_eq!((deleted.error_code, deleted.name), (0, Some(name("t"))), "v{delete_version}");
        assert!(bench.shared.image().topic("t").is_none());
    }
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_one_by_one() {
    let bench = Bench::new(3).topic("taken", 1);
    let assigned = |replicas: &[(i32, &[i32])]| {
        let replicas = replicas.iter().map(|(number, brokers)| {
            let brokers = brokers.iter().copied().map(BrokerId).collect();
            CreatableReplicaAssignment::default().with_partition_index(*number).with_broker_ids(brokers)
        });
        let topic = new_topic("t").with_num_partitions(-1).with_replication_factor(-1);
        topic.with_assignments(replicas.collect())
    };
    let refused = [
        (new_topic("taken"), ErrorCode::TOPIC_ALREADY_EXISTS),
        (new_topic("bad name"), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (new_topic(".."), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (new_topic(&"t".repeat(250)), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (new_topic("t").with_num_partitions(0), ErrorCode::INVALID_PARTITIONS),
        (new_topic("t").with_num_partitions(i32::MAX), ErrorCode::POLICY_VIOLATION),
        (new_topic("t").with_replication_factor(4), ErrorCode::INVALID_REPLICATION_FACTOR),
        (new_topic("t").with_replication_factor(0), ErrorCode::INVALID_REPLICATION_FACTOR),
        (new_topic("t").with_configs(vec![config("no.such", Some("1"))]), ErrorCode::INVALID_CONFIG),
        (new_topic("t").with_configs(vec![config("retention.ms", Some("soon"))]), ErrorCode::INVALID_CONFIG),
        (new_topic("t").with_configs(vec![config("retention.ms", None)]), ErrorCode::INVALID_CONFIG),
        (assigned(&[(0, &[1]), (2, &[1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[1]), (0, &[1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[1, 1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[9])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[1])]).with_num_partitions(1), ErrorCode::INVALID_REQUEST),
    ];
    for (topic, code) in refused {
        let asked = format!("{topic:?}");
        let result = create_one(&bench, topic).await;
        assert_eq!(ErrorCode(result.error_code), code, "{asked}");
        assert!(result.error_message.is_some());
        assert_eq!(result.configs, Some(Vec::new()), "Java's client fails on null");
    }
    assert!(bench.shared.image().topic("t").is_none());
    let placed = create_one(&bench, assigned(&[(1, &[3, 1]), (0, &[2, 3])])).await;
    assert_eq!((placed.error_code, placed.num_partitions, placed.replication_factor), (0, 2, 2));
    let leaders: Vec<_> =
        bench.shared.image().topic("t").expect("created").partitions.iter().map(|p| p.leader).collect();
    assert_eq!(leaders, [2, 3]);
}

#[tokio::test]
async fn a_name_given_twice_is_refused_once_and_the_others_are_created() {
    let bench = Bench::new(1);
    let answer = bench.call(1, 7, create(vec![new_topic("a"), new_topic("b"), new_topic("a")])).await;
    let codes: BTreeMap<_, _> =
        answer.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    assert_eq!(answer.topics.len(), 2);
    assert_eq!((codes["a"], codes["b"]), (ErrorCode::INVALID_REQUEST.0, 0));
}

#[tokio::test]
async fn deleting_what_is_not_there_is_an_error_of_its_kind() {
    let bench = Bench::new(1).topic("t", 1);
    let id = bench.shared.image().topic("t").expect("created").id;
    let state =
        |topic: Option<&str>, id| DeleteTopicState::default().with_name(topic.map(name)).with_topic_id(id);
    let nil = uuid::Uuid::nil();
    let asked = [
        (state(Some("no"), nil), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (state(None, uuid::Uuid::from_u128(77)), ErrorCode::UNKNOWN_TOPIC_ID),
        (state(None, nil), ErrorCode::INVALID_REQUEST),
        (state(Some("t"), id), ErrorCode::INVALID_REQUEST),
    ];
    for (topic, code) in asked {
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]);
        assert_eq!(bench.call(1, 6, request).await.responses[0].error_code, code.0);
    }
    let bench = Bench::with_configs(1, &[("delete.topic.enable", "false")]).topic("t", 1);
    for (version, code) in [(2, ErrorCode::INVALID_REQUEST), (3, ErrorCode::TOPIC_DELETION_DISABLED)] {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
        assert_eq!(bench.call(1, version, request).await.responses[0].error_code, code.0);
    }
}

#[tokio::test]
async fn a_topic_grows_in_every_version() {
    let bench = Bench::new(3).topic("t", 1);
    let mut total = 1;
    let grow = |count, assignment: Option<&[i32]>| {
        let assignment = assignment.map(|brokers| {
            let brokers = brokers.iter().copied().map(BrokerId).collect();
            vec![CreatePartitionsAssignment::default().with_broker_ids(brokers)]
        });
        let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(count);
        CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(assignment)])
    };
    for version in versions::<CreatePartitionsRequest>() {
        total += 1;
        let dry = grow(total, None).with_validate_only(true);
        assert_eq!(bench.call(1, version, dry).await.results[0].error_code, 0);
        assert_eq!(bench.call(1, version, grow(total, None)).await.results[0].error_code, 0, "v{version}");
    }
    assert_eq!(bench.call(1, 3, grow(total + 1, Some(&[3]))).await.results[0].error_code, 0);
    let image = bench.shared.image();
    let topic = image.topic("t").expect("there");
    assert_eq!((topic.partitions.len(), topic.partitions.last().map(|p| p.leader)), (6, Some(3)));
    for (request, code) in [
        (grow(6, None), ErrorCode::INVALID_PARTITIONS),
        (grow(5, None), ErrorCode::INVALID_PARTITIONS),
        (grow(9, Some(&[3])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (grow(7, Some(&[9])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
    ] {
        assert_eq!(bench.call(1, 3, request).await.results[0].error_code, code.0);
    }
}

#[tokio::test]
async fn every_setting_is_described_with_where_it_comes_from() {
    let bench = Bench::with_configs(2, &[("log.retention.ms", "60000")]).topic("t", 1);
    let all = describe_configs(&bench, 2, "t", &[]).await;
    assert_eq!(all.configs.len(), crate::config::TOPIC_CONFIGS.len());
    assert_eq!(setting(&bench, 2, "t", "retention.ms").await, ("60000".into(), 4, vec![4, 5]));
    assert_eq!(setting(&bench, 2, "t", "max.message.bytes").await, ("1048588".into(), 5, vec![5]));
    assert_eq!(setting(&bench, 4, "1", "log.retention.ms").await.1, 4);
    let set_on_all = describe_configs(&bench, 4, "", &[]).await;
    assert!(set_on_all.configs.is_empty(), "nothing was set while running");
    for version in versions::<DescribeConfigsRequest>() {
        let asked = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        let request =
            DescribeConfigsRequest::default().with_resources(vec![asked.with_configuration_keys(None)]);
        let result = bench.call(2, version, request).await.results.remove(0);
        assert_eq!(result.configs.len(), all.configs.len(), "v{version}");
        assert!(result.configs.iter().all(|config| config.synonyms.is_empty()));
    }
    for (kind, resource, code) in [
        (2, "no", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (2, "bad name", ErrorCode::INVALID_TOPIC_EXCEPTION),
        (4, "2", ErrorCode::INVALID_REQUEST),
        (4, "one", ErrorCode::INVALID_REQUEST),
        (99, "x", ErrorCode::INVALID_REQUEST),
    ] {
        assert_eq!(
            describe_configs(&bench, kind, resource, &[]).await.error_code,
            code.0,
            "{kind} {resource}"
        );
    }
}

#[tokio::test]
async fn settings_are_changed_one_by_one_or_all_at_once() {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let bench = Bench::new(1).topic("t", 1);
    let alter = |kind, resource: &str, changes: &[(&str, i8, Option<&str>)]| {
        let configs = changes.iter().map(|(name, operation, value)| {
            let value = value.map(text);
            AlterableConfig::default()
                .with_name(text(*name))
                .with_config_operation(*operation)
                .with_value(value)
        });
        let configs = configs.collect();
        let resource =
            AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(resource));
        let request =
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(configs)]);
        bench.call(1, 1, request)
    };
    let code = |answer: IncrementalAlterConfigsResponse| ErrorCode(answer.responses[0].error_code);
    let (set, delete, append, subtract) = (0, 1, 2, 3);

    let changes = [("retention.ms", set, Some("5")), ("cleanup.policy", append, Some("compact"))];
    assert_eq!(code(alter(2, "t", &changes).await), ErrorCode::NONE);
    assert_eq!(setting(&bench, 2, "t", "retention.ms").await.0, "5");
    assert_eq!(setting(&bench, 2, "t", "cleanup.policy").await.0, "delete,compact");
    let changes = [("retention.ms", delete, None), ("cleanup.policy", subtract, Some("delete"))];
    assert_eq!(code(alter(2, "t", &changes).await), ErrorCode::NONE);
    assert_eq!(setting(&bench, 2, "t", "retention.ms").await.0, "604800000");
    assert_eq!(setting(&bench, 2, "t", "cleanup.policy").await.0, "compact");

    assert_eq!(code(alter(4, "", &[("log.retention.ms", set, Some("8"))]).await), ErrorCode::NONE);
    assert_eq!(code(alter(4, "1", &[("log.retention.ms", set, Some("7"))]).await), ErrorCode::NONE);
    assert_eq!(setting(&bench, 4, "1", "log.retention.ms").await, ("7".into(), 2, vec![2, 3, 5]));
    let set_on_all = describe_configs(&bench, 4, "", &[]).await;
    assert_eq!(
        set_on_all.configs.iter().map(|config| config.name.as_str()).collect::<Vec<_>>(),
        ["log.retention.ms"]
    );

    let one = ("retention.ms", set, Some("5"));
    for (kind, resource, changes, expected) in [
        (2, "no", vec![one], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (2, "t", vec![("no.such", set, Some("5"))], ErrorCode::INVALID_CONFIG),
        (2, "t", vec![("retention.ms", set, Some("x"))], ErrorCode::INVALID_CONFIG),
        (2, "t", vec![("retention.ms", append, Some("5"))], ErrorCode::INVALID_CONFIG),
        (2, "t", vec![("retention.ms", set, None)], ErrorCode::INVALID_REQUEST),
        (2, "t", vec![("retention.ms", 9, Some("5"))], ErrorCode::INVALID_REQUEST),
        (2, "t", vec![one, one], ErrorCode::INVALID_REQUEST),
        (4, "one", vec![one], ErrorCode::INVALID_REQUEST),
        (99, "t", vec![one], ErrorCode::INVALID_REQUEST),
    ] {
        assert_eq!(code(alter(kind, resource, &changes).await), expected, "{kind} {resource} {changes:?}");
    }

    use alter_configs_request as replace;
    let config =
        replace::AlterableConfig::default().with_name(text("max.message.bytes")).with_value(Some(text("9")));
    let resource =
        replace::AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
    for version in versions::<AlterConfigsRequest>() {
        let all = vec![resource.clone().with_configs(vec![config.clone()])];
        let answer = bench.call(1, version, AlterConfigsRequest::default().with_resources(all)).await;
        assert_eq!(answer.responses[0].error_code, 0, "v{version}");
    }
    assert_eq!(setting(&bench, 2, "t", "max.message.bytes").await.0, "9");
    assert_eq!(setting(&bench, 2, "t", "cleanup.policy").await.0, "delete", "what is not given is forgotten");
}

#[tokio::test]
async fn topics_and_brokers_are_what_has_settings() {
    let bench = Bench::new(2).topic("t", 1);
    let list = |version, types: &[i8]| {
        let request = ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
        bench.call(1, version, request)
    };
    let names = |answer: ListConfigResourcesResponse| -> Vec<(i8, String)> {
        let resources = answer.config_resources.into_iter();
        resources.map(|resource| (resource.resource_type, resource.resource_name.to_string())).collect()
    };
    assert_eq!(names(list(1, &[]).await), [(2, "t".into()), (4, "1".into()), (4, "2".into())]);
    assert_eq!(names(list(1, &[2]).await), [(2, "t".into())]);
    assert_eq!(names(list(0, &[]).await), []);
}

#[tokio::test]
async fn the_cluster_is_described_with_stopped_brokers_only_on_demand() {
    let bench = Bench::new(3);
    bench.shared.controller.set_alive(2, false).expect("known");
    for version in versions::<DescribeClusterRequest>() {
        let answer = bench.call(1, version, DescribeClusterRequest::default()).await;
        let ids: Vec<_> = answer.brokers.iter().map(|broker| broker.broker_id.0).collect();
        assert_eq!((answer.error_code, ids), (0, vec![1, 3]), "v{version}");
        assert!(answer.brokers.iter().any(|broker| broker.broker_id == answer.controller_id));
        assert_eq!(answer.cluster_id.as_str(), &*bench.shared.image().cluster_id);
    }
    let all = bench.call(1, 2, DescribeClusterRequest::default().with_include_fenced_brokers(true)).await;
    let fenced: Vec<_> = all.brokers.iter().map(|broker| broker.is_fenced).collect();
    assert_eq!(fenced, [false, true, false]);
    let controllers = bench.call(1, 1, DescribeClusterRequest::default().with_endpoint_type(2)).await;
    assert_eq!(controllers.error_code, ErrorCode::MISMATCHED_ENDPOINT_TYPE.0);
}

#[tokio::test]
async fn partitions_are_described_page_by_page_and_none_twice() {
    let bench = Bench::new(1).topic("a", 3).topic("b", 2).topic("c", 4);
    let mut seen = Vec::new();
    let mut cursor = None;
    for limit in [2, 2, 1, 3, 1, 1] {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(limit)
            .with_cursor(cursor.take());
        let answer = bench.call(1, 0, request).await;
        for topic in answer.topics {
            assert!(!topic.partitions.is_empty());
            for partition in topic.partitions {
                assert_eq!(
                    (partition.eligible_leader_replicas, partition.last_known_elr),
                    (Some(vec![]), Some(vec![]))
                );
                seen.push((topic.name.clone().expect("named").to_string(), partition.partition_index));
            }
        }
        match answer.next_cursor {
            None => break,
            Some(next) => {
                let next = Cursor::default()
                    .with_topic_name(next.topic_name)
                    .with_partition_index(next.partition_index);
                cursor = Some(next);
            }
        }
    }
    let all = [("a", 3), ("b", 2), ("c", 4)];
    let all: Vec<_> =
        all.iter().flat_map(|(name, count)| (0..*count).map(|at| ((*name).to_owned(), at))).collect();
    assert_eq!(seen, all);

    let asked = ["b", "no", "b", "bad name"].map(|topic| TopicRequest::default().with_name(name(topic)));
    let request = DescribeTopicPartitionsRequest::default().with_topics(asked.to_vec()).with_cursor(None);
    let answer = bench.call(1, 0, request).await;
    let codes: Vec<_> = answer.topics.iter().map(|topic| ErrorCode(topic.error_code)).collect();
    let expected =
        [ErrorCode::NONE, ErrorCode::INVALID_TOPIC_EXCEPTION, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn the_preferred_leader_is_elected_where_another_leads() {
    let bench = Bench::new(3);
    let replicas = [1, 2].map(BrokerId).to_vec();
    let replicas = CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(replicas);
    let topic = new_topic("t").with_num_partitions(-1).with_replication_factor(-1);
    assert_eq!(create_one(&bench, topic.with_assignments(vec![replicas])).await.error_code, 0);
    let elect = |version, kind, topic: Option<&str>| {
        let topics = topic
            .map(|topic| vec![TopicPartitions::default().with_topic(name(topic)).with_partitions(vec![0])]);
        let request = ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(topics);
        bench.call(1, version, request)
    };
    let code = |answer: ElectLeadersResponse| {
        ErrorCode(answer.replica_election_results[0].partition_result[0].error_code)
    };
    let leader = || bench.shared.image().partition("t", 0).map(|partition| partition.leader);

    assert_eq!(code(elect(2, 0, Some("t")).await), ErrorCode::ELECTION_NOT_NEEDED);
    assert!(elect(2, 0, None).await.replica_election_results.is_empty());
    for version in versions::<ElectLeadersRequest>() {
        bench.shared.controller.move_leader("t", 0, 2).expect("a replica");
        assert_eq!(code(elect(version, 0, Some("t")).await), ErrorCode::NONE, "v{version}");
        assert_eq!(leader(), Some(1));
    }
    bench.shared.controller.move_leader("t", 0, 2).expect("a replica");
    assert_eq!(code(elect(2, 0, None).await), ErrorCode::NONE);
    bench.shared.controller.set_alive(1, false).expect("known");
    assert_eq!(leader(), Some(2));
    assert_eq!(code(elect(2, 0, Some("t")).await), ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE);
    assert_eq!(code(elect(2, 1, Some("t")).await), ErrorCode::ELECTION_NOT_NEEDED);
    bench.shared.controller.set_alive(2, false).expect("known");
    assert_eq!(code(elect(2, 1, Some("t")).await), ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE);
    assert_eq!(code(elect(2, 0, Some("no")).await), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(elect(2, 7, Some("t")).await.error_code, ErrorCode::INVALID_REQUEST.0);
}

#[tokio::test]
async fn a_partition_moves_to_other_replicas_at_once() {
    let bench = Bench::new(3);
    let replicas = [1, 2].map(BrokerId).to_vec();
    let replicas = CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(replicas);
    let topic = new_topic("t").with_num_partitions(-1).with_replication_factor(-1);
    assert_eq!(create_one(&bench, topic.with_assignments(vec![replicas])).await.error_code, 0);
    let reassign = |version, partition, replicas: Option<&[i32]>| {
        let replicas = replicas.map(|replicas| replicas.iter().copied().map(BrokerId).collect());
        let partition =
            ReassignablePartition::default().with_partition_index(partition).with_replicas(replicas);
        let topic = ReassignableTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        bench.call(1, version, request.with_allow_replication_factor_change(version < 1))
    };
    let code =
        |answer: AlterPartitionReassignmentsResponse| ErrorCode(answer.responses[0].partitions[0].error_code);
    let place = || {
        let image = bench.shared.image();
        image.partition("t", 0).map(|place| (place.replicas.to_vec(), place.leader, place.leader_epoch))
    };
    assert_eq!(code(reassign(1, 0, Some(&[3, 1])).await), ErrorCode::NONE);
    assert_eq!(place(), Some((vec![3, 1], 1, 0)), "the leader stays");
    assert_eq!(code(reassign(0, 0, Some(&[2])).await), ErrorCode::NONE);
    assert_eq!(place(), Some((vec![2], 2, 1)));
    assert_eq!(code(reassign(1, 0, Some(&[1, 2])).await), ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(code(reassign(1, 0, Some(&[9])).await), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(code(reassign(0, 0, Some(&[])).await), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(code(reassign(1, 0, None).await), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
    assert_eq!(code(reassign(1, 5, Some(&[1])).await), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let ongoing = bench.call(1, 0, ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    assert!(ongoing.topics.is_empty());
}

#[tokio::test]
async fn endless_requests_are_refused_and_answered_in_short() {
    let bench = Bench::new(1).topic("t", 1);
    let topics = (0..20_000).map(|n| new_topic(&format!("n{n}")));
    let answer = bench.call(1, 7, create(topics.collect())).await;
    assert_eq!(answer.topics.len(), 10_000);
    assert!(answer.topics.iter().all(|topic| topic.error_code == ErrorCode::POLICY_VIOLATION.0));
    assert_eq!(bench.shared.image().topics.len(), 1);
    let asked = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
    let asked = DescribeConfigsRequest::default().with_resources(vec![asked; 20_000]);
    let answer = bench.call(1, 4, asked).await;
    assert!(answer.results.iter().all(|result| result.configs.is_empty()));
    let election = TopicPartitions::default().with_topic(name("t")).with_partitions(vec![0; 20_000]);
    let election = ElectLeadersRequest::default().with_topic_partitions(Some(vec![election]));
    assert_eq!(bench.call(1, 2, election).await.error_code, ErrorCode::POLICY_VIOLATION.0);
}

async fn quorum(bench: &Bench) -> describe_quorum_response::PartitionData {
    use describe_quorum_request::{PartitionData, TopicData};
    let topic = TopicData::default()
        .with_topic_name(name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default()]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    bench.call(2, 2, request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn the_quorum_grows_with_every_change_and_elects_another_leader_when_one_stops() {
    let bench = Bench::new(3);
    let before = quorum(&bench).await;
    assert_eq!(before.leader_id.0, 1);
    let voters: Vec<i32> = before.current_voters.iter().map(|voter| voter.replica_id.0).collect();
    assert_eq!((voters, before.observers.len()), (vec![1, 2, 3], 0));
    let bench = bench.topic("orders", 2);
    let after = quorum(&bench).await;
    assert_eq!(after.high_watermark, before.high_watermark + 1);
    assert_eq!(after.leader_epoch, before.leader_epoch);
    bench.shared.controller.set_alive(1, false).expect("known");
    let moved = quorum(&bench).await;
    assert_eq!((moved.leader_id.0, moved.leader_epoch), (2, before.leader_epoch + 1));
    let ends: Vec<i64> = moved.current_voters.iter().map(|voter| voter.log_end_offset).collect();
    assert_eq!(ends, [-1, moved.high_watermark, moved.high_watermark]);
    let directories = |quorum: &describe_quorum_response::PartitionData| {
        quorum.current_voters.iter().map(|voter| voter.replica_directory_id).collect::<Vec<_>>()
    };
    assert_eq!(directories(&moved), directories(&before));
}

#[tokio::test]
async fn only_the_quorum_alone_can_be_described() {
    use describe_quorum_request::{PartitionData, TopicData};
    let of = |topic, partitions: &[i32]| {
        let partition = |id: &i32| PartitionData::default().with_partition_index(*id);
        TopicData::default()
            .with_topic_name(name(topic))
            .with_partitions(partitions.iter().map(partition).collect())
    };
    let bench = Bench::new(1);
    let asked = [
        vec![of("__cluster_metadata", &[1])],
        vec![of("__cluster_metadata", &[0, 0])],
        vec![of("__cluster_metadata", &[0]), of("orders", &[0])],
    ];
    for topics in asked {
        let request = DescribeQuorumRequest::default().with_topics(topics);
        let answer = bench.call(1, 2, request.clone()).await;
        assert_eq!((answer.error_code, answer.topics.len()), (0, request.topics.len()));
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(partition.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
            let message = "This server does not host this topic-partition.";
            assert_eq!(partition.error_message.as_deref(), Some(message));
        }
    }
}

#[tokio::test]
async fn a_feature_keeps_its_level_and_a_bad_update_refuses_all() {
    use update_features_request::FeatureUpdateKey;
    // Were a feature below its highest level, an update could raise it, and would have to be kept.
    assert!(crate::api_versions::FEATURES.iter().all(|(_, _, max, now)| max == now));
    let bench = Bench::new(3);
    let update = |feature, level, kind| {
        let key = FeatureUpdateKey::default().with_feature(text(feature)).with_max_version_level(level);
        key.with_upgrade_type(kind)
    };
    let (upgrade, safe, without_care) = (1, 2, 3);
    let cases = [
        (vec![update("kraft.version", 1, upgrade), update("metadata.version", 30, safe)], None),
        (vec![update("metadata.version", 8, upgrade), update("metadata.version", 30, upgrade)], None),
        (vec![], None),
        (
            vec![update("kraft.version", 1, upgrade), update("nonsense", 1, upgrade)],
            Some(
                "Invalid update version 1 for feature nonsense. Local controller 1 does not support this feature.",
            ),
        ),
        (
            vec![update("nonsense", 0, safe)],
            Some("Invalid update version 0 for feature nonsense. Feature nonsense not found."),
        ),
        (
            vec![update("metadata.version", 31, upgrade)],
            Some(
                "Invalid update version 31 for feature metadata.version. Local controller 1 only supports versions 7-30",
            ),
        ),
        (
            vec![update("metadata.version", -1, safe)],
            Some(
                "Invalid update version -1 for feature metadata.version. A feature version cannot be less than 0.",
            ),
        ),
        (
            vec![update("metadata.version", 30, 9)],
            Some(
                "Invalid update version 30 for feature metadata.version. The controller does not support the given \
                 upgrade type.",
            ),
        ),
        (
            vec![update("metadata.version", 29, upgrade)],
            Some(
                "Invalid update version 29 for feature metadata.version. Can't downgrade the version of this feature \
                 without setting the upgrade type to either safe or unsafe downgrade.",
            ),
        ),
        (
            vec![update("metadata.version", 14, safe)],
            Some(
                "Unsupported metadata.version downgrade from 30 to 14. Refusing to perform the requested downgrade \
                 because it might delete metadata information.",
            ),
        ),
        (
            vec![update("metadata.version", 14, without_care)],
            Some(
                "Unsupported metadata.version downgrade from 30 to 14. Unsafe metadata downgrade is not supported in \
                 this version.",
            ),
        ),
        (
            vec![update("kraft.version", 0, without_care)],
            Some(
                "Invalid update version 0 for feature kraft.version. Can't downgrade the version of this feature.",
            ),
        ),
    ];
    for (updates, refusal) in cases {
        let request = UpdateFeaturesRequest::default().with_feature_updates(updates);
        let answer = bench.call(3, 2, request).await;
        let code = if refusal.is_some() { ErrorCode::INVALID_UPDATE_VERSION } else { ErrorCode::NONE };
        let lead = "The update failed for all features since the following feature had an error: ";
        let message = answer.error_message.as_deref().map(|message| message.strip_prefix(lead).unwrap());
        assert_eq!((answer.error_code, message), (code.0, refusal));
    }
}
