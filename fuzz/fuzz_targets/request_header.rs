//! Whatever decodes as a request header must encode to a header that decodes to the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use kafka_wire::header::RequestHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    let Ok((header, body)) = RequestHeader::decode(&frame) else { return };
    let mut again = BytesMut::from(&header.encode(body.len()).unwrap()[4..]);
    again.extend_from_slice(&body);
    assert_eq!(RequestHeader::decode(&again.freeze()).unwrap(), (header, body));
});
