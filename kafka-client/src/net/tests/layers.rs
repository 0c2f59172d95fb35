//! The user's layers: one that counts, one that refuses, one that delays; and what the built-in ones count.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Instant, sleep};
use tower_layer::layer_fn;

use super::*;
use crate::serde::BoxError;

/// A layer made of a function that is given each request and the service beneath.
#[derive(Clone)]
struct Around<F> {
    inner: super::super::BrokerService,
    function: F,
}

impl<F, R> Service<BrokerRequest> for Around<F>
where
    F: Fn(super::super::BrokerService, BrokerRequest) -> R,
    R: Future<Output = Result<BrokerResponse, BoxError>> + Send + 'static,
{
    type Response = BrokerResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<BrokerResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: BrokerRequest) -> Self::Future {
        // The service that was polled ready goes along; its clone has no place reserved.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        Box::pin((self.function)(ready, request))
    }
}

fn around<F, R>(function: F) -> UserLayer
where
    F: Fn(super::super::BrokerService, BrokerRequest) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<BrokerResponse, BoxError>> + Send + 'static,
{
    UserLayer::new(layer_fn(move |inner| Around { inner, function: function.clone() }))
}

#[tokio::test(start_paused = true)]
async fn layers_see_every_request_the_first_one_outermost() {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let logging = |name: &'static str| {
        let log = log.clone();
        around(move |mut inner, request: BrokerRequest| {
            log.lock().unwrap().push((name, request.api, request.body_len()));
            async move { Ok(inner.call(request).await?) }
        })
    };
    let mut fixture = Fixture::with(config(), vec![logging("outer"), logging("inner")], 1 << 20);
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let call = start(&connection, request(&connection, b"body")).await;
    let asked = peer.asked().await;
    peer.answer(&asked, &[0; 4]).await;
    call.await.unwrap().unwrap();
    assert_eq!(*log.lock().unwrap(), [("outer", Api::Heartbeat, 4), ("inner", Api::Heartbeat, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_not_written_and_the_others_keep_their_order() {
    let seen = Arc::new(AtomicU64::new(0));
    let refusing = around(move |mut inner, request| {
        let refused = seen.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        // Called here, not when the future is polled: the order of the calls is the order on the wire.
        let call = (!refused).then(|| inner.call(request));
        async move {
            match call {
                Some(call) => Ok(call.await?),
                None => Err("every third one is refused".into()),
            }
        }
    });
    let mut fixture = Fixture::with(config(), vec![refusing], 1 << 20);
    let (connection, mut peer) = fixture.connect(Lane::Produce).await;
    let mut service = connection.service();
    let mut calls = Vec::new();
    for body in [b"0", b"1", b"2", b"3", b"4", b"5", b"6"] {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        let request = request(&connection, body);
        let progress = request.progress.clone();
        calls.push((progress, service.call(request)));
    }
    for body in ["0", "1", "3", "4", "6"] {
        let asked = peer.asked().await;
        assert_eq!(asked.body, body);
        peer.answer(&asked, &[0; 4]).await;
    }
    for (place, (progress, call)) in calls.into_iter().enumerate() {
        let refused = place % 3 == 2;
        assert_eq!(progress.is_written(), !refused);
        match call.await {
            Ok(_) => assert!(!refused),
            Err(error) => assert!(refused && matches!(error.kind(), ErrorKind::Layer(_)), "{error:?}"),
        }
    }
    // A refused request gave its place back.
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_delays_shows_in_the_progress_and_nowhere_else() {
    let delaying = around(|mut inner, request| async move {
        sleep(10 * SECOND).await;
        Ok(inner.call(request).await?)
    });
    let mut fixture = Fixture::with(config(), vec![delaying], 1 << 20);
    let (connection, mut peer) = fixture.connect(Lane::Produce).await;
    let began = Instant::now();
    let delayed = request(&connection, b"");
    let progress = delayed.progress.clone();
    let mut call = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(delayed).await }
    });
    assert!(is_pending(&mut call).await && !progress.is_queued());
    progress.queued().await;
    assert_eq!(began.elapsed(), 10 * SECOND);
    // Its own time has begun only now.
    let asked = peer.asked().await;
    sleep(29 * SECOND).await;
    peer.answer(&asked, &[0; 4]).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn layers_of_tower_fit() {
    let limit = UserLayer::new(tower::limit::ConcurrencyLimitLayer::new(1));
    let mut fixture = Fixture::with(config(), vec![limit], 1 << 20);
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let first = start(&connection, request(&connection, b"1")).await;
    let second = request(&connection, b"2");
    let progress = second.progress.clone();
    let mut waiting = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(second).await }
    });
    assert!(is_pending(&mut waiting).await && !progress.is_queued());
    for _ in 0..2 {
        let asked = peer.asked().await;
        peer.answer(&asked, &[0; 4]).await;
    }
    first.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_request_is_counted_by_how_it_ended() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let call = start(&connection, request(&connection, b"12345")).await;
    let asked = peer.asked().await;
    sleep(3 * SECOND).await;
    peer.answer(&asked, &[0; 7]).await;
    call.await.unwrap().unwrap();
    let call = start(&connection, request(&connection, b"12345")).await;
    drop(peer);
    call.await.unwrap().unwrap_err();
    let metrics = fixture.metrics.snapshot();
    let heartbeat = metrics.request(Api::Heartbeat).unwrap();
    assert_eq!((heartbeat.answered, heartbeat.failed, heartbeat.abandoned), (1, 1, 0));
    assert_eq!((heartbeat.request_bytes, heartbeat.response_bytes), (10, 7));
    assert_eq!(heartbeat.latency, 3 * SECOND);
    assert_eq!(metrics.connections(), 0);
}
