//! The records that are produced: built once, cycled through.

use bytes::Bytes;

/// How many records the table has.
pub const RECORDS: usize = 1024;
/// What its values are made from.
const SEED: u64 = 6;

/// A record to be produced.
#[derive(Debug)]
pub struct Record {
    /// The key; keys are distinct as far as their size lets them be.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// The table, which lives as long as the process: clients that borrow need not copy, those that own can.
#[derive(Clone, Copy, Debug)]
pub struct Table(&'static [Record]);

impl Table {
    /// Values of `size` bytes of JSON-like text and keys of `key` bytes, the same in every run and in every language.
    pub fn new(size: usize, key: usize) -> Self {
        Self::of(RECORDS, size, key)
    }

    /// The first record alone, for runs that must not wait for a thousand.
    pub fn single(size: usize, key: usize) -> Self {
        Self::of(1, size, key)
    }

    fn of(count: usize, size: usize, key: usize) -> Self {
        let mut random = SplitMix(SEED);
        let records: Vec<Record> = (0..count)
            .map(|index| Record {
                key: leak(format!("{index:0key$}").into_bytes().split_off(index_digits(index, key))),
                value: leak(value(size, index, &mut random)),
            })
            .collect();
        Self(records.leak())
    }

    /// The records in order.
    pub fn records(self) -> &'static [Record] {
        self.0
    }

    /// Bytes of keys and values of `records` records. All records have the same size.
    pub fn bytes(self, records: u64) -> u64 {
        self.0.first().map_or(0, |record| (record.key.len() + record.value.len()) as u64) * records
    }
}

/// How many leading digits to cut of `index` written with at least `key` digits.
fn index_digits(index: usize, key: usize) -> usize {
    index.checked_ilog10().map_or(1, |log| log as usize + 1).saturating_sub(key)
}

fn leak(bytes: Vec<u8>) -> Bytes {
    Bytes::from_static(bytes.leak())
}

/// Text as applications write it: names repeat, half of the characters are new.
fn value(size: usize, index: usize, random: &mut SplitMix) -> Vec<u8> {
    const NAMES: [&str; 6] = ["orderId", "customer", "status", "amount", "createdAt", "warehouse"];
    const STATES: [&str; 4] = ["created", "shipped", "delivered", "cancelled"];
    let mut text = format!("{{\"id\":{index}");
    while text.len() < size {
        let name = NAMES[random.below(6) as usize];
        text += &match random.below(4) {
            0 => format!(",\"{name}\":{}", random.below(1_000_000)),
            1 => format!(",\"{name}\":\"{}\"", STATES[random.below(4) as usize]),
            2 => format!(",\"{name}\":\"{:08x}\"", random.next() >> 32),
            _ => format!(",\"{name}\":{{\"total\":{}.{:02}}}", random.below(1000), random.below(100)),
        };
    }
    text.truncate(size);
    if size > 1 {
        text.replace_range(size - 1.., "}");
    }
    text.into_bytes()
}

/// splitmix64: short enough to be the same in every language.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_everything_has_the_size_asked_for() {
        for (size, key) in [(10, 16), (100, 16), (10_240, 4)] {
            let records = Table::new(size, key).records();
            assert!(records.iter().all(|record| record.value.len() == size && record.key.len() == key));
            assert_eq!(records.iter().map(|record| &record.key).collect::<HashSet<_>>().len(), RECORDS);
        }
        assert!(
            Table::new(0, 0).records().iter().all(|record| record.key.is_empty() && record.value.is_empty())
        );
    }

    #[test]
    fn the_records_are_those_of_the_other_languages() {
        for (size, checksum) in
            [(10, 0x37da_857a_4646_41ab), (100, 0x1f34_7cc9_9d82_d5df), (1024, 0xc0cf_b3c0_187b_0a3f_u64)]
        {
            let records = Table::new(size, 16).records().iter();
            let bytes = records.flat_map(|record| record.key.iter().chain(&record.value));
            let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            assert_eq!(bytes.fold(0xcbf2_9ce4_8422_2325, fnv), checksum, "{size} bytes");
        }
    }

    #[test]
    fn values_compress_as_json_does() {
        let batch: Vec<u8> =
            Table::new(1024, 16).records()[..16].iter().flat_map(|r| r.value.to_vec()).collect();
        let ratio = batch.len() as f64 / lz4_flex::block::compress(&batch).len() as f64;
        assert!((2.2..2.6).contains(&ratio), "{ratio}");
    }
}
