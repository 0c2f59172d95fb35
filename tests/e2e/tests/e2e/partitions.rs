//! Partition streams: tasks of their own, acknowledgements, revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Outcome, Target, partitions, produce_to, same, text, unique, within};
use futures::TryStreamExt;
use kafka_client::{Client, Offset};
use kafka_consumer::{Consumer, Partitions};
use kafka_producer::Producer;
use tokio::sync::mpsc;

const CLOSE: Duration = Duration::from_secs(20);

async fn member(client: &Client, group: &str, topic: &str) -> Outcome<Partitions> {
    Ok(Consumer::builder(client)
        .group(group)
        .topics([topic])
        .start_at(Offset::Earliest)
        .auto_commit_interval(Duration::from_millis(100))
        .session(Duration::from_secs(10), Duration::from_millis(200))
        .build()
        .await?
        .partitions())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_has_a_stream_and_acknowledged_records_are_committed() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 3).await?;
    let group = unique("group");
    let producer = Producer::new(&client).await?;
    for partition in 0..3 {
        produce_to(&producer, &topic, partition, (0..20).map(|n| n.to_string())).await?;
    }
    let mut streams = member(&client, &group, &topic).await?;
    // Kept, for a stream that is dropped is handed out again.
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut stream = within("a partition", streams.try_next()).await??.ok_or("the end")?;
        for n in 0..20 {
            let record = within("a record", stream.try_next()).await??.ok_or("the end")?;
            same("in order", text(&record), n.to_string())?;
            // In partition 0 the tenth is never done with.
            if !(stream.partition().partition == 0 && n == 10) {
                record.ack();
            }
        }
        kept.push(stream);
    }
    streams.close(CLOSE).await?;
    let consumer = Consumer::builder(&client).group(group).assign(partitions(&topic, 3)).build().await?;
    let committed = consumer.committed(partitions(&topic, 3)).await?;
    let committed: Vec<_> = committed.into_values().map(|o| o.offset).collect();
    same("up to the first that was not acknowledged", committed, vec![10, 20, 20])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_revocation_after_its_records_are_done_with() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 2).await?;
    let group = unique("group");
    let producer = Producer::new(&client).await?;
    for partition in 0..2 {
        produce_to(&producer, &topic, partition, (0..200).map(|n| n.to_string())).await?;
    }
    type Seen = Arc<Mutex<BTreeMap<(i32, i64), usize>>>;
    let seen: Seen = Arc::default();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let run = |mut streams: Partitions, mut stop: mpsc::Receiver<()>| {
        let (seen, ended) = (Arc::clone(&seen), ended.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    stream = streams.try_next() => {
                        let Some(mut stream) = stream? else { break };
                        let (seen, ended) = (Arc::clone(&seen), ended.clone());
                        tokio::spawn(async move {
                            while let Some(record) = stream.try_next().await? {
                                // Slow enough that a record is under way when the revocation comes.
                                tokio::time::sleep(Duration::from_millis(5)).await;
                                *seen.lock().unwrap().entry((record.partition, record.offset)).or_default() += 1;
                                record.ack();
                            }
                            let _ = ended.send(stream.partition().partition);
                            Ok::<(), kafka_consumer::Error>(())
                        });
                    }
                    _ = stop.recv() => break,
                }
            }
            streams.close(CLOSE).await?;
            Outcome::<()>::Ok(())
        })
    };
    let (stop_first, stopped) = mpsc::channel(1);
    let first = run(member(&client, &group, &topic).await?, stopped);
    e2e::eventually("the first records", || async { (seen.lock().unwrap().len() > 20).then_some(()) })
        .await?;
    let (stop_second, stopped) = mpsc::channel(1);
    let second = run(member(&client, &group, &topic).await?, stopped);
    within("a stream that ends", ends.recv()).await?;
    e2e::eventually("all records", || async { (seen.lock().unwrap().len() == 400).then_some(()) }).await?;
    drop((stop_first, stop_second));
    within("the first member", first).await???;
    within("the second member", second).await???;
    let twice: BTreeSet<_> = seen.lock().unwrap().iter().filter(|(_, n)| **n > 1).map(|(k, _)| *k).collect();
    same("read twice", twice, BTreeSet::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_is_given_again_from_the_first_record_not_acknowledged() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    produce_to(&Producer::new(&client).await?, &topic, 0, (0..10).map(|n| n.to_string())).await?;
    let mut streams = member(&client, &unique("group"), &topic).await?;
    let mut stream = within("the partition", streams.try_next()).await??.ok_or("the end")?;
    for n in 0..5 {
        let record = within("a record", stream.try_next()).await??.ok_or("the end")?;
        if n < 3 {
            record.ack();
        }
    }
    drop(stream);
    let mut stream = within("the partition again", streams.try_next()).await??.ok_or("the end")?;
    let record = within("a record", stream.try_next()).await??.ok_or("the end")?;
    same("first", text(&record), "3".to_owned())?;
    record.ack();
    streams.close(CLOSE).await?;
    same("the stream ends", within("the end", stream.try_next()).await??.is_none(), true)
}
