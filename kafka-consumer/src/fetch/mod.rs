//! Keeps the consumer's buffer filled: one task that asks every leader for what the subscription's plan says, at most
//! one fetch at a time from each, and feeds the answers back.

mod aborted;
mod answer;
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
use kafka_client::{Client, ErrorKind as ClientErrorKind, NodeId, Offset, TopicId, TopicPartition};
use kafka_wire::api::{Api, VersionRange};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{FetchPartition, ForgottenPartition, Request, TopicRef};
use tokio::time::Instant;

use self::session::{FetchSession, SessionRequest};
use crate::config::ConsumerConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Committed;
use crate::offsets::{self, Answers, EpochQuery, Found, Query};
use crate::shared::Shared;
use crate::subscription::{FetchEntry, Leader, Lookup, LookupEntry, Ticket, ValidateEntry, Work};

/// The version from which brokers keep sessions.
const SESSIONS_SINCE: i16 = 7;
/// The version from which topics are named by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// A fetch, as it was answered.
#[derive(Debug)]
struct Fetched {
    version: i16,
    body: Bytes,
}

/// What came of a piece of work.
enum Done {
    Committed(Vec<(Ticket, TopicPartition)>, Result<Committed>),
    Offsets(NodeId, Vec<LookupEntry>, Result<Answers<Found>>),
    Validated(Vec<ValidateEntry>, Result<Answers<Option<(i32, i64)>>>),
    Fetched { node: NodeId, entries: Vec<FetchEntry>, session: FetchSession, result: Result<Fetched> },
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The task's state. It ends with the consumer, which aborts it.
pub(crate) struct Fetcher {
    shared: Arc<Shared>,
    /// Sessions of nodes that are not being asked at the moment.
    sessions: HashMap<NodeId, FetchSession>,
    busy: HashSet<NodeId>,
    running: FuturesUnordered<Running>,
}

impl Fetcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sessions: HashMap::new(), busy: HashSet::new(), running: FuturesUnordered::new() }
    }

    /// Works until the consumer closes, then ends the sessions so that brokers need not remember them.
    pub(crate) async fn run(mut self) {
        let mut metadata = self.shared.client.refresher().subscribe();
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
                () = timer => {}
            }
        }
        self.close_sessions().await;
    }

    /// Starts everything that can be started; tells when to look again.
    fn start_work(&mut self) -> Option<Instant> {
        let metadata = self.shared.client.metadata();
        let mut state = self.shared.state();
        if state.closed {
            return None;
        }
        let plan = state.subscription.plan(
            Instant::now(),
            &self.busy,
            |partition| leader(&metadata, partition),
            |node| metadata.broker(node).is_some(),
        );
        drop(state);
        let fetches = plan.work.iter().filter(|work| matches!(work, Work::Fetch { .. })).count();
        let nodes = (self.busy.len() + fetches).max(1);
        for work in plan.work {
            let running = self.start(work, nodes);
            self.running.push(running);
        }
        plan.wake_at
    }

    fn start(&mut self, work: Work, nodes: usize) -> Running {
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
            Work::Fetch { node, entries } => {
                self.busy.insert(node);
                let mut session = self.sessions.remove(&node).unwrap_or_default();
                let config = &shared.config;
                let max_bytes = config.fetch_max_bytes.min(config.max_buffered_bytes / nodes);
                let max_bytes = max_bytes.max(config.max_partition_fetch_bytes.min(config.fetch_max_bytes));
                Box::pin(async move {
                    let result = fetch(&shared, node, &entries, &mut session, max_bytes).await;
                    Done::Fetched { node, entries, session, result }
                })
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Committed(partitions, offsets) => self.committed(partitions, offsets),
            Done::Offsets(node, entries, found) => self.found(node, entries, found),
            Done::Validated(entries, ends) => self.validated(entries, ends),
            Done::Fetched { node, entries, mut session, result } => {
                self.busy.remove(&node);
                match result {
                    Ok(fetched) => answer::take(&self.shared, node, &mut session, &fetched),
                    Err(error) => {
                        session.failed(None);
                        self.fetch_failed(node, &entries, &error);
                    }
                }
                self.sessions.insert(node, session);
            }
        }
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

    fn found(&self, node: NodeId, entries: Vec<LookupEntry>, found: Result<Answers<Found>>) {
        let mut state = self.shared.state();
        let now = Instant::now();
        let mut stale_metadata = false;
        match found {
            Ok(found) => {
                let mut found = found.into_iter();
                for entry in entries {
                    let subscription = &mut state.subscription;
                    let mut next = || found.next().unwrap_or(Err(ErrorCode::LEADER_NOT_AVAILABLE));
                    let result = match entry.lookup {
                        Lookup::Place(_) => next().map(|place| {
                            subscription.place_found(entry.ticket, place.offset, place.leader_epoch);
                        }),
                        Lookup::Ends => {
                            let (earliest, latest) = (next(), next());
                            earliest.and_then(|earliest| Ok((earliest, latest?))).map(|(earliest, latest)| {
                                subscription.ends_found(entry.ticket, earliest.offset, latest.offset, now);
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
        for entry in entries {
            if fatal {
                state.subscription.lookup_refused(entry.ticket, error.clone(), now);
            }
        }
        state.subscription.node_failed(entries.iter().map(|entry| entry.ticket), node, now);
        if fatal {
            state.wake_all();
        }
        drop(state);
        self.shared.client.refresher().request("a fetch failed");
    }

    /// Best effort, within a second: a broker forgets idle sessions by itself.
    async fn close_sessions(mut self) {
        // Waits for no answer: a parked fetch stands before the goodbye, and its connection closes with it.
        self.running.clear();
        let open = self.sessions.iter_mut().filter(|(_, session)| session.is_open());
        let goodbyes = open.map(|(node, session)| {
            let request = session.close();
            let shared = Arc::clone(&self.shared);
            let node = *node;
            async move { send(&shared, node, &[], &request, 0).await }
        });
        let goodbyes: Vec<_> = goodbyes.collect();
        let _ = tokio::time::timeout(Duration::from_secs(1), futures_util::future::join_all(goodbyes)).await;
    }
}

/// A connection that broke because of what was on it is like one that broke by itself.
fn is_protocol(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Client(error) if matches!(error.kind(), ClientErrorKind::Protocol { .. }))
}

fn leader(metadata: &Metadata, partition: &TopicPartition) -> Option<Leader> {
    let (node, epoch) = metadata.leader(partition)?;
    let topic_id = metadata.topic(&partition.topic)?.id().unwrap_or(TopicId::ZERO);
    Some(Leader { node, epoch, topic_id })
}

/// The answers for each entry: one for a place, two for the ends. A broker refuses a request that names a partition
/// twice, so the upper ends have a request of their own.
async fn look_up(
    shared: &Shared,
    node: NodeId,
    entries: &[LookupEntry],
    deadline: Instant,
) -> Result<Answers<Found>> {
    let query = |entry: &LookupEntry, at| Query {
        partition: entry.partition.clone(),
        leader_epoch: entry.leader_epoch,
        at,
    };
    let lower = entries.iter().map(|entry| match entry.lookup {
        Lookup::Place(place) => query(entry, place),
        Lookup::Ends => query(entry, Offset::Earliest),
    });
    let ends = |entry: &&LookupEntry| entry.lookup == Lookup::Ends;
    let upper = entries.iter().filter(ends).map(|entry| query(entry, Offset::Latest));
    let (lower, upper): (Vec<_>, Vec<_>) = (lower.collect(), upper.collect());
    let isolation = shared.config.isolation;
    let lower = offsets::list(&shared.client, node, isolation, &lower, deadline).await?;
    let mut upper = match upper.as_slice() {
        [] => Vec::new(),
        upper => offsets::list(&shared.client, node, isolation, upper, deadline).await?,
    }
    .into_iter();
    let answers = entries.iter().zip(lower).flat_map(|(entry, lower)| {
        let upper = (entry.lookup == Lookup::Ends).then(|| upper.next()).flatten();
        [Some(lower), upper].into_iter().flatten()
    });
    Ok(answers.collect())
}

/// Takes a refusal of one partition; returns whether stale metadata may be to blame.
fn refused(
    subscription: &mut crate::subscription::Subscription,
    ticket: Ticket,
    partition: TopicPartition,
    code: ErrorCode,
    now: Instant,
) -> bool {
    if code.is_retriable() || code == ErrorCode::UNKNOWN_SERVER_ERROR {
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
    node: NodeId,
    entries: &[FetchEntry],
    session: &mut FetchSession,
    max_bytes: usize,
) -> Result<Fetched> {
    let connection = connect(&shared.client, node, &shared.owner).await?;
    let version = version(&connection, entries)?;
    if version < SESSIONS_SINCE {
        *session = FetchSession::default();
    }
    let request = session.request(entries);
    send_on(&connection, version, &shared.config, &shared.client, entries, &request, max_bytes).await
}

async fn send(
    shared: &Shared,
    node: NodeId,
    entries: &[FetchEntry],
    request: &SessionRequest,
    max_bytes: usize,
) -> Result<Fetched> {
    let connection = connect(&shared.client, node, &shared.owner).await?;
    let version = version(&connection, entries)?;
    send_on(&connection, version, &shared.config, &shared.client, entries, request, max_bytes).await
}

async fn connect(client: &Client, node: NodeId, owner: &Owner) -> Result<Connection> {
    Ok(client.connection(node, Lane::Fetch, owner).await?)
}

/// The newest version that can name every topic: by id only if every one has an id.
fn version(connection: &Connection, entries: &[FetchEntry]) -> Result<i16> {
    let mut ours = Api::Fetch.versions();
    if entries.iter().any(|entry| entry.topic_id.is_zero()) {
        ours = VersionRange { min: ours.min, max: TOPIC_IDS_SINCE - 1 };
    }
    Ok(connection.version_for(Api::Fetch, ours)?)
}

async fn send_on(
    connection: &Connection,
    version: i16,
    config: &ConsumerConfig,
    client: &Client,
    entries: &[FetchEntry],
    request: &SessionRequest,
    max_bytes: usize,
) -> Result<Fetched> {
    let mut partitions: Vec<_> = request.send.iter().filter_map(|at| entries.get(*at)).collect();
    // Stable, so that within a topic the order stays that of the plan; the layout wants topics in one piece.
    partitions.sort_by(|a, b| a.partition.topic.cmp(&b.partition.topic));
    let partitions: Vec<FetchPartition<'_>> = partitions
        .into_iter()
        .map(|entry| FetchPartition {
            current_leader_epoch: entry.leader_epoch.unwrap_or(-1),
            last_fetched_epoch: entry.last_fetched_epoch.unwrap_or(-1),
            log_start_offset: entry.log_start,
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
    broker_request.timeout = Some(client.config().request_timeout + wait);
    let response = connection.call(broker_request).await?;
    Ok(Fetched { version, body: response.body })
}

fn topic_ref(partition: &TopicPartition, id: TopicId) -> TopicRef<'_> {
    TopicRef { name: &partition.topic, id: id.0 }
}

fn clamp(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
