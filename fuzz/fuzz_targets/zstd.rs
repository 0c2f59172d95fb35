//! Any bytes as zstd: within the limit, and what we compress ourselves comes back; another decoder that accepts the same
//! bytes must get the same out of them.
#![no_main]

use std::io::Read;

use kafka_fuzz::codec;
use kafka_wire::compression::{Compression, Decompressor};
use libfuzzer_sys::fuzz_target;
use ruzstd::decoding::StreamingDecoder;

fuzz_target!(|data: &[u8]| {
    codec(Compression::Zstd, data);
    let Ok(ours) = Decompressor::new(1 << 20).decompress(Compression::Zstd, data) else { return };
    let mut rest = data;
    let Ok(mut decoder) = StreamingDecoder::new_with_max_window_size(&mut rest, 1 << 24) else { return };
    let mut theirs = Vec::new();
    if decoder.by_ref().take(1 << 21).read_to_end(&mut theirs).is_ok() {
        // It stops behind the first frame.
        assert!(ours.starts_with(&theirs));
    }
});
