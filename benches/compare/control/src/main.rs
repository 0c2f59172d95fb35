//! No client at all: what the drivers themselves cost (`produce`), and what a raw socket does (`latency`).

use std::process::ExitCode;

use driver::{Client, Error, Mode, Options, Record, Result, Tally};

mod raw;

fn main() -> ExitCode {
    driver::main(|options| match options.mode {
        Mode::Latency => raw::run(options),
        _ => driver::run::<Empty>(options),
    })
}

fn version() -> String {
    "no client".into()
}

/// Takes every record and does nothing with it.
struct Empty;

impl Client for Empty {
    type Producer = Sending;
    type Consumer = Nothing;

    fn version() -> String {
        version()
    }

    async fn producer(_: &Options) -> Result<Sending> {
        Ok(Sending)
    }

    async fn consumer(_: &Options) -> Result<Nothing> {
        Err(Error::unsupported("there is nothing to read without a client"))
    }
}

enum Nothing {}

impl driver::Consumer for Nothing {
    async fn next(&mut self, _: &mut Tally) -> Result<()> {
        match *self {}
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
