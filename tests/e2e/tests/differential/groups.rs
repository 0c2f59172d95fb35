//! Classic groups: who may join, what a member is told, and whose commits count.

use bytes::Bytes;
use e2e::Outcome;
use kafka_wire::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_wire::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_wire::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_wire::messages::heartbeat_request::HeartbeatRequest;
use kafka_wire::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use kafka_wire::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use kafka_wire::messages::list_groups_request::ListGroupsRequest;
use kafka_wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_wire::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use kafka_wire::messages::{
    DescribeGroupsResponse, GroupId, JoinGroupResponse, LeaveGroupResponse, OffsetCommitResponse, StrBytes,
    SyncGroupResponse, Uuid,
};
use serde_json::{Value, json};

use crate::peer::{Peer, Reply};
use crate::{Run, Topic, code, committed, text, topic_name};

/// Asks all of it.
pub(crate) async fn run(run: &mut Run) -> Outcome {
    coordinators(run).await?;
    let topic = run.topic(2, &[]).await?;
    joins(run).await?;
    one_member(run, &topic).await?;
    two_members(run).await?;
    static_members(run).await?;
    committed::without_members(run, &topic).await
}

/// A name as messages have it.
pub(crate) fn group_id(name: &str) -> GroupId {
    GroupId::from(text(name))
}

async fn coordinators(run: &mut Run) -> Outcome {
    let group = e2e::unique("group");
    // The first look-up makes a real cluster create the topic of the offsets.
    e2e::eventually("there is a coordinator", async || {
        let request = FindCoordinatorRequest::default().with_key(text(&group));
        let answer = run.peer.another().must(3, request).await.ok()?;
        (answer.error_code == 0).then_some(())
    })
    .await?;
    for version in 0..=6 {
        for (name, kind, key) in
            [("a group", 0, group.as_str()), ("an empty one", 0, ""), ("an unknown kind", 9, "x")]
        {
            if version == 0 && kind != 0 {
                continue;
            }
            let mut request = FindCoordinatorRequest::default();
            if version >= 1 {
                request = request.with_key_type(kind);
            }
            let request = if version >= 4 {
                request.with_coordinator_keys(vec![text(key), text(key)])
            } else {
                request.with_key(text(key))
            };
            run.step(format!("coordinator {version}: {name}"), version, request, |answer| {
                let each: Vec<_> = answer
                    .coordinators
                    .iter()
                    .map(|c| json!([code(c.error_code), *c.node_id, c.port != -1]))
                    .collect();
                json!({"error": code(answer.error_code), "node": *answer.node_id, "each": each})
            })
            .await?;
        }
    }
    Ok(())
}

fn join(group: &str, member: &StrBytes) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")])
}

/// Version 0, no topics, no user data. Kafka's coordinator does not answer a join whose subscription it cannot read.
const SUBSCRIPTION: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

fn protocol(name: &str) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(Bytes::from_static(SUBSCRIPTION))
}

/// With what is random left out.
fn joined(answer: &JoinGroupResponse) -> Value {
    json!({"error": code(answer.error_code), "generation": answer.generation_id,
        "type": answer.protocol_type.as_ref().map(|name| name.as_str()),
        "protocol": answer.protocol_name.as_ref().map(|name| name.as_str()),
        "leader": answer.leader == answer.member_id && !answer.leader.is_empty(), "named": !answer.member_id.is_empty(),
        "skip": answer.skip_assignment, "members": answer.members.len()})
}

fn synced(answer: &SyncGroupResponse) -> Value {
    json!({"error": code(answer.error_code), "type": answer.protocol_type.as_ref().map(|name| name.as_str()),
        "protocol": answer.protocol_name.as_ref().map(|name| name.as_str()),
        "assignment": String::from_utf8_lossy(&answer.assignment)})
}

fn left(answer: &LeaveGroupResponse) -> Value {
    let members: Vec<_> = answer.members.iter().map(|member| code(member.error_code)).collect();
    json!({"error": code(answer.error_code), "members": members})
}

async fn joins(run: &mut Run) -> Outcome {
    let none = StrBytes::default();
    for version in 0..=9 {
        let fresh = || join(&e2e::unique("group"), &none);
        let supported = |request: JoinGroupRequest| {
            if version >= 1 { request } else { request.with_rebalance_timeout_ms(-1) }
        };
        let cases = [
            ("a newcomer", fresh()),
            ("no group", join("", &none)),
            ("an unknown member", join(&e2e::unique("group"), &text("nobody"))),
            ("too short a session", fresh().with_session_timeout_ms(10)),
            ("too long a session", fresh().with_session_timeout_ms(i32::MAX)),
            ("no protocols", fresh().with_protocols(vec![])),
            ("no protocol type", fresh().with_protocol_type(text(""))),
        ];
        for (name, request) in cases {
            run.step(format!("join {version}: {name}"), version, supported(request), joined).await?;
        }
    }
    Ok(())
}

/// A member of its own group, in generation 1, its assignment given.
async fn settle(run: &mut Run, group: &str) -> Outcome<StrBytes> {
    let named = run.peer.must(9, join(group, &StrBytes::default())).await?.member_id;
    run.step(format!("{}: the first member", kind(group)), 9, join(group, &named), joined).await?;
    Ok(named)
}

/// A group's name without what makes it unique.
fn kind(group: &str) -> &str {
    group.split('-').next().unwrap_or(group)
}

fn sync(
    group: &str,
    member: &StrBytes,
    generation: i32,
    of: &[(&StrBytes, &'static str)],
) -> SyncGroupRequest {
    let assignments = of.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id((*member).clone())
            .with_assignment(Bytes::from_static(assignment.as_bytes()))
    });
    SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect())
}

fn beat(group: &str, member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(member.clone())
        .with_generation_id(generation)
}

/// A commit of offset 7.
pub(crate) fn commit(
    group: &str,
    member: &StrBytes,
    generation: i32,
    topic: &str,
    index: i32,
    metadata: &str,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(index)
        .with_committed_offset(7)
        .with_committed_metadata(Some(text(metadata)));
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

/// What a commit was answered.
pub(crate) fn commit_errors(answer: &OffsetCommitResponse) -> Value {
    answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| json!([p.partition_index, code(p.error_code)]))
        .collect()
}

fn described(answer: &DescribeGroupsResponse) -> Value {
    let group = |group: &kafka_wire::messages::describe_groups_response::DescribedGroup| {
        let mut members: Vec<_> = group
            .members
            .iter()
            .map(|member| {
                json!([
                    member.client_id.as_str(),
                    !member.client_host.is_empty(),
                    member.member_metadata.len(),
                    member.member_assignment.len()
                ])
            })
            .collect();
        members.sort_by_key(ToString::to_string);
        json!({"error": code(group.error_code), "state": group.group_state.as_str(), "type": group.protocol_type.as_str(),
            "protocol": group.protocol_data.as_str(), "members": members, "message": group.error_message.is_some(),
            "operations": group.authorized_operations})
    };
    answer.groups.iter().map(group).collect()
}

/// Describes a group, in versions that differ.
pub(crate) async fn describe(run: &mut Run, step: &str, group: &str) -> Outcome {
    for version in [0, 4, 5, 6] {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group_id(group)])
            .with_include_authorized_operations(version == 5);
        run.step(format!("{}: described {step}, {version}", kind(group)), version, request, described)
            .await?;
    }
    Ok(())
}

/// Whether and how a group is listed, by states and types.
pub(crate) async fn list(run: &mut Run, step: &str, group: &str) -> Outcome {
    let texts = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
    let cases: [(&str, i16, &[&str], &[&str]); 13] = [
        ("all 0", 0, &[], &[]),
        ("all 3", 3, &[], &[]),
        ("all 4", 4, &[], &[]),
        ("all 5", 5, &[], &[]),
        ("stable ones", 5, &["Stable"], &[]),
        ("empty ones", 4, &["Empty"], &[]),
        ("stable or empty ones", 5, &["Empty", "Stable"], &[]),
        ("states in small letters", 5, &["stable", "empty"], &[]),
        ("an unknown state", 5, &["Happy"], &[]),
        ("classic ones", 5, &[], &["classic"]),
        ("classic ones in large letters", 5, &[], &["CLASSIC"]),
        ("consumer ones", 5, &[], &["consumer"]),
        ("an unknown type", 5, &[], &["odd"]),
    ];
    for (what, version, states, types) in cases {
        let request =
            ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
        run.step(format!("{}: listed {step}, {what}", kind(group)), version, request, |answer| {
            let listed = answer.groups.iter().find(|listed| *listed.group_id == *group_id(group));
            let listed = listed
                .map(|l| json!([l.protocol_type.as_str(), l.group_state.as_str(), l.group_type.as_str()]));
            json!([code(answer.error_code), listed])
        })
        .await?;
    }
    Ok(())
}

/// Deletes a group.
pub(crate) async fn delete(run: &mut Run, step: &str, group: &str) -> Outcome {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    run.step(format!("{}: deleted {step}", kind(group)), 2, request, |answer| {
        answer.results.iter().map(|result| code(result.error_code)).collect()
    })
    .await
}

async fn one_member(run: &mut Run, topic: &Topic) -> Outcome {
    let group = e2e::unique("single");
    let nobody = text("nobody");
    let member = settle(run, &group).await?;
    let name = |what: &str| format!("single: {what}");
    let beating = |answer: &kafka_wire::messages::HeartbeatResponse| code(answer.error_code);

    run.step(name("beats before its assignment"), 4, beat(&group, &member, 1), beating).await?;
    run.step(
        name("commits before its assignment"),
        9,
        commit(&group, &member, 1, &topic.name, 0, ""),
        commit_errors,
    )
    .await?;
    describe(run, "while syncing", &group).await?;
    for (what, request) in [
        ("an unknown member syncs", sync(&group, &nobody, 1, &[])),
        ("syncs in the wrong generation", sync(&group, &member, 2, &[])),
        ("syncs another protocol", sync(&group, &member, 1, &[]).with_protocol_name(Some(text("sticky")))),
        ("syncs another type", sync(&group, &member, 1, &[]).with_protocol_type(Some(text("connect")))),
        ("syncs in no group", sync("", &member, 1, &[])),
        ("syncs", sync(&group, &member, 1, &[(&member, "all of it")])),
        ("syncs again", sync(&group, &member, 1, &[])),
    ] {
        run.step(name(what), 5, request, synced).await?;
    }
    describe(run, "when stable", &group).await?;
    list(run, "when stable", &group).await?;
    for (what, request) in [
        ("beats", beat(&group, &member, 1)),
        ("beats in the generation before", beat(&group, &member, 0)),
        ("beats in the generation after", beat(&group, &member, 2)),
        ("an unknown member beats", beat(&group, &nobody, 1)),
        ("beats in no group", beat("", &member, 1)),
        ("beats in an unknown group", beat("no-such-group", &member, 1)),
    ] {
        run.step(name(what), 4, request, beating).await?;
    }
    let long = "m".repeat(5000);
    for version in 2..=10 {
        let at = |mut request: OffsetCommitRequest| {
            if version >= 10 {
                for topic_of in &mut request.topics {
                    topic_of.topic_id = if *topic_of.name == *topic_name(&topic.name) {
                        Uuid::from_bytes(topic.id)
                    } else {
                        Uuid::from_bytes([9; 16])
                    };
                }
            }
            request
        };
        for (what, request) in [
            ("commits", commit(&group, &member, 1, &topic.name, 0, "note")),
            ("commits in the generation before", commit(&group, &member, 0, &topic.name, 0, "")),
            ("commits in the generation after", commit(&group, &member, 2, &topic.name, 0, "")),
            ("an unknown member commits", commit(&group, &nobody, 1, &topic.name, 0, "")),
            ("somebody without name commits", commit(&group, &StrBytes::default(), -1, &topic.name, 0, "")),
            ("commits a long note", commit(&group, &member, 1, &topic.name, 0, &long)),
            ("commits for an unknown partition", commit(&group, &member, 1, &topic.name, 77, "")),
            ("commits for an unknown topic", commit(&group, &member, 1, "absent-topic", 0, "")),
            ("commits in no group", commit("", &member, 1, &topic.name, 0, "")),
        ] {
            run.step(name(&format!("{what}, {version:02}")), version, at(request), commit_errors).await?;
        }
    }
    committed::fetch(run, "single", &group, topic).await?;
    delete(run, "with a member", &group).await?;
    let other_protocol = join(&group, &StrBytes::default()).with_protocols(vec![protocol("sticky")]);
    run.step(name("a newcomer with another protocol"), 3, other_protocol, joined).await?;
    let other_type = join(&group, &StrBytes::default()).with_protocol_type(text("connect"));
    run.step(name("a newcomer of another type"), 3, other_type, joined).await?;
    for version in [0, 2, 4, 5] {
        let leave = |member: &StrBytes, group: &str| {
            let request = LeaveGroupRequest::default().with_group_id(group_id(group));
            if version < 3 {
                request.with_member_id(member.clone())
            } else {
                request.with_members(vec![MemberIdentity::default().with_member_id(member.clone())])
            }
        };
        run.step(
            name(&format!("an unknown member leaves, {version}")),
            version,
            leave(&nobody, &group),
            left,
        )
        .await?;
        run.step(name(&format!("leaves no group, {version}")), version, leave(&member, ""), left).await?;
        if version == 5 {
            run.step(name("leaves"), version, leave(&member, &group), left).await?;
            run.step(name("leaves again"), version, leave(&member, &group), left).await?;
        }
    }
    run.step(name("beats after leaving"), 4, beat(&group, &member, 1), beating).await?;
    describe(run, "when empty", &group).await?;
    list(run, "when empty", &group).await?;
    let topic_of = |name: &str| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        OffsetDeleteRequestTopic::default().with_name(topic_name(name)).with_partitions(vec![partition])
    };
    for (what, group) in
        [("of the group", group.as_str()), ("of an unknown group", "no-such-group"), ("of no group", "")]
    {
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(vec![topic_of(&topic.name), topic_of("absent-topic")]);
        run.step(name(&format!("offsets deleted {what}")), 0, request, |answer| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let mut each: Vec<_> = partitions.map(|p| code(p.error_code)).collect();
            each.sort_by_key(ToString::to_string);
            json!({"error": code(answer.error_code), "each": each})
        })
        .await?;
    }
    delete(run, "when empty", &group).await?;
    delete(run, "again", &group).await?;
    describe(run, "when deleted", &group).await
}

async fn two_members(run: &mut Run) -> Outcome {
    let group = e2e::unique("pair");
    let first = settle(run, &group).await?;
    run.step("pair: the first syncs", 5, sync(&group, &first, 1, &[(&first, "all")]), synced).await?;
    let second = run.peer.must(9, join(&group, &StrBytes::default())).await?.member_id;
    let mut other = run.peer.another();
    let request = join(&group, &second);
    let joining =
        tokio::spawn(async move { joined_by(&mut other, request).await.map(|reply| (reply, other)) });
    // The first learns of it by its heartbeat.
    e2e::eventually("the first is told to rejoin", async || {
        let answer = run.peer.another().must(4, beat(&group, &first, 1)).await.ok()?;
        (answer.error_code != 0).then_some(())
    })
    .await?;
    run.step("pair: the first beats while the second joins", 4, beat(&group, &first, 1), |answer| {
        code(answer.error_code)
    })
    .await?;
    run.step("pair: the first syncs while the second joins", 5, sync(&group, &first, 1, &[]), synced).await?;
    let commits = commit(&group, &first, 1, "absent-topic", 0, "");
    run.step("pair: the first commits while the second joins", 9, commits, commit_errors).await?;
    describe(run, "while rebalancing", &group).await?;
    run.step("pair: the first rejoins", 9, join(&group, &first), joined).await?;
    let (reply, mut other) = joining.await?.map_err(|error| error.to_string())?;
    run.note("pair: the second has joined", &reply, joined);

    // The follower waits for its leader.
    let request = sync(&group, &second, 2, &[]);
    let waiting = tokio::spawn(async move { other.ask(5, request).await.map_err(|error| error.to_string()) });
    run.step(
        "pair: the leader syncs",
        5,
        sync(&group, &first, 2, &[(&first, "one"), (&second, "two")]),
        synced,
    )
    .await?;
    run.note("pair: the follower syncs", &waiting.await??, synced);
    describe(run, "as two", &group).await?;
    let leaving = LeaveGroupRequest::default().with_group_id(group_id(&group)).with_members(vec![
        MemberIdentity::default().with_member_id(second.clone()),
        MemberIdentity::default().with_member_id(text("nobody")),
    ]);
    run.step("pair: the second and a stranger leave", 5, leaving, left).await?;
    run.step("pair: the first beats after that", 4, beat(&group, &first, 2), |answer| {
        code(answer.error_code)
    })
    .await?;
    run.step("pair: the first rejoins alone", 9, join(&group, &first), joined).await?;
    run.step("pair: the first joins while it leads", 9, join(&group, &first), joined).await
}

async fn joined_by(peer: &mut Peer, request: JoinGroupRequest) -> Result<Reply<JoinGroupResponse>, String> {
    peer.ask(9, request).await.map_err(|error| error.to_string())
}

async fn static_members(run: &mut Run) -> Outcome {
    let group = e2e::unique("fixed");
    let fixed = |member: &StrBytes| join(&group, member).with_group_instance_id(Some(text("instance")));
    let none = StrBytes::default();
    let old = match run.peer.ask(9, fixed(&none)).await? {
        Reply::Answer(answer) => {
            let id = answer.member_id.clone();
            run.note("fixed: joins at once", &Reply::Answer(answer), joined);
            id
        }
        Reply::Closed => return Err("a static member was not let in".into()),
    };
    let instance = |request: SyncGroupRequest| request.with_group_instance_id(Some(text("instance")));
    run.step("fixed: syncs", 5, instance(sync(&group, &old, 1, &[(&old, "all")])), synced).await?;
    let new = match run.peer.ask(9, fixed(&none)).await? {
        Reply::Answer(answer) => {
            let id = answer.member_id.clone();
            run.note("fixed: comes back", &Reply::Answer(answer), joined);
            id
        }
        Reply::Closed => return Err("a static member was not let in again".into()),
    };
    run.note("fixed: under another id", &Reply::Answer(()), |()| json!(old != new));
    run.step("fixed: syncs after it came back", 5, instance(sync(&group, &new, 1, &[])), synced).await?;
    let beat = |member: &StrBytes, instance: &str| {
        beat(&group, member, 1).with_group_instance_id(Some(text(instance)))
    };
    for (what, request) in [
        ("the new one beats", beat(&new, "instance")),
        ("the old one beats", beat(&old, "instance")),
        ("an unknown instance beats", beat(&new, "stranger")),
    ] {
        run.step(format!("fixed: {what}"), 4, request, |answer| code(answer.error_code)).await?;
    }
    let commits =
        commit(&group, &old, 1, "absent-topic", 0, "").with_group_instance_id(Some(text("instance")));
    run.step("fixed: the old one commits", 9, commits, commit_errors).await?;
    run.step("fixed: the old one joins", 9, fixed(&old), joined).await?;
    let leaving = |member: &StrBytes, instance: &str| {
        let identity = MemberIdentity::default()
            .with_member_id(member.clone())
            .with_group_instance_id(Some(text(instance)));
        LeaveGroupRequest::default().with_group_id(group_id(&group)).with_members(vec![identity])
    };
    for (what, request) in [
        ("an unknown instance leaves", leaving(&none, "stranger")),
        ("the old one leaves", leaving(&old, "instance")),
        ("it leaves by its instance alone", leaving(&none, "instance")),
    ] {
        run.step(format!("fixed: {what}"), 5, request, left).await?;
    }
    Ok(())
}
