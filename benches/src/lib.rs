//! Codec and path benchmarks.
