//! The end-to-end suite: one binary, a module per subject. `KAFKA_BOOTSTRAP=host:port` runs it on that cluster instead of
//! bundled brokers; tests that need the bundled brokers' powers say so and are skipped there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics fails")]

mod admin;
mod chaos;
mod client;
mod consume;
mod faults;
mod groups;
mod layers;
mod partitions;
mod produce;
mod refused;
mod security;
mod transactions;
mod virtual_time;
