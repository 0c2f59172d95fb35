//! Tells whether anything has happened since a task last looked, so that a poll in between need not look again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// A waker that remembers, and passes on to the task that polls.
#[derive(Debug)]
pub(crate) struct Alarm {
    bell: Arc<Bell>,
    task: Waker,
    /// The last look found nothing to do.
    settled: bool,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        let task = Waker::noop().clone();
        let bell = Bell { rung: AtomicBool::new(true), task: Mutex::new(task.clone()) };
        Self { bell: Arc::new(bell), task, settled: false }
    }

    /// Begins a look: everything that is looked at is to be polled with this waker.
    pub(crate) fn listen(&mut self, cx: &Context<'_>) -> Waker {
        self.settled = false;
        if !self.task.will_wake(cx.waker()) {
            self.task.clone_from(cx.waker());
            self.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        }
        // Before the look, so that what happens during it rings for the next one.
        self.bell.rung.swap(false, Ordering::AcqRel);
        Waker::from(Arc::clone(&self.bell))
    }

    /// Everything was looked at, and there is nothing to do until it rings.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    /// Whether there is nothing to look at. Says nothing to a task that is about to wait: that has to listen.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.settled && !self.bell.rung.load(Ordering::Acquire)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        (Arc::clone(&task), Waker::from(task))
    }

    #[test]
    fn it_is_quiet_from_a_look_to_the_next_ring() {
        let (_, waker) = task();
        let mut alarm = Alarm::new();
        assert!(!alarm.is_quiet());
        let bell = alarm.listen(&Context::from_waker(&waker));
        assert!(!alarm.is_quiet(), "nobody has said that there is nothing to do");
        alarm.settle();
        assert!(alarm.is_quiet());
        bell.wake_by_ref();
        assert!(!alarm.is_quiet());
    }

    #[test]
    fn it_wakes_the_task_that_listened_last_however_often_it_rings() {
        let ((first, waker), (second, other)) = (task(), task());
        let mut alarm = Alarm::new();
        let old = alarm.listen(&Context::from_waker(&waker));
        alarm.listen(&Context::from_waker(&other));
        for _ in 0..2 {
            old.wake_by_ref();
            assert!(second.0.swap(false, Ordering::SeqCst) && !first.0.load(Ordering::SeqCst));
        }
    }

    #[test]
    fn what_happens_during_a_look_rings_for_the_next() {
        let (_, waker) = task();
        let mut alarm = Alarm::new();
        alarm.listen(&Context::from_waker(&waker)).wake();
        alarm.settle();
        assert!(!alarm.is_quiet());
    }
}
