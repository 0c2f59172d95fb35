//! Counts what clients of one broker use, and says how long each has to stay away.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use tokio::time::Instant;

use super::limits::{Kind, Sharers};
use super::rate::{Bucket, Rate, Windows};
use crate::config::BrokerConfigs;
use crate::shared::RequestContext;

/// With so many entries, those that are over make room.
const MANY: usize = 1_000;

/// What the clients of one broker have used of late.
#[derive(Debug)]
pub(crate) struct Charges {
    windows: Windows,
    /// Guards the rates, for as long as one is changed.
    rates: Mutex<Recent<(Kind, Sharers), Rate>>,
    /// Guards the tokens for changes of partitions; they are few, as few clients change any.
    mutations: Mutex<Recent<Sharers, Bucket>>,
}

/// What is kept of clients until it is over. Clients choose their ids: with ever new ones they get a search for what is over
/// only when the number of entries has doubled, so that the search costs each of them the same.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, V>,
    /// With so many entries it is time to search.
    full: usize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), full: MANY }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// The entry of `key`, made if there is none.
    pub(super) fn entry(
        &mut self,
        key: K,
        mut is_over: impl FnMut(&mut V) -> bool,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        if self.entries.len() >= self.full && !self.entries.contains_key(&key) {
            self.entries.retain(|_, value| !is_over(value));
            self.entries.shrink_to(2 * self.entries.len());
            self.full = (2 * self.entries.len()).max(MANY);
        }
        self.entries.entry(key).or_insert_with(make)
    }
}

impl Charges {
    pub(crate) fn new(configs: &BrokerConfigs) -> Self {
        let size = Duration::from_secs(configs.number("quota.window.size.seconds"));
        Self {
            windows: Windows { size, count: configs.number("quota.window.num") },
            rates: Mutex::default(),
            mutations: Mutex::default(),
        }
    }

    /// Notes what is used, and says how long that takes to come within the limit.
    fn charge(&self, kind: Kind, sharers: Sharers, limit: f64, used: f64, now: Instant) -> Duration {
        let mut rates = lock(&self.rates);
        let rate = rates.entry((kind, sharers), |rate| rate.is_over(now, self.windows), Rate::default);
        rate.record(used, now, self.windows);
        rate.excess(limit, now, self.windows)
    }

    /// Takes tokens for changes of partitions, and says how long the client has to stay away.
    fn mutate(&self, sharers: Sharers, limit: f64, partitions: f64) -> Duration {
        let now = Instant::now();
        let mut buckets = lock(&self.mutations);
        let new = || Bucket::new(limit, now, self.windows);
        let bucket = buckets.entry(sharers, |bucket| bucket.is_full_at(now), new);
        bucket.take(partitions, limit, now, self.windows)
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RequestContext {
    /// The bytes of a Produce request, and the time it took: how long its client has to stay away.
    pub(crate) fn charge_produce(&self, bytes: usize) -> Duration {
        self.charge(Kind::Produce, number(bytes))
    }

    /// Counts the time that was spent on this request, and says how long its client has to stay away: one window at most.
    pub(crate) fn charge_time(&self, spent: Duration) -> Duration {
        let Some(node) = self.shared.nodes.get(&self.broker) else { return Duration::ZERO };
        self.charge(Kind::Request, spent.as_secs_f64() * 100.0).min(node.charges.windows.size)
    }

    /// Counts fetched bytes, and says how long the client has to stay away; then it gets none of them, and they are not
    /// counted.
    pub(crate) fn charge_fetch(&self, bytes: usize) -> Duration {
        let excess = self.charge(Kind::Fetch, number(bytes));
        if !excess.is_zero() {
            self.refund_fetch(bytes);
        }
        excess
    }

    /// Takes back what was counted for bytes that the client does not get.
    pub(crate) fn refund_fetch(&self, bytes: usize) {
        self.charge(Kind::Fetch, -number(bytes));
    }

    /// Whether the client may create or delete so many partitions now; they are counted if it may. As in Kafka, versions
    /// that do not know the code may, and are throttled.
    pub(crate) fn charge_mutations(&self, partitions: usize) -> Result<(), ErrorCode> {
        let strict_since = match self.api {
            Api::CreateTopics => 6,
            Api::DeleteTopics => 5,
            _ => 3,
        };
        if self.version >= strict_since && !self.mutation_debt(0).is_zero() {
            return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        }
        self.mutation_debt(partitions);
        Ok(())
    }

    /// How long the client has to stay away for the partitions that it created and deleted.
    pub(crate) fn throttle_mutations(&self) -> Duration {
        match self.api {
            Api::CreateTopics | Api::DeleteTopics | Api::CreatePartitions => self.mutation_debt(0),
            _ => Duration::ZERO,
        }
    }

    fn mutation_debt(&self, partitions: usize) -> Duration {
        let Some((sharers, limit)) = self.limit(Kind::Mutation) else { return Duration::ZERO };
        // Kafka's controller counts for the whole cluster.
        let Some(node) = self.shared.nodes.values().next() else { return Duration::ZERO };
        node.charges.mutate(sharers, limit, number(partitions))
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
        if self.session.is_pending() {
            // As in Kafka: whoever has not authenticated uses up nobody's quota by giving their client id.
            return Duration::ZERO;
        }
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

fn number(count: usize) -> f64 {
    // Exact up to 2^53.
    count as f64
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
