//! Whatever decodes as a response header must encode to a header that decodes to the same.
#![no_main]

use bytes::Bytes;
use kafka_wire::Api;
use kafka_wire::header::{decode_response_header, encode_response_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [index, version, frame @ ..] = data else { return };
    let api = Api::ALL[usize::from(*index) % Api::ALL.len()];
    let version = i16::from(*version % 20);
    let frame = Bytes::copy_from_slice(frame);
    let Ok((id, _)) = decode_response_header(api, version, &frame) else { return };
    let again = encode_response_header(api, version, id, 0).unwrap().slice(4..);
    assert_eq!(decode_response_header(api, version, &again).unwrap(), (id, Bytes::new()));
});
