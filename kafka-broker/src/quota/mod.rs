//! Client quotas: how much users and client ids may produce, fetch and keep the broker busy, and what becomes of more.

mod enforce;
mod limits;
mod rate;
pub(crate) mod serve;
#[cfg(test)]
mod tests;

pub(crate) use self::enforce::{Charges, measured};
pub(crate) use self::limits::{Alteration, Entity, Part, Quotas};
