//! The client on the bundled broker: leaders, coordinators and controllers that move, brokers that come and go.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use kafka_broker::{Cluster, ClusterBuilder, on};
use kafka_client::layers::{BrokerRequest, BrokerResponse, BrokerService};
use kafka_client::metrics::MetricsSnapshot;
use kafka_client::properties::{Properties, PropertiesReport};
use kafka_client::raw::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_client::raw::wire::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, GroupId, ListOffsetsRequest, ListOffsetsResponse,
    OffsetFetchRequest, OffsetFetchResponse, StrBytes, TopicName,
};
use kafka_client::raw::{self, Route};
use kafka_client::{Api, Client, ClientBuilder, ClientConfig, ErrorCode, ErrorKind, NodeId, TopicPartition};
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

async fn start(builder: ClusterBuilder) -> (Cluster, Client) {
    let cluster = builder.transport_memory().start().await.unwrap();
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).seed(7);
    (cluster, client.connect().await.unwrap())
}

fn three() -> ClusterBuilder {
    Cluster::builder().brokers(3).topic("orders", 3, 3)
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

/// Asks a partition's leader for its end; the code is that of the partition.
async fn end_of(client: &Client, partition: i32) -> kafka_client::Result<NodeId> {
    let partition_request =
        ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(name("orders")).with_partitions(vec![partition_request]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let code = |answer: &ListOffsetsResponse| ErrorCode(answer.topics[0].partitions[0].error_code);
    let call = client.request(Route::Leader(TopicPartition::new("orders", partition)));
    Ok(call.send_checked(|_| Ok(request.clone()), code).await?.node)
}

/// Asks a group's coordinator for its offsets, in a version that has one code for the whole answer.
async fn offsets_of(client: &Client, group: &str) -> kafka_client::Result<NodeId> {
    let versions = kafka_client::VersionRange { min: 2, max: 7 };
    let group_id = GroupId(StrBytes::from_string(group.to_owned()));
    let request = OffsetFetchRequest::default().with_group_id(group_id).with_topics(None);
    let call = client.request(Route::Group(group.into())).versions(versions, "the old form");
    let code = |answer: &OffsetFetchResponse| ErrorCode(answer.error_code);
    Ok(call.send_checked(|_| Ok(request.clone()), code).await?.node)
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_followed() {
    let (cluster, client) = start(three()).await;
    let _tracked = client.refresher().track(["orders"], false);
    for _ in 0..6 {
        let leader = end_of(&client, 1).await.unwrap();
        let next = leader % 3 + 1;
        cluster.move_leader("orders", 1, next).unwrap();
        assert_eq!(end_of(&client, 1).await.unwrap(), next);
    }
    assert_eq!(client.metadata().topic("orders").unwrap().partition(1).unwrap().leader_epoch, Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stopped_is_replaced_by_another() {
    let (cluster, client) = start(three()).await;
    let leader = end_of(&client, 0).await.unwrap();
    cluster.stop_broker(leader).await.unwrap();
    let next = timeout(Duration::from_secs(5), end_of(&client, 0)).await.unwrap().unwrap();
    assert_ne!(next, leader);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_is_found_again() {
    let (cluster, client) = start(three()).await;
    let coordinator = offsets_of(&client, "g").await.unwrap();
    let next = coordinator % 3 + 1;
    cluster.move_coordinator("g", next).unwrap();
    assert_eq!(offsets_of(&client, "g").await.unwrap(), next);
    cluster.stop_broker(next).await.unwrap();
    let last = timeout(Duration::from_secs(5), offsets_of(&client, "g")).await.unwrap().unwrap();
    assert_ne!(last, next);
}

#[tokio::test(start_paused = true)]
async fn the_controller_is_reached_whoever_it_is() {
    let (cluster, client) = start(three()).await;
    for _ in 0..2 {
        let deadline = in_seconds(5);
        let controller = client.resolve(&Route::Controller, deadline).await.unwrap();
        cluster.stop_broker(controller).await.unwrap();
        let request = CreateTopicsRequest::default().with_timeout_ms(1000);
        let call = client.request(Route::Controller).deadline(deadline);
        let answer = call.send(|_| Ok(request.clone())).await.unwrap();
        assert_ne!(answer.node, controller);
        cluster.start_broker(controller).await.unwrap();
        client.refresher().request("test");
        sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_down_as_a_whole_is_found_again() {
    let (cluster, client) = start(three()).await;
    end_of(&client, 0).await.unwrap();
    for broker in 1..=3 {
        cluster.stop_broker(broker).await.unwrap();
    }
    let calling = tokio::spawn({
        let client = client.clone();
        async move { end_of(&client, 0).await }
    });
    sleep(Duration::from_secs(20)).await;
    assert!(!calling.is_finished());
    for broker in 1..=3 {
        cluster.start_broker(broker).await.unwrap();
    }
    timeout(Duration::from_secs(5), calling).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn topics_are_created_on_demand_only_where_both_sides_want_it() {
    let deadline = || in_seconds(4);
    let (_cluster, client) = start(three().config("auto.create.topics.enable", "true")).await;
    let refused = client.refresher().topic("new", false, deadline()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::UnknownTopic(_)), "{refused:?}");
    assert!(client.refresher().topic("new", true, deadline()).await.unwrap().partition_count() > 0);

    let (_cluster, client) = start(three().config("auto.create.topics.enable", "false")).await;
    let refused = client.refresher().topic("new", true, deadline()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::UnknownTopic(_)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_deleted_and_created_anew_is_another_topic() {
    let (_cluster, client) = start(three()).await;
    let _tracked = client.refresher().track(["orders"], true);
    let before = client.refresher().topic("orders", false, in_seconds(5)).await.unwrap();
    let delete = |version| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(1000);
        Ok(if version >= 6 {
            let topic = kafka_client::raw::wire::messages::delete_topics_request::DeleteTopicState::default()
                .with_name(Some(name("orders")));
            request.with_topics(vec![topic])
        } else {
            request.with_topic_names(vec![name("orders")])
        })
    };
    client.call_with(Route::Controller, delete).await.unwrap();
    let mut changes = client.refresher().subscribe();
    client.refresher().request("test");
    changes.changed().await.unwrap();
    // Tracked for creation, and the broker creates: it is back at once or soon, under another id.
    let other = async {
        loop {
            if let Some(topic) = client.metadata().topic("orders")
                && topic.partition_count() > 0
                && topic.id() != before.id()
            {
                return topic.clone();
            }
            client.refresher().request("test");
            changes.changed().await.unwrap();
        }
    };
    let after = timeout(Duration::from_secs(60), other).await.unwrap();
    assert_eq!(client.metadata().topic_by_id(after.id().unwrap()).unwrap().name(), before.name());
    assert!(client.metadata().topic_by_id(before.id().unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_and_a_slow_one_waited_for() {
    let (cluster, client) = start(three()).await;
    let lost = cluster.fault(on(Api::ListOffsets).nth(1)).after_effect().close();
    end_of(&client, 0).await.unwrap();
    lost.assert_fired();
    let slow = cluster.fault(on(Api::ListOffsets)).delay(Duration::from_secs(20));
    let begun = Instant::now();
    end_of(&client, 0).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(20));
    slow.assert_fired();
}

/// Polls a future so many times, letting everything else run in between, and drops it; says whether it was done.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_wait_dropped_at_any_point_leaves_the_client_whole() {
    let cluster = three().transport_memory().start().await.unwrap();
    let mut was_done = [false; 3];
    for polls in 0..60 {
        let builder = || Client::builder(cluster.bootstrap()).connector(cluster.connector()).seed(7);
        let connected = drop_after(polls, builder().connect()).await;
        let client = builder().build().unwrap();
        let known = drop_after(polls, client.refresher().topic("orders", false, in_seconds(30))).await;
        let found = drop_after(polls, client.resolve(&Route::Group("g".into()), in_seconds(30))).await;
        was_done = [connected, known, found];
        client.refresher().topic("orders", false, in_seconds(30)).await.unwrap();
        end_of(&client, 0).await.unwrap();
        offsets_of(&client, "g").await.unwrap();
    }
    assert_eq!(was_done, [true; 3], "the longest runs have to reach the end");
}

#[tokio::test]
async fn everything_can_be_shared_between_threads_and_every_wait_can_be_spawned() {
    fn is_shared<T: Send + Sync + 'static>() {}
    fn is_send<T: Send>(future: T) {
        drop(future);
    }
    is_shared::<Client>();
    is_shared::<ClientBuilder>();
    is_shared::<ClientConfig>();
    is_shared::<kafka_client::Error>();
    is_shared::<MetricsSnapshot>();
    is_shared::<Properties>();
    is_shared::<PropertiesReport>();
    is_shared::<BrokerRequest>();
    is_shared::<BrokerResponse>();
    is_shared::<BrokerService>();
    is_shared::<raw::Answer<()>>();
    is_shared::<raw::Call<'static>>();
    is_shared::<raw::Connection>();
    is_shared::<raw::Metadata>();
    is_shared::<raw::Owner>();
    is_shared::<raw::Progress>();
    is_shared::<raw::Refresher>();
    is_shared::<raw::Tracked>();

    let client = Client::builder("localhost:1").build().unwrap();
    let owner = client.owner();
    let group = || Route::Group("g".into());
    let request = || Ok(CreateTopicsRequest::default());
    is_send(Client::connect("localhost:1"));
    is_send(client.call(group(), CreateTopicsRequest::default()));
    is_send(client.call_with(group(), |_| request()));
    is_send(client.request(group()).on(&owner, raw::Lane::Group).send(|_| request()));
    is_send(client.request(group()).send_checked(|_| request(), |_| ErrorCode::NONE));
    is_send(client.connection(1, raw::Lane::Fetch, &owner));
    is_send(client.resolve(&group(), in_seconds(1)));
    is_send(client.refresher().ready(in_seconds(1)));
    is_send(client.refresher().topic("t", false, in_seconds(1)));
    fn of_a_connection(connection: &raw::Connection, request: BrokerRequest) {
        is_send(request.progress.clone().queued());
        is_send(connection.closed());
        is_send(connection.call(request));
    }
    let _ = of_a_connection;
}

/// A user's layer that counts.
#[derive(Clone)]
struct Count {
    inner: BrokerService,
    requests: Arc<AtomicU64>,
}

impl Service<BrokerRequest> for Count {
    type Response = BrokerResponse;
    type Error = kafka_client::Error;
    type Future = <BrokerService as Service<BrokerRequest>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<kafka_client::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: BrokerRequest) -> Self::Future {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.inner.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_sees_every_request_that_brokers_see() {
    let cluster = three().transport_memory().start().await.unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let layer = tower_layer::layer_fn({
        let requests = requests.clone();
        move |inner| Count { inner, requests: requests.clone() }
    });
    let builder =
        Client::builder(cluster.bootstrap()).connector(cluster.connector()).layer(layer).client_id("mine");
    let client = builder.connect().await.unwrap();
    for partition in 0..3 {
        end_of(&client, partition).await.unwrap();
    }
    let seen: Vec<_> =
        cluster.requests().into_iter().filter(|request| request.api != Api::ApiVersions).collect();
    assert_eq!(requests.load(Ordering::Relaxed), seen.len() as u64);
    assert!(seen.iter().all(|request| request.client_id.as_deref() == Some("mine")));
    let metrics = client.metrics();
    assert_eq!(metrics.request(Api::ListOffsets).unwrap().answered, 3);
}

async fn over_tcp() {
    let cluster = three().start().await.unwrap();
    let text = format!("metadata.broker.list={}\nclient.id=ported\nlinger.ms=1", cluster.bootstrap());
    let (builder, report) = Client::from_properties(&Properties::parse(&text).unwrap());
    report.check().unwrap();
    assert!(report.different_defaults().iter().any(|default| default.key == "socket.timeout.ms"));
    let client = builder.socket_buffers(65_536, None).connect().await.unwrap();
    assert_eq!(client.config().send_buffer_bytes, Some(65_536));
    assert_eq!(client.metadata().brokers().len(), 3);
    let calls = (0..30).map(|call| {
        let client = client.clone();
        tokio::spawn(async move { end_of(&client, call % 3).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    drop(client);
    cluster.stop().await;
}

#[tokio::test]
async fn it_works_over_tcp_on_one_thread() {
    over_tcp().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_over_tcp_on_several_threads() {
    over_tcp().await;
}
