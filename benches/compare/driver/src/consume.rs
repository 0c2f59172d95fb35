//! Reading a topic from its beginning: a warm-up, then the window.

use std::pin::pin;

use futures_util::future::{Either, select};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::report::Report;
use crate::usage::Reading;
use crate::{Client, Consumer};

/// What was read, and whether it was all there and in order.
#[derive(Debug)]
pub struct Tally {
    /// Records read.
    records: u64,
    /// Bytes of their keys and values.
    bytes: u64,
    /// Something of every value, so that clients that decode late have to.
    first_bytes: u64,
    /// The offset that each partition's next record must have, 0 to begin with.
    expected: Vec<i64>,
    /// Gaps and repetitions.
    misplaced: u64,
    /// How many records to read in all.
    all: u64,
}

impl Tally {
    fn new(partitions: i32, all: u64) -> Self {
        let partitions = usize::try_from(partitions).unwrap_or(0);
        Self { records: 0, bytes: 0, first_bytes: 0, expected: vec![0; partitions], misplaced: 0, all }
    }

    /// Counts one record.
    #[inline]
    pub fn record(&mut self, partition: i32, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        self.records += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.first_bytes += value.first().map_or(0, |byte| u64::from(*byte));
        let expected = self.expected.get_mut(partition as usize);
        let expected = expected.map_or(-1, |expected| std::mem::replace(expected, offset + 1));
        if offset != expected {
            self.misplaced(partition, offset, expected);
        }
    }

    /// Whether there is nothing more to read, for clients that hand out one record at a time.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.records >= self.all
    }

    #[cold]
    fn misplaced(&mut self, partition: i32, offset: i64, expected: i64) {
        self.misplaced += 1;
        if self.misplaced <= 3 {
            eprintln!("error: partition {partition} gave offset {offset} instead of {expected}");
        }
    }
}

/// Where a window begins.
struct Start {
    reading: Reading,
    records: u64,
    bytes: u64,
}

pub(crate) async fn run<C: Client>(options: &Options) -> Result<Report> {
    let all = if options.records == 0 { u64::MAX } else { options.records };
    let mut tally = Tally::new(options.partitions, all);
    let mut consumer = C::consumer(options).await?;
    let mut warmup_end = pin!(tokio::time::sleep(options.warmup));
    while tally.records < all / 10 {
        match select(&mut warmup_end, pin!(consumer.next(&mut tally))).await {
            Either::Left(_) => break,
            Either::Right((read, _)) => read?,
        }
    }
    let start = Start { reading: Reading::now()?, records: tally.records, bytes: tally.bytes };
    let mut end = pin!(tokio::time::sleep(options.seconds));
    while !tally.is_full() {
        let next = pin!(consumer.next(&mut tally));
        if options.records != 0 {
            next.await?;
            continue;
        }
        match select(&mut end, next).await {
            Either::Left(_) => break,
            Either::Right((read, _)) => read?,
        }
    }
    let used = start.reading.used()?;
    if std::hint::black_box(tally.first_bytes) == 0 && tally.bytes > 0 {
        return Err(Error::failed("no value has a byte that is not null"));
    }
    let mut report = Report::new(options, C::version(), used)?;
    report.records = tally.records - start.records;
    report.bytes = tally.bytes - start.bytes;
    report.errors = tally.misplaced;
    report.acked_total = tally.records;
    Ok(report)
}
