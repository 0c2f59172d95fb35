//! Keeps the connections of a client, one for each (node, lane, owner): opens them once for all who wait, backs off after
//! failures, and closes them with their owner.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kafka_wire::address::NodeAddress;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Connection, ConnectionService, Link};
use super::driver::{Driver, DriverSettings, Ended};
use super::handshake::shake_hands;
use super::hold_off::HoldOff;
use super::request::Lane;
use super::service::{BrokerService, UserLayer};
use super::transport::Transport;
use crate::cluster::backoff::Backoff;
use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::layers::concurrency::Concurrency;
use crate::layers::deadline::Deadline;
use crate::layers::observe::Observe;
use crate::layers::throttle::Throttle;
use crate::metrics::Metrics;
use crate::types::NodeId;

/// The most requests without an answer on one connection. A broker carries them out one by one, so more would only wait
/// there instead of here.
pub(crate) const MAX_IN_FLIGHT: usize = 64;

/// The owner of what the whole client shares.
const SHARED: u64 = 0;

/// The connections of a client. Dropping it closes them all.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    setup: Setup,
    state: Mutex<State>,
}

/// Guards which connections there are and who may open the next.
struct State {
    closed: bool,
    owners: u64,
    attempts: u64,
    random: fastrand::Rng,
    entries: HashMap<Key, Entry>,
    hold_off: HoldOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    node: NodeId,
    lane: Lane,
    owner: u64,
}

struct Entry {
    address: NodeAddress,
    /// Which attempt the stage belongs to: a task that was replaced must not touch its successor's.
    attempt: u64,
    stage: Stage,
    task: Option<AbortHandle>,
    reconnect: Backoff,
    setup: Backoff,
    /// The reconnect backoff ends then.
    not_before: Option<Instant>,
}

enum Stage {
    /// No connection, and nobody opens one.
    Closed,
    Opening(watch::Receiver<Option<Result<Connection>>>),
    Ready(Connection),
}

/// Whoever holds it, or a clone, keeps the connections that were opened for it: a producer's, or a consumer's. When the
/// last clone is dropped they are closed, and what is in flight on them fails.
#[derive(Clone)]
pub struct Owner(Arc<Owned>);

struct Owned {
    id: u64,
    pool: Weak<Shared>,
}

/// What the pool knows of a node's shared connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// Never tried, or closed for being idle.
    Unknown,
    /// Being opened.
    Opening,
    /// Failed; not tried again before this time.
    BackingOff(Instant),
    /// Ready, with this many requests unanswered.
    Ready { in_flight: usize },
}

impl Pool {
    pub(crate) fn new(
        config: &ClientConfig,
        transport: Transport,
        layers: Vec<UserLayer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state = State {
            closed: false,
            owners: SHARED,
            attempts: 0,
            random: config.random(1),
            entries: HashMap::new(),
            hold_off: HoldOff::default(),
        };
        let setup = Setup { config: config.clone(), transport, layers, metrics };
        Self(Arc::new(Shared { setup, state: Mutex::new(state) }))
    }

    /// An owner of connections of its own.
    pub(crate) fn owner(&self) -> Owner {
        let mut state = self.0.state();
        state.owners += 1;
        Owner(Arc::new(Owned { id: state.owners, pool: Arc::downgrade(&self.0) }))
    }

    /// A ready connection to `node`, which listens at `address`; opened if there is none. All who ask meanwhile wait for
    /// the same attempt, which nobody's going away cancels; after a failure the next attempt waits for the backoff.
    ///
    /// # Errors
    /// Why the one attempt that was waited for failed; an owner that is another client's, and would not close it.
    pub(crate) async fn connection(
        &self,
        node: NodeId,
        address: &NodeAddress,
        lane: Lane,
        owner: &Owner,
    ) -> Result<Connection> {
        if !std::ptr::eq(owner.0.pool.as_ptr(), Arc::as_ptr(&self.0)) {
            let remedy = "take it from the client that is asked for the connection";
            return Err(Error::config("owner", "another client's", remedy));
        }
        let owner = if lane == Lane::General { SHARED } else { owner.0.id };
        self.get(Key { node, lane, owner }, address).await
    }

    /// As [`connection`](Self::connection), for what the whole client shares.
    pub(crate) async fn shared_connection(&self, node: NodeId, address: &NodeAddress) -> Result<Connection> {
        self.get(Key { node, lane: Lane::General, owner: SHARED }, address).await
    }

    async fn get(&self, key: Key, address: &NodeAddress) -> Result<Connection> {
        let mut opening = match self.0.open(key, address)? {
            Opened::Ready(connection) => return Ok(connection),
            Opened::Soon(opening) => opening,
        };
        match opening.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Error::closed())),
            // Every attempt tells its outcome, also when it is aborted; without that the runtime is gone.
            Err(_) => Err(Error::closed()),
        }
    }

    /// Has `node` take over the shared connection under the id of a bootstrap address, which turned out to be the node's own, unless
    /// it has one: that saves a connection with all its handshakes, and the broker from keeping an idle one.
    pub(crate) fn identify(&self, bootstrap: NodeId, node: NodeId) {
        let shared = |node| Key { node, lane: Lane::General, owner: SHARED };
        let mut state = self.0.state();
        if state.entries.contains_key(&shared(node)) {
            return;
        }
        // What is only being opened would be named after the bootstrap address for ever.
        let Some(Stage::Ready(connection)) = state.entries.get(&shared(bootstrap)).map(|entry| &entry.stage)
        else {
            return;
        };
        connection.identify(node);
        if let Some(entry) = state.entries.remove(&shared(bootstrap)) {
            state.entries.insert(shared(node), entry);
        }
    }

    /// How the shared connection to `node` stands.
    pub(crate) fn node_state(&self, node: NodeId) -> NodeState {
        let state = self.0.state();
        let Some(entry) = state.entries.get(&Key { node, lane: Lane::General, owner: SHARED }) else {
            return NodeState::Unknown;
        };
        match (&entry.stage, entry.not_before) {
            (Stage::Ready(connection), _) if !connection.is_closed() => {
                NodeState::Ready { in_flight: connection.in_flight() }
            }
            (_, Some(at)) if at > Instant::now() => NodeState::BackingOff(at),
            (Stage::Opening(_), _) => NodeState::Opening,
            _ => NodeState::Unknown,
        }
    }

    /// Why no broker will be asked for a while, if the credentials were refused.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.0.state().hold_off.client_refusal(Instant::now())
    }

    /// Closes every connection and forgets every failure but refusals, so that the cluster can be found anew. What was in flight
    /// fails as on any connection that is lost, and may be tried again.
    pub(crate) fn reset(&self, why: &str) {
        self.0.end(|_| true, |entry| Error::disconnected(entry.address.clone(), why));
    }

    /// Closes every connection, for good. Tasks of the client that still hold the pool get errors from then on.
    pub(crate) fn close(&self) {
        self.0.state().closed = true;
        self.0.end(|_| true, |_| Error::closed());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owner").field(&self.0.id).finish()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.end(|key| key.owner == self.id, |_| Error::closed());
        }
    }
}

enum Opened {
    Ready(Connection),
    Soon(watch::Receiver<Option<Result<Connection>>>),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the connection or the attempt under way, or starts one.
    fn open(self: &Arc<Self>, key: Key, address: &NodeAddress) -> Result<Opened> {
        let (attempt, opening, replaced) = {
            let mut guard = self.state();
            let state = &mut *guard;
            if state.closed {
                return Err(Error::closed());
            }
            let config = &self.setup.config;
            let entry = state.entries.entry(key).or_insert_with(|| Entry::new(config, address));
            let mut replaced = None;
            let refusal = || state.hold_off.refusal(address, Instant::now());
            if entry.address == *address {
                match &entry.stage {
                    Stage::Ready(connection) if !connection.is_closed() => {
                        return Ok(Opened::Ready(connection.clone()));
                    }
                    Stage::Opening(opening) => return Ok(Opened::Soon(opening.clone())),
                    Stage::Ready(_) | Stage::Closed => refusal().map_or(Ok(()), Err)?,
                }
            } else {
                refusal().map_or(Ok(()), Err)?;
                // The node has moved: what was known of the old place says nothing of the new one.
                replaced = Some(std::mem::replace(entry, Entry::new(config, address)));
            }
            state.attempts += 1;
            entry.attempt = state.attempts;
            let failures = entry.setup.attempts();
            let (outcome, opening) = watch::channel(None);
            entry.stage = Stage::Opening(opening.clone());
            let attempt = Attempt {
                shared: self.clone(),
                key,
                number: entry.attempt,
                address: address.clone(),
                failures,
                not_before: entry.not_before,
                setup_timeout: entry.setup.delay(failures, &mut state.random),
                // Drawn only where it is used: a seeded run without SASL stays what it was.
                random: match config.sasl {
                    Some(_) => state.random.fork(),
                    None => fastrand::Rng::with_seed(0),
                },
                outcome,
            };
            (attempt, opening, replaced)
        };
        if let Some(old) = replaced {
            let reason =
                Error::disconnected(old.address.clone(), format!("the broker has moved to {address}"));
            old.end(&reason);
        }
        // Not while the state is locked: a runtime that is shutting down drops the task here and now.
        let number = attempt.number;
        let task = tokio::spawn(attempt.run()).abort_handle();
        let mut unwanted = Some(task);
        self.update(number, |entry, _| entry.task = unwanted.take());
        if let Some(task) = unwanted {
            task.abort();
        }
        Ok(Opened::Soon(opening))
    }

    /// Forgets the entries that `which` says, and ends their connections for the reason that `why` gives.
    fn end(&self, which: impl Fn(&Key) -> bool, why: impl Fn(&Entry) -> Error) {
        let removed: Vec<_> = self.state().entries.extract_if(|key, _| which(key)).collect();
        for (_, entry) in removed {
            let reason = why(&entry);
            entry.end(&reason);
        }
    }

    /// Forgets an entry, unless another attempt has taken it over.
    fn forget(&self, attempt: u64) {
        self.state().entries.retain(|_, entry| entry.attempt != attempt);
    }

    /// Changes an entry, unless another attempt has taken it over.
    fn update(&self, attempt: u64, change: impl FnOnce(&mut Entry, &mut fastrand::Rng)) {
        let mut guard = self.state();
        let state = &mut *guard;
        // Not by its key, under which it may not be any more: `Pool::identify`.
        if let Some(entry) = state.entries.values_mut().find(|entry| entry.attempt == attempt) {
            change(entry, &mut state.random);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("entries", &self.state().entries.len()).finish_non_exhaustive()
    }
}

impl Entry {
    fn new(config: &ClientConfig, address: &NodeAddress) -> Self {
        Self {
            address: address.clone(),
            attempt: 0,
            stage: Stage::Closed,
            task: None,
            reconnect: Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max),
            setup: Backoff::new(config.connection_setup_timeout, config.connection_setup_timeout_max),
            not_before: None,
        }
    }

    /// Ends its task, and tells those who wait for an answer why. Not while the state is locked, which the task's end
    /// locks.
    fn end(self, reason: &Error) {
        if let Stage::Ready(connection) = &self.stage {
            connection.end(reason);
        }
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// One attempt at a connection, and the connection that comes of it.
struct Attempt {
    shared: Arc<Shared>,
    key: Key,
    number: u64,
    address: NodeAddress,
    failures: u32,
    not_before: Option<Instant>,
    setup_timeout: std::time::Duration,
    random: fastrand::Rng,
    outcome: watch::Sender<Option<Result<Connection>>>,
}

impl Attempt {
    /// The task of a connection, from before it is opened until it has ended.
    async fn run(mut self) {
        if let Some(at) = self.not_before {
            sleep_until(at).await;
        }
        let began = Instant::now();
        let claim = self.shared.state().hold_off.claim(&self.address, began, self.setup_timeout);
        if let Some(refusal) = claim {
            self.held(refusal);
            return;
        }
        let random = std::mem::take(&mut self.random);
        let setup = &self.shared.setup;
        // Boxed: the driver and the set-up never live at the same time, but would both be part of the task.
        let setting_up = Box::pin(setup.connect(self.key, &self.address, self.failures, random));
        let outcome = timeout(self.setup_timeout, setting_up).await.unwrap_or_else(|_| {
            let what = format!("connecting to {}, until it is ready for requests", self.address);
            Err(Error::timed_out(what, self.setup_timeout))
        });
        match outcome {
            Ok((connection, driver)) => {
                let open = Open::new(&setup.metrics);
                self.ready(&connection);
                let ended = driver.await;
                drop(open);
                self.ended(&ended, connection.node());
            }
            Err(error) => self.failed(error, began),
        }
    }

    fn ready(&self, connection: &Connection) {
        tracing::debug!(node = self.key.node, address = %self.address, lane = self.key.lane.name(), "connected");
        self.shared.update(self.number, |entry, _| {
            entry.reconnect.reset();
            entry.setup.reset();
            entry.not_before = None;
            entry.stage = Stage::Ready(connection.clone());
        });
        self.shared.state().hold_off.accepted(&self.address);
        self.outcome.send_replace(Some(Ok(connection.clone())));
    }

    fn ended(&self, ended: &Ended, node: NodeId) {
        let (Ended::Idle(reason) | Ended::Lost(reason)) = ended;
        tracing::debug!(
            node, address = %self.address, lane = self.key.lane.name(), %reason, "disconnected"
        );
        match ended {
            // Nothing is wrong with the broker: the next one who needs it need not wait.
            Ended::Idle(_) => self.shared.forget(self.number),
            Ended::Lost(_) => self.shared.update(self.number, Entry::back_off),
        }
    }

    /// An earlier refusal stands in for the attempt.
    fn held(&self, refusal: Error) {
        self.shared.update(self.number, |entry, _| {
            entry.stage = Stage::Closed;
            entry.task = None;
        });
        self.outcome.send_replace(Some(Err(refusal)));
    }

    fn failed(&self, error: Error, began: Instant) {
        let (node, address, lane) = (self.key.node, &self.address, self.key.lane.name());
        if self.shared.state().hold_off.failed(address, &error, began, Instant::now()) {
            tracing::warn!(node, %address, lane, %error, "refused");
        } else {
            tracing::debug!(node, %address, lane, %error, "cannot connect");
        }
        self.shared.setup.metrics.connect_failed();
        self.shared.update(self.number, |entry, random| {
            entry.setup.next(random);
            entry.back_off(random);
        });
        self.outcome.send_replace(Some(Err(error)));
    }
}

impl Entry {
    fn back_off(&mut self, random: &mut fastrand::Rng) {
        self.stage = Stage::Closed;
        self.task = None;
        self.not_before = Some(Instant::now() + self.reconnect.next(random));
    }
}

/// Counts a connection as open, and when it is dropped, with its task if that is aborted, as ended.
struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.connected();
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

/// An attempt that is aborted, because its owner or the client is gone or the node has moved, or that panicked in a
/// user's connector or layer, still tells those who wait for it.
impl Drop for Attempt {
    fn drop(&mut self) {
        if self.outcome.borrow().is_some() {
            return;
        }
        self.shared.update(self.number, Entry::back_off);
        self.shared.state().hold_off.ended(&self.address, Instant::now());
        let error = if self.shared.state().closed {
            Error::closed()
        } else {
            Error::disconnected(self.address.clone(), "connecting was given up")
        };
        self.outcome.send_replace(Some(Err(error)));
    }
}

/// Everything that is needed to make a connection ready.
struct Setup {
    config: ClientConfig,
    transport: Transport,
    layers: Vec<UserLayer>,
    metrics: Arc<Metrics>,
}

impl Setup {
    async fn connect(
        &self,
        key: Key,
        address: &NodeAddress,
        failures: u32,
        random: fastrand::Rng,
    ) -> Result<(Connection, Driver)> {
        let Key { node, lane, .. } = key;
        let config = &self.config;
        let client_id = (!config.client_id.is_empty()).then_some(&*config.client_id);
        let stream = self.transport.connect(address, failures).await?;
        let (ready, versions) = shake_hands(stream, node, address, client_id, config.sasl.as_ref()).await?;
        let link = Link::new(node, address.clone(), lane, MAX_IN_FLIGHT);
        let connection = ConnectionService(link.clone());
        let concurrency = Concurrency::new(connection, link.permits.clone());
        let throttle = Throttle::new(concurrency, link.mute.clone());
        let deadline = Deadline::new(throttle, config.request_timeout);
        let observe = Observe::new(deadline, self.metrics.clone());
        let service = UserLayer::stack(&self.layers, BrokerService::new(observe));
        let settings = DriverSettings {
            client_id: client_id.map(Arc::from),
            request_timeout: config.request_timeout,
            idle_after: config.connections_max_idle,
            max_response: config.max_response_bytes,
            patience: config.connection_setup_timeout,
            random,
        };
        let driver = Driver::new(ready, link.clone(), settings, self.metrics.clone());
        Ok((Connection::new(link, versions, service), driver))
    }
}
