//! Members of a group on the bundled broker: commits, revocations, coordinators and leaders that move, ends.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kafka_broker::{Acl, AclOperation, Cluster, ResourcePattern, on};
use kafka_client::{Api, Client, ErrorCode, Offset, TopicPartition};
use kafka_consumer::{
    Consumer, ConsumerBuilder, ConsumerHandle, ErrorKind, HookFuture, PartitionStream, RebalanceListener,
};
use tokio::time::{Instant, sleep};

use crate::harness::{client, next, nothing_for, partition, produce, soon, start};

const GROUP: &str = "billing";

fn member(client: &Client) -> ConsumerBuilder {
    Consumer::builder(client).group(GROUP).topics(["orders"]).start_at(Offset::Earliest)
}

fn value(bytes: &[u8]) -> i64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<i64> {
    let mut read = Vec::new();
    for _ in 0..count {
        read.push(value(&next(consumer).await.unwrap().value.unwrap()));
    }
    read
}

fn committed(cluster: &Cluster, index: i32) -> Option<i64> {
    cluster.committed(GROUP, "orders", index).map(|committed| committed.offset)
}

async fn one(partitions: i32) -> (Cluster, Client) {
    start(Cluster::builder().topic("orders", partitions, 1)).await
}

/// Notes what happens to it.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("{what} {partitions:?}"));
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl RebalanceListener for Diary {
    fn assigned<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.note("assigned", partitions);
        Box::pin(async {})
    }

    fn revoked<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.note("revoked", partitions);
        Box::pin(async {})
    }

    fn lost<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.note("lost", partitions);
        Box::pin(async {})
    }
}

#[tokio::test(start_paused = true)]
async fn an_automatic_commit_covers_what_was_done_with_and_close_the_rest() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 10).await;
    let mut consumer = member(&client).build().await.unwrap();
    assert_eq!(read(&mut consumer, 3).await, [0, 1, 2]);
    // The third is still in hand when the commit is due.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(committed(&cluster, 0), None);
    assert_eq!(read(&mut consumer, 1).await, [3]);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(committed(&cluster, 0), Some(3));
    soon(consumer.close(Duration::from_secs(10))).await.unwrap();
    assert_eq!(committed(&cluster, 0), Some(4));
    let mut consumer = member(&client).build().await.unwrap();
    assert_eq!(read(&mut consumer, 6).await, [4, 5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn where_reading_began_is_committed_so_that_a_restart_skips_nothing() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 5).await;
    let mut consumer = member(&client).start_at(Offset::Latest).build().await.unwrap();
    assert!(nothing_for(10, consumer.next()).await);
    assert_eq!(committed(&cluster, 0), Some(5));
    drop(consumer);
    produce(&client, "orders", 0, 5, 2).await;
    let mut consumer = member(&client).start_at(Offset::Latest).build().await.unwrap();
    assert_eq!(read(&mut consumer, 2).await, [5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_automatic_commit_is_made_again() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 2).await;
    let mut consumer = member(&client).build().await.unwrap();
    let refused = cluster.fault(on(Api::OffsetCommit).times(1)).error(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(read(&mut consumer, 2).await, [0, 1]);
    assert!(nothing_for(30, consumer.next()).await);
    refused.assert_fired();
    assert_eq!(committed(&cluster, 0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn close_leaves_the_group_though_the_commit_fails() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 2).await;
    let diary = Diary::default();
    let mut consumer = member(&client).rebalance_listener(diary.clone()).build().await.unwrap();
    assert_eq!(read(&mut consumer, 2).await, [0, 1]);
    let refused = cluster.fault(on(Api::OffsetCommit)).error(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    let error = soon(consumer.close(Duration::from_secs(10))).await.unwrap_err();
    refused.assert_fired();
    assert!(matches!(error.kind(), ErrorKind::CommitRefused(_)), "{error:?}");
    assert_eq!(diary.read(), ["assigned [orders-0]", "revoked [orders-0]"]);
    assert_eq!(cluster.group(GROUP).unwrap().members.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn close_keeps_its_deadline_whatever_hangs() {
    struct Hangs;
    impl RebalanceListener for Hangs {
        fn revoked<'a>(&'a self, _: &'a ConsumerHandle, _: &'a [TopicPartition]) -> HookFuture<'a> {
            Box::pin(pending())
        }
    }
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 2).await;
    let mut consumer = member(&client).rebalance_listener(Hangs).build().await.unwrap();
    assert_eq!(read(&mut consumer, 1).await, [0]);
    let start = Instant::now();
    consumer.close(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    let mut consumer = member(&client).build().await.unwrap();
    read(&mut consumer, 1).await;
    let _silent = cluster.fault(on(Api::OffsetCommit)).hang();
    let _deaf = cluster.fault(on(Api::LeaveGroup)).hang();
    let start = Instant::now();
    consumer.close(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_consumer_ends_its_membership_though_controls_are_left() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 1).await;
    let mut consumer = member(&client).build().await.unwrap();
    read(&mut consumer, 1).await;
    let handle = consumer.handle().clone();
    drop(consumer);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.group(GROUP).unwrap().members.len(), 0, "its session has expired");
    assert_eq!(committed(&cluster, 0), None);
    let error = soon(handle.commit()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_membership_is_fatal_and_told_with_every_poll() {
    let (cluster, client) = one(1).await;
    let refused = cluster.fault(on(Api::JoinGroup)).error(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let mut consumer = member(&client).build().await.unwrap();
    for _ in 0..3 {
        let error = next(&mut consumer).await.unwrap_err();
        assert!(error.is_fatal(), "{error:?}");
        assert_eq!(error.error_code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
        assert!(soon(consumer.next_batch()).await.is_err());
    }
    refused.assert_fired();
    soon(consumer.close(Duration::from_secs(5))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_says_whether_the_partitions_are_still_ours() {
    let cases = [
        (ErrorCode::REBALANCE_IN_PROGRESS, true),
        (ErrorCode::UNKNOWN_MEMBER_ID, false),
        (ErrorCode::ILLEGAL_GENERATION, false),
    ];
    for (code, is_ours) in cases {
        let (cluster, client) = one(1).await;
        produce(&client, "orders", 0, 0, 4).await;
        let diary = Diary::default();
        let builder = member(&client).auto_commit(false).rebalance_listener(diary.clone());
        let builder = builder.session(Duration::from_secs(10), Duration::from_secs(1));
        let mut consumer = builder.build().await.unwrap();
        assert_eq!(read(&mut consumer, 2).await, [0, 1]);
        let refused = cluster.fault(on(Api::OffsetCommit).times(1)).error(code);
        let error = soon(consumer.commit()).await.unwrap_err();
        refused.assert_fired();
        match error.kind() {
            ErrorKind::RebalanceInProgress { .. } => assert!(is_ours && error.is_retriable(), "{code}"),
            ErrorKind::NotAMember { .. } => assert!(!is_ours && !error.is_retriable(), "{code}"),
            other => panic!("{code}: {other:?}"),
        }
        assert!(!error.is_fatal(), "{code}");
        // Nothing was committed, so whoever gets the partition, here the same consumer, reads all of it.
        assert_eq!(read(&mut consumer, 4).await, [0, 1, 2, 3], "{code}");
        let gone = if is_ours { "revoked [orders-0]" } else { "lost [orders-0]" };
        assert_eq!(diary.read(), ["assigned [orders-0]", gone, "assigned [orders-0]"], "{code}");
        soon(consumer.commit()).await.unwrap();
        assert_eq!(committed(&cluster, 0), Some(4), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_hard_to_find_costs_time_and_nothing_else() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 4).await;
    let lookups = || on(Api::FindCoordinator);
    let faults = [
        cluster.fault(lookups().nth(1)).error(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        cluster.fault(lookups().nth(2)).close(),
        cluster.fault(lookups().nth(3)).hang(),
        cluster.fault(lookups().nth(4)).error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    ];
    let mut consumer = member(&client).auto_commit(false).build().await.unwrap();
    let reading = tokio::time::timeout(Duration::from_secs(300), read(&mut consumer, 2));
    assert_eq!(reading.await.unwrap(), [0, 1]);
    faults.iter().for_each(|fault| fault.assert_fired());
    // The coordinator is lost again, and whoever asked for it first does not wait for the answer.
    let _elsewhere = cluster.fault(on(Api::OffsetCommit).times(1)).error(ErrorCode::NOT_COORDINATOR);
    let slow = cluster.fault(lookups().times(1)).delay(Duration::from_secs(2));
    assert!(nothing_for(1, consumer.commit()).await);
    soon(consumer.commit()).await.unwrap();
    slow.assert_fired();
    assert_eq!(committed(&cluster, 0), Some(2));
    assert_eq!(cluster.group(GROUP).unwrap().members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_refused_ends_the_membership() {
    let (cluster, client) = one(1).await;
    let refused = cluster.fault(on(Api::FindCoordinator)).error(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let mut consumer = member(&client).build().await.unwrap();
    let error = next(&mut consumer).await.unwrap_err();
    refused.assert_fired();
    assert!(error.is_fatal(), "{error:?}");
    assert_eq!(error.error_code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_records_in_the_hands_of_tasks_and_commits_them() {
    let (cluster, client) = one(2).await;
    for index in 0..2 {
        produce(&client, "orders", index, 0, 10).await;
    }
    let mut partitions = member(&client).build().await.unwrap().partitions();
    let mut streams: BTreeMap<i32, PartitionStream> = BTreeMap::new();
    for _ in 0..2 {
        let stream = next(&mut partitions).await.unwrap();
        streams.insert(stream.partition().partition, stream);
    }
    let mut in_hand = Vec::new();
    for stream in streams.values_mut() {
        for _ in 0..3 {
            in_hand.push(next(stream).await.unwrap());
        }
    }
    let follows = tokio::spawn(async move {
        while let Some(Ok(stream)) = partitions.next().await {
            std::mem::forget(stream);
        }
    });
    let other = crate::harness::client(&cluster).await;
    let mut second = member(&other).build().await.unwrap();
    // Nobody lets go, so nobody goes on.
    assert!(nothing_for(20, second.next()).await);
    for stream in streams.values_mut() {
        assert!(soon(stream.next()).await.is_none(), "streams end at once");
    }
    for record in in_hand {
        record.ack();
    }
    let record = next(&mut second).await.unwrap();
    assert_eq!(record.offset, 3);
    follows.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_ends_at_once_though_a_revocation_still_waits() {
    let (_cluster, client) = one(2).await;
    for index in 0..2 {
        produce(&client, "orders", index, 0, 10).await;
    }
    let builder = member(&client).max_poll_interval(Duration::from_secs(20));
    let mut partitions = builder.build().await.unwrap().partitions();
    let mut first = next(&mut partitions).await.unwrap();
    let mut second = next(&mut partitions).await.unwrap();
    // In the hands of a task that does not come back with it.
    let _in_hand = next(&mut first).await.unwrap();
    let waits = tokio::spawn(async move { partitions.next().await.map(drop) });
    let start = Instant::now();
    while soon(second.next()).await.is_some() {
        if start.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    let ended =
        tokio::time::timeout(Duration::from_secs(40), async { while second.next().await.is_some() {} });
    ended.await.unwrap();
    waits.abort();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_not_polled_loses_its_partitions_and_comes_back() {
    let (cluster, client) = one(1).await;
    produce(&client, "orders", 0, 0, 4).await;
    let diary = Diary::default();
    let builder = member(&client).max_poll_interval(Duration::from_secs(10));
    let mut consumer = builder.rebalance_listener(diary.clone()).build().await.unwrap();
    assert_eq!(read(&mut consumer, 2).await, [0, 1]);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.group(GROUP).unwrap().members.len(), 0);
    // Nothing was committed of what was lost, so it is read again.
    assert_eq!(read(&mut consumer, 4).await, [0, 1, 2, 3]);
    assert_eq!(diary.read(), ["assigned [orders-0]", "lost [orders-0]", "assigned [orders-0]"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_records_is_a_sign_of_life() {
    let (cluster, client) = one(1).await;
    let builder = member(&client).max_poll_interval(Duration::from_secs(10));
    let diary = Diary::default();
    let mut consumer = builder.rebalance_listener(diary.clone()).build().await.unwrap();
    assert!(nothing_for(100, consumer.next()).await);
    assert_eq!(cluster.group(GROUP).unwrap().members.len(), 1);
    assert_eq!(diary.read(), ["assigned [orders-0]"]);
}

#[tokio::test(start_paused = true)]
async fn leaders_and_coordinators_move_and_nothing_is_lost_or_doubled() {
    let (cluster, client) = start(Cluster::builder().brokers(3).topic("orders", 3, 3)).await;
    let mut consumer =
        member(&client).auto_commit_interval(Duration::from_millis(200)).build().await.unwrap();
    let mut expected: Vec<i64> = Vec::new();
    let mut read = Vec::new();
    for round in 0..12 {
        for index in 0..3 {
            let first = round * 30 + i64::from(index) * 10;
            produce(&client, "orders", index, first, 10).await;
            expected.extend(first..first + 10);
        }
        let broker = i32::try_from(round % 3).unwrap() + 1;
        cluster.move_leader("orders", i32::try_from(round % 3).unwrap(), broker).unwrap();
        cluster.move_coordinator(GROUP, broker).unwrap();
        for _ in 0..30 {
            let record = next(&mut consumer).await.unwrap();
            read.push(value(&record.value.unwrap()));
        }
        soon(consumer.commit()).await.unwrap();
    }
    read.sort_unstable();
    assert_eq!(read, expected);
    soon(consumer.close(Duration::from_secs(10))).await.unwrap();
    for index in 0..3 {
        assert_eq!(committed(&cluster, index), Some(120));
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_fetches_lose_and_double_nothing() {
    let (cluster, client) = start(Cluster::builder().brokers(3).topic("orders", 3, 3)).await;
    for index in 0..3 {
        // In many batches, so that there is much to fetch.
        for first in (0..1000).step_by(25) {
            produce(&client, "orders", index, first, 25).await;
        }
    }
    let faults = [
        cluster.fault(on(Api::Fetch).probability(0.2, 1)).close(),
        cluster.fault(on(Api::Fetch).probability(0.2, 2)).error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        cluster.fault(on(Api::Fetch).probability(0.2, 3)).after_effect().close(),
        cluster.fault(on(Api::Fetch).probability(0.1, 4)).error(ErrorCode::UNKNOWN_LEADER_EPOCH),
        cluster.fault(on(Api::Fetch).probability(0.1, 5)).close_after_bytes(3000),
        cluster.fault(on(Api::Fetch).probability(0.1, 6)).throttle(300),
    ];
    let mut consumer = member(&client).fetch_bytes(16 << 10, 4 << 10).build().await.unwrap();
    let mut read = Vec::new();
    while read.len() < 3000 {
        let record = next(&mut consumer).await.unwrap();
        read.push((record.partition, record.offset));
    }
    for index in 0..3 {
        let of_one: Vec<i64> = read.iter().filter(|(p, _)| *p == index).map(|(_, offset)| *offset).collect();
        assert_eq!(of_one, (0..1000).collect::<Vec<_>>());
    }
    faults.iter().for_each(|fault| fault.assert_fired());
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn unassigned_topics_are_tracked_no_more() {
    let (_cluster, _) = one(1).await;
    let client = client(&_cluster).await;
    let mut consumer = member(&client).build().await.unwrap();
    assert!(nothing_for(10, consumer.next()).await);
    assert!(client.metadata().topic("orders").is_some());
    soon(consumer.close(Duration::from_secs(5))).await.unwrap();
    client.refresher().request("test");
    sleep(Duration::from_secs(5)).await;
    assert!(client.metadata().topic("orders").is_none());
    let _ = partition("orders", 0);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_refused_is_told_once_and_the_others_are_read() {
    let secret = Acl::deny("User:*", AclOperation::Describe, ResourcePattern::topic("secret"));
    let builder = Cluster::builder()
        .topic("orders", 1, 1)
        .topic("secret", 1, 1)
        .config("allow.everyone.if.no.acl.found", "true")
        .acl(secret);
    let (_cluster, client) = start(builder).await;
    produce(&client, "orders", 0, 0, 2).await;
    let mut consumer = member(&client).topics(["orders", "secret"]).build().await.unwrap();
    let (mut read, mut refused) = (Vec::new(), Vec::new());
    while read.len() < 2 || refused.is_empty() {
        match next(&mut consumer).await {
            Ok(record) => read.push(value(&record.value.unwrap())),
            Err(error) => refused.push(error),
        }
    }
    assert_eq!(read, [0, 1]);
    let [error] = &refused[..] else { panic!("{refused:?}") };
    assert!(
        matches!(error.kind(), ErrorKind::TopicRefused { topic, .. } if &**topic == "secret"),
        "{error:?}"
    );
    assert_eq!(error.error_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert!(!error.is_fatal() && !error.is_retriable());
    // Metadata comes again meanwhile.
    assert!(nothing_for(1000, consumer.next()).await);
}
