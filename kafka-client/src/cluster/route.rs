//! Brings a request to the broker that can answer it, and tries again while that may help.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::api::{Api, Request, VersionRange};
use kafka_wire::error_code::ErrorCode;
use tokio::time::{Instant, sleep, timeout_at};

use super::Cluster;
use super::backoff::Backoff;
use super::coordinator::CoordinatorKey;
use super::metadata::Broker;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Lane, Owner};
use crate::types::{NodeId, TopicPartition};

/// Who has to answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// Any broker: the one with the least to do.
    Any,
    /// The broker with this id.
    Node(NodeId),
    /// The controller, or whichever broker forwards to it.
    Controller,
    /// The leader of a partition.
    Leader(TopicPartition),
    /// The coordinator of a group.
    Group(Arc<str>),
    /// The coordinator of a transactional id.
    Transaction(Arc<str>),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any broker"),
            Self::Node(id) => write!(f, "broker {id}"),
            Self::Controller => f.write_str("the controller"),
            Self::Leader(partition) => write!(f, "the leader of {partition}"),
            Self::Group(group) => write!(f, "the coordinator of group {group}"),
            Self::Transaction(id) => write!(f, "the coordinator of transactional id {id}"),
        }
    }
}

impl Route {
    fn coordinator(&self) -> Option<CoordinatorKey> {
        match self {
            Self::Group(group) => Some(CoordinatorKey::Group(group.clone())),
            Self::Transaction(id) => Some(CoordinatorKey::Transaction(id.clone())),
            _ => None,
        }
    }
}

/// An answer, who gave it, and in which version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The broker that answered.
    pub node: NodeId,
    /// The version that was spoken.
    pub version: i16,
    /// What it said.
    pub response: T,
}

/// A request to be made: where to, how long, how often. Finished by [`send`](Self::send).
///
/// Failures of the connection, and error codes that [`send_checked`](Self::send_checked) is told of and that may
/// pass, lead to another attempt after a backoff (KIP-580), until the deadline: by default the client's
/// `default.api.timeout.ms` from now.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Call<'a> {
    cluster: &'a Arc<Cluster>,
    route: Route,
    connection: Option<(&'a Owner, Lane)>,
    versions: Option<(VersionRange, &'static str)>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    once: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(cluster: &'a Arc<Cluster>, route: Route) -> Self {
        Self { cluster, route, connection: None, versions: None, timeout: None, deadline: None, once: false }
    }

    /// Uses a connection of the owner's instead of the one that everything on the client shares.
    pub fn on(mut self, owner: &'a Owner, lane: Lane) -> Self {
        self.connection = Some((owner, lane));
        self
    }

    /// Needs one of these versions, for this feature: a broker too old for it gives an error that names both.
    pub fn versions(mut self, versions: VersionRange, feature: &'static str) -> Self {
        self.versions = Some((versions, feature));
        self
    }

    /// Gives each answer so long, where the broker may take its time; otherwise it is `request.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Ends all attempts then.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Makes one attempt: every failure is the caller's to deal with.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Sends what `make` makes for the version that the broker speaks. Error codes inside the answer are the
    /// caller's to see.
    ///
    /// # Errors
    /// The failure of the last attempt, as the cause of a [`TimedOut`](ErrorKind::TimedOut) if there were several;
    /// a failure that cannot pass at once.
    ///
    /// # Cancel safety
    /// Dropping it stops further attempts; one under way may still be carried out by the broker.
    pub async fn send<R: Request>(
        self,
        make: impl Fn(i16) -> Result<R> + Send + Sync,
    ) -> Result<Answer<R::Response>> {
        self.send_checked(make, |_| ErrorCode::NONE).await
    }

    /// As [`send`](Self::send), with the error code that stands for the whole answer: one that is not a success
    /// becomes an error, after further attempts if it may pass.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_checked<R: Request>(
        self,
        make: impl Fn(i16) -> Result<R> + Send + Sync,
        code: impl Fn(&R::Response) -> ErrorCode + Send + Sync,
    ) -> Result<Answer<R::Response>> {
        let encode = |version| {
            let mut body = BytesMut::new();
            make(version)?.encode(version, &mut body).map_err(ErrorKind::Encode)?;
            Ok(body.freeze())
        };
        self.attempts::<R>(&encode, &code).await
    }

    /// Sends the same request in whatever version the broker speaks.
    pub(crate) async fn send_one<R: Request + Sync>(self, request: &R) -> Result<Answer<R::Response>> {
        let encode = |version| {
            let mut body = BytesMut::new();
            request.encode(version, &mut body).map_err(ErrorKind::Encode)?;
            Ok(body.freeze())
        };
        self.attempts::<R>(&encode, &|_| ErrorCode::NONE).await
    }

    async fn attempts<R: Request>(
        self,
        encode: &(impl Fn(i16) -> Result<Bytes> + Send + Sync),
        code: &(impl Fn(&R::Response) -> ErrorCode + Send + Sync),
    ) -> Result<Answer<R::Response>> {
        let cluster = self.cluster;
        cluster.start();
        let start = Instant::now();
        let deadline = self.deadline.unwrap_or(start + cluster.config.default_api_timeout);
        let mut backoff = Backoff::new(cluster.config.retry_backoff, cluster.config.retry_backoff_max);
        let mut random = None;
        // Of `Route::Any`: a broker that failed is not asked again while there are others.
        let mut failed = Vec::new();
        let mut last: Option<Error> = None;
        let out_of_time = |last: Option<Error>| {
            let what = format!("{} to {}", R::API, self.route);
            Error::new(ErrorKind::TimedOut { what, after: start.elapsed(), last })
        };
        loop {
            let mut asked = None;
            let attempt = self.attempt::<R>(deadline, &failed, &mut asked, encode, code);
            let error = match timeout_at(deadline, attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(out_of_time(last)),
            };
            self.learn_from(&error, asked, &mut failed);
            if self.once || !error.is_retriable() {
                return Err(error);
            }
            let delay = backoff.next(random.get_or_insert_with(|| cluster.fork_random()));
            tracing::debug!(api = %R::API, route = %self.route, %error, ?delay, "trying again");
            if Instant::now() + delay >= deadline {
                return Err(out_of_time(Some(error)));
            }
            last = Some(error);
            sleep(delay).await;
        }
    }

    async fn attempt<R: Request>(
        &self,
        deadline: Instant,
        failed: &[NodeId],
        asked: &mut Option<NodeId>,
        encode: &(impl Fn(i16) -> Result<Bytes> + Send + Sync),
        code: &(impl Fn(&R::Response) -> ErrorCode + Send + Sync),
    ) -> Result<Answer<R::Response>> {
        let broker = self.cluster.resolve(&self.route, failed, deadline).await?;
        *asked = Some(broker.id);
        let connection = match self.connection {
            Some((owner, lane)) => {
                self.cluster.pool.connection(broker.id, &broker.address, lane, owner).await?
            }
            None => self.cluster.pool.shared_connection(broker.id, &broker.address).await?,
        };
        let (versions, feature) = self.versions.map_or((R::API.versions(), None), |(v, f)| (v, Some(f)));
        let version =
            connection.version_for(R::API, versions).map_err(|error| name_feature(error, feature))?;
        let mut request = connection.request(R::API, version, vec![encode(version)?]);
        request.timeout = self.timeout;
        let response = connection.call(request).await?;
        let response = R::decode_response(version, response.body).map_err(|error| connection.fail(error))?;
        match code(&response).check() {
            Ok(()) => Ok(Answer { node: broker.id, version, response }),
            Err(code) => Err(Error::broker(code, R::API, Some(broker.id), None)),
        }
    }

    /// Corrects what was known and led to the failure.
    fn learn_from(&self, error: &Error, asked: Option<NodeId>, failed: &mut Vec<NodeId>) {
        match error.error_code() {
            Some(code) => self.cluster.contradicted(&self.route, code, asked),
            None if error.is_retriable() => match &self.route {
                Route::Any => failed.extend(asked),
                // The broker may be gone, and what it did with it.
                route => self.cluster.unreachable(route, asked),
            },
            None => {}
        }
    }
}

/// Says in an error about versions what they were needed for.
fn name_feature(error: Error, feature: Option<&'static str>) -> Error {
    match (error.kind(), feature) {
        (ErrorKind::UnsupportedVersion { api, needed, broker, node, .. }, Some(_)) => {
            let (api, needed, broker, node) = (*api, *needed, *broker, *node);
            ErrorKind::UnsupportedVersion { api, needed, broker, node, feature }.into()
        }
        _ => error,
    }
}

impl Cluster {
    /// The broker that a route leads to at the moment. Waits only for what is not known at all.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        route: &Route,
        failed: &[NodeId],
        deadline: Instant,
    ) -> Result<Broker> {
        let metadata = self.ready(deadline).await?;
        let node = match route {
            Route::Node(id) => *id,
            // Brokers forward what is the controller's (KIP-590), so while none is known any will do.
            Route::Any | Route::Controller => match metadata.controller() {
                Some(id) if *route == Route::Controller => id,
                _ => {
                    let broker = self.least_loaded(failed).or_else(|| self.least_loaded(&[]));
                    return broker.ok_or_else(|| ErrorKind::NoBroker { last: None }.into());
                }
            },
            Route::Leader(partition) => {
                let _tracked = self.track([partition.topic.clone()], false);
                let topic = self.topic(&partition.topic, deadline).await?;
                let count = topic.partition_count();
                if usize::try_from(partition.partition).is_ok_and(|id| id >= count) {
                    let message = format!("topic {} has {count} partitions", partition.topic);
                    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                    return Err(Error::broker(code, Api::Metadata, None, Some(message)));
                }
                let leader = topic.partition(partition.partition).and_then(|partition| partition.leader);
                leader.ok_or_else(|| ErrorKind::NoLeader(partition.clone()))?
            }
            Route::Group(group) => return self.known_coordinator(CoordinatorKey::Group(group.clone())).await,
            Route::Transaction(id) => {
                return self.known_coordinator(CoordinatorKey::Transaction(id.clone())).await;
            }
        };
        self.metadata().broker(node).cloned().ok_or_else(|| ErrorKind::UnknownNode(node).into())
    }

    async fn known_coordinator(self: &Arc<Self>, key: CoordinatorKey) -> Result<Broker> {
        let broker = self.coordinator(&key).await?;
        // The address in the metadata is the newer one, and all connections to a broker go to one address.
        Ok(self.metadata().broker(broker.id).cloned().unwrap_or(broker))
    }

    /// A broker answered with a code that says it is not who the route should lead to.
    pub(crate) fn contradicted(&self, route: &Route, code: ErrorCode, node: Option<NodeId>) {
        match code {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                if let Some(key) = route.coordinator() {
                    self.coordinators.forget(&key, node);
                }
            }
            ErrorCode::NOT_CONTROLLER => self.request_refresh("the controller has moved"),
            code if code.refreshes_metadata() => self.request_refresh(code.name()),
            _ => {}
        }
    }

    /// The broker that a route leads to cannot be reached.
    pub(crate) fn unreachable(&self, route: &Route, node: Option<NodeId>) {
        if let Some(key) = route.coordinator() {
            self.coordinators.forget(&key, node);
        }
        self.request_refresh("a broker cannot be reached");
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use kafka_wire::messages::{
        DescribeClusterRequest, DescribeClusterResponse, ListGroupsRequest, ListGroupsResponse,
        MetadataRequest,
    };

    use super::super::fake::{Fake, Reply, Seen, asked, metadata, topic};
    use super::*;
    use crate::client::Client;

    /// Brokers 1 to 3, topic `t` led by broker 2; everything else is answered by `other`.
    fn cluster(mut other: impl FnMut(&Seen) -> Reply + Send + 'static) -> Fake {
        Fake::new(move |seen| match seen.api {
            Api::Metadata => {
                let topics = asked(seen).unwrap_or_default();
                let topics = topics.iter().map(|name| topic(name, &[2])).collect();
                Reply::to::<MetadataRequest>(seen, &metadata(&[1, 2, 3], topics))
            }
            _ => other(seen),
        })
    }

    fn groups(seen: &Seen, code: ErrorCode) -> Reply {
        Reply::to::<ListGroupsRequest>(seen, &ListGroupsResponse::default().with_error_code(code.0))
    }

    fn code(response: &ListGroupsResponse) -> ErrorCode {
        ErrorCode(response.error_code)
    }

    fn list(_: i16) -> Result<ListGroupsRequest> {
        Ok(ListGroupsRequest::default())
    }

    async fn connect(fake: &Fake) -> Client {
        Client::builder("b1:9092").connector(fake.clone()).seed(7).connect().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_reaches_the_broker_that_its_route_names() {
        let fake = cluster(|seen| groups(seen, ErrorCode::NONE));
        let client = connect(&fake).await;
        for (route, node) in
            [(Route::Node(3), 3), (Route::Controller, 1), (Route::Leader(TopicPartition::new("t", 0)), 2)]
        {
            assert_eq!(client.request(route.clone()).send(list).await.unwrap().node, node, "{route}");
        }
        assert!((1..=3).contains(&client.request(Route::Any).send(list).await.unwrap().node));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_broker_is_not_asked_again_while_there_are_others() {
        let fake =
            cluster(|seen| if seen.host == "b3" { groups(seen, ErrorCode::NONE) } else { Reply::Close });
        let client = connect(&fake).await;
        let start = Instant::now();
        assert_eq!(client.request(Route::Any).send(list).await.unwrap().node, 3);
        assert!(fake.seen(Api::ListGroups).len() <= 3);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_that_may_pass_is_tried_again_with_growing_waits_until_the_deadline() {
        let fake = cluster(|seen| groups(seen, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let client = connect(&fake).await;
        let start = Instant::now();
        let error = client.request(Route::Node(2)).send_checked(list, code).await.unwrap_err();
        assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
        assert!(start.elapsed() >= Duration::from_secs(58), "{:?}", start.elapsed());
        assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
        assert_eq!(error.error_code(), Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let seen = fake.seen(Api::ListGroups);
        let waits: Vec<Duration> = seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert!(waits[0] <= Duration::from_millis(120) && waits[0] >= Duration::from_millis(80), "{waits:?}");
        assert!(waits[5..].iter().all(|wait| *wait >= Duration::from_millis(800)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_that_will_not_pass_is_told_at_once() {
        let fake = cluster(|seen| groups(seen, ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        let client = connect(&fake).await;
        let error = client.request(Route::Any).send_checked(list, code).await.unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        assert_eq!(fake.seen(Api::ListGroups).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_is_one_attempt() {
        let fake = cluster(|seen| groups(seen, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let client = connect(&fake).await;
        let error = client.request(Route::Any).once().send_checked(list, code).await.unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        assert_eq!(fake.seen(Api::ListGroups).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_broker_does_not_hold_a_call_beyond_its_deadline() {
        let fake = cluster(|_| Reply::Silence);
        let client = connect(&fake).await;
        let start = Instant::now();
        let deadline = start + Duration::from_secs(7);
        let error = client.request(Route::Any).deadline(deadline).send(list).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::from_secs(7));
        assert!(error.to_string().contains("ListGroups to any broker"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_metadata_does_not_name_is_looked_for_until_the_deadline() {
        let fake = cluster(|seen| groups(seen, ErrorCode::NONE));
        let client = connect(&fake).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = client.request(Route::Node(9)).deadline(deadline).send(list).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("no broker 9"), "{cause}");
        assert!(fake.seen(Api::Metadata).len() > 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_too_old_is_told_with_the_feature_and_both_ranges() {
        let fake = cluster(|_| Reply::Close);
        fake.speaks(Api::ListGroups, 0, 3);
        let client = connect(&fake).await;
        let call =
            client.request(Route::Node(1)).versions(VersionRange { min: 4, max: 5 }, "listing by state");
        let error = call.send(list).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "listing by state needs ListGroups version 4 to 5, but broker 1 speaks 0 to 3"
        );
        assert!(!error.is_retriable());
        assert!(fake.seen(Api::ListGroups).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_request_is_made_for_the_version_that_is_spoken() {
        let fake = cluster(|seen| groups(seen, ErrorCode::NONE));
        fake.speaks(Api::ListGroups, 1, 3);
        let client = connect(&fake).await;
        let made = std::sync::Mutex::new(Vec::new());
        let make = |version| {
            made.lock().unwrap().push(version);
            list(version)
        };
        assert_eq!(client.request(Route::Any).send(make).await.unwrap().version, 3);
        assert_eq!(*made.lock().unwrap(), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_cannot_be_decoded_is_told_and_ends_the_connection() {
        let fake = cluster(|seen| match seen.api {
            Api::DescribeCluster => {
                let good = DescribeClusterResponse::default();
                let Reply::Answer(body) = Reply::to::<DescribeClusterRequest>(seen, &good) else {
                    unreachable!()
                };
                Reply::Answer([&body[..], b"trailing"].concat().into())
            }
            _ => groups(seen, ErrorCode::NONE),
        });
        let client = connect(&fake).await;
        let before = fake.connects().len();
        let error = client.call(Route::Node(1), DescribeClusterRequest::default()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol { .. }), "{error:?}");
        client.call(Route::Node(1), ListGroupsRequest::default()).await.unwrap();
        assert!(fake.connects()[before..].contains(&"b1".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_leaves_the_connection_to_the_others() {
        let fake = cluster(|seen| groups(seen, ErrorCode::NONE));
        let client = connect(&fake).await;
        client.call(Route::Node(1), ListGroupsRequest::default()).await.unwrap();
        let connects = fake.connects().len();
        for polls in 1..4 {
            let mut dropped = Box::pin(client.call(Route::Node(1), ListGroupsRequest::default()));
            for _ in 0..polls {
                if poll_fn(|cx| Poll::Ready(dropped.as_mut().poll(cx).is_ready())).await {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(dropped);
            client.call(Route::Node(1), ListGroupsRequest::default()).await.unwrap();
        }
        assert_eq!(fake.connects().len(), connects);
    }
}
