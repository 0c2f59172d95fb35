//! Classic groups: sharing partitions, handing them over, committing and resuming.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::{Outcome, Target, partitions, produce_to, read, same, text, unique, within};
use futures::TryStreamExt;
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::assignor::{self, PartitionAssignor};
use kafka_consumer::{Consumer, ConsumerHandle, ErrorKind, HookFuture, RebalanceListener};
use kafka_producer::{Producer, ProducerRecord};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const CLOSE: Duration = Duration::from_secs(20);

fn strategy(name: &str) -> [Arc<dyn PartitionAssignor>; 1] {
    [assignor::by_name(name).expect("one of Kafka's")]
}

async fn member(client: &Client, group: &str, topic: &str, assignor: &str) -> Outcome<Consumer> {
    Ok(Consumer::builder(client)
        .group(group)
        .topics([topic])
        .start_at(Offset::Earliest)
        .session(Duration::from_secs(10), Duration::from_millis(500))
        .assignors(strategy(assignor))
        .build()
        .await?)
}

/// A member that reads in a task of its own and tells what it reads.
struct Running {
    handle: ConsumerHandle,
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<Outcome>,
}

impl Running {
    fn start(
        name: &'static str,
        mut consumer: Consumer,
        out: mpsc::UnboundedSender<(&'static str, i32, i64)>,
    ) -> Self {
        let handle = consumer.handle().clone();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    record = consumer.try_next() => {
                        let Some(record) = record? else { break };
                        let _ = out.send((name, record.partition, record.offset));
                    }
                    _ = &mut stopped => break,
                }
            }
            consumer.close(CLOSE).await?;
            Ok(())
        });
        Self { handle, stop, task }
    }

    async fn close(self) -> Outcome {
        let _ = self.stop.send(());
        within("closing a member", self.task).await??
    }
}

/// Waits until the members together own every partition once.
async fn settled(members: &[&Running], count: usize) -> Outcome {
    e2e::eventually("every partition with one owner", || async {
        let owned: Vec<Vec<TopicPartition>> = members.iter().map(|m| m.handle.assignment()).collect();
        let all: BTreeSet<&TopicPartition> = owned.iter().flatten().collect();
        let total: usize = owned.iter().map(Vec::len).sum();
        (all.len() == count && total == count && owned.iter().all(|o| !o.is_empty())).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_resumes_from_its_commit() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let group = unique("group");
    produce_to(&Producer::new(&client).await?, &topic, 0, (0..20).map(|n| n.to_string())).await?;

    let mut first = member(&client, &group, &topic, "range").await?;
    read(&mut first, 7).await?;
    first.commit().await?;
    let committed = first.committed(partitions(&topic, 1)).await?;
    same("committed", committed[&partitions(&topic, 1)[0]].offset, 7)?;
    first.close(CLOSE).await?;

    let mut second = member(&client, &group, &topic, "range").await?;
    same("first after the commit", text(&read(&mut second, 1).await?[0]), "7".to_owned())?;
    let given = kafka_client::OffsetAndMetadata::new(15).with_metadata("half way");
    second.commit_offsets([(partitions(&topic, 1)[0].clone(), given.clone())]).await?;
    let committed = second.committed(partitions(&topic, 1)).await?;
    same("text", committed[&partitions(&topic, 1)[0]].metadata.as_str(), "half way")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_commits_cover_what_was_handed_out_before_and_no_more() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let group = unique("group");
    produce_to(&Producer::new(&client).await?, &topic, 0, (0..10).map(|n| n.to_string())).await?;
    let mut consumer = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .auto_commit_interval(Duration::from_millis(50))
        .build()
        .await?;
    let partition = partitions(&topic, 1)[0].clone();
    for n in 1..=10 {
        read(&mut consumer, 1).await?;
        // The n-th record is in the application's hands still.
        let committed = consumer.committed([partition.clone()]).await?;
        let committed = committed.get(&partition).map_or(0, |committed| committed.offset);
        same(&format!("{committed} committed of {n} read"), committed < n, true)?;
    }
    e2e::within("a commit of all, once an eleventh is asked for", async {
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(20), consumer.try_next()).await;
            let committed = consumer.committed([partition.clone()]).await?;
            if committed.get(&partition).is_some_and(|committed| committed.offset == 10) {
                return Outcome::<()>::Ok(());
            }
        }
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_on_one_client_rebalance_at_once() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 4).await?;
    let group = unique("group");
    let (out, _records) = mpsc::unbounded_channel();
    let first = Running::start("first", member(&client, &group, &topic, "range").await?, out.clone());
    settled(&[&first], 4).await?;
    let from = Instant::now();
    let second = Running::start("second", member(&client, &group, &topic, "range").await?, out);
    settled(&[&first, &second], 4).await?;
    // The rebalance timeout is five minutes, and a parked join on a shared connection would take all of the session.
    let took = from.elapsed();
    same(&format!("{took:?}"), took < Duration::from_secs(8), true)?;
    first.close().await?;
    second.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_shares_all_and_loses_nothing_while_members_come_and_go() -> Outcome {
    for assignor in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        shares_all(assignor).await.map_err(|error| format!("{assignor}: {error}"))?;
    }
    Ok(())
}

async fn shares_all(assignor: &str) -> Outcome {
    const PARTITIONS: i32 = 6;
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, PARTITIONS).await?;
    let group = unique("group");
    let producer = Producer::new(&client).await?;
    let (out, mut records) = mpsc::unbounded_channel();
    let first = Running::start("first", member(&client, &group, &topic, assignor).await?, out.clone());
    settled(&[&first], PARTITIONS as usize).await?;
    let send = |range: std::ops::Range<i32>| {
        let (producer, topic) = (&producer, topic.as_str());
        async move {
            for partition in 0..PARTITIONS {
                produce_to(producer, topic, partition, range.clone().map(|n| n.to_string())).await?;
            }
            Outcome::<()>::Ok(())
        }
    };
    send(0..50).await?;
    let second = Running::start("second", member(&client, &group, &topic, assignor).await?, out.clone());
    settled(&[&first, &second], PARTITIONS as usize).await?;
    send(50..100).await?;
    first.close().await?;
    settled(&[&second], PARTITIONS as usize).await?;
    send(100..150).await?;

    let mut seen: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    let mut twice = 0;
    within("all records", async {
        while seen.values().map(BTreeSet::len).sum::<usize>() < 150 * PARTITIONS as usize {
            let Some((_, partition, offset)) = records.recv().await else { break };
            if !seen.entry(partition).or_default().insert(offset) {
                twice += 1;
            }
        }
    })
    .await?;
    // Both members closed or handed over properly, so nothing was read twice either.
    same("read twice", twice, 0)?;
    for partition in 0..PARTITIONS {
        same("offsets", seen[&partition].iter().copied().collect::<Vec<_>>(), (0..150).collect())?;
    }
    second.close().await
}

/// Notes what it is told.
#[derive(Default, Clone)]
struct Notes(Arc<std::sync::Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let partitions: Vec<_> = partitions.iter().map(|p| p.partition).collect();
        self.0.lock().unwrap().push(format!("{what} {partitions:?}"));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl RebalanceListener for Notes {
    fn assigned<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.note("assigned", partitions);
        Box::pin(std::future::ready(()))
    }

    fn revoked<'a>(
        &'a self,
        consumer: &'a ConsumerHandle,
        partitions: &'a [TopicPartition],
    ) -> HookFuture<'a> {
        Box::pin(async move {
            // A commit in here is what the hook is for.
            let committed = consumer.commit().await;
            self.note(if committed.is_ok() { "committed, revoked" } else { "revoked" }, partitions);
        })
    }

    fn lost<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.note("lost", partitions);
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_member_keeps_what_it_does_not_give_away() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 4).await?;
    let group = unique("group");
    let notes = Notes::default();
    let consumer = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .assignors(strategy("cooperative-sticky"))
        .session(Duration::from_secs(10), Duration::from_millis(200))
        .auto_commit(false)
        .rebalance_listener(notes.clone())
        .build()
        .await?;
    let (out, _records) = mpsc::unbounded_channel();
    let first = Running::start("first", consumer, out.clone());
    settled(&[&first], 4).await?;
    let second = Running::start("second", member(&client, &group, &topic, "cooperative-sticky").await?, out);
    settled(&[&first, &second], 4).await?;
    second.close().await?;
    settled(&[&first], 4).await?;
    let kept = notes.all();
    first.close().await?;
    let all = notes.all();
    same("events", kept[0].as_str(), "assigned [0, 1, 2, 3]")?;
    same(&format!("{all:?}: one revocation, of two"), kept[1].starts_with("committed, revoked ["), true)?;
    same(&format!("{all:?}"), kept.iter().filter(|event| event.contains("revoked")).count(), 1)?;
    same(
        &format!("{all:?}: the last one at the close"),
        all.last().is_some_and(|e| e == "committed, revoked [0, 1, 2, 3]"),
        true,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_its_partitions_without_a_rebalance() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 4).await?;
    let group = unique("group");
    let build = |instance: &'static str| {
        let (client, group, topic) = (client.clone(), group.clone(), topic.clone());
        async move {
            Consumer::builder(&client)
                .group(group)
                .group_instance_id(instance)
                .topics([topic])
                .session(Duration::from_secs(20), Duration::from_millis(200))
                .build()
                .await
        }
    };
    let (out, _records) = mpsc::unbounded_channel();
    let first = Running::start("first", build("one").await?, out.clone());
    let second = Running::start("second", build("two").await?, out.clone());
    settled(&[&first, &second], 4).await?;
    let (before, generation) = (second.handle.assignment(), first.handle.membership().map(|(_, g)| g));
    second.close().await?;
    let second = Running::start("second", build("two").await?, out);
    settled(&[&first, &second], 4).await?;
    same("partitions", second.handle.assignment(), before)?;
    same("generation", first.handle.membership().map(|(_, g)| g), generation)?;
    first.close().await?;
    second.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_with_the_same_instance_id_fences_the_first() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let group = unique("group");
    let build = || {
        Consumer::builder(&client)
            .group(group.as_str())
            .group_instance_id("one")
            .topics([topic.as_str()])
            .session(Duration::from_secs(10), Duration::from_millis(200))
            .build()
    };
    let mut first = build().await?;
    let reading = tokio::spawn(async move {
        loop {
            match first.try_next().await {
                Err(error) if error.is_fatal() => return error.error_code(),
                _ => {}
            }
        }
    });
    let admin = kafka_admin::Admin::new(&client);
    e2e::eventually("the first member", || async {
        let groups = admin.describe_groups([group.as_str()]).await.ok()?;
        groups.into_iter().next().and_then(|(_, g)| g.ok()).filter(|g| g.members.len() == 1).map(drop)
    })
    .await?;
    let mut second = build().await?;
    let second = tokio::spawn(async move { second.try_next().await.map(drop) });
    let code = within("the fence", reading).await??;
    second.abort();
    same("code", code.map(|c| c.name()), Some("FENCED_INSTANCE_ID"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_stops_polling_loses_its_partitions_to_others() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 2).await?;
    let group = unique("group");
    produce_to(&Producer::new(&client).await?, &topic, 0, (0..3).map(|n| n.to_string())).await?;
    let notes = Notes::default();
    let mut stuck = Consumer::builder(&client)
        .group(group.as_str())
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .session(Duration::from_secs(10), Duration::from_millis(200))
        .max_poll_interval(Duration::from_secs(2))
        .auto_commit(false)
        .rebalance_listener(notes.clone())
        .build()
        .await?;
    read(&mut stuck, 1).await?;
    // It has a record and never comes back for more. Somebody else gets both partitions, heartbeats or not.
    let (out, _records) = mpsc::unbounded_channel();
    let other = Running::start("other", member(&client, &group, &topic, "range").await?, out);
    settled(&[&other], 2).await?;
    let error = stuck.commit().await.expect_err("its partitions belong to another");
    same(
        &format!("{error:?}"),
        matches!(
            error.kind(),
            ErrorKind::NotAMember { .. } | ErrorKind::RebalanceInProgress { .. } | ErrorKind::NotAssigned(_)
        ),
        true,
    )?;
    // When it does come back, it hears of it and joins again.
    let (out, _records) = mpsc::unbounded_channel();
    let back = Running::start("back", stuck, out);
    settled(&[&other, &back], 2).await?;
    // Lost; or, if the others' rebalance had asked for them before, revoked with no commit coming through any more.
    let events = notes.all();
    same(&format!("{events:?}"), events[1].starts_with("lost") || events[1].starts_with("revoked"), true)?;
    back.close().await?;
    other.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_follows_topics_as_they_come() -> Outcome {
    let target = Target::start().await?;
    let client =
        Client::builder(&target.bootstrap).metadata_max_age(Duration::from_millis(300)).connect().await?;
    let prefix = unique("pattern");
    let create = |name: String| {
        let client = client.clone();
        async move {
            let topics = [kafka_admin::NewTopic::new(&name).partitions(1)];
            for (_, outcome) in kafka_admin::Admin::new(&client).create_topics(topics).await? {
                outcome?;
            }
            produce_to(&Producer::new(&client).await?, &name, 0, [name.clone()]).await
        }
    };
    create(format!("{prefix}-a")).await?;
    let wanted = prefix.clone();
    let mut consumer = Consumer::builder(&client)
        .group(unique("group"))
        .pattern(move |topic| topic.starts_with(&wanted))
        .start_at(Offset::Earliest)
        .session(Duration::from_secs(10), Duration::from_millis(200))
        .build()
        .await?;
    same("the first topic", text(&read(&mut consumer, 1).await?[0]), format!("{prefix}-a"))?;
    create(format!("{prefix}-b")).await?;
    same("one that came later", text(&read(&mut consumer, 1).await?[0]), format!("{prefix}-b"))?;
    consumer.close(CLOSE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn assigned_partitions_can_keep_their_offsets_in_a_group() -> Outcome {
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let group = unique("group");
    let producer = Producer::new(&client).await?;
    for n in 0..5 {
        producer.send(ProducerRecord::to(&topic).value(n.to_string())).await?;
    }
    for (round, first) in [(0, "0"), (1, "3")] {
        let mut consumer = Consumer::builder(&client)
            .group(group.as_str())
            .assign(partitions(&topic, 1))
            .start_at(Offset::Earliest)
            .auto_commit(false)
            .build()
            .await?;
        same(&format!("round {round}"), text(&read(&mut consumer, 1).await?[0]), first.to_owned())?;
        read(&mut consumer, 2 - 2 * round).await?;
        consumer.commit().await?;
        consumer.close(CLOSE).await?;
    }
    Ok(())
}
