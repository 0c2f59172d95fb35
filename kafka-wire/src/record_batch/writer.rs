//! Builds a batch: records are encoded in place behind a hole for the header, which is filled in when the batch seals.

use bytes::{Bytes, BytesMut};

use super::header::{self, HEADER_LEN};
use super::{BatchError, varint};
use crate::compression::{Compression, Compressor};
use crate::primitives::{unsigned_varlong_len, zigzag, zigzag_long};

/// Producer id, epoch and sequence of a batch without an idempotent producer.
pub const NO_PRODUCER: ProducerStamp =
    ProducerStamp { producer_id: -1, producer_epoch: -1, base_sequence: -1 };

/// Records up to this size are written through one zeroed, checked slice; larger ones are copied field by field.
const SMALL_RECORD: usize = 1024;
/// Room for everything in front of a record's key: length, attributes, both deltas and the key's length.
const MAX_PREFIX: usize = 5 + 1 + 10 + 5 + 5;
/// The largest batch, and so the largest record, that 32-bit lengths can describe.
const MAX_BATCH: u64 = i32::MAX as u64;

/// A buffer for [`BatchWriter::new`] that neither freezing nor taking it back ever allocates for.
///
/// A `BytesMut` fresh from its constructor allocates its reference count on the first freeze; this one has it already.
pub fn batch_buffer(capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity);
    // Splitting is what gives the buffer its reference count; the empty front half is dropped at once.
    drop(buffer.split());
    buffer
}

/// One header of a record. Kafka allows a key more than once, and a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeaderRef<'a> {
    /// The key: UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// The value, `None` for null.
    pub value: Option<&'a [u8]>,
}

impl<'a> HeaderRef<'a> {
    /// A header with a text key.
    pub fn new(key: &'a str, value: Option<&'a [u8]>) -> HeaderRef<'a> {
        HeaderRef { key: key.as_bytes(), value }
    }
}

/// Who sends a batch, and where in that producer's sequence it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The id from InitProducerId.
    pub producer_id: i64,
    /// The epoch from InitProducerId.
    pub producer_epoch: i16,
    /// Sequence of the batch's first record.
    pub base_sequence: i32,
}

/// An open batch: append records until it is full or due, then [`finish`](BatchWriter::finish).
#[derive(Debug)]
pub struct BatchWriter {
    // `HEADER_LEN` bytes for the header, then the records so far.
    buffer: BytesMut,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchWriter {
    /// Starts a batch in `buffer`, whose contents are dropped and whose capacity is reused.
    pub fn new(mut buffer: BytesMut) -> BatchWriter {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        BatchWriter { buffer, record_count: 0, base_timestamp: super::NO_TIMESTAMP, max_timestamp: i64::MIN }
    }

    /// Adds a record and returns its index: its offset will be the batch's base offset plus that.
    ///
    /// `timestamp` is in ms. Nothing is allocated while the buffer's capacity lasts.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] when a length or delta does not fit Kafka's format; the batch is as before.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Result<u32, BatchError> {
        let index = self.record_count;
        let base_timestamp = if index == 0 { timestamp } else { self.base_timestamp };
        let Some(timestamp_delta) = timestamp.checked_sub(base_timestamp) else {
            return Err(BatchError::TooLarge("its timestamp is too far from that of the first record"));
        };
        let timestamp_delta = zigzag_long(timestamp_delta);
        // The batch is below 2 GiB and a record has 7 bytes or more, so the index has far fewer than 31 bits.
        let offset_delta = u64::from(zigzag(index as i32));
        let body = 1
            + (unsigned_varlong_len(timestamp_delta) + unsigned_varlong_len(offset_delta)) as u64
            + field_len(key)
            + field_len(value)
            + if headers.is_empty() { 1 } else { headers_len(headers) };
        let start = self.buffer.len();
        if body > MAX_BATCH || start as u64 + body + 5 > MAX_BATCH {
            return Err(BatchError::TooLarge("the batch would exceed 2 GiB"));
        }
        let length = u64::from(zigzag(body as i32));
        let total = unsigned_varlong_len(length) + body as usize;

        if total <= SMALL_RECORD {
            self.buffer.resize(start + total, 0);
            let mut out = Slots { slots: &mut self.buffer[start..], at: 0 };
            out.varint(length);
            out.byte(0);
            out.varint(timestamp_delta);
            out.varint(offset_delta);
            out.field(key);
            out.field(value);
            out.varint(u64::from(zigzag(headers.len() as i32)));
            for header in headers {
                out.field(Some(header.key));
                out.field(header.value);
            }
        } else {
            self.append_large(total, length, timestamp_delta, offset_delta, key, value, headers);
        }
        debug_assert_eq!(self.buffer.len(), start + total);

        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count = index + 1;
        Ok(index)
    }

    /// The same bytes without zeroing first what a large key or value overwrites.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the second half of `append`, kept out of its fast path")]
    fn append_large(
        &mut self,
        total: usize,
        length: u64,
        timestamp_delta: u64,
        offset_delta: u64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        self.buffer.reserve(total);
        let mut prefix = [0; MAX_PREFIX];
        let mut out = Slots { slots: &mut prefix, at: 0 };
        out.varint(length);
        out.byte(0);
        out.varint(timestamp_delta);
        out.varint(offset_delta);
        let used = out.at;
        self.buffer.extend_from_slice(&prefix[..used]);
        self.extend_field(key);
        self.extend_field(value);
        self.extend_varint(headers.len() as i32);
        for header in headers {
            self.extend_field(Some(header.key));
            self.extend_field(header.value);
        }
    }

    fn extend_varint(&mut self, value: i32) {
        let mut bytes = [0; 5];
        let used = varint::write(&mut bytes, 0, u64::from(zigzag(value)));
        self.buffer.extend_from_slice(&bytes[..used]);
    }

    fn extend_field(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.extend_varint(-1),
            Some(bytes) => {
                self.extend_varint(bytes.len() as i32);
                self.buffer.extend_from_slice(bytes);
            }
        }
    }

    /// Bytes a record takes at most, whatever its place in a batch; the batch's own [`HEADER_LEN`] is not in it.
    pub fn record_size_upper_bound(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> usize {
        // Length and offset delta 5 each, attributes 1, timestamp delta 10, every length 5.
        let field = |field: Option<&[u8]>| 5 + field.map_or(0, <[u8]>::len);
        let headers: usize = headers.iter().map(|header| 5 + header.key.len() + field(header.value)).sum();
        5 + 1 + 10 + 5 + field(key) + field(value) + 5 + headers
    }

    /// Bytes of the batch as it would be sent now without compression, header included.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether no record was appended.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes the buffer holds before it grows.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Records so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Timestamp of the first record in ms, [`NO_TIMESTAMP`](super::NO_TIMESTAMP) before there is one.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Largest timestamp so far in ms, [`NO_TIMESTAMP`](super::NO_TIMESTAMP) before there is a record.
    pub fn max_timestamp(&self) -> i64 {
        if self.is_empty() { super::NO_TIMESTAMP } else { self.max_timestamp }
    }

    /// Goes on in `buffer`, which should be larger, and gives back the one used so far.
    pub fn move_to(&mut self, mut buffer: BytesMut) -> BytesMut {
        buffer.clear();
        buffer.extend_from_slice(&self.buffer);
        std::mem::replace(&mut self.buffer, buffer)
    }

    /// Gives the buffer back without making a batch.
    pub fn into_buffer(self) -> BytesMut {
        self.buffer
    }

    /// Ends the batch uncompressed.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without a record.
    pub fn finish(self) -> Result<SealedBatch, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        Ok(self.seal(Compression::None))
    }

    /// Ends the batch with its records compressed into `out`, and gives back the buffer that was not used.
    ///
    /// Records that would not get smaller are sent as they are: then `out` comes back and the batch says so in its
    /// codec bits. Costs CPU: gzip and zstd belong on a blocking thread.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without a record, [`BatchError::Compression`] when the codec fails.
    pub fn finish_compressed(
        self,
        compressor: &mut Compressor,
        mut out: BytesMut,
    ) -> Result<(SealedBatch, BytesMut), BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let codec = compressor.compression();
        if codec == Compression::None {
            return Ok((self.seal(Compression::None), out));
        }
        out.clear();
        out.resize(HEADER_LEN, 0);
        compressor.compress(&self.buffer[HEADER_LEN..], &mut out)?;
        if out.len() >= self.buffer.len() {
            return Ok((self.seal(Compression::None), out));
        }
        let packed = BatchWriter { buffer: out, ..self };
        let spent = self.buffer;
        Ok((packed.seal(codec), spent))
    }

    fn seal(self, compression: Compression) -> SealedBatch {
        let mut batch = self.buffer;
        let length = (batch.len() - header::LENGTH_PREFIX) as i32;
        let count = self.record_count as i32;
        header::put(&mut batch, 0, 0_i64.to_be_bytes());
        header::put(&mut batch, header::LENGTH_AT, length.to_be_bytes());
        header::put(&mut batch, header::LEADER_EPOCH_AT, (-1_i32).to_be_bytes());
        header::put(&mut batch, header::MAGIC_AT, header::MAGIC.to_be_bytes());
        header::put(&mut batch, header::ATTRIBUTES_AT, i16::from(compression.id()).to_be_bytes());
        header::put(&mut batch, header::LAST_OFFSET_DELTA_AT, (count - 1).to_be_bytes());
        header::put(&mut batch, header::BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        header::put(&mut batch, header::MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        header::put(&mut batch, header::RECORD_COUNT_AT, count.to_be_bytes());
        let mut sealed = SealedBatch { buffer: batch };
        sealed.stamp(NO_PRODUCER, false);
        sealed
    }
}

/// A complete batch whose records are fixed and whose producer can still be set.
#[derive(Debug)]
pub struct SealedBatch {
    // A whole batch: `HEADER_LEN` bytes or more. Its CRC is computed when the bytes are handed out, not before.
    buffer: BytesMut,
}

impl SealedBatch {
    /// Sets who sends the batch and whether in a transaction; can be repeated until the batch is frozen.
    pub fn stamp(&mut self, stamp: ProducerStamp, transactional: bool) {
        let batch = &mut self.buffer[..];
        header::put(batch, header::PRODUCER_ID_AT, stamp.producer_id.to_be_bytes());
        header::put(batch, header::PRODUCER_EPOCH_AT, stamp.producer_epoch.to_be_bytes());
        header::put(batch, header::BASE_SEQUENCE_AT, stamp.base_sequence.to_be_bytes());
        self.set_attribute(header::TRANSACTIONAL, transactional);
    }

    pub(super) fn mark_control(&mut self) {
        self.set_attribute(header::CONTROL, true);
    }

    fn set_attribute(&mut self, bit: i16, on: bool) {
        let at = header::ATTRIBUTES_AT;
        let attributes = i16::from_be_bytes([self.buffer[at], self.buffer[at + 1]]);
        let attributes = if on { attributes | bit } else { attributes & !bit };
        header::put(&mut self.buffer, at, attributes.to_be_bytes());
    }

    /// The bytes to send, checksum included. Keep a clone to send them again unchanged.
    pub fn freeze(mut self) -> Bytes {
        header::put_crc(&mut self.buffer);
        self.buffer.freeze()
    }

    /// Takes frozen bytes back to stamp them anew, after an epoch bump: copies only while somebody else holds them.
    ///
    /// # Errors
    /// [`BatchError`] when `bytes` is not one whole batch.
    pub fn thaw(bytes: Bytes) -> Result<SealedBatch, BatchError> {
        let size = super::BatchHeader::parse(&bytes)?.size_in_bytes();
        if size != bytes.len() {
            return Err(BatchError::Truncated { needed: size, available: bytes.len() });
        }
        let buffer = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        Ok(SealedBatch { buffer })
    }

    /// Bytes of the batch, header included.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Never true: a batch has a header and a record.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Records in the batch.
    pub fn record_count(&self) -> u32 {
        let at = header::RECORD_COUNT_AT;
        u32::from_be_bytes([self.buffer[at], self.buffer[at + 1], self.buffer[at + 2], self.buffer[at + 3]])
    }
}

/// A slice of known size being filled from the front.
struct Slots<'a> {
    slots: &'a mut [u8],
    at: usize,
}

impl Slots<'_> {
    #[inline(always)]
    fn byte(&mut self, value: u8) {
        self.slots[self.at] = value;
        self.at += 1;
    }

    #[inline(always)]
    fn varint(&mut self, value: u64) {
        self.at = varint::write(self.slots, self.at, value);
    }

    #[inline(always)]
    fn field(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.byte(1), // -1
            Some(bytes) => {
                self.varint(u64::from(zigzag(bytes.len() as i32)));
                self.slots[self.at..self.at + bytes.len()].copy_from_slice(bytes);
                self.at += bytes.len();
            }
        }
    }
}

/// Encoded bytes of a key or value with its length. Lengths beyond 31 bits are caught through the sum.
#[inline(always)]
fn field_len(field: Option<&[u8]>) -> u64 {
    match field {
        None => 1,
        Some(bytes) => unsigned_varlong_len((bytes.len() as u64) << 1) as u64 + bytes.len() as u64,
    }
}

#[inline(never)]
fn headers_len(headers: &[HeaderRef<'_>]) -> u64 {
    let count = unsigned_varlong_len((headers.len() as u64) << 1) as u64;
    headers.iter().fold(count, |sum, header| {
        sum.saturating_add(field_len(Some(header.key))).saturating_add(field_len(header.value))
    })
}
