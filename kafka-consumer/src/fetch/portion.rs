//! How much to ask a node for at once: as little as keeps readers busy, for that is read while it lies in the processor's
//! caches and takes little memory; more where each answer takes its time, however short it is. Pure.

use std::time::Duration;

/// What is asked for at first, and the least. Half of it costs brokers and short round trips twice as much; with 16 MiB
/// reading 100 B records takes a quarter more time, all of it waiting for memory.
const LEAST: usize = 4 << 20;
/// An answer that takes longer than this is worth more bytes.
const SLOW: Duration = Duration::from_millis(100);
/// One that takes less would have been worth fewer.
const QUICK: Duration = Duration::from_millis(25);

/// Bytes to ask one node for. `fetch.max.bytes` bounds it besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion(usize);

impl Default for Portion {
    fn default() -> Self {
        Self(LEAST)
    }
}

impl Portion {
    pub(super) fn bytes(self) -> usize {
        self.0
    }

    /// An answer of so many bytes has come after so long, and may have been waited for.
    pub(super) fn answered(&mut self, bytes: usize, after: Duration, is_awaited: bool) {
        // A small one says only that there is no more at the moment.
        let is_full = bytes >= self.0 / 2;
        if is_full && is_awaited && after > SLOW {
            self.0 = self.0.saturating_mul(2).min(i32::MAX as usize);
        } else if is_full && after < QUICK {
            self.0 = (self.0 / 2).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_full_answers_are_slow_and_waited_for() {
        let mut portion = Portion::default();
        portion.answered(LEAST, SLOW * 2, false);
        assert_eq!(portion.bytes(), LEAST, "nobody would have had more of it");
        portion.answered(1000, SLOW * 2, true);
        assert_eq!(portion.bytes(), LEAST, "there was no more");
        portion.answered(LEAST, SLOW * 2, true);
        portion.answered(2 * LEAST, SLOW * 2, true);
        assert_eq!(portion.bytes(), 4 * LEAST);
        portion.answered(4 * LEAST, SLOW, true);
        assert_eq!(portion.bytes(), 4 * LEAST);
        for _ in 0..100 {
            portion.answered(usize::MAX, SLOW * 2, true);
        }
        assert_eq!(portion.bytes(), i32::MAX as usize);
    }

    #[test]
    fn it_shrinks_again_while_full_answers_are_quick() {
        let mut portion = Portion(3 * LEAST);
        portion.answered(1000, QUICK / 2, true);
        assert_eq!(portion.bytes(), 3 * LEAST);
        portion.answered(3 * LEAST, QUICK / 2, true);
        portion.answered(3 * LEAST, QUICK / 2, false);
        assert_eq!(portion.bytes(), LEAST);
    }
}
