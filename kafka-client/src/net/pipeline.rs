//! Decides which request an answer belongs to and when a connection has waited long enough: Kafka answers in order.

use std::collections::VecDeque;
use std::time::Duration;

use kafka_wire::api::Api;
use kafka_wire::error::{ProtocolError, ProtocolErrorKind};
use tokio::time::Instant;

/// The longest a broker may mute a connection; more is taken for a mistake.
pub(crate) const LONGEST_MUTE: Duration = Duration::from_secs(300);

/// The requests of one connection, from their place in the queue to their answer. `S` is whatever the caller wants
/// back with the answer.
pub(crate) struct Pipeline<S> {
    next_id: i32,
    /// Not completely handed to the socket; the front may be partly.
    unwritten: VecDeque<Entry<S>>,
    /// Handed to the socket, not answered.
    in_flight: VecDeque<Entry<S>>,
    muted_until: Option<Instant>,
    idle_after: Option<Duration>,
    idle_since: Instant,
    /// No deadline lies before this. It may be too early, which costs a look, but never too late.
    next_look: Option<Instant>,
}

/// One request.
pub(crate) struct Entry<S> {
    pub(crate) correlation_id: i32,
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) timeout: Duration,
    pub(crate) slot: S,
    expects_response: bool,
    deadline: Option<Instant>,
}

/// What ran out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The time of at least one request; `true` from [`Entry::is_late`] tells which.
    Request,
    /// The time that a connection may be without requests.
    Idle,
}

impl<S> Entry<S> {
    /// Whether its answer is overdue.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl<S> Pipeline<S> {
    /// A pipeline without requests, whose first has the given correlation id; idle for `idle_after` (`None`: for
    /// ever) it asks to be closed.
    pub(crate) fn new(now: Instant, first_id: i32, idle_after: Option<Duration>) -> Self {
        let mut pipeline = Self {
            next_id: first_id,
            unwritten: VecDeque::new(),
            in_flight: VecDeque::new(),
            muted_until: None,
            idle_after,
            idle_since: now,
            next_look: None,
        };
        pipeline.look_at(pipeline.idle_deadline());
        pipeline
    }

    /// The correlation id of the next request.
    pub(crate) fn next_id(&self) -> i32 {
        self.next_id
    }

    /// Takes the next request in and gives it its correlation id.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        (api, version): (Api, i16),
        timeout: Duration,
        expects_response: bool,
        slot: S,
    ) -> i32 {
        let correlation_id = self.next_id;
        // Kafka's brokers only echo it; after two thousand million requests it starts again at 0.
        self.next_id = self.next_id.checked_add(1).unwrap_or(0);
        let starts = self.muted_until.map_or(now, |until| until.max(now));
        let deadline = starts.checked_add(timeout);
        self.look_at(deadline);
        let entry = Entry { correlation_id, api, version, timeout, slot, expects_response, deadline };
        self.unwritten.push_back(entry);
        correlation_id
    }

    /// The requests that are not completely handed to the socket, in order.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &Entry<S>> {
        self.unwritten.iter()
    }

    /// The first unwritten request is completely handed to the socket. Returned if that was all it wanted.
    pub(crate) fn written(&mut self, now: Instant) -> Option<Entry<S>> {
        let entry = self.unwritten.pop_front()?;
        if entry.expects_response {
            self.in_flight.push_back(entry);
            return None;
        }
        self.used(now);
        Some(entry)
    }

    /// What the next answer has to be the answer to, if one is due.
    pub(crate) fn due(&self) -> Option<(Api, i16)> {
        self.in_flight.front().map(|entry| (entry.api, entry.version))
    }

    /// The request that this answer belongs to.
    ///
    /// # Errors
    /// It is not the answer that is due. There is then no telling what any later answer belongs to.
    pub(crate) fn answered(&mut self, now: Instant, correlation_id: i32) -> Result<Entry<S>, ProtocolError> {
        let (api, version) = self.due().ok_or_else(unsolicited)?;
        match self.in_flight.pop_front_if(|entry| entry.correlation_id == correlation_id) {
            Some(entry) => {
                self.used(now);
                Ok(entry)
            }
            None => {
                let expected = self.in_flight.front().map_or(0, |entry| entry.correlation_id);
                Err(ProtocolErrorKind::CorrelationId { expected, received: correlation_id }
                    .at(api.key(), version))
            }
        }
    }

    /// The broker will not read for this long (KIP-219): every deadline moves by the time that was added. Returns the
    /// end, which never moves back.
    pub(crate) fn mute(&mut self, now: Instant, duration: Duration) -> Instant {
        let until = now + duration.min(LONGEST_MUTE);
        let since = self.muted_until.map_or(now, |until| until.max(now));
        let added = until.saturating_duration_since(since);
        for entry in self.unwritten.iter_mut().chain(&mut self.in_flight) {
            entry.deadline = entry.deadline.and_then(|deadline| deadline.checked_add(added));
        }
        let until = until.max(since);
        self.muted_until = Some(until);
        until
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_look
    }

    /// Whether something has run out at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Expired> {
        if self.next_look.is_none_or(|at| now < at) {
            return None;
        }
        let requests = self.unwritten.iter().chain(&self.in_flight);
        let earliest = requests.filter_map(|entry| entry.deadline).min();
        if earliest.is_some_and(|deadline| deadline <= now) {
            return Some(Expired::Request);
        }
        let idle = if self.is_empty() { self.idle_deadline() } else { None };
        if idle.is_some_and(|deadline| deadline <= now) {
            return Some(Expired::Idle);
        }
        self.next_look = earliest.into_iter().chain(idle).min();
        None
    }

    /// Every request, those already written first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry<S>> {
        self.in_flight.drain(..).chain(self.unwritten.drain(..))
    }

    /// Until when the broker will not read, if that is still to come.
    pub(crate) fn muted(&self, now: Instant) -> Option<Instant> {
        self.muted_until.filter(|until| now < *until)
    }

    /// Whether every request is answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.unwritten.is_empty() && self.in_flight.is_empty()
    }

    /// The connection is of use, whether or not a request shows it.
    pub(crate) fn used(&mut self, now: Instant) {
        if self.is_empty() {
            self.idle_since = now;
            self.look_at(self.idle_deadline());
        }
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.idle_after.and_then(|after| self.idle_since.checked_add(after))
    }

    fn look_at(&mut self, deadline: Option<Instant>) {
        self.next_look = self.next_look.into_iter().chain(deadline).min();
    }
}

/// The error of an answer where none is due.
pub(crate) fn unsolicited() -> ProtocolError {
    ProtocolError::in_frame(ProtocolErrorKind::InvalidValue("an answer where none was due".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const CALL: (Api, i16) = (Api::Metadata, 12);

    fn pipeline(now: Instant) -> Pipeline<&'static str> {
        Pipeline::new(now, 0, Some(9 * 60 * SECOND))
    }

    /// Hands a request to the socket at once.
    fn send(
        pipeline: &mut Pipeline<&'static str>,
        now: Instant,
        timeout: Duration,
        slot: &'static str,
    ) -> i32 {
        let id = pipeline.begin(now, CALL, timeout, true, slot);
        assert!(pipeline.written(now).is_none());
        id
    }

    #[test]
    fn answers_are_matched_in_order() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        assert_eq!(send(&mut pipeline, now, SECOND, "a"), 0);
        assert_eq!(send(&mut pipeline, now, SECOND, "b"), 1);
        assert_eq!(pipeline.answered(now, 0).unwrap().slot, "a");
        assert_eq!(pipeline.answered(now, 1).unwrap().slot, "b");
    }

    #[test]
    fn an_answer_out_of_order_is_an_error_and_its_request_still_fails_with_the_others() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        send(&mut pipeline, now, SECOND, "a");
        send(&mut pipeline, now, SECOND, "b");
        let error = pipeline.answered(now, 1).err().unwrap();
        assert_eq!(error.kind, ProtocolErrorKind::CorrelationId { expected: 0, received: 1 });
        assert_eq!(pipeline.drain().map(|entry| entry.slot).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_answer_is_unsolicited_before_its_request_is_written_and_after_it_was_answered() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        let id = pipeline.begin(now, CALL, SECOND, true, "a");
        assert!(pipeline.answered(now, id).is_err());
        assert!(pipeline.written(now).is_none());
        assert!(pipeline.answered(now, id).is_ok());
        assert!(pipeline.answered(now, id).is_err());
    }

    #[test]
    fn a_request_without_an_answer_is_done_once_written() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        pipeline.begin(now, CALL, SECOND, false, "a");
        pipeline.begin(now, CALL, SECOND, true, "b");
        assert_eq!(pipeline.written(now).map(|entry| entry.slot), Some("a"));
        assert_eq!(pipeline.unwritten().map(|entry| entry.slot).collect::<Vec<_>>(), ["b"]);
        assert!(pipeline.written(now).is_none());
        // "a" is due no answer, "b" is.
        assert!(pipeline.answered(now, 0).is_err());
        assert_eq!(pipeline.answered(now, 1).unwrap().slot, "b");
    }

    #[test]
    fn correlation_ids_start_again_at_zero() {
        let now = Instant::now();
        let mut pipeline = Pipeline::new(now, i32::MAX, None);
        assert_eq!(send(&mut pipeline, now, SECOND, "a"), i32::MAX);
        assert_eq!(send(&mut pipeline, now, SECOND, "b"), 0);
    }

    #[test]
    fn the_earliest_deadline_counts_not_the_first_request() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        send(&mut pipeline, now, 10 * SECOND, "slow");
        pipeline.begin(now, CALL, 2 * SECOND, true, "quick, unwritten");
        assert_eq!(pipeline.poll_timeout(), Some(now + 2 * SECOND));
        assert_eq!(pipeline.handle_timeout(now + SECOND), None);
        assert_eq!(pipeline.handle_timeout(now + 2 * SECOND), Some(Expired::Request));
        let late: Vec<_> = pipeline.drain().map(|entry| entry.is_late(now + 2 * SECOND)).collect();
        assert_eq!(late, [false, true]);
    }

    #[test]
    fn an_early_look_finds_nothing_and_sets_the_next_one() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        let id = send(&mut pipeline, now, SECOND, "a");
        pipeline.answered(now, id).unwrap();
        send(&mut pipeline, now, 5 * SECOND, "b");
        assert_eq!(pipeline.handle_timeout(now + SECOND), None);
        assert_eq!(pipeline.poll_timeout(), Some(now + 5 * SECOND));
    }

    #[test]
    fn muted_time_does_not_count_and_never_shrinks() {
        let now = Instant::now();
        let mut pipeline = pipeline(now);
        send(&mut pipeline, now, 5 * SECOND, "before");
        assert_eq!(pipeline.mute(now + SECOND, 10 * SECOND), now + 11 * SECOND);
        assert_eq!(pipeline.mute(now + 2 * SECOND, SECOND), now + 11 * SECOND);
        pipeline.begin(now + 2 * SECOND, CALL, 5 * SECOND, true, "during");
        assert_eq!(pipeline.handle_timeout(now + 14 * SECOND), None);
        assert_eq!(pipeline.poll_timeout(), Some(now + 15 * SECOND));
        // Only the 3 seconds beyond the first mute are new.
        assert_eq!(pipeline.mute(now + 4 * SECOND, 10 * SECOND), now + 14 * SECOND);
        assert_eq!(pipeline.handle_timeout(now + 17 * SECOND), None);
        assert_eq!(pipeline.handle_timeout(now + 18 * SECOND), Some(Expired::Request));
    }

    #[test]
    fn a_mute_is_capped_at_five_minutes() {
        let now = Instant::now();
        assert_eq!(pipeline(now).mute(now, Duration::from_millis(i32::MAX as u64)), now + LONGEST_MUTE);
    }

    #[test]
    fn a_connection_is_idle_only_while_it_has_no_request() {
        let now = Instant::now();
        let minute = 60 * SECOND;
        let mut pipeline = pipeline(now);
        let id = send(&mut pipeline, now + minute, 60 * minute, "long");
        assert_eq!(pipeline.handle_timeout(now + 30 * minute), None);
        pipeline.answered(now + 30 * minute, id).unwrap();
        assert_eq!(pipeline.handle_timeout(now + 38 * minute), None);
        assert_eq!(pipeline.handle_timeout(now + 39 * minute), Some(Expired::Idle));
    }

    #[test]
    fn a_timeout_beyond_all_time_never_comes() {
        let now = Instant::now();
        let mut pipeline = Pipeline::new(now, 0, None);
        send(&mut pipeline, now, Duration::MAX, "patient");
        assert_eq!(pipeline.poll_timeout(), None);
        assert_eq!(pipeline.handle_timeout(now + 1_000_000 * SECOND), None);
    }
}
