//! Fetch: reads what is there within the limits, or waits until there is enough. Kafka's rules for limits and sessions.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{
    EpochEndOffset, LeaderHint, PartitionResponse, RequestView, Response, Status, TopicRef,
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub(crate) use self::session::Sessions;
use self::session::{Fetching, Key, Kind, NO_SESSION, NOTHING_TOLD, Position, SessionRequest, Told, Wanted};
use crate::fault::{Seen, Stage};
use crate::image::{Image, NO_NODE, PartitionImage, Topic};
use crate::partition::{Reader, State};
use crate::produce::endpoints;
use crate::quota::measured;
use crate::router::{Reply, check_names, strike};
use crate::shared::RequestContext;

/// The first version in which topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version that a follower may answer (KIP-392).
const FOLLOWERS_SINCE: i16 = 11;
/// The first version that tells who leads instead (KIP-951).
const LEADER_HINTS_SINCE: i16 = 16;
/// Longer than any client waits.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The one selector of Kafka's that picks another replica than the leader.
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

pub(crate) async fn serve(mut ctx: RequestContext, body: Bytes) -> Result<Reply, ProtocolError> {
    let request = RequestView::decode(ctx.version, &body)?;
    check_names(&ctx, request.partitions().map(|partition| partition.topic))?;
    check_names(&ctx, request.forgotten().map(|partition| partition.topic))?;
    ctx.injected = ctx.shared.faults.hitting(&Seen {
        broker: ctx.broker,
        api: ctx.api,
        client_id: ctx.client_id.as_deref(),
        group: None,
        items: &|see| see_partitions(&ctx, &request, see),
    });
    if let Some(reply) = strike(&ctx, Stage::Before).await {
        return Ok(reply);
    }
    let Some(node) = ctx.shared.nodes.get(&ctx.broker) else { return Ok(Reply::Close) };
    let begun = node.sessions.begin(session_request(&ctx, &request));
    let body = match begun {
        Err(code) => encode(&ctx, code, NO_SESSION, &[], &[], &[])?,
        Ok(Fetching { kind, wanted }) => {
            let limits = Limits::of(&ctx, &request);
            let ((), looking) = measured(wait(&ctx, &wanted, &limits)).await;
            let reading = async { read(&ctx, &wanted, &limits, request.isolation_level == 1) };
            let ((image, reads, pieces), reading) = measured(reading).await;
            let bytes = pieces.iter().map(Bytes::len).sum();
            let by_time = ctx.charge_time(looking + reading);
            let by_bytes = ctx.charge_fetch(bytes);
            if !by_time.is_zero() && by_bytes.is_zero() {
                ctx.refund_fetch(bytes);
            }
            ctx.throttle = by_time.max(by_bytes);
            if ctx.throttle.is_zero() {
                let (session, answered) = settle(&node.sessions, kind, &wanted, reads);
                let leaders = leaders(&ctx, &image, &answered);
                encode(&ctx, ErrorCode::NONE, session, &answered, &pieces, &leaders)?
            } else {
                // Whoever fetches too much gets nothing for now, and its session does not learn of it.
                let session = match kind {
                    Kind::Incremental { id, .. } => id,
                    Kind::Sessionless | Kind::New { .. } => NO_SESSION,
                };
                encode(&ctx, ErrorCode::NONE, session, &[], &[], &[])?
            }
        }
    };
    if let Some(reply) = strike(&ctx, Stage::After).await {
        return Ok(reply);
    }
    Ok(Reply::answer(&ctx, body))
}

/// What a response may take, and what it waits for.
struct Limits {
    until: Instant,
    min_bytes: usize,
    max_bytes: usize,
    /// The rack of the client, where replicas are chosen by racks.
    rack: Option<String>,
}

impl Limits {
    fn of(ctx: &RequestContext, request: &RequestView<'_>) -> Self {
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or_default();
        let configs = &ctx.image().configs;
        let max_bytes =
            size(request.max_bytes).min(ctx.shared.limits.fetch_max_bytes).min(ctx.most_fetched());
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default());
        let by_rack = !request.rack_id.is_empty() && configs.value("replica.selector.class") == RACK_AWARE;
        Self {
            until: Instant::now() + wait.min(LONGEST_WAIT),
            min_bytes: size(request.min_bytes).min(max_bytes),
            max_bytes,
            rack: by_rack.then(|| request.rack_id.to_owned()),
        }
    }
}

/// What was read of one partition.
struct Read {
    key: Key,
    status: Status,
    /// Which of the pieces are its records.
    pieces: std::ops::Range<usize>,
    has_records: bool,
    /// A reader of committed records gets a list of aborted transactions, which is empty.
    committed_only: bool,
}

/// Names of topics matter only where there are no ids, and the other way round.
fn key(version: i16, image: &Image, topic: TopicRef<'_>, index: i32) -> Key {
    if version >= TOPIC_IDS_SINCE {
        return Key { name: Arc::default(), id: Uuid::from_bytes(topic.id), index };
    }
    let name = image.topic(topic.name).map_or_else(|| topic.name.into(), |topic| Arc::clone(&topic.name));
    Key { name, id: Uuid::nil(), index }
}

fn find_topic<'i>(version: i16, image: &'i Image, key: &Key) -> Result<&'i Arc<Topic>, ErrorCode> {
    if version >= TOPIC_IDS_SINCE {
        image.topic_by_id(key.id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        image.topic(&key.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

/// The topic, if the client may read it. By name it is asked first, so that nobody learns what exists.
fn authorized_topic<'i>(
    ctx: &RequestContext,
    image: &'i Image,
    key: &Key,
) -> Result<&'i Arc<Topic>, ErrorCode> {
    let found = find_topic(ctx.version, image, key);
    let name = match found {
        Ok(topic) => &topic.name,
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => &key.name,
        Err(code) => return Err(code),
    };
    ctx.authorize_in(image, AclOperation::Read, ResourceType::Topic, name)?;
    found
}

fn session_request(ctx: &RequestContext, request: &RequestView<'_>) -> SessionRequest {
    let image = ctx.image();
    let partitions = request.partitions().map(|asked| {
        let position = Position {
            offset: asked.fetch_offset,
            max_bytes: asked.max_bytes,
            leader_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
        };
        (key(ctx.version, &image, asked.topic, asked.index), position)
    });
    let forgotten = request.forgotten().map(|gone| key(ctx.version, &image, gone.topic, gone.index));
    SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        uses_ids: ctx.version >= TOPIC_IDS_SINCE,
        partitions: partitions.collect(),
        forgotten: forgotten.collect(),
    }
}

/// Shows a fault rule what is read: what the request names, and what its session remembers.
fn see_partitions(ctx: &RequestContext, request: &RequestView<'_>, see: &mut dyn FnMut(&str, Option<i32>)) {
    let image = ctx.image();
    let mut show = |key: &Key| {
        if let Ok(topic) = find_topic(ctx.version, &image, key) {
            see(&topic.name, Some(key.index));
        }
    };
    request.partitions().for_each(|asked| show(&key(ctx.version, &image, asked.topic, asked.index)));
    if let Some(node) = ctx.shared.nodes.get(&ctx.broker) {
        node.sessions.for_each(request.session_id, show);
    }
}

/// Waits until there are enough bytes, something to tell at once, or no time left.
async fn wait(ctx: &RequestContext, wanted: &[Wanted], limits: &Limits) {
    // What does not exist is told with the rest, and is no reason to hurry.
    let image = ctx.image();
    let exists = |wanted: &&Wanted| {
        let topic = authorized_topic(ctx, &image, &wanted.key);
        topic.is_ok_and(|topic| topic.partition(wanted.key.index).is_some())
    };
    let wanted: Vec<&Wanted> = wanted.iter().filter(exists).collect();
    drop(image);
    // The first look only looks: most fetches find something, and need no place in any list.
    let mut watching = false;
    loop {
        if wanted.is_empty() || is_due(ctx, &wanted, limits, watching) || Instant::now() >= limits.until {
            return;
        }
        if watching && timeout_at(limits.until, ctx.waiter.notified()).await.is_err() {
            return;
        }
        watching = true;
    }
}

fn is_due(ctx: &RequestContext, wanted: &[&Wanted], limits: &Limits, watching: bool) -> bool {
    let image = ctx.image();
    let mut bytes = 0;
    for wanted in wanted {
        let available = with_partition(ctx, &image, wanted, |topic, place, state| {
            let diverging = check(ctx, topic, place, state, wanted)?;
            if diverging.is_some() || preferred_replica(&image, place, state, ctx, limits) != NO_NODE {
                return Ok(None);
            }
            if watching {
                state.watch(&ctx.waiter);
            }
            let most = usize::try_from(wanted.position.max_bytes).unwrap_or_default();
            Ok(Some(state.log.available(wanted.position.offset, most)))
        });
        match available {
            Ok(Some(available)) => bytes += available,
            // Another replica, a truncation or an error is told at once.
            Ok(None) | Err(_) => return true,
        }
    }
    bytes >= limits.min_bytes
}

/// Runs `look` with the partition locked.
fn with_partition<T>(
    ctx: &RequestContext,
    image: &Image,
    wanted: &Wanted,
    look: impl FnOnce(&Topic, &PartitionImage, &mut State) -> Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    let topic = authorized_topic(ctx, image, &wanted.key)?;
    ctx.injected_error(Stage::Before, &topic.name, wanted.key.index)?;
    let place = topic.partition(wanted.key.index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let mut state = place.partition.lock();
    look(topic, place, &mut state)
}

/// Whether the client may read here and from there; where its log parts from this one, if it does.
fn check(
    ctx: &RequestContext,
    topic: &Topic,
    place: &PartitionImage,
    state: &State,
    wanted: &Wanted,
) -> Result<Option<EpochEndOffset>, ErrorCode> {
    let Position { offset, leader_epoch, last_fetched_epoch, .. } = wanted.position;
    let follower = ctx.version >= FOLLOWERS_SINCE && place.replicas.contains(&ctx.broker);
    // A deleted topic has no leader, and its followers nothing to say.
    let follower = follower && state.leader != NO_NODE;
    state.check_reader(Reader { broker: ctx.broker, follower, leader_epoch })?;
    ctx.injected_error(Stage::After, &topic.name, wanted.key.index)?;
    if last_fetched_epoch >= 0 {
        let (epoch, end_offset) = state.log.end_of_epoch(last_fetched_epoch);
        if epoch < 0 || end_offset < 0 {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if epoch < last_fetched_epoch || end_offset < offset {
            return Ok(Some(EpochEndOffset { epoch, end_offset }));
        }
    }
    if !(state.log.start()..=state.log.high_watermark()).contains(&offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    Ok(None)
}

/// The replica in the client's rack that it should read from instead of this leader, if any.
fn preferred_replica(
    image: &Image,
    place: &PartitionImage,
    state: &State,
    ctx: &RequestContext,
    limits: &Limits,
) -> i32 {
    let Some(rack) = limits.rack.as_deref().filter(|_| state.leader == ctx.broker) else { return NO_NODE };
    let in_rack =
        |id: &i32| image.live_broker(*id).is_some_and(|broker| broker.rack.as_deref() == Some(rack));
    if in_rack(&state.leader) {
        return NO_NODE;
    }
    place.replicas.iter().copied().find(in_rack).unwrap_or(NO_NODE)
}

/// Reads every partition in order, each within its own limit and what the ones before left of the response's.
///
/// Only the first records of the response may exceed the limits, by their first batch: without that, a batch larger
/// than the limits would never be read.
fn read(
    ctx: &RequestContext,
    wanted: &[Wanted],
    limits: &Limits,
    committed_only: bool,
) -> (Arc<Image>, Vec<Read>, Vec<Bytes>) {
    let image = ctx.shared.controller.whole_image();
    let mut left = limits.max_bytes;
    let mut at_least_one = true;
    let mut pieces = Vec::with_capacity(wanted.len() + 1);
    let mut reads = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let first = pieces.len();
        let mut length = 0;
        let looked = with_partition(ctx, &image, wanted, |topic, place, state| {
            let diverging_epoch = check(ctx, topic, place, state, wanted)?;
            let preferred_read_replica = preferred_replica(&image, place, state, ctx, limits);
            if diverging_epoch.is_none() && preferred_read_replica == NO_NODE {
                let most = usize::try_from(wanted.position.max_bytes).unwrap_or_default().min(left);
                length = state.log.read(wanted.position.offset, most, at_least_one, &mut pieces);
            }
            let high_watermark = state.log.high_watermark();
            Ok(Status {
                index: wanted.key.index,
                error_code: ErrorCode::NONE.0,
                high_watermark,
                // Without transactions everything is stable.
                last_stable_offset: high_watermark,
                log_start_offset: state.log.start(),
                diverging_epoch,
                current_leader: None,
                snapshot_id: None,
                preferred_read_replica,
            })
        });
        at_least_one &= length == 0;
        left = left.saturating_sub(length);
        let status = looked.unwrap_or_else(|code| failed(ctx, &image, wanted, code));
        let pieces = first..pieces.len();
        reads.push(Read { key: wanted.key.clone(), status, pieces, has_records: length > 0, committed_only });
    }
    (image, reads, pieces)
}

fn failed(ctx: &RequestContext, image: &Image, wanted: &Wanted, code: ErrorCode) -> Status {
    let leads_elsewhere = matches!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH);
    let hint = || {
        let topic = find_topic(ctx.version, image, &wanted.key).ok()?;
        let state = topic.partition(wanted.key.index)?.partition.lock();
        Some(LeaderHint { leader_id: state.leader, leader_epoch: state.leader_epoch })
    };
    Status {
        index: wanted.key.index,
        error_code: code.0,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        diverging_epoch: None,
        current_leader: (leads_elsewhere && ctx.version >= LEADER_HINTS_SINCE).then(hint).flatten(),
        snapshot_id: None,
        preferred_read_replica: NO_NODE,
    }
}

/// Remembers in the session what is told, and leaves out of an incremental answer what is no news.
fn settle(sessions: &Sessions, kind: Kind, wanted: &[Wanted], mut reads: Vec<Read>) -> (i32, Vec<Read>) {
    match kind {
        Kind::Sessionless => (NO_SESSION, reads),
        Kind::New { uses_ids } => {
            let told = reads
                .iter()
                .zip(wanted)
                .map(|(read, wanted)| Wanted { told: told(&read.status), ..wanted.clone() });
            (sessions.create(uses_ids, told.collect()), reads)
        }
        Kind::Incremental { id, epoch } => {
            let news = reads.iter().map(|read| (read.key.clone(), told(&read.status), read.has_records));
            sessions.update(id, epoch, news);
            let mut wanted = wanted.iter();
            reads.retain(|read| wanted.next().is_none_or(|wanted| is_news(read, wanted.told)));
            (id, reads)
        }
    }
}

fn told(status: &Status) -> Told {
    if status.error_code == ErrorCode::NONE.0 {
        Told { high_watermark: status.high_watermark, log_start: status.log_start_offset }
    } else {
        NOTHING_TOLD
    }
}

fn is_news(read: &Read, before: Told) -> bool {
    let status = &read.status;
    read.has_records
        || status.error_code != ErrorCode::NONE.0
        || status.diverging_epoch.is_some()
        || status.preferred_read_replica != NO_NODE
        || told(status) != before
}

/// Where the leaders listen that the answer names.
fn leaders<'i>(
    ctx: &RequestContext,
    image: &'i Image,
    answered: &[Read],
) -> Vec<kafka_wire::fetch::NodeEndpoint<'i>> {
    if ctx.version < LEADER_HINTS_SINCE {
        return Vec::new();
    }
    let hints = answered.iter().filter_map(|read| read.status.current_leader);
    endpoints(image, ctx.listener, hints.map(|hint| hint.leader_id).collect())
}

fn encode(
    ctx: &RequestContext,
    code: ErrorCode,
    session_id: i32,
    answered: &[Read],
    pieces: &[Bytes],
    node_endpoints: &[kafka_wire::fetch::NodeEndpoint<'_>],
) -> Result<Vec<Bytes>, ProtocolError> {
    let partitions = answered.iter().map(|read| PartitionResponse {
        topic: TopicRef { name: &read.key.name, id: read.key.id.into_bytes() },
        status: read.status,
        aborted_transactions: read.committed_only.then_some(&[]),
        records: &pieces[read.pieces.clone()],
    });
    let partitions: Vec<PartitionResponse<'_>> = partitions.collect();
    let response = Response {
        throttle_time_ms: ctx.throttle_ms(),
        error_code: code.0,
        session_id,
        partitions: &partitions,
        node_endpoints,
    };
    response.encode(ctx.version, &mut BytesMut::new())
}
