//! Administration, item by item.

use std::time::Duration;

use e2e::{Outcome, Target, partitions, produce_to, read, same, unique};
use kafka_admin::{Admin, AlterConfigs, ConfigResource, GroupFilter, NewPartitions, NewTopic, OffsetSpec};
use kafka_client::{Offset, OffsetAndMetadata};
use kafka_consumer::Consumer;
use kafka_producer::Producer;

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_listed_described_grown_and_deleted() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let admin = Admin::new(&client);
    let (one, two) = (unique("one"), unique("two"));
    for (_, outcome) in admin.create_topics([NewTopic::new(&one).partitions(2), NewTopic::new(&two)]).await? {
        outcome?;
    }
    let again = admin.create_topics([NewTopic::new(&one), NewTopic::new("not a name!")]).await?;
    let codes: Vec<_> =
        again.iter().map(|(_, o)| o.as_ref().err().and_then(|e| e.error_code()).map(|c| c.name())).collect();
    same("each its own code", codes, vec![Some("TOPIC_ALREADY_EXISTS"), Some("INVALID_TOPIC_EXCEPTION")])?;

    let listed = admin.list_topics().await?;
    same("listed", [&one, &two].iter().all(|name| listed.iter().any(|t| t.name == ***name)), true)?;
    for (_, outcome) in admin.create_partitions([NewPartitions::to(&one, 5)]).await? {
        outcome?;
    }
    e2e::eventually("five partitions", || async {
        let described = admin.describe_topics([&one]).await.ok()?;
        described.into_iter().next().and_then(|(_, t)| t.ok()).filter(|t| t.partitions.len() == 5).map(drop)
    })
    .await?;
    let unknown = admin.describe_topics([unique("nobody")]).await?;
    same("unknown", unknown.into_iter().next().is_some_and(|(_, t)| t.is_err()), true)?;
    for (_, outcome) in admin.delete_topics([&one, &two]).await? {
        outcome?;
    }
    e2e::eventually("both gone", || async {
        let listed = admin.list_topics().await.ok()?;
        (!listed.iter().any(|t| t.name == one || t.name == two)).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_read_and_changed() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let admin = Admin::new(&client);
    let topic = target.topic_with(&client, |t| t.partitions(1).config("retention.ms", "1000")).await?;
    let resource = || ConfigResource::topic(&topic);
    let value = |name: &'static str| {
        let admin = admin.clone();
        let resource = resource();
        async move {
            let described = admin.describe_configs([resource]).await?;
            let (_, config) = described.into_iter().next().ok_or("no answer")?;
            Outcome::<Option<String>>::Ok(config?.get(name).map(str::to_owned))
        }
    };
    same("given at creation", value("retention.ms").await?, Some("1000".to_owned()))?;
    same("a default", value("cleanup.policy").await?, Some("delete".to_owned()))?;
    let change =
        AlterConfigs::of(resource()).set("max.message.bytes", "2000").append("cleanup.policy", "compact");
    for (_, outcome) in admin.alter_configs([change]).await? {
        outcome?;
    }
    e2e::eventually("the changes", || async {
        let policy = value("cleanup.policy").await.ok()?;
        (value("max.message.bytes").await.ok()? == Some("2000".to_owned())
            && policy == Some("delete,compact".to_owned()))
        .then_some(())
    })
    .await?;
    let bad = admin.alter_configs([AlterConfigs::of(resource()).set("retention.ms", "soon")]).await?;
    let code =
        bad.into_iter().next().and_then(|(_, o)| o.err()).and_then(|e| e.error_code()).map(|c| c.name());
    same("a bad value", code, Some("INVALID_CONFIG"))
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_their_offsets_are_seen_and_changed() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let admin = Admin::new(&client);
    let topic = target.topic(&client, 2).await?;
    let group = unique("group");
    produce_to(&Producer::new(&client).await?, &topic, 0, (0..10).map(|n| n.to_string())).await?;
    let mut consumer = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .build()
        .await?;
    read(&mut consumer, 10).await?;
    consumer.commit().await?;

    let listed = admin.list_groups(GroupFilter::new()).await?;
    same("listed", listed.groups.iter().any(|g| g.id == group), true)?;
    let (_, described) = admin.describe_groups([&group]).await?.into_iter().next().ok_or("no answer")?;
    let described = described?;
    same("state", described.state.as_str(), "Stable")?;
    let mut assigned = described.members[0].assignment.clone();
    assigned.sort();
    same("assignment", assigned, partitions(&topic, 2))?;

    let refused = admin.delete_groups([&group]).await?.into_iter().next().and_then(|(_, o)| o.err());
    same("with members", refused.and_then(|e| e.error_code()).map(|c| c.name()), Some("NON_EMPTY_GROUP"))?;
    consumer.close(Duration::from_secs(20)).await?;

    let first = partitions(&topic, 2)[0].clone();
    let offsets = admin.list_group_offsets(&group).await?;
    same("committed", offsets[&first].as_ref().map(|o| o.offset).ok(), Some(10))?;
    for (_, outcome) in
        admin.alter_group_offsets(&group, [(first.clone(), OffsetAndMetadata::new(4))]).await?
    {
        outcome?;
    }
    let offsets = admin.list_group_offsets(&group).await?;
    same("altered", offsets[&first].as_ref().map(|o| o.offset).ok(), Some(4))?;
    for (_, outcome) in admin.delete_group_offsets(&group, [first.clone()]).await? {
        outcome?;
    }
    same("deleted", admin.list_group_offsets(&group).await?.contains_key(&first), false)?;
    for (_, outcome) in admin.delete_groups([&group]).await? {
        outcome?;
    }
    let listed = admin.list_groups(GroupFilter::new()).await?;
    same("gone", listed.groups.iter().any(|g| g.id == group), false)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_and_records_deleted() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let admin = Admin::new(&client);
    let topic = target.topic(&client, 1).await?;
    let partition = partitions(&topic, 1)[0].clone();
    produce_to(&Producer::new(&client).await?, &topic, 0, (0..10).map(|n| n.to_string())).await?;
    let offset = |spec| {
        let (admin, partition) = (admin.clone(), partition.clone());
        async move {
            let listed = admin.list_offsets([(partition, spec)]).await?;
            let (_, listed) = listed.into_iter().next().ok_or("no answer")?;
            Outcome::<Option<i64>>::Ok(listed?.offset)
        }
    };
    same("latest", offset(OffsetSpec::Latest).await?, Some(10))?;
    for (_, low) in admin.delete_records([(partition.clone(), Offset::At(6))]).await? {
        same("low watermark", low?, 6)?;
    }
    same("earliest", offset(OffsetSpec::Earliest).await?, Some(6))?;
    for (_, low) in admin.delete_records([(partition.clone(), Offset::At(99))]).await? {
        same(
            "behind the end",
            low.err().and_then(|e| e.error_code()).map(|c| c.name()),
            Some("OFFSET_OUT_OF_RANGE"),
        )?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let cluster = Admin::new(&client).describe_cluster().await?;
    same("as many brokers as addresses", cluster.brokers.len() >= target.bootstrap.split(',').count(), true)?;
    same(
        "the controller is one of them",
        cluster.controller.is_some_and(|c| cluster.brokers.iter().any(|b| b.id == c)),
        true,
    )
}
