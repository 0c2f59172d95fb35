//! Administration of the bundled broker, in memory and on paused time.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use kafka_admin::{
    Admin, AlterConfigs, ConfigResource, ConfigSource, ErrorKind, GroupFilter, GroupKind, NewPartitions,
    NewTopic, OffsetSpec, Outcomes,
};
use kafka_broker::{Cluster, ClusterBuilder, on};
use kafka_client::raw::wire::produce::{PartitionRecords, Request, TopicRef};
use kafka_client::raw::wire::record_batch::{BatchWriter, batch_buffer};
use kafka_client::raw::{Lane, Route};
use kafka_client::{Api, Client, ErrorCode, IsolationLevel, Offset, OffsetAndMetadata, TopicPartition};
use tokio::time::{Instant, sleep};

async fn start(builder: ClusterBuilder) -> (Cluster, Admin, Client) {
    let cluster = builder.transport_memory().start().await.unwrap();
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector()).seed(7);
    let client = builder.connect().await.unwrap();
    (cluster, Admin::new(&client), client)
}

fn three() -> ClusterBuilder {
    Cluster::builder().brokers(3)
}

/// Appends records with these timestamps at the partition's leader.
async fn produce(client: &Client, partition: &TopicPartition, timestamps: &[i64]) {
    let mut writer = BatchWriter::new(batch_buffer(4096));
    for timestamp in timestamps {
        writer.append(*timestamp, None, Some(b"v"), &[]).unwrap();
    }
    let records = writer.finish().unwrap().freeze();
    let topic = TopicRef { name: &partition.topic, id: [0; 16] };
    let partitions = [PartitionRecords { topic, index: partition.partition, records }];
    let request = Request { transactional_id: None, acks: -1, timeout_ms: 1000, partitions: &partitions };
    let deadline = Instant::now() + Duration::from_secs(5);
    let node = client.resolve(&Route::Leader(partition.clone()), deadline).await.unwrap();
    let owner = client.owner();
    let connection = client.connection(node, Lane::Produce, &owner).await.unwrap();
    let body = request.encode(9, &mut BytesMut::new()).unwrap();
    connection.call(connection.request(Api::Produce, 9, body)).await.unwrap();
}

fn code<K, T>(outcomes: &Outcomes<K, T>, index: usize) -> Option<ErrorCode> {
    outcomes[index].1.as_ref().err().map(|error| error.error_code().unwrap())
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn count(cluster: &Cluster, api: Api) -> usize {
    cluster.requests().iter().filter(|request| request.api == api).count()
}

#[tokio::test(start_paused = true)]
async fn topics_live_from_creation_to_deletion_each_with_its_own_result() {
    let (_cluster, admin, _client) = start(three().topic("old", 1, 1)).await;
    let created = admin
        .create_topics([
            NewTopic::new("orders").partitions(6).replication(3).config("retention.ms", "1000"),
            NewTopic::new("old").partitions(1).replication(1),
            NewTopic::new("no/such name").partitions(1).replication(1),
            NewTopic::new("placed").assign([2, 1]).assign([1, 2]),
            NewTopic::new("defaults"),
        ])
        .await
        .unwrap();
    let names: Vec<&str> = created.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["orders", "old", "no/such name", "placed", "defaults"]);
    let made = created[0].1.as_ref().unwrap();
    assert_eq!((made.partitions, made.replication), (Some(6), Some(3)));
    let retention = made.configs.iter().find(|entry| entry.name == "retention.ms").unwrap();
    assert_eq!(retention.value.as_deref(), Some("1000"));
    assert_eq!(code(&created, 1), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert_eq!(code(&created, 2), Some(ErrorCode::INVALID_TOPIC_EXCEPTION));
    assert!(created[3].1.is_ok() && created[4].1.is_ok());

    let listed = admin.list_topics().await.unwrap();
    let listed: Vec<&str> = listed.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(listed, ["defaults", "old", "orders", "placed"]);

    let described = admin.describe_topics(["placed", "absent", "orders"]).await.unwrap();
    let placed = described[0].1.as_ref().unwrap();
    assert_eq!(placed.partitions[0].replicas, [2, 1]);
    assert_eq!(placed.partitions[1].leader, Some(1));
    assert_eq!(code(&described, 1), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(described[2].1.as_ref().unwrap().id, made.id);

    let grown = admin
        .create_partitions([
            NewPartitions::to("orders", 8),
            NewPartitions::to("old", 1),
            NewPartitions::to("absent", 2),
        ])
        .await
        .unwrap();
    assert!(grown[0].1.is_ok());
    assert_eq!(code(&grown, 1), Some(ErrorCode::INVALID_PARTITIONS));
    assert_eq!(code(&grown, 2), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let described = admin.describe_topics(["orders"]).await.unwrap();
    assert_eq!(described[0].1.as_ref().unwrap().partitions.len(), 8);

    let deleted = admin.delete_topics(["orders", "absent"]).await.unwrap();
    assert!(deleted[0].1.is_ok());
    assert_eq!(code(&deleted, 1), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let listed = admin.list_topics().await.unwrap();
    assert!(listed.iter().all(|topic| topic.name != "orders"));
}

#[tokio::test(start_paused = true)]
async fn validation_creates_nothing_and_finds_what_creation_would() {
    let (_cluster, admin, _client) = start(three()).await;
    let topics =
        || [NewTopic::new("fine").partitions(2).replication(2), NewTopic::new("wide").replication(9)];
    let checked = admin.validate_topics(topics()).await.unwrap();
    assert!(checked[0].1.is_ok());
    assert_eq!(code(&checked, 1), Some(ErrorCode::INVALID_REPLICATION_FACTOR));
    assert!(admin.list_topics().await.unwrap().is_empty());
    let error = admin.create_topics(topics()).await.unwrap().remove(1).1.unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("CreateTopics"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_has_moved_is_asked_again_and_one_answer_is_given() {
    let (cluster, admin, _client) = start(three()).await;
    let moved = cluster.fault(on(Api::CreateTopics).nth(1)).error(ErrorCode::NOT_CONTROLLER);
    let created = admin.create_topics([NewTopic::new("t").partitions(1).replication(1)]).await.unwrap();
    moved.assert_fired();
    assert_eq!(created.len(), 1);
    assert!(created[0].1.is_ok(), "{created:?}");
    assert_eq!(count(&cluster, Api::CreateTopics), 2);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_says_it_is_none_is_looked_for_before_the_next_attempt() {
    let (cluster, admin, _client) = start(three()).await;
    let moved = cluster.fault(on(Api::CreateTopics).times(3)).error(ErrorCode::NOT_CONTROLLER);
    let created = admin.create_topics([NewTopic::new("t").partitions(1).replication(1)]).await.unwrap();
    assert!(created[0].1.is_ok(), "{created:?}");
    assert_eq!(moved.fired(), 3);
    let requests = cluster.requests();
    let apis: Vec<Api> = requests.iter().map(|request| request.api).collect();
    let creations: Vec<usize> = (0..apis.len()).filter(|at| apis[*at] == Api::CreateTopics).collect();
    for pair in creations.windows(2) {
        assert!(apis[pair[0]..pair[1]].contains(&Api::Metadata), "{apis:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_creation_is_asked_for_again() {
    let (cluster, admin, _client) = start(three()).await;
    let lost = cluster.fault(on(Api::CreateTopics).nth(1)).after_effect().close();
    let created = admin.create_topics([NewTopic::new("t").partitions(1).replication(1)]).await.unwrap();
    lost.assert_fired();
    assert_eq!(code(&created, 0), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert_eq!(admin.list_topics().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn configurations_are_described_and_altered_where_they_belong() {
    let (cluster, admin, _client) = start(three().topic("orders", 1, 1)).await;
    let topic = ConfigResource::topic("orders");
    let changes = AlterConfigs::of(topic.clone())
        .set("retention.ms", "5000")
        .append("cleanup.policy", "compact")
        .delete("segment.bytes");
    let checked = admin.validate_configs([changes.clone()]).await.unwrap();
    assert!(checked[0].1.is_ok(), "{checked:?}");
    let get = async |name: &str| {
        let described = admin.describe_configs([topic.clone()]).await.unwrap().remove(0).1.unwrap();
        described.entry(name).unwrap().clone()
    };
    assert_eq!(get("retention.ms").await.source, ConfigSource::Default);
    let altered = admin
        .alter_configs([changes, AlterConfigs::of(ConfigResource::topic("absent")).set("retention.ms", "1")])
        .await
        .unwrap();
    assert!(altered[0].1.is_ok(), "{altered:?}");
    assert_eq!(code(&altered, 1), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let retention = get("retention.ms").await;
    assert_eq!((retention.value.as_deref(), retention.source), (Some("5000"), ConfigSource::Topic));
    assert_eq!(get("cleanup.policy").await.value.as_deref(), Some("delete,compact"));
    let bad =
        admin.alter_configs([AlterConfigs::of(topic.clone()).set("retention.ms", "soon")]).await.unwrap();
    assert_eq!(code(&bad, 0), Some(ErrorCode::INVALID_CONFIG));

    // What is one broker's is asked of that broker.
    let before = cluster.requests().len();
    let described =
        admin.describe_configs([ConfigResource::Broker(2), ConfigResource::Broker(3)]).await.unwrap();
    assert!(described.iter().all(|(_, outcome)| !outcome.as_ref().unwrap().entries.is_empty()));
    let mut asked: Vec<i32> = cluster.requests()[before..]
        .iter()
        .filter(|request| request.api == Api::DescribeConfigs)
        .map(|request| request.broker)
        .collect();
    asked.sort_unstable();
    assert_eq!(asked, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_describes_itself() {
    let (_cluster, admin, _client) = start(three().racks(["a", "b", "c"])).await;
    let described = admin.describe_cluster().await.unwrap();
    let brokers: Vec<_> =
        described.brokers.iter().map(|broker| (broker.id, broker.rack.as_deref())).collect();
    assert_eq!(brokers, [(1, Some("a")), (2, Some("b")), (3, Some("c"))]);
    assert!(described.id.is_some());
    assert!(described.controller.is_some());
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_described_and_deleted_with_their_offsets() {
    let (cluster, admin, _client) = start(three().topic("orders", 3, 1)).await;
    let set = admin
        .alter_group_offsets(
            "billing",
            [
                (orders(0), OffsetAndMetadata::new(5).with_metadata("five").with_leader_epoch(0)),
                (orders(2), OffsetAndMetadata::new(7)),
            ],
        )
        .await
        .unwrap();
    assert!(set.iter().all(|(_, outcome)| outcome.is_ok()), "{set:?}");
    for group in ["a", "b", "c", "d"] {
        admin.alter_group_offsets(group, [(orders(0), 1.into())]).await.unwrap().remove(0).1.unwrap();
    }

    let listed = admin.list_groups(GroupFilter::new()).await.unwrap();
    let ids: Vec<&str> = listed.groups.iter().map(|group| group.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "billing", "c", "d"]);
    assert!(listed.failures.is_empty());
    let stable = admin.list_groups(GroupFilter::new().state("Stable")).await.unwrap();
    assert!(stable.groups.is_empty());

    let described = admin.describe_groups(["billing", "a", "b", "c", "d"]).await.unwrap();
    let names: Vec<&str> = described.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["billing", "a", "b", "c", "d"]);
    let billing = described[0].1.as_ref().unwrap();
    assert_eq!((billing.state.as_str(), &billing.kind), ("Empty", &GroupKind::Classic));
    assert!(billing.members.is_empty());

    cluster.move_coordinator("billing", billing.coordinator % 3 + 1).unwrap();
    let offsets = admin.list_group_offsets("billing").await.unwrap();
    assert_eq!(offsets.keys().cloned().collect::<Vec<_>>(), [orders(0), orders(2)]);
    let first = offsets[&orders(0)].as_ref().unwrap();
    assert_eq!((first.offset, first.metadata.as_str(), first.leader_epoch), (5, "five", Some(0)));
    let some = admin.list_group_offsets_of("billing", [orders(1), orders(2)]).await.unwrap();
    assert_eq!(some.len(), 1);
    assert_eq!(some[&orders(2)].as_ref().unwrap().offset, 7);

    cluster.move_coordinator("billing", billing.coordinator).unwrap();
    let deleted = admin.delete_group_offsets("billing", [orders(2)]).await.unwrap();
    assert!(deleted[0].1.is_ok(), "{deleted:?}");
    assert_eq!(admin.list_group_offsets("billing").await.unwrap().len(), 1);

    let deleted = admin.delete_groups(["billing", "absent", "d"]).await.unwrap();
    assert!(deleted[0].1.is_ok() && deleted[2].1.is_ok(), "{deleted:?}");
    assert_eq!(code(&deleted, 1), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(admin.list_groups(GroupFilter::new()).await.unwrap().groups.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_costs_only_its_groups() {
    let (cluster, admin, _client) = start(three().topic("orders", 1, 1)).await;
    for group in ["a", "b", "c"] {
        admin.alter_group_offsets(group, [(orders(0), 1.into())]).await.unwrap().remove(0).1.unwrap();
    }
    cluster.move_coordinator("a", 1).unwrap();
    let hung = cluster.fault(on(Api::ListGroups).broker(2)).hang();
    let admin = admin.timeout(Duration::from_secs(5));
    let listed = admin.list_groups(GroupFilter::new()).await.unwrap();
    hung.assert_fired();
    assert_eq!(listed.failures.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [2]);
    assert!(listed.groups.iter().any(|group| group.id == "a"));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_by_place_and_by_time_at_each_leader() {
    let (cluster, admin, client) = start(three().topic("orders", 6, 3)).await;
    for partition in 0..6 {
        produce(&client, &orders(partition), &[1000, 3000, 2000]).await;
    }
    let latest = admin.list_offsets((0..6).map(|id| (orders(id), OffsetSpec::Latest))).await.unwrap();
    assert!(latest.iter().all(|(_, found)| found.as_ref().unwrap().offset == Some(3)), "{latest:?}");
    let places = [
        OffsetSpec::Earliest,
        OffsetSpec::Timestamp(1500),
        OffsetSpec::MaxTimestamp,
        OffsetSpec::Timestamp(9000),
        OffsetSpec::Latest,
    ];
    let found = admin
        .list_offsets_at(places.map(|place| (orders(0), place)), IsolationLevel::ReadCommitted)
        .await
        .unwrap();
    let offsets: Vec<Option<i64>> = found.iter().map(|(_, found)| found.as_ref().unwrap().offset).collect();
    assert_eq!(offsets, [Some(0), Some(1), Some(1), None, Some(3)]);
    assert_eq!(found[1].1.as_ref().unwrap().timestamp, Some(3000));
    let before_all_time = admin.list_offsets([(orders(0), OffsetSpec::Timestamp(-3))]).await.unwrap();
    assert!(matches!(before_all_time[0].1.as_ref().unwrap_err().kind(), ErrorKind::Config { .. }));

    // The leader moves behind the client's back.
    let _tracked = client.refresher().track(["orders"], false);
    let topic =
        client.refresher().topic("orders", false, Instant::now() + Duration::from_secs(5)).await.unwrap();
    for partition in topic.partitions() {
        cluster.move_leader("orders", partition.id, partition.leader.unwrap() % 3 + 1).unwrap();
    }
    let before = count(&cluster, Api::ListOffsets);
    let latest = admin.list_offsets((0..6).map(|id| (orders(id), OffsetSpec::Latest))).await.unwrap();
    assert!(latest.iter().all(|(_, found)| found.as_ref().unwrap().offset == Some(3)), "{latest:?}");
    assert_eq!(count(&cluster, Api::ListOffsets) - before, 6);
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_up_to_an_offset_and_the_first_left_is_told() {
    let (cluster, admin, client) = start(three().topic("orders", 3, 3)).await;
    for partition in 0..3 {
        produce(&client, &orders(partition), &[1, 2, 3, 4]).await;
    }
    cluster.move_leader("orders", 1, 3).unwrap();
    let deleted = admin
        .delete_records([
            (orders(0), Offset::At(3)),
            (orders(1), Offset::Latest),
            (orders(2), Offset::At(9)),
            (orders(9), Offset::At(0)),
            (TopicPartition::new("orders", 7), Offset::Timestamp(1)),
        ])
        .await
        .unwrap();
    assert_eq!(deleted[0].1.as_ref().unwrap(), &3);
    assert_eq!(deleted[1].1.as_ref().unwrap(), &4);
    assert_eq!(code(&deleted, 2), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(code(&deleted, 3), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(matches!(deleted[4].1.as_ref().unwrap_err().kind(), ErrorKind::Config { .. }));
    // On the wire -1 stands for all records, which nobody who computed an offset means.
    let negative = admin.delete_records([(orders(2), Offset::At(-1))]).await.unwrap();
    let error = negative[0].1.as_ref().unwrap_err().to_string();
    assert_eq!(error, r#"offset = "At(-1)": give an offset from 0 on, or Offset::Latest for all records"#);
    let earliest = admin.list_offsets([(orders(0), OffsetSpec::Earliest)]).await.unwrap();
    assert_eq!(earliest[0].1.as_ref().unwrap().offset, Some(3));
}

#[tokio::test(start_paused = true)]
async fn only_the_partition_that_failed_is_asked_for_again() {
    let (cluster, admin, _client) = start(three().topic("orders", 3, 3)).await;
    for partition in 0..3 {
        cluster.move_leader("orders", partition, partition + 1).unwrap();
    }
    let places = || (0..3).map(|id| (orders(id), OffsetSpec::Latest));
    admin.list_offsets(places()).await.unwrap();
    let before = count(&cluster, Api::ListOffsets);
    assert_eq!(before, 3);
    let refused =
        cluster.fault(on(Api::ListOffsets).partition(1).times(2)).error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let found = admin.list_offsets(places()).await.unwrap();
    assert_eq!(refused.fired(), 2);
    assert!(found.iter().all(|(_, found)| found.is_ok()), "{found:?}");
    assert_eq!(count(&cluster, Api::ListOffsets) - before, 5);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_does_not_know_is_waited_for_a_few_seconds() {
    let (_cluster, admin, _client) = start(three().topic("orders", 3, 1)).await;
    let places = [orders(0), orders(3), TopicPartition::new("absent", 0)];
    let begun = Instant::now();
    let found = admin.list_offsets(places.map(|partition| (partition, OffsetSpec::Latest))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(found[0].1.is_ok());
    assert_eq!(code(&found, 1), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let unknown = found[2].1.as_ref().unwrap_err();
    assert!(matches!(unknown.kind(), ErrorKind::UnknownTopic(_)), "{unknown:?}");

    let waiting = tokio::spawn({
        let admin = admin.clone();
        async move { admin.list_offsets([(TopicPartition::new("soon", 0), OffsetSpec::Latest)]).await }
    });
    sleep(Duration::from_secs(1)).await;
    admin.create_topics([NewTopic::new("soon").partitions(1).replication(1)]).await.unwrap();
    assert!(waiting.await.unwrap().unwrap()[0].1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_operation_ends_at_its_deadline_and_tells_why() {
    let (cluster, admin, _client) = start(three()).await;
    let _refused = cluster.fault(on(Api::CreateTopics)).error(ErrorCode::NOT_CONTROLLER);
    let begun = Instant::now();
    let admin = admin.timeout(Duration::from_secs(3));
    let created = admin.create_topics([NewTopic::new("t").partitions(1).replication(1)]).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(code(&created, 0), Some(ErrorCode::NOT_CONTROLLER));

    let _hung = cluster.fault(on(Api::DeleteTopics)).hang();
    let error = admin.delete_topics(["t"]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("DeleteTopics"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_take_for_ever() {
    let (_cluster, admin, _client) = start(three()).await;
    let admin = admin.timeout(Duration::MAX);
    assert_eq!(admin.describe_cluster().await.unwrap().brokers.len(), 3);
    let found = admin.list_offsets([(orders(0), OffsetSpec::Latest)]).await.unwrap();
    assert!(matches!(found[0].1.as_ref().unwrap_err().kind(), ErrorKind::UnknownTopic(_)), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_asked_for_is_nothing_sent() {
    let (cluster, admin, _client) = start(three()).await;
    let before = cluster.requests().len();
    assert!(admin.create_topics([]).await.unwrap().is_empty());
    assert!(admin.delete_topics([""; 0]).await.unwrap().is_empty());
    assert!(admin.describe_configs([]).await.unwrap().is_empty());
    assert!(admin.list_offsets([]).await.unwrap().is_empty());
    assert!(admin.describe_groups([""; 0]).await.unwrap().is_empty());
    assert!(admin.delete_records([]).await.unwrap().is_empty());
    assert_eq!(cluster.requests().len(), before);
}

/// Polls a future so many times, letting everything else run in between, and drops it; says whether it was done.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn an_operation_dropped_at_any_point_harms_no_other() {
    let (cluster, admin, _client) = start(three().topic("orders", 3, 3)).await;
    let places = || (0..3).map(|id| (orders(id), OffsetSpec::Latest));
    let mut was_done = false;
    for polls in 0..200 {
        was_done = drop_after(polls, admin.list_offsets(places())).await;
        drop_after(polls, admin.alter_group_offsets("g", [(orders(0), 1.into())])).await;
        drop_after(polls, admin.describe_groups(["g", "h"])).await;
        drop_after(polls, admin.create_partitions([NewPartitions::to("orders", 3)])).await;
        if polls % 10 == 0 {
            let found = admin.list_offsets(places()).await.unwrap();
            assert!(found.iter().all(|(_, found)| found.is_ok()), "after {polls} polls: {found:?}");
        }
    }
    assert!(was_done, "the longest runs have to reach the end");
    // One connection to each broker, and one to the bootstrap address.
    let connections: HashSet<(i32, u64)> =
        cluster.requests().iter().map(|request| (request.broker, request.connection)).collect();
    assert!(connections.len() <= 4, "{connections:?}");
}

/// Users spawn operations on a runtime with several threads.
#[tokio::test]
async fn every_operation_can_be_spawned() {
    fn is_send<T: Send>(future: T) {
        drop(future);
    }
    let client = Client::builder("localhost:9092").build().unwrap();
    let admin = &Admin::new(&client);
    is_send(admin.create_topics([NewTopic::new("t")]));
    is_send(admin.validate_topics([NewTopic::new("t")]));
    is_send(admin.delete_topics(["t"]));
    is_send(admin.list_topics());
    is_send(admin.describe_topics(["t"]));
    is_send(admin.create_partitions([NewPartitions::to("t", 2)]));
    is_send(admin.describe_configs([ConfigResource::topic("t")]));
    is_send(admin.alter_configs([AlterConfigs::of(ConfigResource::topic("t"))]));
    is_send(admin.validate_configs([AlterConfigs::of(ConfigResource::topic("t"))]));
    is_send(admin.list_groups(GroupFilter::new()));
    is_send(admin.describe_groups(["g"]));
    is_send(admin.delete_groups(["g"]));
    is_send(admin.list_group_offsets("g"));
    is_send(admin.list_group_offsets_of("g", [orders(0)]));
    is_send(admin.alter_group_offsets("g", [(orders(0), 1.into())]));
    is_send(admin.delete_group_offsets("g", [orders(0)]));
    is_send(admin.describe_cluster());
    is_send(admin.list_offsets([(orders(0), OffsetSpec::Latest)]));
    is_send(admin.delete_records([(orders(0), Offset::Latest)]));
}
