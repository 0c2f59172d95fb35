//! Owns a connection's stream: writes what was queued, reads answers in order, waits for deadlines, and at the end tells
//! every caller why.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::api::Api;
use kafka_wire::error::ProtocolError;
use kafka_wire::frame::FrameDecoder;
use kafka_wire::header::{self, RequestHeader};
use kafka_wire::shape;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use super::authenticate::{Ask, Authenticator, Session};
use super::connection::{Link, Queued};
use super::pipeline::{Expired, Pipeline, unsolicited};
use super::request::{BrokerRequest, BrokerResponse, Permit, Progress};
use super::session::Renewal;
use super::transport::BoxStream;
use super::write_queue::{PIECES_PER_WRITE, WriteQueue};
use crate::auth::BoxFuture;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;

/// The future that is a connection. It ends when the connection does; dropping it ends the connection.
pub(crate) struct Driver {
    link: Arc<Link>,
    metrics: Arc<Metrics>,
    client_id: Option<Arc<str>>,
    request_timeout: Duration,
    max_response: usize,
    stream: BoxStream,
    decoder: FrameDecoder,
    received: BytesMut,
    queued: VecDeque<Queued>,
    pipeline: Pipeline<Caller>,
    writes: WriteQueue,
    /// Where headers are encoded; what is sent is split off, and the memory comes back once that is written.
    headers: BytesMut,
    unflushed: bool,
    /// Of the current poll: reading the clock for each answer would cost more than matching it.
    now: Instant,
    timer: Pin<Box<Sleep>>,
    /// `None` on a connection without SASL.
    renewing: Option<Box<Renewing>>,
    ended: bool,
}

/// What it takes to prove anew who the client is.
struct Renewing {
    authenticator: Arc<Authenticator>,
    renewal: Renewal,
    /// The proof that is under way.
    exchange: Option<BoxFuture<'static, Result<Option<Session>>>>,
    mailbox: Mailbox,
    questions: mpsc::UnboundedReceiver<Queued>,
    /// The next thing to ask, once nothing is in front of it.
    question: Option<Queued>,
}

/// Where an exchange leaves its questions for the driver.
#[derive(Clone)]
struct Mailbox {
    link: Arc<Link>,
    questions: mpsc::UnboundedSender<Queued>,
}

impl Ask for Mailbox {
    async fn ask(&mut self, api: Api, version: i16, body: Bytes) -> Result<Bytes> {
        let (answer, receiver) = oneshot::channel();
        let request = BrokerRequest::new(self.link.node(), self.link.lane, api, version, vec![body]);
        // The driver outlives the exchange, which is part of it.
        self.questions.send(Queued { request, answer }).map_err(|_| Error::closed())?;
        receiver.await.map_err(|_| Error::closed())?.map(|answer| answer.body)
    }
}

/// Who waits for an answer.
struct Caller {
    answer: oneshot::Sender<Result<BrokerResponse>>,
    progress: Progress,
    /// Held until the broker has answered, whether or not anybody still waits.
    _permit: Permit,
}

/// Why a connection has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was not used for so long that it was closed.
    Idle(Error),
    /// It failed, or the broker closed it.
    Lost(Error),
}

/// What the handshake leaves: a stream on which Kafka's protocol is spoken.
pub(crate) struct ReadyStream {
    pub(crate) stream: BoxStream,
    pub(crate) decoder: FrameDecoder,
    /// Bytes that came after the handshake's last answer.
    pub(crate) received: BytesMut,
    pub(crate) next_correlation_id: i32,
    /// How long the broker will not read, as the last answer said.
    pub(crate) muted: Option<Duration>,
    /// What proved who the client is, and for how long it holds.
    pub(crate) authenticated: Option<(Authenticator, Option<Session>)>,
}

/// What a driver is told about the client.
pub(crate) struct DriverSettings {
    pub(crate) client_id: Option<Arc<str>>,
    /// For requests that name no timeout, in case no layer gave them one.
    pub(crate) request_timeout: Duration,
    pub(crate) idle_after: Option<Duration>,
    /// The most bytes of an answer; of those that are never large, fewer.
    pub(crate) max_response: usize,
    /// How long proving anew who the client is may take.
    pub(crate) patience: Duration,
    /// Spreads when that is done.
    pub(crate) random: fastrand::Rng,
}

/// Where headers are encoded; one memory serves about a hundred.
const HEADERS: usize = 4 * 1024;
/// The most bytes of a header, beside the client id.
const HEADER: usize = 16;

impl Driver {
    pub(crate) fn new(
        ready: ReadyStream,
        link: Arc<Link>,
        settings: DriverSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = Instant::now();
        let pipeline = Pipeline::new(now, ready.next_correlation_id, settings.idle_after);
        let timer = Box::pin(sleep_until(pipeline.poll_timeout().unwrap_or(now)));
        let renewing = ready.authenticated.map(|(authenticator, session)| {
            let renewal = Renewal::new(session, settings.patience, settings.random);
            let (sender, questions) = mpsc::unbounded_channel();
            let mailbox = Mailbox { link: link.clone(), questions: sender };
            let authenticator = Arc::new(authenticator);
            Box::new(Renewing { authenticator, renewal, exchange: None, mailbox, questions, question: None })
        });
        let mut driver = Self {
            link,
            metrics,
            client_id: settings.client_id,
            request_timeout: settings.request_timeout,
            max_response: settings.max_response,
            stream: ready.stream,
            decoder: ready.decoder,
            received: ready.received,
            queued: VecDeque::new(),
            pipeline,
            writes: WriteQueue::default(),
            headers: BytesMut::with_capacity(HEADERS),
            unflushed: false,
            now,
            timer,
            renewing,
            ended: false,
        };
        driver.mute(ready.muted);
        driver
    }

    /// Sends nothing for as long as the broker will not read (KIP-219).
    fn mute(&mut self, duration: Option<Duration>) {
        let Some(duration) = duration else { return };
        tracing::debug!(
            node = self.link.node(),
            lane = self.link.lane.name(),
            ?duration,
            "muted by the broker"
        );
        self.metrics.throttled(duration);
        self.link.mute.until(self.pipeline.mute(self.now, duration));
    }

    /// Reads until the socket has no more, and answers callers.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            while let Some(frame) = self.next_frame()? {
                self.answer(frame)?;
            }
            match pin!(self.stream.read_buf(&mut self.decoder.room(&mut self.received))).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    return Err(self.disconnected(if self.decoder.is_mid_frame(&self.received) {
                        "the broker closed the connection in the middle of an answer"
                    } else {
                        "the broker closed the connection"
                    }));
                }
                Poll::Ready(Ok(count)) => self.metrics.received(count),
                Poll::Ready(Err(error)) => return Err(self.failed(&error)),
            }
        }
    }

    /// The next whole answer, as long as the one that is due may be.
    fn next_frame(&mut self) -> Result<Option<Bytes>> {
        let max = match self.pipeline.due() {
            Some((Api::Produce | Api::Fetch | Api::Metadata, _)) => self.max_response,
            _ => self.max_response.min(shape::MAX_CONTROL_BODY),
        };
        self.decoder.set_max(max);
        self.decoder.decode(&mut self.received).map_err(|error| self.protocol(error))
    }

    fn answer(&mut self, frame: Bytes) -> Result<()> {
        let now = self.now;
        let mut matched = || {
            let (api, version) = self.pipeline.due().ok_or_else(unsolicited)?;
            let (correlation_id, body) = header::decode_response_header(api, version, &frame)?;
            Ok((self.pipeline.answered(now, correlation_id)?, body))
        };
        let (entry, body) = matched().map_err(|error| self.protocol(error))?;
        self.mute(throttle_time(entry.api, entry.version, &body));
        let response = BrokerResponse::new(entry.version, entry.correlation_id, body);
        // A caller that has gone away needs no answer.
        let _ = entry.slot.answer.send(Ok(response));
        Ok(())
    }

    /// Takes what callers have queued.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.link.take(&mut self.queued, cx)?;
        if self.renewing.is_some() && !self.renew(cx)? {
            return Ok(());
        }
        while let Some(queued) = self.queued.pop_front() {
            self.begin(queued);
        }
        Ok(())
    }

    fn begin(&mut self, Queued { request, answer }: Queued) {
        // Nobody waits for it and no byte of it is written, so it need not be.
        if answer.is_closed() {
            return;
        }
        let timeout = request.timeout.unwrap_or(self.request_timeout);
        let call = (request.api, request.version);
        let header = RequestHeader {
            api: request.api,
            version: request.version,
            correlation_id: self.pipeline.next_id(),
            client_id: self.client_id.as_deref(),
        };
        self.headers.reserve(HEADER + self.client_id.as_deref().map_or(0, str::len));
        if let Err(error) = header.encode_into(request.body_len(), &mut self.headers) {
            self.headers.clear();
            let _ = answer.send(Err(ErrorKind::Encode(error).into()));
            return;
        }
        self.writes.push(self.headers.split().freeze(), request.body);
        let caller = Caller { answer, progress: request.progress, _permit: request.permit };
        self.pipeline.begin(self.now, call, timeout, request.expects_response, caller);
    }

    /// Proves anew who the client is when it is time; says whether anything else may be written meanwhile.
    fn renew(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let (now, has_work) = (self.now, self.has_work());
        let Some(renewing) = self.renewing.as_deref_mut() else { return Ok(true) };
        if renewing.renewal.begin(now, has_work) {
            let (authenticator, mut mailbox) = (renewing.authenticator.clone(), renewing.mailbox.clone());
            renewing.exchange = Some(Box::pin(async move { authenticator.run(&mut mailbox).await }));
        }
        if let Some(exchange) = &mut renewing.exchange {
            match exchange.as_mut().poll(cx) {
                Poll::Ready(Ok(session)) => {
                    tracing::debug!(
                        node = self.link.node(),
                        lane = self.link.lane.name(),
                        ?session,
                        "re-authenticated"
                    );
                    self.metrics.reauthenticated();
                    renewing.exchange = None;
                    renewing.renewal.proved(session);
                }
                Poll::Ready(Err(error)) if may_pass(&error) && renewing.renewal.postpone(now) => {
                    tracing::debug!(
                        node = self.link.node(),
                        lane = self.link.lane.name(),
                        error = with_causes(&error),
                        "cannot re-authenticate yet"
                    );
                    renewing.exchange = None;
                }
                Poll::Ready(Err(error)) => {
                    // Not the error itself: whether it is final, a new connection will show.
                    let reason = format!("re-authentication failed: {}", with_causes(&error));
                    return Err(self.disconnected(&reason));
                }
                Poll::Pending => {
                    if let Ok(question) = renewing.questions.try_recv() {
                        renewing.renewal.speak();
                        renewing.question = Some(question);
                    }
                }
            }
        }
        // Alone on the connection, so that its time is its own, and not while the broker will not read.
        let is_alone = self.pipeline.is_empty() && self.pipeline.muted(now).is_none();
        let question = renewing.question.take_if(|_| is_alone);
        if question.is_some() {
            renewing.renewal.spoke(now);
        }
        let others = renewing.renewal.lets_others_write(now);
        question.into_iter().for_each(|question| self.begin(question));
        Ok(others)
    }

    fn has_work(&self) -> bool {
        !self.pipeline.is_empty() || !self.queued.is_empty()
    }

    /// When there is something to do about re-authentication.
    fn renewal_timeout(&self) -> Option<Instant> {
        let renewing = self.renewing.as_deref()?;
        let muted = renewing.question.is_some() && self.pipeline.is_empty();
        let muted = self.pipeline.muted(self.now).filter(|_| muted);
        renewing.renewal.poll_timeout(self.has_work()).into_iter().chain(muted).min()
    }

    /// Writes until the socket takes no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<()> {
        while !self.writes.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let (offered, written) = if self.stream.is_write_vectored() {
                let count = self.writes.slices(&mut slices);
                let slices = &slices[..count];
                let offered = slices.iter().map(|slice| slice.len()).sum();
                (offered, Pin::new(&mut self.stream).poll_write_vectored(cx, slices))
            } else {
                let buffer = self.writes.buffer();
                (buffer.len(), Pin::new(&mut self.stream).poll_write(cx, buffer))
            };
            match written {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(self.disconnected("the connection takes no more bytes")),
                Poll::Ready(Ok(count)) => self.wrote(count),
                Poll::Ready(Err(error)) => {
                    // A stream that buffers may have passed on part of what it was offered before it failed.
                    let reached = self.writes.requests_within(offered);
                    self.mark_written(reached);
                    return Err(self.failed(&error));
                }
            }
        }
        // A stream that buffers (TLS) may hold bytes back until it is told that there are no more.
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn wrote(&mut self, count: usize) {
        self.metrics.sent(count);
        self.unflushed = true;
        let written = self.writes.advance(count);
        self.mark_written(written.finished + usize::from(written.begun));
        if written.finished == 0 {
            return;
        }
        for _ in 0..written.finished {
            if let Some(done) = self.pipeline.written(self.now) {
                let response = BrokerResponse::new(done.version, done.correlation_id, Bytes::new());
                let _ = done.slot.answer.send(Ok(response));
            }
        }
    }

    fn mark_written(&self, requests: usize) {
        for entry in self.pipeline.unwritten().take(requests) {
            entry.slot.progress.mark_written(entry.correlation_id);
        }
    }

    /// Waits for the next deadline.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let renewal = self.renewal_timeout();
            let Some(at) = self.pipeline.poll_timeout().into_iter().chain(renewal).min() else {
                return Poll::Pending;
            };
            if self.timer.deadline() != at {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
            // Read anew: the deadline may have passed since the poll began.
            let now = Instant::now();
            if let Some(renewing) = self.renewing.as_deref().filter(|_| renewal.is_some_and(|at| at <= now)) {
                if renewing.renewal.is_late(now) {
                    return Poll::Ready(Ended::Lost(self.disconnected("re-authentication took too long")));
                }
                // There is something to write, which is for the next poll.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.pipeline.handle_timeout(now) {
                None => {}
                Some(Expired::Request) => {
                    let reason = self.disconnected("an earlier request was not answered in time");
                    return Poll::Ready(Ended::Lost(reason));
                }
                // Whoever waits for the proof will use it.
                Some(Expired::Idle) if self.renewing.as_deref().is_some_and(Renewing::is_running) => {
                    self.pipeline.used(now);
                }
                Some(Expired::Idle) => {
                    let reason = self.disconnected("idle");
                    if self.link.close_if_unused(&reason) {
                        return Poll::Ready(Ended::Idle(reason));
                    }
                    // A request has just been queued and has woken this task.
                    return Poll::Pending;
                }
            }
        }
    }

    /// Tells everyone that the connection has ended.
    fn end(&mut self, reason: &Error) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // Closed before anyone is told, so that whoever tries again at once does not come here.
        self.queued.extend(self.link.close(reason));
        let now = Instant::now();
        for entry in self.pipeline.drain() {
            let error = if entry.is_late(now) {
                Error::timed_out(format!("{} to {}", entry.api.name(), self.link.address), entry.timeout)
            } else {
                reason.clone()
            };
            let _ = entry.slot.answer.send(Err(error));
        }
        for Queued { answer, .. } in self.queued.drain(..) {
            let _ = answer.send(Err(reason.clone()));
        }
        // TLS says goodbye, so that the broker knows that nobody has cut the connection off. If the socket takes nothing
        // now, it goes without.
        let _ = Pin::new(&mut self.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    fn protocol(&self, source: ProtocolError) -> Error {
        ErrorKind::Protocol { address: self.link.address.clone(), source }.into()
    }

    fn failed(&self, error: &io::Error) -> Error {
        self.disconnected(&error.to_string())
    }

    fn disconnected(&self, reason: &str) -> Error {
        Error::disconnected(self.link.address.clone(), reason)
    }
}

impl Renewing {
    fn is_running(&self) -> bool {
        self.renewal.is_running()
    }
}

/// An error with everything that led to it, for a reason that is a text.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether it is only for now that there is nothing to prove with.
fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NoCredentials { .. })
}

/// How long the broker that gave this answer will not read (KIP-219).
pub(crate) fn throttle_time(api: Api, version: i16, body: &[u8]) -> Option<Duration> {
    let millis = u64::try_from(shape::throttle_time(api, version, body)?).ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

impl Future for Driver {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        this.now = Instant::now();
        // Read first: a connection that the broker has closed is then seen before anything is written to it.
        let step = this.read(cx).and_then(|()| {
            this.fill(cx)?;
            this.write(cx)
        });
        let ended = match step {
            Ok(()) => ready!(this.wait(cx)),
            Err(reason) => Ended::Lost(reason),
        };
        let (Ended::Idle(reason) | Ended::Lost(reason)) = &ended;
        this.end(reason);
        Poll::Ready(ended)
    }
}

/// Dropped before its end: the pool has ended the connection and said why, or the runtime is gone, of which a caller on
/// another runtime only needs to know that its request may be tried again.
impl Drop for Driver {
    fn drop(&mut self) {
        let reason =
            self.link.closed().unwrap_or_else(|| self.disconnected("the connection's task was ended"));
        self.end(&reason);
    }
}
