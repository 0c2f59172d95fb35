//! The APIs of groups, in every version that we serve.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::messages::leave_group_request::MemberIdentity;
use kafka_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::messages::*;

use super::text;
use crate::testing::Bench;
use crate::wire_test::{Wire, memory_cluster};

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn join(member: &str) -> JoinGroupRequest {
    let range = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("topics".into());
    JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![range])
}

fn sync(member: &str, generation: i32) -> SyncGroupRequest {
    let mine =
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment("mine".into());
    SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_assignments(vec![mine])
}

fn heartbeat(member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member))
        .with_generation_id(generation)
}

fn leave(version: i16, member: &str) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group("g"));
    if version < 3 {
        request.with_member_id(text(member))
    } else {
        request.with_members(vec![MemberIdentity::default().with_member_id(text(member))])
    }
}

/// Joins with an id if the version asks for one; the member id and generation.
async fn member(bench: &Bench, version: i16) -> (String, i32) {
    let (here, _) = bench.coordinator("g");
    let mut answer = bench.call(here, version, join("")).await;
    if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED.0 {
        answer = bench.call(here, version, join(&answer.member_id)).await;
    }
    assert_eq!(answer.error_code, 0, "v{version}");
    (answer.member_id.to_string(), answer.generation_id)
}

async fn commit(bench: &Bench, version: i16, member: (&str, i32), at: (&str, i32, i64)) -> i16 {
    let (here, _) = bench.coordinator("g");
    let id = bench.shared.image().topic(at.0).map(|topic| topic.id).unwrap_or_default();
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(at.1)
        .with_committed_offset(at.2)
        .with_committed_metadata(Some(text("note")));
    let mut one = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    if version < 10 {
        one.name = topic(at.0);
    } else {
        one.topic_id = id;
    }
    let request = OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member.0))
        .with_generation_id_or_member_epoch(member.1)
        .with_topics(vec![one]);
    let answer = bench.call(here, version, request).await;
    assert_eq!(answer.topics[0].partitions[0].partition_index, at.1);
    answer.topics[0].partitions[0].error_code
}

/// Offset, note and code of each partition of topic `t` that OffsetFetch answers.
async fn fetch(bench: &Bench, version: i16, partitions: Option<&[i32]>) -> Vec<(i32, i64, String, i16)> {
    let (here, _) = bench.coordinator("g");
    let id = bench.shared.image().topic("t").map(|topic| topic.id).unwrap_or_default();
    let request = if version < 8 {
        let topics = partitions.map(|partitions| {
            let one = OffsetFetchRequestTopic::default().with_name(topic("t"));
            vec![one.with_partition_indexes(partitions.to_vec())]
        });
        OffsetFetchRequest::default().with_group_id(group("g")).with_topics(topics)
    } else {
        let topics = partitions.map(|partitions| {
            let one = OffsetFetchRequestTopics::default().with_partition_indexes(partitions.to_vec());
            vec![if version < 10 { one.with_name(topic("t")) } else { one.with_topic_id(id) }]
        });
        let asked = OffsetFetchRequestGroup::default().with_group_id(group("g")).with_topics(topics);
        OffsetFetchRequest::default().with_groups(vec![asked])
    };
    let mut answer = bench.call(here, version, request).await;
    if version < 8 {
        assert_eq!(answer.error_code, 0);
        let topics = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let row = |place: offset_fetch_response::OffsetFetchResponsePartition| {
            let note = place.metadata.map(|note| note.to_string()).unwrap_or_default();
            (place.partition_index, place.committed_offset, note, place.error_code)
        };
        return topics.map(row).collect();
    }
    let answer = answer.groups.remove(0);
    assert_eq!((answer.error_code, answer.group_id.as_str()), (0, "g"));
    let topics = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let row = |place: offset_fetch_response::OffsetFetchResponsePartitions| {
        let note = place.metadata.map(|note| note.to_string()).unwrap_or_default();
        (place.partition_index, place.committed_offset, note, place.error_code)
    };
    topics.map(row).collect()
}

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    R::API.versions().min..=R::API.versions().max
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_syncs_beats_and_leaves_in_every_version() {
    for version in versions::<JoinGroupRequest>() {
        let bench = Bench::new(3);
        let (here, _) = bench.coordinator("g");
        let (id, generation) = member(&bench, version).await;
        let capped = |api: Api| version.min(api.versions().max);
        let synced = bench.call(here, capped(Api::SyncGroup), sync(&id, generation)).await;
        assert_eq!((synced.error_code, &*synced.assignment), (0, &b"mine"[..]));
        let beat = bench.call(here, capped(Api::Heartbeat), heartbeat(&id, generation)).await;
        assert_eq!(beat.error_code, 0);
        let left = capped(Api::LeaveGroup);
        for expected in [0, ErrorCode::UNKNOWN_MEMBER_ID.0] {
            let answer = bench.call(here, left, leave(left, &id)).await;
            let code = answer.members.first().map_or(answer.error_code, |member| member.error_code);
            assert_eq!(code, expected, "v{left}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_for_the_other_member_and_time_removes_it() {
    let bench = Bench::new(1);
    let (first, generation) = member(&bench, 5).await;
    bench.call(1, 5, sync(&first, generation)).await;
    let started = tokio::time::Instant::now();
    let (second, generation) = member(&bench, 5).await;
    assert_eq!((started.elapsed(), generation), (Duration::from_secs(45), 2), "the first one's session");
    assert_ne!(first, second);
    assert_eq!(bench.call(1, 4, heartbeat(&first, 1)).await.error_code, ErrorCode::UNKNOWN_MEMBER_ID.0);
}

#[tokio::test(start_paused = true)]
async fn sessions_end_although_nobody_asks() {
    let bench = Bench::new(1);
    member(&bench, 5).await;
    let shared = &bench.shared;
    let gone = || shared.groups.peek("g", |group| group.describe().members.is_empty()).filter(|gone| *gone);
    let gone = shared.events.wait_for(gone);
    tokio::time::timeout(Duration::from_secs(46), gone).await.expect("the session ends after 45 s");
}

#[tokio::test(start_paused = true)]
async fn a_parked_join_learns_that_its_coordinator_moved_and_finds_the_group_there() {
    let bench = Bench::new(3);
    let (here, elsewhere) = bench.coordinator("g");
    let (first, generation) = member(&bench, 5).await;
    bench.call(here, 5, sync(&first, generation)).await;
    let parked = bench.call(here, 3, join(""));
    tokio::pin!(parked);
    assert!(parked.as_mut().now_or_never().is_none());
    bench.shared.controller.move_coordinator("g", elsewhere).expect("a live broker");
    bench.shared.groups.coordinators_changed(&bench.shared.image());
    assert_eq!(parked.await.error_code, ErrorCode::NOT_COORDINATOR.0);
    assert_eq!(bench.call(here, 5, join(&first)).await.error_code, ErrorCode::NOT_COORDINATOR.0);
    assert_eq!(bench.call(here, 4, heartbeat(&first, 1)).await.error_code, ErrorCode::NOT_COORDINATOR.0);
    let again = bench.call(elsewhere, 5, join(&first)).await;
    assert_eq!((again.error_code, again.generation_id, again.members.len()), (0, 2, 1));
    let found = bench.call(here, 2, FindCoordinatorRequest::default().with_key(text("g"))).await;
    assert_eq!(found.node_id, BrokerId(elsewhere));
}

#[tokio::test(start_paused = true)]
async fn members_and_offsets_outlive_the_broker_that_coordinates_them() {
    let cluster = memory_cluster(3, "t", 1, 1).await;
    let find = FindCoordinatorRequest::default().with_key(text("g"));
    let here = Wire::to(&cluster, 1).call(2, find.clone()).await.node_id.0;
    let (mut wire, mut other) = (Wire::to(&cluster, here), Wire::to(&cluster, here));
    let id = wire.call(5, join("")).await.member_id.to_string();
    assert_eq!(wire.call(5, join(&id)).await.generation_id, 1);
    assert_eq!(wire.call(5, sync(&id, 1)).await.error_code, 0);
    let at = OffsetCommitRequestPartition::default().with_committed_offset(17);
    let at = OffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![at]);
    let commit = OffsetCommitRequest::default().with_group_id(group("g")).with_topics(vec![at]);
    let commit = commit.with_member_id(text(&*id)).with_generation_id_or_member_epoch(1);
    assert_eq!(wire.call(8, commit).await.topics[0].partitions[0].error_code, 0);
    // Parked, until the first member rejoins or this broker is gone.
    other.send(3, &join("")).await;
    assert_eq!(beats(&mut wire, &id, 1).await, ErrorCode::REBALANCE_IN_PROGRESS.0);
    cluster.stop_broker(here).await.unwrap();
    while other.receive_frame().await.is_some() {}
    let elsewhere = if here == 1 { 2 } else { 1 };
    let there = Wire::to(&cluster, elsewhere).call(2, find.clone()).await.node_id.0;
    assert_ne!(there, here);
    let mut wire = Wire::to(&cluster, there);
    // The one that nobody had told its id is gone, so nobody else has to rejoin.
    let again = wire.call(5, join(&id)).await;
    assert_eq!((again.error_code, again.generation_id, again.members.len()), (0, 2, 1));
    assert_eq!(wire.call(5, sync(&id, 2)).await.error_code, 0);

    other = Wire::to(&cluster, there);
    other.send(3, &join("")).await;
    assert_eq!(beats(&mut wire, &id, 2).await, ErrorCode::REBALANCE_IN_PROGRESS.0);
    cluster.start_broker(here).await.unwrap();
    cluster.move_coordinator("g", here).unwrap();
    let moved = other.receive::<JoinGroupRequest>(3).await;
    assert_eq!(moved.error_code, ErrorCode::NOT_COORDINATOR.0);
    assert_eq!(Wire::to(&cluster, there).call(2, find).await.node_id.0, here);
    let group = cluster.group("g").unwrap();
    assert_eq!((group.state.name(), group.generation, group.members.len()), ("PreparingRebalance", 2, 1));
    assert_eq!(cluster.committed("g", "t", 0).map(|at| at.offset), Some(17));
}

/// The first code that is not 0: heartbeats until the group has heard of a join on another connection.
async fn beats(wire: &mut Wire, member: &str, generation: i32) -> i16 {
    loop {
        let code = wire.call(4, heartbeat(member, generation)).await.error_code;
        if code != 0 {
            return code;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn coordinators_are_found_one_by_one_and_in_batches() {
    let bench = Bench::new(3);
    let (here, elsewhere) = bench.coordinator("g");
    for version in versions::<FindCoordinatorRequest>() {
        let request = if version < 4 {
            FindCoordinatorRequest::default().with_key(text("g"))
        } else {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("other")])
        };
        let answer = bench.call(elsewhere, version, request).await;
        let (id, port) = match answer.coordinators.first() {
            Some(first) => (first.node_id, first.port),
            None => (answer.node_id, answer.port),
        };
        assert_eq!((id, port), (BrokerId(here), 9090 + here), "v{version}");
    }
    let transaction = FindCoordinatorRequest::default().with_key(text("x")).with_key_type(1);
    assert_eq!(bench.call(here, 3, transaction).await.error_code, ErrorCode::INVALID_REQUEST.0);
}

#[tokio::test(start_paused = true)]
async fn offsets_come_back_as_committed_in_every_version() {
    let bench = Bench::new(3).topic("t", 2);
    let mut offset = 0;
    for version in versions::<OffsetCommitRequest>() {
        offset += 1;
        assert_eq!(commit(&bench, version, ("", -1), ("t", 1, offset)).await, 0, "v{version}");
        for version in versions::<OffsetFetchRequest>() {
            let rows = fetch(&bench, version, Some(&[0, 1])).await;
            let expected = [(0, -1, String::new(), 0), (1, offset, "note".to_owned(), 0)];
            assert_eq!(rows, expected, "v{version}");
            if version >= 2 {
                assert_eq!(fetch(&bench, version, None).await, expected[1..], "v{version}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_offsets_of_partitions_that_exist_are_stored() {
    let bench = Bench::new(1).topic("t", 1);
    for (topic, partition) in [("t", 1), ("t", -1), ("no", 0)] {
        let code = commit(&bench, 8, ("", -1), (topic, partition, 5)).await;
        assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, "{topic}-{partition}");
    }
    assert_eq!(fetch(&bench, 8, None).await, []);
}

#[tokio::test(start_paused = true)]
async fn commits_of_strangers_are_refused() {
    let bench = Bench::new(1).topic("t", 1);
    assert_eq!(commit(&bench, 8, ("gone", 3), ("t", 0, 5)).await, ErrorCode::ILLEGAL_GENERATION.0);
    assert_eq!(commit(&bench, 9, ("gone", 3), ("t", 0, 5)).await, ErrorCode::GROUP_ID_NOT_FOUND.0);
    let (id, generation) = member(&bench, 5).await;
    bench.call(1, 5, sync(&id, generation)).await;
    assert_eq!(commit(&bench, 9, ("gone", generation), ("t", 0, 5)).await, ErrorCode::UNKNOWN_MEMBER_ID.0);
    assert_eq!(commit(&bench, 9, (&id, generation - 1), ("t", 0, 5)).await, ErrorCode::ILLEGAL_GENERATION.0);
    assert_eq!(commit(&bench, 9, (&id, generation), ("t", 0, 5)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_takes_its_offsets_along() {
    let bench = Bench::new(1).topic("t", 1);
    assert_eq!(commit(&bench, 8, ("", -1), ("t", 0, 5)).await, 0);
    bench.shared.groups.forget_topic("t");
    assert_eq!(fetch(&bench, 8, Some(&[0])).await, [(0, -1, String::new(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_their_coordinator_and_by_state_and_type() {
    let bench = Bench::new(3).topic("t", 1);
    let (here, elsewhere) = bench.coordinator("g");
    member(&bench, 5).await;
    for version in versions::<ListGroupsRequest>() {
        let listed = bench.call(here, version, ListGroupsRequest::default()).await;
        assert_eq!(listed.groups.len(), 1, "v{version}");
        assert_eq!(listed.groups[0].protocol_type.as_str(), "consumer");
        let other = bench.call(elsewhere, version, ListGroupsRequest::default()).await;
        assert!(other.groups.is_empty());
    }
    let list = |states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| text(*name)).collect::<Vec<_>>();
        let request =
            ListGroupsRequest::default().with_states_filter(names(states)).with_types_filter(names(types));
        bench.call(here, 5, request)
    };
    assert_eq!(list(&["completingrebalance"], &["Classic"]).await.groups[0].group_type.as_str(), "classic");
    assert!(list(&["Stable"], &[]).await.groups.is_empty());
    assert!(list(&[], &["consumer"]).await.groups.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_and_one_that_does_not_exist_is_dead() {
    let bench = Bench::new(3);
    let (here, elsewhere) = bench.coordinator("g");
    let (id, generation) = member(&bench, 5).await;
    bench.call(here, 5, sync(&id, generation)).await;
    for version in versions::<DescribeGroupsRequest>() {
        let request = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
        let described = &bench.call(here, version, request.clone()).await.groups[0];
        assert_eq!((described.error_code, described.group_state.as_str()), (0, "Stable"), "v{version}");
        assert_eq!(described.protocol_data.as_str(), "range");
        assert_eq!(described.members[0].member_id.as_str(), id);
        assert_eq!(described.members[0].client_id.as_str(), "tester");
        assert_eq!(described.members[0].member_metadata, Bytes::from("topics"));
        let moved = &bench.call(elsewhere, version, request).await.groups[0];
        assert_eq!(moved.error_code, ErrorCode::NOT_COORDINATOR.0);
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group("none")]);
    let (here, _) = bench.coordinator("none");
    for (version, code) in [(5, 0), (6, ErrorCode::GROUP_ID_NOT_FOUND.0)] {
        let described = &bench.call(here, version, request.clone()).await.groups[0];
        assert_eq!((described.error_code, described.group_state.as_str()), (code, "Dead"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_group_is_deleted_with_its_offsets_and_can_be_made_anew() {
    let bench = Bench::new(1).topic("t", 1);
    let delete =
        |version| bench.call(1, version, DeleteGroupsRequest::default().with_groups_names(vec![group("g")]));
    assert_eq!(delete(2).await.results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND.0);
    assert_eq!(commit(&bench, 8, ("", -1), ("t", 0, 5)).await, 0);
    let (id, _) = member(&bench, 5).await;
    assert_eq!(delete(1).await.results[0].error_code, ErrorCode::NON_EMPTY_GROUP.0);
    bench.call(1, 3, leave(3, &id)).await;
    assert_eq!(delete(0).await.results[0].error_code, 0);
    assert_eq!(fetch(&bench, 8, Some(&[0])).await[0].1, -1);
    assert_eq!(member(&bench, 5).await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_unless_members_read_the_topic() {
    let bench = Bench::new(1).topic("t", 1);
    let delete = |name: &str, partition| {
        let place = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let one = OffsetDeleteRequestTopic::default().with_name(topic(name)).with_partitions(vec![place]);
        let request = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![one]);
        bench.call(1, 0, request)
    };
    assert_eq!(delete("t", 0).await.error_code, ErrorCode::GROUP_ID_NOT_FOUND.0);
    assert_eq!(commit(&bench, 8, ("", -1), ("t", 0, 5)).await, 0);
    let code = |answer: OffsetDeleteResponse| answer.topics[0].partitions[0].error_code;
    assert_eq!(code(delete("t", 7).await), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    assert_eq!(code(delete("t", 0).await), 0);
    assert_eq!(fetch(&bench, 8, None).await, []);
    // Its metadata is not a subscription, so it might read anything.
    member(&bench, 5).await;
    assert_eq!(code(delete("t", 0).await), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC.0);
}

#[tokio::test(start_paused = true)]
async fn a_group_needs_an_id_of_bearable_length() {
    let bench = Bench::new(1);
    for id in [String::new(), "g".repeat(1_025)] {
        let answer = bench.call(1, 5, join("").with_group_id(group(&id))).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_GROUP_ID.0);
    }
    let listed = bench.call(1, 5, ListGroupsRequest::default()).await;
    assert!(listed.groups.is_empty());
}
