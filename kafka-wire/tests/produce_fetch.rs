//! Produce and Fetch bodies against kafka-protocol's: the same bytes out of the same values, the same values out of the
//! same bytes, in every version; and no panic or surprise on damaged ones.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::messages::{fetch_request, fetch_response, produce_request, produce_response};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::{fetch, produce};

const PRODUCE: std::ops::RangeInclusive<i16> = 3..=13;
const FETCH: std::ops::RangeInclusive<i16> = 4..=18;
const SEEDS: u64 = 60;

fn theirs<T: Encodable>(message: &T, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out.freeze()
}

fn joined(rope: Vec<Bytes>) -> Bytes {
    rope.concat().into()
}

fn ours(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}

fn text(rng: &mut fastrand::Rng) -> String {
    (0..rng.usize(..30)).map(|_| rng.alphanumeric()).collect()
}

fn maybe<T>(rng: &mut fastrand::Rng, value: impl FnOnce(&mut fastrand::Rng) -> T) -> Option<T> {
    rng.bool().then(|| value(rng))
}

fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Topics with distinct names and ids, and something for each of their partitions.
type Topics<T> = Vec<(String, [u8; 16], Vec<T>)>;

fn topics<T>(rng: &mut fastrand::Rng, mut item: impl FnMut(&mut fastrand::Rng) -> T) -> Topics<T> {
    (0..rng.usize(..4))
        .map(|n| {
            let mut id = [0; 16];
            rng.fill(&mut id[1..]);
            id[0] = n as u8 + 1;
            (format!("topic-{n}-{}", text(rng)), id, (0..rng.usize(1..4)).map(|_| item(rng)).collect())
        })
        .collect()
}

fn flat<'a, T, U>(topics: &'a Topics<T>, build: impl Fn(produce::TopicRef<'a>, &'a T) -> U + Copy) -> Vec<U> {
    topics
        .iter()
        .flat_map(|(name, id, items)| {
            items.iter().map(move |item| build(produce::TopicRef { name, id: *id }, item))
        })
        .collect()
}

/// What a reader in `version` gets to see of a topic.
fn seen<'a>(topic: produce::TopicRef<'a>, version: i16) -> produce::TopicRef<'a> {
    if version >= 13 {
        produce::TopicRef { name: "", id: topic.id }
    } else {
        produce::TopicRef { name: topic.name, id: [0; 16] }
    }
}

fn topic_name(name: &str, version: i16) -> oracle::TopicName {
    oracle::TopicName(str_bytes(if version >= 13 { "" } else { name }))
}

fn topic_id(id: [u8; 16], version: i16) -> uuid::Uuid {
    uuid::Uuid::from_bytes(if version >= 13 { id } else { [0; 16] })
}

fn endpoints(rng: &mut fastrand::Rng) -> Vec<(i32, String, i32, Option<String>)> {
    (0..rng.usize(..3)).map(|_| (rng.i32(..), text(rng), rng.i32(..), maybe(rng, text))).collect()
}

fn our_endpoints(endpoints: &[(i32, String, i32, Option<String>)]) -> Vec<produce::NodeEndpoint<'_>> {
    endpoints
        .iter()
        .map(|(node_id, host, port, rack)| produce::NodeEndpoint {
            node_id: *node_id,
            host,
            port: *port,
            rack: rack.as_deref(),
        })
        .collect()
}

#[test]
fn produce_requests_agree() {
    for version in PRODUCE {
        for seed in 0..SEEDS {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let transactional_id = maybe(rng, text);
            let (acks, timeout_ms) = (rng.i16(..), rng.i32(..));
            let data = topics(rng, |rng| (rng.i32(..), Bytes::from(vec![rng.u8(..); rng.usize(..300)])));

            let mut expected = oracle::ProduceRequest::default()
                .with_transactional_id(
                    transactional_id.as_deref().map(|id| oracle::TransactionalId(str_bytes(id))),
                )
                .with_acks(acks)
                .with_timeout_ms(timeout_ms);
            for (name, id, partitions) in &data {
                let partition_data = partitions.iter().map(|(index, records)| {
                    produce_request::PartitionProduceData::default()
                        .with_index(*index)
                        .with_records(Some(records.clone()))
                });
                expected.topic_data.push(
                    produce_request::TopicProduceData::default()
                        .with_name(topic_name(name, version))
                        .with_topic_id(topic_id(*id, version))
                        .with_partition_data(partition_data.collect()),
                );
            }

            let partitions = flat(&data, |topic, (index, records)| produce::PartitionRecords {
                topic,
                index: *index,
                records: records.clone(),
            });
            let request = produce::Request {
                transactional_id: transactional_id.as_deref(),
                acks,
                timeout_ms,
                partitions: &partitions,
            };
            let bytes = theirs(&expected, version);
            let mut scratch = BytesMut::new();
            let rope = request.encode(version, &mut scratch).unwrap();
            for records in partitions.iter().map(|partition| &partition.records) {
                // The very same memory, not a copy of it.
                assert!(records.is_empty() || rope.iter().any(|chunk| chunk.as_ptr() == records.as_ptr()));
            }
            assert_eq!(joined(rope), bytes, "v{version} seed {seed}");

            let view = produce::RequestView::decode(version, &bytes).unwrap();
            assert_eq!(view.transactional_id, transactional_id.as_deref());
            assert_eq!((view.acks, view.timeout_ms), (acks, timeout_ms));
            let read: Vec<_> = view.partitions().collect();
            assert_eq!(read.len(), partitions.len());
            for (read, written) in read.iter().zip(&partitions) {
                assert_eq!(read.topic, seen(written.topic, version));
                assert_eq!((read.index, read.records), (written.index, Some(&written.records[..])));
            }
        }
    }
}

#[test]
fn produce_responses_agree() {
    struct Sample {
        outcome: produce::Outcome,
        errors: Vec<(i32, Option<String>)>,
        message: Option<String>,
    }
    for version in PRODUCE {
        for seed in 0..SEEDS {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let data = topics(rng, |rng| Sample {
                outcome: produce::Outcome {
                    index: rng.i32(..),
                    error_code: rng.i16(..),
                    base_offset: rng.i64(..),
                    log_append_time_ms: rng.i64(..),
                    log_start_offset: if version >= 5 { rng.i64(..) } else { -1 },
                    current_leader: maybe(rng, |rng| produce::LeaderHint {
                        leader_id: rng.i32(0..),
                        leader_epoch: rng.i32(0..),
                    })
                    .filter(|_| version >= 10),
                },
                errors: (0..rng.usize(..3) * usize::from(version >= 8))
                    .map(|_| (rng.i32(..), maybe(rng, text)))
                    .collect(),
                message: maybe(rng, text).filter(|_| version >= 8),
            });
            let throttle_time_ms = rng.i32(..);
            let endpoints = if version >= 10 { endpoints(rng) } else { vec![] };

            let mut expected = oracle::ProduceResponse::default()
                .with_throttle_time_ms(throttle_time_ms)
                .with_node_endpoints(
                    endpoints
                        .iter()
                        .map(|(id, host, port, rack)| {
                            produce_response::NodeEndpoint::default()
                                .with_node_id(oracle::BrokerId(*id))
                                .with_host(str_bytes(host))
                                .with_port(*port)
                                .with_rack(rack.as_deref().map(str_bytes))
                        })
                        .collect(),
                );
            for (name, id, partitions) in &data {
                let responses = partitions.iter().map(|Sample { outcome, errors, message }| {
                    let mut response = produce_response::PartitionProduceResponse::default()
                        .with_index(outcome.index)
                        .with_error_code(outcome.error_code)
                        .with_base_offset(outcome.base_offset)
                        .with_log_append_time_ms(outcome.log_append_time_ms)
                        .with_log_start_offset(outcome.log_start_offset)
                        .with_error_message(message.as_deref().map(str_bytes))
                        .with_record_errors(
                            errors
                                .iter()
                                .map(|(index, message)| {
                                    produce_response::BatchIndexAndErrorMessage::default()
                                        .with_batch_index(*index)
                                        .with_batch_index_error_message(message.as_deref().map(str_bytes))
                                })
                                .collect(),
                        );
                    if let Some(hint) = outcome.current_leader {
                        response.current_leader = produce_response::LeaderIdAndEpoch::default()
                            .with_leader_id(oracle::BrokerId(hint.leader_id))
                            .with_leader_epoch(hint.leader_epoch);
                    }
                    response
                });
                expected.responses.push(
                    produce_response::TopicProduceResponse::default()
                        .with_name(topic_name(name, version))
                        .with_topic_id(topic_id(*id, version))
                        .with_partition_responses(responses.collect()),
                );
            }

            let errors: Vec<Vec<_>> = data
                .iter()
                .flat_map(|(_, _, samples)| samples)
                .map(|sample| {
                    sample
                        .errors
                        .iter()
                        .map(|(index, message)| produce::RecordError {
                            batch_index: *index,
                            message: message.as_deref(),
                        })
                        .collect()
                })
                .collect();
            let mut partitions = flat(&data, |topic, sample| produce::PartitionResponse {
                topic,
                outcome: sample.outcome,
                record_errors: &[],
                error_message: sample.message.as_deref(),
            });
            for (partition, errors) in partitions.iter_mut().zip(&errors) {
                partition.record_errors = errors;
            }
            let node_endpoints = our_endpoints(&endpoints);
            let response = produce::Response {
                partitions: &partitions,
                throttle_time_ms,
                node_endpoints: &node_endpoints,
            };
            let bytes = theirs(&expected, version);
            assert_eq!(ours(|out| response.encode(version, out).unwrap()), bytes, "v{version} seed {seed}");

            let view = produce::ResponseView::decode(version, &bytes).unwrap();
            assert_eq!(view.throttle_time_ms, throttle_time_ms);
            assert_eq!(view.node_endpoints.collect::<Vec<_>>(), node_endpoints);
            assert_eq!(view.partitions().count(), partitions.len());
            for (read, written) in view.partitions().zip(&partitions) {
                assert_eq!(read.topic, seen(written.topic, version));
                assert_eq!(read.outcome, written.outcome);
                assert_eq!(read.error_message, written.error_message);
                assert_eq!(read.record_errors.collect::<Vec<_>>(), written.record_errors);
            }
        }
    }
}

#[test]
fn fetch_requests_agree() {
    struct Sample {
        numbers: [i32; 4],
        offsets: [i64; 3],
        directory: [u8; 16],
    }
    for version in FETCH {
        for seed in 0..SEEDS {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let since = |first: i16, value: i64| if version >= first { value } else { -1 };
            let data = topics(rng, |rng| Sample {
                numbers: [
                    rng.i32(..),
                    since(9, rng.i64(-1..9)) as i32,
                    since(12, rng.i64(-1..9)) as i32,
                    rng.i32(..),
                ],
                offsets: [
                    rng.i64(..),
                    since(5, rng.i64(..)),
                    if version >= 18 && rng.bool() { rng.i64(..) } else { i64::MAX },
                ],
                directory: if version >= 17 && rng.bool() { [rng.u8(1..); 16] } else { [0; 16] },
            });
            let forgotten = topics(rng, |rng| rng.i32(..));
            let forgotten = if version >= 7 { forgotten } else { vec![] };
            let rack = if version >= 11 { text(rng) } else { String::new() };
            let cluster_id = maybe(rng, text).filter(|_| version >= 12);
            let replica = rng.bool();
            let replica_id = if replica { rng.i32(0..) } else { -1 };
            let replica_epoch = if replica && version >= 15 { rng.i64(0..) } else { -1 };
            let [max_wait_ms, min_bytes, max_bytes] = [rng.i32(..), rng.i32(..), rng.i32(..)];
            let isolation_level = rng.i8(..);
            let session_id = if version >= 7 { rng.i32(..) } else { 0 };
            let session_epoch = if version >= 7 { rng.i32(..) } else { -1 };

            let mut expected = oracle::FetchRequest::default()
                .with_max_wait_ms(max_wait_ms)
                .with_min_bytes(min_bytes)
                .with_max_bytes(max_bytes)
                .with_isolation_level(isolation_level)
                .with_session_id(session_id)
                .with_session_epoch(session_epoch)
                .with_rack_id(str_bytes(&rack))
                .with_cluster_id(cluster_id.as_deref().map(str_bytes));
            if version >= 15 {
                expected.replica_state = fetch_request::ReplicaState::default()
                    .with_replica_id(oracle::BrokerId(replica_id))
                    .with_replica_epoch(replica_epoch);
            } else {
                expected.replica_id = oracle::BrokerId(replica_id);
            }
            for (name, id, partitions) in &data {
                let partitions = partitions.iter().map(|sample| {
                    fetch_request::FetchPartition::default()
                        .with_partition(sample.numbers[0])
                        .with_current_leader_epoch(sample.numbers[1])
                        .with_last_fetched_epoch(sample.numbers[2])
                        .with_partition_max_bytes(sample.numbers[3])
                        .with_fetch_offset(sample.offsets[0])
                        .with_log_start_offset(sample.offsets[1])
                        .with_high_watermark(sample.offsets[2])
                        .with_replica_directory_id(uuid::Uuid::from_bytes(sample.directory))
                });
                expected.topics.push(
                    fetch_request::FetchTopic::default()
                        .with_topic(topic_name(name, version))
                        .with_topic_id(topic_id(*id, version))
                        .with_partitions(partitions.collect()),
                );
            }
            for (name, id, partitions) in &forgotten {
                expected.forgotten_topics_data.push(
                    fetch_request::ForgottenTopic::default()
                        .with_topic(topic_name(name, version))
                        .with_topic_id(topic_id(*id, version))
                        .with_partitions(partitions.clone()),
                );
            }

            let partitions = flat(&data, |topic, sample| fetch::FetchPartition {
                topic,
                index: sample.numbers[0],
                current_leader_epoch: sample.numbers[1],
                fetch_offset: sample.offsets[0],
                last_fetched_epoch: sample.numbers[2],
                log_start_offset: sample.offsets[1],
                max_bytes: sample.numbers[3],
                replica_directory_id: sample.directory,
                high_watermark: sample.offsets[2],
            });
            let forgotten =
                flat(&forgotten, |topic, index| fetch::ForgottenPartition { topic, index: *index });
            let request = fetch::Request {
                replica_id,
                replica_epoch,
                cluster_id: cluster_id.as_deref(),
                max_wait_ms,
                min_bytes,
                max_bytes,
                isolation_level,
                session_id,
                session_epoch,
                partitions: &partitions,
                forgotten: &forgotten,
                rack_id: &rack,
            };
            let bytes = theirs(&expected, version);
            assert_eq!(ours(|out| request.encode(version, out).unwrap()), bytes, "v{version} seed {seed}");

            let view = fetch::RequestView::decode(version, &bytes).unwrap();
            assert_eq!((view.replica_id, view.replica_epoch), (replica_id, replica_epoch));
            assert_eq!((view.cluster_id, view.rack_id), (cluster_id.as_deref(), &rack[..]));
            assert_eq!(
                [view.max_wait_ms, view.min_bytes, view.max_bytes, view.session_id, view.session_epoch],
                [max_wait_ms, min_bytes, max_bytes, session_id, session_epoch]
            );
            assert_eq!(view.isolation_level, isolation_level);
            let written = partitions.iter().map(|&partition| fetch::FetchPartition {
                topic: seen(partition.topic, version),
                ..partition
            });
            assert_eq!(view.partitions().collect::<Vec<_>>(), written.collect::<Vec<_>>());
            let written = forgotten.iter().map(|&partition| fetch::ForgottenPartition {
                topic: seen(partition.topic, version),
                ..partition
            });
            assert_eq!(view.forgotten().collect::<Vec<_>>(), written.collect::<Vec<_>>());
        }
    }
}

struct FetchedSample {
    status: fetch::Status,
    aborted: Option<Vec<fetch::AbortedTransaction>>,
    pieces: Vec<Bytes>,
}

fn fetched(rng: &mut fastrand::Rng, version: i16) -> FetchedSample {
    let tags = version >= 12;
    FetchedSample {
        status: fetch::Status {
            index: rng.i32(..),
            error_code: rng.i16(..),
            high_watermark: rng.i64(..),
            last_stable_offset: rng.i64(..),
            log_start_offset: if version >= 5 { rng.i64(..) } else { -1 },
            diverging_epoch: (tags && rng.bool())
                .then(|| fetch::EpochEndOffset { epoch: rng.i32(0..), end_offset: rng.i64(..) }),
            current_leader: (tags && rng.bool())
                .then(|| fetch::LeaderHint { leader_id: rng.i32(0..), leader_epoch: rng.i32(0..) }),
            snapshot_id: (tags && rng.bool())
                .then(|| fetch::SnapshotId { end_offset: rng.i64(..), epoch: rng.i32(0..) }),
            preferred_read_replica: if version >= 11 { rng.i32(-1..5) } else { -1 },
        },
        aborted: maybe(rng, |rng| {
            (0..rng.usize(..3))
                .map(|_| fetch::AbortedTransaction { producer_id: rng.i64(..), first_offset: rng.i64(..) })
                .collect()
        }),
        pieces: (0..rng.usize(..3)).map(|_| vec![rng.u8(..); rng.usize(..200)].into()).collect(),
    }
}

#[test]
fn fetch_responses_agree() {
    for version in FETCH {
        for seed in 0..SEEDS {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let data = topics(rng, |rng| fetched(rng, version));
            let throttle_time_ms = rng.i32(..);
            let (error_code, session_id) = if version >= 7 { (rng.i16(..), rng.i32(..)) } else { (0, 0) };
            let endpoints = if version >= 16 { endpoints(rng) } else { vec![] };

            let mut expected = oracle::FetchResponse::default()
                .with_throttle_time_ms(throttle_time_ms)
                .with_error_code(error_code)
                .with_session_id(session_id)
                .with_node_endpoints(
                    endpoints
                        .iter()
                        .map(|(id, host, port, rack)| {
                            fetch_response::NodeEndpoint::default()
                                .with_node_id(oracle::BrokerId(*id))
                                .with_host(str_bytes(host))
                                .with_port(*port)
                                .with_rack(rack.as_deref().map(str_bytes))
                        })
                        .collect(),
                );
            for (name, id, partitions) in &data {
                expected.responses.push(
                    fetch_response::FetchableTopicResponse::default()
                        .with_topic(topic_name(name, version))
                        .with_topic_id(topic_id(*id, version))
                        .with_partitions(partitions.iter().map(their_fetched).collect()),
                );
            }

            let partitions = flat(&data, |topic, sample| fetch::PartitionResponse {
                topic,
                status: sample.status,
                aborted_transactions: sample.aborted.as_deref(),
                records: &sample.pieces,
            });
            let node_endpoints = our_endpoints(&endpoints);
            let response = fetch::Response {
                throttle_time_ms,
                error_code,
                session_id,
                partitions: &partitions,
                node_endpoints: &node_endpoints,
            };
            let bytes = theirs(&expected, version);
            let rope = response.encode(version, &mut BytesMut::new()).unwrap();
            assert_eq!(joined(rope), bytes, "v{version} seed {seed}");

            let view = fetch::ResponseView::decode(version, &bytes).unwrap();
            assert_eq!(
                (view.throttle_time_ms, view.error_code, view.session_id),
                (throttle_time_ms, error_code, session_id)
            );
            assert_eq!(view.node_endpoints.collect::<Vec<_>>(), node_endpoints);
            assert_eq!(view.partitions().count(), partitions.len());
            for (read, written) in view.partitions().zip(&partitions) {
                assert_eq!(read.topic, seen(written.topic, version));
                assert_eq!(read.status, written.status);
                assert_eq!(read.records, written.records.concat());
                let aborted = written.aborted_transactions.unwrap_or_default();
                assert_eq!(read.aborted_transactions.collect::<Vec<_>>(), aborted);
                // A slice of the frame, not a copy.
                assert_eq!(bytes.slice_ref(read.records), read.records);
            }
        }
    }
}

fn their_fetched(sample: &FetchedSample) -> fetch_response::PartitionData {
    let status = &sample.status;
    let mut data = fetch_response::PartitionData::default()
        .with_partition_index(status.index)
        .with_error_code(status.error_code)
        .with_high_watermark(status.high_watermark)
        .with_last_stable_offset(status.last_stable_offset)
        .with_log_start_offset(status.log_start_offset)
        .with_preferred_read_replica(oracle::BrokerId(status.preferred_read_replica))
        .with_records(Some(sample.pieces.concat().into()))
        .with_aborted_transactions(sample.aborted.as_ref().map(|aborted| {
            aborted
                .iter()
                .map(|aborted| {
                    fetch_response::AbortedTransaction::default()
                        .with_producer_id(oracle::ProducerId(aborted.producer_id))
                        .with_first_offset(aborted.first_offset)
                })
                .collect()
        }));
    if let Some(diverging) = status.diverging_epoch {
        data.diverging_epoch = fetch_response::EpochEndOffset::default()
            .with_epoch(diverging.epoch)
            .with_end_offset(diverging.end_offset);
    }
    if let Some(hint) = status.current_leader {
        data.current_leader = fetch_response::LeaderIdAndEpoch::default()
            .with_leader_id(oracle::BrokerId(hint.leader_id))
            .with_leader_epoch(hint.leader_epoch);
    }
    if let Some(snapshot) = status.snapshot_id {
        data.snapshot_id = fetch_response::SnapshotId::default()
            .with_end_offset(snapshot.end_offset)
            .with_epoch(snapshot.epoch);
    }
    data
}

/// A message's name, its bytes, and whether bytes can be read as it and walked.
type Body = (&'static str, Bytes, fn(i16, &[u8]) -> bool);

/// A body of each of the four messages with everything set, in `version`.
fn full_bodies(version: i16) -> Vec<Body> {
    let topic = |n: u8| produce::TopicRef { name: ["a", "bb"][usize::from(n)], id: [n + 1; 16] };
    let endpoint = produce::NodeEndpoint { node_id: 1, host: "host", port: 9092, rack: Some("r") };
    let hint = Some(produce::LeaderHint { leader_id: 1, leader_epoch: 2 });
    let mut bodies: Vec<Body> = Vec::new();
    if PRODUCE.contains(&version) {
        let records = |n| produce::PartitionRecords { topic: topic(n), index: 1, records: "records".into() };
        let request = produce::Request {
            transactional_id: Some("id"),
            acks: -1,
            timeout_ms: 1,
            partitions: &[records(0), records(0), records(1)],
        };
        let body = joined(request.encode(version, &mut BytesMut::new()).unwrap());
        bodies.push(("produce request", body, |version, body| {
            produce::RequestView::decode(version, body).is_ok_and(|view| view.partitions().count() < 100)
        }));
        let error = produce::RecordError { batch_index: 1, message: Some("bad") };
        let outcome = produce::Outcome {
            index: 1,
            error_code: 6,
            base_offset: 7,
            log_append_time_ms: 8,
            log_start_offset: 9,
            current_leader: hint,
        };
        let partition = |n| produce::PartitionResponse {
            topic: topic(n),
            outcome,
            record_errors: std::slice::from_ref(&error),
            error_message: Some("worse"),
        };
        let response = produce::Response {
            partitions: &[partition(0), partition(0), partition(1)],
            throttle_time_ms: 1,
            node_endpoints: &[endpoint],
        };
        let body = ours(|out| response.encode(version, out).unwrap());
        bodies.push(("produce response", body, |version, body| {
            produce::ResponseView::decode(version, body).is_ok_and(|view| {
                view.partitions().map(|partition| partition.record_errors.count()).sum::<usize>() < 100
                    && view.node_endpoints.count() < 100
            })
        }));
    }
    if FETCH.contains(&version) {
        let partition = |n| fetch::FetchPartition {
            replica_directory_id: [3; 16],
            high_watermark: 1,
            ..fetch::FetchPartition::new(topic(n), 1, 2, 3)
        };
        let request = fetch::Request {
            replica_id: 1,
            replica_epoch: 2,
            cluster_id: Some("cluster").filter(|_| version >= 12),
            max_wait_ms: 1,
            min_bytes: 1,
            max_bytes: 1,
            isolation_level: 1,
            session_id: 1,
            session_epoch: 1,
            partitions: &[partition(0), partition(0), partition(1)],
            forgotten: &[fetch::ForgottenPartition { topic: topic(0), index: 5 }],
            rack_id: "rack",
        };
        let body = ours(|out| request.encode(version, out).unwrap());
        bodies.push(("fetch request", body, |version, body| {
            fetch::RequestView::decode(version, body)
                .is_ok_and(|view| view.partitions().count() + view.forgotten().count() < 100)
        }));
        let status = fetch::Status {
            index: 1,
            error_code: 2,
            high_watermark: 3,
            last_stable_offset: 4,
            log_start_offset: 5,
            diverging_epoch: Some(fetch::EpochEndOffset { epoch: 1, end_offset: 2 }),
            current_leader: hint,
            snapshot_id: Some(fetch::SnapshotId { end_offset: 1, epoch: 2 }),
            preferred_read_replica: 6,
        };
        let pieces = [Bytes::from("first"), Bytes::from("second")];
        let aborted = [fetch::AbortedTransaction { producer_id: 1, first_offset: 2 }];
        let partition = |n| fetch::PartitionResponse {
            topic: topic(n),
            status,
            aborted_transactions: Some(&aborted),
            records: &pieces,
        };
        let response = fetch::Response {
            throttle_time_ms: 1,
            error_code: 2,
            session_id: 3,
            partitions: &[partition(0), partition(0), partition(1)],
            node_endpoints: &[endpoint],
        };
        let body = joined(response.encode(version, &mut BytesMut::new()).unwrap());
        bodies.push(("fetch response", body, |version, body| {
            fetch::ResponseView::decode(version, body).is_ok_and(|view| {
                view.partitions().map(|partition| partition.aborted_transactions.count()).sum::<usize>() < 100
                    && view.node_endpoints.count() < 100
            })
        }));
    }
    bodies
}

#[test]
fn a_body_cut_off_anywhere_is_an_error() {
    for version in *PRODUCE.start()..=*FETCH.end() {
        for (name, body, reads) in full_bodies(version) {
            assert!(reads(version, &body), "{name} v{version}");
            for end in 0..body.len() {
                assert!(!reads(version, &body[..end]), "{name} v{version} cut at {end}");
            }
            let longer = [&body[..], &[0]].concat();
            assert!(!reads(version, &longer), "{name} v{version} with a byte too many");
        }
    }
}

#[test]
fn damaged_bodies_never_panic_and_accepted_ones_are_what_kafka_protocol_reads() {
    for version in *PRODUCE.start()..=*FETCH.end() {
        for (name, body, reads) in full_bodies(version) {
            let rng = &mut fastrand::Rng::with_seed(version as u64);
            let mut accepted = 0;
            for _ in 0..3_000 {
                let mut damaged = body.to_vec();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..damaged.len());
                    damaged[at] = [0, 1, 2, 0x7f, 0x80, 0xff, rng.u8(..)][rng.usize(..7)];
                }
                if !reads(version, &damaged) {
                    continue;
                }
                accepted += 1;
                // What we accept is well formed, so the other implementation must not fail on it, except where it is
                // stricter than Kafka: tags below their version, and nulls.
                let mut rest = Bytes::from(damaged);
                let theirs = match name {
                    "produce request" => oracle::ProduceRequest::decode(&mut rest, version).map(drop),
                    "produce response" => oracle::ProduceResponse::decode(&mut rest, version).map(drop),
                    "fetch request" => oracle::FetchRequest::decode(&mut rest, version).map(drop),
                    _ => oracle::FetchResponse::decode(&mut rest, version).map(drop),
                };
                match theirs {
                    Ok(()) => assert!(rest.is_empty(), "{name} v{version}"),
                    Err(error) => {
                        let reason = error.to_string();
                        assert!(reason.contains("not valid for version"), "{name} v{version}: {reason}");
                    }
                }
            }
            assert!(accepted > 100, "{name} v{version}: {accepted}");
        }
    }
}

#[test]
fn unknown_versions_and_missing_ids_are_refused() {
    let partitions = [produce::PartitionRecords {
        topic: produce::TopicRef { name: "t", id: [0; 16] },
        index: 0,
        records: Bytes::new(),
    }];
    let request =
        produce::Request { transactional_id: None, acks: 1, timeout_ms: 1, partitions: &partitions };
    for version in [-1, 2, 13, 14] {
        let error = request.encode(version, &mut BytesMut::new()).unwrap_err();
        assert_eq!((error.api_key, error.version), (0, version));
    }
    assert!(request.encode(12, &mut BytesMut::new()).is_ok());
    // An answer repeats what was asked, be it nonsense.
    let nothing = produce::Response { partitions: &[], throttle_time_ms: 0, node_endpoints: &[] };
    let refused = produce::PartitionResponse {
        topic: partitions[0].topic,
        outcome: produce::Outcome {
            index: 0,
            error_code: 100,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            current_leader: None,
        },
        record_errors: &[],
        error_message: None,
    };
    let mut body = BytesMut::new();
    produce::Response { partitions: &[refused], ..nothing }.encode(13, &mut body).unwrap();
    let view = produce::ResponseView::decode(13, &body).unwrap();
    assert_eq!(view.partitions().next().unwrap().topic.id, [0; 16]);
    for version in [3, 19] {
        assert!(fetch::RequestView::decode(version, &[]).is_err());
        assert!(fetch::ResponseView::decode(version, &[]).is_err());
    }
}

#[test]
fn null_records_are_read_as_none_or_empty() {
    // Fetch v4: throttle, one topic "t", one partition, no aborted transactions, null records.
    let mut body = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1];
    body.extend_from_slice(&[0; 4 + 2 + 8 + 8]);
    body.extend_from_slice(&[0xff; 8]);
    let view = fetch::ResponseView::decode(4, &body).unwrap();
    let partition = view.partitions().next().unwrap();
    assert!(partition.records.is_empty() && partition.aborted_transactions.count() == 0);
    // Produce v3: no transaction, acks, timeout, one topic "t", one partition, null records.
    let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
    body.extend_from_slice(&[0xff; 4]);
    let view = produce::RequestView::decode(3, &body).unwrap();
    assert_eq!(view.partitions().next().unwrap().records, None);
}

#[test]
fn the_scratch_buffer_is_used_again_once_a_request_is_gone() {
    let partitions: Vec<_> = (0..20)
        .map(|index| produce::PartitionRecords {
            topic: produce::TopicRef { name: "topic", id: [1; 16] },
            index,
            records: Bytes::from_static(&[7; 100]),
        })
        .collect();
    let request =
        produce::Request { transactional_id: None, acks: -1, timeout_ms: 1, partitions: &partitions };
    let mut scratch = BytesMut::new();
    let first = request.encode(9, &mut scratch).unwrap();
    let memory = first[0].as_ptr();
    drop(first);
    for _ in 0..3 {
        assert_eq!(request.encode(9, &mut scratch).unwrap()[0].as_ptr(), memory);
    }
}
