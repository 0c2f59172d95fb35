//! Waits while the broker has muted the connection (KIP-219).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::BrokerRequest;

/// Is not ready while the broker has muted the connection: it would not read what is written now.
pub struct Throttle<S> {
    inner: S,
    mute: Arc<Mute>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl<S> Throttle<S> {
    pub(crate) fn new(inner: S, mute: Arc<Mute>) -> Self {
        Self { inner, mute, waiting: None }
    }
}

impl<S: Clone> Clone for Throttle<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.mute.clone())
    }
}

impl<S> fmt::Debug for Throttle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("muted_until", &self.mute.ends()).finish_non_exhaustive()
    }
}

impl<S: Service<BrokerRequest>> Service<BrokerRequest> for Throttle<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.mute.wait() {
                // The end may have moved on meanwhile, so look again after the wait.
                Some(waiting) => self.waiting = Some(waiting),
                None => return self.inner.poll_ready(cx),
            }
        }
    }

    fn call(&mut self, request: BrokerRequest) -> S::Future {
        self.inner.call(request)
    }
}

/// Until when a connection is muted; written by its driver, read by its throttles.
pub(crate) struct Mute {
    base: Instant,
    /// Nanoseconds after `base`; 0 for "not muted".
    until: AtomicU64,
    lifted: Arc<Notify>,
}

impl Mute {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(0), lifted: Arc::new(Notify::new()) }
    }

    /// Mutes until `end`, unless it is muted for longer already.
    pub(crate) fn until(&self, end: Instant) {
        let nanos = u64::try_from(end.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX);
        self.until.fetch_max(nanos, Ordering::Relaxed);
    }

    /// Ends the mute: the connection is closed, and whoever waits is to be told.
    pub(crate) fn lift(&self) {
        self.until.store(0, Ordering::Relaxed);
        self.lifted.notify_waiters();
    }

    fn ends(&self) -> Option<Instant> {
        match self.until.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(self.base + Duration::from_nanos(nanos)).filter(|end| *end > Instant::now()),
        }
    }

    /// Waits for the end; `None` if it is not muted.
    fn wait(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>> {
        self.ends()?;
        let lifted = self.lifted.clone().notified_owned();
        // Looked at again, now that a `lift` between the two looks would be noticed.
        let end = self.ends()?;
        Some(Box::pin(async move {
            tokio::select! {
                () = sleep_until(end) => {}
                () = lifted => {}
            }
        }))
    }
}
