//! Which records of one partition the application is done with, when several tasks work on them: a commit covers the
//! unbroken run from the front.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::shared::Shared;
use crate::subscription::Claim;

/// The records of a partition that were handed out and not yet committed.
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
    /// The number of the first of them, counted from the first record ever.
    first: u64,
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
        let mut tracker = self.tracker();
        let number = tracker.first + tracker.open.len() as u64;
        tracker.open.push_back(Open { next_offset, leader_epoch, done: false });
        tracker.alive += 1;
        Ack { acks: Arc::clone(self), number }
    }

    /// Waits until nobody holds a record any more, done with or not.
    pub(crate) async fn settled(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before the look, so that what changes between the two is not missed.
            changed.as_mut().enable();
            if self.tracker().alive == 0 {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.tracker().alive == 0
    }

    fn done(&self, number: u64) {
        let mut tracker = self.tracker();
        let Some(index) = number.checked_sub(tracker.first).and_then(|index| usize::try_from(index).ok())
        else {
            return;
        };
        if let Some(open) = tracker.open.get_mut(index) {
            open.done = true;
        }
        let mut run = None;
        while let Some(open) = tracker.open.pop_front_if(|open| open.done) {
            tracker.first += 1;
            run = Some((open.next_offset, open.leader_epoch));
        }
        drop(tracker);
        if let (Some((offset, epoch)), Some(shared)) = (run, self.shared.upgrade()) {
            if let Some(group) = &shared.group {
                group.polls().touch();
            }
            shared.state().subscription.ack_claim(self.claim, offset, epoch);
        }
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record's acknowledgement, to be given when the application is done with it, from any task.
///
/// What is acknowledged without a gap from the front is committed. Dropping it instead says that nobody will do the
/// record's work: it, and all behind it in its partition, is read again by the partition's next owner.
#[derive(Debug)]
#[must_use = "dropping it leaves the record to the partition's next owner"]
pub struct Ack {
    acks: Arc<Acks>,
    number: u64,
}

impl Ack {
    /// The application is done with the record.
    pub fn ack(self) {
        self.acks.done(self.number);
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let mut tracker = self.acks.tracker();
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
    use crate::subscription::Claim;

    fn open(acks: &Acks) -> Vec<i64> {
        acks.tracker().open.iter().map(|open| open.next_offset).collect()
    }

    fn acks() -> Arc<Acks> {
        Arc::new(Acks {
            claim: Claim::for_test(0, 1),
            shared: Weak::new(),
            tracker: Mutex::default(),
            changed: Notify::new(),
        })
    }

    #[test]
    fn only_an_unbroken_run_from_the_front_counts() {
        let acks = acks();
        let mut handles: Vec<_> = (1..=4).map(|next| acks.hand_out(next, None)).collect();
        handles.remove(2).ack();
        assert_eq!(open(&acks), [1, 2, 3, 4]);
        handles.remove(0).ack();
        assert_eq!(open(&acks), [2, 3, 4]);
        handles.remove(0).ack();
        assert_eq!(open(&acks), [4]);
        assert!(!acks.is_settled());
        handles.remove(0).ack();
        assert_eq!(open(&acks), [0; 0]);
        assert!(acks.is_settled());
    }

    #[test]
    fn a_record_dropped_without_an_ack_holds_back_all_behind_it() {
        let acks = acks();
        let first = acks.hand_out(1, None);
        let second = acks.hand_out(2, None);
        drop(first);
        second.ack();
        assert_eq!(open(&acks), [1, 2]);
        assert!(acks.is_settled());
    }

    #[tokio::test]
    async fn settled_waits_for_the_last_handle() {
        let acks = acks();
        let ack = acks.hand_out(1, None);
        let waiter = tokio::spawn({
            let acks = Arc::clone(&acks);
            async move { acks.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        ack.ack();
        waiter.await.unwrap();
    }
}
