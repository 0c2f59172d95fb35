//! A tower layer of one's own around every request: here one that counts requests by kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use examples::{Result, Target};
use kafka_admin::{Admin, NewTopic};
use kafka_client::Client;
use kafka_client::raw::{BrokerRequest, BrokerResponse, BrokerService};
use kafka_producer::{Producer, ProducerRecord};
use tower_layer::Layer;
use tower_service::Service;

type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

/// Wraps the service of each connection.
#[derive(Clone, Default)]
struct CountLayer(Counts);

impl Layer<BrokerService> for CountLayer {
    type Service = Count;

    fn layer(&self, inner: BrokerService) -> Count {
        Count { inner, counts: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
struct Count {
    inner: BrokerService,
    counts: Counts,
}

impl Service<BrokerRequest> for Count {
    type Response = BrokerResponse;
    type Error = kafka_client::Error;
    type Future = <BrokerService as Service<BrokerRequest>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: BrokerRequest) -> Self::Future {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(request.api.to_string()).or_default() += 1;
        drop(counts);
        self.inner.call(request)
    }
}

#[tokio::main]
async fn main() -> Result {
    let target = Target::start().await?;
    let layer = CountLayer::default();
    let client = Client::builder(&target.bootstrap).layer(layer.clone()).connect().await?;

    let topic = target.unique("counted");
    for (_, outcome) in Admin::new(&client).create_topics([NewTopic::new(&topic)]).await? {
        outcome?;
    }
    let producer = Producer::new(&client).await?;
    for number in 0..100 {
        // The flush below waits for all of them.
        drop(producer.enqueue(ProducerRecord::to(&topic).value(number.to_string())).await?);
    }
    producer.flush().await;
    for (api, count) in layer.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{count:>3} × {api}");
    }
    target.stop().await;
    Ok(())
}
