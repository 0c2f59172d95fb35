//! The handle to a cluster that all roles are built on, and its builder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::address::NodeAddress;
use kafka_wire::api::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;
use tower_service::Service;

use crate::auth::Sasl;
use crate::cluster::Cluster;
use crate::cluster::metadata::Metadata;
use crate::cluster::refresh::Refresher;
use crate::cluster::route::{Call, Route};
use crate::config::{ClientConfig, MetadataRecovery, SETTINGS};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::{BrokerRequest, BrokerResponse, BrokerService};
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::net::pool::Pool;
use crate::net::service::UserLayer;
use crate::net::transport::Transport;
use crate::net::{Connection, Lane, Owner};
use crate::properties::security::Security;
use crate::properties::{self, Properties, PropertiesReport, Role};
use crate::serde::BoxError;
use crate::tls::{Tls, TlsConnector};
use crate::types::NodeId;

/// A cluster and the connections to it. Clones are handles to the same client; producers, consumers and admins are
/// built on one and share it.
///
/// It has no runtime of its own: its tasks run on the tokio runtime from which it is used, and end when the last
/// handle is dropped.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    cluster: Arc<Cluster>,
    refresher: Refresher,
    metrics: Arc<Metrics>,
}

impl Client {
    /// Begins a client of the cluster that has brokers at `bootstrap`, a list such as `kafka-1:9092,kafka-2:9092`.
    pub fn builder(bootstrap: impl Into<String>) -> ClientBuilder {
        let mut builder = ClientBuilder::new();
        let bootstrap = bootstrap.into();
        match NodeAddress::parse_list(&bootstrap) {
            Ok(addresses) => builder.config.bootstrap = addresses,
            Err(error) => {
                let remedy = format!("{error}; give a list like kafka-1:9092,kafka-2:9092");
                builder.error = Some(Error::config("bootstrap.servers", bootstrap, remedy));
            }
        }
        builder
    }

    /// Begins a client from settings under Java's or librdkafka's property names, and reports what it made of them.
    /// A bad value fails the build; what settings cannot say about [`tls`](ClientBuilder::tls) and
    /// [`sasl`](ClientBuilder::sasl) can be given to the builder instead.
    ///
    /// ```
    /// use kafka_client::Client;
    ///
    /// let (builder, report) = Client::from_properties(&"bootstrap.servers=kafka-1:9092\nclient.idd=x".parse()?);
    /// assert_eq!(report.unknown()[0].suggestion, Some("client.id"));
    /// let client = builder.build()?;
    /// # Ok::<(), kafka_client::Error>(())
    /// ```
    pub fn from_properties(properties: &Properties) -> (ClientBuilder, PropertiesReport) {
        let mut builder = ClientBuilder::new();
        let mut report = properties::apply(SETTINGS, Role::Client, properties, &mut builder.config);
        builder.error = report.bad_value();
        let Security { tls, sasl } = Security::read(properties);
        match tls {
            Some(Ok(tls)) => builder = builder.tls(tls),
            Some(Err(bad)) => {
                builder.no_tls = Some(bad.error());
                report.add(bad);
            }
            None => {}
        }
        match sasl {
            Some(Ok(sasl)) => builder = builder.sasl(sasl),
            Some(Err(bad)) => {
                builder.no_sasl = Some(bad.error());
                report.add(bad);
            }
            None => {}
        }
        (builder, report)
    }

    /// A client with default settings, once a first broker is known.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn connect(bootstrap: impl Into<String>) -> Result<Self> {
        Self::builder(bootstrap).connect().await
    }

    /// The settings in force.
    pub fn config(&self) -> &ClientConfig {
        &self.0.cluster.config
    }

    /// Counts and times of everything so far.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.0.metrics.snapshot()
    }

    /// What is known of the cluster now; nothing, before a first broker answered.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.0.cluster.metadata()
    }

    /// What keeps the metadata fresh.
    pub fn refresher(&self) -> &Refresher {
        self.0.cluster.start();
        &self.0.refresher
    }

    /// An owner of connections of its own, such as a producer's. They close when its last clone is dropped.
    pub fn owner(&self) -> Owner {
        self.0.cluster.pool.owner()
    }

    /// Sends a request where it belongs and waits for the answer; error codes inside the answer are the caller's.
    ///
    /// # Errors
    /// As [`Call::send`].
    ///
    /// # Cancel safety
    /// As [`Call::send`].
    pub async fn call<R: Request + Sync>(&self, route: Route, request: R) -> Result<R::Response> {
        self.request(route).send_one(&request).await.map(|answer| answer.response)
    }

    /// As [`call`](Self::call), with a request that depends on the version that the broker speaks.
    ///
    /// # Errors
    /// As [`Call::send`].
    ///
    /// # Cancel safety
    /// As [`Call::send`].
    pub async fn call_with<R: Request>(
        &self,
        route: Route,
        make: impl Fn(i16) -> Result<R> + Send + Sync,
    ) -> Result<R::Response> {
        self.request(route).send(make).await.map(|answer| answer.response)
    }

    /// Begins a request with a deadline, a connection or a number of attempts of its own.
    pub fn request(&self, route: Route) -> Call<'_> {
        Call::new(&self.0.cluster, route)
    }

    /// A connection to a broker, ready for requests.
    ///
    /// # Errors
    /// [`UnknownNode`](ErrorKind::UnknownNode) if the metadata names no such broker, or why it cannot be connected
    /// to. One attempt; a wait that an earlier failure demands comes first. [`Config`](ErrorKind::Config) if the owner is
    /// another client's.
    ///
    /// # Cancel safety
    /// Others who wait for the same connection still get it.
    pub async fn connection(&self, node: NodeId, lane: Lane, owner: &Owner) -> Result<Connection> {
        let metadata = self.metadata();
        let broker = metadata.broker(node).ok_or(ErrorKind::UnknownNode(node))?;
        self.0.cluster.pool.connection(node, &broker.address, lane, owner).await
    }

    /// The broker that a route leads to at the moment; waits, until the deadline, for what is not known at all.
    ///
    /// # Errors
    /// [`NoLeader`](ErrorKind::NoLeader), [`UnknownNode`](ErrorKind::UnknownNode), the failure of the look-up, or
    /// [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn resolve(&self, route: &Route, deadline: Instant) -> Result<NodeId> {
        let start = Instant::now();
        let resolved = timeout_at(deadline, self.0.cluster.resolve(route, &[], deadline)).await;
        let resolved =
            resolved.unwrap_or_else(|_| Err(Error::timed_out(format!("finding {route}"), start.elapsed())));
        resolved.map(|broker| broker.id)
    }

    /// Tells that the broker which a route led to, or whichever it leads to now, is not the right one or has been
    /// silent for too long, as `NOT_COORDINATOR` does for a part of a request; the next look finds another.
    pub fn forget(&self, route: &Route, node: impl Into<Option<NodeId>>) {
        self.0.cluster.unreachable(route, node.into());
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config();
        f.debug_struct("Client")
            .field("client_id", &config.client_id)
            .field("bootstrap", &config.bootstrap)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cluster.shut_down();
    }
}

/// Settings of a client to be; see [`ClientConfig`] for what each means and its default.
#[derive(Debug)]
#[must_use = "nothing happens before `build` or `connect`"]
pub struct ClientBuilder {
    config: ClientConfig,
    layers: Vec<UserLayer>,
    connector: Option<Transport>,
    /// The first mistake that was made, told by `build`.
    error: Option<Error>,
    /// Why the properties ask for TLS in a way that cannot be had; for SASL the same.
    no_tls: Option<Error>,
    no_sasl: Option<Error>,
}

impl ClientBuilder {
    fn new() -> Self {
        Self {
            config: ClientConfig::default(),
            layers: Vec::new(),
            connector: None,
            error: None,
            no_tls: None,
            no_sasl: None,
        }
    }

    /// The name under which brokers log and throttle this client (`client.id`). Empty by default.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.config.client_id = client_id.into();
        self
    }

    /// How long an answer may take before its connection is closed (`request.timeout.ms`). 30 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How long a call may take with all its attempts (`default.api.timeout.ms`). 60 s by default.
    pub fn default_api_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_api_timeout = timeout;
        self
    }

    /// How long a connection may take until it is ready, at first and after many failures
    /// (`socket.connection.setup.timeout.ms`, `…max.ms`). 10 s and 30 s by default.
    pub fn connection_setup_timeout(mut self, first: Duration, max: Duration) -> Self {
        self.config.connection_setup_timeout = first;
        self.config.connection_setup_timeout_max = max;
        self
    }

    /// The wait after a first failed connection, and after many (`reconnect.backoff.ms`, `…max.ms`). 50 ms and 1 s by
    /// default.
    pub fn reconnect_backoff(mut self, first: Duration, max: Duration) -> Self {
        self.config.reconnect_backoff = first;
        self.config.reconnect_backoff_max = max;
        self
    }

    /// The wait after a first failed request, and after many (`retry.backoff.ms`, `…max.ms`). 100 ms and 1 s by
    /// default.
    pub fn retry_backoff(mut self, first: Duration, max: Duration) -> Self {
        self.config.retry_backoff = first;
        self.config.retry_backoff_max = max;
        self
    }

    /// How long an unused connection stays open (`connections.max.idle.ms`); `None` for ever. 9 min by default.
    pub fn connections_max_idle(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.config.connections_max_idle = idle.into();
        self
    }

    /// How old metadata may become (`metadata.max.age.ms`). 5 min by default.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.config.metadata_max_age = age;
        self
    }

    /// What to do when no known broker can be reached (`metadata.recovery.strategy`). By default the bootstrap
    /// addresses are used again.
    pub fn metadata_recovery(mut self, recovery: MetadataRecovery) -> Self {
        self.config.metadata_recovery = recovery;
        self
    }

    /// How long metadata may be unobtainable before the bootstrap addresses are used again
    /// (`metadata.recovery.rebootstrap.trigger.ms`). 5 min by default.
    pub fn rebootstrap_trigger(mut self, after: Duration) -> Self {
        self.config.rebootstrap_trigger = after;
        self
    }

    /// The largest answer that is accepted, in bytes. 100 MiB by default.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// The sizes of a socket's buffers, in bytes (`send.buffer.bytes`, `receive.buffer.bytes`). The operating system's
    /// choice by default.
    pub fn socket_buffers(
        mut self,
        send: impl Into<Option<usize>>,
        receive: impl Into<Option<usize>>,
    ) -> Self {
        self.config.send_buffer_bytes = send.into();
        self.config.receive_buffer_bytes = receive.into();
        self
    }

    /// Proves to brokers who the client is (`sasl.mechanism`, `sasl.jaas.config`). By default nothing is proved.
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.config.sasl = Some(sasl);
        self.no_sasl = None;
        self
    }

    /// Encrypts connections, also those of a [`connector`](Self::connector) (`security.protocol`, `ssl.*`). Plaintext by
    /// default.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = Some(tls);
        self.no_tls = None;
        self
    }

    /// Makes every random choice, such as jitter, repeatable, for tests. Random by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Puts a layer around every connection; the first one given is the outermost. See [`layers`](crate::layers).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BrokerService> + Send + Sync + 'static,
        L::Service: Service<BrokerRequest, Response = BrokerResponse> + Clone + Send + Sync + 'static,
        <L::Service as Service<BrokerRequest>>::Error: Into<BoxError>,
        <L::Service as Service<BrokerRequest>>::Future: Send + 'static,
    {
        self.layers.push(UserLayer::new(layer));
        self
    }

    /// Opens streams to brokers in another way than by TCP: through a proxy, or in memory.
    pub fn connector<C>(mut self, connector: C) -> Self
    where
        C: Service<NodeAddress> + Clone + Send + 'static,
        C::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send + 'static,
    {
        self.connector = Some(Transport::user(connector));
        self
    }

    /// The client. No connection is opened before it is used, so the cluster may be down; files with certificates are
    /// read.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): the first setting that cannot work, its value, and what to give instead.
    pub fn build(self) -> Result<Client> {
        if let Some(error) = self.error.or(self.no_tls).or(self.no_sasl) {
            return Err(error);
        }
        self.config.validate()?;
        let config = self.config.bounded();
        let metrics = Arc::new(Metrics::new());
        let transport = self.connector.unwrap_or(Transport::Tcp {
            send_buffer: config.send_buffer_bytes,
            receive_buffer: config.receive_buffer_bytes,
        });
        let transport = match &config.tls {
            Some(tls) => transport.encrypted(TlsConnector::new(tls)?),
            None => transport,
        };
        let pool = Pool::new(&config, transport, self.layers, metrics.clone());
        let cluster = Arc::new(Cluster::new(config, pool));
        Ok(Client(Arc::new(Inner { refresher: Refresher::new(cluster.clone()), cluster, metrics })))
    }

    /// The client, once a first broker answered; it is tried for as long as `default.api.timeout.ms`.
    ///
    /// # Errors
    /// As [`build`](Self::build), or [`TimedOut`](ErrorKind::TimedOut) with the last failure as its source.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn connect(self) -> Result<Client> {
        let client = self.build()?;
        let deadline = Instant::now() + client.config().default_api_timeout;
        client.0.cluster.ready(deadline).await?;
        Ok(client)
    }
}
