//! Decides when a connection has to prove anew who the client is, and what may be written meanwhile (KIP-368).

use std::time::Duration;

use tokio::time::Instant;

use super::authenticate::Session;

/// Of a session's lifetime: where a new proof is due, at the earliest and at the latest.
const EARLIEST: f64 = 0.85;
const LATEST: f64 = 0.95;
/// Between two tries to get what the mechanism needs.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Kafka refuses a proof that comes sooner after the one before.
const SHORTEST: Duration = Duration::from_secs(1);

/// How a connection stands with its broker. One that is not used is not renewed before it is.
///
/// ```text
/// Valid ──due, and there is work──► Preparing ──first message is there──► Exchanging ──► Valid
///        others are written          others are written until the end      nothing else is written
/// ```
#[derive(Debug)]
pub(crate) struct Renewal {
    phase: Phase,
    /// When the broker's patience ends; `None`: never.
    ends: Option<Instant>,
    /// How long the client's own side may take.
    patience: Duration,
    random: fastrand::Rng,
}

#[derive(Debug)]
enum Phase {
    Valid {
        due: Option<Instant>,
    },
    /// The mechanism gets what it needs.
    Preparing {
        give_up: Instant,
    },
    /// It speaks with the broker. The time begins when what was in flight is answered.
    Exchanging {
        give_up: Option<Instant>,
    },
}

impl Renewal {
    /// After a first proof.
    pub(crate) fn new(session: Option<Session>, patience: Duration, random: fastrand::Rng) -> Self {
        let mut renewal = Self { phase: Phase::Valid { due: None }, ends: None, patience, random };
        renewal.proved(session);
        renewal
    }

    /// The broker is convinced, for so long.
    pub(crate) fn proved(&mut self, session: Option<Session>) {
        // A lifetime that does not fit into time never ends.
        let end = |session: Session| session.began.checked_add(session.lifetime);
        self.ends = session.and_then(end);
        let point = EARLIEST + self.random.f64() * (LATEST - EARLIEST);
        let due = |session: Session| session.began + session.lifetime.mul_f64(point).max(SHORTEST);
        self.phase = Phase::Valid { due: self.ends.and(session).map(due) };
    }

    /// Whether to begin now, and begins.
    pub(crate) fn begin(&mut self, now: Instant, has_work: bool) -> bool {
        match self.phase {
            Phase::Valid { due: Some(due) } if due <= now && has_work => {
                self.phase = Phase::Preparing { give_up: now + self.patience };
                true
            }
            _ => false,
        }
    }

    /// The mechanism could not get what it needs, which may pass: says whether the session leaves time to try again.
    pub(crate) fn postpone(&mut self, now: Instant) -> bool {
        let (Phase::Preparing { .. }, Some(ends)) = (&self.phase, self.ends) else { return false };
        // Several times in what is left, and not without a pause.
        let again = now + (ends.saturating_duration_since(now) / 4).max(LEAST_PAUSE);
        if again < ends {
            self.phase = Phase::Valid { due: Some(again) };
        }
        again < ends
    }

    /// The mechanism has something to say.
    pub(crate) fn speak(&mut self) {
        if let Phase::Preparing { .. } = self.phase {
            self.phase = Phase::Exchanging { give_up: None };
        }
    }

    /// Its words are on their way: nothing of the connection's is in front of them.
    pub(crate) fn spoke(&mut self, now: Instant) {
        if let Phase::Exchanging { give_up: give_up @ None } = &mut self.phase {
            *give_up = Some(now + self.patience);
        }
    }

    /// Whether a proof is under way.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Valid { .. })
    }

    /// Whether anything else may be written.
    pub(crate) fn lets_others_write(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Valid { .. } => true,
            // The broker would close the connection over a request after the end.
            Phase::Preparing { .. } => self.ends.is_none_or(|ends| now < ends),
            Phase::Exchanging { .. } => false,
        }
    }

    /// When to look again at the latest.
    pub(crate) fn poll_timeout(&self, has_work: bool) -> Option<Instant> {
        match self.phase {
            Phase::Valid { due } => due.filter(|_| has_work),
            Phase::Preparing { give_up } => Some(give_up),
            Phase::Exchanging { give_up } => give_up,
        }
    }

    /// Whether it has taken too long.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Valid { .. } => false,
            Phase::Preparing { give_up } => give_up <= now,
            Phase::Exchanging { give_up } => give_up.is_some_and(|at| at <= now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn renewal(now: Instant, lifetime: Duration, seed: u64) -> Renewal {
        let session = Session { began: now, lifetime };
        Renewal::new(Some(session), 10 * SECOND, fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn the_point_is_spread_over_the_last_part_of_a_session_but_never_within_a_second() {
        let now = Instant::now();
        let due = |lifetime, seed| renewal(now, lifetime, seed).poll_timeout(true).unwrap() - now;
        let points: Vec<_> = (0..100).map(|seed| due(100 * SECOND, seed)).collect();
        assert!(points.iter().all(|point| (85 * SECOND..=95 * SECOND).contains(point)), "{points:?}");
        assert!(points.iter().any(|point| *point < 87 * SECOND));
        assert!(points.iter().any(|point| *point > 93 * SECOND));
        assert_eq!(due(Duration::from_millis(1), 1), SECOND);
    }

    #[test]
    fn a_session_without_end_is_never_renewed() {
        let now = Instant::now();
        let endless = Renewal::new(None, SECOND, fastrand::Rng::with_seed(1));
        let beyond_time = renewal(now, Duration::from_millis(i64::MAX as u64), 1);
        for mut renewal in [endless, beyond_time] {
            let much_later = now + 1_000_000 * SECOND;
            assert!(!renewal.begin(much_later, true) && renewal.lets_others_write(much_later));
            assert!(renewal.poll_timeout(true).is_none_or(|at| at > much_later));
        }
    }

    #[test]
    fn a_connection_without_work_waits_until_it_has_some() {
        let now = Instant::now();
        let mut renewal = renewal(now, 10 * SECOND, 1);
        let later = now + 60 * SECOND;
        assert_eq!(renewal.poll_timeout(false), None);
        assert!(!renewal.begin(later, false));
        assert!(renewal.begin(later, true));
        // Over-due, so nothing else goes first.
        assert!(!renewal.lets_others_write(later));
    }

    #[test]
    fn what_could_not_be_got_is_tried_again_until_the_session_ends_and_with_pauses() {
        let now = Instant::now();
        let mut renewal = renewal(now, 10 * SECOND, 1);
        let (mut at, mut tries) = (renewal.poll_timeout(true).unwrap(), 0);
        while renewal.begin(at, true) && renewal.postpone(at) {
            assert!(!renewal.is_running() && renewal.lets_others_write(at));
            let next = renewal.poll_timeout(true).unwrap();
            assert!(next >= at + LEAST_PAUSE && next < now + 10 * SECOND);
            (at, tries) = (next, tries + 1);
        }
        assert!((4..40).contains(&tries), "{tries}");
        // What it has said already cannot be taken back.
        renewal.speak();
        assert!(!renewal.postpone(at));
    }

    #[test]
    fn others_are_written_until_the_mechanism_speaks_or_the_session_ends() {
        let now = Instant::now();
        let mut renewal = renewal(now, 10 * SECOND, 1);
        let due = renewal.poll_timeout(true).unwrap();
        assert!(!renewal.begin(due - SECOND, true) && renewal.begin(due, true) && !renewal.begin(due, true));
        assert!(renewal.lets_others_write(due) && !renewal.lets_others_write(now + 10 * SECOND));
        renewal.speak();
        assert!(!renewal.lets_others_write(due) && renewal.is_running());
        renewal.proved(Some(Session { began: due, lifetime: 10 * SECOND }));
        assert!(renewal.lets_others_write(due) && !renewal.is_running());
        assert!(renewal.poll_timeout(true).unwrap() >= due + 8 * SECOND);
    }

    #[test]
    fn preparing_and_speaking_have_their_time_and_what_is_in_flight_takes_its_own() {
        let now = Instant::now();
        let mut renewal = renewal(now, 100 * SECOND, 1);
        let begun = now + 96 * SECOND;
        assert!(renewal.begin(begun, true));
        assert_eq!(renewal.poll_timeout(true), Some(begun + 10 * SECOND));
        assert!(!renewal.is_late(begun + 9 * SECOND) && renewal.is_late(begun + 10 * SECOND));
        renewal.speak();
        assert_eq!(renewal.poll_timeout(true), None);
        assert!(!renewal.is_late(begun + 60 * SECOND));
        renewal.spoke(begun + 60 * SECOND);
        renewal.spoke(begun + 65 * SECOND);
        assert!(renewal.is_late(begun + 70 * SECOND));
    }
}
