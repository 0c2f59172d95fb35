//! Decides how long to wait before the next attempt: exponential with jitter (KIP-580).

use std::time::Duration;

/// Kafka's jitter: ±20 %.
const JITTER: f64 = 0.2;

/// The least that a wait may begin with: whatever fails at once would otherwise be tried as often as the processor can.
const LEAST: Duration = Duration::from_millis(1);

/// Waits that double from `initial` to `max`, each ±20 %, and never longer than `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Starts at `initial` and doubles up to `max`; an `initial` above `max` is lowered to it, and both are 1 ms at least.
    pub fn new(initial: Duration, max: Duration) -> Self {
        let max = max.max(LEAST);
        Self { initial: initial.clamp(LEAST, max), max, attempts: 0 }
    }

    /// How often [`next`](Self::next) was called since the last [`reset`](Self::reset).
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Counts a failed attempt and says how long to wait before the following one.
    pub fn next(&mut self, random: &mut fastrand::Rng) -> Duration {
        let delay = self.delay(self.attempts, random);
        self.attempts = self.attempts.saturating_add(1);
        delay
    }

    /// The wait after `attempts` earlier failures; 0 gives the initial one.
    pub fn delay(&self, attempts: u32, random: &mut fastrand::Rng) -> Duration {
        // Beyond 2^32 every sensible maximum is reached, and the float stays finite.
        let grown = self.initial.as_secs_f64() * 2_f64.powi(attempts.min(32) as i32);
        let capped = grown.min(self.max.as_secs_f64());
        let spread = 1.0 - JITTER + 2.0 * JITTER * random.f64();
        Duration::try_from_secs_f64(capped * spread).map_or(self.max, |delay| delay.min(self.max))
    }

    /// Forgets the failures: the next wait is the initial one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn waits_double_from_the_first_to_the_last_within_a_fifth() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::new(milliseconds(100), milliseconds(1000));
            for expected in [100, 200, 400, 800, 1000, 1000] {
                let delay = backoff.next(&mut random);
                let highest = (expected * 6 / 5).min(1000);
                assert!(
                    delay >= milliseconds(expected * 4 / 5) && delay <= milliseconds(highest),
                    "seed {seed}: {delay:?} for {expected} ms"
                );
            }
            backoff.reset();
            assert!(backoff.next(&mut random) <= milliseconds(120));
        }
    }

    #[test]
    fn attempts_without_end_stay_at_the_maximum() {
        let mut random = fastrand::Rng::with_seed(1);
        let backoff = Backoff::new(milliseconds(100), milliseconds(1000));
        assert!(backoff.delay(u32::MAX, &mut random) <= milliseconds(1000));
        assert!(Backoff::new(Duration::MAX, Duration::MAX).delay(5, &mut random) <= Duration::MAX);
    }

    #[test]
    fn no_wait_is_none_at_all() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!(backoff.next(&mut random) >= LEAST * 4 / 5);
        let mut backoff = Backoff::new(Duration::ZERO, milliseconds(1000));
        let waits: Duration = (0..20).map(|_| backoff.next(&mut random)).sum();
        assert!(waits > milliseconds(5000), "{waits:?}");
    }

    #[test]
    fn an_initial_wait_above_the_maximum_is_lowered() {
        let mut random = fastrand::Rng::with_seed(1);
        assert!(Backoff::new(milliseconds(5000), milliseconds(10)).next(&mut random) <= milliseconds(10));
    }
}
