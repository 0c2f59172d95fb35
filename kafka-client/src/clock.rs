//! Wall time that goes with tokio's clock, so that a test that pauses or advances the one moves the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// As good as for ever: a century, which unlike `Duration::MAX` can be added to any point in time. Whatever duration a
/// user gives is lowered to it.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The wall time at its making, and tokio's time since then. A change to the machine's clock does not reach it.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    started: Instant,
    since_epoch: Duration,
}

impl WallClock {
    /// Reads the machine's clock, once.
    pub fn start() -> Self {
        // A machine whose clock is before 1970 gets 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), since_epoch }
    }

    /// Milliseconds since 1970 now.
    pub fn now_ms(&self) -> i64 {
        self.at_ms(Instant::now())
    }

    /// Milliseconds since 1970 at `instant`; of one before the clock was made, those at its making.
    pub fn at_ms(&self, instant: Instant) -> i64 {
        let time = self.since_epoch + instant.saturating_duration_since(self.started);
        i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_moves_with_the_time_of_tokio() {
        let clock = WallClock::start();
        let before = clock.now_ms();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now_ms() - before, 3_600_000);
        assert!(before > 1_700_000_000_000);
    }
}
