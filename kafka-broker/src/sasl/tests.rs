//! Clients that authenticate over the wire: well, badly, again, and not at all.

use std::time::Duration;

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{
    ApiVersionsRequest, MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest,
};
use kafka_wire::sasl::scram::{
    ClientFinal, ClientFirst, ScramHash, ServerFinal, ServerFirst, salted_password,
};
use kafka_wire::sasl::{oauthbearer, plain};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::Session;
use crate::builder::ClusterBuilder;
use crate::listener::{Listener, SecurityProtocol};
use crate::wire_test::{Wire, memory_cluster};
use crate::{Cluster, ListenerSpec, OauthKeys, SaslMechanism, TokenIssuer};

const EVERY: [SaslMechanism; 4] = [
    SaslMechanism::Plain,
    SaslMechanism::ScramSha256,
    SaslMechanism::ScramSha512,
    SaslMechanism::OauthBearer,
];

fn secured() -> ClusterBuilder {
    Cluster::builder().transport_memory().sasl(EVERY).user("alice", "secret").user("a=b,c", "other")
}

async fn handshake(wire: &mut Wire, mechanism: &str) -> ErrorCode {
    let asked = SaslHandshakeRequest::default().with_mechanism(mechanism.to_owned().into());
    let answer = wire.call(1, asked).await;
    let names: Vec<String> = answer.mechanisms.iter().map(ToString::to_string).collect();
    if answer.error_code != ErrorCode::ILLEGAL_SASL_STATE.0 {
        assert_eq!(names, EVERY.map(SaslMechanism::name));
    }
    ErrorCode(answer.error_code)
}

async fn token(wire: &mut Wire, bytes: &[u8]) -> SaslAuthenticateResponse {
    wire.call(2, SaslAuthenticateRequest::default().with_auth_bytes(bytes.to_vec().into())).await
}

async fn by_plain(wire: &mut Wire, message: &[u8]) -> SaslAuthenticateResponse {
    assert!(handshake(wire, "PLAIN").await.is_ok());
    token(wire, message).await
}

async fn by_scram(wire: &mut Wire, hash: ScramHash, user: &str, password: &str) -> SaslAuthenticateResponse {
    assert!(handshake(wire, hash.mechanism()).await.is_ok());
    let first = ClientFirst::new(user, "abcdefghijklmnopqrstuvwx", &[]).unwrap();
    let answer = token(wire, &first.to_bytes()).await;
    assert!(ErrorCode(answer.error_code).is_ok(), "the user is not the first message's concern");
    let server = ServerFirst::parse(&answer.auth_bytes, &first).unwrap();
    let salted = salted_password(hash, password, &server.salt, server.iterations);
    let (last, signature) = ClientFinal::prove(hash, &salted, &first, &server);
    let answer = token(wire, &last.to_bytes()).await;
    if ErrorCode(answer.error_code).is_ok() {
        ServerFinal::parse(&answer.auth_bytes).unwrap().verify(&signature).unwrap();
    }
    answer
}

fn refusal(answer: &SaslAuthenticateResponse) -> (ErrorCode, &str) {
    (ErrorCode(answer.error_code), answer.error_message.as_deref().unwrap_or_default())
}

async fn is_served(wire: &mut Wire) -> bool {
    wire.call(1, MetadataRequest::default()).await.brokers.len() == 1
}

fn principal_of_last(cluster: &Cluster) -> String {
    cluster.requests().last().unwrap().principal.to_string()
}

#[tokio::test]
async fn a_client_that_tries_sasl_where_there_is_none_is_told_and_can_go_on_without() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    assert_eq!(handshake(&mut wire, "PLAIN").await, ErrorCode::ILLEGAL_SASL_STATE);
    let answer = token(&mut wire, b"").await;
    assert_eq!(refusal(&answer), (ErrorCode::ILLEGAL_SASL_STATE, "this listener has no SASL"));
    assert!(is_served(&mut wire).await);
}

#[tokio::test(start_paused = true)]
async fn every_mechanism_lets_the_right_ones_in() {
    let issuer = TokenIssuer::new().unwrap();
    // Issued first: the cluster's clock stands from here on, that of the token's issuer does not.
    let bearer = issuer.token("bob", Duration::from_secs(600)).unwrap();
    let cluster = secured().oauth(OauthKeys::jwks(issuer.jwks())).start().await.unwrap();
    let mut wire = Wire::to(&cluster, 1);
    assert!(wire.call(3, versions()).await.error_code == 0);
    let answer = by_plain(&mut wire, &plain::encode("alice", "secret").unwrap()).await;
    assert_eq!((answer.error_code, answer.session_lifetime_ms, answer.auth_bytes.len()), (0, 0, 0));
    assert!(is_served(&mut wire).await);
    assert_eq!(principal_of_last(&cluster), "User:alice");
    for hash in [ScramHash::Sha256, ScramHash::Sha512] {
        for (user, password) in [("alice", "secret"), ("a=b,c", "other")] {
            let mut wire = Wire::to(&cluster, 1);
            let answer = by_scram(&mut wire, hash, user, password).await;
            assert!(ErrorCode(answer.error_code).is_ok(), "{answer:?}");
            assert!(is_served(&mut wire).await);
            assert_eq!(principal_of_last(&cluster), format!("User:{user}"));
        }
    }
    let mut wire = Wire::to(&cluster, 1);
    handshake(&mut wire, "OAUTHBEARER").await;
    let answer = token(&mut wire, &oauthbearer::encode(&bearer, &[("trace", "x")]).unwrap()).await;
    assert!(ErrorCode(answer.error_code).is_ok(), "{answer:?}");
    let lifetime = answer.session_lifetime_ms;
    assert!((570_000..=600_000).contains(&lifetime), "{lifetime} is not as long as the token's");
    assert!(is_served(&mut wire).await);
    assert_eq!(principal_of_last(&cluster), "User:bob");
}

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name("test".into())
        .with_client_software_version("1".into())
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_refused_late_in_kafkas_words_and_the_connection_ends() {
    let issuer = TokenIssuer::new().unwrap();
    let cluster = secured().oauth(OauthKeys::jwks(issuer.jwks())).start().await.unwrap();
    let other_user =
        "Authentication failed: Client requested an authorization id that is different from username";
    let wrong = "Authentication failed: Invalid username or password";
    for (message, expected) in [
        (&b"\0alice\0Secret"[..], wrong),
        (b"\0nobody\0secret", wrong),
        (b"\0\xff\0secret", wrong),
        (b"bob\0alice\0secret", other_user),
        (b"\0\0secret", "Authentication failed: username not specified"),
        (b"\0alice\0", "Authentication failed: password not specified"),
        (b"alice", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
        (b"", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
        (b"\0alice\0secret\0more\0and\0more", "Invalid SASL/PLAIN response: expected 3 tokens, got 4"),
    ] {
        let mut wire = Wire::to(&cluster, 1);
        let started = Instant::now();
        let answer = by_plain(&mut wire, message).await;
        assert_eq!(refusal(&answer), (ErrorCode::SASL_AUTHENTICATION_FAILED, expected));
        assert_eq!(started.elapsed(), Duration::from_millis(100), "the delay of failures");
        wire.assert_closed().await;
    }
    let invalid =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism ";
    for (user, password) in [("alice", "Secret"), ("nobody", "secret")] {
        let mut wire = Wire::to(&cluster, 1);
        let answer = by_scram(&mut wire, ScramHash::Sha512, user, password).await;
        let expected = format!("{invalid}SCRAM-SHA-512");
        assert_eq!(refusal(&answer), (ErrorCode::SASL_AUTHENTICATION_FAILED, &*expected));
        wire.assert_closed().await;
    }
    for message in [&b"n,,n=alice"[..], b"p=tls-unique,,n=alice,r=abcdefghijkl", b"n,,n=a=b,r=x", b"\xff"] {
        let mut wire = Wire::to(&cluster, 1);
        handshake(&mut wire, "SCRAM-SHA-256").await;
        let answer = token(&mut wire, message).await;
        let expected = format!("{invalid}SCRAM-SHA-256");
        assert_eq!(refusal(&answer), (ErrorCode::SASL_AUTHENTICATION_FAILED, &*expected));
        wire.assert_closed().await;
    }
    // A token that is refused gets a challenge, and its acknowledgement the error.
    let other = TokenIssuer::new().unwrap().token("alice", Duration::from_secs(60)).unwrap();
    let mut wire = Wire::to(&cluster, 1);
    handshake(&mut wire, "OAUTHBEARER").await;
    let answer = token(&mut wire, &oauthbearer::encode(&other, &[]).unwrap()).await;
    assert_eq!(oauthbearer::Refusal::parse(&answer.auth_bytes).unwrap().status, "invalid_token");
    let answer = token(&mut wire, oauthbearer::GIVE_UP).await;
    assert_eq!(refusal(&answer), (ErrorCode::SASL_AUTHENTICATION_FAILED, "{\"status\":\"invalid_token\"}"));
    wire.assert_closed().await;
}

// CVE-2024-56128: Kafka took any nonce that ended like its own.
#[tokio::test(start_paused = true)]
async fn the_last_nonce_must_be_the_brokers() {
    let cluster = secured().start().await.unwrap();
    for change in [
        |nonce: &str| format!("x{nonce}"),
        |nonce: &str| format!("{nonce}x"),
        |nonce: &str| nonce[..40].into(),
    ] {
        let mut wire = Wire::to(&cluster, 1);
        handshake(&mut wire, "SCRAM-SHA-256").await;
        let first = ClientFirst::new("alice", "abcdefghijklmnopqrstuvwx", &[]).unwrap();
        let answer = token(&mut wire, &first.to_bytes()).await;
        let server = ServerFirst::parse(&answer.auth_bytes, &first).unwrap();
        let salted = salted_password(ScramHash::Sha256, "secret", &server.salt, server.iterations);
        let (last, _) = ClientFinal::prove(ScramHash::Sha256, &salted, &first, &server);
        let text = String::from_utf8(last.to_bytes()).unwrap().replace(&server.nonce, &change(&server.nonce));
        let answer = token(&mut wire, text.as_bytes()).await;
        assert_eq!(ErrorCode(answer.error_code), ErrorCode::SASL_AUTHENTICATION_FAILED);
        wire.assert_closed().await;
    }
}

#[test]
fn a_mechanism_that_a_client_makes_up_forges_no_line_of_the_log() {
    let listener = Listener {
        name: "SASL".into(),
        protocol: SecurityProtocol::SaslPlaintext,
        tls: None,
        mechanisms: EVERY.to_vec(),
        session_ms: 0,
    };
    let session = Session::new(Some(&listener));
    let name = format!("\nWARN \u{1b}[31m{}", "x".repeat(1000));
    let (code, _) = session.handshake(&name, 1, Instant::now());
    let why = session.failure().unwrap();
    assert_eq!(code, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    assert!(why.len() < 150 && !why.contains(char::is_control), "{why:?}");
}

#[tokio::test(start_paused = true)]
async fn before_authentication_nothing_else_is_served() {
    let cluster = secured().start().await.unwrap();
    // A mechanism that is not enabled: told what is, then closed.
    let mut wire = Wire::to(&cluster, 1);
    assert_eq!(handshake(&mut wire, "GSSAPI").await, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    wire.assert_closed().await;
    // A request that needs a principal; a token before its mechanism; a request between handshake and token.
    let mut wire = Wire::to(&cluster, 1);
    wire.send(1, &MetadataRequest::default()).await;
    wire.assert_closed().await;
    let mut wire = Wire::to(&cluster, 1);
    wire.send(2, &SaslAuthenticateRequest::default()).await;
    wire.assert_closed().await;
    let mut wire = Wire::to(&cluster, 1);
    handshake(&mut wire, "PLAIN").await;
    wire.send(3, &versions()).await;
    wire.assert_closed().await;
    // Larger frames than Kafka reads.
    let mut wire = Wire::to(&cluster, 1);
    wire.stream.write_i32(512 * 1024 + 1).await.unwrap();
    wire.assert_closed().await;
    // Nothing, or questions about versions for ever.
    let mut wire = Wire::to(&cluster, 1);
    let started = Instant::now();
    wire.assert_closed().await;
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    let mut wire = Wire::to(&cluster, 1);
    let started = Instant::now();
    loop {
        wire.send(3, &versions()).await;
        if wire.receive_frame().await.is_none() {
            break;
        }
        sleep(Duration::from_millis(400)).await;
        if started.elapsed() > Duration::from_secs(9) {
            wire.assert_closed().await;
            break;
        }
    }
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(cluster.snapshot().brokers[0].panics, 0);
    let quick = secured().config("connection.authentication.timeout.ms", "500").start().await.unwrap();
    let started = Instant::now();
    Wire::to(&quick, 1).assert_closed().await;
    assert_eq!(started.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn clients_from_before_sasl_authenticate_send_bare_tokens() {
    let cluster = secured().start().await.unwrap();
    for (password, is_right) in [("secret", true), ("wrong", false)] {
        let mut wire = Wire::to(&cluster, 1);
        let asked = SaslHandshakeRequest::default().with_mechanism("PLAIN".into());
        assert_eq!(wire.call(0, asked).await.error_code, 0);
        let message = plain::encode("alice", password).unwrap();
        wire.stream.write_i32(message.len() as i32).await.unwrap();
        wire.stream.write_all(&message).await.unwrap();
        if is_right {
            assert_eq!(wire.stream.read_i32().await.unwrap(), 0, "an empty answer");
            assert!(is_served(&mut wire).await);
        } else {
            wire.assert_closed().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_unless_the_client_authenticates_again() {
    let cluster = secured().session_lifetime(Duration::from_secs(10)).start().await.unwrap();
    let alice = plain::encode("alice", "secret").unwrap();
    let mut wire = Wire::to(&cluster, 1);
    assert_eq!(by_plain(&mut wire, &alice).await.session_lifetime_ms, 10_000);
    for _ in 0..3 {
        sleep(Duration::from_secs(9)).await;
        assert!(is_served(&mut wire).await);
        assert_eq!(by_plain(&mut wire, &alice).await.session_lifetime_ms, 10_000);
    }
    // Twice in a second is too often: told, and served as before.
    assert!(is_served(&mut wire).await);
    assert_eq!(handshake(&mut wire, "PLAIN").await, ErrorCode::ILLEGAL_SASL_STATE);
    let answer = token(&mut wire, &alice).await;
    let expected = "SaslAuthenticate request received after successful authentication";
    assert_eq!(refusal(&answer), (ErrorCode::ILLEGAL_SASL_STATE, expected));
    sleep(Duration::from_secs(10)).await;
    assert!(is_served(&mut wire).await, "to the last moment");
    sleep(Duration::from_millis(1)).await;
    wire.send(1, &MetadataRequest::default()).await;
    wire.assert_closed().await;
    // Even after its end a session can be renewed, as long as nothing else was asked.
    let mut wire = Wire::to(&cluster, 1);
    by_plain(&mut wire, &alice).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(by_plain(&mut wire, &alice).await.session_lifetime_ms, 10_000);
    assert!(is_served(&mut wire).await);
}

#[tokio::test(start_paused = true)]
async fn who_authenticates_again_is_the_same_by_the_same_mechanism() {
    let cluster = secured().user("bob", "b").session_lifetime(Duration::from_secs(10)).start().await.unwrap();
    let alice = plain::encode("alice", "secret").unwrap();
    let begin = async || {
        let mut wire = Wire::to(&cluster, 1);
        by_plain(&mut wire, &alice).await;
        sleep(Duration::from_secs(5)).await;
        wire
    };
    let mut wire = begin().await;
    let answer = by_plain(&mut wire, &plain::encode("bob", "b").unwrap()).await;
    let expected = "Cannot change principals during re-authentication from User.alice: User.bob";
    assert_eq!(refusal(&answer), (ErrorCode::SASL_AUTHENTICATION_FAILED, expected));
    wire.assert_closed().await;
    let mut wire = begin().await;
    let answer = by_plain(&mut wire, b"\0alice\0wrong").await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::SASL_AUTHENTICATION_FAILED);
    wire.assert_closed().await;
    let mut wire = begin().await;
    assert!(
        handshake(&mut wire, "SCRAM-SHA-256").await.is_ok(),
        "Kafka says so, and closes at the next step"
    );
    wire.send(2, &SaslAuthenticateRequest::default()).await;
    wire.assert_closed().await;
    // Without Kafka's headers as well.
    for (mechanism, message, is_right) in
        [("PLAIN", &alice[..], true), ("SCRAM-SHA-256", b"n,,n=alice,r=abcdefghijklmnopqrstuvwx", false)]
    {
        let mut wire = begin().await;
        let asked = SaslHandshakeRequest::default().with_mechanism(mechanism.to_owned().into());
        assert_eq!(wire.call(0, asked).await.error_code, 0);
        wire.stream.write_i32(message.len() as i32).await.unwrap();
        wire.stream.write_all(message).await.unwrap();
        if is_right {
            assert_eq!(wire.stream.read_i32().await.unwrap(), 0, "an empty answer");
            assert!(is_served(&mut wire).await);
        } else {
            wire.assert_closed().await;
        }
    }
    let mut wire = begin().await;
    handshake(&mut wire, "PLAIN").await;
    wire.send(1, &MetadataRequest::default()).await;
    wire.assert_closed().await;
    // Without an end there is nothing to renew.
    let cluster = secured().start().await.unwrap();
    let mut wire = Wire::to(&cluster, 1);
    by_plain(&mut wire, &alice).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(handshake(&mut wire, "PLAIN").await, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(is_served(&mut wire).await);
}

#[tokio::test]
async fn listeners_have_mechanisms_of_their_own() {
    let cluster = Cluster::builder()
        .transport_memory()
        .user("alice", "secret")
        .listener(ListenerSpec::plaintext("OPEN"))
        .listener(ListenerSpec::sasl_plaintext("SCRAM").sasl([SaslMechanism::ScramSha256]))
        .start()
        .await
        .unwrap();
    assert!(is_served(&mut Wire::to_listener(&cluster, 1, "OPEN")).await);
    assert_eq!(principal_of_last(&cluster), "User:ANONYMOUS");
    let mut wire = Wire::to_listener(&cluster, 1, "SCRAM");
    let answer = wire.call(1, SaslHandshakeRequest::default().with_mechanism("PLAIN".into())).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    let told: Vec<&str> = answer.mechanisms.iter().map(|name| name.as_str()).collect();
    assert_eq!(told, ["SCRAM-SHA-256"]);
}

#[tokio::test]
async fn what_cannot_be_secured_is_refused_at_the_start() {
    let builder = || Cluster::builder().transport_memory();
    for (builder, expected) in [
        (builder().listener(ListenerSpec::ssl("A")), "listener = A: give the certificate"),
        (
            builder().listener(ListenerSpec::plaintext("A")).listener(ListenerSpec::plaintext("A")),
            "listener = A: give each",
        ),
        (builder().sasl([]), "listener = SASL_PLAINTEXT: name the mechanisms"),
        (builder().sasl(EVERY).user("alice", ""), "user = alice: give a name and a password"),
        (builder().oauth(OauthKeys::jwks("{}")), "oauth = : a JSON web key set"),
        (builder().config("sasl.enabled.mechanisms", "GSSAPI"), "sasl.enabled.mechanisms = GSSAPI: "),
    ] {
        let refused = builder.start().await.unwrap_err().to_string();
        assert!(refused.starts_with(expected), "{refused}");
    }
    let shown = format!("{:?}", secured());
    assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
}
