//! Drives librdkafka through the rdkafka crate: its asynchronous layer (`rdkafka-future`), and its direct one
//! (`rdkafka-base`), where acknowledgements come by a callback and messages by polling.

use std::process::ExitCode;

use driver::{BUFFER_BYTES, Options};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::util::get_rdkafka_version;
use rdkafka::{ClientConfig, Offset};

mod base;
mod future;

fn main() -> ExitCode {
    driver::main(|options| match options.client.as_str() {
        "rdkafka-base" => driver::run::<base::Base>(options),
        _ => driver::run::<future::Future>(options),
    })
}

fn version() -> String {
    format!("0.39.0 (librdkafka {})", get_rdkafka_version().1)
}

fn producer_config(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.bootstrap).set("compression.type", options.codec.name());
    if options.equal() {
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", (options.linger.as_secs_f64() * 1e3).to_string())
            .set("batch.size", options.batch_bytes.to_string())
            // Only bytes shall bound a batch, as with the other clients; 10,000 messages would too.
            .set("batch.num.messages", "1000000")
            .set("queue.buffering.max.messages", "10000000")
            .set("queue.buffering.max.kbytes", (BUFFER_BYTES / 1024).to_string())
            // The largest batch too, which by default is smaller than what the broker takes.
            .set("message.max.bytes", "1048588")
            .set("max.in.flight", options.in_flight.to_string());
    }
    config
}

fn consumer_config(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.bootstrap)
        .set("group.id", "compare")
        .set("enable.auto.commit", "false");
    if options.equal() {
        // By default it pauses a second whenever 100,000 messages are queued, and then idles.
        config.set("queued.min.messages", "1000000").set("fetch.queue.backoff.ms", "2");
    }
    config
}

fn everything(options: &Options) -> driver::Result<TopicPartitionList> {
    let mut partitions = TopicPartitionList::new();
    for partition in 0..options.partitions {
        partitions.add_partition_offset(&options.topic, partition, Offset::Beginning)?;
    }
    Ok(partitions)
}
