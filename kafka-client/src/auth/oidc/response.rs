//! Reads what a token endpoint answered. It is not trusted: the answer is bounded, and what is told of it is too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::error::OidcErrorKind;
use crate::auth::Secret;
use crate::clock::FOREVER;

/// The most bytes that are read of an answer. A token of Kafka's goes into a frame of 512 KiB; real ones have 1 to 8 KiB.
pub(crate) const MOST_BYTES: usize = 64 * 1024;
/// The most characters that are told of an error's text.
const MOST_SAID: usize = 300;

/// A token, and how long it is good for from when it was asked for.
pub(crate) struct Grant {
    pub(crate) token: Secret,
    pub(crate) lifetime: Duration,
}

/// What the endpoint answered, as far as it matters.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) location: Option<&'a str>,
    pub(crate) retry_after: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// The token in it. `assumed` is the lifetime of a token of which nobody tells it.
    pub(crate) fn grant(&self, now: SystemTime, assumed: Option<Duration>) -> Result<Grant, OidcErrorKind> {
        let status = self.status;
        match status {
            200 | 201 => granted(self.body, now, assumed),
            300..=399 => {
                Err(OidcErrorKind::Redirected { status, location: said(self.location.unwrap_or_default()) })
            }
            429 | 500..=599 => {
                let seconds = self.retry_after.and_then(|it| it.trim().parse().ok());
                Err(OidcErrorKind::Unavailable { status, retry_after: seconds.map(Duration::from_secs) })
            }
            400..=499 => Err(self.refused()),
            _ => Err(OidcErrorKind::Malformed(format!("HTTP status {status}"))),
        }
    }

    fn refused(&self) -> OidcErrorKind {
        let json = serde_json::from_slice(self.body).unwrap_or(Value::Null);
        let text = |names: [&str; 2]| names.iter().find_map(|name| json.get(name)?.as_str()).map(said);
        // The second of each are Okta's, as Java knows them too.
        let (error, description) =
            (text(["error", "errorCode"]), text(["error_description", "errorSummary"]));
        OidcErrorKind::Refused { status: self.status, error, description }
    }
}

fn granted(body: &[u8], now: SystemTime, assumed: Option<Duration>) -> Result<Grant, OidcErrorKind> {
    // The text of serde's error would quote nothing of the body but its own expectation and the place.
    let malformed = |reason: &str| OidcErrorKind::Malformed(reason.to_owned());
    let mut fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| malformed(&error_text(&error)))?;
    let token = take(&mut fields, "access_token").or_else(|| take(&mut fields, "id_token"));
    let token_type = fields.get("token_type").and_then(Value::as_str).map(str::to_owned);
    let expires_in = fields.get("expires_in").cloned();
    // Whatever else the endpoint sends, such as a refresh token, is secret as well.
    for value in fields.values_mut() {
        if let Value::String(text) = value {
            text.zeroize();
        }
    }
    let token = token.ok_or_else(|| malformed("it has no access_token"))?;
    if token.expose().is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("the access_token is empty, or has characters that no token has"));
    }
    if let Some(other) = token_type.filter(|it| !it.eq_ignore_ascii_case("bearer")) {
        return Err(OidcErrorKind::Malformed(format!("the token is of type {:?}, not Bearer", said(&other))));
    }
    let lifetime = match expires_in {
        Some(Value::Null) | None => match expiry(token.expose()) {
            Some(end) => end.duration_since(now).unwrap_or_default(),
            None => assumed.ok_or(OidcErrorKind::NoLifetime)?,
        },
        Some(value) => seconds(&value).ok_or_else(|| malformed("expires_in is no number of seconds"))?,
    };
    if lifetime.is_zero() {
        return Err(OidcErrorKind::Expired);
    }
    Ok(Grant { token, lifetime })
}

/// Moves a text out, without a copy of it that would stay behind.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Secret> {
    match fields.remove(name)? {
        Value::String(text) => Some(Secret::from(text)),
        _ => None,
    }
}

/// A number, or a number in a text as some endpoints send it. Less than none is none; a century is enough.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (!seconds.is_nan()).then(|| Duration::from_secs_f64(seconds.clamp(0.0, FOREVER.as_secs_f64())))
}

/// The `exp` claim of a token that is a JWT. Its signature is the broker's business.
fn expiry(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (_header, claims) = (parts.next()?, parts.next()?);
    parts.next()?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    UNIX_EPOCH.checked_add(seconds(claims.get("exp")?)?)
}

fn error_text(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "the JSON ends early",
        Category::Data => "it is no JSON object",
        Category::Syntax | Category::Io => "it is no JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

/// Some text of the endpoint's, short enough to be told.
fn said(text: &str) -> String {
    let mut short: String = text.chars().take(MOST_SAID).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn answer(status: u16, body: &str) -> Result<Grant, OidcErrorKind> {
        Answer { status, location: None, retry_after: None, body: body.as_bytes() }.grant(now(), None)
    }

    fn lifetime(body: &str) -> Result<u64, String> {
        answer(200, body).map(|grant| grant.lifetime.as_secs()).map_err(|error| error.to_string())
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_lifetime_is_what_the_answer_says_however_it_writes_it() {
        for expires_in in ["300", "300.0", "\"300\"", "3e2"] {
            let body = format!(r#"{{"access_token":"a.b","token_type":"bearer","expires_in":{expires_in}}}"#);
            assert_eq!(lifetime(&body), Ok(300), "{expires_in}");
        }
        assert_eq!(lifetime(r#"{"access_token":"a","expires_in":1e300}"#), Ok(FOREVER.as_secs()));
    }

    #[test]
    fn without_expires_in_the_lifetime_is_the_jwts() {
        let body = format!(r#"{{"access_token":"{}","expires_in":null}}"#, jwt(r#"{"exp":1000120}"#));
        assert_eq!(lifetime(&body), Ok(120));
        let expired = format!(r#"{{"access_token":"{}"}}"#, jwt(r#"{"exp":999999}"#));
        assert!(lifetime(&expired).unwrap_err().contains("expired"));
        for opaque in ["opaque", "a.b", "a.!.c", &jwt("{}"), &jwt(r#"{"exp":"soon"}"#)] {
            let body = format!(r#"{{"access_token":"{opaque}"}}"#);
            assert!(lifetime(&body).unwrap_err().contains("no expires_in"), "{opaque}");
        }
        let assumed = Some(Duration::from_secs(60));
        let body = br#"{"access_token":"opaque"}"#;
        let grant = Answer { status: 200, location: None, retry_after: None, body }.grant(now(), assumed);
        assert_eq!(grant.unwrap().lifetime, Duration::from_secs(60));
    }

    #[test]
    fn an_id_token_is_taken_where_there_is_no_access_token() {
        assert_eq!(answer(200, r#"{"id_token":"i","expires_in":1}"#).unwrap().token.expose(), "i");
        let both = r#"{"id_token":"i","access_token":"a","expires_in":1}"#;
        assert_eq!(answer(200, both).unwrap().token.expose(), "a");
    }

    #[test]
    fn an_answer_that_is_none_of_oauth_is_named() {
        for (body, reason) in [
            ("", "ends early"),
            ("<html>", "no JSON, at line 1"),
            ("[]", "no JSON object"),
            ("{}", "no access_token"),
            (r#"{"access_token":7}"#, "no access_token"),
            (r#"{"access_token":""}"#, "empty"),
            (r#"{"access_token":"a\u0001b"}"#, "characters"),
            (r#"{"access_token":"a b"}"#, "characters"),
            (r#"{"access_token":"a","token_type":"DPoP","expires_in":1}"#, "DPoP"),
            (r#"{"access_token":"a","expires_in":"soon"}"#, "expires_in"),
            (r#"{"access_token":"a","expires_in":"NaN"}"#, "expires_in"),
            (r#"{"access_token":"a","expires_in":[1]}"#, "expires_in"),
        ] {
            let error = lifetime(body).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
        for expires_in in ["0", "-5", "\"-1e99\""] {
            let body = format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#);
            assert!(matches!(answer(200, &body), Err(OidcErrorKind::Expired)), "{expires_in}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_endpoints_words_up_to_a_length() {
        let body = format!(r#"{{"error":"invalid_client","error_description":"{}"}}"#, "x".repeat(5_000));
        let Err(OidcErrorKind::Refused { status: 401, error, description }) = answer(401, &body) else {
            panic!("not refused")
        };
        assert_eq!(error.unwrap(), "invalid_client");
        assert_eq!(description.unwrap().chars().count(), MOST_SAID + 1);
        let error = answer(403, r#"{"errorCode":"E6","errorSummary":"no\nway"}"#).err().unwrap().to_string();
        assert_eq!(error, r#"it refused with HTTP status 403, "E6", "no\nway""#);
        let error = answer(400, "<html>").err().unwrap().to_string();
        assert_eq!(error, "it refused with HTTP status 400");
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        for (status, temporary) in [
            (500, true),
            (503, true),
            (429, true),
            (501, false),
            (400, false),
            (401, false),
            (302, false),
            (204, false),
        ] {
            assert_eq!(answer(status, "").err().unwrap().is_temporary(), temporary, "{status}");
        }
        let answer = Answer { status: 503, location: None, retry_after: Some(" 7 "), body: b"" };
        let Err(OidcErrorKind::Unavailable { retry_after, .. }) = answer.grant(now(), None) else {
            panic!("available")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
}
