//! AlterPartitionReassignments, ListPartitionReassignments. A reassignment is over at once, as replicas share their log.

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::{MOST_ITEMS, code_and_message, refuse, too_many};
use crate::shared::RequestContext;

pub(crate) async fn alter(
    ctx: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_change_factor = request.allow_replication_factor_change;
    if request.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() > MOST_ITEMS {
        let (code, message) = code_and_message(&too_many::<()>());
        let response = AlterPartitionReassignmentsResponse::default().with_error_code(code);
        return response.with_error_message(message);
    }
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let number = partition.partition_index;
            let outcome = match partition.replicas {
                Some(replicas) => {
                    let replicas = replicas.iter().map(|id| id.0).collect();
                    ctx.shared.controller.reassign(&topic.name, number, replicas, may_change_factor)
                }
                // Null cancels, and there is never anything to cancel.
                None if ctx.image().partition(&topic.name, number).is_some() => {
                    refuse(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, "")
                }
                None => {
                    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                    refuse(code, code.message())
                }
            };
            let (code, message) = code_and_message(&outcome);
            ReassignablePartitionResponse::default()
                .with_partition_index(number)
                .with_error_code(code)
                .with_error_message(message)
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(may_change_factor)
        .with_error_message(None)
        .with_responses(responses.collect())
}

pub(crate) async fn list(
    _ctx: &RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
