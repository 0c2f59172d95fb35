//! What the hot path asks of the allocator, counted exactly: nothing a record, fixed numbers a batch and a request.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::{Bytes, BytesMut};
use counting_alloc::{CountingAlloc, Counts, measure};
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::record_batch::{
    BatchWriter, HeaderRef, ProducerStamp, RawBatch, SealedBatch, batch_buffer, batches,
};
use kafka_wire::{fetch, produce};

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

const RECORDS: usize = 1000;
const VALUE: &[u8; 100] =
    b"{\"id\":1234567,\"name\":\"somebody\",\"amount\":1234.56,\"currency\":\"EUR\",\"note\":\"about a hundred bytes\"}   ";
const STAMP: ProducerStamp = ProducerStamp { producer_id: 1, producer_epoch: 2, base_sequence: 3 };

fn append_all(writer: &mut BatchWriter) {
    let headers = [HeaderRef::new("trace", Some(b"0123456789")), HeaderRef::new("trace", None)];
    for n in 0..RECORDS {
        let headers = if n % 4 == 0 { &headers[..] } else { &[] };
        writer.append(1_700_000_000_000 + n as i64, Some(b"0123456789abcdef"), Some(VALUE), headers).unwrap();
    }
}

fn sealed(compressor: &mut Compressor) -> SealedBatch {
    let mut writer = BatchWriter::new(batch_buffer(1 << 18));
    append_all(&mut writer);
    writer.finish_compressed(compressor, BytesMut::new()).unwrap().0
}

fn raw(bytes: Bytes) -> RawBatch {
    batches(bytes).next().unwrap().unwrap()
}

fn none() -> Counts {
    Counts::default()
}

#[test]
fn encoding_into_a_recycled_buffer_never_allocates() {
    let mut buffer = batch_buffer(1 << 18);
    for _ in 0..3 {
        let (recycled, used) = measure(|| {
            let mut writer = BatchWriter::new(buffer);
            append_all(&mut writer);
            let mut sealed = writer.finish().unwrap();
            sealed.stamp(STAMP, false);
            let bytes = sealed.freeze();
            let resent = bytes.clone();
            drop(bytes);
            // A second stamp after an epoch bump, and at last the way back into the pool.
            let mut sealed = SealedBatch::thaw(resent).unwrap();
            sealed.stamp(STAMP, true);
            sealed.freeze().try_into_mut().unwrap()
        });
        assert_eq!(used, none());
        assert_eq!(recycled.capacity(), 1 << 18);
        buffer = recycled;
    }
}

#[test]
fn a_buffer_that_starts_small_grows_a_fixed_number_of_times() {
    let (writer, used) = measure(|| {
        let mut writer = BatchWriter::new(batch_buffer(1 << 10));
        append_all(&mut writer);
        writer
    });
    // The buffer, its reference count, and doublings from 1 KiB to 256 KiB.
    assert_eq!((used.allocations, writer.capacity() <= 1 << 18), (10, true), "{used:?}");
}

#[test]
fn reading_uncompressed_records_never_allocates() {
    let bytes = sealed(&mut Compressor::new(Compression::None, None).unwrap()).freeze();
    // The first clone of a buffer can allocate its reference count; a fetch's frame is shared already.
    let fetched = bytes.clone();
    let mut decompressor = Decompressor::default();
    let (sum, used) = measure(|| {
        let mut sum = 0;
        for batch in batches(fetched.clone()) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            for record in batch.decode(&mut decompressor).unwrap().records() {
                let record = record.unwrap();
                sum += record.value.unwrap().len() + record.key.unwrap().len();
                sum += record.headers().map(|header| header.key.len()).sum::<usize>();
            }
        }
        sum
    });
    assert_eq!(sum, RECORDS * 116 + RECORDS / 4 * 10);
    assert_eq!(used, none());
}

#[test]
fn owned_records_allocate_only_for_headers() {
    let batch = raw(sealed(&mut Compressor::new(Compression::None, None).unwrap()).freeze());
    let decoded = batch.decode(&mut Decompressor::default()).unwrap();
    let (count, used) =
        measure(|| decoded.into_reader().map(|record| record.unwrap().headers.len()).sum::<usize>());
    assert_eq!((count, used.allocations), (RECORDS / 2, RECORDS as u64 / 4));
}

#[test]
fn codecs_in_use_allocate_nothing_or_a_fixed_number_a_batch() {
    let mut codecs = vec![Compression::Gzip, Compression::Snappy, Compression::Lz4];
    if cfg!(feature = "zstd") {
        codecs.push(Compression::Zstd);
    }
    for codec in codecs {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let mut decompressor = Decompressor::default();
        let mut buffers = (batch_buffer(1 << 18), batch_buffer(1 << 18));
        for round in 0..4 {
            let (back, written) = measure(|| {
                let mut writer = BatchWriter::new(buffers.0);
                append_all(&mut writer);
                let (sealed, spent) = writer.finish_compressed(&mut compressor, buffers.1).unwrap();
                (sealed.freeze(), spent)
            });
            let packed = raw(back.0.clone());
            let (count, read) = measure(|| {
                let decoded = packed.decode(&mut decompressor).unwrap();
                let count = decoded.records().count();
                decompressor.recycle(decoded.into_body());
                count
            });
            assert_eq!(count, RECORDS);
            drop(packed);
            buffers = (back.1, back.0.try_into_mut().unwrap());
            // The first rounds set up the working memory and find the size of the output.
            if round >= 2 {
                // Reading costs the reference count of the new buffer.
                assert_eq!((written.allocations, read.allocations), (0, 1), "{codec}");
            }
        }
    }
}

#[test]
fn a_produce_request_costs_the_list_of_its_chunks() {
    let records: Vec<_> = (0..100)
        .map(|index| produce::PartitionRecords {
            topic: produce::TopicRef { name: "topic", id: [1; 16] },
            index,
            records: Bytes::from_static(&[1; 1000]),
        })
        .collect();
    let request =
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 30_000, partitions: &records };
    for version in [9, 13] {
        let mut scratch = BytesMut::new();
        // The first request gives the scratch buffer its size and its reference count.
        drop(request.encode(version, &mut scratch).unwrap());
        let (rope, used) = measure(|| request.encode(version, &mut scratch).unwrap());
        assert_eq!((rope.len(), used.allocations), (201, 1), "v{version}");
    }
}

#[test]
fn walking_responses_never_allocates() {
    let topic = |n: usize| fetch::TopicRef { name: ["a", "b"][n % 2], id: [1 + (n % 2) as u8; 16] };
    let pieces = [Bytes::from_static(&[1; 500])];
    let aborted = [fetch::AbortedTransaction { producer_id: 1, first_offset: 2 }];
    let status = fetch::Status {
        index: 0,
        error_code: 0,
        high_watermark: 10,
        last_stable_offset: 10,
        log_start_offset: 0,
        diverging_epoch: None,
        current_leader: Some(fetch::LeaderHint { leader_id: 1, leader_epoch: 1 }),
        snapshot_id: None,
        preferred_read_replica: -1,
    };
    let partitions: Vec<_> = (0..100)
        .map(|n| fetch::PartitionResponse {
            topic: topic(n / 50),
            status,
            aborted_transactions: Some(&aborted),
            records: &pieces,
        })
        .collect();
    let endpoints = [fetch::NodeEndpoint { node_id: 1, host: "host", port: 9092, rack: None }];
    let response = fetch::Response {
        throttle_time_ms: 0,
        error_code: 0,
        session_id: 0,
        partitions: &partitions,
        node_endpoints: &endpoints,
    };
    let mut scratch = BytesMut::new();
    drop(response.encode(18, &mut scratch).unwrap());
    let (rope, used) = measure(|| response.encode(18, &mut scratch).unwrap());
    // The list of chunks, and the endpoints once.
    assert!(used.allocations <= 3, "{used:?}");
    let frame = Bytes::from(rope.concat());
    let shared = frame.clone();
    let (total, used) = measure(|| {
        let view = fetch::ResponseView::decode(18, &frame).unwrap();
        let kept = view.partitions().map(|partition| frame.slice_ref(partition.records).len());
        kept.sum::<usize>() + view.partitions().map(|p| p.aborted_transactions.count()).sum::<usize>()
    });
    assert_eq!((total, used), (100 * 501, none()));
    drop(shared);

    let outcome = produce::Outcome {
        index: 0,
        error_code: 0,
        base_offset: 7,
        log_append_time_ms: -1,
        log_start_offset: 0,
        current_leader: None,
    };
    let partitions: Vec<_> = (0..100)
        .map(|n| produce::PartitionResponse {
            topic: topic(n / 50),
            outcome,
            record_errors: &[],
            error_message: None,
        })
        .collect();
    let response = produce::Response { partitions: &partitions, throttle_time_ms: 0, node_endpoints: &[] };
    let mut body = BytesMut::with_capacity(8192);
    response.encode(13, &mut body).unwrap();
    let (offsets, used) = measure(|| {
        let view = produce::ResponseView::decode(13, &body).unwrap();
        view.partitions().map(|partition| partition.outcome.base_offset).sum::<i64>()
    });
    assert_eq!((offsets, used), (700, none()));
}
