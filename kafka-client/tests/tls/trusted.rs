//! Brokers that are as they should be.

use kafka_client::tls::TlsVersion;

use super::*;
use crate::front::{mutual, server, server_of};

#[tokio::test]
async fn a_broker_whose_authority_is_trusted_is_used() {
    let cluster = cluster().await;
    println!("{}", cluster.bootstrap());
    let authority = Authority::new("ca");
    let listener = Listener::new(server(&authority.issue(HOSTS)));
    let client = connect(&cluster, listener.before(&cluster), Tls::roots_pem(authority.pem)).await.unwrap();
    assert_eq!(client.metadata().brokers().len(), 1);
    assert_eq!(listener.seen().versions[0], rustls::ProtocolVersion::TLSv1_3);
}

#[tokio::test]
async fn later_connections_resume_the_session_of_the_first() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let listener = Listener::new(server_of(&authority.issue(HOSTS), &[version], None));
        let tls = Tls::roots_pem(authority.pem.clone());
        let client = connect(&cluster, listener.before(&cluster), tls).await.unwrap();
        let owner = client.owner();
        for lane in [kafka_client::raw::Lane::Produce, kafka_client::raw::Lane::Fetch] {
            client.connection(1, lane, &owner).await.unwrap();
        }
        let seen = listener.seen();
        assert!(!seen.resumed[0]);
        assert!(
            seen.resumed.len() > 2 && seen.resumed[2..].iter().all(|resumed| *resumed),
            "{:?}",
            seen.resumed
        );
    }
}

#[tokio::test]
async fn only_the_versions_that_were_asked_for_are_spoken() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let identity = authority.issue(HOSTS);
    let only = |version| Tls::roots_pem(authority.pem.clone()).versions([version]);
    let listener = Listener::new(server(&identity));
    connect(&cluster, listener.before(&cluster), only(TlsVersion::Tls12)).await.unwrap();
    assert_eq!(listener.seen().versions[0], rustls::ProtocolVersion::TLSv1_2);
    let old = Listener::new(server_of(&identity, &[&rustls::version::TLS12], None));
    let error = first_failure(old.before(&cluster), Some(only(TlsVersion::Tls13))).await;
    assert!(matches!(problem(&error), TlsProblem::Incompatible { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_is_checked_for_the_host_or_ip_address_that_was_dialled() {
    let authority = Authority::new("ca");
    let cluster = cluster().await;
    let listener = Listener::new(server(&authority.issue(&["127.0.0.1", "::1", "fe80::1", "kafka.example"])));
    for bootstrap in ["127.0.0.1:9093", "[::1]:9093", "[fe80::1%eth0]:9093", "kafka.example.:9093"] {
        let builder = Client::builder(bootstrap).connector(listener.before(&cluster));
        let client = builder.tls(Tls::roots_pem(authority.pem.clone())).build().unwrap();
        let before = listener.seen().versions.len();
        // The listener is reached; the broker behind it is at another address.
        let deadline = tokio::time::Instant::now() + Duration::from_millis(200);
        let call = client.request(kafka_client::raw::Route::Any).deadline(deadline);
        let _ = call.send(|_| Ok(MetadataRequest::default())).await;
        assert!(listener.seen().versions.len() > before, "{bootstrap}");
    }
}

#[tokio::test]
async fn the_name_that_is_checked_can_be_another_than_the_one_that_is_dialled() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let listener = Listener::new(server(&authority.issue(&["kafka.example"])));
    let tls = Tls::roots_pem(authority.pem).server_name("kafka.example");
    connect(&cluster, listener.before(&cluster), tls).await.unwrap();
    assert_eq!(listener.seen().names[0].as_deref(), Some("kafka.example"));
}

#[tokio::test]
async fn a_broker_that_demands_a_certificate_gets_it() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let listener = Listener::new(mutual(&authority.issue(HOSTS), &authority));
    let me = authority.issue(&[]);
    let tls = Tls::roots_pem(authority.pem.clone()).identity_pem(me.chain, me.key);
    connect(&cluster, listener.before(&cluster), tls).await.unwrap();
    assert!(listener.seen().client_certificates > 0);
}

#[tokio::test]
async fn the_users_own_configuration_is_used_as_it_is() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let listener = Listener::new(server(&authority.issue(HOSTS)));
    let mut roots = rustls::RootCertStore::empty();
    let pem = authority.pem.as_bytes();
    roots.add(rustls_pki_types::pem::PemObject::from_pem_slice(pem).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = std::sync::Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth());
    connect(&cluster, listener.before(&cluster), Tls::with_rustls(config.clone())).await.unwrap();
    let error = Client::builder("broker-1:1").tls(Tls::with_rustls(config).versions([])).build().unwrap_err();
    assert!(error.to_string().contains("used as it is"), "{error}");
}

#[tokio::test]
async fn what_is_dangerous_has_to_be_called_so() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let other_name = Listener::new(server(&authority.issue(&["elsewhere"])));
    let tls = Tls::roots_pem(authority.pem.clone()).dangerous_accept_any_server_name();
    connect(&cluster, other_name.before(&cluster), tls.clone()).await.unwrap();
    let of_nobody = Listener::new(server(&self_signed(&["elsewhere"])));
    let error = first_failure(of_nobody.before(&cluster), Some(tls)).await;
    assert_eq!(problem(&error), &TlsProblem::UnknownIssuer);
    let anything = Tls::dangerous_accept_any_certificate();
    connect(&cluster, of_nobody.before(&cluster), anything).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_says_goodbye_on_every_connection() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let listener = Listener::new(server(&authority.issue(HOSTS)));
    let client = connect(&cluster, listener.before(&cluster), Tls::roots_pem(authority.pem)).await.unwrap();
    let owner = client.owner();
    client.connection(1, kafka_client::raw::Lane::Produce, &owner).await.unwrap();
    drop((owner, client));
    let all = async {
        while listener.seen().ended.0 + listener.seen().ended.1 < listener.seen().resumed.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    assert_eq!(listener.seen().ended, (listener.seen().resumed.len(), 0));
}

#[tokio::test]
async fn properties_in_javas_and_librdkafkas_words_reach_a_broker_over_mutual_tls() {
    let ca = kafka_broker::TestCa::new();
    let builder = Cluster::builder().brokers(1).tls(&ca).client_auth(kafka_broker::ClientAuth::Required);
    let cluster = builder.start().await.unwrap();
    let me = ca.client_certificate("alice");
    let (chain, key) = (me.certificate_pem().to_owned(), me.key_pem().to_owned());
    let java = [
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.certificates", ca.ca_pem()),
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.certificate.chain", &chain),
        ("ssl.keystore.key", &key),
    ];
    let librdkafka = [("ssl.ca.pem", ca.ca_pem()), ("ssl.certificate.pem", &chain), ("ssl.key.pem", &key)];
    let bootstrap = cluster.bootstrap();
    let both = [("security.protocol", "SSL"), ("bootstrap.servers", bootstrap.as_str())];
    for settings in [&java[..], &librdkafka[..]] {
        let properties = settings.iter().chain(&both).copied().collect();
        let (builder, report) = Client::from_properties(&properties);
        report.check().unwrap();
        let client = builder.connect().await.unwrap();
        assert_eq!(client.metadata().brokers().len(), 1);
    }
    let properties = [java[0], java[1], both[0], both[1]].into_iter().collect();
    let error = innermost(Client::from_properties(&properties).0.connect().await.unwrap_err());
    assert_eq!(problem(&error), &TlsProblem::ClientCertificateRequired);
}
