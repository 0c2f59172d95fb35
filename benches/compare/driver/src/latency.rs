//! The time from the moment at which a record was due to its acknowledgement, whatever held up the sending.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hdrhistogram::Histogram;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::produce::RoundRobin;
use crate::report::{Latency, Outcomes, Report};
use crate::table::Table;
use crate::ticks::{Ticks, due, now_ns};
use crate::usage::Reading;
use crate::{Client, Producer};

/// The distance of the moments at which records are due.
const INTERVAL: Duration = Duration::from_millis(1);

/// What was measured of one phase.
#[derive(Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    outcomes: Outcomes,
}

impl Latencies {
    /// None so far.
    ///
    /// # Errors
    /// None in fact.
    pub fn new() -> Result<Self> {
        Ok(Self {
            histogram: Histogram::new_with_bounds(1000, 120_000_000_000, 2)?,
            outcomes: Outcomes::default(),
        })
    }

    /// Counts a record that was due at `due_ns`, by the clock of [`now_ns`], and whose fate is known just now.
    pub fn settled(&mut self, due_ns: u64, outcome: Result<()>) {
        if outcome.is_ok() {
            self.histogram.saturating_record(now_ns().saturating_sub(due_ns));
        }
        self.outcomes.count(outcome);
    }

    /// The results of a run: these are of its window, `warmup` is what was before.
    ///
    /// # Errors
    /// What the system says.
    pub fn report(
        &self,
        options: &Options,
        version: String,
        start: Reading,
        warmup: &Self,
    ) -> Result<Report> {
        let mut report = Report::new(options, version, start.used()?)?;
        report.records = self.outcomes.acked;
        report.bytes = Table::new(options.size, options.key).bytes(report.records);
        report.errors = self.outcomes.failed + warmup.outcomes.failed;
        report.acked_total = self.outcomes.acked + warmup.outcomes.acked;
        report.latency_us = Some(Latency::of(&self.histogram));
        Ok(report)
    }
}

pub(crate) async fn run<C: Client>(options: &Options) -> Result<Report> {
    if options.rate == 0 {
        return Err(Error::failed("latency needs a --rate"));
    }
    let producer = C::producer(options).await?;
    let table = Table::new(options.size, options.key);
    let warmup = phase(&producer, options, table, options.warmup).await?;
    let start = Reading::now()?;
    let window = phase(&producer, options, table, options.seconds).await?;
    window.report(options, C::version(), start, &warmup)
}

/// Sends what is due at each tick, and takes down each acknowledgement as it comes, in whatever order.
async fn phase<P: Producer>(
    producer: &P,
    options: &Options,
    table: Table,
    time: Duration,
) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut records = table.records().iter().cycle();
    let mut partitions = RoundRobin::new(options);
    let mut acks = FuturesUnordered::new();
    let mut ticks = Ticks::start(INTERVAL)?;
    let end = u64::try_from(time.as_nanos() / INTERVAL.as_nanos())?;
    let mut passed = 0;
    while passed < end {
        let late = settle_until(pin!(ticks.passed()), &mut acks, &mut latencies).await?;
        passed = late.end;
        for tick in late.start..late.end.min(end) {
            let due_ns = ticks.due_ns(tick);
            for _ in 0..due(options.rate, INTERVAL, tick) {
                let Some(record) = records.next() else { break };
                match producer.enqueue(record, partitions.take()).await {
                    Ok(ack) => acks.push(async move { (due_ns, P::settle(ack).await) }),
                    Err(error) => latencies.outcomes.count(Err::<(), _>(error)),
                }
            }
        }
    }
    producer.flush().await?;
    while let Some((due_ns, outcome)) = acks.next().await {
        latencies.settled(due_ns, outcome);
    }
    Ok(latencies)
}

/// Takes down acknowledgements until `until` is ready.
async fn settle_until<U, F>(
    mut until: U,
    acks: &mut FuturesUnordered<F>,
    latencies: &mut Latencies,
) -> U::Output
where
    U: Future + Unpin,
    F: Future<Output = (u64, Result<()>)>,
{
    while !acks.is_empty() {
        match select(&mut until, acks.next()).await {
            Either::Left((output, _)) => return output,
            Either::Right((settled, _)) => {
                if let Some((due_ns, outcome)) = settled {
                    latencies.settled(due_ns, outcome);
                }
            }
        }
    }
    until.await
}
