//! Counts what clients of one broker use, and says how long each has to stay away.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::{Kind, Sharers};
use super::rate::{Rate, Windows};
use crate::config::BrokerConfigs;
use crate::shared::RequestContext;

/// With so many rates, those that are over make room.
const MANY: usize = 1_000;

/// What the clients of one broker have used of late.
#[derive(Debug)]
pub(crate) struct Charges {
    windows: Windows,
    /// Guards the rates, for as long as one is changed.
    rates: Mutex<HashMap<(Kind, Sharers), Rate>>,
}

impl Charges {
    pub(crate) fn new(configs: &BrokerConfigs) -> Self {
        let size = Duration::from_secs(configs.number("quota.window.size.seconds"));
        Self { windows: Windows { size, count: configs.number("quota.window.num") }, rates: Mutex::default() }
    }

    /// Notes what is used, and says how long that takes to come within the limit.
    fn charge(&self, kind: Kind, sharers: Sharers, limit: f64, used: f64, now: Instant) -> Duration {
        let mut rates = self.lock();
        if rates.len() >= MANY && !rates.contains_key(&(kind, sharers.clone())) {
            rates.retain(|_, rate| !rate.is_over(now, self.windows));
        }
        let rate = rates.entry((kind, sharers)).or_default();
        rate.record(used, now, self.windows);
        rate.excess(limit, now, self.windows)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Kind, Sharers), Rate>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestContext {
    /// The bytes of a Produce request, and the time it took: how long its client has to stay away.
    pub(crate) fn charge_produce(&self, bytes: usize) -> Duration {
        self.charge(Kind::Produce, bytes_of(bytes))
    }

    /// Counts the time that was spent on this request, and says how long its client has to stay away: one window at most.
    pub(crate) fn charge_time(&self, spent: Duration) -> Duration {
        let Some(node) = self.shared.nodes.get(&self.broker) else { return Duration::ZERO };
        self.charge(Kind::Request, spent.as_secs_f64() * 100.0).min(node.charges.windows.size)
    }

    /// Counts fetched bytes, and says how long the client has to stay away; then it gets none of them, and they are not
    /// counted.
    pub(crate) fn charge_fetch(&self, bytes: usize) -> Duration {
        let excess = self.charge(Kind::Fetch, bytes_of(bytes));
        if !excess.is_zero() {
            self.refund_fetch(bytes);
        }
        excess
    }

    /// Takes back what was counted for bytes that the client does not get.
    pub(crate) fn refund_fetch(&self, bytes: usize) {
        self.charge(Kind::Fetch, -bytes_of(bytes));
    }

    /// What can be fetched at once without certain throttling: a client that always asked for more would never get any.
    pub(crate) fn most_fetched(&self) -> usize {
        let Some(node) = self.shared.nodes.get(&self.broker) else { return usize::MAX };
        let windows = node.charges.windows;
        let Some((_, limit)) = self.limit(Kind::Fetch) else { return usize::MAX };
        let most = limit * f64::from(windows.count.saturating_sub(1)) * windows.size.as_secs_f64();
        // `as` stops at the largest number.
        most as usize
    }

    fn charge(&self, kind: Kind, used: f64) -> Duration {
        let Some((sharers, limit)) = self.limit(kind) else { return Duration::ZERO };
        let Some(node) = self.shared.nodes.get(&self.broker) else { return Duration::ZERO };
        node.charges.charge(kind, sharers, limit, used, Instant::now())
    }

    fn limit(&self, kind: Kind) -> Option<(Sharers, f64)> {
        let quotas = &self.image().quotas;
        if quotas.is_empty() {
            return None;
        }
        let client_id = self.client_id.clone().unwrap_or_else(|| Arc::from(""));
        quotas.limit(kind, &self.principal.name, &client_id)
    }
}

fn bytes_of(bytes: usize) -> f64 {
    // Exact up to 2^53.
    bytes as f64
}

/// Runs `work`, and tells how long it was worked on: the time that it waited for something does not count.
pub(crate) async fn measured<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut spent = Duration::ZERO;
    let done = std::future::poll_fn(|context| {
        // The machine's time, not tokio's: a paused clock does no work.
        let start = std::time::Instant::now();
        let polled = work.as_mut().poll(context);
        spent += start.elapsed();
        match polled {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    (done, spent)
}
