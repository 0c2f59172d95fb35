//! `range`: each topic's partitions in order, cut into one contiguous range per member.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignments, Member, PartitionAssignor, Topics, nothing_assigned, partition};

/// Gives each member one contiguous range of every topic it subscribes to; topics with equally many partitions are
/// divided alike, so that a member gets the same numbers of each (co-partitioning). The first of Java's defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeAssignor;

impl PartitionAssignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, topics: &Topics, members: &[Member]) -> Assignments {
        let mut ranked: Vec<&Member> = members.iter().collect();
        ranked.sort_by_key(|member| member.rank());
        let mut subscribers: BTreeMap<&str, Vec<&Arc<str>>> = BTreeMap::new();
        for member in ranked {
            for topic in &member.topics {
                let of_topic = subscribers.entry(topic).or_default();
                // A member that names a topic twice has subscribed to it once.
                if of_topic.last() != Some(&&member.id) {
                    of_topic.push(&member.id);
                }
            }
        }
        let mut assignments = nothing_assigned(members);
        for (topic, partitions) in topics.iter() {
            let Some(subscribers) = subscribers.get(&**topic) else { continue };
            let (each, with_one_more) = (partitions / subscribers.len(), partitions % subscribers.len());
            let mut start = 0;
            for (place, id) in subscribers.iter().enumerate() {
                let end = start + each + usize::from(place < with_one_more);
                if let Some(assigned) = assignments.get_mut(*id) {
                    assigned.extend((start..end).map(|index| partition(topic, index)));
                }
                start = end;
            }
        }
        assignments
    }
}
