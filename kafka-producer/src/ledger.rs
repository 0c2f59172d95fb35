//! Counts the batches that are accepted and not resolved, by generation: [`flush`](crate::Producer::flush) begins a new
//! generation and waits until the older ones are empty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::completion::{BatchCompletion, Outcome};
use crate::error::{Error, ErrorKind, Fate};

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Guards the counts; taken twice per batch.
    generations: Mutex<Generations>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Generations {
    /// The generation of the first count.
    first: u64,
    /// Unresolved batches. The last generation is the current one.
    counts: VecDeque<usize>,
}

impl Ledger {
    fn enter(&self, generation: Option<u64>) -> u64 {
        let mut state = self.lock();
        if state.counts.is_empty() {
            state.counts.push_back(0);
        }
        let current = state.first + (state.counts.len() - 1) as u64;
        let generation = generation.unwrap_or(current).clamp(state.first, current);
        let index = (generation - state.first) as usize;
        state.counts[index] += 1;
        generation
    }

    fn leave(&self, generation: u64) {
        let mut state = self.lock();
        let index = generation.saturating_sub(state.first) as usize;
        if let Some(count) = state.counts.get_mut(index) {
            *count = count.saturating_sub(1);
        }
        let before = state.first;
        while state.counts.len() > 1 && state.counts.front() == Some(&0) {
            state.counts.pop_front();
            state.first += 1;
        }
        let moved = state.first != before;
        drop(state);
        if moved {
            self.emptied.notify_waiters();
        }
    }

    /// Whether every batch is resolved.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().counts.iter().all(|count| *count == 0)
    }

    /// Begins a new generation and returns the one that ends here.
    pub(crate) fn turn(&self) -> u64 {
        let mut state = self.lock();
        let ended = state.first + (state.counts.len().max(1) - 1) as u64;
        if state.counts.iter().all(|count| *count == 0) {
            state.first = ended + 1;
            state.counts.clear();
        }
        state.counts.push_back(0);
        ended
    }

    /// Waits until every batch of `generation` and of those before is resolved.
    pub(crate) async fn emptied(&self, generation: u64) {
        loop {
            let mut notified = std::pin::pin!(self.emptied.notified());
            // Enabled before the look: what is resolved between the two is not missed.
            notified.as_mut().enable();
            if self.lock().first > generation {
                return;
            }
            notified.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to tell the outcome of a batch. Dropped without that, it says that the producer is closed, so that nobody
/// waits for ever whatever becomes of the tasks.
#[derive(Debug)]
pub(crate) struct Completer {
    completion: Arc<BatchCompletion>,
    ledger: Arc<Ledger>,
    generation: u64,
    resolved: bool,
    /// Whether the batch was ever handed to a connection.
    sent: bool,
}

impl Completer {
    pub(crate) fn new(completion: Arc<BatchCompletion>, ledger: &Arc<Ledger>) -> Self {
        let generation = ledger.enter(None);
        Self { completion, ledger: ledger.clone(), generation, resolved: false, sent: false }
    }

    #[inline]
    pub(crate) fn completion(&self) -> &Arc<BatchCompletion> {
        &self.completion
    }

    pub(crate) fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// Only the first call counts.
    pub(crate) fn resolve(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.resolved, true) {
            self.completion.resolve(outcome);
            self.ledger.leave(self.generation);
        }
    }

    /// Two duties, for the records before the one with index `at` and for the rest.
    pub(crate) fn divide(mut self, at: u32) -> [Self; 2] {
        if self.resolved {
            // Expired meanwhile: the parts have nobody to tell.
            let [first, second] = [self.part(self.completion.clone()), self.part(self.completion.clone())];
            return [first, second];
        }
        let parts = self.completion.divide(at).map(|completion| self.part(completion));
        self.resolved = true;
        self.ledger.leave(self.generation);
        parts
    }

    fn part(&self, completion: Arc<BatchCompletion>) -> Self {
        if !self.resolved {
            self.ledger.enter(Some(self.generation));
        }
        Self {
            completion,
            ledger: self.ledger.clone(),
            generation: self.generation,
            resolved: self.resolved,
            sent: self.sent,
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if !self.resolved {
            let fate = if self.sent { Fate::PossiblyWritten } else { Fate::NotWritten };
            self.resolve(Outcome::Failed(Error::new(ErrorKind::Closed, fate)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;
    use crate::completion::Delivery;

    fn completer(ledger: &Arc<Ledger>) -> Completer {
        Completer::new(BatchCompletion::new("orders".into(), 0), ledger)
    }

    const WRITTEN: Outcome = Outcome::Written { base_offset: Some(0), append_time: None };

    #[tokio::test]
    async fn a_flush_waits_for_what_came_before_it_and_for_nothing_else() {
        let ledger = Arc::<Ledger>::default();
        let mut before = completer(&ledger);
        let first = ledger.turn();
        let mut between = completer(&ledger);
        let second = ledger.turn();
        let after = completer(&ledger);
        let (mut first, mut second) = (Box::pin(ledger.emptied(first)), Box::pin(ledger.emptied(second)));
        assert!(poll!(&mut first).is_pending());

        between.resolve(WRITTEN);
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        before.resolve(WRITTEN);
        before.resolve(WRITTEN);
        assert!(poll!(&mut first).is_ready());
        assert!(poll!(&mut second).is_ready());
        let third = ledger.turn();
        let mut third = Box::pin(ledger.emptied(third));
        assert!(poll!(&mut third).is_pending());
        drop(after);
        assert!(poll!(&mut third).is_ready());
    }

    #[tokio::test]
    async fn a_flush_of_nothing_is_over_at_once() {
        let ledger = Arc::<Ledger>::default();
        for _ in 0..3 {
            ledger.emptied(ledger.turn()).await;
        }
        drop(completer(&ledger));
        ledger.emptied(ledger.turn()).await;
    }

    #[tokio::test]
    async fn a_divided_batch_is_waited_for_in_both_parts() {
        let ledger = Arc::<Ledger>::default();
        let whole = completer(&ledger);
        let ended = ledger.turn();
        let mut flush = Box::pin(ledger.emptied(ended));
        let [mut first, second] = whole.divide(1);
        first.resolve(WRITTEN);
        assert!(poll!(&mut flush).is_pending());
        let [third, mut fourth] = second.divide(1);
        fourth.resolve(WRITTEN);
        assert!(poll!(&mut flush).is_pending());
        drop(third);
        assert!(poll!(&mut flush).is_ready());
    }

    #[test]
    fn a_batch_that_is_dropped_says_what_is_known_of_its_fate() {
        for (sent, fate) in [(false, Fate::NotWritten), (true, Fate::PossiblyWritten)] {
            let ledger = Arc::<Ledger>::default();
            let mut completer = completer(&ledger);
            let mut delivery = Delivery::new(completer.completion().clone(), 0, 0);
            if sent {
                completer.mark_sent();
            }
            drop(completer);
            let error = delivery.try_outcome().unwrap().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Closed));
            assert_eq!(error.fate(), fate);
        }
    }
}
