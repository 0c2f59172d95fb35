//! One connection: reads a request, serves it, writes the answer, and only then looks at the next, as Kafka does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::api::Api;
use kafka_wire::error::{ProtocolError, ProtocolErrorKind};
use kafka_wire::frame::FrameDecoder;
use kafka_wire::header::{RequestHeader, encode_response_header};
use kafka_wire::shape::MAX_CONTROL_BODY;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::credit::ConnectionCredit;
use super::write;
use crate::api_versions;
use crate::inspect::{Outcome, RequestRecord};
use crate::node::{ConnectionSlot, LogPosition};
use crate::principal::Principal;
use crate::router::{self, Answer, Reply, Route};
use crate::sasl::{self, Admission, Session};
use crate::shared::{RequestContext, Shared};

/// How long a frame may take from its first byte to its last.
const FRAME_TIME: Duration = Duration::from_secs(30);
/// How long the end of a TLS stream may take to be written.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much is read at a time from a client that sends a lot, and how much of its next requests while one is served.
const READ: usize = 256 * 1024;
/// A read of this size means that a client sends a lot.
const LARGE_READ: usize = 32 * 1024;
/// The most bytes a frame of a Metadata request may have: enough for 10,000 topics, and each costs a place in the answer.
const LARGEST_METADATA: usize = 4 * 1024 * 1024;
/// The most characters that the request log keeps of a client's id.
const LONGEST_REMEMBERED: usize = 255;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed it")]
    Closed,
    #[error("nothing was sent for {0:?}")]
    Idle(Duration),
    #[error("a frame was not complete after {FRAME_TIME:?}")]
    Slow,
    #[error("{0} came before authentication")]
    Unauthenticated(Api),
    #[error("{0}")]
    Authentication(String),
    #[error("the client did not authenticate in time")]
    Unfinished,
    #[error("the session ended before the client authenticated again")]
    Expired,
    #[error("a fault rule closed it")]
    Fault,
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves a connection, which came from `principal` as far as is known, until it ends.
///
/// Where the listener has SASL, the client must have authenticated by `until`.
pub(super) async fn serve<S>(
    shared: Arc<Shared>,
    slot: ConnectionSlot,
    principal: Arc<Principal>,
    until: Instant,
    stream: S,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let configs = Arc::clone(&shared.image().configs);
    let session = Arc::new(Session::new(shared.listeners.get(slot.listener).map(|listener| &**listener)));
    let mut connection = Connection {
        frames: FrameDecoder::new(configs.number("socket.request.max.bytes")),
        session,
        credit: shared.receive_credit.share(),
        waiter: Arc::new(Notify::new()),
        buffer: BytesMut::new(),
        received: 0,
        sends_a_lot: false,
        idle: u64::try_from(configs.number::<i64>("connections.max.idle.ms")).ok().map(Duration::from_millis),
        stream,
        shared,
        slot,
        principal_name: principal.to_string().into(),
        principal,
    };
    let Err(end) = connection.run(until, configs.number("sasl.server.max.receive.size")).await;
    let slot = &connection.slot;
    match end {
        End::Closed => {}
        End::Protocol(_) | End::Unauthenticated(_) | End::Authentication(_) => {
            tracing::warn!(broker = slot.node.id, connection = slot.connection, peer = ?slot.peer, "closed: {end}");
        }
        _ => tracing::debug!(broker = slot.node.id, connection = slot.connection, "closed: {end}"),
    }
    let has_tls =
        connection.shared.listeners.get(slot.listener).is_some_and(|listener| listener.tls.is_some());
    if has_tls && !matches!(end, End::Fault) {
        // Tells the client that nothing was cut off; one that does not take it is not waited for.
        let _ = timeout_at(Instant::now() + GOODBYE, connection.stream.shutdown()).await;
    }
}

struct Connection<S> {
    shared: Arc<Shared>,
    slot: ConnectionSlot,
    principal: Arc<Principal>,
    /// The same in letters, for the request log.
    principal_name: Arc<str>,
    session: Arc<Session>,
    stream: S,
    buffer: BytesMut,
    frames: FrameDecoder,
    credit: ConnectionCredit,
    /// Bytes of the frame that is being received.
    received: usize,
    sends_a_lot: bool,
    waiter: Arc<Notify>,
    idle: Option<Duration>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self, until: Instant, limit: usize) -> Result<std::convert::Infallible, End> {
        if self.session.is_pending() {
            timeout_at(until, self.authenticate(limit)).await.map_err(|_| End::Unfinished)??;
        }
        loop {
            self.serve_next().await?;
        }
    }

    /// Serves what a client may ask before it has authenticated, until it has. Frames are small until then.
    async fn authenticate(&mut self, limit: usize) -> Result<(), End> {
        self.frames.set_max(limit);
        while self.session.is_pending() {
            self.serve_next().await?;
        }
        if let Some(principal) = self.session.principal() {
            self.principal_name = principal.to_string().into();
            self.principal = principal;
        }
        let configs = Arc::clone(&self.shared.image().configs);
        self.frames.set_max(configs.number("socket.request.max.bytes"));
        Ok(())
    }

    async fn serve_next(&mut self) -> Result<(), End> {
        let frame = self.next_frame().await?;
        if self.session.expects_raw_token() {
            self.serve_token(&frame).await?;
        } else {
            self.serve_frame(frame).await?;
        }
        self.credit.release();
        Ok(())
    }

    /// Serves a token as clients sent them before SaslAuthenticate: a length and bytes, answered in the same way. A refusal
    /// is not answered.
    async fn serve_token(&mut self, token: &[u8]) -> Result<(), End> {
        self.admit(Api::SaslAuthenticate)?;
        match sasl::take_token(&self.shared, &self.session, token) {
            sasl::Answer::Bytes(bytes, _) => {
                let length = u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes();
                let mut parts = [Bytes::copy_from_slice(&length), bytes.into()];
                write::write_all(&mut self.stream, &mut parts).await?;
                Ok(())
            }
            sasl::Answer::Refused(_, why) => {
                self.delay_failure().await;
                Err(End::Authentication(self.session.failure().unwrap_or(why)))
            }
        }
    }

    /// Makes guessing passwords slow: what failed is answered late, as in Kafka.
    async fn delay_failure(&self) {
        let configs = Arc::clone(&self.shared.image().configs);
        let delay = configs.number("connection.failed.authentication.delay.ms");
        sleep(Duration::from_millis(delay)).await;
    }

    /// Waits for a whole frame, as long as one may take.
    async fn next_frame(&mut self) -> Result<Bytes, End> {
        let idle_until = self.idle.map(|idle| Instant::now() + idle);
        let mut frame_until = None;
        loop {
            if let Some(frame) = self.frames.decode(&mut self.buffer)? {
                check_length(frame.len(), &frame)?;
                self.received = 0;
                return Ok(frame);
            }
            let partial = self.frames.is_mid_frame(&self.buffer);
            if partial {
                if let Some((length, start)) = self.frames.begun(&self.buffer) {
                    check_length(length, start)?;
                }
                frame_until = frame_until.or_else(|| Some(Instant::now() + FRAME_TIME));
            } else {
                self.received = 0;
            }
            let read = async {
                self.credit.extend(self.received).await;
                self.stream.read_buf(&mut self.frames.room(&mut self.buffer)).await
            };
            let read = match frame_until.or(idle_until) {
                Some(deadline) => timeout_at(deadline, read).await.map_err(|_| {
                    if partial { End::Slow } else { End::Idle(self.idle.unwrap_or_default()) }
                })?,
                None => read.await,
            };
            match read? {
                0 => return Err(End::Closed),
                bytes => {
                    self.received += bytes;
                    self.sends_a_lot = bytes >= LARGE_READ;
                }
            }
        }
    }

    async fn serve_frame(&mut self, frame: Bytes) -> Result<(), End> {
        if let Some(correlation_id) = unknown_api_versions(&frame) {
            let answer = Answer { body: vec![api_versions::fallback()?], ..Answer::default() };
            self.admit(Api::ApiVersions)?;
            return self.write(Api::ApiVersions, 0, correlation_id, answer).await;
        }
        let (header, body) = RequestHeader::decode(&frame)?;
        let RequestHeader { api, version, correlation_id, client_id } = header;
        self.admit(api)?;
        let ctx = RequestContext {
            shared: Arc::clone(&self.shared),
            broker: self.slot.node.id,
            api,
            version,
            client_id: client_id.map(Arc::from),
            peer: self.slot.peer,
            listener: self.slot.listener,
            principal: Arc::clone(&self.principal),
            session: Arc::clone(&self.session),
            waiter: Arc::clone(&self.waiter),
            injected: crate::fault::Injected::default(),
            throttle: Duration::ZERO,
        };
        let logged = self.slot.node.log_request(RequestRecord {
            before: self.shared.requests.fetch_add(1, Ordering::Relaxed),
            arrived: Instant::now(),
            wall_ms: self.shared.clock.wall_ms(),
            broker: self.slot.node.id,
            connection: self.slot.connection,
            client_id: ctx.client_id.as_ref().map(remembered),
            principal: Arc::clone(&self.principal_name),
            api,
            version,
            correlation_id,
            latency: None,
            outcome: Outcome::InProgress,
        });
        drop(frame);
        self.shared.events.notify();
        let reply = self.serve_while_connected(api, router::serve(ctx, body)).await;
        match reply {
            Ok(Reply::Answer(answer)) => {
                self.log(logged, Outcome::Answered);
                let failure = self.session.failure();
                if failure.is_some() {
                    self.delay_failure().await;
                }
                self.write(api, version, correlation_id, answer).await?;
                failure.map_or(Ok(()), |why| Err(End::Authentication(why)))
            }
            Ok(Reply::Nothing(mute)) => {
                self.log(logged, Outcome::NotExpected);
                self.mute(mute).await
            }
            Ok(Reply::Close) => {
                self.log(logged, Outcome::Closed);
                Err(End::Fault)
            }
            Ok(Reply::Hang) => {
                self.log(logged, Outcome::Hung);
                Err(self.until_closed().await)
            }
            Err(end) => {
                self.log(logged, Outcome::Closed);
                Err(end)
            }
        }
    }

    /// Whether a request may be served as far as authentication is.
    fn admit(&self, api: Api) -> Result<(), End> {
        match self.session.admit(api, Instant::now()) {
            Admission::Served => Ok(()),
            Admission::TooEarly => Err(End::Unauthenticated(api)),
            Admission::Expired => Err(End::Expired),
            Admission::OtherMechanism => {
                let why = "a client authenticates again by the mechanism that it began with";
                Err(End::Authentication(why.to_owned()))
            }
        }
    }

    /// Serves a request, and meanwhile notices whether the client goes away and takes in what it sends next.
    async fn serve_while_connected(
        &mut self,
        api: Api,
        reply: impl Future<Output = Result<Reply, ProtocolError>>,
    ) -> Result<Reply, End> {
        tokio::pin!(reply);
        let gone = tokio::select! {
            biased;
            reply = &mut reply => return Ok(reply?),
            gone = self.until_closed() => gone,
        };
        // A fetch that nobody waits for has no effect worth finishing; a join or a commit has.
        if Route::find(api).is_some_and(Route::has_effects) {
            reply.await?;
        }
        Err(gone)
    }

    /// Reads ahead a little until the client closes the connection.
    async fn until_closed(&mut self) -> End {
        loop {
            if self.buffer.len() >= READ {
                // More would let a client that sends and never reads fill our memory.
                std::future::pending::<()>().await;
            }
            self.buffer.reserve(READ / 4);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return End::Closed,
                Ok(bytes) => self.received += bytes,
                Err(error) => return End::Io(error),
            }
        }
    }

    async fn write(
        &mut self,
        api: Api,
        version: i16,
        correlation_id: i32,
        answer: Answer,
    ) -> Result<(), End> {
        let Answer { body, cut, drip, mute } = answer;
        let length = body.iter().map(Bytes::len).sum();
        let mut parts = Vec::with_capacity(body.len() + 1);
        parts.push(encode_response_header(api, version, correlation_id, length)?);
        parts.extend(body);
        if let Some(most) = cut {
            write::truncate(&mut parts, most);
        }
        match drip {
            Some(rate) => write::drip(&mut self.stream, parts, rate).await?,
            None => write::write_all(&mut self.stream, &mut parts).await?,
        }
        if cut.is_some() {
            self.stream.shutdown().await?;
            return Err(End::Fault);
        }
        self.mute(mute).await
    }

    /// The client was told to stay away; one that does not is not heard (KIP-219). Kafka would not notice either that it is
    /// gone, which may be long before the end of a throttle time.
    async fn mute(&mut self, time: Duration) -> Result<(), End> {
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = sleep(time) => Ok(()),
            gone = self.until_closed() => Err(gone),
        }
    }

    fn log(&self, at: LogPosition, outcome: Outcome) {
        self.slot.node.log_outcome(at, outcome);
        self.shared.events.notify();
    }
}

/// A client's id as the request log keeps it: requests are remembered by the thousands, and whoever has not authenticated
/// could otherwise have 32 KiB of memory with each.
fn remembered(client_id: &Arc<str>) -> Arc<str> {
    match client_id.char_indices().nth(LONGEST_REMEMBERED) {
        Some((end, _)) => client_id[..end].into(),
        None => Arc::clone(client_id),
    }
}

/// Refuses a frame that is longer than any request of its API, as soon as it says which that is.
fn check_length(length: usize, start: &[u8]) -> Result<(), ProtocolError> {
    let Some([key_0, key_1, version_0, version_1]) = start.first_chunk() else { return Ok(()) };
    let key = i16::from_be_bytes([*key_0, *key_1]);
    let limit = match Api::from_key(key) {
        Some(Api::Produce | Api::Fetch) => return Ok(()),
        Some(Api::Metadata) => LARGEST_METADATA,
        _ => MAX_CONTROL_BODY,
    };
    if length <= limit {
        return Ok(());
    }
    let version = i16::from_be_bytes([*version_0, *version_1]);
    Err(ProtocolErrorKind::TooLarge { length, limit }.at(key, version))
}

/// The correlation id of an ApiVersions request in a version that we do not know; the rest of it may have any layout.
fn unknown_api_versions(frame: &[u8]) -> Option<i32> {
    let [key_0, key_1, version_0, version_1, correlation @ ..] = frame.first_chunk::<8>()?;
    let known = Route::find(Api::ApiVersions)?.advertised();
    let asks = i16::from_be_bytes([*key_0, *key_1]) == Api::ApiVersions.key();
    let unknown = !known.contains(i16::from_be_bytes([*version_0, *version_1]));
    (asks && unknown).then(|| i32::from_be_bytes(*correlation))
}
