//! What a healthy cluster gets and what the application learns.

use std::time::Duration;

use futures::SinkExt;
use kafka_broker::Cluster;
use kafka_client::serde::{BoxError, Serialize};
use kafka_producer::{Acks, ErrorKind, Fate, Partitioner, Producer, ProducerRecord, RecordBytes};
use kafka_wire::api::Api;

use crate::support::{assert_complete, client, cluster, leader, log, values};

#[tokio::test(start_paused = true)]
async fn a_record_arrives_with_everything_in_it() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    let record =
        ProducerRecord::to("orders").key("42").value("created").header("trace", "4bf9").header("trace", "x");
    let sent = producer.send(record.timestamp(1_700_000_000_123)).await.unwrap();
    assert_eq!((sent.topic_partition().to_string().as_str(), sent.offset), ("orders-0", Some(0)));
    assert_eq!(sent.timestamp, 1_700_000_000_123);
    let tombstone = producer.send(ProducerRecord::to("orders").key("42")).await.unwrap();
    assert_eq!(tombstone.offset, Some(1));

    let log = log(&cluster, 0).await;
    assert_eq!(log[0].key.as_deref(), Some(&b"42"[..]));
    assert_eq!(log[0].value.as_deref(), Some(&b"created"[..]));
    assert_eq!(log[0].timestamp, 1_700_000_000_123);
    let headers: Vec<_> = log[0].headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
    assert_eq!(headers, [(&b"trace"[..], Some(&b"4bf9"[..])), (b"trace", Some(b"x"))]);
    assert_eq!(log[1].value, None);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_told_in_the_order_in_which_records_were_enqueued() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    let mut deliveries = vec![];
    for index in 0..5000 {
        let value = index.to_string();
        deliveries.push(producer.enqueue(ProducerRecord::to("orders").value(&value)).await.unwrap());
    }
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, Some(offset as i64));
    }
    assert_complete(&cluster, 0, 5000).await;
}

#[tokio::test(start_paused = true)]
async fn keys_stay_together_and_records_without_key_spread() {
    let (_cluster, client) = cluster(6).await;
    let producer = Producer::builder(&client).batch_size(512).build().await.unwrap();
    let keyed: Vec<_> = producer
        .send_all((0..600).map(|index| ProducerRecord::to("orders").key(format!("k{}", index % 7))))
        .await;
    for (index, sent) in keyed.iter().enumerate() {
        let expected = kafka_wire::murmur2::partition_for_key(format!("k{}", index % 7).as_bytes(), 6);
        assert_eq!(sent.as_ref().unwrap().partition(), expected);
    }
    let keyless =
        producer.send_all((0..2000).map(|_| ProducerRecord::to("orders").value("0123456789"))).await;
    let mut counts = [0; 6];
    for sent in keyless {
        counts[sent.unwrap().partition() as usize] += 1;
    }
    assert!(counts.iter().all(|count| (100..800).contains(count)), "{counts:?}");

    // They do not wait for a whole batch of the default size.
    let producer = Producer::new(&client).await.unwrap();
    let mut counts = [0; 6];
    for sent in producer.send_all((0..400).map(|_| ProducerRecord::to("orders").value([0; 2000]))).await {
        counts[sent.unwrap().partition() as usize] += 1;
    }
    assert!(counts.iter().all(|count| (10..200).contains(count)), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_explicit_partition_wins_and_one_that_does_not_exist_is_named() {
    let (_cluster, client) = cluster(3).await;
    let producer = Producer::new(&client).await.unwrap();
    let sent = producer.send(ProducerRecord::to("orders").key("42").partition(2).value("x")).await.unwrap();
    assert_eq!(sent.partition(), 2);
    for partition in [3, -1] {
        let error = producer.send(ProducerRecord::to("orders").partition(partition)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownPartition { partitions: 3, .. }), "{error:?}");
        assert_eq!(error.fate(), Fate::NotWritten);
        let error = producer.try_enqueue(&ProducerRecord::to("orders").partition(partition)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownPartition { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_sends_without_waiting_for_linger() {
    let (cluster, client) = cluster(4).await;
    let producer = Producer::builder(&client).linger(Duration::from_secs(60)).build().await.unwrap();
    let start = tokio::time::Instant::now();
    let mut deliveries = vec![];
    for index in 0..20 {
        let record = ProducerRecord::to("orders").partition(index % 4).value("x");
        deliveries.push(producer.enqueue(record).await.unwrap());
    }
    assert!(deliveries.iter_mut().all(|delivery| delivery.try_outcome().is_none()));
    producer.flush().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(deliveries.iter_mut().all(|delivery| delivery.try_outcome().unwrap().is_ok()));
    // All partitions of one leader fit one request.
    let produces = cluster.requests().iter().filter(|request| request.api == Api::Produce).count();
    assert!(produces <= 3, "{produces} requests");
}

#[tokio::test(start_paused = true)]
async fn linger_ends_for_all_open_batches_of_a_leader_together() {
    let (cluster, client) = cluster(3).await;
    let producer = Producer::builder(&client).linger(Duration::from_secs(1)).build().await.unwrap();
    let first = producer.enqueue(ProducerRecord::to("orders").partition(0).value("x")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    let start = tokio::time::Instant::now();
    cluster.move_leader("orders", 1, leader(&client, 0)).unwrap();
    client.refresher().request("test");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = producer.enqueue(ProducerRecord::to("orders").partition(1).value("x")).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn acks_zero_counts_as_written_without_an_offset() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).acks(Acks::None).build().await.unwrap();
    for index in 0..50 {
        let sent = producer.send(ProducerRecord::to("orders").value(index.to_string())).await.unwrap();
        assert_eq!(sent.offset, None);
    }
    let start = tokio::time::Instant::now();
    while values(&cluster, 0).await.len() < 50 {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_complete(&cluster, 0, 50).await;
}

#[tokio::test(start_paused = true)]
async fn acks_of_the_leader_need_no_producer_id() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).acks(Acks::Leader).build().await.unwrap();
    assert_eq!(producer.send(ProducerRecord::to("orders").value("0")).await.unwrap().offset, Some(0));
    assert!(cluster.requests().iter().all(|request| request.api != Api::InitProducerId));
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_by_its_first_record_if_brokers_do_that() {
    let (_cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    assert_eq!(producer.send(ProducerRecord::to("fresh").value("x")).await.unwrap().offset, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_nobody_creates_is_an_error_after_max_block() {
    let builder = Cluster::builder().config("auto.create.topics.enable", "false").transport_memory();
    let cluster = builder.start().await.unwrap();
    let client = client(&cluster).build().unwrap();
    let producer = Producer::builder(&client).max_block(Duration::from_secs(3)).build().await.unwrap();
    let start = tokio::time::Instant::now();
    let error = producer.enqueue(ProducerRecord::to("nowhere").value("x")).await.unwrap_err();
    assert_eq!(error.fate(), Fate::NotWritten);
    assert!(matches!(error.kind(), ErrorKind::Client(_)), "{error:?}");
    assert!((3..5).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let error = producer.try_enqueue(&ProducerRecord::to("nowhere").value("x")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TopicNotLoaded(_)) && error.is_retriable(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_is_refused_with_its_size_and_the_limit() {
    let (_cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).max_request_size(10_000).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").value(vec![0; 9_900])).await.unwrap();
    let error = producer.send(ProducerRecord::to("orders").value(vec![0; 10_000])).await.unwrap_err();
    let ErrorKind::RecordTooLarge { size, limit, setting } = error.kind() else { panic!("{error:?}") };
    assert!(*size > 10_000 && *limit == Some(10_000) && *setting == "max.request.size");
    let error = producer.send(ProducerRecord::to("orders").timestamp(-1).value("x")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidRecord { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_would_wait_for_ever_may_say_so() {
    let (cluster, client) = cluster(1).await;
    let builder = Producer::builder(&client).max_block(Duration::MAX).delivery_timeout(Duration::MAX);
    let producer = builder.linger(Duration::from_millis(u64::MAX)).build().await.unwrap();
    let delivery = producer.enqueue(ProducerRecord::to("orders").value("0")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(values(&cluster, 0).await, [""; 0]);
    producer.flush().await;
    delivery.await.unwrap();
    drop(producer.enqueue(ProducerRecord::to("orders").value("1")).await.unwrap());
    producer.close(Duration::MAX).await.unwrap();
    assert_complete(&cluster, 0, 2).await;
}

/// A value that its serializer refuses, or panics over.
struct Unspeakable {
    panics: bool,
}

impl Serialize for Unspeakable {
    fn serialize<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, BoxError> {
        scratch.extend_from_slice(b"half of it");
        assert!(!self.panics, "as asked");
        Err("unspeakable".into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_serialized_harms_no_other_record() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    let refused = ProducerRecord::to("orders").key("k").value(Unspeakable { panics: false });
    let error = producer.send(refused).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Serialize { part: "value", .. }), "{error:?}");
    assert_eq!((error.fate(), error.is_retriable()), (Fate::NotWritten, false));
    let other = producer.clone();
    let panicking = ProducerRecord::to("orders").value(Unspeakable { panics: true });
    tokio::spawn(async move { other.send(panicking).await }).await.unwrap_err();
    producer.send(ProducerRecord::to("orders").value("1")).await.unwrap();
    assert_complete(&cluster, 0, 2).await;
    producer.close(Duration::from_secs(1)).await.unwrap();
}

/// Goes wherever the record's value says, or panics.
struct Wherever;

impl Partitioner for Wherever {
    fn partition(&self, record: &RecordBytes<'_>, _: i32) -> Option<i32> {
        Some(std::str::from_utf8(record.value?).unwrap().parse().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_that_errs_harms_no_other_record() {
    let (cluster, client) = cluster(2).await;
    let producer = Producer::builder(&client).partitioner(Wherever).build().await.unwrap();
    for nowhere in ["2", "-1", "2147483647", "-2147483648"] {
        let error = producer.send(ProducerRecord::to("orders").value(nowhere)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownPartition { partitions: 2, .. }), "{error:?}");
        assert_eq!(error.fate(), Fate::NotWritten);
    }
    let other = producer.clone();
    tokio::spawn(async move { other.send(ProducerRecord::to("orders").value("x")).await }).await.unwrap_err();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    assert_complete(&cluster, 0, 1).await;
    producer.close(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_takes_records_and_its_flush_waits_for_their_acknowledgements() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client)
        .batch_size(1024)
        .buffer_memory(8 * 1024)
        .linger(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let mut sink = producer.sink();
    for index in 0..3000 {
        sink.feed(ProducerRecord::to("orders").value(index.to_string())).await.unwrap();
    }
    SinkExt::<ProducerRecord<'static, (), String>>::flush(&mut sink).await.unwrap();
    assert_complete(&cluster, 0, 3000).await;
    SinkExt::<ProducerRecord<'static, (), String>>::close(&mut sink).await.unwrap();
    producer.send(ProducerRecord::to("orders").value("3000")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_not_asked_whether_it_is_ready_loses_no_record() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    let mut sink = producer.sink();
    // The topic is not known yet, so the first record waits.
    sink.start_send_unpin(ProducerRecord::to("orders").value("0")).unwrap();
    let refused = sink.start_send_unpin(ProducerRecord::to("orders").value("1")).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::BufferFull { .. }) && refused.fate() == Fate::NotWritten);
    SinkExt::<ProducerRecord<'static, (), &str>>::flush(&mut sink).await.unwrap();
    assert_complete(&cluster, 0, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_tells_the_first_error_when_it_is_flushed() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    let mut sink = producer.sink();
    let fault = cluster
        .fault(kafka_broker::on(Api::Produce).nth(1))
        .error(kafka_wire::error_code::ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    sink.feed(ProducerRecord::to("orders").value("x")).await.unwrap();
    let error = SinkExt::<ProducerRecord<'static, (), &str>>::flush(&mut sink).await.unwrap_err();
    fault.assert_fired();
    assert_eq!(error.fate(), Fate::NotWritten);
    sink.send(ProducerRecord::to("orders").value("x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_delivers_what_was_accepted_and_refuses_the_rest() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).linger(Duration::from_secs(60)).build().await.unwrap();
    let delivery = producer.enqueue(ProducerRecord::to("orders").value("0")).await.unwrap();
    let other = producer.clone();
    let (first, second) =
        tokio::join!(producer.close(Duration::from_secs(10)), other.close(Duration::from_secs(20)));
    first.unwrap();
    second.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Some(0));
    let error = other.send(ProducerRecord::to("orders").value("1")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed) && error.is_fatal(), "{error:?}");
    producer.close(Duration::ZERO).await.unwrap();
    assert_complete(&cluster, 0, 1).await;
}

#[tokio::test(start_paused = true)]
async fn closing_ends_in_time_when_no_broker_answers() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::new(&client).await.unwrap();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    let hang = cluster.fault(kafka_broker::on(Api::Produce)).hang();
    let sent = producer.enqueue(ProducerRecord::to("orders").value("1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    hang.assert_fired();
    let start = tokio::time::Instant::now();
    let error = producer.close(Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CloseTimedOut { batches: 1, .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 2);
    let error = sent.await.unwrap_err();
    assert_eq!((error.fate(), error.is_fatal()), (Fate::PossiblyWritten, true), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_tells_every_record_its_fate() {
    let (cluster, client) = cluster(2).await;
    let producer = Producer::builder(&client).linger(Duration::from_secs(60)).build().await.unwrap();
    let hang = cluster.fault(kafka_broker::on(Api::Produce).partition(0)).hang();
    let on_its_way = producer.enqueue(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    let flush = tokio::spawn({
        let producer = producer.clone();
        async move { producer.flush().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    hang.assert_fired();
    let waiting = producer.enqueue(ProducerRecord::to("orders").partition(1).value("0")).await.unwrap();
    flush.abort();
    let _ = flush.await;
    drop(producer);
    let error = on_its_way.await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
    assert_eq!(error.fate(), Fate::PossiblyWritten);
    assert_eq!(waiting.await.unwrap_err().fate(), Fate::NotWritten);
}

#[test]
fn a_runtime_that_goes_away_leaves_nobody_waiting() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let (producer, mut delivery, cluster) = first.block_on(async {
        let (cluster, client) = cluster(1).await;
        let producer = Producer::builder(&client).linger(Duration::from_secs(60)).build().await.unwrap();
        let delivery = producer.enqueue(ProducerRecord::to("orders").value("0")).await.unwrap();
        (producer, delivery, cluster)
    });
    drop(first);
    let error = delivery.try_outcome().unwrap().unwrap_err();
    assert_eq!(error.fate(), Fate::NotWritten);
    runtime().block_on(async {
        assert!(producer.send(ProducerRecord::to("orders").value("1")).await.unwrap_err().is_fatal());
        producer.flush().await;
        assert!(producer.close(Duration::from_secs(1)).await.is_err());
    });
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_producer_over_tcp() {
    let cluster = Cluster::builder().brokers(3).topic("orders", 4, 3).start().await.unwrap();
    let client = kafka_client::Client::connect(cluster.bootstrap()).await.unwrap();
    let producer = Producer::new(&client).await.unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|partition| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let mut deliveries = vec![];
                for index in 0..20_000 {
                    let record = ProducerRecord::to("orders").partition(partition).value(index.to_string());
                    deliveries.push(producer.enqueue(record).await.unwrap());
                }
                for delivery in deliveries {
                    delivery.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for partition in 0..4 {
        assert_complete(&cluster, partition, 20_000).await;
    }
}
