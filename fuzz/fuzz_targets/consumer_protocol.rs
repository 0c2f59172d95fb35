//! Any bytes as what one member of a group wrote for another: a subscription, an assignment. What is read can be
//! written again, and reads the same.
#![no_main]

use kafka_wire::consumer_protocol::{
    Assignment, Subscription, TopicPartitions, VERSION, encode_assignment, encode_subscription,
};
use libfuzzer_sys::fuzz_target;

fn collected(partitions: TopicPartitions<'_>) -> Vec<(&str, Vec<i32>)> {
    partitions.iter().map(|(topic, partitions)| (topic, partitions.collect())).collect()
}

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Subscription::parse(data) {
        let topics: Vec<&str> = read.topics.iter().collect();
        assert_eq!(topics.len(), read.topics.len());
        let owned = collected(read.owned);
        let again = encode_subscription(VERSION, &topics, read.user_data, &owned, read.generation, read.rack);
        assert_eq!(Subscription::parse(&again.unwrap()), Ok(read));
    }
    if let Ok(read) = Assignment::parse(data) {
        let again = encode_assignment(VERSION, &collected(read.partitions), read.user_data).unwrap();
        assert_eq!(Assignment::parse(&again), Ok(read));
    }
});
