//! Offsets of logs: by time, by epoch, and where a log begins after records were deleted.

use e2e::Outcome;
use kafka_wire::messages::BrokerId;
use kafka_wire::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use kafka_wire::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_wire::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_wire::record_batch::{BatchWriter, batch_buffer};
use serde_json::{Value, json};

use crate::produce::must_send;
use crate::{Run, Topic, code, topic_name};

const START: i64 = 1_700_000_000_000;

/// Asks all of it.
pub(crate) async fn run(run: &mut Run) -> Outcome {
    // Offsets 0 to 8 at seconds 0, 10, 5 | 20, 20, 15 | 40, 30, 50: not in order, within batches and across them.
    let topic = run.topic(2, &[]).await?;
    for seconds in [[0, 10, 5], [20, 20, 15], [40, 30, 50]] {
        let mut writer = BatchWriter::new(batch_buffer(1 << 10));
        for second in seconds {
            writer.append(START + second * 1000, None, Some(b"v"), &[])?;
        }
        must_send(run, &topic, 0, writer.finish()?.freeze()).await?;
    }
    by_time(run, &topic, "").await?;
    by_epoch(run, &topic).await?;
    delete(run, &topic).await?;
    by_time(run, &topic, ", records deleted").await
}

fn list(topic: &str, partitions: Vec<ListOffsetsPartition>) -> ListOffsetsRequest {
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn at(index: i32, timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
}

fn listed(answer: &kafka_wire::messages::ListOffsetsResponse) -> Value {
    let topics = answer.topics.iter().flat_map(|topic| &topic.partitions);
    topics
        .map(|p| json!([p.partition_index, code(p.error_code), p.offset, p.timestamp, p.leader_epoch]))
        .collect()
}

async fn by_time(run: &mut Run, topic: &Topic, when: &str) -> Outcome {
    let absent = e2e::unique("absent");
    for version in 1..=11 {
        let name = |what: &str| format!("list offsets {version:02}{when}: {what}");
        for special in [-1, -2, -3, -4, -5, -6, -7] {
            run.step(name(&format!("{special}")), version, list(&topic.name, vec![at(0, special)]), listed)
                .await?;
        }
        run.step(name("an empty partition, by time"), version, list(&topic.name, vec![at(1, START)]), listed)
            .await?;
        run.step(
            name("an empty partition, largest time"),
            version,
            list(&topic.name, vec![at(1, -3)]),
            listed,
        )
        .await?;
        if version < 11 && version > 4 {
            // What depends on the version was seen; the rest is the same for all.
            continue;
        }
        for second in [-1, 0, 3, 5, 6, 10, 15, 16, 20, 21, 30, 35, 40, 45, 50, 51] {
            let request = list(&topic.name, vec![at(0, START + second * 1000)]);
            run.step(name(&format!("second {second:02}")), version, request, listed).await?;
        }
        run.step(name("an unknown partition"), version, list(&topic.name, vec![at(9, -1)]), listed).await?;
        run.step(name("an unknown topic"), version, list(&absent, vec![at(0, -1)]), listed).await?;
        run.step(name("a partition twice"), version, list(&topic.name, vec![at(0, -1), at(0, -2)]), listed)
            .await?;
        run.step(
            name("nothing"),
            version,
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)),
            listed,
        )
        .await?;
        if version >= 4 {
            for epoch in [0, 5] {
                let partition = at(0, -1).with_current_leader_epoch(epoch);
                run.step(
                    name(&format!("in epoch {epoch}")),
                    version,
                    list(&topic.name, vec![partition]),
                    listed,
                )
                .await?;
            }
        }
        if version >= 2 {
            let committed = list(&topic.name, vec![at(0, -1)]).with_isolation_level(1);
            run.step(name("committed"), version, committed, listed).await?;
        }
    }
    Ok(())
}

async fn by_epoch(run: &mut Run, topic: &Topic) -> Outcome {
    for version in 2..=4 {
        for (current, epoch) in [(-1, 0), (-1, -1), (-1, 1), (-1, 5), (0, 0), (7, 0)] {
            let partition = |index| {
                OffsetForLeaderPartition::default()
                    .with_partition(index)
                    .with_current_leader_epoch(current)
                    .with_leader_epoch(epoch)
            };
            let topic = OffsetForLeaderTopic::default()
                .with_topic(topic_name(&topic.name))
                .with_partitions(vec![partition(0), partition(1), partition(9)]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            if version >= 3 {
                request = request.with_replica_id(BrokerId(-1));
            }
            run.step(format!("epoch end {version}: of {epoch}, now {current}"), version, request, |answer| {
                let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
                partitions
                    .map(|p| json!([p.partition, code(p.error_code), p.leader_epoch, p.end_offset]))
                    .collect()
            })
            .await?;
        }
    }
    Ok(())
}

async fn delete(run: &mut Run, topic: &Topic) -> Outcome {
    let absent = e2e::unique("absent");
    for (name, topic, index, offset) in [
        ("beyond the end", &topic.name, 0, 100),
        ("a negative offset", &topic.name, 0, -5),
        ("an unknown partition", &topic.name, 9, 0),
        ("an unknown topic", &absent, 0, 0),
        ("some", &topic.name, 0, 4),
        ("what is deleted already", &topic.name, 0, 2),
        ("nothing of an empty one", &topic.name, 1, 0),
    ] {
        let partition = DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let topic =
            DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        run.step(format!("delete records: {name}"), 2, request, |answer| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|p| json!([p.partition_index, code(p.error_code), p.low_watermark])).collect()
        })
        .await?;
    }
    Ok(())
}
