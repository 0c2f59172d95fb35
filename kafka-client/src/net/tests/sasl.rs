//! Brokers that want to know who the client is: honest ones, broken ones and false ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use kafka_wire::error::ProtocolErrorKind;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, StrBytes,
};
use kafka_wire::sasl::{oauthbearer, plain, scram};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::auth::{
    BoxFuture, BrokerIdentity, Exchange, Mechanism, Sasl, ScramHash, Step, Token, TokenProvider, Transient,
};
use crate::serde::BoxError;

const PASSWORD: &str = "pencil";

fn plain() -> Sasl {
    Sasl::plain("alice", PASSWORD)
}

fn scram() -> Sasl {
    Sasl::scram_sha_256("alice", PASSWORD)
}

fn fixture(sasl: Sasl) -> Fixture {
    Fixture::with(ClientConfig { sasl: Some(sasl), ..config() }, Vec::new(), 1 << 20)
}

impl Peer {
    /// The mechanism that the client names.
    async fn offered(&mut self, code: ErrorCode, offered: &[&str]) -> String {
        let asked = self.asked().await;
        assert_eq!((asked.api, asked.version), (Api::SaslHandshake, 1));
        let request = SaslHandshakeRequest::decode(asked.version, asked.body.clone()).unwrap();
        let names = offered.iter().map(|name| StrBytes::from_string((*name).to_owned())).collect();
        let response = SaslHandshakeResponse::default().with_error_code(code.0).with_mechanisms(names);
        let mut body = BytesMut::new();
        SaslHandshakeRequest::encode_response(&response, asked.version, &mut body).unwrap();
        self.answer(&asked, &body).await;
        request.mechanism.to_string()
    }

    /// The client's next message, and the request that it came in.
    async fn message(&mut self) -> (Asked, Bytes) {
        let asked = self.asked().await;
        assert_eq!((asked.api, asked.version), (Api::SaslAuthenticate, 2));
        let request = SaslAuthenticateRequest::decode(asked.version, asked.body.clone()).unwrap();
        (asked, request.auth_bytes)
    }

    async fn challenge(&mut self, asked: &Asked, bytes: &[u8], lifetime: Duration) {
        let response = SaslAuthenticateResponse::default()
            .with_auth_bytes(Bytes::copy_from_slice(bytes))
            .with_session_lifetime_ms(lifetime.as_millis() as i64);
        self.authenticated(asked, &response).await;
    }

    async fn refuse(&mut self, asked: &Asked, code: ErrorCode, message: &str) {
        let response = SaslAuthenticateResponse::default()
            .with_error_code(code.0)
            .with_error_message(Some(StrBytes::from_string(message.to_owned())));
        self.authenticated(asked, &response).await;
    }

    async fn authenticated(&mut self, asked: &Asked, response: &SaslAuthenticateResponse) {
        let mut body = BytesMut::new();
        SaslAuthenticateRequest::encode_response(response, asked.version, &mut body).unwrap();
        self.answer(asked, &body).await;
    }

    /// Takes the client for alice, by PLAIN, for so long.
    async fn accept_plain(&mut self, lifetime: Duration) {
        assert_eq!(self.offered(ErrorCode::NONE, &["PLAIN"]).await, "PLAIN");
        let (asked, message) = self.message().await;
        let said = plain::decode(&message).unwrap();
        assert_eq!((said.user, said.password), ("alice", PASSWORD));
        self.challenge(&asked, b"", lifetime).await;
    }

    /// Answers the client's first SCRAM message as an honest broker does.
    async fn begin_scram(&mut self) -> (scram::ClientFirst, scram::ServerFirst) {
        self.shake_hands().await;
        assert_eq!(self.offered(ErrorCode::NONE, &["SCRAM-SHA-256"]).await, "SCRAM-SHA-256");
        let (asked, message) = self.message().await;
        let client = scram::ClientFirst::parse(&message).unwrap();
        let server = scram::ServerFirst::new(&client, "more", b"salt", 4096).unwrap();
        self.challenge(&asked, &server.to_bytes(), Duration::ZERO).await;
        (client, server)
    }
}

/// What comes of connecting to a peer that behaves so; it must not take all the time that there is.
async fn connect<F: Future<Output = Peer>>(
    fixture: &mut Fixture,
    behave: impl FnOnce(Peer) -> F,
) -> (Result<Connection>, Peer) {
    let (pool, address) = (fixture.pool.take().unwrap(), address());
    let both = async {
        tokio::join!(pool.shared_connection(NODE, &address), async { behave(fixture.accept().await).await })
    };
    let outcome = timeout(60 * SECOND, both).await.unwrap();
    fixture.pool = Some(pool);
    outcome
}

/// The error of a client with this mechanism and such a peer.
async fn error_with<F: Future<Output = Peer>>(sasl: Sasl, behave: impl FnOnce(Peer) -> F) -> Error {
    let mut fixture = fixture(sasl);
    let (outcome, mut peer) = connect(&mut fixture, behave).await;
    // Whatever went wrong, the client does not keep the connection.
    timeout(SECOND, peer.closed()).await.unwrap();
    outcome.unwrap_err()
}

/// The message of an authentication error.
fn message(error: &Error) -> &str {
    match error.kind() {
        ErrorKind::Authentication { message, .. } => {
            assert!(error.is_fatal() && !error.is_retriable(), "{error:?}");
            message
        }
        other => panic!("not an authentication error: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_mechanism_is_spoken_before_the_first_request() {
    let mut plain = fixture(plain());
    let (connection, mut peer) = connect(&mut plain, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.accept_plain(Duration::ZERO).await;
        peer
    })
    .await;
    let connection = connection.unwrap();
    let call = start(&connection, request(&connection, b"hello")).await;
    let asked = peer.asked().await;
    assert_eq!((asked.api, asked.correlation_id), (Api::Heartbeat, 3));
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();

    let mut scram = fixture(scram());
    let (connection, _peer) = connect(&mut scram, async |mut peer: Peer| {
        let (client, server) = peer.begin_scram().await;
        let (asked, message) = peer.message().await;
        let salted = scram::salted_password(ScramHash::Sha256, PASSWORD, &server.salt, server.iterations);
        let keys = scram::ScramKeys::from_salted_password(ScramHash::Sha256, &salted);
        let proof = scram::ClientFinal::parse(&message).unwrap();
        let last = proof.verify(&keys, &client, &server).unwrap();
        peer.challenge(&asked, &last.to_bytes(), Duration::ZERO).await;
        peer
    })
    .await;
    assert!(!connection.unwrap().is_closed());

    let mut bearer = fixture(Sasl::oauth_bearer(Token::new("abc").extension("tenant", "x")));
    let (connection, _peer) = connect(&mut bearer, async |mut peer: Peer| {
        peer.shake_hands().await;
        assert_eq!(peer.offered(ErrorCode::NONE, &["OAUTHBEARER"]).await, "OAUTHBEARER");
        let (asked, message) = peer.message().await;
        let bearer = oauthbearer::decode(&message).unwrap();
        assert_eq!((bearer.token, &*bearer.extensions), ("abc", &[("tenant", "x")][..]));
        peer.challenge(&asked, b"", Duration::ZERO).await;
        peer
    })
    .await;
    assert!(!connection.unwrap().is_closed());
}

/// A mechanism that no one has heard of: it says one letter of a word at a time, and wants to hear it back.
struct Spelling(&'static str);

struct Letters {
    word: &'static str,
    said: usize,
}

impl Mechanism for Spelling {
    fn name(&self) -> &str {
        "X-SPELLING"
    }

    fn start<'a>(&'a self, broker: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        Box::pin(async move {
            assert_eq!((&*broker.host, broker.port, broker.node), ("broker", 9092, Some(NODE)));
            sleep(SECOND).await;
            Ok(Box::new(Letters { word: self.0, said: 0 }) as Box<dyn Exchange>)
        })
    }
}

impl Exchange for Letters {
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
        Box::pin(async move {
            sleep(SECOND).await;
            if challenge.is_some_and(|heard| heard != &self.word.as_bytes()[self.said - 1..self.said]) {
                return Err("the broker cannot spell".into());
            }
            let Some(letter) = self.word.as_bytes().get(self.said) else { return Ok(Step::Done) };
            self.said += 1;
            Ok(Step::Send(vec![*letter]))
        })
    }
}

/// Says back what it hears, so many times.
async fn echo(mut peer: Peer, times: usize) -> Peer {
    peer.shake_hands().await;
    peer.offered(ErrorCode::NONE, &["X-SPELLING"]).await;
    for _ in 0..times {
        let (asked, message) = peer.message().await;
        peer.challenge(&asked, &message, Duration::ZERO).await;
    }
    peer
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_of_the_users_may_wait_and_has_the_last_word() {
    let mut fixture = fixture(Sasl::mechanism(Spelling("kafka")));
    let (connection, _peer) = connect(&mut fixture, |peer| echo(peer, 5)).await;
    assert!(!connection.unwrap().is_closed());
    let error = error_with(Sasl::mechanism(Spelling("kafka")), async |peer: Peer| {
        let mut peer = echo(peer, 2).await;
        let (asked, _) = peer.message().await;
        peer.challenge(&asked, b"x", Duration::ZERO).await;
        peer
    })
    .await;
    assert_eq!(message(&error), "the broker cannot spell");
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_goes_on_after_ten_messages_is_given_up() {
    /// Never has enough.
    struct Endless;
    impl Mechanism for Endless {
        fn name(&self) -> &str {
            "X-SPELLING"
        }
        fn start<'a>(&'a self, _: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
            Box::pin(async { Ok(Box::new(Endless) as Box<dyn Exchange>) })
        }
    }
    impl Exchange for Endless {
        fn step<'a>(&'a mut self, _: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
            Box::pin(async { Ok(Step::Send(Vec::new())) })
        }
    }
    let error = error_with(Sasl::mechanism(Endless), |peer| echo(peer, 10)).await;
    assert!(message(&error).contains("10 messages"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_what_the_broker_said_and_what_it_offers() {
    let error = error_with(plain(), async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.offered(ErrorCode::NONE, &["PLAIN", "OAUTHBEARER"]).await;
        let (asked, _) = peer.message().await;
        peer.refuse(&asked, ErrorCode::SASL_AUTHENTICATION_FAILED, "Authentication failed: no such user")
            .await;
        peer
    })
    .await;
    assert_eq!(message(&error), "Authentication failed: no such user");
    let ErrorKind::Authentication { mechanism, offered, code, .. } = error.kind() else { unreachable!() };
    assert_eq!((mechanism.as_str(), offered.join(",").as_str()), ("PLAIN", "PLAIN,OAUTHBEARER"));
    assert_eq!(*code, Some(ErrorCode::SASL_AUTHENTICATION_FAILED));

    let error = error_with(plain(), async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.offered(ErrorCode::UNSUPPORTED_SASL_MECHANISM, &["GSSAPI"]).await;
        peer
    })
    .await;
    assert!(error.to_string().ends_with("it offers GSSAPI"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn brokers_that_lie_about_scram_are_not_believed() {
    let first = |answer: fn(&str) -> String| {
        error_with(scram(), async move |mut peer: Peer| {
            peer.shake_hands().await;
            peer.offered(ErrorCode::NONE, &["SCRAM-SHA-256"]).await;
            let (asked, message) = peer.message().await;
            let client = scram::ClientFirst::parse(&message).unwrap();
            peer.challenge(&asked, answer(&client.nonce).as_bytes(), Duration::ZERO).await;
            peer
        })
    };
    let began = Instant::now();
    for (answer, expected) in [
        ((|_| "r=another,s=c2FsdA==,i=4096".into()) as fn(&str) -> String, "nonce"),
        (|nonce| format!("r={nonce},s=c2FsdA==,i=4096"), "nonce"),
        (|nonce| format!("r={nonce}x,s=c2FsdA==,i=2147483648"), "2147483648 iterations"),
        (|nonce| format!("r={nonce}x,s=c2FsdA==,i=1"), "1 iterations"),
        (|nonce| format!("r={nonce}x,s={},i=4096", "QUFB".repeat(400)), "salt"),
        (|_| "v=AAAA".into(), "no nonce"),
        (|_| String::new(), "no nonce"),
        (|_| "x".repeat(100_000), "100000 bytes"),
    ] {
        let error = first(answer).await;
        assert!(message(&error).contains(expected), "{error}");
    }
    // Nothing was computed, and nothing waited for.
    assert!(began.elapsed() < SECOND);

    let last = |bytes: &'static [u8]| {
        error_with(scram(), async move |mut peer: Peer| {
            peer.begin_scram().await;
            let (asked, _) = peer.message().await;
            peer.challenge(&asked, bytes, Duration::ZERO).await;
            peer
        })
    };
    // Success without a proof; a wrong one; another message.
    for (bytes, expected) in [
        (&b""[..], "no signature"),
        (b"v=AAAA", "does not know the password"),
        (b"v=AAAA,", "malformed extension"),
        (b"e=other-error", "other-error"),
        (b"\xff\xfe", "UTF-8"),
    ] {
        let error = last(bytes).await;
        assert!(message(&error).contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn steps_that_are_skipped_or_reordered_or_cut_off_end_the_connection() {
    // The answer to the message comes instead of that to the handshake.
    let error = error_with(plain(), async |mut peer: Peer| {
        peer.shake_hands().await;
        let asked = peer.asked().await;
        peer.send(&answer(Api::SaslAuthenticate, 2, asked.correlation_id + 1, &[0; 16])).await;
        peer
    })
    .await;
    assert!(
        matches!(error.kind(), ErrorKind::Protocol { source, .. }
            if source.kind == ProtocolErrorKind::CorrelationId { expected: 1, received: 2 }),
        "{error:?}"
    );
    // A body that is none.
    let error = error_with(plain(), async |mut peer: Peer| {
        peer.shake_hands().await;
        let asked = peer.asked().await;
        peer.answer(&asked, &[0, 0, 0x7f, 0xff, 0xff, 0xff]).await;
        peer
    })
    .await;
    assert!(matches!(error.kind(), ErrorKind::Protocol { .. }), "{error:?}");
    // A frame that nobody needs before a connection is ready.
    let error = error_with(plain(), async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.asked().await;
        peer.send(&(600 * 1024_i32).to_be_bytes()).await;
        peer
    })
    .await;
    assert!(
        matches!(error.kind(), ErrorKind::Protocol { source, .. }
            if matches!(source.kind, ProtocolErrorKind::TooLarge { .. })),
        "{error:?}"
    );
    // Closed in the middle: it may have been going down, so this is not final.
    let mut cut = fixture(plain());
    let (outcome, _) = connect(&mut cut, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.offered(ErrorCode::NONE, &["PLAIN"]).await;
        peer.message().await;
        let (_, dead) = tokio::io::duplex(1);
        drop(peer);
        Peer::new(dead)
    })
    .await;
    let outcome = outcome.unwrap_err();
    assert!(outcome.is_retriable() && reason(&outcome).contains("during authentication"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn garbage_after_success_ends_the_connection() {
    let mut fixture = fixture(plain());
    let (connection, peer) = connect(&mut fixture, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.accept_plain(Duration::ZERO).await;
        peer.send(&answer(Api::SaslAuthenticate, 2, 3, &[0; 16])).await;
        peer
    })
    .await;
    let reason = timeout(SECOND, connection.unwrap().closed()).await.unwrap();
    assert!(matches!(reason.kind(), ErrorKind::Protocol { .. }), "{reason:?}");
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_or_provider_has_the_time_of_any_other_set_up() {
    struct Silent;
    impl TokenProvider for Silent {
        fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>> {
            Box::pin(std::future::pending())
        }
    }
    for sasl in [plain(), Sasl::oauth_bearer(Silent)] {
        let mut fixture = fixture(sasl);
        let began = Instant::now();
        let (outcome, _peer) = connect(&mut fixture, async |mut peer: Peer| {
            peer.shake_hands().await;
            peer
        })
        .await;
        assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::TimedOut { .. }));
        assert!((8 * SECOND..=12 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_be_had_for_now_are_tried_again_after_a_backoff() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let mut fixture = fixture(Sasl::oauth_bearer(move || {
        let attempt = counted.fetch_add(1, Ordering::Relaxed);
        async move { if attempt == 0 { Err(Transient::new("503")) } else { Ok(Token::new("abc")) } }
    }));
    let (outcome, _) = connect(&mut fixture, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer
    })
    .await;
    let error = outcome.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoCredentials { .. }) && error.is_retriable(), "{error:?}");
    let (outcome, _peer) = connect(&mut fixture, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.offered(ErrorCode::NONE, &["OAUTHBEARER"]).await;
        let (asked, _) = peer.message().await;
        peer.challenge(&asked, b"", Duration::ZERO).await;
        peer
    })
    .await;
    outcome.unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_answered_from_memory_and_tried_by_one_connection_after_a_while() {
    let mut fixture = fixture(plain());
    let refuse = async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.offered(ErrorCode::NONE, &["PLAIN"]).await;
        let (asked, _) = peer.message().await;
        peer.refuse(&asked, ErrorCode::SASL_AUTHENTICATION_FAILED, "no").await;
        peer
    };
    message(&connect(&mut fixture, refuse).await.0.unwrap_err());
    let began = Instant::now();
    // Any number of calls, to any broker: none is heard by one.
    for node in 0..100 {
        let other = NodeAddress::new(format!("broker-{node}"), 9092);
        assert_eq!(message(&fixture.pool().shared_connection(node, &other).await.unwrap_err()), "no");
    }
    assert!(began.elapsed().is_zero() && fixture.far_ends.is_empty());
    sleep(SECOND).await;
    // Two at once: one asks, the other is told the old answer.
    let pool = fixture.pool.take().unwrap();
    let (address, elsewhere) = (address(), NodeAddress::new("elsewhere", 9092));
    let (first, second, _peer) = tokio::join!(
        pool.shared_connection(NODE, &address),
        pool.shared_connection(NODE + 1, &elsewhere),
        async {
            let mut peer = fixture.accept().await;
            peer.shake_hands().await;
            sleep(SECOND).await;
            peer.accept_plain(Duration::ZERO).await;
            peer
        }
    );
    let outcomes = [first, second];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(fixture.far_ends.is_empty());
    // Accepted: all may connect again.
    let (outcome, _peer) = tokio::join!(pool.shared_connection(NODE + 2, &elsewhere), async {
        let mut peer = fixture.accept().await;
        peer.shake_hands().await;
        peer.accept_plain(Duration::ZERO).await;
        peer
    });
    outcome.unwrap();
}

/// A connection whose session lasts ten seconds, and its other end.
async fn with_session(sasl: Sasl) -> (Fixture, Connection, Peer) {
    let mut fixture = fixture(sasl);
    let (connection, peer) = connect(&mut fixture, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.accept_plain(10 * SECOND).await;
        peer
    })
    .await;
    (fixture, connection.unwrap(), peer)
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_between_two_requests_and_nothing_is_lost_or_reordered() {
    let (_fixture, connection, mut peer) = with_session(plain()).await;
    let began = Instant::now();
    // Two in flight when it is time, which the broker answers only later.
    let first = start(&connection, request(&connection, b"first")).await;
    let second = start(&connection, request(&connection, b"second")).await;
    let (one, two) = (peer.asked().await, peer.asked().await);
    assert_eq!((&*one.body, &*two.body), (&b"first"[..], &b"second"[..]));
    sleep(9700 * SECOND / 1000).await;
    let third = start(&connection, request(&connection, b"third")).await;
    let fourth = start(&connection, request(&connection, b"fourth")).await;
    {
        // Neither the handshake nor anything else, while something is in flight.
        let mut next = Box::pin(peer.next());
        assert!(is_pending(&mut next).await);
    }
    peer.answer(&one, &[0; 8]).await;
    peer.answer(&two, &[0; 8]).await;
    peer.offered(ErrorCode::NONE, &["PLAIN"]).await;
    let (asked, _) = peer.message().await;
    assert!(began.elapsed() < 11 * SECOND);
    {
        let mut next = Box::pin(peer.next());
        assert!(is_pending(&mut next).await, "something was written in the middle of the exchange");
    }
    peer.challenge(&asked, b"", 10 * SECOND).await;
    for expected in [&b"third"[..], b"fourth"] {
        let asked = peer.asked().await;
        assert_eq!(&*asked.body, expected);
        peer.answer(&asked, &[0; 8]).await;
    }
    for call in [first, second, third, fourth] {
        call.await.unwrap().unwrap();
    }
    assert!(!connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_steady_use_is_renewed_well_before_each_end() {
    let (_fixture, connection, mut peer) = with_session(plain()).await;
    let mut renewed = Instant::now();
    let mut renewals = Vec::new();
    for _ in 0..400 {
        let call = start(&connection, request(&connection, b"")).await;
        let mut asked = peer.asked().await;
        if asked.api == Api::SaslHandshake {
            // Put back: the helper wants to read it itself.
            let names = vec![StrBytes::from_static_str("PLAIN")];
            let mut body = BytesMut::new();
            let response = SaslHandshakeResponse::default().with_mechanisms(names);
            SaslHandshakeRequest::encode_response(&response, 1, &mut body).unwrap();
            peer.answer(&asked, &body).await;
            let (question, _) = peer.message().await;
            peer.challenge(&question, b"", 10 * SECOND).await;
            renewals.push(renewed.elapsed());
            renewed = Instant::now();
            asked = peer.asked().await;
        }
        assert_eq!(asked.api, Api::Heartbeat);
        peer.answer(&asked, &[0; 8]).await;
        call.await.unwrap().unwrap();
        sleep(SECOND / 10).await;
    }
    assert_eq!(renewals.len(), 4, "{renewals:?}");
    for renewal in &renewals {
        assert!((85 * SECOND / 10..=97 * SECOND / 10).contains(renewal), "{renewals:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_not_renewed_before_it_is_used_again_and_then_first_of_all() {
    let (_fixture, connection, mut peer) = with_session(plain()).await;
    sleep(60 * SECOND).await;
    {
        let mut next = Box::pin(peer.next());
        assert!(is_pending(&mut next).await);
    }
    let call = start(&connection, request(&connection, b"late")).await;
    peer.accept_plain(10 * SECOND).await;
    let asked = peer.asked().await;
    assert_eq!(&*asked.body, b"late");
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_renewed_is_replaced_and_what_was_not_written_is_known_not_to_be() {
    let (mut fixture, connection, mut peer) = with_session(plain()).await;
    sleep(10 * SECOND).await;
    let held = request(&connection, b"held");
    let progress = held.progress.clone();
    let call = start(&connection, held).await;
    peer.offered(ErrorCode::NONE, &["PLAIN"]).await;
    let (asked, _) = peer.message().await;
    peer.refuse(&asked, ErrorCode::SASL_AUTHENTICATION_FAILED, "not any more").await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_retriable() && reason(&error).contains("not any more"), "{error}");
    assert!(progress.is_queued() && !progress.is_written());
    assert!(connection.is_closed());
    peer.closed().await;
    // The new connection decides: here the credentials are good again.
    let (replacement, _peer) = connect(&mut fixture, async |mut peer: Peer| {
        peer.shake_hands().await;
        peer.accept_plain(10 * SECOND).await;
        peer
    })
    .await;
    assert!(!replacement.unwrap().is_closed());
}

/// As PLAIN, once `gate` opens; the first proof does not wait.
struct Slow {
    gate: Arc<Notify>,
    starts: AtomicUsize,
}

impl Mechanism for Slow {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn start<'a>(&'a self, _: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        Box::pin(async {
            if self.starts.fetch_add(1, Ordering::Relaxed) > 0 {
                self.gate.notified().await;
            }
            Ok(Box::new(Once) as Box<dyn Exchange>)
        })
    }
}

struct Once;

impl Exchange for Once {
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
        let message = plain::encode("alice", PASSWORD).unwrap().to_vec();
        Box::pin(async move { Ok(if challenge.is_none() { Step::Send(message) } else { Step::Done }) })
    }
}

#[tokio::test(start_paused = true)]
async fn while_credentials_are_fetched_others_are_served_until_the_session_ends() {
    let gate = Arc::new(Notify::new());
    let slow = Slow { gate: gate.clone(), starts: AtomicUsize::new(0) };
    let (_fixture, connection, mut peer) = with_session(Sasl::mechanism(slow)).await;
    sleep(96 * SECOND / 10).await;
    // Over-due, the provider is at it, and the session is still good.
    let call = start(&connection, request(&connection, b"during")).await;
    let asked = peer.asked().await;
    assert_eq!(&*asked.body, b"during");
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();
    sleep(SECOND).await;
    // Now it is not.
    let call = start(&connection, request(&connection, b"after")).await;
    {
        let mut next = Box::pin(peer.next());
        assert!(is_pending(&mut next).await);
    }
    gate.notify_one();
    peer.accept_plain(10 * SECOND).await;
    let asked = peer.asked().await;
    assert_eq!(&*asked.body, b"after");
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_be_had_for_now_are_asked_for_again_while_the_session_lasts() {
    let asks = Arc::new(AtomicUsize::new(0));
    let counted = asks.clone();
    let mut fixture = fixture(Sasl::oauth_bearer(move || {
        let ask = counted.fetch_add(1, Ordering::Relaxed);
        async move { if ask == 1 || ask == 2 { Err(Transient::new("503")) } else { Ok(Token::new("abc")) } }
    }));
    let accept = async |peer: &mut Peer| {
        peer.offered(ErrorCode::NONE, &["OAUTHBEARER"]).await;
        let (asked, _) = peer.message().await;
        peer.challenge(&asked, b"", 10 * SECOND).await;
    };
    let (connection, mut peer) = connect(&mut fixture, async |mut peer: Peer| {
        peer.shake_hands().await;
        accept(&mut peer).await;
        peer
    })
    .await;
    let connection = connection.unwrap();
    sleep(96 * SECOND / 10).await;
    // Over-due; the provider fails, and the session is still good.
    let call = start(&connection, request(&connection, b"during")).await;
    let asked = peer.asked().await;
    assert_eq!(&*asked.body, b"during");
    sleep(SECOND / 5).await;
    assert_eq!(asks.load(Ordering::Relaxed), 4, "the first, two that failed, and one that did not");
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();
    accept(&mut peer).await;
    let call = start(&connection, request(&connection, b"after")).await;
    let asked = peer.asked().await;
    assert_eq!(&*asked.body, b"after");
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn credentials_that_do_not_come_end_the_connection_in_time() {
    let slow = Slow { gate: Arc::new(Notify::new()), starts: AtomicUsize::new(0) };
    let (_fixture, connection, mut peer) = with_session(Sasl::mechanism(slow)).await;
    sleep(10 * SECOND).await;
    let began = Instant::now();
    let call = start(&connection, request(&connection, b"held")).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(reason(&error).contains("took too long"), "{error}");
    assert!((9 * SECOND..=12 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_muted_connection_is_renewed_when_the_broker_reads_again() {
    let (_fixture, connection, mut peer) = with_session(plain()).await;
    sleep(8 * SECOND).await;
    let throttled = start(&connection, request(&connection, b"")).await;
    let waiting = start(&connection, request(&connection, b"")).await;
    let (one, two) = (peer.asked().await, peer.asked().await);
    // Muted for five seconds, over the end of the session.
    peer.answer(&one, &[0, 0, 19, 136, 0, 0, 0, 0]).await;
    throttled.await.unwrap().unwrap();
    sleep(2 * SECOND).await;
    peer.answer(&two, &[0; 8]).await;
    waiting.await.unwrap().unwrap();
    let began = Instant::now();
    let mut call = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.call(request(&connection, b"next")).await })
    };
    assert!(is_pending(&mut call).await);
    peer.accept_plain(10 * SECOND).await;
    assert!((25 * SECOND / 10..=4 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    let asked = peer.asked().await;
    assert_eq!(&*asked.body, b"next");
    peer.answer(&asked, &[0; 8]).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_silent_when_asked_anew_loses_the_connection() {
    let (_fixture, connection, mut peer) = with_session(plain()).await;
    sleep(10 * SECOND).await;
    let began = Instant::now();
    let call = start(&connection, request(&connection, b"held")).await;
    assert_eq!(peer.asked().await.api, Api::SaslHandshake);
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(began.elapsed() <= 11 * SECOND, "{:?}", began.elapsed());
}
