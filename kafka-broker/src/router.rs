//! Which handler serves which API: one table, from which ApiVersions is answered too. Faults strike here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kafka_wire::acl::AclOperation::{Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read};
use kafka_wire::api::{Api, Request, VersionRange};
use kafka_wire::error::{ProtocolError, ProtocolErrorKind};
use kafka_wire::fetch::TopicRef;
use kafka_wire::messages::*;

use crate::acl::check::Access;
use crate::admin::{cluster, configs, elections, features, quorum, reassignments, records, topics};
use crate::controller::{LONGEST_NAME, MOST_PARTITIONS};
use crate::fault::served::Served;
use crate::fault::{Seen, Stage};
use crate::group::serve::{groups, members, offsets};
use crate::quota::measured;
use crate::shared::RequestContext;
use crate::{
    acl, api_versions, fetch, init_producer_id, leader_epoch, list_offsets, metadata, produce, quota, sasl,
};

/// One line of the table.
pub(crate) struct Route {
    pub(crate) api: Api,
    /// What a client needs so that the API is served at all.
    pub(crate) access: Access,
    serve: fn(RequestContext, Bytes, Access) -> BoxFuture<'static, Result<Reply, ProtocolError>>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A response is written.
    Answer(Answer),
    /// The client expects no response, and is not heard for this long.
    Nothing(Duration),
    /// The connection is closed (a fault).
    Close,
    /// The connection stays open and silent (a fault).
    Hang,
}

/// A response, and how it is written.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The body, in parts that are written one after the other.
    pub(crate) body: Vec<Bytes>,
    /// Close after this many bytes, length prefix included.
    pub(crate) cut: Option<usize>,
    /// Bytes a second.
    pub(crate) drip: Option<usize>,
    /// How long nothing is read from the connection afterwards.
    pub(crate) mute: Duration,
}

macro_rules! route {
    // Its body is walked by hand, and so are its faults.
    (raw $api:ident, $access:expr, $serve:path) => {
        Route { api: Api::$api, access: $access, serve: |ctx, body, _| Box::pin($serve(ctx, body)) }
    };
    ($request:ident, $access:expr, $handler:path) => {
        Route {
            api: <$request as Request>::API,
            access: $access,
            serve: |ctx, body, access| {
                Box::pin(async move {
                    let handle = async |ctx: &RequestContext, request| $handler(ctx, request).await;
                    serve_one::<$request>(ctx, body, access, handle).await
                })
            },
        }
    };
}

macro_rules! routes {
    ($([$($access:tt)+] $($name:ident)+ => $handler:path;)*) => {
        /// Every API that this broker serves, by ascending key.
        pub(crate) static ROUTES: &[Route] = &[$(route!($($name)+, Access::$($access)+, $handler)),*];
    };
}

// In brackets: what a client needs so that the API is served at all, if there is an authorizer.

routes! {
    [PerItem] raw Produce => produce::serve;
    [PerItem] raw Fetch => fetch::serve;
    [PerItem] ListOffsetsRequest => list_offsets::handle;
    [PerItem] MetadataRequest => metadata::handle;
    [Group(Read)] OffsetCommitRequest => offsets::commit;
    [PerItem] OffsetFetchRequest => offsets::fetch;
    [PerItem] FindCoordinatorRequest => members::find_coordinator;
    [Group(Read)] JoinGroupRequest => members::join_group;
    [Group(Read)] HeartbeatRequest => members::heartbeat;
    [Group(Read)] LeaveGroupRequest => members::leave_group;
    [Group(Read)] SyncGroupRequest => members::sync_group;
    [PerItem] DescribeGroupsRequest => groups::describe;
    [PerItem] ListGroupsRequest => groups::list;
    [Free] SaslHandshakeRequest => sasl::handshake;
    [Free] ApiVersionsRequest => api_versions::handle;
    [PerItem] CreateTopicsRequest => topics::create;
    [PerItem] DeleteTopicsRequest => topics::delete;
    [PerItem] DeleteRecordsRequest => records::delete;
    [PerItem] InitProducerIdRequest => init_producer_id::handle;
    [PerItem] OffsetForLeaderEpochRequest => leader_epoch::handle;
    [Cluster(Describe)] DescribeAclsRequest => acl::serve::describe;
    [Cluster(Alter)] CreateAclsRequest => acl::serve::create;
    [Cluster(Alter)] DeleteAclsRequest => acl::serve::delete;
    [PerItem] DescribeConfigsRequest => configs::describe;
    [PerItem] AlterConfigsRequest => configs::alter;
    [Cluster(Describe)] DescribeLogDirsRequest => records::describe_log_dirs;
    [Free] SaslAuthenticateRequest => sasl::authenticate;
    [PerItem] CreatePartitionsRequest => topics::create_partitions;
    [PerItem] DeleteGroupsRequest => groups::delete;
    [Cluster(Alter)] ElectLeadersRequest => elections::elect;
    [PerItem] IncrementalAlterConfigsRequest => configs::alter_incrementally;
    [Cluster(Alter)] AlterPartitionReassignmentsRequest => reassignments::alter;
    [Cluster(Describe)] ListPartitionReassignmentsRequest => reassignments::list;
    [Group(Delete)] OffsetDeleteRequest => offsets::delete;
    [Cluster(DescribeConfigs)] DescribeClientQuotasRequest => quota::serve::describe;
    [Cluster(AlterConfigs)] AlterClientQuotasRequest => quota::serve::alter;
    [Cluster(Describe)] DescribeUserScramCredentialsRequest => sasl::admin::describe;
    [Cluster(Alter)] AlterUserScramCredentialsRequest => sasl::admin::alter;
    [Cluster(Describe)] DescribeQuorumRequest => quorum::describe;
    [Cluster(Alter)] UpdateFeaturesRequest => features::update;
    [Free] DescribeClusterRequest => cluster::describe;
    [PerItem] DescribeProducersRequest => records::describe_producers;
    [Cluster(DescribeConfigs)] ListConfigResourcesRequest => configs::list_resources;
    [PerItem] DescribeTopicPartitionsRequest => cluster::describe_topic_partitions;
}

impl Route {
    /// The line for an API, if it is served.
    pub(crate) fn find(api: Api) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.api == api)
    }

    /// Whether serving it changes anything, so that it is finished even if the client is gone.
    pub(crate) fn has_effects(&self) -> bool {
        !matches!(self.api, Api::Fetch)
    }

    /// The versions that ApiVersions tells clients.
    pub(crate) fn advertised(&self) -> VersionRange {
        match self.api {
            // librdkafka before 2.10 compresses only if it sees version 0, which nobody sends (KAFKA-18659).
            Api::Produce => VersionRange::new(0, self.api.versions().max),
            api => api.versions(),
        }
    }
}

/// Serves one request; an error means that the connection must be closed.
pub(crate) async fn serve(ctx: RequestContext, body: Bytes) -> Result<Reply, ProtocolError> {
    let unknown = || ProtocolErrorKind::UnknownApi.at(ctx.api.key(), ctx.version);
    let route = Route::find(ctx.api).ok_or_else(unknown)?;
    tracing::trace!(broker = ctx.broker, principal = %ctx.principal, api = %ctx.api, version = ctx.version, "request");
    (route.serve)(ctx, body, route.access).await
}

/// Fails for a request that names more partitions than a cluster can have, or longer topics: serving it would take more
/// memory than its frame, and no client sends it.
pub(crate) fn check_names<'a>(
    ctx: &RequestContext,
    topics: impl Iterator<Item = TopicRef<'a>> + Clone,
) -> Result<(), ProtocolError> {
    let invalid =
        |what: &str| Err(ProtocolErrorKind::InvalidValue(what.into()).at(ctx.api.key(), ctx.version));
    if topics.clone().any(|topic| topic.name.len() > LONGEST_NAME) {
        return invalid("a topic's name has more than 249 bytes");
    }
    if topics.count() > MOST_PARTITIONS {
        return invalid("it names more partitions than a cluster can have");
    }
    Ok(())
}

/// Kafka reads what it knows of a request and leaves the rest, and librdkafka 2.16 depends on it: three bytes follow its
/// Metadata 13 for every topic.
fn decode<R: Request>(version: i16, body: Bytes) -> Result<R, ProtocolError> {
    match R::decode(version, body.clone()) {
        Err(ProtocolError { kind: ProtocolErrorKind::TrailingBytes(left), .. }) => {
            R::decode(version, body.slice(..body.len().saturating_sub(left)))
        }
        decoded => decoded,
    }
}

/// Decodes, lets faults strike, runs the handler, encodes.
async fn serve_one<R: Served>(
    mut ctx: RequestContext,
    body: Bytes,
    access: Access,
    handle: impl AsyncFnOnce(&RequestContext, R) -> R::Response,
) -> Result<Reply, ProtocolError> {
    let request: R = decode(ctx.version, body)?;
    ctx.injected = ctx.shared.faults.hitting(&Seen {
        broker: ctx.broker,
        api: ctx.api,
        client_id: ctx.client_id.as_deref(),
        group: request.group(),
        items: &|see| request.items(&ctx, see),
    });
    let refusal = |stage| ctx.injected.error(stage).and_then(|code| request.refusal(ctx.version, code));
    let (refused, spoiled) = (refusal(Stage::Before), refusal(Stage::After));
    let denied = match access.check(&ctx, &request) {
        Ok(()) => None,
        Err(code) => {
            // A response that had no way to say so would otherwise be one that serves.
            let unsayable = || ProtocolErrorKind::InvalidValue("it may not be served".into());
            let refused = request.refusal(ctx.version, code);
            Some(refused.ok_or_else(|| unsayable().at(ctx.api.key(), ctx.version))?)
        }
    };
    if let Some(reply) = strike(&ctx, Stage::Before).await {
        return Ok(reply);
    }
    let serving = async {
        match refused.or(denied) {
            Some(response) => response,
            None => handle(&ctx, request).await,
        }
    };
    let (response, spent) = measured(serving).await;
    // Whoever is refused stays away as well.
    if ctx.api.throttles_since().is_some() {
        ctx.throttle = ctx.charge_time(spent).max(ctx.throttle_mutations());
    }
    ctx.shared.events.notify();
    if let Some(reply) = strike(&ctx, Stage::After).await {
        return Ok(reply);
    }
    let mut response = spoiled.unwrap_or(response);
    if !ctx.throttle_time().is_zero() {
        R::set_throttle(&mut response, ctx.throttle_ms());
    }
    let mut body = BytesMut::new();
    R::encode_response(&response, ctx.version, &mut body)?;
    Ok(Reply::answer(&ctx, vec![body.freeze()]))
}

impl Reply {
    /// A response with this body, written as the faults that hit the request say.
    pub(crate) fn answer(ctx: &RequestContext, body: Vec<Bytes>) -> Self {
        Self::Answer(Answer {
            body,
            cut: ctx.injected.cut(),
            drip: ctx.injected.drip(),
            mute: ctx.throttle_time(),
        })
    }
}

/// Delays, and says whether the request ends here.
pub(crate) async fn strike(ctx: &RequestContext, stage: Stage) -> Option<Reply> {
    #[cfg(test)]
    ctx.injected.panic_if_told();
    let delay = ctx.injected.delay(stage);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if ctx.injected.closes(stage) {
        return Some(Reply::Close);
    }
    ctx.injected.hangs(stage).then_some(Reply::Hang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_for_each_api_in_order() {
        assert!(ROUTES.windows(2).all(|pair| pair[0].api < pair[1].api));
    }
}
