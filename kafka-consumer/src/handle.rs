//! Everything that an application does with a consumer besides reading: positions, pauses, commits, questions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::raw::FOREVER;
use kafka_client::{Client, IsolationLevel, Offset, OffsetAndMetadata, TopicPartition};
use tokio::time::Instant;

use crate::config::ConsumerConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::group::GroupHandle;
use crate::offsets;
use crate::shared::Shared;

/// A consumer's controls. Clones control the same consumer, from any task; once it is closed or dropped, they fail with
/// [`ErrorKind::Closed`] or do nothing.
#[derive(Clone)]
pub struct ConsumerHandle(Arc<Shared>);

/// A record's place: what [`ConsumerHandle::offsets_for_times`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// The record's offset.
    pub offset: i64,
    /// The record's timestamp in milliseconds since 1970.
    pub timestamp: i64,
    /// The leader epoch under which it was written, where the broker keeps one.
    pub leader_epoch: Option<i32>,
}

impl ConsumerHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The client this consumer was built on.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The settings in force.
    pub fn config(&self) -> &ConsumerConfig {
        &self.0.config
    }

    /// The partitions this consumer reads at the moment, in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.0.state().subscription.assignment()
    }

    /// This consumer's id and generation in its group; `None` without a group, or while it is no member.
    pub fn membership(&self) -> Option<(String, i32)> {
        let membership = self.0.group.as_ref()?.membership();
        (membership.generation >= 0).then(|| (membership.member_id.to_string(), membership.generation))
    }

    /// Moves the position: the next record of the partition is the first at or behind it.
    ///
    /// Nothing is committed by that at once, but the next automatic commit says the new position, as Java's does. With
    /// [`partitions`](crate::Consumer::partitions), what was handed out before can be acknowledged no more.
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`].
    pub fn seek(&self, partition: &TopicPartition, to: impl Into<Offset>) -> Result<()> {
        let to = to.into();
        if let Offset::At(offset) = to
            && offset < 0
        {
            let remedy = "give an offset from 0 on, or Offset::Earliest or Offset::Latest";
            return Err(kafka_client::Error::config("seek", offset, remedy).into());
        }
        let mut state = self.0.state();
        state.subscription.seek(partition, to)?;
        let claim = state.subscription.claim(partition);
        state.restart_acks(claim);
        state.wake_all();
        drop(state);
        self.0.fetch.notify_one();
        Ok(())
    }

    /// Hands out nothing of these partitions until [`resume`](Self::resume). What was fetched of them is kept.
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`], with the partitions before it paused.
    pub fn pause<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        let mut state = self.0.state();
        partitions.into_iter().try_for_each(|partition| state.subscription.pause(partition))
    }

    /// Goes on with these partitions.
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`], with the partitions before it resumed.
    pub fn resume<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        let mut state = self.0.state();
        let result = partitions.into_iter().try_for_each(|partition| state.subscription.resume(partition));
        state.wake_all();
        drop(state);
        self.0.fetch.notify_one();
        result
    }

    /// The partitions that are paused, in order.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.0.state().subscription.paused()
    }

    /// The offset of the next record to be handed out; `None` while it is being looked up.
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`].
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        self.0.state().subscription.position(partition)
    }

    /// Records between the position and the end of the log, as far as this consumer's isolation level sees it; `None`
    /// before the first fetch. As of the last fetch.
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`].
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let committed_only = self.0.config.isolation == IsolationLevel::ReadCommitted;
        self.0.state().subscription.lag(partition, committed_only)
    }

    /// Bytes that were fetched and not handed out yet.
    pub fn buffered_bytes(&self) -> usize {
        self.0.state().subscription.buffered()
    }

    /// Commits everything that was handed out; with partition streams, everything that was acknowledged.
    ///
    /// # Errors
    /// [`ErrorKind::NoGroup`]; [`ErrorKind::NotAMember`] if the partitions have other owners by now;
    /// [`ErrorKind::RebalanceInProgress`]; [`ErrorKind::CommitRefused`]; a time-out after `default.api.timeout.ms`.
    ///
    /// # Cancel safety
    /// The commit goes on when the future is dropped; a later one is sent after it.
    pub async fn commit(&self) -> Result<()> {
        let offsets = {
            let state = self.0.state();
            if state.by_acks { state.subscription.acked(None) } else { state.subscription.positions() }
        };
        self.commit_offsets(offsets).await
    }

    /// Commits these offsets: of each partition the one of the next record to read, so one more than the last that the
    /// application is done with.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// As [`commit`](Self::commit).
    pub async fn commit_offsets<O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<()> {
        let offsets: BTreeMap<_, _> =
            offsets.into_iter().map(|(partition, offset)| (partition, offset.into())).collect();
        for (partition, offset) in &offsets {
            if offset.offset < 0 {
                let what = format!("the offset to commit of {partition}");
                return Err(
                    kafka_client::Error::config(what, offset.offset, "give an offset from 0 on").into()
                );
            }
        }
        self.group()?.commit(offsets, self.deadline()).await
    }

    /// What the group has committed for these partitions; those without an offset are left out.
    ///
    /// # Errors
    /// [`ErrorKind::NoGroup`], a partition that is refused, a time-out after `default.api.timeout.ms`.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>> {
        let partitions: Vec<_> = partitions.into_iter().collect();
        let committed = self.group()?.committed(&partitions, self.deadline()).await?;
        Ok(committed.into_iter().filter_map(|(partition, offset)| Some((partition, offset?))).collect())
    }

    /// The first offset of each of these partitions that the broker still has. They need not be assigned.
    ///
    /// # Errors
    /// A partition that does not exist or is refused, a time-out after `default.api.timeout.ms`.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn beginning_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.offsets_of(partitions, Offset::Earliest).await
    }

    /// The end of each of these partitions: the offset that the next record gets, or with
    /// [`ReadCommitted`](IsolationLevel::ReadCommitted) the first open transaction's. They need not be assigned.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn end_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.offsets_of(partitions, Offset::Latest).await
    }

    /// The first record of each partition whose timestamp, in milliseconds since 1970, is the given one or later; a
    /// partition without such a record is left out.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndTimestamp>> {
        let queries = times.into_iter().map(|(partition, time)| (partition, Offset::Timestamp(time)));
        let found = offsets::list_everywhere(
            &self.0.client,
            self.0.config.isolation,
            queries.collect(),
            self.deadline(),
        );
        let found = found.await?.into_iter().filter(|(_, found)| found.offset >= 0);
        Ok(found
            .map(|(partition, found)| {
                let offsets::Found { offset, timestamp, leader_epoch } = found;
                (partition, OffsetAndTimestamp { offset, timestamp, leader_epoch })
            })
            .collect())
    }

    async fn offsets_of(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        place: Offset,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let queries = partitions.into_iter().map(|partition| (partition, place));
        let found = offsets::list_everywhere(
            &self.0.client,
            self.0.config.isolation,
            queries.collect(),
            self.deadline(),
        );
        Ok(found.await?.into_iter().map(|(partition, found)| (partition, found.offset)).collect())
    }

    fn group(&self) -> Result<&GroupHandle> {
        if self.0.state().closed {
            return Err(ErrorKind::Closed.into());
        }
        self.0.group.as_ref().ok_or_else(|| Error::new(ErrorKind::NoGroup))
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline_in(self.0.client.config().default_api_timeout)
    }

    pub(crate) fn deadline_in(&self, time: Duration) -> Instant {
        Instant::now() + time.min(FOREVER)
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle")
            .field("group", &self.0.config.group_id)
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}
