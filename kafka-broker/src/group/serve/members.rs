//! FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use std::time::Duration;

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::find_coordinator_response::Coordinator as CoordinatorOf;
use kafka_wire::messages::join_group_response::JoinGroupResponseMember;
use kafka_wire::messages::leave_group_response::MemberResponse;
use kafka_wire::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, StrBytes, SyncGroupRequest,
    SyncGroupResponse,
};

use super::{code, optional, owned, text};
use crate::group::{
    GroupError, HeartbeatRequest as Heartbeat, Input, JoinRejected, JoinRequest, LeaveRequest, LeavingMember,
    Reply, SyncRequest,
};
use crate::shared::RequestContext;

/// FindCoordinator's types of keys for groups and for transactional producers.
const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;

pub(crate) async fn find_coordinator(
    ctx: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let find = |key: &StrBytes| coordinator_of(ctx, request.key_type, key);
    if ctx.version >= 4 {
        let coordinators = request.coordinator_keys.iter().map(find).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn coordinator_of(ctx: &RequestContext, key_type: i8, key: &StrBytes) -> CoordinatorOf {
    let answer = CoordinatorOf::default().with_key(key.clone());
    let refused = |code: ErrorCode, message: &str| {
        let nobody = CoordinatorOf::default().with_key(key.clone()).with_node_id(BrokerId(-1)).with_port(-1);
        nobody.with_error_code(code.0).with_error_message(Some(text(message)))
    };
    let resource = match key_type {
        GROUP_KEY => Some(ResourceType::Group),
        TRANSACTION_KEY => Some(ResourceType::TransactionalId),
        _ => None,
    };
    let authorized = resource.map(|resource| ctx.authorize(AclOperation::Describe, resource, key));
    if let Some(Err(code)) = authorized {
        return refused(code, code.message());
    }
    if key_type != GROUP_KEY {
        return refused(ErrorCode::INVALID_REQUEST, "this broker coordinates groups only");
    }
    match ctx.image().coordinator(key) {
        Some(broker) => {
            let address = broker.address_at(ctx.listener);
            answer
                .with_node_id(BrokerId(broker.id))
                .with_host(text(&*address.host))
                .with_port(i32::from(address.port))
                .with_error_message(None)
        }
        None => refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_NOT_AVAILABLE.message()),
    }
}

pub(crate) async fn join_group(ctx: &RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let (id, member_id) = (request.group_id.clone(), owned(&request.member_id));
    let create = member_id.is_empty();
    let join = Input::Join(join_request(ctx, request));
    let joined = ask(ctx, &id, create, join, |reply| match reply {
        Reply::Join(joined) => Some(joined),
        _ => None,
    });
    let joined = joined.await.unwrap_or_else(|error| Err(JoinRejected { error, member_id }));
    match joined {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_metadata(member.metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(Some(text(joined.protocol_type)))
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader))
                .with_skip_assignment(joined.skip_assignment)
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
        Err(JoinRejected { error, member_id }) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_member_id(text(member_id))
            // Null exists from version 7 on.
            .with_protocol_name((ctx.version < 7).then(StrBytes::default)),
    }
}

fn join_request(ctx: &RequestContext, request: JoinGroupRequest) -> JoinRequest {
    // Version 0 has no rebalance timeout: there it is the session's.
    let rebalance_timeout =
        if ctx.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    JoinRequest {
        member_id: owned(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        client_id: ctx.client_id.as_deref().unwrap_or_default().to_owned(),
        // As Java prints an address that was not looked up; there is none over the in-memory transport.
        client_host: ctx.peer.map_or_else(|| "/memory".to_owned(), |peer| format!("/{peer}")),
        protocol_type: owned(&request.protocol_type),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (owned(&protocol.name), protocol.metadata))
            .collect(),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout),
        requires_member_id: ctx.version >= 4,
        supports_skip_assignment: ctx.version >= 9,
    }
}

pub(crate) async fn sync_group(ctx: &RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let sync = SyncRequest {
        member_id: owned(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol: optional(request.protocol_name.as_ref()),
        assignments: request
            .assignments
            .into_iter()
            .map(|entry| (owned(&entry.member_id), entry.assignment))
            .collect(),
    };
    let synced = ask(ctx, &request.group_id, false, Input::Sync(sync), |reply| match reply {
        Reply::Sync(synced) => Some(synced),
        _ => None,
    });
    match synced.await.flatten() {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

pub(crate) async fn heartbeat(ctx: &RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        member_id: owned(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let outcome = ask(ctx, &request.group_id, false, Input::Heartbeat(heartbeat), |reply| match reply {
        Reply::Heartbeat(outcome) => Some(outcome),
        _ => None,
    });
    HeartbeatResponse::default().with_error_code(code(&outcome.await.flatten()))
}

pub(crate) async fn leave_group(ctx: &RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let single = ctx.version < 3;
    let members: Vec<LeavingMember> = if single {
        vec![LeavingMember { member_id: owned(&request.member_id), instance_id: None }]
    } else {
        request
            .members
            .iter()
            .map(|member| LeavingMember {
                member_id: owned(&member.member_id),
                instance_id: optional(member.group_instance_id.as_ref()),
            })
            .collect()
    };
    let leave = Input::Leave(LeaveRequest { members: members.clone() });
    let outcomes = ask(ctx, &request.group_id, false, leave, |reply| match reply {
        Reply::Leave(outcomes) => Some(outcomes),
        _ => None,
    });
    let outcomes = match outcomes.await.flatten() {
        Ok(outcomes) => outcomes,
        // Nobody is a member of a group that does not exist.
        Err(GroupError::UnknownMemberId) => vec![Err(GroupError::UnknownMemberId); members.len()],
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    if single {
        return LeaveGroupResponse::default().with_error_code(outcomes.first().map_or(0, code));
    }
    let members = members.into_iter().zip(outcomes).map(|(member, outcome)| {
        MemberResponse::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_error_code(code(&outcome))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

/// What members ask. A group that does not exist has no members, so whoever claims to be one must start over.
async fn ask<T>(
    ctx: &RequestContext,
    id: &str,
    create: bool,
    input: Input,
    read: impl FnOnce(Reply) -> Option<T>,
) -> Result<T, GroupError> {
    if id.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    ctx.shared.groups.request(ctx, id, create, input, read).await.map_err(|error| match error {
        GroupError::GroupIdNotFound => GroupError::UnknownMemberId,
        error => error,
    })
}

/// A time that a client gave; a negative one is none.
fn millis(time: i32) -> Duration {
    Duration::from_millis(u64::try_from(time).unwrap_or_default())
}
