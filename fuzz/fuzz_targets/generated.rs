//! Any bytes as the messages whose codecs we generate.
#![no_main]

use kafka_fuzz::recode_any;
use kafka_wire::Api;
use kafka_wire::shape::Direction;
use libfuzzer_sys::fuzz_target;

const GENERATED: &[Api] = &[Api::OffsetCommit, Api::OffsetFetch, Api::DescribeLogDirs];

fuzz_target!(|data: &[u8]| {
    let Some((direction, data)) = data.split_first() else { return };
    let direction = if direction % 2 == 0 { Direction::Request } else { Direction::Response };
    recode_any(data, direction, GENERATED);
});
