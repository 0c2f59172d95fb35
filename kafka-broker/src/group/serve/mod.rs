//! The APIs of classic groups: Kafka's messages on one side, the group machine on the other.

pub(crate) mod groups;
pub(crate) mod members;
pub(crate) mod offsets;
#[cfg(test)]
mod tests;

use kafka_wire::messages::StrBytes;

use super::GroupError;

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn owned(text: &StrBytes) -> String {
    text.as_str().to_owned()
}

fn optional(text: Option<&StrBytes>) -> Option<String> {
    text.map(owned)
}

/// The code of an outcome, 0 if it went well.
fn code<T>(outcome: &Result<T, GroupError>) -> i16 {
    outcome.as_ref().err().map_or(0, |error| error.code())
}
