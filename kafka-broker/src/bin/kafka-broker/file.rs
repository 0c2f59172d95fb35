//! What a file can say of a cluster, in TOML, and how it is built of that. Paths in it start from where the file is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_broker::{ClusterBuilder, Identity, ListenerSpec, OauthKeys, ServerTls};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) brokers: Option<i32>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) advertise: Option<String>,
    pub(crate) client_auth: Option<String>,
    pub(crate) sasl: Vec<String>,
    pub(crate) super_users: Vec<String>,
    pub(crate) users: BTreeMap<String, Password>,
    pub(crate) config: BTreeMap<String, Setting>,
    pub(crate) tls: Option<Tls>,
    pub(crate) oauth: Option<Oauth>,
    #[serde(rename = "listener")]
    pub(crate) listeners: Vec<Listener>,
    #[serde(rename = "topic")]
    pub(crate) topics: Vec<Topic>,
}

/// A password, which is not shown.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Password(pub(crate) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The value of a setting, written as text, a number or a flag.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// PEM files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
}

/// What tokens are taken.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Oauth {
    pub(crate) jwks: Option<PathBuf>,
    pub(crate) unsecured: bool,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    name: Option<String>,
    protocol: String,
    host: Option<String>,
    port: Option<u16>,
    advertise: Option<String>,
    advertise_port: Option<u16>,
    client_auth: Option<String>,
    sasl: Option<Vec<String>>,
    session_lifetime_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topic {
    name: String,
    #[serde(default = "one")]
    partitions: i32,
    #[serde(default = "one_replica")]
    replication: i16,
    #[serde(default)]
    config: BTreeMap<String, Setting>,
}

fn one() -> i32 {
    1
}

fn one_replica() -> i16 {
    1
}

impl File {
    /// # Errors
    /// The file cannot be read, or says something else.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = read(path)?;
        let mut file: Self = toml::from_str(&text).map_err(|error| {
            // The error itself would show the line, and with it maybe a password.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("{}, line {line}: {}", path.display(), error.message())
        })?;
        let from_here = |other: &mut PathBuf| {
            if let Some(parent) = path.parent() {
                *other = parent.join(&*other);
            }
        };
        if let Some(tls) = &mut file.tls {
            from_here(&mut tls.certificate);
            from_here(&mut tls.key);
            tls.client_ca.iter_mut().for_each(from_here);
        }
        if let Some(oauth) = &mut file.oauth {
            oauth.jwks.iter_mut().for_each(from_here);
        }
        Ok(file)
    }

    /// Adds what the file says.
    ///
    /// # Errors
    /// A word in it means nothing, or a file that it names cannot be read.
    pub(crate) fn build(self, mut builder: ClusterBuilder) -> Result<ClusterBuilder, String> {
        if let Some(brokers) = self.brokers {
            builder = builder.brokers(brokers);
        }
        if let Some(host) = self.host {
            builder = builder.host(host);
        }
        if let Some(host) = self.advertise {
            builder = builder.advertise(host);
        }
        builder = builder.port(self.port.unwrap_or(9092));
        for (name, value) in self.config {
            builder = builder.config(name, value.to_string());
        }
        if let Some(client_auth) = self.client_auth {
            builder = builder.client_auth(client_auth.parse()?);
        }
        if !self.sasl.is_empty() {
            builder = builder.sasl(parsed(&self.sasl)?);
        }
        if let Some(tls) = self.tls {
            let mut server = ServerTls::from(Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?));
            if let Some(authority) = tls.client_ca {
                server = server.client_ca_pem(read(&authority)?);
            }
            builder = builder.tls(server);
        }
        if let Some(oauth) = self.oauth {
            builder = builder.oauth(oauth.keys()?);
        }
        for (name, password) in self.users {
            builder = builder.user(name, password.0);
        }
        for user in self.super_users {
            builder = builder.super_user(user);
        }
        for listener in self.listeners {
            builder = builder.listener(listener.spec()?);
        }
        for topic in self.topics {
            builder = builder.topic(topic.name, topic.partitions, topic.replication);
            for (name, value) in topic.config {
                builder = builder.topic_config(name, value.to_string());
            }
        }
        Ok(builder)
    }
}

impl Oauth {
    fn keys(&self) -> Result<OauthKeys, String> {
        let mut keys = match (&self.jwks, self.unsecured) {
            (Some(path), false) => OauthKeys::jwks(read(path)?),
            (None, true) => OauthKeys::unsecured(),
            _ => return Err("oauth: give either the keys (jwks) or take unsecured tokens".to_owned()),
        };
        if let Some(issuer) = &self.issuer {
            keys = keys.issuer(issuer);
        }
        if let Some(audience) = &self.audience {
            keys = keys.audience(audience);
        }
        Ok(keys)
    }
}

impl Listener {
    fn spec(self) -> Result<ListenerSpec, String> {
        let name = self.name.unwrap_or_else(|| self.protocol.clone());
        let mut spec = ListenerSpec::new(name, self.protocol.parse()?);
        if let Some(host) = self.host {
            spec = spec.host(host);
        }
        if let Some(port) = self.port {
            spec = spec.port(port);
        }
        if let Some(host) = self.advertise {
            spec = spec.advertise(host);
        }
        if let Some(port) = self.advertise_port {
            spec = spec.advertise_port(port);
        }
        if let Some(client_auth) = self.client_auth {
            spec = spec.client_auth(client_auth.parse()?);
        }
        if let Some(mechanisms) = self.sasl {
            spec = spec.sasl(parsed(&mechanisms)?);
        }
        if let Some(lifetime) = self.session_lifetime_ms {
            spec = spec.session_lifetime(Duration::from_millis(lifetime));
        }
        Ok(spec)
    }
}

/// A text file that the user named.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn parsed<T: std::str::FromStr<Err = String>>(words: &[String]) -> Result<Vec<T>, String> {
    words.iter().map(|word| word.parse().map_err(|remedy| format!("{word}: {remedy}"))).collect()
}
