//! The way to one broker as a `tower` service, and how the user's layers are put around it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_layer::Layer;
use tower_service::Service;

use super::request::{BrokerRequest, BrokerResponse};
use crate::error::{Error, ErrorKind, Result};
use crate::serde::BoxError;

/// One broker, as the layer or caller above sees it. Whatever is beneath has the same type, so layers combine freely.
#[derive(Clone)]
pub struct BrokerService(BoxCloneSyncService<BrokerRequest, BrokerResponse, Error>);

impl BrokerService {
    /// Hides the type of a service. An error that is this crate's own stays what it is; any other becomes
    /// [`ErrorKind::Layer`].
    pub fn new<S>(service: S) -> Self
    where
        S: Service<BrokerRequest, Response = BrokerResponse> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(|error| from_layer(error.into()))))
    }
}

fn from_layer(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(foreign) => ErrorKind::Layer(foreign).into(),
    }
}

impl Service<BrokerRequest> for BrokerService {
    type Response = BrokerResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<BrokerResponse>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: BrokerRequest) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for BrokerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerService")
    }
}

/// A layer of the user's, put around every connection of a client.
#[derive(Clone)]
pub(crate) struct UserLayer(Arc<dyn Fn(BrokerService) -> BrokerService + Send + Sync>);

impl UserLayer {
    pub(crate) fn new<L>(layer: L) -> Self
    where
        L: Layer<BrokerService> + Send + Sync + 'static,
        L::Service: Service<BrokerRequest, Response = BrokerResponse> + Clone + Send + Sync + 'static,
        <L::Service as Service<BrokerRequest>>::Error: Into<BoxError>,
        <L::Service as Service<BrokerRequest>>::Future: Send + 'static,
    {
        Self(Arc::new(move |inner| BrokerService::new(layer.layer(inner))))
    }

    /// Puts `layers` around `service`, the first one outermost.
    pub(crate) fn stack(layers: &[Self], service: BrokerService) -> BrokerService {
        layers.iter().rev().fold(service, |inner, layer| layer.0(inner))
    }
}

impl fmt::Debug for UserLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserLayer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_this_crate_passes_through_layers_and_a_foreign_one_is_wrapped() {
        assert!(matches!(from_layer(Box::new(Error::closed())).kind(), ErrorKind::Closed));
        let foreign = from_layer("no produce on Sundays".into());
        assert!(
            matches!(foreign.kind(), ErrorKind::Layer(why) if why.to_string() == "no produce on Sundays")
        );
    }
}
