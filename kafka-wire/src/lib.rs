//! Kafka's bytes: framing, guarded messages, record batches, compression, error codes. No tokio, no clock.
