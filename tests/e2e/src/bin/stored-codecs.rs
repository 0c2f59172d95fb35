//! `stored-codecs BOOTSTRAP TOPIC`: the codecs of the batches as the broker stores them, one name a line. Clients see only
//! what is inside; whether a producer really compressed (KAFKA-18659) shows here.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use kafka_admin::Admin;
use kafka_client::raw::Lane;
use kafka_client::raw::wire::fetch::{FetchPartition, Request, ResponseView, TopicRef};
use kafka_client::raw::wire::record_batch::batches;
use kafka_client::{Api, Client, ErrorCode};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The last version that names topics.
const VERSION: i16 = 12;
const PARTITION_MAX_BYTES: i32 = 8 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic] = arguments.as_slice() else {
        return Err("usage: stored-codecs BOOTSTRAP TOPIC".into());
    };
    let client = Client::connect(bootstrap).await?;
    // Connections close with their last owner.
    let owner = client.owner();
    let mut codecs = BTreeSet::new();
    for (_, description) in Admin::new(&client).describe_topics([topic]).await? {
        for partition in description?.partitions {
            let leader = partition.leader.ok_or("a partition has no leader")?;
            let connection = client.connection(leader, Lane::Fetch, &owner).await?;
            let mut offset = 0;
            loop {
                let stored = fetch(&connection, topic, partition.id, offset).await?;
                let mut any = false;
                for batch in batches(stored) {
                    let header = batch?.header;
                    codecs.insert(header.compression().name());
                    (offset, any) = (header.last_offset() + 1, true);
                }
                if !any {
                    break;
                }
            }
        }
    }
    codecs.iter().for_each(|codec| println!("{codec}"));
    Ok(())
}

async fn fetch(
    connection: &kafka_client::raw::Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Bytes> {
    let mut body = BytesMut::new();
    let request = Request {
        replica_id: -1,
        replica_epoch: -1,
        cluster_id: None,
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: PARTITION_MAX_BYTES,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        partitions: &[FetchPartition::new(
            TopicRef { name: topic, id: [0; 16] },
            partition,
            offset,
            PARTITION_MAX_BYTES,
        )],
        forgotten: &[],
        rack_id: "",
    };
    request.encode(VERSION, &mut body)?;
    let answer = connection.call(connection.request(Api::Fetch, VERSION, vec![body.freeze()])).await?;
    let view = ResponseView::decode(VERSION, &answer.body)?;
    let partition = view.partitions().next().ok_or("the answer lacks the partition")?;
    match ErrorCode(partition.status.error_code) {
        ErrorCode::NONE => Ok(answer.body.slice_ref(partition.records)),
        code => Err(format!("fetching {topic}-{}: {code}", partition.status.index).into()),
    }
}
