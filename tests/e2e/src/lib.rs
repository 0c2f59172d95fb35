//! What the end-to-end tests stand on: a cluster, bundled or the one that `KAFKA_BOOTSTRAP` names, and what every test
//! does with it.

pub mod secured;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_admin::{Admin, NewTopic};
use kafka_broker::Cluster;
use kafka_client::{Client, Offset, TopicPartition};
use kafka_consumer::{Consumer, ConsumerRecord};
use kafka_producer::{Producer, ProducerRecord};

/// What a test returns.
pub type Outcome<T = (), E = Box<dyn std::error::Error + Send + Sync>> = Result<T, E>;

/// Longer than anything in the suite takes: what is not there by then never comes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster under test. Where it is a real one, tests share it, so topics and groups get names of their own.
pub struct Target {
    /// `host:port,…`.
    pub bootstrap: String,
    /// The bundled brokers, unless `KAFKA_BOOTSTRAP` names others.
    pub bundled: Option<Cluster>,
}

impl Target {
    /// Three bundled brokers, or the cluster that `KAFKA_BOOTSTRAP` names.
    pub async fn start() -> Outcome<Self> {
        show_logs();
        match external() {
            Some(bootstrap) => Ok(Self { bootstrap, bundled: None }),
            None => Ok(Self::bundled(Cluster::builder().brokers(3).start().await?)),
        }
    }

    /// A bundled cluster of the test's own making.
    pub fn bundled(cluster: Cluster) -> Self {
        show_logs();
        Self { bootstrap: cluster.bootstrap(), bundled: Some(cluster) }
    }

    /// A client of the cluster.
    pub async fn client(&self) -> Outcome<Client> {
        Ok(Client::builder(&self.bootstrap).client_id("e2e").connect().await?)
    }

    /// A new topic, its leaders elected.
    pub async fn topic(&self, client: &Client, partitions: i32) -> Outcome<String> {
        self.topic_with(client, |topic| topic.partitions(partitions)).await
    }

    /// A new topic with settings.
    pub async fn topic_with(
        &self,
        client: &Client,
        set: impl FnOnce(NewTopic) -> NewTopic,
    ) -> Outcome<String> {
        let name = unique("topic");
        for (_, outcome) in Admin::new(client).create_topics([set(NewTopic::new(&name))]).await? {
            outcome?;
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        client.refresher().topic(&name, false, deadline).await?;
        Ok(name)
    }
}

/// The cluster that `KAFKA_BOOTSTRAP` names.
pub fn external() -> Option<String> {
    std::env::var("KAFKA_BOOTSTRAP").ok().filter(|bootstrap| !bootstrap.is_empty())
}

/// Whether this run is on a real cluster, so that a test which needs the bundled brokers' powers cannot run; says so.
pub fn skipped(test: &str, needs: &str) -> bool {
    if external().is_none() {
        return false;
    }
    say_skipped(test, &format!("needs the bundled brokers' {needs}"));
    true
}

/// Says that a test was skipped, past the test runner's capture, so that it is seen.
pub fn say_skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// `RUST_LOG=kafka_client=debug` shows what goes on, in the output of the test that fails.
fn show_logs() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}

/// A name that nothing on the cluster has yet.
pub fn unique(kind: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{kind}-{:x}-{}", now.as_micros(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The seed of a random run: `SEED`, or a new one; printed, so that a run can be had again.
pub fn seed() -> u64 {
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    seed
}

/// All partitions of a topic.
pub fn partitions(topic: &str, count: i32) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition::new(topic, partition)).collect()
}

/// Produces `values` to one partition, in order, and waits for all acknowledgements.
pub async fn produce_to(
    producer: &Producer,
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = String>,
) -> Outcome {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.enqueue(ProducerRecord::to(topic).partition(partition).value(value)).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(())
}

/// Fails a wait that never ends, saying what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> Outcome<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| format!("{what}: not within {PATIENCE:?}").into())
}

/// Waits until `probe` gives a value, asking again every few milliseconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> Outcome<T> {
    within(what, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// The next `count` records.
pub async fn read(consumer: &mut Consumer, count: usize) -> Outcome<Vec<ConsumerRecord>> {
    use futures::TryStreamExt;
    let mut records = Vec::with_capacity(count);
    let reading = async {
        while records.len() < count {
            match consumer.try_next().await? {
                Some(record) => records.push(record),
                None => break,
            }
        }
        Ok::<(), kafka_consumer::Error>(())
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(result) => result?,
        Err(_) => return Err(format!("only {} of {count} records in {PATIENCE:?}", records.len()).into()),
    }
    Ok(records)
}

/// Everything in a topic now, by partition, as text.
pub async fn read_all(client: &Client, topic: &str, count: i32) -> Outcome<BTreeMap<i32, Vec<String>>> {
    let all = partitions(topic, count);
    let mut consumer =
        Consumer::builder(client).assign(all.clone()).start_at(Offset::Earliest).build().await?;
    let ends = within("the ends", consumer.end_offsets(all.clone())).await??;
    let begins = within("the beginnings", consumer.beginning_offsets(all)).await??;
    let total: i64 = ends.iter().map(|(partition, end)| end - begins[partition]).sum();
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for record in read(&mut consumer, usize::try_from(total)?).await? {
        values.entry(record.partition).or_default().push(text(&record));
    }
    Ok(values)
}

/// A record's value as text.
pub fn text(record: &ConsumerRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

/// Fails with both sides, for tests that return their outcome.
pub fn same<T: PartialEq + Debug>(what: &str, actual: T, expected: T) -> Outcome {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?}, expected {expected:?}").into()) }
}
