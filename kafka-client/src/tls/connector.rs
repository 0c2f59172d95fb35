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
            None => ServerName::try_from(certified_host(&address.host).to_owned()).map_err(|_| {
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

/// A host as it stands in certificates: without the dot that ends an absolute name, and without an IPv6 zone.
fn certified_host(host: &str) -> &str {
    match host.split_once('%') {
        Some((address, _zone)) if address.contains(':') => address,
        _ => host.strip_suffix('.').unwrap_or(host),
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

#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio_rustls::server::TlsStream;

    use super::*;

    /// Counts what is asked of a stream.
    struct Counted {
        stream: DuplexStream,
        counts: Arc<Counts>,
    }

    #[derive(Default)]
    struct Counts {
        reads: AtomicUsize,
        writes: AtomicUsize,
        written: AtomicUsize,
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            self.counts.reads.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bytes))?;
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
            self.counts.written.fetch_add(written, Ordering::Relaxed);
            Poll::Ready(Ok(written))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    /// An encrypted stream, what is counted below it, and the peer's end.
    async fn connected() -> (BoxStream, Arc<Counts>, TlsStream<DuplexStream>) {
        let signed = rcgen::generate_simple_self_signed(["broker".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(super::super::provider::provider().unwrap())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let (near, far) = tokio::io::duplex(1 << 20);
        let accepting: JoinHandle<_> =
            tokio::spawn(tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far).into_future());
        let counts = Arc::new(Counts::default());
        let connector = TlsConnector::new(&Tls::roots_pem(signed.cert.pem())).unwrap();
        let stream = Counted { stream: near, counts: counts.clone() };
        let address = NodeAddress::new("broker", 9093);
        let stream = connector.connect(&address, Box::new(stream)).await.unwrap();
        (stream, counts, accepting.await.unwrap().unwrap())
    }

    const SENT: usize = 4 << 20;

    #[tokio::test]
    async fn many_small_pieces_become_few_writes_of_full_records() {
        let (mut stream, counts, mut peer) = connected().await;
        assert!(stream.is_write_vectored());
        let (writes, written) =
            (counts.writes.load(Ordering::Relaxed), counts.written.load(Ordering::Relaxed));
        let reading = tokio::spawn(async move { peer.read_exact(&mut vec![0; SENT]).await.map(|_| peer) });
        // As a produce request of small batches: 64 pieces of 1 KiB at a time.
        let piece = [7; 1024];
        let slices = [io::IoSlice::new(&piece); 64];
        let mut sent = 0;
        while sent < SENT {
            let count = SENT.div_ceil(1024) - sent / 1024;
            let slices = &slices[..count.min(64)];
            sent += std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, slices))
                .await
                .unwrap();
        }
        stream.flush().await.unwrap();
        reading.await.unwrap().unwrap();
        let written = counts.written.load(Ordering::Relaxed) - written;
        // 22 bytes for each record of 16 KiB.
        assert!(written >= sent && written - sent < sent / 400, "{written} bytes for {sent}");
        let writes = counts.writes.load(Ordering::Relaxed) - writes;
        assert!(writes <= SENT / (32 * 1024), "{writes} writes");
    }

    #[tokio::test]
    async fn much_is_read_at_once() {
        let (mut stream, counts, mut peer) = connected().await;
        let reads = counts.reads.load(Ordering::Relaxed);
        peer.write_all(&[7; 1 << 19]).await.unwrap();
        peer.flush().await.unwrap();
        stream.read_exact(&mut vec![0; 1 << 19]).await.unwrap();
        let reads = counts.reads.load(Ordering::Relaxed) - reads;
        assert!(reads <= (1 << 19) / (32 * 1024), "{reads} reads");
    }

    #[tokio::test]
    async fn a_stream_that_ends_without_goodbye_is_an_error_and_with_it_is_an_end() {
        let (mut stream, _, peer) = connected().await;
        drop(peer);
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (mut stream, _, mut peer) = connected().await;
        peer.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
