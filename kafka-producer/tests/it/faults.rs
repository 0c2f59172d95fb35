//! Lost answers, refusals, moved leaders: nothing lost, nothing twice, order kept, fates told truly.

use std::time::Duration;

use kafka_broker::on;
use kafka_producer::{Acks, ErrorKind, Fate, Producer, ProducerRecord};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;

use crate::support::{assert_complete, client, cluster, leader, values};

async fn enqueue(producer: &Producer, range: std::ops::Range<usize>) -> Vec<kafka_producer::Delivery> {
    let mut deliveries = vec![];
    for index in range {
        let record = ProducerRecord::to("orders").partition(0).value(index.to_string());
        deliveries.push(producer.enqueue(record).await.unwrap());
    }
    deliveries
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_write_twice() {
    let (cluster, client) = cluster(1).await;
    let lost = cluster.fault(on(Api::Produce).nth(1)).after_effect().close();
    let producer = Producer::new(&client).await.unwrap();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    lost.assert_fired();
    assert_complete(&cluster, 0, 1).await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_in_the_middle_of_a_stream_write_nothing_twice_and_keep_the_order() {
    for nth in 1..=8 {
        let (cluster, client) = cluster(1).await;
        let lost = cluster.fault(on(Api::Produce).nth(nth)).after_effect().close();
        let never_arrived = cluster.fault(on(Api::Produce).nth(nth + 3)).close();
        let producer = Producer::builder(&client).batch_size(200).build().await.unwrap();
        for delivery in enqueue(&producer, 0..400).await {
            delivery.await.unwrap();
        }
        lost.assert_fired();
        never_arrived.assert_fired();
        assert_complete(&cluster, 0, 400).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_in_time_is_asked_for_again() {
    let (cluster, _) = cluster(1).await;
    let client = client(&cluster).request_timeout(Duration::from_secs(2)).build().unwrap();
    let hang = cluster.fault(on(Api::Produce).nth(1)).after_effect().hang();
    let producer = Producer::new(&client).await.unwrap();
    let start = tokio::time::Instant::now();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    hang.assert_fired();
    assert!((2..4).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_complete(&cluster, 0, 1).await;
}

#[tokio::test(start_paused = true)]
async fn codes_that_may_pass_are_retried_whether_or_not_the_batch_was_appended() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::CORRUPT_MESSAGE,
    ] {
        for appended in [false, true] {
            let (cluster, client) = cluster(1).await;
            let fault = cluster.fault(on(Api::Produce).nth(2).times(2));
            let fault = if appended { fault.after_effect() } else { fault }.error(code);
            let producer = Producer::builder(&client).batch_size(200).build().await.unwrap();
            for delivery in enqueue(&producer, 0..200).await {
                delivery.await.unwrap();
            }
            fault.assert_fired();
            assert_complete(&cluster, 0, 200).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_followed_without_loss_or_duplicates() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).batch_size(200).linger(Duration::ZERO).build().await.unwrap();
    let mut deliveries = vec![];
    for round in 0..30 {
        deliveries.extend(enqueue(&producer, round * 20..(round + 1) * 20).await);
        cluster.move_leader("orders", 0, 1 + (round % 3) as i32).unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_complete(&cluster, 0, 600).await;
}

#[tokio::test(start_paused = true)]
async fn a_hint_about_the_leader_is_followed_at_once() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).linger(Duration::ZERO).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    let leader = leader(&client, 0);
    cluster.move_leader("orders", 0, 1 + leader % 3).unwrap();
    let refreshes = || cluster.requests().iter().filter(|request| request.api == Api::Metadata).count();
    let before = refreshes();
    let start = tokio::time::Instant::now();
    producer.send(ProducerRecord::to("orders").value("1")).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    assert_eq!(refreshes(), before);
    assert_complete(&cluster, 0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stops_and_starts_loses_nothing() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).batch_size(300).build().await.unwrap();
    let mut deliveries = vec![];
    for round in 0..6 {
        let leader = 1 + round % 3;
        deliveries.extend(enqueue(&producer, round * 50..(round + 1) * 50).await);
        cluster.stop_broker(leader as i32).await.unwrap();
        deliveries.extend(enqueue(&producer, (round + 1) * 50..(round + 1) * 50).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.start_broker(leader as i32).await.unwrap();
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_complete(&cluster, 0, 300).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_expires_although_no_broker_can_be_reached() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client)
        .delivery_timeout(Duration::from_secs(40))
        .linger(Duration::ZERO)
        // A batch for each record: those of one batch expire together.
        .batch_size(100)
        .build()
        .await
        .unwrap();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    for broker in 1..=3 {
        cluster.stop_broker(broker).await.unwrap();
    }
    let start = tokio::time::Instant::now();
    let first = enqueue(&producer, 1..2).await.pop().unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let second = enqueue(&producer, 2..3).await.pop().unwrap();
    let error = first.await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeliveryTimedOut { .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 40, "{error}");
    second.await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 50);
    for broker in 1..=3 {
        cluster.start_broker(broker).await.unwrap();
    }
    producer.send(ProducerRecord::to("orders").partition(0).value("1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_expires_although_its_partition_has_no_leader() {
    let builder = kafka_broker::Cluster::builder().brokers(2).topic("orders", 2, 1).transport_memory();
    let cluster = builder.start().await.unwrap();
    let client = client(&cluster).build().unwrap();
    let producer =
        Producer::builder(&client).delivery_timeout(Duration::from_secs(40)).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    let leader = leader(&client, 0);
    cluster.stop_broker(leader).await.unwrap();
    let start = tokio::time::Instant::now();
    let error = producer.send(ProducerRecord::to("orders").partition(0).value("1")).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 40, "{error}");
    assert!(matches!(error.kind(), ErrorKind::DeliveryTimedOut { .. }), "{error:?}");
    // The other partition is not affected.
    producer.send(ProducerRecord::to("orders").partition(1).value("0")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn records_without_key_go_to_no_partition_without_a_leader_until_it_has_one() {
    let builder = kafka_broker::Cluster::builder().brokers(2).topic("orders", 8, 1).transport_memory();
    let cluster = builder.start().await.unwrap();
    let client = client(&cluster).build().unwrap();
    cluster.stop_broker(2).await.unwrap();
    let producer = Producer::builder(&client).batch_size(512).build().await.unwrap();
    let start = tokio::time::Instant::now();
    let partitions = async || -> Vec<i32> {
        let records = (0..2000).map(|_| ProducerRecord::to("orders").value("0123456789"));
        let sent = producer.send_all(records).await.into_iter();
        let mut partitions: Vec<_> = sent.map(|sent| sent.unwrap().partition()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    };
    let with_leader = partitions().await;
    assert!(start.elapsed() < Duration::from_secs(5), "no record waited: {:?}", start.elapsed());
    assert!((1..8).contains(&with_leader.len()), "{with_leader:?}");
    cluster.start_broker(2).await.unwrap();
    while partitions().await.len() < 8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < Duration::from_secs(600), "the others are never chosen again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_record_whose_answer_is_still_awaited_may_be_written_and_those_behind_it_are_once() {
    for appended in [false, true] {
        let (cluster, _) = cluster(1).await;
        let client = client(&cluster).request_timeout(Duration::from_secs(30)).build().unwrap();
        let producer = Producer::builder(&client)
            .delivery_timeout(Duration::from_secs(31))
            .linger(Duration::from_millis(1))
            .build()
            .await
            .unwrap();
        producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
        let fault = cluster.fault(on(Api::Produce).nth(1).times(1));
        let hang = if appended { fault.after_effect() } else { fault }.hang();
        let doubtful = enqueue(&producer, 1..2).await.pop().unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        hang.assert_fired();
        let behind = enqueue(&producer, 2..5).await;
        let refuse = cluster.fault(on(Api::Produce)).error(ErrorCode::NOT_ENOUGH_REPLICAS);
        let error = doubtful.await.unwrap_err();
        assert_eq!(error.fate(), Fate::PossiblyWritten, "{error}");
        drop(refuse);
        for delivery in behind {
            delivery.await.unwrap();
        }
        let found = values(&cluster, 0).await;
        let expected: &[&str] = if appended { &["0", "1", "2", "3", "4"] } else { &["0", "2", "3", "4"] };
        assert_eq!(found, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_will_not_pass_fails_the_batch_and_the_next_one_goes_on() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).linger(Duration::ZERO).build().await.unwrap();
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    let fault = cluster.fault(on(Api::Produce).nth(1)).error(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let error = producer.send(ProducerRecord::to("orders").value("refused")).await.unwrap_err();
    fault.assert_fired();
    assert_eq!(error.error_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!((error.fate(), error.is_retriable()), (Fate::NotWritten, false));
    producer.send(ProducerRecord::to("orders").value("1")).await.unwrap();
    assert_complete(&cluster, 0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_in_mid_stream_leaves_the_others_whole_and_in_order() {
    for nth in 1..=6 {
        let (cluster, client) = cluster(1).await;
        let fault = cluster.fault(on(Api::Produce).nth(nth)).error(ErrorCode::INVALID_TIMESTAMP);
        let producer = Producer::builder(&client).batch_size(200).build().await.unwrap();
        let mut written = vec![];
        for (index, delivery) in enqueue(&producer, 0..300).await.into_iter().enumerate() {
            match delivery.await {
                Ok(_) => written.push(index.to_string()),
                Err(error) => assert_eq!(error.fate(), Fate::NotWritten, "{error}"),
            }
        }
        fault.assert_fired();
        assert!(written.len() < 300);
        assert_eq!(values(&cluster, 0).await, written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_broker_takes_is_split() {
    let builder = kafka_broker::Cluster::builder()
        .topic("orders", 1, 1)
        .topic_config("max.message.bytes", "2000")
        .transport_memory();
    let cluster = builder.start().await.unwrap();
    let client = client(&cluster).build().unwrap();
    let producer = Producer::new(&client).await.unwrap();
    let padding = "x".repeat(90);
    let mut deliveries = vec![];
    for index in 0..300 {
        let record = ProducerRecord::to("orders").value(format!("{index:04}{padding}"));
        deliveries.push(producer.enqueue(record).await.unwrap());
    }
    let too_large = producer.enqueue(ProducerRecord::to("orders").value("y".repeat(5000))).await.unwrap();
    let last =
        producer.enqueue(ProducerRecord::to("orders").value(format!("{:04}{padding}", 300))).await.unwrap();
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, Some(offset as i64));
    }
    let error = too_large.await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!(error.fate(), Fate::NotWritten);
    assert_eq!(last.await.unwrap().offset, Some(300));
    let found: Vec<_> = values(&cluster, 0).await.iter().map(|value| value[..4].to_owned()).collect();
    assert_eq!(found, (0..=300).map(|index| format!("{index:04}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn records_that_a_compacted_topic_refuses_are_named_one_by_one() {
    let builder = kafka_broker::Cluster::builder()
        .topic("orders", 1, 1)
        .topic_config("cleanup.policy", "compact")
        .transport_memory();
    let cluster = builder.start().await.unwrap();
    let client = client(&cluster).build().unwrap();
    let producer = Producer::new(&client).await.unwrap();
    let mut deliveries = vec![];
    for index in 0..5 {
        let key = (index != 3).then_some("k");
        deliveries.push(producer.enqueue(ProducerRecord::to("orders").key(key).value("v")).await.unwrap());
    }
    for (index, delivery) in deliveries.into_iter().enumerate() {
        let error = delivery.await.unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::INVALID_RECORD));
        assert_eq!(error.fate(), Fate::NotWritten);
        let is_named = matches!(error.kind(), ErrorKind::Refused { .. });
        assert_eq!((is_named, error.is_retriable()), (index == 3, index != 3), "{index}: {error:?}");
    }
    assert_eq!(
        producer.send(ProducerRecord::to("orders").key("k").value("v")).await.unwrap().offset,
        Some(0)
    );
}

#[tokio::test(start_paused = true)]
async fn without_idempotence_order_is_kept_and_an_unclear_fate_is_told() {
    let (cluster, client) = cluster(1).await;
    let producer =
        Producer::builder(&client).acks(Acks::Leader).retries(0).batch_size(200).build().await.unwrap();
    let lost = cluster.fault(on(Api::Produce).nth(2)).after_effect().close();
    let refused = cluster.fault(on(Api::Produce).nth(4)).error(ErrorCode::NOT_ENOUGH_REPLICAS);
    let mut fates = vec![];
    let mut written = vec![];
    for (index, delivery) in enqueue(&producer, 0..200).await.into_iter().enumerate() {
        match delivery.await {
            Ok(_) => written.push(index.to_string()),
            Err(error) => {
                if error.fate() == Fate::PossiblyWritten {
                    // The answer was lost after the append.
                    written.push(index.to_string());
                }
                fates.push(error.fate());
            }
        }
    }
    lost.assert_fired();
    refused.assert_fired();
    assert!(fates.contains(&Fate::PossiblyWritten) && fates.contains(&Fate::NotWritten), "{fates:?}");
    assert_eq!(values(&cluster, 0).await, written);
}

#[tokio::test(start_paused = true)]
async fn without_idempotence_retries_keep_the_order() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).idempotence(false).batch_size(200).build().await.unwrap();
    let fault =
        cluster.fault(on(Api::Produce).probability(0.3, 5).times(20)).error(ErrorCode::NOT_ENOUGH_REPLICAS);
    for delivery in enqueue(&producer, 0..500).await {
        delivery.await.unwrap();
    }
    fault.assert_fired();
    assert_complete(&cluster, 0, 500).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_grants_no_producer_id_makes_every_send_fail() {
    let (cluster, client) = cluster(1).await;
    let fault = cluster.fault(on(Api::InitProducerId)).error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let producer = Producer::new(&client).await.unwrap();
    let error = producer.send(ProducerRecord::to("orders").value("0")).await.unwrap_err();
    fault.assert_fired();
    assert_eq!(error.error_code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    assert_eq!((error.fate(), error.is_fatal()), (Fate::NotWritten, true), "{error:?}");
    let error = producer.send(ProducerRecord::to("orders").value("1")).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
}

#[tokio::test(start_paused = true)]
async fn a_producer_id_that_comes_late_delays_the_records_and_no_more() {
    let (cluster, client) = cluster(1).await;
    let fault =
        cluster.fault(on(Api::InitProducerId).nth(1).times(3)).error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let producer = Producer::new(&client).await.unwrap();
    for delivery in enqueue(&producer, 0..50).await {
        delivery.await.unwrap();
    }
    fault.assert_fired();
    assert_complete(&cluster, 0, 50).await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_connection_is_left_alone_for_as_long() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).linger(Duration::ZERO).build().await.unwrap();
    let throttle = cluster.fault(on(Api::Produce).nth(1)).throttle(2000);
    producer.send(ProducerRecord::to("orders").value("0")).await.unwrap();
    throttle.assert_fired();
    let start = tokio::time::Instant::now();
    producer.send(ProducerRecord::to("orders").value("1")).await.unwrap();
    assert!((1900..2500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_complete(&cluster, 0, 2).await;
}
