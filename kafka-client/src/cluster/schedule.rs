//! Decides when metadata is refreshed: on request, before it is too old, sooner while something is amiss, never in a
//! tight loop.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::interest::Scope;

/// The refresher's clockwork. It waits for nothing itself.
#[derive(Debug)]
pub(crate) struct Schedule {
    max_age: Duration,
    rebootstrap_after: Duration,
    backoff: Backoff,
    longest_wait: Duration,
    /// Somebody asked for a refresh of everything.
    requested: bool,
    /// Somebody waits for topics that are not known.
    new_topics: bool,
    /// The last answer left something open.
    unsettled: bool,
    /// No refresh before this, except for new topics while nothing fails.
    not_before: Option<Instant>,
    /// When what is known is too old.
    expires: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Schedule {
    /// `backoff` goes from the first wait to `longest_wait`.
    pub(crate) fn new(
        max_age: Duration,
        rebootstrap_after: Duration,
        retry: Duration,
        longest_wait: Duration,
    ) -> Self {
        Self {
            max_age,
            rebootstrap_after,
            backoff: Backoff::new(retry, longest_wait),
            longest_wait,
            requested: false,
            new_topics: false,
            unsettled: false,
            not_before: None,
            expires: None,
            failing_since: None,
        }
    }

    /// Somebody saw that what is known is wrong, or needs it for the first time.
    pub(crate) fn request(&mut self, now: Instant) {
        // A new request after a quiet time starts with the short waits again.
        if self.failing_since.is_none()
            && self.not_before.is_some_and(|before| before + self.longest_wait < now)
        {
            self.backoff.reset();
        }
        self.requested = true;
    }

    /// Somebody uses a topic that is not known yet.
    pub(crate) fn request_new_topics(&mut self) {
        self.new_topics = true;
    }

    /// When to refresh next, and how much. A time that has passed means now; `None` means not before a request.
    pub(crate) fn due(&self, now: Instant) -> Option<(Instant, Scope)> {
        let allowed = self.not_before.unwrap_or(now);
        let aged = self.expires.map(|expires| (expires.max(allowed), Scope::Full));
        if self.requested
            || self.expires.is_none_or(|expires| expires <= now) && (self.new_topics || self.unsettled)
        {
            return Some((allowed, Scope::Full));
        }
        if self.new_topics {
            let at = if self.failing_since.is_some() { allowed } else { now };
            return Some((at, Scope::Unsettled));
        }
        if self.unsettled {
            return Some((allowed, Scope::Unsettled));
        }
        aged
    }

    /// A refresh begins; requests from now on are for another one.
    pub(crate) fn started(&mut self) {
        self.requested = false;
        self.new_topics = false;
    }

    /// A refresh succeeded. `unsettled` says that it left something open.
    pub(crate) fn succeeded(
        &mut self,
        scope: Scope,
        unsettled: bool,
        now: Instant,
        random: &mut fastrand::Rng,
    ) {
        self.failing_since = None;
        self.unsettled = unsettled;
        self.not_before = Some(now + self.backoff.next(random));
        if scope == Scope::Full || self.expires.is_none() {
            // Up to a tenth sooner, so that clients that were started together do not ask together for ever.
            self.expires = Some(now + self.max_age.mul_f64(1.0 - 0.1 * random.f64()));
        }
    }

    /// A broker did not answer; another may.
    pub(crate) fn attempt_failed(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    /// No broker answered.
    pub(crate) fn failed(&mut self, now: Instant, random: &mut fastrand::Rng) {
        self.attempt_failed(now);
        self.not_before = Some(now + self.backoff.next(random));
        self.requested = true;
    }

    /// Whether metadata could not be had for so long that the known brokers are given up (KIP-1102).
    pub(crate) fn must_rebootstrap(&self, now: Instant) -> bool {
        self.failing_since.is_some_and(|since| now.duration_since(since) >= self.rebootstrap_after)
    }

    /// A bootstrap begins: the time without metadata counts from here.
    pub(crate) fn rebootstrapped(&mut self, now: Instant) {
        self.failing_since = self.failing_since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(300);

    fn schedule() -> Schedule {
        Schedule::new(AGE, AGE, Duration::from_millis(100), Duration::from_secs(1))
    }

    fn random() -> fastrand::Rng {
        fastrand::Rng::with_seed(7)
    }

    #[test]
    fn nothing_is_due_before_somebody_asks() {
        let now = Instant::now();
        let mut schedule = schedule();
        assert_eq!(schedule.due(now), None);
        schedule.request(now);
        assert_eq!(schedule.due(now), Some((now, Scope::Full)));
    }

    #[test]
    fn what_is_known_is_refreshed_before_it_is_too_old() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.succeeded(Scope::Full, false, now, &mut random());
        let (due, scope) = schedule.due(now).unwrap();
        assert!(due > now + AGE.mul_f64(0.9) && due <= now + AGE);
        assert_eq!(scope, Scope::Full);
    }

    #[test]
    fn a_partial_refresh_does_not_make_the_rest_younger() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.succeeded(Scope::Full, false, now, &mut random());
        let due = schedule.due(now);
        schedule.request_new_topics();
        schedule.started();
        schedule.succeeded(Scope::Unsettled, false, now + AGE / 2, &mut random());
        assert_eq!(schedule.due(now + AGE / 2), due);
    }

    #[test]
    fn requests_one_after_the_other_are_spaced_ever_wider() {
        let mut now = Instant::now();
        let mut schedule = schedule();
        let mut random = random();
        let mut waits = Vec::new();
        for _ in 0..6 {
            schedule.request(now);
            let (due, _) = schedule.due(now).unwrap();
            waits.push(due.saturating_duration_since(now));
            now = due.max(now);
            schedule.started();
            schedule.succeeded(Scope::Full, false, now, &mut random);
        }
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[1] >= Duration::from_millis(80) && waits[1] <= Duration::from_millis(120), "{waits:?}");
        assert!(waits[5] >= Duration::from_millis(800) && waits[5] <= Duration::from_secs(1), "{waits:?}");
        now += Duration::from_secs(5);
        schedule.request(now);
        assert!(schedule.due(now).unwrap().0 <= now);
        schedule.started();
        schedule.succeeded(Scope::Full, false, now, &mut random);
        schedule.request(now);
        assert!(schedule.due(now).unwrap().0 <= now + Duration::from_millis(120));
    }

    #[test]
    fn a_new_topic_does_not_wait_for_the_backoff_unless_brokers_fail() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.succeeded(Scope::Full, false, now, &mut random());
        schedule.request_new_topics();
        assert_eq!(schedule.due(now), Some((now, Scope::Unsettled)));
        schedule.failed(now, &mut random());
        assert!(schedule.due(now).unwrap().0 > now);
    }

    #[test]
    fn an_open_question_is_asked_again_after_a_wait() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.succeeded(Scope::Full, true, now, &mut random());
        let (due, scope) = schedule.due(now).unwrap();
        assert!(due > now && due <= now + Duration::from_millis(120));
        assert_eq!(scope, Scope::Unsettled);
    }

    #[test]
    fn an_open_question_does_not_put_off_the_refresh_of_the_rest() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.succeeded(Scope::Full, true, now, &mut random());
        assert_eq!(schedule.due(now + AGE).unwrap().1, Scope::Full);
    }

    #[test]
    fn known_brokers_are_given_up_after_failing_long_enough() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.failed(now, &mut random());
        assert!(!schedule.must_rebootstrap(now + AGE - Duration::from_secs(1)));
        assert!(schedule.must_rebootstrap(now + AGE));
        schedule.rebootstrapped(now + AGE);
        assert!(!schedule.must_rebootstrap(now + AGE + Duration::from_secs(1)));
        schedule.succeeded(Scope::Full, false, now, &mut random());
        assert!(!schedule.must_rebootstrap(now + AGE * 3));
    }
}
