//! What the tests of several modules share.

use fastrand::Rng;

/// Counts what tests ask for.
#[global_allocator]
static ALLOCATOR: counting_alloc::CountingAlloc = counting_alloc::CountingAlloc;

/// A random source whose seed is printed; `SEED=42 cargo test` repeats a run.
pub(crate) fn seeded() -> Rng {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    Rng::with_seed(seed)
}
