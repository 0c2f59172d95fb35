//! TLS of the brokers: what they show to clients, what they ask of them, and what a client's certificate calls it.

mod certificates;
mod subject;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;

pub(crate) use self::certificates::chain;
pub use self::certificates::{CertificateSpec, Identity, TestCa};
pub(crate) use self::subject::principal;
use crate::config;
use crate::listener::ClientAuth;

/// The certificate that brokers show, and the authority that clients' certificates must come from.
///
/// A [`TestCa`] is one: brokers get a certificate for their addresses, and take the clients' that it signed.
#[derive(Debug, Clone)]
pub struct ServerTls {
    ca: Option<TestCa>,
    identity: Option<Identity>,
    client_ca_pem: Option<String>,
}

impl ServerTls {
    /// A certificate and key of your own.
    #[must_use]
    pub fn identity(identity: Identity) -> Self {
        Self { ca: None, identity: Some(identity), client_ca_pem: None }
    }

    /// Shows this certificate, whatever the authority would sign: an expired one, say.
    #[must_use]
    pub fn showing(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Takes certificates of clients from the authorities in this PEM. Default: the [`TestCa`], if there is one.
    #[must_use]
    pub fn client_ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.client_ca_pem = Some(pem.into());
        self
    }

    /// What shows the certificate to clients that connect to one of `hosts`.
    ///
    /// # Errors
    /// What is wrong with the certificate or the key, to be shown to the user.
    pub(crate) fn for_hosts(&self, hosts: Vec<String>) -> Result<LoadedTls, String> {
        let identity = match (&self.identity, &self.ca) {
            (Some(identity), _) => identity.clone(),
            (None, Some(ca)) => {
                ca.broker_certificate(hosts).map_err(|error| format!("no certificate: {error}"))?
            }
            (None, None) => return Err("give a certificate and a key".to_owned()),
        };
        let client_ca = self.client_ca_pem.as_deref().or(self.ca.as_ref().map(TestCa::ca_pem));
        Ok(LoadedTls { identity, client_ca_pem: client_ca.map(str::to_owned) })
    }
}

impl From<TestCa> for ServerTls {
    fn from(ca: TestCa) -> Self {
        Self { ca: Some(ca), identity: None, client_ca_pem: None }
    }
}

impl From<&TestCa> for ServerTls {
    fn from(ca: &TestCa) -> Self {
        ca.clone().into()
    }
}

impl From<Identity> for ServerTls {
    fn from(identity: Identity) -> Self {
        Self::identity(identity)
    }
}

/// What a cluster's listeners show.
#[derive(Debug)]
pub(crate) struct LoadedTls {
    identity: Identity,
    client_ca_pem: Option<String>,
}

impl LoadedTls {
    /// How one listener accepts connections, in these versions of TLS by Kafka's names.
    ///
    /// # Errors
    /// What is wrong, to be shown to the user.
    pub(crate) fn server_config(
        &self,
        client_auth: ClientAuth,
        enabled: &str,
    ) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let versions: Vec<_> = config::list(enabled)
            .filter_map(|version| match version {
                "TLSv1.2" => Some(&rustls::version::TLS12),
                "TLSv1.3" => Some(&rustls::version::TLS13),
                _ => None,
            })
            .collect();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?;
        let builder = match client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Requested | ClientAuth::Required => {
                let pem = self.client_ca_pem.as_deref();
                let pem = pem.ok_or("give the authority that clients' certificates must come from")?;
                let mut roots = rustls::RootCertStore::empty();
                for certificate in chain(pem)? {
                    roots.add(certificate).map_err(|error| format!("no authority for clients: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if client_auth == ClientAuth::Requested {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let config = builder.with_single_cert(self.identity.chain()?, self.identity.key()?);
        Ok(Arc::new(config.map_err(|error| format!("certificate and key: {error}"))?))
    }
}
