//! Minutes in milliseconds: the whole stack on tokio's paused clock, over the in-memory transport.

use std::time::Duration;

use e2e::{Outcome, read, same, skipped, text};
use futures::TryStreamExt;
use kafka_broker::{Cluster, on};
use kafka_client::{Client, Offset};
use kafka_consumer::Consumer;
use kafka_producer::{Compression, Producer, ProducerRecord};
use kafka_wire::api::Api;

async fn cluster() -> Outcome<(Cluster, Client)> {
    let cluster = Cluster::builder().brokers(3).transport_memory().topic("orders", 2, 3).start().await?;
    let client =
        Client::builder(cluster.bootstrap()).connector(cluster.connector()).seed(1).connect().await?;
    Ok((cluster, client))
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_swallows_a_request_costs_a_request_timeout_of_virtual_time() -> Outcome {
    if skipped("a_broker_that_swallows_a_request", "virtual time") {
        return Ok(());
    }
    let (cluster, client) = cluster().await?;
    let producer = Producer::new(&client).await?;
    let hang = cluster.fault(on(Api::Produce).topic("orders").nth(1)).hang();
    let (from, wall) = (tokio::time::Instant::now(), std::time::Instant::now());
    producer.send(ProducerRecord::to("orders").partition(0).value("late")).await?;
    hang.assert_fired();
    same(&format!("{:?} of virtual time", from.elapsed()), from.elapsed() >= Duration::from_secs(30), true)?;
    same(&format!("{:?} of real time", wall.elapsed()), wall.elapsed() < Duration::from_secs(10), true)
}

#[tokio::test(start_paused = true)]
async fn a_member_that_falls_silent_is_replaced_after_its_session() -> Outcome {
    if skipped("a_member_that_falls_silent", "virtual time") {
        return Ok(());
    }
    let (_cluster, client) = cluster().await?;
    let build =
        || Consumer::builder(&client).group("billing").topics(["orders"]).start_at(Offset::Earliest).build();
    let producer = Producer::builder(&client).compression(Compression::Zstd).build().await?;
    let mut first = build().await?;
    producer.send(ProducerRecord::to("orders").partition(0).value("one")).await?;
    same("record", text(&read(&mut first, 1).await?[0]), "one".to_owned())?;
    // Dropped, not closed: nobody says goodbye.
    drop(first);
    let from = tokio::time::Instant::now();
    let mut second = build().await?;
    let record = second.try_next().await?.ok_or("the end")?;
    same("record, for nothing was committed", text(&record), "one".to_owned())?;
    let took = from.elapsed();
    same(&format!("{took:?}"), (Duration::from_secs(30)..Duration::from_secs(60)).contains(&took), true)
}

#[tokio::test(start_paused = true)]
async fn timestamps_follow_the_virtual_clock() -> Outcome {
    if skipped("timestamps_follow_the_virtual_clock", "virtual time") {
        return Ok(());
    }
    let (_cluster, client) = cluster().await?;
    let producer = Producer::new(&client).await?;
    let send = || producer.send(ProducerRecord::to("orders").partition(0).value("x"));
    let before = send().await?.timestamp;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let after = send().await?.timestamp;
    let hour = 3_600_000;
    same(&format!("{before:?} {after:?}"), (hour..hour + 60_000).contains(&(after - before)), true)
}
