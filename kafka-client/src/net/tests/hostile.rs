//! Peers that are broken, malicious or no Kafka brokers at all: a typed error in the request's own time, and memory that
//! follows the bytes received.

use kafka_wire::error::ProtocolErrorKind;
use kafka_wire::frame::MAX_FRAME_BEFORE_READY;
use tokio::time::{Instant, sleep};

use super::*;
use crate::tls::TlsProblem;

/// Connects to a peer that answers the first question with `bytes` and then is silent.
async fn connect_to_peer_that_says(bytes: &[u8]) -> Error {
    let mut fixture = Fixture::new();
    let address = address();
    let pool = fixture.pool.take().unwrap();
    let (connection, _peer) = tokio::join!(pool.shared_connection(NODE, &address), async {
        let mut peer = fixture.accept().await;
        let asked = peer.asked().await;
        assert_eq!((asked.api, asked.correlation_id), (Api::ApiVersions, 0));
        peer.send(bytes).await;
        peer
    });
    assert_eq!(fixture.metrics.snapshot().failed_connects, 1);
    connection.unwrap_err()
}

fn protocol(error: &Error) -> &ProtocolErrorKind {
    match error.kind() {
        ErrorKind::Protocol { source, .. } => &source.kind,
        other => panic!("not a protocol error: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_no_kafka_broker_is_named() {
    let error = connect_to_peer_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(protocol(&error), &ProtocolErrorKind::PeerSpeaksHttp);
    // An alert: "handshake failure", as a TLS listener answers plaintext.
    let error = connect_to_peer_that_says(&[0x15, 3, 3, 0, 2, 2, 40]).await;
    assert!(matches!(error.kind(), ErrorKind::Tls { problem: TlsProblem::PeerSpeaksTls, .. }), "{error:?}");
    assert!(!error.is_retriable());
}

#[tokio::test(start_paused = true)]
async fn before_a_connection_is_ready_large_and_negative_frames_are_refused() {
    let limit = MAX_FRAME_BEFORE_READY;
    let error = connect_to_peer_that_says(&(limit as i32 + 1).to_be_bytes()).await;
    assert_eq!(protocol(&error), &ProtocolErrorKind::TooLarge { length: limit + 1, limit });
    let error = connect_to_peer_that_says(&(-5_i32).to_be_bytes()).await;
    assert_eq!(protocol(&error), &ProtocolErrorKind::NegativeFrame(-5));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_with_the_wrong_correlation_id_a_cut_body_or_a_giant_count_is_refused() {
    let body = api_versions(4, 0, 0);
    let error = connect_to_peer_that_says(&answer(Api::ApiVersions, 4, 9, &body)).await;
    assert_eq!(protocol(&error), &ProtocolErrorKind::CorrelationId { expected: 0, received: 9 });
    let error = connect_to_peer_that_says(&answer(Api::ApiVersions, 4, 0, &[0])).await;
    assert!(matches!(protocol(&error), ProtocolErrorKind::Truncated { .. }), "{error:?}");
    // No error, then 268 million APIs in a compact array, in versions 3 and 4; and in version 0, after "unsupported".
    let compact = [0, 0, 0xff, 0xff, 0xff, 0x7f];
    let error = connect_to_peer_that_says(&answer(Api::ApiVersions, 4, 0, &compact)).await;
    assert!(matches!(protocol(&error), ProtocolErrorKind::CountTooLarge { .. }), "{error:?}");
    let old = [0, 35, 0x7f, 0xff, 0xff, 0xff];
    let error = connect_to_peer_that_says(&answer(Api::ApiVersions, 4, 0, &old)).await;
    assert!(matches!(protocol(&error), ProtocolErrorKind::CountTooLarge { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_knows_only_version_0_is_asked_in_it() {
    let mut fixture = Fixture::new();
    let address = address();
    let pool = fixture.pool.take().unwrap();
    let (connection, _peer) = tokio::join!(pool.shared_connection(NODE, &address), async {
        let mut peer = fixture.accept().await;
        let asked = peer.asked().await;
        // As Kafka before 2.4: error 35 in version 0, and no APIs.
        peer.answer(&asked, &[0, 35, 0, 0, 0, 0]).await;
        let asked = peer.asked().await;
        assert_eq!((asked.version, asked.correlation_id), (0, 1));
        peer.answer(&asked, &[0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 5]).await;
        peer
    });
    let connection = connection.unwrap();
    assert_eq!(connection.version_for(Api::Metadata, Api::Metadata.versions()).unwrap(), 5);
    assert!(matches!(
        connection.version_for(Api::Fetch, Api::Fetch.versions()).unwrap_err().kind(),
        ErrorKind::UnsupportedVersion { api: Api::Fetch, broker: None, node: Some(NODE), .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn setting_up_takes_its_time_and_no_more_whatever_the_peer_does() {
    for bytes_per_second in [0, 1] {
        let mut fixture = Fixture::new();
        let address = address();
        let pool = fixture.pool.take().unwrap();
        let began = Instant::now();
        let mut peer = None;
        let error = tokio::select! {
            connection = pool.shared_connection(NODE, &address) => connection.unwrap_err(),
            () = async {
                let peer = peer.insert(fixture.accept().await);
                let whole = answer(Api::ApiVersions, 4, 0, &api_versions(4, 0, 0));
                for byte in whole.chunks(1).take(bytes_per_second * 1000) {
                    peer.send(byte).await;
                    sleep(SECOND).await;
                }
                std::future::pending().await
            } => unreachable!(),
        };
        assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
        assert!(error.is_retriable());
        // 10 s, give or take a fifth.
        assert!((8 * SECOND..=12 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

/// What a peer does after it has read a request. Returns the errors of two requests on one connection.
async fn ask_twice<F: Future<Output = Peer>>(
    misbehave: impl FnOnce(Peer, Asked) -> F,
) -> (Error, Error, Duration, Arc<Metrics>) {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    // The answers of a fetch may be large.
    let fetch = || connection.request(Api::Fetch, 12, vec![Bytes::from_static(b"body")]);
    let first = start(&connection, fetch()).await;
    let second = start(&connection, fetch()).await;
    let asked = peer.asked().await;
    let both = async {
        let first = first.await.unwrap();
        (first, second.await.unwrap())
    };
    let mut misbehaving = std::pin::pin!(misbehave(peer, asked));
    let mut both = std::pin::pin!(both);
    let (first, second) = tokio::select! {
        both = &mut both => both,
        _peer = &mut misbehaving => both.await,
    };
    assert!(connection.is_closed());
    (first.unwrap_err(), second.unwrap_err(), began.elapsed(), fixture.metrics.clone())
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_request_closes_the_connection_and_fails_all() {
    let (first, second, elapsed, _) = ask_twice(async |mut peer: Peer, asked: Asked| {
        peer.send(&answer(asked.api, asked.version, asked.correlation_id + 1, &[0; 4])).await;
        peer
    })
    .await;
    for error in [first, second] {
        assert!(matches!(protocol(&error), ProtocolErrorKind::CorrelationId { .. }), "{error:?}");
    }
    assert!(elapsed.is_zero());
}

#[tokio::test(start_paused = true)]
async fn two_answers_to_one_request_close_the_connection() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let call = start(&connection, request(&connection, b"")).await;
    let asked = peer.asked().await;
    let once = answer(asked.api, asked.version, asked.correlation_id, b"\0\0\0\0once");
    peer.send(&[once.clone(), once].concat()).await;
    assert_eq!(call.await.unwrap().unwrap().body, &b"\0\0\0\0once"[..]);
    let error = connection.closed().await;
    assert!(matches!(protocol(&error), ProtocolErrorKind::InvalidValue(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_asked_for_closes_the_connection() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    peer.send(&answer(Api::Heartbeat, 4, 1, &[0; 4])).await;
    let error = connection.closed().await;
    assert!(matches!(protocol(&error), ProtocolErrorKind::InvalidValue(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn lengths_that_cannot_be_close_the_connection() {
    for prefix in [-1, i32::MIN, 100 * 1024 * 1024 + 1, i32::MAX] {
        let (first, second, elapsed, _) = ask_twice(async |mut peer: Peer, _: Asked| {
            peer.send(&prefix.to_be_bytes()).await;
            peer
        })
        .await;
        for error in [first, second] {
            let kind = protocol(&error);
            assert!(
                matches!(kind, ProtocolErrorKind::NegativeFrame(_) | ProtocolErrorKind::TooLarge { .. }),
                "{error:?}"
            );
        }
        assert!(elapsed.is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn only_answers_that_carry_records_or_metadata_may_be_large() {
    for (api, version, length, accepted) in [
        (Api::Heartbeat, 4, 16 << 20, true),
        (Api::Heartbeat, 4, (16 << 20) + 1, false),
        (Api::Fetch, 12, (16 << 20) + 1, true),
        (Api::Metadata, 12, (16 << 20) + 1, true),
        (Api::Produce, 9, (16 << 20) + 1, true),
    ] {
        let mut fixture = Fixture::new();
        let (connection, mut peer) = fixture.connect(Lane::General).await;
        let mut call = start(&connection, connection.request(api, version, Vec::new())).await;
        peer.asked().await;
        peer.send(&i32::to_be_bytes(length)).await;
        assert_eq!(is_pending(&mut call).await, accepted, "{api} with {length} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_short_for_a_header_closes_the_connection() {
    for length in 0..4_u8 {
        let (first, ..) = ask_twice(async |mut peer: Peer, _: Asked| {
            peer.send(&[&[0, 0, 0, length], &vec![0; usize::from(length)][..]].concat()).await;
            peer
        })
        .await;
        assert!(matches!(protocol(&first), ProtocolErrorKind::Truncated { .. }), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_single_bytes_do_not_extend_a_requests_time() {
    for dribbles in [false, true] {
        let (first, second, elapsed, _) = ask_twice(async |mut peer: Peer, asked: Asked| {
            let whole = answer(asked.api, asked.version, asked.correlation_id, &[0; 1000]);
            for byte in whole.chunks(1) {
                if dribbles {
                    peer.send(byte).await;
                }
                sleep(SECOND).await;
            }
            peer
        })
        .await;
        assert!(matches!(first.kind(), ErrorKind::TimedOut { .. }), "{first:?}");
        assert!(second.is_transport(), "{second:?}");
        assert_eq!(elapsed, 30 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_an_answer_is_told() {
    let (first, second, ..) = ask_twice(async |mut peer: Peer, asked: Asked| {
        let whole = answer(asked.api, asked.version, asked.correlation_id, &[0; 1000]);
        peer.send(&whole[..500]).await;
        drop(peer);
        std::future::pending().await
    })
    .await;
    for error in [first, second] {
        assert_eq!(reason(&error), "the broker closed the connection in the middle of an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_fails_in_the_requests_own_time() {
    let mut fixture = Fixture::with(config(), Vec::new(), 64);
    let (connection, _silent) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    let mut request = connection.request(Api::Heartbeat, 4, vec![Bytes::from(vec![0; 10_000])]);
    request.timeout = Some(3 * SECOND);
    let progress = request.progress.clone();
    let error = connection.call(request).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
    assert!(progress.is_written() && began.elapsed() == 3 * SECOND);
}

/// Everything here runs on one thread, so its peak is what the connection held, with what the fake broker held.
#[test]
fn a_promise_of_a_hundred_megabytes_costs_what_was_sent() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (errors, counts) = counting_alloc::measure(|| {
        runtime.block_on(ask_twice(async |mut peer: Peer, _: Asked| {
            peer.send(&(100 * 1024 * 1024_i32).to_be_bytes()).await;
            peer.send(&[0; 10]).await;
            peer
        }))
    });
    assert!(matches!(errors.0.kind(), ErrorKind::TimedOut { .. }), "{:?}", errors.0);
    assert!(counts.peak < 1024 * 1024, "{counts:?}");
}

/// A stream of answers with bytes changed, cut out and put in, and lengths poisoned.
fn mutated(random: &mut fastrand::Rng, answers: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = answers.concat();
    for _ in 0..random.usize(1..4) {
        let place = random.usize(..stream.len());
        match random.u8(..5) {
            0 => stream[place] = random.u8(..),
            1 => stream[place] ^= 1 << random.u8(..8),
            2 => stream.truncate(place.max(1)),
            3 => {
                let end = random.usize(place..stream.len());
                stream.drain(place..end.max(1).min(stream.len()));
                stream.push(0);
            }
            _ => {
                let end = stream.len().min(place + 4);
                stream[place..end].copy_from_slice(&random.i32(..).to_be_bytes()[..end - place]);
            }
        }
    }
    stream
}

#[test]
fn whatever_a_broker_answers_every_caller_is_told_in_time() {
    let first_seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first_seed.map_or(0..400_u64, |seed| seed..seed + 1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for seed in seeds {
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let ((), counts) = counting_alloc::measure(|| runtime.block_on(exchange(&mut random)));
        assert!(counts.peak < 2 << 20, "{counts:?}");
    }
}

/// Shakes hands and asks three times, where one of the two is answered with mutated bytes.
async fn exchange(random: &mut fastrand::Rng) {
    let mut fixture = Fixture::new();
    let address = address();
    let pool = fixture.pool.take().unwrap();
    let spoil_handshake = random.u8(..4) == 0;
    let began = Instant::now();
    let broker = async {
        let mut peer = fixture.accept().await;
        let asked = peer.asked().await;
        let whole = answer(Api::ApiVersions, asked.version, 0, &api_versions(asked.version, 0, 0));
        let bytes = if spoil_handshake { mutated(random, &[whole]) } else { whole };
        peer.send(&bytes).await;
        peer
    };
    let (connection, mut peer) = tokio::join!(pool.shared_connection(NODE, &address), broker);
    assert!(began.elapsed() <= 12 * SECOND);
    // A mutation may have left the table as it was, or spoiled it so that only the next answer is out of place.
    let Ok(connection) = connection else { return };
    let asking = Instant::now();
    let bodies = [b"1", b"2", b"3"].map(|body| connection.call(request(&connection, body)));
    let answering = async {
        let mut answers = Vec::new();
        for _ in 0..3 {
            let Some(asked) = peer.next().await else { return };
            answers.push(answer(asked.api, asked.version, asked.correlation_id, &[0; 7]));
        }
        let _ = peer.stream.write_all(&mutated(random, &answers)).await;
        std::future::pending().await
    };
    let answers = futures_util::future::join_all(bodies);
    let outcomes = tokio::select! {
        outcomes = answers => outcomes,
        () = answering => return,
    };
    assert_eq!(outcomes.len(), 3);
    // A mutated throttle time may mute the connection for up to five minutes.
    assert!(asking.elapsed() <= 30 * SECOND + 300 * SECOND);
    for outcome in outcomes {
        match outcome {
            Ok(response) => assert!(response.body.len() < 100),
            Err(error) => assert!(error.is_transport() || matches!(error.kind(), ErrorKind::Protocol { .. })),
        }
    }
}
