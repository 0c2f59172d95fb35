//! What several fuzz targets share.

use bytes::{Bytes, BytesMut};
use kafka_wire::Api;
use kafka_wire::api::recode;
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::shape::{Direction, check};

/// Reads a message whose API and version the first two bytes choose, and writes it again.
pub fn recode_any(data: &[u8], direction: Direction, apis: &[Api]) {
    let [index, version, body @ ..] = data else { return };
    let api = apis[usize::from(*index) % apis.len()];
    // Produce and Fetch have codecs and targets of their own.
    if matches!(api, Api::Produce | Api::Fetch) {
        return;
    }
    let versions = api.versions();
    let version = versions.min + i16::from(*version) % (versions.max - versions.min + 1);
    let passes = check(api, version, direction, body).is_ok();
    let outcome = recode(api, version, direction, Bytes::copy_from_slice(body));
    assert_eq!(passes, outcome.is_ok(), "{api} v{version} {direction:?}: {outcome:?}");
    if let Ok(again) = outcome {
        let again = again.freeze();
        assert_eq!(recode(api, version, direction, again.clone()).unwrap(), again);
    }
}

/// Decompresses any bytes within a limit, and compresses them to get them back.
pub fn codec(codec: Compression, data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let mut decompressor = Decompressor::new(LIMIT);
    if let Ok(out) = decompressor.decompress(codec, data) {
        assert!(out.len() <= LIMIT);
    }
    let mut packed = BytesMut::new();
    Compressor::new(codec, None).unwrap().compress(data, &mut packed).unwrap();
    // The same decompressor: what the first bytes did to it must not matter.
    assert_eq!(decompressor.decompress(codec, &packed).unwrap(), data);
}
