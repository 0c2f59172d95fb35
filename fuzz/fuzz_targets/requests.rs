//! Any bytes as any request: the shape pass and the decoder agree, and what was understood survives a round trip.
#![no_main]

use kafka_fuzz::recode_any;
use kafka_wire::Api;
use kafka_wire::shape::Direction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| recode_any(data, Direction::Request, Api::ALL));
