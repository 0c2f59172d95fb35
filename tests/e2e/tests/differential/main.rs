//! The same requests to the bundled broker and to Apache Kafka: do both mean the same?
//!
//! What Apache Kafka answers is recorded beside this file, so that the comparison runs where there is no Java:
//!
//! - without `KAFKA_BOOTSTRAP` the bundled broker is compared with the recording,
//! - with it, the cluster (of one node) is, which shows whether the recording still holds,
//! - with `DIFFERENTIAL=record` as well, its answers become the recording.
//!
//! Not asked is what Kafka answers with `UNKNOWN_SERVER_ERROR`, out of an exception that nobody expected, where the bundled
//! broker has a better word for it or does not mind: an unknown operation on a setting, Metadata of a topic with neither
//! name nor id, negative fetch limits, a batch of an unknown codec or with bytes that are not of its codec (which the
//! bundled broker does not notice, as it does not decompress).

mod administration;
mod committed;
mod groups;
mod offsets;
mod peer;
mod produce;
mod read;
mod topics;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use e2e::Outcome;
use kafka_broker::Cluster;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_wire::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_wire::messages::{BrokerId, TopicName};
use peer::{Peer, Reply};
use serde_json::{Value, json};

/// The version whose answers are recorded.
const RECORDED: &str = "4.3.1";

/// Steps where the bundled broker is known to answer otherwise, and why it may.
const KNOWN: &[(&str, &str)] = &[(
    "batch: magic 3",
    "the code is the same; Kafka fails the whole request, with a message, while it looks for transactional batches",
)];

/// What a script works with: a broker, and the list of what it meant.
pub(crate) struct Run {
    pub(crate) peer: Peer,
    /// What each step meant.
    meanings: BTreeMap<String, Value>,
}

impl Run {
    /// Notes what an answer means.
    pub(crate) fn note<T>(
        &mut self,
        step: impl Into<String>,
        reply: &Reply<T>,
        meaning: impl FnOnce(&T) -> Value,
    ) {
        let value = match reply {
            Reply::Answer(answer) => meaning(answer),
            Reply::Closed => json!("closes the connection"),
        };
        let step = step.into();
        assert!(self.meanings.insert(step.clone(), value).is_none(), "two steps are called {step:?}");
    }

    /// Asks and notes.
    pub(crate) async fn step<R: kafka_wire::api::Request>(
        &mut self,
        step: impl Into<String>,
        version: i16,
        request: R,
        meaning: impl FnOnce(&R::Response) -> Value,
    ) -> Outcome {
        let step = step.into();
        let reply = self.peer.ask(version, request).await.map_err(|error| format!("{step}: {error}"))?;
        self.note(step, &reply, meaning);
        Ok(())
    }

    /// A topic of this run, ready to be written; its name tells nothing, as real clusters keep what was there before.
    pub(crate) async fn topic(
        &mut self,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) -> Outcome<Topic> {
        let name = e2e::unique("differential");
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name((*name).into()).with_value(Some((*value).into()))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(&name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let created = self.peer.must(7, request).await?;
        let created = created.topics.first().ok_or("no topic in the answer")?;
        if created.error_code != 0 {
            return Err(format!("creating a topic: {}", code(created.error_code)).into());
        }
        let id = created.topic_id.into_bytes();
        // Made and announced is not yet the same as led.
        e2e::eventually("the topic has leaders", async || {
            let partition =
                |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
            let topic = ListOffsetsTopic::default()
                .with_name(topic_name(&name))
                .with_partitions((0..partitions).map(partition).collect());
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let answer = self.peer.another().must(5, request).await.ok()?;
            answer.topics.iter().flat_map(|topic| &topic.partitions).all(|p| p.error_code == 0).then_some(())
        })
        .await?;
        Ok(Topic { name, id })
    }
}

/// A topic that a script works with.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: [u8; 16],
}

/// A name as messages have it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName::from(text(name))
}

/// A text as messages have it.
pub(crate) fn text(text: &str) -> kafka_wire::messages::StrBytes {
    kafka_wire::messages::StrBytes::from_string(text.into())
}

/// An error code by its name.
pub(crate) fn code(code: i16) -> Value {
    ErrorCode(code).name().into()
}

#[tokio::test]
async fn the_bundled_broker_answers_as_apache_kafka_does() -> Outcome {
    let target = match e2e::external() {
        Some(bootstrap) => e2e::Target { bootstrap, bundled: None },
        // As `tests/interop/apache-kafka/kafka.sh` sets up one node.
        None => e2e::Target::bundled(
            Cluster::builder()
                .brokers(1)
                .config("num.partitions", "3")
                .config("group.min.session.timeout.ms", "1000")
                .config("group.initial.rebalance.delay.ms", "0")
                .start()
                .await?,
        ),
    };
    let skip = |why: &str| {
        e2e::say_skipped("the_bundled_broker_answers_as_apache_kafka_does", why);
        Ok(())
    };
    if target.bootstrap.contains(',') {
        return skip("it needs a cluster of one node");
    }
    let path = recording();
    let recording = std::env::var("DIFFERENTIAL").is_ok_and(|mode| mode == "record");
    if recording && target.bundled.is_some() {
        return Err("only Apache Kafka's answers are recorded: set KAFKA_BOOTSTRAP".into());
    }
    let mut run = Run { peer: Peer::new(&target.bootstrap), meanings: BTreeMap::new() };
    topics::api_versions(&mut run).await?;
    let recorded: BTreeMap<String, Value> =
        if recording { BTreeMap::new() } else { serde_json::from_str(&std::fs::read_to_string(&path)?)? };
    let is_another = |(step, meaning): (&String, &Value)| recorded.get(step) != Some(meaning);
    if target.bundled.is_none() && !recording && run.meanings.iter().any(is_another) {
        return skip(&format!(
            "this cluster has other versions of the APIs than Kafka {RECORDED}, which was recorded"
        ));
    }
    topics::run(&mut run).await?;
    produce::run(&mut run).await?;
    read::run(&mut run).await?;
    offsets::run(&mut run).await?;
    groups::run(&mut run).await?;
    administration::run(&mut run).await?;

    if recording {
        std::fs::write(&path, by_lines(&run.meanings)?)?;
        println!("recorded {} answers in {}", run.meanings.len(), path.display());
        return Ok(());
    }
    let known = if target.bundled.is_some() { KNOWN } else { &[] };
    let differences = differences(&recorded, &run.meanings, known);
    println!("{} answers compared with those of Apache Kafka {RECORDED}", run.meanings.len());
    if differences.is_empty() { Ok(()) } else { Err(differences.into()) }
}

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/differential/kafka-{RECORDED}.json"))
}

/// JSON with a step a line, which keeps it small and shows what changed.
fn by_lines(meanings: &BTreeMap<String, Value>) -> Outcome<String> {
    let mut lines = Vec::with_capacity(meanings.len());
    for (step, meaning) in meanings {
        lines.push(format!("{}:{}", serde_json::to_string(step)?, serde_json::to_string(meaning)?));
    }
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

fn differences(
    recorded: &BTreeMap<String, Value>,
    seen: &BTreeMap<String, Value>,
    known: &[(&str, &str)],
) -> String {
    let mut out = String::new();
    let absent = json!("no such step");
    let steps: std::collections::BTreeSet<_> = recorded.keys().chain(seen.keys()).collect();
    for step in steps {
        let (expected, found) = (recorded.get(step).unwrap_or(&absent), seen.get(step).unwrap_or(&absent));
        let is_known = known.iter().any(|(name, _)| name == step);
        if expected == found && is_known {
            let _ = write!(out, "\n{step}\n  is as Kafka has it now, and need not be KNOWN any longer");
        } else if expected != found && !is_known {
            let _ = write!(out, "\n{step}\n  Kafka: {expected}\n  here:  {found}");
        }
    }
    for (name, _) in known {
        if !recorded.contains_key(*name) {
            let _ = write!(out, "\n{name}\n  is KNOWN, but no step");
        }
    }
    out
}
