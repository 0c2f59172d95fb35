//! tower layers of the user's own, with idempotence and five requests in flight.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use e2e::{Outcome, Target, read_all, same, seed};
use kafka_client::Client;
use kafka_client::raw::{BrokerRequest, BrokerResponse, BrokerService};
use kafka_producer::{Fate, Producer, ProducerRecord};
use kafka_wire::api::Api;
use tower_layer::Layer;
use tower_service::Service;

type Answer = Pin<Box<dyn Future<Output = Result<BrokerResponse, BoxError>> + Send>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A layer made of a function that is shown each request and hands it on, or not.
#[derive(Clone)]
struct Around<F>(F);

#[derive(Clone)]
struct AroundService<F> {
    inner: BrokerService,
    act: F,
}

impl<F: Clone> Layer<BrokerService> for Around<F> {
    type Service = AroundService<F>;

    fn layer(&self, inner: BrokerService) -> AroundService<F> {
        AroundService { inner, act: self.0.clone() }
    }
}

impl<F: Fn(BrokerRequest, BrokerService) -> Answer> Service<BrokerRequest> for AroundService<F> {
    type Response = BrokerResponse;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: BrokerRequest) -> Answer {
        // The one that was asked whether it is ready goes along; a fresh clone stays for the next request.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        (self.act)(request, ready)
    }
}

fn pass(request: BrokerRequest, mut inner: BrokerService) -> Answer {
    Box::pin(async move { Ok(inner.call(request).await?) })
}

const TASKS: usize = 4;
const RECORDS: usize = 2000;

/// Every task sends its numbers in order to its own partition; all must be there, once and in order.
async fn produce_through(client: Client, target: &Target) -> Outcome {
    let topic = target.topic(&client, TASKS as i32).await?;
    let producer =
        Producer::builder(&client).batch_size(512).linger(Duration::from_millis(1)).build().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (producer, topic) = (producer.clone(), topic.clone());
        tasks.spawn(async move {
            let mut deliveries = Vec::with_capacity(RECORDS);
            for n in 0..RECORDS {
                let record = ProducerRecord::to(&topic).partition(task as i32).value(n.to_string());
                deliveries.push(producer.enqueue(record).await?);
            }
            for delivery in deliveries {
                delivery.await?;
            }
            Outcome::<()>::Ok(())
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
    }
    let plain = target.client().await?;
    let values = read_all(&plain, &topic, TASKS as i32).await?;
    let expected: Vec<_> = (0..RECORDS).map(|n| n.to_string()).collect();
    for task in 0..TASKS as i32 {
        same(&format!("partition {task}"), values[&task] == expected, true)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_counts_sees_every_request() -> Outcome {
    let target = Target::start().await?;
    let counts: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let seen = Arc::clone(&counts);
    let layer = Around(move |request: BrokerRequest, inner| {
        *seen.lock().unwrap().entry(request.api.to_string()).or_default() += 1;
        pass(request, inner)
    });
    let client = Client::builder(&target.bootstrap).layer(layer).connect().await?;
    produce_through(client, &target).await?;
    let counts = counts.lock().unwrap();
    for api in ["Metadata", "CreateTopics", "InitProducerId", "Produce"] {
        same(&format!("{counts:?}"), counts.contains_key(api), true)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_rejects_every_third_produce_costs_no_record_and_no_order() -> Outcome {
    let target = Target::start().await?;
    let (count, rejected) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let refused = Arc::clone(&rejected);
    let layer = Around(move |request: BrokerRequest, inner| {
        if request.api == Api::Produce && count.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            refused.fetch_add(1, Ordering::Relaxed);
            return Box::pin(async { Err("the third".into()) }) as Answer;
        }
        pass(request, inner)
    });
    let client = Client::builder(&target.bootstrap).layer(layer).connect().await?;
    produce_through(client, &target).await?;
    same("rejections", rejected.load(Ordering::Relaxed) > 10, true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_rejects_everything_leaves_the_fate_not_written() -> Outcome {
    let target = Target::start().await?;
    let layer = Around(move |request: BrokerRequest, inner| {
        if request.api == Api::Produce {
            return Box::pin(async { Err("never".into()) }) as Answer;
        }
        pass(request, inner)
    });
    let client = Client::builder(&target.bootstrap)
        .request_timeout(Duration::from_secs(1))
        .layer(layer)
        .connect()
        .await?;
    let topic = target.topic(&client, 1).await?;
    let producer = Producer::builder(&client).delivery_timeout(Duration::from_secs(2)).build().await?;
    let error = producer.send(ProducerRecord::to(&topic).value("x")).await.expect_err("it is never sent");
    same(&format!("{error}"), error.fate(), Fate::NotWritten)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_delays_at_random_costs_no_order() -> Outcome {
    let target = Target::start().await?;
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed())));
    let layer = Around(move |request: BrokerRequest, mut inner: BrokerService| {
        let delay = Duration::from_micros(random.lock().unwrap().u64(0..3000));
        Box::pin(async move {
            if request.api == Api::Produce {
                tokio::time::sleep(delay).await;
            }
            Ok(inner.call(request).await?)
        }) as Answer
    });
    let client = Client::builder(&target.bootstrap).layer(layer).connect().await?;
    produce_through(client, &target).await
}
