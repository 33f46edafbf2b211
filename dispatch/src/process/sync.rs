//! The primitives under [`admission`](super::admission): a seam. The model checker compiles that file with primitives of
//! its own in place of these.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
