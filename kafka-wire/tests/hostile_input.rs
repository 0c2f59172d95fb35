//! Mutated, cut off and length-poisoned input to every decoder of records, bodies and codecs: no panic, and memory as
//! much as was received plus 1 MiB, for decompression plus its limit.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use counting_alloc::{CountingAlloc, measure};
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::crc::crc32c;
use kafka_wire::record_batch::{BatchWriter, ControlRecord, HeaderRef, ProducerStamp, batches};
use kafka_wire::{fetch, produce};

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

const MIB: u64 = 1 << 20;
const LIMIT: usize = 4 << 20;
/// How long each decoder is tormented; long runs are the fuzz targets' business.
const BUDGET: Duration = Duration::from_millis(400);

/// Runs `decode` on damaged versions of `seeds` for a while; `spare` is what it may use beyond the input and 1 MiB.
fn torment(seeds: &[Vec<u8>], spare: u64, mut decode: impl FnMut(&[u8])) {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    while start.elapsed() < BUDGET {
        for _ in 0..100 {
            let input = damaged(&seeds[rng.usize(..seeds.len())], &mut rng);
            let ((), used) = measure(|| decode(&input));
            let bound = input.len() as u64 + MIB + spare;
            assert!(used.peak <= bound, "{} bytes of input used {used:?}, SEED={seed}", input.len());
        }
    }
}

fn damaged(intact: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = intact.to_vec();
    for _ in 0..rng.usize(..5) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][rng.usize(..6)],
            3 => {
                // A length or count of a number's worst kind.
                let value = [i32::MAX, -1, i32::MIN, 1 << 24, 300_000_000][rng.usize(..5)].to_be_bytes();
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            4 => {
                let varint = [0xff, 0xff, 0xff, 0xff, [0x0f, 0x07, 0x7f][rng.usize(..3)]];
                let end = bytes.len().min(at + 5);
                bytes[at..end].copy_from_slice(&varint[..end - at]);
            }
            5 => bytes.insert(at, rng.u8(..)),
            6 => drop(bytes.drain(at..bytes.len().min(at + rng.usize(..9)))),
            _ => {
                let end = bytes.len().min(at + rng.usize(..40));
                let copy = bytes[at..end].to_vec();
                let to = rng.usize(..bytes.len());
                bytes.splice(to..to, copy);
            }
        }
    }
    bytes
}

fn batch(codec: Compression, records: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new(BytesMut::new());
    for n in 0..records {
        let headers = [HeaderRef::new("a", Some(b"1")), HeaderRef::new("a", None)];
        let headers = &headers[..n % 3];
        writer
            .append(n as i64, Some(b"key").filter(|_| n % 2 == 0).map(|k| &k[..]), Some(&[7; 20]), headers)
            .unwrap();
    }
    let mut compressor = Compressor::new(codec, None).unwrap();
    let (mut sealed, _) = writer.finish_compressed(&mut compressor, BytesMut::new()).unwrap();
    sealed.stamp(ProducerStamp { producer_id: 1, producer_epoch: 0, base_sequence: 0 }, true);
    sealed.freeze().to_vec()
}

fn read_everything(input: &[u8], decompressor: &mut Decompressor) {
    for batch in batches(Bytes::copy_from_slice(input)) {
        let Ok(batch) = batch else { return };
        let _ = batch.verify();
        let Ok(decoded) = batch.decode(decompressor) else { continue };
        let borrowed = decoded.records().map_while(Result::ok).inspect(|record| {
            let _ = ControlRecord::parse(record);
            assert!(record.offset <= batch.header.last_offset());
        });
        let borrowed = borrowed.map(|record| record.headers().count() + 1).sum::<usize>();
        assert!(borrowed <= decoded.body().len());
        let mut reader = decoded.into_reader();
        for _ in 0..50 {
            if !matches!(reader.next(), Some(Ok(_))) {
                break;
            }
        }
    }
}

#[test]
fn damaged_record_batches_stay_within_bounds() {
    let two = [batch(Compression::None, 30), batch(Compression::None, 1)].concat();
    let seeds = [batch(Compression::None, 3), two, include_bytes!("vectors/java-commit.bin").to_vec()];
    let mut decompressor = Decompressor::new(LIMIT);
    // The copy into `Bytes` is the input once more.
    torment(&seeds, 0, |input| read_everything(input, &mut decompressor));
}

#[test]
fn damaged_compressed_batches_stay_within_bounds() {
    let seeds: Vec<_> = Compression::ALL.into_iter().map(|codec| batch(codec, 40)).collect();
    let mut decompressor = Decompressor::new(LIMIT);
    torment(&seeds, LIMIT as u64, |input| {
        let mut input = input.to_vec();
        // With the right checksum, as a hostile broker would send it.
        if input.len() > 21 {
            let crc = crc32c(&input[21..]);
            input[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        read_everything(&input, &mut decompressor);
    });
}

#[test]
fn damaged_codec_data_stays_within_bounds() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut seeds = Vec::new();
        let noise: Vec<u8> = (0..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let text = include_str!("hostile_input.rs").as_bytes();
        for input in [&b""[..], b"short", &noise, text, &[0; 100_000], &vec![0; 2 * LIMIT]] {
            let mut out = BytesMut::new();
            Compressor::new(codec, None).unwrap().compress(input, &mut out).unwrap();
            seeds.push(out.to_vec());
        }
        match codec {
            Compression::Lz4 => {
                seeds.push(include_bytes!("vectors/lz4-256k-linked-checksums.lz4").to_vec());
                seeds.push(include_bytes!("vectors/lz4-4m.lz4").to_vec());
            }
            Compression::Zstd => {
                seeds.push(include_bytes!("vectors/zstd-1.zst").to_vec());
                seeds.push(include_bytes!("vectors/zstd-22-window-128m.zst").to_vec());
            }
            _ => {}
        }
        torment(&seeds, LIMIT as u64, |input| {
            if let Ok(out) = Decompressor::new(LIMIT).decompress(codec, input) {
                assert!(out.len() <= LIMIT);
            }
        });
    }
}

#[test]
fn bombs_with_every_window_stop_at_the_limit() {
    // 5 MB behind frames of 2 to 25 kB, with windows and blocks of up to 128 MiB and 4 MiB.
    let bombs: [(Compression, &[u8]); 4] = [
        (Compression::Zstd, include_bytes!("vectors/zstd-22-window-128m.zst")),
        (Compression::Zstd, include_bytes!("vectors/zstd-19.zst")),
        (Compression::Lz4, include_bytes!("vectors/lz4-4m.lz4")),
        (Compression::Lz4, include_bytes!("vectors/lz4-1m-linked-size.lz4")),
    ];
    for (codec, bomb) in bombs {
        for limit in [1 << 10, 1 << 16, 1 << 20, 3 << 20] {
            let (outcome, used) = measure(|| Decompressor::new(limit).decompress(codec, bomb));
            assert!(outcome.is_err());
            let bound = bomb.len() as u64 + MIB + limit as u64;
            assert!(used.peak <= bound, "{codec} to {limit} bytes used {used:?}");
        }
    }
}

#[test]
fn damaged_bodies_need_no_memory() {
    let topic = produce::TopicRef { name: "topic", id: [1; 16] };
    let endpoint = produce::NodeEndpoint { node_id: 1, host: "host", port: 9092, rack: None };
    for version in [3, 8, 9, 13] {
        let records = [produce::PartitionRecords { topic, index: 0, records: Bytes::from_static(&[1; 30]) }];
        let request =
            produce::Request { transactional_id: Some("t"), acks: -1, timeout_ms: 1, partitions: &records };
        let seed = request.encode(version, &mut BytesMut::new()).unwrap().concat();
        torment(&[seed], 0, |input| {
            if let Ok(view) = produce::RequestView::decode(version, input) {
                assert!(view.partitions().count() <= input.len());
            }
        });
        let outcome = produce::Outcome {
            index: 0,
            error_code: 0,
            base_offset: 0,
            log_append_time_ms: -1,
            log_start_offset: 0,
            current_leader: Some(produce::LeaderHint { leader_id: 1, leader_epoch: 1 }),
        };
        let partition = produce::PartitionResponse {
            topic,
            outcome,
            record_errors: &[produce::RecordError { batch_index: 1, message: Some("m") }],
            error_message: Some("m"),
        };
        let response =
            produce::Response { partitions: &[partition], throttle_time_ms: 0, node_endpoints: &[endpoint] };
        let mut seed = BytesMut::new();
        response.encode(version, &mut seed).unwrap();
        torment(&[seed.to_vec()], 0, |input| {
            if let Ok(view) = produce::ResponseView::decode(version, input) {
                let errors: usize = view.partitions().map(|partition| partition.record_errors.count()).sum();
                assert!(errors + view.node_endpoints.count() <= input.len());
            }
        });
    }
    for version in [4, 11, 12, 18] {
        let request = fetch::Request {
            replica_id: -1,
            replica_epoch: -1,
            cluster_id: None,
            max_wait_ms: 1,
            min_bytes: 1,
            max_bytes: 1,
            isolation_level: 1,
            session_id: 1,
            session_epoch: 1,
            partitions: &[fetch::FetchPartition::new(topic, 0, 0, 1)],
            forgotten: &[fetch::ForgottenPartition { topic, index: 1 }],
            rack_id: "rack",
        };
        let mut seed = BytesMut::new();
        request.encode(version, &mut seed).unwrap();
        torment(&[seed.to_vec()], 0, |input| {
            if let Ok(view) = fetch::RequestView::decode(version, input) {
                assert!(view.partitions().count() + view.forgotten().count() <= input.len());
            }
        });
        let partition = fetch::PartitionResponse {
            topic,
            status: fetch::Status {
                index: 0,
                error_code: 0,
                high_watermark: 1,
                last_stable_offset: 1,
                log_start_offset: 0,
                diverging_epoch: Some(fetch::EpochEndOffset { epoch: 1, end_offset: 1 }),
                current_leader: Some(fetch::LeaderHint { leader_id: 1, leader_epoch: 1 }),
                snapshot_id: Some(fetch::SnapshotId { end_offset: 1, epoch: 1 }),
                preferred_read_replica: -1,
            },
            aborted_transactions: Some(&[fetch::AbortedTransaction { producer_id: 1, first_offset: 1 }]),
            records: &[Bytes::from_static(&[1; 30])],
        };
        let response = fetch::Response {
            throttle_time_ms: 0,
            error_code: 0,
            session_id: 0,
            partitions: &[partition],
            node_endpoints: &[endpoint],
        };
        let seed = response.encode(version, &mut BytesMut::new()).unwrap().concat();
        torment(&[seed], 0, |input| {
            if let Ok(view) = fetch::ResponseView::decode(version, input) {
                let aborted: usize = view.partitions().map(|p| p.aborted_transactions.count()).sum();
                assert!(aborted + view.node_endpoints.count() <= input.len());
            }
        });
    }
}
