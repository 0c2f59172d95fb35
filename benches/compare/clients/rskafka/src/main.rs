//! Drives rskafka, which knows neither groups nor idempotence, and leaves the choice of partitions and, in its fastest
//! interface, the collecting of batches to its user: [`batching`] is what such a user writes.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;

use driver::{Client, Error, Options, Record, Result, Tally};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::record::RecordAndOffset;

mod batching;

use batching::{Batch, Batches};

fn main() -> ExitCode {
    driver::main(driver::run::<Rskafka>)
}

struct Rskafka;

impl Client for Rskafka {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        "0.6.0 (no idempotence)".into()
    }

    async fn producer(options: &Options) -> Result<Sending> {
        if !options.equal() {
            return Err(Error::unsupported(
                "batches and partitioners are its user's, so there are no defaults",
            ));
        }
        let partitions = partition_clients(options).await?;
        Ok(Sending(partitions.into_iter().map(|client| Batches::new(client, options)).collect()))
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        let partitions = partition_clients(options).await?;
        Ok(Reading { fetches: partitions.into_iter().map(|client| fetch(client, 0)).collect() })
    }
}

async fn partition_clients(options: &Options) -> Result<Vec<Arc<PartitionClient>>> {
    let client = ClientBuilder::new(vec![options.bootstrap.clone()]).build().await?;
    let mut partitions = Vec::new();
    for partition in 0..options.partitions {
        let partition = client.partition_client(&options.topic, partition, UnknownTopicHandling::Retry);
        partitions.push(Arc::new(partition.await?));
    }
    Ok(partitions)
}

#[derive(Clone)]
struct Sending(Arc<[Batches]>);

impl driver::Producer for Sending {
    type Ack = Arc<Batch>;

    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<Arc<Batch>> {
        let batches = partition.and_then(|partition| self.0.get(usize::try_from(partition).ok()?));
        Ok(batches.ok_or_else(|| Error::failed("no such partition"))?.push(record).await)
    }

    fn settled(batch: &mut Arc<Batch>) -> Option<Result<()>> {
        batch.outcome()
    }

    async fn settle(batch: Arc<Batch>) -> Result<()> {
        batch.settled().await
    }

    async fn flush(&self) -> Result<()> {
        self.0.iter().for_each(Batches::flush);
        Ok(())
    }
}

type Fetched = (Arc<PartitionClient>, i64, rskafka::client::error::Result<(Vec<RecordAndOffset>, i64)>);

/// One fetch for each partition is always under way.
struct Reading {
    fetches: FuturesUnordered<BoxFuture<'static, Fetched>>,
}

/// What other clients ask of a partition at most, by default.
const FETCH_BYTES: Range<i32> = 1..1 << 20;
const FETCH_WAIT_MS: i32 = 500;

fn fetch(client: Arc<PartitionClient>, offset: i64) -> BoxFuture<'static, Fetched> {
    Box::pin(async move {
        let fetched = client.fetch_records(offset, FETCH_BYTES, FETCH_WAIT_MS).await;
        (client, offset, fetched)
    })
}

impl driver::Consumer for Reading {
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        let Some((client, mut offset, fetched)) = self.fetches.next().await else {
            return Err(Error::failed("no partition to read"));
        };
        for read in fetched?.0 {
            let record = &read.record;
            tally.record(client.partition(), read.offset, record.key.as_deref(), record.value.as_deref());
            offset = read.offset + 1;
        }
        self.fetches.push(fetch(client, offset));
        Ok(())
    }
}
