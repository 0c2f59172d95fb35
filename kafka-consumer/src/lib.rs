//! A Kafka consumer for async Rust.

pub mod error;
mod group;

pub use error::{Error, ErrorKind, Result};
pub use group::assignor;
