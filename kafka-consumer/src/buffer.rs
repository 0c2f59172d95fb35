//! What was fetched and not handed out: the parts of answers, walked batch by batch, and the memory they hold. Pure.

mod aborted;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kafka_wire::record_batch::{BatchError, Batches, RawBatch, batches};

pub(crate) use self::aborted::{Aborted, AbortedFilter};

/// Bytes of the answers that something not handed out still lies in: a part, however small, keeps its whole answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// An answer of so many bytes; they are held until the last part of it is dropped.
    pub(crate) fn frame(&self, len: usize) -> Arc<Frame> {
        self.0.fetch_add(len, Ordering::Relaxed);
        Arc::new(Frame { len, held: self.clone() })
    }
}

/// One answer, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Frame {
    len: usize,
    held: Held,
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// A piece of the log: a batch, or a gap (aborted data, control records) to step over.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) batch: Option<RawBatch>,
    /// The offset at which it begins, a gap before the batch included, and the epoch of the record before that.
    from: i64,
    epoch_before: Option<i32>,
    pub(crate) next_offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    frame: Arc<Frame>,
}

/// What one answer held of one partition, or what is left of that.
#[derive(Debug)]
pub(crate) struct Run {
    rest: Batches,
    filter: Option<AbortedFilter>,
    check_crcs: bool,
    from: i64,
    epoch_before: Option<i32>,
    end: i64,
    leader_epoch: Option<i32>,
    frame: Arc<Frame>,
}

impl Run {
    /// Walks the batches of one partition in an answer to a fetch from `offset`. Gives those that can be read, if they
    /// lead on, and what is wrong behind them.
    pub(crate) fn read(
        records: Bytes,
        offset: i64,
        filter: Option<AbortedFilter>,
        check_crcs: bool,
        frame: &Arc<Frame>,
    ) -> (Option<Self>, Option<BatchError>) {
        let mut walk = batches(records.clone());
        let (mut end, mut leader_epoch, mut whole) = (offset, None, 0);
        let mut failure = None;
        for batch in walk.by_ref() {
            let header = match batch {
                Ok(batch) => batch.header,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let Some(next) = header.last_offset().checked_add(1) else {
                failure = Some(BatchError::Malformed("no offset can follow its last"));
                break;
            };
            whole += header.size_in_bytes();
            if next > end {
                end = next;
                leader_epoch = (header.partition_leader_epoch >= 0).then_some(header.partition_leader_epoch);
            }
        }
        if whole == 0 && failure.is_none() {
            // A broker sends the first batch whole, however large: a part of one alone can never become more.
            let available = records.len();
            failure = Some(BatchError::Truncated { needed: available + 1, available });
        }
        if end == offset {
            let why = "it ends before the offset that was asked for";
            return (None, Some(failure.unwrap_or(BatchError::Malformed(why))));
        }
        let rest = batches(records.slice(..whole));
        let (from, epoch_before, frame) = (offset, None, Arc::clone(frame));
        (Some(Self { rest, filter, check_crcs, from, epoch_before, end, leader_epoch, frame }), failure)
    }

    /// Says under which epoch the record before it was written.
    pub(crate) fn after(mut self, epoch: Option<i32>) -> Self {
        self.epoch_before = epoch;
        self
    }

    /// Makes what was taken, and could not be handed out, into something to take again.
    pub(crate) fn again(piece: Piece) -> Self {
        let Piece { batch, from, epoch_before, next_offset, leader_epoch, frame } = piece;
        Self {
            rest: batches(batch.map_or_else(Bytes::new, |batch| batch.bytes)),
            // It was admitted before.
            filter: None,
            check_crcs: false,
            from,
            epoch_before,
            end: next_offset,
            leader_epoch,
            frame,
        }
    }

    /// Bytes that were not taken yet.
    pub(crate) fn bytes(&self) -> usize {
        self.rest.rest().len()
    }

    /// The offset at which what is left begins, and the epoch of the record before it.
    pub(crate) fn start(&self) -> (i64, Option<i32>) {
        (self.from, self.epoch_before)
    }

    /// The offset behind it, and the epoch of its last record.
    pub(crate) fn end(&self) -> (i64, Option<i32>) {
        (self.end, self.leader_epoch)
    }

    /// The next piece. The last one reaches to the end.
    ///
    /// # Errors
    /// A marker of a transaction that cannot be read; the run is of no further use.
    pub(crate) fn take(&mut self) -> Option<Result<Piece, BatchError>> {
        loop {
            // `read` has walked the same bytes, so there is no error to come.
            let Some(Ok(batch)) = self.rest.next() else {
                return (self.from < self.end).then(|| Ok(self.piece(None, self.end, self.leader_epoch)));
            };
            let header = batch.header;
            let next = header.last_offset().saturating_add(1);
            let shown = match &mut self.filter {
                Some(filter) => match filter.admits(&batch, self.check_crcs) {
                    Ok(admitted) => admitted,
                    Err(error) => return Some(Err(error)),
                },
                None => !header.is_control(),
            };
            // Compaction leaves batches without a record; what lies before the start was not asked for.
            if shown && header.record_count > 0 && next > self.from {
                let next = if self.bytes() == 0 { self.end } else { next };
                let epoch = (header.partition_leader_epoch >= 0).then_some(header.partition_leader_epoch);
                return Some(Ok(self.piece(Some(batch), next, epoch)));
            }
        }
    }

    fn piece(&mut self, batch: Option<RawBatch>, next_offset: i64, leader_epoch: Option<i32>) -> Piece {
        let (from, epoch_before) = (self.from, self.epoch_before);
        self.from = next_offset;
        self.epoch_before = leader_epoch.or(epoch_before);
        Piece { batch, from, epoch_before, next_offset, leader_epoch, frame: Arc::clone(&self.frame) }
    }

    /// Moves what is left to memory of its own, so that the rest of its answer can go.
    pub(crate) fn detach(&mut self, held: &Held) {
        let rest = Bytes::copy_from_slice(self.rest.rest());
        self.frame = held.frame(rest.len());
        self.rest = batches(rest);
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::record_batch::{BatchWriter, EndTransaction, batch_buffer, end_transaction_batch};

    use super::*;

    fn data(base_offset: i64, records: usize) -> Vec<u8> {
        let mut writer = BatchWriter::new(batch_buffer(256));
        for _ in 0..records {
            writer.append(0, None, Some(b"x"), &[]).unwrap();
        }
        at(&writer.finish().unwrap().freeze(), base_offset)
    }

    fn marker(base_offset: i64) -> Vec<u8> {
        at(&end_transaction_batch(EndTransaction::Commit, 1, 0, 0, 0).unwrap(), base_offset)
    }

    fn at(batch: &[u8], base_offset: i64) -> Vec<u8> {
        let mut batch = batch.to_vec();
        batch[..8].copy_from_slice(&base_offset.to_be_bytes());
        batch
    }

    fn read(records: &[Vec<u8>], offset: i64) -> (Option<Run>, Option<BatchError>) {
        let records = Bytes::from(records.concat());
        let frame = Held::default().frame(records.len());
        Run::read(records, offset, None, true, &frame)
    }

    /// Where the pieces begin and end, and whether they hold a batch.
    fn pieces(mut run: Run) -> Vec<(i64, i64, bool)> {
        std::iter::from_fn(|| run.take())
            .map(|piece| piece.unwrap())
            .map(|piece| (piece.from, piece.next_offset, piece.batch.is_some()))
            .collect()
    }

    #[test]
    fn pieces_follow_each_other_without_a_hole_and_markers_are_stepped_over() {
        let (run, failure) = read(&[data(10, 5), marker(15), data(16, 2), marker(20), marker(21)], 12);
        assert_eq!(failure, None);
        let run = run.unwrap();
        assert_eq!(run.end().0, 22);
        assert_eq!(pieces(run), [(12, 15, true), (15, 18, true), (18, 22, false)]);
    }

    #[test]
    fn a_batch_cut_off_behind_whole_ones_is_left_for_the_next_fetch() {
        let mut cut = data(12, 1);
        cut.pop();
        let (run, failure) = read(&[data(10, 2), cut.clone()], 10);
        assert_eq!(failure, None);
        assert_eq!(pieces(run.unwrap()), [(10, 12, true)]);
        let (run, failure) = read(&[cut], 12);
        assert!(run.is_none());
        assert!(matches!(failure, Some(BatchError::Truncated { .. })));
    }

    #[test]
    fn what_does_not_lead_on_is_an_error() {
        let (run, failure) = read(&[data(3, 2)], 5);
        assert!(run.is_none());
        assert!(matches!(failure, Some(BatchError::Malformed(_))));
        let (run, failure) = read(&[data(i64::MAX, 1)], 5);
        assert!(run.is_none());
        assert!(matches!(failure, Some(BatchError::Malformed(_))));
    }

    #[test]
    fn good_batches_before_a_bad_one_are_kept() {
        let mut bad = data(12, 1);
        bad[16] = 9;
        let (run, failure) = read(&[data(10, 2), bad], 10);
        assert_eq!(failure, Some(BatchError::UnsupportedMagic(9)));
        assert_eq!(pieces(run.unwrap()), [(10, 12, true)]);
    }

    #[test]
    fn batches_that_go_back_are_not_taken_twice() {
        let (run, _) = read(&[data(10, 5), data(10, 5), data(13, 5)], 10);
        assert_eq!(pieces(run.unwrap()), [(10, 15, true), (15, 18, true)]);
    }

    #[test]
    fn an_answer_is_held_until_its_last_piece_is_dropped() {
        let held = Held::default();
        let records = Bytes::from([data(0, 1), data(1, 1)].concat());
        let frame = held.frame(1000);
        let (run, _) = Run::read(records, 0, None, true, &frame);
        drop(frame);
        let mut run = run.unwrap();
        let first = run.take().unwrap().unwrap();
        let mut second = Run::again(run.take().unwrap().unwrap());
        assert!(run.take().is_none());
        drop((first, run));
        assert_eq!(held.bytes(), 1000);
        second.detach(&held);
        assert_eq!(held.bytes(), second.bytes());
        assert_eq!(second.take().unwrap().unwrap().next_offset, 2);
        drop(second);
        assert_eq!(held.bytes(), 0);
    }
}
