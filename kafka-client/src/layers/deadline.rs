//! Decides how long the answer to a request may take.

use std::task::{Context, Poll};
use std::time::Duration;

use tower_service::Service;

use super::BrokerRequest;

/// Gives the client's request timeout to every request that names none.
///
/// It holds no timer: the connection beneath waits for the earliest deadline of all its requests, because Kafka answers
/// in order and one late answer makes every later one late.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    timeout: Duration,
}

impl<S> Deadline<S> {
    /// Gives `timeout` to requests that name none.
    pub fn new(inner: S, timeout: Duration) -> Self {
        Self { inner, timeout }
    }
}

impl<S: Service<BrokerRequest>> Service<BrokerRequest> for Deadline<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: BrokerRequest) -> S::Future {
        request.timeout.get_or_insert(self.timeout);
        self.inner.call(request)
    }
}
