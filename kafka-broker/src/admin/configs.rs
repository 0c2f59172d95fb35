//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::messages::list_config_resources_response::ConfigResource;
use kafka_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse, StrBytes, alter_configs_response, incremental_alter_configs_response,
};

use super::{code_and_message, refuse, repeated, shorten, text, too_many};
use crate::config::{BROKER_CONFIGS, ConfigDef, ConfigValue, Source, TOPIC_CONFIGS};
use crate::controller::{self, ConfigChange, Refusal};
use crate::shared::RequestContext;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
// Kinds of Kafka's of which there are none here.
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// A setting with every value it has or would have, the one in force first.
type Described = (&'static ConfigDef, Vec<ConfigValue>);

pub(crate) async fn describe(
    ctx: &RequestContext,
    mut request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let too_long = shorten(&mut request.resources);
    // Once each: a short request could otherwise ask for an answer that no memory holds.
    let mut asked = BTreeSet::new();
    let once = request.resources.iter().filter(|resource| {
        asked.insert((resource.resource_type, &resource.resource_name, &resource.configuration_keys))
    });
    let results = once.map(|resource| {
        let described = if too_long {
            too_many()
        } else {
            authorize(ctx, AclOperation::DescribeConfigs, resource.resource_type, &resource.resource_name)
                .and_then(|()| describe_resource(ctx, resource))
        };
        let (code, message) = code_and_message(&described);
        let wanted = |def: &ConfigDef| match resource.configuration_keys.as_deref() {
            None | Some([]) => true,
            Some(keys) => keys.iter().any(|key| key.as_str() == def.name),
        };
        let described = described.unwrap_or_default().into_iter().filter(|(def, _)| wanted(def));
        let configs = described.filter_map(|(def, values)| {
            show(def, values, request.include_synonyms, resource.resource_type == TOPIC)
        });
        DescribeConfigsResult::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_configs(configs.collect())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// Settings are the topic's or the group's own; all others are the cluster's.
fn authorize(ctx: &RequestContext, operation: AclOperation, kind: i8, name: &str) -> Result<(), Refusal> {
    let authorized = match kind {
        TOPIC => ctx.authorize_topic(operation, name),
        GROUP => ctx.authorize(operation, ResourceType::Group, name),
        _ => ctx.authorize_cluster(operation),
    };
    Ok(authorized?)
}

fn describe_resource(
    ctx: &RequestContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refusal> {
    let image = ctx.image();
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let Some(topic) = image.topic(name) else {
                controller::check_name(&image, name)?;
                let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                return refuse(code, code.message());
            };
            let values = |def| (def, image.configs.topic_values(&topic.overrides, def));
            Ok(TOPIC_CONFIGS.iter().map(values).collect())
        }
        // What was set on all brokers while they run, and nothing else.
        BROKER if name.is_empty() => {
            let on_all = |value: &ConfigValue| value.source == Source::ClusterDefault;
            let values = |def| {
                let set = image.configs.values(ctx.broker, def).into_iter().filter(on_all);
                (def, set.collect())
            };
            Ok(BROKER_CONFIGS.iter().map(values).collect())
        }
        BROKER if name.parse() == Ok(ctx.broker) => {
            let values = |def| (def, image.configs.values(ctx.broker, def));
            Ok(BROKER_CONFIGS.iter().map(values).collect())
        }
        BROKER => {
            let expected = ctx.broker;
            let message =
                format!("Unexpected broker id, expected {expected} or empty string, but received {name}");
            refuse(ErrorCode::INVALID_REQUEST, message)
        }
        other => unsupported(other),
    }
}

fn show(
    def: &'static ConfigDef,
    values: Vec<ConfigValue>,
    synonyms: bool,
    of_topic: bool,
) -> Option<DescribeConfigsResourceResult> {
    let in_force = values.first()?;
    let config = DescribeConfigsResourceResult::default()
        .with_name(text(def.name))
        .with_value(Some(text(&*in_force.value)))
        .with_read_only(def.read_only)
        .with_config_source(in_force.source as i8)
        .with_config_type(def.kind.type_code())
        .with_documentation(None);
    if !synonyms {
        return Some(config);
    }
    // A topic setting that no broker setting stands behind has no synonym by default.
    let is_synonym =
        |value: &ConfigValue| value.source != Source::Default || value.name != def.name || !of_topic;
    let synonyms = values.into_iter().filter(is_synonym).map(|value| {
        DescribeConfigsSynonym::default()
            .with_name(text(value.name))
            .with_value(Some(text(value.value)))
            .with_source(value.source as i8)
    });
    Some(config.with_synonyms(synonyms.collect()))
}

pub(crate) async fn alter(ctx: &RequestContext, mut request: AlterConfigsRequest) -> AlterConfigsResponse {
    let too_long = shorten(&mut request.resources);
    let key = |kind: i8, name: &StrBytes| (kind, name.clone());
    let twice = repeated(request.resources.iter().map(|one| key(one.resource_type, &one.resource_name)));
    let responses = request.resources.into_iter().map(|resource| {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let changes = resource.configs.into_iter().map(|config| match config.value {
            Some(value) => Ok((config.name.to_string(), ConfigChange::Set(value.to_string()))),
            None => null_value(&config.name),
        });
        let outcome = if too_long {
            too_many()
        } else if twice.contains(&key(kind, &name)) {
            refuse(ErrorCode::INVALID_REQUEST, "Each resource must appear at most once.")
        } else {
            let changes: Result<Vec<_>, _> = changes.collect();
            changes.and_then(|changes| apply(ctx, kind, &name, &changes, true, request.validate_only))
        };
        let (code, message) = code_and_message(&outcome);
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub(crate) async fn alter_incrementally(
    ctx: &RequestContext,
    mut request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let too_long = shorten(&mut request.resources);
    let key = |kind: i8, name: &StrBytes| (kind, name.clone());
    let twice = repeated(request.resources.iter().map(|one| key(one.resource_type, &one.resource_name)));
    let responses = request.resources.into_iter().map(|resource| {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let changes = resource.configs.into_iter().map(|config| {
            Ok((config.name.to_string(), change(&config.name, config.config_operation, config.value)?))
        });
        let outcome = if too_long {
            too_many()
        } else if twice.contains(&key(kind, &name)) {
            refuse(ErrorCode::INVALID_REQUEST, "Each resource must appear at most once.")
        } else {
            let changes: Result<Vec<_>, _> = changes.collect();
            changes.and_then(|changes| apply(ctx, kind, &name, &changes, false, request.validate_only))
        };
        let (code, message) = code_and_message(&outcome);
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn change(name: &StrBytes, operation: i8, value: Option<StrBytes>) -> Result<ConfigChange, Refusal> {
    let operation: fn(String) -> ConfigChange = match operation {
        0 => ConfigChange::Set,
        1 => return Ok(ConfigChange::Delete),
        2 => ConfigChange::Append,
        3 => ConfigChange::Subtract,
        other => return refuse(ErrorCode::INVALID_REQUEST, format!("Unknown operation type {other}")),
    };
    value.map_or_else(|| null_value(name), |value| Ok(operation(value.to_string())))
}

fn apply(
    ctx: &RequestContext,
    kind: i8,
    name: &str,
    changes: &[(String, ConfigChange)],
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    authorize(ctx, AclOperation::AlterConfigs, kind, name)?;
    if !repeated(changes.iter().map(|(name, _)| name)).is_empty() {
        return refuse(ErrorCode::INVALID_REQUEST, "Error due to duplicate config keys");
    }
    let controller = &ctx.shared.controller;
    match kind {
        TOPIC => controller.alter_topic_configs(name, changes, replace, validate_only),
        BROKER if name.is_empty() => controller.alter_broker_configs(None, changes, replace, validate_only),
        BROKER => match name.parse() {
            Ok(id) => controller.alter_broker_configs(Some(id), changes, replace, validate_only),
            Err(_) => {
                refuse(ErrorCode::INVALID_REQUEST, format!("Broker id must be an integer, but it is: {name}"))
            }
        },
        other => unsupported(other),
    }
}

fn null_value<T>(name: &StrBytes) -> Result<T, Refusal> {
    refuse(ErrorCode::INVALID_REQUEST, format!("Null value not supported for : {}", name.as_str()))
}

fn unsupported<T>(kind: i8) -> Result<T, Refusal> {
    refuse(ErrorCode::INVALID_REQUEST, format!("Unsupported resource type: {kind}"))
}

pub(crate) async fn list_resources(
    ctx: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let is_unknown = |kind: &i8| !matches!(*kind, TOPIC | BROKER | BROKER_LOGGER | CLIENT_METRICS | GROUP);
    if request.resource_types.iter().any(is_unknown) {
        let code = ErrorCode::UNSUPPORTED_VERSION;
        return ListConfigResourcesResponse::default().with_error_code(code.0);
    }
    let image = ctx.image();
    // Version 0 could only ask for client metrics, which this broker does not take.
    let wants = |kind: i8| {
        ctx.version > 0 && (request.resource_types.is_empty() || request.resource_types.contains(&kind))
    };
    let mut names: BTreeMap<i8, Vec<StrBytes>> = BTreeMap::new();
    if wants(TOPIC) {
        names.insert(TOPIC, image.topics.keys().map(|name| text(&**name)).collect());
    }
    if wants(BROKER) {
        names.insert(BROKER, image.brokers.keys().map(|id| text(id.to_string())).collect());
    }
    let resource = |kind, name| ConfigResource::default().with_resource_type(kind).with_resource_name(name);
    let resources =
        names.into_iter().flat_map(|(kind, names)| names.into_iter().map(move |name| resource(kind, name)));
    ListConfigResourcesResponse::default().with_config_resources(resources.collect())
}
