//! A full buffer makes senders wait, in line and not for ever, and a cancelled wait gives its place up.

use std::time::Duration;

use kafka_broker::on;
use kafka_producer::{ErrorKind, Fate, Producer, ProducerRecord};
use kafka_wire::api::Api;

use crate::support::{assert_complete, client, cluster};

const MEMORY: usize = 16 * 1024;

async fn small_producer(client: &kafka_client::Client) -> Producer {
    let builder = Producer::builder(client).batch_size(4096).buffer_memory(MEMORY);
    builder.max_block(Duration::from_secs(5)).build().await.unwrap()
}

/// Enqueues until the buffer is full.
async fn fill(producer: &Producer) -> usize {
    producer.send(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    let mut count = 1;
    loop {
        match producer.try_enqueue(&ProducerRecord::to("orders").partition(0).value(format!("{count}"))) {
            Ok(_) => count += 1,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BufferFull { capacity: MEMORY }), "{error:?}");
                assert!(error.is_retriable() && error.fate() == Fate::NotWritten);
                return count;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_enqueue_wait_until_batches_are_acknowledged() {
    let (cluster, client) = cluster(1).await;
    let producer = small_producer(&client).await;
    let slow = cluster.fault(on(Api::Produce)).delay(Duration::from_secs(1));
    let count = fill(&producer).await;
    assert!(count > 500, "{count}");
    for index in count..count + 3000 {
        let delivery = producer.enqueue(ProducerRecord::to("orders").partition(0).value(index.to_string()));
        drop(delivery.await.unwrap());
    }
    producer.flush().await;
    slow.assert_fired();
    assert_complete(&cluster, 0, count + 3000).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_max_block() {
    let (cluster, _) = cluster(1).await;
    let client = client(&cluster).build().unwrap();
    let producer = small_producer(&client).await;
    producer.send(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    let hang = cluster.fault(on(Api::Produce)).hang();
    let full = fill_hung(&producer);
    let start = tokio::time::Instant::now();
    let error = producer.enqueue(ProducerRecord::to("orders").partition(0).value("x")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BlockedTooLong { .. }), "{error:?}");
    assert_eq!((error.fate(), start.elapsed().as_secs()), (Fate::NotWritten, 5));
    hang.assert_fired();
    drop(full);
}

fn fill_hung(producer: &Producer) -> Vec<kafka_producer::Delivery> {
    let mut deliveries = vec![];
    while let Ok(delivery) =
        producer.try_enqueue(&ProducerRecord::to("orders").partition(0).value("some value"))
    {
        deliveries.push(delivery);
    }
    deliveries
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_makes_lingering_batches_go_out() {
    let (_cluster, client) = cluster(1).await;
    let builder = Producer::builder(&client).batch_size(8192).buffer_memory(8192);
    let producer = builder.linger(Duration::from_secs(30)).build().await.unwrap();
    let first = producer.enqueue(ProducerRecord::to("orders").value(vec![1; 3000])).await.unwrap();
    let start = tokio::time::Instant::now();
    let second = producer.enqueue(ProducerRecord::to("orders").value(vec![1; 6000])).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    first.await.unwrap();
    producer.flush().await;
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_get_room_in_the_order_they_came() {
    let (cluster, client) = cluster(1).await;
    let producer = small_producer(&client).await;
    producer.send(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    let slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(500));
    let held = fill_hung(&producer);
    let order = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let mut waiting = vec![];
    for index in 0..4 {
        let (producer, order) = (producer.clone(), order.clone());
        // Large ones first: they must not be overtaken by the small.
        let size = if index % 2 == 0 { 4000 } else { 10 };
        waiting.push(tokio::spawn(async move {
            let record = ProducerRecord::to("orders").partition(0).value(vec![0; size]);
            let delivery = producer.enqueue(record).await.unwrap();
            order.lock().unwrap().push(index);
            delivery.await.unwrap();
        }));
        tokio::task::yield_now().await;
    }
    for task in waiting {
        task.await.unwrap();
    }
    let order = order.lock().unwrap().clone();
    assert_eq!(order.len(), 4);
    assert!(order.iter().position(|one| *one == 0) < order.iter().position(|one| *one == 2), "{order:?}");
    slow.assert_fired();
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_gives_its_place_and_its_credit_up() {
    let (cluster, client) = cluster(1).await;
    let producer = small_producer(&client).await;
    producer.send(ProducerRecord::to("orders").partition(0).value("0")).await.unwrap();
    let hang = cluster.fault(on(Api::Produce).nth(1).times(3)).delay(Duration::from_secs(2));
    let held = fill_hung(&producer);
    for _ in 0..50 {
        let enqueue = producer.enqueue(ProducerRecord::to("orders").partition(0).value(vec![0; 4000]));
        assert!(tokio::time::timeout(Duration::from_millis(10), enqueue).await.is_err());
    }
    hang.assert_fired();
    for delivery in held {
        delivery.await.unwrap();
    }
    producer.flush().await;
    assert!(format!("{producer:?}").contains(&format!("available_memory: {MEMORY}")), "{producer:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_lingers_with_memory_that_another_waits_for() {
    let (cluster, client) = cluster(1).await;
    let builder = Producer::builder(&client).buffer_memory(4096);
    let hour = Duration::from_secs(3600);
    let producer = builder.linger(hour).delivery_timeout(2 * hour).build().await.unwrap();
    let start = tokio::time::Instant::now();
    // One after the other they find no room, get it from the one before, and hold it in a batch that is not full.
    let waiting = (0..4).map(|_| producer.enqueue(ProducerRecord::to("orders").value(vec![0; 3000])));
    let deliveries = futures::future::join_all(waiting).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    producer.flush().await;
    for delivery in deliveries {
        delivery.unwrap().await.unwrap();
    }
    assert_eq!(cluster.records("orders").await.len(), 4);
}

/// The step in which buffers grow would go past all the memory there is.
#[tokio::test(start_paused = true)]
async fn a_record_goes_through_memory_that_is_smaller_than_a_batch() {
    let (cluster, client) = cluster(1).await;
    let producer = Producer::builder(&client).buffer_memory(20_000).build().await.unwrap();
    for _ in 0..3 {
        producer.send(ProducerRecord::to("orders").value(vec![0; 17_000])).await.unwrap();
    }
    assert_eq!(cluster.records("orders").await.len(), 3);
}
