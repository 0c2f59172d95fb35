//! No client at all: what the drivers themselves cost (all modes but two), and what a raw socket does (`latency`, `start`).

use std::process::ExitCode;

use driver::{Client, Mode, Options, Record, Result, Table, Tally};

mod raw;

fn main() -> ExitCode {
    driver::main(|options| match options.mode {
        Mode::Latency | Mode::Start => raw::run(options),
        _ => driver::run::<Empty>(options),
    })
}

fn version() -> String {
    "no client".into()
}

/// Takes every record and does nothing with it; has every record without reading.
struct Empty;

impl Client for Empty {
    type Producer = Sending;
    type Consumer = Reading;

    fn version() -> String {
        version()
    }

    async fn producer(_: &Options) -> Result<Sending> {
        Ok(Sending)
    }

    async fn consumer(options: &Options) -> Result<Reading> {
        Ok(Reading {
            table: Table::new(options.size, options.key),
            partitions: options.partitions,
            passes: 0,
        })
    }
}

#[derive(Clone)]
struct Sending;

impl driver::Producer for Sending {
    type Ack = &'static Record;

    async fn enqueue(&self, record: &'static Record, partition: Option<i32>) -> Result<Self::Ack> {
        std::hint::black_box((record, partition));
        Ok(record)
    }

    fn settled(_: &mut Self::Ack) -> Option<Result<()>> {
        Some(Ok(()))
    }

    async fn settle(_: Self::Ack) -> Result<()> {
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

struct Reading {
    table: Table,
    partitions: i32,
    passes: i64,
}

impl driver::Consumer for Reading {
    /// Each call is a pass of the table, as a piece of one partition.
    async fn next(&mut self, tally: &mut Tally) -> Result<()> {
        let records = self.table.records();
        let piece = self.passes / i64::from(self.partitions) * i64::try_from(records.len())?;
        let partition = i32::try_from(self.passes % i64::from(self.partitions))?;
        for (offset, record) in (piece..).zip(records) {
            if tally.is_full() {
                break;
            }
            tally.record(partition, offset, Some(&*record.key), Some(&*record.value));
        }
        self.passes += 1;
        tokio::task::yield_now().await;
        Ok(())
    }
}
