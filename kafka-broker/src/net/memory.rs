//! The in-memory transport: brokers are found by address in a table, and a connection is a pair of buffers. No sockets, so it
//! works on a runtime whose clock is paused.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use kafka_wire::address::NodeAddress;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// How many bytes may be on their way in one direction.
const IN_FLIGHT: usize = 256 * 1024;

/// Connects to the brokers of one cluster inside this process; give it to a client's `connector`.
///
/// A `tower::Service` from an address to a stream. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct MemoryConnector {
    /// Guards who listens where.
    listening: Arc<Mutex<HashMap<NodeAddress, mpsc::Sender<DuplexStream>>>>,
}

impl MemoryConnector {
    /// Accepts connections to `address` until the receiver is dropped.
    pub(crate) fn listen(&self, address: NodeAddress) -> mpsc::Receiver<DuplexStream> {
        // As many as a socket's backlog; a broker that does not accept refuses more.
        let (accept, accepted) = mpsc::channel(128);
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).insert(address, accept);
        accepted
    }

    /// A connection to the broker at `address`.
    ///
    /// # Errors
    /// `ConnectionRefused` if none listens there.
    pub fn connect(&self, address: &NodeAddress) -> io::Result<DuplexStream> {
        let refused =
            || io::Error::new(io::ErrorKind::ConnectionRefused, format!("no broker listens at {address}"));
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let accept = listening.get(address).ok_or_else(refused)?;
        let (ours, theirs) = tokio::io::duplex(IN_FLIGHT);
        accept.try_send(theirs).map_err(|_| refused())?;
        Ok(ours)
    }
}

impl tower_service::Service<NodeAddress> for MemoryConnector {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: NodeAddress) -> Self::Future {
        ready(self.connect(&address))
    }
}
