//! Administration: topics, settings, groups and offsets, each with a result of its own.

use examples::{Result, Target};
use kafka_admin::{Admin, NewTopic};
use kafka_client::Client;

#[tokio::main]
async fn main() -> Result {
    let target = Target::start().await?;
    let client = Client::connect(&target.bootstrap).await?;
    let admin = Admin::new(&client);

    let cluster = admin.describe_cluster().await?;
    println!("cluster {:?} has {} brokers", cluster.id, cluster.brokers.len());

    let (orders, audit) = (target.unique("orders"), target.unique("audit"));
    let topics =
        [NewTopic::new(&orders).partitions(6), NewTopic::new(&audit).config("cleanup.policy", "compact")];
    for (topic, outcome) in admin.create_topics(topics).await? {
        println!("create {topic}: {}", outcome.map_or_else(|error| error.to_string(), |_| "done".to_owned()));
    }
    // One topic exists already and one does not: each has its own answer.
    let again = [NewTopic::new(&orders), NewTopic::new(target.unique("returns"))];
    for (topic, outcome) in admin.create_topics(again).await? {
        println!("create {topic}: {}", outcome.map_or_else(|error| error.to_string(), |_| "done".to_owned()));
    }
    for (topic, description) in admin.describe_topics([&orders]).await? {
        let description = description?;
        println!("{topic} has id {:?} and {} partitions", description.id, description.partitions.len());
    }
    for (topic, outcome) in admin.delete_topics([&orders, &audit]).await? {
        outcome?;
        println!("delete {topic}: done");
    }
    target.stop().await;
    Ok(())
}
