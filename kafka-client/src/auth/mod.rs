//! How a client proves to brokers who it is: SASL's mechanisms, and what they are given.
//!
//! ```
//! use kafka_client::Client;
//! use kafka_client::auth::{Sasl, Token};
//!
//! // A user and a password, which is never sent.
//! let client = Client::builder("kafka-1:9093").sasl(Sasl::scram_sha_512("alice", "pencil")).build()?;
//!
//! // A token, got anew whenever a broker wants one.
//! let sasl = Sasl::oauth_bearer(async || {
//!     let token = std::fs::read_to_string("/var/run/secrets/token")?;
//!     Ok::<_, std::io::Error>(Token::new(token.trim()))
//! });
//! let client = Client::builder("kafka-1:9093").sasl(sasl).build()?;
//! # Ok::<(), kafka_client::Error>(())
//! ```
//!
//! A broker's session may end (KIP-368): a connection in use then proves anew who the client is, in between two requests,
//! well before the end.
//!
//! **Refusals** are final: whoever waits fails at once with [`Authentication`](crate::ErrorKind::Authentication), which
//! has the broker's words. So that nothing locks an account out by trying again and again, refused credentials are
//! remembered for the whole client: new connections fail with the same error without a word to a broker, for a second at
//! first, five times as long after each further refusal, up to five minutes. Then one connection tries again.

#[cfg(feature = "aws-msk")]
pub mod aws_msk;
mod mechanism;
#[cfg(feature = "oidc")]
pub mod oidc;
#[cfg(any(feature = "aws-msk", feature = "oidc"))]
mod percent;
mod plain;
mod scram;
mod secret;
mod token;

use std::fmt;
use std::sync::Arc;

pub use kafka_wire::sasl::scram::ScramHash;
pub use mechanism::{BoxFuture, BrokerIdentity, Exchange, Mechanism, Step, Transient};
pub use secret::Secret;
pub use token::{Token, TokenProvider};

use crate::error::{Error, Result};
use crate::serde::BoxError;

/// A SASL mechanism, with what it needs to prove who the client is. Clones share what it keeps.
#[derive(Clone)]
pub struct Sasl {
    mechanism: Arc<dyn Mechanism>,
    /// What cannot work about it: the setting and why, told when the client is built.
    mistake: Option<(&'static str, String)>,
}

impl Sasl {
    /// PLAIN: the user and the password, as they are. Only over TLS, or everyone on the way can read them.
    pub fn plain(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        let (user, password) = (user.into(), password.into());
        let mistake = kafka_wire::sasl::plain::encode(&user, password.expose()).err();
        Self::checked(plain::Plain { user, password }, mistake)
    }

    /// SCRAM-SHA-256: the password is proved and never sent, and the broker has to prove that it knows it too.
    pub fn scram_sha_256(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::scram(ScramHash::Sha256, user, password)
    }

    /// SCRAM-SHA-512, as [`scram_sha_256`](Self::scram_sha_256).
    pub fn scram_sha_512(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::scram(ScramHash::Sha512, user, password)
    }

    /// SCRAM with this hash. A broker may ask for 4,096 up to 1,000,000 iterations; more would burn a core.
    pub fn scram(hash: ScramHash, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::scram_with(hash, user.into(), password.into(), false)
    }

    /// A delegation token (KIP-48), which is proved by SCRAM: its id, and its HMAC in base64 as Kafka's tools print it.
    pub fn delegation_token(hash: ScramHash, id: impl Into<String>, hmac: impl Into<Secret>) -> Self {
        Self::scram_with(hash, id.into(), hmac.into(), true)
    }

    /// OAUTHBEARER: a token from a provider.
    pub fn oauth_bearer(provider: impl TokenProvider) -> Self {
        Self::checked(token::OauthBearer(provider), None)
    }

    /// A mechanism of your own.
    pub fn mechanism(mechanism: impl Mechanism) -> Self {
        Self::checked(mechanism, None)
    }

    /// The mechanism's name (`sasl.mechanism`).
    pub fn name(&self) -> &str {
        self.mechanism.name()
    }

    fn scram_with(hash: ScramHash, user: String, password: Secret, is_token: bool) -> Self {
        let mistake = kafka_wire::sasl::scram::ClientFirst::new(&user, "nonce", &[]).err();
        Self::checked(scram::Scram::new(hash, user, password, is_token), mistake)
    }

    fn checked(mechanism: impl Mechanism, mistake: Option<kafka_wire::sasl::SaslError>) -> Self {
        let mistake = mistake.map(|error| ("sasl.jaas.config", error.to_string()));
        Self { mechanism: Arc::new(mechanism), mistake }
    }

    /// See [`Mechanism::start`].
    pub(crate) fn start<'a>(
        &'a self,
        broker: &'a BrokerIdentity,
    ) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        self.mechanism.start(broker)
    }

    /// Says what cannot work, before anything is tried.
    pub(crate) fn validate(&self) -> Result<()> {
        match &self.mistake {
            Some((setting, remedy)) => Err(Error::config(*setting, "***", remedy.clone())),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sasl").field(&self.name()).finish()
    }
}
