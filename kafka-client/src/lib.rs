//! Kafka connections, metadata, routing and one shared pool, for async Rust.
