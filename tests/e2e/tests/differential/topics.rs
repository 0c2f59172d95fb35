//! Topics, their settings, and what Metadata says of them.

use bytes::BytesMut;
use e2e::Outcome;
use kafka_wire::api::{Api, Request};
use kafka_wire::messages::alter_configs_request::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig as Replaced,
};
use kafka_wire::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_wire::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_wire::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource as Resource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_wire::messages::{ApiVersionsRequest, BrokerId, DescribeClusterRequest, MetadataResponse, Uuid};
use serde_json::{Value, json};

use crate::peer::Reply;
use crate::{Run, code, text, topic_name};

/// Asks all of it.
pub(crate) async fn run(run: &mut Run) -> Outcome {
    create(run).await?;
    metadata(run).await?;
    configs(run).await?;
    partitions(run).await?;
    delete(run).await?;
    run.step("describe cluster", 1, DescribeClusterRequest::default().with_endpoint_type(1), |answer| {
        let known = answer.brokers.iter().any(|broker| broker.broker_id == answer.controller_id);
        json!({"error": code(answer.error_code), "controller is a broker": known, "cluster id": !answer.cluster_id.is_empty()})
    })
    .await?;
    run.step(
        "describe cluster of another kind",
        1,
        DescribeClusterRequest::default().with_endpoint_type(7),
        |answer| json!({"error": code(answer.error_code), "brokers": answer.brokers.len()}),
    )
    .await
}

/// Asked first, as it tells which Kafka this is.
pub(crate) async fn api_versions(run: &mut Run) -> Outcome {
    for version in 0..=4 {
        let request = ApiVersionsRequest::default();
        let named = |request: ApiVersionsRequest, name: &str| {
            request.with_client_software_name(text(name)).with_client_software_version(text("1.0"))
        };
        let request = if version >= 3 { named(request, "differential") } else { request };
        run.step(format!("api versions {version}"), version, request, |answer| {
            let of = |key| answer.api_keys.iter().find(|api| api.api_key == key).map(|api| [api.min_version, api.max_version]);
            json!({"error": code(answer.error_code), "throttle": answer.throttle_time_ms, "produce": of(0), "fetch": of(1),
                "list offsets": of(2), "metadata": of(3), "offset commit": of(8), "offset fetch": of(9), "coordinator": of(10),
                "join": of(11), "heartbeat": of(12), "leave": of(13), "sync": of(14), "api versions": of(18)})
        })
        .await?;
        if version >= 3 {
            for name in ["", "-leading", "trailing-", "with space", "dots.and-dashes"] {
                let request = named(ApiVersionsRequest::default(), name);
                run.step(
                    format!("api versions {version} of software {name:?}"),
                    version,
                    request,
                    |answer| json!({"error": code(answer.error_code), "any": !answer.api_keys.is_empty()}),
                )
                .await?;
            }
        }
    }
    // An answer to a version that the broker does not know comes in version 0, with its own range and nothing else.
    let mut body = BytesMut::new();
    ApiVersionsRequest::default().encode(0, &mut body)?;
    for version in [5, 99, -1] {
        let reply = run.peer.exchange_in(Api::ApiVersions, version, 0, &body).await?;
        let reply = match reply {
            Reply::Answer(body) => Reply::Answer(ApiVersionsRequest::decode_response(0, body)?),
            Reply::Closed => Reply::Closed,
        };
        run.note(format!("api versions {version}"), &reply, |answer| {
            let keys: Vec<_> =
                answer.api_keys.iter().map(|api| api.api_key).filter(|key| *key == 18).collect();
            json!({"error": code(answer.error_code), "names itself": keys})
        });
    }
    Ok(())
}

fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1).with_replication_factor(1)
}

fn assigned(name: &str, replicas: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = replicas.iter().map(|(partition, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*partition)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    });
    creatable(name)
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(assignments.collect())
}

fn configured(name: &str, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
    });
    creatable(name).with_configs(configs.collect())
}

async fn create(run: &mut Run) -> Outcome {
    let long = "x".repeat(250);
    let fresh = || e2e::unique("differential");
    let existing = run.topic(1, &[]).await?.name;
    let twice = fresh();
    let cases: Vec<(&str, Vec<CreatableTopic>)> = vec![
        ("a topic", vec![creatable(&fresh())]),
        ("one that exists", vec![creatable(&existing)]),
        ("one that exists and one that does not", vec![creatable(&existing), creatable(&fresh())]),
        ("the same twice", vec![creatable(&twice), creatable(&twice)]),
        ("no name", vec![creatable("")]),
        ("a dot", vec![creatable(".")]),
        ("a space", vec![creatable("with space")]),
        ("a long name", vec![creatable(&long)]),
        ("no partitions", vec![creatable(&fresh()).with_num_partitions(0)]),
        ("minus two partitions", vec![creatable(&fresh()).with_num_partitions(-2)]),
        ("default partitions", vec![creatable(&fresh()).with_num_partitions(-1)]),
        ("no replicas", vec![creatable(&fresh()).with_replication_factor(0)]),
        ("default replicas", vec![creatable(&fresh()).with_replication_factor(-1)]),
        ("more replicas than brokers", vec![creatable(&fresh()).with_replication_factor(99)]),
        ("assigned", vec![assigned(&fresh(), &[(0, &[1]), (1, &[1])])]),
        ("assigned to nobody", vec![assigned(&fresh(), &[(0, &[])])]),
        ("assigned to an unknown broker", vec![assigned(&fresh(), &[(0, &[77])])]),
        ("assigned to a broker twice", vec![assigned(&fresh(), &[(0, &[1, 1])])]),
        ("assigned with a gap", vec![assigned(&fresh(), &[(0, &[1]), (2, &[1])])]),
        ("assigned and counted", vec![assigned(&fresh(), &[(0, &[1])]).with_num_partitions(1)]),
        ("a setting", vec![configured(&fresh(), &[("retention.ms", Some("1000"))])]),
        ("an unknown setting", vec![configured(&fresh(), &[("no.such.setting", Some("1"))])]),
        ("a bad number", vec![configured(&fresh(), &[("retention.ms", Some("soon"))])]),
        ("a number out of range", vec![configured(&fresh(), &[("max.message.bytes", Some("-1"))])]),
        ("a bad policy", vec![configured(&fresh(), &[("cleanup.policy", Some("burn"))])]),
        ("a setting without value", vec![configured(&fresh(), &[("retention.ms", None)])]),
        ("none at all", vec![]),
    ];
    let message = |message: &Option<_>| message.is_some();
    for (case, topics) in cases {
        for (version, validate) in [(7, false), (7, true), (5, false), (2, false)] {
            // What was created exists from then on.
            if (version, validate) != (7, false) && !CREATE_NOTHING.contains(&case) {
                continue;
            }
            let request = CreateTopicsRequest::default()
                .with_topics(topics.clone())
                .with_timeout_ms(30_000)
                .with_validate_only(validate);
            let step = format!("create {version}{}: {case}", if validate { ", only validate" } else { "" });
            run.step(step, version, request, |answer| {
                let topic = |topic: &kafka_wire::messages::create_topics_response::CreatableTopicResult| {
                    json!({"error": code(topic.error_code), "message": message(&topic.error_message),
                        "partitions": topic.num_partitions, "replicas": topic.replication_factor,
                        "id": !topic.topic_id.is_nil()})
                };
                answer.topics.iter().map(topic).collect()
            })
            .await?;
        }
    }
    Ok(())
}

/// Cases of [`create`] that create nothing.
const CREATE_NOTHING: &[&str] = &[
    "one that exists",
    "the same twice",
    "no name",
    "a dot",
    "a space",
    "a long name",
    "no partitions",
    "minus two partitions",
    "no replicas",
    "more replicas than brokers",
    "assigned to nobody",
    "assigned to an unknown broker",
    "assigned to a broker twice",
    "assigned with a gap",
    "assigned and counted",
    "an unknown setting",
    "a bad number",
    "a number out of range",
    "a bad policy",
    "a setting without value",
    "none at all",
];

async fn metadata(run: &mut Run) -> Outcome {
    let topic = run.topic(2, &[]).await?;
    let named = |name: &str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let by_id =
        |id: [u8; 16]| MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_bytes(id));
    let absent = e2e::unique("absent");
    for version in 0..=13 {
        let cases = [
            ("a topic", vec![named(&topic.name)]),
            ("a topic twice", vec![named(&topic.name), named(&topic.name)]),
            ("an unknown topic", vec![named(&absent)]),
            ("a bad name", vec![named("bad name")]),
            ("a topic and an unknown one", vec![named(&topic.name), named(&absent)]),
        ];
        let ask = |topics| {
            MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(version < 4)
        };
        for (case, topics) in cases {
            // Before version 4 whoever asks creates.
            if version >= 4 || !case.contains("unknown") {
                run.step(format!("metadata {version}: {case}"), version, ask(topics), meaning).await?;
            }
        }
        if version >= 1 {
            run.step(format!("metadata {version}: nothing"), version, ask(vec![]), meaning).await?;
        }
        if version >= 12 {
            run.step(format!("metadata {version}: an id"), version, ask(vec![by_id(topic.id)]), meaning)
                .await?;
            run.step(
                format!("metadata {version}: an unknown id"),
                version,
                ask(vec![by_id([9; 16])]),
                meaning,
            )
            .await?;
        }
    }
    Ok(())
}

fn meaning(answer: &MetadataResponse) -> Value {
    let topic = |topic: &kafka_wire::messages::metadata_response::MetadataResponseTopic| {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| {
                json!([
                    code(p.error_code),
                    p.leader_epoch,
                    p.replica_nodes.len(),
                    p.isr_nodes.len(),
                    p.offline_replicas.len()
                ])
            })
            .collect();
        json!({"error": code(topic.error_code), "name": topic.name.as_ref().map(|name| !name.is_empty()),
            "id": !topic.topic_id.is_nil(), "internal": topic.is_internal, "partitions": partitions,
            "operations": topic.topic_authorized_operations})
    };
    let controller = answer.brokers.iter().any(|broker| broker.node_id == answer.controller_id);
    json!({"error": code(answer.error_code), "controller is a broker": controller,
        "cluster id": answer.cluster_id.is_some(), "operations": answer.cluster_authorized_operations,
        "topics": answer.topics.iter().map(topic).collect::<Vec<_>>()})
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

async fn configs(run: &mut Run) -> Outcome {
    let topic = run.topic(1, &[]).await?.name;
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let change = |kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]| {
        let configs = changes.iter().map(|(name, operation, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(*operation)
                .with_value(value.map(text))
        });
        Resource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect())
    };
    let one = |name: &'static str, operation, value| vec![change(TOPIC, &topic, &[(name, operation, value)])];
    let cases = [
        ("set", one("retention.ms", set, Some("5000"))),
        ("set a bad number", one("retention.ms", set, Some("soon"))),
        ("set nothing", one("retention.ms", set, None)),
        ("set an unknown one", one("no.such.setting", set, Some("1"))),
        ("append", one("cleanup.policy", append, Some("compact"))),
        ("subtract", one("cleanup.policy", subtract, Some("delete"))),
        ("append to a number", one("retention.ms", append, Some("1"))),
        ("delete", one("retention.ms", delete, None)),
        (
            "one twice",
            vec![change(TOPIC, &topic, &[("retention.ms", set, Some("1")), ("retention.ms", delete, None)])],
        ),
        ("the resource twice", vec![change(TOPIC, &topic, &[]), change(TOPIC, &topic, &[])]),
        ("an unknown topic", vec![change(TOPIC, "absent-topic", &[("retention.ms", set, Some("1"))])]),
        ("an unknown broker", vec![change(BROKER, "77", &[("log.cleaner.threads", set, Some("1"))])]),
        (
            "a broker that is no number",
            vec![change(BROKER, "one", &[("log.cleaner.threads", set, Some("1"))])],
        ),
        ("an unknown kind", vec![change(99, &topic, &[("retention.ms", set, Some("1"))])]),
    ];
    for (case, resources) in cases {
        for validate in [true, false] {
            let request = IncrementalAlterConfigsRequest::default()
                .with_resources(resources.clone())
                .with_validate_only(validate);
            let step = format!("alter configs{}: {case}", if validate { ", only validate" } else { "" });
            run.step(step, 1, request, |answer| {
                let meaning = |r: &kafka_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse| {
                    json!([code(r.error_code), r.error_message.as_ref().is_some_and(|message| !message.is_empty())])
                };
                answer.responses.iter().map(meaning).collect()
            })
            .await?;
        }
    }
    // Not `min.insync.replicas`: how a cluster was formatted decides where its value comes from.
    let names = ["retention.ms", "cleanup.policy", "max.message.bytes", "segment.ms", "no.such.setting"];
    for version in 1..=4 {
        let ask = |kind, name: &str| {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(Some(names.map(text).to_vec()));
            DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true)
        };
        for (case, kind, name) in [
            ("a topic", TOPIC, topic.as_str()),
            ("an unknown topic", TOPIC, "absent-topic"),
            ("an unknown broker", BROKER, "77"),
            ("an unknown kind", 99, "x"),
        ] {
            run.step(format!("describe configs {version}: {case}"), version, ask(kind, name), |answer| {
                let result = |r: &kafka_wire::messages::describe_configs_response::DescribeConfigsResult| {
                    let mut configs: Vec<_> = r
                        .configs
                        .iter()
                        .map(|c| {
                            json!([
                                c.name.as_str(),
                                c.value.as_ref().map(|v| v.as_str()),
                                c.config_source,
                                c.read_only,
                                c.config_type,
                                c.is_sensitive
                            ])
                        })
                        .collect();
                    configs.sort_by_key(ToString::to_string);
                    json!({"error": code(r.error_code), "configs": configs})
                };
                answer.results.iter().map(result).collect()
            })
            .await?;
        }
    }
    // The old call replaces everything.
    let replaced = |name: &str, value: &str| {
        let config = Replaced::default().with_name(text(name)).with_value(Some(text(value)));
        AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&topic))
            .with_configs(vec![config])
    };
    for (case, resource) in
        [("one", replaced("retention.ms", "7000")), ("a bad number", replaced("retention.ms", "soon"))]
    {
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        run.step(format!("replace configs: {case}"), 2, request, |answer| {
            answer.responses.iter().map(|r| code(r.error_code)).collect()
        })
        .await?;
    }
    Ok(())
}

async fn partitions(run: &mut Run) -> Outcome {
    let topic = run.topic(2, &[]).await?.name;
    let absent = e2e::unique("absent");
    for (case, name, count) in [
        ("fewer", &topic, 1),
        ("as many", &topic, 2),
        ("none", &topic, 0),
        ("of an unknown topic", &absent, 3),
        ("more", &topic, 4),
    ] {
        for validate in [true, false] {
            let topic = CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count);
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .with_timeout_ms(30_000)
                .with_validate_only(validate);
            let step = format!("create partitions{}: {case}", if validate { ", only validate" } else { "" });
            run.step(step, 3, request, |answer| {
                answer
                    .results
                    .iter()
                    .map(|r| json!([code(r.error_code), r.error_message.is_some()]))
                    .collect()
            })
            .await?;
        }
    }
    let topic = || CreatePartitionsTopic::default().with_name(topic_name(&topic)).with_count(9);
    let request =
        CreatePartitionsRequest::default().with_topics(vec![topic(), topic()]).with_timeout_ms(30_000);
    run.step("create partitions: a topic twice", 3, request, |answer| {
        answer.results.iter().map(|r| code(r.error_code)).collect()
    })
    .await
}

async fn delete(run: &mut Run) -> Outcome {
    let topic = run.topic(1, &[]).await?;
    let other = run.topic(1, &[]).await?;
    let absent = e2e::unique("absent");
    let named = |name: &str| DeleteTopicState::default().with_name(Some(topic_name(name)));
    let by_id = |id: [u8; 16]| DeleteTopicState::default().with_topic_id(Uuid::from_bytes(id));
    for (case, topics) in [
        ("an unknown topic", vec![named(&absent)]),
        ("an unknown id", vec![by_id([9; 16])]),
        ("neither", vec![DeleteTopicState::default()]),
        ("both", vec![named(&topic.name).with_topic_id(Uuid::from_bytes(topic.id))]),
        ("a topic twice", vec![named(&other.name), named(&other.name)]),
        ("a topic", vec![named(&other.name)]),
        ("an id", vec![by_id(topic.id)]),
    ] {
        let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
        run.step(format!("delete topics 6: {case}"), 6, request, |answer| {
            answer
                .responses
                .iter()
                .map(|r| json!([code(r.error_code), r.name.is_some(), !r.topic_id.is_nil()]))
                .collect()
        })
        .await?;
    }
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![topic_name(&absent)]).with_timeout_ms(30_000);
    run.step("delete topics 4: an unknown topic", 4, request, |answer| {
        answer.responses.iter().map(|r| code(r.error_code)).collect()
    })
    .await
}
