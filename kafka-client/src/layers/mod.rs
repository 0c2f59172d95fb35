//! The services around every connection, and how to add your own.
//!
//! A request passes your own layers, the first one given to the builder outermost, then
//! [`Observe`](observe::Observe), [`Deadline`](deadline::Deadline), [`Throttle`](throttle::Throttle) and
//! [`Concurrency`](concurrency::Concurrency), and then reaches the connection. Its body is encoded and addressed by
//! then: a layer may count, delay, refuse or repeat requests, but it does not choose where they go. Each connection has
//! its own stack; what a layer shares between them, it keeps behind an `Arc`. A request asks for memory four times on
//! its way, and once more for each layer of your own.
//!
//! Any [`tower_layer::Layer`] will do whose service takes a [`BrokerRequest`] and gives a [`BrokerResponse`], such as
//! this one, which counts:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::task::{Context, Poll};
//!
//! use kafka_client::layers::{BrokerRequest, BrokerService};
//! use tower_layer::layer_fn;
//! use tower_service::Service;
//!
//! #[derive(Clone)]
//! struct Count {
//!     inner: BrokerService,
//!     requests: Arc<AtomicU64>,
//! }
//!
//! impl Service<BrokerRequest> for Count {
//!     type Response = <BrokerService as Service<BrokerRequest>>::Response;
//!     type Error = <BrokerService as Service<BrokerRequest>>::Error;
//!     type Future = <BrokerService as Service<BrokerRequest>>::Future;
//!
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
//!         self.inner.poll_ready(cx)
//!     }
//!
//!     fn call(&mut self, request: BrokerRequest) -> Self::Future {
//!         self.requests.fetch_add(1, Ordering::Relaxed);
//!         self.inner.call(request)
//!     }
//! }
//!
//! let requests = Arc::new(AtomicU64::new(0));
//! let layer = layer_fn({
//!     let requests = requests.clone();
//!     move |inner| Count { inner, requests: requests.clone() }
//! });
//! # fn is_layer<L: tower_layer::Layer<BrokerService>>(_: L) {}
//! # is_layer(layer);
//! ```

pub mod concurrency;
pub mod deadline;
pub mod observe;
pub mod throttle;

pub use crate::net::{BrokerRequest, BrokerResponse, BrokerService, Lane, Progress};
