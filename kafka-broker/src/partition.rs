//! One partition: who leads it, its log, and the fetches that wait for it, under one mutex.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kafka_wire::error_code::ErrorCode;
use tokio::sync::Notify;

use crate::image::NO_NODE;
use crate::log::{Endless, Log};

/// A partition of a topic. All replicas share it, so moving the leader loses nothing.
#[derive(Debug)]
pub(crate) struct Partition {
    number: i32,
    /// Guards everything that changes with an append or an election.
    state: Mutex<State>,
}

/// What the partition's mutex guards.
#[derive(Debug)]
pub(crate) struct State {
    /// The leader's id, or [`NO_NODE`]. Set before the image says so: the image may lag, appends may not.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) log: Log,
    waiting: Vec<Weak<Notify>>,
}

impl Partition {
    /// An empty one; one that stores nothing if it is given what readers get instead.
    pub(crate) fn new(number: i32, leader: i32, null: Option<Arc<Endless>>) -> Self {
        let mut log = null.map_or_else(Log::default, Log::null);
        log.start_epoch(0);
        let state = State { leader, leader_epoch: 0, log, waiting: Vec::new() };
        Self { number, state: Mutex::new(state) }
    }

    pub(crate) fn number(&self) -> i32 {
        self.number
    }

    /// Takes the mutex; a panic in another holder leaves a state that is still whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `leader` the leader of a new epoch, and answers fetches that wait on the old one.
    pub(crate) fn elect(&self, leader: i32, leader_epoch: i32) {
        let mut state = self.lock();
        state.leader = leader;
        state.leader_epoch = leader_epoch;
        if leader != NO_NODE {
            state.log.start_epoch(leader_epoch);
        }
        state.wake();
    }

    /// The topic was deleted: nothing is appended any more, the records are freed, and waiting fetches are answered.
    pub(crate) fn delete(&self) {
        let mut state = self.lock();
        state.leader = NO_NODE;
        state.log = Log::default();
        state.wake();
    }
}

/// What a read asks for, beside the offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    /// The broker that was asked.
    pub(crate) broker: i32,
    /// Whether that broker may answer without leading, as it has a replica.
    pub(crate) follower: bool,
    /// The leader epoch that the client knows, or -1.
    pub(crate) leader_epoch: i32,
}

impl State {
    /// Whether `reader` may read or look something up here.
    pub(crate) fn check_reader(&self, reader: Reader) -> Result<(), ErrorCode> {
        // A client with an old epoch asks an old leader; one with a newer epoch knows more than this broker.
        if reader.leader_epoch >= 0 && reader.leader_epoch < self.leader_epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if reader.leader_epoch > self.leader_epoch {
            return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
        }
        if reader.broker != self.leader && !reader.follower {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        Ok(())
    }

    /// Wakes `waiter` at the next change. One entry per connection, however often it asks.
    pub(crate) fn watch(&mut self, waiter: &Arc<Notify>) {
        let waiter = Arc::downgrade(waiter);
        // Entries of closed connections would pile up on a partition that nobody writes to.
        self.waiting.retain(|other| other.strong_count() > 0);
        if !self.waiting.iter().any(|other| other.ptr_eq(&waiter)) {
            self.waiting.push(waiter);
        }
    }

    /// Wakes whoever waits for this partition.
    pub(crate) fn wake(&mut self) {
        for waiter in self.waiting.drain(..) {
            if let Some(waiter) = waiter.upgrade() {
                waiter.notify_one();
            }
        }
    }
}
