//! Connections to brokers: opened, made ready, pipelined, and kept by (node, lane, owner).

mod authenticate;
mod connection;
mod driver;
mod handshake;
mod hold_off;
mod pipeline;
pub(crate) mod pool;
mod request;
pub(crate) mod service;
mod session;
pub(crate) mod transport;
mod write_queue;

pub use connection::Connection;
pub use pool::Owner;
pub use request::{BrokerRequest, BrokerResponse, Lane, Progress};
pub use service::BrokerService;
pub(crate) use transport::BoxStream;

#[cfg(test)]
mod tests;
