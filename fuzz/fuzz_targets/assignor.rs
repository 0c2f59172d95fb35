//! Any group, made from any bytes, divided by every strategy: each partition has at most one owner, who wants it; and
//! in a cooperative group nobody is given what another member still claims.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use kafka_client::types::TopicPartition;
use kafka_consumer::assignor::{Member, Topics, assign_as_leader, by_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data.iter().copied();
    let mut next = || data.next().unwrap_or(0);
    let topics: Topics =
        (0..next() % 5).map(|topic| (format!("t{topic}"), usize::from(next() % 7))).collect();
    let mut members = Vec::new();
    for number in 0..next() % 6 {
        let wanted = next();
        let names = (0..8).filter(|topic| wanted & (1 << topic) != 0).map(|topic| format!("t{topic}"));
        let mut member = Member::new(format!("m{number}"), names);
        if next() % 4 == 0 {
            member.instance_id = Some(format!("i{}", next() % 4).into());
        }
        let owned = (0..next() % 6).map(|_| {
            let topic = format!("t{}", next() % 6);
            TopicPartition::new(topic, i32::from(next().cast_signed() % 8))
        });
        let owned = owned.collect();
        member = member.owning(owned, i32::from(next() % 4) - 1);
        member.user_data = (next() % 2 == 0).then(|| (0..next() % 32).map(|_| next()).collect());
        members.push(member);
    }
    for name in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        let Some(assignor) = by_name(name) else { continue };
        let (assigned, held_back) = assign_as_leader(&*assignor, &topics, &members);
        let mut owners: HashMap<&TopicPartition, &Arc<str>> = HashMap::new();
        for member in &members {
            for partition in &assigned[&member.id] {
                assert!(member.topics.contains(&partition.topic), "{name}: {partition} to {}", member.id);
                assert!((partition.partition as usize) < topics.partition_count(&partition.topic));
                assert_eq!(owners.insert(partition, &member.id), None, "{name}: {partition}");
                let others = members.iter().filter(|other| other.id != member.id);
                let rivals = others.filter(|other| other.owned.contains(partition));
                if assignor.is_cooperative() && !member.owned.contains(partition) {
                    assert_eq!(rivals.count(), 0, "{partition} to {}", member.id);
                }
            }
        }
        if held_back == 0 {
            for (topic, partitions) in topics.iter() {
                let wanted = members.iter().any(|member| member.topics.contains(topic));
                for partition in 0..partitions as i32 {
                    let partition = TopicPartition::new(Arc::clone(topic), partition);
                    assert_eq!(owners.contains_key(&partition), wanted, "{name}: {partition}");
                }
            }
        }
    }
});
