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

#[test]
fn a_stream_dropped_before_its_first_record_is_given_anew_with_all_of_them() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let fake = Fake::new(1);
        for first in [0, 10, 20] {
            fake.append(0, numbers(Compression::Gzip, first, 10));
        }
        let mut partitions = consumer(&fake, 1).await.partitions();
        let mut stream = first(&mut partitions).await;
        while partitions.handle().buffered_bytes() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        // The only thread to decompress on is taken, so the stream takes batches and hands out none.
        let (free, taken) = std::sync::mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || taken.recv().is_err());
        assert!(stream.next().now_or_never().is_none());
        drop(stream);
        drop(free);
        assert!(thread.await.unwrap());
        let mut stream = first(&mut partitions).await;
        assert_eq!(read(&mut stream, 30).await, (0..30).collect::<Vec<_>>());
    });
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

#[tokio::test(start_paused = true)]
async fn a_seek_to_try_again_mends_what_a_dropped_record_broke() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 10));
    let mut partitions = consumer(&fake, 1).await.partitions();
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 2).await, [0, 1]);
    // Its work fails, and is tried again.
    drop(next(&mut stream).await.unwrap());
    partitions.handle().seek(&Fake::partition(0), 2).unwrap();
    assert_eq!(read(&mut stream, 4).await, [2, 3, 4, 5]);
    drop(stream);
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 4).await, [6, 7, 8, 9], "all before was acknowledged");
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_of_a_stream_that_was_given_anew_change_nothing() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 10));
    let mut partitions = consumer(&fake, 1).await.partitions();
    let mut stream = first(&mut partitions).await;
    let (_, old) = next(&mut stream).await.unwrap().into_parts();
    drop(stream);
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 5).await, [0, 1, 2, 3, 4]);
    old.ack();
    drop(stream);
    let mut stream = first(&mut partitions).await;
    assert_eq!(read(&mut stream, 5).await, [5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn streams_that_nobody_reads_do_not_starve_the_others() {
    let fake = Fake::new(9);
    for partition in 0..9 {
        for first in 0..20 {
            fake.append(partition, numbers(Compression::None, first * 10, 10));
        }
    }
    let builder = Consumer::builder(&fake.client().await).assign((0..9).map(Fake::partition));
    let builder =
        builder.start_at(Offset::Earliest).fetch_bytes(8 << 10, 4 << 10).max_buffered_bytes(8 << 10);
    let mut partitions = builder.build().await.unwrap().partitions();
    let mut streams = Vec::new();
    for _ in 0..9 {
        streams.push(first(&mut partitions).await);
    }
    sleep(Duration::from_secs(5)).await;
    // One after the other, while those before and behind stand still.
    for stream in streams.iter_mut().rev() {
        assert_eq!(read(stream, 100).await, (0..100).collect::<Vec<_>>());
        assert!(partitions.handle().buffered_bytes() <= 3 * (8 << 10));
    }
    for stream in &mut streams {
        assert_eq!(read(stream, 100).await, (100..200).collect::<Vec<_>>());
    }
}
