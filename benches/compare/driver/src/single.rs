//! Runs that count no throughput: how soon the first record arrives, and what many partitions cost.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::produce::RoundRobin;
use crate::report::{Memory, Outcomes, Report};
use crate::table::Table;
use crate::usage::{Reading, rss_kib};
use crate::{Client, Producer};

/// How long a client idles before its memory is read.
const IDLE: Duration = Duration::from_secs(2);

pub(crate) async fn start<C: Client>(options: &Options) -> Result<Report> {
    let begin = Reading::now()?;
    let table = Table::single(options.size, options.key);
    let producer = C::producer(options).await?;
    let mut partitions = RoundRobin::new(options);
    let record = table.records().first().ok_or_else(|| Error::failed("an empty table"))?;
    P::<C>::settle(producer.enqueue(record, partitions.take()).await?).await?;
    let started = options.epoch_ns.ok_or_else(|| Error::failed("start needs --epoch-ns"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let elapsed = now.checked_sub(started).ok_or_else(|| Error::failed("--epoch-ns is in the future"))?;
    let mut report = Report::new(options, C::version(), begin.used()?)?;
    report.first_ack_us = Some(u64::try_from(elapsed / 1000)?);
    (report.records, report.acked_total, report.bytes) = (1, 1, table.bytes(1));
    Ok(report)
}

/// A first record makes the client know the topic, in whatever way it learns about topics.
pub(crate) async fn memory<C: Client>(options: &Options) -> Result<Report> {
    let begin = Reading::now()?;
    let table = Table::new(options.size, options.key);
    let producer = C::producer(options).await?;
    let mut outcomes = Outcomes::default();
    let mut records = table.records().iter().cycle();
    let mut acks = Vec::new();
    let mut memory = Memory { idle_rss_kib: 0, written_rss_kib: 0 };
    for partition in 0..options.partitions {
        let Some(record) = records.next() else { break };
        acks.push(producer.enqueue(record, Some(partition)).await?);
        if partition == 0 {
            settle_all::<C>(&producer, &mut acks, &mut outcomes).await?;
            tokio::time::sleep(IDLE).await;
            memory.idle_rss_kib = rss_kib()?;
        }
    }
    settle_all::<C>(&producer, &mut acks, &mut outcomes).await?;
    tokio::time::sleep(IDLE).await;
    memory.written_rss_kib = rss_kib()?;
    let mut report = Report::new(options, C::version(), begin.used()?)?;
    (report.records, report.acked_total) = (outcomes.acked, outcomes.acked);
    report.errors = outcomes.failed;
    report.bytes = table.bytes(outcomes.acked);
    report.memory = Some(memory);
    Ok(report)
}

type P<C> = <C as Client>::Producer;

async fn settle_all<C: Client>(
    producer: &P<C>,
    acks: &mut Vec<<P<C> as Producer>::Ack>,
    outcomes: &mut Outcomes,
) -> Result<()> {
    producer.flush().await?;
    for ack in acks.drain(..) {
        outcomes.count(P::<C>::settle(ack).await);
    }
    Ok(())
}
