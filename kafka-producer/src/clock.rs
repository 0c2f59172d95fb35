//! Records' timestamps without a clock read per record.
//!
//! Reading the clock costs more than encoding a small record, so records take a cached time. Whoever opens a batch
//! refreshes it, and so does the sender whenever it runs, which it does every [`FRESH`] while a batch is open: a record's
//! time is at most about that much older than the record.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kafka_client::raw::{FOREVER, WallClock};
use tokio::time::Instant;

/// How long the cached time may stay while a batch is open.
pub(crate) const FRESH: Duration = Duration::from_millis(10);

/// A time to wait that can be added to any moment.
pub(crate) fn bounded(wait: Duration) -> Duration {
    wait.min(FOREVER)
}

/// How late a timer of tokio's is, about: it counts whole milliseconds, and so does epoll, and both round up.
const LATENESS: Duration = Duration::from_millis(1);

/// What to ask a timer for so that about `wait` passes.
pub(crate) fn punctual(wait: Duration) -> Duration {
    wait - LATENESS.min(wait / 2)
}

/// Wall time, read seldom.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: WallClock,
    cached_ms: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let wall = WallClock::start();
        Self { wall, cached_ms: AtomicI64::new(wall.now_ms()) }
    }

    /// Reads the clock and remembers the result.
    pub(crate) fn refresh(&self) -> Instant {
        let now = Instant::now();
        self.cached_ms.store(self.wall.at_ms(now), Ordering::Relaxed);
        now
    }

    /// Milliseconds since 1970 when the clock was last read.
    #[inline]
    pub(crate) fn cached_ms(&self) -> i64 {
        self.cached_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_passes_with_tokios_clock_and_only_when_it_is_read() {
        let clock = Clock::new();
        let start = clock.cached_ms();
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.cached_ms(), start);
        clock.refresh();
        assert_eq!(clock.cached_ms(), start + 250);
    }

    #[test]
    fn timers_are_asked_a_millisecond_sooner_and_never_for_nothing_instead_of_something() {
        let asked = |micros| punctual(Duration::from_micros(micros)).as_micros();
        assert_eq!([0, 500, 1000, 2000, 5000].map(asked), [0, 250, 500, 1000, 4000]);
    }
}
