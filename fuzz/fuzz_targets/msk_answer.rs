//! Any bytes as a broker's answer in AWS_MSK_IAM: a request id of bounded length, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    match kafka_client::raw::msk_request_id(answer) {
        Ok(id) => assert!(id.chars().count() <= 128),
        Err(error) => assert!(error.to_string().len() < 8 * 1024),
    }
});
