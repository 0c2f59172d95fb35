//! A stream for each partition: each is woken for its own records, ends with its assignment, and is given anew if dropped.

use std::time::Duration;

use kafka_client::Offset;
use kafka_client::raw::wire::compression::Compression;
use kafka_consumer::{Consumer, PartitionStream, Partitions};
use tokio::time::sleep;

use crate::fake::Fake;
use crate::harness::{next, nothing_for, number, numbers, soon};
use futures_util::{FutureExt, StreamExt};

async fn consumer(fake: &Fake, partitions: i32) -> Consumer {
    let assigned = (0..partitions).map(Fake::partition);
    let builder = Consumer::builder(&fake.client().await).assign(assigned).start_at(Offset::Earliest);
    builder.build().await.unwrap()
}

async fn read(stream: &mut PartitionStream, count: usize) -> Vec<i64> {
    let mut read = Vec::new();
    for _ in 0..count {
        let record = next(stream).await.unwrap();
        read.push(number(record.value.as_ref().unwrap()));
        record.ack();
    }
    read
}

async fn first(partitions: &mut Partitions) -> PartitionStream {
    next(partitions).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_woken_for_every_answer_and_not_only_the_first() {
    let fake = Fake::new(1);
    let mut partitions = consumer(&fake, 1).await.partitions();
    let mut stream = first(&mut partitions).await;
    for round in 0..5 {
        let reader = tokio::spawn(async move {
            let read = read(&mut stream, 10).await;
            (stream, read)
        });
        sleep(Duration::from_secs(1)).await;
        fake.append(0, numbers(Compression::None, round * 10, 10));
        let (back, read) = soon(reader).await.unwrap();
        stream = back;
        assert_eq!(read, (round * 10..round * 10 + 10).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn streams_begin_where_single_records_ended() {
    let fake = Fake::new(1);
    for first in [0, 10, 20] {
        fake.append(0, numbers(Compression::Gzip, first, 10));
    }
    let mut consumer = consumer(&fake, 1).await;
    for expected in 0..3 {
        assert_eq!(number(&next(&mut consumer).await.unwrap().value.unwrap()), expected);
    }
    let mut partitions = consumer.partitions();
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 27).await, (3..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_before_its_first_record_is_given_anew_with_all_of_them() {
    let fake = Fake::new(1);
    for first in [0, 10, 20] {
        fake.append(0, numbers(Compression::Gzip, first, 10));
    }
    let mut partitions = consumer(&fake, 1).await.partitions();
    let mut stream = first(&mut partitions).await;
    // Takes batches to open them, and hands out none yet.
    while partitions.handle().buffered_bytes() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(stream.next().now_or_never().is_none());
    drop(stream);
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 30).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_is_given_anew_from_what_was_not_acknowledged() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 30));
    let mut partitions = consumer(&fake, 1).await.partitions();
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 3).await, [0, 1, 2]);
    let _in_hand = next(&mut stream).await.unwrap();
    drop(stream);
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 27).await, (3..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_consumer_is_dropped_though_controls_are_left() {
    let fake = Fake::new(2);
    let mut partitions = consumer(&fake, 2).await.partitions();
    let mut streams = vec![first(&mut partitions).await, first(&mut partitions).await];
    let handle = partitions.handle().clone();
    let readers: Vec<_> = streams
        .drain(..)
        .map(|mut stream| tokio::spawn(async move { stream.next().await.is_none() }))
        .collect();
    sleep(Duration::from_secs(1)).await;
    drop(partitions);
    for reader in readers {
        assert!(soon(reader).await.unwrap());
    }
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_twice_while_streams_live() {
    let fake = Fake::new(2);
    let mut partitions = consumer(&fake, 2).await.partitions();
    let _streams = [first(&mut partitions).await, first(&mut partitions).await];
    assert!(nothing_for(30, partitions.next()).await);
}
