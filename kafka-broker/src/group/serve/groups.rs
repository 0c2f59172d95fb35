//! DescribeGroups, ListGroups, DeleteGroups.

use std::collections::BTreeSet;

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::messages::delete_groups_response::DeletableGroupResult;
use kafka_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::messages::list_groups_response::ListedGroup;
use kafka_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};

use super::{code, text};
use crate::group::{GroupDescription, GroupError, GroupState};
use crate::shared::RequestContext;

/// What ListGroups calls these groups. Kafka compares types without regard to case.
const TYPE: &str = "classic";

pub(crate) async fn describe(ctx: &RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let operations = |id: &str| match request.include_authorized_operations {
        true => ctx.authorized_operations(ResourceType::Group, id),
        false => i32::MIN,
    };
    // Once each: a short request could otherwise ask for an answer that no memory holds.
    let groups = request.groups.into_iter().collect::<BTreeSet<_>>();
    let groups = groups.into_iter().map(|id| {
        if let Err(code) = ctx.authorize(AclOperation::Describe, ResourceType::Group, &id) {
            return DescribedGroup::default().with_group_id(id).with_error_code(code.0);
        }
        let described = match ctx.shared.groups.with(ctx, &id, |group| group.describe()) {
            Ok(group) => describe_one(group),
            Err(GroupError::GroupIdNotFound) => {
                let dead = DescribedGroup::default().with_group_state(text(GroupState::Dead.name()));
                if ctx.version < 6 {
                    dead
                } else {
                    let message = format!("Group {} not found.", id.as_str());
                    dead.with_error_code(GroupError::GroupIdNotFound.code())
                        .with_error_message(Some(text(message)))
                }
            }
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        let operations = operations(&id);
        described.with_group_id(id).with_authorized_operations(operations)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe_one(group: GroupDescription) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(group.protocol))
        .with_members(members.collect())
}

pub(crate) async fn list(ctx: &RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    let states = &request.states_filter;
    let types = &request.types_filter;
    let wants_type = types.is_empty() || types.iter().any(|name| name.trim().eq_ignore_ascii_case(TYPE));
    let wants_state = |state: GroupState| {
        states.is_empty() || states.iter().any(|name| name.trim().eq_ignore_ascii_case(state.name()))
    };
    let groups = ctx.shared.groups.list(ctx).into_iter();
    let sees_all = ctx.authorize_cluster(AclOperation::Describe).is_ok();
    let sees = |id: &str| sees_all || ctx.authorize(AclOperation::Describe, ResourceType::Group, id).is_ok();
    let groups = groups.filter(|group| wants_type && wants_state(group.state) && sees(&group.group_id));
    let groups = groups.map(|group| {
        ListedGroup::default()
            .with_group_id(GroupId(text(&*group.group_id)))
            .with_protocol_type(text(group.protocol_type))
            .with_group_state(text(group.state.name()))
            .with_group_type(text(TYPE))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) async fn delete(ctx: &RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let code = match ctx.authorize(AclOperation::Delete, ResourceType::Group, &id) {
            Ok(()) => code(&ctx.shared.groups.delete(ctx, &id)),
            Err(code) => code.0,
        };
        DeletableGroupResult::default().with_group_id(id).with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
