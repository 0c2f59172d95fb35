//! What is known of the cluster, and the way to the broker that can answer.

pub(crate) mod backoff;
pub(crate) mod coordinator;
#[cfg(test)]
pub(crate) mod fake;
mod interest;
pub(crate) mod metadata;
mod metadata_response;
pub(crate) mod refresh;
pub(crate) mod route;
mod schedule;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::coordinator::Coordinators;
use self::interest::Interest;
use self::metadata::{Broker, Metadata};
use self::schedule::Schedule;
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};
use crate::net::pool::{NodeState, Pool};
use crate::types::NodeId;

/// Everything that the roles on a client share. Its tasks hold it too, so its end is [`shut_down`](Self::shut_down)'s
/// to bring about.
pub(crate) struct Cluster {
    pub(crate) config: ClientConfig,
    pub(crate) pool: Pool,
    pub(crate) coordinators: Coordinators,
    metadata: ArcSwap<Metadata>,
    /// The generation of `metadata`, for those who wait for the next one.
    generation: watch::Sender<u64>,
    /// Why the last refresh failed, if it did.
    failure: watch::Sender<Option<Error>>,
    state: Mutex<State>,
    /// Wakes the refresher's task when the schedule has changed.
    wake: Notify,
}

/// Guards what decides on the next refresh, and makes one of two publications of metadata the later one.
struct State {
    interest: Interest,
    schedule: Schedule,
    random: fastrand::Rng,
    task: Option<AbortHandle>,
}

impl Cluster {
    pub(crate) fn new(config: ClientConfig, pool: Pool) -> Self {
        let schedule = Schedule::new(
            config.metadata_max_age,
            config.rebootstrap_trigger,
            config.retry_backoff,
            config.retry_backoff_max,
        );
        let state = State { interest: Interest::default(), schedule, random: config.random(2), task: None };
        Self {
            config,
            pool,
            coordinators: Coordinators::default(),
            metadata: ArcSwap::default(),
            generation: watch::Sender::new(0),
            failure: watch::Sender::new(None),
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    /// What is known now.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        self.metadata.load_full()
    }

    /// Ends the connections and the tasks, so that nothing holds the cluster any longer.
    pub(crate) fn shut_down(&self) {
        self.pool.close();
        let task = self.state().task.take();
        task.iter().for_each(AbortHandle::abort);
        self.coordinators.shut_down();
    }

    /// The broker with the least to do of those that are known, `except` those that failed already: one that is
    /// connected before one that is not, and one whose last connection failed last.
    pub(crate) fn least_loaded(&self, except: &[NodeId]) -> Option<Broker> {
        let metadata = self.metadata.load();
        let mut candidates: Vec<&Broker> =
            metadata.brokers().iter().filter(|broker| !except.contains(&broker.id)).collect();
        self.state().random.shuffle(&mut candidates);
        let load = |broker: &&&Broker| match self.pool.node_state(broker.id) {
            NodeState::Ready { in_flight } => (0, in_flight),
            NodeState::Opening => (1, 0),
            NodeState::Unknown => (2, 0),
            NodeState::BackingOff(_) => (3, 0),
        };
        candidates.iter().min_by_key(load).map(|broker| Broker::clone(broker))
    }

    /// A random number generator of one's own.
    pub(crate) fn fork_random(&self) -> fastrand::Rng {
        self.state().random.fork()
    }

    /// Publishes what `change` makes of the current snapshot, if it makes anything of it.
    fn publish(&self, change: impl FnOnce(&Metadata, &Interest) -> Option<Metadata>) {
        let state = self.state();
        if let Some(next) = change(&self.metadata.load(), &state.interest) {
            let generation = next.generation();
            self.metadata.store(Arc::new(next));
            self.generation.send_replace(generation);
        }
    }

    /// What to say when time ran out that began at `start`.
    fn timed_out(&self, what: String, start: Instant) -> Error {
        let last = self.failure.borrow().clone();
        ErrorKind::TimedOut { what, after: start.elapsed(), last }.into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.config.bootstrap).finish_non_exhaustive()
    }
}
