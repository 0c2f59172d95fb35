//! What the comparison's Rust drivers share, so that each of them holds only what is peculiar to its client.
//!
//! A driver implements [`Client`] with a [`Producer`] and a [`Consumer`], and calls [`main`] with [`run`].

use std::future::Future;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};

mod consume;
mod error;
mod latency;
mod options;
mod produce;
mod report;
mod single;
mod table;
mod ticks;
mod usage;

pub use consume::Tally;
pub use error::{Error, Result};
pub use latency::Latencies;
pub use options::{BUFFER_BYTES, Codec, Mode, Options, Settings};
pub use produce::{BURSTS, RoundRobin};
pub use report::{Latency, Memory, Outcomes, Report};
pub use table::{RECORDS, Record, Table};
pub use ticks::{Ticks, due, now_ns};
pub use usage::{Reading, Used};

/// The outcome of a future if it is ready, without waiting for it.
pub fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A Kafka client that is driven from tokio.
pub trait Client {
    /// What produces.
    type Producer: Producer;
    /// What consumes.
    type Consumer: Consumer;

    /// The client's version, as its results shall say it.
    fn version() -> String;

    /// Builds a producer.
    fn producer(options: &Options) -> impl Future<Output = Result<Self::Producer>>;

    /// Builds a consumer that reads the topic's partitions from their beginning.
    fn consumer(options: &Options) -> impl Future<Output = Result<Self::Consumer>>;
}

/// A producer; clones are handles to the same one, for several tasks.
pub trait Producer: Clone + Send + Sync + 'static {
    /// What will tell the fate of one record.
    type Ack: Send + 'static;

    /// The most bytes of keys and values whose fate may be unknown, for clients that stop the thread, and with it
    /// themselves, at a bound of their own.
    const MOST_UNSETTLED: usize = usize::MAX;

    /// Waits until the client takes a record: to the partition given, or to one of the client's choice.
    fn enqueue(
        &self,
        record: &'static Record,
        partition: Option<i32>,
    ) -> impl Future<Output = Result<Self::Ack>> + Send;

    /// A record's fate, if it is known by now, at the least cost the client offers. Not asked again after an answer.
    fn settled(ack: &mut Self::Ack) -> Option<Result<()>>;

    /// Waits for a record's fate.
    fn settle(ack: Self::Ack) -> impl Future<Output = Result<()>> + Send;

    /// Has everything sent without waiting for more.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many requests were sent so far, for clients that count them.
    fn requests(&self) -> Option<u64> {
        None
    }

    /// Records that failed although their acknowledgements said otherwise, up to the last flush: for clients that tell
    /// fates by callbacks.
    fn failed_later(&self) -> u64 {
        0
    }
}

/// A consumer.
pub trait Consumer {
    /// Hands some records to `tally`, about as many as come in one piece: the clock is looked at only between calls.
    /// Dropped while it waits, it must have handed over every record that it took.
    fn next(&mut self, tally: &mut Tally) -> impl Future<Output = Result<()>>;

    /// Ends it with everything it does in the background; for most, dropping it does.
    fn close(self) -> impl Future<Output = Result<()>>
    where
        Self: Sized,
    {
        std::future::ready(Ok(()))
    }
}

/// A driver's main function: reads the command line, runs, prints the line of results.
pub fn main(run: impl FnOnce(&Options) -> Result<Report>) -> ExitCode {
    let line = Options::parse(std::env::args_os().skip(1))
        .and_then(|options| run(&options))
        .and_then(|report| Ok(serde_json::to_string(&report)?));
    match line {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if matches!(error, Error::Unsupported(_)) { 3 } else { 1 })
        }
    }
}

/// Runs one mode on a single-threaded tokio runtime, which is the cheapest for every async client.
///
/// # Errors
/// Whatever keeps the run from coming to its end. Records that fail are counted instead.
pub fn run<C: Client>(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.mode {
            Mode::Produce => produce::run::<C>(options).await,
            Mode::Latency => latency::run::<C>(options).await,
            Mode::Consume => consume::run::<C>(options).await,
            Mode::Start => single::start::<C>(options).await,
            Mode::Memory => single::memory::<C>(options).await,
        }
    })
}
