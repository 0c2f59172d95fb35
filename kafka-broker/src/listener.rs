//! Where brokers listen and what clients must show there: listeners by name and protocol.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

/// What a listener speaks, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// `PLAINTEXT`: no encryption, everyone is `User:ANONYMOUS`.
    Plaintext,
    /// `SSL`: TLS, and by their certificates clients may be known.
    Ssl,
    /// `SASL_PLAINTEXT`: clients authenticate, without encryption.
    SaslPlaintext,
    /// `SASL_SSL`: clients authenticate inside TLS.
    SaslSsl,
}

impl SecurityProtocol {
    const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// Kafka's name for it, such as `SASL_SSL`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether clients must authenticate by SASL.
    #[must_use]
    pub const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub(crate) const fn of(tls: bool, sasl: bool) -> Self {
        match (tls, sasl) {
            (false, false) => Self::Plaintext,
            (true, false) => Self::Ssl,
            (false, true) => Self::SaslPlaintext,
            (true, true) => Self::SaslSsl,
        }
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SecurityProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "give PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL".to_owned())
    }
}

/// Whether a listener with TLS asks clients for certificates: Kafka's `ssl.client.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientAuth {
    /// It does not ask.
    #[default]
    None,
    /// A client may show one; one that shows a bad one is refused.
    Requested,
    /// A client without a good one is refused.
    Required,
}

impl ClientAuth {
    /// Kafka's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Requested => "requested",
            Self::Required => "required",
        }
    }
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found =
            [Self::None, Self::Requested, Self::Required].into_iter().find(|word| word.name() == text);
        found.ok_or_else(|| "give none, requested or required".to_owned())
    }
}

/// How a client proves by SASL who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SaslMechanism {
    /// `PLAIN`: name and password.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
    /// `OAUTHBEARER`: a token.
    OauthBearer,
}

impl SaslMechanism {
    const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SaslMechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mechanism| mechanism.name() == text);
        found.ok_or_else(|| "give PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER".to_owned())
    }
}

/// A listener that every broker of a cluster has.
///
/// ```
/// use kafka_broker::{ClientAuth, ListenerSpec, SaslMechanism};
/// let inside = ListenerSpec::ssl("INTERNAL").client_auth(ClientAuth::Required);
/// let outside = ListenerSpec::sasl_ssl("EXTERNAL").sasl([SaslMechanism::ScramSha512]).advertise("kafka.test");
/// ```
#[derive(Debug, Clone)]
pub struct ListenerSpec {
    pub(crate) name: String,
    pub(crate) protocol: SecurityProtocol,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) advertise: Option<String>,
    pub(crate) advertise_port: Option<u16>,
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) mechanisms: Option<Vec<SaslMechanism>>,
    pub(crate) session_lifetime: Option<Duration>,
}

impl ListenerSpec {
    /// A listener with this name, which clients never see, and this protocol.
    #[must_use]
    pub fn new(name: impl Into<String>, protocol: SecurityProtocol) -> Self {
        Self {
            name: name.into(),
            protocol,
            host: None,
            port: None,
            advertise: None,
            advertise_port: None,
            client_auth: None,
            mechanisms: None,
            session_lifetime: None,
        }
    }

    /// One without encryption or authentication.
    #[must_use]
    pub fn plaintext(name: impl Into<String>) -> Self {
        Self::new(name, SecurityProtocol::Plaintext)
    }

    /// One with TLS.
    #[must_use]
    pub fn ssl(name: impl Into<String>) -> Self {
        Self::new(name, SecurityProtocol::Ssl)
    }

    /// One with SASL.
    #[must_use]
    pub fn sasl_plaintext(name: impl Into<String>) -> Self {
        Self::new(name, SecurityProtocol::SaslPlaintext)
    }

    /// One with SASL inside TLS.
    #[must_use]
    pub fn sasl_ssl(name: impl Into<String>) -> Self {
        Self::new(name, SecurityProtocol::SaslSsl)
    }

    /// The IP address to listen on. Default: the cluster's.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The port of the first broker, others take the ports after it. Default 0, any that are free.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The host that clients of this listener are told to connect to. Default: the cluster's, else the one listened on.
    #[must_use]
    pub fn advertise(mut self, host: impl Into<String>) -> Self {
        self.advertise = Some(host.into());
        self
    }

    /// The port of the first broker that clients of this listener are told; others are told those after it. Default: the
    /// one listened on.
    #[must_use]
    pub fn advertise_port(mut self, port: u16) -> Self {
        self.advertise_port = Some(port);
        self
    }

    /// Whether clients are asked for certificates. Default: the cluster's with `SSL`, and none with `SASL_SSL`, as in Kafka
    /// (KIP-684); matters with TLS only.
    #[must_use]
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// The mechanisms that clients may use. Default: the cluster's; matters with SASL only.
    #[must_use]
    pub fn sasl(mut self, mechanisms: impl IntoIterator<Item = SaslMechanism>) -> Self {
        self.mechanisms = Some(mechanisms.into_iter().collect());
        self
    }

    /// How long a client may go on until it must authenticate again (KIP-368); zero for ever. Default: the cluster's;
    /// matters with SASL only.
    #[must_use]
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = Some(lifetime);
        self
    }
}

/// A listener as it is while brokers run.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: SecurityProtocol,
    /// With TLS: how connections are accepted.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// With SASL: what clients may use, in the order in which they are told.
    pub(crate) mechanisms: Vec<SaslMechanism>,
    /// With SASL: how many milliseconds a session lasts, 0 for ever.
    pub(crate) session_ms: i64,
}

/// `NAME=PROTOCOL://HOST:PORT`, and behind a comma the host, or host and port, that clients are told. As in Kafka, the name
/// can be left out if it is the protocol's.
impl FromStr for ListenerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "write it as NAME=PROTOCOL://HOST:PORT, like EXTERNAL=SASL_SSL://127.0.0.1:9093";
        let (left, right) = text.split_once("://").ok_or(shape)?;
        let (name, protocol) = left.split_once('=').unwrap_or((left, left));
        let (address, advertised) =
            right.split_once(',').map_or((right, None), |(bound, told)| (bound, Some(told)));
        let port = |port: &str| port.parse::<u16>().map_err(|_| format!("{port} is not a port: {shape}"));
        let (host, number) = address.rsplit_once(':').ok_or(shape)?;
        let mut spec = Self::new(name, protocol.parse()?).port(port(number)?);
        if !host.is_empty() {
            spec = spec.host(host.trim_start_matches('[').trim_end_matches(']'));
        }
        match advertised.map(|told| (told, told.rsplit_once(':'))) {
            None => {}
            // An IPv6 address in brackets has colons of its own.
            Some((told, Some((host, number)))) if !told.ends_with(']') => {
                spec = spec.advertise(host).advertise_port(port(number)?);
            }
            Some((told, _)) => spec = spec.advertise(told),
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_written_as_kafka_writes_them_and_more() {
        let spec: ListenerSpec = "EXTERNAL=SASL_SSL://0.0.0.0:9094,kafka.test".parse().unwrap();
        assert_eq!((&*spec.name, spec.protocol), ("EXTERNAL", SecurityProtocol::SaslSsl));
        assert_eq!((spec.host.as_deref(), spec.port), (Some("0.0.0.0"), Some(9094)));
        assert_eq!((spec.advertise.as_deref(), spec.advertise_port), (Some("kafka.test"), None));
        let spec: ListenerSpec = "SSL://:0,kafka.test:19093".parse().unwrap();
        assert_eq!((&*spec.name, spec.protocol, spec.host), ("SSL", SecurityProtocol::Ssl, None));
        assert_eq!((spec.advertise.as_deref(), spec.advertise_port), (Some("kafka.test"), Some(19093)));
        let spec: ListenerSpec = "A=PLAINTEXT://[::1]:9092,[::2]".parse().unwrap();
        assert_eq!((spec.host.as_deref(), spec.advertise.as_deref()), (Some("::1"), Some("[::2]")));
        for bad in ["", "SSL", "A=SSL", "A=TLS://h:1", "A=SSL://h", "A=SSL://h:70000", "SSL://h:1,h:x"] {
            assert!(bad.parse::<ListenerSpec>().is_err(), "{bad}");
        }
    }
}
