//! Any bytes as Produce and Fetch, which only the shape pass and their hand-written codecs read; and any throttle time.
#![no_main]

use kafka_wire::Api;
use kafka_wire::shape::{Direction, check, throttle_time};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [index, version, body @ ..] = data else { return };
    let api = Api::ALL[usize::from(*index) % Api::ALL.len()];
    let version = i16::from(*version % 20);
    let throttled = throttle_time(api, version, body);
    let request = check(api, version, Direction::Request, body);
    let response = check(api, version, Direction::Response, body);
    if response.is_ok() && api.throttles_since().is_some_and(|since| version >= since) {
        assert!(throttled.is_some(), "{api} v{version}");
    }
    assert!(api.versions().contains(version) || (request.is_err() && response.is_err()));
});
