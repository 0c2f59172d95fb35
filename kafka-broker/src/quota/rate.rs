//! How much a second, over the last windows, and how long it takes until that is within a limit. Time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long one sample is taken for, and how many are remembered: Kafka's `quota.window.size.seconds` and
/// `quota.window.num`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub(super) size: Duration,
    pub(super) count: u32,
}

/// What was used in the last windows.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    start: Instant,
    used: f64,
}

impl Rate {
    /// Notes what is used now; a negative number takes back what was noted.
    pub(super) fn record(&mut self, used: f64, now: Instant, windows: Windows) {
        self.forget(now, windows);
        match self.samples.back_mut().filter(|last| now.duration_since(last.start) < windows.size) {
            Some(last) => last.used += used,
            None => self.samples.push_back(Sample { start: now, used }),
        }
    }

    /// How long to wait until the rate is `limit` a second; nothing if it is not above.
    pub(super) fn excess(&mut self, limit: f64, now: Instant, windows: Windows) -> Duration {
        self.forget(now, windows);
        let elapsed = self.elapsed(now, windows).as_secs_f64();
        let rate = self.samples.iter().map(|sample| sample.used).sum::<f64>() / elapsed;
        if rate <= limit {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64((rate - limit) / limit * elapsed).unwrap_or(Duration::MAX)
    }

    /// Whether all that is left of it is as if it had never been.
    pub(super) fn is_over(&mut self, now: Instant, windows: Windows) -> bool {
        self.forget(now, windows);
        self.samples.is_empty()
    }

    fn forget(&mut self, now: Instant, windows: Windows) {
        let remembered = windows.size * windows.count;
        while self.samples.front().is_some_and(|first| now.duration_since(first.start) >= remembered) {
            self.samples.pop_front();
        }
    }

    /// The time that the samples stand for: at least all windows but one, or a first burst would look endless.
    fn elapsed(&self, now: Instant, windows: Windows) -> Duration {
        let elapsed = self.samples.front().map_or(Duration::ZERO, |first| now.duration_since(first.start));
        let full = u32::try_from(elapsed.as_nanos() / windows.size.as_nanos().max(1)).unwrap_or(u32::MAX);
        let missing = windows.count.saturating_sub(1).saturating_sub(full);
        (elapsed + windows.size * missing).max(Duration::from_millis(1))
    }
}

/// Tokens that come at a rate and are saved up over all windows, for what is done in bursts. Debt is possible: whoever has
/// a token left may do something large.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    filled: Instant,
    /// When it is full again, if nobody takes any.
    full: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(limit: f64, now: Instant, windows: Windows) -> Self {
        Self { tokens: Self::most(limit, windows), filled: now, full: now }
    }

    /// Takes tokens, and says how long it takes until there is no debt.
    pub(super) fn take(&mut self, tokens: f64, limit: f64, now: Instant, windows: Windows) -> Duration {
        let come = now.duration_since(self.filled).as_secs_f64() * limit;
        self.tokens = (self.tokens + come).min(Self::most(limit, windows)) - tokens;
        self.filled = now;
        let missing = (Self::most(limit, windows) - self.tokens) / limit;
        let refill = Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX);
        self.full = now.checked_add(refill).unwrap_or(self.full);
        let debt = (-self.tokens / limit).max(0.0);
        Duration::try_from_secs_f64(debt).unwrap_or(Duration::MAX)
    }

    /// Whether it is as if it were new.
    pub(super) fn is_full_at(&self, now: Instant) -> bool {
        now >= self.full
    }

    fn most(limit: f64, windows: Windows) -> f64 {
        limit * f64::from(windows.count) * windows.size.as_secs_f64()
    }
}
