//! All groups of a cluster: finds a request's group, parks the request until the group answers, lets time pass.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::{Group, GroupConfig, GroupError, GroupListing, GroupState, Input, Reply, RequestId};
use crate::config::BrokerConfigs;
use crate::image::Image;
use crate::shared::{RequestContext, Shared};

/// Most groups kept; beyond that, blank ones are forgotten first. A hostile client could otherwise make any number.
const MOST_GROUPS: usize = 10_000;
/// Longest group id. Kafka allows 32 KiB.
const LONGEST_ID: usize = 1_024;

/// The groups of all brokers of a cluster. They are shared, so a group survives the move of its coordinator.
#[derive(Debug)]
pub(crate) struct Coordinator {
    groups: Mutex<Groups>,
    timers: Arc<Timers>,
    /// The task that waits for [`Timers`], started with the first request.
    task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Groups {
    by_id: HashMap<Arc<str>, Arc<Slot>>,
    seeds: fastrand::Rng,
}

/// One group and who waits for it.
#[derive(Debug)]
struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Debug)]
struct SlotState {
    group: Group,
    waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
    next_request: RequestId,
    /// The broker that the last request was sent to.
    coordinator: i32,
    /// When the timer task looks at this group next, at the latest.
    scheduled: Option<Instant>,
}

/// When which group wants to be looked at.
#[derive(Debug, Default)]
struct Timers {
    due: Mutex<BTreeSet<(Instant, Arc<str>)>>,
    /// The earliest entry is a new one.
    sooner: Notify,
}

impl Coordinator {
    pub(crate) fn new(seeds: fastrand::Rng) -> Self {
        Self {
            groups: Mutex::new(Groups { by_id: HashMap::new(), seeds }),
            timers: Arc::default(),
            task: OnceLock::new(),
        }
    }

    /// Hands a request to its group and waits for the answer, for as long as the group takes. `read` takes the kind of
    /// reply that belongs to the input.
    ///
    /// # Errors
    /// `NotCoordinator`, `GroupIdNotFound` unless `create`, `InvalidGroupId`.
    pub(crate) async fn request<T>(
        &self,
        ctx: &RequestContext,
        id: &str,
        create: bool,
        input: Input,
        read: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, GroupError> {
        let answer = self.enter(ctx, id, create, |state| {
            let (sender, answer) = oneshot::channel();
            let request = state.next_request;
            state.next_request += 1;
            state.waiting.insert(request, sender);
            state.group.handle(request, input, now());
            answer
        })?;
        // Dropped unanswered only with the cluster.
        answer.await.ok().and_then(read).ok_or(GroupError::NotCoordinator)
    }

    /// Looks at a group, or changes it in a way that nobody waits for.
    ///
    /// # Errors
    /// `NotCoordinator`, `GroupIdNotFound`.
    pub(crate) fn with<T>(
        &self,
        ctx: &RequestContext,
        id: &str,
        look: impl FnOnce(&mut Group) -> T,
    ) -> Result<T, GroupError> {
        self.enter(ctx, id, false, |state| look(&mut state.group))
    }

    /// Deletes a group with its offsets.
    ///
    /// # Errors
    /// `NotCoordinator`, `GroupIdNotFound`, `NonEmptyGroup`.
    pub(crate) fn delete(&self, ctx: &RequestContext, id: &str) -> Result<(), GroupError> {
        self.with(ctx, id, Group::delete)??;
        let mut groups = self.lock();
        // Another request may have seen that it is dead, and made a new one.
        if groups.by_id.get(id).is_some_and(|slot| slot.lock().group.state() == GroupState::Dead) {
            groups.by_id.remove(id);
        }
        Ok(())
    }

    /// The groups that the broker of this request coordinates, by id.
    pub(crate) fn list(&self, ctx: &RequestContext) -> Vec<GroupListing> {
        let slots = self.slots();
        let listings = slots.iter().map(|slot| slot.lock().group.listing());
        let mut listings: Vec<_> = listings
            .filter(|listing| listing.state != GroupState::Dead && ctx.is_coordinator(&listing.group_id))
            .collect();
        listings.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        listings
    }

    /// A group, whoever coordinates it.
    pub(crate) fn peek<T>(&self, id: &str, look: impl FnOnce(&Group) -> T) -> Option<T> {
        let slot = self.lock().by_id.get(id).cloned()?;
        let state = slot.lock();
        Some(look(&state.group))
    }

    /// Forgets the offsets of a deleted topic in every group.
    pub(crate) fn forget_topic(&self, topic: &str) {
        for slot in self.slots() {
            slot.lock().group.forget_topic(topic);
        }
    }

    /// Fails what is parked at brokers that no longer coordinate its group. To be called after every change of the image
    /// that moves coordinators.
    pub(crate) fn coordinators_changed(&self, image: &Image) {
        for slot in self.slots() {
            let mut state = slot.lock();
            let coordinator = image.coordinator(state.group.id()).map(|broker| broker.id);
            if coordinator != Some(state.coordinator) {
                state.group.fail_parked(GroupError::NotCoordinator, now());
                self.timers.settle(&mut state);
            }
        }
    }

    fn enter<T>(
        &self,
        ctx: &RequestContext,
        id: &str,
        create: bool,
        act: impl FnOnce(&mut SlotState) -> T,
    ) -> Result<T, GroupError> {
        loop {
            if !ctx.is_coordinator(id) {
                return Err(GroupError::NotCoordinator);
            }
            let slot = self.find(ctx, id, create)?;
            let mut state = slot.lock();
            // Looked at again under the lock: a move after this finds the request parked, and fails it.
            if !ctx.is_coordinator(id) {
                return Err(GroupError::NotCoordinator);
            }
            if state.group.state() == GroupState::Dead {
                drop(state);
                let mut groups = self.lock();
                if groups.by_id.get(id).is_some_and(|known| Arc::ptr_eq(known, &slot)) {
                    groups.by_id.remove(id);
                }
                continue;
            }
            state.coordinator = ctx.broker;
            let outcome = act(&mut state);
            self.timers.settle(&mut state);
            return Ok(outcome);
        }
    }

    fn find(&self, ctx: &RequestContext, id: &str, create: bool) -> Result<Arc<Slot>, GroupError> {
        let mut groups = self.lock();
        if let Some(slot) = groups.by_id.get(id) {
            return Ok(Arc::clone(slot));
        }
        if !create {
            return Err(GroupError::GroupIdNotFound);
        }
        if id.len() > LONGEST_ID {
            return Err(GroupError::InvalidGroupId);
        }
        if groups.by_id.len() >= MOST_GROUPS {
            groups.by_id.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.lock().group.is_blank());
            if groups.by_id.len() >= MOST_GROUPS {
                return Err(GroupError::CoordinatorNotAvailable);
            }
        }
        let id: Arc<str> = id.into();
        let config = group_config(&ctx.image().configs);
        let group = Group::new(Arc::clone(&id), config, groups.seeds.u64(..));
        let slot = Arc::new(Slot::new(group, ctx.broker));
        groups.by_id.insert(id, Arc::clone(&slot));
        self.task.get_or_init(|| {
            let (shared, timers) = (Arc::downgrade(&ctx.shared), Arc::clone(&self.timers));
            tokio::spawn(let_time_pass(shared, timers)).abort_handle()
        });
        Ok(slot)
    }

    /// Lets everything happen in a group that is due.
    fn expire(&self, id: &str) {
        let slot = self.lock().by_id.get(id).cloned();
        if let Some(slot) = slot {
            let mut state = slot.lock();
            state.scheduled = None;
            state.group.handle_timeout(now());
            self.timers.settle(&mut state);
        }
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.lock().by_id.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Slot {
    fn new(group: Group, coordinator: i32) -> Self {
        Self {
            state: Mutex::new(SlotState {
                group,
                waiting: HashMap::new(),
                next_request: 0,
                coordinator,
                scheduled: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timers {
    /// Sends out a group's answers, and sees to it that somebody looks at it when its next timeout is due.
    fn settle(&self, state: &mut SlotState) {
        while let Some(output) = state.group.poll_output() {
            if let Some(waiting) = state.waiting.remove(&output.request) {
                // Whoever asked may be gone with its connection; the group goes on without knowing, as Kafka's does.
                let _ = waiting.send(output.reply);
            }
        }
        // A timeout that moved further away is left alone: the task finds nothing to do and looks again.
        let Some(due) = state.group.poll_timeout().filter(|due| state.scheduled.is_none_or(|at| *due < at))
        else {
            return;
        };
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = state.scheduled.replace(due) {
            all.remove(&(before, Arc::clone(state.group.id())));
        }
        let entry = (due, Arc::clone(state.group.id()));
        let is_first = all.first().is_none_or(|first| entry < *first);
        all.insert(entry);
        if is_first {
            self.sooner.notify_one();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).first().map(|(due, _)| *due)
    }

    /// Takes a group that is due.
    fn take(&self, now: Instant) -> Option<Arc<str>> {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if all.first()?.0 > now {
            return None;
        }
        all.pop_first().map(|(_, id)| id)
    }
}

/// Runs until the cluster is gone.
async fn let_time_pass(shared: Weak<Shared>, timers: Arc<Timers>) {
    loop {
        match timers.next() {
            Some(due) => {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = timers.sooner.notified() => continue,
                }
            }
            None => {
                timers.sooner.notified().await;
                continue;
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        while let Some(id) = timers.take(now()) {
            shared.groups.expire(&id);
        }
        shared.events.notify();
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn group_config(configs: &BrokerConfigs) -> GroupConfig {
    let millis = |name: &str| Duration::from_millis(configs.number(name));
    GroupConfig {
        initial_rebalance_delay: millis("group.initial.rebalance.delay.ms"),
        min_session_timeout: millis("group.min.session.timeout.ms"),
        max_session_timeout: millis("group.max.session.timeout.ms"),
        max_size: configs.number("group.max.size"),
        max_offset_metadata: configs.number("offset.metadata.max.bytes"),
        ..GroupConfig::default()
    }
}
