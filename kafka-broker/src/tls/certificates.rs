//! Certificates for tests: an authority that lives as long as a test, and what it signs, the bad ones included.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long what it signs is good for.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Where clients of this machine connect to.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate authority for tests, with keys of its own each time (ECDSA P-256). Cloning is cheap and gives the same one.
///
/// ```
/// use kafka_broker::TestCa;
/// let ca = TestCa::new();
/// let alice = ca.client_certificate("alice");
/// assert!(alice.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// ```
#[derive(Clone)]
pub struct TestCa {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: Arc<str>,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    certificate_pem: String,
    key_pem: String,
}

/// What a certificate says; made by [`TestCa::issue`].
#[derive(Debug, Clone)]
pub struct CertificateSpec {
    /// From the most general to the name itself, as certificates have it.
    subject: Vec<(DnType, String)>,
    hosts: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
    valid: (SystemTime, SystemTime),
    self_signed: bool,
}

impl CertificateSpec {
    fn new(name: &str, purpose: ExtendedKeyUsagePurpose) -> Self {
        let now = SystemTime::now();
        Self {
            subject: vec![(DnType::CommonName, name.to_owned())],
            hosts: Vec::new(),
            purpose,
            valid: (now - DAY, now + LIFE),
            self_signed: false,
        }
    }

    /// A client's, with the subject `CN=name`.
    #[must_use]
    pub fn client(name: &str) -> Self {
        Self::new(name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A server's, for these names and IP addresses.
    #[must_use]
    pub fn server<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        let spec = Self::new("kafka-broker", ExtendedKeyUsagePurpose::ServerAuth);
        Self { hosts: hosts.into_iter().map(Into::into).collect(), ..spec }
    }

    /// Adds an organizational unit to the subject: a broker calls the client `User:CN=name,OU=unit`.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.subject.insert(0, (DnType::OrganizationalUnitName, unit.to_owned()));
        self
    }

    /// Good from one time to another. Default: from yesterday, for ten years.
    #[must_use]
    pub fn valid(mut self, from: SystemTime, until: SystemTime) -> Self {
        self.valid = (from, until);
        self
    }

    /// Good until yesterday.
    #[must_use]
    pub fn expired(self) -> Self {
        let now = SystemTime::now();
        self.valid(now - 2 * DAY, now - DAY)
    }

    /// Good from tomorrow on.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        let now = SystemTime::now();
        self.valid(now + DAY, now + 2 * DAY)
    }

    /// Signed with its own key instead of the authority's.
    #[must_use]
    pub fn self_signed(mut self) -> Self {
        self.self_signed = true;
        self
    }

    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in &self.subject {
            params.distinguished_name.push(kind.clone(), value.as_str());
        }
        for host in &self.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        set_validity(&mut params, self.valid);
        params.use_authority_key_identifier_extension = !self.self_signed;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.purpose.clone()];
        Ok(params)
    }
}

impl TestCa {
    /// A new authority.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn new() -> Self {
        must(Self::generate())
    }

    fn generate() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // Two of one name would be told apart by their signatures only, and clients and brokers say then that a signature is
        // wrong, not that they do not know the authority.
        let name = format!("kafka-broker test authority {:08x}", fastrand::u32(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        set_validity(&mut params, (now - 2 * DAY, now + LIFE + DAY));
        let pem = params.self_signed(&key)?.pem().into();
        Ok(Self { issuer: Arc::new(Issuer::new(params, key)), pem })
    }

    /// The authority's own certificate: what clients trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// A client's certificate and key; brokers call it `User:CN=name`.
    ///
    /// # Panics
    /// As [`issue`](Self::issue).
    #[must_use]
    pub fn client_certificate(&self, name: &str) -> Identity {
        self.issue(&CertificateSpec::client(name))
    }

    /// A server's certificate and key, for these names and IP addresses.
    ///
    /// # Panics
    /// As [`issue`](Self::issue).
    #[must_use]
    pub fn server_certificate<H: Into<String>>(&self, hosts: impl IntoIterator<Item = H>) -> Identity {
        self.issue(&CertificateSpec::server(hosts))
    }

    /// Any certificate, with a key of its own.
    ///
    /// # Panics
    /// If the system has no randomness, or a host's name has other characters than ASCII.
    #[must_use]
    pub fn issue(&self, spec: &CertificateSpec) -> Identity {
        must(self.try_issue(spec))
    }

    /// What a broker that clients reach at `hosts` shows them; good for this machine's own names too.
    pub(crate) fn broker_certificate(&self, hosts: Vec<String>) -> Result<Identity, rcgen::Error> {
        let mut all: Vec<String> = LOCAL.map(str::to_owned).into();
        all.extend(hosts.into_iter().filter(|host| !LOCAL.contains(&host.as_str())));
        self.try_issue(&CertificateSpec::server(all))
    }

    fn try_issue(&self, spec: &CertificateSpec) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = spec.params()?;
        let certificate = if spec.self_signed {
            params.self_signed(&key)?
        } else {
            params.signed_by(&key, &self.issuer)?
        };
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Writes files for clients and servers in any language to a directory, which is made if need be: `ca.pem`, and
    /// `server.pem` (a chain) with `server.key` (PKCS#8, for the owner's eyes alone) for `localhost`, `127.0.0.1`, `::1`.
    ///
    /// # Errors
    /// Those of the file system.
    ///
    /// # Panics
    /// As [`issue`](Self::issue).
    pub fn write_pem(&self, dir: impl AsRef<Path>) -> io::Result<()> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("ca.pem"), self.ca_pem())?;
        self.server_certificate(LOCAL).write(dir, "server", self.ca_pem())
    }

    /// Adds the files of a client: `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// Those of the file system, and `InvalidInput` for a name that is no file's, or that of another file.
    ///
    /// # Panics
    /// As [`issue`](Self::issue).
    pub fn write_client_pem(&self, dir: impl AsRef<Path>, name: &str) -> io::Result<()> {
        let is_file_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !is_file_name || ["ca", "server"].contains(&name) {
            let why = format!("{name:?} cannot be the name of a client's files");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.client_certificate(name).write(dir.as_ref(), name, self.ca_pem())
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

impl Identity {
    /// What a program has in PEM: the certificate, behind it those that lead to its authority, and the key.
    #[must_use]
    pub fn from_pem(certificate_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        Self { certificate_pem: certificate_pem.into(), key_pem: key_pem.into() }
    }

    /// The certificate, or chain of certificates, in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key in PEM. Those that [`TestCa`] makes are PKCS#8.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        chain(&self.certificate_pem)
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| format!("no private key can be read from the PEM: {error}"))
    }

    fn write(&self, dir: &Path, name: &str, ca_pem: &str) -> io::Result<()> {
        let chain = format!("{}{ca_pem}", self.certificate_pem);
        std::fs::write(dir.join(format!("{name}.pem")), chain)?;
        write_secret(&dir.join(format!("{name}.key")), &self.key_pem)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key_pem", &"***").finish_non_exhaustive()
    }
}

/// The certificates in a PEM text, of which there must be one.
pub(crate) fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in the PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("the certificates cannot be read from the PEM: {error}")),
    }
}

fn set_validity(params: &mut CertificateParams, (from, until): (SystemTime, SystemTime)) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| {
        // Certificates count in seconds.
        Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    };
    params.not_before = epoch + since(from);
    params.not_after = epoch + since(until);
}

#[cfg(unix)]
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[cfg(not(unix))]
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}

#[allow(clippy::panic, reason = "tests make certificates, and have no use for one that could not be made")]
fn must<T>(made: Result<T, rcgen::Error>) -> T {
    made.unwrap_or_else(|error| panic!("cannot make a certificate: {error}"))
}
