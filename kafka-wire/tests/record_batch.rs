//! Record batches as a whole: what is written comes back, other implementations agree, and damage is told apart.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as oracle;
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::record_batch::{
    BatchError, BatchMut, BatchWriter, ControlRecord, EndTransaction, HEADER_LEN, HeaderRef, OwnedRecord,
    ProducerStamp, RawBatch, SealedBatch, TimestampType, batch_buffer, batches, end_transaction_batch,
    verify_crc,
};

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn sealed(records: &[Plain]) -> SealedBatch {
    writer(records).finish().unwrap()
}

fn writer(records: &[Plain]) -> BatchWriter {
    let mut writer = BatchWriter::new(BytesMut::new());
    for (index, (timestamp, key, value, headers)) in records.iter().enumerate() {
        let headers: Vec<_> =
            headers.iter().map(|(key, value)| HeaderRef { key, value: value.as_deref() }).collect();
        let upper = BatchWriter::record_size_upper_bound(key.as_deref(), value.as_deref(), &headers);
        let before = writer.len();
        let appended = writer.append(*timestamp, key.as_deref(), value.as_deref(), &headers);
        assert_eq!(appended, Ok(index as u32));
        assert!(writer.len() - before <= upper);
    }
    writer
}

fn only_batch(bytes: Bytes) -> RawBatch {
    let mut batches = batches(bytes);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none() && batches.rest().is_empty());
    batch
}

fn owned(bytes: Bytes) -> Result<Vec<OwnedRecord>, BatchError> {
    let batch = only_batch(bytes);
    batch.verify()?;
    batch.decode(&mut Decompressor::default())?.into_reader().collect()
}

fn plain(records: Vec<OwnedRecord>) -> Vec<Plain> {
    let bytes = |bytes: Bytes| bytes.to_vec();
    let record = |record: OwnedRecord| {
        let headers =
            record.headers.into_iter().map(|header| (bytes(header.key), header.value.map(bytes))).collect();
        (record.timestamp, record.key.map(bytes), record.value.map(bytes), headers)
    };
    records.into_iter().map(record).collect()
}

/// Records of every size class: null, empty, small, and large enough for the writer's second path.
fn random_records(rng: &mut fastrand::Rng) -> Vec<Plain> {
    let field = |rng: &mut fastrand::Rng| match rng.u8(..10) {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(vec![rng.u8(..); rng.usize(1000..5000)]),
        _ => Some((0..rng.usize(..200)).map(|_| rng.u8(..)).collect()),
    };
    let base = rng.i64(0..1 << 41);
    (0..rng.usize(1..60))
        .map(|_| {
            let headers = (0..rng.usize(..4) * usize::from(rng.bool()))
                .map(|_| (vec![b'k'; rng.usize(..3)], field(rng)))
                .collect();
            (base + rng.i64(-100_000..100_000), field(rng), field(rng), headers)
        })
        .collect()
}

#[test]
fn records_come_back_with_nulls_and_repeated_headers() {
    let headers =
        vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(b"2".to_vec())), (vec![0xff], Some(vec![]))];
    let records = vec![
        (1_000, None, None, vec![]),
        (900, Some(vec![]), Some(b"v".to_vec()), headers.clone()),
        (1_100, Some(b"key".to_vec()), None, vec![]),
        (1_050, Some(vec![7; 2000]), Some(vec![8; 70_000]), headers),
    ];
    let batch = sealed(&records);
    assert_eq!(batch.record_count(), 4);
    let bytes = batch.freeze();
    let header = only_batch(bytes.clone()).header;
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_100));
    assert_eq!((header.last_offset_delta, header.last_offset()), (3, 3));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(plain(owned(bytes).unwrap()), records);
}

#[test]
fn borrowed_and_owned_records_are_the_same() {
    let records = random_records(&mut fastrand::Rng::with_seed(1));
    let batch = only_batch(sealed(&records).freeze()).decode(&mut Decompressor::default()).unwrap();
    let owned: Vec<_> = batch.clone().into_reader().map(Result::unwrap).collect();
    let mut lending = batch.clone().into_reader();
    for (borrowed, owned) in batch.records().map(Result::unwrap).zip(&owned) {
        assert_eq!((borrowed.offset, borrowed.timestamp), (owned.offset, owned.timestamp));
        assert_eq!((borrowed.key, borrowed.value), (owned.key.as_deref(), owned.value.as_deref()));
        assert_eq!(borrowed.headers().len(), owned.headers.len());
        for (borrowed, owned) in borrowed.headers().zip(&owned.headers) {
            assert_eq!((borrowed.key, borrowed.value), (&owned.key[..], owned.value.as_deref()));
        }
        assert_eq!(lending.next_record().unwrap().unwrap().key, borrowed.key);
    }
    assert!(lending.next_record().is_none());
    assert_eq!(lending.remaining(), 0);
}

#[test]
fn kafka_protocol_reads_what_we_write() {
    for seed in 0..200 {
        let records = random_records(&mut fastrand::Rng::with_seed(seed));
        let mut batch = sealed(&records);
        batch.stamp(ProducerStamp { producer_id: 7, producer_epoch: 3, base_sequence: 11 }, seed % 2 == 0);
        let mut bytes = batch.freeze();
        let set = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
        assert_eq!(set.records.len(), records.len(), "seed {seed}");
        for (index, (theirs, ours)) in set.records.iter().zip(&records).enumerate() {
            assert_eq!((theirs.offset, theirs.timestamp), (index as i64, ours.0));
            assert_eq!(theirs.key.as_deref(), ours.1.as_deref());
            assert_eq!(theirs.value.as_deref(), ours.2.as_deref());
            assert_eq!(theirs.transactional, seed % 2 == 0);
            assert_eq!((theirs.producer_id, theirs.producer_epoch), (7, 3));
            assert_eq!(theirs.sequence, 11 + index as i32);
        }
    }
}

#[test]
fn we_read_what_kafka_protocol_writes() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Their headers are a map with text keys.
        let records: Vec<Plain> = random_records(&mut rng)
            .into_iter()
            .map(|(timestamp, key, value, headers)| {
                let headers = headers.into_iter().enumerate();
                let headers = headers.map(|(n, (_, value))| (format!("h{n}").into_bytes(), value)).collect();
                (timestamp, key, value, headers)
            })
            .collect();
        let theirs: Vec<_> = records
            .iter()
            .enumerate()
            .map(|(index, (timestamp, key, value, headers))| oracle::Record {
                transactional: false,
                control: false,
                partition_leader_epoch: 5,
                producer_id: 9,
                producer_epoch: 1,
                timestamp_type: oracle::TimestampType::Creation,
                delete_horizon: false,
                timestamp: *timestamp,
                sequence: 100 + index as i32,
                offset: 1_000_000 + index as i64,
                key: key.clone().map(Bytes::from),
                value: value.clone().map(Bytes::from),
                headers: headers
                    .iter()
                    .map(|(key, value)| {
                        let key = String::from_utf8(key.clone()).unwrap();
                        (key.into(), value.clone().map(Bytes::from))
                    })
                    .collect(),
            })
            .collect();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        let mut bytes = BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        let bytes = bytes.freeze();
        let header = only_batch(bytes.clone()).header;
        assert_eq!((header.base_offset, header.base_sequence), (1_000_000, 100), "seed {seed}");
        assert_eq!(header.record_count as usize, records.len());
        let read = owned(bytes).unwrap();
        assert_eq!(read[read.len() - 1].offset, header.last_offset());
        assert_eq!(plain(read), records);
    }
}

#[test]
fn every_codec_gives_the_records_back() {
    for codec in Compression::ALL {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let mut spare = batch_buffer(1 << 16);
        for seed in 0..20 {
            let records = random_records(&mut fastrand::Rng::with_seed(seed));
            let (batch, buffer) = writer(&records).finish_compressed(&mut compressor, spare).unwrap();
            spare = buffer;
            assert_eq!(plain(owned(batch.freeze()).unwrap()), records, "{codec}, seed {seed}");
        }
        let repetitive = vec![(5, None, Some(vec![b'x'; 100]), vec![]); 500];
        let (batch, _) = writer(&repetitive).finish_compressed(&mut compressor, spare).unwrap();
        let batch = only_batch(batch.freeze());
        assert_eq!(batch.header.compression(), codec);
        assert!(codec == Compression::None || batch.bytes.len() < 5_000, "{codec}: {}", batch.bytes.len());
    }
}

#[test]
fn records_that_do_not_shrink_are_sent_as_they_are() {
    let mut rng = fastrand::Rng::with_seed(3);
    let noise: Vec<u8> = (0..4000).map(|_| rng.u8(..)).collect();
    for codec in Compression::ALL {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let writer = writer(&[(1, None, Some(noise.clone()), vec![])]);
        let (batch, _) = writer.finish_compressed(&mut compressor, BytesMut::new()).unwrap();
        assert_eq!(only_batch(batch.freeze()).header.compression(), Compression::None);
    }
}

#[test]
fn a_stamp_can_change_until_the_batch_is_sent_and_after() {
    let stamp =
        |producer_epoch, base_sequence| ProducerStamp { producer_id: 42, producer_epoch, base_sequence };
    let mut batch = sealed(&[(1, None, Some(b"v".to_vec()), vec![])]);
    batch.stamp(stamp(0, 10), true);
    batch.stamp(stamp(1, 0), false);
    let bytes = batch.freeze();
    verify_crc(&bytes).unwrap();
    let header = only_batch(bytes.clone()).header;
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (42, 1, 0));
    assert!(!header.is_transactional() && !header.is_control());

    let sent = bytes.clone();
    let mut batch = SealedBatch::thaw(bytes).unwrap();
    batch.stamp(stamp(2, 5), true);
    let header = only_batch(batch.freeze()).header;
    assert_eq!((header.producer_epoch, header.base_sequence, header.is_transactional()), (2, 5, true));
    // Whoever still holds the bytes that were sent sees them unchanged.
    assert_eq!(only_batch(sent.clone()).header.producer_epoch, 1);
    assert!(SealedBatch::thaw(sent.slice(..sent.len() - 1)).is_err());
}

#[test]
fn sequences_wrap_to_zero() {
    let mut batch = sealed(&vec![(1, None, None, vec![]); 3]);
    batch.stamp(ProducerStamp { producer_id: 1, producer_epoch: 0, base_sequence: i32::MAX - 1 }, false);
    assert_eq!(only_batch(batch.freeze()).header.last_sequence(), 0);
}

#[test]
fn a_broker_patches_offset_and_epoch_without_touching_the_checksum() {
    let bytes = sealed(&[(5, None, Some(b"v".to_vec()), vec![]), (9, None, None, vec![])]).freeze();
    let mut log = BytesMut::from(&bytes[..]);
    let crc = only_batch(bytes).header.crc;
    let mut batch = BatchMut::new(&mut log).unwrap();
    batch.set_base_offset(1_000);
    batch.set_leader_epoch(8);
    let header = only_batch(log.clone().freeze()).header;
    assert_eq!((header.base_offset, header.partition_leader_epoch, header.crc), (1_000, 8, crc));
    verify_crc(&log).unwrap();

    BatchMut::new(&mut log).unwrap().set_append_time(77);
    let batch = only_batch(log.freeze());
    assert_ne!(batch.header.crc, crc);
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    let records = owned(batch.bytes).unwrap();
    assert_eq!(
        records.iter().map(|record| (record.offset, record.timestamp)).collect::<Vec<_>>(),
        [(1_000, 77), (1_001, 77)]
    );

    let mut log = BytesMut::from(&sealed(&[(5, None, None, vec![])]).freeze()[..]);
    let sent = log.clone();
    BatchMut::new(&mut log).unwrap().set_append_time(5);
    BatchMut::new(&mut log).unwrap().set_create_time();
    assert_eq!(log, sent, "the type is all that differs");
}

#[test]
fn a_transaction_marker_says_how_it_ended() {
    for outcome in [EndTransaction::Commit, EndTransaction::Abort] {
        let bytes = end_transaction_batch(outcome, 5, 6, 7, 1_234).unwrap();
        let batch = only_batch(bytes.clone());
        assert!(batch.header.is_control() && batch.header.is_transactional());
        assert_eq!((batch.header.producer_id, batch.header.base_sequence), (5, -1));
        let decoded = batch.decode(&mut Decompressor::default()).unwrap();
        let record = decoded.records().next().unwrap().unwrap();
        let expected = ControlRecord::EndTransaction { outcome, coordinator_epoch: 7 };
        assert_eq!(ControlRecord::parse(&record), Ok(expected));
        assert_eq!(record.timestamp, 1_234);
        assert!(oracle::RecordBatchDecoder::decode(&mut bytes.clone()).unwrap().records[0].control);
    }
}

#[test]
fn control_records_of_other_types_are_named_and_short_ones_refused() {
    let parse = |key: &[u8], value: Option<&[u8]>| {
        let mut writer = BatchWriter::new(BytesMut::new());
        writer.append(0, Some(key), value, &[]).unwrap();
        let batch = only_batch(writer.finish().unwrap().freeze());
        let decoded = batch.decode(&mut Decompressor::default()).unwrap();
        let record = decoded.records().next().unwrap().unwrap();
        ControlRecord::parse(&record)
    };
    assert_eq!(parse(&[0, 0, 0, 2], Some(b"")), Ok(ControlRecord::Other(2)));
    assert_eq!(parse(&[0, 9, 1, 0], None), Ok(ControlRecord::Other(256)));
    assert!(parse(&[0, 0, 0], None).is_err());
    assert!(parse(&[0, 0, 0, 1], Some(&[0; 5])).is_err());
    assert!(parse(&[0, 0, 0, 1], None).is_err());
}

#[test]
fn the_last_batch_may_be_cut_off_anywhere() {
    let first = sealed(&[(1, None, Some(b"first".to_vec()), vec![])]).freeze();
    let second = sealed(&[(2, None, Some(b"second".to_vec()), vec![])]).freeze();
    let both = Bytes::from([&first[..], &second[..]].concat());
    for end in 0..=both.len() {
        let mut walk = batches(both.slice(..end));
        let whole = walk.by_ref().map(Result::unwrap).count();
        let expected = usize::from(end >= first.len()) + usize::from(end == both.len());
        assert_eq!(whole, expected, "cut at {end}");
        let used = [0, first.len(), both.len()][whole];
        assert_eq!(walk.rest().len(), end - used);
    }
}

#[test]
fn old_formats_are_named_even_when_cut_off() {
    for magic in [0, 1, 3, -1_i8] {
        let mut bytes = vec![0; 17];
        bytes[16] = magic as u8;
        let mut walk = batches(bytes.into());
        assert_eq!(walk.next().unwrap().unwrap_err(), BatchError::UnsupportedMagic(magic));
        assert!(walk.next().is_none());
    }
}

#[test]
fn a_flipped_bit_under_the_checksum_is_found() {
    let bytes = sealed(&[(1, Some(b"k".to_vec()), Some(b"value".to_vec()), vec![])]).freeze();
    for at in 17..bytes.len() {
        let mut damaged = BytesMut::from(&bytes[..]);
        damaged[at] ^= 0x10;
        assert!(matches!(verify_crc(&damaged), Err(BatchError::CrcMismatch { .. })), "byte {at}");
    }
    assert!(verify_crc(&bytes[..HEADER_LEN - 1]).is_err());
}

/// Changes header fields or the body of a batch with one record, and returns what reading it says.
fn read_damaged(damage: impl FnOnce(&mut BytesMut)) -> Result<Vec<OwnedRecord>, BatchError> {
    let mut bytes = BytesMut::from(&sealed(&[(1, None, Some(b"v".to_vec()), vec![])]).freeze()[..]);
    damage(&mut bytes);
    let mut walk = batches(bytes.freeze());
    let batch = walk.next().ok_or(BatchError::Empty)??;
    batch.decode(&mut Decompressor::default())?.into_reader().collect()
}

#[test]
fn lying_sizes_counts_and_deltas_are_errors() {
    let put = |at: usize, value: &'static [u8]| {
        read_damaged(move |bytes| bytes[at..at + value.len()].copy_from_slice(value))
    };
    let malformed = |outcome| matches!(outcome, Err(BatchError::Malformed(_)));
    assert!(put(0, &[0]).is_ok());
    assert!(malformed(put(8, &[0, 0, 0, 48])), "length below the header's");
    assert!(malformed(put(8, &[0xff; 4])), "negative length");
    assert!(malformed(put(57, &[0x7f, 0xff, 0xff, 0xff])), "count beyond the bytes");
    assert!(malformed(put(57, &[0xff; 4])), "negative count");
    assert!(malformed(put(57, &[0; 4])), "bytes without records");
    assert!(malformed(put(23, &[0xff; 4])), "negative last offset delta");
    assert!(
        malformed(put(0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).and_then(|_| {
            read_damaged(|bytes| {
                bytes[..8].copy_from_slice(&i64::MAX.to_be_bytes());
                bytes[23..27].copy_from_slice(&1_i32.to_be_bytes());
            })
        })),
        "offset overflow"
    );
    assert_eq!(put(22, &[0x07]), Err(BatchError::UnknownCompression(7)));
    // The record: length, attributes, timestamp delta, offset delta, key, value, headers.
    assert!(malformed(put(61, &[0x7e])), "record longer than the batch");
    assert!(malformed(put(61, &[0x01])), "negative record length");
    assert!(malformed(put(61, &[0x00])), "empty record");
    assert!(malformed(put(64, &[0x02])), "offset delta beyond the last");
    assert!(malformed(put(64, &[0x01])), "negative offset delta");
    assert!(malformed(put(65, &[0x03])), "key length below null");
    assert!(malformed(put(66, &[0x06])), "value longer than its record");
    assert!(malformed(put(68, &[0x02])), "more headers than bytes");
    assert!(malformed(put(68, &[0x01])), "negative header count");
    assert!(
        malformed(read_damaged(|bytes| {
            bytes[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
            bytes[63] = 0x02;
        })),
        "timestamp overflow"
    );
}

#[test]
fn a_decreasing_offset_is_an_error_and_a_gap_is_not() {
    let offsets = |second: u8, third: u8| {
        let records = vec![(1, None, None, vec![]); 3];
        let mut bytes = BytesMut::from(&sealed(&records).freeze()[..]);
        bytes[61 + 7 + 3] = second << 1;
        bytes[61 + 14 + 3] = third << 1;
        bytes[23..27].copy_from_slice(&9_i32.to_be_bytes());
        let batch = only_batch(bytes.freeze()).decode(&mut Decompressor::default()).unwrap();
        batch.records().map(|record| record.map(|record| record.offset)).collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(offsets(5, 9), Ok(vec![0, 5, 9]));
    assert!(offsets(5, 4).is_err());
    assert!(offsets(5, 10).is_err());
}

#[test]
fn compaction_may_leave_a_batch_without_records() {
    let empty = {
        let mut bytes = BytesMut::from(&sealed(&[(1, None, None, vec![])]).freeze()[..HEADER_LEN]);
        bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
        bytes[22] = Compression::Lz4.id();
        bytes[23..27].copy_from_slice(&4_i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
        bytes.freeze()
    };
    let batch = only_batch(empty);
    assert_eq!(batch.header.last_offset(), 4);
    assert_eq!(batch.decode(&mut Decompressor::default()).unwrap().records().count(), 0);
}

#[test]
fn a_compressed_batch_is_held_to_its_count_after_decompression() {
    let mut compressor = Compressor::new(Compression::Lz4, None).unwrap();
    let writer = writer(&vec![(1, None, Some(vec![b'a'; 50]), vec![]); 50]);
    let (batch, _) = writer.finish_compressed(&mut compressor, BytesMut::new()).unwrap();
    let mut bytes = BytesMut::from(&batch.freeze()[..]);
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let batch = only_batch(bytes.freeze());
    let decoded = batch.decode(&mut Decompressor::default());
    assert!(matches!(decoded, Err(BatchError::Malformed(_))));
    assert!(matches!(batch.decode(&mut Decompressor::new(100)), Err(BatchError::Compression(_))));
}

#[test]
fn a_batch_that_moves_to_another_buffer_keeps_its_records() {
    let records = random_records(&mut fastrand::Rng::with_seed(5));
    let mut moving = writer(&records);
    let len = moving.len();
    moving.move_to(BytesMut::with_capacity(1 << 20));
    // What lies in the next buffer is overwritten, however long.
    moving.move_to(BytesMut::zeroed(1 << 20));
    assert_eq!(moving.len(), len);
    moving.append(7, None, Some(b"last"), &[]).unwrap();
    let read = plain(owned(moving.finish().unwrap().freeze()).unwrap());
    assert_eq!(read.len(), records.len() + 1);
    assert_eq!(read[..records.len()], records[..]);
}

#[test]
fn what_does_not_fit_is_refused_and_the_batch_stays_usable() {
    assert_eq!(BatchWriter::new(BytesMut::new()).finish().unwrap_err(), BatchError::Empty);
    let mut writer = BatchWriter::new(BytesMut::new());
    writer.append(i64::MIN, None, None, &[]).unwrap();
    assert!(matches!(writer.append(i64::MAX, None, None, &[]), Err(BatchError::TooLarge(_))));
    writer.append(i64::MIN + 1, None, Some(b"v"), &[]).unwrap();
    let records = owned(writer.finish().unwrap().freeze()).unwrap();
    assert_eq!(records.iter().map(|record| record.timestamp).collect::<Vec<_>>(), [i64::MIN, i64::MIN + 1]);
}
