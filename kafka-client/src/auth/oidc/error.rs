//! Why there is no token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Secret;
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
    /// Replaces secrets in what the endpoint said.
    pub(super) fn redact<'a>(&mut self, secrets: impl Iterator<Item = &'a Secret>) {
        let texts: [Option<&mut String>; 2] = match self {
            Self::Refused { error, description, .. } => [error.as_mut(), description.as_mut()],
            Self::Redirected { location, .. } => [Some(location), None],
            Self::Malformed(reason) => [Some(reason), None],
            _ => return,
        };
        let secrets: Vec<&str> = secrets.map(Secret::expose).filter(|secret| !secret.is_empty()).collect();
        for text in texts.into_iter().flatten() {
            for secret in &secrets {
                if text.contains(secret) {
                    *text = text.replace(secret, "***");
                }
            }
        }
    }
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
            OidcErrorKind::Unreachable(error) => Some(error),
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
