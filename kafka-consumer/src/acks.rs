//! Which records of one partition the application is done with, when several tasks work on them: a commit covers the
//! unbroken run from the front.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::shared::Shared;
use crate::subscription::Claim;

/// The records of a partition that were handed out and not yet committed.
///
/// Whoever needs both locks takes that of the consumer's state first.
#[derive(Debug)]
pub(crate) struct Acks {
    claim: Claim,
    shared: Weak<Shared>,
    tracker: Mutex<Tracker>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Tracker {
    /// Handed out and not part of the run yet, in order.
    open: VecDeque<Open>,
    /// The number of the first of them, counted from the first record ever, and that of the next record.
    first: u64,
    next: u64,
    /// A record was dropped without an acknowledgement: nothing behind it can be committed any more.
    broken: bool,
    /// Handles that somebody holds.
    alive: usize,
}

#[derive(Debug)]
struct Open {
    next_offset: i64,
    leader_epoch: Option<i32>,
    done: bool,
}

impl Acks {
    pub(crate) fn new(claim: Claim, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            claim,
            shared: Arc::downgrade(shared),
            tracker: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Notes a record that is handed out.
    pub(crate) fn hand_out(self: &Arc<Self>, next_offset: i64, leader_epoch: Option<i32>) -> Ack {
        let number = self.tracker().hand_out(next_offset, leader_epoch);
        Ack { acks: Arc::clone(self), number, done: false }
    }

    /// Begins anew with what is handed out from now on: the position has been moved.
    pub(crate) fn restart(&self) {
        self.tracker().restart();
    }

    /// Waits until nobody holds a record any more, done with or not.
    pub(crate) async fn settled(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before the look, so that what changes between the two is not missed.
            changed.as_mut().enable();
            if self.is_settled() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.tracker().alive == 0
    }

    fn done(&self, number: u64) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(group) = &shared.group {
            group.polls().touch();
        }
        // Held over both steps, so that of two tasks the later one says the later offset.
        let mut state = shared.state();
        let is_current =
            state.acks.get(&self.claim).is_some_and(|acks| std::ptr::eq(&raw const **acks, self));
        // Otherwise its stream was dropped, and the partition is read again from what had been acknowledged by then.
        if is_current && let Some((offset, epoch)) = self.tracker().done(number) {
            state.subscription.ack_claim(self.claim, offset, epoch);
        }
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracker {
    fn hand_out(&mut self, next_offset: i64, leader_epoch: Option<i32>) -> u64 {
        self.alive += 1;
        if !self.broken {
            self.open.push_back(Open { next_offset, leader_epoch, done: false });
        }
        self.next += 1;
        self.next - 1
    }

    fn restart(&mut self) {
        self.broken = false;
        self.open.clear();
        self.first = self.next;
    }

    /// A record is done with; returns the end of the run if that has grown.
    fn done(&mut self, number: u64) -> Option<(i64, Option<i32>)> {
        self.open(number)?.done = true;
        let mut run = None;
        while let Some(open) = self.open.pop_front_if(|open| open.done) {
            self.first += 1;
            run = Some((open.next_offset, open.leader_epoch));
        }
        run
    }

    /// Nobody will do the record's work.
    fn lost(&mut self, number: u64) {
        if self.open(number).is_some()
            && let Ok(index) = usize::try_from(number - self.first)
        {
            self.open.truncate(index);
            self.broken = true;
        }
    }

    fn open(&mut self, number: u64) -> Option<&mut Open> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.open.get_mut(index)
    }
}

/// A record's acknowledgement, to be given when the application is done with it, from any task.
///
/// What is acknowledged without a gap from the front is committed. Dropping it instead says that nobody will do the
/// record's work: it, and all behind it in its partition, is read again by the partition's next owner. Or sooner: after
/// a seek, the run begins anew with the first record from there.
#[derive(Debug)]
#[must_use = "dropping it leaves the record to the partition's next owner"]
pub struct Ack {
    acks: Arc<Acks>,
    number: u64,
    done: bool,
}

impl Ack {
    /// The application is done with the record.
    pub fn ack(mut self) {
        self.acks.done(self.number);
        self.done = true;
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let mut tracker = self.acks.tracker();
        if !self.done {
            tracker.lost(self.number);
        }
        tracker.alive -= 1;
        let settled = tracker.alive == 0;
        drop(tracker);
        if settled {
            self.acks.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_out(count: i64) -> Tracker {
        let mut tracker = Tracker::default();
        for next in 1..=count {
            tracker.hand_out(next, None);
        }
        tracker
    }

    #[test]
    fn only_an_unbroken_run_from_the_front_counts() {
        let mut tracker = handed_out(4);
        assert_eq!(tracker.done(2), None);
        assert_eq!(tracker.done(0), Some((1, None)));
        assert_eq!(tracker.done(1), Some((3, None)));
        assert_eq!(tracker.done(3), Some((4, None)));
        assert!(tracker.open.is_empty());
    }

    #[test]
    fn a_record_dropped_without_an_ack_holds_back_all_behind_it_and_nothing_is_kept_of_them() {
        let mut tracker = handed_out(4);
        tracker.lost(1);
        assert_eq!(tracker.done(2), None);
        let later = tracker.hand_out(5, None);
        assert_eq!(tracker.done(later), None);
        assert_eq!(tracker.open.len(), 1);
        assert_eq!(tracker.done(0), Some((1, None)));
        assert!(tracker.open.is_empty());
    }

    #[test]
    fn after_a_seek_only_what_is_handed_out_from_then_on_counts() {
        let mut tracker = handed_out(4);
        tracker.lost(1);
        tracker.restart();
        let next = tracker.hand_out(2, None);
        assert_eq!(tracker.done(3), None);
        tracker.lost(2);
        assert_eq!(tracker.done(next), Some((2, None)));
    }

    #[tokio::test]
    async fn settled_waits_for_the_last_handle() {
        let acks = Arc::new(Acks {
            claim: Claim::for_test(0, 1),
            shared: Weak::new(),
            tracker: Mutex::default(),
            changed: Notify::new(),
        });
        let ack = acks.hand_out(1, None);
        let waiter = tokio::spawn({
            let acks = Arc::clone(&acks);
            async move { acks.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(ack);
        waiter.await.unwrap();
    }
}
