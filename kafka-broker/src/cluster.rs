//! A running cluster: the handle by which a test drives it, breaks it and looks into it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_wire::address::NodeAddress;
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::builder::{ClusterBuilder, bind_socket};
use crate::controller::Refusal;
use crate::fault::{Fault, Matcher};
use crate::group::{CommittedOffset, Group, GroupDescription};
use crate::inspect::{self, RequestRecord, Snapshot, StoredRecord, WaitError};
use crate::net::{self, Accepting, MemoryConnector};
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
    /// Where each broker listens, in the order of the listeners.
    places: BTreeMap<i32, Vec<(NodeAddress, Option<SocketAddr>)>>,
    /// Guards what each broker does now.
    running: Mutex<BTreeMap<i32, Running>>,
}

/// Where a broker listens.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: i32,
    pub(crate) first: Spot,
    /// For the other listeners, in their order.
    pub(crate) more: Vec<Spot>,
}

/// Where one listener of a broker is.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) advertised: NodeAddress,
    /// `None` for the in-memory transport.
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) accepting: Accepting,
}

impl Place {
    /// One for each listener.
    pub(crate) fn spots(&self) -> impl Iterator<Item = &Spot> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// What a broker does.
#[derive(Debug)]
enum Running {
    /// One for each of its listeners.
    Serving(Vec<Serving>),
    /// It refuses connections, and holds its ports so that nobody else takes them.
    Stopped { _ports: Vec<TcpSocket> },
}

/// A listener of a running broker.
#[derive(Debug)]
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Stops all of them at once, and waits until they are.
    async fn stop(all: Vec<Self>) {
        let (stops, tasks): (Vec<_>, Vec<_>) = all.into_iter().map(|one| (one.stop, one.task)).unzip();
        // They end because the senders are gone.
        drop(stops);
        for task in tasks {
            let _ = task.await;
        }
    }
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
            known.insert(place.id, place.spots().map(|spot| (spot.advertised.clone(), spot.bound)).collect());
            let accepting = std::iter::once(place.first).chain(place.more).map(|spot| spot.accepting);
            running.insert(place.id, Running::Serving(serve(&shared, place.id, accepting)));
        }
        Self { shared, network, places: known, running: Mutex::new(running) }
    }

    /// The addresses of all brokers, as a client takes them: `127.0.0.1:40001,127.0.0.1:40002`. Those of the first listener.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.addresses_at(0)
    }

    /// As [`bootstrap`](Self::bootstrap), for the listener with this name; `None` if there is no such one.
    #[must_use]
    pub fn bootstrap_of(&self, listener: &str) -> Option<String> {
        let at = self.shared.listeners.iter().position(|known| *known.name == *listener)?;
        Some(self.addresses_at(at))
    }

    /// The names of the listeners, the first one first.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.shared.listeners.iter().map(|listener| &*listener.name)
    }

    fn addresses_at(&self, listener: usize) -> String {
        let spots = self.places.values().filter_map(|spots| spots.get(listener));
        spots.map(|(address, _)| address.to_string()).collect::<Vec<_>>().join(",")
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
            Some(running @ Running::Serving(_)) => {
                std::mem::replace(running, Running::Stopped { _ports: Vec::new() })
            }
            _ => return Ok(()),
        };
        if let Running::Serving(serving) = stopping {
            Serving::stop(serving).await;
        }
        let bound = self.places.get(&broker).into_iter().flatten().filter_map(|(_, bound)| *bound);
        let _ports = bound.map(bind_socket).collect::<io::Result<Vec<_>>>()?;
        self.lock().insert(broker, Running::Stopped { _ports });
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
            if let (true, Some(spots)) = (stopped, self.places.get(&broker)) {
                // Frees the ports that were held for it; if one cannot be bound again, the broker is still a stopped one.
                running.insert(broker, Running::Stopped { _ports: Vec::new() });
                let listen = |(address, bound): &(NodeAddress, Option<SocketAddr>)| match bound {
                    Some(bound) => Ok(Accepting::Tcp(bind_socket(*bound)?.listen(BACKLOG)?)),
                    None => Ok(Accepting::Memory(self.network.listen(address.clone()))),
                };
                let accepting = spots.iter().map(listen).collect::<io::Result<Vec<_>>>()?;
                running.insert(broker, Running::Serving(serve(&self.shared, broker, accepting)));
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
            if let Running::Serving(serving) = broker {
                Serving::stop(serving).await;
            }
        }
    }

    /// The requests that the brokers remember, the last 10,000 of each, in the order they arrived.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        let mut requests: Vec<RequestRecord> =
            self.shared.nodes.values().flat_map(|node| node.requests()).collect();
        requests.sort_by_key(|request| request.before);
        requests
    }

    /// How many of those requests are of this API.
    #[must_use]
    pub fn count_requests(&self, api: Api) -> usize {
        self.shared.nodes.values().map(|node| node.count_requests(api)).sum()
    }

    /// How many requests of each API have come since the start, also those that are remembered no more.
    #[must_use]
    pub fn request_totals(&self) -> BTreeMap<Api, u64> {
        let mut totals = BTreeMap::new();
        for (api, count) in self.shared.nodes.values().flat_map(|node| node.request_totals()) {
            *totals.entry(api).or_default() += count;
        }
        totals
    }

    /// Brokers and partitions as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.shared)
    }

    /// Every record of a topic, by partition and offset; none for an unknown topic. A batch that cannot be decoded is left
    /// out, with a line in the log.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let partitions = self.shared.image().topic(topic).map(|topic| topic.partitions.clone());
        let mut records = Vec::new();
        for place in partitions.unwrap_or_default() {
            let number = place.partition.number();
            let (start, pieces) = {
                let mut state = place.partition.lock();
                (state.log.start(), state.log.read_all())
            };
            let topic = topic.to_owned();
            // Decompressing takes its time.
            let decode = move || inspect::decode(&topic, number, start, pieces);
            match tokio::task::spawn_blocking(decode).await {
                Ok(decoded) => records.extend(decoded),
                Err(error) => tracing::warn!(partition = number, "cannot decode the log: {error}"),
            }
        }
        records
    }

    /// Waits until `condition` is true; it is asked whenever something happened, and may look at everything.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kafka_broker::Cluster;
    /// # async fn run(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let isr = |cluster: &Cluster| cluster.snapshot().partition("orders", 0).map_or(0, |state| state.isr.len());
    /// cluster.wait_until(Duration::from_secs(5), |cluster| isr(cluster) == 2).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WaitError`] after `limit`; it prints the cluster's state and the last 50 requests.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn wait_until(
        &self,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Result<(), WaitError> {
        let met = self.shared.events.wait_for(|| condition(self).then_some(()));
        timeout(limit, met).await.map_err(|_| WaitError::new(limit, self.snapshot(), self.requests()))
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

fn serve(shared: &Arc<Shared>, broker: i32, accepting: impl IntoIterator<Item = Accepting>) -> Vec<Serving> {
    let Some(node) = shared.nodes.get(&broker) else { return Vec::new() };
    let start = |(at, accepting)| {
        let (stop, stopped) = oneshot::channel();
        // It ends when `stop` is dropped, which the cluster does at the latest when it is dropped itself.
        let task = tokio::spawn(net::run(Arc::clone(shared), Arc::clone(node), at, accepting, stopped));
        Serving { stop, task }
    };
    accepting.into_iter().enumerate().map(start).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::builder::StartError;
    use crate::fault::on;
    use crate::inspect::Outcome;
    use crate::wire_test::{Wire, batch_of, memory_cluster, named};

    #[tokio::test]
    async fn records_read_back_by_partition_and_offset() {
        let cluster = memory_cluster(1, "orders", 2, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let records = [(1, batch_of(&["c"], None)), (0, batch_of(&["a", "b"], Some((4, 0, 0))))];
        wire.produce(9, 1, named("orders"), &records).await;
        let stored = cluster.records("orders").await;
        assert_eq!(stored, ["a", "b", "c"]);
        assert_eq!((stored[1].partition, stored[1].offset, stored[1].producer_id), (0, 1, 4));
        assert_eq!((stored[2].key.as_deref(), stored[2].timestamp), (Some(&b"key"[..]), 1000));
        assert_eq!(cluster.records("nope").await, [""; 0]);
        // Its header is fine, and nobody looks further when it is appended.
        let mut damaged = batch_of(&["d"], None).to_vec();
        damaged[61] = 0x7f;
        let crc = kafka_wire::crc::crc32c(&damaged[21..]);
        damaged[17..21].copy_from_slice(&crc.to_be_bytes());
        for batch in [damaged.into(), batch_of(&["e"], None)] {
            let produced = wire.produce(9, 1, named("orders"), &[(1, batch)]).await;
            assert!(produced[0].code().is_ok());
        }
        assert_eq!(cluster.records("orders").await, ["a", "b", "c", "e"], "the damaged one is left out");
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_virtual_on_a_paused_runtime() {
        let builder = Cluster::builder().transport_memory().wall_time_ms(1_700_000_000_000).topic("t", 1, 1);
        let cluster = builder.topic_config("message.timestamp.type", "LogAppendTime").start().await.unwrap();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        let mut wire = Wire::to(&cluster, 1);
        let produced = wire.produce(9, 1, named("t"), &[(0, batch_of(&["v"], None))]).await;
        let day_after = 1_700_086_400_000;
        assert_eq!(produced[0].outcome.log_append_time_ms, day_after);
        assert_eq!(cluster.records("t").await[0].timestamp, day_after);
        assert_eq!(cluster.requests()[0].wall_ms, day_after);
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_never_comes_true_shows_the_cluster() {
        let cluster = memory_cluster(2, "t", 1, 2).await;
        Wire::to(&cluster, 1).produce(9, 1, named("t"), &[(0, batch_of(&["v"], None))]).await;
        let started = Instant::now();
        let error = cluster.wait_until(Duration::from_secs(7), |_| false).await.unwrap_err().to_string();
        assert_eq!(started.elapsed(), Duration::from_secs(7));
        assert!(error.contains("t-0: leader Some(1) in epoch 0, isr [1, 2], offsets 0..1"), "{error}");
        assert!(error.contains("broker 1, connection 1 (wire): Produce v9 #1, Answered"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_logged_when_they_arrive_and_when_they_end() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_secs(5));
        wire.send_produce(9, 1, named("t"), &[(0, batch_of(&["v"], None))]).await;
        let seen = |cluster: &Cluster| cluster.requests().first().map(|request| request.outcome);
        cluster
            .wait_until(Duration::from_secs(1), |cluster| seen(cluster) == Some(Outcome::InProgress))
            .await
            .unwrap();
        cluster
            .wait_until(Duration::from_secs(9), |cluster| seen(cluster) == Some(Outcome::Answered))
            .await
            .unwrap();
        assert_eq!(cluster.requests()[0].latency, Some(Duration::from_secs(5)));
        assert_eq!(cluster.count_requests(Api::Produce), 1);
    }

    #[tokio::test]
    async fn leaders_and_data_survive_stops_and_moves() {
        let cluster = memory_cluster(3, "t", 3, 3).await;
        for (value, stopped) in [("a", 1), ("b", 2), ("c", 3)] {
            cluster.stop_broker(stopped).await.unwrap();
            let snapshot = cluster.snapshot();
            for partition in 0..3 {
                let leader = snapshot.partition("t", partition).unwrap().leader.unwrap();
                assert_ne!(leader, stopped);
                let mut wire = Wire::to(&cluster, leader);
                let produced =
                    wire.produce(9, -1, named("t"), &[(partition, batch_of(&[value], None))]).await;
                assert!(produced[0].code().is_ok(), "{:?}", produced[0]);
            }
            cluster.start_broker(stopped).await.unwrap();
        }
        assert_eq!(cluster.records("t").await, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
    }

    #[tokio::test]
    async fn bad_configurations_name_setting_value_and_remedy() {
        let error = |builder: ClusterBuilder| async {
            match builder.transport_memory().start().await {
                Err(error @ StartError::Config { .. }) => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        let builder = Cluster::builder;
        let cases = [
            (builder().config("nope", "1"), "nope = 1: no broker setting has this name"),
            (builder().config("num.partitions", "0"), "num.partitions = 0: "),
            (
                builder().config("retention.ms", "5"),
                "retention.ms = 5: this is a topic's setting; the brokers' is log.retention.ms",
            ),
            (builder().brokers(0), "brokers = 0: give a number from 1 to 1000"),
            (builder().topic("t", 1, 2), "topic = t:1:2: Unable to replicate the partition 2 time(s)"),
            (builder().topic("a b", 1, 1), "topic = a b:1:1: "),
        ];
        for (builder, expected) in cases {
            let message = error(builder).await;
            assert!(message.starts_with(expected), "{message}");
        }
        let taken = Cluster::builder().start().await.unwrap();
        let port = taken.bootstrap().rsplit(':').next().unwrap().parse().unwrap();
        let Err(StartError::Bind { address, .. }) = Cluster::builder().port(port).start().await else {
            panic!("the port is taken")
        };
        assert_eq!(address, format!("127.0.0.1:{port}"));
        let name = Cluster::builder().host("localhost").start().await.unwrap_err().to_string();
        assert!(name.starts_with("host = localhost: give an IP address"), "{name}");
    }

    #[tokio::test]
    async fn a_dropped_cluster_closes_its_connections() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let connector = cluster.connector();
        let mut wire = Wire::to(&cluster, 1);
        drop(cluster);
        wire.assert_closed().await;
        let address = "broker-1:9092".parse().unwrap();
        let refused = connector.connect(&address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
