//! The 61 bytes in front of a batch's records: reading them, checking them, and what a broker may patch.

use super::BatchError;
use crate::compression::Compression;
use crate::crc::crc32c;

/// Bytes of a batch in front of its records.
pub const HEADER_LEN: usize = 61;
/// Bytes of the smallest record: seven one-byte fields.
pub const MIN_RECORD_LEN: usize = 7;

/// Bytes that `batch_length` does not count: the base offset and itself.
pub(super) const LENGTH_PREFIX: usize = 12;
pub(super) const LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// The CRC covers everything from here, so base offset and leader epoch can change without it.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const RECORD_COUNT_AT: usize = 57;

pub(super) const MAGIC: i8 = 2;
pub(super) const COMPRESSION_BITS: i16 = 0x07;
pub(super) const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;

/// Who set a batch's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, per record.
    CreateTime,
    /// The broker, one for the whole batch: its max timestamp.
    LogAppendTime,
}

/// The fixed part of a record batch, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; deltas count from it.
    pub base_offset: i64,
    /// Bytes behind this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch, -1 from a producer.
    pub partition_leader_epoch: i32,
    /// Message format, always 2 here.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record minus the base offset; compaction keeps it when it removes that record.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, in ms.
    pub base_timestamp: i64,
    /// Largest timestamp in the batch, or the broker's append time, in ms.
    pub max_timestamp: i64,
    /// Idempotent or transactional producer, -1 without.
    pub producer_id: i64,
    /// The producer's epoch, -1 without.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 without.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the first [`HEADER_LEN`] bytes of `bytes`, which may hold less than the whole batch.
    ///
    /// # Errors
    /// [`BatchError`] when there are fewer bytes, the format is not 2, the codec is unknown, or length, count and
    /// offsets contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // The magic sits at the same place in every format, so an old one is named even when it is shorter.
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::UnsupportedMagic(magic as i8));
        }
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated { needed: HEADER_LEN, available: bytes.len() });
        };
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(field(head, 0)),
            batch_length: i32::from_be_bytes(field(head, LENGTH_AT)),
            partition_leader_epoch: i32::from_be_bytes(field(head, LEADER_EPOCH_AT)),
            magic: head[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(field(head, CRC_AT)),
            attributes: i16::from_be_bytes(field(head, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(head, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(head, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(head, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(head, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(head, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(head, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(head, RECORD_COUNT_AT)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        let Some(body) = usize::try_from(self.batch_length)
            .ok()
            .and_then(|length| length.checked_sub(HEADER_LEN - LENGTH_PREFIX))
        else {
            return Err(BatchError::Malformed("its length is below that of its header"));
        };
        let Ok(count) = usize::try_from(self.record_count) else {
            return Err(BatchError::Malformed("its record count is negative"));
        };
        let codec = (self.attributes & COMPRESSION_BITS) as u8;
        match Compression::from_id(codec) {
            None => return Err(BatchError::UnknownCompression(codec)),
            // A compressed batch is checked again once its size is known.
            Some(Compression::None) if count > body / MIN_RECORD_LEN => {
                return Err(BatchError::Malformed("it claims more records than its bytes can hold"));
            }
            Some(_) => {}
        }
        if self.last_offset_delta < 0 {
            return Err(BatchError::Malformed("its last offset is before its first"));
        }
        if self.base_offset.checked_add(i64::from(self.last_offset_delta)).is_none() {
            return Err(BatchError::Malformed("its offsets overflow"));
        }
        Ok(())
    }

    /// Bytes of the whole batch, header included.
    pub fn size_in_bytes(&self) -> usize {
        // `check` saw that the length is not negative.
        LENGTH_PREFIX + self.batch_length as usize
    }

    /// The codec of the records.
    pub fn compression(&self) -> Compression {
        // `check` saw that the codec is known.
        Compression::from_id((self.attributes & COMPRESSION_BITS) as u8).unwrap_or(Compression::None)
    }

    /// Whether producer or broker set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record, such as the end of a transaction, instead of data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Offset of the last record the batch ever had: a consumer goes on at the next one, also after compaction.
    pub fn last_offset(&self) -> i64 {
        // `check` saw that this does not overflow.
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        // Masking the sign off wraps to 0 as Kafka does.
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }
}

/// Compares the stored CRC-32C with that of `batch`, which must be exactly one whole batch.
///
/// # Errors
/// [`BatchError::Truncated`] or [`BatchError::CrcMismatch`].
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let Some(head) = batch.first_chunk::<HEADER_LEN>() else {
        return Err(BatchError::Truncated { needed: HEADER_LEN, available: batch.len() });
    };
    let stored = u32::from_be_bytes(field(head, CRC_AT));
    let computed = crc32c(&batch[ATTRIBUTES_AT..]);
    if stored == computed {
        Ok(())
    } else {
        Err(BatchError::CrcMismatch { base_offset: i64::from_be_bytes(field(head, 0)), stored, computed })
    }
}

/// One whole batch that a broker is about to append: what it may patch in place.
#[derive(Debug)]
pub struct BatchMut<'a> {
    // At least `HEADER_LEN` bytes, exactly one batch.
    bytes: &'a mut [u8],
}

impl<'a> BatchMut<'a> {
    /// Takes the first batch of `bytes` and cuts off what follows.
    ///
    /// # Errors
    /// What [`BatchHeader::parse`] fails on, and [`BatchError::Truncated`].
    pub fn new(bytes: &'a mut [u8]) -> Result<BatchMut<'a>, BatchError> {
        let size = BatchHeader::parse(bytes)?.size_in_bytes();
        let available = bytes.len();
        match bytes.get_mut(..size) {
            Some(bytes) => Ok(BatchMut { bytes }),
            None => Err(BatchError::Truncated { needed: size, available }),
        }
    }

    /// Sets the offset of the first record; the CRC does not cover it.
    pub fn set_base_offset(&mut self, offset: i64) {
        put(self.bytes, 0, offset.to_be_bytes());
    }

    /// Sets the epoch of the appending leader; the CRC does not cover it.
    pub fn set_leader_epoch(&mut self, epoch: i32) {
        put(self.bytes, LEADER_EPOCH_AT, epoch.to_be_bytes());
    }

    /// Turns the batch to LogAppendTime at `timestamp` ms and recomputes the CRC.
    pub fn set_append_time(&mut self, timestamp: i64) {
        let attributes = i16::from_be_bytes([self.bytes[ATTRIBUTES_AT], self.bytes[ATTRIBUTES_AT + 1]]);
        put(self.bytes, ATTRIBUTES_AT, (attributes | LOG_APPEND_TIME).to_be_bytes());
        put(self.bytes, MAX_TIMESTAMP_AT, timestamp.to_be_bytes());
        put_crc(self.bytes);
    }

    /// Turns the batch to CreateTime and recomputes the CRC.
    pub fn set_create_time(&mut self) {
        let attributes = i16::from_be_bytes([self.bytes[ATTRIBUTES_AT], self.bytes[ATTRIBUTES_AT + 1]]);
        put(self.bytes, ATTRIBUTES_AT, (attributes & !LOG_APPEND_TIME).to_be_bytes());
        put_crc(self.bytes);
    }
}

/// Computes the CRC of a whole batch of at least `HEADER_LEN` bytes and stores it.
pub(super) fn put_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    put(batch, CRC_AT, crc.to_be_bytes());
}

#[inline]
pub(super) fn put<const N: usize>(batch: &mut [u8], at: usize, value: [u8; N]) {
    batch[at..at + N].copy_from_slice(&value);
}

#[inline]
fn field<const N: usize>(head: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&head[at..at + N]);
    value
}
