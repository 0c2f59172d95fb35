//! For the tests of this crate: a client that writes encoded frames and reads them back, with nothing in between.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_wire::api::{Api, Request};
use kafka_wire::header::{RequestHeader, decode_response_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::cluster::Cluster;

/// One connection to one broker.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: DuplexStream,
    correlation_id: i32,
}

impl Wire {
    /// Connects to a broker of a cluster that was built with the in-memory transport.
    pub(crate) fn to(cluster: &Cluster, broker: i32) -> Self {
        let address = cluster.bootstrap().split(',').nth(broker as usize - 1).unwrap().parse().unwrap();
        Self { stream: cluster.connector().connect(&address).unwrap(), correlation_id: 0 }
    }

    /// Sends a request and returns its response.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, &request).await;
        self.receive::<R>(version).await
    }

    /// Sends a request only.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let mut body = BytesMut::new();
        request.encode(version, &mut body).unwrap();
        self.send_body(R::API, version, &body).await;
    }

    /// Sends a request whose body is these bytes.
    pub(crate) async fn send_body(&mut self, api: Api, version: i16, body: &[u8]) {
        self.correlation_id += 1;
        let header =
            RequestHeader { api, version, correlation_id: self.correlation_id, client_id: Some("wire") };
        let mut frame = header.encode(body.len()).unwrap().to_vec();
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The response to the request sent last.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let frame = self.receive_frame().await.expect("a response");
        let (correlation_id, body) = decode_response_header(R::API, version, &frame).unwrap();
        assert_eq!(correlation_id, self.correlation_id);
        R::decode_response(version, body).unwrap()
    }

    /// The next frame, or `None` if the broker closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// Waits until the broker closes the connection, which must be before it sends anything.
    pub(crate) async fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        let read =
            tokio::time::timeout(std::time::Duration::from_secs(3600), self.stream.read_to_end(&mut rest));
        read.await.expect("the connection should close").unwrap_or(0);
        assert_eq!(rest, b"", "nothing should come before the close");
    }
}

/// A cluster over the in-memory transport.
pub(crate) async fn memory_cluster(brokers: i32, topic: &str, partitions: i32, replication: i16) -> Cluster {
    let builder = Cluster::builder().brokers(brokers).topic(topic, partitions, replication);
    builder.transport_memory().start().await.unwrap()
}

/// Fails with what was found.
pub(crate) fn assert_none<T: Debug>(found: Option<T>) {
    assert!(found.is_none(), "{found:?}");
}
