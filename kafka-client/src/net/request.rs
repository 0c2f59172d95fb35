//! One request to one broker, its answer, and how far it has come: what layers and connections hand each other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::api::Api;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::types::NodeId;

/// Which connection to a node a request travels on. A broker serves a connection in order, so what may park for long
/// (a join, a fetch) has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Lane {
    /// Shared by everything on a client: metadata, coordinator look-ups, administration.
    General,
    /// One producer's.
    Produce,
    /// One consumer's, for fetching.
    Fetch,
    /// One consumer's, for its group.
    Group,
}

impl Lane {
    /// The lane's name in spans and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::Group => "group",
        }
    }
}

/// A request to one broker, its body already encoded.
#[derive(Clone)]
#[non_exhaustive]
pub struct BrokerRequest {
    /// The broker; negative for a bootstrap address whose broker is not known yet.
    pub node: NodeId,
    /// The connection it travels on.
    pub lane: Lane,
    /// What is asked.
    pub api: Api,
    /// The version that the body is encoded in.
    pub version: i16,
    /// The body, in pieces that are written one after the other without being copied together.
    pub body: Vec<Bytes>,
    /// How long the answer may take, from the moment the request is queued; `None` takes the client's
    /// `request_timeout`. Time during which the broker has muted the connection (KIP-219) does not count.
    pub timeout: Option<Duration>,
    /// Whether the broker answers; it does not answer a produce request with `acks=0`. Default `true`.
    pub expects_response: bool,
    /// How far the request has come.
    pub progress: Progress,
    /// The place among the connection's unanswered requests; returned when the broker has answered, even if nobody
    /// waits for the answer any more.
    pub(crate) permit: Permit,
}

impl BrokerRequest {
    /// A request that expects a response within the client's request timeout.
    pub fn new(node: NodeId, lane: Lane, api: Api, version: i16, body: Vec<Bytes>) -> Self {
        Self {
            node,
            lane,
            api,
            version,
            body,
            timeout: None,
            expects_response: true,
            progress: Progress::default(),
            permit: Permit(None),
        }
    }

    /// The body's length in bytes.
    pub fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

/// Shows what the request is, not what it carries.
impl fmt::Debug for BrokerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerRequest")
            .field("node", &self.node)
            .field("lane", &self.lane)
            .field("api", &self.api)
            .field("version", &self.version)
            .field("bytes", &self.body_len())
            .field("timeout", &self.timeout)
            .field("expects_response", &self.expects_response)
            .field("progress", &self.progress)
            .finish()
    }
}

/// A broker's answer, its body not decoded yet.
#[derive(Clone)]
#[non_exhaustive]
pub struct BrokerResponse {
    /// The version that the body is encoded in: the request's.
    pub version: i16,
    /// The number that ties it to the request on the wire.
    pub correlation_id: i32,
    /// The body; empty if the request expected no response.
    pub body: Bytes,
}

impl BrokerResponse {
    /// An answer, as a layer might give it instead of the broker.
    pub fn new(version: i16, correlation_id: i32, body: Bytes) -> Self {
        Self { version, correlation_id, body }
    }
}

/// Shows the answer's size, not what it carries.
impl fmt::Debug for BrokerResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerResponse")
            .field("version", &self.version)
            .field("correlation_id", &self.correlation_id)
            .field("bytes", &self.body.len())
            .finish()
    }
}

/// How far a request has come. It never goes back: a layer that sends a request twice leaves it at the furthest.
#[derive(Clone, Default)]
pub struct Progress(Arc<Steps>);

#[derive(Default)]
struct Steps {
    step: AtomicU8,
    correlation_id: AtomicI32,
    queued: Notify,
}

const QUEUED: u8 = 1;
const WRITTEN: u8 = 2;

impl Progress {
    /// Whether its place in the order of the socket is fixed: what is called after this is written after it.
    pub fn is_queued(&self) -> bool {
        self.0.step.load(Ordering::Acquire) >= QUEUED
    }

    /// Whether its first byte was handed to the socket. A request that failed before that has not reached the broker
    /// and never will.
    pub fn is_written(&self) -> bool {
        self.0.step.load(Ordering::Acquire) >= WRITTEN
    }

    /// The number that ties the request to its answer on the wire, once it is written.
    pub fn correlation_id(&self) -> Option<i32> {
        self.is_written().then(|| self.0.correlation_id.load(Ordering::Relaxed))
    }

    /// Waits until [`is_queued`](Self::is_queued). It waits for ever if the request fails before that: wait for the
    /// request's answer beside it.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn queued(&self) {
        let mut notified = std::pin::pin!(self.0.queued.notified());
        // Enabled before the look: what is queued between the two is not missed.
        notified.as_mut().enable();
        if !self.is_queued() {
            notified.await;
        }
    }

    pub(crate) fn mark_queued(&self) {
        self.0.step.fetch_max(QUEUED, Ordering::AcqRel);
        self.0.queued.notify_waiters();
    }

    pub(crate) fn mark_written(&self, correlation_id: i32) {
        if !self.is_written() {
            self.0.correlation_id.store(correlation_id, Ordering::Relaxed);
            self.0.step.fetch_max(WRITTEN, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.step.load(Ordering::Acquire) {
            0 => "Called",
            QUEUED => "Queued",
            _ => "Written",
        })
    }
}

/// A place among the unanswered requests of a connection.
pub(crate) struct Permit(pub(crate) Option<OwnedSemaphorePermit>);

/// A copy of a request takes its own place.
impl Clone for Permit {
    fn clone(&self) -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_queued_is_told_once_and_late_comers_at_once() {
        let progress = Progress::default();
        let waiter = tokio::spawn({
            let progress = progress.clone();
            async move { progress.queued().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        progress.mark_queued();
        waiter.await.unwrap();
        progress.queued().await;
        assert!(progress.is_queued() && !progress.is_written());
        assert_eq!(progress.correlation_id(), None);
    }

    #[test]
    fn progress_never_goes_back() {
        let progress = Progress::default();
        progress.mark_written(7);
        progress.mark_queued();
        assert!(progress.is_written());
        assert_eq!(progress.correlation_id(), Some(7));
    }

    #[test]
    fn debug_shows_sizes_and_no_contents() {
        let body = vec![Bytes::from_static(b"secret"), Bytes::from_static(b"!")];
        let request = BrokerRequest::new(1, Lane::Produce, Api::Produce, 9, body);
        let text = format!("{request:?}");
        assert!(text.contains("bytes: 7") && !text.contains("secret"), "{text}");
        let text = format!("{:?}", BrokerResponse::new(9, 1, Bytes::from_static(b"secret")));
        assert!(text.contains("bytes: 6") && !text.contains("secret"), "{text}");
    }
}
