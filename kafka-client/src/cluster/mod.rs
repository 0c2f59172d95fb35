//! What is known of the cluster, and the way to the broker that can answer.

pub(crate) mod backoff;
pub(crate) mod metadata;
pub(crate) mod metadata_response;
