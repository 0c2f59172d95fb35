//! The `kafka-broker` binary: starts a cluster, says where it listens, and stops on SIGINT or SIGTERM.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use kafka_broker::Cluster;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A small Kafka-compatible broker for tests: everything is in memory and gone when it stops.
///
/// The first line on stdout says where it listens; logs go to stderr (RUST_LOG sets their level).
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Port of the first broker; others take the ports after it, and 0 picks free ones
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// How many brokers to start
    #[arg(long, default_value_t = 1)]
    brokers: i32,
    /// Topic to create, as name:partitions:replication (repeatable)
    #[arg(long = "topic", value_name = "NAME:PARTITIONS:REPLICATION", value_parser = parse_topic)]
    topics: Vec<Topic>,
    /// IP address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Host that clients are told to connect to, for containers and other machines [default: the --host]
    #[arg(long)]
    advertise: Option<String>,
    /// Broker setting by its Kafka name (repeatable)
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
struct Topic {
    name: String,
    partitions: i32,
    replication: i16,
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let numbers =
        |partitions: &str, replication: &str| Some((partitions.parse().ok()?, replication.parse().ok()?));
    let (name, numbers) = match parts[..] {
        [name] => (name, Some((1, 1))),
        [name, partitions] => (name, numbers(partitions, "1")),
        [name, partitions, replication] => (name, numbers(partitions, replication)),
        _ => ("", None),
    };
    let (partitions, replication) =
        numbers.ok_or("write it as name:partitions:replication, like orders:6:3")?;
    Ok(Topic { name: name.into(), partitions, replication })
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as key=value, like num.partitions=3")?;
    Ok((name.trim().into(), value.trim().into()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything is said, so that a signal right after the first line stops it cleanly.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut builder = Cluster::builder().brokers(arguments.brokers).host(arguments.host).port(arguments.port);
    if let Some(host) = arguments.advertise {
        builder = builder.advertise(host);
    }
    for (name, value) in arguments.configs {
        builder = builder.config(name, value);
    }
    for topic in arguments.topics {
        builder = builder.topic(topic.name, topic.partitions, topic.replication);
    }
    let cluster = builder.start().await?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {}", cluster.bootstrap())?;
    stdout.flush()?;
    drop(stdout);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    cluster.stop().await;
    Ok(())
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kafka-broker: {error}");
    ExitCode::FAILURE
}
