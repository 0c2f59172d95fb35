//! A cluster, a client, and a look into the logs.

use kafka_broker::{Cluster, StoredRecord};
use kafka_client::{Client, ClientBuilder};

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
