//! OffsetForLeaderEpoch: where a leader epoch ended, by which a consumer notices that the log was truncated (KIP-320).

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
    let topics = request.topics.into_iter().map(|topic| {
        let ends = topic.partitions.iter().map(|asked| {
            let (code, (epoch, end)) = match end_of(ctx, &topic.topic, asked) {
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
