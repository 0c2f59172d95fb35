//! A cluster that demands to know who its clients are: with a listener for each security protocol, users, certificates, tokens.
//!
//! It is bundled, or Apache Kafka as `tests/interop/apache-kafka/kafka.sh --secured DIR` starts it, from files that
//! `secured-files DIR` wrote; `KAFKA_SECURED=DIR` says where they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kafka_broker::{ClientAuth, Cluster, ListenerSpec, OauthKeys, SaslMechanism, TestCa, TokenIssuer};
use kafka_client::auth::{Sasl, Token};
use kafka_client::tls::Tls;
use kafka_client::{Client, ClientBuilder};

use crate::{Outcome, external, say_skipped, show_logs};

/// Who has a password, and which.
pub const USERS: [(&str, &str); 3] =
    [("admin", "admin-secret"), ("alice", "alice-secret"), ("bob", "bob-secret")];

/// How long a session on [`Listener::Sessions`] lasts before its client has to authenticate again.
pub const SESSION: Duration = Duration::from_secs(2);

/// The listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// No security.
    Plaintext,
    /// TLS, without certificates of clients.
    Ssl,
    /// TLS, with certificates of clients.
    Mtls,
    /// SASL.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
    /// SASL over TLS, with sessions that end.
    Sessions,
}

impl Listener {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Plaintext, Self::Ssl, Self::Mtls, Self::SaslPlaintext, Self::SaslSsl, Self::Sessions];

    /// Its name in the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::Mtls => "MTLS",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
            Self::Sessions => "SESSIONS",
        }
    }
}

/// The mechanisms of SASL.
pub const MECHANISMS: [SaslMechanism; 4] = [
    SaslMechanism::Plain,
    SaslMechanism::ScramSha256,
    SaslMechanism::ScramSha512,
    SaslMechanism::OauthBearer,
];

/// The cluster.
pub struct Secured {
    /// The bundled brokers, unless it is another cluster.
    pub bundled: Option<Cluster>,
    /// Signs tokens that the cluster accepts.
    pub issuer: TokenIssuer,
    /// Trusted by the brokers, and signed their certificates.
    pub ca_pem: String,
    /// Certificate and key of the client `CN=alice`.
    pub alice: (String, String),
    listeners: BTreeMap<String, String>,
}

impl Secured {
    /// The cluster; `None`, said aloud, where the tests run on a real one that has no such listeners.
    pub async fn start(test: &str) -> Outcome<Option<Self>> {
        show_logs();
        match std::env::var_os("KAFKA_SECURED") {
            Some(dir) => Self::at(Path::new(&dir)).map(Some),
            None if external().is_some() => {
                say_skipped(
                    test,
                    "needs listeners with security; KAFKA_SECURED names the files of a cluster that has them",
                );
                Ok(None)
            }
            None => Self::bundled(|builder| builder).await.map(Some),
        }
    }

    /// Bundled brokers with the same listeners and users, built with what `set` adds.
    pub async fn bundled(
        set: impl FnOnce(kafka_broker::ClusterBuilder) -> kafka_broker::ClusterBuilder,
    ) -> Outcome<Self> {
        show_logs();
        let (ca, issuer) = (TestCa::new(), TokenIssuer::new()?);
        let mut builder = Cluster::builder()
            .brokers(3)
            .tls(&ca)
            .sasl(MECHANISMS)
            .oauth(OauthKeys::jwks(issuer.jwks()))
            .super_user("ANONYMOUS")
            .super_user("admin")
            .config("allow.everyone.if.no.acl.found", "true");
        for listener in Listener::ALL {
            let name = listener.name();
            builder = builder.listener(match listener {
                Listener::Plaintext => ListenerSpec::plaintext(name),
                Listener::Ssl => ListenerSpec::ssl(name),
                Listener::Mtls => ListenerSpec::ssl(name).client_auth(ClientAuth::Required),
                Listener::SaslPlaintext => ListenerSpec::sasl_plaintext(name),
                Listener::SaslSsl => ListenerSpec::sasl_ssl(name),
                Listener::Sessions => ListenerSpec::sasl_ssl(name).session_lifetime(SESSION),
            });
        }
        for (user, password) in USERS {
            builder = builder.user(user, password);
        }
        let cluster = set(builder).start().await?;
        let mut listeners = BTreeMap::new();
        for name in Listener::ALL.map(Listener::name) {
            let at = cluster.bootstrap_of(name).ok_or_else(|| format!("no listener {name}"))?;
            listeners.insert(name.to_owned(), at);
        }
        let alice = ca.client_certificate("alice");
        Ok(Self {
            listeners,
            bundled: Some(cluster),
            issuer,
            ca_pem: ca.ca_pem().to_owned(),
            alice: (alice.certificate_pem().to_owned(), alice.key_pem().to_owned()),
        })
    }

    /// The cluster of these files.
    fn at(dir: &Path) -> Outcome<Self> {
        let read =
            |name: &str| std::fs::read_to_string(dir.join(name)).map_err(|error| format!("{name}: {error}"));
        let lines = read("listeners")?;
        let listeners = lines.lines().filter_map(|line| line.split_once('='));
        Ok(Self {
            bundled: None,
            issuer: TokenIssuer::from_pem(&read("token.key")?)?,
            ca_pem: read("ca.pem")?,
            alice: (read("alice.pem")?, read("alice.key")?),
            listeners: listeners.map(|(name, at)| (name.to_owned(), at.to_owned())).collect(),
        })
    }

    /// Writes what a real cluster needs to be started with.
    pub fn write_files(dir: &Path) -> Outcome {
        let (ca, issuer) = (TestCa::new(), TokenIssuer::new()?);
        ca.write_pem(dir)?;
        ca.write_client_pem(dir, "alice")?;
        std::fs::write(dir.join("jwks.json"), issuer.jwks())?;
        std::fs::write(dir.join("token.key"), issuer.key_pem())?;
        let users: String = USERS.iter().map(|(user, password)| format!("{user}={password}\n")).collect();
        std::fs::write(dir.join("users"), users)?;
        Ok(())
    }

    /// Where clients find a listener.
    pub fn address(&self, listener: Listener) -> &str {
        self.listeners.get(listener.name()).map_or("", String::as_str)
    }

    /// Trust in the brokers' authority.
    pub fn tls(&self) -> Tls {
        Tls::roots_pem(self.ca_pem.as_str())
    }

    /// A client to be, of a listener, with all that it demands but SASL.
    pub fn builder(&self, listener: Listener) -> ClientBuilder {
        let builder = Client::builder(self.address(listener)).client_id("e2e");
        match listener {
            Listener::Plaintext | Listener::SaslPlaintext => builder,
            Listener::Ssl | Listener::SaslSsl | Listener::Sessions => builder.tls(self.tls()),
            Listener::Mtls => {
                builder.tls(self.tls().identity_pem(self.alice.0.as_str(), self.alice.1.as_str()))
            }
        }
    }

    /// How `user` authenticates; with a password or token that is not theirs if it is not `right`.
    pub fn sasl(&self, mechanism: SaslMechanism, user: &str, right: bool) -> Outcome<Sasl> {
        let known = USERS.iter().find(|(name, _)| *name == user).map_or("", |(_, password)| password);
        let password = if right { known } else { "guessed" };
        Ok(match mechanism {
            SaslMechanism::Plain => Sasl::plain(user, password),
            SaslMechanism::ScramSha256 => Sasl::scram_sha_256(user, password),
            SaslMechanism::ScramSha512 => Sasl::scram_sha_512(user, password),
            _ => {
                // Another issuer's tokens look as good, and have the wrong signature.
                let issuer = if right { self.issuer.clone() } else { TokenIssuer::new()? };
                let user = user.to_owned();
                Sasl::oauth_bearer(move || {
                    let token = issuer.token(&user, Duration::from_secs(60)).map(Token::new);
                    async move { token }
                })
            }
        })
    }

    /// A client of the listener SASL_SSL that is `user`.
    pub async fn client_of(&self, user: &str) -> Outcome<Client> {
        let sasl = self.sasl(SaslMechanism::ScramSha512, user, true)?;
        Ok(self.builder(Listener::SaslSsl).sasl(sasl).connect().await?)
    }
}
