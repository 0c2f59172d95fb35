//! Decides how many requests of a connection may be without an answer.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::Either;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use tower_service::Service;

use super::BrokerRequest;
use crate::error::{Error, ErrorKind};

/// Is ready while the connection has room for another request.
///
/// Unlike `tower`'s own limit, a place is taken until the broker has answered, not until the caller has gone away: an
/// abandoned request still occupies the broker.
pub struct Concurrency<S> {
    inner: S,
    places: PollSemaphore,
    place: Option<OwnedSemaphorePermit>,
}

impl<S> Concurrency<S> {
    /// Takes a place of `places` for each request.
    pub(crate) fn new(inner: S, places: Arc<Semaphore>) -> Self {
        Self { inner, places: PollSemaphore::new(places), place: None }
    }
}

impl<S: Clone> Clone for Concurrency<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), places: self.places.clone(), place: None }
    }
}

impl<S> fmt::Debug for Concurrency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Concurrency").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl<S: Service<BrokerRequest, Error = Error>> Service<BrokerRequest> for Concurrency<S> {
    type Response = S::Response;
    type Error = Error;
    type Future = Either<std::future::Ready<Result<S::Response, Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.place.is_none() {
            // Without semaphore the connection is closed, which the inner service explains.
            self.place = ready!(self.places.poll_acquire(cx));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: BrokerRequest) -> Self::Future {
        let place = self.place.take().or_else(|| self.places.clone_inner().try_acquire_owned().ok());
        if place.is_none() && !self.places.clone_inner().is_closed() {
            let refused = ErrorKind::Layer("called before the service was ready".into());
            return Either::Left(std::future::ready(Err(refused.into())));
        }
        request.permit.0 = place;
        Either::Right(self.inner.call(request))
    }
}
