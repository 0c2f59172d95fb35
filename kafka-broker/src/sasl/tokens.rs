//! Whether a bearer token is good: a JSON web token, signed by one of the keys that the broker was given.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use super::exchange::Authenticated;
use crate::config::{self, BrokerConfigs};

/// The most bytes of a token: it is parsed into something several times its size, before anybody is known.
const LONGEST: usize = 32 * 1024;

/// What tokens a broker takes for OAUTHBEARER.
///
/// ```
/// use kafka_broker::{OauthKeys, TokenIssuer};
/// let issuer = TokenIssuer::new()?;
/// let keys = OauthKeys::jwks(issuer.jwks()).issuer(TokenIssuer::ISSUER).audience(TokenIssuer::AUDIENCE);
/// # Ok::<(), kafka_broker::TokenError>(())
/// ```
#[derive(Debug, Clone)]
pub struct OauthKeys {
    /// `None` for unsecured tokens.
    jwks: Option<String>,
    issuer: Option<String>,
    audiences: Vec<String>,
}

impl OauthKeys {
    /// Tokens signed by RS256 or ES256 with a key of this JSON web key set. They need `sub`, which names the principal, and
    /// `exp`; 30 seconds too late is not too late (`sasl.oauthbearer.clock.skew.seconds`).
    #[must_use]
    pub fn jwks(json: impl Into<String>) -> Self {
        Self { jwks: Some(json.into()), issuer: None, audiences: Vec::new() }
    }

    /// Tokens that nobody signed (`alg: none`), and no others: for tests, as Kafka's default is. Anybody can make one.
    #[must_use]
    pub fn unsecured() -> Self {
        Self { jwks: None, issuer: None, audiences: Vec::new() }
    }

    /// Takes only tokens with this `iss` (`sasl.oauthbearer.expected.issuer`).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Takes only tokens with this `aud`, or with it among others (`sasl.oauthbearer.expected.audience`); may be called again
    /// for another one.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }
}

/// The keys, parsed.
#[derive(Debug)]
pub(crate) struct TokenVerifier {
    /// `None` for unsecured tokens.
    keys: Option<Vec<Key>>,
    issuer: Option<String>,
    /// One of which a token must be for, if there are any.
    audiences: Vec<String>,
    /// How far the clocks of the issuer and the broker may be apart, in milliseconds.
    skew_ms: i64,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
}

impl TokenVerifier {
    /// # Errors
    /// What is wrong with the key set, to be shown to the user.
    pub(crate) fn new(keys: &OauthKeys, configs: &BrokerConfigs) -> Result<Self, String> {
        let parsed = keys.jwks.as_deref().map(parse_set).transpose()?;
        let expected = configs.value("sasl.oauthbearer.expected.issuer").trim();
        let issuer = keys.issuer.clone().or((!expected.is_empty()).then(|| expected.to_owned()));
        let mut audiences = keys.audiences.clone();
        audiences
            .extend(config::list(configs.value("sasl.oauthbearer.expected.audience")).map(str::to_owned));
        let skew_ms = configs.number::<i64>("sasl.oauthbearer.clock.skew.seconds").saturating_mul(1000);
        Ok(Self { keys: parsed, issuer, audiences, skew_ms })
    }

    /// Who a token is of, unless it is refused, for the reason given.
    pub(crate) fn verify(&self, token: &str, wall_ms: i64) -> Result<Authenticated, &'static str> {
        if token.len() > LONGEST {
            return Err("it is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("it has not three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("it has not three parts")?;
        self.check_signature(&object(header)?, signed, signature)?;
        let claims = object(claims)?;
        self.check_claims(&claims, wall_ms)
    }

    fn check_signature(
        &self,
        header: &Map<String, Value>,
        signed: &str,
        signature: &str,
    ) -> Result<(), &'static str> {
        if header.contains_key("crit") {
            return Err("it has critical headers");
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or("it names no algorithm")?;
        let Some(keys) = &self.keys else {
            return if algorithm == "none" && signature.is_empty() {
                Ok(())
            } else {
                Err("it is signed, and only unsecured tokens are taken")
            };
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature is not base64")?;
        let id = header.get("kid").and_then(Value::as_str);
        let mut candidates = keys.iter().filter(|key| match (id, &key.id) {
            (Some(id), Some(own)) => id == own,
            _ => true,
        });
        let fits = |key: &Key| key.public.verifies(algorithm, signed.as_bytes(), &signature);
        if candidates.any(fits) { Ok(()) } else { Err("no key fits its signature") }
    }

    fn check_claims(&self, claims: &Map<String, Value>, now_ms: i64) -> Result<Authenticated, &'static str> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let user = text("sub").filter(|user| !user.trim().is_empty()).ok_or("it names no subject")?;
        let expires_ms = time(claims, "exp")?.ok_or("it has no end")?;
        if now_ms > expires_ms.saturating_add(self.skew_ms) {
            return Err("it has expired");
        }
        for (name, why) in [("nbf", "it is not valid yet"), ("iat", "it was issued in the future")] {
            if time(claims, name)?.is_some_and(|from| from.saturating_sub(self.skew_ms) > now_ms) {
                return Err(why);
            }
        }
        if self.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
            return Err("it is from another issuer");
        }
        let is_for = |audience: &String| match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        };
        if !self.audiences.is_empty() && !self.audiences.iter().any(is_for) {
            return Err("it is for another audience");
        }
        Ok(Authenticated { user: user.to_owned(), expires_ms: Some(expires_ms) })
    }
}

impl Public {
    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa(key), "RS256") => key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok(),
            (Self::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// A part of a token: an object in JSON in base64.
fn object(part: &str) -> Result<Map<String, Value>, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part of it is not base64")?;
    serde_json::from_slice(&bytes).map_err(|_| "a part of it is not a JSON object")
}

/// A time in seconds, which may have a fraction, in milliseconds.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..1e13).contains(seconds));
    Ok(Some((seconds.ok_or("a time in it is not a number of seconds")? * 1000.0) as i64))
}

/// The keys of a set that can verify signatures here; those of other kinds are passed over.
fn parse_set(json: &str) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_str(json).map_err(|error| format!("this is not JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("a JSON web key set has an array of keys")?;
    let parsed: Vec<Key> = keys.iter().filter_map(parse_key).collect();
    if parsed.is_empty() {
        return Err(
            "the set has no RSA key of 2048 bits or more, and no EC key on the curve P-256".to_owned()
        );
    }
    Ok(parsed)
}

fn parse_key(key: &Value) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let is = |name: &str, expected: &str| text(name).is_none_or(|value| value == expected);
    let public = match text("kty")? {
        "RSA" if is("alg", "RS256") => {
            let n = bytes("n")?;
            (n.len() >= 256).then_some(Public::Rsa(RsaPublicKeyComponents { n, e: bytes("e")? }))?
        }
        "EC" if is("alg", "ES256") && text("crv") == Some("P-256") => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == 32 && y.len() == 32).then(|| Public::P256([&[4][..], &x, &y].concat()))?
        }
        _ => return None,
    };
    is("use", "sig").then(|| Key { id: text("kid").map(str::to_owned), public })
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::tokens::TokenIssuer;

    const NOW: i64 = 1_700_000_000;

    fn of(keys: &OauthKeys) -> Result<TokenVerifier, String> {
        TokenVerifier::new(keys, &BrokerConfigs::default())
    }

    fn unsigned(header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", encode(header), encode(claims))
    }

    #[test]
    fn signed_tokens_are_taken_from_their_issuer_alone() {
        let (issuer, other) = (TokenIssuer::new().unwrap(), TokenIssuer::new().unwrap());
        let verifier = of(&OauthKeys::jwks(issuer.jwks())).unwrap();
        let claims = json!({"sub": "alice", "exp": NOW + 60});
        let verified = verifier.verify(&issuer.sign(&claims).unwrap(), NOW * 1000).unwrap();
        assert_eq!(verified, Authenticated { user: "alice".into(), expires_ms: Some((NOW + 60) * 1000) });
        let refused = |token: &str| verifier.verify(token, NOW * 1000).unwrap_err();
        assert_eq!(refused(&other.sign(&claims).unwrap()), "no key fits its signature");
        let token = issuer.sign(&claims).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let eve = URL_SAFE_NO_PAD.encode(json!({"sub": "eve", "exp": NOW + 60}).to_string());
        assert_eq!(refused(&format!("{header}.{eve}.{signature}")), "no key fits its signature");
        assert_eq!(refused(&format!("{signed}.")), "no key fits its signature");
        assert_eq!(refused(&unsigned(&json!({"alg": "none"}), &claims)), "no key fits its signature");
        // The other way to confuse: the public key as the secret of an HMAC.
        assert_eq!(refused(&unsigned(&json!({"alg": "HS256"}), &claims)), "no key fits its signature");
        assert_eq!(
            refused(&unsigned(&json!({"alg": "ES256", "crit": []}), &claims)),
            "it has critical headers"
        );
    }

    #[test]
    fn claims_are_checked_with_30_seconds_of_tolerance() {
        let issuer = TokenIssuer::new().unwrap();
        let keys = OauthKeys::jwks(issuer.jwks()).issuer("us").audience("kafka");
        let verifier = of(&keys).unwrap();
        let good = json!({"sub": "a", "exp": NOW - 29, "nbf": NOW + 29, "iss": "us", "aud": ["x", "kafka"]});
        let verify = |claims: &Value| verifier.verify(&issuer.sign(claims).unwrap(), NOW * 1000);
        assert!(verify(&good).is_ok());
        for (name, value, expected) in [
            ("exp", json!(NOW - 31), "it has expired"),
            ("exp", json!("soon"), "a time in it is not a number of seconds"),
            ("exp", json!(1e300), "a time in it is not a number of seconds"),
            ("exp", Value::Null, "a time in it is not a number of seconds"),
            ("nbf", json!(NOW + 31), "it is not valid yet"),
            ("iat", json!(NOW + 31), "it was issued in the future"),
            ("sub", json!(" "), "it names no subject"),
            ("sub", json!(7), "it names no subject"),
            ("iss", json!("them"), "it is from another issuer"),
            ("aud", json!(["x"]), "it is for another audience"),
            ("aud", json!("x"), "it is for another audience"),
        ] {
            let mut claims = good.clone();
            claims[name] = value;
            assert_eq!(verify(&claims), Err(expected), "{claims}");
        }
        let mut endless = good.clone();
        endless.as_object_mut().unwrap().remove("exp");
        assert_eq!(verify(&endless), Err("it has no end"));
    }

    #[test]
    fn unsecured_tokens_are_taken_only_where_they_were_asked_for() {
        let verifier = of(&OauthKeys::unsecured()).unwrap();
        let claims = json!({"sub": "alice", "exp": NOW + 60});
        assert!(verifier.verify(&unsigned(&json!({"alg": "none"}), &claims), NOW * 1000).is_ok());
        let issuer = TokenIssuer::new().unwrap();
        assert!(verifier.verify(&issuer.sign(&claims).unwrap(), NOW * 1000).is_err());
        let lifetime = std::time::Duration::from_secs(60);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let verifier = of(&OauthKeys::jwks(issuer.jwks())).unwrap();
        assert!(verifier.verify(&issuer.token("alice", lifetime).unwrap(), now).is_ok());
    }

    #[test]
    fn an_rsa_key_verifies_rs256() {
        // RFC 7515, A.2: the key, and a token whose claims have no subject.
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pC\
                 gNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsm\
                 tdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0\
                     cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr\
                     7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzD\
                     wusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let set = |n: &str| json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": n}]}).to_string();
        let verifier = of(&OauthKeys::jwks(set(n))).unwrap();
        assert_eq!(verifier.verify(token, NOW), Err("it names no subject"), "its signature is good");
        let other = of(&OauthKeys::jwks(set(&n.replace("ofgW", "pfgW")))).unwrap();
        assert_eq!(other.verify(token, NOW), Err("no key fits its signature"));
    }

    #[test]
    fn hostile_tokens_and_sets_are_refused_and_never_panic() {
        let verifier = of(&OauthKeys::unsecured()).unwrap();
        let deep = URL_SAFE_NO_PAD.encode("[".repeat(10_000));
        let long = "a".repeat(LONGEST + 1);
        for token in ["", ".", "..", "a.b.c", "....", "e30.e30.", &deep, &format!("{deep}.{deep}."), &long] {
            assert!(verifier.verify(token, NOW).is_err(), "{token:.20}");
        }
        for set in [
            "",
            "{}",
            "[]",
            "{\"keys\":[]}",
            "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}",
        ] {
            assert!(of(&OauthKeys::jwks(set)).is_err(), "{set}");
        }
    }
}
