//! The assertion (RFC 7523) by which a client without a shared secret proves who it is: a JWT that we sign, or one that
//! somebody else has made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use serde_json::{Map, Value};

use crate::auth::Secret;
use crate::serde::BoxError;
use crate::tls;

/// The most bytes that are read of a file with a key or an assertion.
const MOST_BYTES: u64 = 64 * 1024;

/// Where assertions come from. A new one is made, read or asked for with every request to the token endpoint.
#[derive(Clone)]
pub struct Assertion(Source);

#[derive(Clone)]
enum Source {
    Signed(SignedAssertion),
    File(PathBuf),
    Function(Arc<dyn Fn() -> Result<Secret, BoxError> + Send + Sync>),
}

impl Assertion {
    /// An assertion that stands in a file and is read whenever one is needed (`sasl.oauthbearer.assertion.file`).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// An assertion that a function makes. It is called where it may block.
    pub fn from_fn(make: impl Fn() -> Result<Secret, BoxError> + Send + Sync + 'static) -> Self {
        Self(Source::Function(Arc::new(make)))
    }

    /// Makes one. Blocks while files are read.
    ///
    /// # Errors
    /// What is wrong, without what is secret about it.
    pub(super) fn make(&self, now: SystemTime) -> Result<Secret, String> {
        let made = match &self.0 {
            Source::Signed(signed) => return signed.sign(now),
            Source::File(path) => read(path)?,
            Source::Function(make) => make().map_err(|error| error.to_string())?,
        };
        match made.expose().trim() {
            "" => Err("it is empty".to_owned()),
            trimmed if trimmed.len() == made.expose().len() => Ok(made),
            trimmed => Ok(Secret::from(trimmed)),
        }
    }
}

impl From<SignedAssertion> for Assertion {
    fn from(signed: SignedAssertion) -> Self {
        Self(Source::Signed(signed))
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Signed(signed) => signed.fmt(f),
            Source::File(path) => f.debug_tuple("Assertion::file").field(path).finish(),
            Source::Function(_) => f.write_str("Assertion::from_fn"),
        }
    }
}

/// The algorithm of an assertion's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// RSA with PKCS#1 v1.5 padding and SHA-256.
    Rs256,
    /// ECDSA on the curve P-256 with SHA-256.
    Es256,
}

/// An assertion that this client makes and signs: `iat` is now, `nbf` a minute ago, `exp` in 300 s, `jti` random.
#[derive(Clone)]
pub struct SignedAssertion {
    key: Key,
    password: Option<Secret>,
    algorithm: Option<JwtAlgorithm>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    lifetime: Duration,
}

#[derive(Clone)]
enum Key {
    Pem(Secret),
    File(PathBuf),
}

impl SignedAssertion {
    /// Signs with the private key in this PEM text: RSA, or EC on the curve P-256.
    pub fn with_pem(key: impl Into<Secret>) -> Self {
        Self::new(Key::Pem(key.into()))
    }

    /// Signs with the private key in this PEM file, which is read whenever an assertion is made
    /// (`sasl.oauthbearer.assertion.private.key.file`).
    pub fn with_pem_file(key: impl Into<PathBuf>) -> Self {
        Self::new(Key::File(key.into()))
    }

    fn new(key: Key) -> Self {
        let (header, claims) = (Map::new(), Map::new());
        Self { key, password: None, algorithm: None, header, claims, lifetime: Duration::from_secs(300) }
    }

    /// The password of a key that is encrypted (`sasl.oauthbearer.assertion.private.key.passphrase`); needs the feature
    /// `encrypted-keys`.
    #[must_use]
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The `iss` claim, mostly the client's id.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.claim("iss", issuer)
    }

    /// The `sub` claim, mostly the client's id.
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject)
    }

    /// The `aud` claim, mostly the token endpoint's URL.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience)
    }

    /// Any claim whose value is a text.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.insert(name.into(), Value::String(value.into()));
        self
    }

    /// The `kid` in the JWT's header, by which the endpoint finds the public key.
    #[must_use]
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        self.header.insert("kid".into(), Value::String(id.into()));
        self
    }

    /// How long an assertion is good for. 300 s by default.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Demands this algorithm; else it is the one that the key is for.
    #[must_use]
    pub fn algorithm(mut self, algorithm: JwtAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    fn sign(&self, now: SystemTime) -> Result<Secret, String> {
        let key = self.signing_key()?;
        let algorithm = match key.algorithm() {
            SignatureAlgorithm::RSA => JwtAlgorithm::Rs256,
            SignatureAlgorithm::ECDSA => JwtAlgorithm::Es256,
            other => return Err(format!("a key for {other:?} signs neither RS256 nor ES256")),
        };
        if let Some(wanted) = self.algorithm.filter(|wanted| *wanted != algorithm) {
            return Err(format!("the key is for {algorithm:?}, not for {wanted:?}"));
        }
        let scheme = match algorithm {
            JwtAlgorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            JwtAlgorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        };
        let signer = key.choose_scheme(&[scheme]).ok_or("the key's curve is not P-256")?;
        let text = self.unsigned(algorithm, now)?;
        let mut signature = signer.sign(text.as_bytes()).map_err(|error| error.to_string())?;
        if algorithm == JwtAlgorithm::Es256 {
            signature = fixed_size(&signature).ok_or("the signature is not that of P-256")?.to_vec();
        }
        Ok(Secret::from(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    fn unsigned(&self, algorithm: JwtAlgorithm, now: SystemTime) -> Result<String, String> {
        let mut header = self.header.clone();
        let name = if algorithm == JwtAlgorithm::Rs256 { "RS256" } else { "ES256" };
        header.insert("alg".into(), name.into());
        header.insert("typ".into(), "JWT".into());
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| error.to_string())?;
        let mut claims = self.claims.clone();
        claims.insert("iat".into(), now.into());
        // The endpoint's clock may be behind ours.
        claims.insert("nbf".into(), now.saturating_sub(60).into());
        claims.insert("exp".into(), now.saturating_add(self.lifetime.as_secs()).into());
        claims.insert("jti".into(), URL_SAFE_NO_PAD.encode(id).into());
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(Value::Object(part).to_string()));
        Ok(format!("{header}.{claims}"))
    }

    fn signing_key(&self) -> Result<Arc<dyn SigningKey>, String> {
        let pem = match &self.key {
            Key::Pem(pem) => pem.clone(),
            Key::File(path) => read(path)?,
        };
        let key = tls::private_key(pem.expose().as_bytes(), self.password.as_ref())?;
        let provider = tls::provider().map_err(|error| error.to_string())?;
        provider.key_provider.load_private_key(key).map_err(|error| format!("the key is not usable: {error}"))
    }
}

impl fmt::Debug for SignedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SignedAssertion");
        if let Key::File(path) = &self.key {
            shown.field("key", path);
        }
        shown.field("claims", &self.claims).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// The two numbers of an ECDSA signature side by side, 32 bytes each, as JWTs have them, of its DER: a SEQUENCE of two
/// INTEGERs, all shorter than 128 bytes.
fn fixed_size(der: &[u8]) -> Option<[u8; 64]> {
    fn integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
        let [0x02, length @ 1..=33, rest @ ..] = der else { return None };
        rest.split_at_checked(usize::from(*length))
    }
    let [0x30, length, numbers @ ..] = der else { return None };
    if usize::from(*length) != numbers.len() {
        return None;
    }
    let (r, rest) = integer(numbers)?;
    let (s, rest) = integer(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let mut fixed = [0; 64];
    for (number, place) in [r, s].into_iter().zip(fixed.chunks_exact_mut(32)) {
        // A zero in front says that the number is positive.
        let number = if number.len() == 33 { number.strip_prefix(&[0])? } else { number };
        place[32 - number.len()..].copy_from_slice(number);
    }
    Some(fixed)
}

fn read(path: &Path) -> Result<Secret, String> {
    use std::io::Read as _;
    let trouble = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(trouble)?;
    let room = file.metadata().map_err(trouble)?.len().min(MOST_BYTES) as usize + 1;
    // All at once: growing would leave copies of a secret behind.
    let mut text = String::with_capacity(room);
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(trouble)?;
    let text = Secret::from(text);
    if text.expose().len() as u64 > MOST_BYTES {
        return Err(format!("{}: larger than {MOST_BYTES} bytes", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn json(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// Its header, its claims, what was signed and the signature.
    fn taken_apart(jwt: &Secret) -> (Value, Value, String, Vec<u8>) {
        let parts: Vec<&str> = jwt.expose().split('.').collect();
        let [header, claims, signature] = parts.as_slice() else { panic!("not three parts") };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        (json(header), json(claims), format!("{header}.{claims}"), signature)
    }

    #[test]
    fn an_assertion_has_the_claims_and_a_signature_that_the_public_key_verifies() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let assertion = SignedAssertion::with_pem(key.serialize_pem())
            .issuer("billing")
            .subject("me")
            .audience("https://login")
            .claim("tenant", "t1")
            .key_id("k1");
        let jwt = Assertion::from(assertion.clone()).make(now()).unwrap();
        let (header, claims, signed, signature) = taken_apart(&jwt);
        assert_eq!(header, serde_json::json!({"alg": "ES256", "typ": "JWT", "kid": "k1"}));
        let id = claims["jti"].as_str().unwrap().to_owned();
        assert_eq!(
            claims,
            serde_json::json!({
                "iss": "billing", "sub": "me", "aud": "https://login", "tenant": "t1",
                "iat": NOW, "nbf": NOW - 60, "exp": NOW + 300, "jti": id,
            })
        );
        assert_eq!(signature.len(), 64);
        let verifier = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_FIXED,
            key.public_key_raw(),
        );
        verifier.verify(signed.as_bytes(), &signature).unwrap();
        let (_, again, ..) = taken_apart(&Assertion::from(assertion).make(now()).unwrap());
        assert_ne!(again["jti"], id.as_str());
    }

    #[test]
    fn keys_that_cannot_sign_are_named() {
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        let sign = |assertion: SignedAssertion| Assertion::from(assertion).make(now()).unwrap_err();
        assert!(sign(SignedAssertion::with_pem(p384)).contains("P-256"));
        assert!(sign(SignedAssertion::with_pem(ed25519)).contains("ED25519"));
        let wrong = SignedAssertion::with_pem(p256).algorithm(JwtAlgorithm::Rs256);
        assert_eq!(sign(wrong), "the key is for Es256, not for Rs256");
        assert!(sign(SignedAssertion::with_pem("hunter2")).contains("PRIVATE KEY"));
        assert!(!sign(SignedAssertion::with_pem("hunter2")).contains("hunter2"));
        assert!(
            sign(SignedAssertion::with_pem_file("/nonexistent/key.pem"))
                .starts_with("/nonexistent/key.pem: ")
        );
    }

    #[test]
    fn a_der_signature_becomes_two_numbers_of_32_bytes() {
        // A short number, and one with a zero in front.
        let mut der = vec![0x30, 39, 0x02, 2, 0x01, 0x02, 0x02, 33, 0x00];
        der.extend([0xff; 32]);
        let fixed = fixed_size(&der).unwrap();
        assert_eq!(fixed[..30], [0; 30]);
        assert_eq!(fixed[30..32], [1, 2]);
        assert_eq!(fixed[32..], [0xff; 32]);
        der[8] = 1;
        assert!(fixed_size(&der).is_none());
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0],
            &[0x30, 3, 2, 1],
            &[0x30, 3, 2, 2, 1],
            &[0x30, 6, 2, 1, 1, 2, 1, 1, 0],
        ] {
            assert!(fixed_size(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_ready_made_assertion_is_read_anew_each_time_and_trimmed() {
        let path = std::env::temp_dir().join(format!("assertion-{}", std::process::id()));
        let assertion = Assertion::file(&path);
        assert!(assertion.make(now()).unwrap_err().contains(path.to_str().unwrap()));
        for content in ["a.b.c\n", "d.e.f"] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(assertion.make(now()).unwrap().expose(), content.trim());
        }
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(assertion.make(now()).unwrap_err(), "it is empty");
        std::fs::write(&path, "x".repeat(70_000)).unwrap();
        assert!(assertion.make(now()).unwrap_err().contains("larger than"));
        std::fs::remove_file(&path).unwrap();
        let made = Assertion::from_fn(|| Ok(Secret::from("x.y.z")));
        assert_eq!(made.make(now()).unwrap().expose(), "x.y.z");
        let failing = Assertion::from_fn(|| Err("the vault is closed".into()));
        assert_eq!(failing.make(now()).unwrap_err(), "the vault is closed");
    }

    #[test]
    fn an_rsa_key_signs_rs256() {
        let pem = include_str!("../../../tests/tls/keys/rsa.pkcs1.key");
        let (header, _, text, signature) = taken_apart(&SignedAssertion::with_pem(pem).sign(now()).unwrap());
        assert_eq!(header["alg"], "RS256");
        let key = tls::private_key(pem.as_bytes(), None).unwrap();
        let key = ring::rsa::KeyPair::from_der(key.secret_der()).unwrap();
        let algorithm = &ring::signature::RSA_PKCS1_2048_8192_SHA256;
        let verifier = ring::signature::UnparsedPublicKey::new(algorithm, key.public());
        verifier.verify(text.as_bytes(), &signature).unwrap();
    }
}
