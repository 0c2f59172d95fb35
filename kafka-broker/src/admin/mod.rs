//! The APIs of administrators: topics, settings, what the cluster looks like, elections.

pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod elections;
pub(crate) mod features;
pub(crate) mod quorum;
pub(crate) mod reassignments;
pub(crate) mod records;
#[cfg(test)]
mod tests;
pub(crate) mod topics;

use std::collections::BTreeSet;

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::StrBytes;

use crate::controller::Refusal;

/// Most topics, resources or partitions that one request changes or describes: each may cost a copy of the image, or an
/// answer a thousand times its size.
const MOST_ITEMS: usize = 10_000;

/// Shortens what is too long. The rest is to be refused, all of it, with [`too_many`].
pub(crate) fn shorten<T>(items: &mut Vec<T>) -> bool {
    let is_too_long = items.len() > MOST_ITEMS;
    items.truncate(MOST_ITEMS);
    is_too_long
}

pub(crate) fn too_many<T>() -> Result<T, Refusal> {
    refuse(ErrorCode::POLICY_VIOLATION, "Excessively large number of items per request.")
}

pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(crate) fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

/// The code and message of an outcome, as responses carry them.
pub(crate) fn code_and_message<T>(outcome: &Result<T, Refusal>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(_) => (ErrorCode::NONE.0, None),
        Err(refusal) => {
            let message = Some(&refusal.message).filter(|message| !message.is_empty());
            (refusal.code.0, message.map(text))
        }
    }
}

/// Keys that occur more than once. Kafka refuses all of them, not only the later ones.
pub(crate) fn repeated<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeSet<K> {
    let mut seen = BTreeSet::new();
    let mut repeated = BTreeSet::new();
    for key in keys {
        if let Some(key) = seen.replace(key) {
            repeated.insert(key);
        }
    }
    repeated
}
