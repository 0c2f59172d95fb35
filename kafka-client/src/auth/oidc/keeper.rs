//! Keeps a token and gets the next one in time: waits for a token's refresh to be due, for a pause after a failure to
//! end, or for somebody to want what there is none of.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::error::OidcError;
use super::response::Grant;
use crate::auth::{BoxFuture, Secret};
use crate::clock::FOREVER;
use crate::raw::Backoff;

/// The part of its life after which a token is replaced.
const REFRESH_AT: f64 = 0.8;
/// The least time between two rounds of requests, and the pause after a first failed round.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// The most that the pauses between failed rounds grow to.
const MOST_PAUSE: Duration = Duration::from_secs(60);

/// Gets a token that is good still: one round, with all the tries that are worth it.
pub(super) trait Fetch: Send + Sync + 'static {
    fn fetch(&self) -> BoxFuture<'_, Result<Held, OidcError>>;
}

/// A token that is kept. Its two clocks differ after the machine has slept, or was set: it is good by both.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) token: Secret,
    pub(super) expires: SystemTime,
    asked: Instant,
    deadline: Instant,
    refresh_at: Instant,
}

impl Held {
    /// A token that was asked for at a time, by both clocks.
    pub(super) fn new(grant: Grant, asked: Instant, wall: SystemTime) -> Self {
        let lifetime = grant.lifetime.min(FOREVER);
        Self {
            token: grant.token,
            expires: wall + lifetime,
            asked,
            deadline: asked + lifetime,
            refresh_at: asked + lifetime.mul_f64(REFRESH_AT).max(LEAST_PAUSE),
        }
    }

    pub(super) fn is_good(&self, now: Instant, wall: SystemTime) -> bool {
        now < self.deadline && wall < self.expires
    }
}

/// What is known, to all who wait.
#[derive(Clone, Default)]
struct Known {
    held: Option<Held>,
    /// The last round's failure, and until when it is the answer to everyone who asks.
    failure: Option<(OidcError, Instant)>,
    /// How many rounds are over.
    rounds: u64,
}

/// Keeps the token that `F` gets. One task does it, from the first question on until the keeper is dropped.
pub(super) struct Keeper<F> {
    fetch: Arc<F>,
    worker: Mutex<Option<Worker>>,
}

struct Worker {
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<F: Fetch> Keeper<F> {
    pub(super) fn new(fetch: F) -> Self {
        Self { fetch: Arc::new(fetch), worker: Mutex::new(None) }
    }

    /// The token that is kept, at once; without one, that of the round under way or of a new one.
    ///
    /// # Errors
    /// The round failed, or one did a moment ago.
    ///
    /// # Cancel safety
    /// Nothing is lost: the round goes on for others.
    pub(super) async fn token(&self) -> Result<Held, OidcError> {
        let (mut known, mut wanted) = self.worker();
        let mut rounds = None;
        loop {
            {
                let known = known.borrow_and_update();
                let now = Instant::now();
                if let Some(held) = known.held.as_ref().filter(|it| it.is_good(now, SystemTime::now())) {
                    return Ok(held.clone());
                }
                // A round that ended while this call waited is its answer, however long the pause after it.
                let before = *rounds.get_or_insert(known.rounds);
                if let Some((error, until)) = &known.failure
                    && (now < *until || known.rounds > before)
                {
                    return Err(error.clone());
                }
            }
            wanted.notify_one();
            if known.changed().await.is_err() {
                // The runtime that the worker ran on has ended.
                (known, wanted) = self.worker();
                rounds = None;
            }
        }
    }

    fn worker(&self) -> (watch::Receiver<Known>, Arc<Notify>) {
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = slot.as_ref().filter(|worker| worker.known.has_changed().is_ok()) {
            return (worker.known.clone(), worker.wanted.clone());
        }
        // What the last one knew stays known.
        let last = slot.take().map(|worker| worker.known.borrow().clone()).unwrap_or_default();
        let (sender, known) = watch::channel(last);
        let wanted = Arc::new(Notify::new());
        let task = tokio::spawn(keep(self.fetch.clone(), sender, wanted.clone())).abort_handle();
        *slot = Some(Worker { known: known.clone(), wanted: wanted.clone(), task });
        (known, wanted)
    }
}

async fn keep<F: Fetch>(fetch: Arc<F>, known: watch::Sender<Known>, wanted: Arc<Notify>) {
    let mut pause = Backoff::new(LEAST_PAUSE, MOST_PAUSE);
    let mut random = fastrand::Rng::new();
    loop {
        until_due(&known, &wanted).await;
        let outcome = fetch.fetch().await;
        // Whoever wanted it before now gets what comes now.
        let _ = wanted.notified().now_or_never();
        match outcome {
            Ok(held) => {
                pause.reset();
                tracing::debug!(lifetime = ?held.deadline - held.asked, "got a token");
                known.send_modify(|known| {
                    *known = Known { held: Some(held), failure: None, rounds: known.rounds + 1 };
                });
            }
            Err(error) => {
                let until = Instant::now() + pause.next(&mut random).max(LEAST_PAUSE);
                tracing::warn!(%error, "could not get a token");
                known.send_modify(|known| {
                    known.failure = Some((error, until));
                    known.rounds += 1;
                });
            }
        }
    }
}

/// Waits until there is a reason to ask for a token.
async fn until_due(known: &watch::Sender<Known>, wanted: &Notify) {
    loop {
        let (held, failure) = {
            let known = known.borrow();
            (known.held.clone(), known.failure.as_ref().map(|(_, until)| *until))
        };
        let now = Instant::now();
        if let Some(until) = failure.filter(|until| now < *until) {
            sleep_until(until).await;
            continue;
        }
        // While a token is good it is replaced without anybody asking; without one, nobody may want any.
        match held {
            Some(held) if held.is_good(now, SystemTime::now()) => {
                if now >= held.refresh_at {
                    return;
                }
                tokio::select! {
                    () = sleep_until(held.refresh_at) => {}
                    () = wanted.notified() => {
                        // Left over from somebody who was answered since, unless the clock was set.
                        if !held.is_good(Instant::now(), SystemTime::now()) {
                            return;
                        }
                    }
                }
            }
            ended => {
                wanted.notified().await;
                if let Some(ended) = ended {
                    sleep_until(ended.asked + LEAST_PAUSE).await;
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{advance, sleep};

    use super::super::error::OidcErrorKind;
    use super::*;

    /// Answers by a script, a second after it was asked; `None` is a failure.
    #[derive(Default)]
    struct Script {
        lifetimes: Mutex<VecDeque<Option<f64>>>,
        asked: AtomicU32,
    }

    impl Fetch for Arc<Script> {
        fn fetch(&self) -> BoxFuture<'_, Result<Held, OidcError>> {
            Box::pin(async {
                let (asked, wall) = (Instant::now(), SystemTime::now());
                let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(Duration::from_secs(1)).await;
                let lifetime = self.lifetimes.lock().unwrap().pop_front().flatten();
                let failure = || OidcError::new("https://login", number, OidcErrorKind::Expired);
                let lifetime = Duration::from_secs_f64(lifetime.ok_or_else(failure)?);
                let token = Secret::from(format!("token-{number}"));
                Ok(Held::new(Grant { token, lifetime }, asked, wall))
            })
        }
    }

    fn keeper(lifetimes: &[Option<f64>]) -> (Arc<Script>, Arc<Keeper<Arc<Script>>>) {
        let lifetimes = Mutex::new(lifetimes.iter().copied().collect());
        let script = Arc::new(Script { lifetimes, ..Script::default() });
        (script.clone(), Arc::new(Keeper::new(script)))
    }

    impl Script {
        fn asked(&self) -> u32 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    async fn token(keeper: &Keeper<Arc<Script>>) -> String {
        keeper.token().await.unwrap().token.expose().to_owned()
    }

    /// The clock moves only when every task waits, so that all that is due by then has happened.
    async fn pass(seconds: f64) {
        sleep(Duration::from_secs_f64(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_callers_share_one_flight() {
        let (script, keeper) = keeper(&[Some(100.0)]);
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let keeper = keeper.clone();
                tokio::spawn(async move { token(&keeper).await })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), "token-1");
        }
        assert_eq!(script.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_replaced_at_80_percent_of_its_life_and_nobody_waits() {
        let (script, keeper) = keeper(&[Some(100.0), Some(100.0), Some(100.0)]);
        assert_eq!(token(&keeper).await, "token-1");
        // The life counts from the request, a second ago.
        pass(78.9).await;
        assert_eq!(script.asked(), 1);
        pass(0.2).await;
        assert_eq!(script.asked(), 2);
        let before = Instant::now();
        assert_eq!(token(&keeper).await, "token-1");
        assert_eq!(before.elapsed(), Duration::ZERO);
        pass(1.0).await;
        assert_eq!(token(&keeper).await, "token-2");
        // And so on, with nobody asking.
        pass(80.0).await;
        assert_eq!(token(&keeper).await, "token-3");
        assert_eq!(script.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_refresh_keeps_the_token_and_is_tried_again_after_growing_pauses() {
        let (script, keeper) = keeper(&[Some(100.0), None, None, None, Some(100.0)]);
        assert_eq!(token(&keeper).await, "token-1");
        // Rounds at 80, about 82, 85 and 90 s, each a second long; the fourth gets a token.
        pass(82.5).await;
        assert!(matches!(script.asked(), 2 | 3), "{}", script.asked());
        assert_eq!(token(&keeper).await, "token-1");
        pass(14.0).await;
        assert_eq!(token(&keeper).await, "token-5");
        assert_eq!(script.asked(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_token_a_failure_is_the_answer_for_a_while_and_is_not_repeated_unasked() {
        let (script, keeper) = keeper(&[None, None, Some(100.0)]);
        let error = keeper.token().await.err().unwrap();
        assert_eq!(error.tries(), 1);
        // At once, from memory.
        let before = Instant::now();
        assert_eq!(keeper.token().await.err().unwrap().tries(), 1);
        assert_eq!(before.elapsed(), Duration::ZERO);
        pass(3_600.0).await;
        assert_eq!(script.asked(), 1);
        assert_eq!(keeper.token().await.err().unwrap().tries(), 2);
        pass(3.0).await;
        assert_eq!(token(&keeper).await, "token-3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_expired_while_refreshes_failed_is_not_given_out() {
        let (script, keeper) = keeper(&[Some(10.0)]);
        assert_eq!(token(&keeper).await, "token-1");
        pass(11.0).await;
        let error = keeper.token().await.err().unwrap();
        assert!(error.tries() > 1, "{error}");
        assert!(script.asked() >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_token_is_replaced_once_in_a_round_and_not_in_a_loop() {
        // It is got in 1 s and good for 0.1 s after that; the next one is asked for at 1 s already, so none is waited for.
        let (script, keeper) = keeper(&[Some(1.1); 100]);
        for number in 1..10 {
            assert_eq!(token(&keeper).await, format!("token-{number}"));
            pass(1.0).await;
        }
        assert!(script.asked() <= 11, "{}", script.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_over_when_it_comes_is_not_asked_for_in_a_loop() {
        let (script, keeper) = keeper(&[Some(0.5); 100]);
        let waits = tokio::time::timeout(Duration::from_secs(20), keeper.token()).await;
        assert!(waits.is_err());
        assert!(script.asked() <= 21, "{}", script.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_keeper_ends_its_task() {
        let (script, keeper) = keeper(&[Some(100.0), Some(100.0)]);
        token(&keeper).await;
        drop(keeper);
        pass(200.0).await;
        assert_eq!(script.asked(), 1);
        assert_eq!(Arc::strong_count(&script), 1);
    }

    #[test]
    fn a_new_runtime_gets_a_new_worker_and_the_token_that_was_known() {
        let (script, keeper) = keeper(&[Some(100.0), Some(100.0)]);
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let known = runtime.block_on(token(&keeper));
            assert_eq!(known, "token-1");
        }
        assert_eq!(script.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_past_the_expiry_ends_the_token() {
        let grant = Grant { token: Secret::from("t"), lifetime: Duration::from_secs(100) };
        let (now, wall) = (Instant::now(), SystemTime::now());
        let held = Held::new(grant, now, wall);
        advance(Duration::from_secs(50)).await;
        assert!(held.is_good(Instant::now(), wall));
        assert!(!held.is_good(Instant::now(), wall + Duration::from_secs(101)));
        advance(Duration::from_secs(50)).await;
        assert!(!held.is_good(Instant::now(), wall));
    }
}
