//! Any bytes as a Metadata response: what kafka-protocol reads behind the shape pass, the hand-written walk reads too,
//! and whatever it reads can be walked.
#![no_main]

use bytes::Bytes;
use kafka_client::raw::Metadata;
use kafka_client::raw::wire::api::Request;
use kafka_client::raw::wire::messages::MetadataRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((version, body)) = data.split_first() else { return };
    let version = i16::from(*version % 14);
    let theirs = MetadataRequest::decode_response(version, Bytes::copy_from_slice(body));
    match Metadata::from_response(version, body) {
        Ok(metadata) => {
            for topic in metadata.topics() {
                for partition in topic.partitions() {
                    assert_eq!(topic.partition(partition.id), Some(partition));
                }
            }
            assert!(metadata.controller().is_none_or(|id| metadata.broker(id).is_some()));
        }
        Err(ours) => assert!(theirs.is_err(), "{ours}"),
    }
});
