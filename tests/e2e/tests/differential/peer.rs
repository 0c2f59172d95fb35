//! One broker, spoken to in frames: what it answers, or that it hung up.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use e2e::Outcome;
use kafka_wire::api::{Api, Request};
use kafka_wire::header::{RequestHeader, decode_response_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
pub(crate) enum Reply<T> {
    Answer(T),
    /// The broker closed the connection instead.
    Closed,
}

/// A broker, and a connection to it when there is one.
pub(crate) struct Peer {
    address: String,
    stream: Option<TcpStream>,
    correlation_id: i32,
}

impl Peer {
    /// Of the broker at this address; nothing is connected yet.
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.into(), stream: None, correlation_id: 0 }
    }

    /// A connection of its own to the same broker.
    pub(crate) fn another(&self) -> Self {
        Self::new(&self.address)
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: R) -> Outcome<Reply<R::Response>> {
        let mut body = BytesMut::new();
        request.encode(version, &mut body)?;
        Ok(match self.exchange(R::API, version, &body).await? {
            Reply::Answer(answer) => Reply::Answer(R::decode_response(version, answer)?),
            Reply::Closed => Reply::Closed,
        })
    }

    /// As [`ask`](Self::ask), of a broker that must not hang up.
    pub(crate) async fn must<R: Request>(&mut self, version: i16, request: R) -> Outcome<R::Response> {
        match self.ask(version, request).await? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Closed => Err(format!("{:?} {version}: the broker closed the connection", R::API).into()),
        }
    }

    /// Sends a body and waits for the body that answers it.
    pub(crate) async fn exchange(&mut self, api: Api, version: i16, body: &[u8]) -> Outcome<Reply<Bytes>> {
        self.exchange_in(api, version, version, body).await
    }

    /// As [`exchange`](Self::exchange), where the answer's header is that of another version.
    pub(crate) async fn exchange_in(
        &mut self,
        api: Api,
        version: i16,
        answer_version: i16,
        body: &[u8],
    ) -> Outcome<Reply<Bytes>> {
        self.correlation_id += 1;
        let correlation_id = self.correlation_id;
        let header = RequestHeader { api, version, correlation_id, client_id: Some("differential") };
        let frame = [&header.encode(body.len())?[..], body].concat();
        let reply = tokio::time::timeout(PATIENCE, self.round_trip(&frame)).await;
        let Some(frame) =
            reply.map_err(|_| format!("{api:?} {version}: no answer within {PATIENCE:?}"))??
        else {
            return Ok(Reply::Closed);
        };
        let (answered, body) = decode_response_header(api, answer_version, &frame)?;
        if answered != correlation_id {
            return Err(format!("{api:?} {version}: answer {answered} instead of {correlation_id}").into());
        }
        Ok(Reply::Answer(body))
    }

    async fn round_trip(&mut self, frame: &[u8]) -> Outcome<Option<Bytes>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(&self.address).await?),
        };
        let mut answer = Vec::new();
        let read = async {
            stream.write_all(frame).await?;
            let length = stream.read_u32().await?;
            answer.resize(length as usize, 0);
            stream.read_exact(&mut answer).await
        };
        match read.await {
            Ok(_) => Ok(Some(Bytes::from(answer))),
            Err(_) => {
                self.stream = None;
                Ok(None)
            }
        }
    }
}
