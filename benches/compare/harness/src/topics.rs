//! Topics on the brokers, through our own admin client: created with their leaders awaited, deleted, and their ends.

use std::time::{Duration, Instant};

use kafka_admin::{Admin, AlterConfigs, ConfigResource, NewTopic, OffsetSpec};
use kafka_client::{Client, NodeId, TopicPartition};
use tokio::runtime::Runtime;

/// How long a topic's leaders may take; ten thousand partitions need some time.
const LEADERS: Duration = Duration::from_secs(60);
/// Between two looks at the leaders.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a broker keeps the files of a deleted topic, in milliseconds.
const FREE_AFTER_MS: &str = "500";

/// What the harness asks of a cluster.
#[derive(Debug)]
pub struct Topics {
    // Before the runtime, so that the client's tasks still have one when it goes.
    admin: Admin,
    runtime: Runtime,
}

impl Topics {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connect(bootstrap: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let client = runtime.block_on(Client::connect(bootstrap)).map_err(|error| error.to_string())?;
        let admin = Admin::new(&client);
        Ok(Self { admin, runtime })
    }

    /// Creates a topic and waits until every partition has a leader that answers for it: one that is named before it is
    /// ready refuses the first batches, over which kacrab writes twice and Confluent's client never gets on.
    ///
    /// # Errors
    /// It cannot be created, or some partition has no such leader within a minute.
    pub fn create(&self, topic: &str, partitions: u32, replication: u16) -> Result<(), String> {
        let new = NewTopic::new(topic)
            .partitions(i32::try_from(partitions).map_err(|error| error.to_string())?)
            .replication(i16::try_from(replication).map_err(|error| error.to_string())?);
        self.runtime.block_on(async {
            for (_, outcome) in self.admin.create_topics([new]).await.map_err(|error| error.to_string())? {
                outcome.map_err(|error| error.to_string())?;
            }
            let deadline = Instant::now() + LEADERS;
            loop {
                let missing = match self.has_leaders(topic, partitions as usize).await {
                    false => "partitions without a leader".to_owned(),
                    true => match self.ends(topic, partitions).await {
                        Ok(_) => return Ok(()),
                        Err(error) => error,
                    },
                };
                if Instant::now() > deadline {
                    return Err(format!("{topic} is not ready after {} s: {missing}", LEADERS.as_secs()));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    async fn has_leaders(&self, topic: &str, partitions: usize) -> bool {
        let Ok(described) = self.admin.describe_topics([topic]).await else { return false };
        described.into_iter().any(|(_, outcome)| {
            outcome.is_ok_and(|topic| {
                topic.partitions.len() == partitions && topic.partitions.iter().all(|it| it.leader.is_some())
            })
        })
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The cluster refuses.
    pub fn delete(&self, topic: &str) -> Result<(), String> {
        let outcomes =
            self.runtime.block_on(self.admin.delete_topics([topic])).map_err(|error| error.to_string())?;
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome.map(drop).map_err(|error| error.to_string()))
    }

    /// Has the cluster's brokers, numbered from 1, free a deleted topic's memory soon instead of a minute later.
    ///
    /// # Errors
    /// A broker refuses.
    pub fn free_soon(&self, brokers: u16) -> Result<(), String> {
        let changes = (1..=NodeId::from(brokers))
            .map(ConfigResource::Broker)
            .map(|broker| AlterConfigs::of(broker).set("log.segment.delete.delay.ms", FREE_AFTER_MS));
        let outcomes =
            self.runtime.block_on(self.admin.alter_configs(changes)).map_err(|error| error.to_string())?;
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome.map_err(|error| error.to_string()))
    }

    /// How many records were written to the topic: the sum of its partitions' ends.
    ///
    /// # Errors
    /// Some partition's end is not told.
    pub fn records(&self, topic: &str, partitions: u32) -> Result<u64, String> {
        self.runtime.block_on(self.ends(topic, partitions))
    }

    async fn ends(&self, topic: &str, partitions: u32) -> Result<u64, String> {
        let partitions = i32::try_from(partitions).map_err(|error| error.to_string())?;
        let ends =
            (0..partitions).map(|partition| (TopicPartition::new(topic, partition), OffsetSpec::Latest));
        let outcomes = self.admin.list_offsets(ends).await.map_err(|error| error.to_string())?;
        outcomes.into_iter().try_fold(0, |sum, (partition, outcome)| {
            let end = outcome.map_err(|error| format!("{partition}: {error}"))?.offset.unwrap_or(0);
            Ok(sum + u64::try_from(end).unwrap_or(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_created_counted_and_deleted() {
        let brokers = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let cluster = brokers.block_on(kafka_broker::Cluster::builder().start()).unwrap();
        let topics = Topics::connect(&cluster.bootstrap()).unwrap();
        topics.create("t", 3, 1).unwrap();
        assert_eq!(topics.records("t", 3), Ok(0));
        assert!(topics.create("t", 3, 1).unwrap_err().contains("TOPIC_ALREADY_EXISTS"));
        topics.delete("t").unwrap();
        topics.create("t", 2, 1).unwrap();
    }
}
