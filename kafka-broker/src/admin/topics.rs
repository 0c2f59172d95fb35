//! CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::acl::AclOperation;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::messages::delete_topics_request::DeleteTopicState;
use kafka_wire::messages::delete_topics_response::DeletableTopicResult;
use kafka_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};

use super::{code_and_message, refuse, repeated, shorten, text, too_many};
use crate::config::TOPIC_CONFIGS;
use crate::controller::{NewTopic, Refusal};
use crate::image::Topic;
use crate::shared::RequestContext;

pub(crate) async fn create(ctx: &RequestContext, mut request: CreateTopicsRequest) -> CreateTopicsResponse {
    let too_long = shorten(&mut request.topics);
    let twice = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    // One answer for all that share a name.
    let mut unanswered = twice.clone();
    let mut results: Vec<CreatableTopicResult> = Vec::new();
    for topic in request.topics {
        let name = topic.name.clone();
        let outcome = if too_long {
            too_many()
        } else if twice.contains(&name) {
            if !unanswered.remove(&name) {
                continue;
            }
            refuse(ErrorCode::INVALID_REQUEST, "Duplicate topic name.")
        } else {
            may_create(ctx, &name)
                .and_then(|()| new_topic(topic))
                .and_then(|new| {
                    if !request.validate_only {
                        ctx.charge_mutations(partitions_of(ctx, &new))?;
                    }
                    Ok(new)
                })
                .and_then(|new| ctx.shared.controller.create_topic(new, request.validate_only))
        };
        results.push(created(ctx, name, outcome));
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// How many partitions a topic is to have.
fn partitions_of(ctx: &RequestContext, new: &NewTopic) -> usize {
    let asked = new.assignment.as_ref().map(Vec::len);
    asked.unwrap_or_else(|| {
        let partitions = new.partitions.unwrap_or_else(|| ctx.image().configs.number("num.partitions"));
        usize::try_from(partitions).unwrap_or_default()
    })
}

fn may_create(ctx: &RequestContext, name: &str) -> Result<(), Refusal> {
    let authorized = ctx
        .authorize_cluster(AclOperation::Create)
        .or_else(|_| ctx.authorize_topic(AclOperation::Create, name));
    authorized.map_err(|code| Refusal::new(code, "Authorization failed."))
}

fn new_topic(topic: CreatableTopic) -> Result<NewTopic, Refusal> {
    let (partitions, replication) = (topic.num_partitions, topic.replication_factor);
    let assignment = if topic.assignments.is_empty() { None } else { Some(assignment(topic.assignments)?) };
    if assignment.is_some() && (partitions != -1 || replication != -1) {
        let number = if partitions == -1 { "replication factor" } else { "numPartitions" };
        let message = format!("A manual partition assignment was specified, but {number} was not set to -1.");
        return refuse(ErrorCode::INVALID_REQUEST, message);
    }
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let Some(value) = config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name.as_str());
            return refuse(ErrorCode::INVALID_CONFIG, message);
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: (partitions != -1).then_some(partitions),
        replication: (replication != -1).then_some(replication),
        assignment,
        configs,
    })
}

/// Replicas by partition number, which must count up from 0.
fn assignment(mut given: Vec<CreatableReplicaAssignment>) -> Result<Vec<Vec<i32>>, Refusal> {
    given.sort_by_key(|partition| partition.partition_index);
    if !given.iter().map(|partition| partition.partition_index).eq((0..).take(given.len())) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    }
    Ok(given.into_iter().map(|partition| partition.broker_ids.iter().map(|id| id.0).collect()).collect())
}

fn created(
    ctx: &RequestContext,
    name: TopicName,
    outcome: Result<Arc<Topic>, Refusal>,
) -> CreatableTopicResult {
    let (code, message) = code_and_message(&outcome);
    let result =
        CreatableTopicResult::default().with_name(name).with_error_code(code).with_error_message(message);
    match outcome {
        Ok(topic) => {
            if let Err(code) = ctx.authorize_topic(AclOperation::DescribeConfigs, &topic.name) {
                // What it is like is a matter of its settings (KIP-525).
                return result
                    .with_topic_id(topic.id)
                    .with_topic_config_error_code(code.0)
                    .with_num_partitions(-1)
                    .with_replication_factor(-1)
                    .with_configs(Some(Vec::new()));
            }
            let replication = topic.partitions.first().map_or(0, |first| first.replicas.len());
            result
                .with_topic_id(topic.id)
                .with_num_partitions(count(topic.partitions.len()))
                .with_replication_factor(i16::try_from(replication).unwrap_or(i16::MAX))
                .with_configs(Some(configs(ctx, &topic)))
        }
        // Java's client fails on a null list.
        Err(_) => result.with_num_partitions(-1).with_replication_factor(-1).with_configs(Some(Vec::new())),
    }
}

fn configs(ctx: &RequestContext, topic: &Topic) -> Vec<CreatableTopicConfigs> {
    let image = ctx.image();
    let in_force = TOPIC_CONFIGS
        .iter()
        .filter_map(|def| Some((def, image.configs.topic_values(&topic.overrides, def).into_iter().next()?)));
    let show = in_force.map(|(def, value)| {
        CreatableTopicConfigs::default()
            .with_name(text(def.name))
            .with_value(Some(text(value.value)))
            .with_config_source(value.source as i8)
    });
    show.collect()
}

pub(crate) async fn delete(ctx: &RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut asked: Vec<DeleteTopicState> = if ctx.version >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState::default().with_name(Some(name));
        request.topic_names.into_iter().map(by_name).collect()
    };
    let too_long = shorten(&mut asked);
    let twice = repeated(asked.iter().map(|topic| (topic.name.clone(), topic.topic_id)));
    let mut unanswered = twice.clone();
    let mut results: Vec<DeletableTopicResult> = Vec::new();
    for topic in asked {
        let key = (topic.name, topic.topic_id);
        let outcome = if too_long {
            too_many()
        } else if twice.contains(&key) {
            if !unanswered.remove(&key) {
                continue;
            }
            refuse(ErrorCode::INVALID_REQUEST, "Duplicate topic.")
        } else {
            delete_one(ctx, &key)
        };
        let (code, message) = code_and_message(&outcome);
        let (name, id) = match outcome {
            Ok(topic) => (Some(TopicName(text(&*topic.name))), topic.id),
            Err(_) => key,
        };
        // Null exists from version 6 on.
        let name = name.or_else(|| (ctx.version < 6).then(TopicName::default));
        results.push(
            DeletableTopicResult::default()
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(code)
                .with_error_message(message),
        );
    }
    DeleteTopicsResponse::default().with_responses(results)
}

fn delete_one(
    ctx: &RequestContext,
    (name, id): &(Option<TopicName>, uuid::Uuid),
) -> Result<Arc<Topic>, Refusal> {
    let by_name = name.is_some();
    let name: Arc<str> = match name {
        Some(_) if !id.is_nil() => {
            return refuse(ErrorCode::INVALID_REQUEST, "You may not specify both topic name and topic id.");
        }
        Some(name) => name.as_str().into(),
        None if id.is_nil() => {
            return refuse(ErrorCode::INVALID_REQUEST, "Neither topic name nor id were specified.");
        }
        None => match ctx.image().topic_by_id(*id) {
            Some(topic) => Arc::clone(&topic.name),
            None => return refuse(ErrorCode::UNKNOWN_TOPIC_ID, ErrorCode::UNKNOWN_TOPIC_ID.message()),
        },
    };
    let describable = ctx.authorize_topic(AclOperation::Describe, &name);
    if let Err(code) = may_delete(ctx, &name) {
        // By a name that may be seen, what is not there is not there.
        let unknown = by_name && describable.is_ok() && ctx.image().topic(&name).is_none();
        return Err(if unknown { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { code }.into());
    }
    if let Some(topic) = ctx.image().topic(&name) {
        ctx.charge_mutations(topic.partitions.len())?;
    }
    let deleted = ctx.shared.controller.delete_topic(&name).map_err(|mut refusal| {
        // Clients older than this do not know the code.
        if refusal.code == ErrorCode::TOPIC_DELETION_DISABLED && ctx.version < 3 {
            refusal.code = ErrorCode::INVALID_REQUEST;
        }
        refusal
    })?;
    ctx.shared.groups.forget_topic(&name);
    Ok(deleted)
}

fn may_delete(ctx: &RequestContext, name: &str) -> Result<(), ErrorCode> {
    ctx.authorize_cluster(AclOperation::Delete).or_else(|_| ctx.authorize_topic(AclOperation::Delete, name))
}

pub(crate) async fn create_partitions(
    ctx: &RequestContext,
    mut request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let too_long = shorten(&mut request.topics);
    let twice = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    let mut unanswered = twice.clone();
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::new();
    for CreatePartitionsTopic { name, count, assignments, .. } in request.topics {
        let outcome = if too_long {
            too_many()
        } else if twice.contains(&name) {
            if !unanswered.remove(&name) {
                continue;
            }
            refuse(ErrorCode::INVALID_REQUEST, "Duplicate topic name.")
        } else {
            let replicas = assignments.map(|assignments| {
                let ids = assignments.into_iter().map(|one| one.broker_ids.iter().map(|id| id.0).collect());
                ids.collect()
            });
            let allowed = ctx.authorize_topic(AclOperation::Alter, &name).and_then(|()| {
                let now = ctx.image().topic(&name).map_or(0, |topic| topic.partitions.len());
                let added = usize::try_from(count).unwrap_or_default().saturating_sub(now);
                // What does not exist, or does not grow, is refused for that.
                if request.validate_only || now == 0 || added == 0 {
                    Ok(())
                } else {
                    ctx.charge_mutations(added)
                }
            });
            allowed.map_err(Refusal::from).and_then(|()| {
                ctx.shared.controller.create_partitions(&name, count, replicas, request.validate_only)
            })
        };
        let (code, message) = code_and_message(&outcome);
        results.push(
            CreatePartitionsTopicResult::default()
                .with_name(name)
                .with_error_code(code)
                .with_error_message(message),
        );
    }
    CreatePartitionsResponse::default().with_results(results)
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
