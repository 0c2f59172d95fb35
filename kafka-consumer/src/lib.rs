//! A Kafka consumer for async Rust.
