//! Carries the outcome of a batch to everyone who waits for one of its records.
//!
//! One allocation per batch: a [`Delivery`] is a reference to its batch and an index, and the record's offset is the
//! batch's first offset plus that index.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::record::RecordMetadata;

/// The acknowledgement of one record, still to come: a future of its [`RecordMetadata`]. The outcome is given out once, by
/// the future or by [`try_outcome`](Self::try_outcome); awaited after that, it stays pending.
///
/// # Cancel safety
/// Dropping it changes nothing: the record is delivered all the same.
#[must_use = "the record is on its way, but without this nobody learns whether it arrives"]
#[derive(Debug)]
pub struct Delivery {
    /// `None` once the outcome was given out.
    batch: Option<Arc<BatchCompletion>>,
    timestamp: i64,
    index: u32,
    /// Where our waker is in the batch's list; [`NOWHERE`] if it is not there.
    waiting_at: u32,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written {
        /// The first record's offset, where the broker said it.
        base_offset: Option<i64>,
        /// The time the broker gave all of them, where the topic wants that.
        append_time: Option<i64>,
    },
    Failed(Error),
    /// The broker refused the batch because of these records (KIP-467).
    Refused {
        /// By index, in ascending order.
        records: Vec<(u32, Error)>,
        others: Error,
    },
}

#[derive(Debug)]
pub(crate) struct BatchCompletion {
    topic: Arc<str>,
    partition: i32,
    settled: OnceLock<Settled>,
    /// Guards the wakers of the deliveries that were polled before the outcome was known.
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
enum Settled {
    Here(Outcome),
    /// The batch was too large and became two; the second begins with the record of this index.
    Divided(u32, [Arc<BatchCompletion>; 2]),
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    /// More than one delivery counts on this waker, so none of them may replace it.
    shared: bool,
}

/// The place of a waker that is not in the list.
const NOWHERE: u32 = u32::MAX;

/// How many of the newest wakers are compared with one that is added. Enough for a task that joins many deliveries;
/// without a bound, a thousand tasks waiting for one batch would compare half a million times.
const COMPARED: usize = 8;

impl BatchCompletion {
    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }

    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, partition, settled: OnceLock::new(), waiting: Mutex::default() })
    }

    /// Tells the outcome to everyone who waits. Only the first call counts.
    pub(crate) fn resolve(&self, outcome: Outcome) {
        self.settle(Settled::Here(outcome));
    }

    /// Hands the records over to two new completions: those before the record with index `at`, and the rest.
    pub(crate) fn divide(&self, at: u32) -> [Arc<Self>; 2] {
        let parts = [(); 2].map(|()| Self::new(self.topic.clone(), self.partition));
        self.settle(Settled::Divided(at, parts.clone()));
        parts
    }

    /// Whether the outcome of every record is known.
    pub(crate) fn is_done(&self) -> bool {
        match self.settled.get() {
            None => false,
            Some(Settled::Here(_)) => true,
            Some(Settled::Divided(_, parts)) => parts.iter().all(|part| part.is_done()),
        }
    }

    /// The first error among the records, as far as outcomes are known.
    pub(crate) fn error(&self) -> Option<Error> {
        match self.settled.get()? {
            Settled::Here(Outcome::Written { .. }) => None,
            Settled::Here(Outcome::Failed(error)) => Some(error.clone()),
            Settled::Here(Outcome::Refused { records, others }) => {
                Some(records.first().map_or(others, |(_, error)| error).clone())
            }
            Settled::Divided(_, parts) => parts.iter().find_map(|part| part.error()),
        }
    }

    fn settle(&self, settled: Settled) {
        if self.settled.set(settled).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_iter().for_each(|waiting| waiting.waker.wake());
        }
    }

    /// Leaves a waker to be woken once the batch is settled. False if it is settled already. `at` is the place that an
    /// earlier call by the same delivery took.
    fn wait(&self, waker: &Waker, at: &mut u32) -> bool {
        let mut waiting = self.waiting();
        // Whoever settles does that first and takes the wakers second.
        if self.settled.get().is_some() {
            return false;
        }
        if let Some(mine) = waiting.get_mut(*at as usize)
            && (!mine.shared || mine.waker.will_wake(waker))
        {
            mine.waker.clone_from(waker);
            return true;
        }
        let recent = waiting.len().saturating_sub(COMPARED);
        match waiting[recent..].iter_mut().find(|known| known.waker.will_wake(waker)) {
            Some(known) => known.shared = true,
            None => {
                *at = u32::try_from(waiting.len()).unwrap_or(NOWHERE);
                waiting.push(Waiting { waker: waker.clone(), shared: false });
            }
        }
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    #[inline]
    pub(crate) fn new(batch: Arc<BatchCompletion>, index: u32, timestamp: i64) -> Self {
        Self { batch: Some(batch), timestamp, index, waiting_at: NOWHERE }
    }

    /// The outcome, if it is known by now. It is given out once: `None` and, as a future, pending from then on.
    #[inline]
    pub fn try_outcome(&mut self) -> Option<Result<RecordMetadata>> {
        match self.batch.as_ref()?.settled.get()? {
            Settled::Here(Outcome::Written { base_offset, append_time }) => {
                // An offset beyond all numbers is a broker's invention.
                let offset = base_offset.and_then(|base| base.checked_add(self.index.into()));
                let timestamp = append_time.unwrap_or(self.timestamp);
                // Moved on: a counted reference costs more than all the rest here.
                self.batch.take().map(|batch| Ok(RecordMetadata { batch, offset, timestamp }))
            }
            _ => self.unusual_outcome(),
        }
    }

    #[cold]
    fn unusual_outcome(&mut self) -> Option<Result<RecordMetadata>> {
        let part = match self.batch.as_ref()?.settled.get()? {
            Settled::Here(outcome) => {
                let error = match outcome {
                    Outcome::Written { .. } => return self.try_outcome(),
                    Outcome::Failed(error) => error.clone(),
                    Outcome::Refused { records, others } => {
                        match records.binary_search_by_key(&self.index, |(index, _)| *index) {
                            Ok(found) => records[found].1.clone(),
                            Err(_) => others.clone(),
                        }
                    }
                };
                self.batch = None;
                return Some(Err(error));
            }
            Settled::Divided(at, [first, _]) if self.index < *at => first.clone(),
            Settled::Divided(at, [_, second]) => {
                self.index -= at;
                second.clone()
            }
        };
        self.waiting_at = NOWHERE;
        self.batch = Some(part);
        self.try_outcome()
    }

    /// The batch that holds the record, until the outcome is given out.
    pub(crate) fn batch(&self) -> Option<&Arc<BatchCompletion>> {
        self.batch.as_ref()
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(result) = self.try_outcome() {
                return Poll::Ready(result);
            }
            let mut at = self.waiting_at;
            let waits = self.batch.as_ref().is_none_or(|batch| batch.wait(context.waker(), &mut at));
            self.waiting_at = at;
            if waits {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::error::{ErrorKind, Fate};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::<Wakes>::default();
        (wakes.clone(), wakes.into())
    }

    fn poll(delivery: &mut Delivery, waker: &Waker) -> Poll<Result<RecordMetadata>> {
        Pin::new(delivery).poll(&mut Context::from_waker(waker))
    }

    fn batch() -> Arc<BatchCompletion> {
        BatchCompletion::new("orders".into(), 3)
    }

    fn written(base_offset: i64) -> Outcome {
        Outcome::Written { base_offset: Some(base_offset), append_time: None }
    }

    #[test]
    fn each_record_gets_its_own_offset_and_time() {
        let batch = batch();
        let mut deliveries: Vec<_> =
            (0..3).map(|index| Delivery::new(batch.clone(), index, 1000 + i64::from(index))).collect();
        assert!(deliveries[0].try_outcome().is_none());
        batch.resolve(written(40));
        for (index, delivery) in deliveries.iter_mut().enumerate() {
            let Poll::Ready(Ok(record)) = poll(delivery, Waker::noop()) else { panic!("{delivery:?}") };
            assert_eq!(record.topic_partition().to_string(), "orders-3");
            assert_eq!((record.offset, record.timestamp), (Some(40 + index as i64), 1000 + index as i64));
        }
    }

    #[test]
    fn the_brokers_time_wins_over_the_records() {
        let batch = batch();
        let mut delivery = Delivery::new(batch.clone(), 0, 7);
        batch.resolve(Outcome::Written { base_offset: None, append_time: Some(99) });
        let record = delivery.try_outcome().unwrap().unwrap();
        assert_eq!((record.offset, record.timestamp), (None, 99));
    }

    #[test]
    fn a_task_that_waits_for_many_records_is_woken_once() {
        let batch = batch();
        let (wakes, waker) = waker();
        for index in 0..100 {
            assert!(poll(&mut Delivery::new(batch.clone(), index, 0), &waker).is_pending());
        }
        batch.resolve(written(0));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn polling_one_delivery_again_and_again_keeps_one_waker() {
        let batch = batch();
        let mut delivery = Delivery::new(batch.clone(), 0, 0);
        let others: Vec<_> = (0..20).map(|_| waker()).collect();
        let last = waker();
        for (_, other) in &others {
            assert!(poll(&mut delivery, other).is_pending());
            assert!(poll(&mut Delivery::new(batch.clone(), 1, 0), other).is_pending());
        }
        assert!(poll(&mut delivery, &last.1).is_pending());
        batch.resolve(written(0));
        assert_eq!(last.0.0.load(Ordering::SeqCst), 1);
        assert!(others.iter().all(|(wakes, _)| wakes.0.load(Ordering::SeqCst) <= 1));
    }

    #[test]
    fn a_delivery_that_moves_to_another_task_does_not_take_a_shared_waker_along() {
        let batch = batch();
        let ((first_wakes, first), (second_wakes, second)) = (waker(), waker());
        let mut moving = Delivery::new(batch.clone(), 0, 0);
        let mut staying = Delivery::new(batch.clone(), 1, 0);
        assert!(poll(&mut moving, &first).is_pending());
        assert!(poll(&mut staying, &first).is_pending());
        assert!(poll(&mut moving, &second).is_pending());
        batch.resolve(written(0));
        assert_eq!(first_wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(second_wakes.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_divided_batch_resolves_in_its_parts_also_for_those_who_waited_before() {
        let batch = batch();
        let (wakes, waker) = waker();
        let mut deliveries: Vec<_> = (0..4).map(|index| Delivery::new(batch.clone(), index, 0)).collect();
        for delivery in &mut deliveries {
            assert!(poll(delivery, &waker).is_pending());
        }
        let [first, second] = batch.divide(3);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        for delivery in &mut deliveries {
            assert!(poll(delivery, &waker).is_pending());
        }
        second.resolve(written(90));
        assert!(!batch.is_done());
        let [_, inner] = first.divide(1);
        inner.resolve(Outcome::Failed(Error::not_sent(ErrorKind::Closed)));
        assert_eq!(deliveries[3].try_outcome().unwrap().unwrap().offset, Some(90));
        assert_eq!(deliveries[2].try_outcome().unwrap().unwrap_err().fate(), Fate::NotWritten);
        assert!(deliveries[0].try_outcome().is_none());
        assert!(batch.error().is_some());
        assert!(!batch.is_done());
    }

    #[test]
    fn a_refused_batch_tells_each_record_its_own_reason() {
        let batch = batch();
        let invalid = Error::not_sent(ErrorKind::InvalidRecord { reason: "no key".into() });
        let others = Error::not_sent(ErrorKind::Closed);
        let mut deliveries: Vec<_> = (0..3).map(|index| Delivery::new(batch.clone(), index, 0)).collect();
        batch.resolve(Outcome::Refused { records: vec![(1, invalid)], others });
        let is_named = |delivery: &mut Delivery| {
            let error = delivery.try_outcome().unwrap().unwrap_err();
            matches!(error.kind(), ErrorKind::InvalidRecord { .. })
        };
        assert_eq!(deliveries.iter_mut().map(is_named).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn an_offset_beyond_all_numbers_is_none() {
        let batch = batch();
        let mut deliveries = [0, 1].map(|index| Delivery::new(batch.clone(), index, 0));
        batch.resolve(written(i64::MAX));
        let offsets = deliveries.each_mut().map(|delivery| delivery.try_outcome().unwrap().unwrap().offset);
        assert_eq!(offsets, [Some(i64::MAX), None]);
    }

    #[test]
    fn only_the_first_outcome_counts() {
        let batch = batch();
        let mut delivery = Delivery::new(batch.clone(), 0, 0);
        batch.resolve(written(1));
        batch.resolve(Outcome::Failed(Error::not_sent(ErrorKind::Closed)));
        assert_eq!(delivery.try_outcome().unwrap().unwrap().offset, Some(1));
    }
}
