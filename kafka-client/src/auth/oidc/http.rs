//! One POST on one connection, over HTTP/1.1: waits for the whole answer, which is bounded.

use std::error::Error as _;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use hyper_util::rt::TokioIo;
use zeroize::Zeroizing;

use super::endpoint::Endpoint;
use super::error::OidcErrorKind;
use super::request::Request;
use super::response::{Answer, MOST_BYTES};
use crate::net::BoxStream;

const USER_AGENT: &str = concat!("kafka-client-rust/", env!("CARGO_PKG_VERSION"));

/// What came back, whole.
pub(super) struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

impl Reply {
    pub(super) fn answer(&self) -> Answer<'_> {
        let text = |name: HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        Answer {
            status: self.status,
            location: text(header::LOCATION),
            retry_after: text(header::RETRY_AFTER),
            body: &self.body,
        }
    }
}

/// Sends the request and reads the answer. The caller bounds the time.
pub(super) async fn post(
    stream: BoxStream,
    endpoint: &Endpoint,
    request: Request,
) -> Result<Reply, OidcErrorKind> {
    let mut builder = Builder::new();
    builder.max_buf_size(MOST_BYTES);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let (mut exchange, connection) = (pin!(exchange(sender, endpoint, request)), pin!(connection));
    // The connection does the reading and writing; when it ends, what it has read is still to be taken.
    tokio::select! {
        biased;
        reply = &mut exchange => return reply,
        _ = connection => {}
    }
    exchange.await
}

async fn exchange(
    mut sender: SendRequest<Full<Bytes>>,
    endpoint: &Endpoint,
    request: Request,
) -> Result<Reply, OidcErrorKind> {
    let request =
        http_request(endpoint, request).map_err(|error| OidcErrorKind::Malformed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = Response::into_parts(response);
    let body = read(body).await?;
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}

fn http_request(
    endpoint: &Endpoint,
    request: Request,
) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
    let mut builder = hyper::Request::post(&endpoint.target)
        .header(header::HOST, &endpoint.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "application/json")
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONNECTION, "close");
    if let Some(authorization) = request.authorization {
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(authorization))?;
        value.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, value);
    }
    builder.body(Full::new(Bytes::from_owner(request.body)))
}

async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, OidcErrorKind> {
    // All room at once: growing would leave copies of a token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(failed)?.into_data() else { continue };
        if bytes.len() + data.len() > MOST_BYTES {
            return Err(OidcErrorKind::TooLarge(MOST_BYTES));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn failed(error: hyper::Error) -> OidcErrorKind {
    let reason = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if error.is_parse() { OidcErrorKind::Malformed(reason) } else { OidcErrorKind::Interrupted(reason) }
}
