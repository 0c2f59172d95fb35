//! What readers take out of the buffer, hand out, and give back.

use kafka_client::TopicPartition;
use kafka_wire::record_batch::BatchError;
use tokio::time::Instant;

use super::partition::State;
use super::{Claim, Subscription, Ticket};
use crate::buffer::{Piece, Run};
use crate::error::Error;

/// How long a partition rests after data that cannot be read, so that a bad batch is no busy loop.
pub(super) const CORRUPT_BACKOFF: std::time::Duration = std::time::Duration::from_millis(100);

/// What a reader takes out of the buffer.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) ticket: Ticket,
    pub(crate) partition: TopicPartition,
    pub(crate) next: Next,
    /// The fetcher has something to do because of it.
    pub(crate) wake_fetcher: bool,
}

/// What comes next in a partition.
#[derive(Debug)]
pub(crate) enum Next {
    Piece(Piece),
    /// What comes next cannot be read.
    Unreadable(BatchError),
    Error(Error),
}

/// Whether a reader may hand out what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Yes; the position before it is this.
    Yes(i64),
    /// The partition was sought, revoked or reset meanwhile: drop it.
    Stale,
    /// The partition was paused meanwhile: give it back.
    Paused,
}

impl Subscription {
    /// The next thing to hand out of any partition; errors come in their partition's turn.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        while let Some(slot) = self.ready.pop_front() {
            if let Some(partition) = self.slots[slot].as_mut() {
                partition.listed = false;
            }
            let taken = self.take_slot(slot);
            self.list_if_ready(slot);
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// The next thing to hand out of one partition.
    pub(crate) fn take_from(&mut self, claim: Claim) -> Option<Taken> {
        let taken = self.is_assigned(claim).then(|| self.take_slot(claim.slot)).flatten();
        if self.slots.get(claim.slot).and_then(Option::as_ref).is_some_and(|p| !p.is_ready()) {
            self.unlist(claim.slot);
        }
        taken
    }

    fn take_slot(&mut self, slot: usize) -> Option<Taken> {
        let low_water = self.low_water();
        let has_room = self.held.bytes() < self.settings.max_buffered;
        let partition = self.slots[slot].as_mut().filter(|p| !p.paused && !p.revoking)?;
        let before = partition.queued_bytes;
        let next = loop {
            let Some(run) = partition.runs.front_mut() else {
                break Next::Error(partition.error.take()?);
            };
            let bytes = run.bytes();
            let taken = run.take();
            let used = bytes - run.bytes();
            partition.queued_bytes -= used;
            self.buffered -= used;
            let (start, end) = (run.start().0, run.end().0);
            if start >= end || taken.is_none() {
                partition.runs.pop_front();
            }
            match taken {
                Some(Ok(piece)) => break Next::Piece(piece),
                Some(Err(error)) => break Next::Unreadable(error),
                None => {}
            }
        };
        let is_drained = partition.runs.is_empty();
        let rested = is_drained && std::mem::take(&mut partition.is_resting);
        let fell = before >= low_water && partition.queued_bytes < low_water;
        let wake_fetcher = fell || rested || matches!(next, Next::Error(_)) || (self.cramped && has_room);
        let ticket = Ticket { slot, version: partition.version };
        Some(Taken { ticket, partition: partition.name.clone(), next, wake_fetcher })
    }

    /// A reader waits for one partition, or for any; returns whether the fetcher should know.
    pub(crate) fn await_more(&mut self, claim: Option<Claim>) -> bool {
        let is_cramped = self.cramped;
        match claim {
            None => !std::mem::replace(&mut self.awaited, true) && is_cramped,
            Some(claim) => self.claimed_mut(claim).is_some_and(|partition| {
                !std::mem::replace(&mut partition.awaited, true) && (is_cramped || partition.is_resting)
            }),
        }
    }

    /// Whether the fetcher waits for room that there is by now.
    pub(crate) fn has_room_again(&self) -> bool {
        self.cramped && self.held.bytes() < self.settings.max_buffered
    }

    /// Whether what was taken under `ticket` may be handed out now.
    pub(crate) fn turn(&self, ticket: Ticket) -> Turn {
        match self.slots.get(ticket.slot).and_then(Option::as_ref) {
            Some(partition) if partition.version == ticket.version && !partition.revoking => {
                if partition.paused { Turn::Paused } else { Turn::Yes(partition.position) }
            }
            _ => Turn::Stale,
        }
    }

    /// Everything before `next_offset` has been handed out. Returns whether the fetcher waits for that.
    pub(crate) fn advance(&mut self, ticket: Ticket, next_offset: i64, epoch: Option<i32>) -> bool {
        self.at(ticket).is_some_and(|partition| {
            partition.advance(next_offset, epoch);
            partition.state == State::Draining && partition.position >= partition.fetch_offset
        })
    }

    /// Up to `next_offset` there is nothing to hand out. Returns whether the fetcher waits for that.
    pub(crate) fn step_over(&mut self, ticket: Ticket, next_offset: i64, epoch: Option<i32>) -> bool {
        self.at(ticket).is_some_and(|partition| {
            partition.step_over(next_offset, epoch);
            partition.state == State::Draining && partition.position >= partition.fetch_offset
        })
    }

    /// Puts back what a reader took and could not hand out. Of several pieces the last one comes first.
    pub(crate) fn give_back(&mut self, ticket: Ticket, next: Next) {
        let Some(partition) = self.at(ticket) else { return };
        match next {
            Next::Piece(piece) => {
                let run = Run::again(piece);
                let bytes = run.bytes();
                partition.queued_bytes += bytes;
                partition.runs.push_front(run);
                self.buffered += bytes;
            }
            Next::Error(error) => partition.error = Some(error),
            // It cannot be read this time either, and is fetched again.
            Next::Unreadable(_) => self.renew(ticket.slot),
        }
        self.list_if_ready(ticket.slot);
    }

    /// A batch cannot be read: the position stays, what is buffered goes, and after a pause it is fetched again.
    pub(crate) fn corrupt(&mut self, ticket: Ticket, now: Instant) {
        if self.at(ticket).is_none() {
            return;
        }
        let rest = CORRUPT_BACKOFF.max(self.settings.retry_backoff);
        self.renew(ticket.slot);
        if let Some(partition) = self.slots[ticket.slot].as_mut() {
            partition.retry_at = Some(now + rest);
            if partition.state == State::Draining {
                partition.state = State::Fetching;
            }
        }
    }
}
