//! Which handler serves which API: one table, from which ApiVersions is answered too.

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kafka_wire::api::{Api, Request, VersionRange};
use kafka_wire::error::{ProtocolError, ProtocolErrorKind};
use kafka_wire::messages::*;

use crate::admin::{cluster, configs, elections, reassignments, topics};
use crate::group::serve::{groups, members, offsets};
use crate::shared::RequestContext;
use crate::{api_versions, metadata};

/// One line of the table.
pub(crate) struct Route {
    pub(crate) api: Api,
    serve: for<'a> fn(&'a RequestContext, Bytes) -> BoxFuture<'a, Result<Bytes, ProtocolError>>,
}

macro_rules! routes {
    ($($request:ident => $handler:path;)*) => {
        /// Every API that this broker serves, by ascending key.
        pub(crate) static ROUTES: &[Route] = &[$(Route {
            api: <$request as Request>::API,
            serve: |ctx, body| Box::pin(async move {
                let request = <$request as Request>::decode(ctx.version, body)?;
                let response = $handler(ctx, request).await;
                let mut out = BytesMut::new();
                <$request as Request>::encode_response(&response, ctx.version, &mut out)?;
                Ok(out.freeze())
            }),
        }),*];
    };
}

routes! {
    MetadataRequest => metadata::handle;
    OffsetCommitRequest => offsets::commit;
    OffsetFetchRequest => offsets::fetch;
    FindCoordinatorRequest => members::find_coordinator;
    JoinGroupRequest => members::join_group;
    HeartbeatRequest => members::heartbeat;
    LeaveGroupRequest => members::leave_group;
    SyncGroupRequest => members::sync_group;
    DescribeGroupsRequest => groups::describe;
    ListGroupsRequest => groups::list;
    ApiVersionsRequest => api_versions::handle;
    CreateTopicsRequest => topics::create;
    DeleteTopicsRequest => topics::delete;
    DescribeConfigsRequest => configs::describe;
    AlterConfigsRequest => configs::alter;
    CreatePartitionsRequest => topics::create_partitions;
    DeleteGroupsRequest => groups::delete;
    ElectLeadersRequest => elections::elect;
    IncrementalAlterConfigsRequest => configs::alter_incrementally;
    AlterPartitionReassignmentsRequest => reassignments::alter;
    ListPartitionReassignmentsRequest => reassignments::list;
    OffsetDeleteRequest => offsets::delete;
    DescribeClusterRequest => cluster::describe;
    ListConfigResourcesRequest => configs::list_resources;
    DescribeTopicPartitionsRequest => cluster::describe_topic_partitions;
}

impl Route {
    /// The line for an API, if it is served.
    pub(crate) fn find(api: Api) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.api == api)
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
pub(crate) async fn serve(ctx: &RequestContext, body: Bytes) -> Result<Bytes, ProtocolError> {
    let unknown = || ProtocolErrorKind::UnknownApi.at(ctx.api.key(), ctx.version);
    let route = Route::find(ctx.api).ok_or_else(unknown)?;
    if ctx.api == Api::ApiVersions && !route.advertised().contains(ctx.version) {
        return api_versions::fallback();
    }
    (route.serve)(ctx, body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_for_each_api_in_order() {
        assert!(ROUTES.windows(2).all(|pair| pair[0].api < pair[1].api));
    }
}
