//! Faults that only the bundled brokers can be asked for: nothing is lost, nothing is written twice, order is kept.

use std::time::Duration;

use e2e::{Outcome, Target, eventually, produce_to, read, read_all, same, skipped, text, unique, within};
use kafka_broker::{Cluster, on};
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Fate, Producer, ProducerRecord};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;

async fn three_brokers(test: &str) -> Outcome<Option<(Target, Client)>> {
    if skipped(test, "faults") {
        return Ok(None);
    }
    let target = Target::start().await?;
    let client = target.client().await?;
    Ok(Some((target, client)))
}

fn cluster(target: &Target) -> Outcome<&Cluster> {
    target.bundled.as_ref().ok_or_else(|| "a bundled cluster".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_does_not_write_twice() -> Outcome {
    let Some((target, client)) = three_brokers("a_lost_answer_does_not_write_twice").await? else {
        return Ok(());
    };
    let topic = target.topic(&client, 1).await?;
    let lost = cluster(&target)?.fault(on(Api::Produce).topic(&topic).nth(1)).after_effect().close();
    Producer::new(&client).await?.send(ProducerRecord::to(&topic).value("once")).await?;
    lost.assert_fired();
    same("values", read_all(&client, &topic, 1).await?.remove(&0), Some(vec!["once".to_owned()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_refused_at_a_saturated_start_costs_neither_order_nor_records() -> Outcome {
    for code in [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION] {
        let Some((target, client)) = three_brokers("a_first_batch_refused_at_a_saturated_start").await?
        else {
            return Ok(());
        };
        let topic = target.topic(&client, 3).await?;
        let faults: Vec<_> = (0..3)
            .map(|p| {
                Ok(cluster(&target)?.fault(on(Api::Produce).topic(&topic).partition(p).nth(1)).error(code))
            })
            .collect::<Outcome<_>>()?;
        let producer = Producer::builder(&client).batch_size(256).build().await?;
        let all = (0..3).map(|p| produce_to(&producer, &topic, p, (0..1000).map(|n| n.to_string())));
        futures::future::try_join_all(all).await?;
        faults.iter().for_each(|fault| fault.assert_fired());
        let values = read_all(&client, &topic, 3).await?;
        let expected: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
        for partition in 0..3 {
            same(&format!("{code}"), values[&partition] == expected, true)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_the_stop_of_their_leader() -> Outcome {
    let Some((target, client)) = three_brokers("records_survive_the_stop_of_their_leader").await? else {
        return Ok(());
    };
    let topic = target.topic_with(&client, |t| t.partitions(3).replication(3)).await?;
    let producer = Producer::new(&client).await?;
    for round in 0..3 {
        cluster(&target)?.stop_broker(round + 1).await?;
        for partition in 0..3 {
            let values = (0..50).map(|n| format!("{round}:{n}"));
            within("produce", produce_to(&producer, &topic, partition, values)).await??;
        }
        cluster(&target)?.start_broker(round + 1).await?;
    }
    let values = read_all(&client, &topic, 3).await?;
    let expected: Vec<_> = (0..3).flat_map(|round| (0..50).map(move |n| format!("{round}:{n}"))).collect();
    for partition in 0..3 {
        same("values", &values[&partition], &expected)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_times_out_without_a_leader_and_says_that_nothing_was_written() -> Outcome {
    let Some((target, client)) = three_brokers("a_delivery_times_out_without_a_leader").await? else {
        return Ok(());
    };
    let topic = target.topic_with(&client, |t| t.partitions(1).replication(1)).await?;
    let leader = client.metadata().leader(&TopicPartition::new(topic.as_str(), 0)).ok_or("a leader")?.0;
    cluster(&target)?.stop_broker(leader).await?;
    let client = Client::builder(&target.bootstrap).request_timeout(Duration::from_secs(1)).connect().await?;
    let producer = Producer::builder(&client).delivery_timeout(Duration::from_secs(2)).build().await?;
    let error = within("an error", producer.send(ProducerRecord::to(&topic).value("x"))).await?.unwrap_err();
    same(&format!("{error}"), error.fate(), Fate::NotWritten)?;
    cluster(&target)?.start_broker(leader).await?;
    let written = within("a later record", producer.send(ProducerRecord::to(&topic).value("y"))).await??;
    same("offset", written.offset, Some(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_when_its_coordinator_moves() -> Outcome {
    let Some((target, client)) = three_brokers("a_group_goes_on_when_its_coordinator_moves").await? else {
        return Ok(());
    };
    let topic = target.topic(&client, 1).await?;
    let group = unique("group");
    let producer = Producer::new(&client).await?;
    let mut consumer = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .session(Duration::from_secs(10), Duration::from_millis(100))
        .auto_commit(false)
        .build()
        .await?;
    for (n, broker) in [1, 2, 3, 1].into_iter().enumerate() {
        cluster(&target)?.move_coordinator(&group, broker)?;
        produce_to(&producer, &topic, 0, [n.to_string()]).await?;
        same("record", text(&read(&mut consumer, 1).await?[0]), n.to_string())?;
        within("commit", consumer.commit()).await??;
    }
    let committed = consumer.committed(consumer.assignment()).await?;
    same("committed", committed.values().map(|o| o.offset).collect::<Vec<_>>(), vec![4])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_on_through_fetch_faults() -> Outcome {
    let Some((target, client)) = three_brokers("a_consumer_reads_on_through_fetch_faults").await? else {
        return Ok(());
    };
    let topic = target.topic(&client, 3).await?;
    let producer = Producer::new(&client).await?;
    let c = cluster(&target)?;
    let faults = [
        c.fault(on(Api::Fetch).topic(&topic).nth(2)).close(),
        c.fault(on(Api::Fetch).topic(&topic).nth(4)).error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        c.fault(on(Api::Fetch).topic(&topic).nth(6)).error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        c.fault(on(Api::Fetch).topic(&topic).nth(8)).close_after_bytes(20),
    ];
    let mut consumer = Consumer::builder(&client)
        .assign(e2e::partitions(&topic, 3))
        .start_at(Offset::Earliest)
        .build()
        .await?;
    let mut seen = std::collections::BTreeMap::<i32, Vec<i64>>::new();
    for round in 0..20 {
        for partition in 0..3 {
            produce_to(&producer, &topic, partition, (0..5).map(|n| format!("{round}:{n}"))).await?;
        }
        for record in read(&mut consumer, 15).await? {
            seen.entry(record.partition).or_default().push(record.offset);
        }
    }
    faults.iter().for_each(|fault| fault.assert_fired());
    for partition in 0..3 {
        same("offsets", &seen[&partition], &(0..100).collect::<Vec<_>>())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_client_stays_away_as_long_as_it_is_told() -> Outcome {
    let Some((target, client)) = three_brokers("a_throttled_client_stays_away").await? else { return Ok(()) };
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::new(&client).await?;
    producer.send(ProducerRecord::to(&topic).value("0")).await?;
    let throttle = cluster(&target)?.fault(on(Api::Produce).topic(&topic).nth(1)).throttle(700);
    producer.send(ProducerRecord::to(&topic).value("1")).await?;
    let from = std::time::Instant::now();
    producer.send(ProducerRecord::to(&topic).value("2")).await?;
    throttle.assert_fired();
    same(&format!("{:?}", from.elapsed()), from.elapsed() > Duration::from_millis(500), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_moves_is_followed() -> Outcome {
    let Some((target, client)) = three_brokers("a_leader_that_moves_is_followed").await? else {
        return Ok(());
    };
    let topic = target.topic_with(&client, |t| t.partitions(1).replication(3)).await?;
    let producer = Producer::builder(&client).batch_size(200).build().await?;
    let mut consumer = Consumer::builder(&client)
        .assign(e2e::partitions(&topic, 1))
        .start_at(Offset::Earliest)
        .build()
        .await?;
    for round in 0..12 {
        cluster(&target)?.move_leader(&topic, 0, round % 3 + 1)?;
        produce_to(&producer, &topic, 0, (0..100).map(|n| format!("{round}:{n}"))).await?;
        let values: Vec<_> = read(&mut consumer, 100).await?.iter().map(text).collect();
        same("in order", values, (0..100).map(|n| format!("{round}:{n}")).collect())?;
    }
    let partition = TopicPartition::new(topic.as_str(), 0);
    eventually("the last leader", || async {
        client.metadata().leader(&partition).filter(|(leader, _)| *leader == 11 % 3 + 1).map(drop)
    })
    .await
}
