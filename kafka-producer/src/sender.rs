//! The task of a producer: waits for batches, answers, connections, metadata and timers, and lets the outbox decide.
//!
//! It calls the produce connections' services itself, and for a partition's next batch only once the previous one has its
//! place in the order of the socket: so no layer can change the order of batches, whatever it does.

mod flight;

use std::cell::LazyCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_client::raw::{Backoff, BrokerService, Connection, Lane, Metadata, Owner, Route};
use kafka_client::{Client, ErrorKind as ClientErrorKind, NodeId, TopicId, TopicPartition};
use kafka_wire::api::Api;
use kafka_wire::compression::Compressor;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::InitProducerIdRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use self::flight::{Flight, InFlight, Landed};
use crate::accumulator::Slot;
use crate::answer::Verdict;
use crate::clock::FRESH;
use crate::config::Acks;
use crate::error::{Error, ErrorKind};
use crate::idempotence::ProducerIdentity;
use crate::outbox::{Compressed, Outbox, Part};
use crate::producer::Shared;
use crate::request::{self, Terms};

/// How often the task looks around before it lets others run.
const ROUNDS: usize = 16;
/// How many vectors and compressors are kept for the next request or batch.
const SPARES: usize = 8;

pub(crate) struct Sender {
    client: Client,
    owner: Owner,
    shared: Arc<Shared>,
    terms: Terms,
    max_in_flight: usize,
    outbox: Outbox,
    nodes: HashMap<NodeId, Node>,
    flights: FuturesUnordered<InFlight>,
    opening: FuturesUnordered<BoxFuture<'static, (NodeId, kafka_client::Result<Connection>)>>,
    identity: Option<BoxFuture<'static, kafka_client::Result<ProducerIdentity>>>,
    identity_backoff: Backoff,
    /// How long to wait after a connection failed, for nodes that are new.
    reconnect: Backoff,
    random: fastrand::Rng,
    compressing: FuturesUnordered<JoinHandle<(Compressed, Option<Compressor>)>>,
    idle_compressors: Vec<Compressor>,
    max_compressing: LazyCell<usize>,
    metadata: Arc<Metadata>,
    metadata_changes: BoxFuture<'static, Option<watch::Receiver<u64>>>,
    metadata_failures: BoxFuture<'static, Option<watch::Receiver<Option<kafka_client::Error>>>>,
    timer: Pin<Box<Sleep>>,
    /// When it has to be done, once the producer is being closed.
    close_by: Option<Instant>,
    noticed: Vec<Arc<Slot>>,
    busy_nodes: Vec<NodeId>,
    spare_parts: Vec<Vec<Part>>,
    scratch: BytesMut,
}

struct Node {
    link: Link,
    in_flight: usize,
    backoff: Backoff,
}

enum Link {
    /// There is none, and none is to be opened before then.
    Closed(Option<Instant>),
    Opening,
    Ready(Connection, BrokerService),
}

impl Sender {
    pub(crate) fn new(
        client: Client,
        shared: Arc<Shared>,
        terms: Terms,
        outbox: Outbox,
        random: fastrand::Rng,
    ) -> Self {
        let config = client.config();
        let changes = client.refresher().subscribe();
        let failures = client.refresher().failures();
        Self {
            owner: client.owner(),
            max_in_flight: shared.config.max_in_flight,
            terms,
            outbox,
            nodes: HashMap::new(),
            flights: FuturesUnordered::new(),
            opening: FuturesUnordered::new(),
            identity: None,
            identity_backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            reconnect: Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max),
            random,
            compressing: FuturesUnordered::new(),
            idle_compressors: Vec::new(),
            // Only when a second job is there: to count the cores is to read a dozen files.
            max_compressing: LazyCell::new(|| std::thread::available_parallelism().map_or(1, usize::from)),
            metadata: client.metadata(),
            metadata_changes: Box::pin(next_change(changes)),
            metadata_failures: Box::pin(next_change(failures)),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            close_by: None,
            noticed: Vec::new(),
            busy_nodes: Vec::new(),
            spare_parts: Vec::new(),
            scratch: BytesMut::new(),
            shared,
            client,
        }
    }

    pub(crate) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let now = self.shared.accumulator.clock.refresh();
            let mut busy = self.poll_events(cx, now);
            if self.is_done(now) {
                return Poll::Ready(());
            }
            busy |= self.dispatch(cx, now);
            if !busy && self.fall_asleep(cx, now).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes in whatever has happened. Says whether anything has.
    fn poll_events(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut busy = false;
        if self.shared.accumulator.notices.poll_news(cx) {
            self.take_notice(now);
            busy = true;
        }
        while let Poll::Ready(changes) = self.metadata_changes.as_mut().poll(cx) {
            self.metadata_changes = match changes {
                Some(changes) => Box::pin(next_change(changes)),
                None => Box::pin(std::future::pending()),
            };
            self.follow_metadata(now);
            busy = true;
        }
        while let Poll::Ready(failures) = self.metadata_failures.as_mut().poll(cx) {
            self.metadata_failures = match failures {
                Some(failures) => Box::pin(next_change(failures)),
                None => Box::pin(std::future::pending()),
            };
            // What has a leader goes to it, or is refused there.
            if let Some(refusal) = self.client.refresher().refusal().filter(is_refusal) {
                self.outbox.refuse_leaderless(&refusal, now);
            }
            busy = true;
        }
        if let Some(identity) = &mut self.identity
            && let Poll::Ready(identity) = identity.as_mut().poll(cx)
        {
            self.identity = None;
            self.take_identity(identity, now);
            busy = true;
        }
        while let Poll::Ready(Some((node, connection))) = self.opening.poll_next_unpin(cx) {
            self.opened(node, connection, now);
            busy = true;
        }
        while let Poll::Ready(Some(landed)) = self.flights.poll_next_unpin(cx) {
            self.land(landed, now);
            busy = true;
        }
        while let Poll::Ready(Some(done)) = self.compressing.poll_next_unpin(cx) {
            // It fails when the runtime shuts down, and the batch goes down with us, or when a codec panics: then the
            // batch has nothing to send and expires.
            if let Ok((compressed, compressor)) = done {
                self.idle_compressors.extend(compressor);
                self.outbox.compressed(compressed, now);
            }
            busy = true;
        }
        if self.outbox.poll_timeout().is_some_and(|at| at <= now) {
            self.outbox.handle_timeout(now);
            busy = true;
        }
        busy
    }

    /// Looks at the slots that have news, and does what it was told to.
    fn take_notice(&mut self, now: Instant) {
        let mut noticed = std::mem::take(&mut self.noticed);
        let orders = self.shared.accumulator.notices.take(&mut noticed);
        for slot in noticed.drain(..) {
            let is_new = !self.outbox.knows(&slot);
            self.outbox.note(&slot, now);
            if is_new {
                let (leader, topic_id) = leader(&self.metadata, &slot);
                self.outbox.set_leader(&slot, leader, topic_id, now);
            }
        }
        self.noticed = noticed;
        self.close_by = orders.close_by.or(self.close_by);
        if orders.send_everything || self.close_by.is_some() {
            self.outbox.send_everything(now);
        }
    }

    fn follow_metadata(&mut self, now: Instant) {
        self.metadata = self.client.metadata();
        let accumulator = &self.shared.accumulator;
        for topic in accumulator.topics().values() {
            if let Some(known) = self.metadata.topic(&topic.name).filter(|known| known.partition_count() > 0)
            {
                self.shared.open_topic(known);
            }
            for slot in topic.newest().slots() {
                let (leader, topic_id) = leader(&self.metadata, slot);
                self.outbox.set_leader(slot, leader, topic_id, now);
            }
        }
    }

    fn take_identity(&mut self, identity: kafka_client::Result<ProducerIdentity>, now: Instant) {
        match identity {
            Ok(identity) => {
                self.identity_backoff.reset();
                self.outbox.assign_identity(identity, now);
            }
            Err(error) if is_final(&error) => {
                tracing::error!(%error, "the producer cannot get an id");
                self.shared.poison(Error::not_sent(ErrorKind::Client(error)));
                self.close_by = Some(now);
            }
            Err(error) => {
                tracing::warn!(%error, "the producer has no id yet");
                if is_refusal(&error) {
                    self.outbox.refuse(&error, None, now);
                }
                self.outbox.note_failure(&Error::not_sent(ErrorKind::Client(error)), None);
                let delay = self.identity_backoff.next(&mut self.random);
                self.ask_for_identity(delay);
            }
        }
    }

    fn ask_for_identity(&mut self, delay: Duration) {
        let client = self.client.clone();
        self.identity = Some(Box::pin(async move {
            // tokio rounds up to its next millisecond, even from nothing.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let request = |_| {
                Ok(InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_transaction_timeout_ms(i32::MAX))
            };
            let code =
                |response: &kafka_wire::messages::InitProducerIdResponse| ErrorCode(response.error_code);
            let answer = client.request(Route::Any).send_checked(request, code).await?.response;
            let identity = ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch };
            if identity.id < 0 || identity.epoch < 0 {
                // Batches stamped with it would pass for such as nobody needs to recognise.
                let message = format!("{identity:?} is none");
                let code = ErrorCode::UNKNOWN_SERVER_ERROR;
                return Err(kafka_client::Error::broker(code, Api::InitProducerId, None, Some(message)));
            }
            Ok(identity)
        }));
    }

    /// Sends what can be sent. Says whether anything was.
    fn dispatch(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut busy = false;
        if self.outbox.needs_identity() {
            if self.identity.is_none() {
                self.ask_for_identity(Duration::ZERO);
                busy = true;
            }
            // Connections can be opened meanwhile: that is a third of the time to the first acknowledgement.
            let mut nodes = std::mem::take(&mut self.busy_nodes);
            nodes.extend(self.outbox.leaders());
            for id in nodes.drain(..) {
                if let Link::Closed(None) = node(&mut self.nodes, id, &self.reconnect).link {
                    self.connect(id);
                    busy = true;
                }
            }
            self.busy_nodes = nodes;
        }
        while (self.compressing.is_empty() || self.compressing.len() < *self.max_compressing)
            && let Some(job) = self.outbox.next_compression()
        {
            self.compress(job);
            busy = true;
        }
        let mut nodes = std::mem::take(&mut self.busy_nodes);
        nodes.extend(self.outbox.nodes_with_work());
        for node in nodes.drain(..) {
            while self.outbox.has_work_for(node) && self.send_to(node, cx, now) {
                busy = true;
            }
        }
        self.busy_nodes = nodes;
        busy
    }

    /// Takes one step towards a broker for which something waits. False if it has to wait itself.
    fn send_to(&mut self, id: NodeId, cx: &mut Context<'_>, now: Instant) -> bool {
        let node = node(&mut self.nodes, id, &self.reconnect);
        let (connection, service) = match &mut node.link {
            Link::Ready(connection, service) => (connection, service),
            Link::Opening => return false,
            Link::Closed(Some(until)) if *until > now => return false,
            Link::Closed(_) => {
                self.connect(id);
                return true;
            }
        };
        if node.in_flight >= self.max_in_flight {
            return false;
        }
        match service.poll_ready(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                tracing::debug!(node = id, %error, "the produce connection is gone");
                node.link = Link::Closed(None);
                return true;
            }
        }
        let mut parts = self.spare_parts.pop().unwrap_or_default();
        self.outbox.take_request(id, &mut parts, now);
        if parts.is_empty() {
            self.spare_parts.push(parts);
            return true;
        }
        let made = self.terms.version(connection, &parts).and_then(|version| {
            let body = self.terms.encode(&mut parts, version, &mut self.scratch);
            Ok((version, body.map_err(ClientErrorKind::Encode)?))
        });
        let (version, body) = match made {
            Ok(made) => made,
            Err(error) => {
                for part in &parts {
                    let verdict = Verdict::impossible(error.clone());
                    self.outbox.answered(part.slot, part.sequence, verdict, now);
                }
                return true;
            }
        };
        let mut request = connection.request(Api::Produce, version, body);
        request.expects_response = self.terms.acks != Acks::None;
        let progress = request.progress.clone();
        let answer = service.call(request);
        node.in_flight += 1;
        let mut flight = InFlight::new(Flight {
            node: id,
            connection: connection.clone(),
            version,
            parts,
            progress,
            answer,
        });
        // Without layers that hold it up the request is queued by now, which saves a second round.
        match Pin::new(&mut flight).poll(cx) {
            Poll::Ready(landed) => self.land(landed, now),
            Poll::Pending => self.flights.push(flight),
        }
        true
    }

    fn connect(&mut self, id: NodeId) {
        node(&mut self.nodes, id, &self.reconnect).link = Link::Opening;
        let (client, owner) = (self.client.clone(), self.owner.clone());
        self.opening.push(Box::pin(async move { (id, client.connection(id, Lane::Produce, &owner).await) }));
    }

    fn opened(&mut self, id: NodeId, connection: kafka_client::Result<Connection>, now: Instant) {
        let node = node(&mut self.nodes, id, &self.reconnect);
        match connection {
            Ok(connection) => {
                node.backoff.reset();
                let service = connection.service();
                node.link = Link::Ready(connection, service);
            }
            Err(error) => {
                tracing::debug!(node = id, %error, "no produce connection");
                node.link = Link::Closed(Some(now + node.backoff.next(&mut self.random)));
                if is_refusal(&error) {
                    self.outbox.refuse(&error, Some(id), now);
                    return;
                }
                let error = Error::not_sent(ErrorKind::Client(error));
                self.outbox.note_failure(&error, Some(id));
                self.client.refresher().request("a leader cannot be reached");
            }
        }
    }

    fn land(&mut self, landed: Landed, now: Instant) {
        let (flight, answer) = match landed {
            Landed::Queued(flight) => {
                for part in flight.parts() {
                    self.outbox.queued(part, now);
                }
                self.flights.push(flight);
                return;
            }
            Landed::Answered(flight, answer) => (flight, answer),
        };
        let Flight { node, connection, version, mut parts, progress, .. } = *flight;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.in_flight -= 1;
        }
        let outcome = answer.and_then(|answer| {
            if self.terms.acks == Acks::None {
                for part in &parts {
                    self.outbox.answered(part.slot, part.sequence, Verdict::written(None, None), now);
                }
                return Ok(());
            }
            let decoded = self.terms.decode(&parts, version, &answer.body, |index, verdict, hint| {
                let part = &parts[index];
                let verdict = learn_leader(&self.client, &mut self.outbox, part, node, verdict, hint, now);
                self.outbox.answered(part.slot, part.sequence, verdict, now);
            });
            decoded.map_err(|error| connection.fail(error))
        });
        let error = outcome.err();
        for part in parts.drain(..) {
            if !self.outbox.is_on_wire(part.slot, part.sequence) {
                continue;
            }
            let verdict = match &error {
                Some(error) => Verdict::unanswered(error.clone(), progress.is_written()),
                None => Verdict::left_out(),
            };
            self.outbox.answered(part.slot, part.sequence, verdict, now);
        }
        if error.is_some_and(|error| error.is_transport()) {
            self.client.refresher().request("a produce request was not answered");
        }
        if self.spare_parts.len() < SPARES {
            self.spare_parts.push(parts);
        }
    }

    fn compress(&mut self, job: crate::outbox::Compression) {
        let shared = self.shared.clone();
        let compressor = self.idle_compressors.pop();
        self.compressing.push(tokio::task::spawn_blocking(move || {
            let mut compressor = compressor.or_else(|| shared.config.compressor().ok().flatten());
            let compressed = job.run(compressor.as_mut(), &shared.accumulator.memory);
            (compressed, compressor)
        }));
    }

    /// Whether everything is done that was to be done before the end.
    fn is_done(&self, now: Instant) -> bool {
        self.close_by.is_some_and(|at| at <= now || self.shared.accumulator.ledger().is_empty())
    }

    /// Sets the timer for the next thing that happens by itself. Ready if that is now.
    fn fall_asleep(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let accumulator = &self.shared.accumulator;
        let linger_ends = self.outbox.linger_ends();
        let fresh = (accumulator.open_batches() > 0).then(|| now + FRESH);
        let reconnect = self.nodes.values().filter_map(|node| match node.link {
            Link::Closed(until) => until.filter(|until| *until > now),
            _ => None,
        });
        let next = [self.outbox.poll_timeout(), fresh, self.close_by];
        let next = next.into_iter().flatten().chain(reconnect).min();
        if !accumulator.notices.fall_asleep(linger_ends.is_some()) {
            return Poll::Ready(());
        }
        match next {
            None => Poll::Pending,
            Some(at) => {
                if self.timer.deadline() != at {
                    self.timer.as_mut().reset(at);
                }
                self.timer.as_mut().poll(cx)
            }
        }
    }
}

/// Whatever ends the task, a close, the last handle or the runtime, nobody is left waiting.
impl Drop for Sender {
    fn drop(&mut self) {
        // First: whoever finds the accumulator closed asks whether the producer is.
        self.shared.close();
        let slots = self.shared.accumulator.close();
        let reason = self.shared.poisoned();
        let mut unfinished = 0;
        self.outbox.close(&slots, |fate| {
            unfinished += 1;
            reason.as_ref().map_or_else(|| Error::new(ErrorKind::Closed, fate), |error| error.with_fate(fate))
        });
        self.shared.finished(unfinished);
    }
}

/// Takes over who leads a partition now, if the answer says so (KIP-951), or asks for metadata if the answer shows that
/// what is known is wrong.
fn learn_leader(
    client: &Client,
    outbox: &mut Outbox,
    part: &Part,
    node: NodeId,
    mut verdict: Verdict,
    hint: Option<(kafka_wire::produce::LeaderHint, kafka_wire::produce::Endpoints<'_>)>,
    now: Instant,
) -> Verdict {
    let Some(code) = verdict.code().filter(|code| code.refreshes_metadata()) else { return verdict };
    let partition = TopicPartition { topic: part.topic.clone(), partition: part.partition };
    if let Some((hint, endpoints)) = hint {
        let brokers = request::brokers(endpoints);
        client.refresher().leader_hint(&partition, hint.leader_id, hint.leader_epoch, &brokers);
    }
    let leader = client.metadata().leader(&partition).map(|(leader, _)| leader);
    match leader {
        Some(leader) if leader != node => {
            outbox.follow_leader(part.slot, leader, now);
            verdict.retry_at_once = true;
        }
        _ => client.refresher().request(code.name()),
    }
    verdict
}

fn leader(metadata: &Metadata, slot: &Slot) -> (Option<NodeId>, TopicId) {
    let topic = metadata.topic(&slot.id.topic);
    let leader = topic.and_then(|topic| topic.partition(slot.id.partition)?.leader);
    (leader, topic.and_then(|topic| topic.id()).unwrap_or(TopicId::ZERO))
}

fn node<'a>(nodes: &'a mut HashMap<NodeId, Node>, id: NodeId, reconnect: &Backoff) -> &'a mut Node {
    let new = || Node { link: Link::Closed(None), in_flight: 0, backoff: reconnect.clone() };
    nodes.entry(id).or_insert_with(new)
}

/// Whether asking for a producer id again is of no use.
fn is_final(error: &kafka_client::Error) -> bool {
    match error.kind() {
        ClientErrorKind::Broker { code, .. } => !code.is_retriable(),
        ClientErrorKind::UnsupportedVersion { .. } | ClientErrorKind::Closed => true,
        _ => false,
    }
}

/// Whether brokers will have nothing to do with this client until somebody changes something. What it is to send is not
/// kept waiting for that.
fn is_refusal(error: &kafka_client::Error) -> bool {
    let refuses =
        matches!(error.kind(), ClientErrorKind::Authentication { .. } | ClientErrorKind::Tls { .. });
    refuses && error.is_fatal()
}

async fn next_change<T>(mut changes: watch::Receiver<T>) -> Option<watch::Receiver<T>> {
    changes.changed().await.ok()?;
    Some(changes)
}
