//! Requests on one connection: order, matching, timeouts, abandoned callers.

use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn requests_travel_together_and_answers_find_their_callers() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let first = start(&connection, request(&connection, b"first")).await;
    let second = start(&connection, request(&connection, b"second")).await;
    let (one, two) = (peer.asked().await, peer.asked().await);
    assert_eq!((&*one.body, &*two.body), (&b"first"[..], &b"second"[..]));
    assert_eq!(two.correlation_id, one.correlation_id + 1);
    assert_eq!(one.client_id.as_deref(), Some("test"));
    // Both answers in one write, and the boundary between them in an odd place.
    let answers = [
        answer(Api::Heartbeat, 4, one.correlation_id, b"\0\0\0\0one"),
        answer(Api::Heartbeat, 4, two.correlation_id, b"\0\0\0\0two"),
    ]
    .concat();
    peer.send(&answers[..20]).await;
    peer.send(&answers[20..]).await;
    assert_eq!(first.await.unwrap().unwrap().body, &b"\0\0\0\0one"[..]);
    let second = second.await.unwrap().unwrap();
    assert_eq!((&*second.body, second.correlation_id), (&b"\0\0\0\0two"[..], two.correlation_id));
}

#[tokio::test(start_paused = true)]
async fn a_rope_arrives_as_one_body_however_small_the_pipe_is() {
    for capacity in [1, 7, 64, 1 << 20] {
        let mut fixture = Fixture::with(config(), Vec::new(), capacity);
        let (connection, mut peer) = fixture.connect(Lane::Produce).await;
        let pieces: Vec<Bytes> = (0..100).map(|n| Bytes::from(vec![n; usize::from(n)])).collect();
        let whole = pieces.concat();
        let request = connection.request(Api::Produce, 9, pieces);
        let call = start(&connection, request).await;
        let asked = peer.asked().await;
        assert_eq!(asked.body, whole, "capacity {capacity}");
        peer.answer(&asked, b"done").await;
        assert_eq!(call.await.unwrap().unwrap().body, &b"done"[..]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_fixes_the_order_of_the_socket_before_it_returns() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::Produce).await;
    let mut service = connection.service();
    let mut calls = Vec::new();
    for body in [b"0", b"1", b"2", b"3", b"4"] {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        let request = request(&connection, body);
        let progress = request.progress.clone();
        // Nothing has polled the answer yet.
        calls.push(service.call(request));
        assert!(progress.is_queued() && !progress.is_written());
    }
    for n in 0..5 {
        let asked = peer.asked().await;
        assert_eq!(asked.body, n.to_string());
        peer.answer(&asked, &[0; 4]).await;
    }
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_response_is_done_once_written_and_does_not_disturb_the_others() {
    let mut fixture = Fixture::with(config(), Vec::new(), 64);
    let (connection, mut peer) = fixture.connect(Lane::Produce).await;
    let before = start(&connection, request(&connection, b"before")).await;
    let mut silent = connection.request(Api::Produce, 9, vec![Bytes::from(vec![0; 200])]);
    silent.expects_response = false;
    let mut silent = start(&connection, silent).await;
    let after = start(&connection, request(&connection, b"after")).await;
    // The pipe is full and nobody reads: the request is begun, not written.
    assert!(is_pending(&mut silent).await);
    let asked = peer.asked().await;
    peer.answer(&asked, b"\0\0\0\0b").await;
    assert_eq!(peer.asked().await.body.len(), 200);
    assert!(silent.await.unwrap().unwrap().body.is_empty());
    let asked = peer.asked().await;
    peer.answer(&asked, b"\0\0\0\0a").await;
    assert_eq!(before.await.unwrap().unwrap().body, &b"\0\0\0\0b"[..]);
    assert_eq!(after.await.unwrap().unwrap().body, &b"\0\0\0\0a"[..]);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_closes_the_connection_and_fails_everything_on_it_by_its_fate() {
    let mut fixture = Fixture::with(config(), Vec::new(), 256);
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    let mut hurried = request(&connection, b"hurried");
    hurried.timeout = Some(5 * SECOND);
    let patient = request(&connection, b"patient");
    let stuck = connection.request(Api::Heartbeat, 4, vec![Bytes::from(vec![0; 1000])]);
    let behind = request(&connection, b"behind");
    let progress = [&hurried, &patient, &stuck, &behind].map(|request| request.progress.clone());
    let mut calls = Vec::new();
    for request in [hurried, patient, stuck, behind] {
        calls.push(start(&connection, request).await);
    }
    let mut errors = Vec::new();
    for call in calls {
        errors.push(call.await.unwrap().unwrap_err());
    }
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert!(
        matches!(errors[0].kind(), ErrorKind::TimedOut { after, .. } if *after == 5 * SECOND),
        "{errors:?}"
    );
    for error in &errors[1..] {
        assert_eq!(reason(error), "an earlier request was not answered in time");
    }
    // The pipe took the first three's first bytes and no more.
    assert_eq!(progress.map(|progress| progress.is_written()), [true, true, true, false]);
    assert!(connection.is_closed());
    connection.closed().await;
    peer.closed().await;
    let late = request(&connection, b"late");
    let progress = late.progress.clone();
    assert!(connection.call(late).await.unwrap_err().is_retriable());
    assert!(!progress.is_queued() && !progress.is_written());
}

#[tokio::test(start_paused = true)]
async fn without_its_own_timeout_a_request_has_the_clients() {
    let mut fixture = Fixture::new();
    let (connection, _peer) = fixture.connect(Lane::General).await;
    let began = Instant::now();
    let error = connection.call(request(&connection, b"")).await.unwrap_err();
    assert_eq!(began.elapsed(), 30 * SECOND);
    assert!(error.to_string().contains("Heartbeat to broker:9092"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_request_is_still_matched_and_keeps_its_place() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let abandoned = start(&connection, request(&connection, b"abandoned")).await;
    let asked = peer.asked().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    assert_eq!(connection.in_flight(), 1);
    let next = start(&connection, request(&connection, b"next")).await;
    assert_eq!(connection.in_flight(), 2);
    peer.answer(&asked, b"\0\0\0\0for nobody").await;
    let asked = peer.asked().await;
    peer.answer(&asked, b"\0\0\0\0n").await;
    assert_eq!(next.await.unwrap().unwrap().body, &b"\0\0\0\0n"[..]);
    assert_eq!(connection.in_flight(), 0);
    assert_eq!(fixture.metrics.snapshot().request(Api::Heartbeat).unwrap().abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_abandoned_before_it_is_written_is_not_sent() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let mut service = connection.service();
    let unsent = request(&connection, b"unsent");
    let progress = unsent.progress.clone();
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    drop(service.call(unsent));
    let sent = start(&connection, request(&connection, b"sent")).await;
    let asked = peer.asked().await;
    assert_eq!(asked.body, &b"sent"[..]);
    assert!(!progress.is_written());
    peer.answer(&asked, &[0; 4]).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_unanswered_than_there_are_places() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let places = super::super::pool::MAX_IN_FLIGHT;
    let mut calls = Vec::new();
    for _ in 0..places {
        calls.push(start(&connection, request(&connection, b"x")).await);
    }
    let more = request(&connection, b"more");
    let progress = more.progress.clone();
    let mut waiting = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(more).await }
    });
    assert!(is_pending(&mut waiting).await && !progress.is_queued());
    // Going away frees no place: the broker still has the request.
    calls.remove(0).abort();
    assert!(is_pending(&mut waiting).await && !progress.is_queued());
    let asked = peer.asked().await;
    peer.answer(&asked, &[0; 4]).await;
    progress.queued().await;
    // With the end of the connection nobody waits for a place any more.
    let mut another = tokio::spawn({
        let (connection, another) = (connection.clone(), request(&connection, b"another"));
        async move { connection.call(another).await }
    });
    assert!(is_pending(&mut another).await);
    drop(peer);
    assert!(another.await.unwrap().is_err() && waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_closes_the_connection_fails_what_is_in_flight() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    let call = start(&connection, request(&connection, b"")).await;
    peer.asked().await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(reason(&error), "the broker closed the connection");
    assert!(error.is_retriable());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_broker_has_closed_is_noticed_before_a_byte_is_written() {
    let mut fixture = Fixture::new();
    let (connection, peer) = fixture.connect(Lane::General).await;
    let mut service = connection.service();
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    drop(peer);
    let request = request(&connection, b"");
    let progress = request.progress.clone();
    assert!(service.call(request).await.is_err());
    assert!(!progress.is_written());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_the_next_one_opened_at_once() {
    let mut fixture = Fixture::new();
    let (connection, mut peer) = fixture.connect(Lane::General).await;
    sleep(539 * SECOND).await;
    let call = start(&connection, request(&connection, b"")).await;
    let asked = peer.asked().await;
    peer.answer(&asked, &[0; 4]).await;
    call.await.unwrap().unwrap();
    let used = Instant::now();
    assert_eq!(reason(&connection.closed().await), "idle");
    assert_eq!(used.elapsed(), 540 * SECOND);
    let again = Instant::now();
    let (connection, _peer) = fixture.connect(Lane::General).await;
    assert!(!connection.is_closed() && again.elapsed().is_zero());
}

/// A stream that notes the length of each write, and takes one buffer or several at a time.
struct Noting {
    stream: DuplexStream,
    writes: Arc<std::sync::Mutex<Vec<usize>>>,
    vectored: bool,
}

impl tokio::io::AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Noting {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.writes.lock().unwrap().push(*count);
        }
        written
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_together_is_one_write_on_streams_of_both_kinds() {
    for vectored in [true, false] {
        let writes = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (near, far) = tokio::io::duplex(1 << 20);
        let noting =
            Arc::new(std::sync::Mutex::new(Some(Noting { stream: near, writes: writes.clone(), vectored })));
        let connector = tower::service_fn(move |_: NodeAddress| {
            let stream = noting.lock().unwrap().take();
            std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused)))
        });
        let pool = Pool::new(&config(), Transport::user(connector), Vec::new(), Arc::new(Metrics::new()));
        let mut peer = Peer { stream: far, decoder: FrameDecoder::new(MAX_FRAME), received: BytesMut::new() };
        let address = address();
        let (connection, ()) = tokio::join!(pool.shared_connection(NODE, &address), peer.shake_hands());
        let connection = connection.unwrap();
        writes.lock().unwrap().clear();
        let mut service = connection.service();
        let mut calls = Vec::new();
        let mut sent = 0;
        for size in 0..20 {
            let rope = vec![Bytes::from(vec![0; size]); 2];
            std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
            // The header is length, API, version, correlation id, client id, no tags.
            sent += 4 + 2 + 2 + 4 + 6 + 1 + 2 * size;
            calls.push(service.call(connection.request(Api::Heartbeat, 4, rope)));
        }
        let answering = async {
            for size in 0..20 {
                let asked = peer.asked().await;
                assert_eq!(asked.body, vec![0; 2 * size]);
                peer.answer(&asked, &[0; 4]).await;
            }
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), answering);
        assert!(answers.iter().all(|answer| answer.is_ok()));
        assert_eq!(*writes.lock().unwrap(), [sent], "vectored: {vectored}");
    }
}
