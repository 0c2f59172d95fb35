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
