//! The codec beside kafka-protocol's in the same run: ns and allocations a record, slices of both taken in turn.
//!
//! `cargo bench -p benches --bench codec`; `taskset -c 0` in front steadies it. Only figures of one table compare.
#![allow(clippy::unwrap_used, reason = "a bench has nobody to report an error to")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use counting_alloc::{CountingAlloc, measure};
use kafka_protocol::messages as oracle;
use kafka_protocol::messages::{fetch_response, produce_request};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{self as oracle_records, RecordBatchDecoder, RecordBatchEncoder};
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::record_batch::{BatchWriter, ProducerStamp, SealedBatch, batch_buffer, batches};
use kafka_wire::{fetch, produce};

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

/// Slices of each contender, and how long one is: short and many, so that some escape whatever else the machine does.
const ROUNDS: usize = 300;
const SLICE: Duration = Duration::from_micros(500);

fn main() {
    for (count, size) in [(1000, 100), (10, 10 << 10)] {
        let values = values(count, size);
        record_batches(&values);
        codecs(&values);
    }
    produce_requests();
    fetch_responses();
}

/// A named piece of work on `items` things.
struct Contender<'a> {
    name: &'static str,
    work: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, work: impl FnMut() + 'a) -> Contender<'a> {
        Contender { name, work: Box::new(work) }
    }
}

/// Runs the contenders in turn and prints each one's best slice.
fn race(title: &str, items: usize, bytes: usize, mut contenders: Vec<Contender<'_>>) {
    println!("\n{title}");
    let mut best = vec![f64::MAX; contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, best) in contenders.iter_mut().zip(&mut best) {
            let (start, mut runs) = (Instant::now(), 0);
            let elapsed = loop {
                (contender.work)();
                runs += 1;
                let elapsed = start.elapsed();
                if elapsed >= SLICE {
                    break elapsed;
                }
            };
            *best = best.min(elapsed.as_nanos() as f64 / f64::from(runs) / items as f64);
        }
    }
    for (contender, ns) in contenders.iter_mut().zip(best) {
        let ((), used) = measure(|| (contender.work)());
        let allocations = used.allocations as f64 / items as f64;
        let speed = bytes as f64 / items as f64 / ns;
        println!("  {:<44} {ns:>9.1} ns {speed:>7.2} GB/s {allocations:>7.3} allocations", contender.name);
    }
}

const KEY: &[u8; 16] = b"0123456789abcdef";
const TIMESTAMP: i64 = 1_700_000_000_000;

/// JSON-like values of `size` bytes.
fn values(count: usize, size: usize) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(1);
    let value = |_| {
        let mut text = String::new();
        while text.len() < size {
            let (id, amount) = (rng.u32(..), rng.f32() * 1000.0);
            let name = ["ada", "grace", "edsger", "barbara"][rng.usize(..4)];
            text += &format!("{{\"id\":{id},\"name\":\"{name}\",\"amount\":{amount:.2},\"ok\":true}},");
        }
        text.truncate(size);
        text.into_bytes()
    };
    (0..count).map(value).collect()
}

fn append_all(writer: &mut BatchWriter, values: &[Vec<u8>]) {
    for (n, value) in values.iter().enumerate() {
        writer.append(TIMESTAMP + n as i64, Some(KEY), Some(value), &[]).unwrap();
    }
}

fn sealed(values: &[Vec<u8>]) -> SealedBatch {
    let mut writer = BatchWriter::new(batch_buffer(1 << 18));
    append_all(&mut writer, values);
    writer.finish().unwrap()
}

fn record_batches(values: &[Vec<u8>]) {
    let items = values.len();
    let bytes = items * (16 + values[0].len());
    let theirs: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(n, value)| oracle_records::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 1,
            producer_epoch: 0,
            timestamp_type: oracle_records::TimestampType::Creation,
            offset: n as i64,
            sequence: n as i32,
            timestamp: TIMESTAMP + n as i64,
            key: Some(Bytes::from_static(KEY)),
            value: Some(Bytes::from(value.clone())),
            headers: Default::default(),
        })
        .collect();
    let options =
        oracle_records::RecordEncodeOptions { version: 2, compression: oracle_records::Compression::None };
    let stamp = ProducerStamp { producer_id: 1, producer_epoch: 0, base_sequence: 0 };
    let mut pooled = Some(batch_buffer(1 << 18));
    let mut out = BytesMut::with_capacity(1 << 18);
    race(
        &format!("encode {items} records of {} B + 16 B key, to bytes with CRC", values[0].len()),
        items,
        bytes,
        vec![
            Contender::new("kafka-protocol, records already built", || {
                out.clear();
                RecordBatchEncoder::encode(&mut out, &theirs, &options).unwrap();
                black_box(&out);
            }),
            Contender::new("kafka-wire, recycled buffer", || {
                let mut writer = BatchWriter::new(pooled.take().unwrap());
                append_all(&mut writer, values);
                let mut sealed = writer.finish().unwrap();
                sealed.stamp(stamp, false);
                pooled = Some(black_box(sealed.freeze()).try_into_mut().unwrap());
            }),
            Contender::new("kafka-wire, new buffer", || {
                let mut writer = BatchWriter::new(BytesMut::new());
                append_all(&mut writer, values);
                black_box(writer.finish().unwrap().freeze());
            }),
        ],
    );

    let encoded = sealed(values).freeze();
    let mut decompressor = Decompressor::default();
    let mut decode = |verify: bool| {
        let (mut offsets, mut len) = (0, 0);
        for batch in batches(encoded.clone()) {
            let batch = batch.unwrap();
            if verify {
                batch.verify().unwrap();
            }
            for record in batch.decode(&mut decompressor).unwrap().records() {
                let record = record.unwrap();
                offsets += record.offset + record.timestamp;
                len += record.key.unwrap().len() + record.value.unwrap().len();
            }
        }
        black_box((offsets, len));
    };
    let mut borrowed = || decode(true);
    let mut contenders = vec![
        Contender::new("kafka-protocol", || {
            let mut input = encoded.clone();
            black_box(RecordBatchDecoder::decode(&mut input).unwrap());
        }),
        Contender::new("kafka-wire, borrowed, CRC checked", &mut borrowed),
    ];
    contenders.push(Contender::new("kafka-wire, owned, CRC checked", || {
        let mut decompressor = Decompressor::default();
        for batch in batches(encoded.clone()) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            for record in batch.decode(&mut decompressor).unwrap().into_reader() {
                black_box(record.unwrap());
            }
        }
    }));
    race("decode the same", items, bytes, contenders);
    let unchecked = Contender::new("kafka-wire, borrowed, CRC not checked", || decode(false));
    race("decode the same without CRC", items, bytes, vec![unchecked]);
}

fn codecs(values: &[Vec<u8>]) {
    let items = values.len();
    let bytes = items * (16 + values[0].len());
    let plain = sealed(values).freeze().slice(61..);
    for codec in [Compression::Lz4, Compression::Snappy, Compression::Gzip, Compression::Zstd] {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let mut packed = BytesMut::new();
        compressor.compress(&plain, &mut packed).unwrap();
        let ratio = plain.len() as f64 / packed.len() as f64;
        let mut decompressor = Decompressor::default();
        let mut out = BytesMut::with_capacity(1 << 18);
        race(
            &format!("{codec}, ratio {ratio:.2}"),
            items,
            bytes,
            vec![
                Contender::new("compress", || {
                    out.clear();
                    compressor.compress(&plain, &mut out).unwrap();
                    black_box(&out);
                }),
                Contender::new("decompress", || {
                    let out = decompressor.decompress(codec, &packed).unwrap();
                    decompressor.recycle(black_box(out));
                }),
            ],
        );
    }
}

const PARTITIONS: i32 = 100;
const BATCH: usize = 64 << 10;

fn produce_requests() {
    let batch = Bytes::from(vec![1; BATCH]);
    let topic = produce::TopicRef { name: "a-topic-of-some-length", id: [7; 16] };
    let ours: Vec<_> = (0..PARTITIONS)
        .map(|index| produce::PartitionRecords { topic, index, records: batch.clone() })
        .collect();
    let request =
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 30_000, partitions: &ours };
    let data = (0..PARTITIONS).map(|index| {
        produce_request::PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()))
    });
    let theirs =
        oracle::ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![
            produce_request::TopicProduceData::default()
                .with_topic_id(uuid::Uuid::from_bytes(topic.id))
                .with_partition_data(data.collect()),
        ]);
    let mut out = BytesMut::with_capacity(8 << 20);
    let mut scratch = BytesMut::new();
    race(
        "encode Produce 13 with 100 batches of 64 KiB",
        1,
        BATCH * PARTITIONS as usize,
        vec![
            Contender::new("kafka-protocol, copies the batches", || {
                out.clear();
                theirs.encode(&mut out, 13).unwrap();
                black_box(&out);
            }),
            Contender::new("kafka-wire, links them", || {
                black_box(request.encode(13, &mut scratch).unwrap());
            }),
        ],
    );
}

fn fetch_responses() {
    let data = (0..PARTITIONS).map(|index| {
        fetch_response::PartitionData::default()
            .with_partition_index(index)
            .with_records(Some(Bytes::from(vec![1; 1000])))
    });
    let response = oracle::FetchResponse::default().with_responses(vec![
        fetch_response::FetchableTopicResponse::default()
            .with_topic(oracle::TopicName(StrBytes::from_static_str("a-topic-of-some-length")))
            .with_partitions(data.collect()),
    ]);
    let mut frame = BytesMut::new();
    response.encode(&mut frame, 12).unwrap();
    let frame = frame.freeze();
    race(
        "decode Fetch 12 with 100 partitions of 1 kB",
        1,
        frame.len(),
        vec![
            Contender::new("kafka-protocol", || {
                let mut input = frame.clone();
                black_box(oracle::FetchResponse::decode(&mut input, 12).unwrap());
            }),
            Contender::new("kafka-wire, records kept as Bytes", || {
                let view = fetch::ResponseView::decode(12, &frame).unwrap();
                for partition in view.partitions() {
                    black_box((partition.status, frame.slice_ref(partition.records)));
                }
            }),
            Contender::new("kafka-wire, borrowed", || {
                let view = fetch::ResponseView::decode(12, &frame).unwrap();
                for partition in view.partitions() {
                    black_box(partition);
                }
            }),
        ],
    );
}
