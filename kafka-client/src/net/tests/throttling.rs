//! KIP-219: a broker that mutes a connection is left alone, and nobody's time runs meanwhile.

use tokio::time::{Instant, sleep};

use super::*;

/// Asks once; the answer mutes the connection for so many milliseconds.
async fn muted(connection: &Connection, peer: &mut Peer, millis: i32) {
    let call = start(connection, request(connection, b"")).await;
    let asked = peer.asked().await;
    peer.answer(&asked, &millis.to_be_bytes()).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_until_the_mute_ends() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    muted(&connection, &mut peer, 2_000).await;
    let later = request(&connection, b"later");
    let progress = later.progress.clone();
    let mut call = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(later).await }
    });
    assert!(is_pending(&mut call).await && !progress.is_queued());
    let asked = peer.asked().await;
    assert_eq!(began.elapsed(), 2 * SECOND);
    peer.answer(&asked, &[0; 4]).await;
    call.await.unwrap().unwrap();
    let metrics = fixture.metrics.snapshot();
    assert_eq!((metrics.throttles, metrics.throttled), (1, 2 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_later_shorter_mute_does_not_move_the_end_back() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    let first = start(&connection, request(&connection, b"1")).await;
    let second = start(&connection, request(&connection, b"2")).await;
    for millis in [10_000_i32, 1_000] {
        let asked = peer.asked().await;
        peer.answer(&asked, &millis.to_be_bytes()).await;
    }
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    muted(&connection, &mut peer, 0).await;
    assert_eq!(began.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn muted_time_does_not_count_against_what_is_in_flight() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    let first = start(&connection, request(&connection, b"1")).await;
    let second = start(&connection, request(&connection, b"2")).await;
    let asked = peer.asked().await;
    sleep(10 * SECOND).await;
    peer.answer(&asked, &60_000_i32.to_be_bytes()).await;
    first.await.unwrap().unwrap();
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
    assert_eq!(began.elapsed(), 90 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_mute_of_weeks_ends_after_five_minutes() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    muted(&connection, &mut peer, i32::MAX).await;
    muted(&connection, &mut peer, 0).await;
    assert_eq!(began.elapsed(), 300 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn other_connections_are_not_muted_and_the_end_of_this_one_ends_the_wait() {
    let mut fixture = Fixture::new();
    let (general, mut peer) = fixture.connect(Lane::General).await;
    let (group, mut group_peer) = fixture.connect(Lane::Group).await;
    let began = Instant::now();
    muted(&general, &mut peer, 60_000).await;
    let mut waiting = tokio::spawn({
        let (general, request) = (general.clone(), request(&general, b""));
        async move { general.call(request).await }
    });
    assert!(is_pending(&mut waiting).await);
    muted(&group, &mut group_peer, 0).await;
    drop(peer);
    waiting.await.unwrap().unwrap_err();
    assert!(began.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_mutes_a_connection_while_it_is_set_up_is_left_alone_too() {
    let mut fixture = Fixture::new();
    let began = Instant::now();
    let address = address();
    let (connection, mut peer) =
        tokio::join!(fixture.pool.as_ref().unwrap().shared_connection(NODE, &address), async {
            let mut peer = Peer::new(fixture.far_ends.recv().await.unwrap());
            peer.shake_hands_throttling(40_000).await;
            peer
        });
    let connection = connection.unwrap();
    assert!(began.elapsed().is_zero());
    let call = tokio::spawn({
        let request = request(&connection, b"");
        async move { connection.call(request).await }
    });
    let asked = peer.asked().await;
    assert_eq!(began.elapsed(), 40 * SECOND);
    peer.answer(&asked, &[0; 4]).await;
    call.await.unwrap().unwrap();
    assert_eq!(fixture.metrics.snapshot().throttles, 1);
}
