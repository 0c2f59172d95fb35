//! `roundrobin`: all partitions of all topics in order, dealt out one by one.

use std::collections::{BTreeSet, HashMap};

use super::{Assignments, Member, PartitionAssignor, Topics, nothing_assigned, partition};

/// Deals the partitions of all topics out one by one, skipping members that do not subscribe to the topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobinAssignor;

impl PartitionAssignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, topics: &Topics, members: &[Member]) -> Assignments {
        let mut ranked: Vec<&Member> = members.iter().collect();
        ranked.sort_by_key(|member| member.rank());
        let mut subscribers: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        for (place, member) in ranked.iter().enumerate() {
            for topic in &member.topics {
                subscribers.entry(topic).or_default().insert(place);
            }
        }
        let mut assignments = nothing_assigned(members);
        let mut next = 0;
        for (topic, partitions) in topics.iter() {
            let Some(subscribers) = subscribers.get(&**topic) else { continue };
            for index in 0..partitions {
                // The first subscriber from `next` on, around the circle.
                let Some(place) = subscribers.range(next..).chain(subscribers).next() else { continue };
                if let Some(assigned) = assignments.get_mut(&ranked[*place].id) {
                    assigned.push(partition(topic, index));
                }
                next = place + 1;
            }
        }
        assignments
    }
}
