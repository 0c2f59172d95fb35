//! A million records through three brokers that lose answers, close connections, depose leaders and move coordinators:
//! none is lost, none comes twice, every partition keeps its order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::{Outcome, Target, partitions, same, seed, skipped, unique};
use kafka_broker::{Cluster, FaultGuard, on};
use kafka_client::{Client, Offset};
use kafka_consumer::Consumer;
use kafka_producer::{Producer, ProducerRecord};
use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;

const RECORDS: u64 = 1_000_000;
const PARTITIONS: i32 = 12;
const FAULTS: usize = 100;

/// How long a fault may wait for a request that it strikes before another one is tried.
const FAULT_PATIENCE: Duration = Duration::from_millis(50);

/// Injects one fault after the other; one that was never struck does not count.
struct Chaos {
    random: fastrand::Rng,
    topic: String,
    group: String,
    counts: [usize; 6],
    pending: Option<(usize, FaultGuard, Instant)>,
}

impl Chaos {
    fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether the fault before is over, one way or the other.
    fn is_over(&mut self) -> bool {
        match &self.pending {
            Some((kind, fault, _)) if fault.fired() > 0 => self.counts[*kind] += 1,
            Some((.., since)) if since.elapsed() < FAULT_PATIENCE => return false,
            _ => {}
        }
        self.pending = None;
        true
    }

    fn next(&mut self, cluster: &Cluster) -> Outcome {
        let partition = self.random.i32(0..PARTITIONS);
        let broker = self.random.i32(1..=3);
        let kind = self.random.usize(0..self.counts.len());
        let produce = || on(Api::Produce).topic(&self.topic).partition(partition).nth(1);
        let fault = match kind {
            0 => cluster.fault(produce()).after_effect().close(),
            1 => cluster.fault(produce()).close(),
            2 => cluster.fault(produce()).error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            3 => cluster
                .fault(on(Api::Fetch).broker(broker).nth(1))
                .close_after_bytes(self.random.usize(0..200)),
            4 => {
                self.counts[kind] += 1;
                return Ok(cluster.move_leader(&self.topic, partition, broker)?);
            }
            _ => {
                self.counts[kind] += 1;
                return Ok(cluster.move_coordinator(&self.group, broker)?);
            }
        };
        self.pending = Some((kind, fault, Instant::now()));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_records_come_through_a_hundred_faults_once_and_in_order() -> Outcome {
    if skipped("a_million_records_come_through_a_hundred_faults", "faults") {
        return Ok(());
    }
    let target = Target::start().await?;
    let cluster = target.bundled.as_ref().ok_or("a bundled cluster")?;
    let client = target.client().await?;
    let topic = target.topic_with(&client, |t| t.partitions(PARTITIONS).replication(3)).await?;
    let group = unique("chaos");
    let mut chaos = Chaos {
        random: fastrand::Rng::with_seed(seed()),
        topic: topic.clone(),
        group: group.clone(),
        counts: [0; 6],
        pending: None,
    };

    let produced = Arc::new(AtomicU64::new(0));
    let (struck, all_struck) = tokio::sync::watch::channel(0);
    let producing = tokio::spawn(produce(client.clone(), topic.clone(), Arc::clone(&produced), all_struck));
    let consumed = Arc::new(AtomicU64::new(0));
    let consuming = tokio::spawn(consume(client.clone(), topic.clone(), group, Arc::clone(&consumed)));
    while !consuming.is_finished() {
        let progress = consumed.load(Ordering::Relaxed).min(produced.load(Ordering::Relaxed));
        // Two thirds of the way the last fault is in, so that its consequences are seen.
        let due = progress >= RECORDS * 2 / 3 * chaos.total() as u64 / FAULTS as u64;
        if chaos.is_over() && due && chaos.total() < FAULTS {
            chaos.next(cluster)?;
        }
        struck.send_replace(chaos.total());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    producing.await??;
    let counts = consuming.await??;
    let [lost, closed, refused, cut, leaders, coordinators] = chaos.counts;
    println!(
        "{lost} answers lost, {closed} connections closed, {refused} times NOT_LEADER, {cut} answers cut, \
         {leaders} leaders and {coordinators} coordinators moved"
    );
    same("faults", chaos.total() >= FAULTS, true)?;
    same("records", counts.iter().sum::<u64>(), RECORDS)?;
    let ends = Consumer::builder(&client).assign(partitions(&topic, PARTITIONS)).build().await?;
    let ends = ends.end_offsets(partitions(&topic, PARTITIONS)).await?;
    same("in the log, nothing twice", ends.into_values().map(|end| end as u64).collect::<Vec<_>>(), counts)
}

/// Keeps the last tenth back until every fault has struck: a fast run would else be over before them.
async fn produce(
    client: Client,
    topic: String,
    produced: Arc<AtomicU64>,
    mut struck: tokio::sync::watch::Receiver<usize>,
) -> Outcome {
    let producer = Producer::builder(&client).build().await?;
    let mut deliveries = std::collections::VecDeque::new();
    for n in 0..RECORDS {
        if n == RECORDS / 10 * 9 {
            struck.wait_for(|struck| *struck >= FAULTS).await?;
        }
        // The number within its partition, so that a gap or a repetition shows.
        let partition = (n % PARTITIONS as u64) as i32;
        let value = (n / PARTITIONS as u64).to_be_bytes();
        deliveries
            .push_back(producer.enqueue(ProducerRecord::to(&topic).partition(partition).value(value)).await?);
        if deliveries.len() > 100_000 {
            for delivery in deliveries.drain(..50_000) {
                delivery.await?;
                produced.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    for delivery in deliveries {
        delivery.await?;
        produced.fetch_add(1, Ordering::Relaxed);
    }
    producer.close(Duration::from_secs(30)).await?;
    Ok(())
}

/// Reads everything as a group; returns how many records each partition gave.
async fn consume(
    client: Client,
    topic: String,
    group: String,
    consumed: Arc<AtomicU64>,
) -> Outcome<Vec<u64>> {
    let mut consumer = Consumer::builder(&client)
        .group(group)
        .topics([topic])
        .start_at(Offset::Earliest)
        .auto_commit_interval(Duration::from_millis(100))
        .build()
        .await?;
    let mut next = vec![0_u64; PARTITIONS as usize];
    while consumed.load(Ordering::Relaxed) < RECORDS {
        let batch = tokio::time::timeout(e2e::PATIENCE, consumer.next_batch()).await.map_err(|_| {
            format!("nothing for {:?} after {} records", e2e::PATIENCE, consumed.load(Ordering::Relaxed))
        })?;
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error.into()),
        };
        let expected = &mut next[usize::try_from(batch.partition().partition)?];
        for record in batch.records() {
            let number = u64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
            if number != *expected {
                return Err(format!("{} has {number} where {expected} was due", batch.partition()).into());
            }
            *expected += 1;
            consumed.fetch_add(1, Ordering::Relaxed);
        }
    }
    consumer.close(Duration::from_secs(20)).await?;
    Ok(next)
}
