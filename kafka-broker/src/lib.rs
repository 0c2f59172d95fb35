//! A small Kafka broker that starts inside a test, and as a binary.

pub mod group;
