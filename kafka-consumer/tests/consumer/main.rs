//! The consumer on the bundled broker and on brokers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may do what tests do"
)]
#![allow(dead_code, reason = "the fake broker can do more than the tests here ask of it")]

mod fake;
mod harness;
mod partitions;
mod reading;
