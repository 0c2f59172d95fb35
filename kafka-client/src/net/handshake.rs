//! Makes a fresh stream ready: learns what the broker speaks, `ApiVersions` falling back to version 0 (KIP-511), and
//! proves to it who the client is.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, Request as _, VersionRange};
use kafka_wire::error::{ProtocolError, ProtocolErrorKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::frame::{FrameDecoder, MAX_FRAME_BEFORE_READY};
use kafka_wire::header::{self, RequestHeader};
use kafka_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::authenticate::{Ask, Authenticator};
use super::driver::{ReadyStream, throttle_time};
use super::transport::BoxStream;
use crate::auth::Sasl;
use crate::error::{Error, ErrorKind, Result};
use crate::tls;
use crate::types::NodeId;

/// How often the broker may ask for another version of the question.
const ATTEMPTS: usize = 3;
/// The most APIs a broker may list; Kafka 4.3 lists fewer than a hundred.
const MOST_APIS: usize = 4096;

/// What a broker speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BrokerVersions {
    /// Ascending by key.
    apis: Vec<(i16, VersionRange)>,
}

impl BrokerVersions {
    /// The versions of `api` that the broker speaks, if it serves it.
    pub(crate) fn get(&self, api: Api) -> Option<VersionRange> {
        let place = self.apis.binary_search_by_key(&api.key(), |(key, _)| *key).ok()?;
        Some(self.apis[place].1)
    }

    /// The highest version that is in `needed` and that the broker speaks.
    pub(crate) fn pick(&self, api: Api, needed: VersionRange, node: NodeId) -> Result<i16> {
        let broker = self.get(api);
        let common = broker.and_then(|broker| broker.intersect(needed));
        common.map(|range| range.max).ok_or_else(|| {
            let node = (node >= 0).then_some(node);
            ErrorKind::UnsupportedVersion { api, needed, broker, node, feature: None }.into()
        })
    }

    fn from_response(response: &ApiVersionsResponse) -> Result<Self, ProtocolErrorKind> {
        if response.api_keys.len() > MOST_APIS {
            let message =
                format!("{} APIs listed, at most {MOST_APIS} are accepted", response.api_keys.len());
            return Err(ProtocolErrorKind::InvalidValue(message.into()));
        }
        let mut apis = Vec::with_capacity(response.api_keys.len());
        for listed in &response.api_keys {
            let (key, min, max) = (listed.api_key, listed.min_version, listed.max_version);
            if key < 0 || min < 0 || min > max {
                let message = format!("API {key} listed with versions {min} to {max}");
                return Err(ProtocolErrorKind::InvalidValue(message.into()));
            }
            apis.push((key, VersionRange { min, max }));
        }
        apis.sort_unstable_by_key(|(key, _)| *key);
        match apis.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => {
                Err(ProtocolErrorKind::InvalidValue(format!("API {} listed twice", pair[0].0).into()))
            }
            None => Ok(Self { apis }),
        }
    }
}

/// Decides which version of the question to ask next; sends and waits for nothing.
#[derive(Debug)]
struct Negotiation {
    version: i16,
    asked: usize,
}

/// What to do after an answer.
#[derive(Debug)]
enum Step {
    /// Ask again, in another version.
    Ask(i16),
    /// The broker has told.
    Done(BrokerVersions),
}

/// Why a broker was not understood.
#[derive(Debug)]
enum Refusal {
    Code(ErrorCode),
    Bytes(ProtocolErrorKind),
}

impl From<ProtocolErrorKind> for Refusal {
    fn from(kind: ProtocolErrorKind) -> Self {
        Self::Bytes(kind)
    }
}

impl Negotiation {
    fn new() -> Self {
        Self { version: Api::ApiVersions.versions().max, asked: 1 }
    }

    fn answered(&mut self, body: Bytes) -> Result<Step, Refusal> {
        let decode =
            |version, body| ApiVersionsRequest::decode_response(version, body).map_err(|error| error.kind);
        // A broker that does not know the version answers in version 0, whose error code comes first as in the others.
        let unsupported = body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        if !unsupported {
            let response = decode(self.version, body)?;
            return match ErrorCode(response.error_code) {
                code if code.is_ok() => Ok(Step::Done(BrokerVersions::from_response(&response)?)),
                code => Err(Refusal::Code(code)),
            };
        }
        let ours = Api::ApiVersions.versions();
        let listed = BrokerVersions::from_response(&decode(0, body)?)?.get(Api::ApiVersions);
        // Brokers before 2.4 list nothing; every broker knows version 0.
        let theirs = listed.unwrap_or(VersionRange { min: 0, max: 0 });
        match ours.intersect(theirs) {
            // What was just refused is not asked again, whatever the broker lists.
            Some(common) if common.max != self.version && self.asked < ATTEMPTS => {
                self.version = common.max;
                self.asked += 1;
                Ok(Step::Ask(common.max))
            }
            _ => Err(Refusal::Code(ErrorCode::UNSUPPORTED_VERSION)),
        }
    }
}

/// Speaks with a broker on a fresh stream until it is known what it speaks, and until it knows who the client is. The
/// caller bounds the time.
///
/// # Errors
/// The stream failed, the peer is not a broker that we can speak with, or it does not take the client for who it is.
pub(crate) async fn shake_hands(
    stream: BoxStream,
    node: NodeId,
    address: &NodeAddress,
    client_id: Option<&str>,
    sasl: Option<&Sasl>,
) -> Result<(ReadyStream, BrokerVersions)> {
    let mut fresh = Fresh {
        stream,
        // The peer has not proved to be Kafka yet, so it is not allowed much.
        decoder: FrameDecoder::new(MAX_FRAME_BEFORE_READY),
        received: BytesMut::new(),
        next_correlation_id: 0,
        address,
        client_id,
    };
    let (versions, muted) = fresh.negotiate(node).await?;
    let authenticated = match sasl {
        Some(sasl) => {
            let authenticator = Authenticator::new(sasl, node, address, &versions)?;
            let session = authenticator.run(&mut fresh).await?;
            Some((authenticator, session))
        }
        None => None,
    };
    let Fresh { stream, decoder, received, next_correlation_id, .. } = fresh;
    let ready = ReadyStream { stream, decoder, received, next_correlation_id, muted, authenticated };
    Ok((ready, versions))
}

/// A stream on which one request is answered before the next is made.
struct Fresh<'a> {
    stream: BoxStream,
    decoder: FrameDecoder,
    received: BytesMut,
    next_correlation_id: i32,
    address: &'a NodeAddress,
    client_id: Option<&'a str>,
}

impl Fresh<'_> {
    /// What the broker speaks, and for how long it will not read.
    async fn negotiate(&mut self, node: NodeId) -> Result<(BrokerVersions, Option<Duration>)> {
        let mut negotiation = Negotiation::new();
        loop {
            let version = negotiation.version;
            let question = question(version).map_err(ErrorKind::Encode)?;
            let body = self.exchange(Api::ApiVersions, version, question).await?;
            let muted = throttle_time(Api::ApiVersions, version, &body);
            match negotiation.answered(body) {
                Ok(Step::Ask(version)) => {
                    tracing::debug!(node, address = %self.address, version, "asked for an older ApiVersions");
                }
                Ok(Step::Done(versions)) => return Ok((versions, muted)),
                Err(Refusal::Bytes(kind)) => {
                    return Err(self.protocol(kind.at(Api::ApiVersions.key(), version)));
                }
                Err(Refusal::Code(code)) => {
                    let node = (node >= 0).then_some(node);
                    return Err(Error::broker(code, Api::ApiVersions, node, None));
                }
            }
        }
    }

    async fn exchange(&mut self, api: Api, version: i16, body: Bytes) -> Result<Bytes> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let header = RequestHeader { api, version, correlation_id, client_id: self.client_id };
        let mut start = BytesMut::new();
        header.encode_into(body.len(), &mut start).map_err(ErrorKind::Encode)?;
        // Wiped afterwards: it may hold a password.
        let frame = Zeroizing::new([&start[..], &body].concat());
        self.stream.write_all(&frame).await.map_err(|error| self.failed(error))?;
        self.stream.flush().await.map_err(|error| self.failed(error))?;
        let frame = loop {
            if let Some(frame) =
                self.decoder.decode(&mut self.received).map_err(|error| self.protocol(error))?
            {
                break frame;
            }
            let read = self.stream.read_buf(&mut self.decoder.room(&mut self.received)).await;
            if read.map_err(|error| self.failed(error))? == 0 {
                let reason = match api {
                    Api::ApiVersions => {
                        "the peer closed the connection before it told what it speaks; is it a Kafka broker, and is \
                         the port's listener plaintext?"
                    }
                    _ => {
                        "the broker closed the connection during authentication; it may be going down, or it may \
                         refuse the credentials without saying so"
                    }
                };
                return Err(Error::disconnected(self.address.clone(), reason));
            }
        };
        let (answers, body) =
            header::decode_response_header(api, version, &frame).map_err(|error| self.protocol(error))?;
        if answers != correlation_id {
            let kind = ProtocolErrorKind::CorrelationId { expected: correlation_id, received: answers };
            return Err(self.protocol(kind.at(api.key(), version)));
        }
        Ok(body)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        tls::stream_error(self.address, error)
    }

    fn protocol(&self, source: ProtocolError) -> Error {
        tls::protocol_error(self.address, source)
    }
}

impl Ask for Fresh<'_> {
    async fn ask(&mut self, api: Api, version: i16, body: Bytes) -> Result<Bytes> {
        self.exchange(api, version, body).await
    }
}

fn question(version: i16) -> Result<Bytes, ProtocolError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let mut body = BytesMut::new();
    request.encode(version, &mut body)?;
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use kafka_wire::messages::api_versions_response::ApiVersion;

    use super::*;

    fn response(code: ErrorCode, keys: &[(i16, i16, i16)]) -> ApiVersionsResponse {
        let keys = keys.iter().map(|(key, min, max)| {
            ApiVersion::default().with_api_key(*key).with_min_version(*min).with_max_version(*max)
        });
        ApiVersionsResponse::default().with_error_code(code.0).with_api_keys(keys.collect())
    }

    fn encoded(response: &ApiVersionsResponse, version: i16) -> Bytes {
        let mut body = BytesMut::new();
        ApiVersionsRequest::encode_response(response, version, &mut body).unwrap();
        body.freeze()
    }

    fn refused(keys: &[(i16, i16, i16)]) -> Bytes {
        encoded(&response(ErrorCode::UNSUPPORTED_VERSION, keys), 0)
    }

    #[test]
    fn the_newest_question_comes_first_and_its_answer_is_the_table() {
        let mut negotiation = Negotiation::new();
        let newest = Api::ApiVersions.versions().max;
        assert_eq!(negotiation.version, newest);
        let body = encoded(&response(ErrorCode(0), &[(18, 0, 4), (3, 0, 13), (0, 3, 12)]), newest);
        let Step::Done(versions) = negotiation.answered(body).unwrap() else { panic!("not done") };
        assert_eq!(versions.get(Api::Metadata), Some(VersionRange { min: 0, max: 13 }));
        assert_eq!(versions.get(Api::Fetch), None);
        assert_eq!(versions.pick(Api::Produce, VersionRange { min: 3, max: 13 }, 1).unwrap(), 12);
    }

    #[test]
    fn a_broker_too_old_for_the_question_is_asked_what_it_lists_or_version_0() {
        for (listed, expected) in [(&[(18, 0, 2)][..], 2), (&[], 0)] {
            let mut negotiation = Negotiation::new();
            assert!(
                matches!(negotiation.answered(refused(listed)), Ok(Step::Ask(version)) if version == expected)
            );
            let body = encoded(&response(ErrorCode(0), &[(1, 4, 11)]), expected);
            assert!(matches!(negotiation.answered(body), Ok(Step::Done(_))));
        }
    }

    #[test]
    fn a_broker_that_keeps_refusing_is_given_up_after_three_questions() {
        let mut negotiation = Negotiation::new();
        assert!(matches!(negotiation.answered(refused(&[(18, 0, 3)])), Ok(Step::Ask(3))));
        assert!(matches!(negotiation.answered(refused(&[(18, 0, 2)])), Ok(Step::Ask(2))));
        assert!(matches!(
            negotiation.answered(refused(&[(18, 0, 1)])),
            Err(Refusal::Code(ErrorCode::UNSUPPORTED_VERSION))
        ));
    }

    #[test]
    fn a_broker_that_refuses_what_it_lists_is_given_up_at_once() {
        let newest = Api::ApiVersions.versions().max;
        assert!(matches!(Negotiation::new().answered(refused(&[(18, 0, newest)])), Err(Refusal::Code(_))));
        assert!(matches!(Negotiation::new().answered(refused(&[(18, 90, 99)])), Err(Refusal::Code(_))));
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let newest = Api::ApiVersions.versions().max;
        let many: Vec<_> = (0..5000).map(|key| (key, 0, 1)).collect();
        for keys in
            [&[(3, 5, 4)][..], &[(3, -1, 4)], &[(-3, 0, 4)], &[(3, 0, 4), (1, 0, 1), (3, 0, 4)], &many]
        {
            let body = encoded(&response(ErrorCode(0), keys), newest);
            let refusal = Negotiation::new().answered(body).unwrap_err();
            assert!(matches!(refusal, Refusal::Bytes(ProtocolErrorKind::InvalidValue(_))), "{refusal:?}");
        }
    }

    #[test]
    fn another_error_is_the_brokers_and_is_told() {
        let newest = Api::ApiVersions.versions().max;
        let body = encoded(&response(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, &[]), newest);
        let refusal = Negotiation::new().answered(body).unwrap_err();
        assert!(matches!(refusal, Refusal::Code(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)));
    }

    #[test]
    fn a_broker_that_lacks_an_api_or_a_version_is_named_with_both_ranges() {
        let table = response(ErrorCode(0), &[(3, 0, 4)]);
        let versions = BrokerVersions::from_response(&table).unwrap();
        let error = versions.pick(Api::Metadata, VersionRange { min: 9, max: 13 }, 2).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("Metadata") && text.contains("9 to 13") && text.contains("0 to 4"), "{text}");
        assert!(versions.pick(Api::Fetch, VersionRange { min: 4, max: 18 }, 2).is_err());
    }
}
