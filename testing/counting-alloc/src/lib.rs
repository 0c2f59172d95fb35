//! A global allocator for tests and benches that counts what each thread asks for.
//!
//! Allocation counts are exact and free of noise, so a test can assert them where it cannot assert nanoseconds:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: counting_alloc::CountingAlloc = counting_alloc::CountingAlloc;
//!
//! fn main() {
//!     let (sum, used) = counting_alloc::measure(|| (1..=10).sum::<u32>());
//!     assert_eq!((sum, used.allocations), (55, 0));
//! }
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system allocator with counters; install it with `#[global_allocator]` in a test or bench binary.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAlloc;

/// What was asked of the allocator in a stretch of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that got memory: `alloc`, `alloc_zeroed` and `realloc`.
    pub allocations: u64,
    /// Bytes asked for by those calls; a `realloc` counts what it adds.
    pub bytes: u64,
    /// The most bytes held at once beyond what was held at the start.
    pub peak: u64,
    /// The largest single request in bytes.
    pub largest: u64,
}

struct Thread {
    allocations: Cell<u64>,
    bytes: Cell<u64>,
    // Signed: a thread may free what another one allocated.
    live: Cell<i64>,
    peak: Cell<i64>,
    largest: Cell<u64>,
}

thread_local! {
    // `const` and without a destructor, so that touching it inside the allocator never allocates.
    static THREAD: Thread = const {
        Thread {
            allocations: Cell::new(0),
            bytes: Cell::new(0),
            live: Cell::new(0),
            peak: Cell::new(0),
            largest: Cell::new(0),
        }
    };
}

static PROCESS_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static PROCESS_BYTES: AtomicU64 = AtomicU64::new(0);

/// Runs `work` and returns what the current thread asked for meanwhile. Must not be nested: the inner call resets the peak.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Counts) {
    let (allocations, bytes, live) = THREAD.with(|thread| {
        thread.peak.set(thread.live.get());
        thread.largest.set(0);
        (thread.allocations.get(), thread.bytes.get(), thread.live.get())
    });
    let value = work();
    let counts = THREAD.with(|thread| Counts {
        allocations: thread.allocations.get() - allocations,
        bytes: thread.bytes.get() - bytes,
        peak: u64::try_from(thread.peak.get() - live).unwrap_or(0),
        largest: thread.largest.get(),
    });
    (value, counts)
}

/// Allocations and bytes asked for by all threads since the process began; take it twice and subtract.
pub fn process_totals() -> (u64, u64) {
    (PROCESS_ALLOCATIONS.load(Ordering::Relaxed), PROCESS_BYTES.load(Ordering::Relaxed))
}

fn taken(requested: usize, added: i64) {
    let more = u64::try_from(added).unwrap_or(0);
    PROCESS_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    PROCESS_BYTES.fetch_add(more, Ordering::Relaxed);
    // Fails only while the thread is being torn down; those few calls go uncounted.
    let _ = THREAD.try_with(|thread| {
        thread.allocations.set(thread.allocations.get() + 1);
        thread.bytes.set(thread.bytes.get() + more);
        thread.live.set(thread.live.get() + added);
        thread.peak.set(thread.peak.get().max(thread.live.get()));
        thread.largest.set(thread.largest.get().max(requested as u64));
    });
}

fn given_back(bytes: usize) {
    let _ = THREAD.try_with(|thread| thread.live.set(thread.live.get() - bytes as i64));
}

// SAFETY: every call is handed to `System` unchanged; the counters do not touch the memory.
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size(), layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size(), layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        taken(new_size, new_size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: CountingAlloc = CountingAlloc;

    #[test]
    fn every_allocation_of_the_thread_is_counted_once() {
        let (kept, used) = measure(|| {
            let short_lived = vec![1_u8; 1000];
            drop(short_lived);
            vec![1_u8; 300]
        });
        assert_eq!(kept.len(), 300);
        assert_eq!(used, Counts { allocations: 2, bytes: 1300, peak: 1000, largest: 1000 });
    }

    #[test]
    fn work_without_allocations_counts_nothing() {
        assert_eq!(measure(|| std::hint::black_box(1 + 1)).1, Counts::default());
    }

    #[test]
    fn another_thread_is_counted_for_the_process_only() {
        let before = process_totals();
        let (_, used) = measure(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| std::hint::black_box(vec![0_u8; 1 << 20]));
            });
        });
        assert!(used.bytes < 1 << 20, "{used:?}");
        assert!(process_totals().1 - before.1 >= 1 << 20);
    }
}
