//! Drops every public future at every one of its polls: nothing is lost, doubled or stuck by that.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::SinkExt;
use kafka_broker::on;
use kafka_producer::{Producer, ProducerRecord};
use kafka_wire::api::Api;

use crate::support::{client, cluster, values};

/// Polls `future` up to `polls` times, letting the rest of the world go on in between, and drops it. Says whether it was
/// ready before.
async fn drop_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|_| {
            // A waker of our own: each poll is ours to count.
            Poll::Ready(future.as_mut().poll(&mut Context::from_waker(Waker::noop())))
        })
        .await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    None
}

/// Runs `attempt` with more and more polls until it comes to its end three times; that must not take for ever.
async fn at_every_poll<T>(name: &str, mut attempt: impl AsyncFnMut(usize) -> Option<T>) {
    let mut ended = 0;
    for polls in 0..2000 {
        ended += usize::from(attempt(polls).await.is_some());
        if ended == 3 {
            assert!(polls > 2, "{name} never waited: the test shows nothing");
            return;
        }
    }
    panic!("{name} never came to its end");
}

/// What holds after every test here: each value at most once, those that were acknowledged exactly once, and the
/// producer still works with all its memory.
async fn check(cluster: &kafka_broker::Cluster, producer: &Producer, acknowledged: &[String]) {
    producer.flush().await;
    assert!(format!("{producer:?}").contains("available_memory: 65536"), "{producer:?}");
    producer.send(ProducerRecord::to("orders").partition(0).value("last")).await.unwrap();
    let mut found = values(cluster, 0).await;
    assert_eq!(found.last().map(String::as_str), Some("last"));
    let count = found.len();
    for value in acknowledged {
        assert!(found.contains(value), "{value} is lost");
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count, "something was written twice");
}

async fn producer(client: &kafka_client::Client) -> Producer {
    Producer::builder(client).batch_size(2048).buffer_memory(65_536).build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn send_can_be_dropped_at_every_poll() {
    let (cluster, client) = cluster(1).await;
    let producer = producer(&client).await;
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(20));
    let mut acknowledged = vec![];
    at_every_poll("send", async |polls| {
        let value = format!("v{polls}");
        let record = ProducerRecord::to("orders").partition(0).value(&value);
        let sent = drop_after(producer.send(record), polls).await;
        if let Some(sent) = &sent {
            assert!(sent.is_ok(), "{sent:?}");
            acknowledged.push(value.clone());
        }
        sent
    })
    .await;
    check(&cluster, &producer, &acknowledged).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_send_of_all_can_be_dropped_at_every_poll() {
    let (cluster, _) = cluster(1).await;
    at_every_poll("a first send", async |polls| {
        let client = client(&cluster).build().unwrap();
        let producer = producer(&client).await;
        let value = format!("v{polls}");
        let sent =
            drop_after(producer.send(ProducerRecord::to("orders").partition(0).value(&value)), polls).await;
        producer.flush().await;
        let found = values(&cluster, 0).await.iter().filter(|found| **found == value).count();
        assert!(found <= 1 && (sent.is_none() || found == 1), "{found}");
        sent
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn enqueue_that_waits_for_room_can_be_dropped_at_every_poll() {
    let (cluster, client) = cluster(1).await;
    let producer = producer(&client).await;
    producer.send(ProducerRecord::to("orders").partition(0).value("first")).await.unwrap();
    let mut accepted = vec![];
    at_every_poll("enqueue", async |polls| {
        let slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(30));
        let mut filler = 0;
        let mut fill = || {
            filler += 1;
            format!("filler {polls} {filler}")
        };
        while producer.try_enqueue(&ProducerRecord::to("orders").partition(0).value(fill())).is_ok() {}
        let value = format!("v{polls}");
        let record = ProducerRecord::to("orders").partition(0).value(&value);
        let delivery = drop_after(producer.enqueue(record), polls).await;
        drop(slow);
        producer.flush().await;
        if let Some(delivery) = delivery {
            delivery.unwrap().await.unwrap();
            accepted.push(value);
            return Some(());
        }
        // Not accepted, so never written.
        assert!(!values(&cluster, 0).await.contains(&value));
        None
    })
    .await;
    check(&cluster, &producer, &accepted).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_can_be_dropped_at_every_poll() {
    let (cluster, client) = cluster(1).await;
    let producer = producer(&client).await;
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(20));
    let mut accepted = vec![];
    at_every_poll("a delivery", async |polls| {
        let value = format!("v{polls}");
        let record = ProducerRecord::to("orders").partition(0).value(&value);
        let delivery = producer.enqueue(record).await.unwrap();
        // Accepted, so written whatever becomes of the delivery.
        accepted.push(value);
        drop_after(delivery, polls).await
    })
    .await;
    check(&cluster, &producer, &accepted).await;
}

#[tokio::test(start_paused = true)]
async fn flush_can_be_dropped_at_every_poll() {
    let (cluster, client) = cluster(1).await;
    let producer = producer(&client).await;
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(20));
    let mut accepted = vec![];
    at_every_poll("flush", async |polls| {
        let value = format!("v{polls}");
        let mut delivery =
            producer.enqueue(ProducerRecord::to("orders").partition(0).value(&value)).await.unwrap();
        accepted.push(value);
        let flushed = drop_after(producer.flush(), polls).await;
        assert!(flushed.is_none() || delivery.try_outcome().is_some_and(|outcome| outcome.is_ok()));
        flushed
    })
    .await;
    check(&cluster, &producer, &accepted).await;
}

#[tokio::test(start_paused = true)]
async fn send_all_can_be_dropped_at_every_poll() {
    let (cluster, client) = cluster(1).await;
    let producer = producer(&client).await;
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(5));
    let mut acknowledged = vec![];
    at_every_poll("send_all", async |polls| {
        let values: Vec<_> = (0..3).map(|index| format!("v{polls}-{index}")).collect();
        let records = values.iter().map(|value| ProducerRecord::to("orders").partition(0).value(value));
        let sent = drop_after(producer.send_all(records), polls).await;
        if let Some(sent) = &sent {
            assert!(sent.iter().all(Result::is_ok), "{sent:?}");
            acknowledged.extend(values.iter().cloned());
        }
        sent
    })
    .await;
    check(&cluster, &producer, &acknowledged).await;
}

#[tokio::test(start_paused = true)]
async fn close_can_be_dropped_at_every_poll_and_goes_on() {
    let (cluster, client) = cluster(1).await;
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(20));
    at_every_poll("close", async |polls| {
        let producer = producer(&client).await;
        let value = format!("v{polls}");
        let delivery =
            producer.enqueue(ProducerRecord::to("orders").partition(0).value(&value)).await.unwrap();
        let closed = drop_after(producer.close(Duration::from_secs(5)), polls).await;
        if polls > 0 {
            // Whether or not anybody waited for it, the producer is closing: it delivers and takes no more.
            assert!(producer.try_enqueue(&ProducerRecord::to("orders").partition(0).value("no")).is_err());
            delivery.await.unwrap();
        }
        producer.close(Duration::from_secs(5)).await.unwrap();
        closed
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn building_can_be_dropped() {
    let (_cluster, client) = cluster(1).await;
    assert!(drop_after(Producer::new(&client), 0).await.is_none());
    let producer = drop_after(Producer::new(&client), 1).await.unwrap().unwrap();
    producer.send(ProducerRecord::to("orders").value("x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sinks_flush_can_be_dropped_at_every_poll() {
    let (cluster, client) = cluster(1).await;
    let producer = producer(&client).await;
    let _slow = cluster.fault(on(Api::Produce)).delay(Duration::from_millis(20));
    let mut sink = producer.sink::<(), String>();
    let mut accepted = vec![];
    at_every_poll("a sink's flush", async |polls| {
        let value = format!("v{polls}");
        sink.feed(ProducerRecord::to("orders").partition(0).value(value.clone())).await.unwrap();
        accepted.push(value);
        drop_after(sink.flush(), polls).await
    })
    .await;
    drop(sink);
    check(&cluster, &producer, &accepted).await;
}
