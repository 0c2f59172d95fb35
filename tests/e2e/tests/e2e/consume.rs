//! Consuming without a group: positions, seeks, pauses, offsets, resets, limits.

use std::time::Duration;

use e2e::{Outcome, Target, eventually, partitions, produce_to, read, same, skipped, text, within};
use kafka_admin::Admin;
use kafka_broker::{Api, Cluster};
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::{Consumer, ErrorKind};
use kafka_producer::{Producer, ProducerRecord};

fn numbers(range: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_moves_with_what_is_handed_out_and_seek_moves_it() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let partition = &partitions(&topic, 1)[0];
    produce_to(&Producer::new(&client).await?, &topic, 0, numbers(0..100)).await?;
    let mut consumer =
        Consumer::builder(&client).assign([partition.clone()]).start_at(Offset::Earliest).build().await?;
    for n in 0..10 {
        same("record", text(&read(&mut consumer, 1).await?[0]), n.to_string())?;
        same("position", consumer.position(partition)?, Some(n + 1))?;
    }
    for (place, first) in [(Offset::At(42), "42"), (Offset::Earliest, "0"), (Offset::At(99), "99")] {
        consumer.seek(partition, place)?;
        same("after the seek", text(&read(&mut consumer, 1).await?[0]), first.to_owned())?;
    }
    consumer.seek(partition, Offset::Latest)?;
    let producer = Producer::new(&client).await?;
    eventually("the end", || async { consumer.position(partition).ok().flatten().filter(|p| *p == 100) })
        .await?;
    produce_to(&producer, &topic, 0, ["new".to_owned()]).await?;
    same("after the end", text(&read(&mut consumer, 1).await?[0]), "new".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_into_a_batch_starts_at_the_record() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::builder(&client).linger(Duration::from_millis(100)).build().await?;
    produce_to(&producer, &topic, 0, numbers(0..50)).await?;
    let mut consumer =
        Consumer::builder(&client).assign(partitions(&topic, 1)).start_at(Offset::At(17)).build().await?;
    let batch = within("a batch", consumer.next_batch()).await??;
    let first = batch.records().next().map(|r| r.offset);
    same("first of the batch", first, Some(17))?;
    same("all of it", batch.to_records().map(|r| text(&r)).collect::<Vec<_>>()[0].clone(), "17".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_single_records_can_be_read_in_turn() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    produce_to(&Producer::new(&client).await?, &topic, 0, numbers(0..1000)).await?;
    let mut consumer =
        Consumer::builder(&client).assign(partitions(&topic, 1)).start_at(Offset::Earliest).build().await?;
    let mut offsets = Vec::new();
    while offsets.len() < 1000 {
        offsets.push(read(&mut consumer, 1).await?[0].offset);
        if offsets.len() < 1000 {
            offsets.extend(within("a batch", consumer.next_batch()).await??.records().map(|r| r.offset));
        }
    }
    same("offsets", offsets, (0..1000).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_rests_while_others_go_on() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 2).await?;
    let producer = Producer::new(&client).await?;
    for partition in 0..2 {
        produce_to(&producer, &topic, partition, numbers(0..100)).await?;
    }
    let all = partitions(&topic, 2);
    let mut consumer =
        Consumer::builder(&client).assign(all.clone()).start_at(Offset::Earliest).build().await?;
    read(&mut consumer, 5).await?;
    consumer.pause([&all[0]])?;
    let before = consumer.position(&all[0])?.unwrap_or(0);
    let left = 100 - consumer.position(&all[1])?.unwrap_or(0);
    let rest = read(&mut consumer, usize::try_from(left)?).await?;
    same("only the other", rest.iter().all(|r| r.partition == 1), true)?;
    same("paused", consumer.paused(), vec![all[0].clone()])?;
    consumer.resume([&all[0]])?;
    let rest = read(&mut consumer, usize::try_from(100 - before)?).await?;
    same("nothing lost or twice", rest.iter().map(|r| r.offset).collect::<Vec<_>>(), (before..100).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_end_and_by_time() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::new(&client).await?;
    for n in 0..10 {
        producer.send(ProducerRecord::to(&topic).value("x").timestamp(1_000_000 + n * 1000)).await?;
    }
    let partition = partitions(&topic, 1)[0].clone();
    let consumer = Consumer::builder(&client).assign([partition.clone()]).build().await?;
    same("beginning", consumer.beginning_offsets([partition.clone()]).await?[&partition], 0)?;
    same("end", consumer.end_offsets([partition.clone()]).await?[&partition], 10)?;
    let found = consumer.offsets_for_times([(partition.clone(), 1_003_500)]).await?;
    same("by time", (found[&partition].offset, found[&partition].timestamp), (4, 1_004_000))?;
    let none = consumer.offsets_for_times([(partition.clone(), 2_000_000)]).await?;
    same("too late a time", none.len(), 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_what_is_left_to_read() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    produce_to(&Producer::new(&client).await?, &topic, 0, numbers(0..20)).await?;
    let partition = &partitions(&topic, 1)[0];
    let mut consumer =
        Consumer::builder(&client).assign([partition.clone()]).start_at(Offset::Earliest).build().await?;
    read(&mut consumer, 5).await?;
    same("lag", consumer.lag(partition)?, Some(15))?;
    read(&mut consumer, 15).await?;
    same("lag", consumer.lag(partition)?, Some(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_reading_starts_at_the_end() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::new(&client).await?;
    produce_to(&producer, &topic, 0, ["old".to_owned()]).await?;
    let partition = &partitions(&topic, 1)[0];
    let mut consumer = Consumer::builder(&client).assign([partition.clone()]).build().await?;
    eventually("the end", || async { consumer.position(partition).ok().flatten() }).await?;
    produce_to(&producer, &topic, 0, ["new".to_owned()]).await?;
    same("first", text(&read(&mut consumer, 1).await?[0]), "new".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_range_is_an_error_without_a_policy_and_a_jump_with_one() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    produce_to(&Producer::new(&client).await?, &topic, 0, numbers(0..20)).await?;
    let partition = &partitions(&topic, 1)[0];
    for (_, outcome) in Admin::new(&client).delete_records([(partition.clone(), Offset::At(10))]).await? {
        outcome?;
    }
    let mut strict =
        Consumer::builder(&client).assign([partition.clone()]).start_at(Offset::At(3)).build().await?;
    let error = within("an error", strict.next_batch()).await?.unwrap_err();
    match error.kind() {
        ErrorKind::OutOfRange { position: 3, earliest: 10, latest: 20, .. } => {}
        other => return Err(format!("{other:?}").into()),
    }
    strict.seek(partition, Offset::Earliest)?;
    same("after a seek", read(&mut strict, 1).await?[0].offset, 10)?;

    let mut lenient = Consumer::builder(&client)
        .assign([partition.clone()])
        .start_at(Offset::At(3))
        .out_of_range(Offset::Earliest)
        .build()
        .await?;
    same("with a policy", read(&mut lenient, 1).await?[0].offset, 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_every_limit_is_read_all_the_same() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 2).await?;
    let producer = Producer::new(&client).await?;
    for partition in 0..2 {
        for _ in 0..3 {
            let record = ProducerRecord::to(&topic).partition(partition).value(vec![b'x'; 300_000]);
            producer.send(record).await?;
        }
    }
    let mut consumer = Consumer::builder(&client)
        .assign(partitions(&topic, 2))
        .start_at(Offset::Earliest)
        .fetch_bytes(1000, 1000)
        .max_buffered_bytes(1000)
        .build()
        .await?;
    let records = read(&mut consumer, 6).await?;
    same("all whole", records.iter().all(|r| r.value.as_ref().is_some_and(|v| v.len() == 300_000)), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_stays_within_its_bound_while_the_application_is_slow() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 3).await?;
    let producer = Producer::new(&client).await?;
    for n in 0..300 {
        drop(producer.enqueue(ProducerRecord::to(&topic).partition(n % 3).value(vec![b'x'; 10_000])).await?);
    }
    producer.flush().await;
    let mut consumer = Consumer::builder(&client)
        .assign(partitions(&topic, 3))
        .start_at(Offset::Earliest)
        .fetch_bytes(200_000, 50_000)
        .max_buffered_bytes(200_000)
        .build()
        .await?;
    let mut most = 0;
    for _ in 0..300 {
        read(&mut consumer, 1).await?;
        most = most.max(consumer.buffered_bytes());
    }
    // Its own bound, and at most one more answer of each broker.
    same(&format!("{most} bytes at the most"), most <= 200_000 * 4, true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_comes_later_is_read_once_it_is_there() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let name = e2e::unique("late");
    let mut consumer = Consumer::builder(&client)
        .assign([TopicPartition::new(name.as_str(), 0)])
        .start_at(Offset::Earliest)
        .build()
        .await?;
    for (_, outcome) in
        Admin::new(&client).create_topics([kafka_admin::NewTopic::new(&name).partitions(1)]).await?
    {
        outcome?;
    }
    produce_to(&Producer::new(&client).await?, &name, 0, ["here".to_owned()]).await?;
    same("record", text(&read(&mut consumer, 1).await?[0]), "here".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_a_rack_reads_from_the_replica_there_and_without_it_from_the_leader() -> Outcome {
    if skipped("a_consumer_with_a_rack", "racks and request log") {
        return Ok(());
    }
    let cluster = Cluster::builder()
        .brokers(3)
        .racks(["a", "b", "c"])
        .config("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector")
        .topic("t", 1, 3)
        .start()
        .await?;
    cluster.move_leader("t", 0, 1)?;
    let client = Client::builder(cluster.bootstrap()).client_id("racked").connect().await?;
    let producer = Producer::new(&client).await?;
    produce_to(&producer, "t", 0, numbers(0..10)).await?;
    let mut consumer = Consumer::builder(&client)
        .rack("b")
        .assign(partitions("t", 1))
        .start_at(Offset::Earliest)
        .build()
        .await?;
    same(
        "first ten",
        read(&mut consumer, 10).await?.iter().map(text).collect(),
        numbers(0..10).collect::<Vec<_>>(),
    )?;
    let fetches = |broker: i32| {
        cluster.requests().iter().filter(|seen| (seen.api, seen.broker) == (Api::Fetch, broker)).count()
    };
    same("the follower was read from", fetches(2) > 0, true)?;
    same("the leader only said where", fetches(1), 1)?;
    same("the third stays out of it", fetches(3), 0)?;

    cluster.stop_broker(2).await?;
    produce_to(&producer, "t", 0, numbers(10..20)).await?;
    same(
        "next ten",
        read(&mut consumer, 10).await?.iter().map(text).collect(),
        numbers(10..20).collect::<Vec<_>>(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_truncated_below_the_position_is_told_and_a_seek_goes_on() -> Outcome {
    if skipped("a_log_truncated_below_the_position", "truncation") {
        return Ok(());
    }
    let target = Target::bundled(Cluster::builder().brokers(3).topic("t", 1, 3).start().await?);
    let client = target.client().await?;
    let producer = Producer::new(&client).await?;
    for n in numbers(0..10) {
        // One batch each, so that the log can be cut between any two.
        producer.send(ProducerRecord::to("t").partition(0).value(n)).await?;
    }
    let partition = &partitions("t", 1)[0];
    let mut consumer =
        Consumer::builder(&client).assign([partition.clone()]).start_at(Offset::Earliest).build().await?;
    read(&mut consumer, 10).await?;
    let cluster = target.bundled.as_ref().ok_or("a bundled cluster")?;
    cluster.truncate("t", 0, 6)?;
    let error = match read(&mut consumer, 1).await {
        Ok(records) => return Err(format!("read {records:?} over the truncation").into()),
        Err(error) => error,
    };
    let error = error.downcast::<kafka_consumer::Error>()?;
    let ErrorKind::Truncated { position, diverged_at, .. } = error.kind() else {
        return Err(format!("not told as a truncation: {error}").into());
    };
    same("where it stood and where the logs part", (*position, *diverged_at), (10, Some(6)))?;
    produce_to(&producer, "t", 0, ["new".to_owned()]).await?;
    consumer.seek(partition, Offset::At(6))?;
    same("after the truncation", text(&read(&mut consumer, 1).await?[0]), "new".to_owned())
}
