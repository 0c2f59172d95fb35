//! Makes rustls' configuration of what was set, as it stands in memory and on disk now.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

use super::source::Source;
use super::verifier::{AnyCertificate, AnyName};
use super::{Tls, TlsVersion, Trust, pem, provider};
use crate::error::{Error, Result};

/// The contents of everything that may be a file, and a fingerprint of them all.
pub(super) struct Material {
    roots: Option<Contents>,
    identity: Option<(Contents, Contents)>,
}

type Contents = Arc<Zeroizing<Vec<u8>>>;

impl Tls {
    pub(super) fn has_files(&self) -> bool {
        let roots = matches!(&self.trust, Trust::Pem(source) if source.is_file());
        roots || self.identity.as_ref().is_some_and(|it| it.chain.is_file() || it.key.is_file())
    }

    /// The name that certificates are checked for, if not the one that is dialled.
    ///
    /// # Errors
    /// It is no name.
    pub(super) fn checked_name(&self) -> Result<Option<ServerName<'static>>> {
        let Some(name) = &self.server_name else { return Ok(None) };
        let remedy = "give a host name such as kafka.example, or an IP address";
        ServerName::try_from(name.clone())
            .map(Some)
            .map_err(|_| Error::config("Tls::server_name", name, remedy))
    }

    /// Reads what there is now. Blocks while files are read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn read(&self) -> Result<Material> {
        let roots = match &self.trust {
            Trust::Pem(source) => Some(read(self.roots_setting(), source)?),
            _ => None,
        };
        let identity = match &self.identity {
            Some(identity) => {
                Some((read(self.chain_setting(), &identity.chain)?, read(self.key_setting(), &identity.key)?))
            }
            None => None,
        };
        Ok(Material { roots, identity })
    }

    /// What rustls is to do.
    ///
    /// # Errors
    /// The first thing that cannot work, by its name in Java, with a remedy.
    pub(super) fn configure(&self, material: &Material) -> Result<Arc<ClientConfig>> {
        if let Trust::Rustls(config) = &self.trust {
            if self.identity.is_some() || self.versions.is_some() || self.any_name {
                let remedy = "it is used as it is: set the identity, versions and verifier on it instead";
                return Err(Error::config("Tls::with_rustls", "a rustls configuration", remedy));
            }
            return Ok(config.clone());
        }
        let provider = provider::provider()?;
        let versions = self.rustls_versions()?;
        let verifier = self.verifier(&provider, material)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| Error::config("ssl.enabled.protocols", shown(&versions), error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let (Some(identity), Some((chain, key))) = (&self.identity, &material.identity) else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let certificates = pem::certificates(chain)
            .map_err(|remedy| Error::config(self.chain_setting(), identity.chain.shown(), remedy))?;
        let bad_key = |remedy: String| Error::config(self.key_setting(), identity.key.shown(), remedy);
        let key = pem::private_key(key, self.key_password.as_ref()).map_err(bad_key)?;
        let config = builder.with_client_auth_cert(certificates, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                bad_key("give the key that belongs to the certificate".into())
            }
            error => bad_key(format!("give a usable certificate and key: {error}")),
        })?;
        Ok(Arc::new(config))
    }

    fn rustls_versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>> {
        let Some(versions) = &self.versions else { return Ok(rustls::ALL_VERSIONS.to_vec()) };
        if versions.is_empty() {
            return Err(Error::config("ssl.enabled.protocols", "", "allow TLSv1.2, TLSv1.3 or both"));
        }
        let rustls = |version: &TlsVersion| match version {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        };
        Ok(versions.iter().map(rustls).collect())
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        material: &Material,
    ) -> Result<Arc<dyn ServerCertVerifier>> {
        let verifier: Arc<dyn ServerCertVerifier> = match (&self.trust, &material.roots) {
            (Trust::Pem(source), Some(pem)) => {
                let bad = |remedy| Error::config(self.roots_setting(), source.shown(), remedy);
                let certificates = pem::certificates(pem).map_err(bad)?;
                let mut roots = RootCertStore::empty();
                let (_, ignored) = roots.add_parsable_certificates(certificates);
                if roots.is_empty() {
                    return Err(bad("give certificates of X.509".to_owned()));
                }
                if ignored > 0 {
                    tracing::warn!(roots = ?source, ignored, "some trusted certificates cannot be read");
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
                verifier.build().map_err(|error| bad(format!("give other certificates: {error}")))?
            }
            (Trust::Anyone, _) => Arc::new(AnyCertificate(provider.clone())),
            // The system's own verifiers do not all look at the name last.
            _ if self.any_name => {
                let remedy = "name the trusted authorities by Tls::roots_pem, or leave the check of names on";
                return Err(Error::config("Tls::dangerous_accept_any_server_name", "true", remedy));
            }
            _ => {
                let verifier =
                    rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| {
                        let remedy =
                            format!("{error}; install the system's authorities or give Tls::roots_pem");
                        Error::config("ssl.truststore.location", "the operating system's", remedy)
                    })?;
                Arc::new(verifier)
            }
        };
        Ok(if self.any_name { Arc::new(AnyName(verifier)) } else { verifier })
    }

    fn roots_setting(&self) -> &'static str {
        match &self.trust {
            Trust::Pem(Source::Given(_)) => "ssl.truststore.certificates",
            _ => "ssl.truststore.location",
        }
    }

    fn chain_setting(&self) -> &'static str {
        match self.identity.as_ref().map(|identity| &identity.chain) {
            Some(Source::Given(_)) => "ssl.keystore.certificate.chain",
            _ => "ssl.keystore.location",
        }
    }

    fn key_setting(&self) -> &'static str {
        match self.identity.as_ref().map(|identity| &identity.key) {
            Some(Source::Given(_)) => "ssl.keystore.key",
            _ => "ssl.keystore.location",
        }
    }
}

impl Material {
    /// Tells contents apart, within this process.
    pub(super) fn fingerprint(&self, hasher: &RandomState) -> u64 {
        let bytes = |contents: &Contents| hasher.hash_one(contents.as_slice());
        let identity = self.identity.as_ref().map(|(chain, key)| (bytes(chain), bytes(key)));
        hasher.hash_one((self.roots.as_ref().map(bytes), identity))
    }
}

fn read(setting: &str, source: &Source) -> Result<Contents> {
    source.read().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "give a file that exists".to_owned(),
            io::ErrorKind::PermissionDenied => "let this process read the file".to_owned(),
            _ => format!("give a file that can be read: {error}"),
        };
        Error::config(setting, source.shown(), remedy)
    })
}

fn shown(versions: &[&SupportedProtocolVersion]) -> String {
    format!("{:?}", versions.iter().map(|version| version.version).collect::<Vec<_>>())
}
