//! What time it is: the wall time at start plus tokio's elapsed time, so a paused runtime moves timestamps too.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The cluster's only source of time.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    started: Instant,
    started_wall_ms: i64,
}

impl Clock {
    /// A clock that shows the machine's wall time now.
    pub(crate) fn starting_now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX))
    }

    /// A clock that shows this wall time now, in milliseconds since the epoch.
    pub(crate) fn starting_at(started_wall_ms: i64) -> Self {
        Self { started: Instant::now(), started_wall_ms }
    }

    /// Milliseconds since the Unix epoch: record timestamps and LogAppendTime.
    pub(crate) fn wall_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_wall_ms.saturating_add(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_follows_the_paused_clock() {
        let clock = Clock::starting_at(1_000);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.wall_ms(), 3_601_000);
    }
}
