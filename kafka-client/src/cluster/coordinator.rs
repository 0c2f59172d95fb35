//! Finds and remembers which broker coordinates a group or a transactional id. Look-ups are shared and run in a task
//! of their own, so that whoever gives up waiting does not take the answer from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, Request, VersionRange};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::StrBytes;
use kafka_wire::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_wire::messages::find_coordinator_response::FindCoordinatorResponse;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Cluster;
use super::metadata::Broker;
use crate::error::{Error, ErrorKind, Result};
use crate::types::NodeId;

/// From this version on a request names several keys.
const BATCHED: i16 = 4;

/// What a broker coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum CoordinatorKey {
    Group(Arc<str>),
    Transaction(Arc<str>),
}

/// The coordinators that are known, and the look-ups under way.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    state: Mutex<State>,
    /// Guards the look-ups' tasks. Never locked together with the state, which the end of a task locks.
    tasks: Mutex<JoinSet<()>>,
}

/// Guards what is known and who waits.
#[derive(Debug, Default)]
struct State {
    known: HashMap<CoordinatorKey, Broker>,
    waiting: HashMap<CoordinatorKey, Vec<oneshot::Sender<Result<Broker>>>>,
    /// Those of `waiting` that no look-up has taken on yet; the first one has started one.
    untaken: Vec<CoordinatorKey>,
}

impl Coordinators {
    /// Forgets a coordinator that turned out to be none, unless another one was found meanwhile.
    pub(crate) fn forget(&self, key: &CoordinatorKey, node: Option<NodeId>) {
        let mut state = self.state();
        if state.known.get(key).is_some_and(|broker| node.is_none_or(|node| node == broker.id)) {
            tracing::debug!(?key, "coordinator forgotten");
            state.known.remove(key);
        }
    }

    pub(crate) fn shut_down(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// The coordinator of a group or transactional id; asks a broker if it is not known. One attempt.
    ///
    /// # Cancel safety
    /// The look-up goes on for the others that wait for it, and its answer is remembered.
    pub(crate) async fn coordinator(self: &Arc<Self>, key: &CoordinatorKey) -> Result<Broker> {
        let (sender, answer) = oneshot::channel();
        let is_first = {
            let mut guard = self.coordinators.state();
            let state = &mut *guard;
            if let Some(broker) = state.known.get(key) {
                return Ok(broker.clone());
            }
            let waiting = state.waiting.entry(key.clone()).or_default();
            let is_new = waiting.is_empty();
            waiting.push(sender);
            let is_first = is_new && state.untaken.is_empty();
            state.untaken.extend(is_new.then(|| key.clone()));
            is_first
        };
        if is_first {
            let look_up = LookUp { cluster: self.clone(), open: None };
            let mut tasks = self.coordinators.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(look_up.run());
        }
        answer.await.unwrap_or_else(|_| Err(not_available(None, None)))
    }
}

/// One look-up: of everything that was wanted when it began. The next one need not wait for it, as a broker that does
/// not answer would then hold up them all.
struct LookUp {
    cluster: Arc<Cluster>,
    /// What is to be answered still; `None` before it has begun.
    open: Option<Vec<CoordinatorKey>>,
}

impl LookUp {
    async fn run(mut self) {
        // Whoever is about to ask for something joins in.
        tokio::task::yield_now().await;
        let keys = self.take();
        for of_a_kind in keys.chunk_by(|a, b| a.kind() == b.kind()) {
            let answers = self.cluster.ask_for(of_a_kind).await;
            if let Some(open) = &mut self.open {
                open.retain(|key| !of_a_kind.contains(key));
            }
            self.cluster.coordinators.answer(of_a_kind, answers);
        }
    }

    fn take(&mut self) -> Vec<CoordinatorKey> {
        let mut keys = std::mem::take(&mut self.cluster.coordinators.state().untaken);
        keys.sort();
        self.open.insert(keys).clone()
    }
}

/// A look-up whose task is gone before its end, with its runtime, leaves nobody waiting.
impl Drop for LookUp {
    fn drop(&mut self) {
        let open = self.open.take().unwrap_or_else(|| self.take());
        let mut state = self.cluster.coordinators.state();
        let abandoned: Vec<_> = open.iter().filter_map(|key| state.waiting.remove(key)).collect();
        drop(state);
        drop(abandoned);
    }
}

impl Cluster {
    async fn ask_for(&self, keys: &[CoordinatorKey]) -> Result<HashMap<CoordinatorKey, Result<Broker>>> {
        let Some(broker) = self.least_loaded(&[]) else {
            return Err(ErrorKind::NoBroker { last: None }.into());
        };
        let connection = self.pool.shared_connection(broker.id, &broker.address).await?;
        let Some(kind) = keys.first().map(CoordinatorKey::kind) else { return Ok(HashMap::new()) };
        // Version 0 knows groups only.
        let ours = VersionRange { min: kind.min(1).into(), ..Api::FindCoordinator.versions() };
        let version = connection.version_for(Api::FindCoordinator, ours)?;
        let mut answers = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(if version >= BATCHED { keys.len() } else { 1 }) {
            let mut body = BytesMut::new();
            request(keys, kind, version).encode(version, &mut body).map_err(ErrorKind::Encode)?;
            let request = connection.request(Api::FindCoordinator, version, vec![body.freeze()]);
            let response = connection.call(request).await?;
            let response = FindCoordinatorRequest::decode_response(version, response.body)
                .map_err(|error| connection.fail(error))?;
            read(keys, response, version, broker.id, &mut answers);
        }
        Ok(answers)
    }
}

impl Coordinators {
    fn answer(&self, keys: &[CoordinatorKey], answers: Result<HashMap<CoordinatorKey, Result<Broker>>>) {
        let mut told = Vec::new();
        let mut state = self.state();
        for key in keys {
            let answer = match &answers {
                // An answer that leaves a key out says as much as one that says "not available".
                Ok(answers) => answers.get(key).cloned().unwrap_or_else(|| Err(not_available(None, None))),
                Err(error) => Err(error.clone()),
            };
            if let Ok(broker) = &answer {
                tracing::debug!(?key, node = broker.id, "coordinator found");
                state.known.insert(key.clone(), broker.clone());
            }
            told.extend(
                state.waiting.remove(key).into_iter().flatten().map(|waiter| (waiter, answer.clone())),
            );
        }
        drop(state);
        for (waiter, answer) in told {
            // Whoever has stopped waiting needs no answer.
            let _ = waiter.send(answer);
        }
    }
}

impl CoordinatorKey {
    fn kind(&self) -> i8 {
        match self {
            Self::Group(_) => 0,
            Self::Transaction(_) => 1,
        }
    }

    fn name(&self) -> &Arc<str> {
        let (Self::Group(name) | Self::Transaction(name)) = self;
        name
    }
}

fn request(keys: &[CoordinatorKey], kind: i8, version: i16) -> FindCoordinatorRequest {
    let mut names = keys.iter().map(|key| StrBytes::from_string(key.name().to_string()));
    let request = FindCoordinatorRequest::default().with_key_type(kind);
    if version >= BATCHED {
        request.with_coordinator_keys(names.collect())
    } else {
        request.with_key(names.next().unwrap_or_default())
    }
}

/// Collects what an answer says about `keys`; about others it says nothing, and of two about one the first counts.
fn read(
    keys: &[CoordinatorKey],
    response: FindCoordinatorResponse,
    version: i16,
    node: NodeId,
    answers: &mut HashMap<CoordinatorKey, Result<Broker>>,
) {
    let place = |id: NodeId, host: &str, port: i32, code: i16, message: Option<StrBytes>| {
        let message = message.map(|message| message.to_string());
        if let Err(code) = ErrorCode(code).check() {
            return Err(Error::broker(code, Api::FindCoordinator, Some(node), message));
        }
        let port = u16::try_from(port).unwrap_or(0);
        let broker = Broker::new(id, NodeAddress::new(host, port));
        if broker.is_usable() { Ok(broker) } else { Err(not_available(Some(node), message)) }
    };
    if version < BATCHED {
        if let Some(key) = keys.first() {
            let FindCoordinatorResponse { node_id, host, port, error_code, error_message, .. } = response;
            let place = place(node_id.0, &host, port, error_code, error_message);
            answers.entry(key.clone()).or_insert(place);
        }
        return;
    }
    for answer in response.coordinators {
        if let Some(key) = keys.iter().find(|key| key.name().as_ref() == answer.key.as_str()) {
            let place =
                place(answer.node_id.0, &answer.host, answer.port, answer.error_code, answer.error_message);
            answers.entry(key.clone()).or_insert(place);
        }
    }
}

fn not_available(node: Option<NodeId>, message: Option<String>) -> Error {
    Error::broker(ErrorCode::COORDINATOR_NOT_AVAILABLE, Api::FindCoordinator, node, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use kafka_wire::messages::find_coordinator_response::Coordinator;
    use kafka_wire::messages::{BrokerId, HeartbeatRequest, HeartbeatResponse, MetadataRequest};
    use tokio::time::{sleep, timeout};

    use super::super::fake::{Fake, Reply, Seen, metadata};
    use super::super::route::Route;
    use super::*;
    use crate::client::Client;

    /// Brokers 1 and 2; the coordinator of a group is what `place` says.
    fn cluster(mut place: impl FnMut(&str) -> (i32, ErrorCode) + Send + 'static) -> Fake {
        Fake::new(move |seen| match seen.api {
            Api::Metadata => Reply::to::<MetadataRequest>(seen, &metadata(&[1, 2], vec![])),
            Api::FindCoordinator => find(seen, &mut place),
            Api::Heartbeat => Reply::to::<HeartbeatRequest>(seen, &HeartbeatResponse::default()),
            other => panic!("{other} is not expected"),
        })
    }

    fn find(seen: &Seen, place: &mut impl FnMut(&str) -> (i32, ErrorCode)) -> Reply {
        let request = seen.decode::<FindCoordinatorRequest>();
        let host = |node: i32| StrBytes::from_string(format!("b{node}"));
        let response = if seen.version >= BATCHED {
            let answer = |key: &StrBytes| {
                let (node, code) = place(key);
                Coordinator::default()
                    .with_key(key.clone())
                    .with_node_id(BrokerId(node))
                    .with_host(host(node))
                    .with_port(9092)
                    .with_error_code(code.0)
            };
            let coordinators = request.coordinator_keys.iter().map(answer).collect();
            FindCoordinatorResponse::default().with_coordinators(coordinators)
        } else {
            let (node, code) = place(&request.key);
            FindCoordinatorResponse::default()
                .with_node_id(BrokerId(node))
                .with_host(host(node))
                .with_port(9092)
                .with_error_code(code.0)
        };
        Reply::to::<FindCoordinatorRequest>(seen, &response)
    }

    async fn connect(fake: &Fake) -> Client {
        Client::builder("b1:9092").connector(fake.clone()).seed(7).connect().await.unwrap()
    }

    fn heartbeat(code: fn(&HeartbeatResponse) -> ErrorCode) -> impl Fn(Client, String) -> BoxedNode {
        move |client, group| {
            Box::pin(async move {
                let call = client.request(Route::Group(group.into()));
                Ok(call.send_checked(|_| Ok(HeartbeatRequest::default()), code).await?.node)
            })
        }
    }

    type BoxedNode = futures_core::future::BoxFuture<'static, Result<NodeId>>;

    fn beat(client: &Client, group: &str) -> BoxedNode {
        heartbeat(|answer| ErrorCode(answer.error_code))(client.clone(), group.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_come_together_share_a_request_and_later_ones_need_none() {
        let fake = cluster(|group| (if group.ends_with("7") { 2 } else { 1 }, ErrorCode::NONE));
        let client = connect(&fake).await;
        let groups = (0..50).map(|group| format!("g{}", group % 25));
        let nodes = join_all(groups.map(|group| beat(&client, &group))).await;
        assert_eq!(nodes.iter().filter(|node| *node.as_ref().unwrap() == 2).count(), 4);
        // The first request leaves with whoever was first; the rest go together.
        assert!(fake.seen(Api::FindCoordinator).len() <= 2);
        beat(&client, "g3").await.unwrap();
        assert!(fake.seen(Api::FindCoordinator).len() <= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_knows_no_batches_is_asked_for_one_group_at_a_time() {
        let fake = cluster(|_| (2, ErrorCode::NONE));
        fake.speaks(Api::FindCoordinator, 0, 3);
        let client = connect(&fake).await;
        let nodes = join_all((0..5).map(|group| beat(&client, &format!("g{group}")))).await;
        assert!(nodes.into_iter().all(|node| node.unwrap() == 2));
        assert_eq!(fake.seen(Api::FindCoordinator).len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn transactional_ids_need_a_version_that_knows_them_and_the_error_names_both() {
        let fake = cluster(|_| (2, ErrorCode::NONE));
        fake.speaks(Api::FindCoordinator, 0, 0);
        let client = connect(&fake).await;
        let call = client.request(Route::Transaction("tx".into()));
        let error = call.send(|_| Ok(HeartbeatRequest::default())).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("FindCoordinator") && text.contains("1 to 6") && text.contains("0"), "{text}");
        beat(&client, "g").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_waiting_does_not_cancel_the_look_up_of_the_others() {
        let fake = cluster(|_| (2, ErrorCode::NONE));
        let client = connect(&fake).await;
        let quitter = tokio::spawn(beat(&client, "g"));
        tokio::task::yield_now().await;
        let patient = tokio::spawn(beat(&client, "g"));
        tokio::task::yield_now().await;
        quitter.abort();
        assert_eq!(patient.await.unwrap().unwrap(), 2);
        assert_eq!(fake.seen(Api::FindCoordinator).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_does_not_answer_holds_up_only_those_who_asked_it() {
        let mut place = |_: &str| (1, ErrorCode::NONE);
        let mut silent: Option<String> = None;
        let fake = Fake::new(move |seen| match seen.api {
            Api::Metadata => Reply::to::<MetadataRequest>(seen, &metadata(&[1, 2], vec![])),
            Api::FindCoordinator if *silent.get_or_insert(seen.host.clone()) == seen.host => Reply::Silence,
            Api::FindCoordinator => find(seen, &mut place),
            _ => Reply::to::<HeartbeatRequest>(seen, &HeartbeatResponse::default()),
        });
        let client = connect(&fake).await;
        // Both connections are open, so that only what is in flight on them tells them apart.
        for node in [1, 2] {
            client.call(Route::Node(node), HeartbeatRequest::default()).await.unwrap();
        }
        let first = tokio::spawn(beat(&client, "g1"));
        sleep(Duration::from_secs(1)).await;
        assert!(!first.is_finished());
        let other = Route::Group("g2".into());
        let found = timeout(Duration::from_secs(1), client.resolve(&other, in_a_minute()));
        assert_eq!(found.await.unwrap().unwrap(), 1);
    }

    fn in_a_minute() -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_is_being_loaded_is_waited_for() {
        let mut asks = 0;
        let fake = cluster(move |_| {
            asks += 1;
            (1, if asks < 5 { ErrorCode::COORDINATOR_NOT_AVAILABLE } else { ErrorCode::NONE })
        });
        let client = connect(&fake).await;
        assert_eq!(beat(&client, "g").await.unwrap(), 1);
        assert_eq!(fake.seen(Api::FindCoordinator).len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_denies_being_the_coordinator_is_forgotten() {
        let mut asks = 0;
        let fake = cluster(move |_| {
            asks += 1;
            (asks.min(2), ErrorCode::NONE)
        });
        let client = connect(&fake).await;
        let call = client.request(Route::Group("g".into()));
        let answer = call
            .send_checked(|_| Ok(HeartbeatRequest::default()), {
                let denied = std::sync::atomic::AtomicBool::new(false);
                move |_| {
                    let first = !denied.swap(true, std::sync::atomic::Ordering::Relaxed);
                    if first { ErrorCode::NOT_COORDINATOR } else { ErrorCode::NONE }
                }
            })
            .await
            .unwrap();
        assert_eq!(answer.node, 2);
        assert_eq!(fake.seen(Api::FindCoordinator).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_cannot_be_reached_is_looked_up_anew() {
        let fake = cluster(|_| (2, ErrorCode::NONE));
        let client = connect(&fake).await;
        beat(&client, "g").await.unwrap();
        fake.stop("b2");
        fake.replace({
            let mut place = |_: &str| (1, ErrorCode::NONE);
            move |seen| match seen.api {
                Api::Metadata => Reply::to::<MetadataRequest>(seen, &metadata(&[1], vec![])),
                Api::FindCoordinator => find(seen, &mut place),
                _ => Reply::to::<HeartbeatRequest>(seen, &HeartbeatResponse::default()),
            }
        });
        let node = timeout(Duration::from_secs(5), beat(&client, "g")).await.unwrap();
        assert_eq!(node.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_makes_no_sense_is_as_good_as_none() {
        let mut asks = 0;
        let fake = cluster(move |_| {
            asks += 1;
            (if asks == 1 { -1 } else { 1 }, ErrorCode::NONE)
        });
        let client = connect(&fake).await;
        assert_eq!(beat(&client, "g").await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_ends_with_the_client() {
        let fake = Fake::new(|seen| match seen.api {
            Api::Metadata => Reply::to::<MetadataRequest>(seen, &metadata(&[1], vec![])),
            _ => Reply::Silence,
        });
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = alive();
        let client = connect(&fake).await;
        assert!(timeout(Duration::from_secs(1), beat(&client, "g")).await.is_err());
        drop(client);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(alive(), before);
    }
}
