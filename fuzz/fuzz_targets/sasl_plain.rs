//! What reads as PLAIN, and acts as itself, is what is written for its user and password.
#![no_main]

use kafka_wire::sasl::plain;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(said) = plain::decode(data) else { return };
    if said.authorization_id.is_empty() {
        assert_eq!(**plain::encode(said.user, said.password).unwrap(), *data);
    }
});
