//! The `kafka-broker` binary.
fn main() {}
