//! What administrators ask: elections, reassignments, producers, directories, lists, and who may do what.

use e2e::Outcome;
use kafka_wire::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use kafka_wire::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_wire::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use kafka_wire::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest as Described,
};
use kafka_wire::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use kafka_wire::messages::list_partition_reassignments_request::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use kafka_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_wire::messages::{BrokerId, DescribeClusterRequest, ListConfigResourcesRequest};
use kafka_wire::record_batch::ProducerStamp;
use serde_json::{Value, json};

use crate::produce::{batch, must_send, producer_id};
use crate::{Run, Topic, code, text, topic_name};

/// Asks all of it.
pub(crate) async fn run(run: &mut Run) -> Outcome {
    let topic = run.topic(2, &[]).await?;
    elections(run, &topic).await?;
    reassignments(run, &topic).await?;
    producers(run, &topic).await?;
    directories(run, &topic).await?;
    pages(run).await?;
    resources(run, &topic).await?;
    operations(run, &topic).await
}

async fn elections(run: &mut Run, topic: &Topic) -> Outcome {
    let absent = e2e::unique("absent");
    for version in 0..=2 {
        for (what, kind, name, partitions) in [
            ("a preferred one", 0, &topic.name, vec![0]),
            ("an unclean one", 1, &topic.name, vec![0]),
            ("an unknown kind", 5, &topic.name, vec![0]),
            ("an unknown partition", 0, &topic.name, vec![0, 9]),
            ("an unknown topic", 0, &absent, vec![0]),
            ("no partitions", 0, &topic.name, vec![]),
        ] {
            if version == 0 && kind != 0 {
                continue;
            }
            let asked = TopicPartitions::default().with_topic(topic_name(name)).with_partitions(partitions);
            let request = ElectLeadersRequest::default()
                .with_election_type(kind)
                .with_topic_partitions(Some(vec![asked]))
                .with_timeout_ms(30_000);
            run.step(format!("elect {version}: {what}"), version, request, |answer| {
                let results = answer.replica_election_results.iter().map(|topic| -> Value {
                    let mut each: Vec<_> = topic.partition_result.iter().collect();
                    each.sort_by_key(|p| p.partition_id);
                    let each = each.iter();
                    each.map(|p| json!([p.partition_id, code(p.error_code), p.error_message.is_some()]))
                        .collect()
                });
                json!({"error": code(answer.error_code), "results": results.collect::<Vec<_>>()})
            })
            .await?;
        }
    }
    Ok(())
}

async fn reassignments(run: &mut Run, topic: &Topic) -> Outcome {
    let absent = e2e::unique("absent");
    for (what, name, index, replicas) in [
        ("as it is", &topic.name, 0, Some(vec![1])),
        ("to an unknown broker", &topic.name, 0, Some(vec![77])),
        ("to a broker twice", &topic.name, 0, Some(vec![1, 1])),
        ("to a negative broker", &topic.name, 0, Some(vec![-1])),
        ("to nobody", &topic.name, 0, Some(vec![])),
        ("cancelled", &topic.name, 0, None),
        ("of an unknown partition", &topic.name, 9, Some(vec![1])),
        ("of an unknown topic", &absent, 0, Some(vec![1])),
        ("of an unknown topic, cancelled", &absent, 0, None),
    ] {
        let replicas = replicas.map(|ids| ids.into_iter().map(BrokerId).collect());
        let partition = ReassignablePartition::default().with_partition_index(index).with_replicas(replicas);
        let asked = ReassignableTopic::default().with_name(topic_name(name)).with_partitions(vec![partition]);
        let request =
            AlterPartitionReassignmentsRequest::default().with_timeout_ms(30_000).with_topics(vec![asked]);
        run.step(format!("reassign: {what}"), 0, request, |answer| {
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let each = partitions.map(|p| json!([code(p.error_code), p.error_message.is_some()]));
            json!({"error": code(answer.error_code), "message": answer.error_message.is_some(),
                "each": each.collect::<Vec<_>>()})
        })
        .await?;
    }
    for (what, topics) in
        [("of all", None), ("of a topic", Some(&topic.name)), ("of an unknown one", Some(&absent))]
    {
        let topics = topics.map(|name| {
            vec![
                ListPartitionReassignmentsTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(vec![0]),
            ]
        });
        let request =
            ListPartitionReassignmentsRequest::default().with_timeout_ms(30_000).with_topics(topics);
        run.step(format!("reassignments {what}"), 0, request, |answer| {
            json!([code(answer.error_code), answer.error_message.is_some(), answer.topics.len()])
        })
        .await?;
    }
    Ok(())
}

async fn producers(run: &mut Run, topic: &Topic) -> Outcome {
    let known = producer_id(run).await?;
    for base_sequence in [0, 3] {
        let mut sealed = batch(3);
        sealed.stamp(ProducerStamp { producer_id: known, producer_epoch: 2, base_sequence }, false);
        must_send(run, topic, 0, sealed.freeze()).await?;
    }
    let absent = e2e::unique("absent");
    for (what, name, index) in [
        ("one", &topic.name, 0),
        ("none", &topic.name, 1),
        ("of an unknown partition", &topic.name, 9),
        ("of an unknown topic", &absent, 0),
    ] {
        let asked = TopicRequest::default().with_name(topic_name(name)).with_partition_indexes(vec![index]);
        let request = DescribeProducersRequest::default().with_topics(vec![asked]);
        run.step(format!("producers: {what}"), 0, request, |answer| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let partitions = partitions.map(|p| {
                let active = p.active_producers.iter().map(|producer| {
                    json!({"known": *producer.producer_id == known, "epoch": producer.producer_epoch,
                        "sequence": producer.last_sequence, "time": producer.last_timestamp,
                        "coordinator": producer.coordinator_epoch, "transaction": producer.current_txn_start_offset})
                });
                json!([p.partition_index, code(p.error_code), p.error_message.is_some(), active.collect::<Vec<_>>()])
            });
            partitions.collect()
        })
        .await?;
    }
    Ok(())
}

async fn directories(run: &mut Run, topic: &Topic) -> Outcome {
    let absent = e2e::unique("absent");
    for version in 1..=4 {
        for (what, name, partitions) in [
            ("of a topic", &topic.name, vec![0, 1]),
            ("of a partition twice", &topic.name, vec![0, 0]),
            ("of an unknown partition", &topic.name, vec![9]),
            ("of an unknown topic", &absent, vec![0]),
            ("of no partitions", &topic.name, vec![]),
        ] {
            let asked =
                DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(partitions);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
            run.step(format!("log dirs {version}: {what}"), version, request, |answer| {
                let dirs = answer.results.iter().map(|dir| {
                    let partitions = dir.topics.iter().flat_map(|topic| &topic.partitions);
                    let mut partitions: Vec<_> = partitions
                        .map(|p| json!([p.partition_index, p.partition_size, p.offset_lag, p.is_future_key]))
                        .collect();
                    partitions.sort_by_key(ToString::to_string);
                    json!([code(dir.error_code), !dir.log_dir.is_empty(), partitions])
                });
                json!({"error": code(answer.error_code), "dirs": dirs.collect::<Vec<_>>()})
            })
            .await?;
        }
    }
    Ok(())
}

/// Topics that are described a page at a time.
async fn pages(run: &mut Run) -> Outcome {
    let mut names = [run.topic(3, &[]).await?.name, run.topic(2, &[]).await?.name];
    names.sort();
    let absent = format!("{}-absent", names[1]);
    let [one, other] = [&names[0], &names[1]];
    let from = |name: &str, index| Some((name.to_owned(), index));
    for (what, asked, limit, cursor) in [
        ("both", vec![one, other], 100, None),
        ("the other way round", vec![other, one], 100, None),
        ("one twice", vec![one, one], 100, None),
        ("an unknown one", vec![&absent], 100, None),
        ("one and an unknown one", vec![&absent, one], 100, None),
        ("a partition", vec![one, other], 1, None),
        ("four", vec![one, other], 4, None),
        ("five", vec![one, other], 5, None),
        ("none", vec![one, other], 0, None),
        ("minus one", vec![one, other], -1, None),
        ("from within", vec![one, other], 100, from(one, 1)),
        ("from the second", vec![one, other], 100, from(other, 0)),
        ("from within the second", vec![one, other], 100, from(other, 1)),
        ("from behind", vec![one, other], 100, from(other, 7)),
        ("from a negative partition", vec![one, other], 100, from(one, -1)),
        ("from what is not asked for", vec![one], 100, from(other, 0)),
    ] {
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(asked.iter().map(|name| Described::default().with_name(topic_name(name))).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor.map(|(name, index)| {
                Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(index)
            }));
        let place = |name: &str| [one, other].iter().position(|known| *known == name);
        run.step(format!("pages: {what}"), 0, request, |answer| {
            let topics = answer.topics.iter().map(|topic| {
                let partitions: Vec<_> = topic
                    .partitions
                    .iter()
                    .map(|p| {
                        json!([
                            p.partition_index,
                            code(p.error_code),
                            p.leader_epoch,
                            p.replica_nodes.len(),
                            p.isr_nodes.len(),
                            p.offline_replicas.len(),
                            p.eligible_leader_replicas.as_ref().map(Vec::len),
                            p.last_known_elr.as_ref().map(Vec::len)
                        ])
                    })
                    .collect();
                json!({"error": code(topic.error_code), "topic": topic.name.as_ref().map(|name| place(name)),
                    "id": !topic.topic_id.is_nil(), "internal": topic.is_internal,
                    "operations": topic.topic_authorized_operations, "partitions": partitions})
            });
            let next = answer.next_cursor.as_ref();
            let next = next.map(|cursor| json!([place(&cursor.topic_name), cursor.partition_index]));
            json!({"topics": topics.collect::<Vec<_>>(), "next": next})
        })
        .await?;
    }
    Ok(())
}

async fn resources(run: &mut Run, topic: &Topic) -> Outcome {
    for (what, version, kinds) in [
        ("of old", 0, vec![]),
        ("topics", 1, vec![2]),
        ("brokers", 1, vec![4]),
        ("both", 1, vec![2, 4]),
        ("of an unknown kind", 1, vec![99]),
        ("topics and an unknown kind", 1, vec![2, 99]),
        ("all", 1, vec![]),
    ] {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
        run.step(format!("resources: {what}"), version, request, |answer| {
            let has = |kind, name: &str| {
                let mut all = answer.config_resources.iter();
                all.any(|one| one.resource_type == kind && *one.resource_name == *name)
            };
            json!([code(answer.error_code), has(2, &topic.name), has(4, "1")])
        })
        .await?;
    }
    Ok(())
}

/// Who may do what, where nobody is kept from anything.
async fn operations(run: &mut Run, topic: &Topic) -> Outcome {
    for version in 8..=13 {
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(&topic.name)));
        let mut request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_include_topic_authorized_operations(true);
        if version <= 10 {
            request = request.with_include_cluster_authorized_operations(true);
        }
        run.step(format!("metadata {version}: operations"), version, request, |answer| {
            let topics: Vec<_> = answer.topics.iter().map(|t| t.topic_authorized_operations).collect();
            json!([answer.cluster_authorized_operations, topics])
        })
        .await?;
    }
    for (what, kind) in [("brokers", 1), ("controllers", 2)] {
        let request = DescribeClusterRequest::default()
            .with_endpoint_type(kind)
            .with_include_cluster_authorized_operations(true);
        run.step(format!("describe cluster: operations of {what}"), 1, request, |answer| {
            json!([
                code(answer.error_code),
                answer.error_message.as_ref().is_some_and(|m| *m != text("")),
                answer.cluster_authorized_operations
            ])
        })
        .await?;
    }
    Ok(())
}
