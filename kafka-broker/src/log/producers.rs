//! Which batches of idempotent producers a log has: duplicates are recognized, gaps and old epochs refused. Kafka's rules.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::BatchHeader;

/// How many batches of a producer are remembered; it may have as many in flight.
const REMEMBERED: usize = 5;
/// Up to here expired producers are kept until they come back.
const SWEEP_FROM: usize = 1024;

/// What is known of every idempotent producer of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<i64, Producer, RandomState>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The last ones, oldest first; never empty.
    batches: VecDeque<Batch>,
    appended_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
}

/// An idempotent producer, as DescribeProducers shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownProducer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) last_sequence: i32,
    /// Milliseconds since the epoch.
    pub(crate) last_timestamp: i64,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Append,
    /// It is in the log already, at this offset and with this timestamp.
    Duplicate {
        base_offset: i64,
        timestamp: i64,
    },
}

impl Producers {
    /// What to do with a batch of an idempotent producer. One not heard of for `expiration_ms` is unknown again.
    pub(super) fn check(
        &self,
        header: &BatchHeader,
        now_ms: i64,
        expiration_ms: i64,
    ) -> Result<Verdict, ErrorCode> {
        let known = self.by_id.get(&header.producer_id);
        let Some(producer) = known.filter(|producer| producer.is_alive(now_ms, expiration_ms)) else {
            // Nothing to compare with: retention may have removed what came before (KIP-360).
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if header.producer_epoch > producer.epoch {
            let starts = header.base_sequence == 0;
            return if starts { Ok(Verdict::Append) } else { Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) };
        }
        let range = (header.base_sequence, header.last_sequence());
        let same = |batch: &&Batch| (batch.first_sequence, batch.last_sequence) == range;
        if let Some(Batch { base_offset, timestamp, .. }) = producer.batches.iter().find(same) {
            return Ok(Verdict::Duplicate { base_offset: *base_offset, timestamp: *timestamp });
        }
        let last = producer.batches.back().map_or(-1, |batch| batch.last_sequence);
        let next = if last == i32::MAX { 0 } else { last + 1 };
        if header.base_sequence == next {
            Ok(Verdict::Append)
        } else {
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        }
    }

    /// Remembers a batch that was appended.
    pub(super) fn record(
        &mut self,
        header: &BatchHeader,
        base_offset: i64,
        timestamp: i64,
        now_ms: i64,
        expiration_ms: i64,
    ) {
        if self.by_id.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.by_id.retain(|_, producer| producer.is_alive(now_ms, expiration_ms));
            self.sweep_at = self.by_id.len() * 2;
        }
        let batch = Batch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            timestamp,
        };
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            batches: VecDeque::with_capacity(REMEMBERED),
            appended_ms: now_ms,
        });
        let expired = !producer.is_alive(now_ms, expiration_ms);
        if producer.epoch != header.producer_epoch || expired {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        producer.appended_ms = now_ms;
    }

    /// Forgets everything, as if retention had removed every record.
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
    }

    /// Every producer, in the order of ids.
    pub(super) fn known(&self) -> impl Iterator<Item = KnownProducer> {
        let known = self.by_id.iter().filter_map(|(id, producer)| {
            let last = producer.batches.back()?;
            let (last_sequence, last_timestamp) = (last.last_sequence, last.timestamp);
            Some(KnownProducer { id: *id, epoch: producer.epoch, last_sequence, last_timestamp })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_unstable_by_key(|producer| producer.id);
        known.into_iter()
    }
}

impl Producer {
    fn is_alive(&self, now_ms: i64, expiration_ms: i64) -> bool {
        now_ms.saturating_sub(self.appended_ms) < expiration_ms
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::record_batch::{BatchWriter, ProducerStamp, batch_buffer};

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn header(producer_epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
        let mut writer = BatchWriter::new(batch_buffer(256));
        for _ in 0..records {
            writer.append(0, None, Some(b"v"), &[]).unwrap();
        }
        let mut batch = writer.finish().unwrap();
        batch.stamp(ProducerStamp { producer_id: 7, producer_epoch, base_sequence }, false);
        BatchHeader::parse(&batch.freeze()).unwrap()
    }

    /// Sends batches of (epoch, first sequence, records) one after the other; each is appended if it may be.
    fn outcomes(batches: &[(i16, i32, i32)]) -> Vec<Result<Verdict, ErrorCode>> {
        let mut producers = Producers::default();
        let mut end = 0;
        let send = |(epoch, sequence, records): &(i16, i32, i32)| {
            let header = header(*epoch, *sequence, *records);
            let verdict = producers.check(&header, 0, DAY_MS);
            if verdict == Ok(Verdict::Append) {
                producers.record(&header, end, end * 10, 0, DAY_MS);
                end += i64::from(*records);
            }
            verdict
        };
        batches.iter().map(send).collect()
    }

    #[test]
    fn batches_are_judged_as_kafka_judges_them() {
        let appended = Ok(Verdict::Append);
        let duplicate = |base_offset| Ok(Verdict::Duplicate { base_offset, timestamp: base_offset * 10 });
        let gap = Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        let fenced = Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        #[expect(clippy::type_complexity, reason = "a table")]
        let cases: &[(&str, &[(i16, i32, i32)], &[Result<Verdict, ErrorCode>])] = &[
            ("an unknown producer starts anywhere", &[(0, 41, 2), (0, 43, 1)], &[appended, appended]),
            ("the same batch again", &[(0, 0, 3), (0, 3, 1), (0, 0, 3)], &[appended, appended, duplicate(0)]),
            ("a gap", &[(0, 0, 3), (0, 4, 1)], &[appended, gap]),
            ("part of a batch again", &[(0, 0, 3), (0, 0, 2), (0, 1, 2)], &[appended, gap, gap]),
            (
                "the fifth last is remembered, the sixth is not",
                &[
                    (0, 0, 1),
                    (0, 1, 1),
                    (0, 2, 1),
                    (0, 3, 1),
                    (0, 4, 1),
                    (0, 0, 1),
                    (0, 5, 1),
                    (0, 0, 1),
                    (0, 1, 1),
                ],
                &[
                    appended,
                    appended,
                    appended,
                    appended,
                    appended,
                    duplicate(0),
                    appended,
                    gap,
                    duplicate(1),
                ],
            ),
            ("sequences wrap", &[(0, i32::MAX, 1), (0, 0, 1)], &[appended, appended]),
            (
                "sequences wrap inside a batch",
                &[(0, i32::MAX - 1, 4), (0, 2, 1), (0, i32::MAX - 1, 4)],
                &[appended, appended, duplicate(0)],
            ),
            ("and not before the last one", &[(0, i32::MAX - 1, 1), (0, 0, 1)], &[appended, gap]),
            (
                "a higher epoch starts at 0",
                &[(0, 0, 1), (1, 1, 1), (1, 0, 1), (1, 1, 1)],
                &[appended, gap, appended, appended],
            ),
            (
                "also when nothing came before",
                &[(3, 9, 1), (5, 10, 1), (5, 0, 1)],
                &[appended, gap, appended],
            ),
            ("a lower epoch is fenced", &[(1, 0, 1), (0, 1, 1), (0, 0, 1)], &[appended, fenced, fenced]),
            (
                "batches of an old epoch are no duplicates",
                &[(0, 0, 1), (1, 0, 1), (1, 0, 1)],
                &[appended, appended, duplicate(1)],
            ),
        ];
        for (name, batches, expected) in cases {
            assert_eq!(outcomes(batches), *expected, "{name}");
        }
    }

    #[test]
    fn a_producer_that_was_silent_for_a_day_is_unknown_again() {
        let mut producers = Producers::default();
        producers.record(&header(3, 0, 1), 0, 0, 1000, DAY_MS);
        let later = header(2, 77, 1);
        let refused = producers.check(&later, 1000 + DAY_MS - 1, DAY_MS);
        assert_eq!(refused, Err(ErrorCode::INVALID_PRODUCER_EPOCH));
        assert_eq!(producers.check(&later, 1000 + DAY_MS, DAY_MS), Ok(Verdict::Append));
        producers.record(&later, 5, 0, 1000 + DAY_MS, DAY_MS);
        assert_eq!(producers.by_id[&7].epoch, 2);
        assert_eq!(producers.by_id[&7].batches.len(), 1, "what it wrote before is forgotten");
    }

    #[test]
    fn expired_producers_do_not_pile_up() {
        let mut producers = Producers::default();
        let header = header(0, 0, 1);
        for id in 0..10_000 {
            let header = BatchHeader { producer_id: id, ..header };
            producers.record(&header, 0, 0, id * 1000, 60_000);
        }
        assert!(producers.by_id.len() < 3 * SWEEP_FROM, "{} are kept", producers.by_id.len());
    }
}
