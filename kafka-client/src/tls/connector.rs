//! Turns a stream to a broker into an encrypted one, with the certificates that are on disk at the time.

use std::fmt;
use std::hash::RandomState;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use kafka_wire::address::NodeAddress;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};

use super::Tls;
use super::problem::{self, TlsProblem};
use crate::error::Result;
use crate::net::BoxStream;

/// What rustls reads at once is 4 KiB, a quarter of a full record: this asks the operating system for four records.
const READ_BUFFER: usize = 64 * 1024;
/// Bytes that may wait, encrypted, for the socket: what is written at once.
const WRITE_BUFFER: usize = 256 * 1024;

/// What a client does to all its streams.
pub(crate) struct TlsConnector {
    server_name: Option<ServerName<'static>>,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Tls,
    hasher: RandomState,
    /// Guards what was read last. Files are read while it is locked, on threads that may block.
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ClientConfig>,
    /// Of the contents that `config` was made of.
    fingerprint: u64,
    /// The contents, or the error, that were refused last and warned about.
    refused: Option<Refused>,
}

#[derive(PartialEq, Eq)]
enum Refused {
    Contents(u64),
    Unreadable(String),
}

impl TlsConnector {
    /// Reads what is needed, and blocks while it does.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): what cannot work.
    pub(crate) fn new(tls: &Tls) -> Result<Self> {
        let server_name = tls.checked_name()?;
        let material = tls.read()?;
        let config = tls.configure(&material)?;
        let hasher = RandomState::new();
        let loaded = Loaded { config, fingerprint: material.fingerprint(&hasher), refused: None };
        Ok(Self {
            server_name,
            shared: Arc::new(Shared { tls: tls.clone(), hasher, loaded: Mutex::new(loaded) }),
        })
    }

    /// Encrypts `stream`, once the peer has proved to be the broker at `address`. The caller bounds the time.
    ///
    /// # Errors
    /// [`Tls`](crate::ErrorKind::Tls), or that the stream has failed.
    pub(crate) async fn connect(&self, address: &NodeAddress, stream: BoxStream) -> Result<BoxStream> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(address.host.to_string()).map_err(|_| {
                let reason = "it is neither a host name nor an IP address".to_owned();
                problem::error(address, TlsProblem::Other { reason }, None)
            })?,
        };
        let config = self.current().await;
        let has_identity = config.client_auth_cert_resolver.has_certs();
        let tapped = Tapped { stream: BufReader::with_capacity(READ_BUFFER, stream), first: [0; 5], seen: 0 };
        let connecting =
            tokio_rustls::TlsConnector::from(config)
                .connect_with(name.clone(), tapped, |session| session.set_buffer_limit(Some(WRITE_BUFFER)));
        match connecting.into_fallible().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err((error, tapped)) => Err(problem::handshake_error(
                address,
                &name,
                error,
                &tapped.first[..tapped.seen],
                has_identity,
            )),
        }
    }

    /// The configuration for the next connection.
    async fn current(&self) -> Arc<ClientConfig> {
        let shared = self.shared.clone();
        if !shared.tls.has_files() {
            return shared.loaded().config.clone();
        }
        let reloaded = tokio::task::spawn_blocking(move || shared.reload()).await;
        // Cancelled with the runtime: nothing comes of this connection any more.
        reloaded.unwrap_or_else(|_| self.shared.loaded().config.clone())
    }
}

impl Shared {
    fn loaded(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the files, and takes over what has changed if it can be used.
    fn reload(&self) -> Arc<ClientConfig> {
        let mut loaded = self.loaded();
        let outcome = match self.tls.read() {
            Err(error) => Err((Refused::Unreadable(error.to_string()), error)),
            Ok(material) => match material.fingerprint(&self.hasher) {
                same if same == loaded.fingerprint => {
                    loaded.refused = None;
                    return loaded.config.clone();
                }
                // Said already, and still the same.
                refused if loaded.refused == Some(Refused::Contents(refused)) => {
                    return loaded.config.clone();
                }
                fingerprint => match self.tls.configure(&material) {
                    Ok(config) => Ok((config, fingerprint)),
                    Err(error) => Err((Refused::Contents(fingerprint), error)),
                },
            },
        };
        match outcome {
            Ok((config, fingerprint)) => {
                tracing::info!("TLS certificates have changed on disk; used from the next connection on");
                *loaded = Loaded { config, fingerprint, refused: None };
            }
            Err((refused, _)) if loaded.refused.as_ref() == Some(&refused) => {}
            Err((refused, error)) => {
                tracing::warn!(%error, "TLS certificates on disk cannot be used; the ones read before stay in force");
                loaded.refused = Some(refused);
            }
        }
        loaded.config.clone()
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.tls.fmt(f)
    }
}

/// A stream that remembers how the peer began, to tell who does not speak TLS.
struct Tapped {
    stream: BufReader<BoxStream>,
    first: [u8; 5],
    seen: usize,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let room = &mut this.first[this.seen..];
        if !room.is_empty() {
            let read = &buffer.filled()[before..];
            let count = room.len().min(read.len());
            room[..count].copy_from_slice(&read[..count]);
            this.seen += count;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
