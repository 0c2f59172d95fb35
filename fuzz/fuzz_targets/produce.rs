//! Any bytes as Produce requests and responses: what is read and written again reads the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use kafka_wire::produce::{
    PartitionRecords, PartitionResponse, Request, RequestView, Response, ResponseView,
};
use libfuzzer_sys::fuzz_target;

fn request(version: i16, body: &[u8]) {
    let Ok(view) = RequestView::decode(version, body) else { return };
    let partitions: Vec<_> = view
        .partitions()
        .map(|partition| PartitionRecords {
            topic: partition.topic,
            index: partition.index,
            records: Bytes::copy_from_slice(partition.records.unwrap_or_default()),
        })
        .collect();
    let request = Request {
        transactional_id: view.transactional_id,
        acks: view.acks,
        timeout_ms: view.timeout_ms,
        partitions: &partitions,
    };
    // A zero topic id can be read but not written, and so can a text of 32 KiB.
    let Ok(rope) = request.encode(version, &mut BytesMut::new()) else { return };
    let written = rope.concat();
    let again = RequestView::decode(version, &written).unwrap();
    assert_eq!((again.acks, again.timeout_ms), (view.acks, view.timeout_ms));
    assert!(again.partitions().map(|p| (p.topic, p.index)).eq(view.partitions().map(|p| (p.topic, p.index))));
}

fn response(version: i16, body: &[u8]) {
    let Ok(view) = ResponseView::decode(version, body) else { return };
    let errors: Vec<Vec<_>> = view.partitions().map(|partition| partition.record_errors.collect()).collect();
    let partitions: Vec<_> = view
        .partitions()
        .zip(&errors)
        .map(|(partition, record_errors)| PartitionResponse {
            topic: partition.topic,
            outcome: partition.outcome,
            record_errors,
            error_message: partition.error_message,
        })
        .collect();
    let node_endpoints: Vec<_> = view.node_endpoints.collect();
    let response = Response {
        partitions: &partitions,
        throttle_time_ms: view.throttle_time_ms,
        node_endpoints: &node_endpoints,
    };
    let mut written = BytesMut::new();
    if response.encode(version, &mut written).is_err() {
        return;
    }
    let again = ResponseView::decode(version, &written).unwrap();
    assert!(again.node_endpoints.eq(view.node_endpoints));
    assert!(
        again.partitions().map(|p| (p.topic, p.outcome)).eq(view.partitions().map(|p| (p.topic, p.outcome)))
    );
}

fuzz_target!(|data: &[u8]| {
    let Some((&version, body)) = data.split_first() else { return };
    request(i16::from(version % 16), body);
    response(i16::from(version % 16), body);
});
