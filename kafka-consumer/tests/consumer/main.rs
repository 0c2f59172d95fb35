//! The consumer on the bundled broker and on brokers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may do what tests do"
)]

mod fake;
mod harness;
mod partitions;
mod reading;
