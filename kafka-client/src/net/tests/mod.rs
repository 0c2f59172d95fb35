//! A scripted broker at the other end of in-memory pipes, on tokio's paused clock.

mod allocations;
mod hostile;
mod layers;
mod lifetime;
mod pipelining;
mod sasl;
mod tcp;
mod throttling;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, Request};
use kafka_wire::frame::{FrameDecoder, MAX_FRAME};
use kafka_wire::header::{self, RequestHeader};
use kafka_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, api_versions_response::ApiVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower_service::Service;

use super::pool::Pool;
use super::service::UserLayer;
use super::transport::Transport;
use super::{BrokerRequest, BrokerResponse, Connection, Lane, Owner};
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;

const SECOND: Duration = Duration::from_secs(1);
const NODE: i32 = 1;

/// Hands the far end of every pipe to the test.
#[derive(Clone)]
struct Pipes {
    far_ends: mpsc::UnboundedSender<DuplexStream>,
    capacity: usize,
}

impl Service<NodeAddress> for Pipes {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: NodeAddress) -> Self::Future {
        let (near, far) = tokio::io::duplex(self.capacity);
        let sent = self.far_ends.send(far);
        std::future::ready(sent.map(|()| near).map_err(|_| io::ErrorKind::ConnectionRefused.into()))
    }
}

/// A pool, and the brokers' ends of its connections.
struct Fixture {
    pool: Option<Pool>,
    owner: Owner,
    metrics: Arc<Metrics>,
    far_ends: mpsc::UnboundedReceiver<DuplexStream>,
}

fn config() -> ClientConfig {
    ClientConfig { client_id: "test".into(), seed: Some(7), ..ClientConfig::default() }
}

fn address() -> NodeAddress {
    NodeAddress::new("broker", 9092)
}

impl Fixture {
    fn new() -> Self {
        Self::with(config(), Vec::new(), 1 << 20)
    }

    fn with(config: ClientConfig, layers: Vec<UserLayer>, capacity: usize) -> Self {
        let (sender, far_ends) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let transport = Transport::user(Pipes { far_ends: sender, capacity });
        let pool = Pool::new(&config, transport, layers, metrics.clone());
        let owner = pool.owner();
        Self { pool: Some(pool), owner, metrics, far_ends }
    }

    fn pool(&self) -> &Pool {
        self.pool.as_ref().unwrap()
    }

    /// The broker's end of the next connection.
    async fn accept(&mut self) -> Peer {
        Peer::new(self.far_ends.recv().await.unwrap())
    }

    /// A ready connection, and the broker's end of it.
    async fn connect(&mut self, lane: Lane) -> (Connection, Peer) {
        let (pool, owner) = (self.pool.take().unwrap(), self.owner.clone());
        let address = address();
        let (connection, peer) = tokio::join!(pool.connection(NODE, &address, lane, &owner), async {
            let mut peer = self.accept().await;
            peer.shake_hands().await;
            peer
        });
        self.pool = Some(pool);
        (connection.unwrap(), peer)
    }
}

/// The broker's end of a connection; each test says what it does.
struct Peer {
    stream: DuplexStream,
    decoder: FrameDecoder,
    received: BytesMut,
}

/// A request as the broker sees it.
#[derive(Debug, Clone)]
struct Asked {
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: Option<String>,
    body: Bytes,
}

impl Peer {
    fn new(stream: DuplexStream) -> Self {
        Self { stream, decoder: FrameDecoder::new(MAX_FRAME), received: BytesMut::new() }
    }

    /// The next request; `None` when the client has closed the connection.
    async fn next(&mut self) -> Option<Asked> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.received).unwrap() {
                let (header, body) = RequestHeader::decode(&frame).unwrap();
                return Some(Asked {
                    api: header.api,
                    version: header.version,
                    correlation_id: header.correlation_id,
                    client_id: header.client_id.map(str::to_owned),
                    body,
                });
            }
            if self.stream.read_buf(&mut self.decoder.room(&mut self.received)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn asked(&mut self) -> Asked {
        self.next().await.expect("the client closed the connection")
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn answer(&mut self, asked: &Asked, body: &[u8]) {
        self.send(&answer(asked.api, asked.version, asked.correlation_id, body)).await;
    }

    /// Answers `ApiVersions` with everything that this crate speaks.
    async fn shake_hands(&mut self) {
        self.shake_hands_throttling(0).await;
    }

    /// As [`shake_hands`](Self::shake_hands); the answer mutes the connection for so many milliseconds.
    async fn shake_hands_throttling(&mut self, millis: i32) {
        let asked = self.asked().await;
        assert_eq!(asked.api, Api::ApiVersions);
        let body = api_versions(asked.version, 0, millis);
        self.answer(&asked, &body).await;
    }

    /// Waits until the client closes the connection, reading on.
    async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// A whole response frame.
fn answer(api: Api, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let header = header::encode_response_header(api, version, correlation_id, body.len()).unwrap();
    [&header, body].concat()
}

fn api_versions(version: i16, error_code: i16, throttle_ms: i32) -> Bytes {
    let keys = Api::ALL.iter().map(|api| {
        let versions = api.versions();
        ApiVersion::default()
            .with_api_key(api.key())
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    let response = ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(keys.collect())
        .with_throttle_time_ms(throttle_ms);
    let mut body = BytesMut::new();
    ApiVersionsRequest::encode_response(&response, version, &mut body).unwrap();
    body.freeze()
}

/// A heartbeat: the smallest request, and one whose answer begins with the throttle time.
fn request(connection: &Connection, body: &'static [u8]) -> BrokerRequest {
    connection.request(Api::Heartbeat, 4, vec![Bytes::from_static(body)])
}

type Call = JoinHandle<Result<BrokerResponse>>;

/// Calls in a task, and waits until the request is queued.
async fn start(connection: &Connection, request: BrokerRequest) -> Call {
    let progress = request.progress.clone();
    let connection = connection.clone();
    let call = tokio::spawn(async move { connection.call(request).await });
    progress.queued().await;
    call
}

/// Whether the future is still waiting after everything else has done what it can.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

fn reason(error: &Error) -> &str {
    match error.kind() {
        ErrorKind::Disconnected { reason, .. } => reason,
        other => panic!("not a disconnect: {other:?}"),
    }
}
