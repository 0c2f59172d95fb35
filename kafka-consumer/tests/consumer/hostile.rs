//! Brokers that answer wrongly: a typed error, the position kept, no busy loop, and the other partitions unharmed.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_client::raw::wire::compression::Compression;
use kafka_client::raw::wire::fetch::EpochEndOffset;
use kafka_client::{Api, ErrorCode, IsolationLevel, Offset};
use kafka_consumer::{Consumer, ConsumerBuilder, Error, ErrorKind};
use tokio::time::sleep;

use crate::fake::{Fake, Part, Reply, id, respond_in};
use crate::harness::{at, batch, next, number, numbers};

async fn both(fake: &Fake) -> ConsumerBuilder {
    let assigned = [Fake::partition(0), Fake::partition(1)];
    Consumer::builder(&fake.client().await).assign(assigned).start_at(Offset::Earliest)
}

/// Reads what comes of partition 1, and the errors beside it.
async fn others(consumer: &mut Consumer, count: usize) -> (Vec<i64>, Vec<Error>) {
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    while read.len() < count {
        match next(consumer).await {
            Ok(record) => {
                assert_eq!(record.partition, 1);
                read.push(number(record.value.as_ref().unwrap()));
            }
            Err(error) => errors.push(error),
        }
    }
    (read, errors)
}

fn bad(records: impl Fn(&Bytes) -> Bytes) -> Bytes {
    records(&numbers(Compression::None, 0, 3))
}

fn patched(good: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut patched = good.to_vec();
    patched[at..at + bytes.len()].copy_from_slice(bytes);
    patched.into()
}

/// A zstd frame of 1 GiB of zeros, in 128 KiB blocks that repeat one byte, in a batch with a checksum that is right.
fn bomb() -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58]);
    let block = (128 << 10) << 3 | 0b010_u32;
    for _ in 0..8 << 10 {
        frame.put_slice(&block.to_le_bytes()[..3]);
        frame.put_u8(0);
    }
    frame.put_slice(&[0b011, 0, 0]);
    let good = numbers(Compression::None, 0, 3);
    let mut bomb = BytesMut::from(&good[..61]);
    bomb.extend_from_slice(&frame);
    let length = (bomb.len() - 12) as i32;
    bomb[8..12].copy_from_slice(&length.to_be_bytes());
    bomb[21..23].copy_from_slice(&4_i16.to_be_bytes());
    let checksum = crc32c(&bomb[21..]);
    bomb[17..21].copy_from_slice(&checksum.to_be_bytes());
    bomb.freeze()
}

/// Bit by bit, which is good enough for a test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_a_typed_error_at_its_offset_and_the_others_go_on() {
    let cases: Vec<(&str, Bytes)> = vec![
        ("checksum", bad(|good| patched(good, 70, b"?"))),
        ("magic", bad(|good| patched(good, 16, &[1]))),
        ("negative length", bad(|good| patched(good, 8, &(-1_i32).to_be_bytes()))),
        ("short length", bad(|good| patched(good, 8, &10_i32.to_be_bytes()))),
        ("length past the end", bad(|good| patched(good, 8, &i32::MAX.to_be_bytes()))),
        ("count", bad(|good| patched(good, 57, &i32::MAX.to_be_bytes()))),
        ("negative count", bad(|good| patched(good, 57, &(-1_i32).to_be_bytes()))),
        ("codec", bad(|good| patched(good, 22, &[7]))),
        ("last offset", bad(|good| patched(good, 23, &(-1_i32).to_be_bytes()))),
        ("part of a batch", bad(|good| good.slice(..good.len() - 1))),
        ("less than a header", bad(|good| good.slice(..20))),
        ("offsets that overflow", bad(|good| at(good, i64::MAX - 1, 0))),
        ("offsets that go back", bad(|good| at(good, -10, 0))),
        ("bomb", bomb()),
    ];
    for (name, records) in cases {
        let fake = Fake::new(2);
        fake.append(1, numbers(Compression::None, 0, 5));
        let spoiled = records.clone();
        fake.change(0, |log| (log.batches, log.end) = (vec![], 3));
        fake.on_fetch(move |seen| {
            let mut parts = Vec::new();
            for (partition, offset, ..) in &seen.wants {
                match (*partition, *offset) {
                    (0, 0) => parts.push(Part::of(0, spoiled.clone())),
                    (1, 0) => parts.push(Part::of(1, numbers(Compression::None, 0, 5))),
                    (other, _) => parts.push(Part::of(other, Bytes::new())),
                }
            }
            Reply::Partitions(parts)
        });
        let mut consumer = both(&fake).await.build().await.unwrap();
        let (read, mut errors) = others(&mut consumer, 5).await;
        assert_eq!(read, [0, 1, 2, 3, 4], "{name}");
        while errors.is_empty() {
            errors.extend(next(&mut consumer).await.err());
        }
        let error = errors.remove(0);
        match error.kind() {
            ErrorKind::Corrupt { partition, .. } => assert_eq!(partition, &Fake::partition(0), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(error.is_retriable() && !error.is_fatal());
        assert_eq!(consumer.position(&Fake::partition(0)).unwrap(), Some(0), "{name}");
        let before = fake.fetches().len();
        let again = next(&mut consumer).await.unwrap_err();
        assert!(matches!(again.kind(), ErrorKind::Corrupt { .. }), "{name}");
        assert!(fake.fetches().len() - before < 30, "{name}: {} fetches", fake.fetches().len() - before);
        // Behind it, reading goes on.
        fake.on_fetch(|_| Reply::Serve);
        fake.append(0, numbers(Compression::None, 3, 2));
        consumer.seek(&Fake::partition(0), 3).unwrap();
        assert_eq!(number(&next(&mut consumer).await.unwrap().value.unwrap()), 3, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn good_batches_before_a_bad_one_are_read_first() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 3));
    let bad = patched(&numbers(Compression::None, 3, 3), 70, b"?");
    fake.append(0, bad);
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let mut consumer = assigned.start_at(Offset::Earliest).build().await.unwrap();
    for expected in 0..3 {
        assert_eq!(number(&next(&mut consumer).await.unwrap().value.unwrap()), expected);
    }
    match next(&mut consumer).await.unwrap_err().kind() {
        ErrorKind::Corrupt { offset: 3, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_is_told_of_and_asked_for_again_once_a_second() {
    let fake = Fake::new(2);
    fake.append(1, numbers(Compression::None, 0, 1));
    fake.on_fetch(|seen| match seen.nth {
        1..=3 => Reply::Raw(Bytes::from_static(&[0x7f; 64])),
        _ => Reply::Serve,
    });
    let mut consumer = both(&fake).await.build().await.unwrap();
    let (read, errors) = others(&mut consumer, 1).await;
    assert_eq!(read, [0]);
    assert!(!errors.is_empty());
    for error in errors {
        assert!(matches!(error.kind(), ErrorKind::Client(_)), "{error:?}");
        assert!(!error.is_fatal());
    }
    let fetches = fake.fetches();
    assert!(fetches.windows(2).take(3).all(|pair| pair[1].at - pair[0].at >= Duration::from_millis(500)));
}

#[tokio::test(start_paused = true)]
async fn answers_about_other_partitions_twice_or_not_at_all_do_no_harm() {
    let fake = Fake::new(2);
    let first = numbers(Compression::None, 0, 1);
    fake.append(0, first.clone());
    fake.append(1, first.clone());
    fake.on_fetch(move |seen| match seen.nth {
        // Nobody asked for partition 7, nor for another topic, and partition 1 is left out.
        1 => {
            let mut foreign = Part::of(0, first.clone());
            foreign.topic_id = id(9);
            let same = Part::of(0, first.clone());
            Reply::Partitions(vec![Part::of(7, first.clone()), same.clone(), same, foreign])
        }
        _ => Reply::Serve,
    });
    let mut consumer = both(&fake).await.build().await.unwrap();
    let mut read = Vec::new();
    for _ in 0..2 {
        let record = next(&mut consumer).await.unwrap();
        read.push((record.partition, record.offset));
    }
    assert_eq!(read, [(0, 0), (1, 0)]);
    let fetches = fake.fetches();
    assert!(fetches[1].at - fetches[0].at < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn brokers_that_answer_nothing_at_once_are_not_asked_without_end() {
    type Script = fn() -> Reply;
    let scripts: [(&str, Script); 6] = [
        ("nothing", || Reply::Partitions(vec![])),
        ("empty parts", || Reply::Partitions(vec![Part::of(0, Bytes::new()), Part::of(1, Bytes::new())])),
        ("no session", || Reply::Error(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)),
        ("any error", || Reply::Error(ErrorCode::UNKNOWN_SERVER_ERROR)),
        ("an unknown replica", || {
            let mut part = Part::of(0, Bytes::new());
            part.status.preferred_read_replica = 77;
            Reply::Partitions(vec![part, Part::of(1, Bytes::new())])
        }),
        ("divergence", || {
            let mut part = Part::of(0, Bytes::new());
            part.status.diverging_epoch = Some(EpochEndOffset { epoch: 0, end_offset: 5 });
            Reply::Partitions(vec![part, Part::of(1, Bytes::new())])
        }),
    ];
    for (name, script) in scripts {
        let fake = Fake::new(2);
        fake.on_fetch(move |_| script());
        let consumer = both(&fake).await.build().await.unwrap();
        sleep(Duration::from_secs(20)).await;
        let fetches = fake.fetches().len();
        assert!(fetches < 450, "{name}: {fetches} fetches in 20 s");
        assert!(fetches > 10, "{name}: only {fetches} fetches in 20 s");
        drop(consumer);
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_that_do_not_exist_or_change_their_number_are_begun_anew() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 1));
    fake.on_fetch(|seen| {
        let data = |offset: i64| Part::of(0, at(&numbers(Compression::None, offset, 1), offset, 0));
        let raw = |session, part| Reply::Raw(respond_in(seen.version, ErrorCode::NONE, session, &[part]));
        match seen.nth {
            1 => raw(5, data(0)),
            // Another session than the one that was asked in.
            2 => raw(6, data(1)),
            3 => raw(7, data(2)),
            4 => Reply::Error(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            5 => raw(0, data(3)),
            6 => raw(0, data(4)),
            _ => Reply::Silence,
        }
    });
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let mut consumer = assigned.start_at(Offset::Earliest).build().await.unwrap();
    for expected in 0..5 {
        assert_eq!(next(&mut consumer).await.unwrap().offset, expected);
    }
    sleep(Duration::from_millis(1)).await;
    let sessions: Vec<_> = fake.fetches().iter().map(|fetch| fetch.session).collect();
    assert_eq!(sessions[..6], [(0, 0), (5, 1), (6, 0), (7, 1), (7, 0), (0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_refused_is_an_error_and_not_silence() {
    let fake = Fake::new(1);
    fake.deny_topic(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let mut consumer = assigned.start_at(Offset::Earliest).build().await.unwrap();
    let error = next(&mut consumer).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    fake.append(0, numbers(Compression::None, 0, 1));
    fake.deny_topic(ErrorCode::NONE);
    while next(&mut consumer).await.is_err() {}
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_of_a_lookup_never_moves_the_position() {
    let fake = Fake::new(1);
    fake.change(0, |log| log.end = 10);
    fake.fail_lookups(Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let mut consumer = assigned.start_at(Offset::Latest).build().await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(consumer.position(&Fake::partition(0)).unwrap(), None);
    assert!(fake.requests(Api::ListOffsets) < 400, "{}", fake.requests(Api::ListOffsets));
    fake.fail_lookups(None);
    sleep(Duration::from_secs(3)).await;
    fake.append(0, numbers(Compression::None, 10, 1));
    assert_eq!(next(&mut consumer).await.unwrap().offset, 10);
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_anew_is_read_by_the_policy_and_not_from_the_old_position() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 5));
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let builder = assigned.start_at(Offset::Earliest).out_of_range(Offset::Earliest);
    let mut consumer = builder.build().await.unwrap();
    for expected in 0..5 {
        assert_eq!(number(&next(&mut consumer).await.unwrap().value.unwrap()), expected);
    }
    fake.create_anew(2);
    fake.append(0, numbers(Compression::None, 100, 20));
    let record = next(&mut consumer).await.unwrap();
    assert_eq!((record.offset, number(&record.value.unwrap())), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_log_is_gone_back_in_and_read_anew() {
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 10));
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let builder = assigned.start_at(Offset::Earliest).out_of_range(Offset::Latest);
    let mut consumer = builder.build().await.unwrap();
    for expected in 0..10 {
        assert_eq!(number(&next(&mut consumer).await.unwrap().value.unwrap()), expected);
    }
    fake.nodes([1, 2]);
    fake.change(0, |log| {
        (log.leader, log.epoch, log.end) = (2, 1, 6);
        log.batches = vec![at(&numbers(Compression::None, 0, 6), 0, 0)];
        log.epoch_ends.insert(0, 6);
    });
    fake.append(0, numbers(Compression::None, 600, 1));
    let record = next(&mut consumer).await.unwrap();
    assert_eq!((record.offset, number(&record.value.unwrap())), (6, 600));
}

#[tokio::test(start_paused = true)]
async fn a_read_committed_consumer_steps_over_gaps_and_its_lag_ends_at_none() {
    use kafka_client::raw::wire::record_batch::{EndTransaction, end_transaction_batch};
    let fake = Fake::new(1);
    fake.append(0, numbers(Compression::None, 0, 2));
    fake.append(0, end_transaction_batch(EndTransaction::Commit, 7, 0, 0, 0).unwrap());
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let builder = assigned.start_at(Offset::Earliest).isolation(IsolationLevel::ReadCommitted);
    let mut consumer = builder.build().await.unwrap();
    for expected in 0..2 {
        assert_eq!(next(&mut consumer).await.unwrap().offset, expected);
    }
    fake.append(0, end_transaction_batch(EndTransaction::Abort, 7, 0, 0, 0).unwrap());
    assert!(crate::harness::nothing_for(5, futures_util::StreamExt::next(&mut consumer)).await);
    assert_eq!(consumer.position(&Fake::partition(0)).unwrap(), Some(4));
    assert_eq!(consumer.lag(&Fake::partition(0)).unwrap(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_empty_rest_of_a_batch_is_no_batch() {
    let fake = Fake::new(1);
    // Compaction took the last three of ten records, and kept the batch's end.
    let mut compacted = numbers(Compression::None, 0, 7).to_vec();
    compacted[23..27].copy_from_slice(&9_i32.to_be_bytes());
    let checksum = crc32c(&compacted[21..]);
    compacted[17..21].copy_from_slice(&checksum.to_be_bytes());
    fake.append(0, compacted.into());
    fake.append(0, batch(Compression::None, ["end"]));
    let assigned = Consumer::builder(&fake.client().await).assign([Fake::partition(0)]);
    let mut consumer = assigned.start_at(Offset::At(8)).build().await.unwrap();
    let batch = crate::harness::soon(consumer.next_batch()).await.unwrap();
    assert_eq!(batch.records().map(|record| record.offset).collect::<Vec<_>>(), [10]);
}
