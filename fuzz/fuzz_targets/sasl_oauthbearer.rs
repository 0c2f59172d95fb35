//! OAUTHBEARER's messages: what is read can be written and reads the same.
#![no_main]

use kafka_wire::sasl::oauthbearer::{self, Refusal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(bearer) = oauthbearer::decode(data) {
        let message = oauthbearer::encode(bearer.token, &bearer.extensions).unwrap();
        let again = oauthbearer::decode(&message).unwrap();
        assert_eq!((again.token, &again.extensions), (bearer.token, &bearer.extensions));
    }
    if let Ok(refusal) = Refusal::parse(data) {
        assert_eq!(Refusal::parse(&refusal.to_bytes()), Ok(refusal));
    }
});
