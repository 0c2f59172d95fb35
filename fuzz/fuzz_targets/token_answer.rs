//! Any bytes as a token endpoint's answer: a token that can be sent and lives for a time, or an error that can be shown.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = input;
    match kafka_client::raw::token_answer(status, body, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)) {
        Ok((token, lifetime)) => {
            assert!(matches!(status, 200 | 201));
            assert!(!token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!lifetime.is_zero() && SystemTime::now().checked_add(lifetime).is_some());
        }
        Err(error) => assert!(error.to_string().len() < 8 * 1024),
    }
});
