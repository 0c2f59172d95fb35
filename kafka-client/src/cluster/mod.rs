//! What is known of the cluster, and the way to the broker that can answer.

pub(crate) mod backoff;
