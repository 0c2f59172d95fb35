//! A partition's log: raw batches with an index, checked and numbered on append, read without copying or decoding.

mod chunks;
mod endless;
mod epochs;
mod producers;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{BatchHeader, BatchMut, RawBatch, TimestampType};

use self::chunks::Chunks;
pub(crate) use self::endless::Endless;
use self::endless::FAR_END;
pub use self::endless::NullBatch;
use self::epochs::Epochs;
pub(crate) use self::epochs::{UNDEFINED, UNDEFINED_OFFSET};
use self::producers::{KnownProducer, Producers, Verdict};

/// The records of one partition. All replicas share it, so the high watermark and the last stable offset are its end.
#[derive(Debug, Default)]
pub(crate) struct Log {
    chunks: Chunks,
    index: VecDeque<Entry>,
    epochs: Epochs,
    producers: Producers,
    start: i64,
    end: i64,
    /// What a null broker gives readers; then nothing above is filled, and `end` only counts.
    endless: Option<Arc<Endless>>,
}

/// One batch in the index.
#[derive(Debug, Clone, Copy)]
struct Entry {
    base_offset: i64,
    last_offset: i64,
    position: u64,
    size: u32,
    max_timestamp: i64,
    /// The largest timestamp up to and with this batch, so that a time can be searched for.
    max_timestamp_so_far: i64,
}

/// What an append needs to know beyond the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppendRules {
    pub(crate) leader_epoch: i32,
    pub(crate) now_ms: i64,
    /// Timestamps become `now_ms`.
    pub(crate) log_append_time: bool,
    /// How long the batches of a silent producer are remembered.
    pub(crate) producer_expiration_ms: i64,
}

/// What became of an append, as the response tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// -1 where the producer sets timestamps.
    pub(crate) log_append_time_ms: i64,
    /// The batch was in the log before.
    pub(crate) duplicate: bool,
}

impl Log {
    /// A log that keeps nothing of what is appended but the number of records, and from which there is always more to read.
    pub(crate) fn null(endless: Arc<Endless>) -> Self {
        Self { endless: Some(endless), ..Self::default() }
    }

    /// Whether it is such a one.
    pub(crate) fn is_null(&self) -> bool {
        self.endless.is_some()
    }

    /// The first offset that can be read.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Up to where readers can read.
    pub(crate) fn high_watermark(&self) -> i64 {
        if self.is_null() { FAR_END } else { self.end }
    }

    /// Appends one whole batch, whose header and CRC were checked, and gives it its offsets.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        rules: AppendRules,
    ) -> Result<Appended, ErrorCode> {
        if self.is_null() {
            let base_offset = self.end;
            self.end += i64::from(header.record_count);
            return Ok(Appended { base_offset, log_append_time_ms: -1, duplicate: false });
        }
        let idempotent = header.producer_id >= 0;
        if idempotent {
            let verdict = self.producers.check(header, rules.now_ms, rules.producer_expiration_ms)?;
            if let Verdict::Duplicate { base_offset, timestamp } = verdict {
                return Ok(Appended { base_offset, log_append_time_ms: timestamp, duplicate: true });
            }
        }
        let base_offset = self.end;
        let position = self.chunks.end();
        // Checked by the caller, so this cannot fail.
        let mut stored = BatchMut::new(self.chunks.append(batch)).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        stored.set_base_offset(base_offset);
        stored.set_leader_epoch(rules.leader_epoch);
        if rules.log_append_time {
            stored.set_append_time(rules.now_ms);
        } else if has_append_time(header) {
            stored.set_create_time();
        }
        let max_timestamp = if rules.log_append_time { rules.now_ms } else { header.max_timestamp };
        let before = self.index.back().map_or(i64::MIN, |entry| entry.max_timestamp_so_far);
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        self.index.push_back(Entry {
            base_offset,
            last_offset,
            position,
            size: u32::try_from(batch.len()).unwrap_or(u32::MAX),
            max_timestamp,
            max_timestamp_so_far: before.max(max_timestamp),
        });
        self.end = last_offset + 1;
        self.epochs.start(rules.leader_epoch, base_offset);
        if idempotent {
            let (now_ms, expiration_ms) = (rules.now_ms, rules.producer_expiration_ms);
            self.producers.record(header, base_offset, max_timestamp, now_ms, expiration_ms);
        }
        let log_append_time_ms = if rules.log_append_time { rules.now_ms } else { -1 };
        Ok(Appended { base_offset, log_append_time_ms, duplicate: false })
    }

    /// How many bytes a read from `offset` could return, at most `most`.
    pub(crate) fn available(&self, offset: i64, most: usize) -> usize {
        if self.is_null() {
            return most;
        }
        let first = self.index.partition_point(|entry| entry.last_offset < offset);
        self.index.get(first).map_or(0, |entry| length_from(self.chunks.end(), entry, most))
    }

    /// Adds what a fetch from `offset` gets to `out`: the batch with that offset and what follows, cut off after `most` bytes.
    ///
    /// If even the first batch is larger, it is returned whole when `at_least_one` says so, and nothing otherwise.
    pub(crate) fn read(
        &mut self,
        offset: i64,
        most: usize,
        at_least_one: bool,
        out: &mut Vec<Bytes>,
    ) -> usize {
        if let Some(endless) = &self.endless {
            return endless.read(offset, most, at_least_one, out);
        }
        let first = self.index.partition_point(|entry| entry.last_offset < offset);
        let Some(entry) = self.index.get(first) else { return 0 };
        let size = entry.size as usize;
        if most < size && !at_least_one {
            return 0;
        }
        let length = length_from(self.chunks.end(), entry, most.max(size));
        self.chunks.read(entry.position, length, out);
        length
    }

    /// All batches that are kept, in whole pieces.
    pub(crate) fn read_all(&mut self) -> Vec<Bytes> {
        let mut out = Vec::new();
        if !self.is_null() {
            self.read(self.start, usize::MAX, false, &mut out);
        }
        out
    }

    /// A leader starts this epoch.
    pub(crate) fn start_epoch(&mut self, epoch: i32) {
        self.epochs.start(epoch, self.end);
    }

    /// The latest leader epoch.
    pub(crate) fn latest_epoch(&self) -> i32 {
        self.epochs.latest()
    }

    /// The leader epoch that an offset was written in.
    pub(crate) fn epoch_of(&self, offset: i64) -> i32 {
        self.epochs.of(offset)
    }

    /// The largest leader epoch not above the one asked for, and the offset where it ended; both undefined (-1) if unknown.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        self.epochs.end_of(epoch, self.high_watermark())
    }

    /// The first batch that ends at `offset` or later and has a record of this time or later.
    pub(crate) fn first_batch_since(&mut self, timestamp: i64, offset: i64) -> Option<RawBatch> {
        let behind = |entry: &Entry| entry.max_timestamp_so_far < timestamp || entry.last_offset < offset;
        let first = self.index.partition_point(behind);
        // What the largest timestamp so far came from may have been deleted.
        let found = self.index.range(first..).find(|entry| entry.max_timestamp >= timestamp).copied();
        self.raw_batch(found?)
    }

    /// The first batch with the largest timestamp.
    pub(crate) fn batch_with_max_timestamp(&mut self) -> Option<RawBatch> {
        let found = self
            .index
            .iter()
            .copied()
            .reduce(|best, entry| if entry.max_timestamp > best.max_timestamp { entry } else { best });
        self.raw_batch(found?)
    }

    /// Forgets records before `offset`, which is not above the end. Returns the first offset that can be read.
    pub(crate) fn delete_before(&mut self, offset: i64) -> i64 {
        if offset > self.start {
            self.start = offset.min(self.end);
            while self.index.front().is_some_and(|entry| entry.last_offset < self.start) {
                self.index.pop_front();
            }
            self.chunks.drop_before(self.index.front().map_or(self.chunks.end(), |entry| entry.position));
            self.epochs.drop_before(self.start);
        }
        self.start
    }

    /// Forgets records from `offset` on, and with them the batches that hold any: what an unclean election does.
    pub(crate) fn truncate(&mut self, offset: i64, now_ms: i64, producer_expiration_ms: i64) {
        let kept = self.index.partition_point(|entry| entry.last_offset < offset);
        let Some(cut) = self.index.get(kept).copied() else { return };
        self.index.truncate(kept);
        self.chunks.truncate(cut.position);
        self.end = cut.base_offset;
        self.start = self.start.min(self.end);
        self.epochs.truncate(self.end);
        self.producers.clear();
        let batches = self.read_all().into_iter().flat_map(kafka_wire::record_batch::batches);
        for header in batches.flatten().map(|batch| batch.header).filter(|header| header.producer_id >= 0) {
            let (base, time) = (header.base_offset, header.max_timestamp);
            self.producers.record(&header, base, time, now_ms, producer_expiration_ms);
        }
    }

    /// Forgets all producers, as retention would after removing their records.
    pub(crate) fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// The idempotent producers that are known.
    pub(crate) fn producers(&self) -> impl Iterator<Item = KnownProducer> {
        self.producers.known()
    }

    /// The bytes of all batches.
    pub(crate) fn size(&self) -> u64 {
        self.index.front().map_or(0, |first| self.chunks.end() - first.position)
    }

    fn raw_batch(&mut self, entry: Entry) -> Option<RawBatch> {
        let mut out = Vec::new();
        self.chunks.read(entry.position, entry.size as usize, &mut out);
        let bytes = out.into_iter().next()?;
        let header = BatchHeader::parse(&bytes).ok()?;
        Some(RawBatch { header, bytes })
    }
}

/// Whether the broker set the timestamps of a batch.
fn has_append_time(header: &BatchHeader) -> bool {
    header.timestamp_type() == TimestampType::LogAppendTime
}

fn length_from(end: u64, entry: &Entry, most: usize) -> usize {
    usize::try_from(end - entry.position).unwrap_or(usize::MAX).min(most)
}

#[cfg(test)]
mod tests {
    use kafka_wire::record_batch::{
        BatchWriter, NO_PRODUCER, ProducerStamp, batch_buffer, batches, verify_crc,
    };

    use super::*;

    const RULES: AppendRules =
        AppendRules { leader_epoch: 0, now_ms: 5_000, log_append_time: false, producer_expiration_ms: 1000 };

    fn batch(timestamps: &[i64], value: usize) -> Bytes {
        let mut writer = BatchWriter::new(batch_buffer(256));
        for timestamp in timestamps {
            writer.append(*timestamp, None, Some(&vec![b'x'; value]), &[]).unwrap();
        }
        let mut sealed = writer.finish().unwrap();
        sealed.stamp(NO_PRODUCER, false);
        sealed.freeze()
    }

    fn append(log: &mut Log, batch: &Bytes, rules: AppendRules) -> i64 {
        log.append(batch, &BatchHeader::parse(batch).unwrap(), rules).unwrap().base_offset
    }

    /// Batches of the given numbers of records, each about 100 bytes large.
    fn log_of(counts: &[usize]) -> Log {
        let mut log = Log::default();
        for count in counts {
            append(&mut log, &batch(&vec![7; *count], 30), RULES);
        }
        log
    }

    fn read(log: &mut Log, offset: i64, most: usize, at_least_one: bool) -> Bytes {
        let mut out = Vec::new();
        let length = log.read(offset, most, at_least_one, &mut out);
        let bytes = out.concat();
        assert_eq!(bytes.len(), length);
        bytes.into()
    }

    #[test]
    fn batches_get_their_offsets_and_epoch_and_keep_their_crc() {
        let mut log = log_of(&[3, 1]);
        let rules = AppendRules { leader_epoch: 4, ..RULES };
        assert_eq!(append(&mut log, &batch(&[1, 2], 5), rules), 4);
        let stored: Vec<RawBatch> = batches(read(&mut log, 0, 10_000, false)).map(Result::unwrap).collect();
        let seen = stored.iter().map(|raw| (raw.header.base_offset, raw.header.last_offset()));
        assert_eq!(seen.collect::<Vec<_>>(), [(0, 2), (3, 3), (4, 5)]);
        assert_eq!(stored[2].header.partition_leader_epoch, 4);
        stored.iter().for_each(|raw| raw.verify().unwrap());
        assert_eq!((log.start(), log.end()), (0, 6));
        assert_eq!((log.epoch_of(3), log.epoch_of(4), log.end_of_epoch(0)), (0, 4, (0, 4)));
    }

    #[test]
    fn the_broker_can_set_the_time() {
        let mut log = Log::default();
        let sent = batch(&[1, 2], 5);
        let rules = AppendRules { log_append_time: true, ..RULES };
        let appended = log.append(&sent, &BatchHeader::parse(&sent).unwrap(), rules).unwrap();
        assert_eq!(appended.log_append_time_ms, 5_000);
        let stored = read(&mut log, 0, 10_000, false);
        verify_crc(&stored).unwrap();
        let header = BatchHeader::parse(&stored).unwrap();
        assert_eq!((has_append_time(&header), header.max_timestamp), (true, 5_000));
    }

    #[test]
    fn a_read_starts_with_the_whole_batch_and_may_end_inside_one() {
        let mut log = log_of(&[3, 2, 1]);
        let whole = read(&mut log, 0, 10_000, false);
        let sizes: Vec<usize> = batches(whole.clone()).map(|raw| raw.unwrap().bytes.len()).collect();
        let (first, second) = (sizes[0], sizes[1]);
        assert_eq!(read(&mut log, 0, first, false), whole[..first]);
        assert_eq!(
            read(&mut log, 2, first + 10, false),
            whole[..first + 10],
            "an offset inside, a cut batch"
        );
        assert_eq!(read(&mut log, 3, second, false), whole[first..first + second]);
        assert_eq!(read(&mut log, 0, first - 1, false), "", "the first does not fit");
        assert_eq!(read(&mut log, 0, 1, true), whole[..first], "unless it must");
        assert_eq!(read(&mut log, 6, 10_000, true), "", "nothing at the end");
        assert_eq!(log.available(0, 10_000), whole.len());
        assert_eq!(log.available(4, 10_000), whole.len() - first);
        assert_eq!((log.available(0, 5), log.available(6, 5)), (5, 0));
    }

    #[test]
    fn a_duplicate_is_told_its_old_offset_and_not_appended() {
        let mut log = log_of(&[4]);
        let mut writer = BatchWriter::new(batch_buffer(256));
        writer.append(123, None, Some(b"once"), &[]).unwrap();
        let mut sealed = writer.finish().unwrap();
        sealed.stamp(ProducerStamp { producer_id: 1, producer_epoch: 0, base_sequence: 0 }, false);
        let sent = sealed.freeze();
        let header = BatchHeader::parse(&sent).unwrap();
        let first = log.append(&sent, &header, RULES).unwrap();
        assert_eq!(first, Appended { base_offset: 4, log_append_time_ms: -1, duplicate: false });
        append(&mut log, &batch(&[7], 1), RULES);
        let again = log.append(&sent, &header, RULES).unwrap();
        assert_eq!(again, Appended { base_offset: 4, log_append_time_ms: 123, duplicate: true });
        assert_eq!(log.end(), 6);
        log.truncate(5, 5_000, 1000);
        assert!(log.append(&sent, &header, RULES).unwrap().duplicate, "what is left is still known");
        log.truncate(4, 5_000, 1000);
        assert!(!log.append(&sent, &header, RULES).unwrap().duplicate, "what is gone is not");
    }

    #[test]
    fn a_time_finds_the_first_batch_that_reaches_it() {
        let mut log = Log::default();
        for timestamps in [&[100, 110][..], &[90], &[300], &[200, 250], &[300, 310]] {
            append(&mut log, &batch(timestamps, 5), RULES);
        }
        let base = |raw: Option<RawBatch>| raw.map(|raw| raw.header.base_offset);
        let since = |log: &mut Log, timestamp| base(log.first_batch_since(timestamp, 0));
        let found = [0, 105, 110, 111, 300, 301, 311].map(|timestamp| since(&mut log, timestamp));
        assert_eq!(found, [Some(0), Some(0), Some(0), Some(3), Some(3), Some(6), None]);
        assert_eq!(base(log.batch_with_max_timestamp()), Some(6));
        log.delete_before(4);
        assert_eq!(since(&mut log, 260), Some(6), "300 was deleted");
        assert_eq!(since(&mut log, 0), Some(4));
        assert_eq!(base(Log::default().batch_with_max_timestamp()), None);
    }

    #[test]
    fn deleted_records_are_gone_and_the_rest_keeps_its_offsets() {
        let mut log = log_of(&[3, 3, 3]);
        assert_eq!(log.delete_before(4), 4);
        assert_eq!(log.delete_before(2), 4, "never backwards");
        let first = BatchHeader::parse(&read(&mut log, 4, 10_000, false)).unwrap();
        assert_eq!(first.base_offset, 3, "the batch with offset 4 is returned whole");
        assert_eq!(log.delete_before(9), 9);
        assert_eq!((log.start(), log.end(), log.available(9, 1)), (9, 9, 0));
        assert_eq!(append(&mut log, &batch(&[7], 1), RULES), 9);
    }

    #[test]
    fn a_truncated_log_goes_on_at_the_batch_that_was_cut() {
        let mut log = log_of(&[3, 3, 3]);
        log.truncate(4, 5_000, 1000);
        assert_eq!(log.end(), 3);
        log.start_epoch(1);
        assert_eq!(append(&mut log, &batch(&[7], 1), AppendRules { leader_epoch: 1, ..RULES }), 3);
        assert_eq!(log.end_of_epoch(0), (0, 3));
        let bytes = read(&mut log, 0, 10_000, false);
        let bases: Vec<i64> = batches(bytes).map(|raw| raw.unwrap().header.base_offset).collect();
        assert_eq!(bases, [0, 3]);
        log.truncate(99, 5_000, 1000);
        assert_eq!(log.end(), 4, "nothing is above the end");
    }
}
