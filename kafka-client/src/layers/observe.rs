//! Tells of every request: one span, one metric.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kafka_wire::api::Api;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;
use tracing::{Span, field};

use super::{BrokerRequest, BrokerResponse, Progress};
use crate::error::Error;
use crate::metrics::{Metrics, Outcome};

/// Opens the span `request` (target `kafka_client::request`, level DEBUG) with the fields `api`, `version`, `node`,
/// `lane`, `bytes`, and at the end `correlation`, `response_bytes`, `latency_us` or `error`; and counts the request in
/// the client's metrics. Neither shows what a request carries.
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Observe<S> {
    pub(crate) fn new(inner: S, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S> Service<BrokerRequest> for Observe<S>
where
    S: Service<BrokerRequest, Response = BrokerResponse, Error = Error>,
{
    type Response = BrokerResponse;
    type Error = Error;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: BrokerRequest) -> Observed<S::Future> {
        let bytes = request.body_len();
        let span = tracing::debug_span!(
            target: "kafka_client::request",
            "request",
            api = request.api.name(),
            version = request.version,
            node = request.node,
            lane = request.lane.name(),
            bytes,
            correlation = field::Empty,
            response_bytes = field::Empty,
            latency_us = field::Empty,
            error = field::Empty,
        );
        let observation = Observation {
            metrics: self.metrics.clone(),
            api: request.api,
            bytes,
            progress: request.progress.clone(),
            began: Instant::now(),
            span,
            ended: false,
        };
        let inner = observation.span.in_scope(|| self.inner.call(request));
        Observed { inner, observation }
    }
}

pin_project! {
    /// The answer to come, observed.
    #[derive(Debug)]
    pub struct Observed<F> {
        #[pin]
        inner: F,
        observation: Observation,
    }
}

impl<F: Future<Output = Result<BrokerResponse, Error>>> Future for Observed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = {
            let _entered = this.observation.span.enter();
            ready!(this.inner.poll(cx))
        };
        this.observation.end(&answer);
        Poll::Ready(answer)
    }
}

#[derive(Debug)]
struct Observation {
    metrics: Arc<Metrics>,
    api: Api,
    bytes: usize,
    progress: Progress,
    began: Instant,
    span: Span,
    ended: bool,
}

impl Observation {
    fn end(&mut self, answer: &Result<BrokerResponse, Error>) {
        self.ended = true;
        let latency = self.began.elapsed();
        let outcome = match answer {
            Ok(response) => Outcome::Answered { bytes: response.body.len() },
            Err(_) => Outcome::Failed,
        };
        self.metrics.request(self.api, self.bytes, latency, outcome);
        if self.span.is_disabled() {
            return;
        }
        if let Some(correlation) = self.progress.correlation_id() {
            self.span.record("correlation", correlation);
        }
        self.span.record("latency_us", u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        match answer {
            Ok(response) => self.span.record("response_bytes", response.body.len()),
            Err(error) => self.span.record("error", field::display(error)),
        };
    }
}

/// A caller that goes away is counted as well: the broker may have carried its request out.
impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            self.metrics.request(self.api, self.bytes, self.began.elapsed(), Outcome::Abandoned);
            self.span.record("error", "abandoned by the caller");
        }
    }
}
