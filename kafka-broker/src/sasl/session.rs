//! Where a connection stands with its authentication: what it may ask now, and until when (KIP-152, KIP-368).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use tokio::time::Instant;

use super::exchange::{Against, Authenticated, Exchange, Failure, Step};
use crate::listener::{Listener, SaslMechanism};
use crate::principal::Principal;

/// A client may not begin anew more often.
const LEAST_BETWEEN: Duration = Duration::from_secs(1);
/// The most characters that the log has of a mechanism that a client made up.
const LONGEST_SHOWN: usize = 64;

/// One connection's authentication.
#[derive(Debug)]
pub(crate) struct Session {
    mechanisms: Vec<SaslMechanism>,
    /// How long a session lasts at most, in milliseconds; 0 for no end.
    most_ms: i64,
    /// Guards the state; the connection serves one request at a time, so nobody ever waits for it.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// There is no SASL.
    Open,
    /// A handshake must come.
    Handshake,
    /// A token must come.
    Exchange(Running),
    /// The client is known.
    Authenticated(Known),
    /// The connection ends, when the client has been told.
    Failed(String),
}

/// An exchange of tokens.
#[derive(Debug)]
struct Running {
    mechanism: SaslMechanism,
    exchange: Exchange,
    /// Tokens come without Kafka's headers, as they did before SaslAuthenticate.
    is_raw: bool,
    /// Who the client was before, if it authenticates anew.
    before: Option<Known>,
}

/// A client that has authenticated.
#[derive(Debug, Clone)]
struct Known {
    mechanism: SaslMechanism,
    principal: Arc<Principal>,
    /// When its session ends, if it does.
    expires: Option<Instant>,
    /// When it last began to authenticate anew.
    began_anew: Option<Instant>,
}

/// Whether a request may be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Served,
    /// Nobody has authenticated.
    TooEarly,
    /// The session is over.
    Expired,
    /// The client authenticates anew by another mechanism.
    OtherMechanism,
}

/// What a token leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The answer, and how long the session lasts, in milliseconds; 0 for no end, or none yet.
    Bytes(Vec<u8>, i64),
    /// The reason that the client is told.
    Refused(ErrorCode, String),
}

/// What a token is checked against.
pub(crate) struct Terms<'a> {
    pub(crate) against: Against<'a>,
    pub(crate) now: Instant,
}

impl Session {
    /// The session of a connection that came in on this listener.
    pub(crate) fn new(listener: Option<&Listener>) -> Self {
        let mechanisms = listener.map_or_else(Vec::new, |listener| listener.mechanisms.clone());
        let most_ms = listener.map_or(0, |listener| listener.session_ms);
        let state = if mechanisms.is_empty() { State::Open } else { State::Handshake };
        Self { mechanisms, most_ms, state: Mutex::new(state) }
    }

    /// Whether nobody has authenticated who has to.
    pub(crate) fn is_pending(&self) -> bool {
        match &*self.lock() {
            State::Handshake => true,
            State::Exchange(running) => running.before.is_none(),
            State::Open | State::Authenticated(_) | State::Failed(_) => false,
        }
    }

    /// Whether what comes next is a token without a header.
    pub(crate) fn expects_raw_token(&self) -> bool {
        matches!(&*self.lock(), State::Exchange(running) if running.is_raw)
    }

    /// Who has authenticated by SASL.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match &*self.lock() {
            State::Authenticated(known) => Some(Arc::clone(&known.principal)),
            State::Exchange(running) => running.before.as_ref().map(|known| Arc::clone(&known.principal)),
            State::Open | State::Handshake | State::Failed(_) => None,
        }
    }

    /// Why the connection must end, if it must, for the log.
    pub(crate) fn failure(&self) -> Option<String> {
        match &*self.lock() {
            State::Failed(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether a request may be served now.
    pub(crate) fn admit(&self, api: Api, now: Instant) -> Admission {
        match &*self.lock() {
            State::Open => Admission::Served,
            State::Handshake if matches!(api, Api::ApiVersions | Api::SaslHandshake) => Admission::Served,
            State::Exchange(running) if api == Api::SaslAuthenticate => match &running.before {
                // Kafka accepts the handshake, and closes the connection here without a word.
                Some(before) if before.mechanism != running.mechanism => Admission::OtherMechanism,
                _ => Admission::Served,
            },
            State::Authenticated(known) => {
                let begins = api == Api::SaslHandshake && known.may_begin_anew(now);
                let is_over = known.expires.is_some_and(|expires| now > expires);
                if is_over && !begins { Admission::Expired } else { Admission::Served }
            }
            State::Handshake | State::Exchange(_) | State::Failed(_) => Admission::TooEarly,
        }
    }

    /// A client names its mechanism: the code, and the mechanisms that it is told.
    pub(crate) fn handshake(&self, name: &str, version: i16, now: Instant) -> (ErrorCode, &[SaslMechanism]) {
        let mut state = self.lock();
        let before = match &*state {
            State::Handshake => None,
            State::Authenticated(known) if known.may_begin_anew(now) => {
                Some(Known { began_anew: Some(now), ..known.clone() })
            }
            _ => return (ErrorCode::ILLEGAL_SASL_STATE, &[]),
        };
        let Some(mechanism) = self.mechanisms.iter().copied().find(|known| known.name() == name) else {
            // As Rust would write it: a line break in it begins no line of the log.
            let shown: String = name.chars().take(LONGEST_SHOWN).collect();
            *state = State::Failed(format!("the SASL mechanism {shown:?} is not enabled"));
            return (ErrorCode::UNSUPPORTED_SASL_MECHANISM, &self.mechanisms);
        };
        let exchange = Exchange::new(mechanism);
        *state = State::Exchange(Running { mechanism, exchange, is_raw: version == 0, before });
        (ErrorCode::NONE, &self.mechanisms)
    }

    /// A client sends a token.
    pub(crate) fn token(&self, token: &[u8], terms: &Terms<'_>) -> Answer {
        let mut state = self.lock();
        let running = match &mut *state {
            State::Exchange(running) => running,
            State::Authenticated(_) => {
                let why = "SaslAuthenticate request received after successful authentication";
                return Answer::Refused(ErrorCode::ILLEGAL_SASL_STATE, why.to_owned());
            }
            _ => {
                return Answer::Refused(
                    ErrorCode::ILLEGAL_SASL_STATE,
                    "this listener has no SASL".to_owned(),
                );
            }
        };
        let mechanism = running.mechanism;
        let stepped = running.exchange.step(token, &terms.against);
        let failed = match stepped {
            Ok(Step::Continue(bytes)) => return Answer::Bytes(bytes, 0),
            Ok(Step::Done(bytes, authenticated)) => match running.known(&authenticated) {
                Ok(mut known) => {
                    let lifetime_ms = lifetime_ms(&authenticated, terms.against.wall_ms, self.most_ms);
                    let lasts = lifetime_ms.and_then(|most| u64::try_from(most).ok());
                    known.expires = lasts.map(|lasts| terms.now + Duration::from_millis(lasts));
                    *state = State::Authenticated(known);
                    return Answer::Bytes(bytes, lifetime_ms.unwrap_or_default());
                }
                Err(told) => Failure::Told(told),
            },
            Err(failure) => failure,
        };
        let again = if running.before.is_some() { "re-authentication" } else { "authentication" };
        let (told, logged) = match failed {
            Failure::Told(why) => (why.clone(), why),
            Failure::Hidden(why) => (
                format!(
                    "Authentication failed during {again} due to invalid credentials with SASL mechanism {mechanism}"
                ),
                why,
            ),
        };
        *state = State::Failed(format!("{again} by {mechanism} failed: {logged}"));
        Answer::Refused(ErrorCode::SASL_AUTHENTICATION_FAILED, told)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The client as it is known from now on, or why it cannot be.
    fn known(&self, authenticated: &Authenticated) -> Result<Known, String> {
        let principal = Arc::new(Principal::user(authenticated.user.as_str()));
        let began_anew = self.before.as_ref().and_then(|before| before.began_anew);
        match &self.before {
            Some(before) if before.principal != principal => Err(format!(
                "Cannot change principals during re-authentication from {}.{}: {}.{}",
                before.principal.kind, before.principal.name, principal.kind, principal.name
            )),
            _ => Ok(Known { mechanism: self.mechanism, principal, expires: None, began_anew }),
        }
    }
}

impl Known {
    /// As in Kafka: only where sessions end, and not twice in a second.
    fn may_begin_anew(&self, now: Instant) -> bool {
        self.expires.is_some() && self.began_anew.is_none_or(|began| now - began >= LEAST_BETWEEN)
    }
}

/// How long a session lasts: as long as its credential, and not longer than the broker lets any.
fn lifetime_ms(authenticated: &Authenticated, wall_ms: i64, most_ms: i64) -> Option<i64> {
    let by_credential = authenticated.expires_ms.map(|end| end.saturating_sub(wall_ms));
    let by_broker = Some(most_ms).filter(|most| *most > 0);
    let least = match (by_credential, by_broker) {
        (Some(one), Some(other)) => one.min(other),
        (one, other) => one.or(other)?,
    };
    Some(least.max(0))
}
