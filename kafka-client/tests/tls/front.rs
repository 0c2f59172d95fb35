//! What listens where the client connects: TLS in front of the bundled broker, or a script.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use kafka_broker::Cluster;
use kafka_client::NodeAddress;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncWriteExt as _, DuplexStream, copy};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::authority::{Authority, Identity};

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connector of the client whose streams end in `serve`.
#[derive(Clone)]
pub(crate) struct Front(Arc<dyn Fn(NodeAddress, DuplexStream) -> Serving + Send + Sync>);

impl Front {
    pub(crate) fn new<F>(serve: impl Fn(NodeAddress, DuplexStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |address, stream| Box::pin(serve(address, stream))))
    }

    /// Does the same to whoever connects.
    pub(crate) fn script<F>(serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::new(move |_, stream| serve(stream))
    }
}

impl Service<NodeAddress> for Front {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: NodeAddress) -> Self::Future {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn((self.0)(address, far));
        std::future::ready(Ok(near))
    }
}

/// What a listener does, and what it has seen.
pub(crate) struct Listener {
    config: Mutex<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Of each handshake, whether it resumed a session.
    pub(crate) resumed: Vec<bool>,
    pub(crate) versions: Vec<rustls::ProtocolVersion>,
    /// The name that was asked for.
    pub(crate) names: Vec<Option<String>>,
    pub(crate) client_certificates: usize,
    /// Connections that the client has ended with a goodbye, and without.
    pub(crate) ended: (usize, usize),
}

impl Listener {
    pub(crate) fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self { config: Mutex::new(Arc::new(config)), seen: Mutex::default() })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Speaks TLS in front of the cluster's brokers, which are not asked for before the handshake is over.
    pub(crate) fn before(self: &Arc<Self>, cluster: &Cluster) -> Front {
        let listener = self.clone();
        let brokers = cluster.connector();
        Front::new(move |address, stream| {
            let (listener, mut brokers) = (listener.clone(), brokers.clone());
            async move {
                let acceptor = TlsAcceptor::from(listener.config.lock().unwrap().clone());
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                let mut seen = listener.seen();
                seen.resumed.push(session.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
                seen.versions.extend(session.protocol_version());
                seen.names.push(session.server_name().map(str::to_owned));
                seen.client_certificates += usize::from(session.peer_certificates().is_some());
                *listener.seen.lock().unwrap() = seen;
                if let Ok(broker) = brokers.call(address).await {
                    let (mut from_broker, mut to_broker) = tokio::io::split(broker);
                    let (mut from_client, mut to_client) = tokio::io::split(stream);
                    tokio::spawn(async move { copy(&mut from_broker, &mut to_client).await });
                    let said_goodbye = copy(&mut from_client, &mut to_broker).await.is_ok();
                    let _ = to_broker.shutdown().await;
                    let ended = &mut listener.seen.lock().unwrap().ended;
                    ended.0 += usize::from(said_goodbye);
                    ended.1 += usize::from(!said_goodbye);
                }
            }
        })
    }
}

pub(crate) fn server(identity: &Identity) -> ServerConfig {
    let versions = rustls::ALL_VERSIONS;
    server_of(identity, versions, None)
}

/// Demands a certificate that `clients` has issued.
pub(crate) fn mutual(identity: &Identity, clients: &Authority) -> ServerConfig {
    server_of(identity, rustls::ALL_VERSIONS, Some(clients))
}

pub(crate) fn server_of(
    identity: &Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
    clients: Option<&Authority>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()).unwrap()
}
