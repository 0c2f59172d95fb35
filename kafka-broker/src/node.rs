//! What one broker has for itself: who is connected to it, and what it was asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_wire::api::Api;
use tokio::time::Instant;

use crate::config::BrokerConfigs;
use crate::fetch::Sessions;
use crate::inspect::{Outcome, RequestRecord};
use crate::quota::Charges;

/// How many requests a broker remembers.
const REMEMBERED: usize = 10_000;

/// One broker's own state.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) sessions: Sessions,
    pub(crate) charges: Charges,
    panics: AtomicU64,
    connected: AtomicU64,
    /// Guards the number of open connections by address.
    connections: Mutex<HashMap<Option<IpAddr>, usize>>,
    /// Guards the request log.
    requests: Mutex<RequestLog>,
}

#[derive(Debug, Default)]
struct RequestLog {
    /// How many were forgotten, so that the n-th request ever is at `n - forgotten`.
    forgotten: u64,
    /// How many came of each API, those forgotten included.
    totals: BTreeMap<Api, u64>,
    kept: VecDeque<RequestRecord>,
}

/// One open connection; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    pub(crate) node: Arc<Node>,
    /// Which of the broker's listeners it came in on, from 0.
    pub(crate) listener: usize,
    /// Counted from 1 over the life of the broker.
    pub(crate) connection: u64,
    /// The client's address; `None` over the in-memory transport.
    pub(crate) peer: Option<IpAddr>,
}

/// A request's place in the log, to note its end there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPosition(u64);

impl Node {
    pub(crate) fn new(id: i32, configs: &BrokerConfigs) -> Self {
        Self {
            id,
            sessions: Sessions::new(configs.number("max.incremental.fetch.session.cache.slots")),
            charges: Charges::new(configs),
            panics: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            connections: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// A place for a connection from `peer`, unless the broker or the address has as many as it may.
    pub(crate) fn admit(
        self: &Arc<Self>,
        listener: usize,
        peer: Option<IpAddr>,
        configs: &BrokerConfigs,
    ) -> Option<ConnectionSlot> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let from_peer = connections.get(&peer).copied().unwrap_or_default();
        if connections.values().sum::<usize>() >= configs.number("max.connections")
            || (peer.is_some() && from_peer >= configs.number("max.connections.per.ip"))
        {
            return None;
        }
        connections.insert(peer, from_peer + 1);
        let connection = self.connected.fetch_add(1, Ordering::Relaxed) + 1;
        Some(ConnectionSlot { node: Arc::clone(self), listener, connection, peer })
    }

    /// How many connections are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    pub(crate) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were closed by a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Writes a request that arrived into the log.
    pub(crate) fn log_request(&self, record: RequestRecord) -> LogPosition {
        let mut requests = self.lock_requests();
        *requests.totals.entry(record.api).or_default() += 1;
        requests.kept.push_back(record);
        if requests.kept.len() > REMEMBERED {
            requests.kept.pop_front();
            requests.forgotten += 1;
        }
        LogPosition(requests.forgotten + requests.kept.len() as u64 - 1)
    }

    /// Notes how a request ended, if it is still remembered.
    pub(crate) fn log_outcome(&self, at: LogPosition, outcome: Outcome) {
        let mut requests = self.lock_requests();
        let place = at.0.checked_sub(requests.forgotten).and_then(|place| usize::try_from(place).ok());
        if let Some(record) = place.and_then(|place| requests.kept.get_mut(place)) {
            record.latency = Some(Instant::now() - record.arrived);
            record.outcome = outcome;
        }
    }

    /// The requests remembered, oldest first.
    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        self.lock_requests().kept.iter().cloned().collect()
    }

    /// How many requests of this API are remembered.
    pub(crate) fn count_requests(&self, api: Api) -> usize {
        self.lock_requests().kept.iter().filter(|record| record.api == api).count()
    }

    /// How many requests of each API have come.
    pub(crate) fn request_totals(&self) -> BTreeMap<Api, u64> {
        self.lock_requests().totals.clone()
    }

    fn lock_requests(&self) -> MutexGuard<'_, RequestLog> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut connections = self.node.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = connections.get_mut(&self.peer) {
            *open -= 1;
            if *open == 0 {
                connections.remove(&self.peer);
            }
        }
    }
}
