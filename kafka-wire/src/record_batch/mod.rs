//! Record batch v2: written in place into a reusable buffer, read through a borrowing cursor.
//!
//! [`BatchWriter`] encodes records as they come; the [`SealedBatch`] it ends in takes producer id, epoch and sequence
//! as late as the socket write. [`batches`] walks what a fetch returned; a [`RawBatch`] is checked with
//! [`verify`](RawBatch::verify), opened with [`decode`](RawBatch::decode) and its records borrow from it.

mod control;
mod header;
mod reader;
mod varint;
mod writer;

pub use control::{ControlRecord, EndTransaction, end_transaction_batch};
pub use header::{BatchHeader, BatchMut, HEADER_LEN, MIN_RECORD_LEN, TimestampType, verify_crc};
pub use reader::{
    Batches, DecodedBatch, Headers, OwnedHeader, OwnedRecord, RawBatch, RecordReader, RecordRef, Records,
    batches,
};
pub use writer::{BatchWriter, HeaderRef, NO_PRODUCER, ProducerStamp, SealedBatch, batch_buffer};

use crate::compression::CompressionError;

/// The value that stands for "no timestamp" in a record and for "none yet" in offsets and epochs.
pub const NO_TIMESTAMP: i64 = -1;

/// Why bytes are not a record batch that can be read, or records cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end inside the batch.
    #[error("the batch needs {needed} bytes and only {available} are there")]
    Truncated {
        /// Bytes the batch takes as far as known.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// A message format of Kafka before 0.11.
    #[error("message format {0} is not supported, only record batches of format 2 (Kafka 0.11 and later)")]
    UnsupportedMagic(i8),
    /// The stored checksum is not that of the bytes.
    #[error(
        "the batch at offset {base_offset} is corrupt: CRC-32C {computed:#010x}, expected {stored:#010x}"
    )]
    CrcMismatch {
        /// The offset the batch claims to start at.
        base_offset: i64,
        /// The checksum in the batch.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The codec bits name no codec of Kafka's.
    #[error("compression codec {0} is unknown")]
    UnknownCompression(u8),
    /// The records do not decompress, or to more than the limit.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A size, count or delta contradicts the bytes.
    #[error("the batch is malformed: {0}")]
    Malformed(&'static str),
    /// A record or the batch would exceed what its 32-bit lengths can say.
    #[error("the record does not fit a batch: {0}")]
    TooLarge(&'static str),
    /// A batch needs at least one record.
    #[error("a batch without records cannot be sent")]
    Empty,
}
