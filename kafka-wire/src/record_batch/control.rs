//! Control batches: the markers that end a transaction in a partition's log.

use bytes::Bytes;

use super::{BatchError, BatchWriter, ProducerStamp, RecordRef};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndTransaction {
    /// Its records count.
    Commit,
    /// A read_committed consumer skips its records.
    Abort,
}

/// What a record of a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlRecord {
    /// The producer of the batch ended its transaction.
    EndTransaction {
        /// Commit or abort.
        outcome: EndTransaction,
        /// Epoch of the transaction coordinator that wrote the marker.
        coordinator_epoch: i32,
    },
    /// A type that a client has no use for: KRaft's own, or one of the future. Skip it.
    Other(i16),
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl ControlRecord {
    /// Reads the key and value of a record in a control batch.
    ///
    /// # Errors
    /// [`BatchError::Malformed`] when they are too short for what the type needs.
    pub fn parse(record: &RecordRef<'_>) -> Result<ControlRecord, BatchError> {
        // Both start with a version; fields are only ever added behind the ones of version 0.
        let Some(&[_, _, high, low, ..]) = record.key else {
            return Err(BatchError::Malformed("a control record's key is too short"));
        };
        let outcome = match i16::from_be_bytes([high, low]) {
            ABORT => EndTransaction::Abort,
            COMMIT => EndTransaction::Commit,
            other => return Ok(ControlRecord::Other(other)),
        };
        let Some(&[_, _, a, b, c, d, ..]) = record.value else {
            return Err(BatchError::Malformed("a transaction marker's value is too short"));
        };
        let coordinator_epoch = i32::from_be_bytes([a, b, c, d]);
        Ok(ControlRecord::EndTransaction { outcome, coordinator_epoch })
    }
}

/// The control batch that ends the transaction of `producer_id` in one partition, for a broker to append.
///
/// `timestamp` is in ms; base offset and leader epoch are the appending leader's to set.
///
/// # Errors
/// None in practice; the batch writer's are passed on.
pub fn end_transaction_batch(
    outcome: EndTransaction,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Result<Bytes, BatchError> {
    let kind = match outcome {
        EndTransaction::Abort => ABORT,
        EndTransaction::Commit => COMMIT,
    };
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut writer = BatchWriter::new(super::batch_buffer(128));
    writer.append(timestamp, Some(&key), Some(&value), &[])?;
    let mut sealed = writer.finish()?;
    sealed.stamp(ProducerStamp { producer_id, producer_epoch, base_sequence: -1 }, true);
    sealed.mark_control();
    Ok(sealed.freeze())
}
