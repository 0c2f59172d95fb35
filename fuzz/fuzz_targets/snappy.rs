//! Any bytes as snappy: within the limit, and what we compress ourselves comes back.
#![no_main]

use kafka_fuzz::codec;
use kafka_wire::compression::Compression;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| codec(Compression::Snappy, data));
