//! What a leader takes and what it refuses: versions, batches that are not as they should be, sequences.

use bytes::{Bytes, BytesMut};
use e2e::Outcome;
use kafka_wire::api::Api;
use kafka_wire::compression::{Compression, Compressor};
use kafka_wire::messages::{InitProducerIdRequest, ProducerId, TransactionalId};
use kafka_wire::produce::{PartitionRecords, Request, ResponseView, TopicRef};
use kafka_wire::record_batch::{BatchWriter, ProducerStamp, SealedBatch, batch_buffer};
use serde_json::{Value, json};

use crate::peer::Reply;
use crate::{Run, Topic, code, text};

/// What became of the headers of everything written to a topic.
async fn stored(run: &mut Run, name: &str, topic: &Topic) -> Outcome {
    let all = crate::read::everything(run, topic).await?;
    let headers = kafka_wire::record_batch::batches(all).map(|batch| {
        let batch = batch?;
        let header = &batch.header;
        let times = [header.base_timestamp, header.max_timestamp].map(|time| time - NOW);
        let times = times.map(|time| (time.abs() < 1000).then_some(time));
        Ok(json!([
            header.base_offset,
            header.partition_leader_epoch,
            header.attributes,
            times,
            batch.verify().is_ok()
        ]))
    });
    let headers: Vec<_> = headers.collect::<Result<_, kafka_wire::record_batch::BatchError>>()?;
    run.note(format!("{name}: as stored"), &Reply::Answer(()), |()| headers.into());
    Ok(())
}

/// The last version that names topics.
const NAMED: i16 = 12;
const NOW: i64 = 1_700_000_000_000;

/// Asks all of it.
pub(crate) async fn run(run: &mut Run) -> Outcome {
    versions(run).await?;
    batches(run).await?;
    timestamps(run).await?;
    sequences(run).await?;
    producer_ids(run).await
}

/// Records for a partition.
type Part<'a> = (&'a Topic, i32, Bytes);

/// A batch of `count` small records.
pub(crate) fn batch(count: usize) -> SealedBatch {
    batch_at(NOW, count)
}

#[expect(clippy::unwrap_used, reason = "a few small records fit every batch")]
fn batch_at(timestamp: i64, count: usize) -> SealedBatch {
    let mut writer = BatchWriter::new(batch_buffer(1 << 10));
    for _ in 0..count {
        writer.append(timestamp, Some(b"key"), Some(b"value"), &[]).unwrap();
    }
    writer.finish().unwrap()
}

/// The batch with some of its bytes replaced, and a checksum that is right again.
fn patched(batch: SealedBatch, at: usize, bytes: &[u8]) -> Bytes {
    const CHECKSUM: usize = 17;
    const CHECKED_FROM: usize = 21;
    let mut raw = BytesMut::from(&batch.freeze()[..]);
    raw[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = crc32c::crc32c(&raw[CHECKED_FROM..]);
    raw[CHECKSUM..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
    raw.freeze()
}

pub(crate) async fn send(
    run: &mut Run,
    version: i16,
    acks: i16,
    parts: &[Part<'_>],
) -> Outcome<Reply<Value>> {
    let partitions: Vec<_> = parts
        .iter()
        .map(|(topic, index, records)| PartitionRecords {
            topic: TopicRef { name: &topic.name, id: topic.id },
            index: *index,
            records: records.clone(),
        })
        .collect();
    let request = Request { transactional_id: None, acks, timeout_ms: 5_000, partitions: &partitions };
    let body = request.encode(version, &mut BytesMut::new())?.concat();
    exchange(run, version, &body).await
}

async fn exchange(run: &mut Run, version: i16, body: &[u8]) -> Outcome<Reply<Value>> {
    let Reply::Answer(answer) = run.peer.exchange(Api::Produce, version, body).await? else {
        return Ok(Reply::Closed);
    };
    let view = ResponseView::decode(version, &answer)?;
    let partition = |p: kafka_wire::produce::PartitionResponseView<'_>| {
        let errors: Vec<_> =
            p.record_errors.map(|error| json!([error.batch_index, error.message.is_some()])).collect();
        json!({"partition": p.outcome.index, "error": code(p.outcome.error_code), "offset": p.outcome.base_offset,
            "appended at": p.outcome.log_append_time_ms >= 0, "start": p.outcome.log_start_offset,
            "records": errors, "message": p.error_message.is_some()})
    };
    // Kafka answers in the order of a hash map.
    let mut partitions: Vec<_> = view.partitions().collect();
    partitions.sort_by_key(|partition| partition.outcome.index);
    Ok(Reply::Answer(partitions.into_iter().map(partition).collect()))
}

/// Writes what a script is about to read.
pub(crate) async fn must_send(run: &mut Run, topic: &Topic, index: i32, records: Bytes) -> Outcome {
    let refused =
        |answer: &Value| answer.as_array().is_none_or(|all| all.iter().any(|p| p["error"] != code(0)));
    match send(run, NAMED, -1, &[(topic, index, records)]).await? {
        Reply::Answer(answer) if !refused(&answer) => Ok(()),
        Reply::Answer(answer) => Err(format!("a write was refused: {answer}").into()),
        Reply::Closed => Err("the broker closed the connection on a write".into()),
    }
}

async fn case(run: &mut Run, step: impl Into<String>, topic: &Topic, records: Bytes) -> Outcome {
    let reply = send(run, NAMED, -1, &[(topic, 0, records)]).await?;
    run.note(step, &reply, Value::clone);
    Ok(())
}

async fn versions(run: &mut Run) -> Outcome {
    let topic = run.topic(2, &[]).await?;
    let absent = Topic { name: e2e::unique("absent"), id: [9; 16] };
    for version in 3..=13 {
        let two = [(&topic, 0, batch(2).freeze()), (&topic, 1, batch(1).freeze())];
        let cases: [(&str, i16, &[Part<'_>]); 6] = [
            ("two partitions", -1, &two),
            ("leader only", 1, &[(&topic, 0, batch(1).freeze())]),
            ("two acks", 2, &[(&topic, 0, batch(1).freeze())]),
            ("an unknown partition", -1, &[(&topic, 7, batch(1).freeze()), (&topic, 0, batch(1).freeze())]),
            ("a negative partition", -1, &[(&topic, -1, batch(1).freeze())]),
            ("a topic twice", -1, &[(&topic, 0, batch(1).freeze()), (&topic, 0, batch(1).freeze())]),
        ];
        for (name, acks, parts) in cases {
            let reply = send(run, version, acks, parts).await?;
            run.note(format!("produce {version:02}: {name}"), &reply, Value::clone);
        }
        // A real cluster may be set to create what is written to; what it says first is the same.
        let reply = send(run, version, -1, &[(&absent, 0, batch(1).freeze())]).await?;
        run.note(format!("produce {version:02}: an unknown topic"), &reply, Value::clone);
        let reply = send(run, version, -1, &[]).await?;
        run.note(format!("produce {version:02}: nothing"), &reply, Value::clone);
        for codec in Compression::ALL {
            let mut writer = BatchWriter::new(batch_buffer(1 << 10));
            for _ in 0..100 {
                writer.append(NOW, None, Some(b"the same again and again"), &[])?;
            }
            let mut compressor = Compressor::new(codec, None)?;
            let (sealed, _) = writer.finish_compressed(&mut compressor, BytesMut::new())?;
            let reply = send(run, version, -1, &[(&topic, 1, sealed.freeze())]).await?;
            run.note(format!("produce {version:02}: {codec}"), &reply, Value::clone);
        }
    }
    Ok(())
}

async fn batches(run: &mut Run) -> Outcome {
    let topic = run.topic(1, &[("max.message.bytes", "2000")]).await?;
    let compacted = run.topic(1, &[("cleanup.policy", "compact")]).await?;
    let good = || batch(3).freeze();
    let broken_crc = {
        let mut raw = BytesMut::from(&good()[..]);
        let last = raw.len() - 1;
        raw[last] ^= 0xff;
        raw.freeze()
    };
    let large = {
        let mut writer = BatchWriter::new(batch_buffer(4 << 10));
        writer.append(NOW, None, Some(&[b'x'; 3000]), &[])?;
        writer.finish()?.freeze()
    };
    let keyless = |keys: &[Option<&[u8]>]| -> Outcome<Bytes> {
        let mut writer = BatchWriter::new(batch_buffer(1 << 10));
        for key in keys {
            writer.append(NOW, *key, Some(b"v"), &[])?;
        }
        Ok(writer.finish()?.freeze())
    };
    let cut = {
        let whole = good();
        whole.slice(..whole.len() - 1)
    };
    let cases: Vec<(&str, Bytes)> = vec![
        ("a good one", good()),
        ("two at once", [good(), good()].concat().into()),
        ("nothing", Bytes::new()),
        ("half a header", good().slice(..30)),
        ("a cut record", cut),
        ("a byte too many", [&good()[..], &[0]].concat().into()),
        ("a wrong checksum", broken_crc),
        ("a large one", large),
        ("base offset 5", patched(batch(3), 0, &5_i64.to_be_bytes())),
        ("leader epoch 9", patched(batch(3), 12, &9_i32.to_be_bytes())),
        ("magic 0", patched(batch(3), 16, &[0])),
        ("magic 1", patched(batch(3), 16, &[1])),
        ("magic 3", patched(batch(3), 16, &[3])),
        ("append time", patched(batch(3), 21, &8_i16.to_be_bytes())),
        ("transactional", patched(batch(3), 21, &16_i16.to_be_bytes())),
        ("control", patched(batch(3), 21, &32_i16.to_be_bytes())),
        ("too high a last offset", patched(batch(3), 23, &5_i32.to_be_bytes())),
        ("too low a last offset", patched(batch(3), 23, &1_i32.to_be_bytes())),
        ("a negative last offset", patched(batch(3), 23, &(-1_i32).to_be_bytes())),
        ("too many records", patched(batch(3), 57, &4_i32.to_be_bytes())),
        ("too few records", patched(batch(3), 57, &2_i32.to_be_bytes())),
        ("no records", patched(batch(3), 57, &0_i32.to_be_bytes())),
        ("minus one record", patched(batch(3), 57, &(-1_i32).to_be_bytes())),
        ("a sequence without producer", patched(batch(3), 53, &4_i32.to_be_bytes())),
        ("a producer without sequence", patched(batch(3), 43, &4_i64.to_be_bytes())),
    ];
    for (name, records) in cases {
        case(run, format!("batch: {name}"), &topic, records).await?;
    }
    stored(run, "batch", &topic).await?;
    case(run, "compacted: keys", &compacted, keyless(&[Some(b"k")])?).await?;
    case(run, "compacted: no key", &compacted, keyless(&[None])?).await?;
    case(run, "compacted: the second has none", &compacted, keyless(&[Some(b"k"), None, None])?).await?;
    Ok(())
}

async fn timestamps(run: &mut Run) -> Outcome {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    let day = 86_400_000;
    let default = run.topic(1, &[]).await?;
    let append = run.topic(1, &[("message.timestamp.type", "LogAppendTime")]).await?;
    let strict = run
        .topic(
            1,
            &[("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")],
        )
        .await?;
    for (kind, topic) in [("default", &default), ("append time", &append), ("strict", &strict)] {
        for (name, at) in [
            ("now", now),
            ("yesterday", now - day),
            ("tomorrow", now + day),
            ("none", -1),
            ("below none", -7),
        ] {
            case(run, format!("timestamp, {kind}: {name}"), topic, batch_at(at, 2).freeze()).await?;
        }
        let lying = patched(batch_at(now, 2), 35, &(now + 5).to_be_bytes());
        case(run, format!("timestamp, {kind}: a largest one that no record has"), topic, lying).await?;
        let far = patched(batch_at(now, 2), 35, &(now + day).to_be_bytes());
        case(run, format!("timestamp, {kind}: one too large that no record has"), topic, far).await?;
        let by_broker = patched(batch_at(now, 2), 21, &8_i16.to_be_bytes());
        case(run, format!("timestamp, {kind}: set by the producer for the broker"), topic, by_broker).await?;
        stored(run, &format!("timestamp, {kind}"), topic).await?;
    }
    Ok(())
}

/// An id that no producer has yet.
pub(crate) async fn producer_id(run: &mut Run) -> Outcome<i64> {
    // A cluster that has just started may have none to give yet.
    e2e::eventually("a producer id", async || {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000);
        let answer = run.peer.another().must(4, request).await.ok()?;
        (answer.error_code == 0).then_some(*answer.producer_id)
    })
    .await
}

async fn sequences(run: &mut Run) -> Outcome {
    let topic = run.topic(1, &[]).await?;
    let known = producer_id(run).await?;
    let other = producer_id(run).await?;
    // (what, producer, epoch, sequence, records)
    let script: &[(&str, i64, i16, i32, usize)] = &[
        ("first", known, 0, 0, 3),
        ("again", known, 0, 0, 3),
        ("next", known, 0, 3, 2),
        ("the first, late", known, 0, 0, 3),
        ("the first, but shorter", known, 0, 0, 2),
        ("a gap", known, 0, 7, 1),
        ("an overlap", known, 0, 4, 3),
        ("continue 1", known, 0, 5, 1),
        ("continue 2", known, 0, 6, 1),
        ("continue 3", known, 0, 7, 1),
        ("continue 4", known, 0, 8, 1),
        ("older than the five remembered", known, 0, 0, 3),
        ("the oldest remembered", known, 0, 3, 2),
        ("the newest remembered", known, 0, 8, 1),
        ("a new epoch in the middle", known, 1, 4, 1),
        ("a new epoch", known, 1, 0, 1),
        ("the old epoch", known, 0, 9, 1),
        ("the new epoch again", known, 1, 0, 1),
        ("the new epoch goes on", known, 1, 1, 1),
        ("another producer in the middle", other, 0, 9, 2),
        ("it goes on", other, 0, 11, 1),
        ("a negative sequence", other, 0, -2, 1),
        ("a negative epoch", other, -1, 12, 1),
        ("a negative epoch of another producer", producer_id(run).await?, -1, 0, 1),
        ("near the end", producer_id(run).await?, 0, i32::MAX - 1, 1),
    ];
    for (name, producer_id, producer_epoch, base_sequence, records) in script {
        let mut sealed = batch(*records);
        let stamp = ProducerStamp {
            producer_id: *producer_id,
            producer_epoch: *producer_epoch,
            base_sequence: *base_sequence,
        };
        sealed.stamp(stamp, false);
        case(run, format!("sequence: {name}"), &topic, sealed.freeze()).await?;
    }
    let wrapping = producer_id(run).await?;
    for (name, base_sequence, records) in [
        ("up to the last", i32::MAX - 1, 1),
        ("over it", i32::MAX, 2),
        ("and on", 1, 1),
        ("the one over it again", i32::MAX, 2),
    ] {
        let mut sealed = batch(records);
        sealed.stamp(ProducerStamp { producer_id: wrapping, producer_epoch: 0, base_sequence }, false);
        case(run, format!("sequence that wraps: {name}"), &topic, sealed.freeze()).await?;
    }
    Ok(())
}

async fn producer_ids(run: &mut Run) -> Outcome {
    for version in 0..=5 {
        let ask = |request: InitProducerIdRequest| request.with_transaction_timeout_ms(1000);
        let empty = TransactionalId::from(text(""));
        let cases = [
            ("idempotent", InitProducerIdRequest::default().with_transactional_id(None)),
            (
                "an empty transactional id",
                InitProducerIdRequest::default().with_transactional_id(Some(empty)),
            ),
            (
                "of an old producer",
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_producer_id(ProducerId(5))
                    .with_producer_epoch(3),
            ),
        ];
        for (name, request) in cases {
            if version < 3 && name == "of an old producer" {
                continue;
            }
            run.step(format!("producer id {version}: {name}"), version, ask(request), |answer| {
                json!([code(answer.error_code), *answer.producer_id >= 0, answer.producer_epoch])
            })
            .await?;
        }
    }
    Ok(())
}
