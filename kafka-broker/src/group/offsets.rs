//! Committed offsets of one group, who may write them, and which topics the group is subscribed to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::machine::{Group, GroupState};
use super::messages::{CommitRequest, GroupError, Reply};

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, −1 if unknown.
    pub leader_epoch: i32,
    /// The committer's note.
    pub metadata: String,
}

/// Topic to partition to position.
pub(super) type Offsets = BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>;

impl Group {
    /// The committed position of a partition.
    pub fn committed(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// All committed positions, by topic and partition.
    pub fn all_committed(&self) -> impl Iterator<Item = (&Arc<str>, i32, &CommittedOffset)> {
        self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, at)| (topic, *partition, at))
        })
    }

    /// Forgets the offsets of a deleted topic.
    pub fn forget_topic(&mut self, topic: &str) {
        self.offsets.remove(topic);
    }

    /// OffsetDelete: whether the group's state allows it at all.
    ///
    /// # Errors
    /// `NonEmptyGroup` for an active group of another kind than consumers, `GroupIdNotFound` for a deleted one.
    pub fn may_delete_offsets(&self) -> Result<(), GroupError> {
        match self.state() {
            GroupState::Dead => Err(GroupError::GroupIdNotFound),
            GroupState::Empty => Ok(()),
            _ if self.is_of_consumers() => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    /// OffsetDelete of one partition, after [`may_delete_offsets`](Self::may_delete_offsets). Deleting nothing is fine.
    ///
    /// # Errors
    /// `GroupSubscribedToTopic` while members read the topic.
    pub fn delete_offset(&mut self, topic: &str, partition: i32) -> Result<(), GroupError> {
        if self.is_subscribed_to(topic) {
            return Err(GroupError::GroupSubscribedToTopic);
        }
        if let Some(partitions) = self.offsets.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.offsets.remove(topic);
            }
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, commit: CommitRequest, now: Instant) -> Reply {
        Reply::Commit(self.try_commit(commit, now))
    }

    fn try_commit(
        &mut self,
        commit: CommitRequest,
        now: Instant,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.may_commit(&commit)?;
        // A commit proves that the member lives, except between JoinGroup and SyncGroup, where none should come.
        if matches!(self.state(), GroupState::Stable | GroupState::PreparingRebalance) {
            self.restart_session(&commit.member_id, now);
        }
        let limit = self.config.max_offset_metadata;
        Ok(commit
            .offsets
            .into_iter()
            .map(|entry| {
                if entry.metadata.len() > limit {
                    return Err(GroupError::OffsetMetadataTooLarge);
                }
                let at = CommittedOffset {
                    offset: entry.offset,
                    leader_epoch: entry.leader_epoch,
                    metadata: entry.metadata,
                };
                self.offsets.entry(entry.topic).or_default().insert(entry.partition, at);
                Ok(())
            })
            .collect())
    }

    fn may_commit(&self, commit: &CommitRequest) -> Result<(), GroupError> {
        match self.state() {
            GroupState::Dead => return Err(GroupError::CoordinatorNotAvailable),
            // From an administrator, or a consumer that assigns partitions itself.
            GroupState::Empty if commit.generation < 0 => return Ok(()),
            _ => {}
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&commit.member_id, commit.instance_id.as_deref())?;
        if commit.generation != self.generation() {
            return Err(GroupError::IllegalGeneration);
        }
        // The member has the new generation but not yet its assignment, so these offsets are of partitions it may have lost.
        if self.state() == GroupState::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            // A consumer group whose subscriptions cannot be read might be subscribed to anything.
            None => self.is_of_consumers() && self.state() != GroupState::Empty,
        }
    }
}

/// Topic names in a consumer's subscription, `None` if it cannot be read. All versions begin as version 0 does: version
/// (i16), number of topics (i32), names.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, name) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = name.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}
