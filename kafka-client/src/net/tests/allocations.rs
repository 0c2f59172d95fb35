//! How often a request asks for memory, counted exactly.

use super::*;

/// The allocations of one request whose caller keeps its service and hands over an encoded body:
///
/// 1. the request's progress;
/// 2. the list of the body's pieces;
/// 3. the boxed future of the stack;
/// 4. the slot for the answer.
///
/// Each of the user's layers boxes one more future.
const PER_REQUEST: u64 = 4;

/// Headers are encoded into, and answers read into, buffers that serve many requests: at most one more in ten requests.
const ROUNDS: u64 = 1_000;

async fn rounds(
    rounds: u64,
    service: &mut super::super::BrokerService,
    connection: &Connection,
    peer: &mut Peer,
) {
    let body = Bytes::from_static(b"batch");
    // Length, API, version, correlation id, client id, no tags, body.
    let mut frame = [0; 4 + 2 + 2 + 4 + 6 + 1 + 5];
    // Length, correlation id, no tags, throttle time, error code, no tags.
    let mut answer = [0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for _ in 0..rounds {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        let call = service.call(connection.request(Api::Heartbeat, 4, vec![body.clone()]));
        let (response, ()) = tokio::join!(call, async {
            peer.stream.read_exact(&mut frame).await.unwrap();
            assert!(frame.ends_with(b"batch"));
            answer[4..8].copy_from_slice(&frame[8..12]);
            peer.stream.write_all(&answer).await.unwrap();
        });
        assert_eq!(response.unwrap().body, &[0; 7][..]);
    }
}

#[test]
fn a_request_asks_for_memory_four_times() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (_fixture, connection, mut peer) = runtime.block_on(async {
        let mut fixture = Fixture::new();
        let (connection, peer) = fixture.connect(Lane::Produce).await;
        (fixture, connection, peer)
    });
    let mut service = connection.service();
    runtime.block_on(rounds(200, &mut service, &connection, &mut peer));
    // The connection's task runs on this thread too, and the peer asks for nothing.
    let ((), counts) =
        counting_alloc::measure(|| runtime.block_on(rounds(ROUNDS, &mut service, &connection, &mut peer)));
    let allowed = PER_REQUEST * ROUNDS..=PER_REQUEST * ROUNDS + ROUNDS / 10;
    assert!(allowed.contains(&counts.allocations), "{counts:?}");
}
