//! Spark counts what our producer writes, and our consumer reads the counts: across a `kill -9` they must be exact.
//!
//! `examples/spark/run.sh` installs Spark and starts this; README.md beside it says what it shows.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, SystemTime};

use examples::{Result, Target};
use futures::TryStreamExt;
use kafka_admin::{Admin, NewTopic};
use kafka_client::serde::Json;
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

const EVENTS: i64 = 40_000;
/// Event time from one event to the next: together 40 minutes.
const EVERY: i64 = 60;
const MINUTE: i64 = 60_000;
/// More counts than Spark writes in one batch: the batch before is done when so many are there.
const TWO_BATCHES: usize = 30;
const LEVELS: [&str; 3] = ["info", "warn", "error"];
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Serialize)]
struct LogEvent {
    service: String,
    level: &'static str,
}

/// What Spark writes.
#[derive(Deserialize)]
struct Count {
    minute: i64,
    level: String,
    count: i64,
}

/// By minute and level.
type Counts = BTreeMap<(i64, String), i64>;

/// What is in Spark's topic.
#[derive(Default)]
struct Found {
    counts: Counts,
    /// How many records said again what was there.
    repeated: usize,
}

#[tokio::main]
async fn main() -> Result {
    let mut terminate = signal(SignalKind::terminate())?;
    // Spark has a process group of its own and would outlive this: dropping `run` ends it.
    tokio::select! {
        done = run() => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn run() -> Result {
    let submit = std::env::var("SPARK_SUBMIT").map_err(|_| "start this by examples/spark/run.sh")?;
    let target = Target::start().await?;
    let client = Client::connect(&target.bootstrap).await?;
    let (logs, counts) = (target.unique("logs"), target.unique("log-counts"));
    let topics = [NewTopic::new(&logs).partitions(4), NewTopic::new(&counts).partitions(2)];
    for (_, outcome) in Admin::new(&client).create_topics(topics).await? {
        outcome?;
    }
    // Old enough for the end to lie in the past, and at a full minute.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let start = i64::try_from(now)? / MINUTE * MINUTE - 90 * MINUTE;
    let checkpoint = std::env::temp_dir().join(&counts);
    let job = |more| Job::start(&submit, &target.bootstrap, &logs, &counts, &checkpoint, more);

    write(&client, &logs, start, 0..EVENTS / 2).await?;
    println!("wrote the first {} log events", EVENTS / 2);
    let mut running = job(&[])?;
    let before = read(&client, &counts, TWO_BATCHES, || running.check()).await?;
    println!("Spark has written {} counts; now it is killed", before.counts.len());
    running.kill()?;

    write(&client, &logs, start, EVENTS / 2..EVENTS).await?;
    // A minute is counted once the watermark has passed it: one late event closes them all.
    let late = start + EVENTS * EVERY + 30 * MINUTE;
    let closing = ProducerRecord::to(&logs)
        .timestamp(late)
        .value(Json(LogEvent { service: "clock".into(), level: "info" }));
    Producer::new(&client).await?.send(closing).await?;
    println!("wrote the rest; now Spark resumes from its checkpoint");
    let status = job(&["--until-caught-up"])?.end().await?;
    if !status.success() {
        return Err(format!("Spark ended with {status}").into());
    }

    let expected = expected(start);
    let after = read(&client, &counts, expected.len(), || Ok(())).await?;
    let total: i64 = after.counts.values().sum();
    println!(
        "{total} events are counted in {} minutes and levels; {} counts came twice",
        after.counts.len(),
        after.repeated
    );
    if after.counts != expected {
        return Err(format!("of {EVENTS} events the counts are {:?}, not {expected:?}", after.counts).into());
    }
    // The batch in which it was killed may have been written again, the ones before must not.
    if after.repeated >= before.counts.len() {
        return Err("Spark did not resume, it started anew".into());
    }
    std::fs::remove_dir_all(checkpoint)?;
    target.stop().await;
    Ok(())
}

fn level(number: i64) -> &'static str {
    match number % 10 {
        0 => LEVELS[2],
        1..=3 => LEVELS[1],
        _ => LEVELS[0],
    }
}

/// What there is to count.
fn expected(start: i64) -> Counts {
    let mut counts = Counts::new();
    for number in 0..EVENTS {
        let minute = (start + number * EVERY) / MINUTE * MINUTE;
        *counts.entry((minute, level(number).into())).or_default() += 1;
    }
    counts
}

async fn write(client: &Client, topic: &str, start: i64, numbers: std::ops::Range<i64>) -> Result {
    let producer = Producer::builder(client).linger(Duration::from_millis(5)).build().await?;
    let mut deliveries = Vec::new();
    for number in numbers {
        let service = format!("service-{}", number % 20);
        let event = LogEvent { service: service.clone(), level: level(number) };
        let record =
            ProducerRecord::to(topic).key(service).timestamp(start + number * EVERY).value(Json(event));
        deliveries.push(producer.enqueue(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// Reads what Spark wrote, from the beginning until there are enough counts, asking in between whether there is still hope.
///
/// Spark's sink writes a batch again that it was killed in, so a count may come twice; it must be the same then.
async fn read(
    client: &Client,
    topic: &str,
    enough: usize,
    mut hope: impl FnMut() -> Result,
) -> Result<Found> {
    let partitions = (0..2).map(|partition| TopicPartition::new(topic, partition));
    let mut consumer =
        Consumer::builder(client).assign(partitions).start_at(Offset::Earliest).build().await?;
    let deadline = Instant::now() + PATIENCE;
    let mut found = Found::default();
    // A quiet moment at the end: what comes after enough would be too much.
    let mut quiet = false;
    while !(quiet && found.counts.len() >= enough) {
        hope()?;
        if Instant::now() > deadline {
            return Err(format!("only {} counts came within {PATIENCE:?}", found.counts.len()).into());
        }
        let next = timeout(Duration::from_millis(500), consumer.try_next()).await;
        quiet = next.is_err();
        let Some(record) = next.unwrap_or(Ok(None))? else { continue };
        let Json(Count { minute, level, count }) = record.value_as()?;
        if let Some(earlier) = found.counts.insert((minute, level), count) {
            found.repeated += 1;
            if earlier != count {
                return Err(format!("minute {minute} has been counted as {earlier} and as {count}").into());
            }
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(found)
}

/// A Spark job in a process group of its own, which ends with this.
struct Job(Child);

impl Job {
    fn start(
        submit: &str,
        bootstrap: &str,
        input: &str,
        output: &str,
        checkpoint: &Path,
        more: &[&str],
    ) -> Result<Self> {
        let mut words = submit.split_whitespace();
        let program = words.next().ok_or("SPARK_SUBMIT is empty")?;
        let mut command = Command::new(program);
        command.args(words).args(["--bootstrap", bootstrap, "--input", input, "--output", output]);
        command.arg("--checkpoint").arg(checkpoint).args(more);
        Ok(Self(command.process_group(0).spawn()?))
    }

    /// Fails if the job has ended.
    fn check(&mut self) -> Result {
        match self.0.try_wait()? {
            Some(status) => Err(format!("Spark ended with {status}").into()),
            None => Ok(()),
        }
    }

    /// Waits for its end.
    async fn end(mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("Spark did not end within {PATIENCE:?}").into())
    }

    /// `kill -9` for Python and the JVM alike.
    fn kill(&mut self) -> Result {
        if self.0.try_wait()?.is_none() {
            Command::new("kill").args(["-9", "--", &format!("-{}", self.0.id())]).status()?;
            self.0.wait()?;
        }
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // At the end of a failed run there is nobody left to tell.
        let _ = self.kill();
    }
}
