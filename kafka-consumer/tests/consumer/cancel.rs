//! Every public future dropped after each of its polls: nothing is lost, doubled or stuck.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use kafka_broker::Cluster;
use kafka_client::raw::wire::compression::Compression;
use kafka_client::{Client, Offset};
use kafka_consumer::{Consumer, ConsumerBuilder};
use tokio::time::sleep;

use crate::fake::Fake;
use crate::harness::{next, number, numbers, partition, produce, soon, start};

/// Polls a future so many times, whenever it is woken, and drops it; its output if it is done by then.
async fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    let polled = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::time::timeout(Duration::from_secs(2), polled).await.unwrap_or(None)
}

/// Up to how many polls futures are dropped after.
const MOST: usize = 6;

async fn slow_log() -> Fake {
    let fake = Fake::new(2);
    for first in 0..20 {
        fake.append(0, numbers(Compression::Gzip, first * 10, 10));
        fake.append(1, numbers(Compression::None, first * 10, 10));
    }
    fake
}

async fn reading(fake: &Fake) -> ConsumerBuilder {
    let assigned = [Fake::partition(0), Fake::partition(1)];
    let builder = Consumer::builder(&fake.client().await).assign(assigned).start_at(Offset::Earliest);
    builder.fetch_bytes(4 << 10, 2 << 10).max_buffered_bytes(4 << 10)
}

fn check(read: &[(i32, i64)]) {
    for index in 0..2 {
        let offsets: Vec<i64> = read.iter().filter(|(p, _)| *p == index).map(|(_, offset)| *offset).collect();
        assert_eq!(offsets, (0..200).collect::<Vec<_>>(), "of partition {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_hands_out_nothing() {
    for times in 0..MOST {
        let fake = slow_log().await;
        let mut consumer = reading(&fake).await.build().await.unwrap();
        let mut read = Vec::new();
        while read.len() < 400 {
            let record = match polled(times, consumer.next()).await {
                Some(record) => record.unwrap().unwrap(),
                None => next(&mut consumer).await.unwrap(),
            };
            assert_eq!(number(record.value.as_ref().unwrap()), record.offset);
            read.push((record.partition, record.offset));
        }
        check(&read);
    }
}

#[tokio::test(start_paused = true)]
async fn a_next_batch_that_is_dropped_hands_out_nothing() {
    for times in 0..MOST {
        let fake = slow_log().await;
        let mut consumer = reading(&fake).await.build().await.unwrap();
        let mut read = Vec::new();
        while read.len() < 400 {
            let batch = match polled(times, consumer.next_batch()).await {
                Some(batch) => batch.unwrap(),
                None => soon(consumer.next_batch()).await.unwrap(),
            };
            read.extend(batch.records().map(|record| (batch.partition().partition, record.offset)));
        }
        check(&read);
    }
}

#[tokio::test(start_paused = true)]
async fn a_next_of_one_partition_that_is_dropped_hands_out_nothing() {
    for times in 0..MOST {
        let fake = slow_log().await;
        let mut partitions = reading(&fake).await.build().await.unwrap().partitions();
        let mut streams = Vec::new();
        while streams.len() < 2 {
            match polled(times, partitions.next()).await {
                Some(stream) => streams.push(stream.unwrap().unwrap()),
                None => streams.push(next(&mut partitions).await.unwrap()),
            }
        }
        let mut read = Vec::new();
        for stream in &mut streams {
            for _ in 0..200 {
                let record = match polled(times, stream.next()).await {
                    Some(record) => record.unwrap().unwrap(),
                    None => next(stream).await.unwrap(),
                };
                read.push((record.partition, record.offset));
                record.ack();
            }
        }
        check(&read);
    }
}

async fn group(client: &Client) -> Consumer {
    let builder = Consumer::builder(client).group("billing").topics(["orders"]);
    builder.start_at(Offset::Earliest).auto_commit(false).build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_dropped_are_made_or_not_and_never_undo_later_ones() {
    let (cluster, client) = start(Cluster::builder().topic("orders", 1, 1)).await;
    produce(&client, "orders", 0, 0, 50).await;
    let mut consumer = group(&client).await;
    for times in 0..MOST {
        for _ in 0..3 {
            next(&mut consumer).await.unwrap();
            polled(times, consumer.commit()).await;
        }
        let record = next(&mut consumer).await.unwrap();
        soon(consumer.commit()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let committed = cluster.committed("billing", "orders", 0).unwrap().offset;
        assert_eq!(committed, record.offset + 1, "after {times} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_dropped_change_nothing() {
    let (_cluster, client) = start(Cluster::builder().topic("orders", 1, 1)).await;
    produce(&client, "orders", 0, 0, 50).await;
    let mut consumer = group(&client).await;
    next(&mut consumer).await.unwrap();
    soon(consumer.commit()).await.unwrap();
    let orders = || [partition("orders", 0)];
    for times in 0..MOST {
        polled(times, consumer.committed(orders())).await;
        polled(times, consumer.beginning_offsets(orders())).await;
        polled(times, consumer.end_offsets(orders())).await;
        polled(times, consumer.offsets_for_times([(partition("orders", 0), 0)])).await;
        let committed = soon(consumer.committed(orders())).await.unwrap();
        assert_eq!(committed[&partition("orders", 0)].offset, 1);
        assert_eq!(soon(consumer.beginning_offsets(orders())).await.unwrap()[&partition("orders", 0)], 0);
        assert_eq!(soon(consumer.end_offsets(orders())).await.unwrap()[&partition("orders", 0)], 50);
        let found = soon(consumer.offsets_for_times([(partition("orders", 0), 0)])).await.unwrap();
        assert_eq!(found[&partition("orders", 0)].offset, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_or_build_that_is_dropped_leaves_nothing_behind() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (cluster, client) = start(Cluster::builder().topic("orders", 1, 1)).await;
    produce(&client, "orders", 0, 0, 50).await;
    // The shared connections are there from now on, and the broker's timer for members that vanish.
    soon(group(&client).await.close(Duration::from_secs(10))).await.unwrap();
    let mut vanishing = group(&client).await;
    next(&mut vanishing).await.unwrap();
    drop(vanishing);
    sleep(Duration::from_secs(60)).await;
    let before = alive();
    for times in 0..2 * MOST {
        let builder = Consumer::builder(&client).group("billing").topics(["orders"]);
        polled(times, builder.build()).await;
        let mut consumer = group(&client).await;
        next(&mut consumer).await.unwrap();
        polled(times, consumer.close(Duration::from_secs(10))).await;
        // Either it has left, or its session ends.
        sleep(Duration::from_secs(60)).await;
        assert_eq!(cluster.group("billing").unwrap().members.len(), 0, "after {times} polls");
        assert!(alive() <= before, "{} tasks, {before} before, after {times} polls", alive());
    }
}
