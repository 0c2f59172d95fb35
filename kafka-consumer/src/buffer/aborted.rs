//! Leaves out what a read_committed consumer must not see: records of aborted transactions, and control records. Pure.

use std::collections::HashSet;

use kafka_wire::compression::Decompressor;
use kafka_wire::record_batch::{BatchError, ControlRecord, EndTransaction, RawBatch};

/// The marker of a transaction is small; what does not fit into this is none.
const MAX_MARKER: usize = 1 << 16;

/// An aborted transaction, as a fetch response lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
}

/// Decides, batch by batch in log order, what is handed out of one partition's answer.
#[derive(Debug, Default)]
pub(crate) struct AbortedFilter {
    /// Not met yet, the next one last.
    pending: Vec<Aborted>,
    /// Whose transaction is open at this point of the log and will be aborted.
    open: HashSet<i64>,
}

impl AbortedFilter {
    /// Takes the list in any order: brokers are not to be trusted to sort it.
    pub(crate) fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { pending: aborted, open: HashSet::new() }
    }

    /// Whether the batch is data that may be handed out.
    ///
    /// # Errors
    /// A marker that cannot be read.
    pub(crate) fn admits(&mut self, batch: &RawBatch, check_crc: bool) -> Result<bool, BatchError> {
        let header = &batch.header;
        while let Some(next) = self.pending.pop_if(|next| next.first_offset <= header.last_offset()) {
            self.open.insert(next.producer_id);
        }
        if header.is_control() {
            if self.open.contains(&header.producer_id) && is_abort(batch, check_crc)? {
                self.open.remove(&header.producer_id);
            }
            return Ok(false);
        }
        Ok(!(header.is_transactional() && self.open.contains(&header.producer_id)))
    }
}

/// Only the first record of a control batch counts.
fn is_abort(batch: &RawBatch, check_crc: bool) -> Result<bool, BatchError> {
    if check_crc {
        batch.verify()?;
    }
    let decoded = batch.decode(&mut Decompressor::new(MAX_MARKER))?;
    let Some(record) = decoded.records().next() else { return Ok(false) };
    let outcome = ControlRecord::parse(&record?)?;
    Ok(matches!(outcome, ControlRecord::EndTransaction { outcome: EndTransaction::Abort, .. }))
}

#[cfg(test)]
mod tests {
    use kafka_wire::record_batch::{
        BatchWriter, ProducerStamp, batch_buffer, batches, end_transaction_batch,
    };

    use super::*;

    fn data(producer_id: i64, base_offset: i64, transactional: bool) -> RawBatch {
        let mut writer = BatchWriter::new(batch_buffer(256));
        writer.append(0, None, Some(b"x"), &[]).unwrap();
        let mut sealed = writer.finish().unwrap();
        sealed.stamp(ProducerStamp { producer_id, producer_epoch: 0, base_sequence: 0 }, transactional);
        at(batches(sealed.freeze()).next().unwrap().unwrap(), base_offset)
    }

    fn marker(outcome: EndTransaction, producer_id: i64, base_offset: i64) -> RawBatch {
        let bytes = end_transaction_batch(outcome, producer_id, 0, 0, 0).unwrap();
        at(batches(bytes).next().unwrap().unwrap(), base_offset)
    }

    fn at(mut batch: RawBatch, base_offset: i64) -> RawBatch {
        batch.header.base_offset = base_offset;
        batch
    }

    fn admitted(aborted: &[(i64, i64)], log: &[RawBatch]) -> Vec<i64> {
        let aborted = aborted
            .iter()
            .map(|&(producer_id, first_offset)| Aborted { producer_id, first_offset })
            .collect();
        let mut filter = AbortedFilter::new(aborted);
        log.iter()
            .filter(|batch| filter.admits(batch, true).unwrap())
            .map(|batch| batch.header.base_offset)
            .collect()
    }

    #[test]
    fn records_of_an_aborted_transaction_are_left_out_up_to_its_marker() {
        let log = [
            data(1, 0, true),
            data(2, 1, true),
            marker(EndTransaction::Abort, 1, 2),
            data(1, 3, true),
            marker(EndTransaction::Commit, 1, 4),
            marker(EndTransaction::Commit, 2, 5),
        ];
        assert_eq!(admitted(&[(1, 0)], &log), [1, 3]);
    }

    #[test]
    fn an_abort_with_no_data_hides_nothing_behind_it() {
        let log =
            [marker(EndTransaction::Abort, 1, 0), data(1, 1, true), marker(EndTransaction::Commit, 1, 2)];
        assert_eq!(admitted(&[(1, 0)], &log), [1]);
    }

    #[test]
    fn an_unsorted_list_leaks_no_aborted_record() {
        let log = [
            data(1, 0, true),
            marker(EndTransaction::Abort, 1, 1),
            data(2, 2, true),
            marker(EndTransaction::Abort, 2, 3),
        ];
        assert_eq!(admitted(&[(2, 2), (1, 0)], &log), [0; 0]);
    }

    #[test]
    fn a_second_abort_marker_and_records_outside_transactions_do_no_harm() {
        let log = [
            data(1, 0, true),
            marker(EndTransaction::Abort, 1, 1),
            marker(EndTransaction::Abort, 1, 2),
            data(1, 3, false),
        ];
        assert_eq!(admitted(&[(1, 0)], &log), [3]);
    }
}
