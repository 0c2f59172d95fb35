//! DescribeAcls, CreateAcls, DeleteAcls.

use kafka_wire::acl::{AclOperation, PatternType, PermissionType, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::create_acls_request::AclCreation;
use kafka_wire::messages::create_acls_response::AclCreationResult;
use kafka_wire::messages::delete_acls_request::DeleteAclsFilter;
use kafka_wire::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_wire::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_wire::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse, StrBytes,
};

use super::{Acl, AclFilter, ResourcePattern};
use crate::admin::{code_and_message, refuse, shorten, text, too_many};
use crate::controller::Refusal;
use crate::shared::RequestContext;

pub(crate) async fn describe(ctx: &RequestContext, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let filter = filter(
        (request.resource_type_filter, request.pattern_type_filter, request.resource_name_filter),
        (request.principal_filter, request.host_filter),
        (request.operation, request.permission_type),
    );
    let found = filter.and_then(|filter| ctx.shared.controller.find_acls(&filter));
    let (code, message) = code_and_message(&found);
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    let mut last: Option<ResourcePattern> = None;
    for acl in found.unwrap_or_default() {
        let description = AclDescription::default()
            .with_principal(text(acl.principal))
            .with_host(text(acl.host))
            .with_operation(acl.operation.code())
            .with_permission_type(acl.permission.code());
        match resources.last_mut().filter(|_| last.as_ref() == Some(&acl.pattern)) {
            Some(resource) => resource.acls.push(description),
            None => resources.push(
                DescribeAclsResource::default()
                    .with_resource_type(acl.pattern.resource_type.code())
                    .with_pattern_type(acl.pattern.pattern_type.code())
                    .with_resource_name(text(acl.pattern.name.clone()))
                    .with_acls(vec![description]),
            ),
        }
        last = Some(acl.pattern);
    }
    DescribeAclsResponse::default()
        .with_error_code(code)
        .with_error_message(message)
        .with_resources(resources)
}

pub(crate) async fn create(ctx: &RequestContext, mut request: CreateAclsRequest) -> CreateAclsResponse {
    let too_long = shorten(&mut request.creations);
    let asked = request.creations.into_iter();
    let asked = asked.map(|creation| if too_long { too_many() } else { acl(creation) }).collect();
    let results = ctx.shared.controller.create_acls(asked).into_iter().map(|outcome| {
        let (code, message) = code_and_message(&outcome);
        AclCreationResult::default().with_error_code(code).with_error_message(message)
    });
    CreateAclsResponse::default().with_results(results.collect())
}

pub(crate) async fn delete(ctx: &RequestContext, mut request: DeleteAclsRequest) -> DeleteAclsResponse {
    let too_long = shorten(&mut request.filters);
    let filters = request.filters.into_iter().map(|asked| {
        let DeleteAclsFilter { resource_type_filter, resource_name_filter, pattern_type_filter, .. } = asked;
        if too_long {
            return too_many();
        }
        filter(
            (resource_type_filter, pattern_type_filter, resource_name_filter),
            (asked.principal_filter, asked.host_filter),
            (asked.operation, asked.permission_type),
        )
    });
    let results = ctx.shared.controller.delete_acls(filters.collect()).into_iter().map(|outcome| {
        let (code, message) = code_and_message(&outcome);
        let matching = outcome.unwrap_or_default().into_iter().map(|acl| {
            DeleteAclsMatchingAcl::default()
                .with_error_message(None)
                .with_resource_type(acl.pattern.resource_type.code())
                .with_pattern_type(acl.pattern.pattern_type.code())
                .with_resource_name(text(acl.pattern.name))
                .with_principal(text(acl.principal))
                .with_host(text(acl.host))
                .with_operation(acl.operation.code())
                .with_permission_type(acl.permission.code())
        });
        DeleteAclsFilterResult::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_matching_acls(matching.collect())
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

fn acl(asked: AclCreation) -> Result<Acl, Refusal> {
    let acl = Acl {
        pattern: ResourcePattern {
            resource_type: known(ResourceType::from_code, asked.resource_type, "resourceType")?,
            pattern_type: known(PatternType::from_code, asked.resource_pattern_type, "patternType")?,
            name: asked.resource_name.to_string(),
        },
        principal: asked.principal.to_string(),
        host: asked.host.to_string(),
        operation: known(AclOperation::from_code, asked.operation, "operation")?,
        permission: known(PermissionType::from_code, asked.permission_type, "permissionType")?,
    };
    acl.check().map_err(|message| Refusal::new(ErrorCode::INVALID_REQUEST, message))?;
    Ok(acl)
}

fn filter(
    (resource_type, pattern_type, name): (i8, i8, Option<StrBytes>),
    (principal, host): (Option<StrBytes>, Option<StrBytes>),
    (operation, permission): (i8, i8),
) -> Result<AclFilter, Refusal> {
    let owned = |text: Option<StrBytes>| text.map(|text| text.to_string());
    Ok(AclFilter {
        resource_type: known(ResourceType::from_code, resource_type, "resourceType")?,
        pattern_type: known(PatternType::from_code, pattern_type, "patternType")?,
        name: owned(name),
        principal: owned(principal),
        host: owned(host),
        operation: known(AclOperation::from_code, operation, "operation")?,
        permission: known(PermissionType::from_code, permission, "permissionType")?,
    })
}

/// A word by its code.
fn known<T>(from_code: fn(i8) -> Option<T>, code: i8, what: &str) -> Result<T, Refusal> {
    from_code(code)
        .map_or_else(|| refuse(ErrorCode::INVALID_REQUEST, format!("Invalid {what} UNKNOWN ({code})")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AUTHORIZER;
    use crate::testing::Bench;

    fn bench() -> Bench {
        let configs = [("authorizer.class.name", AUTHORIZER), ("super.users", "User:root")];
        Bench::with_configs(1, &configs).asked_by("User:root")
    }

    fn creation(name: &str) -> AclCreation {
        AclCreation::default()
            .with_resource_type(ResourceType::Topic.code())
            .with_resource_name(text(name))
            .with_resource_pattern_type(PatternType::Literal.code())
            .with_principal(text("User:alice"))
            .with_host(text("*"))
            .with_operation(AclOperation::Read.code())
            .with_permission_type(PermissionType::Allow.code())
    }

    async fn create(bench: &Bench, creations: Vec<AclCreation>) -> Vec<(ErrorCode, Option<String>)> {
        let response = bench.call(1, 3, CreateAclsRequest::default().with_creations(creations)).await;
        let result = |result: AclCreationResult| {
            (ErrorCode(result.error_code), result.error_message.map(|message| message.to_string()))
        };
        response.results.into_iter().map(result).collect()
    }

    async fn describe_all(bench: &Bench) -> Vec<(String, usize)> {
        let any = DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_resource_name_filter(None)
            .with_principal_filter(None)
            .with_host_filter(None);
        let response = bench.call(1, 3, any.with_operation(1).with_permission_type(1)).await;
        assert_eq!(response.error_code, 0);
        let resources = response.resources.into_iter();
        resources.map(|resource| (resource.resource_name.to_string(), resource.acls.len())).collect()
    }

    #[tokio::test]
    async fn lists_are_created_once_described_by_resource_and_deleted() {
        let bench = bench();
        let other = creation("a").with_operation(AclOperation::Write.code());
        let results = create(&bench, vec![creation("a"), creation("b"), other.clone(), creation("a")]).await;
        assert!(results.iter().all(|(code, _)| code.is_ok()), "{results:?}");
        assert_eq!(create(&bench, vec![creation("a")]).await, [(ErrorCode::NONE, None)], "it is there");
        assert_eq!(describe_all(&bench).await, [("a".to_owned(), 2), ("b".to_owned(), 1)]);

        let filter = |name: &str, operation: i8| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(ResourceType::Topic.code())
                .with_resource_name_filter(Some(text(name)))
                .with_pattern_type_filter(PatternType::Match.code())
                .with_principal_filter(None)
                .with_host_filter(None)
                .with_operation(operation)
                .with_permission_type(1)
        };
        let filters = vec![filter("a", AclOperation::Write.code()), filter("a", 1), filter("c", 1)];
        let response = bench.call(1, 3, DeleteAclsRequest::default().with_filters(filters)).await;
        let matched: Vec<usize> =
            response.filter_results.iter().map(|result| result.matching_acls.len()).collect();
        assert_eq!(matched, [1, 2, 0], "each filter sees all that there were");
        assert_eq!(describe_all(&bench).await, [("b".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn what_is_no_list_is_an_invalid_request_and_the_others_are_created() {
        let bench = bench();
        let cluster = creation("other").with_resource_type(ResourceType::Cluster.code());
        let bad = [
            (creation("t").with_resource_type(1), "resourceType"),
            (creation("t").with_resource_type(99), "resourceType"),
            (creation("t").with_resource_pattern_type(PatternType::Match.code()), "patternType"),
            (creation("t").with_resource_pattern_type(1), "patternType"),
            (creation("t").with_operation(1), "operation"),
            (creation("t").with_permission_type(1), "permissionType"),
            (creation(""), "empty"),
            (cluster, "kafka-cluster"),
            (creation("t").with_principal(text("alice")), "no colon"),
        ];
        let (creations, words): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
        let results = create(&bench, creations.into_iter().chain([creation("good")]).collect()).await;
        for ((code, message), word) in results.iter().zip(&words) {
            assert_eq!(*code, ErrorCode::INVALID_REQUEST);
            assert!(message.as_deref().unwrap_or_default().contains(word), "{message:?} should name {word}");
        }
        assert_eq!(results.last(), Some(&(ErrorCode::NONE, None)));
        assert_eq!(describe_all(&bench).await, [("good".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_cluster_holds_so_many_lists_and_no_more() {
        let bench = bench();
        for batch in 0..2 {
            let creations = (0..5_000).map(|n| creation(&format!("{batch}-{n}"))).collect();
            assert!(create(&bench, creations).await.iter().all(|(code, _)| code.is_ok()));
        }
        let results = create(&bench, vec![creation("one more"), creation("0-0")]).await;
        assert_eq!((results[0].0, results[1].0), (ErrorCode::POLICY_VIOLATION, ErrorCode::NONE));
    }

    #[tokio::test]
    async fn without_an_authorizer_there_are_no_lists() {
        let bench = Bench::new(1);
        assert_eq!(create(&bench, vec![creation("t")]).await[0].0, ErrorCode::SECURITY_DISABLED);
    }
}
