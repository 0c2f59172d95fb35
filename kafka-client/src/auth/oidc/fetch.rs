//! Asks a token endpoint, as often as is worth it: waits for an answer, and for the pause after one that may pass.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout};

use super::assertion::Assertion;
use super::endpoint::Endpoint;
use super::error::{OidcError, OidcErrorKind};
use super::http;
use super::keeper::{Fetch, Held};
use super::request::{Client, Request};
use crate::auth::{BoxFuture, Secret};
use crate::net::transport::Transport;
use crate::raw::Backoff;
use crate::tls::TlsConnector;

/// How often a token that had expired when it came is asked for again: mostly a clock is wrong, which stays so.
const MOST_EXPIRED: u32 = 3;

/// How long, and how often, a round tries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The first pause; the following ones double.
    pub(super) backoff: Duration,
    /// The most that a pause grows to, and the most that the whole round takes.
    pub(super) most: Duration,
    /// The most that one request takes, from connecting to the answer's end.
    pub(super) request: Duration,
}

impl Patience {
    /// Tries until it works, cannot work, or would take too long.
    async fn round<'a, T>(
        &self,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, OidcErrorKind>>,
    ) -> Result<T, (u32, OidcErrorKind)> {
        let end = Instant::now() + self.most;
        let mut backoff = Backoff::new(self.backoff, self.most);
        let mut random = fastrand::Rng::new();
        let mut expired = 0;
        loop {
            let limit = self.request.min(end.saturating_duration_since(Instant::now()));
            let error = match timeout(limit, attempt()).await {
                Ok(Ok(got)) => return Ok(got),
                Ok(Err(error)) => error,
                Err(_) => OidcErrorKind::TimedOut(limit),
            };
            expired += u32::from(matches!(error, OidcErrorKind::Expired));
            let mut pause = backoff.next(&mut random);
            if let OidcErrorKind::Unavailable { retry_after: Some(wanted), .. } = &error {
                pause = pause.max(*wanted);
            }
            let time_is_over = Instant::now().checked_add(pause).is_none_or(|next| next >= end);
            if !error.is_temporary() || expired == MOST_EXPIRED || time_is_over {
                return Err((backoff.attempts(), error));
            }
            tracing::debug!(%error, ?pause, "could not get a token, trying again");
            sleep(pause).await;
        }
    }
}

/// What to ask, where, and how.
pub(super) struct Source {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) tls: Option<TlsConnector>,
    pub(super) client: Client,
    pub(super) assertion: Option<Arc<Assertion>>,
    pub(super) scope: Option<String>,
    pub(super) parameters: Vec<(String, Secret)>,
    pub(super) assumed_lifetime: Option<Duration>,
    pub(super) patience: Patience,
}

impl Fetch for Source {
    fn fetch(&self) -> BoxFuture<'_, Result<Held, OidcError>> {
        Box::pin(async {
            let round = self.patience.round(|| Box::pin(self.attempt())).await;
            round.map_err(|(tries, kind)| OidcError::new(&self.endpoint, tries, kind))
        })
    }
}

impl Source {
    async fn attempt(&self) -> Result<Held, OidcErrorKind> {
        let (asked, now) = (Instant::now(), SystemTime::now());
        let assertion = self.assertion(now).await?;
        let request = Request::new(&self.client, self.scope.as_deref(), &self.parameters, assertion.as_ref());
        let header = request.credentials();
        let address = &self.endpoint.address;
        let mut stream = self.transport.connect(address, 0).await.map_err(OidcErrorKind::Unreachable)?;
        if let Some(tls) = &self.tls {
            stream = tls.connect(address, stream).await.map_err(OidcErrorKind::Unreachable)?;
        }
        let reply = http::post(stream, &self.endpoint, request).await?;
        let grant = reply.answer().grant(now, self.assumed_lifetime).map_err(|mut error| {
            // An endpoint that says back what it was told must not have it logged.
            let parameters = self.parameters.iter().map(|(_, value)| value);
            error.redact(assertion.iter().chain(&header).chain(self.client.secret()).chain(parameters));
            error
        })?;
        let held = Held::new(grant, asked, now);
        // The answer may have taken longer than the token lives.
        if held.is_good(Instant::now(), SystemTime::now()) { Ok(held) } else { Err(OidcErrorKind::Expired) }
    }

    async fn assertion(&self, now: SystemTime) -> Result<Option<Secret>, OidcErrorKind> {
        let Some(assertion) = self.assertion.clone() else { return Ok(None) };
        let made = tokio::task::spawn_blocking(move || assertion.make(now)).await;
        let made = made.unwrap_or_else(|_| Err("the function that makes it panicked".to_owned()));
        made.map(Some).map_err(OidcErrorKind::Assertion)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const PATIENCE: Patience = Patience {
        backoff: Duration::from_millis(100),
        most: Duration::from_secs(10),
        request: Duration::from_secs(4),
    };

    /// Fails as it is told, then succeeds; tells the outcome, the tries and the time they took.
    async fn round(failures: u32, failure: impl Fn() -> OidcErrorKind) -> (bool, u32, Duration) {
        let (tries, begun) = (AtomicU32::new(0), Instant::now());
        let attempt = || -> BoxFuture<'static, _> {
            let number = tries.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(if number < failures { Err(failure()) } else { Ok(()) }))
        };
        let outcome = PATIENCE.round(attempt).await;
        let tries = tries.into_inner();
        if let Err((counted, _)) = &outcome {
            assert_eq!(*counted, tries);
        }
        (outcome.is_ok(), tries, begun.elapsed())
    }

    fn unavailable(retry_after: Option<u64>) -> OidcErrorKind {
        OidcErrorKind::Unavailable { status: 503, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_after_doubling_pauses() {
        let (works, tries, took) = round(3, || unavailable(None)).await;
        assert!(works && tries == 4);
        // 100 + 200 + 400 ms, each ±20 %.
        assert!((560..=840).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_not_tried_again() {
        let refused = || OidcErrorKind::Refused { status: 401, error: None, description: None };
        assert_eq!(round(u32::MAX, refused).await, (false, 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_ends_in_its_time() {
        let (works, tries, took) = round(u32::MAX, || unavailable(None)).await;
        assert!(!works && (6..=8).contains(&tries), "{tries}");
        assert!(took <= PATIENCE.most, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_left_alone_as_long_as_it_asks() {
        let (works, tries, took) = round(1, || unavailable(Some(3))).await;
        assert!(works && tries == 2 && took.as_secs() == 3);
        // Longer than there is time for.
        assert_eq!(round(1, || unavailable(Some(3_600))).await, (false, 1, Duration::ZERO));
        assert_eq!(round(1, || unavailable(Some(u64::MAX))).await, (false, 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_are_expired_at_once_are_asked_for_three_times() {
        let (works, tries, _) = round(u32::MAX, || OidcErrorKind::Expired).await;
        assert!(!works && tries == 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_is_given_up_and_tried_again() {
        let begun = Instant::now();
        let outcome = PATIENCE.round::<()>(|| Box::pin(std::future::pending())).await;
        let (tries, error) = outcome.err().unwrap();
        assert!(matches!(error, OidcErrorKind::TimedOut(_)) && tries == 3, "{tries} {error}");
        assert!(begun.elapsed() <= PATIENCE.most + Duration::from_millis(10), "{:?}", begun.elapsed());
    }
}
