//! Signs the tokens that clients authenticate with by OAUTHBEARER, in the place of an identity provider.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Why there is no token or no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is no PEM of a PKCS#8 key on the curve P-256.
    #[error("this is no private key on the curve P-256 in PKCS#8 PEM")]
    Key,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// Issues JSON web tokens, signed by ES256 with a key of its own. A broker that is given its [`jwks`](Self::jwks) accepts them.
///
/// ```
/// use std::time::Duration;
///
/// let issuer = kafka_broker::TokenIssuer::new()?;
/// let token = issuer.token("alice", Duration::from_secs(60))?;
/// assert_eq!(token.split('.').count(), 3);
/// # Ok::<(), kafka_broker::TokenError>(())
/// ```
#[derive(Clone)]
pub struct TokenIssuer {
    key: Arc<EcdsaKeyPair>,
    pkcs8: Arc<[u8]>,
    random: SystemRandom,
}

impl TokenIssuer {
    /// The `kid` of the key.
    const KEY_ID: &str = "test";
    /// The `iss` of every token.
    pub const ISSUER: &str = "https://issuer.test";
    /// The `aud` of every token.
    pub const AUDIENCE: &str = "kafka";

    /// An issuer with a new key.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn new() -> Result<Self, TokenError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| TokenError::Random)?;
        Self::from_pkcs8(pkcs8.as_ref(), random)
    }

    /// An issuer with the key that another one's [`key_pem`](Self::key_pem) gave.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let pkcs8 = STANDARD.decode(body).map_err(|_| TokenError::Key)?;
        Self::from_pkcs8(&pkcs8, SystemRandom::new())
    }

    fn from_pkcs8(pkcs8: &[u8], random: SystemRandom) -> Result<Self, TokenError> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random);
        Ok(Self { key: Arc::new(key.map_err(|_| TokenError::Key)?), pkcs8: pkcs8.into(), random })
    }

    /// The private key, to issue from another process.
    #[must_use]
    pub fn key_pem(&self) -> String {
        let body = STANDARD.encode(&self.pkcs8);
        let lines: Vec<&str> =
            (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// The public key as a JSON web key set, which whoever checks the tokens needs.
    #[must_use]
    pub fn jwks(&self) -> String {
        // An uncompressed point: 4, then x and y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..65).unwrap_or(&[0; 64]).split_at(32);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": Self::KEY_ID,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
        .to_string()
    }

    /// A token for `subject` that ends after `lifetime`, by this machine's clock.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn token(&self, subject: &str, lifetime: Duration) -> Result<String, TokenError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.sign(&json!({
            "sub": subject, "iss": Self::ISSUER, "aud": Self::AUDIENCE,
            "iat": now.as_secs(), "exp": (now + lifetime).as_secs(),
        }))
    }

    /// A token with these claims, whatever they are.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn sign(&self, claims: &Value) -> Result<String, TokenError> {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": Self::KEY_ID});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|_| TokenError::Random)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_is_signed_by_the_key_of_the_set_and_by_no_other() {
        let issuer = TokenIssuer::new().unwrap();
        let token = issuer.token("alice", Duration::from_secs(60)).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verify = |issuer: &TokenIssuer| {
            let set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
            let part = |name: &str| URL_SAFE_NO_PAD.decode(set["keys"][0][name].as_str().unwrap()).unwrap();
            let point = [vec![4], part("x"), part("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature)
        };
        assert!(verify(&issuer).is_ok());
        assert!(verify(&TokenIssuer::new().unwrap()).is_err());
        let claims = signed.split_once('.').unwrap().1;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!((&claims["sub"], &claims["aud"]), (&json!("alice"), &json!("kafka")));
    }

    #[test]
    fn an_issuer_can_be_had_again_from_its_key() {
        let issuer = TokenIssuer::new().unwrap();
        assert_eq!(TokenIssuer::from_pem(&issuer.key_pem()).unwrap().jwks(), issuer.jwks());
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "é"] {
            assert!(matches!(TokenIssuer::from_pem(bad), Err(TokenError::Key)), "{bad}");
        }
    }

    #[test]
    fn its_key_is_not_shown() {
        assert_eq!(format!("{:?}", TokenIssuer::new().unwrap()), "TokenIssuer { .. }");
    }
}
