//! Every API that is served, asked by a client without any right, and by one with just the rights that Kafka's documentation
//! names.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kafka_wire::acl::AclOperation::{self, *};
use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{self, FetchPartition, TopicRef};
use kafka_wire::messages::*;
use kafka_wire::produce;
use kafka_wire::shape::Direction;

use super::check::Access;
use super::{Acl, ResourcePattern};
use crate::router::ROUTES;
use crate::testing::Bench;
use crate::wire_test::{Wire, batch_of, fetch_body, fetch_request, produce_body};
use crate::{Cluster, SaslMechanism};

const ALICE: &str = "User:alice";
const TOPIC: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
const GROUP: ErrorCode = ErrorCode::GROUP_AUTHORIZATION_FAILED;
const CLUSTER: ErrorCode = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;

/// Runs a request of a version, and returns the error codes of its response.
type Run = fn(&Bench, i16) -> BoxFuture<'_, Vec<ErrorCode>>;

struct Case {
    api: Api,
    /// What a client without any right is told.
    refused: ErrorCode,
    /// The rights of which each alone does not do, if there are two, and both do.
    needs: Vec<(AclOperation, ResourcePattern)>,
    run: Run,
}

fn bench() -> Bench {
    let configs = [("authorizer.class.name", crate::config::AUTHORIZER), ("super.users", "User:root")];
    Bench::with_configs(1, &configs).topic("t", 1)
}

fn topic_id(bench: &Bench) -> uuid::Uuid {
    bench.shared.image().topic("t").expect("it was created").id
}

fn t() -> TopicName {
    TopicName("t".into())
}

fn g() -> GroupId {
    GroupId("g".into())
}

/// Calls, and picks codes out of the response.
macro_rules! run {
    ($bench:ident, $version:ident, $request:expr, $response:ident => $codes:expr) => {
        |$bench, $version| {
            Box::pin(async move {
                let request = $request;
                let $response = $bench.call(1, $version, request).await;
                let codes: Vec<i16> = $codes;
                codes.into_iter().map(ErrorCode).collect()
            })
        }
    };
}

fn on_topic(operation: AclOperation) -> Vec<(AclOperation, ResourcePattern)> {
    vec![(operation, ResourcePattern::topic("t"))]
}

fn on_group(operation: AclOperation) -> Vec<(AclOperation, ResourcePattern)> {
    vec![(operation, ResourcePattern::group("g"))]
}

fn on_cluster(operation: AclOperation) -> Vec<(AclOperation, ResourcePattern)> {
    vec![(operation, ResourcePattern::cluster())]
}

fn cases() -> Vec<Case> {
    let case = |api, refused, needs, run| Case { api, refused, needs, run };
    let mut cases = Vec::new();
    cases.push(case(Api::Produce, TOPIC, on_topic(Write), |bench, version| {
        Box::pin(async move {
            let topic = TopicRef { name: "t", id: topic_id(bench).into_bytes() };
            let body = produce_body(version, 1, topic, &[(0, batch_of(&["a"], None))]);
            let body = bench.serve(1, Api::Produce, version, body.into()).await;
            let view = produce::ResponseView::decode(version, &body).unwrap();
            view.partitions().map(|partition| ErrorCode(partition.outcome.error_code)).collect()
        })
    }));
    cases.push(case(Api::Fetch, TOPIC, on_topic(Read), |bench, version| {
        Box::pin(async move {
            let partition = FetchPartition {
                topic: TopicRef { name: "t", id: topic_id(bench).into_bytes() },
                index: 0,
                current_leader_epoch: -1,
                fetch_offset: 0,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                max_bytes: 1000,
                replica_directory_id: [0; 16],
                high_watermark: fetch::NO_HIGH_WATERMARK,
            };
            let body = fetch_body(version, fetch_request(&[partition]));
            let body = bench.serve(1, Api::Fetch, version, body.into()).await;
            let view = fetch::ResponseView::decode(version, &body).unwrap();
            view.partitions().map(|partition| ErrorCode(partition.status.error_code)).collect()
        })
    }));
    cases.push(case(
        Api::ListOffsets,
        TOPIC,
        on_topic(Describe),
        run!(bench, version, {
        use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(t()).with_partitions(vec![partition]);
        ListOffsetsRequest::default().with_topics(vec![topic])
    }, response => vec![response.topics[0].partitions[0].error_code]),
    ));
    cases.push(case(
        Api::Metadata,
        TOPIC,
        on_topic(Describe),
        run!(bench, version, {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(t()));
        MetadataRequest::default().with_topics(Some(vec![topic]))
    }, response => vec![response.topics[0].error_code]),
    ));
    cases.push(case(
        Api::OffsetCommit,
        GROUP,
        vec![(Read, ResourcePattern::group("g")), (Read, ResourcePattern::topic("t"))],
        run!(bench, version, {
            use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
            let topic = OffsetCommitRequestTopic::default();
            let topic = if version < 10 { topic.with_name(t()) } else { topic.with_topic_id(topic_id(bench)) };
            let topic = topic.with_partitions(vec![OffsetCommitRequestPartition::default()]);
            OffsetCommitRequest::default().with_group_id(g()).with_topics(vec![topic])
        }, response => vec![response.topics[0].partitions[0].error_code]),
    ));
    cases.push(case(
        Api::OffsetFetch,
        GROUP,
        vec![(Describe, ResourcePattern::group("g")), (Describe, ResourcePattern::topic("t"))],
        run!(bench, version, {
            use offset_fetch_request::*;
            if version >= 8 {
                let topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0]);
                let topic =
                    if version < 10 { topic.with_name(t()) } else { topic.with_topic_id(topic_id(bench)) };
                let group = OffsetFetchRequestGroup::default().with_group_id(g()).with_topics(Some(vec![topic]));
                OffsetFetchRequest::default().with_groups(vec![group])
            } else {
                let topic = OffsetFetchRequestTopic::default().with_name(t()).with_partition_indexes(vec![0]);
                OffsetFetchRequest::default().with_group_id(g()).with_topics(Some(vec![topic]))
            }
        }, response => {
            let old = response.topics.iter().flat_map(|topic| &topic.partitions).map(|one| one.error_code);
            let groups = response.groups.iter();
            let new = groups.clone().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
            let whole = groups.map(|group| group.error_code).chain([response.error_code]);
            old.chain(new.map(|one| one.error_code)).chain(whole).filter(|code| *code != 0).collect()
        }),
    ));
    cases.push(case(
        Api::FindCoordinator,
        GROUP,
        on_group(Describe),
        run!(bench, version, {
            if version >= 4 {
                FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()])
            } else {
                FindCoordinatorRequest::default().with_key("g".into())
            }
        }, response => match response.coordinators.first() {
            Some(found) => vec![found.error_code],
            None => vec![response.error_code],
        }),
    ));
    cases.push(case(
        Api::JoinGroup,
        GROUP,
        on_group(Read),
        run!(bench, version, {
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name("range".into());
        JoinGroupRequest::default()
            .with_group_id(g())
            .with_protocol_type("consumer".into())
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(if version == 0 { -1 } else { 10_000 })
            .with_protocols(vec![protocol])
    }, response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::Heartbeat,
        GROUP,
        on_group(Read),
        run!(bench, version, HeartbeatRequest::default().with_group_id(g()), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::LeaveGroup,
        GROUP,
        on_group(Read),
        run!(bench, version, LeaveGroupRequest::default().with_group_id(g()), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::SyncGroup,
        GROUP,
        on_group(Read),
        run!(bench, version, SyncGroupRequest::default().with_group_id(g()), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::DescribeGroups,
        GROUP,
        on_group(Describe),
        run!(bench, version, DescribeGroupsRequest::default().with_groups(vec![g()]),
            response => vec![response.groups[0].error_code]),
    ));
    cases.push(case(
        Api::CreateTopics,
        TOPIC,
        vec![(Create, ResourcePattern::topic("new"))],
        run!(bench, version, {
        let topic = create_topics_request::CreatableTopic::default().with_name(TopicName("new".into()));
        let topic = topic.with_num_partitions(1).with_replication_factor(1);
        CreateTopicsRequest::default().with_topics(vec![topic]).with_validate_only(true)
    }, response => vec![response.topics[0].error_code]),
    ));
    cases.push(case(
        Api::DeleteTopics,
        TOPIC,
        on_topic(Delete),
        run!(bench, version, {
        let state = delete_topics_request::DeleteTopicState::default().with_name(Some(t()));
        if version >= 6 {
            DeleteTopicsRequest::default().with_topics(vec![state])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![t()])
        }
    }, response => vec![response.responses[0].error_code]),
    ));
    cases.push(case(
        Api::DeleteRecords,
        TOPIC,
        on_topic(Delete),
        run!(bench, version, {
        use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
        let topic = DeleteRecordsTopic::default().with_name(t());
        let topic = topic.with_partitions(vec![DeleteRecordsPartition::default()]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    }, response => vec![response.topics[0].partitions[0].error_code]),
    ));
    cases.push(case(
        Api::InitProducerId,
        CLUSTER,
        on_cluster(IdempotentWrite),
        run!(bench, version, InitProducerIdRequest::default().with_transactional_id(None),
            response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::OffsetForLeaderEpoch,
        TOPIC,
        on_topic(Describe),
        run!(bench, version, {
        use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
        let topic = OffsetForLeaderTopic::default().with_topic(t());
        let topic = topic.with_partitions(vec![OffsetForLeaderPartition::default()]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    }, response => vec![response.topics[0].partitions[0].error_code]),
    ));
    cases.push(case(
        Api::DescribeAcls,
        CLUSTER,
        on_cluster(Describe),
        run!(bench, version, any_acl(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::CreateAcls,
        CLUSTER,
        on_cluster(Alter),
        run!(bench, version, {
        let creation = create_acls_request::AclCreation::default()
            .with_resource_type(2)
            .with_resource_name("x".into())
            .with_resource_pattern_type(3)
            .with_principal("User:x".into())
            .with_host("*".into())
            .with_operation(3)
            .with_permission_type(3);
        CreateAclsRequest::default().with_creations(vec![creation])
    }, response => vec![response.results[0].error_code]),
    ));
    cases.push(case(
        Api::DeleteAcls,
        CLUSTER,
        on_cluster(Alter),
        run!(bench, version, {
        let filter = delete_acls_request::DeleteAclsFilter::default()
            .with_resource_type_filter(2)
            .with_resource_name_filter(Some("nothing".into()))
            .with_pattern_type_filter(3)
            .with_operation(1)
            .with_permission_type(1);
        DeleteAclsRequest::default().with_filters(vec![filter])
    }, response => vec![response.filter_results[0].error_code]),
    ));
    cases.push(case(
        Api::DescribeConfigs,
        TOPIC,
        on_topic(DescribeConfigs),
        run!(bench, version, {
        let resource = describe_configs_request::DescribeConfigsResource::default();
        let resource = resource.with_resource_type(2).with_resource_name("t".into());
        DescribeConfigsRequest::default().with_resources(vec![resource])
    }, response => vec![response.results[0].error_code]),
    ));
    cases.push(case(
        Api::AlterConfigs,
        TOPIC,
        on_topic(AlterConfigs),
        run!(bench, version, {
        let resource = alter_configs_request::AlterConfigsResource::default();
        let resource = resource.with_resource_type(2).with_resource_name("t".into());
        AlterConfigsRequest::default().with_resources(vec![resource])
    }, response => vec![response.responses[0].error_code]),
    ));
    cases.push(case(
        Api::IncrementalAlterConfigs,
        TOPIC,
        on_topic(AlterConfigs),
        run!(bench, version, {
        let resource = incremental_alter_configs_request::AlterConfigsResource::default();
        let resource = resource.with_resource_type(2).with_resource_name("t".into());
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    }, response => vec![response.responses[0].error_code]),
    ));
    cases.push(case(
        Api::DescribeLogDirs,
        CLUSTER,
        on_cluster(Describe),
        run!(bench, version, DescribeLogDirsRequest::default().with_topics(None), response => {
            let dirs = response.results.iter().map(|dir| dir.error_code);
            dirs.chain([response.error_code]).filter(|code| *code != 0).collect()
        }),
    ));
    cases.push(case(
        Api::CreatePartitions,
        TOPIC,
        on_topic(Alter),
        run!(bench, version, {
        let topic = create_partitions_request::CreatePartitionsTopic::default().with_name(t()).with_count(2);
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(true)
    }, response => vec![response.results[0].error_code]),
    ));
    cases.push(case(
        Api::DeleteGroups,
        GROUP,
        on_group(Delete),
        run!(bench, version, DeleteGroupsRequest::default().with_groups_names(vec![g()]),
            response => vec![response.results[0].error_code]),
    ));
    cases.push(case(Api::ElectLeaders, CLUSTER, on_cluster(Alter), run!(bench, version, {
        let topic = elect_leaders_request::TopicPartitions::default().with_topic(t()).with_partitions(vec![0]);
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]))
    }, response => vec![response.replica_election_results[0].partition_result[0].error_code])));
    cases.push(case(
        Api::AlterPartitionReassignments,
        CLUSTER,
        on_cluster(Alter),
        run!(bench, version, AlterPartitionReassignmentsRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::ListPartitionReassignments,
        CLUSTER,
        on_cluster(Describe),
        run!(bench, version, ListPartitionReassignmentsRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::OffsetDelete,
        GROUP,
        vec![(Delete, ResourcePattern::group("g")), (Read, ResourcePattern::topic("t"))],
        run!(bench, version, {
            use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
            let topic = OffsetDeleteRequestTopic::default().with_name(t());
            let topic = topic.with_partitions(vec![OffsetDeleteRequestPartition::default()]);
            // Only of a group that exists it is told which topics the client may not read.
            let root = bench.asked_by("User:root");
            root.call(1, 2, commit_from_outside()).await;
            OffsetDeleteRequest::default().with_group_id(g()).with_topics(vec![topic])
        }, response => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|one| one.error_code).chain([response.error_code]).filter(|code| *code != 0).collect()
        }),
    ));
    cases.push(case(
        Api::DescribeQuorum,
        CLUSTER,
        on_cluster(Describe),
        run!(bench, version, DescribeQuorumRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::UpdateFeatures,
        CLUSTER,
        on_cluster(Alter),
        run!(bench, version, UpdateFeaturesRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::DescribeUserScramCredentials,
        CLUSTER,
        on_cluster(Describe),
        run!(bench, version, DescribeUserScramCredentialsRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::AlterUserScramCredentials,
        CLUSTER,
        on_cluster(Alter),
        run!(bench, version, {
        use alter_user_scram_credentials_request::ScramCredentialDeletion;
        let deletion = ScramCredentialDeletion::default().with_name("bob".into());
        AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion])
    }, response => response.results.iter().map(|row| row.error_code).collect()),
    ));
    cases.push(case(
        Api::DescribeProducers,
        TOPIC,
        on_topic(Read),
        run!(bench, version, {
        let topic = describe_producers_request::TopicRequest::default().with_name(t());
        DescribeProducersRequest::default().with_topics(vec![topic.with_partition_indexes(vec![0])])
    }, response => vec![response.topics[0].partitions[0].error_code]),
    ));
    cases.push(case(
        Api::ListConfigResources,
        CLUSTER,
        on_cluster(DescribeConfigs),
        run!(bench, version, ListConfigResourcesRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::DescribeTopicPartitions,
        TOPIC,
        on_topic(Describe),
        run!(bench, version, {
        let topic = describe_topic_partitions_request::TopicRequest::default().with_name(t());
        DescribeTopicPartitionsRequest::default().with_topics(vec![topic])
    }, response => vec![response.topics[0].error_code]),
    ));
    cases.push(case(
        Api::DescribeClientQuotas,
        CLUSTER,
        on_cluster(DescribeConfigs),
        run!(bench, version, DescribeClientQuotasRequest::default(), response => vec![response.error_code]),
    ));
    cases.push(case(
        Api::AlterClientQuotas,
        CLUSTER,
        on_cluster(AlterConfigs),
        run!(bench, version, {
            use alter_client_quotas_request::{EntityData, EntryData};
            let user = EntityData::default().with_entity_type("user".into()).with_entity_name(None);
            let entry = EntryData::default().with_entity(vec![user]);
            AlterClientQuotasRequest::default().with_entries(vec![entry])
        }, response => vec![response.entries[0].error_code]),
    ));
    cases
}

fn any_acl() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1)
}

fn commit_from_outside() -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let topic = OffsetCommitRequestTopic::default().with_name(t());
    let topic = topic.with_partitions(vec![OffsetCommitRequestPartition::default()]);
    OffsetCommitRequest::default().with_group_id(g()).with_topics(vec![topic])
}

fn is_refusal(code: ErrorCode) -> bool {
    [TOPIC, GROUP, CLUSTER, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED].contains(&code)
}

fn grant((operation, pattern): &(AclOperation, ResourcePattern)) -> Acl {
    Acl::allow(ALICE, *operation, pattern.clone())
}

#[tokio::test(start_paused = true)]
async fn every_api_is_refused_without_rights_and_served_with_them() {
    for case in cases() {
        for version in case.api.versions().min..=case.api.versions().max {
            let at = format!("{} v{version}", case.api);
            let alone = bench().asked_by(ALICE);
            let codes = (case.run)(&alone, version).await;
            assert_eq!(codes, [case.refused], "{at} without rights");
            for need in case.needs.iter().filter(|_| case.needs.len() > 1) {
                let partly = bench().asked_by(ALICE);
                partly.acls([grant(need)]);
                let codes = (case.run)(&partly, version).await;
                assert!(codes.iter().any(|code| is_refusal(*code)), "{at} with {need:?} only: {codes:?}");
            }
            let others = bench().asked_by("User:bob");
            others.acls(case.needs.iter().map(grant));
            assert_eq!((case.run)(&others, version).await, [case.refused], "{at} by another");
            let able = bench().asked_by(ALICE);
            able.acls(case.needs.iter().map(grant));
            for (who, bench) in [
                ("able", able),
                ("a super user", bench().asked_by("User:root")),
                ("no authorizer", Bench::new(1).topic("t", 1)),
            ] {
                let codes = (case.run)(&bench, version).await;
                assert!(!codes.iter().any(|code| is_refusal(*code)), "{at}, {who}: {codes:?}");
            }
            let denied = bench().asked_by(ALICE);
            denied.acls(case.needs.iter().map(grant));
            denied.acls(case.needs.iter().map(|(_, pattern)| Acl::deny("User:*", All, pattern.clone())));
            assert_eq!((case.run)(&denied, version).await, [case.refused], "{at}, denied");
        }
    }
}

/// APIs that leave out what a client may not see, and refuse nothing.
const FILTERED: &[Api] = &[Api::ListGroups];

#[test]
fn no_api_is_served_without_a_word_on_who_may_call_it() {
    let tested: BTreeSet<Api> = cases().iter().map(|case| case.api).collect();
    for route in ROUTES {
        let is_free = route.access == Access::Free;
        let api = route.api;
        assert_eq!(
            !is_free,
            tested.contains(&api) || FILTERED.contains(&api),
            "{api} needs a case in this file"
        );
    }
    let free: Vec<Api> =
        ROUTES.iter().filter(|route| route.access == Access::Free).map(|route| route.api).collect();
    assert_eq!(free, [Api::SaslHandshake, Api::ApiVersions, Api::SaslAuthenticate, Api::DescribeCluster]);
}

/// What a client without rights is told of topics that exist must be what it is told of those that do not.
#[tokio::test(start_paused = true)]
async fn nobody_learns_from_a_refusal_whether_a_topic_exists() {
    let with = bench().asked_by(ALICE);
    with.acls([Acl::allow(ALICE, All, ResourcePattern::group("g"))]);
    let without =
        Bench::with_configs(1, &[("authorizer.class.name", crate::config::AUTHORIZER)]).asked_by(ALICE);
    without.acls([Acl::allow(ALICE, All, ResourcePattern::group("g"))]);
    let by_name = [
        (
            Api::Produce,
            3,
            Bytes::from(produce_body(3, 1, crate::wire_test::named("t"), &[(0, batch_of(&["a"], None))])),
        ),
        (
            Api::Metadata,
            9,
            encoded(9, {
                let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(t()));
                MetadataRequest::default()
                    .with_topics(Some(vec![topic]))
                    .with_include_topic_authorized_operations(true)
            }),
        ),
        (Api::Metadata, 9, encoded(9, MetadataRequest::default().with_topics(None))),
        (Api::OffsetCommit, 5, encoded(5, commit_from_outside())),
        (Api::DeleteTopics, 5, encoded(5, DeleteTopicsRequest::default().with_topic_names(vec![t()]))),
        (
            Api::DescribeTopicPartitions,
            0,
            encoded(0, {
                let topic = describe_topic_partitions_request::TopicRequest::default().with_name(t());
                DescribeTopicPartitionsRequest::default().with_topics(vec![topic])
            }),
        ),
        (Api::DescribeTopicPartitions, 0, encoded(0, DescribeTopicPartitionsRequest::default())),
        (
            Api::ListOffsets,
            5,
            encoded(5, {
                use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
                let partitions = vec![ListOffsetsPartition::default()];
                let topic = ListOffsetsTopic::default().with_name(t()).with_partitions(partitions);
                ListOffsetsRequest::default().with_topics(vec![topic])
            }),
        ),
        (
            Api::DescribeProducers,
            0,
            encoded(0, {
                let topic = describe_producers_request::TopicRequest::default().with_name(t());
                DescribeProducersRequest::default()
                    .with_topics(vec![topic.with_partition_indexes(vec![0, 7])])
            }),
        ),
        (Api::Fetch, 12, {
            let partition = FetchPartition {
                topic: crate::wire_test::named("t"),
                index: 0,
                current_leader_epoch: -1,
                fetch_offset: 0,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                max_bytes: 1000,
                replica_directory_id: [0; 16],
                high_watermark: fetch::NO_HIGH_WATERMARK,
            };
            fetch_body(12, fetch_request(&[partition])).into()
        }),
        (
            Api::OffsetForLeaderEpoch,
            3,
            encoded(3, {
                use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
                let partitions = vec![OffsetForLeaderPartition::default()];
                let topic = OffsetForLeaderTopic::default().with_topic(t()).with_partitions(partitions);
                OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
            }),
        ),
        (
            Api::DeleteRecords,
            1,
            encoded(1, {
                use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
                let partitions = vec![DeleteRecordsPartition::default()];
                let topic = DeleteRecordsTopic::default().with_name(t()).with_partitions(partitions);
                DeleteRecordsRequest::default().with_topics(vec![topic])
            }),
        ),
        (
            Api::OffsetFetch,
            5,
            encoded(5, {
                let topic = offset_fetch_request::OffsetFetchRequestTopic::default().with_name(t());
                let topics = vec![topic.with_partition_indexes(vec![0, 7])];
                OffsetFetchRequest::default().with_group_id(g()).with_topics(Some(topics))
            }),
        ),
        (
            Api::DescribeConfigs,
            1,
            encoded(1, {
                let topic = describe_configs_request::DescribeConfigsResource::default();
                let topic = topic.with_resource_type(2).with_resource_name("t".into());
                DescribeConfigsRequest::default().with_resources(vec![topic.with_configuration_keys(None)])
            }),
        ),
        (
            Api::AlterConfigs,
            1,
            encoded(1, {
                let topic = alter_configs_request::AlterConfigsResource::default();
                let topic = topic.with_resource_type(2).with_resource_name("t".into());
                AlterConfigsRequest::default().with_resources(vec![topic])
            }),
        ),
        (
            Api::IncrementalAlterConfigs,
            0,
            encoded(0, {
                let topic = incremental_alter_configs_request::AlterConfigsResource::default();
                let topic = topic.with_resource_type(2).with_resource_name("t".into());
                IncrementalAlterConfigsRequest::default().with_resources(vec![topic])
            }),
        ),
        (
            Api::CreatePartitions,
            1,
            encoded(1, {
                let topic =
                    create_partitions_request::CreatePartitionsTopic::default().with_name(t()).with_count(2);
                CreatePartitionsRequest::default().with_topics(vec![topic])
            }),
        ),
    ];
    for (api, version, body) in by_name {
        let told = with.serve(1, api, version, body.clone()).await;
        let expected = without.serve(1, api, version, body).await;
        let told = shown(api, version, told, &with);
        assert_eq!(told, shown(api, version, expected, &without), "{api}");
    }
    let image = with.shared.image();
    assert!(image.topic("t").is_some() && without.shared.image().topic("t").is_none(), "nothing was done");
}

fn encoded<R: Request>(version: i16, request: R) -> Bytes {
    let mut body = bytes::BytesMut::new();
    request.encode(version, &mut body).unwrap();
    body.freeze()
}

/// A response, but for the cluster's id, in which clusters differ anyway.
fn shown(api: Api, version: i16, body: Bytes, bench: &Bench) -> Vec<u8> {
    kafka_wire::shape::check(api, version, Direction::Response, &body).unwrap();
    let id = bench.shared.image().cluster_id.to_string();
    let at = body.windows(id.len()).position(|window| window == id.as_bytes());
    let mut shown = body.to_vec();
    if let Some(at) = at {
        shown.drain(at..at + id.len());
    }
    shown
}

#[tokio::test(start_paused = true)]
async fn lists_show_what_the_client_may_describe_and_nothing_else() {
    let bench = bench().topic("u", 1);
    let alice = bench.asked_by(ALICE);
    let root = bench.asked_by("User:root");
    root.call(1, 2, commit_from_outside()).await;
    let names = async |bench: &Bench| -> Vec<String> {
        let metadata = bench.call(1, 9, MetadataRequest::default().with_topics(None)).await;
        metadata.topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect()
    };
    let groups = async |bench: &Bench| bench.call(1, 4, ListGroupsRequest::default()).await.groups.len();
    assert_eq!((names(&root).await, groups(&root).await), (vec!["t".to_owned(), "u".to_owned()], 1));
    assert_eq!((names(&alice).await, groups(&alice).await), (vec![], 0));
    alice.acls([
        Acl::allow(ALICE, Read, ResourcePattern::topic("u")),
        Acl::allow(ALICE, Describe, ResourcePattern::group("g")),
    ]);
    assert_eq!((names(&alice).await, groups(&alice).await), (vec!["u".to_owned()], 1));
    let all = OffsetFetchRequest::default().with_group_id(g()).with_topics(None);
    assert_eq!(root.call(1, 5, all.clone()).await.topics.len(), 1);
    assert_eq!(alice.call(1, 5, all).await.topics, [], "offsets of a topic that it may not describe");
}

#[tokio::test(start_paused = true)]
async fn responses_tell_what_the_client_may_do() {
    let bench = bench();
    let alice = bench.asked_by(ALICE);
    alice.acls([
        Acl::allow(ALICE, Read, ResourcePattern::topic("t")),
        Acl::allow(ALICE, Delete, ResourcePattern::group("g")),
    ]);
    let bits = |operations: &[AclOperation]| operations.iter().fold(0, |bits, one| bits | 1 << one.code());
    let topics = || {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(t()));
        MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true)
    };
    let told = alice.call(1, 9, topics()).await;
    assert_eq!(told.topics[0].topic_authorized_operations, bits(&[Read, Describe]));
    assert_eq!(told.cluster_authorized_operations, 0, "it may not even describe the cluster");
    let request =
        DescribeGroupsRequest::default().with_groups(vec![g()]).with_include_authorized_operations(true);
    let told = alice.call(1, 5, request).await;
    assert_eq!(told.groups[0].authorized_operations, bits(&[Delete, Describe]));
    alice.acls([Acl::allow(ALICE, Alter, ResourcePattern::cluster())]);
    let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let told = alice.call(1, 0, request).await;
    assert_eq!(told.cluster_authorized_operations, bits(&[Alter, Describe]));
    let every = bits(&[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs]);
    let told = bench.asked_by("User:root").call(1, 9, topics()).await;
    assert_eq!(told.topics[0].topic_authorized_operations, every);
}

#[tokio::test(start_paused = true)]
async fn topics_are_created_only_by_those_who_may() {
    let bench = bench();
    let alice = bench.asked_by(ALICE);
    alice.acls([Acl::allow(ALICE, Describe, ResourcePattern::topic("*"))]);
    let ask = async |name: &'static str| {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(name.into())));
        let request =
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
        ErrorCode(alice.call(1, 9, request).await.topics[0].error_code)
    };
    assert_eq!(ask("new").await, TOPIC);
    assert!(bench.shared.image().topic("new").is_none());
    alice.acls([Acl::allow(ALICE, Create, ResourcePattern::topic("ne").prefixed())]);
    assert_eq!(ask("new").await, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "it is created meanwhile");
    assert_eq!(ask("new").await, ErrorCode::NONE);
    // Whoever may not see the settings of what he creates is not shown them.
    let create = |name: &'static str| {
        let topic = create_topics_request::CreatableTopic::default().with_name(TopicName(name.into()));
        let topic = topic.with_num_partitions(1).with_replication_factor(1);
        CreateTopicsRequest::default().with_topics(vec![topic])
    };
    let made = alice.call(1, 7, create("newer")).await;
    let made = &made.topics[0];
    assert_eq!((made.error_code, ErrorCode(made.topic_config_error_code)), (0, TOPIC));
    assert_eq!((made.num_partitions, made.configs.as_deref()), (-1, Some(&[][..])));
    alice.acls([Acl::allow(ALICE, Create, ResourcePattern::cluster())]);
    assert_eq!(alice.call(1, 7, create("other")).await.topics[0].error_code, 0, "anywhere, by the cluster");
}

#[tokio::test(start_paused = true)]
async fn whoever_may_write_to_some_topic_may_do_so_idempotently() {
    let bench = bench();
    let alice = bench.asked_by(ALICE);
    let init = async || {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        ErrorCode(alice.call(1, 4, request).await.error_code)
    };
    alice.acls([Acl::allow(ALICE, Read, ResourcePattern::topic("*"))]);
    assert_eq!(init().await, CLUSTER);
    alice.acls([Acl::allow(ALICE, Write, ResourcePattern::topic("team-").prefixed())]);
    assert_eq!(init().await, ErrorCode::NONE);
    alice.acls([Acl::deny(ALICE, Write, ResourcePattern::topic("te").prefixed())]);
    assert_eq!(init().await, CLUSTER);
}

/// The whole way: SASL says who it is, the listener tells the handlers, and the builder's lists decide.
#[tokio::test(start_paused = true)]
async fn the_user_of_a_sasl_connection_is_the_principal_of_its_lists() {
    let builder = Cluster::builder().transport_memory().sasl([SaslMechanism::Plain]).topic("t", 1, 1);
    let builder = builder.user("alice", "secret").user("bob", "hidden").user("root", "toor");
    let builder =
        builder.super_user("User:root").acl(Acl::allow(ALICE, Describe, ResourcePattern::topic("t")));
    let cluster = builder.start().await.unwrap();
    for (token, expected) in [
        (&b"\0alice\0secret"[..], ErrorCode::NONE),
        (&b"\0bob\0hidden"[..], TOPIC),
        (&b"\0root\0toor"[..], ErrorCode::NONE),
    ] {
        let mut wire = Wire::to(&cluster, 1);
        let handshake = wire.call(1, SaslHandshakeRequest::default().with_mechanism("PLAIN".into())).await;
        assert_eq!(handshake.error_code, 0);
        let token = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(token));
        assert_eq!(wire.call(2, token).await.error_code, 0);
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(t()));
        let told = wire.call(9, MetadataRequest::default().with_topics(Some(vec![topic]))).await;
        assert_eq!(ErrorCode(told.topics[0].error_code), expected);
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_one_is_named_at_the_start() {
    let pattern = ResourcePattern::new(kafka_wire::acl::ResourceType::Cluster, "mine");
    let builder = Cluster::builder().transport_memory().acl(Acl::allow(ALICE, Alter, pattern));
    let error = builder.start().await.unwrap_err().to_string();
    assert!(error.starts_with("acl = Allow User:alice from * Alter on Cluster:Literal:mine: "), "{error}");
    assert!(error.contains("kafka-cluster"), "{error}");
}
