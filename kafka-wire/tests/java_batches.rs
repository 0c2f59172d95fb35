//! Batches that Kafka's own Java code wrote, in every codec: read to the same records, and written to the same bytes.
//! `vectors/Vectors.java` made them and can read ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::{Bytes, BytesMut};
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::record_batch::{
    BatchMut, BatchWriter, ControlRecord, EndTransaction, HeaderRef, ProducerStamp, RawBatch, batches,
    end_transaction_batch,
};

/// `batch` of `Vectors.java`.
fn append_records(writer: &mut BatchWriter, count: i64) {
    for i in 0..count {
        let key = format!("key-{}", i % 17);
        let value = format!("value {i};").repeat(i as usize % 130);
        let names: Vec<_> = (0..i % 3).map(|h| format!("h{h}")).collect();
        let headers: Vec<_> = names
            .iter()
            .map(|name| HeaderRef::new("header", Some(name.as_bytes()).filter(|_| i % 5 != 0)))
            .collect();
        let key = Some(key.as_bytes()).filter(|_| i % 7 != 0);
        let value = Some(value.as_bytes()).filter(|_| i % 11 != 0);
        writer.append(1_700_000_000_000 + i * 37 % 1000, key, value, &headers).unwrap();
    }
}

fn written(count: i64) -> BatchWriter {
    let mut writer = BatchWriter::new(BytesMut::new());
    append_records(&mut writer, count);
    writer
}

fn raw(bytes: Bytes) -> RawBatch {
    let mut walk = batches(bytes);
    let batch = walk.next().unwrap().unwrap();
    assert!(walk.next().is_none() && walk.rest().is_empty());
    batch.verify().unwrap();
    batch
}

/// Base offset and leader epoch as `Vectors.java` sets them.
fn appended(sealed: Bytes) -> Vec<u8> {
    let mut bytes = sealed.to_vec();
    let mut batch = BatchMut::new(&mut bytes).unwrap();
    batch.set_base_offset(1000);
    batch.set_leader_epoch(5);
    bytes
}

#[test]
fn uncompressed_batches_are_javas_byte_for_byte() {
    let plain = written(40).finish().unwrap().freeze();
    assert!(appended(plain) == include_bytes!("vectors/java-none.bin"));

    let mut sealed = written(40).finish().unwrap();
    sealed.stamp(ProducerStamp { producer_id: 4711, producer_epoch: 3, base_sequence: 77 }, true);
    let bytes = appended(sealed.freeze());
    let java = include_bytes!("vectors/java-transactional.bin");
    assert_eq!(raw(Bytes::from_static(java)).header, raw(bytes.clone().into()).header);
    assert!(bytes == java);
}

#[test]
fn java_compressed_batches_give_the_same_records() {
    let java: [(Compression, &'static [u8]); 4] = [
        (Compression::Gzip, include_bytes!("vectors/java-gzip.bin")),
        (Compression::Snappy, include_bytes!("vectors/java-snappy.bin")),
        (Compression::Lz4, include_bytes!("vectors/java-lz4.bin")),
        (Compression::Zstd, include_bytes!("vectors/java-zstd.bin")),
    ];
    let ours = raw(written(300).finish().unwrap().freeze());
    let ours = ours.decode(&mut Decompressor::default()).unwrap();
    let mut decompressor = Decompressor::default();
    for (codec, bytes) in java {
        let batch = raw(Bytes::from_static(bytes));
        assert_eq!(batch.header.compression(), codec);
        let decoded = batch.decode(&mut decompressor).unwrap();
        assert!(decoded.body() == ours.body(), "{codec}");
        let offsets: Vec<_> = decoded.records().map(|record| record.unwrap().offset).collect();
        assert_eq!(offsets, (1000..1300).collect::<Vec<_>>());

        let mut compressor = Compressor::new(codec, None).unwrap();
        let (sealed, _) = written(300).finish_compressed(&mut compressor, BytesMut::new()).unwrap();
        let again = raw(sealed.freeze()).decode(&mut decompressor).unwrap();
        assert!(again.body() == ours.body(), "{codec}");
    }
}

#[test]
fn java_log_append_time_overrides_every_timestamp() {
    let batch = raw(Bytes::from_static(include_bytes!("vectors/java-log-append-time.bin")));
    let decoded = batch.decode(&mut Decompressor::default()).unwrap();
    assert_eq!(decoded.records().count(), 40);
    assert!(decoded.records().all(|record| record.unwrap().timestamp == 1_800_000_000_000));
}

#[test]
fn java_transaction_markers_are_ours_byte_for_byte() {
    let java = include_bytes!("vectors/java-commit.bin");
    let ours = end_transaction_batch(EndTransaction::Commit, 4711, 3, 9, 1_700_000_000_000).unwrap();
    let batch = raw(Bytes::from_static(java));
    let decoded = batch.decode(&mut Decompressor::default()).unwrap();
    let record = decoded.records().next().unwrap().unwrap();
    let expected = ControlRecord::EndTransaction { outcome: EndTransaction::Commit, coordinator_epoch: 9 };
    assert_eq!(ControlRecord::parse(&record), Ok(expected));
    assert_eq!(&ours[..], java);
}
