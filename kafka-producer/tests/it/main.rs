//! The producer on the bundled broker, with faults.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod backpressure;
mod cancel;
mod compression;
mod delivery;
mod faults;
mod first_batches;
mod hostile;
mod layers;
mod support;
mod topics;
