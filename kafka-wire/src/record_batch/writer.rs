//! Builds a batch: records are encoded in place behind a hole for the header, which is filled in when the batch seals.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{self, HEADER_LEN};
use super::{BatchError, varint};
use crate::compression::{Compression, Compressor};
use crate::primitives::{unsigned_varlong_len, zigzag, zigzag_long};

/// Producer id, epoch and sequence of a batch without an idempotent producer.
pub const NO_PRODUCER: ProducerStamp =
    ProducerStamp { producer_id: -1, producer_epoch: -1, base_sequence: -1 };

/// Keys and values up to this size, and a varint below this, have lengths of two bytes: the usual case, made fast.
const SHORT_FIELD: usize = 1 << 11;
const SHORT_VARINT: u64 = 1 << 14;
/// Bytes that the fast path may write behind a record's end, where the next one will be.
const SLACK: usize = 8;
/// A buffer's memory is prepared for writing in steps of this: zeros bring it into the cache faster than records would.
const STEP: usize = 4 << 10;
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
    // Its length is how far memory is ready to be written; the batch so far, header included, ends at `len`.
    buffer: BytesMut,
    len: usize,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchWriter {
    /// Starts a batch in `buffer`, whose contents are overwritten and whose capacity is reused.
    ///
    /// Clear a buffer that was away for long: preparing its memory anew costs less than writing to it cold.
    pub fn new(mut buffer: BytesMut) -> BatchWriter {
        if buffer.len() < HEADER_LEN {
            buffer.resize(HEADER_LEN, 0);
        }
        BatchWriter {
            buffer,
            len: HEADER_LEN,
            record_count: 0,
            base_timestamp: super::NO_TIMESTAMP,
            max_timestamp: i64::MIN,
        }
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
        match self.append_short(timestamp_delta, offset_delta, key, value, headers) {
            Some(len) => self.len = len,
            None => self.len = self.append_any(timestamp_delta, offset_delta, key, value, headers)?,
        }
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count = index + 1;
        Ok(index)
    }

    /// Writes a record whose varints have at most two bytes and that has no headers, when there is room for it.
    #[inline]
    fn append_short(
        &mut self,
        timestamp_delta: u64,
        offset_delta: u64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Option<usize> {
        let (key_bytes, value_bytes) = (key.unwrap_or_default(), value.unwrap_or_default());
        if timestamp_delta | offset_delta >= SHORT_VARINT
            || key_bytes.len() | value_bytes.len() >= SHORT_FIELD
            || !headers.is_empty()
        {
            return None;
        }
        let timestamp_delta = Short::new(timestamp_delta);
        let offset_delta = Short::new(offset_delta);
        let key_len = Short::field(key);
        let value_len = Short::field(value);
        // Attributes and the count of headers are one byte each.
        let prefix = 1 + timestamp_delta.len + offset_delta.len;
        let body = prefix + key_len.len + key_bytes.len() + value_len.len + value_bytes.len() + 1;
        let length = Short::new((body as u64) << 1);
        let out = self.buffer.get_mut(self.len..self.len + length.len + body + SLACK)?;

        // At most seven bytes: length, attributes (0), timestamp delta, offset delta.
        let mut word = length.bytes | timestamp_delta.bytes << (8 * (length.len + 1));
        word |= offset_delta.bytes << (8 * (length.len + 1 + timestamp_delta.len));
        out[..8].copy_from_slice(&word.to_le_bytes());
        let mut at = length.len + prefix;
        for (len, bytes) in [(key_len, key_bytes), (value_len, value_bytes)] {
            out[at..at + 2].copy_from_slice(&(len.bytes as u16).to_le_bytes());
            at += len.len;
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        out[at] = 0;
        Some(self.len + at + 1)
    }

    /// Writes any record, making room as needed; returns where the batch then ends.
    #[inline(never)]
    fn append_any(
        &mut self,
        timestamp_delta: u64,
        offset_delta: u64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Result<usize, BatchError> {
        let prefix = 1 + unsigned_varlong_len(timestamp_delta) + unsigned_varlong_len(offset_delta);
        let body = (prefix as u64)
            .saturating_add(field_len(key))
            .saturating_add(field_len(value))
            .saturating_add(headers_len(headers));
        if body.saturating_add(self.len as u64 + 5) > MAX_BATCH {
            return Err(BatchError::TooLarge("the batch would exceed 2 GiB"));
        }
        let length = body << 1;
        let end = self.len + unsigned_varlong_len(length) + body as usize;
        let parts = Parts { length, timestamp_delta, offset_delta, key, value, headers };
        if end + SLACK <= self.buffer.len() {
            parts.put(&mut &mut self.buffer[self.len..end]);
            return Ok(end);
        }
        // Nothing is prepared for long records: zeros would only be one more way through their memory.
        self.buffer.truncate(self.len);
        self.buffer.reserve(end - self.len);
        parts.put(&mut self.buffer);
        debug_assert_eq!(self.buffer.len(), end);
        let ready = (end + SLACK).next_multiple_of(STEP).min(self.buffer.capacity());
        self.buffer.resize(ready.max(end), 0);
        Ok(end)
    }

    /// Bytes a record takes at most, whatever its place in a batch; the batch's own [`HEADER_LEN`] is not in it.
    #[inline]
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
    #[inline]
    pub fn len(&self) -> usize {
        self.len
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
        buffer.extend_from_slice(&self.buffer[..self.len]);
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
        compressor.compress(&self.buffer[HEADER_LEN..self.len], &mut out)?;
        if out.len() >= self.len {
            return Ok((self.seal(Compression::None), out));
        }
        let packed = BatchWriter { len: out.len(), buffer: out, ..self };
        let spent = self.buffer;
        Ok((packed.seal(codec), spent))
    }

    fn seal(self, compression: Compression) -> SealedBatch {
        let mut batch = self.buffer;
        batch.truncate(self.len);
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

/// A varint of one or two bytes, in a word to be shifted into place.
#[derive(Clone, Copy)]
struct Short {
    bytes: u64,
    len: usize,
}

impl Short {
    #[inline(always)]
    fn new(value: u64) -> Short {
        if value < 0x80 {
            Short { bytes: value, len: 1 }
        } else {
            Short { bytes: value & 0x7f | 0x80 | value >> 7 << 8, len: 2 }
        }
    }

    /// The length of a key or value, -1 for null.
    #[inline(always)]
    fn field(field: Option<&[u8]>) -> Short {
        match field {
            None => Short { bytes: 1, len: 1 },
            Some(bytes) => Short::new((bytes.len() as u64) << 1),
        }
    }
}

/// What a record consists of, integers as the varints encode them.
struct Parts<'a> {
    length: u64,
    timestamp_delta: u64,
    offset_delta: u64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [HeaderRef<'a>],
}

impl Parts<'_> {
    fn put(&self, out: &mut impl BufMut) {
        varint::put(out, self.length);
        out.put_u8(0);
        varint::put(out, self.timestamp_delta);
        varint::put(out, self.offset_delta);
        put_field(out, self.key);
        put_field(out, self.value);
        varint::put(out, (self.headers.len() as u64) << 1);
        for header in self.headers {
            put_field(out, Some(header.key));
            put_field(out, header.value);
        }
    }
}

fn put_field(out: &mut impl BufMut, field: Option<&[u8]>) {
    match field {
        None => out.put_u8(1), // -1
        Some(bytes) => {
            varint::put(out, (bytes.len() as u64) << 1);
            out.put_slice(bytes);
        }
    }
}

/// Encoded bytes of a key or value with its length. Lengths beyond 31 bits are caught through the sum.
fn field_len(field: Option<&[u8]>) -> u64 {
    match field {
        None => 1,
        Some(bytes) => unsigned_varlong_len((bytes.len() as u64) << 1) as u64 + bytes.len() as u64,
    }
}

fn headers_len(headers: &[HeaderRef<'_>]) -> u64 {
    let count = unsigned_varlong_len((headers.len() as u64) << 1) as u64;
    headers.iter().fold(count, |sum, header| {
        sum.saturating_add(field_len(Some(header.key))).saturating_add(field_len(header.value))
    })
}
