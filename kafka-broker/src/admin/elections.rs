//! ElectLeaders.

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_wire::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};

use super::{MOST_ITEMS, code_and_message, refuse, text};
use crate::controller::Refusal;
use crate::image::NO_NODE;
use crate::shared::RequestContext;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) async fn elect(ctx: &RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse {
    // Version 0 knew preferred elections only.
    let kind = if ctx.version == 0 { PREFERRED } else { request.election_type };
    let is_known = matches!(kind, PREFERRED | UNCLEAN);
    // Of all partitions only those whose leader had to change are of interest.
    let of_all = request.topic_partitions.is_none();
    let asked: Vec<_> = request.topic_partitions.map_or_else(
        || every_partition(ctx),
        |topics| topics.into_iter().map(|topic| (topic.topic, topic.partitions)).collect(),
    );
    if asked.iter().map(|(_, partitions)| partitions.len()).sum::<usize>() > MOST_ITEMS {
        return ElectLeadersResponse::default().with_error_code(ErrorCode::POLICY_VIOLATION.0);
    }
    let results = asked.into_iter().map(|(topic, partitions)| {
        let results = partitions.into_iter().filter_map(|partition| {
            let outcome = if is_known {
                elect_one(ctx, kind, &topic, partition)
            } else {
                refuse(ErrorCode::INVALID_REQUEST, format!("Unknown election type {kind}"))
            };
            let needless = matches!(&outcome, Err(refusal) if refusal.code == ErrorCode::ELECTION_NOT_NEEDED);
            let (code, message) = code_and_message(&outcome);
            let result = PartitionResult::default().with_partition_id(partition).with_error_code(code);
            (!(needless && of_all)).then_some(result.with_error_message(message))
        });
        let results = results.collect();
        ReplicaElectionResult::default().with_topic(topic).with_partition_result(results)
    });
    let results = results.filter(|result| !(of_all && result.partition_result.is_empty())).collect();
    let code = if is_known { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
    ElectLeadersResponse::default().with_error_code(code.0).with_replica_election_results(results)
}

fn every_partition(ctx: &RequestContext) -> Vec<(TopicName, Vec<i32>)> {
    let image = ctx.image();
    let topics = image.topics.values().map(|topic| {
        let numbers = topic.partitions.iter().map(|partition| partition.partition.number());
        (TopicName(text(&*topic.name)), numbers.collect())
    });
    topics.collect()
}

fn elect_one(ctx: &RequestContext, kind: i8, topic: &str, number: i32) -> Result<(), Refusal> {
    let image = ctx.image();
    let Some(known) = image.topic(topic) else {
        return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("No such topic as {topic}"));
    };
    let Some(partition) = known.partition(number) else {
        return refuse(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            format!("No such partition as {topic}-{number}"),
        );
    };
    let preferred = partition.replicas.first().copied().unwrap_or(NO_NODE);
    let needless = match kind {
        PREFERRED => partition.leader == preferred,
        _ => partition.leader != NO_NODE,
    };
    if needless {
        return refuse(ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::ELECTION_NOT_NEEDED.message());
    }
    let candidate = match kind {
        PREFERRED => Some(preferred).filter(|id| image.live_broker(*id).is_some()),
        _ => partition.replicas.iter().copied().find(|id| image.live_broker(*id).is_some()),
    };
    let Some(candidate) = candidate else {
        let code = match kind {
            PREFERRED => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
            _ => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
        };
        return refuse(code, code.message());
    };
    ctx.shared.controller.move_leader(topic, number, candidate)
}
