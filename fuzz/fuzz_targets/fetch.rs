//! Any bytes as Fetch requests and responses: what is read and written again reads the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use kafka_wire::fetch::{PartitionResponse, Request, RequestView, Response, ResponseView};
use libfuzzer_sys::fuzz_target;

fn request(version: i16, body: &[u8]) {
    let Ok(view) = RequestView::decode(version, body) else { return };
    let (partitions, forgotten): (Vec<_>, Vec<_>) = (view.partitions().collect(), view.forgotten().collect());
    let request = Request {
        replica_id: view.replica_id,
        replica_epoch: view.replica_epoch,
        cluster_id: view.cluster_id,
        max_wait_ms: view.max_wait_ms,
        min_bytes: view.min_bytes,
        max_bytes: view.max_bytes,
        isolation_level: view.isolation_level,
        session_id: view.session_id,
        session_epoch: view.session_epoch,
        partitions: &partitions,
        forgotten: &forgotten,
        rack_id: view.rack_id,
    };
    let mut written = BytesMut::new();
    // A zero topic id can be read but not written, and so can a text of 32 KiB.
    if request.encode(version, &mut written).is_err() {
        return;
    }
    let again = RequestView::decode(version, &written).unwrap();
    assert_eq!((again.rack_id, again.cluster_id), (view.rack_id, view.cluster_id));
    assert_eq!((again.replica_id, again.replica_epoch), (view.replica_id, view.replica_epoch));
    assert!(again.partitions().eq(partitions.iter().copied()));
    assert!(again.forgotten().eq(forgotten.iter().copied()));
}

fn response(version: i16, body: &[u8]) {
    let Ok(view) = ResponseView::decode(version, body) else { return };
    let kept: Vec<(Vec<_>, [Bytes; 1])> = view
        .partitions()
        .map(|p| (p.aborted_transactions.collect(), [Bytes::copy_from_slice(p.records)]))
        .collect();
    let partitions: Vec<_> = view
        .partitions()
        .zip(&kept)
        .map(|(partition, (aborted, records))| PartitionResponse {
            topic: partition.topic,
            status: partition.status,
            aborted_transactions: Some(aborted),
            records,
        })
        .collect();
    let node_endpoints: Vec<_> = view.node_endpoints.collect();
    let response = Response {
        throttle_time_ms: view.throttle_time_ms,
        error_code: view.error_code,
        session_id: view.session_id,
        partitions: &partitions,
        node_endpoints: &node_endpoints,
    };
    let Ok(rope) = response.encode(version, &mut BytesMut::new()) else { return };
    let written = rope.concat();
    let again = ResponseView::decode(version, &written).unwrap();
    assert!(again.node_endpoints.eq(view.node_endpoints));
    let seen = |view: &ResponseView<'_>| {
        view.partitions()
            .map(|p| (p.status, p.records.to_vec(), p.aborted_transactions.count()))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&again), seen(&view));
}

fuzz_target!(|data: &[u8]| {
    let Some((&version, body)) = data.split_first() else { return };
    request(i16::from(version % 20), body);
    response(i16::from(version % 20), body);
});
