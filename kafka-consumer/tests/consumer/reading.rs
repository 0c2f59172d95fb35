//! Reading single records and batches: nothing lost, nothing twice, in order, whatever happens in between.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use kafka_client::raw::wire::compression::Compression;
use kafka_client::raw::wire::crc::crc32c;
use kafka_client::{ErrorCode, Offset};
use kafka_consumer::{Batch, Consumer, ConsumerBuilder, ConsumerConfig, ErrorKind};
use tokio::time::sleep;

use crate::fake::{Fake, Part, Reply};
use crate::harness::{batch, next, nothing_for, number, numbers, soon};

async fn reading(fake: &Fake) -> ConsumerBuilder {
    Consumer::builder(&fake.client().await).assign([Fake::partition(0)]).start_at(Offset::Earliest)
}

fn numbers_in(batch: &Batch) -> Vec<i64> {
    batch.records().map(|record| number(record.value.unwrap())).collect()
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<i64> {
    let mut read = Vec::new();
    for _ in 0..count {
        read.push(number(&next(consumer).await.unwrap().value.unwrap()));
    }
    read
}

/// A slow codec's batches are opened two ahead.
async fn three_slow_batches() -> Fake {
    let fake = Fake::new(1);
    for first in [0, 10, 20] {
        fake.append(0, numbers(Compression::Gzip, first, 10));
    }
    fake
}

/// Short batches of zstd are opened at once, others of it on another thread, some only after a first try.
#[tokio::test(start_paused = true)]
async fn short_and_long_batches_of_zstd_come_in_order() {
    let fake = Fake::new(1);
    let mut first = 0;
    for count in [1, 2_000, 3, 700, 2_000, 2_000, 5, 1] {
        fake.append(0, numbers(Compression::Zstd, first, count));
        first += count;
    }
    let mut consumer = reading(&fake).await.build().await.unwrap();
    assert_eq!(read(&mut consumer, first as usize).await, (0..first).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_after_single_records_is_the_rest_of_theirs() {
    let fake = three_slow_batches().await;
    let mut consumer = reading(&fake).await.build().await.unwrap();
    assert_eq!(read(&mut consumer, 3).await, [0, 1, 2]);
    let mut rest = Vec::new();
    while rest.len() < 27 {
        rest.extend(numbers_in(&soon(consumer.next_batch()).await.unwrap()));
    }
    assert_eq!(rest, (3..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_pause_between_two_records_keeps_what_was_opened_ahead_in_order() {
    let fake = three_slow_batches().await;
    let mut consumer = reading(&fake).await.build().await.unwrap();
    assert_eq!(read(&mut consumer, 3).await, [0, 1, 2]);
    consumer.pause([&Fake::partition(0)]).unwrap();
    assert!(nothing_for(5, consumer.next()).await);
    consumer.resume([&Fake::partition(0)]).unwrap();
    assert_eq!(read(&mut consumer, 27).await, (3..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_partition_goes_on_after_an_error_however_late_that_is_taken() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 1));
    fake.on_fetch(|seen| match seen.nth {
        1 => Reply::Partitions(vec![Part::error(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED)]),
        _ => Reply::Serve,
    });
    let mut consumer = reading(&fake).await.build().await.unwrap();
    sleep(Duration::from_secs(100)).await;
    let error = next(&mut consumer).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { .. }), "{error:?}");
    assert_eq!(read(&mut consumer, 1).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn out_of_range_is_confirmed_by_questions_that_kafka_answers() {
    let fake = Fake::new(1);
    fake.change(0, |log| (log.start, log.end) = (50, 50));
    fake.append(0, numbers(Compression::None, 50, 1));
    let consumer = reading(&fake).await.start_at(Offset::At(10)).out_of_range(Offset::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    assert_eq!(read(&mut consumer, 1).await, [50]);
}

#[tokio::test(start_paused = true)]
async fn offsets_that_no_log_has_are_an_error_and_the_client_goes_on() {
    let fake = Fake::new(1);
    let last = crate::harness::at(&numbers(Compression::None, 0, 1), i64::MAX, 0);
    fake.on_fetch(move |seen| match seen.nth {
        1 => Reply::Partitions(vec![Part::of(0, last.clone())]),
        _ => Reply::Serve,
    });
    fake.append(0, numbers(Compression::None, 0, 1));
    let mut consumer = reading(&fake).await.build().await.unwrap();
    let error = next(&mut consumer).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error:?}");
    assert_eq!(read(&mut consumer, 1).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn batches_before_the_position_are_an_error_and_no_busy_loop() {
    let fake = Fake::new(1);
    let old = crate::harness::at(&numbers(Compression::None, 0, 1), 3, 0);
    fake.on_fetch(move |_| Reply::Partitions(vec![Part::of(0, old.clone())]));
    let mut consumer = reading(&fake).await.start_at(Offset::At(10)).build().await.unwrap();
    let error = next(&mut consumer).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error:?}");
    assert_eq!(consumer.position(&Fake::partition(0)).unwrap(), Some(10));
    sleep(Duration::from_secs(1)).await;
    assert!(fake.fetches().len() < 20, "{}", fake.fetches().len());
}

#[tokio::test(start_paused = true)]
async fn records_that_are_damaged_or_a_bomb_are_an_error_and_other_partitions_go_on() {
    let changed = |codec, at: usize, fits: bool| {
        let mut bytes = numbers(codec, 0, 5).to_vec();
        bytes[at] ^= 0x55;
        if fits {
            let crc = crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        Bytes::from(bytes)
    };
    let mut cases = vec![
        ("a wrong CRC", changed(Compression::None, 100, false)),
        ("a wrong length in a record", changed(Compression::None, 61, true)),
    ];
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        cases.push(("a wrong CRC of compressed records", changed(codec, 70, false)));
        cases.push(("compressed records that are not", changed(codec, 61, true)));
        cases.push(("a bomb", batch(codec, [vec![0; 200_000]])));
    }
    for (name, bad) in cases {
        let fake = Fake::new(2);
        fake.append(0, bad);
        let end = fake.append(0, numbers(Compression::None, 7, 1));
        fake.append(1, numbers(Compression::None, 0, 100));
        let mut config = ConsumerConfig::default();
        config.max_decompressed_bytes = 100_000;
        let builder = Consumer::builder(&fake.client().await).config(config).start_at(Offset::Earliest);
        let mut consumer = builder.assign([0, 1].map(Fake::partition)).build().await.unwrap();
        let (mut errors, mut others) = (Vec::new(), 0);
        while errors.is_empty() || others < 100 {
            match next(&mut consumer).await {
                Ok(record) => others += i32::from(record.partition == 1),
                Err(error) => errors.push(error),
            }
        }
        for error in errors {
            let ErrorKind::Corrupt { partition, offset, .. } = error.kind() else {
                panic!("{name}: {error:?}")
            };
            assert_eq!((partition, *offset), (&Fake::partition(0), 0), "{name}");
        }
        assert_eq!(consumer.position(&Fake::partition(0)).unwrap(), Some(0), "{name} is not stepped over");
        // Unless the application wants that.
        consumer.seek(&Fake::partition(0), Offset::At(end - 1)).unwrap();
        assert_eq!(read(&mut consumer, 1).await, [7], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_timer_is_waited_for_until_the_first_record_is_read() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 10));
    // The clock may stand between two ticks of tokio's timers.
    tokio::time::advance(Duration::from_micros(300)).await;
    let start = tokio::time::Instant::now();
    let mut consumer = reading(&fake).await.build().await.unwrap();
    assert_eq!(read(&mut consumer, 1).await, [0]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}
