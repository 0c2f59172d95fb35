//! The client over TLS: whom it trusts, who it is, and what it says of peers that are not as they should be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may do what tests do")]
#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod authority;
mod files;
mod front;
mod hostile;
mod trusted;

use std::time::Duration;

use kafka_broker::Cluster;
use kafka_client::raw::wire::messages::MetadataRequest;
use kafka_client::tls::{Tls, TlsProblem};
use kafka_client::{Client, Error, ErrorKind};

use self::authority::{Authority, Identity, self_signed};
use self::front::{Front, Listener};

/// Where the bundled brokers are in memory.
const HOSTS: &[&str] = &["broker-1"];

async fn cluster() -> Cluster {
    Cluster::builder().brokers(1).topic("orders", 1, 1).transport_memory().start().await.unwrap()
}

/// A client that has found its cluster.
async fn connect(cluster: &Cluster, front: Front, tls: Tls) -> kafka_client::Result<Client> {
    Client::builder(cluster.bootstrap()).connector(front).tls(tls).seed(7).connect().await
}

/// What is wrong with the first connection to `front`.
async fn first_failure(front: Front, tls: Option<Tls>) -> Error {
    let mut builder = Client::builder("broker-1:9093").connector(front).seed(7);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let client = builder.build().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let call = client.request(kafka_client::raw::Route::Any).deadline(deadline);
    let error = call.send(|_| Ok(MetadataRequest::default())).await;
    innermost(error.err().unwrap())
}

/// The failure that lies under those of the attempts.
fn innermost(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut { last: Some(last), .. } | ErrorKind::NoBroker { last: Some(last) } => {
            innermost(last.clone())
        }
        _ => error,
    }
}

fn problem(error: &Error) -> &TlsProblem {
    match error.kind() {
        ErrorKind::Tls { problem, .. } => problem,
        other => panic!("not a TLS error: {other:?}"),
    }
}
