//! What the whole cluster shares, and what a handler is told about the request it serves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::Guard;
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::controller::Controller;
use crate::fault::{Faults, Injected, Stage};
use crate::group::Coordinator;
use crate::image::Image;
use crate::listener::Listener;
use crate::net::ReceiveCredit;
use crate::node::Node;
use crate::principal::Principal;
use crate::sasl::{Session, TokenVerifier};

/// The state of a cluster. Each part has its own lock; there is none over all of it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) controller: Controller,
    pub(crate) events: Events,
    pub(crate) groups: Coordinator,
    pub(crate) faults: Arc<Faults>,
    pub(crate) receive_credit: ReceiveCredit,
    pub(crate) limits: Limits,
    pub(crate) nodes: BTreeMap<i32, Arc<Node>>,
    /// What every broker listens on, the first one first.
    pub(crate) listeners: Vec<Arc<Listener>>,
    /// Which tokens are taken by OAUTHBEARER, if any.
    pub(crate) tokens: Option<TokenVerifier>,
    pub(crate) next_producer_id: AtomicI64,
    /// Requests that came to whichever broker.
    pub(crate) requests: AtomicU64,
}

/// Settings that hot paths need and nobody can change while the brokers run.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How long the batches of a silent producer are remembered, in milliseconds.
    pub(crate) producer_expiration_ms: i64,
    /// What a response may hold, in bytes.
    pub(crate) fetch_max_bytes: usize,
}

impl Shared {
    pub(crate) fn new(
        clock: Clock,
        controller: Controller,
        listeners: Vec<Arc<Listener>>,
        tokens: Option<TokenVerifier>,
    ) -> Self {
        let groups = Coordinator::new(controller.fork_rng());
        let image = controller.image();
        let nodes = image.brokers.keys().map(|id| (*id, Arc::new(Node::new(*id, &image.configs)))).collect();
        let receive_credit = ReceiveCredit::new(image.configs.number("queued.max.request.bytes"));
        let limits = Limits {
            producer_expiration_ms: image.configs.number("producer.id.expiration.ms"),
            fetch_max_bytes: image.configs.number("fetch.max.bytes"),
        };
        drop(image);
        Self {
            clock,
            controller,
            events: Events::default(),
            groups,
            faults: Arc::default(),
            receive_credit,
            limits,
            nodes,
            listeners,
            tokens,
            next_producer_id: AtomicI64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// The metadata now. Keep it for one request, not longer.
    pub(crate) fn image(&self) -> Guard<Arc<Image>> {
        self.controller.image()
    }
}

/// Tells whoever waits for a condition on the cluster's state that something happened.
#[derive(Debug, Default)]
pub(crate) struct Events {
    watchers: AtomicUsize,
    happened: Notify,
}

impl Events {
    /// Something that a test may wait for has changed. Free while nobody waits.
    ///
    /// The router calls this after every request; timers that change state call it themselves.
    pub(crate) fn notify(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.happened.notify_waiters();
        }
    }

    /// Waits until `look` finds something.
    pub(crate) async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let _watching = Watching::start(&self.watchers);
        loop {
            let happened = self.happened.notified();
            tokio::pin!(happened);
            // Enabled before looking, so that what happens in between is not missed.
            happened.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            happened.await;
        }
    }
}

/// Counts one watcher until it is dropped.
struct Watching<'a>(&'a AtomicUsize);

impl<'a> Watching<'a> {
    fn start(watchers: &'a AtomicUsize) -> Self {
        watchers.fetch_add(1, Ordering::SeqCst);
        Self(watchers)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One request, as its handler sees it: `async fn handle(ctx: &RequestContext, request: R) -> R::Response`.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    /// The broker that received the request.
    pub(crate) broker: i32,
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) client_id: Option<Arc<str>>,
    /// The client's address; `None` over the in-memory transport.
    pub(crate) peer: Option<IpAddr>,
    /// Which of the brokers' listeners it came in on, from 0: clients are told the addresses of that one.
    pub(crate) listener: usize,
    /// Who asks.
    pub(crate) principal: Arc<Principal>,
    /// How far the connection's authentication is.
    pub(crate) session: Arc<Session>,
    /// What a parked request of this connection waits on.
    pub(crate) waiter: Arc<Notify>,
    /// The faults that hit this request.
    pub(crate) injected: Injected,
    /// How long its quotas keep the client away.
    pub(crate) throttle: Duration,
}

impl RequestContext {
    /// The metadata now. Keep it for one request, not longer, and not over an `.await`.
    pub(crate) fn image(&self) -> Guard<Arc<Image>> {
        self.shared.image()
    }

    /// How long the client has to stay away, by its quotas or by a fault.
    pub(crate) fn throttle_time(&self) -> Duration {
        let injected = self.injected.throttle().and_then(|milliseconds| u64::try_from(milliseconds).ok());
        self.throttle.max(Duration::from_millis(injected.unwrap_or_default()))
    }

    /// [`throttle_time`](Self::throttle_time) as responses carry it.
    pub(crate) fn throttle_ms(&self) -> i32 {
        i32::try_from(self.throttle_time().as_millis()).unwrap_or(i32::MAX)
    }

    /// Fails with the error that a fault rule has for this partition.
    pub(crate) fn injected_error(&self, stage: Stage, topic: &str, partition: i32) -> Result<(), ErrorCode> {
        self.injected.item_error(stage, topic, Some(partition)).map_or(Ok(()), Err)
    }

    /// Whether this broker coordinates the group; `NOT_COORDINATOR` is the answer otherwise.
    pub(crate) fn is_coordinator(&self, group: &str) -> bool {
        self.image().coordinator(group).is_some_and(|broker| broker.id == self.broker)
    }
}
