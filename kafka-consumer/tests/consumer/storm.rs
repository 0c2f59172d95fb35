//! Random seeks, pauses, resumes and reads against a model of what must come next.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt;
use kafka_client::raw::wire::compression::Compression;
use kafka_client::{ErrorCode, Offset};
use kafka_consumer::{Consumer, ConsumerRecord};
use tokio::time::{sleep, timeout};

use crate::fake::{Fake, Part, Reply};
use crate::harness::{number, numbers, soon};

const PARTITIONS: i32 = 3;
const RECORDS: i64 = 300;

fn seeds(runs: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED").ok() {
        Some(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        None => 0..runs,
    }
}

/// What comes next of each partition, and whether it may.
struct Model {
    next: BTreeMap<i32, i64>,
    paused: BTreeMap<i32, bool>,
}

impl Model {
    fn take(&mut self, record: &ConsumerRecord, seed: u64) {
        let next = self.next.get_mut(&record.partition).unwrap();
        assert_eq!(record.offset, *next, "of partition {}; SEED={seed}", record.partition);
        assert_eq!(number(record.value.as_ref().unwrap()), record.offset, "SEED={seed}");
        assert!(!self.paused[&record.partition], "partition {} is paused; SEED={seed}", record.partition);
        *next += 1;
    }

    fn may_read(&self) -> bool {
        self.next.iter().any(|(index, next)| *next < RECORDS && !self.paused[index])
    }
}

async fn filled(random: &mut Rng) -> Fake {
    let fake = Fake::new(PARTITIONS as usize);
    let codecs = [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd];
    for index in 0..PARTITIONS {
        let mut first = 0;
        while first < RECORDS {
            let count = random.i64(1..=20).min(RECORDS - first);
            fake.append(index as usize, numbers(codecs[random.usize(..codecs.len())], first, count));
            first += count;
        }
    }
    let mut random = random.fork();
    fake.on_fetch(move |seen| match random.u8(..20) {
        0 => Reply::Close,
        1 => Reply::Error(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        2 => {
            let parts = seen.wants.iter();
            let failed =
                |(index, ..): &(i32, i64, i32, i32)| Part::error(*index, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            Reply::Partitions(parts.map(failed).collect())
        }
        _ => Reply::Serve,
    });
    fake
}

#[tokio::test(start_paused = true)]
async fn whatever_is_sought_and_paused_the_next_record_is_the_next_one() {
    for seed in seeds(40) {
        let mut random = Rng::with_seed(seed);
        let fake = filled(&mut random).await;
        let assigned = (0..PARTITIONS).map(Fake::partition);
        let builder = Consumer::builder(&fake.client().await).assign(assigned).start_at(Offset::Earliest);
        let budget = 1 << random.u32(10..16);
        let mut consumer =
            builder.fetch_bytes(budget, budget / 2).max_buffered_bytes(budget).build().await.unwrap();
        let mut model = Model {
            next: (0..PARTITIONS).map(|index| (index, 0)).collect(),
            paused: (0..PARTITIONS).map(|index| (index, false)).collect(),
        };
        for _ in 0..400 {
            let index = random.i32(0..PARTITIONS);
            let partition = Fake::partition(index);
            match random.u8(..20) {
                0 | 1 => {
                    let to = random.i64(0..RECORDS);
                    consumer.seek(&partition, to).unwrap();
                    model.next.insert(index, to);
                }
                2 | 3 => {
                    consumer.pause([&partition]).unwrap();
                    model.paused.insert(index, true);
                }
                4..=6 => {
                    consumer.resume([&partition]).unwrap();
                    model.paused.insert(index, false);
                }
                7 => sleep(Duration::from_millis(random.u64(..50))).await,
                8..=10 if model.may_read() => {
                    let batch = soon(consumer.next_batch()).await.unwrap();
                    let records: Vec<_> = batch.to_records().collect();
                    assert!(!records.is_empty(), "SEED={seed}");
                    records.iter().for_each(|record| model.take(record, seed));
                }
                11 => {
                    let patience = Duration::from_millis(random.u64(..3));
                    if let Ok(Some(record)) = timeout(patience, consumer.next()).await {
                        model.take(&record.unwrap(), seed);
                    }
                }
                _ if model.may_read() => {
                    let record = soon(consumer.next()).await.unwrap().unwrap();
                    model.take(&record, seed);
                }
                _ => {}
            }
        }
        for index in 0..PARTITIONS {
            consumer.resume([&Fake::partition(index)]).unwrap();
            model.paused.insert(index, false);
        }
        while model.may_read() {
            let record = soon(consumer.next()).await.unwrap().unwrap();
            model.take(&record, seed);
        }
        for (index, next) in &model.next {
            assert_eq!(consumer.position(&Fake::partition(*index)).unwrap(), Some(*next), "SEED={seed}");
        }
        assert_eq!(consumer.buffered_bytes(), 0, "SEED={seed}");
    }
}
