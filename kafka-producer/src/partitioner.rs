//! Decides which partition a record goes to.
//!
//! A record's own partition comes first. A record with a key goes where Java's producer sends it. The rest stick to one
//! partition for a batch's worth of bytes and then move to another (KIP-794), preferring short queues.

use std::sync::atomic::{AtomicU64, Ordering};

use kafka_wire::murmur2;

/// Chooses partitions in the producer's place; set it with
/// [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner).
pub trait Partitioner: Send + Sync + 'static {
    /// The partition for a record, from 0 on; `None` leaves the choice to the producer, which then takes a partition as
    /// for a record without key. Called once or more per record, without any lock held.
    fn partition(&self, record: &RecordBytes<'_>, partitions: i32) -> Option<i32>;
}

/// What a [`Partitioner`] sees of a record.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RecordBytes<'a> {
    /// The topic it goes to.
    pub topic: &'a str,
    /// The serialized key.
    pub key: Option<&'a [u8]>,
    /// The serialized value.
    pub value: Option<&'a [u8]>,
}

/// Java's choice, and this producer's default: `murmur2(key)`, made positive, modulo the number of partitions.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByKey;

impl Partitioner for ByKey {
    fn partition(&self, record: &RecordBytes<'_>, partitions: i32) -> Option<i32> {
        Some(murmur2::partition_for_key(record.key?, partitions))
    }
}

/// Spreads records over all partitions whatever their keys: Java's `partitioner.ignore.keys`.
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreKeys;

impl Partitioner for IgnoreKeys {
    fn partition(&self, _: &RecordBytes<'_>, _: i32) -> Option<i32> {
        None
    }
}

/// How busy a partition is, for those who choose among partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// No leader is known: records would only pile up.
    Unavailable,
    /// How many batches wait to be sent.
    Queued(u32),
}

/// The partition that one topic's records without key stick to at the moment.
#[derive(Debug)]
pub(crate) struct Sticky {
    /// Bits 32 and up: the partition. Below: the bytes it was given. One word, so that a change is one exchange.
    current: AtomicU64,
    switch_after: u64,
    /// Whether queue lengths count; otherwise all available partitions are equal.
    adaptive: bool,
    random: AtomicU64,
}

/// The word of a topic for which nothing was chosen yet; no partition has this number.
const UNDECIDED: u64 = u64::MAX;

/// How many partitions are compared when one is chosen.
const CANDIDATES: usize = 32;

/// Larger counts could, with many threads adding at once, spill over into the partition's bits.
const LARGEST_COUNT: u64 = 1 << 24;

impl Sticky {
    /// `switch_after` in bytes.
    pub(crate) fn new(switch_after: usize, adaptive: bool, seed: u64) -> Self {
        Self {
            current: AtomicU64::new(UNDECIDED),
            switch_after: (switch_after as u64).clamp(1, LARGEST_COUNT),
            adaptive,
            random: AtomicU64::new(seed),
        }
    }

    /// The current partition, or one chosen now if there is none among the topic's `partitions`.
    pub(crate) fn partition(&self, partitions: usize, load: impl Fn(usize) -> Load) -> i32 {
        let current = self.current.load(Ordering::Relaxed);
        if current != UNDECIDED && ((current >> 32) as usize) < partitions {
            return partition_of(current);
        }
        self.switch_from(current, partitions, load)
    }

    /// Counts a record that went to `partition` and moves on to another partition once it had its share: at the end of
    /// a batch if possible, so that no small batch is left behind.
    pub(crate) fn appended(
        &self,
        partition: i32,
        bytes: usize,
        at_batch_end: bool,
        partitions: usize,
        load: impl Fn(usize) -> Load,
    ) {
        let bytes = (bytes as u64).min(LARGEST_COUNT);
        let current = self.current.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
        let given = current & u64::from(u32::MAX);
        let enough = if at_batch_end { self.switch_after } else { 2 * self.switch_after };
        if given >= enough && partition_of(current) == partition {
            self.switch_from(current, partitions, load);
        }
    }

    /// Replaces the choice `seen`, unless another thread was faster; returns the choice that counts now.
    fn switch_from(&self, seen: u64, partitions: usize, load: impl Fn(usize) -> Load) -> i32 {
        let chosen = self.choose(partitions, load);
        let next = (chosen as u64) << 32;
        match self.current.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Err(other) if other != UNDECIDED && ((other >> 32) as usize) < partitions => partition_of(other),
            _ => partition_of(next),
        }
    }

    /// A partition at random; the fewer batches wait for it, the likelier. Of thousands, some at random are compared, so that
    /// it does not take longer.
    fn choose(&self, partitions: usize, load: impl Fn(usize) -> Load) -> usize {
        let first = (self.random() % partitions.max(1) as u64) as usize;
        let mut candidates = [(first, 0); CANDIDATES];
        let mut count = 0;
        for index in 0..partitions.min(CANDIDATES) {
            let all = partitions <= CANDIDATES;
            let partition = if all { index } else { (self.random() % partitions as u64) as usize };
            let Load::Queued(batches) = load(partition) else { continue };
            candidates[count] = (partition, if self.adaptive { u64::from(batches) } else { 0 });
            count += 1;
        }
        if count == 0 {
            // Where none is available at all, any partition is as good as another.
            let mut others = (first..partitions).chain(0..first);
            return others.find(|partition| load(*partition) != Load::Unavailable).unwrap_or(first);
        }
        let candidates = &candidates[..count];
        let longest = candidates.iter().map(|(_, queued)| *queued).max().unwrap_or(0);
        let weight = |queued: u64| longest - queued + 1;
        let total: u64 = candidates.iter().map(|(_, queued)| weight(*queued)).sum();
        let mut left = self.random() % total;
        let chosen = candidates.iter().find(|(_, queued)| match left.checked_sub(weight(*queued)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        chosen.map_or(first, |(partition, _)| *partition)
    }

    /// splitmix64: needs no lock, and a seed repeats it.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

fn partition_of(word: u64) -> i32 {
    (word >> 32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: fn(usize) -> Load = |_| Load::Queued(0);

    fn record<'a>(key: Option<&'a [u8]>) -> RecordBytes<'a> {
        RecordBytes { topic: "orders", key, value: Some(b"v") }
    }

    #[test]
    fn keys_go_where_java_sends_them() {
        // murmur2("21") = -973932308, murmur2("foobar") = -790332482, murmur2("a-little-bit-long-string") = -985981536.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("abc", 479_470_107),
        ] {
            for partitions in [1, 6, 97] {
                let expected = (hash & i32::MAX) % partitions;
                assert_eq!(
                    ByKey.partition(&record(Some(key.as_bytes())), partitions),
                    Some(expected),
                    "{key}"
                );
            }
        }
        assert_eq!(ByKey.partition(&record(None), 6), None);
        assert_eq!(IgnoreKeys.partition(&record(Some(b"21")), 6), None);
    }

    #[test]
    fn records_without_key_stick_for_a_batch_and_then_move() {
        let sticky = Sticky::new(1000, true, 1);
        let mut turns = vec![];
        for _ in 0..400 {
            let partition = sticky.partition(6, IDLE);
            // Ten records of 100 bytes fill a batch.
            for index in 1..=10 {
                assert_eq!(sticky.partition(6, IDLE), partition);
                sticky.appended(partition, 100, index == 10, 6, IDLE);
            }
            turns.push(partition);
        }
        for partition in 0..6 {
            let count = turns.iter().filter(|turn| **turn == partition).count();
            assert!((30..110).contains(&count), "{partition} had {count} of 400 turns");
        }
    }

    #[test]
    fn a_partition_whose_batches_never_end_is_left_after_two_batches_worth() {
        let sticky = Sticky::new(1000, true, 1);
        let only_other = |taken: i32| {
            move |partition| {
                if partition as i32 == taken { Load::Unavailable } else { Load::Queued(0) }
            }
        };
        let partition = sticky.partition(2, IDLE);
        for _ in 0..19 {
            sticky.appended(partition, 100, false, 2, only_other(partition));
            assert_eq!(sticky.partition(2, IDLE), partition);
        }
        sticky.appended(partition, 100, false, 2, only_other(partition));
        assert_eq!(sticky.partition(2, IDLE), 1 - partition);
    }

    #[test]
    fn partitions_with_long_queues_are_chosen_less_and_those_without_leader_never() {
        let load = |partition| match partition {
            0 => Load::Unavailable,
            1 => Load::Queued(9),
            _ => Load::Queued(0),
        };
        let turns = |adaptive| {
            let sticky = Sticky::new(1, adaptive, 7);
            let mut turns = [0; 3];
            for _ in 0..1100 {
                let partition = sticky.partition(3, load);
                turns[partition as usize] += 1;
                sticky.appended(partition, 1, true, 3, load);
            }
            turns
        };
        let [none, few, many] = turns(true);
        assert_eq!(none, 0);
        assert!((60..150).contains(&few), "{few} and {many}");
        let [none, half, _] = turns(false);
        assert_eq!(none, 0);
        assert!((450..650).contains(&half), "{half}");
    }

    #[test]
    fn a_choice_among_thousands_looks_at_few_and_reaches_all() {
        let sticky = Sticky::new(1, true, 5);
        let looked = std::cell::Cell::new(0);
        let load = |partition| {
            looked.set(looked.get() + 1);
            if partition < 500 { Load::Unavailable } else { Load::Queued(0) }
        };
        let mut turns = vec![0; 1000];
        for _ in 0..20_000 {
            let partition = sticky.partition(1000, load);
            turns[partition as usize] += 1;
            sticky.appended(partition, 1, true, 1000, load);
        }
        assert!(looked.get() <= 20_001 * CANDIDATES, "{}", looked.get());
        for (partition, count) in turns.into_iter().enumerate() {
            let fair = if partition < 500 { 0..1 } else { 15..75 };
            assert!(fair.contains(&count), "{partition} had {count} of 20,000 turns");
        }
    }

    #[test]
    fn without_any_leader_records_still_spread() {
        let sticky = Sticky::new(1, true, 3);
        let mut seen = [false; 4];
        for _ in 0..200 {
            let partition = sticky.partition(4, |_| Load::Unavailable);
            seen[partition as usize] = true;
            sticky.appended(partition, 1, true, 4, |_| Load::Unavailable);
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn a_choice_that_no_longer_exists_is_made_again() {
        let sticky = Sticky::new(1000, true, 1);
        for _ in 0..50 {
            let partition = sticky.partition(8, IDLE);
            sticky.appended(partition, 1000, true, 8, IDLE);
        }
        assert_eq!(sticky.partition(1, IDLE), 0);
    }
}
