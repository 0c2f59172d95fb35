//! The same over TCP, with callers on several threads.

use tokio::net::TcpListener;

use super::*;

/// Answers every request with its own body, on every connection.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut decoder = FrameDecoder::new(MAX_FRAME);
            let mut received = BytesMut::new();
            loop {
                let mut answers = Vec::new();
                while let Some(frame) = decoder.decode(&mut received).unwrap() {
                    let (header, body) = RequestHeader::decode(&frame).unwrap();
                    let body = match header.api {
                        Api::ApiVersions => api_versions(header.version, 0, 0),
                        _ => body,
                    };
                    answers.extend(answer(header.api, header.version, header.correlation_id, &body));
                }
                stream.write_all(&answers).await.unwrap();
                if stream.read_buf(&mut decoder.room(&mut received)).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        });
    }
}

async fn every_caller_gets_its_own_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = tokio::spawn(echo(listener));
    let metrics = Arc::new(Metrics::new());
    let transport = Transport::Tcp { send_buffer: None, receive_buffer: None };
    let pool = Arc::new(Pool::new(&config(), transport, Vec::new(), metrics.clone()));
    let callers = (0..32_u8).map(|caller| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let address = NodeAddress::new("localhost", port);
            let connection = pool.shared_connection(NODE, &address).await.unwrap();
            for round in 0..50_usize {
                // From a few bytes to more than a socket takes at once. The first four say "not throttled".
                let rope =
                    vec![Bytes::from_static(&[0; 4]), Bytes::from(vec![caller; round * round * 100 + 1])];
                let whole = rope.concat();
                let request = connection.request(Api::Heartbeat, 4, rope);
                assert_eq!(connection.call(request).await.unwrap().body, whole);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let snapshot = metrics.snapshot();
    assert_eq!((snapshot.connects, snapshot.failed_connects), (1, 0));
    assert_eq!(snapshot.request(Api::Heartbeat).unwrap().answered, 32 * 50);
    echo.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_its_own_answer_on_several_threads() {
    every_caller_gets_its_own_answer().await;
}

#[tokio::test]
async fn every_caller_gets_its_own_answer_on_one_thread() {
    every_caller_gets_its_own_answer().await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = NodeAddress::new("127.0.0.1", listener.local_addr().unwrap().port());
    drop(listener);
    let transport = Transport::Tcp { send_buffer: None, receive_buffer: None };
    let pool = Pool::new(&config(), transport, Vec::new(), Arc::new(Metrics::new()));
    let error = pool.shared_connection(NODE, &address).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error:?}");
}
