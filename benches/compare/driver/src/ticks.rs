//! Moments at a fixed distance, from a timerfd in the same epoll as everything else of tokio's.
//!
//! tokio's own timer has a resolution of a millisecond and would round ours.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use nix::unistd::read;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::Result;

/// The monotonic clock in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(Clock::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Ticks from one interval after the start on.
#[derive(Debug)]
pub struct Ticks {
    timer: AsyncFd<OwnedFd>,
    first_ns: u64,
    interval_ns: u64,
    passed: u64,
}

impl Ticks {
    /// Starts a timer on the current tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(interval: Duration) -> Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let interval_ns = u64::try_from(interval.as_nanos())?;
        let first_ns = now_ns() + interval_ns;
        let first = TimeSpec::from_duration(Duration::from_nanos(first_ns));
        let expiration = Expiration::IntervalDelayed(first, TimeSpec::from_duration(interval));
        timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        // Unsound for types that close their descriptor early; an `OwnedFd` does not.
        #[expect(deprecated, reason = "its successor is an unsafe function")]
        let timer = AsyncFd::with_interest(OwnedFd::from(timer), Interest::READABLE)?;
        Ok(Self { timer, first_ns, interval_ns, passed: 0 })
    }

    /// Waits until at least one more tick has passed, and says which ones have: numbers from 0 on.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No tick is lost.
    pub async fn passed(&mut self) -> Result<std::ops::Range<u64>> {
        let mut count = [0; 8];
        loop {
            let mut ready = self.timer.readable().await?;
            let asked = ready.try_io(|timer| read(timer, &mut count).map_err(std::io::Error::from));
            match asked {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Ok(asked) => {
                    asked?;
                    break;
                }
                Err(_would_block) => {}
            }
        }
        let before = self.passed;
        self.passed += u64::from_ne_bytes(count);
        Ok(before..self.passed)
    }

    /// When a tick was due, by [`now_ns`]'s clock.
    pub fn due_ns(&self, tick: u64) -> u64 {
        self.first_ns + tick * self.interval_ns
    }
}

/// How many records are due in tick number `tick`, so that `rate` a second come out whatever the interval.
pub fn due(rate: u64, interval: Duration, tick: u64) -> u64 {
    let until = |ticks: u64| u128::from(rate) * u128::from(ticks) * interval.as_nanos() / 1_000_000_000;
    u64::try_from(until(tick + 1) - until(tick)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_is_no_multiple_of_the_ticks_comes_out_all_the_same() {
        let interval = Duration::from_millis(1);
        assert_eq!((0..1000).map(|tick| due(1234, interval, tick)).sum::<u64>(), 1234);
        assert_eq!((0..3000).map(|tick| due(1, interval, tick)).sum::<u64>(), 3);
    }

    #[tokio::test]
    async fn ticks_that_nobody_waited_for_are_caught_up() {
        let mut ticks = Ticks::start(Duration::from_millis(2)).unwrap();
        let first = ticks.passed().await.unwrap();
        assert!(now_ns() >= ticks.due_ns(first.start));
        while now_ns() < ticks.due_ns(first.end + 3) {
            std::hint::spin_loop();
        }
        let next = ticks.passed().await.unwrap();
        assert_eq!(next.start, first.end);
        assert!(next.end >= first.end + 3);
    }
}
