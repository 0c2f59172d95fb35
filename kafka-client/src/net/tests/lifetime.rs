//! Who opens a connection, who shares it, and what ends it.

use tokio::time::{Instant, sleep, timeout};

use super::super::pool::NodeState;
use super::*;

#[tokio::test(start_paused = true)]
async fn all_who_ask_share_one_attempt_that_nobodys_going_away_cancels() {
    let mut fixture = Fixture::new();
    let pool = Arc::new(fixture.pool.take().unwrap());
    let ask = || {
        let pool = pool.clone();
        tokio::spawn(async move { pool.shared_connection(NODE, &address()).await })
    };
    let (first, second) = (ask(), ask());
    let mut peer = fixture.accept().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(pool.node_state(NODE), NodeState::Opening);
    peer.shake_hands().await;
    let connection = second.await.unwrap().unwrap();
    assert!(!connection.is_closed());
    assert_eq!(pool.node_state(NODE), NodeState::Ready { in_flight: 0 });
    ask().await.unwrap().unwrap();
    assert!(fixture.far_ends.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_lane_and_each_owner_has_its_own_connection_and_general_is_shared() {
    let mut fixture = Fixture::new();
    let (_, _general) = fixture.connect(Lane::General).await;
    let (_, _produce) = fixture.connect(Lane::Produce).await;
    fixture.owner = fixture.pool().owner();
    let (_, _other_produce) = fixture.connect(Lane::Produce).await;
    let again = fixture.pool().connection(NODE, &address(), Lane::General, &fixture.owner).await.unwrap();
    assert!(!again.is_closed());
    assert_eq!(fixture.metrics.snapshot().connects, 3);
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_another_client_owns_nothing_here() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let error = fixture.pool().connection(NODE, &address(), Lane::Fetch, &other.owner).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"owner = "another client's": take it from the client that is asked for the connection"#
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_owner_closes_its_connections_and_no_others() {
    let mut fixture = Fixture::new();
    let (general, _general_peer) = fixture.connect(Lane::General).await;
    let (fetch, mut fetch_peer) = fixture.connect(Lane::Fetch).await;
    let call = start(&fetch, request(&fetch, b"")).await;
    fetch_peer.asked().await;
    let clone = fixture.owner.clone();
    fixture.owner = fixture.pool().owner();
    assert!(!fetch.is_closed());
    drop(clone);
    assert!(matches!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Closed));
    fetch_peer.closed().await;
    assert!(fetch.is_closed() && !general.is_closed());
}

#[tokio::test(start_paused = true)]
async fn everything_dies_with_the_client_also_what_is_being_opened() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let call = start(&connection, request(&connection, b"")).await;
    peer.asked().await;
    let pool = Arc::new(fixture.pool.take().unwrap());
    let owner = fixture.owner.clone();
    // Asked for from outside, so that the pool itself can be dropped while the attempt is under way.
    let mut opening = {
        let pool = pool.clone();
        Box::pin(async move { pool.connection(NODE, &address(), Lane::Group, &owner).await })
    };
    assert!(is_pending(&mut opening).await);
    let mut second_peer = fixture.accept().await;
    drop(opening);
    let before = Instant::now();
    // Some of the client's own tasks may hold the pool a little longer.
    pool.close();
    assert!(pool.shared_connection(NODE, &address()).await.unwrap_err().is_fatal());
    assert!(matches!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Closed));
    peer.closed().await;
    second_peer.closed().await;
    assert!(before.elapsed().is_zero());
    assert!(matches!(connection.closed().await.kind(), ErrorKind::Closed));
    // The owner's handle outlives the client harmlessly.
    drop(fixture.owner);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_to_a_second_and_readiness_forgets_them() {
    let mut fixture = Fixture::new();
    let pool = fixture.pool.take().unwrap();
    let address = address();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let began = Instant::now();
        let (connection, _) = tokio::join!(pool.shared_connection(NODE, &address), async {
            drop(fixture.accept().await);
        });
        assert!(reason(&connection.unwrap_err()).contains("before it told what it speaks"));
        waits.push(began.elapsed());
        assert!(matches!(pool.node_state(NODE), NodeState::BackingOff(_)));
    }
    assert!(waits[0].is_zero());
    for (wait, expected) in waits[1..].iter().zip([50, 100, 200, 400, 800, 1000, 1000]) {
        let expected = Duration::from_millis(expected);
        // The timer counts whole milliseconds, so one more is allowed.
        let longest = (expected * 6 / 5).min(SECOND) + Duration::from_millis(1);
        assert!((expected * 4 / 5..=longest).contains(wait), "{wait:?} for {expected:?}");
    }
    fixture.pool = Some(pool);
    let (_, peer) = fixture.connect(Lane::General).await;
    drop(peer);
    sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    fixture.connect(Lane::General).await;
    assert!(began.elapsed() <= Duration::from_millis(61), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_time_to_set_up_doubles_to_thirty_seconds() {
    let mut fixture = Fixture::new();
    let pool = fixture.pool.take().unwrap();
    for expected in [10, 20, 30, 30] {
        let error = pool.shared_connection(NODE, &address()).await.unwrap_err();
        let ErrorKind::TimedOut { after, .. } = error.kind() else { panic!("{error:?}") };
        let longest = (expected * SECOND * 6 / 5).min(30 * SECOND);
        assert!((expected * SECOND * 4 / 5..=longest).contains(after), "{after:?} for {expected} s");
        // The far ends are kept: a peer that accepts and says nothing.
        fixture.far_ends.recv().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_moved_is_connected_to_anew() {
    let mut fixture = Fixture::new();
    let (old, mut old_peer) = fixture.connect(Lane::General).await;
    let pool = fixture.pool.take().unwrap();
    let moved = NodeAddress::new("elsewhere", 9092);
    let (new, _peer) = tokio::join!(pool.shared_connection(NODE, &moved), async {
        let mut peer = fixture.accept().await;
        peer.shake_hands().await;
        peer
    });
    assert_eq!(new.unwrap().address(), &moved);
    old_peer.closed().await;
    assert!(old.is_closed());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_an_attempt_that_is_given_up_is_told() {
    let mut fixture = Fixture::new();
    let pool = Arc::new(fixture.pool.take().unwrap());
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shared_connection(NODE, &address()).await }
    });
    let _silent = fixture.accept().await;
    pool.reset("test");
    let error = timeout(SECOND, waiting).await.unwrap().unwrap().unwrap_err();
    assert!(!error.is_fatal(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_when_the_pool_gives_a_connection_up_may_be_tried_again() {
    let mut fixture = Fixture::new();
    let (moved, mut moved_peer) = fixture.connect(Lane::General).await;
    let on_moved = start(&moved, request(&moved, b"")).await;
    moved_peer.asked().await;
    let elsewhere = NodeAddress::new("elsewhere", 9092);
    let (again, _peer) =
        tokio::join!(fixture.pool.as_ref().unwrap().shared_connection(NODE, &elsewhere), async {
            let mut peer = Peer::new(fixture.far_ends.recv().await.unwrap());
            peer.shake_hands().await;
            peer
        });
    again.unwrap();
    let error = on_moved.await.unwrap().unwrap_err();
    assert_eq!(reason(&error), "the broker has moved to elsewhere:9092");

    let (produce, mut produce_peer) = fixture.connect(Lane::Produce).await;
    let call = start(&produce, request(&produce, b"")).await;
    produce_peer.asked().await;
    fixture.pool().reset("the cluster is looked for anew");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(reason(&error), "the cluster is looked for anew");
    assert!(error.is_retriable() && !error.is_fatal(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_as_open_until_it_ends_whoever_ends_it() {
    let mut fixture = Fixture::new();
    let open = |fixture: &Fixture| fixture.metrics.snapshot().connections();
    let (_, general) = fixture.connect(Lane::General).await;
    let (_, mut fetch) = fixture.connect(Lane::Fetch).await;
    assert_eq!(open(&fixture), 2);
    fixture.owner = fixture.pool().owner();
    fetch.closed().await;
    assert_eq!(open(&fixture), 1);
    drop(general);
    sleep(SECOND).await;
    assert_eq!(open(&fixture), 0);
    let (_, mut peer) = fixture.connect(Lane::General).await;
    fixture.pool().close();
    peer.closed().await;
    let metrics = fixture.metrics.snapshot();
    assert_eq!((metrics.connects, metrics.disconnects), (3, 3));
}

#[test]
fn a_connection_whose_runtime_is_gone_fails_so_that_its_callers_try_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let mut fixture = Fixture::new();
    let (connection, mut peer) = first.block_on(fixture.connect(Lane::General));
    let call = second.spawn({
        let (connection, request) = (connection.clone(), request(&connection, b""));
        async move { connection.call(request).await }
    });
    second.block_on(async {
        while !call.is_finished() && connection.in_flight() == 0 {
            tokio::task::yield_now().await
        }
    });
    first.block_on(peer.asked());
    drop(first);
    let error = second.block_on(call).unwrap().unwrap_err();
    assert!(error.is_retriable() && !error.is_fatal(), "{error:?}");
    assert!(!second.block_on(fixture.connect(Lane::General)).0.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_fails_the_attempt_and_backs_off() {
    #[derive(Clone)]
    struct Panics;
    impl Service<NodeAddress> for Panics {
        type Response = DuplexStream;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: NodeAddress) -> Self::Future {
            Box::pin(async { panic!("the user's connector panics, as this test wants") })
        }
    }
    let pool = Pool::new(&config(), Transport::user(Panics), Vec::new(), Arc::new(Metrics::new()));
    let error = pool.shared_connection(NODE, &address()).await.unwrap_err();
    assert_eq!(reason(&error), "connecting was given up");
    assert!(matches!(pool.node_state(NODE), NodeState::BackingOff(_)));
}
