//! How a client proves who it is.

mod secret;

pub use secret::Secret;
