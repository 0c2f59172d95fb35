//! Who the client is, proved to bundled brokers on a virtual clock.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]

use std::time::Duration;

use kafka_broker::{Cluster, ClusterBuilder, OauthKeys, SaslMechanism};
use kafka_client::auth::{Sasl, Secret, Token};
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::MetadataRequest;
use kafka_client::{Api, Client, ErrorCode, ErrorKind};
use tokio::time::{Instant, sleep, timeout};

/// Unsigned: {"alg":"none"} {"sub":"alice","iat":1577836800,"exp":4102444800}, which is good until 2100.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImlhdCI6MTU3NzgzNjgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.";

const SECOND: Duration = Duration::from_secs(1);

fn cluster() -> ClusterBuilder {
    Cluster::builder()
        .transport_memory()
        .sasl([
            SaslMechanism::Plain,
            SaslMechanism::ScramSha256,
            SaslMechanism::ScramSha512,
            SaslMechanism::OauthBearer,
        ])
        .user("alice", "pencil")
        .user("a=b,c", "crayon")
        .oauth(OauthKeys::unsecured())
}

fn client(cluster: &Cluster, sasl: Sasl) -> Client {
    Client::builder(cluster.bootstrap()).connector(cluster.connector()).sasl(sasl).build().unwrap()
}

async fn ask(client: &Client) -> kafka_client::Result<()> {
    client.call(Route::Any, MetadataRequest::default()).await.map(drop)
}

fn count(cluster: &Cluster, api: Api) -> usize {
    cluster.requests().iter().filter(|request| request.api == api).count()
}

#[tokio::test(start_paused = true)]
async fn every_mechanism_is_taken_by_the_bundled_broker() {
    let cluster = cluster().start().await.unwrap();
    for sasl in [
        Sasl::plain("alice", "pencil"),
        Sasl::scram_sha_256("alice", "pencil"),
        Sasl::scram_sha_512("alice", Secret::from("pencil")),
        Sasl::plain("a=b,c", "crayon"),
        Sasl::scram_sha_256("a=b,c", "crayon"),
        Sasl::oauth_bearer(Token::new(TOKEN)),
    ] {
        let name = sasl.name().to_owned();
        ask(&client(&cluster, sasl)).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_final_at_once_and_asked_of_a_broker_once() {
    for sasl in [
        Sasl::plain("alice", "crayon"),
        Sasl::scram_sha_256("alice", "crayon"),
        Sasl::scram_sha_512("bob", "pencil"),
        Sasl::oauth_bearer(Token::new("e30.e30.")),
    ] {
        let cluster = cluster().start().await.unwrap();
        let name = sasl.name().to_owned();
        let client = client(&cluster, sasl);
        let began = Instant::now();
        for _ in 0..10 {
            let error = ask(&client).await.unwrap_err();
            assert!(error.is_fatal() && !error.is_retriable(), "{name}: {error:?}");
            let ErrorKind::Authentication { mechanism, offered, message, .. } = error.kind() else {
                panic!("{name}: {error:?}")
            };
            assert_eq!((mechanism.as_str(), offered.len()), (name.as_str(), 4));
            assert!(!message.is_empty());
        }
        assert!(began.elapsed() < SECOND, "{name}: {:?}", began.elapsed());
        assert_eq!(count(&cluster, Api::SaslHandshake), 1, "{name}");
        // Whatever goes on in the background meanwhile: at 1, 6, 31 and 156 seconds at the earliest.
        sleep(200 * SECOND).await;
        assert!(count(&cluster, Api::SaslHandshake) <= 5, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_the_broker_lacks_is_told_with_those_it_has() {
    let builder =
        Cluster::builder().transport_memory().sasl([SaslMechanism::ScramSha512]).user("alice", "pencil");
    let cluster = builder.start().await.unwrap();
    let error = ask(&client(&cluster, Sasl::plain("alice", "pencil"))).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM));
    assert!(error.to_string().ends_with("it offers SCRAM-SHA-512"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_sasl_is_named() {
    let cluster = Cluster::builder().transport_memory().start().await.unwrap();
    let error = ask(&client(&cluster, Sasl::plain("alice", "pencil"))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Authentication { .. }), "{error:?}");
    assert!(error.to_string().contains("does no SASL"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn sessions_that_end_are_renewed_and_no_request_notices() {
    for sasl in [Sasl::scram_sha_256("alice", "pencil"), Sasl::oauth_bearer(Token::new(TOKEN))] {
        let cluster = cluster().brokers(1).session_lifetime(2 * SECOND).start().await.unwrap();
        let client = client(&cluster, sasl);
        ask(&client).await.unwrap();
        let connects = client.metrics().connects;
        let before = count(&cluster, Api::SaslHandshake);
        for _ in 0..600 {
            timeout(SECOND, ask(&client)).await.unwrap().unwrap();
            sleep(SECOND / 10).await;
        }
        let metrics = client.metrics();
        assert_eq!((metrics.connects, metrics.failed_connects), (connects, 0));
        let renewals = count(&cluster, Api::SaslHandshake) - before;
        assert!((30..=40).contains(&renewals), "{renewals} in a minute");
    }
}
