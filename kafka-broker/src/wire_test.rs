//! For the tests of this crate: a client that writes encoded frames and reads them back, with nothing in between.

use bytes::{Bytes, BytesMut};
use kafka_wire::api::{Api, Request};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{self, FetchPartition, TopicRef};
use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::produce;
use kafka_wire::record_batch::{BatchWriter, NO_PRODUCER, ProducerStamp, batch_buffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use crate::cluster::Cluster;

/// One connection to one broker.
#[derive(Debug)]
pub(crate) struct Wire<S = DuplexStream> {
    pub(crate) stream: S,
    correlation_id: i32,
}

impl Wire {
    /// Connects to a broker of a cluster that was built with the in-memory transport.
    pub(crate) fn to(cluster: &Cluster, broker: i32) -> Self {
        Self::at(cluster, broker, &cluster.bootstrap())
    }

    /// Connects to a broker at one of its listeners.
    pub(crate) fn to_listener(cluster: &Cluster, broker: i32, listener: &str) -> Self {
        Self::at(cluster, broker, &cluster.bootstrap_of(listener).expect("a listener of this name"))
    }

    fn at(cluster: &Cluster, broker: i32, addresses: &str) -> Self {
        let address = addresses.split(',').nth(broker as usize - 1).unwrap().parse().unwrap();
        Self::over(cluster.connector().connect(&address).unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Speaks over a stream that was made otherwise.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, correlation_id: 0 }
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
        self.stream.flush().await.unwrap();
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

/// What a produce response says of one partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Produced {
    pub(crate) outcome: produce::Outcome,
    pub(crate) bad_records: Vec<i32>,
    pub(crate) message: Option<String>,
    /// Nodes that the response tells the address of.
    pub(crate) endpoints: Vec<i32>,
    /// Their hosts and ports.
    pub(crate) addresses: Vec<(String, i32)>,
}

impl Produced {
    pub(crate) fn code(&self) -> ErrorCode {
        ErrorCode(self.outcome.error_code)
    }
}

/// What a fetch response says.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) code: ErrorCode,
    pub(crate) session_id: i32,
    pub(crate) partitions: Vec<(fetch::Status, Bytes)>,
    pub(crate) endpoints: Vec<i32>,
    /// Their hosts and ports.
    pub(crate) addresses: Vec<(String, i32)>,
}

impl Fetched {
    /// Partition, error and number of bytes of each partition.
    pub(crate) fn summary(&self) -> Vec<(i32, ErrorCode, usize)> {
        let line = |(status, records): &(fetch::Status, Bytes)| {
            (status.index, ErrorCode(status.error_code), records.len())
        };
        self.partitions.iter().map(line).collect()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Sends records for partitions of a topic, with `acks` -1 or 1, and returns what became of each.
    pub(crate) async fn produce(
        &mut self,
        version: i16,
        acks: i16,
        topic: TopicRef<'_>,
        records: &[(i32, Bytes)],
    ) -> Vec<Produced> {
        self.send_produce(version, acks, topic, records).await;
        self.receive_produce(version).await
    }

    pub(crate) async fn receive_produce(&mut self, version: i16) -> Vec<Produced> {
        let frame = self.receive_frame().await.expect("a response");
        let (_, body) = decode_response_header(Api::Produce, version, &frame).unwrap();
        let view = produce::ResponseView::decode(version, &body).unwrap();
        let (endpoints, addresses): (Vec<_>, Vec<_>) = view
            .node_endpoints
            .map(|endpoint| (endpoint.node_id, (endpoint.host.to_owned(), endpoint.port)))
            .unzip();
        view.partitions()
            .map(|partition| Produced {
                outcome: partition.outcome,
                bad_records: partition.record_errors.map(|error| error.batch_index).collect(),
                message: partition.error_message.map(str::to_owned),
                endpoints: endpoints.clone(),
                addresses: addresses.clone(),
            })
            .collect()
    }

    pub(crate) async fn send_produce(
        &mut self,
        version: i16,
        acks: i16,
        topic: TopicRef<'_>,
        records: &[(i32, Bytes)],
    ) {
        self.send_body(Api::Produce, version, &produce_body(version, acks, topic, records)).await;
    }

    pub(crate) async fn fetch(&mut self, version: i16, request: fetch::Request<'_>) -> Fetched {
        self.send_fetch(version, request).await;
        self.receive_fetch(version).await
    }

    pub(crate) async fn send_fetch(&mut self, version: i16, request: fetch::Request<'_>) {
        self.send_body(Api::Fetch, version, &fetch_body(version, request)).await;
    }

    pub(crate) async fn receive_fetch(&mut self, version: i16) -> Fetched {
        let frame = self.receive_frame().await.expect("a response");
        let (_, body) = decode_response_header(Api::Fetch, version, &frame).unwrap();
        let view = fetch::ResponseView::decode(version, &body).unwrap();
        let (endpoints, addresses) = view
            .node_endpoints
            .map(|endpoint| (endpoint.node_id, (endpoint.host.to_owned(), endpoint.port)))
            .unzip();
        Fetched {
            code: ErrorCode(view.error_code),
            session_id: view.session_id,
            partitions: view
                .partitions()
                .map(|partition| (partition.status, body.slice_ref(partition.records)))
                .collect(),
            endpoints,
            addresses,
        }
    }
}

/// The body of a Produce request.
pub(crate) fn produce_body(
    version: i16,
    acks: i16,
    topic: TopicRef<'_>,
    records: &[(i32, Bytes)],
) -> Vec<u8> {
    let partitions = records.iter().map(|(index, records)| produce::PartitionRecords {
        topic,
        index: *index,
        records: records.clone(),
    });
    let partitions: Vec<_> = partitions.collect();
    let request =
        produce::Request { transactional_id: None, acks, timeout_ms: 1000, partitions: &partitions };
    request.encode(version, &mut BytesMut::new()).unwrap().concat()
}

/// The body of a Fetch request.
pub(crate) fn fetch_body(version: i16, request: fetch::Request<'_>) -> Vec<u8> {
    let mut body = BytesMut::new();
    request.encode(version, &mut body).unwrap();
    body.to_vec()
}

/// A fetch outside of sessions that does not wait.
pub(crate) fn fetch_request<'a>(partitions: &'a [FetchPartition<'a>]) -> fetch::Request<'a> {
    fetch::Request {
        replica_id: -1,
        replica_epoch: -1,
        cluster_id: None,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: i32::MAX,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        partitions,
        forgotten: &[],
        rack_id: "",
    }
}

/// A topic by its name.
pub(crate) fn named(name: &str) -> TopicRef<'_> {
    TopicRef { name, id: [0; 16] }
}

/// One batch with these values; `stamp` is producer id, epoch and first sequence.
pub(crate) fn batch_of(values: &[&str], stamp: Option<(i64, i16, i32)>) -> Bytes {
    let mut writer = BatchWriter::new(batch_buffer(256));
    for value in values {
        writer.append(1000, Some(b"key"), Some(value.as_bytes()), &[]).unwrap();
    }
    let mut sealed = writer.finish().unwrap();
    let stamp = stamp.map_or(NO_PRODUCER, |(producer_id, producer_epoch, base_sequence)| ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence,
    });
    sealed.stamp(stamp, false);
    sealed.freeze()
}

/// A cluster over the in-memory transport.
pub(crate) async fn memory_cluster(brokers: i32, topic: &str, partitions: i32, replication: i16) -> Cluster {
    let builder = Cluster::builder().brokers(brokers).topic(topic, partitions, replication);
    builder.transport_memory().start().await.unwrap()
}
