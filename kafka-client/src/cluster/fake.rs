//! Brokers for tests: in memory, answering as the test says, and remembering what they were asked.

use std::collections::{HashMap, HashSet};
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, Request, VersionRange};
use kafka_wire::frame::FrameDecoder;
use kafka_wire::header::{RequestHeader, encode_response_header};
use kafka_wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_wire::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::messages::{ApiVersionsRequest, BrokerId, MetadataRequest, StrBytes, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tower_service::Service;

/// A request as a broker saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) host: String,
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn decode<R: Request>(&self) -> R {
        R::decode(self.version, self.body.clone()).unwrap()
    }
}

pub(crate) enum Reply {
    Answer(Bytes),
    Close,
    Silence,
}

impl Reply {
    pub(crate) fn to<R: Request>(seen: &Seen, response: &R::Response) -> Self {
        let mut body = BytesMut::new();
        R::encode_response(response, seen.version, &mut body).unwrap();
        Self::Answer(body.freeze())
    }
}

type Handler = dyn FnMut(&Seen) -> Reply + Send;

/// The brokers, and the connector that leads to them.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

struct State {
    down: HashSet<String>,
    versions: HashMap<Api, VersionRange>,
    seen: Vec<Seen>,
    connects: Vec<String>,
    handler: Box<Handler>,
}

impl Fake {
    pub(crate) fn new(handler: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let versions = Api::ALL.iter().map(|api| (*api, api.versions())).collect();
        let state = State {
            down: HashSet::new(),
            versions,
            seen: Vec::new(),
            connects: Vec::new(),
            handler: Box::new(handler),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn stop(&self, host: &str) {
        self.state().down.insert(host.to_owned());
    }

    pub(crate) fn start(&self, host: &str) {
        self.state().down.remove(host);
    }

    /// From now on the brokers answer so.
    pub(crate) fn replace(&self, handler: impl FnMut(&Seen) -> Reply + Send + 'static) {
        self.state().handler = Box::new(handler);
    }

    /// From the next connection on the brokers speak only these versions.
    pub(crate) fn speaks(&self, api: Api, min: i16, max: i16) {
        self.state().versions.insert(api, VersionRange { min, max });
    }

    /// The requests so far for one API.
    pub(crate) fn seen(&self, api: Api) -> Vec<Seen> {
        self.state().seen.iter().filter(|seen| seen.api == api).cloned().collect()
    }

    /// The hosts that were connected to, or tried, so far.
    pub(crate) fn connects(&self) -> Vec<String> {
        self.state().connects.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn serve(self, host: String, mut stream: DuplexStream) {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut received = BytesMut::new();
        loop {
            while let Some(frame) = decoder.decode(&mut received).unwrap() {
                let (header, body) = RequestHeader::decode(&frame).unwrap();
                let (api, version) = (header.api, header.version);
                let seen = Seen { at: Instant::now(), host: host.clone(), api, version, body };
                let reply = {
                    let mut state = self.state();
                    if state.down.contains(&host) {
                        return;
                    }
                    state.seen.push(seen.clone());
                    if api == Api::ApiVersions {
                        Reply::to::<ApiVersionsRequest>(&seen, &api_versions(&state.versions))
                    } else {
                        (state.handler)(&seen)
                    }
                };
                let body = match reply {
                    Reply::Answer(body) => body,
                    Reply::Close => return,
                    Reply::Silence => continue,
                };
                let header = encode_response_header(api, version, header.correlation_id, body.len()).unwrap();
                stream.write_all(&header).await.unwrap();
                stream.write_all(&body).await.unwrap();
            }
            if !matches!(stream.read_buf(&mut decoder.room(&mut received)).await, Ok(1..)) {
                return;
            }
        }
    }
}

impl Service<NodeAddress> for Fake {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: NodeAddress) -> Self::Future {
        let host = address.host.to_string();
        let mut state = self.state();
        state.connects.push(host.clone());
        if state.down.contains(&host) {
            return ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(self.clone().serve(host, theirs));
        ready(Ok(ours))
    }
}

fn api_versions(versions: &HashMap<Api, VersionRange>) -> ApiVersionsResponse {
    let line = |(api, versions): (&Api, &VersionRange)| {
        ApiVersion::default()
            .with_api_key(api.key())
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    };
    ApiVersionsResponse::default().with_api_keys(versions.iter().map(line).collect())
}

/// A Metadata answer with brokers `b1`, `b2` … of these ids, the first one the controller, and these topics.
pub(crate) fn metadata(brokers: &[i32], topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let broker = |id: &i32| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(StrBytes::from_string(format!("b{id}")))
            .with_port(9092)
    };
    MetadataResponse::default()
        .with_brokers(brokers.iter().map(broker).collect())
        .with_controller_id(BrokerId(*brokers.first().unwrap_or(&-1)))
        .with_topics(topics)
}

/// A topic with one partition for each leader; -1 is none.
pub(crate) fn topic(name: &str, leaders: &[i32]) -> MetadataResponseTopic {
    let partition = |(id, leader): (i32, &i32)| {
        MetadataResponsePartition::default()
            .with_partition_index(id)
            .with_leader_id(BrokerId(*leader))
            .with_leader_epoch(0)
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_topic_id(uuid::Uuid::from_bytes([1; 16]))
        .with_partitions((0..).zip(leaders).map(partition).collect())
}

/// A topic that cannot be described.
pub(crate) fn failed_topic(name: &str, code: kafka_wire::error_code::ErrorCode) -> MetadataResponseTopic {
    topic(name, &[]).with_error_code(code.0).with_topic_id(uuid::Uuid::nil())
}

/// The names of the topics that a Metadata request asks for; `None` is all.
pub(crate) fn asked(seen: &Seen) -> Option<Vec<String>> {
    let topics = seen.decode::<MetadataRequest>().topics?;
    Some(topics.into_iter().map(|topic| topic.name.unwrap().to_string()).collect())
}
