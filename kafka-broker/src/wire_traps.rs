//! What has made real clients stumble over other brokers, byte by byte. `api_versions` has that API's own.

use bytes::BytesMut;
use kafka_wire::api::{self, Api};
use kafka_wire::fetch::{FetchPartition, Request, TopicRef};
use kafka_wire::messages::create_topics_request::CreatableTopic;
use kafka_wire::messages::describe_topic_partitions_request::TopicRequest;
use kafka_wire::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DescribeTopicPartitionsRequest, MetadataRequest, StrBytes,
    TopicName,
};

use crate::wire_test::{Wire, fetch_request, memory_cluster};

/// The body that answers a body, behind the correlation id and, of a flexible version, the empty tag section.
async fn answer(wire: &mut Wire, api: Api, version: i16, body: &[u8]) -> Vec<u8> {
    wire.send_body(api, version, body).await;
    let frame = wire.receive_frame().await.expect("a response");
    frame[if api.is_flexible(version) { 5 } else { 4 }..].to_vec()
}

async fn ask<R: api::Request>(wire: &mut Wire, version: i16, request: R) -> Vec<u8> {
    let mut body = BytesMut::new();
    request.encode(version, &mut body).unwrap();
    answer(wire, R::API, version, &body).await
}

// Java fails with a NullPointerException where it finds null.
#[tokio::test]
async fn a_topic_that_cannot_be_created_has_empty_configs_not_null() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let topic = CreatableTopic::default()
        .with_name(TopicName::from(StrBytes::from_static_str("t")))
        .with_num_partitions(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]);
    let body = ask(&mut Wire::to(&cluster, 1), 7, request).await;
    let head = [0, 0, 0, 0, 2, 2, b't'];
    assert_eq!(body[..head.len()], head, "throttle time, one topic, its name");
    let tail = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0];
    assert_eq!(body[body.len() - tail.len()..], tail, "no partitions, no replicas, no configs, no tags");
}

#[tokio::test]
async fn partitions_have_empty_lists_of_eligible_leaders_not_null() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let topic = TopicRequest::default().with_name(TopicName::from(StrBytes::from_static_str("t")));
    let request =
        DescribeTopicPartitionsRequest::default().with_topics(vec![topic]).with_response_partition_limit(10);
    let body = ask(&mut Wire::to(&cluster, 1), 0, request).await;
    let partition = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..], // no error, number 0, leader 1, epoch 0
        &[2, 0, 0, 0, 1, 2, 0, 0, 0, 1],                 // replicas and in-sync replicas
        &[1, 1, 1, 0], // eligible leaders, last known ones, offline replicas, tags
    ]
    .concat();
    assert!(body.windows(partition.len()).any(|window| window == partition), "{body:?} lacks {partition:?}");
}

// librdkafka refuses null records.
#[tokio::test]
async fn nothing_to_read_is_an_empty_record_set_not_null() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    for (version, empty) in [(4, &[0, 0, 0, 0][..]), (11, &[0, 0, 0, 0]), (12, &[1, 0, 0, 0])] {
        let partitions = [FetchPartition::new(TopicRef { name: "t", id: [0; 16] }, 0, 0, 1000)];
        let mut body = BytesMut::new();
        Request { max_wait_ms: 0, ..fetch_request(&partitions) }.encode(version, &mut body).unwrap();
        let body = answer(&mut wire, Api::Fetch, version, &body).await;
        assert_eq!(body[body.len() - empty.len()..], *empty, "version {version}: {body:?}");
    }
}

// Clients send what is for the controller to the node of that id, so it must be one they were told of.
#[tokio::test]
async fn the_controller_is_one_of_the_brokers_that_are_listed() {
    let cluster = memory_cluster(3, "t", 1, 3).await;
    let mut stopped = Vec::new();
    loop {
        let alive = (1..=3).find(|broker| !stopped.contains(broker)).unwrap();
        let metadata = Wire::to(&cluster, alive).call(12, MetadataRequest::default()).await;
        let listed: Vec<i32> = metadata.brokers.iter().map(|broker| *broker.node_id).collect();
        assert!(listed.contains(&metadata.controller_id), "{} of {listed:?}", *metadata.controller_id);
        assert!(listed.iter().all(|broker| !stopped.contains(broker)));
        if listed.len() == 1 {
            return;
        }
        stopped.push(*metadata.controller_id);
        cluster.stop_broker(*metadata.controller_id).await.unwrap();
    }
}

// Version 1 lacks the current leader's epoch; clients that saw it advertised would skip their fencing.
#[tokio::test]
async fn ends_of_epochs_are_told_from_version_2_on() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let versions = Wire::to(&cluster, 1).call(0, ApiVersionsRequest::default()).await;
    let entry = versions.api_keys.iter().find(|api| api.api_key == 23).unwrap();
    assert_eq!((entry.min_version, entry.max_version), (2, 4));
    let mut wire = Wire::to(&cluster, 1);
    let partition = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let body = answer(&mut wire, Api::OffsetForLeaderEpoch, 2, &partition).await;
    let end = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(body[body.len() - end.len()..], end, "no error, partition 0, epoch 0, offset 0");
    wire.send_body(Api::OffsetForLeaderEpoch, 1, &partition).await;
    wire.assert_closed().await;
}
