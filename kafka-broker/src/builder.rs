//! What a cluster is built of: brokers, where they listen, settings, topics that exist from the start.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kafka_wire::address::NodeAddress;
use tokio::net::TcpSocket;

use crate::clock::Clock;
use crate::cluster::{Cluster, Place};
use crate::config::{self, BrokerConfigs};
use crate::controller::{Controller, NewTopic};
use crate::image::Broker;
use crate::net::{Listener, MemoryConnector};
use crate::shared::Shared;

/// What a socket lets wait before it refuses connections.
const BACKLOG: u32 = 1024;

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting has a value that it cannot have.
    #[error("{setting} = {value}: {remedy}")]
    Config {
        /// The setting.
        setting: String,
        /// The value given.
        value: String,
        /// What to do about it.
        remedy: String,
    },
    /// A broker cannot listen where it should.
    #[error("cannot listen at {address}: {source}; choose another port, or port 0 for any that is free")]
    Bind {
        /// Where it should listen.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}

impl StartError {
    fn config(setting: impl Into<String>, value: impl ToString, remedy: impl Into<String>) -> Self {
        Self::Config { setting: setting.into(), value: value.to_string(), remedy: remedy.into() }
    }
}

/// Builds a [`Cluster`]; made by [`Cluster::builder`].
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    brokers: i32,
    host: String,
    port: u16,
    advertise: Option<String>,
    memory: bool,
    racks: Vec<String>,
    configs: Vec<(String, String)>,
    topics: Vec<NewTopic>,
    wall_ms: Option<i64>,
    seed: Option<u64>,
}

impl ClusterBuilder {
    pub(crate) fn new() -> Self {
        Self {
            brokers: 1,
            host: "127.0.0.1".into(),
            port: 0,
            advertise: None,
            memory: false,
            racks: Vec::new(),
            configs: Vec::new(),
            topics: Vec::new(),
            wall_ms: None,
            seed: None,
        }
    }

    /// How many brokers, with ids from 1. Default 1.
    #[must_use]
    pub fn brokers(mut self, count: i32) -> Self {
        self.brokers = count;
        self
    }

    /// A topic that exists from the start.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>, partitions: i32, replication: i16) -> Self {
        let (partitions, replication) = (Some(partitions), Some(replication));
        self.topics.push(NewTopic { name: name.into(), partitions, replication, ..NewTopic::default() });
        self
    }

    /// A setting of the topic that was named last, by its Kafka name.
    #[must_use]
    pub fn topic_config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Some(topic) = self.topics.last_mut() {
            topic.configs.insert(name.into(), value.into());
        }
        self
    }

    /// A broker setting by its Kafka name, for all brokers.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    /// The racks of the brokers, in the order of their ids; one that is missing has none. As in Kafka, consumers are sent to
    /// the replica in their rack only with `replica.selector.class` set to
    /// `org.apache.kafka.common.replica.RackAwareReplicaSelector`.
    #[must_use]
    pub fn racks<R: Into<String>>(mut self, racks: impl IntoIterator<Item = R>) -> Self {
        self.racks = racks.into_iter().map(Into::into).collect();
        self
    }

    /// The IP address to listen on. Default `127.0.0.1`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// The port of the first broker, others take the ports after it; 0 takes any that are free. Default 0.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The host that clients are told to connect to. Default: the one listened on.
    #[must_use]
    pub fn advertise(mut self, host: impl Into<String>) -> Self {
        self.advertise = Some(host.into());
        self
    }

    /// No sockets: clients connect through [`Cluster::connector`]. Needed on a runtime whose clock is paused.
    #[must_use]
    pub fn transport_memory(mut self) -> Self {
        self.memory = true;
        self
    }

    /// TCP sockets, the default.
    #[must_use]
    pub fn transport_tcp(mut self) -> Self {
        self.memory = false;
        self
    }

    /// The wall time at the start, in milliseconds since the Unix epoch. Default: the machine's.
    #[must_use]
    pub fn wall_time_ms(mut self, milliseconds: i64) -> Self {
        self.wall_ms = Some(milliseconds);
        self
    }

    /// Repeats the ids of a run with the same seed. Default: other ids each time.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the brokers on the current runtime. They accept connections, and every topic has leaders, when this returns.
    ///
    /// # Errors
    /// A bad setting or topic, or an address that is taken.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn start(self) -> Result<Cluster, StartError> {
        if !(1..=1000).contains(&self.brokers) {
            return Err(StartError::config("brokers", self.brokers, "give a number from 1 to 1000"));
        }
        let configs = self.broker_configs()?;
        let network = MemoryConnector::default();
        let places = self.places(&network)?;
        let brokers = places.iter().map(|place| Broker {
            id: place.id,
            address: place.advertised.clone(),
            rack: usize::try_from(place.id - 1)
                .ok()
                .and_then(|at| self.racks.get(at))
                .map(|rack| rack.as_str().into()),
            alive: true,
        });
        let rng = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let controller = Controller::new(brokers.collect(), configs, rng);
        for topic in self.topics {
            let numbers = (topic.partitions.unwrap_or_default(), topic.replication.unwrap_or_default());
            let described = format!("{}:{}:{}", topic.name, numbers.0, numbers.1);
            controller
                .create_topic(topic, false)
                .map_err(|refusal| StartError::config("topic", described, refusal.message))?;
        }
        let clock = self.wall_ms.map_or_else(Clock::starting_now, Clock::starting_at);
        Ok(Cluster::start(Arc::new(Shared::new(clock, controller)), network, places))
    }

    fn broker_configs(&self) -> Result<BrokerConfigs, StartError> {
        let mut fixed = BTreeMap::new();
        for (name, value) in &self.configs {
            let unknown = || {
                let remedy = match config::topic_config(name).and_then(|def| def.broker_name) {
                    Some(broker_name) => format!("this is a topic's setting; the brokers' is {broker_name}"),
                    None => "no broker setting has this name".to_owned(),
                };
                StartError::config(name, value, remedy)
            };
            let def = config::broker_config(name).ok_or_else(unknown)?;
            def.check(value).map_err(|remedy| StartError::config(name, value, remedy))?;
            fixed.insert(name.clone(), value.clone());
        }
        Ok(BrokerConfigs { fixed, dynamic: BTreeMap::new() })
    }

    /// Listens for every broker.
    fn places(&self, network: &MemoryConnector) -> Result<Vec<Place>, StartError> {
        (0..self.brokers)
            .map(
                |index| {
                    if self.memory { Ok(self.memory_place(index, network)) } else { self.tcp_place(index) }
                },
            )
            .collect()
    }

    fn memory_place(&self, index: i32, network: &MemoryConnector) -> Place {
        let id = index + 1;
        // A name that no resolver knows: a client without the connector fails, and reaches nobody else's broker.
        let advertised = NodeAddress::new(format!("broker-{id}"), 9092);
        let listener = Listener::Memory(network.listen(advertised.clone()));
        Place { id, advertised, bound: None, listener }
    }

    fn tcp_place(&self, index: i32) -> Result<Place, StartError> {
        let ip: std::net::IpAddr =
            self.host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
                StartError::config(
                    "host",
                    &self.host,
                    "give an IP address to listen on; names go to advertise",
                )
            })?;
        let port = match self.port {
            0 => 0,
            first => u16::try_from(i32::from(first) + index).map_err(|_| {
                StartError::config(
                    "port",
                    first,
                    format!("{} brokers need as many ports up to 65535", self.brokers),
                )
            })?,
        };
        let wanted = SocketAddr::new(ip, port);
        let bind = |source| StartError::Bind { address: wanted.to_string(), source };
        let listener = bind_socket(wanted).and_then(|socket| socket.listen(BACKLOG)).map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        let host = match &self.advertise {
            Some(host) => host.clone(),
            // "Every address" is none that a client could connect to.
            None if ip.is_unspecified() && ip.is_ipv6() => "::1".to_owned(),
            None if ip.is_unspecified() => "127.0.0.1".to_owned(),
            None => ip.to_string(),
        };
        let advertised = NodeAddress::new(host, bound.port());
        Ok(Place { id: index + 1, advertised, bound: Some(bound), listener: Listener::Tcp(listener) })
    }
}

/// A socket that holds its port and does not listen yet.
pub(crate) fn bind_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted broker must get its port back while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
