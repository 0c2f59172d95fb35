//! What comes before the first request: the TLS handshake, bounded in time, and who the client's certificate says it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{Error as TlsError, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::connection;
use crate::node::ConnectionSlot;
use crate::principal::Principal;
use crate::shared::Shared;
use crate::tls;

/// Serves a connection from its first byte on.
pub(super) async fn serve<S>(shared: Arc<Shared>, slot: ConnectionSlot, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limit = shared.image().configs.number("connection.authentication.timeout.ms");
    let until = Instant::now() + Duration::from_millis(limit);
    let listener = shared.listeners.get(slot.listener).cloned();
    if let Some(listener) = &listener {
        let (name, protocol) = (&*listener.name, listener.protocol);
        tracing::trace!(broker = slot.node.id, connection = slot.connection, listener = name, %protocol, "connected");
    }
    let Some(tls) = listener.and_then(|listener| listener.tls.clone()) else {
        return connection::serve(shared, slot, Principal::anonymous(), until, stream).await;
    };
    let refused = |why: &dyn std::fmt::Display| {
        tracing::warn!(broker = slot.node.id, connection = slot.connection, peer = ?slot.peer, "no TLS handshake: {why}");
    };
    let stream = match timeout_at(until, TlsAcceptor::from(tls).accept(stream)).await {
        Err(_) => return refused(&format_args!("it was not complete after {limit} ms")),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(
                broker = slot.node.id,
                connection = slot.connection,
                "gone before the TLS handshake"
            );
            return;
        }
        Ok(Err(error)) => return refused(&reason(&error)),
        Ok(Ok(stream)) => stream,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    let principal = match certificate {
        None => Principal::anonymous(),
        Some(certificate) => match tls::principal(&certificate) {
            Some(principal) => principal,
            None => return refused(&"the subject of the client's certificate cannot be read"),
        },
    };
    connection::serve(shared, slot, principal, until, stream).await;
}

/// Why a handshake failed, in words for the log.
fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        // What a Kafka request begins with is no TLS record.
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the client does not speak TLS".to_owned()
        }
        Some(tls) => tls.to_string(),
        None => error.to_string(),
    }
}
