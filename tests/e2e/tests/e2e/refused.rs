//! Credentials that brokers refuse, at the start or all at once in the middle: every role fails at once, nobody tries again
//! in a loop, and what is put right works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{Outcome, same, skipped, text};
use futures::TryStreamExt;
use kafka_admin::Admin;
use kafka_broker::{Cluster, OauthKeys, SaslMechanism};
use kafka_client::auth::{Sasl, Token};
use kafka_client::{Client, ErrorKind, Offset, TopicPartition};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};
use kafka_wire::api::Api;
use tokio::time::{sleep, timeout};

/// Unsigned, of alice, good until 2100.
const GOOD: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImlhdCI6MTU3NzgzNjgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.";
const BAD: &str = "e30.e30.";
/// At once, with time for a wait between two attempts.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn cluster() -> Outcome<Cluster> {
    let builder =
        Cluster::builder().brokers(3).transport_memory().topic("orders", 3, 3).topic("lonely", 1, 1);
    let builder = builder.sasl([SaslMechanism::OauthBearer]).oauth(OauthKeys::unsecured());
    Ok(builder.session_lifetime(Duration::from_secs(4)).start().await?)
}

fn client(cluster: &Cluster, is_good: &Arc<AtomicBool>) -> Outcome<Client> {
    let is_good = is_good.clone();
    let sasl = Sasl::oauth_bearer(move || {
        let token = Token::new(if is_good.load(Ordering::Relaxed) { GOOD } else { BAD });
        std::future::ready(Ok::<_, std::convert::Infallible>(token))
    });
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector()).sasl(sasl);
    Ok(builder.seed(1).build()?)
}

fn attempts(cluster: &Cluster) -> usize {
    cluster.requests().iter().filter(|request| request.api == Api::SaslHandshake).count()
}

/// Whether somewhere among the causes brokers refuse who the client is.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let client = error.downcast_ref::<kafka_client::Error>().map(kafka_client::Error::kind);
        let producer = error.downcast_ref::<kafka_producer::Error>().map(kafka_producer::Error::kind);
        let consumer = error.downcast_ref::<kafka_consumer::Error>().map(kafka_consumer::Error::kind);
        let client = match (client, producer, consumer) {
            (_, Some(kafka_producer::ErrorKind::Client(error)), _)
            | (_, _, Some(kafka_consumer::ErrorKind::Client(error))) => Some(error.kind()),
            _ => client,
        };
        if matches!(client, Some(ErrorKind::Authentication { .. })) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error that comes of it, which has to be a refusal and to come at once.
async fn refused<T, E: std::error::Error + 'static>(
    what: &str,
    does: impl Future<Output = Result<T, E>>,
) -> Outcome {
    match timeout(AT_ONCE, does).await {
        Err(_) => Err(format!("{what}: nothing came of it").into()),
        Ok(Ok(_)) => Err(format!("{what}: succeeded").into()),
        Ok(Err(error)) => same(&format!("{what}: {error:?}"), is_refusal(&error), true),
    }
}

#[tokio::test(start_paused = true)]
async fn refused_from_the_start_every_role_fails_at_once() -> Outcome {
    if skipped("refused_from_the_start", "tokens and virtual time") {
        return Ok(());
    }
    let cluster = cluster().await?;
    let client = client(&cluster, &Arc::new(AtomicBool::new(false)))?;
    refused("admin", Admin::new(&client).list_topics()).await?;
    refused("producer", async {
        let producer = Producer::new(&client).await?;
        producer.send(ProducerRecord::to("orders").value("x")).await
    })
    .await?;
    refused("assigned consumer", async {
        let consumer = Consumer::builder(&client).assign([TopicPartition::new("orders", 0)]);
        consumer.start_at(Offset::Earliest).build().await?.try_next().await
    })
    .await?;
    refused("group", async {
        let consumer = Consumer::builder(&client).group("billing").topics(["orders"]);
        consumer.start_at(Offset::Earliest).build().await?.try_next().await
    })
    .await?;
    // At 0, 1, 6, 31 and 156 seconds, whatever the roles do meanwhile.
    sleep(Duration::from_secs(200)).await;
    let attempts = attempts(&cluster);
    same(&format!("{attempts} attempts"), attempts <= 6, true)
}

#[tokio::test(start_paused = true)]
async fn refused_in_the_middle_every_role_fails_at_once_and_works_again_when_that_is_put_right() -> Outcome {
    if skipped("refused_in_the_middle", "tokens and virtual time") {
        return Ok(());
    }
    let cluster = cluster().await?;
    let is_good = Arc::new(AtomicBool::new(true));
    let client = client(&cluster, &is_good)?;
    let producer = Producer::new(&client).await?;
    let admin = Admin::new(&client);
    let consumer = Consumer::builder(&client).group("billing").topics(["orders"]).start_at(Offset::Earliest);
    let mut consumer = consumer.build().await?;
    producer.send(ProducerRecord::to("orders").partition(0).value("one")).await?;
    same("record", consumer.try_next().await?.as_ref().map(text), Some("one".to_owned()))?;

    is_good.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(4)).await;
    let before = attempts(&cluster);
    let began = tokio::time::Instant::now();
    refused("producer", async {
        loop {
            producer.send(ProducerRecord::to("orders").partition(0).value("lost")).await?;
        }
        #[expect(unreachable_code, reason = "says what the loop would return")]
        Ok::<(), kafka_producer::Error>(())
    })
    .await?;
    refused("consumer", async { consumer.try_next().await }).await?;
    refused("admin", admin.list_topics()).await?;
    // Many records, each told the same without a word to a broker.
    for _ in 0..100 {
        let send = producer.send(ProducerRecord::to("orders").partition(1).value("lost"));
        refused("producer, again", send).await?;
    }
    sleep(Duration::from_secs(25)).await;
    let made = attempts(&cluster) - before;
    // Each of some ten connections was refused once where it stood; then 0, 1, 6 and 31 seconds.
    same(&format!("{made} attempts in {:?}", began.elapsed()), made <= 16, true)?;

    is_good.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    producer.send(ProducerRecord::to("orders").partition(0).value("two")).await?;
    admin.list_topics().await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn records_that_wait_for_a_leader_do_not_wait_for_one_that_nobody_will_name() -> Outcome {
    if skipped("refused_without_a_leader", "tokens and virtual time") {
        return Ok(());
    }
    let cluster = cluster().await?;
    let is_good = Arc::new(AtomicBool::new(true));
    let client = client(&cluster, &is_good)?;
    let producer = Producer::new(&client).await?;
    producer.send(ProducerRecord::to("lonely").value("one")).await?;

    let lonely = TopicPartition::new("lonely", 0);
    let (leader, _) = client.metadata().leader(&lonely).ok_or("the topic has no leader")?;
    cluster.stop_broker(leader).await?;
    let waiting = producer.enqueue(ProducerRecord::to("lonely").value("two")).await?;
    timeout(Duration::from_secs(30), async {
        while client.metadata().leader(&lonely).is_some() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await?;

    is_good.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(4)).await;
    refused("waiting", waiting).await?;
    refused("later", producer.send(ProducerRecord::to("lonely").value("three"))).await
}
