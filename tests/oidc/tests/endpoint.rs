//! What the client makes of token endpoints as they are: slow, out of order, wrong, or somebody else's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kafka_broker::{Cluster, OauthKeys, SaslMechanism, TestCa, TokenIssuer};
use kafka_client::auth::oidc::{Assertion, Oidc, OidcBuilder, OidcError, OidcErrorKind, SignedAssertion};
use kafka_client::auth::{Sasl, Secret, Token, TokenProvider, Transient};
use kafka_client::tls::Tls;
use kafka_client::{Client, ErrorKind};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wiremock::matchers::{body_string, body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const SECRET: &str = "s3cret-of-billing";

fn builder(server: &MockServer) -> OidcBuilder {
    Oidc::client_credentials(format!("{}/token", server.uri()), "billing", SECRET)
        .retry_backoff(Duration::from_millis(5))
        .retry_backoff_max(Duration::from_secs(5))
        .request_timeout(Duration::from_secs(2))
}

fn oidc(server: &MockServer) -> Oidc {
    builder(server).build().unwrap()
}

fn token(value: &str, expires_in: u32) -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({"access_token": value, "token_type": "Bearer", "expires_in": expires_in}))
}

async fn answers(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/token")).respond_with(answer).mount(&server).await;
    server
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

async fn got(oidc: &Oidc) -> String {
    oidc.token().await.unwrap().value.expose().to_owned()
}

/// The failure, which has no secret in it; and whether the connection is worth another try.
async fn failure(oidc: &Oidc) -> (OidcError, bool) {
    let error = oidc.token().await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    match error.downcast::<Transient>() {
        Ok(transient) => (transient.0.downcast_ref::<OidcError>().unwrap().clone(), true),
        Err(error) => (error.downcast_ref::<OidcError>().unwrap().clone(), false),
    }
}

#[tokio::test]
async fn the_request_is_a_form_with_id_and_secret_in_the_header() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/token"))
        // billing:s3cret-of-billing
        .and(header("authorization", "Basic YmlsbGluZzpzM2NyZXQtb2YtYmlsbGluZw=="))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .and(header("accept", "application/json"))
        .and(body_string("grant_type=client_credentials&scope=kafka%20read&audience=a%26b"))
        .respond_with(token("t1", 300))
        .expect(1)
        .mount(&server)
        .await;
    let oidc = builder(&server).scope("kafka read").parameter("audience", "a&b").extension("lkc", "1");
    let got: Token = oidc.build().unwrap().token().await.unwrap();
    assert_eq!(got.value.expose(), "t1");
    assert_eq!(got.extensions, [("lkc".to_owned(), "1".to_owned())]);
    let left = got.expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((290..=300).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn id_and_secret_go_into_the_body_where_that_is_asked_for() {
    let server = MockServer::start().await;
    Mock::given(body_string(format!(
        "grant_type=client_credentials&client_id=billing&client_secret={SECRET}"
    )))
    .respond_with(|request: &Request| {
        assert!(!request.headers.contains_key("authorization"));
        token("t1", 300)
    })
    .expect(1)
    .mount(&server)
    .await;
    assert_eq!(got(&builder(&server).secret_in_body().build().unwrap()).await, "t1");
}

#[tokio::test]
async fn an_assertion_is_made_anew_for_each_request() {
    let server = MockServer::start().await;
    let made = Arc::new(AtomicU32::new(0));
    let makes = made.clone();
    let assertion = Assertion::from_fn(move || {
        Ok(Secret::from(format!("assertion-{}", makes.fetch_add(1, Ordering::SeqCst) + 1)))
    });
    Mock::given(body_string_contains("assertion=assertion-1"))
        .respond_with(ResponseTemplate::new(503))
        .mount(&server)
        .await;
    Mock::given(body_string_contains(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=assertion-2",
    ))
    .respond_with(token("t2", 300))
    .mount(&server)
    .await;
    let url = format!("{}/token", server.uri());
    let oidc = Oidc::jwt_bearer(url, assertion).retry_backoff(Duration::from_millis(5)).build().unwrap();
    assert_eq!(got(&oidc).await, "t2");
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_assertion_that_cannot_be_made_is_told_and_nothing_is_sent() {
    let server = answers(token("t1", 300)).await;
    let assertion = SignedAssertion::with_pem_file("/nonexistent/key.pem").issuer("billing");
    let oidc = Oidc::client_assertion(format!("{}/token", server.uri()), assertion).build().unwrap();
    let (error, transient) = failure(&oidc).await;
    assert!(matches!(error.kind(), OidcErrorKind::Assertion(_)) && !transient);
    assert!(error.to_string().contains("/nonexistent/key.pem"), "{error}");
    assert_eq!(requests(&server).await, 0);
}

#[tokio::test]
async fn fifty_callers_cost_one_request() {
    let server = answers(token("t1", 300).set_delay(Duration::from_millis(200))).await;
    let oidc = oidc(&server);
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let oidc = oidc.clone();
            tokio::spawn(async move { got(&oidc).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "t1");
    }
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn a_slow_answer_is_given_up_and_asked_for_again() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(token("late", 300).set_delay(Duration::from_secs(30)))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(method("POST")).respond_with(token("t2", 300)).mount(&server).await;
    let begun = Instant::now();
    let oidc = builder(&server).request_timeout(Duration::from_millis(200)).build().unwrap();
    assert_eq!(got(&oidc).await, "t2");
    assert!(begun.elapsed() < Duration::from_secs(10));

    let server = answers(token("late", 300).set_delay(Duration::from_secs(30))).await;
    let impatient = builder(&server)
        .request_timeout(Duration::from_millis(100))
        .retry_backoff_max(Duration::from_millis(400));
    let (error, transient) = failure(&impatient.build().unwrap()).await;
    assert!(matches!(error.kind(), OidcErrorKind::TimedOut(_)) && transient, "{error}");
    assert!((2..=5).contains(&error.tries()), "{error}");
}

#[tokio::test]
async fn a_refusal_is_final_and_in_the_endpoints_words() {
    let body = json!({"error": "invalid_client", "error_description": format!("no client has {SECRET}")});
    let server = answers(ResponseTemplate::new(401).set_body_json(body)).await;
    let (error, transient) = failure(&oidc(&server)).await;
    assert!(!transient);
    assert_eq!((error.tries(), requests(&server).await), (1, 1));
    let OidcErrorKind::Refused { status: 401, error: Some(code), description: Some(words) } = error.kind()
    else {
        panic!("{error}")
    };
    assert_eq!((&**code, &**words), ("invalid_client", "no client has ***"));
}

#[tokio::test]
async fn an_endpoint_that_says_the_request_back_has_no_secret_told() {
    // The header, the form, and the secret where the text is cut off.
    let header = "Basic YmlsbGluZzpzM2NyZXQtb2YtYmlsbGluZw==";
    for said in [header.to_owned(), format!("{} {SECRET}", "x".repeat(290))] {
        let server = answers(ResponseTemplate::new(400).set_body_json(json!({"error": said}))).await;
        let (error, _) = failure(&oidc(&server)).await;
        let shown = error.to_string();
        assert!(
            shown.contains("***") && !shown.contains(&SECRET[..3]) && !shown.contains("YmlsbGluZ"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_answered_from_memory_for_a_while() {
    let server = answers(ResponseTemplate::new(400)).await;
    let oidc = oidc(&server);
    for _ in 0..20 {
        assert!(!failure(&oidc).await.1);
    }
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn an_endpoint_in_trouble_is_asked_again() {
    for status in [500, 502, 503, 429] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(status))
            .up_to_n_times(2)
            .mount(&server)
            .await;
        Mock::given(method("POST")).respond_with(token("t3", 300)).mount(&server).await;
        assert_eq!(got(&oidc(&server)).await, "t3");
        assert_eq!(requests(&server).await, 3, "{status}");
    }
}

#[tokio::test]
async fn an_endpoint_that_stays_in_trouble_is_given_up_in_time() {
    let server = answers(ResponseTemplate::new(500)).await;
    let oidc = builder(&server).retry_backoff_max(Duration::from_millis(200)).build().unwrap();
    let begun = Instant::now();
    let (error, transient) = failure(&oidc).await;
    assert!(matches!(error.kind(), OidcErrorKind::Unavailable { status: 500, .. }) && transient, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(usize::try_from(error.tries()).unwrap(), requests(&server).await);
    assert!((2..=8).contains(&error.tries()), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_no_token_is_final() {
    for body in ["", "not json", "{\"access_token\":", "[1]", "{}", "{\"access_token\":\"\"}"] {
        let server = answers(ResponseTemplate::new(200).set_body_string(body)).await;
        let (error, transient) = failure(&oidc(&server)).await;
        assert!(matches!(error.kind(), OidcErrorKind::Malformed(_)) && !transient, "{body}: {error}");
        assert_eq!(requests(&server).await, 1, "{body}");
    }
}

#[tokio::test]
async fn without_expires_in_the_token_itself_tells_or_the_user_does() {
    let issuer = TokenIssuer::new().unwrap();
    let jwt = issuer.token("billing", Duration::from_secs(120)).unwrap();
    let server = answers(ResponseTemplate::new(200).set_body_json(json!({"access_token": jwt}))).await;
    let left = oidc(&server).token().await.unwrap().expires.unwrap();
    let left = left.duration_since(SystemTime::now()).unwrap();
    assert!((110..=120).contains(&left.as_secs()), "{left:?}");

    let server = answers(ResponseTemplate::new(200).set_body_json(json!({"access_token": "opaque"}))).await;
    let (error, transient) = failure(&oidc(&server)).await;
    assert!(matches!(error.kind(), OidcErrorKind::NoLifetime) && !transient, "{error}");
    let assumed = builder(&server).assumed_lifetime(Duration::from_secs(60)).build().unwrap();
    assert_eq!(got(&assumed).await, "opaque");
}

#[tokio::test]
async fn a_token_that_is_expired_at_once_is_asked_for_three_times() {
    let server = answers(token("t1", 0)).await;
    let (error, transient) = failure(&oidc(&server)).await;
    assert!(matches!(error.kind(), OidcErrorKind::Expired) && transient, "{error}");
    assert_eq!((error.tries(), requests(&server).await), (3, 3));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let server = answers(ResponseTemplate::new(200).set_body_bytes(vec![b' '; 50 << 20])).await;
    let (error, transient) = failure(&oidc(&server)).await;
    assert!(matches!(error.kind(), OidcErrorKind::TooLarge(65_536)) && !transient, "{error}");
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let elsewhere = answers(token("stolen", 300)).await;
    for status in [301, 302, 307, 308] {
        let location = format!("{}/token?{SECRET}", elsewhere.uri());
        let server = answers(ResponseTemplate::new(status).insert_header("location", &*location)).await;
        let (error, transient) = failure(&oidc(&server)).await;
        assert!(matches!(error.kind(), OidcErrorKind::Redirected { .. }) && !transient, "{error}");
        assert!(error.to_string().contains(&elsewhere.uri()), "{error}");
    }
    assert_eq!(requests(&elsewhere).await, 0);
}

#[tokio::test]
async fn a_token_is_replaced_in_time_and_a_failed_refresh_keeps_it() {
    let server = MockServer::start().await;
    let answered = Arc::new(AtomicU32::new(0));
    let count = answered.clone();
    // Good for 5 s: refreshed at 4 s, where the endpoint is in trouble, and once more a second later.
    Mock::given(method("POST"))
        .respond_with(move |_: &Request| match count.fetch_add(1, Ordering::SeqCst) {
            0 => token("t1", 5),
            1 => ResponseTemplate::new(400),
            _ => token("t3", 300),
        })
        .mount(&server)
        .await;
    let oidc = oidc(&server);
    let begun = Instant::now();
    assert_eq!(got(&oidc).await, "t1");
    let mut seen_after_failure = false;
    while answered.load(Ordering::SeqCst) < 3 {
        let refreshing = answered.load(Ordering::SeqCst) == 2;
        let before = Instant::now();
        let now = oidc.token().await;
        if begun.elapsed() < Duration::from_millis(4_900) {
            assert_eq!(now.unwrap().value.expose(), "t1");
            assert!(before.elapsed() < Duration::from_millis(500), "a caller waited");
            seen_after_failure |= refreshing;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no second refresh");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(seen_after_failure);
    let deadline = Instant::now() + Duration::from_secs(10);
    while oidc.token().await.map_or(true, |token| token.value.expose() != "t3") {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_who_speaks_http_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let build = || {
        Oidc::client_credentials(format!("http://{address}/token"), "billing", SECRET)
            .retry_backoff(Duration::from_millis(5))
            .retry_backoff_max(Duration::from_millis(100))
            .build()
            .unwrap()
    };
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await.unwrap();
    });
    let (error, transient) = failure(&build()).await;
    assert!(matches!(error.kind(), OidcErrorKind::Malformed(_)) && !transient, "{error}");
    server.await.unwrap();

    let (error, transient) = failure(&build()).await;
    assert!(matches!(error.kind(), OidcErrorKind::Unreachable(_)) && transient, "{error}");
    assert!(error.tries() > 1 && error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"access_token\":",
            "",
            "HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"t3\",\"expires_in\":300}",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let oidc = Oidc::client_credentials(url, "billing", SECRET).retry_backoff(Duration::from_millis(5));
    assert_eq!(got(&oidc.build().unwrap()).await, "t3");
}

/// An endpoint behind TLS that answers every request with this token.
async fn tls_endpoint(identity: &kafka_broker::Identity) -> String {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::{TlsAcceptor, rustls};
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(identity.certificate_pem().as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let body = r#"{"access_token":"t1","expires_in":300}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}/token")
}

#[tokio::test]
async fn an_endpoint_behind_tls_has_to_prove_who_it_is() {
    let ca = TestCa::new();
    let url = tls_endpoint(&ca.server_certificate(["localhost"])).await;
    let build = |tls| Oidc::client_credentials(&*url, "billing", SECRET).tls(tls).build().unwrap();
    assert_eq!(got(&build(Tls::roots_pem(ca.ca_pem()))).await, "t1");
    let (error, transient) = failure(&build(Tls::roots_pem(TestCa::new().ca_pem()))).await;
    let OidcErrorKind::Unreachable(cause) = error.kind() else { panic!("{error}") };
    assert!(matches!(cause.kind(), ErrorKind::Tls { .. }) && !transient, "{error}");
    assert_eq!(error.tries(), 1);

    let elsewhere = tls_endpoint(&ca.server_certificate(["login.example"])).await;
    let oidc = Oidc::client_credentials(elsewhere, "billing", SECRET).tls(Tls::roots_pem(ca.ca_pem()));
    let (error, transient) = failure(&oidc.build().unwrap()).await;
    assert!(error.to_string().contains("login.example") && !transient, "{error}");
}

#[tokio::test]
async fn a_client_signs_in_to_brokers_with_the_tokens() {
    let issuer = TokenIssuer::new().unwrap();
    let server = answers(token(&issuer.token("billing", Duration::from_secs(300)).unwrap(), 300)).await;
    let cluster = Cluster::builder()
        .sasl([SaslMechanism::OauthBearer])
        .oauth(OauthKeys::jwks(issuer.jwks()))
        .start()
        .await
        .unwrap();
    let sasl = Sasl::oauth_bearer(oidc(&server));
    let client = Client::builder(cluster.bootstrap()).sasl(sasl).connect().await.unwrap();
    assert_eq!(client.metadata().brokers().len(), 1);
    assert_eq!(requests(&server).await, 1);

    let refused = answers(ResponseTemplate::new(401)).await;
    let sasl = Sasl::oauth_bearer(oidc(&refused));
    let error = Client::builder(cluster.bootstrap()).sasl(sasl).connect().await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("401"), "{error}");
    assert_eq!(requests(&refused).await, 1);
}

#[tokio::test]
async fn settings_are_read_under_the_names_of_java_and_librdkafka() {
    let issuer = TokenIssuer::new().unwrap();
    let signed = answers(token(&issuer.token("billing", Duration::from_secs(300)).unwrap(), 300)).await;
    let cluster = Cluster::builder()
        .sasl([SaslMechanism::OauthBearer])
        .oauth(OauthKeys::jwks(issuer.jwks()))
        .start()
        .await
        .unwrap();
    let common = format!(
        "bootstrap.servers={}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.oauthbearer.token.endpoint.url={}/token\n",
        cluster.bootstrap(),
        signed.uri()
    );
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required";
    for (settings, body) in [
        (
            format!(
                "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.client.credentials.client.id=billing\n\
                 sasl.oauthbearer.client.credentials.client.secret={SECRET}\nsasl.oauthbearer.scope=kafka"
            ),
            "grant_type=client_credentials&scope=kafka",
        ),
        (
            format!(
                "sasl.mechanism=OAUTHBEARER\nsasl.jaas.config={module} clientId=\"billing\" \
                 clientSecret=\"{SECRET}\" scope=\"kafka\" extension_lkc=\"1\";"
            ),
            "grant_type=client_credentials&scope=kafka",
        ),
        (
            format!(
                "sasl.mechanisms=OAUTHBEARER\nsasl.oauthbearer.method=oidc\nsasl.oauthbearer.client.id=billing\n\
                 sasl.oauthbearer.client.secret={SECRET}\nsasl.oauthbearer.extensions=lkc=1"
            ),
            "grant_type=client_credentials",
        ),
    ] {
        let (builder, report) = Client::from_properties(&format!("{common}{settings}").parse().unwrap());
        report.check().unwrap();
        builder.connect().await.unwrap();
        let asked = signed.received_requests().await.unwrap().pop().unwrap();
        assert_eq!(std::str::from_utf8(&asked.body).unwrap(), body, "{settings}");
        assert!(asked.headers["authorization"].to_str().unwrap().starts_with("Basic "));
    }
}
