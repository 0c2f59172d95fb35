//! Kafka administration for async Rust.
