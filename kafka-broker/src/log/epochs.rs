//! Where each leader epoch starts in a log: by it a consumer finds out whether what it read was truncated (KIP-320).

/// Kafka's "undefined" epoch and offset.
pub(crate) const UNDEFINED: i32 = -1;
pub(crate) const UNDEFINED_OFFSET: i64 = -1;

/// Epochs with their first offsets, both ascending.
#[derive(Debug, Default)]
pub(super) struct Epochs(Vec<(i32, i64)>);

impl Epochs {
    /// A leader starts `epoch` at `offset`. An epoch in which nothing was written leaves no trace.
    pub(super) fn start(&mut self, epoch: i32, offset: i64) {
        if self.0.last().is_some_and(|(last, _)| *last >= epoch) {
            return;
        }
        self.0.retain(|(_, start)| *start < offset);
        self.0.push((epoch, offset));
    }

    /// The latest epoch.
    pub(super) fn latest(&self) -> i32 {
        self.0.last().map_or(UNDEFINED, |(epoch, _)| *epoch)
    }

    /// The epoch that an offset was written in.
    pub(super) fn of(&self, offset: i64) -> i32 {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map_or(UNDEFINED, |at| self.0[at].0)
    }

    /// The largest epoch not above the one asked for, and the offset where it ended.
    pub(super) fn end_of(&self, epoch: i32, log_end: i64) -> (i32, i64) {
        if epoch == UNDEFINED || epoch > self.latest() {
            return (UNDEFINED, UNDEFINED_OFFSET);
        }
        if epoch == self.latest() {
            return (epoch, log_end);
        }
        let after = self.0.partition_point(|(known, _)| *known <= epoch);
        let end = self.0[after].1;
        match after.checked_sub(1) {
            // Older than everything here: it ended before the log starts.
            None => (epoch, end),
            Some(at) => (self.0[at].0, end),
        }
    }

    /// The log starts at `offset` from now on.
    pub(super) fn drop_before(&mut self, offset: i64) {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        if after > 0 {
            self.0.drain(..after - 1);
            self.0[0].1 = offset;
        }
    }

    /// The log ends at `offset` from now on.
    pub(super) fn truncate(&mut self, offset: i64) {
        self.0.retain(|(_, start)| *start < offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(0, 0), (2, 10), (3, 10), (5, 20)] {
            epochs.start(epoch, offset);
        }
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_starts() {
        let epochs = epochs();
        let expected = [
            (-1, (-1, -1)),
            (0, (0, 10)),
            (1, (0, 10)),
            // Nothing was written in epoch 2.
            (2, (0, 10)),
            (3, (3, 20)),
            (4, (3, 20)),
            (5, (5, 33)),
            (6, (-1, -1)),
        ];
        for (epoch, end) in expected {
            assert_eq!(epochs.end_of(epoch, 33), end, "epoch {epoch}");
        }
        assert_eq!(Epochs::default().end_of(0, 0), (-1, -1));
    }

    #[test]
    fn offsets_know_their_epoch() {
        let epochs = epochs();
        assert_eq!([0, 9, 10, 19, 20, 99].map(|offset| epochs.of(offset)), [0, 0, 3, 3, 5, 5]);
        assert_eq!(Epochs::default().of(0), UNDEFINED);
    }

    #[test]
    fn epochs_go_with_the_records_written_in_them() {
        let mut epochs = epochs();
        epochs.drop_before(12);
        assert_eq!(epochs.0, [(3, 12), (5, 20)]);
        assert_eq!(epochs.end_of(0, 33), (0, 12), "older than the log");
        epochs.truncate(20);
        assert_eq!(epochs.0, [(3, 12)]);
        assert_eq!(epochs.end_of(3, 20), (3, 20));
    }
}
