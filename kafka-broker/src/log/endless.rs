//! What consumers get of a null broker: one batch, again and again, each time with the offsets that come next.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::compression::{Compression, Compressor};
use kafka_wire::record_batch::{BatchError, BatchMut, BatchWriter, batch_buffer};

/// Where a partition of a null broker ends for readers: so far off that none gets there.
pub(crate) const FAR_END: i64 = 1 << 50;
/// What comes before the part of a batch that is the same at every offset.
const BASE_OFFSET: usize = size_of::<i64>();
/// The most bytes that the records of the batch may have before they are compressed.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// What a record has at most besides its key and its value.
const RECORD_OVERHEAD: usize = 32;

/// The batch that a null broker gives consumers, for ever: its records have keys that differ and values like JSON.
///
/// See [`ClusterBuilder::null`](crate::ClusterBuilder::null).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NullBatch {
    /// How many records it has. Default 100.
    pub records: u32,
    /// The bytes of each value. Default 100.
    pub value_bytes: usize,
    /// The bytes of each key; 0 for no key. Default 16.
    pub key_bytes: usize,
    /// Its codec. Default [`Compression::None`].
    pub compression: Compression,
}

impl Default for NullBatch {
    fn default() -> Self {
        Self { records: 100, value_bytes: 100, key_bytes: 16, compression: Compression::None }
    }
}

impl NullBatch {
    /// What is wrong with it, if anything is.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let bytes = self
            .value_bytes
            .checked_add(self.key_bytes)
            .and_then(|record| record.checked_add(RECORD_OVERHEAD))
            .and_then(|record| record.checked_mul(usize::try_from(self.records).unwrap_or(usize::MAX)));
        match bytes {
            _ if self.records == 0 => Err("give the batch a record at least"),
            Some(0..=MOST_BYTES) => Ok(()),
            _ => Err("the batch has more than 64 MiB"),
        }
    }
}

/// So many last digits of a number, which differ most.
fn digits(number: u32, count: usize) -> Vec<u8> {
    let mut rest = number;
    let mut digits = vec![b'0'; count];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// An endless row of batches.
#[derive(Debug)]
pub(crate) struct Endless {
    records: i64,
    /// One batch without its base offset, which no checksum covers.
    rest: Bytes,
}

impl Endless {
    pub(crate) fn new(shape: NullBatch, timestamp: i64) -> Result<Self, BatchError> {
        let NullBatch { records, value_bytes, key_bytes, compression } = shape;
        let mut rng = fastrand::Rng::with_seed(1);
        let mut writer = BatchWriter::new(batch_buffer(0));
        for number in 0..records {
            let key = digits(number, key_bytes);
            let value = json_like(&mut rng, number, value_bytes);
            writer.append(timestamp, (key_bytes > 0).then_some(&key), Some(value.as_bytes()), &[])?;
        }
        let mut compressor = Compressor::new(compression, None)?;
        let (sealed, _) = writer.finish_compressed(&mut compressor, batch_buffer(0))?;
        let mut batch = BytesMut::from(sealed.freeze());
        BatchMut::new(&mut batch)?.set_leader_epoch(0);
        Ok(Self { records: i64::from(records), rest: batch.split_off(BASE_OFFSET).freeze() })
    }

    /// Adds whole batches from the one with `offset` on to `out`, as many as fit into `most` bytes, and says how many bytes
    /// that is. If none fits, one is added all the same when `at_least_one` says so.
    pub(crate) fn read(&self, offset: i64, most: usize, at_least_one: bool, out: &mut Vec<Bytes>) -> usize {
        let size = BASE_OFFSET + self.rest.len();
        let batches = (most / size).max(usize::from(at_least_one));
        // One allocation for all of them.
        let mut base_offsets = BytesMut::with_capacity(batches * BASE_OFFSET);
        let first = offset - offset.rem_euclid(self.records);
        let each = std::iter::successors(Some(first), |base| Some(base.saturating_add(self.records)));
        each.take(batches).for_each(|base| base_offsets.put_i64(base));
        let mut base_offsets = base_offsets.freeze();
        out.reserve(2 * batches);
        for _ in 0..batches {
            out.extend([base_offsets.split_to(BASE_OFFSET), self.rest.clone()]);
        }
        batches * size
    }
}

/// Text of so many bytes as applications write it: names repeat, half of the characters are new.
fn json_like(rng: &mut fastrand::Rng, number: u32, bytes: usize) -> String {
    const NAMES: [&str; 6] = ["orderId", "customer", "status", "amount", "createdAt", "warehouse"];
    const STATES: [&str; 4] = ["created", "shipped", "delivered", "cancelled"];
    let mut text = format!("{{\"id\":{number}");
    while text.len() < bytes {
        let name = NAMES[rng.usize(..NAMES.len())];
        text += &match rng.u8(..4) {
            0 => format!(",\"{name}\":{}", rng.u32(..1_000_000)),
            1 => format!(",\"{name}\":\"{}\"", STATES[rng.usize(..STATES.len())]),
            2 => format!(",\"{name}\":\"{:012x}\"", rng.u64(..1 << 48)),
            _ => format!(",\"{name}\":{{\"total\":{}.{:02}}}", rng.u16(..1000), rng.u8(..100)),
        };
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kafka_wire::compression::Decompressor;
    use kafka_wire::record_batch::{RawBatch, batches};

    use super::*;

    fn read(endless: &Endless, offset: i64, most: usize, at_least_one: bool) -> Vec<RawBatch> {
        let mut out = Vec::new();
        let length = endless.read(offset, most, at_least_one, &mut out);
        let bytes = out.concat();
        assert_eq!(bytes.len(), length);
        batches(bytes.into()).map(Result::unwrap).collect()
    }

    #[test]
    fn batches_follow_each_other_without_a_gap_from_any_offset() {
        let endless = Endless::new(NullBatch { records: 7, ..NullBatch::default() }, 5).unwrap();
        let size = read(&endless, 0, 0, true)[0].bytes.len();
        for (offset, bases) in [(0, [0, 7, 14]), (6, [0, 7, 14]), (7, [7, 14, 21]), (1000, [994, 1001, 1008])]
        {
            let seen = read(&endless, offset, 4 * size - 1, false);
            assert_eq!(seen.iter().map(|batch| batch.header.base_offset).collect::<Vec<_>>(), bases);
            for batch in &seen {
                batch.verify().unwrap();
                assert_eq!(batch.header.last_offset(), batch.header.base_offset + 6);
                assert_eq!(batch.header.partition_leader_epoch, 0);
            }
        }
        assert!(read(&endless, 0, size - 1, false).is_empty());
        assert_eq!(read(&endless, 0, size - 1, true).len(), 1);
    }

    #[test]
    fn every_codec_carries_records_of_the_shape_that_was_asked_for() {
        for compression in Compression::ALL {
            let shape = NullBatch { records: 50, value_bytes: 1024, key_bytes: 16, compression };
            let endless = Endless::new(shape, 5).unwrap();
            let batch = read(&endless, 0, 0, true).remove(0);
            assert_eq!(batch.header.compression(), compression);
            let packed = batch.bytes.len();
            let decoded = batch.decode(&mut Decompressor::new(1 << 20)).unwrap();
            let records: Vec<_> = decoded.records().map(Result::unwrap).collect();
            assert!(
                records.iter().all(|record| record.value.unwrap().len() == 1024 && record.timestamp == 5)
            );
            let keys: HashSet<_> = records.iter().map(|record| record.key.unwrap()).collect();
            assert!(keys.len() == 50 && keys.iter().all(|key| key.len() == 16), "{keys:?}");
            if compression == Compression::Lz4 {
                let ratio = 50.0 * 1040.0 / packed as f64;
                assert!((2.0..3.5).contains(&ratio), "{ratio}");
            }
        }
        let bare = NullBatch { records: 1, value_bytes: 0, key_bytes: 0, compression: Compression::None };
        let batch = read(&Endless::new(bare, 5).unwrap(), 0, 0, true).remove(0);
        let decoded = batch.decode(&mut Decompressor::new(1 << 20)).unwrap();
        let record = decoded.records().next().unwrap().unwrap();
        assert_eq!((record.key, record.value), (None, Some(&b""[..])));
    }

    #[test]
    fn a_batch_that_is_none_or_too_large_is_refused() {
        let good = NullBatch::default();
        assert_eq!(good.check(), Ok(()));
        assert!(NullBatch { records: 0, ..good }.check().is_err());
        assert!(NullBatch { records: u32::MAX, ..good }.check().is_err());
        assert!(NullBatch { value_bytes: usize::MAX, ..good }.check().is_err());
    }
}
