//! A consumer's membership in its group.

pub mod assignor;
mod config;

mod classic;
mod commits;
mod committed;
mod interface;
mod messages;
#[cfg(test)]
mod simulation;
mod task;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_client::types::TopicPartition;

pub(crate) use self::committed::Committed;
pub(crate) use self::config::GroupConfig;
pub(crate) use self::interface::{GroupEvent, GroupHandle, Release};
pub(crate) use self::task::spawn;

/// The partitions by topic, topics and partitions in order.
fn by_topic(partitions: &[TopicPartition]) -> Vec<(Arc<str>, Vec<i32>)> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(Arc::clone(topic)).or_default().push(*partition);
    }
    topics.values_mut().for_each(|partitions| partitions.sort_unstable());
    topics.into_iter().collect()
}

/// `runs` seeds with their generators, or only the one in `SEED`; a failing test prints its seed.
#[cfg(test)]
fn seeds(runs: u64) -> impl Iterator<Item = (u64, fastrand::Rng)> {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().expect("SEED is a number"));
    let seeds = only.map_or(0..runs, |seed| seed..seed + 1);
    seeds.map(|seed| (seed, fastrand::Rng::with_seed(seed)))
}
