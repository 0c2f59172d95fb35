//! One Produce request under way: tells once when its place in the order of the socket is fixed, and then its answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use kafka_client::NodeId;
use kafka_client::raw::{BrokerResponse, Connection, Progress};

use crate::outbox::Part;

pub(super) struct Flight {
    pub(super) node: NodeId,
    pub(super) connection: Connection,
    pub(super) version: i16,
    pub(super) parts: Vec<Part>,
    pub(super) progress: Progress,
    pub(super) answer: BoxFuture<'static, kafka_client::Result<BrokerResponse>>,
}

/// The future of a [`Flight`]'s next piece of news.
pub(super) struct InFlight {
    flight: Option<Box<Flight>>,
    /// Waits for the place in the order, if a layer holds the request up.
    queued: Option<BoxFuture<'static, ()>>,
    was_queued: bool,
}

pub(super) enum Landed {
    /// Its place in the order is fixed; the answer is still to come.
    Queued(InFlight),
    Answered(Box<Flight>, kafka_client::Result<BrokerResponse>),
}

impl InFlight {
    pub(super) fn new(flight: Flight) -> Self {
        Self { flight: Some(Box::new(flight)), queued: None, was_queued: false }
    }

    pub(super) fn parts(&self) -> &[Part] {
        self.flight.as_ref().map_or(&[], |flight| &flight.parts)
    }
}

impl Future for InFlight {
    type Output = Landed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landed> {
        let this = &mut *self;
        let Some(flight) = &mut this.flight else { return Poll::Pending };
        if let Poll::Ready(answer) = flight.answer.as_mut().poll(cx) {
            return match this.flight.take() {
                Some(flight) => Poll::Ready(Landed::Answered(flight, answer)),
                None => Poll::Pending,
            };
        }
        if this.was_queued {
            return Poll::Pending;
        }
        if !flight.progress.is_queued() {
            let queued = this.queued.get_or_insert_with(|| {
                let progress = flight.progress.clone();
                Box::pin(async move { progress.queued().await })
            });
            if queued.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let flight = this.flight.take();
        Poll::Ready(Landed::Queued(Self { flight, queued: None, was_queued: true }))
    }
}
