//! Offsets that groups committed, as they are fetched, and groups that only commit.

use e2e::Outcome;
use kafka_wire::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::messages::{OffsetFetchResponse, StrBytes, Uuid};
use serde_json::{Value, json};

use crate::groups::{commit, commit_errors, delete, describe, group_id, list};
use crate::{Run, Topic, code, text, topic_name};

fn offsets(answer: &OffsetFetchResponse) -> Value {
    let old = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let old: Vec<_> = old
        .map(|p| {
            json!([
                p.partition_index,
                code(p.error_code),
                p.committed_offset,
                p.metadata.as_ref().map(|m| m.as_str())
            ])
        })
        .collect();
    let group = |group: &kafka_wire::messages::offset_fetch_response::OffsetFetchResponseGroup| {
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        let partitions: Vec<_> = partitions
            .map(|p| {
                json!([
                    p.partition_index,
                    code(p.error_code),
                    p.committed_offset,
                    p.metadata.as_ref().map(|m| m.as_str())
                ])
            })
            .collect();
        json!({"error": code(group.error_code), "partitions": partitions})
    };
    json!({"error": code(answer.error_code), "partitions": old, "groups": answer.groups.iter().map(group).collect::<Vec<_>>()})
}

/// Fetches the offsets of a group in every version.
pub(crate) async fn fetch(run: &mut Run, kind: &str, group: &str, topic: &Topic) -> Outcome {
    for version in 1..=10 {
        for (what, group, all) in
            [("some", group, false), ("all", group, true), ("of an unknown group", "no-such-group", false)]
        {
            if all && version < 2 {
                continue;
            }
            let request = if version < 8 {
                let topic = OffsetFetchRequestTopic::default()
                    .with_name(topic_name(&topic.name))
                    .with_partition_indexes(vec![0, 1, 99]);
                OffsetFetchRequest::default()
                    .with_group_id(group_id(group))
                    .with_topics((!all).then(|| vec![topic]))
            } else {
                let id = if version >= 10 { Uuid::from_bytes(topic.id) } else { Uuid::nil() };
                let topic = OffsetFetchRequestTopics::default()
                    .with_name(topic_name(if version >= 10 { "" } else { &topic.name }))
                    .with_topic_id(id)
                    .with_partition_indexes(vec![0, 1, 99]);
                let group = OffsetFetchRequestGroup::default()
                    .with_group_id(group_id(group))
                    .with_topics((!all).then(|| vec![topic]));
                OffsetFetchRequest::default().with_groups(vec![group])
            };
            if version >= 7 {
                let stable = request.clone().with_require_stable(true);
                let step = format!("{kind}: stable offsets {version:02}, {what}");
                run.step(step, version, stable, offsets).await?;
            }
            run.step(format!("{kind}: offsets {version:02}, {what}"), version, request, offsets).await?;
        }
    }
    Ok(())
}

/// A group that only ever commits.
pub(crate) async fn without_members(run: &mut Run, topic: &Topic) -> Outcome {
    let group = e2e::unique("simple");
    let none = StrBytes::default();
    run.step("simple: commits", 9, commit(&group, &none, -1, &topic.name, 0, "x"), commit_errors).await?;
    run.step(
        "simple: commits as somebody",
        9,
        commit(&group, &text("m"), 3, &topic.name, 0, "x"),
        commit_errors,
    )
    .await?;
    let unknown = e2e::unique("unknown");
    run.step(
        "simple: a generation of an unknown group",
        9,
        commit(&unknown, &none, 3, &topic.name, 0, ""),
        commit_errors,
    )
    .await?;
    describe(run, "without members", &group).await?;
    list(run, "without members", &group).await?;
    fetch(run, "simple", &group, topic).await?;
    delete(run, "without members", &group).await
}
