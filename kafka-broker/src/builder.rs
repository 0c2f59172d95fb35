//! What a cluster is built of: brokers, where they listen, settings, topics that exist from the start.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::address::NodeAddress;
use kafka_wire::error_code::ErrorCode;
use tokio::net::TcpSocket;

use crate::acl::Acl;
use crate::clock::Clock;
use crate::cluster::{Cluster, Place, Spot};
use crate::config::{self, BrokerConfigs};
use crate::controller::{Controller, NewTopic, Refusal};
use crate::image::Broker;
use crate::listener::{ClientAuth, Listener, ListenerSpec, SaslMechanism, SecurityProtocol};
use crate::log::{Endless, NullBatch};
use crate::net::{Accepting, MemoryConnector};
use crate::sasl::{Credentials, OauthKeys, TokenVerifier};
use crate::shared::Shared;
use crate::tls::{LoadedTls, ServerTls};

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
    super_users: Vec<String>,
    acls: Vec<Acl>,
    wall_ms: Option<i64>,
    seed: Option<u64>,
    listeners: Vec<ListenerSpec>,
    tls: Option<ServerTls>,
    sasl: bool,
    users: Vec<User>,
    oauth: Option<OauthKeys>,
    null: Option<NullBatch>,
}

/// A user to start with.
#[derive(Clone)]
struct User {
    name: String,
    password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("password", &"***").finish()
    }
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
            super_users: Vec::new(),
            acls: Vec::new(),
            wall_ms: None,
            seed: None,
            listeners: Vec::new(),
            tls: None,
            sasl: false,
            users: Vec::new(),
            oauth: None,
            null: None,
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

    /// Lets a principal, such as `User:admin`, do everything, whatever access control lists say. Turns the authorizer on:
    /// others may do only what an [`Acl`] allows.
    #[must_use]
    pub fn super_user(mut self, principal: impl Into<String>) -> Self {
        self.super_users.push(principal.into());
        self
    }

    /// An access control list that exists from the start. Turns the authorizer on.
    #[must_use]
    pub fn acl(mut self, acl: Acl) -> Self {
        self.acls.push(acl);
        self
    }

    /// The IP address to listen on, where a listener has none. Default `127.0.0.1`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// The port of the first broker, others take the ports after it; 0 takes any that are free. Default 0. It is the first
    /// listener's; each further one has its own.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The host that clients are told to connect to, where a listener has none. Default: the one listened on.
    #[must_use]
    pub fn advertise(mut self, host: impl Into<String>) -> Self {
        self.advertise = Some(host.into());
        self
    }

    /// TLS: with a [`TestCa`](crate::TestCa), which signs certificates for the brokers, or with your own. Without
    /// [`listener`](Self::listener) the brokers have one listener, `SSL` or with [`sasl`](Self::sasl) `SASL_SSL`.
    ///
    /// ```
    /// # use kafka_broker::{ClientAuth, Cluster, TestCa};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let ca = TestCa::new();
    /// let cluster = Cluster::builder().tls(&ca).client_auth(ClientAuth::Required).start().await?;
    /// let (trusted, mine) = (ca.ca_pem(), ca.client_certificate("alice"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: impl Into<ServerTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Whether clients are asked for certificates (`ssl.client.auth`), where a listener does not say otherwise. As in Kafka
    /// it is about `SSL` alone: a listener with `SASL_SSL` asks only if its own [`ListenerSpec::client_auth`] says so. Default:
    /// [`ClientAuth::None`].
    #[must_use]
    pub fn client_auth(self, client_auth: ClientAuth) -> Self {
        self.config("ssl.client.auth", client_auth.name())
    }

    /// Clients must authenticate by one of these mechanisms (`sasl.enabled.mechanisms`). Without
    /// [`listener`](Self::listener) the brokers have one listener, `SASL_PLAINTEXT` or with [`tls`](Self::tls) `SASL_SSL`.
    #[must_use]
    pub fn sasl(mut self, mechanisms: impl IntoIterator<Item = SaslMechanism>) -> Self {
        self.sasl = true;
        let names: Vec<&str> = mechanisms.into_iter().map(SaslMechanism::name).collect();
        self.config("sasl.enabled.mechanisms", names.join(","))
    }

    /// A user who may authenticate by this password, by PLAIN and by both kinds of SCRAM.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push(User { name: name.into(), password: password.into() });
        self
    }

    /// The tokens that are taken by OAUTHBEARER. Default: none.
    #[must_use]
    pub fn oauth(mut self, keys: OauthKeys) -> Self {
        self.oauth = Some(keys);
        self
    }

    /// How long a client may go on until it must authenticate again (`connections.max.reauth.ms`, KIP-368). Default: for
    /// ever, and with OAUTHBEARER as long as its token is good.
    #[must_use]
    pub fn session_lifetime(self, lifetime: Duration) -> Self {
        self.config("connections.max.reauth.ms", lifetime.as_millis().to_string())
    }

    /// A listener that every broker has; may be called again for more. [`Cluster::bootstrap`] gives the addresses of the
    /// first, [`Cluster::bootstrap_of`] those of any. Clients are told the addresses of the listener they came in on.
    #[must_use]
    pub fn listener(mut self, listener: ListenerSpec) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Brokers that store nothing, for measuring clients: what is produced is counted and forgotten, unchecked and without
    /// de-duplication, so that ListOffsets tells how many records came; every partition can be read from offset 0 on for
    /// ever, and gives the records of `batch` again and again. Topics, groups, offsets, listeners and faults are as ever.
    #[must_use]
    pub fn null(mut self, batch: NullBatch) -> Self {
        self.null = Some(batch);
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
        let mut configs = self.broker_configs()?;
        let network = MemoryConnector::default();
        let specs = self.specs(&configs)?;
        describe_listeners(&mut configs, &specs, &self.host);
        let places = self.places(&specs, &network)?;
        let listeners = self.listeners_of(&specs, &configs, &places)?;
        let refused = |remedy| StartError::config("oauth", "", remedy);
        let tokens = self
            .oauth
            .as_ref()
            .map(|keys| TokenVerifier::new(keys, &configs))
            .transpose()
            .map_err(refused)?;
        let brokers = places.iter().map(|place| Broker {
            id: place.id,
            address: place.first.advertised.clone(),
            more_addresses: place.more.iter().map(|spot| spot.advertised.clone()).collect(),
            rack: usize::try_from(place.id - 1)
                .ok()
                .and_then(|at| self.racks.get(at))
                .map(|rack| rack.as_str().into()),
            alive: true,
        });
        let credentials = self.credentials()?;
        let rng = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let clock = self.wall_ms.map_or_else(Clock::starting_now, Clock::starting_at);
        let null = self.null.map(|batch| endless(batch, clock.wall_ms())).transpose()?;
        let controller = Controller::new(brokers.collect(), configs, rng, credentials, null);
        for acl in self.acls {
            let described = acl.to_string();
            let checked = acl
                .check()
                .map(|()| acl)
                .map_err(|message| Refusal::new(ErrorCode::INVALID_REQUEST, message));
            for outcome in controller.create_acls(vec![checked]) {
                outcome.map_err(|refusal| StartError::config("acl", &described, refusal.message))?;
            }
        }
        for topic in self.topics {
            let numbers = (topic.partitions.unwrap_or_default(), topic.replication.unwrap_or_default());
            let described = format!("{}:{}:{}", topic.name, numbers.0, numbers.1);
            controller
                .create_topic(topic, false)
                .map_err(|refusal| StartError::config("topic", described, refusal.message))?;
        }
        Ok(Cluster::start(Arc::new(Shared::new(clock, controller, listeners, tokens)), network, places))
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
        if !self.super_users.is_empty() || !self.acls.is_empty() {
            fixed.entry("authorizer.class.name".into()).or_insert_with(|| config::AUTHORIZER.into());
        }
        if !self.super_users.is_empty() {
            let set = fixed.entry("super.users".into()).or_default();
            let all = set.split(';').chain(self.super_users.iter().map(String::as_str));
            *set = all.filter(|user| !user.is_empty()).collect::<Vec<_>>().join(";");
        }
        Ok(BrokerConfigs { fixed, dynamic: BTreeMap::new() })
    }

    fn credentials(&self) -> Result<Credentials, StartError> {
        let no_randomness = |error: getrandom::Error| StartError::config("user", "", error.to_string());
        let mut credentials = Credentials::new().map_err(no_randomness)?;
        for user in &self.users {
            if user.name.is_empty() || user.password.is_empty() {
                return Err(StartError::config("user", &user.name, "give a name and a password"));
            }
            credentials.add_user(&user.name, &user.password).map_err(no_randomness)?;
        }
        Ok(credentials)
    }

    /// The listeners that were named, or the one that the rest asks for; the first takes the cluster's port.
    fn specs(&self, configs: &BrokerConfigs) -> Result<Vec<ListenerSpec>, StartError> {
        let mut specs = self.listeners.clone();
        if specs.is_empty() && configs.fixed.contains_key("listeners") {
            specs = specs_of_configs(configs)?;
        }
        if specs.is_empty() {
            let protocol = SecurityProtocol::of(self.tls.is_some(), self.sasl);
            specs.push(ListenerSpec::new(protocol.name(), protocol));
        }
        if let Some(first) = specs.first_mut() {
            first.port = first.port.or(Some(self.port));
        }
        for (at, spec) in specs.iter().enumerate() {
            let refused = |remedy: &str| Err(StartError::config("listener", &spec.name, remedy));
            if spec.name.is_empty() || specs[..at].iter().any(|other| other.name == spec.name) {
                return refused("give each listener a name of its own");
            }
            if spec.protocol.has_tls() && self.tls.is_none() {
                return refused("give the certificate that brokers show, or a test authority that makes one");
            }
        }
        Ok(specs)
    }

    /// What each listener shows and asks of clients.
    fn listeners_of(
        &self,
        specs: &[ListenerSpec],
        configs: &BrokerConfigs,
        places: &[Place],
    ) -> Result<Vec<Arc<Listener>>, StartError> {
        let mut hosts: Vec<String> =
            places.iter().flat_map(Place::spots).map(|spot| spot.advertised.host.to_string()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let refused = |remedy| StartError::config("tls", "", remedy);
        let loaded: Option<LoadedTls> =
            self.tls.as_ref().map(|tls| tls.for_hosts(hosts)).transpose().map_err(refused)?;
        let mut listeners = Vec::new();
        for spec in specs {
            let tls = match &loaded {
                Some(loaded) if spec.protocol.has_tls() => {
                    // As in Kafka, with SASL only the listener itself can ask for certificates too (KIP-684).
                    let of_all = Some(configs.value("ssl.client.auth")).filter(|_| !spec.protocol.has_sasl());
                    let client_auth = spec.client_auth.or_else(|| of_all?.parse().ok());
                    let enabled = configs.value("ssl.enabled.protocols");
                    let config = loaded.server_config(client_auth.unwrap_or_default(), enabled);
                    Some(config.map_err(refused)?)
                }
                _ => None,
            };
            let mechanisms = match &spec.mechanisms {
                _ if !spec.protocol.has_sasl() => Vec::new(),
                Some(mechanisms) => mechanisms.clone(),
                None => config::list(configs.value("sasl.enabled.mechanisms"))
                    .filter_map(|name| name.parse().ok())
                    .collect(),
            };
            if spec.protocol.has_sasl() && mechanisms.is_empty() {
                let remedy = "name the mechanisms by which its clients may authenticate";
                return Err(StartError::config("listener", &spec.name, remedy));
            }
            listeners.push(Arc::new(Listener {
                name: spec.name.as_str().into(),
                protocol: spec.protocol,
                tls,
                mechanisms,
                session_ms: spec.session_lifetime.map_or_else(
                    || configs.number("connections.max.reauth.ms"),
                    |lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
                ),
            }));
        }
        Ok(listeners)
    }

    /// Listens for every broker.
    fn places(&self, specs: &[ListenerSpec], network: &MemoryConnector) -> Result<Vec<Place>, StartError> {
        let spot = |index, spec: &ListenerSpec, at| {
            if self.memory { self.memory_spot(index, at, spec, network) } else { self.tcp_spot(index, spec) }
        };
        let place = |index| {
            let mut spots = specs.iter().enumerate().map(|(at, spec)| spot(index, spec, at));
            let none = || StartError::config("listener", "", "a broker has to listen somewhere");
            let first = spots.next().ok_or_else(none)??;
            Ok(Place { id: index + 1, first, more: spots.collect::<Result<_, _>>()? })
        };
        (0..self.brokers).map(place).collect()
    }

    fn memory_spot(
        &self,
        index: i32,
        at: usize,
        spec: &ListenerSpec,
        network: &MemoryConnector,
    ) -> Result<Spot, StartError> {
        // A name that no resolver knows: a client without the connector fails, and reaches nobody else's broker.
        let own = || format!("broker-{}", index + 1);
        let base = u16::try_from(9092 + at).unwrap_or(u16::MAX);
        let (host, port) = match &spec.advertise {
            Some(host) => (host.clone(), nth_port(spec.advertise_port.unwrap_or(base), index, self.brokers)?),
            None => (own(), base),
        };
        let advertised = NodeAddress::new(host, port);
        let accepting = Accepting::Memory(network.listen(advertised.clone()));
        Ok(Spot { advertised, bound: None, accepting })
    }

    fn tcp_spot(&self, index: i32, spec: &ListenerSpec) -> Result<Spot, StartError> {
        let host = spec.host.as_deref().unwrap_or(&self.host);
        let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
            let remedy = "give an IP address to listen on; names go to advertise";
            StartError::config("host", host, remedy)
        })?;
        let port = match spec.port.unwrap_or_default() {
            0 => 0,
            first => nth_port(first, index, self.brokers)?,
        };
        let wanted = SocketAddr::new(ip, port);
        let bind = |source| StartError::Bind { address: wanted.to_string(), source };
        let listener = bind_socket(wanted).and_then(|socket| socket.listen(BACKLOG)).map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        let host = match spec.advertise.as_ref().or(self.advertise.as_ref()) {
            Some(host) => host.clone(),
            // "Every address" is none that a client could connect to.
            None if ip.is_unspecified() && ip.is_ipv6() => "::1".to_owned(),
            None if ip.is_unspecified() => "127.0.0.1".to_owned(),
            None => ip.to_string(),
        };
        let port = match spec.advertise_port {
            Some(first) => nth_port(first, index, self.brokers)?,
            None => bound.port(),
        };
        let advertised = NodeAddress::new(host, port);
        Ok(Spot { advertised, bound: Some(bound), accepting: Accepting::Tcp(listener) })
    }
}

fn endless(batch: NullBatch, now_ms: i64) -> Result<Arc<Endless>, StartError> {
    let refused = |remedy: String| StartError::config("null", format!("{batch:?}"), remedy);
    batch.check().map_err(|remedy| refused(remedy.to_owned()))?;
    Endless::new(batch, now_ms).map(Arc::new).map_err(|error| refused(error.to_string()))
}

/// Kafka's way to name listeners: `listeners`, `listener.security.protocol.map` and `advertised.listeners`.
fn specs_of_configs(configs: &BrokerConfigs) -> Result<Vec<ListenerSpec>, StartError> {
    let refused = |setting: &str, remedy: String| StartError::config(setting, configs.value(setting), remedy);
    let pair = |entry: &str, by: &str| entry.split_once(by).map(|(a, b)| (a.to_owned(), b.to_owned()));
    let pairs = |setting: &str, by: &str, shape: &str| {
        let pairs: Option<Vec<_>> =
            config::list(configs.value(setting)).map(|entry| pair(entry, by)).collect();
        pairs.ok_or_else(|| refused(setting, format!("write each as {shape}")))
    };
    let protocols = pairs("listener.security.protocol.map", ":", "NAME:PROTOCOL")?;
    let advertised = pairs("advertised.listeners", "://", "NAME://HOST:PORT")?;
    let mut specs = Vec::new();
    for (name, address) in pairs("listeners", "://", "NAME://HOST:PORT")? {
        let protocol = protocols.iter().find(|(known, _)| *known == name);
        let (_, protocol) = protocol.ok_or_else(|| {
            let remedy = format!("name the protocol of {name} in listener.security.protocol.map");
            refused("listeners", remedy)
        })?;
        let told = advertised.iter().find(|(known, _)| *known == name);
        let told = told.map(|(_, told)| format!(",{told}")).unwrap_or_default();
        let spec = format!("{name}={protocol}://{address}{told}").parse();
        specs.push(spec.map_err(|remedy| refused("listeners", remedy))?);
    }
    Ok(specs)
}

/// Has DescribeConfigs say what the brokers listen on, however that was told.
fn describe_listeners(configs: &mut BrokerConfigs, specs: &[ListenerSpec], host: &str) {
    let join = |line: &dyn Fn(&ListenerSpec) -> String| specs.iter().map(line).collect::<Vec<_>>().join(",");
    let host = |spec: &ListenerSpec| spec.host.clone().unwrap_or_else(|| host.to_owned());
    let listeners = join(&|spec| format!("{}://{}:{}", spec.name, host(spec), spec.port.unwrap_or_default()));
    let protocols = join(&|spec| format!("{}:{}", spec.name, spec.protocol));
    for (name, value) in [("listeners", listeners), ("listener.security.protocol.map", protocols)] {
        configs.fixed.entry(name.to_owned()).or_insert(value);
    }
}

/// The port of the broker with this index, if the first one has `first`.
fn nth_port(first: u16, index: i32, brokers: i32) -> Result<u16, StartError> {
    u16::try_from(i32::from(first) + index).map_err(|_| {
        StartError::config("port", first, format!("{brokers} brokers need as many ports up to 65535"))
    })
}

/// A socket that holds its port and does not listen yet.
pub(crate) fn bind_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted broker must get its port back while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
