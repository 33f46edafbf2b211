//! What the benchmarks share that needs no dependency: an allocator that counts. The rest is in the bench targets,
//! so that `cargo test` builds none of it; see `README.md`.

mod counting;

pub use crate::counting::{CountingAllocator, allocations};
