//! Carries a member's requests to its coordinator: how they look on the wire, and which connection they take.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::raw::{Call, Lane, Owner, Route};
use kafka_client::types::TopicPartition;
use kafka_client::{Client, Error};
use kafka_wire::api::{Api, VersionRange};
use kafka_wire::consumer_protocol::PROTOCOL_TYPE;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use kafka_wire::messages::join_group_response::JoinGroupResponse;
use kafka_wire::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use kafka_wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::messages::offset_commit_response::OffsetCommitResponse;
use kafka_wire::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use kafka_wire::messages::{GroupId, HeartbeatRequest, StrBytes, TopicName, Uuid};
use tokio::time::Instant;

use super::config::GroupConfig;
use super::messages::{
    Answer, CommitRequest, JoinRejected, JoinRequest, Joined, JoinedMember, Request, SyncRequest, Synced,
    join_timeout,
};

/// From these versions on a request can name a static member, what it leads to, why it is made.
const JOIN_KNOWS_INSTANCES: i16 = 5;
const JOIN_KNOWS_REASONS: i16 = 8;
const LEAVE_KNOWS_INSTANCES: i16 = 3;
const LEAVE_KNOWS_REASONS: i16 = 5;
/// From this version on OffsetCommit and OffsetFetch name topics by id.
pub(super) const TOPIC_IDS: i16 = 10;

/// Where a membership's requests go.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    pub(super) client: Client,
    pub(super) owner: Owner,
    pub(super) config: Arc<GroupConfig>,
}

impl Coordinator {
    /// Makes one attempt at a request.
    pub(super) async fn ask(self, request: Request) -> Answer {
        let answer = match request {
            Request::Join(join) => self.join(join).await,
            Request::Sync(sync) => self.sync(sync).await,
            Request::Heartbeat(heartbeat) => {
                let make = |version: i16| {
                    let request = HeartbeatRequest::default()
                        .with_group_id(self.group())
                        .with_member_id(text(&heartbeat.member_id))
                        .with_generation_id(heartbeat.generation);
                    Ok(request.with_group_instance_id(self.instance_id().filter(|_| version >= 3)))
                };
                // Unanswered for a whole session, it ends the connection, which then must be dead.
                let timeout = self.request_timeout().min(self.config.session_timeout);
                let call = self.bounded(self.call(), timeout);
                let answer = call.send_checked(make, |response| elsewhere(response.error_code)).await;
                answer.map(|answer| Answer::Heartbeat(ErrorCode(answer.response.error_code).check()))
            }
            Request::Leave(leave) => {
                let make = |version| Ok(self.leave_request(&leave.member_id, leave.reason, version));
                // Not on the group's own connection: a JoinGroup may be parked there, and hold this up with it.
                let call = self.bounded(self.client.request(self.route()), self.request_timeout());
                call.send_checked(make, |response| elsewhere(response.error_code)).await.map(|answer| {
                    let of_member = answer.response.members.first().map_or(0, |member| member.error_code);
                    let code = ErrorCode(answer.response.error_code);
                    Answer::Leave(code.check().and_then(|()| ErrorCode(of_member).check()))
                })
            }
            Request::Commit(commit) => self.commit(commit).await,
        };
        answer.unwrap_or_else(Answer::Failed)
    }

    /// Forgets who the coordinator is: it has been silent for too long.
    pub(super) fn rediscover(&self) {
        self.client.forget(&self.route(), None);
    }

    async fn join(&self, join: JoinRequest) -> Result<Answer, Error> {
        let timeout = join_timeout(self.request_timeout(), self.config.max_poll_interval);
        let mut call = self.bounded(self.call(), timeout);
        if self.config.instance_id.is_some() {
            let versions = VersionRange { min: JOIN_KNOWS_INSTANCES, ..Api::JoinGroup.versions() };
            call = call.versions(versions, "static membership (group.instance.id)");
        }
        let make = |version| Ok(self.join_request(&join, version));
        let answer = call.send_checked(make, |response| elsewhere(response.error_code)).await?;
        Ok(Answer::Join(joined(answer.response)))
    }

    fn join_request(&self, join: &JoinRequest, version: i16) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(Arc<str>, bytes::Bytes)| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
        };
        JoinGroupRequest::default()
            .with_group_id(self.group())
            .with_session_timeout_ms(milliseconds(self.config.session_timeout))
            .with_rebalance_timeout_ms(milliseconds(self.config.max_poll_interval))
            .with_member_id(text(&join.member_id))
            .with_group_instance_id(self.instance_id())
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(join.protocols.iter().map(protocol).collect())
            .with_reason((version >= JOIN_KNOWS_REASONS).then(|| StrBytes::from_static_str(join.reason)))
    }

    async fn sync(&self, sync: SyncRequest) -> Result<Answer, Error> {
        let make = |version| {
            let assignment = |(member_id, bytes): &(Arc<str>, bytes::Bytes)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(text(member_id))
                    .with_assignment(bytes.clone())
            };
            let knows_protocols = version >= 5;
            Ok(SyncGroupRequest::default()
                .with_group_id(self.group())
                .with_generation_id(sync.generation)
                .with_member_id(text(&sync.member_id))
                .with_group_instance_id(self.instance_id().filter(|_| version >= 3))
                .with_protocol_type(knows_protocols.then(|| StrBytes::from_static_str(PROTOCOL_TYPE)))
                .with_protocol_name(knows_protocols.then(|| text(&sync.protocol)))
                .with_assignments(sync.assignments.iter().map(assignment).collect()))
        };
        let call = self.call().send_checked(make, |response| elsewhere(response.error_code));
        let response = call.await?.response;
        let synced = Synced {
            protocol_type: response.protocol_type.map(|name| name.to_string()),
            protocol: response.protocol_name.map(|name| name.to_string()),
            assignment: response.assignment,
        };
        Ok(Answer::Sync(ErrorCode(response.error_code).check().map(|()| synced)))
    }

    fn leave_request(&self, member_id: &Arc<str>, reason: &'static str, version: i16) -> LeaveGroupRequest {
        let request = LeaveGroupRequest::default().with_group_id(self.group());
        if version < LEAVE_KNOWS_INSTANCES {
            return request.with_member_id(text(member_id));
        }
        let reason = (version >= LEAVE_KNOWS_REASONS).then(|| StrBytes::from_static_str(reason));
        request
            .with_members(vec![MemberIdentity::default().with_member_id(text(member_id)).with_reason(reason)])
    }

    async fn commit(&self, commit: CommitRequest) -> Result<Answer, Error> {
        let partitions: Vec<TopicPartition> = commit.offsets.iter().map(|(of, _)| of.clone()).collect();
        let ids = TopicIds::of(&self.client, &partitions);
        let make = |version| Ok(self.commit_request(&commit, &ids, version));
        let call = self.call().versions(ids.versions(Api::OffsetCommit), "committing offsets");
        let code = |response: &OffsetCommitResponse| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .map(|of| elsewhere(of.error_code))
                .find(|code| !code.is_ok())
                .unwrap_or(ErrorCode::NONE)
        };
        let answer = call.send_checked(make, code).await?;
        let mut codes = Vec::with_capacity(partitions.len());
        for topic in answer.response.topics {
            let Some(name) = ids.named(&topic.name).or_else(|| ids.identified(topic.topic_id)) else {
                continue;
            };
            codes.extend(topic.partitions.into_iter().map(|of| {
                (TopicPartition::new(Arc::clone(&name), of.partition_index), ErrorCode(of.error_code))
            }));
        }
        Ok(Answer::Commit(codes))
    }

    fn commit_request(&self, commit: &CommitRequest, ids: &TopicIds, version: i16) -> OffsetCommitRequest {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        let mut last: Option<&Arc<str>> = None;
        // By topic, as they come from a sorted map.
        for (of, offset) in &commit.offsets {
            if last != Some(&of.topic) {
                let (name, topic_id) = ids.wire(&of.topic, version);
                topics.push(OffsetCommitRequestTopic::default().with_name(name).with_topic_id(topic_id));
                last = Some(&of.topic);
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(
                    OffsetCommitRequestPartition::default()
                        .with_partition_index(of.partition)
                        .with_committed_offset(offset.offset)
                        .with_committed_leader_epoch(offset.leader_epoch.unwrap_or(-1))
                        .with_committed_metadata(Some(StrBytes::from_string(offset.metadata.clone()))),
                );
            }
        }
        OffsetCommitRequest::default()
            .with_group_id(self.group())
            .with_generation_id_or_member_epoch(commit.generation)
            .with_member_id(text(&commit.member_id))
            .with_group_instance_id(self.instance_id().filter(|_| version >= 7))
            .with_topics(topics)
    }

    fn call(&self) -> Call<'_> {
        let call = self.client.request(self.route()).on(&self.owner, Lane::Group);
        self.bounded(call, self.request_timeout())
    }

    /// One attempt: the membership decides what follows a failure. It may have to connect first.
    fn bounded<'a>(&'a self, call: Call<'a>, timeout: Duration) -> Call<'a> {
        let connecting = self.client.config().connection_setup_timeout_max;
        call.once().timeout(timeout).deadline(Instant::now() + timeout + connecting)
    }

    fn route(&self) -> Route {
        Route::Group(Arc::clone(&self.config.group))
    }

    fn request_timeout(&self) -> Duration {
        self.client.config().request_timeout
    }

    fn group(&self) -> GroupId {
        GroupId(text(&self.config.group))
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.config.instance_id.as_ref().map(text)
    }
}

/// The ids of the topics in a request, so that it can name them in versions that know no names.
pub(super) struct TopicIds {
    by_name: HashMap<Arc<str>, Option<Uuid>>,
}

impl TopicIds {
    pub(super) fn of(client: &Client, partitions: &[TopicPartition]) -> Self {
        let metadata = client.metadata();
        let mut by_name = HashMap::new();
        for TopicPartition { topic, .. } in partitions {
            if !by_name.contains_key(topic) {
                let id = metadata.topic(topic).and_then(|topic| topic.id());
                by_name.insert(Arc::clone(topic), id.map(|id| Uuid::from_bytes(id.0)));
            }
        }
        Self { by_name }
    }

    /// The versions that can be spoken: those with ids only if all of them are known.
    pub(super) fn versions(&self, api: Api) -> VersionRange {
        let VersionRange { min, max } = api.versions();
        let all_known = self.by_name.values().all(Option::is_some);
        VersionRange { min, max: if all_known { max } else { max.min(TOPIC_IDS - 1) } }
    }

    /// A topic's name and id, of which a version uses one.
    pub(super) fn wire(&self, topic: &Arc<str>, version: i16) -> (TopicName, Uuid) {
        if version >= TOPIC_IDS {
            let id = self.by_name.get(topic).copied().flatten();
            return (TopicName::default(), id.unwrap_or_default());
        }
        (TopicName(text(topic)), Uuid::nil())
    }

    /// The topic of this name, if it was asked about.
    pub(super) fn named(&self, name: &str) -> Option<Arc<str>> {
        self.by_name.get_key_value(name).map(|(topic, _)| Arc::clone(topic))
    }

    /// The topic with this id, if it was asked about. Versions without ids leave it nil.
    pub(super) fn identified(&self, id: Uuid) -> Option<Arc<str>> {
        self.by_name.iter().find(|(_, known)| **known == Some(id)).map(|(topic, _)| Arc::clone(topic))
    }
}

fn joined(response: JoinGroupResponse) -> Result<Joined, JoinRejected> {
    let member_id = Arc::from(response.member_id.as_str());
    if let Err(code) = ErrorCode(response.error_code).check() {
        return Err(JoinRejected { code, member_id });
    }
    let member = |member: kafka_wire::messages::join_group_response::JoinGroupResponseMember| JoinedMember {
        id: member.member_id.as_str().into(),
        instance_id: member.group_instance_id.map(|id| id.as_str().into()),
        metadata: member.metadata,
    };
    Ok(Joined {
        member_id,
        generation: response.generation_id,
        protocol_type: response.protocol_type.map(|name| name.to_string()),
        protocol: response.protocol_name.map(|name| name.to_string()),
        leader: response.leader.to_string(),
        members: response.members.into_iter().map(member).collect(),
        skip_assignment: response.skip_assignment,
    })
}

/// The code, if it says that another broker is the coordinator, or none yet: it is looked for anew, and the attempt
/// counts as failed.
fn elsewhere(code: i16) -> ErrorCode {
    match ErrorCode(code) {
        code @ (ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) => code,
        _ => ErrorCode::NONE,
    }
}

pub(super) fn text(text: &Arc<str>) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
