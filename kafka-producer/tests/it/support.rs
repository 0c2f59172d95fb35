//! A cluster, a client, a layer between the two, and a look into the logs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kafka_broker::{Cluster, StoredRecord};
use kafka_client::layers::{BrokerRequest, BrokerResponse, BrokerService};
use kafka_client::{Client, ClientBuilder};
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

/// Three brokers in memory with the topic `orders`, and a client of theirs.
pub(crate) async fn cluster(partitions: i32) -> (Cluster, Client) {
    let builder = Cluster::builder().brokers(3).topic("orders", partitions, 3).transport_memory();
    let cluster = builder.start().await.unwrap();
    let client = client(&cluster).build().unwrap();
    (cluster, client)
}

pub(crate) fn client(cluster: &Cluster) -> ClientBuilder {
    Client::builder(cluster.bootstrap()).client_id("test").connector(cluster.connector()).seed(7)
}

/// Who leads a partition of `orders`, as far as the client knows.
pub(crate) fn leader(client: &Client, partition: i32) -> i32 {
    client.metadata().topic("orders").unwrap().partition(partition).unwrap().leader.unwrap()
}

/// Every record of a partition of `orders`.
pub(crate) async fn log(cluster: &Cluster, partition: i32) -> Vec<StoredRecord> {
    let mut records = cluster.records("orders").await;
    records.retain(|record| record.partition == partition);
    records
}

/// The values of a partition of `orders` as text.
pub(crate) async fn values(cluster: &Cluster, partition: i32) -> Vec<String> {
    log(cluster, partition).await.iter().map(|record| record.text().into_owned()).collect()
}

/// Asserts that a partition holds exactly the records `0..count`, each once and in order.
pub(crate) async fn assert_complete(cluster: &Cluster, partition: i32, count: usize) {
    let found = values(cluster, partition).await;
    let expected: Vec<String> = (0..count).map(|index| index.to_string()).collect();
    if found != expected {
        let missing: Vec<_> = expected.iter().filter(|value| !found.contains(value)).take(5).collect();
        let wrong = found.iter().zip(&expected).position(|(one, other)| one != other);
        panic!(
            "partition {partition}: {} records instead of {count}, missing {missing:?}, differs at {wrong:?}",
            found.len()
        );
    }
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = kafka_client::Result<BrokerResponse>> + Send>>;
type Handle = dyn Fn(BrokerRequest, BrokerService) -> Answer + Send + Sync;

/// A layer that does `handle` to every request.
pub(crate) fn meddle(
    handle: impl Fn(BrokerRequest, BrokerService) -> Answer + Send + Sync + 'static,
) -> impl Layer<BrokerService, Service = Meddle> + Send + Sync + 'static {
    let handle: Arc<Handle> = Arc::new(handle);
    layer_fn(move |inner| Meddle { inner, handle: handle.clone() })
}

#[derive(Clone)]
pub(crate) struct Meddle {
    inner: BrokerService,
    handle: Arc<Handle>,
}

impl Service<BrokerRequest> for Meddle {
    type Response = BrokerResponse;
    type Error = kafka_client::Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<kafka_client::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: BrokerRequest) -> Answer {
        let fresh = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, fresh);
        (self.handle)(request, ready)
    }
}

pub(crate) fn call(mut service: BrokerService, request: BrokerRequest) -> Answer {
    Box::pin(async move { service.call(request).await })
}
