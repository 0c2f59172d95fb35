//! Memberships on the bundled broker, over its in-memory transport and on a paused clock.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafka_broker::{Cluster, on};
use kafka_client::Client;
use kafka_client::raw::Route;
use kafka_client::types::{OffsetAndMetadata, TopicPartition};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_wire::messages::{StrBytes, TopicName};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::assignor::by_name;
use super::config::GroupConfig;
use super::interface::{GroupEvent, GroupHandle, Offsets, Release};
use super::task::spawn;
use crate::error::ErrorKind;

async fn cluster(brokers: i32) -> Cluster {
    let builder = Cluster::builder().brokers(brokers).topic("orders", 4, 1).topic("parcels", 2, 1);
    builder.seed(1).transport_memory().start().await.unwrap()
}

async fn connect(cluster: &Cluster) -> Client {
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector()).seed(1);
    builder.connect().await.unwrap()
}

/// A member with an application that does as it is told at once, unless a test takes the events itself.
struct Member {
    handle: GroupHandle,
    events: mpsc::UnboundedReceiver<GroupEvent>,
    owned: BTreeSet<TopicPartition>,
}

impl Member {
    fn new(client: &Client, config: GroupConfig) -> Self {
        let (handle, events) = spawn(client, &client.owner(), config);
        Self { handle, events, owned: BTreeSet::new() }
    }

    fn joining(client: &Client, config: GroupConfig, topics: &[&str]) -> Self {
        let member = Self::new(client, config);
        member.handle.subscribe(topics.iter().map(|topic| Arc::from(*topic)).collect());
        member
    }

    async fn event(&mut self) -> GroupEvent {
        self.handle.polls().touch();
        timeout(Duration::from_secs(400), self.events.recv()).await.expect("an event").expect("a task")
    }

    /// Follows one event, as an application would that has nothing to finish.
    async fn follow(&mut self) {
        match self.event().await {
            GroupEvent::Assigned(partitions) => self.owned.extend(partitions),
            GroupEvent::Revoked(partitions, release) => {
                self.owned.retain(|owned| !partitions.contains(owned));
                release.with(Offsets::new());
            }
            GroupEvent::Lost(partitions) => {
                self.owned.retain(|owned| !partitions.contains(owned));
            }
            GroupEvent::Failed(error) => panic!("{error}"),
        }
    }

    async fn revoked(&mut self) -> (Vec<TopicPartition>, Release) {
        loop {
            match self.event().await {
                GroupEvent::Revoked(partitions, release) => return (partitions, release),
                GroupEvent::Assigned(partitions) if partitions.is_empty() => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn commit(&self, partition: i32, offset: i64) -> crate::Result<()> {
        self.handle.commit(offsets(&[(partition, offset)]), Instant::now() + Duration::from_secs(60)).await
    }

    async fn committed(&self, partition: i32) -> Option<i64> {
        let partition = orders(partition);
        let deadline = Instant::now() + Duration::from_secs(60);
        let committed = self.handle.committed(std::slice::from_ref(&partition), deadline).await.unwrap();
        committed[&partition].as_ref().map(|committed| committed.offset)
    }
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn offsets(of: &[(i32, i64)]) -> Offsets {
    of.iter().map(|(partition, offset)| (orders(*partition), OffsetAndMetadata::new(*offset))).collect()
}

fn config() -> GroupConfig {
    GroupConfig::new("billing")
}

fn cooperative() -> GroupConfig {
    GroupConfig { assignors: vec![by_name("cooperative-sticky").unwrap()], ..config() }
}

/// Lets all members follow their events until `settled` holds.
async fn until(members: &mut [&mut Member], settled: impl Fn(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(400);
    while !settled(members) {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            members.iter().map(|member| &member.owned).collect::<Vec<_>>()
        );
        let mut heard = false;
        for member in members.iter_mut() {
            member.handle.polls().touch();
            if !member.events.is_empty() {
                member.follow().await;
                heard = true;
            }
        }
        if !heard {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn shared(sizes: &'static [usize]) -> impl Fn(&[&mut Member]) -> bool {
    move |members| members.iter().map(|member| member.owned.len()).eq(sizes.iter().copied())
}

#[tokio::test(start_paused = true)]
async fn the_first_member_gets_everything() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut member = Member::joining(&client, config(), &["orders", "parcels"]);
    until(&mut [&mut member], shared(&[6])).await;
    assert!(member.handle.membership().generation > 0);
}

#[tokio::test(start_paused = true)]
async fn two_members_on_one_client_share_within_a_few_heartbeats() {
    for config in [config, cooperative] {
        let cluster = cluster(1).await;
        let client = connect(&cluster).await;
        let mut first = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut first], shared(&[4])).await;
        let start = Instant::now();
        let mut second = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut first, &mut second], shared(&[2, 2])).await;
        // Far below the rebalance timeout of 5 minutes, which a heartbeat behind a parked JoinGroup would cost.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_revokes_before_rejoining() {
    for (config, held) in [(config as fn() -> GroupConfig, 4), (cooperative, 2)] {
        let cluster = cluster(1).await;
        let client = connect(&cluster).await;
        let mut first = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut first], shared(&[4])).await;
        let mut second = Member::joining(&client, config(), &["orders"]);

        let (partitions, release) = first.revoked().await;
        assert_eq!(partitions.len(), held);
        // However long it takes, within the rebalance timeout nobody else gets what was not let go of.
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            first.handle.polls().touch();
            while let Ok(event) = second.events.try_recv() {
                assert!(matches!(&event, GroupEvent::Assigned(none) if none.is_empty()), "{event:?}");
            }
        }
        release.with(Offsets::new());
        first.owned.retain(|owned| !partitions.contains(owned));
        until(&mut [&mut first, &mut second], shared(&[2, 2])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_release_brings_is_committed_before_the_partitions_change_hands() {
    for config in [config, cooperative] {
        let cluster = cluster(1).await;
        let client = connect(&cluster).await;
        let mut first = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut first], shared(&[4])).await;
        let mut second = Member::joining(&client, config(), &["orders"]);
        let (partitions, release) = first.revoked().await;
        first.owned.retain(|owned| !partitions.contains(owned));
        release.with(partitions.iter().map(|of| (of.clone(), OffsetAndMetadata::new(7))).collect());
        until(&mut [&mut first, &mut second], |members| members[1].owned.len() == 2).await;
        for partition in &second.owned {
            assert_eq!(cluster.committed("billing", "orders", partition.partition).unwrap().offset, 7);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_application_may_commit_while_it_lets_go() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut first = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut first], shared(&[4])).await;
    let _second = Member::joining(&client, config(), &["orders"]);
    let (_, release) = first.revoked().await;
    first.commit(3, 9).await.unwrap();
    drop(release);
    // And not any more once it has: who reads them next starts from what there is.
    let error = first.commit(3, 10).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RebalanceInProgress { .. }), "{error}");
    assert_eq!(first.committed(3).await, Some(9));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_hands_over_at_once_and_one_that_vanishes_after_its_session() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut stays = Member::joining(&client, config(), &["orders"]);
    for (leaves, at_most) in [(true, 10), (false, 60)] {
        let mut goes = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut stays, &mut goes], shared(&[2, 2])).await;
        let start = Instant::now();
        if leaves {
            let leave = goes.handle.leave(Instant::now() + Duration::from_secs(30));
            let (revoked, ()) = tokio::join!(
                async {
                    let Some(GroupEvent::Revoked(partitions, release)) = goes.events.recv().await else {
                        panic!()
                    };
                    let offsets = partitions.iter().map(|of| (of.clone(), OffsetAndMetadata::new(5)));
                    release.with(offsets.collect());
                    partitions
                },
                leave
            );
            assert_eq!(revoked.len(), 2);
            for partition in revoked {
                assert_eq!(cluster.committed("billing", "orders", partition.partition).unwrap().offset, 5);
            }
        }
        drop(goes);
        until(&mut [&mut stays], shared(&[4])).await;
        assert!(start.elapsed() < Duration::from_secs(at_most), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_static_member_keeps_its_place_while_it_restarts() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let of = |instance: &str| GroupConfig { instance_id: Some(instance.into()), ..config() };
    let mut stays = Member::joining(&client, of("a"), &["orders"]);
    let mut restarts = Member::joining(&client, of("b"), &["orders"]);
    until(&mut [&mut stays, &mut restarts], shared(&[2, 2])).await;
    let generation = stays.handle.membership().generation;
    let had = restarts.owned.clone();

    let leave = restarts.handle.leave(Instant::now() + Duration::from_secs(30));
    tokio::join!(async { drop(restarts.events.recv().await) }, leave);
    sleep(Duration::from_secs(20)).await;
    let mut restarted = Member::joining(&client, of("b"), &["orders"]);
    until(&mut [&mut restarted], shared(&[2])).await;
    assert_eq!(restarted.owned, had);
    assert_eq!(restarted.handle.membership().generation, generation);
    assert!(stays.events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_process_of_one_instance_id_fences_the_first() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let of = || GroupConfig { instance_id: Some("a".into()), ..config() };
    let mut first = Member::joining(&client, of(), &["orders"]);
    until(&mut [&mut first], shared(&[4])).await;
    let mut second = Member::joining(&client, of(), &["orders"]);
    until(&mut [&mut second], shared(&[4])).await;
    let GroupEvent::Lost(lost) = first.event().await else { panic!() };
    assert_eq!(lost.len(), 4);
    let GroupEvent::Failed(error) = first.event().await else { panic!() };
    assert_eq!(error.error_code(), Some(ErrorCode::FENCED_INSTANCE_ID));
    assert!(error.is_fatal());
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_or_stops_costs_no_membership() {
    let cluster = cluster(3).await;
    let client = connect(&cluster).await;
    let mut member = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
    let before = member.handle.membership();
    for broker in [1, 2, 3, 1] {
        cluster.move_coordinator("billing", broker).unwrap();
        member.commit(0, i64::from(broker)).await.unwrap();
        sleep(Duration::from_secs(20)).await;
        member.handle.polls().touch();
        assert_eq!(member.committed(0).await, Some(i64::from(broker)));
    }
    cluster.stop_broker(1).await.unwrap();
    member.commit(0, 100).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(member.committed(0).await, Some(100));
    assert_eq!(member.handle.membership(), before);
    assert!(member.events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_errors_that_pass_are_tried_again() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let faults = [
        cluster.fault(on(Api::JoinGroup).nth(1)).after_effect().close(),
        cluster.fault(on(Api::JoinGroup).nth(3)).error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        cluster.fault(on(Api::SyncGroup).nth(1)).after_effect().close(),
        cluster.fault(on(Api::SyncGroup).nth(2)).error(ErrorCode::REBALANCE_IN_PROGRESS),
        cluster.fault(on(Api::Heartbeat).nth(2)).close(),
        cluster.fault(on(Api::OffsetCommit).nth(1)).after_effect().close(),
        cluster.fault(on(Api::OffsetCommit).nth(2)).error(ErrorCode::REQUEST_TIMED_OUT),
        cluster.fault(on(Api::OffsetFetch).nth(1)).error(ErrorCode::UNSTABLE_OFFSET_COMMIT),
        cluster.fault(on(Api::OffsetFetch).nth(2)).error(ErrorCode::NOT_COORDINATOR),
    ];
    let mut member = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
    member.commit(1, 8).await.unwrap();
    assert_eq!(member.committed(1).await, Some(8));
    assert_eq!(member.committed(2).await, None);
    sleep(Duration::from_secs(10)).await;
    for fault in &faults {
        fault.assert_fired();
    }
    assert!(member.events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_removed_loses_its_partitions_and_joins_again() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    for (code, keeps_its_id) in [(ErrorCode::UNKNOWN_MEMBER_ID, false), (ErrorCode::ILLEGAL_GENERATION, true)]
    {
        let mut member = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut member], shared(&[4])).await;
        let before = member.handle.membership();
        let fault = cluster.fault(on(Api::Heartbeat).times(1)).error(code);
        let GroupEvent::Lost(lost) = member.event().await else { panic!() };
        assert_eq!(lost.len(), 4);
        member.owned.clear();
        fault.assert_fired();
        until(&mut [&mut member], shared(&[4])).await;
        assert_eq!(member.handle.membership().member_id == before.member_id, keeps_its_id);
        let leave = member.handle.leave(Instant::now() + Duration::from_secs(30));
        tokio::join!(async { drop(member.events.recv().await) }, leave);
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_poll_loses_its_membership_until_it_does() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut busy = Member::joining(&client, config(), &["orders"]);
    let mut other = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut busy, &mut other], shared(&[2, 2])).await;

    // While a poll is waiting, time does not count.
    let waiting = busy.handle.polls().waiting();
    let polling = other.handle.polls().waiting();
    sleep(Duration::from_secs(400)).await;
    assert!(busy.events.is_empty());
    drop(waiting);

    let start = Instant::now();
    let GroupEvent::Lost(lost) =
        timeout(Duration::from_secs(310), busy.events.recv()).await.unwrap().unwrap()
    else {
        panic!()
    };
    assert!(start.elapsed() >= Duration::from_secs(299), "{:?}", start.elapsed());
    assert_eq!(lost.len(), 2);
    busy.owned.clear();
    assert!(matches!(busy.commit(0, 1).await.unwrap_err().kind(), ErrorKind::NotAMember { .. }));
    until(&mut [&mut other], shared(&[4])).await;
    drop(polling);

    let _waiting = busy.handle.polls().waiting();
    until(&mut [&mut busy, &mut other], shared(&[2, 2])).await;
}

#[tokio::test(start_paused = true)]
async fn new_partitions_of_a_subscribed_topic_are_noticed_by_the_leader() {
    for config in [config, cooperative] {
        let cluster = cluster(1).await;
        let client = connect(&cluster).await;
        let mut first = Member::joining(&client, config(), &["orders"]);
        let mut second = Member::joining(&client, config(), &["orders"]);
        until(&mut [&mut first, &mut second], shared(&[2, 2])).await;
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("orders")))
            .with_count(8)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
        let created = client.call(Route::Controller, request).await.unwrap();
        assert_eq!(ErrorCode(created.results[0].error_code), ErrorCode::NONE, "{created:?}");
        client.refresher().request("test");
        until(&mut [&mut first, &mut second], shared(&[4, 4])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_topics_is_a_rebalance_and_no_topics_is_a_goodbye() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut member = Member::joining(&client, cooperative(), &["orders"]);
    let subscribe = |member: &Member, topics: &[&str]| {
        member.handle.subscribe(topics.iter().map(|topic| Arc::from(*topic)).collect());
    };
    until(&mut [&mut member], shared(&[4])).await;
    subscribe(&member, &["orders", "parcels"]);
    until(&mut [&mut member], shared(&[6])).await;
    subscribe(&member, &["parcels"]);
    until(&mut [&mut member], shared(&[2])).await;
    subscribe(&member, &[]);
    until(&mut [&mut member], shared(&[0])).await;
    while !cluster.group("billing").unwrap().members.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    subscribe(&member, &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_assigned_can_be_committed_unless_the_consumer_assigns_itself() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let by_hand = Member::new(&client, GroupConfig::new("by-hand"));
    by_hand.commit(2, 12).await.unwrap();
    assert_eq!(by_hand.committed(2).await, Some(12));

    let mut first = Member::joining(&client, config(), &["orders"]);
    let mut second = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut first, &mut second], shared(&[2, 2])).await;
    let foreign = second.owned.first().unwrap().clone();
    let error = first.commit(foreign.partition, 1).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotAssigned(partition) if *partition == foreign), "{error}");
    assert_eq!(first.committed(foreign.partition).await, None);

    // To a group with members, a stranger's commit is one of a member that is none.
    let stranger = Member::new(&client, config());
    assert!(matches!(stranger.commit(0, 1).await.unwrap_err().kind(), ErrorKind::NotAMember { .. }));
}

#[tokio::test(start_paused = true)]
async fn commits_arrive_in_their_order_whatever_becomes_of_the_callers() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut member = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
    let slow = cluster.fault(on(Api::OffsetCommit).nth(1)).delay(Duration::from_secs(3));
    for offset in 1..=50 {
        // Each is given up as soon as it has been handed over.
        let mut dropped = Box::pin(member.commit(0, offset));
        std::future::poll_fn(|cx| {
            let _ = dropped.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    member.commit(0, 51).await.unwrap();
    slow.assert_fired();
    assert_eq!(member.committed(0).await, Some(51));
    let sent = cluster.requests().into_iter().filter(|request| request.api == Api::OffsetCommit).count();
    assert_eq!(sent, 2, "what waits travels together");
}

#[tokio::test(start_paused = true)]
async fn a_commit_ends_at_its_deadline() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut member = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
    let _never = cluster.fault(on(Api::OffsetCommit)).error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let start = Instant::now();
    let error = member.handle.commit(offsets(&[(0, 1)]), start + Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert!(error.is_retriable() && error.to_string().contains("committing offsets"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn leaving_ends_at_its_deadline_even_if_nothing_is_released() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let mut member = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
    let start = Instant::now();
    member.handle.leave(start + Duration::from_secs(7)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    // A second call joins the first, or finds that it is done.
    member.handle.leave(start + Duration::from_secs(7)).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_handle_the_task_ends() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut member = Member::joining(&client, config(), &["orders"]);
    until(&mut [&mut member], shared(&[4])).await;
    let before = alive();
    let Member { handle, mut events, .. } = member;
    drop(handle);
    assert!(events.recv().await.is_none());
    while alive() >= before {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_will_not_pass_ends_the_membership() {
    let cluster = cluster(1).await;
    let client = connect(&cluster).await;
    let refusal = cluster.fault(on(Api::JoinGroup).times(1)).error(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let mut member = Member::joining(&client, config(), &["orders"]);
    let GroupEvent::Failed(error) = member.event().await else { panic!() };
    assert_eq!(error.error_code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    refusal.assert_fired();
    // To subscribe again is to try again.
    member.handle.subscribe(BTreeSet::from(["orders".into()]));
    until(&mut [&mut member], shared(&[4])).await;
}
