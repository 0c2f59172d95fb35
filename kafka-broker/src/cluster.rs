//! A running cluster: the handle by which a test drives it, breaks it and looks into it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_wire::address::NodeAddress;
use kafka_wire::error_code::ErrorCode;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::builder::{ClusterBuilder, bind_socket};
use crate::controller::Refusal;
use crate::fault::{Fault, Matcher};
use crate::group::{CommittedOffset, Group, GroupDescription};
use crate::inspect::RequestRecord;
use crate::net::{self, Listener, MemoryConnector};
use crate::shared::Shared;

/// What a socket lets wait before it refuses connections.
const BACKLOG: u32 = 1024;

/// Why a running cluster could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The change makes no sense as the cluster is now.
    #[error("{code}: {message}")]
    Refused {
        /// What a request for it would be answered.
        code: ErrorCode,
        /// Why.
        message: String,
    },
    /// A broker could not listen where it did before.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Refusal> for ChangeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code, message: refusal.message }
    }
}

/// Brokers in this process. Dropping it stops them and closes their connections.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    network: MemoryConnector,
    places: BTreeMap<i32, (NodeAddress, Option<SocketAddr>)>,
    /// Guards what each broker does now.
    running: Mutex<BTreeMap<i32, Running>>,
}

/// Where a broker listens.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: i32,
    pub(crate) advertised: NodeAddress,
    /// `None` for the in-memory transport.
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) listener: Listener,
}

/// What a broker does.
#[derive(Debug)]
enum Running {
    Serving {
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    },
    /// It refuses connections, and holds its port so that nobody else takes it.
    Stopped {
        _port: Option<TcpSocket>,
    },
}

impl Cluster {
    /// A cluster to build. One broker on a free port of `127.0.0.1`, unless told otherwise.
    ///
    /// ```
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = kafka_broker::Cluster::builder().brokers(3).topic("orders", 6, 3).start().await?;
    /// println!("{}", cluster.bootstrap());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    pub(crate) fn start(shared: Arc<Shared>, network: MemoryConnector, places: Vec<Place>) -> Self {
        let mut known = BTreeMap::new();
        let mut running = BTreeMap::new();
        for place in places {
            known.insert(place.id, (place.advertised, place.bound));
            if let Some(serving) = serve(&shared, place.id, place.listener) {
                running.insert(place.id, serving);
            }
        }
        Self { shared, network, places: known, running: Mutex::new(running) }
    }

    /// The addresses of all brokers, as a client takes them: `127.0.0.1:40001,127.0.0.1:40002`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.places.values().map(|(address, _)| address.to_string()).collect();
        addresses.join(",")
    }

    /// Connects clients to a cluster built with `transport_memory`; give it to the client's `connector`.
    #[must_use]
    pub fn connector(&self) -> MemoryConnector {
        self.network.clone()
    }

    /// Requests to break; the fault is armed by what the returned value is told to do with them.
    ///
    /// ```
    /// # use kafka_broker::{Cluster, on};
    /// # use kafka_wire::api::Api;
    /// # async fn run(cluster: Cluster) {
    /// let lost = cluster.fault(on(Api::Produce).nth(1)).after_effect().close();
    /// // … produce …
    /// lost.assert_fired();
    /// # }
    /// ```
    pub fn fault(&self, requests: Matcher) -> Fault {
        Fault::new(Arc::clone(&self.shared.faults), requests)
    }

    /// Makes a live replica the leader of a partition, in a new leader epoch.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for an unknown partition, or a broker that is stopped or no replica.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), ChangeError> {
        self.shared.controller.move_leader(topic, partition, broker)?;
        self.shared.events.notify();
        Ok(())
    }

    /// Does to a partition what an unclean election does: a new leader epoch starts, and the batches from `offset` on, with
    /// the one that holds it, are gone.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for an unknown partition, or one without a leader.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<(), ChangeError> {
        let expiration_ms = self.shared.limits.producer_expiration_ms;
        self.shared.controller.truncate(
            topic,
            partition,
            offset,
            self.shared.clock.wall_ms(),
            expiration_ms,
        )?;
        self.shared.events.notify();
        Ok(())
    }

    /// Forgets the idempotent producers of a partition, as retention does with those whose records are long gone.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for an unknown partition.
    pub fn forget_producers(&self, topic: &str, partition: i32) -> Result<(), ChangeError> {
        self.shared.controller.forget_producers(topic, partition)?;
        Ok(())
    }

    /// Makes a live broker the coordinator of a group. The group's members and offsets stay as they are.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for a broker that is stopped or unknown.
    pub fn move_coordinator(&self, group: &str, broker: i32) -> Result<(), ChangeError> {
        self.shared.controller.move_coordinator(group, broker)?;
        self.coordinators_changed();
        Ok(())
    }

    /// Stops a broker: its partitions get other leaders, its connections are closed, new ones are refused.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for an unknown broker; [`ChangeError::Io`] if its port could not be kept for it.
    ///
    /// # Cancel safety
    /// If dropped, the broker stops, and `start_broker` may find it still stopping.
    pub async fn stop_broker(&self, broker: i32) -> Result<(), ChangeError> {
        self.shared.controller.set_alive(broker, false)?;
        self.coordinators_changed();
        let stopping = match self.lock().get_mut(&broker) {
            Some(running @ Running::Serving { .. }) => {
                std::mem::replace(running, Running::Stopped { _port: None })
            }
            _ => return Ok(()),
        };
        if let Running::Serving { stop, task } = stopping {
            // Either way it ends: told to, or because the sender is gone.
            let _ = stop.send(());
            let _ = task.await;
        }
        if let Some(bound) = self.places.get(&broker).and_then(|(_, bound)| *bound) {
            let _port = Some(bind_socket(bound)?);
            self.lock().insert(broker, Running::Stopped { _port });
        }
        self.shared.events.notify();
        Ok(())
    }

    /// Starts a stopped broker at its old address. It leads nothing until it is elected.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for an unknown broker; [`ChangeError::Io`] if it cannot listen.
    ///
    /// # Cancel safety
    /// It does not wait for anything.
    pub async fn start_broker(&self, broker: i32) -> Result<(), ChangeError> {
        {
            let mut running = self.lock();
            let stopped = matches!(running.get(&broker), Some(Running::Stopped { .. }));
            if let (true, Some((address, bound))) = (stopped, self.places.get(&broker)) {
                // Frees the port that was held for it.
                running.remove(&broker);
                let listener = match bound {
                    Some(bound) => Listener::Tcp(bind_socket(*bound)?.listen(BACKLOG)?),
                    None => Listener::Memory(self.network.listen(address.clone())),
                };
                if let Some(serving) = serve(&self.shared, broker, listener) {
                    running.insert(broker, serving);
                }
            }
        }
        self.shared.controller.set_alive(broker, true)?;
        self.coordinators_changed();
        Ok(())
    }

    /// Stops all brokers and waits until their connections are closed. Dropping the cluster does the same without waiting.
    ///
    /// # Cancel safety
    /// If dropped, the brokers stop all the same.
    pub async fn stop(self) {
        let running = std::mem::take(&mut *self.lock());
        for broker in running.into_values() {
            if let Running::Serving { stop, task } = broker {
                drop(stop);
                let _ = task.await;
            }
        }
    }

    /// The requests that the brokers remember, the last 10,000 of each, in the order they arrived.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        let mut requests: Vec<RequestRecord> =
            self.shared.nodes.values().flat_map(|node| node.requests()).collect();
        requests.sort_by_key(|request| request.arrived);
        requests
    }

    /// A group as it is now: state, generation, members and their assignments.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<GroupDescription> {
        self.shared.groups.peek(id, Group::describe)
    }

    /// What a group has committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<CommittedOffset> {
        self.shared.groups.peek(group, |group| group.committed(topic, partition).cloned()).flatten()
    }

    /// Tells requests that are parked at a broker which coordinates their group no longer.
    fn coordinators_changed(&self) {
        self.shared.groups.coordinators_changed(&self.shared.image());
        self.shared.events.notify();
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(shared: &Arc<Shared>, broker: i32, listener: Listener) -> Option<Running> {
    let node = Arc::clone(shared.nodes.get(&broker)?);
    let (stop, stopped) = oneshot::channel();
    // It ends when `stop` is dropped, which the cluster does at the latest when it is dropped itself.
    let task = tokio::spawn(net::run(Arc::clone(shared), node, listener, stopped));
    Some(Running::Serving { stop, task })
}
