//! What the router needs to know of each API beyond its handler: what a request names, where a response carries an error
//! code, and where its throttle time.

use kafka_wire::api::Request;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::*;

use crate::shared::RequestContext;

/// A request that this broker serves.
pub(crate) trait Served: Request {
    /// The group that it is about.
    fn group(&self) -> Option<&str> {
        None
    }

    /// Calls `see` for each topic, or partition of a topic, that it names.
    fn items(&self, _ctx: &RequestContext, _see: &mut dyn FnMut(&str, Option<i32>)) {}

    /// The response that says `code` and nothing else; `None` if the handler itself says it, for the items that are hit.
    fn refusal(&self, version: i16, code: ErrorCode) -> Option<Self::Response>;

    /// Puts a throttle time in milliseconds into a response.
    fn set_throttle(response: &mut Self::Response, milliseconds: i32);
}

macro_rules! throttle_field {
    () => {
        fn set_throttle(response: &mut Self::Response, milliseconds: i32) {
            response.throttle_time_ms = milliseconds;
        }
    };
}

/// Requests whose response has one error code for everything.
macro_rules! refused_as_a_whole {
    ($($request:ident $(about $group:ident)?;)*) => {
        $(impl Served for $request {
            $(fn group(&self) -> Option<&str> {
                Some(&self.$group)
            })?

            fn refusal(&self, _: i16, code: ErrorCode) -> Option<Self::Response> {
                let mut response = Self::Response::default();
                response.error_code = code.0;
                Some(response)
            }

            throttle_field!();
        })*
    };
}

refused_as_a_whole! {
    AlterPartitionReassignmentsRequest;
    ApiVersionsRequest;
    DescribeClusterRequest;
    HeartbeatRequest about group_id;
    InitProducerIdRequest;
    LeaveGroupRequest about group_id;
    ListConfigResourcesRequest;
    ListGroupsRequest;
    ListPartitionReassignmentsRequest;
    DescribeUserScramCredentialsRequest;
    OffsetDeleteRequest about group_id;
    SyncGroupRequest about group_id;
    UpdateFeaturesRequest;
}

/// Like those, but no version of the response has a throttle time.
macro_rules! refused_and_never_throttled {
    ($($request:ident;)*) => {
        $(impl Served for $request {
            fn refusal(&self, _: i16, code: ErrorCode) -> Option<Self::Response> {
                Some(Self::Response::default().with_error_code(code.0))
            }

            fn set_throttle(_: &mut Self::Response, _: i32) {}
        })*
    };
}

refused_and_never_throttled! {
    DescribeQuorumRequest;
    SaslAuthenticateRequest;
    SaslHandshakeRequest;
}

/// Requests whose handlers ask for the faults of each item.
macro_rules! refused_by_handler {
    ($($request:ident: $self:ident, $see:ident => $items:block)*) => {
        $(impl Served for $request {
            fn items(&$self, _: &RequestContext, $see: &mut dyn FnMut(&str, Option<i32>)) $items

            fn refusal(&self, _: i16, _: ErrorCode) -> Option<Self::Response> {
                None
            }

            throttle_field!();
        })*
    };
}

refused_by_handler! {
    ListOffsetsRequest: self, see => {
        for topic in &self.topics {
            topic.partitions.iter().for_each(|partition| see(&topic.name, Some(partition.partition_index)));
        }
    }
    OffsetForLeaderEpochRequest: self, see => {
        for topic in &self.topics {
            topic.partitions.iter().for_each(|partition| see(&topic.topic, Some(partition.partition)));
        }
    }
}

impl Served for DescribeAclsRequest {
    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DescribeAclsResponse> {
        Some(DescribeAclsResponse::default().with_error_code(code.0).with_error_message(None))
    }

    throttle_field!();
}

impl Served for CreateAclsRequest {
    fn refusal(&self, _: i16, code: ErrorCode) -> Option<CreateAclsResponse> {
        let refused = create_acls_response::AclCreationResult::default().with_error_code(code.0);
        Some(CreateAclsResponse::default().with_results(vec![refused; self.creations.len()]))
    }

    throttle_field!();
}

impl Served for DeleteAclsRequest {
    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DeleteAclsResponse> {
        let refused = delete_acls_response::DeleteAclsFilterResult::default().with_error_code(code.0);
        Some(DeleteAclsResponse::default().with_filter_results(vec![refused; self.filters.len()]))
    }

    throttle_field!();
}

impl Served for DescribeClientQuotasRequest {
    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DescribeClientQuotasResponse> {
        Some(DescribeClientQuotasResponse::default().with_error_code(code.0).with_entries(None))
    }

    throttle_field!();
}

impl Served for AlterClientQuotasRequest {
    fn refusal(&self, _: i16, code: ErrorCode) -> Option<AlterClientQuotasResponse> {
        use alter_client_quotas_response::{EntityData, EntryData};
        let entries = self.entries.iter().map(|entry| {
            let entity = entry.entity.iter().map(|part| {
                EntityData::default()
                    .with_entity_type(part.entity_type.clone())
                    .with_entity_name(part.entity_name.clone())
            });
            EntryData::default().with_error_code(code.0).with_entity(entity.collect())
        });
        Some(AlterClientQuotasResponse::default().with_entries(entries.collect()))
    }

    throttle_field!();
}

impl Served for ElectLeadersRequest {
    fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        for topic in self.topic_partitions.iter().flatten() {
            topic.partitions.iter().for_each(|partition| see(&topic.topic, Some(*partition)));
        }
    }

    fn refusal(&self, version: i16, code: ErrorCode) -> Option<ElectLeadersResponse> {
        use elect_leaders_response::{PartitionResult, ReplicaElectionResult};
        let topics = self.topic_partitions.iter().flatten().map(|topic| {
            let refused =
                |id: &i32| PartitionResult::default().with_partition_id(*id).with_error_code(code.0);
            ReplicaElectionResult::default()
                .with_topic(topic.topic.clone())
                .with_partition_result(topic.partitions.iter().map(refused).collect())
        });
        // Version 0 has no code for the whole response.
        let error_code = if version >= 1 { code.0 } else { 0 };
        let response = ElectLeadersResponse::default().with_error_code(error_code);
        Some(response.with_replica_election_results(topics.collect()))
    }

    throttle_field!();
}

impl Served for MetadataRequest {
    fn items(&self, ctx: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        let image = ctx.image();
        match &self.topics {
            None => image.topics.keys().for_each(|name| see(name, None)),
            Some(topics) => {
                for topic in topics {
                    match (&topic.name, image.topic_by_id(topic.topic_id)) {
                        (_, Some(topic)) => see(&topic.name, None),
                        (Some(name), None) => see(name, None),
                        (None, None) => {}
                    }
                }
            }
        }
    }

    fn refusal(&self, _: i16, _: ErrorCode) -> Option<MetadataResponse> {
        None
    }

    throttle_field!();
}

impl Served for FindCoordinatorRequest {
    fn group(&self) -> Option<&str> {
        self.coordinator_keys.first().map_or(Some(&self.key), |key| Some(key))
    }

    fn refusal(&self, version: i16, code: ErrorCode) -> Option<FindCoordinatorResponse> {
        let nowhere = |key: &StrBytes| {
            find_coordinator_response::Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(code.0)
        };
        let response = FindCoordinatorResponse::default();
        Some(if version >= 4 {
            response.with_coordinators(self.coordinator_keys.iter().map(nowhere).collect())
        } else {
            response.with_error_code(code.0).with_node_id(BrokerId(-1)).with_port(-1)
        })
    }

    throttle_field!();
}

impl Served for JoinGroupRequest {
    fn group(&self) -> Option<&str> {
        Some(&self.group_id)
    }

    fn refusal(&self, version: i16, code: ErrorCode) -> Option<JoinGroupResponse> {
        // Only from version 7 on may the name be null.
        let name = (version < 7).then(StrBytes::default);
        Some(
            JoinGroupResponse::default()
                .with_error_code(code.0)
                .with_generation_id(-1)
                .with_protocol_name(name)
                .with_member_id(self.member_id.clone()),
        )
    }

    throttle_field!();
}

impl Served for OffsetCommitRequest {
    fn group(&self) -> Option<&str> {
        Some(&self.group_id)
    }

    fn items(&self, ctx: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        let image = ctx.image();
        for topic in &self.topics {
            let name = image.topic_by_id(topic.topic_id).map_or(topic.name.as_str(), |topic| &topic.name);
            topic.partitions.iter().for_each(|partition| see(name, Some(partition.partition_index)));
        }
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<OffsetCommitResponse> {
        use offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code.0)
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions.collect())
        });
        Some(OffsetCommitResponse::default().with_topics(topics.collect()))
    }

    throttle_field!();
}

impl Served for OffsetFetchRequest {
    fn group(&self) -> Option<&str> {
        self.groups.first().map_or(Some(&self.group_id), |group| Some(&group.group_id))
    }

    fn refusal(&self, version: i16, code: ErrorCode) -> Option<OffsetFetchResponse> {
        use offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
        };
        let response = OffsetFetchResponse::default();
        if version >= 8 {
            let groups = self.groups.iter().map(|group| {
                OffsetFetchResponseGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_error_code(code.0)
            });
            return Some(response.with_groups(groups.collect()));
        }
        // Version 1 has no code for the whole response.
        let topics = self.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|partition| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(*partition)
                    .with_committed_offset(-1)
                    .with_metadata(Some(StrBytes::default()))
                    .with_error_code(code.0)
            });
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        let error_code = if version >= 2 { code.0 } else { 0 };
        Some(response.with_topics(topics).with_error_code(error_code))
    }

    throttle_field!();
}

impl Served for DescribeGroupsRequest {
    fn group(&self) -> Option<&str> {
        self.groups.first().map(|group| group.as_str())
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DescribeGroupsResponse> {
        let groups = self.groups.iter().map(|group| {
            describe_groups_response::DescribedGroup::default()
                .with_group_id(group.clone())
                .with_error_code(code.0)
        });
        Some(DescribeGroupsResponse::default().with_groups(groups.collect()))
    }

    throttle_field!();
}

impl Served for DeleteGroupsRequest {
    fn group(&self) -> Option<&str> {
        self.groups_names.first().map(|group| group.as_str())
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DeleteGroupsResponse> {
        let results = self.groups_names.iter().map(|group| {
            delete_groups_response::DeletableGroupResult::default()
                .with_group_id(group.clone())
                .with_error_code(code.0)
        });
        Some(DeleteGroupsResponse::default().with_results(results.collect()))
    }

    throttle_field!();
}

impl Served for CreateTopicsRequest {
    fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        self.topics.iter().for_each(|topic| see(&topic.name, None));
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<CreateTopicsResponse> {
        let topics = self.topics.iter().map(|topic| {
            create_topics_response::CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(code.0)
                .with_configs(Some(Vec::new()))
        });
        Some(CreateTopicsResponse::default().with_topics(topics.collect()))
    }

    throttle_field!();
}

impl Served for DeleteTopicsRequest {
    fn items(&self, ctx: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        let image = ctx.image();
        self.topic_names.iter().for_each(|name| see(name, None));
        for topic in &self.topics {
            let found = image.topic_by_id(topic.topic_id).map(|topic| &*topic.name);
            if let Some(name) = topic.name.as_deref().map(StrBytes::as_str).or(found) {
                see(name, None);
            }
        }
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DeleteTopicsResponse> {
        let refused = |name: Option<TopicName>| {
            delete_topics_response::DeletableTopicResult::default().with_name(name).with_error_code(code.0)
        };
        let old = self.topic_names.iter().map(|name| refused(Some(name.clone())));
        let new = self.topics.iter().map(|topic| refused(topic.name.clone()).with_topic_id(topic.topic_id));
        Some(DeleteTopicsResponse::default().with_responses(old.chain(new).collect()))
    }

    throttle_field!();
}

impl Served for CreatePartitionsRequest {
    fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        self.topics.iter().for_each(|topic| see(&topic.name, None));
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<CreatePartitionsResponse> {
        let results = self.topics.iter().map(|topic| {
            create_partitions_response::CreatePartitionsTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(code.0)
        });
        Some(CreatePartitionsResponse::default().with_results(results.collect()))
    }

    throttle_field!();
}

impl Served for DeleteRecordsRequest {
    fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        for topic in &self.topics {
            topic.partitions.iter().for_each(|partition| see(&topic.name, Some(partition.partition_index)));
        }
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DeleteRecordsResponse> {
        use delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(partition.partition_index)
                    .with_low_watermark(-1)
                    .with_error_code(code.0)
            });
            DeleteRecordsTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        Some(DeleteRecordsResponse::default().with_topics(topics.collect()))
    }

    throttle_field!();
}

impl Served for DescribeProducersRequest {
    fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        for topic in &self.topics {
            topic.partition_indexes.iter().for_each(|partition| see(&topic.name, Some(*partition)));
        }
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DescribeProducersResponse> {
        use describe_producers_response::{PartitionResponse, TopicResponse};
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|partition| {
                PartitionResponse::default().with_partition_index(*partition).with_error_code(code.0)
            });
            TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        Some(DescribeProducersResponse::default().with_topics(topics.collect()))
    }

    throttle_field!();
}

impl Served for DescribeLogDirsRequest {
    fn refusal(&self, version: i16, code: ErrorCode) -> Option<DescribeLogDirsResponse> {
        let response = DescribeLogDirsResponse::default();
        // Older versions have no code for the whole response.
        Some(if version >= 3 {
            response.with_error_code(code.0)
        } else {
            let dir = describe_log_dirs_response::DescribeLogDirsResult::default().with_error_code(code.0);
            response.with_results(vec![dir])
        })
    }

    throttle_field!();
}

impl Served for DescribeTopicPartitionsRequest {
    fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
        self.topics.iter().for_each(|topic| see(&topic.name, None));
    }

    fn refusal(&self, _: i16, code: ErrorCode) -> Option<DescribeTopicPartitionsResponse> {
        let topics = self.topics.iter().map(|topic| {
            describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(topic.name.clone()))
                .with_error_code(code.0)
        });
        Some(DescribeTopicPartitionsResponse::default().with_topics(topics.collect()))
    }

    throttle_field!();
}

/// Requests about resources that are named by type and name.
macro_rules! refused_by_resource {
    ($($request:ident, $module:ident, $result:ident, $with:ident;)*) => {
        $(impl Served for $request {
            fn items(&self, _: &RequestContext, see: &mut dyn FnMut(&str, Option<i32>)) {
                let topics = self.resources.iter().filter(|resource| resource.resource_type == 2);
                topics.for_each(|topic| see(&topic.resource_name, None));
            }

            fn refusal(&self, _: i16, code: ErrorCode) -> Option<Self::Response> {
                let results = self.resources.iter().map(|resource| {
                    $module::$result::default()
                        .with_resource_type(resource.resource_type)
                        .with_resource_name(resource.resource_name.clone())
                        .with_error_code(code.0)
                });
                Some(Self::Response::default().$with(results.collect()))
            }

            throttle_field!();
        })*
    };
}

impl Served for AlterUserScramCredentialsRequest {
    fn refusal(&self, _: i16, code: ErrorCode) -> Option<AlterUserScramCredentialsResponse> {
        let names = self.deletions.iter().map(|deletion| &deletion.name);
        let results = names.chain(self.upsertions.iter().map(|upsertion| &upsertion.name)).map(|name| {
            alter_user_scram_credentials_response::AlterUserScramCredentialsResult::default()
                .with_user(name.clone())
                .with_error_code(code.0)
        });
        Some(AlterUserScramCredentialsResponse::default().with_results(results.collect()))
    }

    throttle_field!();
}

refused_by_resource! {
    DescribeConfigsRequest, describe_configs_response, DescribeConfigsResult, with_results;
    AlterConfigsRequest, alter_configs_response, AlterConfigsResourceResponse, with_responses;
    IncrementalAlterConfigsRequest, incremental_alter_configs_response, AlterConfigsResourceResponse, with_responses;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every version must be able to carry the refusal, and carry the code.
    fn check<R: Served>(request: impl Fn(i16) -> R) {
        for version in R::API.versions().min..=R::API.versions().max {
            let mut response =
                request(version).refusal(version, ErrorCode::KAFKA_STORAGE_ERROR).expect("a refusal");
            R::set_throttle(&mut response, 7);
            let mut body = bytes::BytesMut::new();
            R::encode_response(&response, version, &mut body).unwrap_or_else(|error| panic!("{error}"));
            let code = ErrorCode::KAFKA_STORAGE_ERROR.0.to_be_bytes();
            assert!(body.windows(2).any(|pair| pair == code), "{} v{version}: {body:?}", R::API);
            R::decode_response(version, body.freeze()).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn every_version_of_every_response_can_carry_a_refusal() {
        let topic = || TopicName("t".into());
        check(|_| ApiVersionsRequest::default());
        check(|_| DescribeClusterRequest::default());
        check(|_| AlterPartitionReassignmentsRequest::default());
        check(|_| ListPartitionReassignmentsRequest::default());
        check(|_| {
            let partitions = elect_leaders_request::TopicPartitions::default()
                .with_topic(topic())
                .with_partitions(vec![0]);
            ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions]))
        });
        check(|_| DescribeAclsRequest::default());
        check(|_| {
            let creation = create_acls_request::AclCreation::default();
            CreateAclsRequest::default().with_creations(vec![creation.with_resource_pattern_type(3)])
        });
        check(|_| {
            let filter = delete_acls_request::DeleteAclsFilter::default();
            DeleteAclsRequest::default().with_filters(vec![filter.with_pattern_type_filter(3)])
        });
        check(|_| DescribeClientQuotasRequest::default());
        check(|_| {
            let entry = alter_client_quotas_request::EntryData::default();
            AlterClientQuotasRequest::default().with_entries(vec![entry])
        });
        check(|_| HeartbeatRequest::default());
        check(|_| InitProducerIdRequest::default());
        check(|_| LeaveGroupRequest::default());
        check(|_| ListConfigResourcesRequest::default());
        check(|_| ListGroupsRequest::default());
        check(|_| OffsetDeleteRequest::default());
        check(|_| DescribeUserScramCredentialsRequest::default());
        check(|_| {
            use alter_user_scram_credentials_request::ScramCredentialDeletion;
            let deletion = ScramCredentialDeletion::default().with_name("alice".into());
            AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion])
        });
        check(|_| SyncGroupRequest::default());
        check(|_| SaslAuthenticateRequest::default());
        check(|_| SaslHandshakeRequest::default());
        check(|_| JoinGroupRequest::default().with_member_id("m".into()));
        check(|version| match version {
            4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()]),
            _ => FindCoordinatorRequest::default().with_key("g".into()),
        });
        check(|_| {
            use offset_commit_request::*;
            let partitions = vec![OffsetCommitRequestPartition::default()];
            let topics =
                vec![OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions)];
            OffsetCommitRequest::default().with_topics(topics)
        });
        check(|version| {
            use offset_fetch_request::*;
            let old = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![0]);
            match version {
                8.. => OffsetFetchRequest::default().with_groups(vec![OffsetFetchRequestGroup::default()]),
                _ => OffsetFetchRequest::default().with_topics(Some(vec![old])),
            }
        });
        check(|_| DescribeGroupsRequest::default().with_groups(vec![GroupId("g".into())]));
        check(|_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId("g".into())]));
        check(|_| {
            let topics = vec![create_topics_request::CreatableTopic::default().with_name(topic())];
            CreateTopicsRequest::default().with_topics(topics)
        });
        check(|version| match version {
            6.. => {
                let state = delete_topics_request::DeleteTopicState::default().with_name(Some(topic()));
                DeleteTopicsRequest::default().with_topics(vec![state])
            }
            _ => DeleteTopicsRequest::default().with_topic_names(vec![topic()]),
        });
        check(|_| {
            let topics = vec![create_partitions_request::CreatePartitionsTopic::default().with_name(topic())];
            CreatePartitionsRequest::default().with_topics(topics)
        });
        check(|_| {
            use delete_records_request::*;
            let partitions = vec![DeleteRecordsPartition::default()];
            let topics = vec![DeleteRecordsTopic::default().with_name(topic()).with_partitions(partitions)];
            DeleteRecordsRequest::default().with_topics(topics)
        });
        check(|_| DescribeLogDirsRequest::default());
        check(|_| {
            use describe_producers_request::TopicRequest;
            let topic = TopicRequest::default().with_name(topic()).with_partition_indexes(vec![0]);
            DescribeProducersRequest::default().with_topics(vec![topic])
        });
        check(|_| {
            let topics = vec![describe_topic_partitions_request::TopicRequest::default().with_name(topic())];
            DescribeTopicPartitionsRequest::default().with_topics(topics)
        });
        check(|_| {
            let resource = describe_configs_request::DescribeConfigsResource::default();
            DescribeConfigsRequest::default().with_resources(vec![resource])
        });
        check(|_| {
            let resource = alter_configs_request::AlterConfigsResource::default();
            AlterConfigsRequest::default().with_resources(vec![resource])
        });
        check(|_| {
            let resource = incremental_alter_configs_request::AlterConfigsResource::default();
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        });
    }
}
