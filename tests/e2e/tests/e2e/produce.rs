//! Producing: what is sent is what is there, in order, with every codec and every way to send.

use std::time::Duration;

use e2e::{Outcome, Target, partitions, produce_to, read, read_all, same, within};
use futures::SinkExt;
use kafka_client::{Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Acks, Compression, Fate, Producer, ProducerRecord};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_back_as_it_was_sent() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::new(&client).await?;
    let record = ProducerRecord::to(&topic)
        .key("key")
        .value("value")
        .timestamp(1_700_000_000_123)
        .header("a", "1")
        .header("b", "x")
        .header("a", "2");
    let first = producer.send(record).await?;
    same("offset", first.offset, Some(0))?;
    let tombstone = producer.send(ProducerRecord::to(&topic).key("key").value(None::<&str>)).await?;
    same("offset", tombstone.offset, Some(1))?;

    let mut consumer =
        Consumer::builder(&client).assign(partitions(&topic, 1)).start_at(Offset::Earliest).build().await?;
    let records = read(&mut consumer, 2).await?;
    same("key", records[0].key_as::<String>()?, "key".to_owned())?;
    same("value", records[0].value_as::<String>()?, "value".to_owned())?;
    same("timestamp", records[0].timestamp, 1_700_000_000_123)?;
    let headers: Vec<_> =
        records[0].headers.iter().map(|h| (h.name().into_owned(), h.value.clone())).collect();
    let expected =
        [("a", "1"), ("b", "x"), ("a", "2")].map(|(k, v)| (k.to_owned(), Some(v.as_bytes().to_vec().into())));
    same("headers, duplicates included", headers, expected.to_vec())?;
    same("a null value", records[1].value.clone(), None)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_carries_records_there_and_back() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let topic = target.topic(&client, 2).await?;
        let producer = Producer::builder(&client).compression(codec).batch_size(64 << 10).build().await?;
        for partition in 0..2 {
            produce_to(
                &producer,
                &topic,
                partition,
                (0..2000).map(|n| format!("{partition}: some text, number {n}")),
            )
            .await?;
        }
        let values = read_all(&client, &topic, 2).await?;
        for partition in 0..2 {
            let expected: Vec<_> = (0..2000).map(|n| format!("{partition}: some text, number {n}")).collect();
            same(&format!("{codec:?}"), &values[&partition], &expected)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_javas_partitioner_puts_them() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 12).await?;
    let producer = Producer::new(&client).await?;
    // Utils.toPositive(Utils.murmur2(key)) % 12, from Java.
    for (key, partition) in
        [("21", java_partition("21")), ("foobar", java_partition("foobar")), ("", java_partition(""))]
    {
        let written = producer.send(ProducerRecord::to(&topic).key(key).value("x")).await?;
        same(key, written.partition(), partition)?;
    }
    Ok(())
}

/// From the hashes in Kafka's own UtilsTest: 21 → -973932308, foobar → -790332482, "" → 275646681.
fn java_partition(key: &str) -> i32 {
    let hash: i32 = match key {
        "21" => -973_932_308,
        "foobar" => -790_332_482,
        _ => 275_646_681,
    };
    (hash & 0x7fff_ffff) % 12
}

#[tokio::test(flavor = "multi_thread")]
async fn keyless_records_stick_to_a_partition_and_spread_over_all_in_time() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 4).await?;
    let producer = Producer::builder(&client).batch_size(1024).build().await?;
    let mut deliveries = Vec::new();
    for _ in 0..4000 {
        deliveries.push(producer.enqueue(ProducerRecord::to(&topic).value([b'x'; 50])).await?);
    }
    let mut used = std::collections::BTreeSet::new();
    for delivery in deliveries {
        used.insert(delivery.await?.partition());
    }
    same("partitions used", used.len(), 4)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ways_to_send_deliver_in_order() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::new(&client).await?;
    let record = |n: u32| ProducerRecord::to(topic.clone()).partition(0).value(n.to_string());
    producer.send(record(0)).await?;
    producer.enqueue(record(1)).await?.await?;
    let third = producer.try_enqueue(&record(2))?;
    for written in producer.send_all((3..6).map(record)).await {
        written?;
    }
    let mut sink = producer.sink();
    for n in 6..9 {
        sink.feed(record(n)).await?;
    }
    sink.flush().await?;
    producer.flush().await;
    third.await?;
    let expected: Vec<_> = (0..9).map(|n: u32| n.to_string()).collect();
    same("values", &read_all(&client, &topic, 1).await?[&0], &expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_waits_for_everything_accepted_before_it() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 3).await?;
    let producer = Producer::builder(&client).linger(Duration::from_secs(30)).build().await?;
    let mut deliveries = Vec::new();
    for n in 0..300 {
        deliveries.push(producer.enqueue(ProducerRecord::to(&topic).partition(n % 3).value("x")).await?);
    }
    within("flush, in spite of a long linger", producer.flush()).await?;
    for delivery in deliveries {
        // It is done, so this does not wait.
        tokio::time::timeout(Duration::ZERO, delivery)
            .await
            .map_err(|_| "a delivery was open after flush")??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_each_kind_write_the_record() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    for (n, acks) in [Acks::None, Acks::Leader, Acks::All].into_iter().enumerate() {
        let idempotent = acks == Acks::All;
        let producer = Producer::builder(&client).acks(acks).idempotence(idempotent).build().await?;
        let written = producer.send(ProducerRecord::to(&topic).value(format!("{acks:?}"))).await?;
        if acks != Acks::None {
            same("offset", written.offset, Some(n as i64))?;
        }
        producer.close(Duration::from_secs(10)).await?;
        let topic = TopicPartition::new(topic.as_str(), 0);
        let consumer = Consumer::builder(&client).assign([topic.clone()]).build().await?;
        e2e::eventually("the record", || async {
            let ends = consumer.end_offsets([topic.clone()]).await.ok()?;
            (ends[&topic] == n as i64 + 1).then_some(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_the_producer_is_refused_as_not_written() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::new(&client).await?;
    let error = producer.send(ProducerRecord::to(&topic).value(vec![0_u8; 2 << 20])).await.unwrap_err();
    same("fate", error.fate(), Fate::NotWritten)?;
    producer.send(ProducerRecord::to(&topic).value("small")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_the_topic_is_split_and_a_record_too_large_is_told() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic_with(&client, |t| t.partitions(1).config("max.message.bytes", "2000")).await?;
    let producer =
        Producer::builder(&client).batch_size(16 << 10).linger(Duration::from_millis(50)).build().await?;
    produce_to(&producer, &topic, 0, (0..100).map(|n| format!("{n:0100}"))).await?;
    let error = producer.send(ProducerRecord::to(&topic).value(vec![0_u8; 5000])).await.unwrap_err();
    same("fate", error.fate(), Fate::NotWritten)?;
    producer.send(ProducerRecord::to(&topic).value("after")).await?;
    let values = &read_all(&client, &topic, 1).await?[&0];
    let mut expected: Vec<_> = (0..100).map(|n| format!("{n:0100}")).collect();
    expected.push("after".to_owned());
    same("values in order", values, &expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_or_partition_is_told_within_max_block() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::builder(&client).max_block(Duration::from_millis(500)).build().await?;
    let error = producer.send(ProducerRecord::to(&topic).partition(7).value("x")).await.unwrap_err();
    same("fate", error.fate(), Fate::NotWritten)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_share_a_producer_and_each_keeps_its_order() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 4).await?;
    let producer = Producer::new(&client).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (producer, topic) = (producer.clone(), topic.clone());
        tasks.spawn(async move {
            produce_to(&producer, &topic, task % 4, (0..500).map(|n| format!("{task}:{n}"))).await
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
    }
    let values = read_all(&client, &topic, 4).await?;
    for task in 0..8 {
        let prefix = format!("{task}:");
        let own: Vec<_> = values[&(task % 4)].iter().filter_map(|v| v.strip_prefix(&prefix)).collect();
        let expected: Vec<_> = (0..500).map(|n| n.to_string()).collect();
        same(&format!("task {task}"), own, expected.iter().map(String::as_str).collect())?;
    }
    Ok(())
}
