//! What the cluster's answers change: look-ups, validations, and fetches with their errors.

use kafka_client::{NodeId, Offset, OffsetAndMetadata, TopicId};
use kafka_wire::error_code::ErrorCode;
use tokio::time::{Duration, Instant};

use super::partition::{Partition, Place, State};
use super::plan::REFUSED_BACKOFF;
use super::{Settings, Subscription, Ticket};
use crate::buffer::Run;
use crate::error::{Error, ErrorKind};
use crate::offsets::is_passing;

/// How long a broker's advice to read from a closer replica holds (Java: `metadata.max.age.ms`).
pub(super) const PREFERRED_REPLICA_AGE: Duration = Duration::from_secs(300);

/// Whether an answer to a fetch may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Yes,
    /// The partition has moved on since it was asked for.
    Stale,
    /// It is of another topic than the position is: the one of the same name was deleted meanwhile.
    OtherTopic,
}

impl Subscription {
    /// The group's committed offset, `None` if it has none.
    pub(crate) fn committed(&mut self, ticket: Ticket, offset: Option<OffsetAndMetadata>) {
        let start_at = self.settings.start_at;
        let Some(partition) = self.answered(ticket) else { return };
        match offset {
            Some(committed) if committed.offset >= 0 => {
                partition.begin_at(committed.offset, committed.leader_epoch);
                partition.told = Some(committed.offset);
            }
            _ => partition.start(start_at),
        }
        self.list_if_ready(ticket.slot);
    }

    /// The offset of the place that was looked up; negative if no record is as late as the timestamp asked for.
    pub(crate) fn place_found(&mut self, ticket: Ticket, offset: i64, now: Instant) {
        let backoff = self.settings.retry_backoff;
        let Some(partition) = self.answered(ticket) else { return };
        let State::NeedsPlace(place) = partition.state else { return };
        match place {
            // A fresh answer of the current leader needs no validation, so the epoch is of no interest.
            Place::Begin(_) if offset >= 0 => partition.begin_at(offset, None),
            Place::Reset(_) if offset >= 0 => partition.stand_at(offset, None),
            Place::Begin(Offset::Timestamp(_)) | Place::Reset(Offset::Timestamp(_)) => {
                partition.state = State::NeedsPlace(place.or_latest());
            }
            // No log has such an end.
            _ => partition.retry_at = Some(now + backoff),
        }
    }

    /// Both ends of the log, asked for because a broker called the end of what is buffered out of range.
    pub(crate) fn ends_found(&mut self, ticket: Ticket, earliest: i64, latest: i64, now: Instant) {
        let Settings { out_of_range, retry_backoff, .. } = self.settings;
        let Some(partition) = self.answered(ticket).filter(|p| p.state == State::NeedsEnds) else { return };
        let (position, fetch_offset) = (partition.position, partition.fetch_offset);
        if earliest < 0 || latest < earliest {
            // No log has such ends.
            partition.retry_at = Some(now + retry_backoff);
        } else if (earliest..=latest).contains(&fetch_offset) {
            // The broker that refused was behind or deposed: the position was good all the time.
            partition.state = State::Fetching;
            partition.retry_at = Some(now + retry_backoff);
        } else if (earliest..=latest).contains(&position) {
            // Only what is buffered is gone; read again from the position itself.
            self.renew(ticket.slot);
            if let Some(partition) = self.slots[ticket.slot].as_mut() {
                partition.state = State::Fetching;
                partition.retry_at = Some(now + retry_backoff);
            }
        } else if position < fetch_offset {
            // Deleted behind our back, but we have it.
            partition.state = State::Draining;
        } else if let Some(to) = out_of_range {
            tracing::warn!(partition = %partition.name, position, earliest, latest, ?to, "position out of range");
            match to {
                Offset::Earliest => partition.stand_at(earliest, None),
                Offset::Latest => partition.stand_at(latest, None),
                Offset::At(offset) => partition.stand_at(offset.clamp(earliest, latest), None),
                place => partition.state = State::NeedsPlace(Place::Reset(place)),
            }
            self.renew(ticket.slot);
        } else {
            let name = partition.name.clone();
            partition.fail(ErrorKind::OutOfRange { partition: name, position, earliest, latest });
            self.list_if_ready(ticket.slot);
        }
    }

    /// Where the leader's log ends for the epoch of the last record read; `None` where it does not know the epoch.
    pub(crate) fn validated(&mut self, ticket: Ticket, end: Option<(i32, i64)>) {
        let Some(partition) = self.answered(ticket).filter(|p| p.state == State::NeedsValidation) else {
            return;
        };
        match end {
            Some((_, end)) if end >= partition.fetch_offset => partition.state = State::Fetching,
            // Only what is buffered may be gone; look again from the position itself.
            _ if partition.fetch_offset > partition.position => self.renew(ticket.slot),
            _ => self.truncated(ticket, end),
        }
    }

    /// What was read is not in the log any more; it ends there, for the last epoch that both know.
    fn truncated(&mut self, ticket: Ticket, end: Option<(i32, i64)>) {
        let out_of_range = self.settings.out_of_range;
        let Some(partition) = self.at(ticket) else { return };
        let position = partition.position;
        match (out_of_range, end) {
            (Some(_), Some((epoch, end))) => {
                tracing::warn!(partition = %partition.name, position, end, "log truncated; going back to its end");
                partition.stand_at(end, Some(epoch));
                // What is written there now was not read yet.
                partition.acked =
                    partition.acked.map(|acked| if acked.0 > end { (end, Some(epoch)) } else { acked });
                partition.handed = None;
                self.renew(ticket.slot);
            }
            (Some(to), None) => {
                tracing::warn!(partition = %partition.name, position, ?to, "what was read is not in the log any more");
                partition.state = State::NeedsPlace(Place::Reset(to));
                self.renew(ticket.slot);
            }
            (None, end) => {
                let (partition_name, diverged_at) = (partition.name.clone(), end.map(|(_, end)| end));
                partition.fail(ErrorKind::Truncated { partition: partition_name, position, diverged_at });
                self.list_if_ready(ticket.slot);
            }
        }
    }

    /// The broker cannot validate positions; go on as before KIP-320.
    pub(crate) fn validation_unsupported(&mut self, ticket: Ticket) {
        if let Some(partition) = self.answered(ticket)
            && partition.state == State::NeedsValidation
        {
            partition.state = State::Fetching;
        }
    }

    /// A lookup did not come through; it is asked again. Never a reason to move the position.
    pub(crate) fn lookup_failed(&mut self, ticket: Ticket, now: Instant) {
        let backoff = self.settings.retry_backoff;
        if let Some(partition) = self.answered(ticket) {
            partition.retry_at = Some(now + backoff);
        }
    }

    /// A lookup was refused for good; the caller is told, and it is asked again after a second.
    pub(crate) fn lookup_refused(&mut self, ticket: Ticket, error: Error, now: Instant) {
        if self.answered(ticket).is_some() {
            self.refuse(ticket, error, now);
        }
    }

    /// Tells the caller what keeps the partition from being read, now and every second.
    pub(crate) fn refuse(&mut self, ticket: Ticket, error: Error, now: Instant) {
        if let Some(partition) = self.at(ticket) {
            partition.error = Some(error);
            partition.retry_at = Some(now + REFUSED_BACKOFF);
            self.list_if_ready(ticket.slot);
        }
    }

    /// Whether an answer to a fetch from `offset` of the topic with this id still fits.
    pub(crate) fn fits(&self, ticket: Ticket, offset: i64, topic_id: TopicId) -> Fit {
        let partition = self.slots.get(ticket.slot).and_then(Option::as_ref);
        let fetching = |p: &&Partition| {
            p.version == ticket.version
                && p.state == State::Fetching
                && !p.revoking
                && p.fetch_offset == offset
        };
        match partition.filter(fetching) {
            None => Fit::Stale,
            Some(p) if !p.topic_id.is_zero() && !topic_id.is_zero() && p.topic_id != topic_id => {
                Fit::OtherTopic
            }
            Some(_) => Fit::Yes,
        }
    }

    /// The leader reads from another topic than the caller did: nothing of the position holds in it. Returns whether
    /// the new one is read from now on.
    pub(crate) fn created_anew(&mut self, ticket: Ticket) -> bool {
        let Some(partition) = self.at(ticket) else { return false };
        if partition.position < partition.fetch_offset {
            // Fetched from the old one, and still to be handed out. What is asked then leads here again.
            partition.state = State::Draining;
            return false;
        }
        tracing::warn!(partition = %partition.name, position = partition.position, "the topic was created anew");
        partition.topic_id = TopicId::ZERO;
        partition.handed = None;
        partition.acked = None;
        partition.told = None;
        if partition.position == 0 {
            partition.begin_at(0, None);
            self.renew(ticket.slot);
        } else {
            self.truncated(ticket, None);
        }
        true
    }

    /// Adds what was fetched behind what is buffered, from the topic with this id.
    pub(crate) fn push(&mut self, ticket: Ticket, run: Run, topic_id: TopicId) {
        let Some(partition) = self.at(ticket) else { return };
        let (end, epoch) = run.end();
        let run = run.after(partition.fetch_epoch);
        partition.topic_id = topic_id;
        partition.fetch_offset = partition.fetch_offset.max(end);
        partition.fetch_epoch = epoch.or(partition.fetch_epoch);
        partition.awaited = false;
        let bytes = run.bytes();
        partition.queued_bytes += bytes;
        partition.runs.push_back(run);
        let is_paused = partition.paused;
        self.buffered += bytes;
        self.awaited &= is_paused;
        self.list_if_ready(ticket.slot);
    }

    pub(crate) fn watermarks(&mut self, ticket: Ticket, high: i64, stable: i64) {
        if let Some(partition) = self.at(ticket) {
            partition.high_watermark = (high >= 0).then_some(high);
            partition.last_stable_offset = if stable >= 0 { Some(stable) } else { partition.high_watermark };
        }
    }

    /// A broker advises to read from a closer replica (KIP-392). Only the leader is listened to, and only if the replica
    /// is known: or two of them could send us to and fro.
    pub(crate) fn prefer(&mut self, ticket: Ticket, node: NodeId, is_known: bool, now: Instant) {
        let backoff = self.settings.retry_backoff;
        if let Some(partition) = self.at(ticket) {
            if partition.preferred.take().is_none() && is_known {
                partition.preferred = Some((node, now + PREFERRED_REPLICA_AGE));
            } else {
                partition.retry_at = Some(now + backoff);
            }
        }
    }

    /// The leader told that what was fetched last is not in its log (KIP-595's diverging epoch).
    pub(crate) fn diverged(&mut self, ticket: Ticket, now: Instant) {
        let backoff = self.settings.retry_backoff;
        if let Some(partition) = self.at(ticket) {
            partition.state = State::NeedsValidation;
            partition.retry_at = Some(now + backoff);
        }
    }

    /// A broker answered a fetch of the partition from `offset` with an error; returns whether the metadata may be to
    /// blame.
    pub(crate) fn fetch_failed(
        &mut self,
        ticket: Ticket,
        offset: i64,
        node: NodeId,
        code: ErrorCode,
        now: Instant,
    ) -> bool {
        let backoff = self.settings.retry_backoff;
        if self.fits(ticket, offset, TopicId::ZERO) == Fit::Stale {
            return false;
        }
        let Some(partition) = self.at(ticket) else { return false };
        let from_follower = partition.preferred.take().is_some_and(|(preferred, _)| preferred == node);
        partition.retry_at = Some(now + backoff);
        match code {
            // A follower may be behind: ask the leader before believing it.
            ErrorCode::OFFSET_OUT_OF_RANGE if from_follower => false,
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                partition.state = State::NeedsEnds;
                partition.retry_at = None;
                true
            }
            ErrorCode::UNKNOWN_LEADER_EPOCH => false,
            // Retriable to Kafka, but the caller should know that what is stored is bad.
            code if is_passing(code) && code != ErrorCode::CORRUPT_MESSAGE => true,
            code => {
                let error = ErrorKind::Refused { partition: partition.name.clone(), code };
                self.refuse(ticket, error.into(), now);
                false
            }
        }
    }

    /// Who leads the partition is known by now: no need to wait.
    pub(crate) fn retry_now(&mut self, ticket: Ticket) {
        if let Some(partition) = self.at(ticket) {
            partition.retry_at = None;
        }
    }

    /// Data came that cannot be walked, or not one whole batch in it.
    pub(crate) fn fetch_corrupt(&mut self, ticket: Ticket, error: Error, now: Instant) {
        if self.at(ticket).is_none() {
            return;
        }
        self.corrupt(ticket, now);
        if let Some(partition) = self.slots[ticket.slot].as_mut() {
            partition.error = Some(error);
        }
        self.list_if_ready(ticket.slot);
    }

    /// The way to `node` failed: partitions read from it as a follower go back to their leader.
    pub(crate) fn node_failed(
        &mut self,
        tickets: impl IntoIterator<Item = Ticket>,
        node: NodeId,
        now: Instant,
    ) {
        let backoff = self.settings.retry_backoff;
        for ticket in tickets {
            if let Some(partition) = self.at(ticket) {
                partition.preferred = partition.preferred.filter(|(preferred, _)| *preferred != node);
                partition.rest(now + backoff);
            }
        }
    }

    /// Nothing came of asking for these: not again before then.
    pub(crate) fn rest(&mut self, tickets: impl IntoIterator<Item = Ticket>, until: Instant) {
        for ticket in tickets {
            if let Some(partition) = self.at(ticket) {
                partition.rest(until);
            }
        }
    }

    fn answered(&mut self, ticket: Ticket) -> Option<&mut Partition> {
        let partition = self.at(ticket)?;
        partition.asking = false;
        Some(partition)
    }
}

impl Partition {
    fn rest(&mut self, until: Instant) {
        self.retry_at = Some(self.retry_at.map_or(until, |at| at.max(until)));
    }
}
