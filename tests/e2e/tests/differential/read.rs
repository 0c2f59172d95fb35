//! What a leader gives to read: versions, limits, places out of range, epochs, sessions.

use bytes::{Bytes, BytesMut};
use e2e::Outcome;
use kafka_wire::api::Api;
use kafka_wire::fetch::{FetchPartition, ForgottenPartition, Request, ResponseView, TopicRef};
use kafka_wire::record_batch::batches;
use serde_json::{Value, json};

use crate::peer::Reply;
use crate::produce::{batch, must_send};
use crate::{Run, Topic, code};

/// The last version that names topics.
const NAMED: i16 = 12;
const PLENTY: i32 = 1 << 20;

/// Asks all of it.
pub(crate) async fn run(run: &mut Run) -> Outcome {
    // Five batches of three records.
    let topic = run.topic(2, &[]).await?;
    let mut size = 0;
    for _ in 0..5 {
        let records = batch(3).freeze();
        size = i32::try_from(records.len())?;
        must_send(run, &topic, 0, records).await?;
    }
    versions(run, &topic).await?;
    limits(run, &topic, size).await?;
    waits(run, &topic).await?;
    epochs(run, &topic).await?;
    sessions(run, &topic).await
}

fn request<'a>(partitions: &'a [FetchPartition<'a>], forgotten: &'a [ForgottenPartition<'a>]) -> Request<'a> {
    Request {
        replica_id: -1,
        replica_epoch: -1,
        cluster_id: None,
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: PLENTY,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        partitions,
        forgotten,
        rack_id: "",
    }
}

fn reference(topic: &Topic) -> TopicRef<'_> {
    TopicRef { name: &topic.name, id: topic.id }
}

fn from(topic: &Topic, index: i32, offset: i64) -> FetchPartition<'_> {
    FetchPartition::new(reference(topic), index, offset, PLENTY)
}

/// The session in the answer besides its meaning, which leaves the number out.
async fn fetch(run: &mut Run, version: i16, request: Request<'_>) -> Outcome<(Reply<Value>, i32)> {
    let mut body = BytesMut::new();
    request.encode(version, &mut body)?;
    let Reply::Answer(answer) = run.peer.exchange(Api::Fetch, version, &body).await? else {
        return Ok((Reply::Closed, 0));
    };
    let view = ResponseView::decode(version, &answer)?;
    let partition = |p: kafka_wire::fetch::PartitionResponseView<'_>| {
        let mut found = batches(Bytes::copy_from_slice(p.records));
        let ranges: Vec<_> = found
            .by_ref()
            .flatten()
            .map(|batch| json!([batch.header.base_offset, batch.header.last_offset()]))
            .collect();
        let status = p.status;
        json!({"partition": status.index, "error": code(status.error_code), "high watermark": status.high_watermark,
            "last stable": status.last_stable_offset, "start": status.log_start_offset, "batches": ranges,
            "part of one more": !found.rest().is_empty(), "replica": status.preferred_read_replica,
            "diverging": status.diverging_epoch.map(|end| json!([end.epoch, end.end_offset])),
            "leader": status.current_leader.is_some()})
    };
    let partitions: Vec<_> = view.partitions().map(partition).collect();
    let meaning =
        json!({"error": code(view.error_code), "session": view.session_id != 0, "partitions": partitions});
    Ok((Reply::Answer(meaning), view.session_id))
}

/// All that there is to read of a topic's first partition.
pub(crate) async fn everything(run: &mut Run, topic: &Topic) -> Outcome<Bytes> {
    let mut body = BytesMut::new();
    request(&[from(topic, 0, 0)], &[]).encode(NAMED, &mut body)?;
    let Reply::Answer(answer) = run.peer.exchange(Api::Fetch, NAMED, &body).await? else {
        return Err("the broker closed the connection on a fetch".into());
    };
    let view = ResponseView::decode(NAMED, &answer)?;
    Ok(view
        .partitions()
        .map(|partition| Bytes::copy_from_slice(partition.records))
        .next()
        .unwrap_or_default())
}

async fn step(run: &mut Run, step: impl Into<String>, version: i16, request: Request<'_>) -> Outcome {
    let (reply, _) = fetch(run, version, request).await?;
    run.note(step, &reply, Value::clone);
    Ok(())
}

async fn versions(run: &mut Run, topic: &Topic) -> Outcome {
    let absent = Topic { name: e2e::unique("absent"), id: [9; 16] };
    for version in 4..=18 {
        for (name, partitions) in [
            ("the beginning", vec![from(topic, 0, 0)]),
            ("the end", vec![from(topic, 0, 15)]),
            ("beyond the end", vec![from(topic, 0, 16)]),
            ("before the beginning", vec![from(topic, 0, -3)]),
            ("an empty partition", vec![from(topic, 1, 0)]),
            ("an unknown partition", vec![from(topic, 8, 0)]),
            ("an unknown topic", vec![from(&absent, 0, 0)]),
            ("one known and one not", vec![from(topic, 0, 12), from(&absent, 0, 0)]),
            ("nothing", vec![]),
        ] {
            step(run, format!("fetch {version:02}: {name}"), version, request(&partitions, &[])).await?;
        }
        let committed = Request { isolation_level: 1, ..request(&[], &[]) };
        let partitions = [from(topic, 0, 3)];
        step(
            run,
            format!("fetch {version:02}: read committed"),
            version,
            Request { partitions: &partitions, ..committed },
        )
        .await?;
    }
    Ok(())
}

async fn limits(run: &mut Run, topic: &Topic, size: i32) -> Outcome {
    for offset in [0, 1, 2, 3, 7, 14] {
        step(run, format!("fetch from {offset:02}"), NAMED, request(&[from(topic, 0, offset)], &[])).await?;
    }
    for (name, bytes) in [
        ("none", 0),
        ("a byte", 1),
        ("a byte less than a batch", size - 1),
        ("a batch", size),
        ("a byte more than a batch", size + 1),
        ("two batches and a half", size * 5 / 2),
        ("a negative number", -1),
    ] {
        // The first batch exceeds every limit, but for a negative one Kafka fails with an internal error.
        let narrow = [FetchPartition { max_bytes: bytes, ..from(topic, 0, 0) }];
        if bytes >= 0 {
            step(run, format!("fetch limit of a partition: {name}"), NAMED, request(&narrow, &[])).await?;
        }
        let both = [from(topic, 0, 0), from(topic, 0, 3)];
        let all = [from(topic, 1, 0), from(topic, 0, 0)];
        let limited = |partitions| Request { max_bytes: bytes, ..request(partitions, &[]) };
        if bytes >= 0 {
            step(run, format!("fetch limit of the request: {name}"), NAMED, limited(&both[..1])).await?;
        }
        step(
            run,
            format!("fetch limit of the request, behind an empty partition: {name}"),
            NAMED,
            limited(&all),
        )
        .await?;
    }
    // What is not there within the wait is answered without it.
    let partitions = [from(topic, 0, 15)];
    let patient = Request { min_bytes: 1, max_wait_ms: 100, ..request(&partitions, &[]) };
    step(run, "fetch that waits for nothing", NAMED, patient).await?;
    let twice = [from(topic, 0, 0), from(topic, 0, 12)];
    step(run, "fetch of a partition twice", NAMED, request(&twice, &[])).await
}

/// Requests for more than is there: what is answered once the wait is over, and what at once.
async fn waits(run: &mut Run, topic: &Topic) -> Outcome {
    let absent = Topic { name: e2e::unique("absent"), id: [9; 16] };
    let (some, end, beyond) = (from(topic, 0, 12), from(topic, 0, 15), from(topic, 0, 99));
    let fenced = FetchPartition { current_leader_epoch: 9, ..end };
    let parted = FetchPartition { last_fetched_epoch: 0, ..from(topic, 0, 15) };
    let (short, long) = (50, 4_000);
    for (name, partitions, min_bytes, max_bytes, max_wait_ms) in [
        ("too little", vec![some], PLENTY, PLENTY, short),
        ("enough", vec![some], 1, PLENTY, long),
        ("enough in one of two", vec![end, some], 1, PLENTY, long),
        ("as much as may be answered", vec![from(topic, 0, 0)], PLENTY, 50, long),
        ("more than a partition may", vec![FetchPartition { max_bytes: 10, ..some }], 100, PLENTY, short),
        ("a byte of nothing", vec![end], 1, PLENTY, short),
        ("no byte of nothing", vec![end], 0, PLENTY, long),
        ("a negative number of bytes", vec![end], -5, PLENTY, long),
        ("a negative wait", vec![end], 1, PLENTY, -5),
        ("an error", vec![end, beyond], 1, PLENTY, long),
        ("an unknown topic", vec![end, from(&absent, 0, 0)], 1, PLENTY, long),
        ("another epoch", vec![fenced], 1, PLENTY, long),
        ("a log that is not cut", vec![parted], 1, PLENTY, short),
    ] {
        let request = Request { min_bytes, max_bytes, max_wait_ms, ..request(&partitions, &[]) };
        let start = std::time::Instant::now();
        let (reply, _) = fetch(run, NAMED, request).await?;
        let at_once = start.elapsed().as_millis() < 3_500;
        run.note(format!("fetch that waits: {name}"), &reply, |meaning| json!([meaning, at_once]));
    }
    Ok(())
}

async fn epochs(run: &mut Run, topic: &Topic) -> Outcome {
    for version in [9, 12, 13, 18] {
        for epoch in [-1, 0, 1, 7] {
            let partition = [FetchPartition { current_leader_epoch: epoch, ..from(topic, 0, 0) }];
            step(run, format!("fetch {version:02} in epoch {epoch}"), version, request(&partition, &[]))
                .await?;
        }
    }
    for (epoch, offset) in [(0, 15), (0, 3), (3, 3), (0, 99), (-1, 3)] {
        let partition = [FetchPartition { last_fetched_epoch: epoch, ..from(topic, 0, offset) }];
        step(run, format!("fetch from {offset:02}, last in epoch {epoch}"), NAMED, request(&partition, &[]))
            .await?;
    }
    Ok(())
}

fn within<'a>(
    session_id: i32,
    session_epoch: i32,
    partitions: &'a [FetchPartition<'a>],
    forgotten: &'a [ForgottenPartition<'a>],
) -> Request<'a> {
    Request { session_id, session_epoch, ..request(partitions, forgotten) }
}

async fn sessions(run: &mut Run, topic: &Topic) -> Outcome {
    for version in [7, 12, 13, 18] {
        let name = |what: &str| format!("session {version:02}: {what}");
        let (one, both) = ([from(topic, 0, 12)], [from(topic, 0, 15), from(topic, 1, 0)]);
        step(run, name("none, epoch 0 with an id"), version, within(99, 0, &one, &[])).await?;
        step(run, name("an unknown one"), version, within(99, 1, &one, &[])).await?;
        step(run, name("a negative epoch with an id"), version, within(99, -1, &one, &[])).await?;
        step(run, name("no id, epoch 5"), version, within(0, 5, &one, &[])).await?;

        let (reply, id) = fetch(run, version, within(0, 0, &both, &[])).await?;
        run.note(name("a new one"), &reply, Value::clone);
        step(run, name("nothing new"), version, within(id, 1, &[], &[])).await?;
        step(run, name("a partition moves back"), version, within(id, 2, &[from(topic, 0, 12)], &[])).await?;
        step(run, name("it is read again"), version, within(id, 3, &[], &[])).await?;
        step(run, name("out of range"), version, within(id, 4, &[from(topic, 0, 50)], &[])).await?;
        step(run, name("still out of range"), version, within(id, 5, &[], &[])).await?;
        let forgotten = [ForgottenPartition { topic: reference(topic), index: 0 }];
        step(run, name("a partition leaves"), version, within(id, 6, &[], &forgotten)).await?;
        step(run, name("the rest"), version, within(id, 7, &[], &[])).await?;
        step(run, name("it comes back"), version, within(id, 8, &[from(topic, 0, 9)], &[])).await?;
        step(run, name("an epoch again"), version, within(id, 8, &[], &[])).await?;
        step(run, name("an epoch skipped"), version, within(id, 20, &[], &[])).await?;
        step(run, name("the next epoch nevertheless"), version, within(id, 9, &[], &[])).await?;
        step(run, name("closed"), version, within(id, -1, &[], &[])).await?;
        step(run, name("after its end"), version, within(id, 10, &[], &[])).await?;
    }
    Ok(())
}
