//! The way from those who append records to the sender: it is woken once when there is something to do, not for every
//! batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use crate::accumulator::Slot;

/// What the sender is told of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A batch was opened: it is due after the linger time.
    Opened,
    /// A batch can be sent.
    Full,
}

#[derive(Debug, Default)]
pub(crate) struct Notices {
    state: Mutex<Noticed>,
    sender: AtomicWaker,
}

/// Guards what the sender was told and has not taken note of.
#[derive(Debug, Default)]
struct Noticed {
    slots: Vec<Arc<Slot>>,
    send_everything: bool,
    /// When the sender has to be done, once somebody closes the producer.
    close_by: Option<Instant>,
    signalled: bool,
    /// The sender sleeps, and wakes by itself before a batch that is opened now would be due.
    wakes_in_time: bool,
}

/// What is to be done besides looking at slots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// Send every open batch without waiting for more records.
    pub(crate) send_everything: bool,
    /// Take no more records, and be done by then.
    pub(crate) close_by: Option<Instant>,
}

impl Notices {
    /// `slot` unless it is on the list already. Says whether the sender has to be [woken](Self::wake), which can be done
    /// when the slot is let go of.
    #[must_use = "without it the sender may sleep on"]
    pub(crate) fn post(&self, slot: Option<&Arc<Slot>>, notice: Notice) -> bool {
        let mut state = self.lock();
        state.slots.extend(slot.cloned());
        (notice == Notice::Full || !state.wakes_in_time) && !std::mem::replace(&mut state.signalled, true)
    }

    pub(crate) fn wake(&self) {
        self.sender.wake();
    }

    /// Has every open batch sent without waiting for more records: somebody flushes, or waits for memory.
    pub(crate) fn send_everything(&self) {
        self.order(|state| state.send_everything = true);
    }

    /// Has the sender finish; of several times the earliest counts.
    pub(crate) fn close_by(&self, deadline: Instant) {
        self.order(|state| {
            state.close_by = Some(state.close_by.map_or(deadline, |earlier| earlier.min(deadline)));
        });
    }

    fn order(&self, give: impl FnOnce(&mut Noticed)) {
        let mut state = self.lock();
        give(&mut state);
        let news = !std::mem::replace(&mut state.signalled, true);
        drop(state);
        if news {
            self.wake();
        }
    }

    /// Whether there is news since the last [`take`](Self::take), also such as was no reason to wake the task.
    pub(crate) fn poll_news(&self, cx: &Context<'_>) -> bool {
        self.sender.register(cx.waker());
        let state = self.lock();
        state.signalled || !state.slots.is_empty()
    }

    /// Moves the slots to look at to `slots`.
    pub(crate) fn take(&self, slots: &mut Vec<Arc<Slot>>) -> Orders {
        let mut state = self.lock();
        slots.append(&mut state.slots);
        state.signalled = false;
        state.wakes_in_time = false;
        Orders { send_everything: std::mem::take(&mut state.send_everything), close_by: state.close_by }
    }

    /// The sender is about to sleep; `wakes_in_time` if it will wake when the oldest open batch is due. False if it must not
    /// sleep: a slot was listed since it looked, and by whom it was listed took it that the sender would wake in time.
    #[must_use = "it must look again first"]
    pub(crate) fn fall_asleep(&self, wakes_in_time: bool) -> bool {
        let mut state = self.lock();
        state.wakes_in_time = wakes_in_time;
        wakes_in_time || state.slots.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Noticed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::accumulator::{Accumulator, Settings};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn slot() -> Arc<Slot> {
        let accumulator = Accumulator::new(Settings {
            batch_size: 1024,
            buffer_memory: 1024,
            adaptive_partitioning: true,
            eager: false,
            seed: 1,
        });
        accumulator.open_topic(&"orders".into(), 1);
        accumulator.slot(&accumulator.topics()["orders"], 0).unwrap().clone()
    }

    fn post(notices: &Notices, slot: Option<&Arc<Slot>>, notice: Notice) {
        if notices.post(slot, notice) {
            notices.wake();
        }
    }

    #[test]
    fn a_sender_does_not_fall_asleep_on_what_was_listed_since_it_looked() {
        let (notices, wakes) = (Notices::default(), Arc::<Wakes>::default());
        let waker = wakes.clone().into();
        assert!(notices.fall_asleep(true));
        // It wakes for another reason and looks.
        assert!(!notices.poll_news(&Context::from_waker(&waker)));
        post(&notices, Some(&slot()), Notice::Opened);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        assert!(!notices.fall_asleep(false));
        notices.take(&mut vec![]);
        assert!(notices.fall_asleep(false));
    }

    #[test]
    fn the_sender_is_woken_once_however_much_there_is_to_do() {
        let (notices, wakes) = (Notices::default(), Arc::<Wakes>::default());
        let waker = wakes.clone().into();
        let cx = Context::from_waker(&waker);
        assert!(!notices.poll_news(&cx));
        for _ in 0..10 {
            post(&notices, Some(&slot()), Notice::Opened);
            post(&notices, None, Notice::Full);
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(notices.poll_news(&cx));
        let mut slots = vec![];
        notices.take(&mut slots);
        assert_eq!(slots.len(), 10);
        assert!(!notices.poll_news(&cx));
    }

    #[test]
    fn a_batch_that_is_opened_while_the_sender_will_wake_in_time_does_not_wake_it_but_is_seen_then() {
        let (notices, wakes) = (Notices::default(), Arc::<Wakes>::default());
        let waker = wakes.clone().into();
        let cx = Context::from_waker(&waker);
        assert!(!notices.poll_news(&cx));
        assert!(notices.fall_asleep(true));
        post(&notices, Some(&slot()), Notice::Opened);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        assert!(notices.poll_news(&cx));
        post(&notices, None, Notice::Full);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        notices.take(&mut vec![]);
        // Awake, it has to hear of everything.
        assert!(!notices.poll_news(&cx));
        post(&notices, Some(&slot()), Notice::Opened);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
    }
}
