//! Opens the stream to a broker: TCP to whichever resolved address answers first, or the user's own connector.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kafka_wire::address::NodeAddress;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::sleep;
use tower::ServiceExt as _;
use tower::util::BoxCloneService;
use tower_service::Service;

use crate::error::{Error, ErrorKind, Result};
use crate::serde::BoxError;
use crate::tls::TlsConnector;

/// How long an address has for itself before the next one is tried beside it: RFC 8305's recommendation.
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried in one attempt.
const MOST_ADDRESSES: usize = 64;

/// Anything that carries bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream of whatever kind.
pub(crate) type BoxStream = Box<dyn Stream>;

/// How streams to brokers are opened.
pub(crate) enum Transport {
    /// TCP, with buffers of these sizes in bytes; the operating system's where there is none.
    Tcp { send_buffer: Option<usize>, receive_buffer: Option<usize> },
    /// The user's way. The mutex only makes it shareable: it is held while the service is cloned.
    User(Mutex<BoxCloneService<NodeAddress, BoxStream, BoxError>>),
    /// TLS over one of the others.
    Tls(Box<Self>, TlsConnector),
}

impl Transport {
    /// Streams that the user's service opens.
    pub(crate) fn user<C>(connector: C) -> Self
    where
        C: Service<NodeAddress> + Clone + Send + 'static,
        C::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send + 'static,
    {
        let boxed = connector.map_response(|stream| Box::new(stream) as BoxStream).map_err(Into::into);
        Self::User(Mutex::new(BoxCloneService::new(boxed)))
    }

    /// The same streams, encrypted.
    pub(crate) fn encrypted(self, tls: TlsConnector) -> Self {
        Self::Tls(Box::new(self), tls)
    }

    /// Opens a stream to `address`. `failures` is the number of attempts that failed since the last success: each
    /// begins with another of the addresses, in case the first one accepts connections and then does nothing.
    ///
    /// # Errors
    /// The name cannot be resolved, no address could be connected to, or the two sides do not agree on TLS.
    pub(crate) async fn connect(&self, address: &NodeAddress, failures: u32) -> Result<BoxStream> {
        let (send_buffer, receive_buffer) = match self {
            Self::Tcp { send_buffer, receive_buffer } => (*send_buffer, *receive_buffer),
            Self::Tls(inner, tls) => {
                let stream = Box::pin(inner.connect(address, failures)).await?;
                return tls.connect(address, stream).await;
            }
            Self::User(connector) => {
                let connector = connector.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return connector.oneshot(address.clone()).await.map_err(|error| io_error(address, error));
            }
        };
        // Resolved anew each time: after a failure or a lost connection the broker may have moved.
        let resolved = lookup_host((&*address.host, address.port)).await;
        let resolve_error = |source| ErrorKind::Resolve { address: address.clone(), source };
        let mut resolved: Vec<_> = resolved.map_err(resolve_error)?.take(MOST_ADDRESSES).collect();
        if resolved.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(ErrorKind::Resolve { address: address.clone(), source }.into());
        }
        let first = failures as usize % resolved.len();
        resolved.rotate_left(first);
        let attempts = resolved.into_iter().map(|resolved| open(resolved, send_buffer, receive_buffer));
        let stream = first_success(attempts).await.map_err(|error| io_error(address, error.into()))?;
        Ok(Box::new(stream))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp { .. } => "Tcp",
            Self::User(_) => "User",
            Self::Tls(..) => "Tls",
        })
    }
}

fn io_error(address: &NodeAddress, error: BoxError) -> Error {
    let source = match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    };
    ErrorKind::Io { address: address.clone(), source }.into()
}

async fn open(
    to: SocketAddr,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Before connecting: the window that TCP offers depends on it.
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    send_buffer.map_or(Ok(()), |bytes| socket.set_send_buffer_size(size(bytes)))?;
    receive_buffer.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(size(bytes)))?;
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    let stream =
        socket.connect(to).await.map_err(|error| io::Error::new(error.kind(), format!("{to}: {error}")))?;
    // A port of our own that connects to itself (possible while no one listens on it) is not a broker.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("{to}: connected to itself")));
    }
    Ok(stream)
}

/// The first of the attempts that succeeds. The next one starts when one fails, or after a head start; those that are
/// not needed any more are dropped.
///
/// # Errors
/// All failed: the last one's error.
async fn first_success<T, F>(attempts: impl IntoIterator<Item = F>) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = attempts.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "no address to try");
    running.extend(waiting.next());
    while !running.is_empty() {
        let another = waiting.peek().is_some();
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok(value) => return Ok(value),
                Err(error) => {
                    last_error = error;
                    running.extend(waiting.next());
                }
            },
            () = sleep(HEAD_START), if another => running.extend(waiting.next()),
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use tokio::time::Instant;

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = io::Result<u32>> + Send>>;

    fn attempt(after: u64, outcome: Result<u32, io::ErrorKind>) -> Attempt {
        Box::pin(async move {
            sleep(Duration::from_millis(after)).await;
            outcome.map_err(Into::into)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_does_not_keep_the_next_one_waiting() {
        let began = Instant::now();
        let outcome = first_success([attempt(60_000, Ok(1)), attempt(10, Ok(2))]).await;
        assert_eq!((outcome.unwrap(), began.elapsed()), (2, Duration::from_millis(260)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_address_is_followed_by_the_next_one_at_once() {
        let began = Instant::now();
        let refused = || attempt(1, Err(io::ErrorKind::ConnectionRefused));
        let outcome = first_success([refused(), refused(), attempt(1, Ok(3))]).await;
        assert_eq!((outcome.unwrap(), began.elapsed()), (3, Duration::from_millis(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn when_every_address_fails_the_last_failure_is_told() {
        let attempts =
            [attempt(500, Err(io::ErrorKind::TimedOut)), attempt(1, Err(io::ErrorKind::ConnectionRefused))];
        assert_eq!(first_success(attempts).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let none: [Attempt; 0] = [];
        assert!(first_success(none).await.is_err());
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_is_a_resolve_error() {
        let tcp = Transport::Tcp { send_buffer: None, receive_buffer: None };
        // Never in the DNS (RFC 6761), and no label may be this long, so that no resolver is asked.
        let address = NodeAddress::new(format!("{}.invalid", "x".repeat(70)), 9092);
        let error = tcp.connect(&address, 0).await.err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Resolve { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn tcp_connects_with_the_sizes_it_was_given() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tcp = Transport::Tcp { send_buffer: Some(65_536), receive_buffer: Some(65_536) };
        let stream = tcp.connect(&NodeAddress::new("127.0.0.1", port), 7).await.unwrap();
        let (_peer, _) = listener.accept().await.unwrap();
        drop((listener, stream));
        let error = tcp.connect(&NodeAddress::new("127.0.0.1", port), 0).await.err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }) && error.is_retriable(), "{error:?}");
    }
}
