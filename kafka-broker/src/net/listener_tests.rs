//! Several listeners of one cluster, with TLS and without: addresses, certificates, clients that speak something else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{FetchPartition, TopicRef};
use kafka_wire::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest,
};
use rustls::crypto::ring;
use rustls::{AlertDescription, ClientConfig, ProtocolVersion, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fault::on;
use crate::tls::chain;
use crate::wire_test::{Wire, batch_of, fetch_request, named};
use crate::{CertificateSpec, ClientAuth, Cluster, Identity, ListenerSpec, SaslMechanism, ServerTls, TestCa};

/// What a client trusts and shows.
fn client(ca: &TestCa, identity: Option<&Identity>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(chain(ca.ca_pem()).unwrap().remove(0)).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain().unwrap(), identity.key().unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    Arc::new(config).into()
}

/// Connects over TLS to broker 1; an error may come only with the first read, as TLS 1.3 has it.
async fn connect(
    cluster: &Cluster,
    listener: &str,
    tls: &TlsConnector,
) -> std::io::Result<Wire<TlsStream<DuplexStream>>> {
    let stream = Wire::to_listener(cluster, 1, listener).stream;
    let mut stream = tls.connect(ServerName::try_from("broker-1").unwrap(), stream).await?;
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff]).await?;
    stream.flush().await?;
    let mut wire = Wire::over(stream);
    let length = wire.stream.read_i32().await?;
    let mut frame = vec![0; length as usize];
    wire.stream.read_exact(&mut frame).await?;
    Ok(wire)
}

/// The principal of the request that came last.
async fn last_principal(cluster: &Cluster) -> String {
    cluster.requests().last().unwrap().principal.to_string()
}

#[tokio::test]
async fn clients_are_told_the_addresses_of_the_listener_they_came_in_on() {
    let cluster = Cluster::builder()
        .brokers(2)
        .transport_memory()
        .topic("t", 2, 1)
        .listener(ListenerSpec::plaintext("INTERNAL"))
        .listener(ListenerSpec::plaintext("EXTERNAL").advertise("kafka.test").advertise_port(19092))
        .start()
        .await
        .unwrap();
    assert_eq!(cluster.bootstrap(), "broker-1:9092,broker-2:9092");
    assert_eq!(cluster.bootstrap_of("EXTERNAL").unwrap(), "kafka.test:19092,kafka.test:19093");
    assert_eq!(cluster.bootstrap_of("OTHER"), None);
    assert_eq!(cluster.listeners().collect::<Vec<_>>(), ["INTERNAL", "EXTERNAL"]);
    let elsewhere = |at: &i32| cluster.snapshot().partition("t", *at).unwrap().leader == Some(2);
    let at = (0..2).find(elsewhere).unwrap();
    for (listener, expected) in [
        ("INTERNAL", [("broker-1".to_owned(), 9092), ("broker-2".to_owned(), 9092)]),
        ("EXTERNAL", [("kafka.test".to_owned(), 19092), ("kafka.test".to_owned(), 19093)]),
    ] {
        let mut wire = Wire::to_listener(&cluster, 1, listener);
        let metadata = wire.call(9, MetadataRequest::default()).await;
        let told: Vec<_> = metadata.brokers.iter().map(|one| (one.host.to_string(), one.port)).collect();
        assert_eq!(told, expected);
        let described = wire.call(0, DescribeClusterRequest::default()).await;
        let told: Vec<_> = described.brokers.iter().map(|one| (one.host.to_string(), one.port)).collect();
        assert_eq!(told, expected);
        let found = wire.call(3, FindCoordinatorRequest::default().with_key("g".into())).await;
        assert!(expected.contains(&(found.host.to_string(), found.port)), "{found:?}");
        let endpoint = (expected[1].0.clone(), expected[1].1);
        let produced = wire.produce(10, 1, named("t"), &[(at, batch_of(&["v"], None))]).await;
        assert_eq!(produced[0].code(), ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(produced[0].addresses, std::slice::from_ref(&endpoint));
        let id = cluster.shared().image().topic("t").unwrap().id.into_bytes();
        let topic = TopicRef { name: "t", id };
        let fetched = wire.fetch(16, fetch_request(&[FetchPartition::new(topic, at, 0, 1)])).await;
        assert_eq!(fetched.addresses, [endpoint]);
    }
}

#[tokio::test]
async fn listeners_can_be_named_by_kafkas_settings() {
    let builder = || Cluster::builder().transport_memory();
    let named = |listeners: &str| {
        builder()
            .config("listeners", listeners)
            .config("listener.security.protocol.map", "IN:PLAINTEXT,OUT:SSL")
            .config("advertised.listeners", "OUT://kafka.test:19093")
    };
    let cluster = named("IN://127.0.0.1:0,OUT://:9093").tls(TestCa::new()).start().await.unwrap();
    assert_eq!(cluster.listeners().collect::<Vec<_>>(), ["IN", "OUT"]);
    assert_eq!(cluster.bootstrap_of("OUT").unwrap(), "kafka.test:19093");
    for (listeners, expected) in [
        ("IN", "listeners = IN: write each as NAME://HOST:PORT"),
        ("X://:1", "listeners = X://:1: name the protocol of X"),
        ("IN://:70000", "listeners = IN://:70000: 70000 is not a port"),
    ] {
        let refused = named(listeners).start().await.unwrap_err().to_string();
        assert!(refused.starts_with(expected), "{refused}");
    }
    let cluster = builder().listener(ListenerSpec::plaintext("A").port(7)).start().await.unwrap();
    let image = cluster.shared().image();
    assert_eq!(image.configs.value("listeners"), "A://127.0.0.1:7");
    assert_eq!(image.configs.value("listener.security.protocol.map"), "A:PLAINTEXT");
}

#[tokio::test]
async fn every_listener_of_a_stopped_broker_is_closed_and_comes_back() {
    let cluster = Cluster::builder()
        .brokers(2)
        .listener(ListenerSpec::plaintext("A"))
        .listener(ListenerSpec::plaintext("B"))
        .start()
        .await
        .unwrap();
    let addresses: Vec<String> = ["A", "B"]
        .map(|name| cluster.bootstrap_of(name).unwrap().split(',').next().unwrap().to_owned())
        .into();
    assert_ne!(addresses[0], addresses[1]);
    for _ in 0..2 {
        for address in &addresses {
            tokio::net::TcpStream::connect(address).await.unwrap();
        }
        cluster.stop_broker(1).await.unwrap();
        for address in &addresses {
            assert!(tokio::net::TcpStream::connect(address).await.is_err());
        }
        cluster.start_broker(1).await.unwrap();
    }
}

#[tokio::test]
async fn a_clients_certificate_names_it() {
    let ca = TestCa::new();
    let cluster = Cluster::builder()
        .transport_memory()
        .tls(&ca)
        .listener(ListenerSpec::ssl("NONE"))
        .listener(ListenerSpec::ssl("ASKS").client_auth(ClientAuth::Requested))
        .listener(ListenerSpec::ssl("NEEDS").client_auth(ClientAuth::Required))
        .start()
        .await
        .unwrap();
    let alice = ca.issue(&CertificateSpec::client("alice").unit("payments"));
    let (nobody, alice) = (client(&ca, None), client(&ca, Some(&alice)));
    for (listener, tls, principal) in [
        ("NONE", &nobody, Some("User:ANONYMOUS")),
        ("NONE", &alice, Some("User:ANONYMOUS")),
        ("ASKS", &nobody, Some("User:ANONYMOUS")),
        ("ASKS", &alice, Some("User:CN=alice,OU=payments")),
        ("NEEDS", &nobody, None),
        ("NEEDS", &alice, Some("User:CN=alice,OU=payments")),
    ] {
        let served = connect(&cluster, listener, tls).await.is_ok();
        assert_eq!(served, principal.is_some(), "{listener}");
        if let Some(principal) = principal {
            assert_eq!(last_principal(&cluster).await, principal, "{listener}");
        }
    }
}

#[tokio::test]
async fn with_sasl_only_the_listener_itself_asks_for_certificates_too() {
    let ca = TestCa::new();
    let cluster = Cluster::builder()
        .transport_memory()
        .tls(&ca)
        .sasl([SaslMechanism::Plain])
        .client_auth(ClientAuth::Required)
        .listener(ListenerSpec::ssl("SSL"))
        .listener(ListenerSpec::sasl_ssl("PASSWORD"))
        .listener(ListenerSpec::sasl_ssl("BOTH").client_auth(ClientAuth::Required))
        .start()
        .await
        .unwrap();
    let nobody = client(&ca, None);
    let alice = client(&ca, Some(&ca.client_certificate("alice")));
    for (listener, without) in [("SSL", false), ("PASSWORD", true), ("BOTH", false)] {
        assert_eq!(connect(&cluster, listener, &nobody).await.is_ok(), without, "{listener}");
        assert!(connect(&cluster, listener, &alice).await.is_ok(), "{listener}");
    }
}

#[tokio::test]
async fn certificates_that_are_not_good_are_refused() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let builder = Cluster::builder().transport_memory().tls(&ca).client_auth(ClientAuth::Required);
    let cluster = builder.start().await.unwrap();
    let alice = CertificateSpec::client("alice");
    for (name, identity) in [
        ("expired", ca.issue(&alice.clone().expired())),
        ("not yet valid", ca.issue(&alice.clone().not_yet_valid())),
        ("self-signed", ca.issue(&alice.clone().self_signed())),
        ("another authority's", other.client_certificate("alice")),
        ("a server's", ca.server_certificate(["broker-1"])),
    ] {
        assert!(connect(&cluster, "SSL", &client(&ca, Some(&identity))).await.is_err(), "{name}");
    }
    let good = ca.client_certificate("alice");
    connect(&cluster, "SSL", &client(&ca, Some(&good))).await.unwrap();
    // And by clients, what brokers show.
    let server = CertificateSpec::server(["broker-1"]);
    for (name, identity) in [
        ("expired", ca.issue(&server.clone().expired())),
        ("not yet valid", ca.issue(&server.clone().not_yet_valid())),
        ("self-signed", ca.issue(&server.clone().self_signed())),
        ("another host's", ca.server_certificate(["elsewhere"])),
        ("another authority's", other.server_certificate(["broker-1"])),
    ] {
        let tls = ServerTls::from(&ca).showing(identity);
        let cluster = Cluster::builder().transport_memory().tls(tls).start().await.unwrap();
        let refused = connect(&cluster, "SSL", &client(&ca, None)).await;
        assert!(refused.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_as_that() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let builder = Cluster::builder().transport_memory().tls(&ca).client_auth(ClientAuth::Required);
    let cluster = builder.start().await.unwrap();
    let refused = connect(&cluster, "SSL", &client(&ca, Some(&other.client_certificate("alice")))).await;
    let error = refused.err().unwrap().into_inner().unwrap();
    let alert = error.downcast_ref::<rustls::Error>().unwrap();
    assert_eq!(*alert, rustls::Error::AlertReceived(AlertDescription::UnknownCA));
}

#[tokio::test(start_paused = true)]
async fn clients_that_speak_something_else_are_closed_at_once_and_slow_ones_in_time() {
    let ca = TestCa::new();
    let cluster = Cluster::builder()
        .transport_memory()
        .tls(&ca)
        .listener(ListenerSpec::ssl("TLS"))
        .listener(ListenerSpec::plaintext("PLAIN"))
        .start()
        .await
        .unwrap();
    // A request on a port with TLS gets an alert: a record of type 21.
    let mut wire = Wire::to_listener(&cluster, 1, "TLS");
    let started = Instant::now();
    wire.send(0, &ApiVersionsRequest::default()).await;
    let mut answer = Vec::new();
    wire.stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    // TLS on a port without gets nothing.
    let plain = Wire::to_listener(&cluster, 1, "PLAIN").stream;
    let refused = client(&ca, None).connect(ServerName::try_from("broker-1").unwrap(), plain).await;
    assert!(refused.is_err());
    assert!(started.elapsed() < Duration::from_secs(1));
    // Nothing, a part of a handshake, and one byte a second.
    for start in [&[][..], &[22, 3, 1, 1, 0, 1, 0, 0, 0xfc]] {
        let mut wire = Wire::to_listener(&cluster, 1, "TLS");
        let started = Instant::now();
        wire.stream.write_all(start).await.unwrap();
        let (mut read, mut write) = tokio::io::split(&mut wire.stream);
        let drip = async {
            while !start.is_empty() && write.write_all(&[0]).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut rest = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut rest) => {}
            () = drip => {}
        }
        assert!((10..=11).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }
    assert_eq!(cluster.snapshot().brokers[0].panics, 0);
    connect(&cluster, "TLS", &client(&ca, None)).await.unwrap();
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_unless_one_is_not_enabled() {
    let ca = TestCa::new();
    for (enabled, expected) in
        [("TLSv1.2", ProtocolVersion::TLSv1_2), ("TLSv1.2,TLSv1.3", ProtocolVersion::TLSv1_3)]
    {
        let builder = Cluster::builder().transport_memory().tls(&ca).config("ssl.enabled.protocols", enabled);
        let cluster = builder.start().await.unwrap();
        let wire = connect(&cluster, "SSL", &client(&ca, None)).await.unwrap();
        assert_eq!(wire.stream.get_ref().1.protocol_version(), Some(expected));
    }
}

#[tokio::test]
async fn a_connection_that_the_broker_closes_says_so_inside_tls() {
    let ca = TestCa::new();
    let cluster = Cluster::builder().transport_memory().tls(&ca).start().await.unwrap();
    let tls = client(&ca, None);
    let mut wire = connect(&cluster, "SSL", &tls).await.unwrap();
    wire.stream.write_all(&[0xff; 8]).await.unwrap();
    wire.stream.flush().await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(wire.stream.read_to_end(&mut rest).await.unwrap(), 0);
    // A fault is no such end: the stream is cut.
    let _cut = cluster.fault(on(Api::Metadata)).close();
    let mut wire = connect(&cluster, "SSL", &tls).await.unwrap();
    wire.send(1, &MetadataRequest::default()).await;
    let error = wire.stream.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn large_answers_pass_through_tls_whole() {
    let ca = TestCa::new();
    let builder = Cluster::builder().transport_memory().tls(&ca).topic("t", 1, 1);
    let cluster = builder.start().await.unwrap();
    let mut wire = connect(&cluster, "SSL", &client(&ca, None)).await.unwrap();
    let batch: Bytes = batch_of(&[&"x".repeat(900_000)], None);
    assert!(wire.produce(9, 1, named("t"), &[(0, batch.clone())]).await[0].code().is_ok());
    let fetched = wire.fetch(12, fetch_request(&[FetchPartition::new(named("t"), 0, 0, i32::MAX)])).await;
    assert_eq!(fetched.partitions[0].1.len(), batch.len());
}
