//! A text that reads as an address prints as one that reads to the same.
#![no_main]

use kafka_wire::NodeAddress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(address) = text.parse::<NodeAddress>() else { return };
    assert_eq!(address.to_string().parse(), Ok(address));
});
