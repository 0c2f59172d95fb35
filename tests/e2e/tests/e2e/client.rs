//! The client itself: a cluster that is down, connections, versions, metrics.

use std::time::Duration;

use e2e::{Outcome, PATIENCE, Target, same, skipped, within};
use kafka_broker::Cluster;
use kafka_client::{Client, ErrorKind};
use kafka_producer::{Producer, ProducerRecord};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_be_built_while_the_cluster_is_down_and_works_once_it_is_up() -> Outcome {
    if skipped("a_client_can_be_built_while_the_cluster_is_down", "start on a given port") {
        return Ok(());
    }
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let client = Client::builder(format!("127.0.0.1:{port}")).build()?;
    let producer = Producer::new(&client).await?;
    let sending =
        tokio::spawn(async move { producer.send(ProducerRecord::to("orders").value("early")).await });
    let cluster = Cluster::builder().port(port).topic("orders", 1, 1).start().await?;
    let written = within("the record", sending).await???;
    same("offset", written.offset, Some(0))?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_to_nothing_fails_in_time_and_says_why() -> Outcome {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let connecting = Client::builder(format!("127.0.0.1:{port}"))
        .request_timeout(Duration::from_millis(500))
        .default_api_timeout(Duration::from_secs(1))
        .connect();
    let error = within("an error", connecting).await?.expect_err("nobody is there");
    same(&format!("{error}"), error.is_retriable(), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_is_named_with_its_value_and_remedy() -> Outcome {
    let error = Client::builder("localhost").build().expect_err("there is no port");
    same(&format!("{error}"), matches!(error.kind(), ErrorKind::Config { .. }), true)?;
    let error = Client::builder("localhost:9092")
        .request_timeout(Duration::ZERO)
        .build()
        .expect_err("no time at all");
    same("names it", error.to_string().starts_with("request.timeout.ms"), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_of_a_java_client_are_understood_and_reported() -> Outcome {
    let target = Target::start().await?;
    let text = format!(
        "bootstrap.servers={}\nclient.id=from-java\nlinger.ms=7\ngroup.id=g\nbotstrap.servers=typo",
        target.bootstrap
    );
    let properties = text.parse()?;
    let (builder, report) = Client::from_properties(&properties);
    same("unknown keys", report.unknown().len(), 1)?;
    same("suggestion", report.unknown()[0].suggestion, Some("bootstrap.servers"))?;
    let client = builder.connect().await?;
    same("client id", client.config().client_id.as_str(), "from-java")
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_done() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    Producer::new(&client).await?.send(ProducerRecord::to(&topic).value("x")).await?;
    let text = client.metrics().to_prometheus();
    same(&text, text.contains("kafka_client_requests_total"), true)?;
    same(&text, text.lines().any(|line| line.contains("api=\"Produce\"") && !line.starts_with('#')), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_client_leaves_no_connection_behind() -> Outcome {
    if skipped("a_dropped_client_leaves_no_connection_behind", "request log") {
        return Ok(());
    }
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 3).await?;
    let producer = Producer::new(&client).await?;
    producer.send(ProducerRecord::to(&topic).value("x")).await?;
    drop((producer, client));
    let cluster = target.bundled.as_ref().ok_or("a bundled cluster")?;
    let closed = |cluster: &Cluster| cluster.snapshot().brokers.iter().all(|broker| broker.connections == 0);
    cluster.wait_until(PATIENCE, closed).await?;
    Ok(())
}
