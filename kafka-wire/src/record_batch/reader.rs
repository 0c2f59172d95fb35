//! Reads batches out of fetched bytes: first the batches, then one batch's records, borrowed or owned.

use std::borrow::Cow;

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_LEN, MIN_RECORD_LEN, TimestampType, verify_crc};
use super::writer::HeaderRef;
use super::{BatchError, varint};
use crate::compression::{Compression, Decompressor};
use crate::primitives::{unzigzag, unzigzag_long};

/// Walks the batches in `records`, the bytes of one partition in a fetch response or a produce request.
pub fn batches(records: Bytes) -> Batches {
    Batches { rest: records, failed: false }
}

/// The batches of one partition's bytes, in order; see [`batches`].
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    /// What was not walked yet. Once the iterator has ended without an error it is the start of a batch that the
    /// broker cut off at the size limit, which is normal: fetch again from there, with a larger limit if it came first.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    fn next_batch(&mut self) -> Result<Option<RawBatch>, BatchError> {
        let header = match BatchHeader::parse(&self.rest) {
            Ok(header) => header,
            Err(BatchError::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if header.size_in_bytes() > self.rest.len() {
            return Ok(None);
        }
        let bytes = self.rest.split_to(header.size_in_bytes());
        Ok(Some(RawBatch { header, bytes }))
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_batch().transpose();
        // Where the next batch would start is unknown after a bad length, so nothing behind it can be read.
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// One whole batch, not checked against its CRC and not decompressed yet.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// The parsed header.
    pub header: BatchHeader,
    /// The whole batch, header included.
    pub bytes: Bytes,
}

impl RawBatch {
    /// Compares the CRC; apart from [`decode`](RawBatch::decode) because not everybody wants to pay for it.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn verify(&self) -> Result<(), BatchError> {
        verify_crc(&self.bytes)
    }

    /// Opens the batch: a slice of the same memory when uncompressed, else decompressed into a new buffer.
    ///
    /// # Errors
    /// [`BatchError::Compression`] when the records do not decompress within the decompressor's limit,
    /// [`BatchError::Malformed`] when they cannot hold as many records as the header says.
    pub fn decode(&self, decompressor: &mut Decompressor) -> Result<DecodedBatch, BatchError> {
        let stored = self.bytes.slice(HEADER_LEN..);
        // Compaction leaves batches without a record behind, and then there is nothing to decompress either.
        let body = if self.header.compression() == Compression::None || stored.is_empty() {
            stored
        } else {
            decompressor.decompress(self.header.compression(), &stored)?
        };
        if self.header.record_count as usize > body.len() / MIN_RECORD_LEN {
            return Err(BatchError::Malformed("it claims more records than its bytes can hold"));
        }
        Ok(DecodedBatch { header: self.header, body })
    }
}

/// A batch whose records can be read.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    /// The parsed header.
    pub header: BatchHeader,
    body: Bytes,
}

impl DecodedBatch {
    /// The records, borrowing from the batch: no allocation, no reference count.
    pub fn records(&self) -> Records<'_> {
        Records { body: &self.body, cursor: Cursor::new(&self.header) }
    }

    /// Sees that every record can be read, so that [`records`](DecodedBatch::records) has no error to come.
    ///
    /// # Errors
    /// What is wrong with the first one that cannot.
    pub fn check(&self) -> Result<(), BatchError> {
        let body = &self.body[..];
        let mut cursor = Cursor::new(&self.header);
        while let Some(record) = cursor.next(body) {
            record?;
        }
        Ok(())
    }

    /// A reader that owns the batch, for records that outlive the borrow or a position kept between calls.
    pub fn into_reader(self) -> RecordReader {
        RecordReader { cursor: Cursor::new(&self.header), body: self.body }
    }

    /// The records' bytes, uncompressed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The same by value, for [`Decompressor::recycle`].
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

/// The records of a batch, borrowed; ends after the first error. From [`DecodedBatch::records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    body: &'a [u8],
    cursor: Cursor,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.body)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.cursor.remaining as usize + 1))
    }
}

/// The records of a batch with the batch itself; ends after the first error. From [`DecodedBatch::into_reader`].
///
/// As an iterator it gives [`OwnedRecord`]s; [`next_record`](RecordReader::next_record) lends them instead.
#[derive(Debug, Clone)]
pub struct RecordReader {
    body: Bytes,
    cursor: Cursor,
}

impl RecordReader {
    /// The next record, borrowed.
    #[inline]
    pub fn next_record(&mut self) -> Option<Result<RecordRef<'_>, BatchError>> {
        self.cursor.next(&self.body)
    }

    /// Records that were not read yet.
    pub fn remaining(&self) -> usize {
        self.cursor.remaining as usize
    }
}

impl Iterator for RecordReader {
    type Item = Result<OwnedRecord, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.cursor.next(&self.body)?;
        Some(record.map(|record| {
            OwnedRecord {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(|key| self.body.slice_ref(key)),
                value: record.value.map(|value| self.body.slice_ref(value)),
                headers: record
                    .headers()
                    .map(|header| OwnedHeader {
                        key: self.body.slice_ref(header.key),
                        value: header.value.map(|value| self.body.slice_ref(value)),
                    })
                    .collect(),
            }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining() + 1))
    }
}

/// A record that borrows from its batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The record's offset in its partition.
    pub offset: i64,
    /// Its timestamp in ms: its own, or the batch's under LogAppendTime.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// The value, `None` for null (a tombstone on compacted topics).
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordRef<'a> {
    /// The headers in order, duplicates included; parsed as the iterator goes.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// The headers of a record; an iterator. Their structure was checked when the record was read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    remaining: u32,
}

impl<'a> Headers<'a> {
    /// Checks that `bytes` is a count and as many headers.
    #[inline(never)]
    fn parse(mut bytes: &'a [u8]) -> Result<Headers<'a>, BatchError> {
        let count = varint::read32(&mut bytes)?;
        match u32::try_from(count) {
            // A header has at least two one-byte lengths.
            Ok(remaining) if remaining as usize <= bytes.len() / 2 => {
                let headers = Headers { bytes, remaining };
                headers.check()?;
                Ok(headers)
            }
            _ => Err(BatchError::Malformed("it claims more headers than its bytes can hold")),
        }
    }

    fn check(mut self) -> Result<(), BatchError> {
        while self.remaining > 0 {
            self.read()?;
        }
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(BatchError::Malformed("a record is longer than its fields"))
        }
    }

    fn read(&mut self) -> Result<HeaderRef<'a>, BatchError> {
        let Some(key) = field(&mut self.bytes)? else {
            return Err(BatchError::Malformed("a header has no key"));
        };
        let value = field(&mut self.bytes)?;
        self.remaining -= 1;
        Ok(HeaderRef { key, value })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<HeaderRef<'a>> {
        if self.remaining == 0 {
            return None;
        }
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// A record whose fields share the memory of its batch, which lives until the last of them is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The record's offset in its partition.
    pub offset: i64,
    /// Its timestamp in ms: its own, or the batch's under LogAppendTime.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<Bytes>,
    /// The value, `None` for null (a tombstone on compacted topics).
    pub value: Option<Bytes>,
    /// The headers in order, duplicates included.
    pub headers: Vec<OwnedHeader>,
}

/// One header of an [`OwnedRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedHeader {
    /// The key: UTF-8 by convention, not checked.
    pub key: Bytes,
    /// The value, `None` for null.
    pub value: Option<Bytes>,
}

impl OwnedHeader {
    /// The key as text; bytes that are no UTF-8 become U+FFFD, as in Java.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// Where in a batch's body the next record starts, and what its deltas count from.
#[derive(Debug, Clone)]
struct Cursor {
    at: usize,
    remaining: u32,
    ended: bool,
    last_offset_delta: i32,
    previous_offset_delta: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl Cursor {
    fn new(header: &BatchHeader) -> Cursor {
        Cursor {
            at: 0,
            // `BatchHeader::parse` saw that it is not negative.
            remaining: header.record_count as u32,
            ended: false,
            last_offset_delta: header.last_offset_delta,
            previous_offset_delta: 0,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: match header.timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(header.max_timestamp),
            },
        }
    }

    #[inline(always)]
    fn next<'a>(&mut self, body: &'a [u8]) -> Option<Result<RecordRef<'a>, BatchError>> {
        if self.remaining == 0 {
            return self.end(body);
        }
        self.remaining -= 1;
        let rest = body.get(self.at..).unwrap_or_default();
        let raw = match RawRecord::parse_short(rest) {
            Some(raw) => raw,
            None => match RawRecord::parse_any(rest) {
                Ok(raw) => raw,
                Err(error) => return Some(Err(self.stop(error))),
            },
        };
        if raw.offset_delta < self.previous_offset_delta || raw.offset_delta > self.last_offset_delta {
            let reason = "a record's offset is outside the batch or before its predecessor";
            return Some(Err(self.stop(BatchError::Malformed(reason))));
        }
        let timestamp = match self.append_time {
            Some(timestamp) => timestamp,
            None => match self.base_timestamp.checked_add(raw.timestamp_delta) {
                Some(timestamp) => timestamp,
                None => return Some(Err(self.stop(BatchError::Malformed("a record's timestamp overflows")))),
            },
        };
        self.previous_offset_delta = raw.offset_delta;
        self.at += raw.len;
        // Cannot overflow: `BatchHeader::parse` saw that the last offset does not.
        let offset = self.base_offset.wrapping_add(i64::from(raw.offset_delta));
        Some(Ok(RecordRef { offset, timestamp, key: raw.key, value: raw.value, headers: raw.headers }))
    }

    /// Ends the iteration: behind a bad record the start of the next one is unknown.
    #[cold]
    fn stop(&mut self, error: BatchError) -> BatchError {
        self.remaining = 0;
        self.ended = true;
        error
    }

    /// Behind the last record: reports bytes that no record accounts for, once.
    #[cold]
    fn end<'a>(&mut self, body: &'a [u8]) -> Option<Result<RecordRef<'a>, BatchError>> {
        if std::mem::replace(&mut self.ended, true) || self.at == body.len() {
            return None;
        }
        Some(Err(BatchError::Malformed("bytes are left behind its last record")))
    }
}

/// A record as it is stored, before its deltas mean anything.
struct RawRecord<'a> {
    /// Bytes it takes.
    len: usize,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RawRecord<'a> {
    /// Parses the record at the front of `bytes` when all its varints have one or two bytes, as they usually have;
    /// `None` for any other, good or bad.
    #[inline(always)]
    fn parse_short(bytes: &'a [u8]) -> Option<RawRecord<'a>> {
        // At most seven bytes: length, attributes, timestamp delta, offset delta.
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        let (length, n) = varint::short(word)?;
        let len = n + varint::short_length(length)?;
        // The attributes byte has no meaning yet.
        let word = word >> (8 * n + 8);
        let (timestamp_delta, at) = varint::short(word)?;
        let (offset_delta, m) = varint::short(word >> (8 * at))?;
        // Only ever forward, so that nothing reaches beyond the record if its last field does not.
        let (key, at) = short_field(bytes, n + 1 + at + m)?;
        let (value, at) = short_field(bytes, at)?;
        let headers = match bytes.get(at..len)? {
            [0] => Headers::default(),
            headers => Headers::parse(headers).ok()?,
        };
        Some(RawRecord {
            len,
            timestamp_delta: unzigzag_long(timestamp_delta),
            offset_delta: unzigzag(offset_delta as u32),
            key,
            value,
            headers,
        })
    }

    /// Parses any record at the front of `bytes`.
    #[inline(never)]
    fn parse_any(bytes: &'a [u8]) -> Result<RawRecord<'a>, BatchError> {
        let mut rest = bytes;
        let length = varint::read32(&mut rest)?;
        let record = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let Some((mut record, rest)) = record else {
            return Err(BatchError::Malformed("a record's length exceeds the batch"));
        };
        let Some((_attributes, fields)) = record.split_first() else {
            return Err(BatchError::Malformed("a record is empty"));
        };
        record = fields;
        Ok(RawRecord {
            len: bytes.len() - rest.len(),
            timestamp_delta: varint::read64(&mut record)?,
            offset_delta: varint::read32(&mut record)?,
            key: field(&mut record)?,
            value: field(&mut record)?,
            headers: Headers::parse(record)?,
        })
    }
}

/// As [`field`], at `at` and for a length of one or two bytes; gives what is behind it, too.
#[inline(always)]
fn short_field(bytes: &[u8], at: usize) -> Option<(Option<&[u8]>, usize)> {
    let (length, n) = varint::short(u64::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))?;
    let at = at + n;
    if length == 1 {
        return Some((None, at));
    }
    let end = at + varint::short_length(length)?;
    Some((Some(bytes.get(at..end)?), end))
}

/// Takes a length and as many bytes from the front; -1 is null.
fn field<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    let length = varint::read32(bytes)?;
    match usize::try_from(length) {
        Ok(length) => match bytes.split_at_checked(length) {
            Some((field, rest)) => {
                *bytes = rest;
                Ok(Some(field))
            }
            None => Err(BatchError::Malformed("a key, value or header exceeds its record")),
        },
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(BatchError::Malformed("a key, value or header has a negative length")),
    }
}
