//! Proves to a broker who the client is: in which order it is asked what, and what its answers mean. The same on a new
//! connection and on one whose session ends soon.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, Request as _, VersionRange};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, StrBytes,
};
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

use super::handshake::BrokerVersions;
use crate::auth::{BrokerIdentity, Sasl, Step, Transient};
use crate::error::{Error, ErrorKind, Result};
use crate::serde::BoxError;
use crate::types::NodeId;

/// The most messages that a mechanism may send; SCRAM needs two, Kerberos three.
const MOST_ROUNDS: usize = 10;
/// The most mechanisms of a broker's that are told, and the most characters of each and of its message.
const MOST_OFFERED: usize = 32;
const LONGEST_NAME: usize = 64;
const LONGEST_MESSAGE: usize = 1024;

/// Version 0 of the handshake has the mechanism's messages follow without any frame of Kafka's; brokers before 1.0 only.
const HANDSHAKE: VersionRange = VersionRange { min: 1, max: 1 };

/// Asks a broker something that only authentication asks, and waits for the answer.
pub(crate) trait Ask: Send {
    fn ask(&mut self, api: Api, version: i16, body: Bytes) -> impl Future<Output = Result<Bytes>> + Send;
}

/// How long a broker takes the client for who it has proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Not later than when the broker began to count.
    pub(crate) began: Instant,
    pub(crate) lifetime: Duration,
}

/// Proves to one broker who the client is.
pub(crate) struct Authenticator {
    sasl: Sasl,
    broker: BrokerIdentity,
    handshake: i16,
    authenticate: i16,
    address: NodeAddress,
}

impl Authenticator {
    /// For the broker at `address`, which speaks these versions.
    ///
    /// # Errors
    /// It speaks no version of SASL that we do.
    pub(crate) fn new(
        sasl: &Sasl,
        node: NodeId,
        address: &NodeAddress,
        versions: &BrokerVersions,
    ) -> Result<Self> {
        let mut broker = BrokerIdentity::new(address.host.clone(), address.port);
        broker.node = (node >= 0).then_some(node);
        Ok(Self {
            sasl: sasl.clone(),
            broker,
            handshake: versions.pick(Api::SaslHandshake, HANDSHAKE, node)?,
            authenticate: versions.pick(Api::SaslAuthenticate, Api::SaslAuthenticate.versions(), node)?,
            address: address.clone(),
        })
    }

    /// Goes through the whole exchange. Nothing is asked before the mechanism has its first message.
    ///
    /// # Errors
    /// [`Authentication`](ErrorKind::Authentication), [`NoCredentials`](ErrorKind::NoCredentials), or whatever asking
    /// fails with.
    pub(crate) async fn run(&self, broker: &mut impl Ask) -> Result<Option<Session>> {
        let mut dialogue = Dialogue::new(self);
        let mut exchange =
            self.sasl.start(&self.broker).await.map_err(|error| dialogue.mechanism_failed(error))?;
        let mut step = exchange.step(None).await.map_err(|error| dialogue.mechanism_failed(error))?;
        let body = dialogue.handshake()?;
        let answer = broker.ask(Api::SaslHandshake, self.handshake, body).await?;
        dialogue.shaken(answer)?;
        let mut session = None;
        loop {
            let message = match step {
                Step::Send(message) => Zeroizing::new(message),
                Step::Done => return Ok(session),
            };
            let body = dialogue.question(message)?;
            let began = Instant::now();
            let answer = broker.ask(Api::SaslAuthenticate, self.authenticate, body).await?;
            let (challenge, lifetime) = dialogue.answered(answer)?;
            session = lifetime.map(|lifetime| Session { began, lifetime });
            step = exchange.step(Some(&challenge)).await.map_err(|error| dialogue.mechanism_failed(error))?;
        }
    }
}

/// Decides what an answer means; sends and waits for nothing.
struct Dialogue<'a> {
    with: &'a Authenticator,
    offered: Vec<String>,
    rounds: usize,
}

impl<'a> Dialogue<'a> {
    fn new(with: &'a Authenticator) -> Self {
        Self { with, offered: Vec::new(), rounds: 0 }
    }

    fn handshake(&self) -> Result<Bytes> {
        let mechanism = StrBytes::from_string(self.with.sasl.name().to_owned());
        let mut body = BytesMut::new();
        SaslHandshakeRequest::default()
            .with_mechanism(mechanism)
            .encode(self.with.handshake, &mut body)
            .map_err(ErrorKind::Encode)?;
        Ok(body.freeze())
    }

    /// The broker has answered which mechanisms it knows.
    fn shaken(&mut self, body: Bytes) -> Result<()> {
        let decoded = SaslHandshakeRequest::decode_response(self.with.handshake, body);
        let SaslHandshakeResponse { error_code, mechanisms, .. } =
            decoded.map_err(|error| self.protocol(error))?;
        self.offered =
            mechanisms.iter().take(MOST_OFFERED).map(|name| printable(name, LONGEST_NAME)).collect();
        match ErrorCode(error_code) {
            code if code.is_ok() => Ok(()),
            code @ ErrorCode::ILLEGAL_SASL_STATE => {
                Err(self
                    .refused(code, "the listener of this port does no SASL; use the port of one that does"))
            }
            code => Err(self.refused(code, code.message())),
        }
    }

    /// The request for one message of the mechanism's, which is wiped when it is sent.
    fn question(&mut self, message: Zeroizing<Vec<u8>>) -> Result<Bytes> {
        self.rounds += 1;
        if self.rounds > MOST_ROUNDS {
            return Err(self.failed(None, format!("it is not over after {MOST_ROUNDS} messages")));
        }
        // Room for everything at once: growing would leave copies of the message behind.
        let mut body = BytesMut::with_capacity(message.len() + 16);
        let bytes = Bytes::from_owner(message);
        let request = SaslAuthenticateRequest::default().with_auth_bytes(bytes);
        request.encode(self.with.authenticate, &mut body).map_err(ErrorKind::Encode)?;
        let wiped = Zeroizing::new(body.to_vec());
        body.as_mut().zeroize();
        Ok(Bytes::from_owner(wiped))
    }

    /// The broker's message to the mechanism, and how long the session lasts if that was the last one.
    fn answered(&self, body: Bytes) -> Result<(Bytes, Option<Duration>)> {
        let decoded = SaslAuthenticateRequest::decode_response(self.with.authenticate, body);
        let SaslAuthenticateResponse { error_code, error_message, auth_bytes, session_lifetime_ms, .. } =
            decoded.map_err(|error| self.protocol(error))?;
        match ErrorCode(error_code) {
            code if code.is_ok() => {
                let lifetime = u64::try_from(session_lifetime_ms).ok().filter(|millis| *millis > 0);
                Ok((auth_bytes, lifetime.map(Duration::from_millis)))
            }
            code if code.is_retriable() => {
                let node = self.with.broker.node;
                Err(Error::broker(
                    code,
                    Api::SaslAuthenticate,
                    node,
                    error_message.map(|text| text.to_string()),
                ))
            }
            code => match error_message.as_deref() {
                Some(message) if !message.is_empty() => Err(self.refused(code, message)),
                _ => Err(self.refused(code, code.message())),
            },
        }
    }

    fn mechanism_failed(&self, error: BoxError) -> Error {
        // What a mechanism says with an error of ours, it means.
        let error = match error.downcast::<Error>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        match error.downcast::<Transient>() {
            Ok(transient) => ErrorKind::NoCredentials {
                address: self.with.address.clone(),
                mechanism: self.with.sasl.name().to_owned(),
                source: transient.0,
            }
            .into(),
            Err(error) => {
                let mut message = error.to_string();
                let mut source = error.source();
                while let Some(cause) = source {
                    message.push_str(": ");
                    message.push_str(&cause.to_string());
                    source = cause.source();
                }
                self.failed(None, message)
            }
        }
    }

    fn refused(&self, code: ErrorCode, message: &str) -> Error {
        self.failed(Some(code), message.to_owned())
    }

    fn failed(&self, code: Option<ErrorCode>, message: String) -> Error {
        ErrorKind::Authentication {
            address: self.with.address.clone(),
            mechanism: self.with.sasl.name().to_owned(),
            offered: self.offered.clone(),
            code,
            message: printable(&message, LONGEST_MESSAGE),
        }
        .into()
    }

    fn protocol(&self, source: kafka_wire::ProtocolError) -> Error {
        ErrorKind::Protocol { address: self.with.address.clone(), source }.into()
    }
}

/// What a peer said, fit for a log.
fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator() -> Authenticator {
        let address = NodeAddress::new("broker", 9092);
        let broker = BrokerIdentity::new("broker", 9092);
        let sasl = Sasl::plain("alice", "hunter2");
        Authenticator { sasl, broker, handshake: 1, authenticate: 2, address }
    }

    fn shaken(code: ErrorCode, offered: &[&str]) -> Bytes {
        let mechanisms = offered.iter().map(|name| StrBytes::from_string((*name).to_owned())).collect();
        let response = SaslHandshakeResponse::default().with_error_code(code.0).with_mechanisms(mechanisms);
        let mut body = BytesMut::new();
        SaslHandshakeRequest::encode_response(&response, 1, &mut body).unwrap();
        body.freeze()
    }

    fn answered(code: ErrorCode, message: Option<&str>, lifetime: i64) -> Bytes {
        let message = message.map(|text| StrBytes::from_string(text.to_owned()));
        let response = SaslAuthenticateResponse::default()
            .with_error_code(code.0)
            .with_error_message(message)
            .with_auth_bytes(Bytes::from_static(b"challenge"))
            .with_session_lifetime_ms(lifetime);
        let mut body = BytesMut::new();
        SaslAuthenticateRequest::encode_response(&response, 2, &mut body).unwrap();
        body.freeze()
    }

    #[test]
    fn a_refusal_carries_the_brokers_words_without_what_would_garble_a_log() {
        let authenticator = authenticator();
        let mut dialogue = Dialogue::new(&authenticator);
        dialogue.shaken(shaken(ErrorCode::NONE, &["PLAIN", "SCRAM-SHA-256"])).unwrap();
        let code = ErrorCode::SASL_AUTHENTICATION_FAILED;
        let long = format!("no\x1b[2J\n{}", "x".repeat(30_000));
        let error = dialogue.answered(answered(code, Some(&long), 0)).unwrap_err();
        let ErrorKind::Authentication { message, offered, .. } = error.kind() else { panic!("{error:?}") };
        assert!(
            message.starts_with("no\u{fffd}[2J\u{fffd}xxx") && message.chars().count() == LONGEST_MESSAGE
        );
        assert_eq!(offered, &["PLAIN", "SCRAM-SHA-256"]);
        assert_eq!(error.error_code(), Some(code));
    }

    #[test]
    fn a_listener_without_sasl_and_a_mechanism_that_is_not_offered_are_named() {
        let authenticator = authenticator();
        let mut dialogue = Dialogue::new(&authenticator);
        let error = dialogue.shaken(shaken(ErrorCode::ILLEGAL_SASL_STATE, &[])).unwrap_err();
        assert!(error.to_string().contains("does no SASL"), "{error}");
        let many: Vec<_> = (0..1000).map(|_| "SCRAM-SHA-512").collect();
        let error = dialogue.shaken(shaken(ErrorCode::UNSUPPORTED_SASL_MECHANISM, &many)).unwrap_err();
        let ErrorKind::Authentication { mechanism, offered, .. } = error.kind() else { panic!("{error:?}") };
        assert_eq!((mechanism.as_str(), offered.len()), ("PLAIN", MOST_OFFERED));
    }

    #[test]
    fn a_code_that_may_pass_is_not_a_refusal() {
        let authenticator = authenticator();
        let dialogue = Dialogue::new(&authenticator);
        let error = dialogue.answered(answered(ErrorCode::REQUEST_TIMED_OUT, None, 0)).unwrap_err();
        assert!(error.is_retriable() && !error.is_fatal(), "{error:?}");
    }

    #[test]
    fn a_lifetime_counts_only_if_it_is_positive() {
        let authenticator = authenticator();
        let dialogue = Dialogue::new(&authenticator);
        for (millis, expected) in [(0, None), (-1, None), (i64::MIN, None), (2000, Some(2000))] {
            let (challenge, lifetime) = dialogue.answered(answered(ErrorCode::NONE, None, millis)).unwrap();
            assert_eq!(lifetime, expected.map(Duration::from_millis));
            assert_eq!(&*challenge, b"challenge");
        }
    }

    #[test]
    fn a_mechanism_that_fails_for_now_is_told_apart_from_one_that_fails_for_good() {
        let authenticator = authenticator();
        let dialogue = Dialogue::new(&authenticator);
        let passing = dialogue.mechanism_failed(Transient::new("503").into());
        assert!(matches!(passing.kind(), ErrorKind::NoCredentials { .. }) && passing.is_retriable());
        let lasting = dialogue.mechanism_failed("no such client".into());
        assert!(lasting.is_fatal() && lasting.to_string().contains("no such client"), "{lasting}");
        let own = dialogue.mechanism_failed(Error::config("a", "b", "c").into());
        assert!(matches!(own.kind(), ErrorKind::Config { .. }));
    }
}
