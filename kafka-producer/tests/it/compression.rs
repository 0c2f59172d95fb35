//! All codecs, on the sender's task and off it.

use kafka_producer::{Compression, Producer, ProducerRecord};

use crate::support::{assert_complete, cluster};

#[tokio::test]
async fn every_codec_delivers_everything_in_order() {
    for codec in Compression::ALL {
        let (cluster, client) = cluster(2).await;
        let lost =
            cluster.fault(kafka_broker::on(kafka_wire::api::Api::Produce).nth(3)).after_effect().close();
        let producer = Producer::builder(&client).compression(codec).batch_size(2000).build().await.unwrap();
        let mut deliveries = vec![];
        for index in 0..2000 {
            for partition in 0..2 {
                let record = ProducerRecord::to("orders").partition(partition).value(index.to_string());
                deliveries.push(producer.enqueue(record).await.unwrap());
            }
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        lost.assert_fired();
        for partition in 0..2 {
            assert_complete(&cluster, partition, 2000).await;
        }
    }
}

#[tokio::test]
async fn a_level_that_the_codec_lacks_fails_the_build_by_name() {
    let (_cluster, client) = cluster(1).await;
    let builder = Producer::builder(&client).compression(Compression::Gzip).compression_level(77);
    let error = builder.build().await.unwrap_err().to_string();
    assert!(error.contains("compression.gzip.level") && error.contains("77"), "{error}");
}
