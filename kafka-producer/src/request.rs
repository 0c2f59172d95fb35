//! Makes a Produce request of batches, and reads out of its answer what became of each.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_client::TopicId;
use kafka_client::raw::{Broker, Connection};
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, VersionRange};
use kafka_wire::compression::Compression;
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::produce::{
    Endpoints, LeaderHint, PartitionRecords, PartitionResponseView, Request, ResponseView, TopicRef,
};

use crate::answer::Verdict;
use crate::config::Acks;
use crate::outbox::Part;

/// From this version on topics are named by id.
const IDS_SINCE: i16 = 13;
/// Before this version brokers do not know zstd.
const ZSTD_SINCE: i16 = 7;

/// What all requests of a producer have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) acks: Acks,
    pub(crate) compression: Compression,
    /// How long the broker may wait for replicas.
    pub(crate) timeout: Duration,
    pub(crate) idempotent: bool,
}

impl Terms {
    /// The version in which `parts` can be sent on a connection.
    pub(crate) fn version(&self, connection: &Connection, parts: &[Part]) -> kafka_client::Result<i16> {
        let VersionRange { min, max } = Api::Produce.versions();
        let min = if self.compression == Compression::Zstd { min.max(ZSTD_SINCE) } else { min };
        let has_ids = parts.iter().all(|part| !part.topic_id.is_zero());
        let max = if has_ids { max } else { max.min(IDS_SINCE - 1) };
        connection.version_for(Api::Produce, VersionRange { min, max })
    }

    /// The body. Sorts `parts` by topic, as they must be, and takes their bytes: once the request is written nobody but
    /// the batch holds them, so that their memory can be used again.
    pub(crate) fn encode(
        &self,
        parts: &mut [Part],
        version: i16,
        scratch: &mut BytesMut,
    ) -> Result<Vec<Bytes>, ProtocolError> {
        parts.sort_unstable_by(|one, other| one.topic.cmp(&other.topic));
        let partitions: Vec<PartitionRecords<'_>> = parts
            .iter_mut()
            .map(|part| PartitionRecords {
                records: std::mem::take(&mut part.bytes),
                topic: TopicRef { name: &part.topic, id: part.topic_id.0 },
                index: part.partition,
            })
            .collect();
        let timeout_ms = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        let request =
            Request { transactional_id: None, acks: self.acks.id(), timeout_ms, partitions: &partitions };
        request.encode(version, scratch)
    }

    /// Reads the answer and hands out what it says of each part; parts that it leaves out are not mentioned.
    pub(crate) fn decode(
        &self,
        parts: &[Part],
        version: i16,
        body: &[u8],
        mut each: impl FnMut(usize, Verdict, Option<(LeaderHint, Endpoints<'_>)>),
    ) -> Result<(), ProtocolError> {
        let response = ResponseView::decode(version, body)?;
        // Nearly always in the order of the request.
        let mut expected = 0;
        for answer in response.partitions() {
            let is_it = |part: &Part| {
                let same_topic = if version >= IDS_SINCE {
                    part.topic_id == TopicId(answer.topic.id)
                } else {
                    *part.topic == *answer.topic.name
                };
                part.partition == answer.outcome.index && same_topic
            };
            let found = match parts.get(expected) {
                Some(part) if is_it(part) => Some(expected),
                _ => parts.iter().position(is_it),
            };
            // What was not asked is no concern of ours.
            let Some(index) = found else { continue };
            expected = index + 1;
            let hint = answer.outcome.current_leader.map(|hint| (hint, response.node_endpoints));
            each(index, self.verdict(&answer), hint);
        }
        Ok(())
    }

    fn verdict(&self, answer: &PartitionResponseView<'_>) -> Verdict {
        let known = |value: i64| (value >= 0).then_some(value);
        let code = ErrorCode(answer.outcome.error_code);
        if code.is_ok() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            return Verdict::written(
                known(answer.outcome.base_offset),
                known(answer.outcome.log_append_time_ms),
            );
        }
        let record_errors = answer
            .record_errors
            .filter_map(|error| {
                Some((u32::try_from(error.batch_index).ok()?, error.message.map(str::to_owned)))
            })
            .collect();
        let message = answer.error_message.map(str::to_owned);
        Verdict::refused(code, message, answer.outcome.log_start_offset, record_errors, self.idempotent)
    }
}

/// The brokers that leader hints speak of. One that cannot be reached under what it says is left out.
pub(crate) fn brokers(endpoints: Endpoints<'_>) -> Vec<Broker> {
    endpoints
        .filter_map(|endpoint| {
            let port = u16::try_from(endpoint.port).ok()?;
            let mut broker = Broker::new(endpoint.node_id, NodeAddress::new(endpoint.host, port));
            broker.rack = endpoint.rack.map(Arc::from);
            Some(broker)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kafka_wire::produce::{Outcome, PartitionResponse, RecordError, RequestView, Response};

    use super::*;
    use crate::idempotence::{Answer, Sequence};

    const TERMS: Terms = Terms {
        acks: Acks::All,
        compression: Compression::None,
        timeout: Duration::from_secs(30),
        idempotent: true,
    };

    fn part(topic: &str, id: u8, partition: i32) -> Part {
        Part {
            slot: 0,
            topic: topic.into(),
            topic_id: TopicId([id; 16]),
            partition,
            sequence: Sequence(0),
            bytes: Bytes::from_static(b"a batch"),
        }
    }

    fn outcome(index: i32, error_code: ErrorCode) -> Outcome {
        Outcome {
            index,
            error_code: error_code.0,
            base_offset: if error_code.is_ok() { 90 } else { -1 },
            log_append_time_ms: -1,
            log_start_offset: 0,
            current_leader: None,
        }
    }

    fn answer(topic: &str, id: u8, outcome: Outcome) -> PartitionResponse<'_> {
        let topic = TopicRef { name: topic, id: [id; 16] };
        PartitionResponse { topic, outcome, record_errors: &[], error_message: None }
    }

    fn read(parts: &[Part], version: i16, partitions: &[PartitionResponse<'_>]) -> Vec<(usize, Answer)> {
        let mut body = BytesMut::new();
        let response = Response { partitions, throttle_time_ms: 0, node_endpoints: &[] };
        response.encode(version, &mut body).unwrap();
        let mut seen = vec![];
        TERMS.decode(parts, version, &body, |index, verdict, _| seen.push((index, verdict.answer))).unwrap();
        seen
    }

    #[test]
    fn batches_of_one_topic_travel_together_whatever_their_order() {
        for version in [3, 9, 13] {
            let mut parts = [part("b", 2, 0), part("a", 1, 0), part("b", 2, 1)];
            let rope = TERMS.encode(&mut parts, version, &mut BytesMut::new()).unwrap();
            let body = rope.concat();
            let view = RequestView::decode(version, &body).unwrap();
            assert_eq!((view.acks, view.timeout_ms, view.transactional_id), (-1, 30_000, None));
            let seen: Vec<_> = view.partitions().map(|partition| partition.index).collect();
            assert_eq!(seen, parts.iter().map(|part| part.partition).collect::<Vec<_>>());
            assert!(view.partitions().all(|partition| partition.records == Some(b"a batch")));
        }
    }

    #[test]
    fn answers_are_matched_by_topic_and_partition_in_any_order() {
        let parts = [part("a", 1, 0), part("a", 1, 1), part("b", 2, 0)];
        for version in [3, 12, 13] {
            let answers = [
                answer("b", 2, outcome(0, ErrorCode::NONE)),
                answer("nobody", 9, outcome(0, ErrorCode::NONE)),
                answer("a", 1, outcome(1, ErrorCode::NOT_LEADER_OR_FOLLOWER)),
                answer("a", 1, outcome(7, ErrorCode::NONE)),
            ];
            let seen = read(&parts, version, &answers);
            assert_eq!(seen, [(2, Answer::Written), (1, Answer::Unknown)], "version {version}");
        }
    }

    #[test]
    fn a_duplicate_is_a_success_without_an_offset() {
        let mut body = BytesMut::new();
        let partitions = [answer("a", 1, outcome(0, ErrorCode::DUPLICATE_SEQUENCE_NUMBER))];
        let response = Response { partitions: &partitions, throttle_time_ms: 0, node_endpoints: &[] };
        response.encode(13, &mut body).unwrap();
        let mut seen = None;
        TERMS.decode(&[part("a", 1, 0)], 13, &body, |_, verdict, _| seen = Some(verdict)).unwrap();
        let verdict = seen.unwrap();
        assert_eq!((verdict.answer, verdict.base_offset), (Answer::Written, None));
    }

    #[test]
    fn the_records_at_fault_are_read_and_impossible_indices_dropped() {
        let errors = [
            RecordError { batch_index: 3, message: Some("no key") },
            RecordError { batch_index: -4, message: None },
        ];
        let refused = PartitionResponse {
            record_errors: &errors,
            error_message: Some("bad"),
            ..answer("a", 1, outcome(0, ErrorCode::INVALID_RECORD))
        };
        let mut body = BytesMut::new();
        let response = Response { partitions: &[refused], throttle_time_ms: 0, node_endpoints: &[] };
        response.encode(13, &mut body).unwrap();
        let mut seen = None;
        TERMS.decode(&[part("a", 1, 0)], 13, &body, |_, verdict, _| seen = Some(verdict)).unwrap();
        let verdict = seen.unwrap();
        assert_eq!(verdict.record_errors, [(3, Some("no key".to_owned()))]);
        assert_eq!(verdict.answer, Answer::Refused);
    }
}
