//! Accepts connections of one broker, within its limits, until it is stopped.

mod connection;
mod credit;
mod handshake;
#[cfg(test)]
mod listener_tests;
mod memory;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub(crate) use self::credit::ReceiveCredit;
pub use self::memory::MemoryConnector;
use crate::node::Node;
use crate::shared::Shared;

/// Where the connections of one listener of a broker come from.
#[derive(Debug)]
pub(crate) enum Accepting {
    Tcp(TcpListener),
    Memory(mpsc::Receiver<DuplexStream>),
}

/// A connection that came in.
enum Incoming {
    Tcp(TcpStream, IpAddr),
    Memory(DuplexStream),
}

impl Accepting {
    /// The next connection; `None` when there can be no more.
    async fn accept(&mut self) -> Option<io::Result<Incoming>> {
        match self {
            Self::Tcp(listener) => {
                Some(listener.accept().await.map(|(stream, peer)| Incoming::Tcp(stream, peer.ip())))
            }
            Self::Memory(accepted) => accepted.recv().await.map(|stream| Ok(Incoming::Memory(stream))),
        }
    }
}

/// Runs one listener of a broker until `stop` is sent or dropped, then closes its connections.
pub(crate) async fn run(
    shared: Arc<Shared>,
    node: Arc<Node>,
    listener: usize,
    mut accepting: Accepting,
    mut stop: oneshot::Receiver<()>,
) {
    // Its tasks end when this one does, however that is.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                shared.events.notify();
                if let Err(error) = ended && error.is_panic() {
                    // Contained: the client sees a closed connection, others see nothing.
                    node.count_panic();
                    tracing::error!(broker = node.id, "a handler panicked: {error}");
                }
            }
            incoming = accepting.accept() => match incoming {
                None => break,
                Some(Ok(incoming)) => accept(&shared, &node, listener, incoming, &mut connections),
                Some(Err(error)) => {
                    // Out of file descriptors, mostly: going on at once would only spin.
                    tracing::warn!(broker = node.id, "cannot accept: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(accepting);
    connections.shutdown().await;
}

fn accept(
    shared: &Arc<Shared>,
    node: &Arc<Node>,
    listener: usize,
    incoming: Incoming,
    connections: &mut JoinSet<()>,
) {
    let peer = match &incoming {
        Incoming::Tcp(_, peer) => Some(*peer),
        Incoming::Memory(_) => None,
    };
    let Some(slot) = node.admit(listener, peer, &shared.image().configs) else {
        tracing::debug!(broker = node.id, ?peer, "too many connections: refused one");
        return;
    };
    let shared = Arc::clone(shared);
    match incoming {
        Incoming::Tcp(stream, _) => {
            // Answers are written whole; waiting to fill a segment would only delay them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("cannot set TCP_NODELAY: {error}");
            }
            connections.spawn(handshake::serve(shared, slot, stream));
        }
        Incoming::Memory(stream) => {
            connections.spawn(handshake::serve(shared, slot, stream));
        }
    }
}
