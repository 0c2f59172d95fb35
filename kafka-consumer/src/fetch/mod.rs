//! Keeps the consumer's buffer filled: one task that asks every leader for what the subscription's plan says, at most
//! one fetch at a time from each, and feeds the answers back.

mod answer;
mod portion;
mod session;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kafka_client::raw::{Connection, Lane, Metadata, Owner};
use kafka_client::{
    Error as ClientError, ErrorKind as ClientErrorKind, NodeId, Offset, TopicId, TopicPartition,
};
use kafka_wire::api::{Api, VersionRange};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{FetchPartition, ForgottenPartition, Request, TopicRef};
use tokio::time::Instant;

use self::portion::Portion;
use self::session::{FetchSession, SessionRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Committed;
use crate::offsets::{self, Answers, EpochQuery, Found, Query};
use crate::shared::Shared;
use crate::subscription::{FetchEntry, Leader, Lookup, LookupEntry, Ticket, ValidateEntry, Work};

/// The version from which brokers keep sessions.
const SESSIONS_SINCE: i16 = 7;
/// The version from which topics are named by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// The longest that a node rests whose answers come at once and bring nothing.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A fetch, as it was answered.
#[derive(Debug)]
struct Fetched {
    connection: Connection,
    version: i16,
    body: Bytes,
}

/// What is kept of a node between two fetches from it.
#[derive(Debug, Default)]
struct Node {
    session: FetchSession,
    portion: Portion,
    /// Answers in a row that came at once and brought nothing.
    in_vain: u32,
}

/// What came of a piece of work.
enum Done {
    Committed(Vec<(Ticket, TopicPartition)>, Result<Committed>),
    /// Places and beginnings in the order of the entries, and ends for those that need both.
    Offsets(NodeId, Vec<LookupEntry>, Result<(Answers<Found>, Answers<Found>)>),
    Validated(Vec<ValidateEntry>, Result<Answers<Option<(i32, i64)>>>),
    Fetched {
        id: NodeId,
        entries: Vec<FetchEntry>,
        node: Node,
        sent: Instant,
        result: Result<Fetched>,
    },
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The task's state. It ends with the consumer, which aborts it.
pub(crate) struct Fetcher {
    shared: Arc<Shared>,
    /// Of the connections to fetch on, which close with the consumer.
    owner: Owner,
    /// Nodes that are not being asked at the moment.
    nodes: HashMap<NodeId, Node>,
    /// Those that are, and how many bytes each may bring.
    busy: HashMap<NodeId, usize>,
    /// The sessions that brokers keep.
    sessions: HashMap<NodeId, i32>,
    running: FuturesUnordered<Running>,
}

impl Fetcher {
    pub(crate) fn new(shared: Arc<Shared>, owner: Owner) -> Self {
        let running = FuturesUnordered::new();
        let (nodes, busy, sessions) = Default::default();
        Self { shared, owner, nodes, busy, sessions, running }
    }

    /// Works until the consumer closes, then ends the sessions so that brokers need not remember them.
    pub(crate) async fn run(mut self) {
        let mut metadata = self.shared.client.refresher().subscribe();
        let mut failures = self.shared.client.refresher().failures();
        loop {
            let wake_at = self.start_work();
            if self.shared.state().closed {
                break;
            }
            let timer = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = self.running.next() => self.finish(done),
                () = self.shared.fetch.notified() => {}
                changed = metadata.changed() => if changed.is_err() { break },
                changed = failures.changed() => if changed.is_err() { break },
                () = timer => {}
            }
        }
        self.close_sessions().await;
    }

    /// Starts everything that can be started; tells when to look again.
    fn start_work(&mut self) -> Option<Instant> {
        let metadata = self.shared.client.metadata();
        let refusal = self.shared.client.refresher().refusal();
        let mut state = self.shared.state();
        if state.closed {
            return None;
        }
        let plan = state.subscription.plan(
            Instant::now(),
            &self.busy,
            |partition| leader(&metadata, refusal.as_ref(), partition),
            |node| metadata.broker(node).is_some(),
        );
        if plan.has_errors {
            state.wake_all();
        }
        drop(state);
        for work in plan.work {
            let running = self.start(work);
            self.running.push(running);
        }
        plan.wake_at
    }

    fn start(&mut self, work: Work) -> Running {
        let shared = Arc::clone(&self.shared);
        let deadline = Instant::now() + shared.client.config().request_timeout;
        match work {
            Work::Committed(partitions) => Box::pin(async move {
                let names: Vec<_> = partitions.iter().map(|(_, name)| name.clone()).collect();
                let offsets = match &shared.group {
                    Some(group) => group.committed(&names, deadline).await,
                    None => Ok(Committed::new()),
                };
                Done::Committed(partitions, offsets)
            }),
            Work::Offsets { node, entries } => Box::pin(async move {
                let found = look_up(&shared, node, &entries, deadline).await;
                Done::Offsets(node, entries, found)
            }),
            Work::Validate { node, entries } => Box::pin(async move {
                let queries: Vec<EpochQuery> = entries
                    .iter()
                    .map(|entry| EpochQuery {
                        partition: entry.partition.clone(),
                        leader_epoch: entry.leader_epoch,
                        epoch: entry.epoch,
                    })
                    .collect();
                let ends = offsets::end_of_epochs(&shared.client, node, &queries, deadline).await;
                Done::Validated(entries, ends)
            }),
            Work::Fetch { node: id, entries, max_bytes } => {
                let mut node = self.nodes.remove(&id).unwrap_or_default();
                let least = self.shared.config.max_partition_fetch_bytes;
                let max_bytes = node.portion.bytes().max(least).min(max_bytes);
                self.busy.insert(id, max_bytes);
                let owner = self.owner.clone();
                let sent = Instant::now();
                Box::pin(async move {
                    let result = fetch(&shared, &owner, id, &entries, &mut node.session, max_bytes).await;
                    Done::Fetched { id, entries, node, sent, result }
                })
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Committed(partitions, offsets) => self.committed(partitions, offsets),
            Done::Offsets(node, entries, found) => self.found(node, entries, found),
            Done::Validated(entries, ends) => self.validated(entries, ends),
            Done::Fetched { id, entries, mut node, sent, result } => {
                self.busy.remove(&id);
                if let Ok(fetched) = &result {
                    let is_awaited = self.shared.state().is_awaited();
                    node.portion.answered(fetched.body.len(), sent.elapsed(), is_awaited);
                }
                match result {
                    Ok(fetched) => match answer::take(&self.shared, id, &mut node.session, &fetched) {
                        Some(told) if sent.elapsed() < self.shared.config.fetch_max_wait / 2 => {
                            node.in_vain += 1;
                            self.rest(&entries, &told, node.in_vain);
                        }
                        _ => node.in_vain = 0,
                    },
                    Err(error) => {
                        node.session.failed(None);
                        self.fetch_failed(id, &entries, &error);
                    }
                }
                self.sessions.insert(id, node.session.id());
                self.nodes.insert(id, node);
            }
        }
    }

    /// A broker that has nothing is to wait before it says so. One that does not would be asked without end.
    fn rest(&self, entries: &[FetchEntry], told: &HashSet<Ticket>, in_vain: u32) {
        let rest = Duration::from_millis(1 << in_vain.min(10)).min(LONGEST_REST);
        // Of what was asked, whatever has become of the session by then.
        let tickets = entries.iter().map(|entry| entry.ticket).filter(|ticket| !told.contains(ticket));
        self.shared.state().subscription.rest(tickets, Instant::now() + rest);
    }

    fn committed(&self, partitions: Vec<(Ticket, TopicPartition)>, offsets: Result<Committed>) {
        let mut state = self.shared.state();
        let now = Instant::now();
        match offsets {
            Ok(mut offsets) => {
                for (ticket, partition) in partitions {
                    state.subscription.committed(ticket, offsets.remove(&partition).flatten());
                }
            }
            Err(error) => {
                for (ticket, _) in partitions {
                    lookup_failed(&mut state.subscription, ticket, &error, now);
                }
            }
        }
        state.wake_all();
    }

    fn found(
        &self,
        node: NodeId,
        entries: Vec<LookupEntry>,
        found: Result<(Answers<Found>, Answers<Found>)>,
    ) {
        let mut state = self.shared.state();
        let now = Instant::now();
        let mut stale_metadata = false;
        match found {
            Ok((places, ends)) => {
                let mut ends = ends.into_iter();
                for (entry, place) in entries.into_iter().zip(places) {
                    let subscription = &mut state.subscription;
                    let result = match entry.lookup {
                        Lookup::Place(_) => place.map(|place| {
                            subscription.place_found(entry.ticket, place.offset, now);
                        }),
                        Lookup::Ends => {
                            let end = ends.next().unwrap_or(Err(ErrorCode::LEADER_NOT_AVAILABLE));
                            place.and_then(|start| Ok((start, end?))).map(|(start, end)| {
                                subscription.ends_found(entry.ticket, start.offset, end.offset, now);
                            })
                        }
                    };
                    if let Err(code) = result {
                        stale_metadata |= refused(subscription, entry.ticket, entry.partition, code, now);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(node, %error, "offsets could not be looked up");
                stale_metadata = true;
                for entry in entries {
                    lookup_failed(&mut state.subscription, entry.ticket, &error, now);
                }
            }
        }
        state.wake_all();
        drop(state);
        if stale_metadata {
            self.shared.client.refresher().request("offsets could not be looked up");
        }
    }

    fn validated(&self, entries: Vec<ValidateEntry>, ends: Result<Answers<Option<(i32, i64)>>>) {
        let mut state = self.shared.state();
        let now = Instant::now();
        let mut stale_metadata = false;
        match ends {
            Ok(ends) => {
                for (entry, end) in entries.into_iter().zip(ends) {
                    match end {
                        Ok(end) => state.subscription.validated(entry.ticket, end),
                        // Never a reason to move the position: not even one that will not pass.
                        Err(code) => {
                            let subscription = &mut state.subscription;
                            stale_metadata |= refused(subscription, entry.ticket, entry.partition, code, now);
                        }
                    }
                }
            }
            Err(error) if offsets::is_unsupported(&error) => {
                entries.iter().for_each(|entry| state.subscription.validation_unsupported(entry.ticket));
            }
            Err(error) => {
                stale_metadata = true;
                entries.iter().for_each(|e| lookup_failed(&mut state.subscription, e.ticket, &error, now));
            }
        }
        state.wake_all();
        drop(state);
        if stale_metadata {
            self.shared.client.refresher().request("a position could not be validated");
        }
    }

    fn fetch_failed(&self, node: NodeId, entries: &[FetchEntry], error: &Error) {
        tracing::debug!(node, %error, "fetch failed");
        let mut state = self.shared.state();
        let now = Instant::now();
        let fatal = !error.is_retriable() && !is_protocol(error);
        let tickets = entries.iter().map(|entry| entry.ticket);
        if fatal {
            tickets.clone().for_each(|ticket| state.subscription.refuse(ticket, error.clone(), now));
            state.wake_all();
        }
        state.subscription.node_failed(tickets, node, now);
        drop(state);
        self.shared.client.refresher().request("a fetch failed");
    }

    /// Best effort, within a second: a broker forgets idle sessions by itself.
    async fn close_sessions(mut self) {
        // Waits for no answer: the connections to fetch on close with the fetches that are parked on them.
        self.running.clear();
        let open = self.sessions.iter().filter(|(_, id)| **id != 0);
        let shared = &*self.shared;
        let goodbyes: Vec<_> = open.map(|(node, id)| say_goodbye(shared, *node, *id)).collect();
        let _ = tokio::time::timeout(Duration::from_secs(1), futures_util::future::join_all(goodbyes)).await;
    }
}

/// A connection that broke because of what was on it is like one that broke by itself.
fn is_protocol(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Client(error) if matches!(error.kind(), ClientErrorKind::Protocol { .. }))
}

/// Who leads a partition; an error if the topic is refused for good, or this client before it could ask.
fn leader(
    metadata: &Metadata,
    refusal: Option<&ClientError>,
    partition: &TopicPartition,
) -> std::result::Result<Leader, Option<Error>> {
    let unknown = || refusal.map(|error| ErrorKind::Client(error.clone()).into());
    let topic = metadata.topic(&partition.topic).ok_or_else(unknown)?;
    let Some((node, epoch)) = metadata.leader(partition) else {
        let code = topic.error().filter(|code| !code.is_retriable() && topic.partition_count() == 0);
        let refused = |code| ErrorKind::Refused { partition: partition.clone(), code }.into();
        return Err(code.map(refused));
    };
    Ok(Leader { node, epoch, topic_id: topic.id().unwrap_or(TopicId::ZERO) })
}

/// Asks for places and beginnings, then for ends: a broker refuses a partition that is asked about twice at once.
async fn look_up(
    shared: &Shared,
    node: NodeId,
    entries: &[LookupEntry],
    deadline: Instant,
) -> Result<(Answers<Found>, Answers<Found>)> {
    let query = |entry: &LookupEntry, at| Query {
        partition: entry.partition.clone(),
        leader_epoch: entry.leader_epoch,
        at,
    };
    let first = |entry: &LookupEntry| match entry.lookup {
        Lookup::Place(place) => query(entry, place),
        Lookup::Ends => query(entry, Offset::Earliest),
    };
    let first: Vec<Query> = entries.iter().map(first).collect();
    let both = entries.iter().filter(|entry| entry.lookup == Lookup::Ends);
    let ends: Vec<Query> = both.map(|entry| query(entry, Offset::Latest)).collect();
    let (client, isolation) = (&shared.client, shared.config.isolation);
    let found = offsets::list(client, node, isolation, &first, deadline).await?;
    let ends = offsets::list(client, node, isolation, &ends, deadline).await?;
    Ok((found, ends))
}

/// Takes a refusal of one partition; returns whether stale metadata may be to blame.
fn refused(
    subscription: &mut crate::subscription::Subscription,
    ticket: Ticket,
    partition: TopicPartition,
    code: ErrorCode,
    now: Instant,
) -> bool {
    if offsets::is_passing(code) {
        subscription.lookup_failed(ticket, now);
        return true;
    }
    subscription.lookup_refused(ticket, ErrorKind::Refused { partition, code }.into(), now);
    false
}

fn lookup_failed(
    subscription: &mut crate::subscription::Subscription,
    ticket: Ticket,
    error: &Error,
    now: Instant,
) {
    if error.is_retriable() || is_protocol(error) {
        subscription.lookup_failed(ticket, now);
    } else {
        subscription.lookup_refused(ticket, error.clone(), now);
    }
}

/// Makes one fetch, in the session or, with brokers that keep none, outside of any.
async fn fetch(
    shared: &Shared,
    owner: &Owner,
    node: NodeId,
    entries: &[FetchEntry],
    session: &mut FetchSession,
    max_bytes: usize,
) -> Result<Fetched> {
    let connection = shared.client.connection(node, Lane::Fetch, owner).await?;
    let version = version(&connection, entries)?;
    if version < SESSIONS_SINCE {
        *session = FetchSession::default();
    }
    let request = session.request(entries);
    let mut partitions: Vec<_> = request.send.iter().filter_map(|at| entries.get(*at)).collect();
    // Stable, so that within a topic the order stays that of the plan; the layout wants topics in one piece.
    partitions.sort_by(|a, b| a.partition.topic.cmp(&b.partition.topic));
    if request.id == 0 && !partitions.is_empty() {
        // A session remembers whose turn it is; outside of one the first partitions could take all the room for ever.
        let turn = usize::try_from(session.requests() - 1).unwrap_or_default() % partitions.len();
        partitions.rotate_left(turn);
    }
    send(shared, connection, version, &partitions, &request, max_bytes).await
}

/// Over the connection that everything shares: on that of the fetches, one may be parked.
async fn say_goodbye(shared: &Shared, node: NodeId, session: i32) -> Result<()> {
    let client = &shared.client;
    let connection = client.connection(node, Lane::General, &client.owner()).await?;
    let version = version(&connection, &[])?;
    let request = FetchSession::goodbye(session);
    send(shared, connection, version, &[], &request, 0).await.map(drop)
}

/// The newest version that can name every topic: by id only if every one has an id.
fn version(connection: &Connection, entries: &[FetchEntry]) -> Result<i16> {
    let mut ours = Api::Fetch.versions();
    if entries.iter().any(|entry| entry.topic_id.is_zero()) {
        ours = VersionRange { min: ours.min, max: TOPIC_IDS_SINCE - 1 };
    }
    Ok(connection.version_for(Api::Fetch, ours)?)
}

async fn send(
    shared: &Shared,
    connection: Connection,
    version: i16,
    entries: &[&FetchEntry],
    request: &SessionRequest,
    max_bytes: usize,
) -> Result<Fetched> {
    let config = &shared.config;
    let partitions: Vec<FetchPartition<'_>> = entries
        .iter()
        .map(|entry| FetchPartition {
            current_leader_epoch: entry.leader_epoch.unwrap_or(-1),
            last_fetched_epoch: entry.last_fetched_epoch.unwrap_or(-1),
            ..FetchPartition::new(
                topic_ref(&entry.partition, entry.topic_id),
                entry.partition.partition,
                entry.offset,
                clamp(config.max_partition_fetch_bytes),
            )
        })
        .collect();
    let mut forget: Vec<_> = request.forget.iter().collect();
    forget.sort_by(|a, b| (&a.0.topic, a.1).cmp(&(&b.0.topic, b.1)));
    let forgotten: Vec<_> = forget
        .into_iter()
        .map(|(partition, id)| ForgottenPartition {
            topic: topic_ref(partition, *id),
            index: partition.partition,
        })
        .collect();
    let wait = config.fetch_max_wait;
    let mut body = BytesMut::new();
    Request {
        replica_id: -1,
        replica_epoch: -1,
        cluster_id: None,
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: clamp(config.fetch_min_bytes),
        max_bytes: clamp(max_bytes),
        isolation_level: config.isolation.id(),
        session_id: request.id,
        session_epoch: request.epoch,
        partitions: &partitions,
        forgotten: &forgotten,
        rack_id: config.rack.as_deref().unwrap_or_default(),
    }
    .encode(version, &mut body)
    .map_err(|error| kafka_client::Error::from(ClientErrorKind::Encode(error)))?;
    let mut broker_request = connection.request(Api::Fetch, version, vec![body.freeze()]);
    broker_request.timeout = Some(shared.client.config().request_timeout + wait);
    let response = connection.call(broker_request).await?;
    Ok(Fetched { connection, version, body: response.body })
}

fn topic_ref(partition: &TopicPartition, id: TopicId) -> TopicRef<'_> {
    TopicRef { name: &partition.topic, id: id.0 }
}

fn clamp(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
