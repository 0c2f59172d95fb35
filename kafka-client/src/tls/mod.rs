//! TLS to brokers, over rustls: whom to trust, who we are, and what is wrong when the two sides do not agree.
//!
//! ```
//! use kafka_client::Client;
//! use kafka_client::tls::Tls;
//!
//! # fn main() -> kafka_client::Result<()> {
//! # let dir = std::env::temp_dir();
//! // Brokers whose certificates the operating system trusts.
//! let client = Client::builder("kafka-1:9093").tls(Tls::platform_roots()).build();
//! // A private authority, and a certificate of our own for brokers that ask for one.
//! let tls = Tls::roots_pem_file("/etc/kafka/ca.pem").identity_pem_files("/etc/kafka/me.pem", "/etc/kafka/me.key");
//! let error = Client::builder("kafka-1:9093").tls(tls).build().unwrap_err();
//! assert!(error.to_string().starts_with(r#"ssl.truststore.location = "/etc/kafka/ca.pem""#), "{error}");
//! # Ok(())
//! # }
//! ```
//!
//! A certificate is checked as browsers check it: by a trusted authority, in its time, and for the name or IP address
//! under which the broker was dialled. Sessions are resumed on the client's later connections. Files are looked at
//! again before each new connection: a certificate that was replaced on disk is used from then on; a file that has become
//! unusable is warned about, and what was read before stays in force.

mod connector;
mod pem;
mod problem;
mod provider;
mod settings;
mod source;
mod verifier;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use self::connector::TlsConnector;
#[cfg(feature = "oidc")]
pub(crate) use self::pem::private_key;
pub use self::problem::TlsProblem;
pub(crate) use self::problem::{protocol_error, stream_error};
#[cfg(feature = "oidc")]
pub(crate) use self::provider::provider;
pub(crate) use self::source::Source;
use crate::auth::Secret;

/// How connections are encrypted, whom they trust and who we are; given to
/// [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// What cannot work, such as a file that does not exist, is told when the client is built.
#[derive(Clone)]
pub struct Tls {
    trust: Trust,
    identity: Option<Identity>,
    key_password: Option<Secret>,
    server_name: Option<String>,
    versions: Option<Vec<TlsVersion>>,
    any_name: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Whose certificates are accepted.
#[derive(Clone)]
enum Trust {
    Platform,
    Pem(Source),
    Anyone,
    /// Everything is the user's.
    Rustls(Arc<rustls::ClientConfig>),
}

/// The certificate chain and the key that we show when a broker asks.
#[derive(Clone)]
struct Identity {
    chain: Source,
    key: Source,
}

impl Tls {
    /// Trusts whom the operating system trusts: its certificate store, where there is one its own verifier.
    pub fn platform_roots() -> Self {
        Self::new(Trust::Platform)
    }

    /// Trusts the certificate authorities in this PEM text, and no others.
    pub fn roots_pem(pem: impl Into<Vec<u8>>) -> Self {
        Self::new(Trust::Pem(Source::given(pem.into())))
    }

    /// Trusts the certificate authorities in this PEM file, and no others. It is read again when it has changed.
    pub fn roots_pem_file(path: impl Into<PathBuf>) -> Self {
        Self::new(Trust::Pem(Source::File(path.into())))
    }

    /// Uses this configuration as it is: trust, identity, versions and cryptography are all its own.
    pub fn with_rustls(config: Arc<rustls::ClientConfig>) -> Self {
        Self::new(Trust::Rustls(config))
    }

    /// Encrypts without knowing to whom: any certificate of anyone is accepted, so that whoever sits on the way can
    /// read and change everything. For a look at a test cluster, never for data or passwords.
    pub fn dangerous_accept_any_certificate() -> Self {
        Self::new(Trust::Anyone)
    }

    fn new(trust: Trust) -> Self {
        Self { trust, identity: None, key_password: None, server_name: None, versions: None, any_name: false }
    }

    /// Shows this certificate, followed by those that lead to its authority, to brokers that ask for one (mutual TLS);
    /// both as PEM text. The key may be PKCS#8, PKCS#1 or SEC1.
    #[must_use]
    pub fn identity_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(Identity { chain: Source::given(chain.into()), key: Source::given(key.into()) });
        self
    }

    /// As [`identity_pem`](Self::identity_pem), from files, which may be one and the same. They are read again when they
    /// have changed.
    #[must_use]
    pub fn identity_pem_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity { chain: Source::File(chain.into()), key: Source::File(key.into()) });
        self
    }

    /// An identity wherever its two parts are.
    pub(crate) fn identity(mut self, chain: Source, key: Source) -> Self {
        self.identity = Some(Identity { chain, key });
        self
    }

    /// Decrypts the identity's key, if it is encrypted PKCS#8, with this password. Needs the feature `encrypted-keys`.
    #[must_use]
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.key_password = Some(password.into());
        self
    }

    /// Checks the certificates of all brokers for this name, or IP address, instead of the one that was dialled: for
    /// tunnels and brokers that are advertised under other names than their certificates'.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Speaks only these versions. TLS 1.2 and 1.3 by default.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.versions = Some(versions.into_iter().collect());
        self
    }

    /// Accepts a trusted certificate for whatever name it was issued, so that whoever has any certificate of the same
    /// authorities can pose as a broker. [`server_name`](Self::server_name) nearly always does instead.
    #[must_use]
    pub fn dangerous_accept_any_server_name(mut self) -> Self {
        self.any_name = true;
        self
    }
}

/// Shows where things come from and nothing of what is in them.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tls");
        match &self.trust {
            Trust::Platform => shown.field("trust", &"platform"),
            Trust::Pem(source) => shown.field("trust", source),
            Trust::Anyone => shown.field("trust", &"anyone (dangerous)"),
            Trust::Rustls(_) => shown.field("trust", &"the given rustls configuration"),
        };
        if let Some(identity) = &self.identity {
            shown.field("identity", &identity.chain).field("key", &identity.key);
        }
        if self.any_name {
            shown.field("server_name", &"any (dangerous)");
        } else if let Some(name) = &self.server_name {
            shown.field("server_name", name);
        }
        if let Some(versions) = &self.versions {
            shown.field("versions", versions);
        }
        shown.finish_non_exhaustive()
    }
}
