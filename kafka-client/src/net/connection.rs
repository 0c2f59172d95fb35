//! A connection that is ready for requests: what callers hold of it, and the queue through which they reach its driver.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, VersionRange};
use kafka_wire::error::ProtocolError;
use tokio::sync::{Notify, Semaphore, oneshot};
use tower_service::Service;

use super::handshake::BrokerVersions;
use super::request::{BrokerRequest, BrokerResponse, Lane};
use super::service::BrokerService;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::throttle::Mute;
use crate::types::NodeId;

/// A connection to a broker, ready for requests. Clones are handles to the same connection, which lives until it
/// fails, is idle for too long, or its [`Owner`](super::Owner) or client is dropped.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    versions: BrokerVersions,
    service: BrokerService,
}

impl Connection {
    pub(crate) fn new(link: Arc<Link>, versions: BrokerVersions, service: BrokerService) -> Self {
        Self(Arc::new(Inner { link, versions, service }))
    }

    /// The broker's id; negative for a bootstrap address whose broker is not known yet.
    pub fn node(&self) -> NodeId {
        self.0.link.node()
    }

    /// Where the broker listens.
    pub fn address(&self) -> &NodeAddress {
        &self.0.link.address
    }

    /// What the connection is for.
    pub fn lane(&self) -> Lane {
        self.0.link.lane
    }

    /// The highest version of `api` that is in `ours` and that the broker speaks.
    ///
    /// # Errors
    /// [`UnsupportedVersion`](crate::error::ErrorKind::UnsupportedVersion), naming both ranges, if there is none.
    pub fn version_for(&self, api: Api, ours: VersionRange) -> Result<i16> {
        self.0.versions.pick(api, ours, self.node())
    }

    /// The way to the broker, through the user's layers. Keep one and call it again and again; what is called first is
    /// written first, unless a layer holds it up.
    pub fn service(&self) -> BrokerService {
        self.0.service.clone()
    }

    /// A request for this connection, to be completed and given to its [`service`](Self::service).
    pub fn request(&self, api: Api, version: i16, body: Vec<bytes::Bytes>) -> BrokerRequest {
        BrokerRequest::new(self.node(), self.lane(), api, version, body)
    }

    /// Sends one request through the user's layers and waits for the answer.
    ///
    /// # Errors
    /// Whatever a layer or the connection failed with; [`Progress::is_written`](super::Progress::is_written) tells
    /// whether the broker may have seen the request.
    ///
    /// # Cancel safety
    /// A request dropped before it is written is not sent; one that is written is carried out by the broker, and its
    /// answer is discarded.
    pub async fn call(&self, request: BrokerRequest) -> Result<BrokerResponse> {
        let mut service = self.service();
        std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    }

    /// Ends the connection because an answer on it could not be decoded: what else comes on it cannot be trusted.
    /// Returns the error for whoever asked.
    pub fn fail(&self, source: ProtocolError) -> Error {
        let error = Error::new(ErrorKind::Protocol { address: self.address().clone(), source });
        self.end(&error);
        error
    }

    /// Ends the connection; whatever is in flight fails with `reason`.
    pub(crate) fn end(&self, reason: &Error) {
        self.0.link.fail(reason);
    }

    /// Whether the connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.0.link.closed().is_some()
    }

    /// Waits until the connection takes no more requests, and says why.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn closed(&self) -> Error {
        let link = &self.0.link;
        loop {
            let mut notified = std::pin::pin!(link.ended.notified());
            // Enabled before the look: an end between the two is not missed.
            notified.as_mut().enable();
            if let Some(reason) = link.closed() {
                return reason;
            }
            notified.await;
        }
    }

    /// Notes which broker is at the other end.
    pub(crate) fn identify(&self, node: NodeId) {
        self.0.link.node.store(node, Ordering::Relaxed);
    }

    /// Requests that were queued or written and are not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.link.max_in_flight.saturating_sub(self.0.link.permits.available_permits())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("node", &self.node())
            .field("address", self.address())
            .field("lane", &self.lane())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// What the callers of a connection and its driver share.
pub(crate) struct Link {
    /// Changed once at most: when it is known who listens at a bootstrap address.
    node: AtomicI32,
    pub(crate) address: NodeAddress,
    pub(crate) lane: Lane,
    /// Bounds the requests without an answer; closed with the connection.
    pub(crate) permits: Arc<Semaphore>,
    max_in_flight: usize,
    /// Until when the broker has muted the connection.
    pub(crate) mute: Arc<Mute>,
    inbox: Mutex<Inbox>,
    ended: Notify,
}

/// Guards what callers have queued and the driver has not taken, and the end of the connection.
struct Inbox {
    queue: VecDeque<Queued>,
    /// The driver's, while it has nothing to take: only the first of several requests wakes it.
    driver: Option<Waker>,
    closed: Option<Error>,
}

/// A request on its way to the driver.
pub(crate) struct Queued {
    pub(crate) request: BrokerRequest,
    pub(crate) answer: oneshot::Sender<Result<BrokerResponse>>,
}

impl Link {
    pub(crate) fn new(node: NodeId, address: NodeAddress, lane: Lane, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            node: AtomicI32::new(node),
            address,
            lane,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            mute: Arc::new(Mute::new()),
            inbox: Mutex::new(Inbox { queue: VecDeque::new(), driver: None, closed: None }),
            ended: Notify::new(),
        })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node.load(Ordering::Relaxed)
    }

    /// Why the connection has ended, if it has.
    pub(crate) fn closed(&self) -> Option<Error> {
        self.inbox().closed.clone()
    }

    /// Fixes the request's place in the order of the socket.
    fn push(&self, request: BrokerRequest) -> Result<oneshot::Receiver<Result<BrokerResponse>>> {
        let (answer, receiver) = oneshot::channel();
        let progress = request.progress.clone();
        let driver = {
            let mut inbox = self.inbox();
            if let Some(reason) = &inbox.closed {
                return Err(reason.clone());
            }
            inbox.queue.push_back(Queued { request, answer });
            inbox.driver.take()
        };
        progress.mark_queued();
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(receiver)
    }

    /// Moves everything queued to the end of `taken`; if there is nothing, the next request wakes the driver.
    ///
    /// # Errors
    /// The connection was failed by a caller or the pool.
    pub(crate) fn take(&self, taken: &mut VecDeque<Queued>, cx: &Context<'_>) -> Result<()> {
        let mut inbox = self.inbox();
        if let Some(reason) = &inbox.closed {
            return Err(reason.clone());
        }
        if !inbox.queue.is_empty() {
            taken.append(&mut inbox.queue);
        }
        if !inbox.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            inbox.driver = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// Takes no more requests, and wakes the driver to end what is under way.
    fn fail(&self, reason: &Error) {
        let driver = {
            let mut inbox = self.inbox();
            inbox.closed.get_or_insert_with(|| reason.clone());
            inbox.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Takes no more requests, unless one was queued since the driver looked; says whether it did.
    pub(crate) fn close_if_unused(&self, reason: &Error) -> bool {
        let mut inbox = self.inbox();
        if !inbox.queue.is_empty() {
            return false;
        }
        inbox.closed.get_or_insert_with(|| reason.clone());
        true
    }

    /// Takes no more requests, tells everyone, and returns those that were queued.
    pub(crate) fn close(&self, reason: &Error) -> VecDeque<Queued> {
        let queued = {
            let mut inbox = self.inbox();
            inbox.closed.get_or_insert_with(|| reason.clone());
            std::mem::take(&mut inbox.queue)
        };
        self.permits.close();
        self.mute.lift();
        self.ended.notify_waiters();
        queued
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The innermost service: hands a request to the connection's driver.
#[derive(Clone)]
pub(crate) struct ConnectionService(pub(crate) Arc<Link>);

impl Service<BrokerRequest> for ConnectionService {
    type Response = BrokerResponse;
    type Error = Error;
    type Future = Answer;

    /// Whether there is room is for the concurrency layer above to say.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(self.0.closed().map_or(Ok(()), Err))
    }

    fn call(&mut self, request: BrokerRequest) -> Answer {
        match self.0.push(request) {
            Ok(receiver) => Answer::Waiting(receiver),
            Err(reason) => Answer::Refused(Some(reason)),
        }
    }
}

/// The answer to come.
pub(crate) enum Answer {
    Waiting(oneshot::Receiver<Result<BrokerResponse>>),
    Refused(Option<Error>),
}

impl Future for Answer {
    type Output = Result<BrokerResponse>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Waiting(receiver) => Pin::new(receiver).poll(cx).map(|answer| {
                // The driver answers everything it took; without a driver the runtime is gone.
                answer.unwrap_or_else(|_| Err(Error::closed()))
            }),
            Self::Refused(reason) => Poll::Ready(Err(reason.take().unwrap_or_else(Error::closed))),
        }
    }
}
