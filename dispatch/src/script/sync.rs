//! The primitives under [`slices`](super::slices): a seam. The model checker compiles that file with primitives of its own in
//! place of these.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
