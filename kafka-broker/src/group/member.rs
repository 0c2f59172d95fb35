//! One member of a group: what it said about itself, what it was assigned, and which of its requests is parked.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::messages::{JoinRequest, JoinedMember, MemberDescription, RequestId};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) protocol_type: String,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) assignment: Bytes,
    /// The parked JoinGroup.
    pub(super) joining: Option<RequestId>,
    /// The parked SyncGroup.
    pub(super) syncing: Option<RequestId>,
    /// It got its JoinGroup answer and has not sent SyncGroup for this generation.
    pub(super) owes_sync: bool,
    /// It has never had an answer to JoinGroup, so its client may be gone without anybody knowing its id.
    pub(super) is_new: bool,
    /// When silence removes it. `None` while a parked request speaks for it.
    pub(super) expires: Option<Instant>,
}

impl Member {
    pub(super) fn new(id: String, join: JoinRequest) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            protocol_type: join.protocol_type,
            protocols: join.protocols,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            owes_sync: false,
            is_new: true,
            expires: None,
        }
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// Whether a parked request stands for heartbeats. A new member's does not: nobody would miss it.
    pub(super) fn is_spoken_for(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn restart_session(&mut self, now: Instant) {
        self.expires = Some(now + self.session_timeout);
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn as_joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// `protocol` is given only when the group is stable: until then the metadata may change.
    pub(super) fn describe(&self, protocol: Option<&str>) -> MemberDescription {
        MemberDescription {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol.map(|protocol| self.metadata(protocol)).unwrap_or_default(),
            assignment: self.assignment.clone(),
        }
    }
}
