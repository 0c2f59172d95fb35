//! Producing, saturated or at a rate: a warm-up, then the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::report::{Outcomes, Report};
use crate::table::{RECORDS, Table};
use crate::ticks::{Ticks, due};
use crate::usage::Reading;
use crate::{Client, Producer};

/// The distance of the bursts in which a rate is kept.
pub const BURSTS: Duration = Duration::from_millis(10);

/// The partition of each record in turn, or none where the client is to choose. With each pass of the table it skips one,
/// lest a partition gets the same few records over and over.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin {
    next: Option<i32>,
    partitions: i32,
    left_in_pass: usize,
}

impl RoundRobin {
    /// Begins with the first partition; with default settings, clients choose.
    pub fn new(options: &Options) -> Self {
        let next = options.equal().then_some(0);
        Self { next, partitions: options.partitions, left_in_pass: RECORDS }
    }

    /// The partition of the next record.
    #[inline]
    pub fn take(&mut self) -> Option<i32> {
        let partition = self.next?;
        self.step();
        self.left_in_pass -= 1;
        if self.left_in_pass == 0 {
            self.left_in_pass = RECORDS;
            self.step();
        }
        Some(partition)
    }

    #[inline]
    fn step(&mut self) {
        self.next = self.next.map(|next| if next + 1 < self.partitions { next + 1 } else { 0 });
    }
}

/// One task's part.
struct Lane<P: Producer> {
    producer: P,
    table: Table,
    partitions: RoundRobin,
    /// The records that were taken and whose fate is not known, in order.
    acks: VecDeque<P::Ack>,
    outcomes: Outcomes,
    /// Records a second; 0 is as many as possible.
    rate: u64,
}

impl<P: Producer> Lane<P> {
    /// Produces for a while, and until all of it is acknowledged.
    async fn phase(mut self, time: Duration) -> Result<Self> {
        if self.rate == 0 {
            self.saturate(Instant::now() + time).await;
        } else {
            self.keep_rate(time).await?;
        }
        self.producer.flush().await?;
        while let Some(ack) = self.acks.pop_front() {
            self.outcomes.count(P::settle(ack).await);
        }
        Ok(self)
    }

    /// Looks at the clock, at what is acknowledged and at the runtime's other tasks once for each pass of the table.
    async fn saturate(&mut self, until: Instant) {
        while Instant::now() < until {
            for record in self.table.records() {
                match self.producer.enqueue(record, self.partitions.take()).await {
                    Ok(ack) => self.acks.push_back(ack),
                    Err(error) => self.outcomes.count(Err::<(), _>(error)),
                }
            }
            self.collect();
            while self.table.bytes(self.acks.len() as u64) > P::MOST_UNSETTLED as u64
                && let Some(ack) = self.acks.pop_front()
            {
                self.outcomes.count(P::settle(ack).await);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn keep_rate(&mut self, time: Duration) -> Result<()> {
        let mut ticks = Ticks::start(BURSTS)?;
        let end = u64::try_from(time.as_nanos() / BURSTS.as_nanos())?;
        let mut records = self.table.records().iter().cycle();
        let mut passed = 0;
        while passed < end {
            let late = ticks.passed().await?;
            passed = late.end;
            let burst: u64 = (late.start..late.end.min(end)).map(|tick| due(self.rate, BURSTS, tick)).sum();
            for _ in 0..burst {
                let Some(record) = records.next() else { break };
                match self.producer.enqueue(record, self.partitions.take()).await {
                    Ok(ack) => self.acks.push_back(ack),
                    Err(error) => self.outcomes.count(Err::<(), _>(error)),
                }
            }
            self.collect();
        }
        Ok(())
    }

    /// Counts the oldest records as far as their fates are known.
    fn collect(&mut self) {
        while let Some(outcome) = self.acks.front_mut().and_then(P::settled) {
            self.outcomes.count(outcome);
            self.acks.pop_front();
        }
    }
}

/// Runs a phase of all lanes; a single one needs no task of its own.
async fn together<P: Producer>(mut lanes: Vec<Lane<P>>, time: Duration) -> Result<Vec<Lane<P>>> {
    if lanes.len() == 1
        && let Some(lane) = lanes.pop()
    {
        return Ok(vec![lane.phase(time).await?]);
    }
    let tasks: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(lane.phase(time))).collect();
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await??);
    }
    Ok(done)
}

fn total<P: Producer>(lanes: &[Lane<P>]) -> Outcomes {
    let mut total = Outcomes::default();
    lanes.iter().for_each(|lane| total.add(lane.outcomes));
    total
}

pub(crate) async fn run<C: Client>(options: &Options) -> Result<Report> {
    let table = Table::new(options.size, options.key);
    let producer = C::producer(options).await?;
    let tasks = options.tasks.max(1);
    if options.rate != 0 && options.rate < tasks as u64 {
        return Err(Error::failed("a rate below one record a second for each task"));
    }
    let lanes = (0..tasks as u64).map(|task| Lane {
        producer: producer.clone(),
        table,
        partitions: RoundRobin::new(options),
        acks: VecDeque::new(),
        outcomes: Outcomes::default(),
        // The remainder goes to the first ones.
        rate: options.rate / tasks as u64 + u64::from(task < options.rate % tasks as u64),
    });
    let lanes = together(lanes.collect(), options.warmup).await?;
    let before = total(&lanes);
    let requests_before = producer.requests();
    let start = Reading::now()?;
    let lanes = together(lanes, options.seconds).await?;
    let used = start.used()?;
    let requests = producer.requests().zip(requests_before).map(|(after, before)| after - before);
    let mut after = total(&lanes);
    let failed_later = producer.failed_later();
    after.acked -= failed_later;
    after.failed += failed_later;
    let mut report = Report::new(options, C::version(), used)?;
    report.records = after.acked.saturating_sub(before.acked);
    report.bytes = table.bytes(report.records);
    report.errors = after.failed;
    report.requests = requests;
    report.acked_total = after.acked;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_gets_other_records_in_each_pass_of_the_table() {
        for partitions in [1, 3, 16, 1025] {
            let mut turn = RoundRobin { next: Some(0), partitions, left_in_pass: RECORDS };
            for record in 0..5 * RECORDS {
                let due = (record + record / RECORDS) % partitions as usize;
                assert_eq!(turn.take(), i32::try_from(due).ok(), "record {record}, {partitions} partitions");
            }
        }
    }
}
