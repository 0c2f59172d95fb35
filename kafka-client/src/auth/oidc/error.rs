//! Why there is no token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::auth::{Secret, percent};
use crate::error::Error;

/// Why the token endpoint gave no token. Cheap to clone; no secret is in it.
#[derive(Clone, Debug)]
pub struct OidcError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: String,
    tries: u32,
    kind: OidcErrorKind,
}

/// What went wrong, on the last try.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OidcErrorKind {
    /// The endpoint does not grant us a token: look at the client's id and secret, its scope, or the assertion.
    Refused {
        /// The HTTP status.
        status: u16,
        /// OAuth's code, such as `invalid_client`.
        error: Option<String>,
        /// The endpoint's words.
        description: Option<String>,
    },
    /// The endpoint cannot answer now.
    Unavailable {
        /// The HTTP status: 429, or 500 and above.
        status: u16,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The endpoint sent us elsewhere, where credentials are not taken: give that address, if it can be trusted.
    Redirected {
        /// The HTTP status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The answer is longer than this many bytes; a token is not.
    TooLarge(usize),
    /// The answer is not one of OAuth 2.0.
    Malformed(String),
    /// The answer does not tell how long its token is good for, nor does the token: give
    /// [`assumed_lifetime`](super::OidcBuilder::assumed_lifetime).
    NoLifetime,
    /// The token had expired when it came: look at both machines' clocks.
    Expired,
    /// No answer came within this time.
    TimedOut(Duration),
    /// The endpoint could not be reached, or did not prove to be the one that was meant.
    Unreachable(Error),
    /// The connection ended before the answer did.
    Interrupted(String),
    /// There is no assertion to show: what is wrong with the key, the file or the function that it comes from.
    Assertion(String),
}

impl OidcError {
    pub(super) fn new(endpoint: impl fmt::Display, tries: u32, kind: OidcErrorKind) -> Self {
        Self(Arc::new(Inner { endpoint: endpoint.to_string(), tries, kind }))
    }

    /// What went wrong.
    pub fn kind(&self) -> &OidcErrorKind {
        &self.0.kind
    }

    /// How often it was tried.
    pub fn tries(&self) -> u32 {
        self.0.tries
    }

    /// Whether it may pass by itself.
    pub fn is_temporary(&self) -> bool {
        self.kind().is_temporary()
    }
}

impl OidcErrorKind {
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            // Kafka's client does not try these two again either: they do not pass.
            Self::Unavailable { status, .. } => !matches!(status, 501 | 505),
            Self::Expired | Self::TimedOut(_) | Self::Interrupted(_) => true,
            Self::Unreachable(error) => error.is_retriable(),
            Self::Refused { .. }
            | Self::Redirected { .. }
            | Self::TooLarge(_)
            | Self::Malformed(_)
            | Self::NoLifetime
            | Self::Assertion(_) => false,
        }
    }
}

impl OidcErrorKind {
    /// Replaces secrets in what the endpoint said, as they are and as they stood in the request's form.
    pub(super) fn redact<'a>(&mut self, secrets: impl Iterator<Item = &'a Secret>) {
        let texts: [Option<&mut String>; 2] = match self {
            Self::Refused { error, description, .. } => [error.as_mut(), description.as_mut()],
            Self::Redirected { location, .. } => [Some(location), None],
            Self::Malformed(reason) => [Some(reason), None],
            _ => return,
        };
        let secrets = secrets.map(Secret::expose).filter(|secret| !secret.is_empty());
        let secrets = Zeroizing::new(
            secrets.flat_map(|secret| [secret.to_owned(), encoded(secret)]).collect::<Vec<_>>(),
        );
        for text in texts.into_iter().flatten() {
            for secret in secrets.iter() {
                if text.contains(secret) {
                    *text = text.replace(secret, "***");
                }
                if let Some(begin) = cut_off(text, secret) {
                    text.replace_range(begin.., "***…");
                }
            }
        }
    }
}

fn encoded(secret: &str) -> String {
    let mut encoded = String::with_capacity(3 * secret.len());
    percent::encode_into(&mut encoded, secret);
    encoded
}

/// Where a secret begins of which the end was cut off with the text's.
fn cut_off(text: &str, secret: &str) -> Option<usize> {
    let kept = text.strip_suffix('…')?;
    let mut beginnings = secret.char_indices().rev().map(|(end, _)| &secret[..end]);
    let cut = beginnings.find(|beginning| !beginning.is_empty() && kept.ends_with(beginning))?;
    Some(kept.len() - cut.len())
}

impl fmt::Display for OidcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no token from {}: {}", self.0.endpoint, self.0.kind)?;
        if self.0.tries > 1 { write!(f, " (the last of {} tries)", self.0.tries) } else { Ok(()) }
    }
}

impl std::error::Error for OidcError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            // It is in the text itself.
            OidcErrorKind::Unreachable(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl fmt::Display for OidcErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, error, description } => {
                write!(f, "it refused with HTTP status {status}")?;
                for said in [error, description].into_iter().flatten() {
                    write!(f, ", {said:?}")?;
                }
                Ok(())
            }
            Self::Unavailable { status, .. } => write!(f, "it answered with HTTP status {status}"),
            Self::Redirected { status, location } => write!(
                f,
                "it redirects to {location:?} (HTTP status {status}), where credentials are not taken unless that \
                 address is given"
            ),
            Self::TooLarge(limit) => write!(f, "its answer is longer than {limit} bytes"),
            Self::Malformed(reason) => write!(f, "its answer is not one of OAuth 2.0: {reason}"),
            Self::NoLifetime => f.write_str(
                "its answer has no expires_in, and the token no exp claim, so that nobody knows when to refresh it",
            ),
            Self::Expired => f.write_str("the token had expired when it came: look at both machines' clocks"),
            Self::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Self::Unreachable(error) => write!(f, "{error}"),
            Self::Interrupted(reason) => write!(f, "the connection ended before the answer did: {reason}"),
            Self::Assertion(reason) => write!(f, "there is no assertion to show: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn redacted(said: &str, secret: &str) -> String {
        let secrets = [Secret::from(""), Secret::from(secret)];
        let mut kind = OidcErrorKind::Refused { status: 400, error: None, description: Some(said.into()) };
        kind.redact(secrets.iter());
        let OidcErrorKind::Refused { description: Some(said), .. } = kind else { panic!("{kind:?}") };
        said
    }

    #[test]
    fn a_secret_that_is_said_back_is_not_told_in_whichever_form() {
        assert_eq!(redacted("no hunter2 here, hunter2", "hunter2"), "no *** here, ***");
        assert_eq!(redacted("got client_secret=h%26nter2", "h&nter2"), "got client_secret=***");
        assert_eq!(redacted("no such client", "hunter2"), "no such client");
    }

    #[test]
    fn a_secret_that_is_cut_off_with_the_text_is_not_told_either() {
        assert_eq!(redacted("no hunter…", "hunter2"), "no ***…");
        assert_eq!(redacted("no h…", "hünter2"), "no ***…");
        assert_eq!(redacted("no hü…", "hünter2"), "no ***…");
        assert_eq!(redacted("no client…", "hunter2"), "no client…");
        // Where the text is whole, so is what it says.
        assert_eq!(redacted("no hunter", "hunter2"), "no hunter");
    }

    #[test]
    fn why_the_endpoint_was_not_reached_is_told_once() {
        let unreachable = Error::disconnected("login:443".parse().unwrap(), "reset");
        let error = OidcError::new("https://login", 1, OidcErrorKind::Unreachable(unreachable));
        assert!(error.to_string().contains("reset") && error.source().is_none(), "{error:?}");
    }
}
