//! Every operation on whatever cluster there is: the one that `KAFKA_BOOTSTRAP` names, or else the bundled broker.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]

use std::time::Duration;

use kafka_admin::{
    Admin, AlterConfigs, ConfigResource, ConfigSource, GroupFilter, GroupKind, NewPartitions, NewTopic,
    OffsetSpec,
};
use kafka_broker::Cluster;
use kafka_client::{Client, ErrorCode, Offset, OffsetAndMetadata, TopicPartition};
use tokio::time::{Instant, sleep};

/// The cluster, kept alive if it is our own, and an admin of it.
async fn cluster() -> (Option<Cluster>, Admin) {
    let (cluster, bootstrap) = match std::env::var("KAFKA_BOOTSTRAP") {
        Ok(bootstrap) => (None, bootstrap),
        Err(_) => {
            let cluster = Cluster::builder().brokers(3).start().await.unwrap();
            let bootstrap = cluster.bootstrap();
            (Some(cluster), bootstrap)
        }
    };
    (cluster, Admin::new(&Client::connect(bootstrap).await.unwrap()))
}

/// A name that no other run uses.
fn unique(name: &str) -> String {
    format!("{name}-{:016x}", fastrand::u64(..))
}

/// Asks until the answer is as wanted: a real cluster spreads its metadata in its own time.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn code<T>(outcome: &kafka_admin::Result<T>) -> Option<ErrorCode> {
    outcome.as_ref().err().map(|error| error.error_code().unwrap())
}

#[tokio::test]
async fn topics_configurations_and_records() {
    let (_cluster, admin) = cluster().await;
    let name = unique("topics");
    let brokers = i16::try_from(admin.describe_cluster().await.unwrap().brokers.len()).unwrap();
    let topic =
        NewTopic::new(&name).partitions(2).replication(brokers.min(3)).config("retention.ms", "86400000");
    let checked = admin.validate_topics([topic.clone()]).await.unwrap();
    assert!(checked[0].1.is_ok(), "{checked:?}");
    let created = admin.create_topics([topic.clone(), NewTopic::new("no such/name")]).await.unwrap();
    let made = created[0].1.as_ref().unwrap();
    assert_eq!((made.partitions, made.replication), (Some(2), Some(brokers.min(3))));
    assert_eq!(code(&created[1].1), Some(ErrorCode::INVALID_TOPIC_EXCEPTION));
    let again = admin.create_topics([topic]).await.unwrap();
    assert_eq!(code(&again[0].1), Some(ErrorCode::TOPIC_ALREADY_EXISTS));

    let grown = admin.create_partitions([NewPartitions::to(&name, 3)]).await.unwrap();
    assert!(grown[0].1.is_ok(), "{grown:?}");
    let described = eventually("three partitions with leaders", async || {
        let described = admin.describe_topics([&name]).await.unwrap().remove(0).1.ok()?;
        let led = described.partitions.iter().filter(|partition| partition.leader.is_some()).count();
        (led == 3).then_some(described)
    })
    .await;
    assert_eq!(described.id, made.id);
    assert!(admin.list_topics().await.unwrap().iter().any(|topic| topic.name == name && topic.id == made.id));

    let resource = ConfigResource::topic(&name);
    let changes =
        AlterConfigs::of(resource.clone()).set("retention.ms", "3600000").append("cleanup.policy", "compact");
    let altered = admin.alter_configs([changes]).await.unwrap();
    assert!(altered[0].1.is_ok(), "{altered:?}");
    eventually("the new retention", async || {
        let config = admin.describe_configs([resource.clone()]).await.unwrap().remove(0).1.unwrap();
        let retention = config.entry("retention.ms").unwrap();
        (retention.source == ConfigSource::Topic && config.get("retention.ms") == Some("3600000"))
            .then_some(())
    })
    .await;
    let node = described.partitions[0].leader.unwrap();
    let of_broker =
        admin.describe_configs([ConfigResource::Broker(node)]).await.unwrap().remove(0).1.unwrap();
    assert!(of_broker.entry("num.partitions").is_some());

    let partition = TopicPartition::new(name.as_str(), 2);
    for place in [OffsetSpec::Earliest, OffsetSpec::Latest] {
        let found = admin.list_offsets([(partition.clone(), place)]).await.unwrap();
        assert_eq!(found[0].1.as_ref().unwrap().offset, Some(0));
    }
    for place in [OffsetSpec::Timestamp(1), OffsetSpec::MaxTimestamp] {
        let found = admin.list_offsets([(partition.clone(), place)]).await.unwrap();
        assert_eq!(found[0].1.as_ref().unwrap().offset, None, "{place:?}");
    }
    let deleted = admin.delete_records([(partition.clone(), Offset::Latest)]).await.unwrap();
    assert_eq!(code(&deleted[0].1), None);

    let gone = admin.delete_topics([&name]).await.unwrap();
    assert!(gone[0].1.is_ok(), "{gone:?}");
    eventually("a topic that is gone", async || {
        let described = admin.describe_topics([&name]).await.unwrap().remove(0).1;
        (code(&described) == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn groups_and_their_offsets() {
    let (_cluster, admin) = cluster().await;
    let (topic, group) = (unique("groups"), unique("group"));
    let created = admin.create_topics([NewTopic::new(&topic).partitions(3).replication(1)]).await.unwrap();
    assert!(created[0].1.is_ok(), "{created:?}");
    let partition = |id| TopicPartition::new(topic.as_str(), id);
    let offsets =
        || [(partition(0), OffsetAndMetadata::new(5).with_metadata("five")), (partition(2), 7.into())];
    eventually("offsets that are set", async || {
        let set = admin.alter_group_offsets(&group, offsets()).await.unwrap();
        set.iter().all(|(_, outcome)| outcome.is_ok()).then_some(())
    })
    .await;
    let listed = admin.list_group_offsets(&group).await.unwrap();
    assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), [partition(0), partition(2)]);
    assert_eq!(listed[&partition(0)].as_ref().unwrap().metadata, "five");
    let some = admin.list_group_offsets_of(&group, [partition(1), partition(2)]).await.unwrap();
    assert_eq!(some.into_values().map(|offset| offset.unwrap().offset).collect::<Vec<_>>(), [7]);

    let all = admin.list_groups(GroupFilter::new()).await.unwrap();
    assert!(all.failures.is_empty(), "{all:?}");
    let listing = all.groups.iter().find(|listing| listing.id == group).unwrap();
    assert_eq!(listing.state.as_deref(), Some("Empty"));
    let empty = admin.list_groups(GroupFilter::new().state("Empty").kind(GroupKind::Classic)).await.unwrap();
    assert!(empty.groups.iter().any(|listing| listing.id == group));
    let described = admin.describe_groups([&group]).await.unwrap().remove(0).1.unwrap();
    assert_eq!((described.state.as_str(), described.kind), ("Empty", GroupKind::Classic));

    let deleted = admin.delete_group_offsets(&group, [partition(2)]).await.unwrap();
    assert!(deleted[0].1.is_ok(), "{deleted:?}");
    assert_eq!(admin.list_group_offsets(&group).await.unwrap().len(), 1);
    let gone = admin.delete_groups([&group]).await.unwrap();
    assert!(gone[0].1.is_ok(), "{gone:?}");
    let again = admin.delete_groups([&group]).await.unwrap();
    assert_eq!(code(&again[0].1), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    admin.delete_topics([&topic]).await.unwrap().remove(0).1.unwrap();
}
