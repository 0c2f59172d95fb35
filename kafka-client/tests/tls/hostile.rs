//! Brokers that are not as they should be, and peers that are no brokers: a typed error, in time.

use rcgen::date_time_ymd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::front::{mutual, server};

/// What a client that trusts `authority` makes of a broker with this certificate.
async fn failure_of(authority: &Authority, identity: &Identity) -> Error {
    let cluster = cluster().await;
    let listener = Listener::new(server(identity));
    let error = first_failure(listener.before(&cluster), Some(Tls::roots_pem(authority.pem.clone()))).await;
    assert!(!error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains("broker-1:9093"), "{error}");
    error
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_the_host_and_both_dates() {
    let authority = Authority::new("ca");
    let expired = authority.issue_with(HOSTS, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let error = failure_of(&authority, &expired).await;
    assert!(matches!(problem(&error), TlsProblem::Expired { not_after: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("expired at 2021-02-03 00:00:00 UTC, and now it is 20"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_told_with_its_first_day() {
    let authority = Authority::new("ca");
    let future = authority.issue_with(HOSTS, |params| {
        params.not_before = date_time_ymd(2098, 7, 9);
        params.not_after = date_time_ymd(2099, 1, 1);
    });
    let error = failure_of(&authority, &future).await;
    assert!(matches!(problem(&error), TlsProblem::NotYetValid { not_before: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("valid from 2098-07-09 00:00:00 UTC on"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_nobody_trusted_is_refused() {
    let authority = Authority::new("ca");
    let error = failure_of(&authority, &self_signed(HOSTS)).await;
    assert_eq!(problem(&error), &TlsProblem::UnknownIssuer);
    let impostor = Authority::new("ca");
    let error = failure_of(&authority, &impostor.issue(HOSTS)).await;
    assert!(!matches!(problem(&error), TlsProblem::Other { .. }), "{error:?}");
    let other = Authority::new("another");
    let error = failure_of(&authority, &other.issue(HOSTS)).await;
    assert_eq!(problem(&error), &TlsProblem::UnknownIssuer);
}

#[tokio::test]
async fn a_certificate_for_other_names_is_told_with_them() {
    let authority = Authority::new("ca");
    let error =
        failure_of(&authority, &authority.issue(&["kafka.example", "*.kafka.example", "10.1.2.3"])).await;
    let TlsProblem::WrongName { expected, presented } = problem(&error) else { panic!("{error:?}") };
    assert_eq!(expected, "broker-1");
    assert_eq!(presented, &["kafka.example", "*.kafka.example", "10.1.2.3"]);
    assert!(error.to_string().contains("not for broker-1"), "{error}");
}

#[tokio::test]
async fn a_broker_that_demands_a_certificate_of_us_is_named() {
    let authority = Authority::new("ca");
    let cluster = cluster().await;
    let listener = Listener::new(mutual(&authority.issue(HOSTS), &authority));
    let trusting = || Tls::roots_pem(authority.pem.clone());
    let error = first_failure(listener.before(&cluster), Some(trusting())).await;
    assert_eq!(problem(&error), &TlsProblem::ClientCertificateRequired);
    assert!(!error.is_retriable());
    let stranger = Authority::new("stranger").issue(&[]);
    let tls = trusting().identity_pem(stranger.chain, stranger.key);
    let error = first_failure(listener.before(&cluster), Some(tls)).await;
    assert!(matches!(problem(&error), TlsProblem::ClientCertificateRefused { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn tls_that_meets_a_plaintext_port_is_named() {
    let cluster = cluster().await;
    let brokers = cluster.connector();
    let plaintext = Front::new(move |address, mut stream| {
        let mut brokers = brokers.clone();
        async move {
            let mut broker = tower_service::Service::call(&mut brokers, address).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut broker).await;
        }
    });
    let bootstrap = cluster.bootstrap();
    let tls = Tls::roots_pem(Authority::new("ca").pem);
    let builder = Client::builder(bootstrap).connector(plaintext).tls(tls.clone());
    let error = innermost(builder.default_api_timeout(Duration::from_secs(31)).connect().await.unwrap_err());
    assert_eq!(problem(&error), &TlsProblem::ClosedInHandshake);
    assert!(error.to_string().contains("is the port one for plaintext"), "{error}");
    for words in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\0\0\0\x0a\0\0\0\0\0\0", b"SSH-2.0-OpenSSH_9.9\r\n"]
    {
        let peer = Front::script(move |mut stream| async move {
            let _ = stream.read(&mut [0; 16]).await;
            let _ = stream.write_all(words).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = first_failure(peer, Some(tls.clone())).await;
        assert_eq!(problem(&error), &TlsProblem::PeerIsPlaintext, "{words:?}");
        assert!(!error.is_retriable());
    }
}

#[tokio::test]
async fn plaintext_that_meets_a_tls_port_is_named() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let listener = Listener::new(server(&authority.issue(HOSTS)));
    let error = first_failure(listener.before(&cluster), None).await;
    assert_eq!(problem(&error), &TlsProblem::PeerSpeaksTls);
    assert!(error.to_string().contains("security.protocol SSL"), "{error}");
}

#[tokio::test]
async fn versions_of_the_past_are_named() {
    let tls = || Some(Tls::roots_pem(Authority::new("ca").pem));
    // TLS 1.1's answer: a server hello of that version, with no extensions.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    let peer = Front::script(move |mut stream| {
        let hello = hello.clone();
        async move {
            let _ = stream.write_all(&hello).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let error = first_failure(peer, tls()).await;
    assert!(
        matches!(problem(&error), TlsProblem::Incompatible { .. } | TlsProblem::Other { .. }),
        "{error:?}"
    );
    let peer = Front::script(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = first_failure(peer, tls()).await;
    assert!(matches!(problem(&error), TlsProblem::Incompatible { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_trickles_or_stalls_ends_with_the_setup_timeout() {
    let authority = Authority::new("ca");
    for pause in [Duration::from_secs(1), Duration::from_secs(3600)] {
        let peer = Front::script(move |mut stream| async move {
            let record = [0x16, 3, 3, 0x3f, 0xff, 2, 0, 0x3f, 0xfb];
            for byte in record.iter().chain(&[0; 1000]) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
        let began = tokio::time::Instant::now();
        let client = Client::builder("broker-1:9093").connector(peer).seed(7);
        let client = client.tls(Tls::roots_pem(authority.pem.clone())).build().unwrap();
        let deadline = began + Duration::from_secs(20);
        let call = client.request(kafka_client::raw::Route::Any).deadline(deadline);
        let error = call.send(|_| Ok(MetadataRequest::default())).await;
        let error = innermost(error.err().unwrap());
        assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
        assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
        assert!(client.metrics().failed_connects >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_in_the_handshake_is_tried_again() {
    let authority = Authority::new("ca");
    let peer = Front::script(|mut stream| async move {
        let _ = stream.write_all(&[0x16, 3, 3, 0, 80, 2]).await;
    });
    let error = first_failure(peer, Some(Tls::roots_pem(authority.pem))).await;
    assert!(matches!(error.kind(), ErrorKind::Disconnected { .. }) && error.is_retriable(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_refused_is_not_asked_for_in_a_loop() {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server(&self_signed(HOSTS))));
    let counting = connections.clone();
    let peer = Front::script(move |stream| {
        counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(stream).await;
        }
    });
    let tls = Tls::roots_pem(Authority::new("ca").pem);
    let client = Client::builder("broker-1:9093").connector(peer).tls(tls).seed(7).build().unwrap();
    let began = tokio::time::Instant::now();
    let mut answers = 0;
    while began.elapsed() < Duration::from_secs(60) {
        let call = client.request(kafka_client::raw::Route::Any).send(|_| Ok(MetadataRequest::default()));
        let error = innermost(call.await.err().unwrap());
        assert_eq!(problem(&error), &TlsProblem::UnknownIssuer);
        assert!(error.is_fatal());
        answers += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(70), "{:?}", began.elapsed());
    let connections = connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(answers > 50 && connections <= 5, "{answers} answers, {connections} connections");
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_the_connection_and_what_is_in_flight() {
    let cluster = cluster().await;
    let authority = Authority::new("ca");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server(&authority.issue(HOSTS))));
    for (garbage, is_goodbye) in
        [(&[0x17, 3, 3, 0, 32][..], false), (b"HTTP/1.1 400 Bad Request", false), (b"", true)]
    {
        let (acceptor, brokers) = (acceptor.clone(), cluster.connector());
        let peer = Front::new(move |address, stream| {
            let (acceptor, mut brokers) = (acceptor.clone(), brokers.clone());
            async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut broker = tower_service::Service::call(&mut brokers, address).await.unwrap();
                // The answer to ApiVersions, then bytes that were never encrypted.
                let mut question = [0; 256];
                let count = stream.read(&mut question).await.unwrap();
                broker.write_all(&question[..count]).await.unwrap();
                let mut answer = vec![0; 64 * 1024];
                let count = broker.read(&mut answer).await.unwrap();
                stream.write_all(&answer[..count]).await.unwrap();
                stream.flush().await.unwrap();
                let _ = stream.read(&mut question).await;
                if is_goodbye {
                    stream.shutdown().await.unwrap();
                } else {
                    let (raw, _) = stream.get_mut();
                    raw.write_all(garbage).await.unwrap();
                    raw.write_all(&[0; 64]).await.unwrap();
                }
                let _ = stream.read(&mut question).await;
            }
        });
        let builder = Client::builder(cluster.bootstrap()).connector(peer).seed(7);
        let client = builder.tls(Tls::roots_pem(authority.pem.clone())).build().unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        let call = client.request(kafka_client::raw::Route::Any).deadline(deadline);
        let error = innermost(call.send(|_| Ok(MetadataRequest::default())).await.err().unwrap());
        assert!(matches!(error.kind(), ErrorKind::Disconnected { .. }) && error.is_retriable(), "{error:?}");
        drop(client);
    }
}
