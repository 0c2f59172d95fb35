//! Tokens for OAUTHBEARER from an OAuth 2.0 token endpoint, which identity providers of OpenID Connect have.
//!
//! ```
//! use kafka_client::Client;
//! use kafka_client::auth::Sasl;
//! use kafka_client::auth::oidc::Oidc;
//!
//! # fn main() -> kafka_client::Result<()> {
//! let tokens = Oidc::client_credentials("https://login.example/oauth2/token", "billing", "a secret")
//!     .scope("kafka")
//!     .build()?;
//! let client = Client::builder("kafka-1:9093").sasl(Sasl::oauth_bearer(tokens)).build()?;
//! # Ok(())
//! # }
//! ```
//!
//! A token is got when the first connection wants one, and shared by all. It is replaced at 80 % of its life, in one
//! request for everyone, while connections go on with the old one; from then on nobody waits. A round of requests that
//! fails leaves the old token in use, and is repeated after a second, two, up to a minute; without a token that is still
//! good the failure is the answer, from memory until the pause is over, and after that the next connection starts a round.
//!
//! Within a round, what may pass is tried again: status 429 and 5xx (not 501 and 505), time-outs, connections that fail,
//! and, three times at most, a token that had expired when it came. It ends after
//! [`retry_backoff_max`](OidcBuilder::retry_backoff_max), 10 s. Refusals (4xx), redirects, and answers that are no tokens are
//! final. An answer may have 64 KiB. Proxies are not supported.

mod assertion;
mod endpoint;
mod error;
mod fetch;
mod http;
mod keeper;
mod request;
pub(crate) mod response;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::assertion::{Assertion, JwtAlgorithm, SignedAssertion};
use self::endpoint::Endpoint;
pub use self::error::{OidcError, OidcErrorKind};
use self::fetch::{Patience, Source};
use self::keeper::Keeper;
use self::request::Client;
use super::{BoxFuture, Secret, Token, TokenProvider, Transient};
use crate::clock::FOREVER;
use crate::error::{Error, Result};
use crate::net::transport::Transport;
use crate::serde::BoxError;
use crate::tls::{Tls, TlsConnector};

/// Tokens from a token endpoint, kept and replaced in time; given to
/// [`Sasl::oauth_bearer`](super::Sasl::oauth_bearer). Clones share the token.
#[derive(Clone)]
pub struct Oidc {
    keeper: Arc<Keeper<Source>>,
    extensions: Vec<(String, String)>,
}

impl Oidc {
    /// The client credentials grant (RFC 6749, 4.4) with the client's id and secret.
    pub fn client_credentials(
        token_endpoint: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<Secret>,
    ) -> OidcBuilder {
        let (id, secret) = (client_id.into(), client_secret.into());
        OidcBuilder::new(token_endpoint.into(), Client::Header { id, secret, encoded: true }, None)
    }

    /// The client credentials grant with an assertion in place of a secret (RFC 7523, 2.2; Kafka's KIP-1258).
    pub fn client_assertion(
        token_endpoint: impl Into<String>,
        assertion: impl Into<Assertion>,
    ) -> OidcBuilder {
        OidcBuilder::new(token_endpoint.into(), Client::Assertion { id: None }, Some(assertion.into()))
    }

    /// The JWT bearer grant (RFC 7523, 2.1; Kafka's KIP-1139): an assertion is exchanged for a token.
    pub fn jwt_bearer(token_endpoint: impl Into<String>, assertion: impl Into<Assertion>) -> OidcBuilder {
        OidcBuilder::new(token_endpoint.into(), Client::Grant, Some(assertion.into()))
    }
}

impl TokenProvider for Oidc {
    fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>> {
        Box::pin(async {
            let held = self.keeper.token().await.map_err(|error| -> BoxError {
                if error.is_temporary() { Transient::new(error).into() } else { error.into() }
            })?;
            let token = Token::new(held.token).expires(held.expires);
            Ok(self.extensions.iter().fold(token, |token, (name, value)| token.extension(name, value)))
        })
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

/// What to ask a token endpoint for, and how.
#[derive(Clone)]
#[must_use]
pub struct OidcBuilder {
    url: String,
    client: Client,
    assertion: Option<Assertion>,
    scope: Option<String>,
    parameters: Vec<(String, Secret)>,
    extensions: Vec<(String, String)>,
    tls: Tls,
    plaintext: bool,
    assumed_lifetime: Option<Duration>,
    patience: Patience,
}

impl OidcBuilder {
    fn new(url: String, client: Client, assertion: Option<Assertion>) -> Self {
        Self {
            url,
            client,
            assertion,
            scope: None,
            parameters: Vec::new(),
            extensions: Vec::new(),
            tls: Tls::platform_roots(),
            plaintext: false,
            assumed_lifetime: None,
            patience: Patience {
                backoff: Duration::from_millis(100),
                most: Duration::from_secs(10),
                request: Duration::from_secs(5),
            },
        }
    }

    /// What the token is to allow (`sasl.oauthbearer.scope`), several with blanks between them. Not sent by default.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// One more parameter of the request, such as `audience` or `resource`.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// What else brokers are told with each token (KIP-342), such as `logicalCluster`.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// Sends the client's id and secret in the body, for endpoints that do not read the `Authorization` header.
    pub fn secret_in_body(mut self) -> Self {
        if let Client::Header { id, secret, .. } = self.client {
            self.client = Client::Body { id, secret };
        }
        self
    }

    /// Whether id and secret are percent-encoded in the `Authorization` header (`sasl.oauthbearer.header.urlencode`), as
    /// RFC 6749 wants it. They are by default, unlike Java's.
    pub fn header_urlencode(mut self, encode: bool) -> Self {
        if let Client::Header { encoded, .. } = &mut self.client {
            *encoded = encode;
        }
        self
    }

    /// The client's id beside an assertion that stands for its secret; most endpoints read it from the assertion.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        if let Client::Assertion { id } = &mut self.client {
            *id = Some(client_id.into());
        }
        self
    }

    /// Whom to trust as the endpoint, and which certificate to show it. By default whom the operating system trusts.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Allows `http://` to other machines than this one. Everyone on the way can then read secrets and tokens.
    pub fn dangerous_plaintext_http(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// How long a token is taken to be good for if neither the answer nor the token itself tells. By default that is an
    /// error.
    pub fn assumed_lifetime(mut self, lifetime: Duration) -> Self {
        self.assumed_lifetime = Some(lifetime);
        self
    }

    /// The most that one request may take, connecting included. 5 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.patience.request = timeout;
        self
    }

    /// The pause before the first new try (`sasl.login.retry.backoff.ms`); the following ones double. 100 ms by default.
    pub fn retry_backoff(mut self, backoff: Duration) -> Self {
        self.patience.backoff = backoff;
        self
    }

    /// The most that a pause grows to, and that all tries take together (`sasl.login.retry.backoff.max.ms`). 10 s by
    /// default.
    pub fn retry_backoff_max(mut self, most: Duration) -> Self {
        self.patience.most = most;
        self
    }

    /// Checks the settings, and reads the files that TLS needs. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): what cannot work, by its name in Java where it has one.
    pub fn build(self) -> Result<Oidc> {
        let bad_url = |remedy| Error::config(endpoint::SETTING, without_query(&self.url), remedy);
        let endpoint = Endpoint::parse(&self.url, self.plaintext).map_err(bad_url)?;
        for (setting, value) in [
            ("sasl.login.retry.backoff.max.ms", self.patience.most),
            ("OidcBuilder::request_timeout", self.patience.request),
        ] {
            if value.is_zero() {
                return Err(Error::config(setting, "0", "give more than nothing"));
            }
        }
        if let Some(scope) = self.scope.as_deref().filter(|scope| scope.chars().any(char::is_control)) {
            return Err(Error::config(
                "sasl.oauthbearer.scope",
                scope.escape_debug(),
                "leave control characters out",
            ));
        }
        let tls = if endpoint.tls { Some(TlsConnector::new(&self.tls)?) } else { None };
        let source = Source {
            endpoint,
            transport: Transport::Tcp { send_buffer: None, receive_buffer: None },
            tls,
            client: self.client,
            assertion: self.assertion.map(Arc::new),
            scope: self.scope,
            parameters: self.parameters,
            assumed_lifetime: self.assumed_lifetime,
            patience: Patience {
                backoff: self.patience.backoff.min(FOREVER),
                most: self.patience.most.min(FOREVER),
                request: self.patience.request.min(FOREVER),
            },
        };
        Ok(Oidc { keeper: Arc::new(Keeper::new(source)), extensions: self.extensions })
    }
}

impl fmt::Debug for OidcBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcBuilder")
            .field("token_endpoint", &without_query(&self.url))
            .field("assertion", &self.assertion)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// What may be shown of a URL: not a key in its query, nor a password before its host.
fn without_query(url: &str) -> String {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    match (shown.find("://"), shown.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}***{}", &shown[..scheme + 3], &shown[at..]),
        _ => shown.to_owned(),
    }
}
