//! A Kafka producer for async Rust.
