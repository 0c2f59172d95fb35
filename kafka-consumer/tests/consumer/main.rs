//! The consumer on the bundled broker and on brokers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may do what tests do"
)]

mod cancel;
mod fake;
mod groups;
mod harness;
mod hostile;
mod partitions;
mod reading;
mod storm;
