//! User layers between the producer and its connections: they may count, refuse and delay, but not reorder or repeat.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_client::layers::{BrokerRequest, BrokerService};
use kafka_producer::{ErrorKind, Fate, Producer, ProducerRecord};
use kafka_wire::api::Api;

use crate::support::{Answer, assert_complete, call, client, cluster, meddle};

async fn produce_through(handle: impl Fn(BrokerRequest, BrokerService) -> Answer + Send + Sync + 'static) {
    let (cluster, _) = cluster(2).await;
    let layer = meddle(move |request, inner| match request.api {
        Api::Produce => handle(request, inner),
        _ => call(inner, request),
    });
    let client = client(&cluster).layer(layer).build().unwrap();
    let producer = Producer::builder(&client).batch_size(200).build().await.unwrap();
    let mut deliveries = vec![];
    for index in 0..600 {
        for partition in 0..2 {
            let record = ProducerRecord::to("orders").partition(partition).value(index.to_string());
            deliveries.push(producer.enqueue(record).await.unwrap());
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    for partition in 0..2 {
        assert_complete(&cluster, partition, 600).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_count_requests() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    produce_through(move |request, service| {
        counted.fetch_add(1, Ordering::SeqCst);
        call(service, request)
    })
    .await;
    assert!(count.load(Ordering::SeqCst) > 10);
}

#[tokio::test(start_paused = true)]
async fn batches_that_a_layer_rejects_are_retried_at_the_head_of_their_partition() {
    let count = AtomicUsize::new(0);
    produce_through(move |request, service| {
        if count.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            let refusal = kafka_client::ErrorKind::Layer("not this one".into());
            return Box::pin(std::future::ready(Err(refusal.into())));
        }
        call(service, request)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_delays_at_random_changes_no_order() {
    for seed in 0..5 {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        produce_through(move |request, service| {
            let delay = Duration::from_millis(rng.lock().unwrap().u64(..40));
            Box::pin(async move {
                tokio::time::sleep(delay).await;
                call(service, request).await
            })
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_rejects_and_delays_before_and_after_changes_nothing_either() {
    for seed in 0..5 {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        produce_through(move |request, service| {
            let (before, after, reject) = {
                let mut rng = rng.lock().unwrap();
                (rng.u64(..30), rng.u64(..30), rng.u8(..5) == 0)
            };
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(before)).await;
                if reject {
                    return Err(kafka_client::ErrorKind::Layer("rejected".into()).into());
                }
                let answer = call(service, request).await;
                tokio::time::sleep(Duration::from_millis(after)).await;
                answer
            })
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_ends_the_producer_and_leaves_nobody_waiting() {
    for at_once in [true, false] {
        let (cluster, _) = cluster(1).await;
        let layer = meddle(move |request, inner| match request.api {
            Api::Produce if at_once => panic!("as asked"),
            Api::Produce => Box::pin(async { panic!("as asked, later") }),
            _ => call(inner, request),
        });
        let client = client(&cluster).layer(layer).build().unwrap();
        let producer = Producer::new(&client).await.unwrap();
        let error = producer.send(ProducerRecord::to("orders").value("0")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
        let error = producer.send(ProducerRecord::to("orders").value("1")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
        producer.flush().await;
        let _ = producer.close(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_layer_always_rejects_is_not_written() {
    let (cluster, _) = cluster(1).await;
    let layer = meddle(|request, inner| match request.api {
        Api::Produce => {
            Box::pin(std::future::ready(Err(kafka_client::ErrorKind::Layer("never".into()).into())))
        }
        _ => call(inner, request),
    });
    let client = client(&cluster).layer(layer).build().unwrap();
    let producer = Producer::new(&client).await.unwrap();
    let error = producer.send(ProducerRecord::to("orders").value("0")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeliveryTimedOut { .. }), "{error:?}");
    assert_eq!(error.fate(), Fate::NotWritten, "{error:?}");
}
