//! OffsetForLeaderEpoch: where a leader epoch ended, by which a consumer notices that the log was truncated (KIP-320).

use kafka_wire::acl::AclOperation;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::fault::Stage;
use crate::log::{UNDEFINED, UNDEFINED_OFFSET};
use crate::partition::Reader;
use crate::shared::RequestContext;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    // Followers ask as well.
    let is_broker = ctx.authorize_cluster(AclOperation::ClusterAction).is_ok();
    let topics = request.topics.into_iter().map(|topic| {
        let authorized =
            if is_broker { Ok(()) } else { ctx.authorize_topic(AclOperation::Describe, &topic.topic) };
        let ends = topic.partitions.iter().map(|asked| {
            let end = authorized.and_then(|()| end_of(ctx, &topic.topic, asked));
            let (code, (epoch, end)) = match end {
                Ok(end) => (ErrorCode::NONE, end),
                Err(code) => (code, (UNDEFINED, UNDEFINED_OFFSET)),
            };
            EpochEndOffset::default()
                .with_error_code(code.0)
                .with_partition(asked.partition)
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        OffsetForLeaderTopicResult::default().with_partitions(ends.collect()).with_topic(topic.topic.clone())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_of(
    ctx: &RequestContext,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    ctx.injected_error(Stage::Before, topic, asked.partition)?;
    let image = ctx.image();
    let place = image.partition(topic, asked.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let state = place.partition.lock();
    let reader = Reader { broker: ctx.broker, follower: false, leader_epoch: asked.current_leader_epoch };
    state.check_reader(reader)?;
    ctx.injected_error(Stage::After, topic, asked.partition)?;
    Ok(state.log.end_of_epoch(asked.leader_epoch))
}

#[cfg(test)]
mod tests {
    use kafka_wire::messages::TopicName;
    use kafka_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;

    use super::*;
    use crate::wire_test::{Wire, batch_of, memory_cluster, named};

    #[tokio::test]
    async fn an_epoch_ends_where_the_next_leader_wrote() {
        let cluster = memory_cluster(2, "t", 1, 2).await;
        Wire::to(&cluster, 1).produce(9, 1, named("t"), &[(0, batch_of(&["a", "b"], None))]).await;
        cluster.move_leader("t", 0, 2).unwrap();
        Wire::to(&cluster, 2).produce(9, 1, named("t"), &[(0, batch_of(&["c"], None))]).await;
        let none = ErrorCode::NONE;
        let cases = [
            (2, 0, 0, -1, (none, 0, 2)),
            (2, 0, 1, -1, (none, 1, 3)),
            (2, 0, 2, -1, (none, -1, -1)),
            (2, 0, 0, 0, (ErrorCode::FENCED_LEADER_EPOCH, -1, -1)),
            (2, 0, 0, 2, (ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1)),
            (1, 0, 0, -1, (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1, -1)),
            (2, 1, 0, -1, (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, -1)),
        ];
        for (broker, partition, epoch, current, expected) in cases {
            for version in 2..=4 {
                let asked = OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_leader_epoch(epoch)
                    .with_current_leader_epoch(current);
                let topic = OffsetForLeaderTopic::default()
                    .with_topic(TopicName("t".into()))
                    .with_partitions(vec![asked]);
                let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
                let response = Wire::to(&cluster, broker).call(version, request).await;
                let end = &response.topics[0].partitions[0];
                let found = (ErrorCode(end.error_code), end.leader_epoch, end.end_offset);
                assert_eq!(found, expected, "broker {broker}, epoch {epoch}, version {version}");
            }
        }
    }
}
