//! No secret is in anything that the client tells, at the most talkative level. Alone in its process, because a subscriber
//! is the whole process's.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]
#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_broker::{ClientAuth, Cluster, OauthKeys, SaslMechanism, TestCa};
use kafka_client::Client;
use kafka_client::auth::{Sasl, Token};
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::MetadataRequest;
use kafka_client::tls::Tls;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// As in the other tests: good until 2100.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImlhdCI6MTU3NzgzNjgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.";
const PASSWORD: &str = "correct-horse-battery";
const WRONG: &str = "wrong-horse-battery";
/// {} {}, unsigned.
const BAD_TOKEN: &str = "e30.e30.";

/// Notes the text of everything, whoever says it.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0, "{}={value:?}", field.name());
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut Text(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_told_holds_a_secret_whether_it_is_accepted_or_refused() {
    let told = Everything::default();
    tracing::subscriber::set_global_default(told.clone()).unwrap();
    let mechanisms = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::OauthBearer];
    let builder = Cluster::builder().transport_memory().brokers(1).sasl(mechanisms);
    let builder = builder.user("alice", PASSWORD).oauth(OauthKeys::unsecured());
    // A key of our own as well, which TLS has in its hands at every connection.
    let ca = TestCa::new();
    let identity = ca.client_certificate("alice");
    let builder = builder.tls(&ca).client_auth(ClientAuth::Required);
    let tls = Tls::roots_pem(ca.ca_pem()).identity_pem(identity.certificate_pem(), identity.key_pem());
    let key = identity.key_pem().lines().nth(1).unwrap();
    let cluster = builder.session_lifetime(Duration::from_secs(2)).start().await.unwrap();
    let mut shown = String::new();
    for (sasl, is_right) in [
        (Sasl::plain("alice", PASSWORD), true),
        (Sasl::plain("alice", WRONG), false),
        (Sasl::scram_sha_256("alice", PASSWORD), true),
        (Sasl::scram_sha_256("alice", WRONG), false),
        (Sasl::oauth_bearer(Token::new(TOKEN)), true),
        (Sasl::oauth_bearer(Token::new(BAD_TOKEN)), false),
        (Sasl::oauth_bearer(async || Err::<Token, _>("no token today")), false),
    ] {
        write!(shown, "{sasl:?} {sasl:#?}").unwrap();
        let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector()).sasl(sasl);
        let builder = builder.tls(tls.clone());
        write!(shown, "{builder:?}").unwrap();
        let client = builder.build().unwrap();
        write!(shown, "{client:?} {:?}", client.config()).unwrap();
        for _ in 0..10 {
            let outcome = client.call(Route::Any, MetadataRequest::default()).await;
            assert_eq!(outcome.is_ok(), is_right, "{outcome:?}");
            if let Err(error) = outcome {
                write!(shown, "{error} {error:?}").unwrap();
            }
            // Over the end of sessions, so that they are renewed too.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let told = told.0.lock().unwrap();
    assert!(told.contains("re-authenticated") && told.contains("refused"), "the run was not told of: {told}");
    for secret in [PASSWORD, WRONG, TOKEN, BAD_TOKEN, key] {
        // As text, and as the bytes that a careless Debug would show.
        let bytes = format!("{:?}", secret.as_bytes());
        for form in [secret, bytes.trim_matches(['[', ']'])] {
            assert!(!told.contains(form), "told: {form}");
            assert!(!shown.contains(form), "shown: {form}");
        }
    }
}
