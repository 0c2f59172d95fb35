//! Listing, describing and deleting groups.

use std::collections::HashMap;

use futures_util::future::join_all;
use kafka_client::raw::Route;
use kafka_client::raw::wire::consumer_protocol::Assignment;
use kafka_client::raw::wire::messages::list_groups_response::ListedGroup;
use kafka_client::raw::wire::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest,
    ListGroupsResponse, StrBytes, consumer_group_describe_response, describe_groups_response,
};
use kafka_client::{Api, Error, ErrorCode, ErrorKind, NodeId, Result, TopicPartition, VersionRange};
use tokio::time::Instant;

use crate::admin::{Admin, Answers, Outcomes, outcome, place_may_change};
use crate::topics::text;

/// Which groups to list; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct GroupFilter {
    states: Vec<String>,
    kinds: Vec<GroupKind>,
}

impl GroupFilter {
    /// All groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also groups in this state, such as `Stable` or `Empty`; without any, groups in all. Needs Kafka 2.6.
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.states.push(state.into());
        self
    }

    /// Also groups of this kind; without any, groups of all. Needs Kafka 3.8.
    pub fn kind(mut self, kind: GroupKind) -> Self {
        self.kinds.push(kind);
        self
    }

    fn needs(&self) -> (i16, &'static str) {
        match (self.kinds.is_empty(), self.states.is_empty()) {
            (false, _) => (5, "listing groups by kind"),
            (true, false) => (4, "listing groups by state"),
            (true, true) => (0, "listing groups"),
        }
    }
}

/// Which protocol a group speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupKind {
    /// The one in which members assign partitions.
    Classic,
    /// The one in which the coordinator does (KIP-848).
    Consumer,
    /// Another one, by the broker's name for it.
    Other(String),
}

impl GroupKind {
    fn name(&self) -> &str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Other(name) => name,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "" => None,
            name if name.eq_ignore_ascii_case("classic") => Some(Self::Classic),
            name if name.eq_ignore_ascii_case("consumer") => Some(Self::Consumer),
            name => Some(Self::Other(name.to_owned())),
        }
    }
}

/// The groups of a cluster.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GroupListings {
    /// The groups that were listed, by id.
    pub groups: Vec<GroupListing>,
    /// The brokers whose groups are missing, and why.
    pub failures: Vec<(NodeId, Error)>,
}

/// A group in a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// What its members are, such as `consumer`; empty if it only has offsets.
    pub protocol_type: String,
    /// Its state, such as `Stable`; `None` from brokers before Kafka 2.6.
    pub state: Option<String>,
    /// The protocol it speaks; `None` from brokers before Kafka 3.8.
    pub kind: Option<GroupKind>,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// The protocol it speaks.
    pub kind: GroupKind,
    /// Its state, such as `Stable`, `Empty` or `Dead`, which is that of a group there is not.
    pub state: String,
    /// What its members are, such as `consumer`; empty if it only has offsets.
    pub protocol_type: String,
    /// How partitions are assigned, such as `range`; empty while nothing is.
    pub assignor: String,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// The broker that coordinates it.
    pub coordinator: NodeId,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// The id that the coordinator gave it.
    pub id: String,
    /// Its own name, if it is a static member (`group.instance.id`).
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// The address it connects from.
    pub host: String,
    /// The partitions assigned to it; empty also if the group is not one of consumers.
    pub assignment: Vec<TopicPartition>,
}

impl Admin {
    /// Lists the groups of all brokers.
    ///
    /// # Errors
    /// No broker is known. A broker that does not answer is among the listing's failures.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn list_groups(&self, filter: GroupFilter) -> Result<GroupListings> {
        let deadline = self.deadline();
        let metadata = self.client().refresher().ready(deadline).await?;
        let (first, feature) = filter.needs();
        let versions = VersionRange { min: first, ..Api::ListGroups.versions() };
        let request = ListGroupsRequest::default()
            .with_states_filter(filter.states.iter().map(|state| text(state)).collect())
            .with_types_filter(filter.kinds.iter().map(|kind| text(kind.name())).collect());
        let request = &request;
        let asked = join_all(metadata.brokers().iter().map(|broker| async move {
            let call =
                self.client().request(Route::Node(broker.id)).deadline(deadline).versions(versions, feature);
            let code = |answer: &ListGroupsResponse| ErrorCode(answer.error_code);
            (broker.id, call.send_checked(|_| Ok(request.clone()), code).await)
        }))
        .await;
        let mut listings = GroupListings::default();
        for (node, outcome) in asked {
            match outcome {
                Ok(answer) => {
                    listings.groups.extend(answer.response.groups.into_iter().map(GroupListing::from_wire));
                }
                Err(error) => listings.failures.push((node, error)),
            }
        }
        listings.groups.sort_by(|a, b| a.id.cmp(&b.id));
        // One that moved between two answers was listed twice.
        listings.groups.dedup_by(|a, b| a.id == b.id);
        Ok(listings)
    }

    /// Describes groups, of whichever protocol. As in Kafka, one there is not is `Dead` or fails with
    /// `GROUP_ID_NOT_FOUND`, depending on the broker's version.
    ///
    /// # Errors
    /// What is wrong with one group is in its result.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_groups<S: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = S>,
    ) -> Result<Outcomes<String, GroupDescription>> {
        let groups = groups.into_iter().map(Into::into).collect();
        self.each(Api::DescribeGroups, groups, place_may_change, move |open, deadline| async move {
            let ask = |node, groups: Vec<String>| async move {
                self.ask_descriptions(node, &groups, deadline).await
            };
            Ok(self.fan_out(open, deadline, |group| coordinator(group), ask).await)
        })
        .await
    }

    /// Asks for groups of the newer protocol, and then for those that are none.
    async fn ask_descriptions(
        &self,
        node: NodeId,
        groups: &[String],
        deadline: Instant,
    ) -> Result<Answers<String, GroupDescription>> {
        let mut answers = match self.ask_consumer_groups(node, groups, deadline).await {
            Ok(answers) => answers,
            Err(error) if matches!(error.kind(), ErrorKind::UnsupportedVersion { .. }) => HashMap::new(),
            Err(error) => return Err(error),
        };
        let classic: Vec<String> =
            groups.iter().filter(|group| !answers.contains_key(*group)).cloned().collect();
        if !classic.is_empty() {
            answers.extend(self.ask_classic_groups(node, &classic, deadline).await?);
        }
        Ok(answers)
    }

    async fn ask_consumer_groups(
        &self,
        node: NodeId,
        groups: &[String],
        deadline: Instant,
    ) -> Result<Answers<String, GroupDescription>> {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(group_ids(groups));
        let call = self.client().request(Route::Node(node)).once().deadline(deadline);
        let answer = call.send(|_| Ok(request.clone())).await?;
        let described = answer.response.groups.into_iter().filter_map(|group| {
            // The broker has no such group of this protocol; it may be a classic one.
            if matches!(
                ErrorCode(group.error_code),
                ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION
            ) {
                return None;
            }
            let message = group.error_message.as_ref();
            let outcome = outcome(group.error_code, Api::ConsumerGroupDescribe, answer.node, message);
            let id = group.group_id.to_string();
            Some((id, outcome.map(|()| GroupDescription::from_consumer(group, answer.node))))
        });
        Ok(described.collect())
    }

    async fn ask_classic_groups(
        &self,
        node: NodeId,
        groups: &[String],
        deadline: Instant,
    ) -> Result<Answers<String, GroupDescription>> {
        let request = DescribeGroupsRequest::default().with_groups(group_ids(groups));
        let call = self.client().request(Route::Node(node)).once().deadline(deadline);
        let answer = call.send(|_| Ok(request.clone())).await?;
        let described = answer.response.groups.into_iter().map(|group| {
            let message = group.error_message.as_ref();
            let outcome = outcome(group.error_code, Api::DescribeGroups, answer.node, message);
            let id = group.group_id.to_string();
            (id, outcome.map(|()| GroupDescription::from_classic(group, answer.node)))
        });
        Ok(described.collect())
    }

    /// Deletes groups that have no members, and their offsets.
    ///
    /// # Errors
    /// What is wrong with one group is in its result, such as `NON_EMPTY_GROUP`; after an answer was lost, that may be
    /// `GROUP_ID_NOT_FOUND` for one that this call deleted.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn delete_groups<S: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = S>,
    ) -> Result<Outcomes<String, ()>> {
        let groups = groups.into_iter().map(Into::into).collect();
        self.each(Api::DeleteGroups, groups, place_may_change, move |open, deadline| async move {
            let ask = |node, groups: Vec<String>| async move {
                let request = DeleteGroupsRequest::default().with_groups_names(group_ids(&groups));
                let call = self.client().request(Route::Node(node)).once().deadline(deadline);
                let answer = call.send(|_| Ok(request.clone())).await?;
                let deleted = answer.response.results.into_iter().map(|group| {
                    (
                        group.group_id.to_string(),
                        outcome(group.error_code, Api::DeleteGroups, answer.node, None),
                    )
                });
                Ok(deleted.collect())
            };
            Ok(self.fan_out(open, deadline, |group| coordinator(group), ask).await)
        })
        .await
    }
}

fn coordinator(group: &str) -> Route {
    Route::Group(group.into())
}

fn group_ids(groups: &[String]) -> Vec<GroupId> {
    groups.iter().map(|group| GroupId(text(group))).collect()
}

fn optional(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

impl GroupListing {
    fn from_wire(group: ListedGroup) -> Self {
        Self {
            id: group.group_id.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: Some(group.group_state.to_string()).filter(|state| !state.is_empty()),
            kind: GroupKind::from_name(&group.group_type),
        }
    }
}

impl GroupDescription {
    fn from_classic(group: describe_groups_response::DescribedGroup, coordinator: NodeId) -> Self {
        let is_consumer = group.protocol_type.as_str() == "consumer";
        let member = |member: describe_groups_response::DescribedGroupMember| MemberDescription {
            id: member.member_id.to_string(),
            instance_id: optional(member.group_instance_id),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assignment: if is_consumer { assigned(&member.member_assignment) } else { Vec::new() },
        };
        Self {
            id: group.group_id.to_string(),
            kind: GroupKind::Classic,
            state: group.group_state.to_string(),
            protocol_type: group.protocol_type.to_string(),
            assignor: group.protocol_data.to_string(),
            members: group.members.into_iter().map(member).collect(),
            coordinator,
        }
    }

    fn from_consumer(group: consumer_group_describe_response::DescribedGroup, coordinator: NodeId) -> Self {
        let member = |member: consumer_group_describe_response::Member| {
            let topics = member.assignment.topic_partitions.into_iter();
            let assignment = topics.flat_map(|topic| {
                let name: std::sync::Arc<str> = topic.topic_name.as_str().into();
                topic.partitions.into_iter().map(move |id| TopicPartition::new(name.clone(), id))
            });
            MemberDescription {
                id: member.member_id.to_string(),
                instance_id: optional(member.instance_id),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
                assignment: assignment.collect(),
            }
        };
        Self {
            id: group.group_id.to_string(),
            kind: GroupKind::Consumer,
            state: group.group_state.to_string(),
            protocol_type: "consumer".to_owned(),
            assignor: group.assignor_name.to_string(),
            members: group.members.into_iter().map(member).collect(),
            coordinator,
        }
    }
}

/// The partitions that a classic member was assigned. Another member wrote the bytes; if they make no sense, nothing
/// can be said of them.
fn assigned(bytes: &[u8]) -> Vec<TopicPartition> {
    let Ok(assignment) = Assignment::parse(bytes) else { return Vec::new() };
    let topics = assignment.partitions.iter();
    topics
        .flat_map(|(name, ids)| {
            let name: std::sync::Arc<str> = name.into();
            ids.map(move |id| TopicPartition::new(name.clone(), id))
        })
        .collect()
}
