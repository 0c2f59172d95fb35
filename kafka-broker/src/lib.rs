//! A small Kafka broker that starts inside a test, and as a binary.

pub mod group;

mod admin;
mod api_versions;
mod clock;
mod config;
mod controller;
mod image;
mod metadata;
mod partition;
mod router;
mod shared;
#[cfg(test)]
mod testing;
