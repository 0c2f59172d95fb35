//! Every API in every version that is advertised, over a connection, with answers that are full: a field that is set and
//! that a version lacks cannot be encoded, which would close the connection.

use std::collections::BTreeSet;

use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{FetchPartition, TopicRef};
use kafka_wire::messages::*;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::controller::NewTopic;
use crate::fault::on;
use crate::router::Route;
use crate::wire_test::{Wire, batch_of, fetch_body, fetch_request, named, produce_body};

const UNKNOWN_ID: Uuid = Uuid::from_u128(77);
const NONE: i16 = 0;
const UNKNOWN_TOPIC: i16 = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
const UNKNOWN_TOPIC_ID: i16 = ErrorCode::UNKNOWN_TOPIC_ID.0;
const NOT_LEADER: i16 = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
const INVALID_REQUEST: i16 = ErrorCode::INVALID_REQUEST.0;

/// Broker 1 answers. Broker 2 leads partition 1 of topic `t`; broker 3 is down, and `dark` is on it alone.
struct Sweep {
    cluster: Cluster,
    /// The id of topic `t`.
    id: Uuid,
    answered: BTreeSet<(Api, i16)>,
}

impl Sweep {
    async fn start() -> Self {
        let builder = Cluster::builder().transport_memory().brokers(3).racks(["a", "b", "c"]);
        let builder = builder.config("auto.create.topics.enable", "false").topic("grow", 1, 1);
        let cluster = builder.start().await.unwrap();
        for (name, assignment) in [("t", vec![vec![1], vec![2]]), ("dark", vec![vec![3]])] {
            let new = NewTopic { name: name.into(), assignment: Some(assignment), ..NewTopic::default() };
            cluster.shared().controller.create_topic(new, false).unwrap();
        }
        cluster.stop_broker(3).await.unwrap();
        let records = [(0, batch_of(&["a", "b", "c"], Some((7, 0, 0))))];
        let produced = Wire::to(&cluster, 1).produce(9, -1, named("t"), &records).await;
        assert!(produced[0].code().is_ok());
        let id = cluster.shared().image().topic("t").unwrap().id;
        Self { cluster, id, answered: BTreeSet::new() }
    }

    /// The answer to a request, which says that the client is throttled too. Before that, the same request fails as a
    /// fault wants it to.
    async fn ask<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        println!("{} {version}", R::API);
        let fault = self.cluster.fault(on(R::API)).error(ErrorCode::UNKNOWN_SERVER_ERROR);
        let mut wire = Wire::to(&self.cluster, 1);
        wire.send(version, &request).await;
        wire.receive::<R>(version).await;
        fault.assert_fired();
        drop(fault);
        let fault = self.cluster.fault(on(R::API)).throttle(3);
        let response = Wire::to(&self.cluster, 1).call(version, request).await;
        fault.assert_fired();
        self.answered.insert((R::API, version));
        response
    }

    /// Asks in every version, and checks every answer.
    async fn each<R: Request>(&mut self, request: impl Fn(i16) -> R, check: impl Fn(i16, R::Response)) {
        for version in versions(R::API) {
            let response = self.ask(version, request(version)).await;
            check(version, response);
        }
    }
}

/// The versions that are advertised, but those that only old clients need to see.
fn versions(api: Api) -> std::ops::RangeInclusive<i16> {
    let served = Route::find(api).unwrap().advertised().intersect(api.versions()).unwrap();
    served.min..=served.max
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

/// A body in which `UNKNOWN_ID` became zero, as no client of ours would send it.
fn without_id(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    if let Some(at) = body.windows(16).position(|bytes| bytes == UNKNOWN_ID.as_bytes()) {
        body[at..at + 16].fill(0);
    }
    body
}

#[tokio::test(start_paused = true)]
async fn every_advertised_version_gets_a_full_answer() {
    let mut sweep = Sweep::start().await;
    produce_and_fetch(&mut sweep).await;
    metadata(&mut sweep).await;
    logs(&mut sweep).await;
    members(&mut sweep).await;
    offsets(&mut sweep).await;
    groups(&mut sweep).await;
    cluster(&mut sweep).await;
    configs(&mut sweep).await;
    topics(&mut sweep).await;
    acls(&mut sweep).await;
    quotas(&mut sweep).await;
    let advertised = Api::ALL.iter().filter(|api| Route::find(**api).is_some());
    let advertised = advertised.flat_map(|api| versions(*api).map(|version| (*api, version)));
    assert!(advertised.eq(sweep.answered.iter().copied()), "some were not asked: {:?}", sweep.answered);
    assert_eq!(sweep.cluster.snapshot().brokers[0].panics, 0);
}

async fn produce_and_fetch(sweep: &mut Sweep) {
    let mut wire = Wire::to(&sweep.cluster, 1);
    let by = |name, id: Uuid| TopicRef { name, id: id.into_bytes() };
    for version in versions(Api::Produce) {
        let batch = || batch_of(&["v"], None);
        let known = by("t", sweep.id);
        let produced = wire.produce(version, -1, known, &[(0, batch()), (1, batch()), (2, batch())]).await;
        let codes: Vec<i16> = produced.iter().map(|one| one.outcome.error_code).collect();
        assert_eq!(codes, [NONE, NOT_LEADER, UNKNOWN_TOPIC], "v{version}");
        assert_eq!(produced[0].endpoints, if version >= 10 { &[2][..] } else { &[] }, "v{version}");
        let body = produce_body(version, 1, by("nope", UNKNOWN_ID), &[(0, batch())]);
        for body in [without_id(&body), body] {
            wire.send_body(Api::Produce, version, &body).await;
            let produced = wire.receive_produce(version).await;
            let expected = if version >= 13 { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC };
            assert_eq!(produced[0].outcome.error_code, expected, "v{version}");
        }
        sweep.answered.insert((Api::Produce, version));
    }
    for version in versions(Api::Fetch) {
        let at = |index| FetchPartition::new(by("t", sweep.id), index, 0, 1000);
        let beyond = FetchPartition::new(by("t", sweep.id), 0, 1000, 1000);
        let fetched = wire.fetch(version, fetch_request(&[at(0), at(1), at(2)])).await;
        let codes: Vec<_> = fetched.summary().iter().map(|one| (one.1.0, one.2 > 0)).collect();
        assert_eq!(codes, [(NONE, true), (NOT_LEADER, false), (UNKNOWN_TOPIC, false)], "v{version}");
        assert_eq!(fetched.endpoints, if version >= 16 { &[2][..] } else { &[] }, "v{version}");
        let fetched = wire.fetch(version, fetch_request(&[beyond])).await;
        assert_eq!(fetched.summary(), [(0, ErrorCode::OFFSET_OUT_OF_RANGE, 0)], "v{version}");
        // With a session and without.
        for session_epoch in [-1, 0] {
            let unknown = [FetchPartition::new(by("nope", UNKNOWN_ID), 0, 0, 1000)];
            let request = kafka_wire::fetch::Request { session_epoch, ..fetch_request(&unknown) };
            let body = fetch_body(version, request);
            for body in [without_id(&body), body] {
                wire.send_body(Api::Fetch, version, &body).await;
                let expected = if version >= 13 { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC };
                let fetched = wire.receive_fetch(version).await;
                assert_eq!(fetched.summary(), [(0, ErrorCode(expected), 0)], "v{version}");
            }
        }
        sweep.answered.insert((Api::Fetch, version));
    }
}

async fn metadata(sweep: &mut Sweep) {
    use metadata_request::MetadataRequestTopic;
    let asked = |name| MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = |version, topics: Vec<_>| {
        MetadataRequest::default()
            .with_topics(Some(topics))
            .with_include_topic_authorized_operations(version >= 8)
            .with_include_cluster_authorized_operations((8..=10).contains(&version))
    };
    let by_name =
        |version| request(version, vec![asked("t"), asked("dark"), asked("nope"), asked("no/name")]);
    sweep
        .each(by_name, |version, answer| {
            let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
            assert_eq!(
                codes,
                [NONE, NONE, UNKNOWN_TOPIC, ErrorCode::INVALID_TOPIC_EXCEPTION.0],
                "v{version}"
            );
            assert_eq!((answer.brokers.len(), answer.topics[0].partitions.len()), (2, 2));
            let dark = &answer.topics[1].partitions[0];
            assert_eq!((dark.error_code, dark.leader_id.0), (ErrorCode::LEADER_NOT_AVAILABLE.0, -1));
        })
        .await;
    for version in 10..=13 {
        let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let topics = vec![by_id(sweep.id), by_id(UNKNOWN_ID), by_id(Uuid::nil())];
        let answer = sweep.ask(version, request(version, topics)).await;
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [NONE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_ID], "v{version}");
    }
    let api_versions = |name: &'static str| {
        move |version| match version {
            3.. => ApiVersionsRequest::default()
                .with_client_software_name(text(name))
                .with_client_software_version(text("1")),
            _ => ApiVersionsRequest::default(),
        }
    };
    sweep.each(api_versions("sweep"), |_, answer| assert!(answer.api_keys.len() > 30)).await;
    sweep
        .each(api_versions("not a name!"), |version, answer| {
            assert_eq!(answer.error_code, if version >= 3 { INVALID_REQUEST } else { NONE });
        })
        .await;
}

async fn logs(sweep: &mut Sweep) {
    {
        use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let at = |index, timestamp| {
            ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
        };
        let of =
            |name, partitions| ListOffsetsTopic::default().with_name(topic(name)).with_partitions(partitions);
        let request = |version| {
            let known = at(0, 1000).with_current_leader_epoch(if version >= 4 { 0 } else { -1 });
            let topics = vec![of("t", vec![known, at(1, -1)]), of("nope", vec![at(0, -2)])];
            ListOffsetsRequest::default().with_isolation_level(i8::from(version >= 2)).with_topics(topics)
        };
        let check = |version, answer: ListOffsetsResponse| {
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let rows: Vec<_> = rows.map(|row| (row.error_code, row.offset, row.leader_epoch)).collect();
            let epoch = if version >= 4 { 0 } else { -1 };
            assert_eq!(rows, [(NONE, 0, epoch), (NOT_LEADER, -1, -1), (UNKNOWN_TOPIC, -1, -1)], "v{version}");
        };
        sweep.each(request, check).await;
    }
    {
        use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
        let of = |name, index| {
            let partition = OffsetForLeaderPartition::default().with_partition(index).with_leader_epoch(0);
            let partition = partition.with_current_leader_epoch(0);
            OffsetForLeaderTopic::default().with_topic(topic(name)).with_partitions(vec![partition])
        };
        let request = |_| {
            let topics = vec![of("t", 0), of("grow", 7), of("nope", 0)];
            OffsetForLeaderEpochRequest::default().with_topics(topics)
        };
        let check = |version, answer: OffsetForLeaderEpochResponse| {
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let rows: Vec<_> = rows.map(|row| row.error_code).collect();
            assert_eq!(rows, [NONE, UNKNOWN_TOPIC, UNKNOWN_TOPIC], "v{version}");
        };
        sweep.each(request, check).await;
    }
    {
        use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
        let of = |name, offset| {
            let partition = DeleteRecordsPartition::default().with_offset(offset);
            DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(vec![partition])
        };
        let request =
            |_| DeleteRecordsRequest::default().with_topics(vec![of("t", 1), of("t", 10_000), of("nope", 1)]);
        let check = |version, answer: DeleteRecordsResponse| {
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let rows: Vec<_> = rows.map(|row| (row.error_code, row.low_watermark)).collect();
            let out_of_range = (ErrorCode::OFFSET_OUT_OF_RANGE.0, -1);
            assert_eq!(rows, [(NONE, 1), out_of_range, (UNKNOWN_TOPIC, -1)], "v{version}");
        };
        sweep.each(request, check).await;
    }
    {
        use describe_producers_request::TopicRequest;
        let of = |name| TopicRequest::default().with_name(topic(name)).with_partition_indexes(vec![0]);
        let request = |_| DescribeProducersRequest::default().with_topics(vec![of("t"), of("nope")]);
        let check = |_, answer: DescribeProducersResponse| {
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let rows: Vec<_> = rows.map(|row| (row.error_code, row.active_producers.len())).collect();
            assert_eq!(rows, [(NONE, 1), (UNKNOWN_TOPIC, 0)]);
        };
        sweep.each(request, check).await;
    }
    sweep
        .each(
            |_| DescribeLogDirsRequest::default().with_topics(None),
            |version, answer| assert!(!answer.results[0].topics.is_empty(), "v{version}"),
        )
        .await;
    let init = |version| {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1);
        if version >= 3 { request.with_producer_id(ProducerId(-1)).with_producer_epoch(-1) } else { request }
    };
    let check = |_, answer: InitProducerIdResponse| {
        assert_eq!((answer.error_code, answer.producer_epoch), (NONE, 0));
    };
    sweep.each(init, check).await;
    let transactional = |version| init(version).with_transactional_id(Some(TransactionalId(text("tx"))));
    sweep.each(transactional, |_, answer| assert_ne!(answer.error_code, NONE)).await;
}

fn join(group_id: &str, version: i16, member: &str) -> JoinGroupRequest {
    use join_group_request::JoinGroupRequestProtocol;
    let range = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("topics".into());
    JoinGroupRequest::default()
        .with_group_id(group(group_id))
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(if version >= 1 { 60_000 } else { -1 })
        .with_member_id(text(member))
        .with_group_instance_id((version >= 5).then(|| text("instance")))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![range])
        .with_reason((version >= 8).then(|| text("because")))
}

/// Joins with a generation of its own and is assigned something; the member's id.
async fn member(sweep: &mut Sweep, group_id: &str, version: i16) -> StrBytes {
    use sync_group_request::SyncGroupRequestAssignment;
    sweep.cluster.move_coordinator(group_id, 1).unwrap();
    let unknown = sweep.ask(version, join(group_id, version, "nobody")).await;
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_MEMBER_ID.0, "v{version}");
    let mut joined = sweep.ask(version, join(group_id, version, "")).await;
    if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED.0 {
        joined = sweep.ask(version, join(group_id, version, &joined.member_id)).await;
    }
    assert_eq!((joined.error_code, joined.members.len()), (NONE, 1), "v{version}");
    let version = version.min(Api::SyncGroup.versions().max);
    let mine = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment("mine".into());
    let sync = SyncGroupRequest::default()
        .with_group_id(group(group_id))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(joined.members[0].group_instance_id.clone())
        .with_protocol_type((version >= 5).then(|| text("consumer")))
        .with_protocol_name((version >= 5).then(|| text("range")))
        .with_assignments(vec![mine]);
    let stale = sweep.ask(version, sync.clone().with_generation_id(99)).await;
    assert_eq!(stale.error_code, ErrorCode::ILLEGAL_GENERATION.0, "v{version}");
    let synced = sweep.ask(version, sync).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (NONE, &b"mine"[..]), "v{version}");
    joined.member_id
}

async fn members(sweep: &mut Sweep) {
    use leave_group_request::MemberIdentity;
    for version in versions(Api::JoinGroup) {
        let name = format!("join-{version}");
        let id = member(sweep, &name, version).await;
        let is_static = version >= 5;
        let beat = version.min(Api::Heartbeat.versions().max);
        let heartbeat = |id: &StrBytes| {
            let beat = HeartbeatRequest::default().with_group_id(group(&name)).with_generation_id(1);
            beat.with_member_id(id.clone())
        };
        assert_eq!(sweep.ask(beat, heartbeat(&id)).await.error_code, NONE);
        let unknown = sweep.ask(beat, heartbeat(&text("nobody"))).await;
        assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_MEMBER_ID.0);
        let leave = version.min(Api::LeaveGroup.versions().max);
        let request = LeaveGroupRequest::default().with_group_id(group(&name));
        let request = if leave < 3 {
            request.with_member_id(id)
        } else {
            let one = |id: StrBytes| MemberIdentity::default().with_member_id(id);
            let leaving = one(id).with_group_instance_id(is_static.then(|| text("instance")));
            request.with_members(vec![leaving, one(text("nobody"))])
        };
        let left = sweep.ask(leave, request).await;
        let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
        assert_eq!(left.error_code, NONE);
        assert_eq!(codes, if leave < 3 { &[][..] } else { &[NONE, ErrorCode::UNKNOWN_MEMBER_ID.0] });
    }
}

async fn offsets(sweep: &mut Sweep) {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    sweep.cluster.move_coordinator("s", 1).unwrap();
    sweep.cluster.move_coordinator("nobody", 1).unwrap();
    let id = sweep.id;
    let commit = |version| {
        let at = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(2)
                .with_committed_leader_epoch(if version >= 6 { 0 } else { -1 })
                .with_committed_metadata(Some(text("note")))
        };
        let of = |name, id, partitions| {
            let one = OffsetCommitRequestTopic::default().with_partitions(partitions);
            if version < 10 { one.with_name(topic(name)) } else { one.with_topic_id(id) }
        };
        let topics = vec![of("t", id, vec![at(0), at(9)]), of("nope", UNKNOWN_ID, vec![at(0)])];
        OffsetCommitRequest::default().with_group_id(group("s")).with_topics(topics)
    };
    let check = |version, answer: OffsetCommitResponse| {
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let rows: Vec<_> = rows.map(|row| row.error_code).collect();
        let unknown = if version >= 10 { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC };
        assert_eq!(rows, [NONE, UNKNOWN_TOPIC, unknown], "v{version}");
    };
    sweep.each(commit, check).await;

    let fetch = |everything: bool| {
        move |version: i16| {
            let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
            if version < 8 {
                let of = |name| {
                    OffsetFetchRequestTopic::default()
                        .with_name(topic(name))
                        .with_partition_indexes(vec![0, 1])
                };
                let topics = (!(everything && version >= 2)).then(|| vec![of("t"), of("nope")]);
                return request.with_group_id(group("s")).with_topics(topics);
            }
            let of = |name, id| {
                let one = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0, 1]);
                if version < 10 { one.with_name(topic(name)) } else { one.with_topic_id(id) }
            };
            let topics = (!everything).then(|| vec![of("t", id), of("nope", UNKNOWN_ID)]);
            let of_group =
                |id| OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(topics.clone());
            request.with_groups(vec![of_group("s"), of_group("nobody")])
        }
    };
    let check = |version, answer: OffsetFetchResponse| {
        let (code, first) = if version < 8 {
            let row = &answer.topics[0].partitions[0];
            (answer.error_code, (row.error_code, row.committed_offset, row.metadata.clone()))
        } else {
            assert_eq!(answer.groups.len(), 2);
            let row = &answer.groups[0].topics[0].partitions[0];
            (answer.groups[0].error_code, (row.error_code, row.committed_offset, row.metadata.clone()))
        };
        assert_eq!((code, first), (NONE, (NONE, 2, Some(text("note")))), "v{version}");
    };
    sweep.each(fetch(false), check).await;
    sweep.each(fetch(true), check).await;

    let delete = |_| {
        let of = |name, index| {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(index);
            OffsetDeleteRequestTopic::default().with_name(topic(name)).with_partitions(vec![partition])
        };
        let topics = vec![of("t", 0), of("nope", 0)];
        OffsetDeleteRequest::default().with_group_id(group("s")).with_topics(topics)
    };
    let check = |_, answer: OffsetDeleteResponse| {
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        assert_eq!(rows.map(|row| row.error_code).collect::<Vec<_>>(), [NONE, UNKNOWN_TOPIC]);
    };
    sweep.each(delete, check).await;
}

async fn groups(sweep: &mut Sweep) {
    member(sweep, "g", 9).await;
    sweep.cluster.move_coordinator("nobody", 1).unwrap();
    let describe = |version| {
        let groups = vec![group("g"), group("nobody")];
        DescribeGroupsRequest::default().with_groups(groups).with_include_authorized_operations(version >= 3)
    };
    let check = |version, answer: DescribeGroupsResponse| {
        let rows: Vec<_> = answer.groups.iter().map(|row| (row.error_code, row.members.len())).collect();
        let dead = if version >= 6 { ErrorCode::GROUP_ID_NOT_FOUND.0 } else { NONE };
        assert_eq!(rows, [(NONE, 1), (dead, 0)], "v{version}");
    };
    sweep.each(describe, check).await;

    let list = |version| {
        let states = if version >= 4 { vec![text("Stable")] } else { Vec::new() };
        let types = if version >= 5 { vec![text("classic")] } else { Vec::new() };
        ListGroupsRequest::default().with_states_filter(states).with_types_filter(types)
    };
    let check = |version, answer: ListGroupsResponse| {
        assert!(answer.groups.iter().any(|listed| listed.group_id.as_str() == "g"), "v{version}");
    };
    sweep.each(list, check).await;

    let find = |key_type| {
        move |version: i16| {
            let key_type = if version >= 1 { key_type } else { 0 };
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            if version >= 4 {
                request.with_coordinator_keys(vec![text("g")])
            } else {
                request.with_key(text("g"))
            }
        }
    };
    let found = |version, answer: FindCoordinatorResponse| {
        let one = answer.coordinators.first();
        one.map_or((answer.error_code, answer.node_id.0, version), |one| {
            (one.error_code, one.node_id.0, version)
        })
    };
    sweep.each(find(0), |version, answer| assert_eq!(found(version, answer), (NONE, 1, version))).await;
    let check = |version, answer| {
        let expected = if version >= 1 { (INVALID_REQUEST, -1) } else { (NONE, 1) };
        assert_eq!(found(version, answer), (expected.0, expected.1, version));
    };
    sweep.each(find(1), check).await;

    let delete = |_| DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("nobody")]);
    let check = |version, answer: DeleteGroupsResponse| {
        let codes: Vec<i16> = answer.results.iter().map(|row| row.error_code).collect();
        let expected = [ErrorCode::NON_EMPTY_GROUP.0, ErrorCode::GROUP_ID_NOT_FOUND.0];
        assert_eq!(codes, expected, "v{version}");
    };
    sweep.each(delete, check).await;
}

async fn cluster(sweep: &mut Sweep) {
    let no_sasl = ErrorCode::ILLEGAL_SASL_STATE.0;
    let check = |version, answer: SaslHandshakeResponse| assert_eq!(answer.error_code, no_sasl, "v{version}");
    sweep.each(|_| SaslHandshakeRequest::default(), check).await;
    let check =
        |version, answer: SaslAuthenticateResponse| assert_eq!(answer.error_code, no_sasl, "v{version}");
    sweep.each(|_| SaslAuthenticateRequest::default(), check).await;
    {
        use alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
        use describe_user_scram_credentials_request::UserName;
        let upsertion = ScramCredentialUpsertion::default()
            .with_name(text("alice"))
            .with_mechanism(1)
            .with_iterations(4096)
            .with_salt(b"salt"[..].into())
            .with_salted_password(b"salted"[..].into());
        let deletion = ScramCredentialDeletion::default().with_name(text("nobody")).with_mechanism(1);
        let request = |_| {
            AlterUserScramCredentialsRequest::default()
                .with_deletions(vec![deletion.clone()])
                .with_upsertions(vec![upsertion.clone()])
        };
        let check = |_, answer: AlterUserScramCredentialsResponse| {
            let codes: Vec<i16> = answer.results.iter().map(|row| row.error_code).collect();
            assert_eq!(codes, [ErrorCode::RESOURCE_NOT_FOUND.0, NONE]);
        };
        sweep.each(request, check).await;
        let users = ["alice", "nobody"].map(|name| UserName::default().with_name(text(name)));
        let request =
            |_| DescribeUserScramCredentialsRequest::default().with_users(Some(users.clone().into()));
        let check = |_, answer: DescribeUserScramCredentialsResponse| {
            let rows: Vec<_> =
                answer.results.iter().map(|row| (row.error_code, row.credential_infos.len())).collect();
            assert_eq!(rows, [(NONE, 1), (ErrorCode::RESOURCE_NOT_FOUND.0, 0)]);
        };
        sweep.each(request, check).await;
    }
    let describe = |kind| {
        move |version: i16| {
            DescribeClusterRequest::default()
                .with_include_cluster_authorized_operations(true)
                .with_endpoint_type(if version >= 1 { kind } else { 1 })
                .with_include_fenced_brokers(version >= 2)
        }
    };
    let check = |version, answer: DescribeClusterResponse| {
        assert_eq!((answer.error_code, answer.brokers.len()), (NONE, if version >= 2 { 3 } else { 2 }));
    };
    sweep.each(describe(1), check).await;
    let check = |version, answer: DescribeClusterResponse| {
        let mismatched = ErrorCode::MISMATCHED_ENDPOINT_TYPE.0;
        assert_eq!(answer.error_code, if version >= 1 { mismatched } else { NONE });
    };
    sweep.each(describe(2), check).await;

    use describe_topic_partitions_request::TopicRequest;
    let of = |name| TopicRequest::default().with_name(topic(name));
    let describe = |limit| {
        move |_| {
            let topics = vec![of("t"), of("dark"), of("nope")];
            DescribeTopicPartitionsRequest::default().with_topics(topics).with_response_partition_limit(limit)
        }
    };
    let check = |_, answer: DescribeTopicPartitionsResponse| {
        let rows: Vec<_> = answer.topics.iter().map(|row| (row.error_code, row.partitions.len())).collect();
        assert_eq!(rows, [(NONE, 1), (UNKNOWN_TOPIC, 0), (NONE, 2)]);
    };
    sweep.each(describe(2000), check).await;
    sweep.each(describe(2), |_, answer| assert!(answer.next_cursor.is_some())).await;

    use elect_leaders_request::TopicPartitions;
    let elect = |all: bool| {
        move |version: i16| {
            let of = |name| TopicPartitions::default().with_topic(topic(name)).with_partitions(vec![0]);
            let topics = (!all).then(|| vec![of("t"), of("nope")]);
            let unclean = i8::from(version >= 1);
            ElectLeadersRequest::default().with_election_type(unclean).with_topic_partitions(topics)
        }
    };
    let check = |_, answer: ElectLeadersResponse| {
        let rows = answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let codes: Vec<i16> = rows.map(|row| row.error_code).collect();
        assert_eq!((answer.error_code, codes), (NONE, vec![ErrorCode::ELECTION_NOT_NEEDED.0, UNKNOWN_TOPIC]));
    };
    sweep.each(elect(false), check).await;
    sweep.each(elect(true), |_, answer| assert_eq!(answer.error_code, NONE)).await;

    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let of = |name, replicas: Option<Vec<i32>>| {
        let replicas = replicas.map(|ids| ids.into_iter().map(BrokerId).collect());
        let partition = ReassignablePartition::default().with_replicas(replicas);
        ReassignableTopic::default().with_name(topic(name)).with_partitions(vec![partition])
    };
    let reassign = |version| {
        let topics = vec![of("t", Some(vec![1])), of("t", None), of("nope", Some(vec![1]))];
        let request = AlterPartitionReassignmentsRequest::default().with_topics(topics);
        request.with_allow_replication_factor_change(version == 0)
    };
    let check = |_, answer: AlterPartitionReassignmentsResponse| {
        let rows = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<i16> = rows.map(|row| row.error_code).collect();
        let nothing = ErrorCode::NO_REASSIGNMENT_IN_PROGRESS.0;
        assert_eq!((answer.error_code, codes), (NONE, vec![NONE, nothing, UNKNOWN_TOPIC]));
    };
    sweep.each(reassign, check).await;
    let list = |_| ListPartitionReassignmentsRequest::default().with_topics(None);
    sweep.each(list, |_, answer| assert_eq!((answer.error_code, answer.topics.len()), (NONE, 0))).await;

    use describe_quorum_request::{PartitionData, TopicData};
    let describe = |name| {
        move |_| {
            let partitions = vec![PartitionData::default()];
            let topic = TopicData::default().with_topic_name(topic(name)).with_partitions(partitions);
            DescribeQuorumRequest::default().with_topics(vec![topic])
        }
    };
    let check = |version, answer: DescribeQuorumResponse| {
        let quorum = &answer.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id.0, quorum.current_voters.len()), (NONE, 1, 3));
        let up = &quorum.current_voters[0];
        assert_eq!(up.log_end_offset, quorum.high_watermark, "v{version}");
        assert_eq!(up.last_fetch_timestamp >= 0, version >= 1);
        assert_eq!(up.replica_directory_id.is_nil(), version < 2);
        assert_eq!(answer.nodes.len(), if version >= 2 { 3 } else { 0 });
    };
    sweep.each(describe("__cluster_metadata"), check).await;
    let check = |version, answer: DescribeQuorumResponse| {
        let code = answer.topics[0].partitions[0].error_code;
        assert_eq!((answer.error_code, code), (NONE, UNKNOWN_TOPIC), "v{version}");
    };
    sweep.each(describe("t"), check).await;

    use update_features_request::FeatureUpdateKey;
    let update = |names: &'static [&'static str]| {
        move |_| {
            let update =
                |name: &&str| FeatureUpdateKey::default().with_feature(text(name)).with_max_version_level(1);
            UpdateFeaturesRequest::default().with_feature_updates(names.iter().map(update).collect())
        }
    };
    let check = |version, answer: UpdateFeaturesResponse| {
        assert_eq!((answer.error_code, answer.results.len()), (NONE, usize::from(version < 2)));
    };
    sweep.each(update(&["kraft.version"]), check).await;
    let check = |version, answer: UpdateFeaturesResponse| {
        let invalid = ErrorCode::INVALID_UPDATE_VERSION.0;
        assert_eq!((answer.error_code, answer.results.len()), (invalid, 0), "v{version}");
    };
    sweep.each(update(&["kraft.version", "nope"]), check).await;
}

async fn configs(sweep: &mut Sweep) {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    {
        use describe_configs_request::DescribeConfigsResource;
        let of = |kind, name| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let request = |version| {
            DescribeConfigsRequest::default()
                .with_resources(vec![of(TOPIC, "t"), of(BROKER, "1"), of(TOPIC, "nope"), of(99, "")])
                .with_include_synonyms(true)
                .with_include_documentation(version >= 3)
        };
        let check = |version, answer: DescribeConfigsResponse| {
            let rows: Vec<_> =
                answer.results.iter().map(|row| (row.error_code, row.configs.is_empty())).collect();
            let expected = [(NONE, false), (NONE, false), (UNKNOWN_TOPIC, true), (INVALID_REQUEST, true)];
            assert_eq!(rows, expected, "v{version}");
            assert!(!answer.results[0].configs[0].synonyms.is_empty() || version > 0);
        };
        sweep.each(request, check).await;
    }
    {
        use alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let of = |name, value| {
            let config =
                AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text(value)));
            AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name))
                .with_configs(vec![config])
        };
        let request = |_| {
            AlterConfigsRequest::default().with_resources(vec![
                of("t", "1000"),
                of("dark", "x"),
                of("nope", "1"),
            ])
        };
        let check = |version, answer: AlterConfigsResponse| {
            let codes: Vec<i16> = answer.responses.iter().map(|row| row.error_code).collect();
            assert_eq!(codes, [NONE, ErrorCode::INVALID_CONFIG.0, UNKNOWN_TOPIC], "v{version}");
        };
        sweep.each(request, check).await;
    }
    {
        use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let of = |name, value| {
            let config =
                AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text(value)));
            AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name))
                .with_configs(vec![config])
        };
        let request = |_| {
            let resources = vec![of("t", "1000"), of("dark", "x"), of("nope", "1")];
            IncrementalAlterConfigsRequest::default().with_resources(resources)
        };
        let check = |version, answer: IncrementalAlterConfigsResponse| {
            let codes: Vec<i16> = answer.responses.iter().map(|row| row.error_code).collect();
            assert_eq!(codes, [NONE, ErrorCode::INVALID_CONFIG.0, UNKNOWN_TOPIC], "v{version}");
        };
        sweep.each(request, check).await;
    }
    let list = |version| {
        let types = if version >= 1 { vec![TOPIC, BROKER] } else { Vec::new() };
        ListConfigResourcesRequest::default().with_resource_types(types)
    };
    let check = |version, answer: ListConfigResourcesResponse| {
        assert_eq!((answer.error_code, answer.config_resources.is_empty()), (NONE, version == 0));
    };
    sweep.each(list, check).await;
}

/// The cluster has no authorizer: it says so, in every version.
async fn acls(sweep: &mut Sweep) {
    const SECURITY_DISABLED: i16 = ErrorCode::SECURITY_DISABLED.0;
    let describe = |_| {
        let any = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
        let any = any.with_resource_name_filter(None).with_principal_filter(None).with_host_filter(None);
        any.with_operation(1).with_permission_type(1)
    };
    let check = |_, answer: DescribeAclsResponse| assert_eq!(answer.error_code, SECURITY_DISABLED);
    sweep.each(describe, check).await;
    let create = |_| {
        let creation = create_acls_request::AclCreation::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_resource_pattern_type(3)
            .with_principal(text("User:a"))
            .with_host(text("*"))
            .with_operation(3)
            .with_permission_type(3);
        CreateAclsRequest::default().with_creations(vec![creation])
    };
    let check = |_, answer: CreateAclsResponse| assert_eq!(answer.results[0].error_code, SECURITY_DISABLED);
    sweep.each(create, check).await;
    let delete = |_| {
        let filter = delete_acls_request::DeleteAclsFilter::default().with_resource_type_filter(1);
        let filter = filter.with_pattern_type_filter(1).with_operation(1).with_permission_type(1);
        DeleteAclsRequest::default().with_filters(vec![filter])
    };
    let check =
        |_, answer: DeleteAclsResponse| assert_eq!(answer.filter_results[0].error_code, SECURITY_DISABLED);
    sweep.each(delete, check).await;
}

async fn quotas(sweep: &mut Sweep) {
    let alter = |_| {
        use alter_client_quotas_request::{EntityData, EntryData, OpData};
        let user =
            EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text("nobody")));
        let change = OpData::default().with_key(text("request_percentage")).with_value(50.0);
        let entry = EntryData::default().with_entity(vec![user]).with_ops(vec![change]);
        AlterClientQuotasRequest::default().with_entries(vec![entry])
    };
    let check = |_, answer: AlterClientQuotasResponse| {
        let entry = &answer.entries[0];
        assert_eq!((entry.error_code, entry.entity[0].entity_type.as_str()), (NONE, "user"));
    };
    sweep.each(alter, check).await;
    let check = |_, answer: DescribeClientQuotasResponse| {
        let entries = answer.entries.unwrap();
        let value = &entries[0].values[0];
        assert_eq!((entries.len(), value.key.as_str(), value.value), (1, "request_percentage", 50.0));
    };
    sweep.each(|_| DescribeClientQuotasRequest::default(), check).await;
}

async fn topics(sweep: &mut Sweep) {
    {
        use create_topics_request::{CreatableTopic, CreatableTopicConfig};
        let of = |name: &str, replication| {
            let config = CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1000")));
            CreatableTopic::default()
                .with_name(topic(name))
                .with_num_partitions(1)
                .with_replication_factor(replication)
                .with_configs(vec![config])
        };
        let request = |version| {
            let topics = vec![of(&format!("new-{version}"), 1), of("t", 1), of("wide", 9)];
            CreateTopicsRequest::default().with_topics(topics)
        };
        let check = |version, answer: CreateTopicsResponse| {
            let codes: Vec<i16> = answer.topics.iter().map(|row| row.error_code).collect();
            let exists = ErrorCode::TOPIC_ALREADY_EXISTS.0;
            assert_eq!(codes, [NONE, exists, ErrorCode::INVALID_REPLICATION_FACTOR.0], "v{version}");
        };
        sweep.each(request, check).await;
    }
    {
        use create_partitions_request::CreatePartitionsTopic;
        let of = |name, count| {
            CreatePartitionsTopic::default().with_name(topic(name)).with_count(count).with_assignments(None)
        };
        let request = |version| {
            let topics = vec![of("grow", 2 + i32::from(version)), of("t", 1), of("nope", 2)];
            CreatePartitionsRequest::default().with_topics(topics)
        };
        let check = |version, answer: CreatePartitionsResponse| {
            let codes: Vec<i16> = answer.results.iter().map(|row| row.error_code).collect();
            assert_eq!(codes, [NONE, ErrorCode::INVALID_PARTITIONS.0, UNKNOWN_TOPIC], "v{version}");
        };
        sweep.each(request, check).await;
    }
    use delete_topics_request::DeleteTopicState;
    let request = |version: i16| {
        let new = format!("new-{}", version + 1);
        let request = DeleteTopicsRequest::default();
        if version < 6 {
            return request.with_topic_names(vec![topic(&new), topic("nope")]);
        }
        let by_name = |name| DeleteTopicState::default().with_name(Some(topic(name)));
        let by_id = |id| DeleteTopicState::default().with_topic_id(id);
        request.with_topics(vec![by_name(&new), by_name("nope"), by_id(UNKNOWN_ID), by_id(Uuid::nil())])
    };
    let check = |version, answer: DeleteTopicsResponse| {
        let codes: Vec<i16> = answer.responses.iter().map(|row| row.error_code).collect();
        let expected = [NONE, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INVALID_REQUEST];
        assert_eq!(codes, if version < 6 { &expected[..2] } else { &expected[..] }, "v{version}");
    };
    sweep.each(request, check).await;
}
