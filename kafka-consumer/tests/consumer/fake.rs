//! A broker that serves the log it is given, and answers as wrongly as a test wants it to.

use std::collections::{BTreeMap, HashMap};
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_client::raw::wire::api::{Api, Request};
use kafka_client::raw::wire::fetch::{
    self, AbortedTransaction, PartitionResponse, Response, Status, TopicRef,
};
use kafka_client::raw::wire::frame::FrameDecoder;
use kafka_client::raw::wire::header::{RequestHeader, encode_response_header};
use kafka_client::raw::wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_client::raw::wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_client::raw::wire::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_client::raw::wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_client::raw::wire::messages::{
    ApiVersionsRequest, BrokerId, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, StrBytes, TopicName,
};
use kafka_client::raw::wire::record_batch::BatchHeader;
use kafka_client::{Client, ErrorCode, NodeId, TopicPartition};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tower_service::Service;
use uuid::Uuid;

pub(crate) const TOPIC: &str = "orders";

/// One partition, as a leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) leader: NodeId,
    pub(crate) epoch: i32,
    pub(crate) batches: Vec<Bytes>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) aborted: Vec<(i64, i64)>,
    /// Where each epoch ends, for those that ask.
    pub(crate) epoch_ends: BTreeMap<i32, i64>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            leader: 1,
            epoch: 0,
            batches: Vec::new(),
            start: 0,
            end: 0,
            aborted: Vec::new(),
            epoch_ends: BTreeMap::new(),
        }
    }
}

/// A fetch, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct SeenFetch {
    pub(crate) version: i16,
    pub(crate) session: (i32, i32),
    /// Partition, offset, current epoch, epoch of the last record.
    pub(crate) wants: Vec<(i32, i64, i32, i32)>,
    pub(crate) at: Instant,
    pub(crate) nth: usize,
}

/// What a test wants answered to a fetch.
pub(crate) enum Reply {
    /// What a good broker would.
    Serve,
    /// These partitions, whatever was asked.
    Partitions(Vec<Part>),
    /// An error for all of it.
    Error(ErrorCode),
    /// These bytes for a body.
    Raw(Bytes),
    Close,
    Silence,
}

/// One partition of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) topic_id: [u8; 16],
    pub(crate) status: Status,
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) records: Bytes,
}

impl Part {
    pub(crate) fn of(index: i32, records: Bytes) -> Self {
        let status = Status {
            index,
            error_code: 0,
            high_watermark: 1_000_000,
            last_stable_offset: 1_000_000,
            log_start_offset: 0,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            preferred_read_replica: -1,
        };
        Self { topic_id: id(1), status, aborted: Vec::new(), records }
    }

    pub(crate) fn error(index: i32, code: ErrorCode) -> Self {
        let mut part = Self::of(index, Bytes::new());
        part.status.error_code = code.0;
        part.status.high_watermark = -1;
        part
    }
}

pub(crate) fn id(number: u8) -> [u8; 16] {
    [number; 16]
}

type Script = dyn FnMut(&SeenFetch) -> Reply + Send;

/// The brokers `b1` to `bn`, and the connector that leads to them.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    nodes: Vec<NodeId>,
    topic_id: [u8; 16],
    logs: Vec<Log>,
    script: Box<Script>,
    fetches: Vec<SeenFetch>,
    requests: HashMap<Api, usize>,
    topic_error: ErrorCode,
    /// Answers every look-up of offsets and epochs with this.
    lookup_error: Option<ErrorCode>,
}

impl Fake {
    pub(crate) fn new(partitions: usize) -> Self {
        let state = State {
            nodes: vec![1],
            topic_id: id(1),
            logs: vec![Log::default(); partitions],
            script: Box::new(|_| Reply::Serve),
            fetches: Vec::new(),
            requests: HashMap::new(),
            topic_error: ErrorCode::NONE,
            lookup_error: None,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// From now on fetches are answered so.
    pub(crate) fn on_fetch(&self, script: impl FnMut(&SeenFetch) -> Reply + Send + 'static) -> &Self {
        self.state().script = Box::new(script);
        self.0.changed.notify_waiters();
        self
    }

    pub(crate) fn nodes(&self, nodes: impl IntoIterator<Item = NodeId>) -> &Self {
        self.state().nodes = nodes.into_iter().collect();
        self
    }

    /// Changes a partition, and lets waiting fetches see it.
    pub(crate) fn change(&self, partition: usize, change: impl FnOnce(&mut Log)) {
        change(&mut self.state().logs[partition]);
        self.0.changed.notify_waiters();
    }

    /// Appends a batch at the end of a partition; returns the offset behind it.
    pub(crate) fn append(&self, partition: usize, batch: Bytes) -> i64 {
        let mut end = 0;
        self.change(partition, |log| {
            let batch = super::harness::at(&batch, log.end, log.epoch);
            log.end = BatchHeader::parse(&batch).unwrap().last_offset() + 1;
            log.batches.push(batch);
            end = log.end;
        });
        end
    }

    /// Deletes the topic and creates another under its name.
    pub(crate) fn create_anew(&self, number: u8) {
        let mut state = self.state();
        state.topic_id = id(number);
        state.logs.iter_mut().for_each(|log| *log = Log::default());
        drop(state);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn deny_topic(&self, code: ErrorCode) {
        self.state().topic_error = code;
    }

    pub(crate) fn fail_lookups(&self, code: Option<ErrorCode>) {
        self.state().lookup_error = code;
    }

    pub(crate) fn fetches(&self) -> Vec<SeenFetch> {
        self.state().fetches.clone()
    }

    pub(crate) fn requests(&self, api: Api) -> usize {
        self.state().requests.get(&api).copied().unwrap_or_default()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::builder("b1:9092").connector(self.clone()).seed(7).connect().await.unwrap()
    }

    pub(crate) fn partition(index: i32) -> TopicPartition {
        TopicPartition::new(TOPIC, index)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    async fn serve(self, node: NodeId, mut stream: DuplexStream) {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut received = BytesMut::new();
        loop {
            while let Some(frame) = decoder.decode(&mut received).unwrap() {
                let (header, body) = RequestHeader::decode(&frame).unwrap();
                let (api, version, correlation_id) = (header.api, header.version, header.correlation_id);
                *self.state().requests.entry(api).or_default() += 1;
                let body = match api {
                    Api::Fetch => match self.fetch(node, version, &body).await {
                        Some(body) => body,
                        None => return,
                    },
                    _ => self.answer(api, version, body),
                };
                if body.is_empty() {
                    continue;
                }
                let header = encode_response_header(api, version, correlation_id, body.len()).unwrap();
                if stream.write_all(&header).await.is_err() || stream.write_all(&body).await.is_err() {
                    return;
                }
            }
            if !matches!(stream.read_buf(&mut decoder.room(&mut received)).await, Ok(1..)) {
                return;
            }
        }
    }

    fn answer(&self, api: Api, version: i16, body: Bytes) -> Bytes {
        let state = self.state();
        match api {
            Api::ApiVersions => {
                let served = [
                    Api::ApiVersions,
                    Api::Metadata,
                    Api::Fetch,
                    Api::ListOffsets,
                    Api::OffsetForLeaderEpoch,
                ];
                let line = |api: Api| {
                    let versions = api.versions();
                    ApiVersion::default()
                        .with_api_key(api.key())
                        .with_min_version(versions.min)
                        .with_max_version(versions.max)
                };
                let response =
                    ApiVersionsResponse::default().with_api_keys(served.into_iter().map(line).collect());
                encoded::<ApiVersionsRequest>(version, &response)
            }
            Api::Metadata => encoded::<MetadataRequest>(version, &state.metadata()),
            Api::ListOffsets => {
                let request = ListOffsetsRequest::decode(version, body).unwrap();
                encoded::<ListOffsetsRequest>(version, &state.list_offsets(request))
            }
            Api::OffsetForLeaderEpoch => {
                let request = OffsetForLeaderEpochRequest::decode(version, body).unwrap();
                encoded::<OffsetForLeaderEpochRequest>(version, &state.ends_of_epochs(request))
            }
            other => panic!("{other:?} is not served"),
        }
    }

    /// `None` closes the connection, nothing is silence.
    async fn fetch(&self, node: NodeId, version: i16, body: &[u8]) -> Option<Bytes> {
        let request = fetch::RequestView::decode(version, body).unwrap();
        let seen = {
            let mut state = self.state();
            let nth = state.fetches.len() + 1;
            let seen = SeenFetch {
                version,
                session: (request.session_id, request.session_epoch),
                wants: request
                    .partitions()
                    .map(|p| (p.index, p.fetch_offset, p.current_leader_epoch, p.last_fetched_epoch))
                    .collect(),
                at: Instant::now(),
                nth,
            };
            state.fetches.push(seen.clone());
            seen
        };
        let until = Instant::now() + Duration::from_millis(request.max_wait_ms as u64);
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let body = {
                let mut state = self.state();
                let reply = (state.script)(&seen);
                match reply {
                    Reply::Close => return None,
                    Reply::Silence => return Some(Bytes::new()),
                    Reply::Raw(body) => Some(body),
                    Reply::Error(code) => Some(respond(version, code, &[])),
                    Reply::Partitions(parts) => Some(respond(version, ErrorCode::NONE, &parts)),
                    Reply::Serve => {
                        let parts = state.served(&request, node);
                        let ready =
                            parts.iter().any(|part| part.status.error_code != 0 || !part.records.is_empty());
                        (ready || Instant::now() >= until).then(|| respond(version, ErrorCode::NONE, &parts))
                    }
                }
            };
            if body.is_some() {
                return body;
            }
            let _ = timeout(until - Instant::now(), changed).await;
        }
    }
}

impl State {
    fn metadata(&self) -> MetadataResponse {
        let broker = |id: &NodeId| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*id))
                .with_host(StrBytes::from_string(format!("b{id}")))
                .with_port(9092)
        };
        let partition = |(index, log): (i32, &Log)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(log.leader))
                .with_leader_epoch(log.epoch)
        };
        let denied = self.topic_error != ErrorCode::NONE;
        let partitions = if denied { Vec::new() } else { (0..).zip(&self.logs).map(partition).collect() };
        let topic = MetadataResponseTopic::default()
            .with_name(Some(name()))
            .with_error_code(self.topic_error.0)
            .with_topic_id(if denied { Uuid::nil() } else { Uuid::from_bytes(self.topic_id) })
            .with_partitions(partitions);
        MetadataResponse::default()
            .with_brokers(self.nodes.iter().map(broker).collect())
            .with_controller_id(BrokerId(self.nodes[0]))
            .with_topics(vec![topic])
    }

    /// As Kafka does: a partition that is asked about twice is refused.
    fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let all: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let log = &self.logs[index as usize];
                let twice = all.iter().filter(|other| **other == index).count() > 1;
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
                if twice {
                    return answer.with_error_code(ErrorCode::INVALID_REQUEST.0);
                }
                if let Some(code) = self.lookup_error {
                    return answer.with_error_code(code.0);
                }
                let offset = match partition.timestamp {
                    -1 => log.end,
                    -2 => log.start,
                    _ => -1,
                };
                answer.with_offset(offset).with_leader_epoch(log.epoch)
            });
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    fn ends_of_epochs(&self, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let answer = EpochEndOffset::default().with_partition(partition.partition);
                if let Some(code) = self.lookup_error {
                    return answer.with_error_code(code.0);
                }
                let log = &self.logs[partition.partition as usize];
                match log.epoch_ends.range(..=partition.leader_epoch).next_back() {
                    Some((epoch, end)) => answer.with_leader_epoch(*epoch).with_end_offset(*end),
                    None if partition.leader_epoch == log.epoch => {
                        answer.with_leader_epoch(log.epoch).with_end_offset(log.end)
                    }
                    None => answer.with_leader_epoch(-1).with_end_offset(-1),
                }
            });
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    fn served(&self, request: &fetch::RequestView<'_>, node: NodeId) -> Vec<Part> {
        request.partitions().map(|wanted| self.part(&wanted, node)).collect()
    }

    fn part(&self, wanted: &fetch::FetchPartition<'_>, node: NodeId) -> Part {
        let Some(log) = usize::try_from(wanted.index).ok().and_then(|index| self.logs.get(index)) else {
            return Part::error(wanted.index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let mut part = Part::of(wanted.index, Bytes::new());
        part.topic_id = wanted.topic.id;
        part.status.high_watermark = log.end;
        part.status.last_stable_offset = log.end;
        part.status.log_start_offset = log.start;
        let error = if wanted.topic.id != self.topic_id {
            ErrorCode::UNKNOWN_TOPIC_ID
        } else if log.leader != node {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        } else if wanted.current_leader_epoch >= 0 && wanted.current_leader_epoch < log.epoch {
            ErrorCode::FENCED_LEADER_EPOCH
        } else if wanted.fetch_offset < log.start || wanted.fetch_offset > log.end {
            ErrorCode::OFFSET_OUT_OF_RANGE
        } else {
            ErrorCode::NONE
        };
        part.status.error_code = error.0;
        if error != ErrorCode::NONE {
            return part;
        }
        let mut records = BytesMut::new();
        for batch in &log.batches {
            let last = BatchHeader::parse(batch).unwrap().last_offset();
            let fits = records.is_empty() || records.len() + batch.len() <= wanted.max_bytes as usize;
            if last >= wanted.fetch_offset && fits {
                records.extend_from_slice(batch);
            } else if last >= wanted.fetch_offset {
                break;
            }
        }
        part.aborted = log
            .aborted
            .iter()
            .map(|(producer_id, first_offset)| AbortedTransaction {
                producer_id: *producer_id,
                first_offset: *first_offset,
            })
            .collect();
        part.records = records.freeze();
        part
    }
}

/// A response body outside of any session.
pub(crate) fn respond(version: i16, code: ErrorCode, parts: &[Part]) -> Bytes {
    respond_in(version, code, 0, parts)
}

pub(crate) fn respond_in(version: i16, code: ErrorCode, session_id: i32, parts: &[Part]) -> Bytes {
    let records: Vec<[Bytes; 1]> = parts.iter().map(|part| [part.records.clone()]).collect();
    let partitions: Vec<PartitionResponse<'_>> = parts
        .iter()
        .zip(&records)
        .map(|(part, records)| PartitionResponse {
            topic: TopicRef { name: TOPIC, id: part.topic_id },
            status: part.status,
            aborted_transactions: Some(&part.aborted),
            records,
        })
        .collect();
    let response = Response {
        throttle_time_ms: 0,
        error_code: code.0,
        session_id,
        partitions: &partitions,
        node_endpoints: &[],
    };
    response.encode(version, &mut BytesMut::new()).unwrap().concat().into()
}

fn encoded<R: Request>(version: i16, response: &R::Response) -> Bytes {
    let mut body = BytesMut::new();
    R::encode_response(response, version, &mut body).unwrap();
    body.freeze()
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

impl Service<kafka_client::raw::wire::address::NodeAddress> for Fake {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: kafka_client::raw::wire::address::NodeAddress) -> Self::Future {
        let node = address.host.trim_start_matches('b').parse().unwrap();
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(self.clone().serve(node, theirs));
        ready(Ok(ours))
    }
}
