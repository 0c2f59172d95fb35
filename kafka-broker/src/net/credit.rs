//! How much memory half-received frames may take: every connection has a little of its own, and large frames share the rest.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one connection may hold without asking.
const OWN: usize = 256 * 1024;
/// The unit in which large frames ask.
const UNIT: usize = 1024 * 1024;

/// The memory that all connections share for large frames (`queued.max.request.bytes`).
#[derive(Debug)]
pub(crate) struct ReceiveCredit {
    units: Arc<Semaphore>,
}

impl ReceiveCredit {
    /// Credit of this many bytes in all.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { units: Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Credit for one connection.
    pub(crate) fn share(&self) -> ConnectionCredit {
        ConnectionCredit { units: Arc::clone(&self.units), held: None }
    }
}

/// What one connection has of it.
#[derive(Debug)]
pub(crate) struct ConnectionCredit {
    units: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl ConnectionCredit {
    /// Waits until a frame of which `received` bytes are here may take more. Cancel-safe: what is held stays held.
    pub(crate) async fn extend(&mut self, received: usize) {
        if received < OWN {
            return;
        }
        let needed = received / UNIT + 1;
        let missing = needed.saturating_sub(self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let Ok(missing @ 1..) = u32::try_from(missing) else { return };
        // The semaphore is never closed.
        if let Ok(more) = Arc::clone(&self.units).acquire_many_owned(missing).await {
            match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            }
        }
    }

    /// Gives everything back: the frame was served.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn large_frames_wait_for_each_other_and_small_ones_do_not() {
        let credit = ReceiveCredit::new(2 * UNIT);
        let (mut first, mut second) = (credit.share(), credit.share());
        assert!(first.extend(UNIT + 1).now_or_never().is_some(), "two units");
        assert!(second.extend(OWN - 1).now_or_never().is_some(), "its own");
        assert!(second.extend(OWN).now_or_never().is_none(), "nothing is left");
        first.release();
        assert!(second.extend(OWN).now_or_never().is_some());
    }
}
