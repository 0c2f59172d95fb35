//! Reading a topic from its beginning: a warm-up, then the window.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::report::Report;
use crate::usage::{Reading, Used};
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

pub(crate) async fn run<C: Client>(options: &Options) -> Result<Report> {
    let (tally, before, used) =
        if options.records == 0 { endless::<C>(options).await? } else { prefilled::<C>(options).await? };
    if std::hint::black_box(tally.first_bytes) == 0 && tally.bytes > 0 {
        return Err(Error::failed("no value has a byte that is not null"));
    }
    let mut report = Report::new(options, C::version(), used)?;
    report.records = tally.records - before.records;
    report.bytes = tally.bytes - before.bytes;
    report.errors = tally.misplaced;
    report.acked_total = tally.records;
    Ok(report)
}

/// What was read before the window.
#[derive(Default)]
struct Before {
    records: u64,
    bytes: u64,
}

/// Reads while there is time, the warm-up and the window with one consumer.
async fn endless<C: Client>(options: &Options) -> Result<(Tally, Before, Used)> {
    let mut tally = Tally::new(options.partitions, u64::MAX);
    let mut consumer = C::consumer(options).await?;
    read_for(options.warmup, &mut consumer, &mut tally).await?;
    let before = Before { records: tally.records, bytes: tally.bytes };
    let start = Reading::now()?;
    read_for(options.seconds, &mut consumer, &mut tally).await?;
    let used = start.used()?;
    Ok((tally, before, used))
}

/// Reads a topic to its end. What a consumer fetches ahead of its reader must not be had for nothing, so the window's
/// consumer is made in the window.
async fn prefilled<C: Client>(options: &Options) -> Result<(Tally, Before, Used)> {
    let mut tally = Tally::new(options.partitions, options.records / 10);
    let mut consumer = C::consumer(options).await?;
    read_for(options.warmup, &mut consumer, &mut tally).await?;
    consumer.close().await?;
    let mut tally = Tally::new(options.partitions, options.records);
    let start = Reading::now()?;
    let mut consumer = C::consumer(options).await?;
    while !tally.is_full() {
        consumer.next(&mut tally).await?;
    }
    let used = start.used()?;
    Ok((tally, Before::default(), used))
}

/// Reads until the time is over or there is nothing more.
async fn read_for<C: Consumer>(time: Duration, consumer: &mut C, tally: &mut Tally) -> Result<()> {
    let mut end = pin!(tokio::time::sleep(time));
    while !tally.is_full() {
        match select(&mut end, pin!(consumer.next(tally))).await {
            Either::Left(_) => break,
            Either::Right((read, _)) => read?,
        }
    }
    Ok(())
}
