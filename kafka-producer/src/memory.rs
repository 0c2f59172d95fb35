//! Bounds the memory that records may take before they are acknowledged, and keeps batch buffers for use again.
//!
//! Credit is taken per batch buffer, not per record. Whoever finds none waits in line; waiting for it is the only
//! backpressure there is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use kafka_wire::record_batch::batch_buffer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Sizes of buffers smaller than a full batch go by factors of four, so that a lane with little traffic takes little.
const GROWTH: usize = 4;
const SMALLEST: usize = 256;

#[derive(Debug)]
pub(crate) struct Memory {
    credit: Arc<Semaphore>,
    capacity: usize,
    batch_size: usize,
    /// How many wait for credit.
    waiting: AtomicUsize,
    /// Buffers of `batch_size` bytes that nobody uses.
    spare: Mutex<Vec<BytesMut>>,
}

/// The credit for one batch's buffer; dropping it lets the next in line proceed.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

impl Room {
    /// In bytes.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.0.num_permits()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    /// Cuts off credit of `size` bytes, or all there is.
    pub(crate) fn split(&mut self, size: usize) -> Option<Self> {
        self.0.split(size.min(self.size())).map(Self)
    }
}

/// The producer is closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Memory {
    pub(crate) fn new(capacity: usize, batch_size: usize) -> Self {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        let credit = Arc::new(Semaphore::new(capacity));
        Self { credit, capacity, batch_size, waiting: AtomicUsize::new(0), spare: Mutex::default() }
    }

    /// `batch.size` in bytes.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Bytes that nobody holds credit for.
    pub(crate) fn available(&self) -> usize {
        self.credit.available_permits()
    }

    /// Credit for `size` bytes, if it is there and nobody waits in line for it.
    pub(crate) fn try_take(&self, size: usize) -> Result<Option<Room>, Closed> {
        match self.credit.clone().try_acquire_many_owned(permits(size)) {
            Ok(permit) => Ok(Some(Room(permit))),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(Closed),
        }
    }

    /// Credit for `size` bytes, waiting in line for it. Dropping the future gives up the place in line.
    pub(crate) async fn take(&self, size: usize) -> Result<Room, Closed> {
        self.credit.clone().acquire_many_owned(permits(size)).await.map(Room).map_err(|_| Closed)
    }

    /// Counts somebody as waiting until the result is dropped.
    pub(crate) fn begin_wait(&self) -> impl Drop + '_ {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Whether somebody waits for credit: then no batch should hold any and wait for more records.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Sends everybody in line away.
    pub(crate) fn close(&self) {
        self.credit.close();
    }

    /// The smallest size of buffer that holds `bytes`.
    pub(crate) fn size_for(&self, bytes: usize) -> usize {
        if bytes > self.batch_size {
            return bytes;
        }
        let mut size = SMALLEST;
        while size < bytes {
            size *= GROWTH;
        }
        // What is left between the largest step and a batch is not worth a size of its own.
        if size * GROWTH > self.batch_size * 2 { self.batch_size } else { size }
    }

    pub(crate) fn buffer(&self, size: usize) -> BytesMut {
        let spare = if size == self.batch_size { self.spare().pop() } else { None };
        spare.unwrap_or_else(|| batch_buffer(size))
    }

    /// Keeps a buffer for the next full batch, if it has the right size. Cleared: its memory is cold by then, and the
    /// writer brings it back a few kilobytes at a time, which was measured to cost 7 % less than not to.
    pub(crate) fn recycle(&self, mut buffer: BytesMut) {
        buffer.clear();
        if (self.batch_size..self.batch_size * 2).contains(&buffer.capacity()) {
            let mut spare = self.spare();
            if (spare.len() + 1) * self.batch_size <= self.capacity {
                spare.push(buffer);
            }
        }
    }

    /// Keeps the memory of bytes that were sent, unless somebody still holds them: a socket write, say.
    pub(crate) fn recycle_sent(&self, bytes: Bytes) {
        if let Ok(buffer) = bytes.try_into_mut() {
            self.recycle(buffer);
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<BytesMut>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a Memory);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

fn permits(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_lanes_take_small_buffers_and_full_batches_have_one_size() {
        let memory = Memory::new(1 << 20, 16_384);
        for (bytes, size) in [
            (1, 256),
            (256, 256),
            (257, 1024),
            (1025, 4096),
            (4097, 16_384),
            (16_384, 16_384),
            (16_385, 16_385),
        ] {
            assert_eq!(memory.size_for(bytes), size, "{bytes}");
        }
        let tiny = Memory::new(1 << 20, 500);
        assert_eq!(tiny.size_for(100), 500);
        assert_eq!(Memory::new(1 << 20, 1 << 20).size_for(300_000), 1 << 20);
        assert_eq!(Memory::new(1 << 20, 1 << 20).size_for(200_000), 1 << 18);
    }

    #[tokio::test]
    async fn a_large_wait_in_line_is_not_overtaken_by_small_ones() {
        let memory = Memory::new(100, 16);
        let held = memory.take(60).await.unwrap();
        let mut large = Box::pin(memory.take(80));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(memory.try_take(10).unwrap().is_none());
        drop(held);
        let large = large.await.unwrap();
        assert_eq!(large.size(), 80);
        assert!(memory.try_take(10).unwrap().is_some());
    }

    #[tokio::test]
    async fn giving_up_the_place_in_line_gives_back_what_it_had_gathered() {
        let memory = Memory::new(100, 16);
        let held = memory.take(60).await.unwrap();
        let mut large = Box::pin(memory.take(80));
        assert!(futures::poll!(&mut large).is_pending());
        drop(large);
        assert_eq!(memory.try_take(40).unwrap().map(|room| room.size()), Some(40));
        drop(held);
        assert_eq!(memory.available(), 100);
    }

    #[tokio::test]
    async fn closing_sends_everybody_away() {
        let memory = Memory::new(10, 16);
        let _held = memory.take(10).await.unwrap();
        let mut waiting = Box::pin(memory.take(1));
        assert!(futures::poll!(&mut waiting).is_pending());
        memory.close();
        assert_eq!(waiting.await.map(|room| room.size()), Err(Closed));
        assert_eq!(memory.try_take(1).map(|_| ()), Err(Closed));
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_holds_its_bytes() {
        let memory = Memory::new(1 << 20, 16_384);
        let mut buffer = memory.buffer(16_384);
        buffer.resize(16_000, 1);
        let address = buffer.as_ptr();
        let sent = buffer.freeze();
        let held_by_a_write = sent.clone();
        memory.recycle_sent(sent);
        assert_ne!(memory.buffer(16_384).as_ptr(), address);
        memory.recycle_sent(held_by_a_write);
        assert_eq!(memory.buffer(16_384).as_ptr(), address);
    }

    #[test]
    fn credit_can_be_divided_and_joined() {
        let memory = Memory::new(100, 16);
        let mut room = memory.try_take(60).unwrap().unwrap();
        let part = room.split(20).unwrap();
        assert_eq!((room.size(), part.size(), memory.available()), (40, 20, 40));
        room.merge(part);
        assert_eq!(room.size(), 60);
        drop(room);
        assert_eq!(memory.available(), 100);
    }
}
