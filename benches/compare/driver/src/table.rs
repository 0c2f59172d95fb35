//! The records that are produced: built once, cycled through.

use bytes::Bytes;

/// How many records the table has.
pub const RECORDS: usize = 1024;

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
    /// Values of `size` bytes of JSON-like text and keys of `key` bytes, the same in every run.
    pub fn new(size: usize, key: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(6);
        let records: Vec<Record> = (0..RECORDS)
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
fn value(size: usize, index: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    const NAMES: [&str; 6] = ["orderId", "customer", "status", "amount", "createdAt", "warehouse"];
    const STATES: [&str; 4] = ["created", "shipped", "delivered", "cancelled"];
    let mut text = format!("{{\"id\":{index}");
    while text.len() < size {
        let name = NAMES[random.usize(..NAMES.len())];
        text += &match random.u8(..4) {
            0 => format!(",\"{name}\":{}", random.u32(..1_000_000)),
            1 => format!(",\"{name}\":\"{}\"", STATES[random.usize(..STATES.len())]),
            2 => format!(",\"{name}\":\"{:08x}\"", random.u32(..)),
            _ => format!(",\"{name}\":{{\"total\":{}.{:02}}}", random.u16(..1000), random.u8(..100)),
        };
    }
    text.truncate(size);
    if size > 1 {
        text.replace_range(size - 1.., "}");
    }
    text.into_bytes()
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
    fn values_compress_as_json_does() {
        let batch: Vec<u8> =
            Table::new(1024, 16).records()[..16].iter().flat_map(|r| r.value.to_vec()).collect();
        let ratio = batch.len() as f64 / lz4_flex::block::compress(&batch).len() as f64;
        assert!((2.2..2.6).contains(&ratio), "{ratio}");
    }
}
